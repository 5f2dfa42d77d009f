"""C2M3: all models at once to a common universe, by Frank-Wolfe (Crisostomi et al., "C2M3: Cycle-Consistent
Multi-Model Merging", NeurIPS 2024).

Every model has one matrix P of every group, from its units to those of a universe. Two models are matched by way of it,
so that going round any cycle of models changes nothing. Over doubly stochastic matrices one maximises

    f = sum over pairs of models k < l, and over tensors, of <Y_k, Y_l>,    Y = the tensor with P on each permuted axis.

A step finds, for every model and group, the permutation V of the largest product with the gradient, and takes all of
them from P to (1 - t) P + t V, with the t in [0, 1] that is best. In the end every P is rounded to the permutation
nearest to it. Two models are matched as in the paper's form for pairs: the first one is the universe, its P stays. If
both moved, the best V of the one would undo that of the other, and the step would end half way, where neither knows
which of them is to move. With more models, which all move, as published, this can happen to a few units.

Two things make a step cheap. Along it, Y is a polynomial in t, and so is f, of twice the number of permuted axes (4 for
a matrix), with inner products for coefficients. And P starts at the identity, so that no product with it is ever
needed: Y follows P by gathering what V does and adding up. Only the gradient takes products of matrices.

The start at the identity and the limit of steps are those of the released code. Its rule for the end, five steps that
gain less than 1e-6, is taken relative to the value of f that no P can exceed.
"""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.polynomial import Polynomial
from torch import Tensor

from onebasin.data import Data
from onebasin.machine.matmul import add_product
from onebasin.matching.cost import of_families, units_of
from onebasin.models.stack import Models
from onebasin.progress import track
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import Elements, identity
from onebasin.symmetry.kinds import Solver, kind_of, require_permutations
from onebasin.symmetry.kinds.permutation import places_of
from onebasin.symmetry.spec import Axis, Group, Parts, Spec

SMALLEST_GAIN = 1e-6  # of the largest value; a step that gains less is idle
IDLE_STEPS = 5  # in a row end the search


def c2m3(
    models: Models, spec: Spec, data: Data | None, settings: Mapping[str, Any], generator: torch.Generator
) -> Alignment:
    """Alignment of all models to the universe; nothing is drawn.

    Memory beyond the models: five copies of every tensor that is permuted along two axes, two of one that is permuted
    along one, and an n x n matrix a model and group.

    Args:
        settings: `max_steps`.
    """
    require_permutations(spec, "c2m3")
    search = FrankWolfe(models.weights, spec)
    steps = idle = 0
    for _ in track(range(settings["max_steps"]), f"C2M3 of {len(models)} models, steps", settings["max_steps"]):
        gain = search.step()
        steps += 1
        idle = 0 if gain > SMALLEST_GAIN * search.largest else idle + 1
        if idle == IDLE_STEPS:
            break
    indices = search.rounded()
    return Alignment(indices, search.work(steps))


class FrankWolfe:
    """The matrices P of N models, at first the identity, and the steps that they take.

    Attributes:
        matrices: P `[N, n, n]` of every group: row = unit of the universe, column = unit of the model.
        largest: a value that f cannot exceed: (N - 1) / 2 times the squared norm of all models' permuted tensors.
    """

    def __init__(self, stack: Mapping[str, Tensor], spec: Spec) -> None:
        """`stack` `[N, ...]` are the weights. Tensors that it lacks (running statistics) do not count."""
        stack = spec.join(stack, leading=1)
        self._spec, self._models = spec, len(next(iter(stack.values())))
        self._moving = slice(1 if self._models == 2 else 0, None)
        self._soft = {name: SoftTensor(stack[name], spec.axes_of(name)) for name in stack if spec.axes_of(name)}
        some = next(iter(stack.values()))
        self._vertices = identity(spec, self._models, some.device)
        self.matrices = {
            group.name: torch.eye(group.units, dtype=some.dtype, device=some.device).repeat(self._models, 1, 1)
            for group in spec.groups
        }
        self._used: list[Solver] = []
        self._solvers = self._new_solvers()
        norms = sum(float(stack[name].double().square().sum()) for name in self._soft)
        self.largest = (self._models - 1) / 2 * norms

    def step(self) -> float:
        """Take one step; how much the objective gained."""
        self._vertices = {group.name: self._best(group, self.gradient(group)) for group in self._spec.groups}
        ways = {name: soft.ways(self._vertices) for name, soft in self._soft.items()}
        line = sum((soft.line(ways[name]) for name, soft in self._soft.items()), Polynomial([0.0]))
        length = best_step(line)
        if length > 0:
            for name, soft in self._soft.items():
                soft.move(self._vertices, ways.pop(name), length)
            for name, matrix in self.matrices.items():
                chosen = self._vertices[name][:, :, None]
                matrix.mul_(1 - length).scatter_(2, chosen, matrix.gather(2, chosen) + length)
        return float(line(length) - line(0))

    def gradient(self, group: Group) -> Tensor:
        """The derivative `[k, n, n]` of the objective by the matrices of `group`, of the k models that move."""
        totals: dict[int, Tensor] = {}
        for axis in group.axes:
            if axis.tensor in self._soft:
                factors = self._soft[axis.tensor].factors(axis, group, self._moving)
                totals[axis.family] = add_product(totals.get(axis.family), *factors)
        return of_families(totals, group)

    def rounded(self) -> Elements:
        """The permutations `[N, n]` nearest to the matrices."""
        self._solvers = self._new_solvers()  # the duals of gradients say nothing here
        return {group.name: self._best(group, self.matrices[group.name][self._moving]) for group in self._spec.groups}

    def work(self, steps: int) -> dict[str, int]:
        """What the search took, for its artifact."""
        return {
            "steps": steps,
            "assignments": sum(solver.solved for solver in self._used),
            "row_scans": sum(solver.row_scans for solver in self._used),
        }

    def _new_solvers(self) -> dict[str, Solver]:
        count = len(range(self._models)[self._moving])
        found = {group.name: kind_of(group).solver(count, group, True) for group in self._spec.groups}
        self._used += found.values()
        return found

    def _best(self, group: Group, gains: Tensor) -> Tensor:
        """Alignment `[N, n]`: for the k models that move those of the largest gains `[k, n, n]`, else the old."""
        old = self._vertices[group.name]
        new, _ = self._solvers[group.name].best(gains.neg(), range(len(gains)), old[self._moving])
        return torch.cat([old[: self._moving.start], new])


class SoftTensor:
    """One tensor of N models with P on its permuted axes, and on every choice of them, which the gradient takes.

    Args:
        stack: the tensors `[N, ...]` of the models; P is the identity.
        axes: the permuted axes and who acts on their parts, as in `Spec.axes_of`.
    """

    def __init__(self, stack: Tensor, axes: Mapping[int, Parts]) -> None:
        self._axes, self._whole = axes, frozenset(axes)
        self._soft = {chosen: stack.clone() if chosen else stack for chosen in _choices(self._whole)}

    def factors(self, axis: Axis, group: Group, models: slice) -> tuple[Tensor, Tensor]:
        """Two stacks `[k, n, rest]` for k of the models: the product of the first with the second, transposed, is the
        derivative of the objective by P of `group` on `axis`."""
        soft, without = self._soft[self._whole], self._soft[self._whole - {axis.axis}]
        others = soft.sum(dim=0, keepdim=True) - soft[models]
        return units_of(others, axis, group), units_of(without[models], axis, group)

    def ways(self, vertices: Mapping[str, Tensor]) -> list[Tensor]:
        """What `line` and `move` take: the tensor `[N, ...]` with V = `vertices` on some of its axes, P on the others.

        Number k sums over all choices of k axes; with (1 - t)^(axes - k) t^k as weights, the sum over k is the tensor
        with (1 - t) P + t V on all axes.
        """
        return self._ways(self._whole, vertices)

    def line(self, ways: Sequence[Tensor]) -> Polynomial:
        """This tensor's part of the objective on the way from P to V, by t. Inner products are summed in float64."""
        rows = torch.empty(len(ways), ways[0][0].numel(), dtype=torch.float64, device=ways[0].device)
        total, products = torch.zeros_like(rows), torch.zeros(len(ways), len(ways), dtype=torch.float64)
        for parts in zip(*ways, strict=True):  # one model after the other
            for row, part in zip(rows, parts, strict=True):
                row.copy_(part.flatten())
            total += rows
            products -= (rows @ rows.T).cpu()
        products += (total @ total.T).cpu()
        return _polynomial(products.numpy() / 2)

    def move(self, vertices: Mapping[str, Tensor], ways: Sequence[Tensor], length: float) -> None:
        """Go the part `length` of the way from P to V, to which `ways` lead."""
        for chosen in reversed(_choices(self._whole)):  # large ones first: they are made of smaller ones
            if chosen:
                own = ways if chosen == self._whole else self._ways(chosen, vertices)
                soft = self._soft[chosen].mul_((1 - length) ** len(chosen))
                for moved, way in enumerate(own[1:], start=1):
                    soft.add_(way, alpha=(1 - length) ** (len(chosen) - moved) * length**moved)

    def _ways(self, chosen: frozenset[int], vertices: Mapping[str, Tensor]) -> list[Tensor]:
        found = {moved: self._permuted(self._soft[chosen - moved], moved, vertices) for moved in _choices(chosen)}
        return [
            functools.reduce(Tensor.add_, [way for moved, way in found.items() if len(moved) == number])
            for number in range(len(chosen) + 1)
        ]

    def _permuted(self, stack: Tensor, axes: frozenset[int], vertices: Mapping[str, Tensor]) -> Tensor:
        for axis in axes:
            result = torch.empty_like(stack)
            for model, (before, after) in enumerate(zip(stack, result, strict=True)):
                parts = [(place, group, vertices[group.name][model]) for place, group in self._axes[axis]]
                torch.index_select(before, axis, places_of(parts, before.shape[axis]), out=after)
            stack = result
        return stack


def best_step(line: Polynomial) -> float:
    """Where in [0, 1] a polynomial is largest: at a stationary point or an end, the least of equals."""
    stationary = line.deriv().trim().roots().real  # of complex ones the real parts, which do no harm
    inner = sorted(float(t) for t in stationary if 0 < t < 1)
    return max([0.0, *inner, 1.0], key=line)


def _polynomial(products: np.ndarray) -> Polynomial:
    """The sum over i, j of products[i, j] (1 - t)^(2 k - i - j) t^(i + j), with k = len(products) - 1."""
    degree = 2 * (len(products) - 1)
    by_power = [np.fliplr(products).trace(len(products) - 1 - power) for power in range(degree + 1)]
    return Polynomial(np.array(by_power) @ _basis(degree))


@functools.cache
def _basis(degree: int) -> np.ndarray:
    """Row s: the coefficients of (1 - t)^(degree - s) t^s."""
    rows = [Polynomial([1.0, -1.0]) ** (degree - s) * Polynomial([0.0, 1.0]) ** s for s in range(degree + 1)]
    return np.stack([row.coef for row in rows])


def _choices(axes: Iterable[int]) -> list[frozenset[int]]:
    """All subsets, small ones first."""
    ordered = sorted(axes)
    return [frozenset(some) for k in range(len(ordered) + 1) for some in itertools.combinations(ordered, k)]
