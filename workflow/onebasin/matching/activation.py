"""Activation matching: permute the hidden units so that they are active on the same inputs (Ainsworth et al., "Git
Re-Basin", ICLR 2023, section 3.1; of correlations, as Li et al., "Convergent Learning", 2015).

Once the correlations of units are known (`matching.correlation`), neither data nor networks are needed, and the groups
do not depend on each other. Two models are matched by one assignment. Of many none is the reference: as in weight
matching of many models, each one is matched to the mean of the others' standardised activations, in random order, until
a round over all changes nothing. Every match raises the sum of the correlations of all pairs, or leaves it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onebasin.data import Data
from onebasin.machine.devices import to_host
from onebasin.matching.assignment import Duals, solve
from onebasin.matching.correlation import Correlations, correlations
from onebasin.models.stack import Models
from onebasin.symmetry.permutations import Permutations
from onebasin.symmetry.spec import Spec


def activation_matching(
    models: Models, spec: Spec, data: Data, settings: Mapping[str, Any], generator: torch.Generator
) -> Permutations:
    """Permutations that bring the units with the largest correlations of all pairs of models together.

    Args:
        settings: `images`, how many of the training set to take, the first ones (all, if None); `batch`, how many at a
            time, which bounds memory and changes rounding only; `max_rounds`.

    Raises:
        OnebasinError: as `correlations`.
    """
    found = correlations(models, spec, data.train.first(settings["images"]), settings["batch"])
    searches = {group.name: Alignment(found.pop(group.name), generator) for group in spec.groups}
    steps = [search.run(settings["max_rounds"]) for search in searches.values()]
    work = {
        "steps": max(steps, default=0),
        "assignments": sum(search.assignments for search in searches.values()),
        "row_scans": sum(search.row_scans for search in searches.values()),
    }
    return Permutations({name: search.indices for name, search in searches.items()}, work)


class Alignment:
    """The search for the permutations of one group of units in all models.

    Attributes:
        indices: the present permutations `[N, n]`, at first the identity.
        assignments: number of linear assignment problems solved so far.
        row_scans: rows of cost matrices that the solver went through.
    """

    def __init__(self, correlations: Correlations, generator: torch.Generator) -> None:
        """`generator` draws the orders of the rounds."""
        some = correlations.between(0, 1)
        self.indices = torch.arange(len(some), device=some.device).repeat(correlations.models, 1)
        self.assignments = self.row_scans = 0
        self._correlations, self._generator = correlations, generator
        self._duals: dict[int, Duals] = {}

    def run(self, max_rounds: int) -> int:
        """Go round all models until a round changes nothing; how many rounds that took."""
        rounds, changed = 0, True
        while changed and rounds < max_rounds:
            order = torch.randperm(len(self.indices), generator=self._generator, device=self._generator.device)
            changes = [self._match(model) for model in order.tolist()]
            changed = any(changes)
            rounds += 1
        return rounds

    def gains(self, model: int) -> Tensor:
        """`[n, n]`: the sum of the correlations of all others' units at place i (row) with unit j of the model."""
        gains = torch.zeros_like(self._correlations.between(0, 1))
        for other, index in enumerate(self.indices):
            if other != model:
                gains += self._correlations.between(other, model)[index]
        return gains

    def _match(self, model: int) -> bool:
        """Give the model the best permutation, the others as they are; whether that is better than what it had."""
        costs, old = to_host(self.gains(model).neg_()[None]).numpy(), self.indices[model, None].cpu().numpy()
        found = solve(costs, self._duals.get(model), old)
        self._duals[model] = found.duals
        self.assignments += 1
        self.row_scans += int(found.row_scans.sum())
        before, after = (np.take_along_axis(costs[0], c.T, axis=1).sum() for c in (old, found.columns))
        if after < before:  # not <=: ties must not keep the rounds going
            self.indices[model] = torch.from_numpy(found.columns[0])
        return bool(after < before)
