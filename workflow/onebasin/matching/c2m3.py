"""C2M3: all models at once to a common universe, by Frank-Wolfe (Crisostomi et al., "C2M3: Cycle-Consistent
Multi-Model Merging", NeurIPS 2024).

Every model has one matrix P of every group, from its units to those of a universe. Two models are matched by way of it,
so that going round any cycle of models changes nothing. Over doubly stochastic matrices one maximises

    f = sum over pairs of models k < l, and over tensors, of <Y_k, Y_l>,    Y = the tensor with P on each permuted axis.

A step finds, for every model and group, the permutation V of the largest product with the gradient, and takes all of
them from P to (1 - t) P + t V, with the t in [0, 1] that is best. In the end every P is rounded to the permutation
nearest to it.

Two things make a step cheap. Along it, Y is a polynomial in t, and so is f, of twice the number of permuted axes (4 for
a matrix), with inner products for coefficients. And P starts at the identity, so that no product with it is ever
needed: Y follows P by gathering what V does and adding up. Only the gradient takes products of matrices.

The start at the identity and the limit of steps are those of the released code. Its rule for the end, five steps that
gain less than 1e-6, is taken relative to the value of f that no P can exceed.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.polynomial import Polynomial
from torch import Tensor

from onebasin.data import Data
from onebasin.matching.assignment import Duals, solve
from onebasin.matching.cost import units_of
from onebasin.models import Models
from onebasin.products import add_product
from onebasin.progress import track
from onebasin.symmetry.apply import Indices, identity, places_of
from onebasin.symmetry.permutations import Permutations
from onebasin.symmetry.spec import Axis, Group, Parts, Spec

SMALLEST_GAIN = 1e-6  # of the largest value; a step that gains less is idle
IDLE_STEPS = 5  # in a row end the search


def c2m3(
    models: Models, spec: Spec, data: Data | None, settings: Mapping[str, Any], generator: torch.Generator
) -> Permutations:
    """Permutations of all models to the universe; nothing is drawn.

    Memory beyond the models: three copies of every tensor that is permuted along two axes, one of those permuted along
    one, and an n x n matrix a model and group.

    Args:
        settings: `max_steps`.
    """
    search = FrankWolfe(models.weights, spec)
    steps = idle = 0
    for _ in track(range(settings["max_steps"]), f"C2M3 of {len(models)} models, steps", settings["max_steps"]):
        gain = search.step()
        steps += 1
        idle = 0 if gain >= SMALLEST_GAIN * search.largest else idle + 1
        if idle == IDLE_STEPS:
            break
    indices = search.rounded()
    return Permutations(indices, search.work(steps))


class FrankWolfe:
    """The matrices P of N models, at first the identity, and the steps that they take.

    Attributes:
        matrices: P `[N, n, n]` of every group: row = unit of the universe, column = unit of the model.
        value: the objective f.
        largest: a value that f cannot exceed: (N - 1) / 2 times the squared norm of all models' permuted tensors.
    """

    def __init__(self, stack: Mapping[str, Tensor], spec: Spec) -> None:
        """`stack` `[N, ...]` are the weights. Tensors that it lacks (running statistics) do not count."""
        self._spec = spec
        self._soft = {name: SoftTensor(stack[name], spec.axes_of(name)) for name in stack if spec.axes_of(name)}
        some = next(iter(stack.values()))
        start = identity(spec, len(some), some.device)
        self.matrices = {name: torch.eye(index.shape[1]).to(some).repeat(len(some), 1, 1) for name, index in start.items()}
        self._vertices = start
        self._duals: dict[str, Duals] = {}
        self._assignments = self._row_scans = 0
        norms = sum(float(stack[name].double().square().sum()) for name in self._soft)
        self.largest = (len(some) - 1) / 2 * norms

    def step(self) -> float:
        """Take one step; how much the objective gained."""
        self._vertices = {group.name: self._best(group.name, self.gradient(group)) for group in self._spec.groups}
        line = sum((soft.line(self._vertices) for soft in self._soft.values()), Polynomial([0.0]))
        length = best_step(line)
        if length > 0:
            for soft in self._soft.values():
                soft.move(self._vertices, length)
            for name, matrix in self.matrices.items():
                chosen = self._vertices[name][:, :, None]
                matrix.mul_(1 - length).scatter_(2, chosen, matrix.gather(2, chosen) + length)
        return float(line(length) - line(0))

    def gradient(self, group: Group) -> Tensor:
        """The derivative `[N, n, n]` of the objective by the matrices of `group`."""
        total: Tensor | None = None
        for axis in group.axes:
            if axis.tensor in self._soft:
                total = add_product(total, *self._soft[axis.tensor].factors(axis, group))
        assert total is not None, f"group {group.name} acts on no weights"
        return total

    def rounded(self) -> Indices:
        """The permutations `[N, n]` nearest to the matrices."""
        return {name: self._best(name, matrix) for name, matrix in self.matrices.items()}

    def work(self, steps: int) -> dict[str, int]:
        """What the search took, for its artifact."""
        return {"steps": steps, "assignments": self._assignments, "row_scans": self._row_scans}

    def _best(self, name: str, gains: Tensor) -> Tensor:
        """The permutations `[N, n]` of the largest gains `[N, n, n]`."""
        old = self._vertices[name]
        found = solve(gains.neg().cpu().numpy(), self._duals.get(name), old.cpu().numpy())
        self._duals[name] = found.duals
        self._assignments += len(gains)
        self._row_scans += int(found.row_scans.sum())
        return torch.from_numpy(found.columns).to(old.device)


class SoftTensor:
    """One tensor of N models with P on its permuted axes, and on every choice of them, which the gradient takes.

    Args:
        stack: the tensors `[N, ...]` of the models; P is the identity.
        axes: the permuted axes and who acts on their parts, as in `Spec.axes_of`.
    """

    def __init__(self, stack: Tensor, axes: Mapping[int, Parts]) -> None:
        self._axes = axes
        self._soft = {chosen: stack for chosen in _choices(axes)}

    @property
    def _whole(self) -> frozenset[int]:
        return frozenset(self._axes)

    def factors(self, axis: Axis, group: Group) -> tuple[Tensor, Tensor]:
        """Two stacks `[N, n, rest]`: the product of the first with the second, transposed, is the derivative of the
        objective by P of `group` on `axis`."""
        soft = self._soft[self._whole]
        others = soft.sum(dim=0, keepdim=True) - soft
        return units_of(others, axis, group), units_of(self._soft[self._whole - {axis.axis}], axis, group)

    def line(self, vertices: Mapping[str, Tensor]) -> Polynomial:
        """This tensor's part of the objective on the way from P to the permutations `vertices`, by t."""
        ways = self._ways(self._whole, vertices)
        own = total = torch.zeros(())
        for parts in zip(*ways, strict=True):  # one model after the other, in float64
            flat = torch.stack([part.flatten() for part in parts]).double()
            own, total = own + (flat @ flat.T).cpu(), total + flat
        gram = ((total @ total.T).cpu() - own) / 2
        degree = len(self._axes)
        basis = [Polynomial([1.0, -1.0]) ** (degree - moved) * Polynomial([0.0, 1.0]) ** moved for moved in range(degree + 1)]
        pairs = itertools.product(range(degree + 1), repeat=2)
        return sum((float(gram[i, j]) * basis[i] * basis[j] for i, j in pairs), Polynomial([0.0]))

    def move(self, vertices: Mapping[str, Tensor], length: float) -> None:
        """Go the part `length` of the way from P to `vertices`."""
        for chosen in sorted(self._soft, key=len, reverse=True):  # each is made of itself and of smaller choices
            degree = len(chosen)
            weights = [(1 - length) ** (degree - moved) * length**moved for moved in range(degree + 1)]
            if degree:
                self._soft[chosen] = sum(w * way for w, way in zip(weights, self._ways(chosen, vertices), strict=True))

    def _ways(self, chosen: frozenset[int], vertices: Mapping[str, Tensor]) -> list[Tensor]:
        """Number k `[N, ...]` is the sum over all k of the chosen axes of the tensor with V on these, P on the others.

        With (1 - t)^(chosen - k) t^k as weights they make the tensor with (1 - t) P + t V on all chosen axes.
        """
        return [
            sum(self._permuted(self._soft[chosen - moved], moved, vertices) for moved in _choices(chosen, number))
            for number in range(len(chosen) + 1)
        ]

    def _permuted(self, stack: Tensor, axes: frozenset[int], vertices: Mapping[str, Tensor]) -> Tensor:
        for axis in axes:
            own = [{name: index[model] for name, index in vertices.items()} for model in range(len(stack))]
            places = [places_of(self._axes[axis], indices, stack.shape[axis + 1]) for indices in own]
            stack = torch.stack([one.index_select(axis, where) for one, where in zip(stack, places, strict=True)])
        return stack


def best_step(line: Polynomial) -> float:
    """Where in [0, 1] a polynomial is largest: at a stationary point or an end, the least of equals."""
    stationary = line.deriv().trim().roots().real  # of complex ones the real parts, which do no harm
    inner = sorted(float(t) for t in stationary if 0 < t < 1)
    return max([0.0, *inner, 1.0], key=line)


def _choices(axes, number=None):
    numbers = range(len(axes) + 1) if number is None else [number]
    return [frozenset(chosen) for k in numbers for chosen in itertools.combinations(sorted(axes), k)]
