"""Orthogonal maps of units: matrices `Q` `[n, n]` float64, by which new unit i is the sum over j of `Q[i, j]` times old
unit j. A permutation is one of them, `Q[i, p[i]] = 1`.

The element of largest gain <Q, G> is the orthogonal polar factor U V^T of G = U S V^T (orthogonal Procrustes problem,
Schönemann 1966). It is unique where G has full rank; in directions that G says nothing about the old element stays as
far as it can.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from onebasin.symmetry.spec import Axis, Group

FULL = torch.float64
ORTHOGONAL = 1e-6  # how far Q Q^T may be from the identity in what a file holds
BETTER = 1e-10  # of the largest gain; an iteration comes ever closer to where it ends, and never arrives
KNOWN = 1e-6  # of the largest singular value; what is below is rounding of float32 sums


def identity(group: Group, device: torch.device | str) -> Tensor:
    """The identity matrix."""
    return torch.eye(group.size, dtype=FULL, device=device)


def random(group: Group, generator: torch.Generator) -> Tensor:
    """A uniformly random orthogonal matrix (of Haar measure)."""
    numbers = torch.randn(group.size, group.size, dtype=FULL, generator=generator, device=generator.device)
    return rotation(numbers)


def rotation(latent: Tensor) -> Tensor:
    """The orthogonal factor of a QR decomposition whose triangular factor has a positive diagonal, which is unique.

    It has a gradient wherever the latent matrix has full rank. (An SVD's has none where singular values are equal, as
    at the identity.)
    """
    q, r = torch.linalg.qr(latent)
    return q * torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(q.dtype)[..., None, :]


def matrix_of(index: Tensor) -> Tensor:
    """The orthogonal matrices `[..., n, n]` that permutations `[..., n]` are."""
    return torch.nn.functional.one_hot(index, index.shape[-1]).to(FULL)


def act(tensor: Tensor, axis: int, parts: Sequence[tuple[Axis, Group, Tensor]]) -> Tensor:
    """The tensor with the entries along `axis` mapped by the matrices; differentiable in both."""
    for place, group, matrix in parts:
        span = group.span(place.family)  # of a nested group, whose element is a matrix of all units here
        matrix = matrix[span, span].to(tensor.dtype)
        if place.is_plain() and group.units == tensor.shape[axis]:
            tensor = torch.tensordot(matrix, tensor, dims=([1], [axis])).movedim(0, axis)
            continue
        places = place.places(group, tensor.device)
        units = tensor.index_select(axis, places.flatten()).unflatten(axis, places.shape)
        mapped = torch.tensordot(matrix, units, dims=([1], [axis + 1])).movedim(0, axis + 1)
        tensor = tensor.index_copy(axis, places.flatten(), mapped.flatten(axis, axis + 2))
    return tensor


def invert(matrix: Tensor) -> Tensor:
    """The elements that undo `matrix` (`[n, n]` or `[N, n, n]`)."""
    return matrix.mT.contiguous()


def compose(first: Tensor, then: Tensor) -> Tensor:
    """The elements that do what `first` and `then` do one after the other."""
    return then @ first


def is_element(stack: Tensor, group: Group) -> bool:
    """Whether all matrices of a stack are orthogonal."""
    if stack.dtype != FULL or stack.shape[1:] != (group.units, group.units):
        return False
    change = stack @ stack.mT - torch.eye(group.units, dtype=FULL, device=stack.device)
    return bool((change.abs() <= ORTHOGONAL).all())


def polar(gains: Tensor, old: Tensor) -> Tensor:
    """The orthogonal matrices nearest to `gains` `[k, n, n]` float64; where these have no rank, near the `old` ones."""
    u, s, vh = torch.linalg.svd(gains)
    found = u @ vh
    for k, known in enumerate((s > KNOWN * s[:, :1]).sum(dim=1).tolist()):
        if known < s.shape[1]:
            left, right = u[k, :, known:], vh[k, known:]
            one, _, other = torch.linalg.svd(left.mT @ old[k] @ right.mT)
            found[k] = u[k, :, :known] @ vh[k, :known] + left @ one @ other @ right
    return found


class OrthogonalSolver:
    """The orthogonal map of largest gain; nothing is remembered, as nothing would make the next time cheaper."""

    def __init__(self, models: int, group: Group, warm_start: bool) -> None:
        self.solved = self.row_scans = 0

    def best(self, costs: Tensor, models: Sequence[int], old: Tensor) -> tuple[Tensor, np.ndarray]:
        """As `kinds.Solver.best`; better is what gains more than rounding by it."""
        gains = costs.to(FULL).neg()
        found = polar(gains, old)
        self.solved += len(found)
        self.row_scans += gains.shape[0] * gains.shape[1]
        more = ((found - old) * gains).sum(dim=(1, 2))
        largest = (found * gains).sum(dim=(1, 2)).abs()
        return found, (more > BETTER * largest).cpu().numpy()
