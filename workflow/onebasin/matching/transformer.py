"""Weight matching of transformers in canonical form as Theus et al. do it (arXiv 2506.22712).

The residual stream is rotated by the Procrustes solution over what is written to it and read from it, every tensor
divided by the root of its columns; at first by what no other group has a part in (embeddings, positions, the head).
Heads are assigned by the distances of their products, |QK_g - QK'_h| + |OV_g - OV'_h|, the units of MLPs by the L1
distances of their weights, divided by their lengths. As in weight matching every one of N models is matched to the mean
of the others. `weight_matching` has one objective in the place of these costs, the distance of all weights.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from onebasin.data import Data
from onebasin.matching.cost import Costs
from onebasin.matching.weight import Matcher, match_to_others
from onebasin.models.stack import Models
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.kinds import kind_of
from onebasin.symmetry.spec import Group, Spec

MATRIX = 2  # other axes that move, of a tensor that holds a matrix for every unit: those of heads


def transformer_matching(
    models: Models, spec: Spec, data: Data | None, settings: Mapping[str, Any], generator: torch.Generator
) -> Alignment:
    """Match every model to the mean of the others, in random order, until a round changes nothing.

    Args:
        settings: `sweeps` over all groups a match, and `max_rounds`.
    """
    matcher = TransformerMatcher(spec, len(models), generator, "signal", device=models.device)
    matcher.max_sweeps = settings["sweeps"]
    return match_to_others(models, matcher, settings["max_rounds"], generator)


class TransformerMatcher(Matcher):
    """A `Matcher` with a cost of its own for every kind of group."""

    def costs_of(
        self,
        group: Group,
        gathered: Costs,
        present: Mapping[str, Tensor],
        rows: Sequence[int],
        unknown: Container[str],
    ) -> Tensor:
        """As `Matcher.costs_of`, by these."""
        return torch.cat([self._costs(group, gathered, present, row, unknown) for row in rows])

    def _costs(
        self, group: Group, gathered: Costs, present: Mapping[str, Tensor], row: int, unknown: Container[str]
    ) -> Tensor:
        sides = [gathered.units(group, axis, present, [row]) for axis in gathered.known(group, unknown)]
        pairs = [(one[0].double(), other[0].double()) for one, other in filter(None, sides)]
        if not kind_of(group).moves_units:
            return -sum((one @ other.mT / one.shape[1] ** 0.5 for one, other in pairs), torch.zeros(()))[None]
        if any(len(self.spec.axes_of(axis.tensor)) > MATRIX for axis in group.axes):
            return sum((torch.cdist(one, other) for one, other in pairs), torch.zeros(()))[None]
        ours, theirs = (F.normalize(torch.cat([pair[side] for pair in pairs], dim=1), dim=1) for side in range(2))
        return torch.cdist(ours, theirs, p=1)[None]
