"""Activation matching: permute the hidden units so that they are active on the same inputs (Ainsworth et al., "Git
Re-Basin", ICLR 2023, section 3.1; of correlations, as Li et al., "Convergent Learning", 2015).

Once the correlations of units are known (`matching.correlation`), neither data nor networks are needed, and the groups
do not depend on each other. Two models are matched by one assignment. Of many none is the reference: as in weight
matching of many models, each one is matched to the mean of the others' standardised activations, in random order, until
a round over all changes nothing. Every match raises the sum of the correlations of all pairs, or leaves it.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from onebasin.data import Data
from onebasin.matching.correlation import Correlations, correlations
from onebasin.models.stack import Models
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.kinds import kind_of
from onebasin.symmetry.spec import Axis, Group, Spec


def activation_matching(
    models: Models, spec: Spec, data: Data, settings: Mapping[str, Any], generator: torch.Generator
) -> Alignment:
    """The alignment that brings the units with the largest correlations of all pairs of models together.

    Args:
        settings: `images`, how many of the training set to take, the first ones (all, if None); `batch`, how many at a
            time, which bounds memory and changes rounding only; `max_rounds`.

    Raises:
        OnebasinError: as `correlations`.
    """
    found = correlations(models, spec, data.train.first(settings["images"]), settings["batch"])
    searches = {group.name: Rounds(group, found.pop(group.name), generator) for group in spec.groups}
    steps = [search.run(settings["max_rounds"]) for search in searches.values()]
    work = {
        "steps": max(steps, default=0),
        "assignments": sum(search.solver.solved for search in searches.values()),
        "row_scans": sum(search.solver.row_scans for search in searches.values()),
    }
    return Alignment({name: search.elements for name, search in searches.items()}, work)


class Rounds:
    """The search for the elements of one group in all models, round by round.

    Attributes:
        elements: the present ones of N models, at first the identity.
        solver: what finds the best of one model, and counts its work.
    """

    def __init__(self, group: Group, correlations: Correlations, generator: torch.Generator) -> None:
        """`generator` draws the orders of the rounds."""
        kind, device = kind_of(group), correlations.between(0, 1).device
        self.elements = torch.stack([kind.identity(group, device)] * correlations.models)
        self.solver = kind.solver(correlations.models, group, True)
        self._kind, self._group = kind, group
        self._correlations, self._generator = correlations, generator

    def run(self, max_rounds: int) -> int:
        """Go round all models until a round changes nothing; how many rounds that took."""
        rounds, changed = 0, True
        while changed and rounds < max_rounds:
            order = torch.randperm(len(self.elements), generator=self._generator, device=self._generator.device)
            changes = [self._match(model) for model in order.tolist()]
            changed = any(changes)
            rounds += 1
        return rounds

    def gains(self, model: int) -> Tensor:
        """`[n, n]`: the sum of the correlations of all others' units at place i (row) with unit j of the model."""
        gains = torch.zeros_like(self._correlations.between(0, 1))
        for other, element in enumerate(self.elements):
            if other != model:
                correlations = self._correlations.between(other, model)
                gains += self._kind.act(correlations, 0, [(Axis("", 0), self._group, element)])
        return gains

    def _match(self, model: int) -> bool:
        """Give the model the best element, the others as they are; whether that is better than what it had."""
        costs, old = self.gains(model).neg_()[None], self.elements[model : model + 1]
        new, improved = self.solver.best(costs, [model], old)
        if improved[0]:
            self.elements[model] = new[0]
        return bool(improved[0])
