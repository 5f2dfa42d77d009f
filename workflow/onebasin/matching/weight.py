"""Weight matching: permute the hidden units so that weights lie close, group by group (Ainsworth et al. 2023).

`Matcher` is the coordinate ascent that every search here is made of: each of N models is matched to a target of its
own. It remembers permutations and dual variables from call to call, so that a target that moved a little costs a
little ("accelerated WM", Ito et al. 2025, Algorithm 3). `weight_matching` is the form for many models.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onebasin.data import Data
from onebasin.matching.cost import Costs, kept_groups, rows_of
from onebasin.models.stack import Models
from onebasin.parameters import Parameters, combine, one, some
from onebasin.progress import track
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import act_on_stack, identity
from onebasin.symmetry.kinds import kind_of
from onebasin.symmetry.spec import Group, Spec

MAX_SWEEPS = 300


class Matcher:
    """Matches N models to N targets, starting where the last call ended.

    Attributes:
        elements: the present elements of N models by group (at first the identity).
        max_sweeps: how often a match goes through the groups at most.
    """

    max_sweeps = MAX_SWEEPS

    def __init__(
        self,
        spec: Spec,
        models: int,
        generator: torch.Generator,
        first_sweep: str = "signal",
        warm_start: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        """Start at the identity.

        Args:
            generator: draws the orders of the sweeps.
            first_sweep: how a model's very first sweep goes through the groups. `signal`: from input to output.
                `random`: as later sweeps, and as published. A group in the middle that comes first is matched by
                neighbours that are not matched yet, that is by noise, and the search may never leave the poor optimum
                it then falls into.
            warm_start: start every assignment from the dual variables and permutation of the one before.
        """
        self.spec = spec
        self.elements = identity(spec, models, device)
        self._generator = generator
        self._in_signal_order = np.full(models, first_sweep == "signal")
        self._solvers = {g.name: kind_of(g).solver(models, g, warm_start) for g in spec.groups}
        self._kept: set[str] | None = None
        self._by_known_ones = any(group.kind != "permutation" for group in spec.groups)
        self._neighbours = {
            group.name: [i for i, g in enumerate(spec.groups) if g.name in spec.neighbours(group)]
            for group in spec.groups
        }

    def match(self, target: Mapping[str, Tensor], source: Mapping[str, Tensor], models: Sequence[int]) -> bool:
        """Sweep the groups in random order until none improves; say whether any permutation changed.

        A group is solved again only if a neighbour changed since it was solved last: with its neighbours as they
        were, its own permutation is already the best.

        Args:
            target: stack `[k, ...]` of targets, in the order of `models`.
            source: stack `[k, ...]` of the unpermuted models.
            models: which of the N models these are.
        """
        target, source = (self.spec.join(stack, leading=1) for stack in (target, source))
        seed = draw_seed(self._generator)  # one a call: what a model gets does not depend on how long others take
        on_cpu = next(iter(target.values())).device.type == "cpu"
        together = 1 if on_cpu else len(models)
        if self._kept is None:
            self._kept = kept_groups(source, self.spec, together)
        changed = False
        for part in self._parts(models, together):
            changed |= self._sweep(some(target, part), some(source, part), models[part], seed)
        return changed

    def _parts(self, models: Sequence[int], together: int) -> list[slice]:
        """The models that are swept together, those in their first sweep apart. No model depends on its company.

        On a CPU each alone, so that the costs of one are in memory: its products fill the cores. Elsewhere all, for
        large products.
        """
        parts: list[slice] = []
        for row, model in enumerate(models):
            last = parts[-1] if parts else slice(0, 0)
            alike = self._in_signal_order[model] == self._in_signal_order[models[last.start]]
            if parts and alike and row - last.start < together:
                parts[-1] = slice(last.start, row + 1)
            else:
                parts.append(slice(row, row + 1))
        return parts

    def _sweep(self, target: Parameters, source: Parameters, models: Sequence[int], seed: int) -> bool:
        order = torch.Generator().manual_seed(seed)
        groups = self.spec.groups
        stale = [set(range(len(groups))) for _ in models]  # positions, of each model
        costs = Costs(target, source, self.spec, self._kept or ())
        changed_at_all = False
        for _ in range(self.max_sweeps):
            positions = torch.randperm(len(groups), generator=order).tolist()
            unknown: set[str] = set()
            if self._in_signal_order[list(models)].any():
                positions = sorted(positions)
                self._in_signal_order[list(models)] = False
                unknown = set(self._neighbours) if self._by_known_ones else set()
            for position in positions:
                group = groups[position]
                todo = [row for row, own in enumerate(stale) if position in own]
                if not todo:
                    continue
                unknown.discard(group.name)
                changed = self._solve(group, costs, models, todo, unknown)
                for row in todo if not unknown else ():
                    stale[row].remove(position)
                for row in changed:
                    stale[row].update(self._neighbours[group.name])
                changed_at_all |= bool(changed)
            if not any(stale):
                break
        return changed_at_all

    @property
    def assignments(self) -> int:
        """Number of problems solved so far, one a group and model."""
        return sum(solver.solved for solver in self._solvers.values())

    @property
    def row_scans(self) -> int:
        """The work that they took, whatever the machine: for permutations, rows of cost matrices gone through."""
        return sum(solver.row_scans for solver in self._solvers.values())

    def work(self, steps: int) -> dict[str, int]:
        """What the search took, for its artifact."""
        return {"steps": steps, "assignments": self.assignments, "row_scans": self.row_scans}

    def _solve(
        self, group: Group, gathered: Costs, models: Sequence[int], todo: Sequence[int], unknown: Container[str]
    ) -> list[int]:
        """Find the best element of one group for the models of the rows `todo`; the rows that improved.

        Row i of the costs is model `models[i]`; what `unknown` groups have to say is left out.
        """
        present = {name: rows_of(element, models) for name, element in self.elements.items()}
        new, improved = self.best(group, gathered, present, [models[row] for row in todo], todo, unknown)
        if improved.any() and not unknown and group.name in self.spec.neighbours(group):
            improved &= self._agrees_more(group, gathered, present, todo, new)
        changed = [(row, element) for row, element, better in zip(todo, new, improved.tolist(), strict=True) if better]
        for row, element in changed:
            self.elements[group.name][models[row]] = element
        return [row for row, _ in changed]

    def best(
        self,
        group: Group,
        gathered: Costs,
        present: Mapping[str, Tensor],
        models: Sequence[int],
        rows: Sequence[int],
        unknown: Container[str],
    ) -> tuple[Tensor, np.ndarray]:
        """The best elements of one group for some models, and a mask of those that are better than the old ones.

        Args:
            gathered: the costs of all models that are swept together; these are its `rows`.
            present: the present elements of all of them.
            unknown: groups whose elements say nothing yet.
        """
        costs = self.costs_of(group, gathered, present, rows, unknown)
        return self._solvers[group.name].best(costs, models, rows_of(present[group.name], rows))

    def costs_of(
        self,
        group: Group,
        gathered: Costs,
        present: Mapping[str, Tensor],
        rows: Sequence[int],
        unknown: Container[str],
    ) -> Tensor:
        """What the elements of one group cost the models `rows`, as solvers take it; arguments as of `best`."""
        return gathered.of(group, present, rows, unknown)

    def _agrees_more(
        self, group: Group, gathered: Costs, present: Mapping[str, Tensor], todo: Sequence[int], new: Tensor
    ) -> np.ndarray:
        """Whether the new element of a group is better where the costs are a gradient only (`matching.cost`)."""
        changed = {**present, group.name: present[group.name].index_copy(0, torch.tensor(todo, device=new.device), new)}
        before, after = (gathered.agreement(group, elements, todo) for elements in (present, changed))
        return (after > before).cpu().numpy()


def weight_matching(
    models: Models, spec: Spec, data: Data | None, settings: Mapping[str, Any], generator: torch.Generator
) -> Alignment:
    """Match every model to the mean of the others, in random order, until a round over all changes nothing.

    No model is the reference. Each match lowers the sum of squared distances to the mean (or leaves it), so the rounds
    end (Ainsworth et al. 2023, MergeMany; Ito et al. 2025, weight matching of many models).

    Args:
        settings: `max_rounds`, and `first_sweep` (`Matcher`).
    """
    matcher = Matcher(spec, len(models), generator, settings["first_sweep"], device=models.device)
    return match_to_others(models, matcher, settings["max_rounds"], generator)


def match_to_others(models: Models, matcher: Matcher, max_rounds: int, generator: torch.Generator) -> Alignment:
    """Match every model to the mean of the others, in random order, until a round over all changes nothing."""
    permuted = {name: tensor.clone() for name, tensor in models.weights.items()}
    rounds = 0
    for _ in track(range(max_rounds), "weight matching, rounds", max_rounds):
        rounds += 1
        changes = [
            _match_to_others(model, models, permuted, matcher)
            for model in torch.randperm(len(models), generator=generator, device=generator.device).tolist()
        ]
        if not any(changes):
            break
    return Alignment(matcher.elements, matcher.work(rounds))


def _match_to_others(model: int, models: Models, permuted: Parameters, matcher: Matcher) -> bool:
    others = [other for other in range(len(models)) if other != model]
    mean = combine((1 / len(others), one(permuted, other)) for other in others)
    target = {name: tensor[None] for name, tensor in mean.items()}
    source = some(models.weights, slice(model, model + 1))
    changed = matcher.match(target, source, [model])
    if changed:
        own = some(matcher.elements, slice(model, model + 1))
        for name, tensor in act_on_stack(source, matcher.spec, own).items():
            permuted[name][model] = tensor[0]
    return changed


def draw_seed(generator: torch.Generator) -> int:
    """A seed for a stream of its own."""
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))
