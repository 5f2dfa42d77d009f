"""Matching of mixtures of experts in two steps (arXiv 2509.11348, NeurIPS 2025, section on matching), for N models.

First the order of the experts, by a cost that knows nothing of the order of their hidden units; then the units of every
pair of experts, each by one assignment. `weight_matching` finds both at once, and exactly (`symmetry.kinds.nested`).
Two costs of giving expert j to place i:

    gate    the distance of rows i and j of the gate, weights and biases, less the mean of all rows;
    expert  sqrt(|At_i^T At_i - At'_j^T At'_j|^2 + |Bt_i Bt_i^T - Bt'_j Bt'_j^T|^2), At = [A, u] the weights and biases
            of the hidden layer, Bt = [B, v] those of the layer behind it.

`both` takes the order after which the experts lie closer. As in weight matching of many models every model is matched
to the mean of the others, in random order, until nothing changes, and all else in a network is matched by its weights.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onebasin.data import Data
from onebasin.machine.devices import to_host
from onebasin.matching.cost import Costs, rows_of
from onebasin.matching.weight import Matcher, match_to_others
from onebasin.models.stack import Models
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.kinds.nested import joint
from onebasin.symmetry.kinds.permutation import total
from onebasin.symmetry.spec import Group, Spec


def moe_matching(
    models: Models, spec: Spec, data: Data | None, settings: Mapping[str, Any], generator: torch.Generator
) -> Alignment:
    """Match every model to the mean of the others in two steps, in random order, until a round changes nothing.

    Args:
        settings: `cost` (`gate`, `expert` or `both`), `max_rounds`, `first_sweep` (`Matcher`).
    """
    matcher = TwoSteps(spec, len(models), generator, settings["first_sweep"], device=models.device)
    matcher.costs = ("gate", "expert") if settings["cost"] == "both" else (settings["cost"],)
    return match_to_others(models, matcher, settings["max_rounds"], generator)


class TwoSteps(Matcher):
    """A `Matcher` that orders blocks by `costs` first, and then the units inside of each."""

    costs: Sequence[str] = ("expert",)

    def best(
        self,
        group: Group,
        gathered: Costs,
        present: Mapping[str, Tensor],
        models: Sequence[int],
        rows: Sequence[int],
        unknown: Container[str],
    ) -> tuple[Tensor, np.ndarray]:
        """As `Matcher.best`; of nested groups by the two steps, with all that there is."""
        if not group.inner:
            return super().best(group, gathered, present, models, rows, unknown)
        old = rows_of(present[group.name], rows).cpu().numpy()
        costs = to_host(gathered.of(group, present, rows)).numpy()
        new = []
        solver = self._solvers[group.name]
        for row, own in zip(rows, costs, strict=True):
            solver.solved += len(self.costs) * (1 + group.size * len(group.inner))
            both = _Sides(group, gathered, present, row)
            tried = [_with_units(group, own, both.order(cost)) for cost in self.costs]
            new.append(tried[int(total(np.stack([own] * len(tried)), np.stack(tried)).argmin())])
        found = np.stack(new)
        return torch.from_numpy(found).to(present[group.name].device), total(costs, found) < total(costs, old)


Pair = tuple[Tensor, ...]
"""What belongs to the blocks of the target and of the model, `[n, units, rest]`."""


class _Sides:
    """What belongs to the blocks of a group in the target and in a model, by module and family."""

    def __init__(self, group: Group, gathered: Costs, present: Mapping[str, Tensor], row: int) -> None:
        self._blocks = group.size
        self._modules: dict[str, dict[int, list[Pair]]] = {}
        for axis in group.axes:
            units = gathered.units(group, axis, present, [row])
            if units is not None:
                shape = (group.size, -1, units[0].shape[-1])
                pair = tuple(side[0].double().reshape(shape) for side in units)
                own = self._modules.setdefault(axis.tensor.rpartition(".")[0], {})
                own.setdefault(axis.family, []).append(pair)

    def order(self, cost: str) -> np.ndarray:
        """The order of least cost: the block of the model that goes to each place. Without a gate that of experts."""
        from onebasin.symmetry.assignment import solve

        gates = [pair for own in self._modules.values() if not any(own) for pair in own[0]]
        squares = _of_gates(gates) if cost == "gate" and gates else self._of_experts()
        return solve(squares.clamp_min(0).sqrt().cpu().numpy()[None]).columns[0]

    def _of_experts(self) -> Tensor:
        """Squared distances `[n, n]` of what the weights of a layer are, whatever the order of its units."""
        return sum(
            (
                _of_layer(pairs, own.get(0, []))
                for own in self._modules.values()
                for family, pairs in own.items()
                if family
            ),
            torch.zeros(()),
        )


def _of_gates(rows: Sequence[Pair]) -> Tensor:
    """Squared distances `[n, n]` of the rows of a gate."""
    ours, theirs = (torch.cat([pair[side].flatten(1) for pair in rows], dim=1) for side in range(2))
    return torch.cdist(ours - ours.mean(dim=0), theirs - theirs.mean(dim=0)).square()


def _of_layer(units: Sequence[Pair], blocks: Sequence[Pair]) -> Tensor:
    """Squared distances `[n, n]` of M_i^T M_i and M'_j^T M'_j, where M has a row for every unit of a block.

    The bias of the layer behind, which belongs to the block alone, is a row like theirs.
    """
    sides = []
    for side in range(2):
        rows = torch.cat([pair[side] for pair in units], dim=2)
        biases = [pair[side] for pair in blocks if pair[side].shape[2] == rows.shape[2]]
        sides.append(torch.cat([rows, *biases], dim=1))
    ours, theirs = sides
    squares = [(own @ own.mT).square().sum(dim=(1, 2)) for own in sides]
    products = torch.einsum("ihr,jgr->ijhg", ours, theirs)
    return squares[0][:, None] + squares[1] - 2 * products.square().sum(dim=(2, 3))


def _with_units(group: Group, costs: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The best element of that order of blocks: units are assigned pair by pair."""
    from onebasin.symmetry.inner import InnerProblems

    inside = []
    for family in range(1, len(group.inner) + 1):
        problems = InnerProblems.cold(costs, group, family)
        problems.solve(np.arange(group.size), order, torch.get_num_threads())
        inside.append(torch.from_numpy(problems.columns(order)))
    return joint(group, torch.from_numpy(order), inside).numpy()
