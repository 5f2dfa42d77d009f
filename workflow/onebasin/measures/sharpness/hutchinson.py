"""Estimates of the Hessian's trace and of its top eigenvalue, for any network.

H is the Hessian of the mean cross-entropy over a split with respect to the trainable parameters theta, the network
being in eval mode. For a random v with E[v v^T] = diag(d), E[v^T H v] = sum_i d_i H_ii (Hutchinson, 1990). Rademacher
probes v = z give the trace; v = z * |theta| gives sum_i H_ii theta_i^2, which does not change when a unit's incoming
weights are scaled up and its outgoing ones down. Ito et al. (ICML 2025) speak of the first and release the second.
The trace and the top eigenvalue are PyHessian's (Yao et al., 2020); the scaled form, which it lacks, is computed here.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyhessian
import torch
from torch import Tensor, nn

from onebasin import seeding
from onebasin.errors import OnebasinError
from onebasin.measures.sharpness.hessian import (
    BATCH,
    evaluating,
    hessian_operator,
    hessian_vector_product,
    shares,
    trainable,
)
from onebasin.models.objective import Objective, cross_entropy
from onebasin.parameters import dot


@dataclass(frozen=True)
class Estimate:
    """The mean of `probes` independent draws, and the standard deviation of that mean."""

    value: float
    standard_error: float
    probes: int


@dataclass(frozen=True)
class Eigenvalue:
    """An approximate eigenvalue; an exact one lies within `residual` = ||H v - value v|| of it, for a unit v."""

    value: float
    residual: float


def hessian_trace(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    probes: int,
    key: tuple[int | str, ...],
    batch: int = BATCH,
    objective: Objective = cross_entropy,
) -> Estimate:
    """Estimate tr(H) with Rademacher probes, by PyHessian.

    Args:
        network: measured in eval mode at its present parameters, and left as it was; each parameter that requires a
            gradient must take part in the loss, the others are held fixed.
        images: [n, c, h, w], on the network's device.
        labels: [n], int64.
        probes: number of draws, at least 2.
        key: names the random stream (`onebasin.seeding`); the same key draws the same probes.
        batch: images whose graph is held at once. With n <= batch the gradient's graph is built once for all probes.

    Raises:
        OnebasinError: fewer than 2 probes.
        ValueError: no images, a batch size below 1, or no trainable parameter.
    """
    _require_probes(probes)
    # PyHessian stops once change / (mean + 1e-6) < tol. A negative running mean makes that ratio negative, hence below
    # a tol of 0 as well, and would bias the estimate downwards; nothing is below minus infinity.
    with _pyhessian(network, images, labels, batch, objective) as hessian, seeding.global_rng(*key):
        return _estimate(hessian.trace(maxIter=probes, tol=-math.inf))


def scaled_hessian_trace(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    probes: int,
    generator: torch.Generator,
    batch: int = BATCH,
    objective: Objective = cross_entropy,
) -> Estimate:
    """Estimate sum_i H_ii theta_i^2 with probes z * |theta|, z Rademacher.

    Arguments and errors are those of `hessian_trace`, the probes being drawn from `generator`.
    """
    _require_probes(probes)
    magnitudes = {name: p.detach().abs() for name, p in trainable(network).items()}
    draws = torch.zeros(probes, dtype=torch.float64)
    start = generator.get_state()
    # A batch meets all probes before the next one, so that its gradient is differentiated once and used `probes`
    # times. To draw the probes again for each batch is far cheaper than to build the graph again for each probe.
    for share, some_images, some_labels in shares(images, labels, batch):
        generator.set_state(start)
        product = hessian_operator(network, some_images, some_labels, objective)
        for draw in range(probes):
            probe = {name: _rademacher(size, generator).mul_(size) for name, size in magnitudes.items()}
            draws[draw] += share * dot(probe, product(probe), dtype=None)
    return _estimate(draws.tolist())


def top_eigenvalue(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    key: tuple[int | str, ...],
    batch: int = BATCH,
    max_iterations: int = 200,
    tolerance: float = 1e-4,
    objective: Objective = cross_entropy,
) -> Eigenvalue:
    """Find the eigenvalue of H that is largest in magnitude, by PyHessian's power iteration from a normal vector.

    The value returned is the Rayleigh quotient of the vector PyHessian ends with: PyHessian's own is one iteration
    older, and too small if it is not far above the 1e-6 added to every norm. PyHessian does not tell how many
    iterations it took; the residual tells whether they were enough.

    Args:
        network: as for `hessian_trace`; float32.
        images: [n, c, h, w], on the network's device.
        labels: [n], int64.
        key: names the random stream of the first vector.
        batch: images whose graph is held at once.
        max_iterations: bound on the Hessian-vector products.
        tolerance: stop when the eigenvalue's relative change over one iteration falls below this.

    Raises:
        ValueError: no images, a batch size below 1, or no trainable parameter.
    """
    # If the second eigenvalue is r times the first, the error shrinks by r^2 an iteration, so stopping at a relative
    # change t leaves an error of about t r^2 / (1 - r^2): 1e-4 is good for three digits up to r = 0.95.
    with _pyhessian(network, images, labels, batch, objective) as hessian, seeding.global_rng(*key):
        _, vectors = hessian.eigenvalues(maxIter=max_iterations, tol=tolerance, top_n=1)
    vector = dict(zip(trainable(network), vectors[0], strict=True))
    norm = math.sqrt(dot(vector, vector, dtype=None))
    unit = {name: part / norm for name, part in vector.items()} if norm > 0 else vector
    image = hessian_vector_product(network, images, labels, unit, batch, objective)
    value = dot(unit, image, dtype=None)
    rest = {name: part - value * unit[name] for name, part in image.items()}
    return Eigenvalue(value, math.sqrt(dot(rest, rest, dtype=None)))


@contextmanager
def _pyhessian(
    network: nn.Module, images: Tensor, labels: Tensor, batch: int, objective: Objective
) -> Iterator[pyhessian.hessian]:
    """PyHessian's object for the mean loss over the split; the network is put back afterwards."""
    batches = [(some_images, some_labels) for _, some_images, some_labels in shares(images, labels, batch)]
    data = {"data": batches[0]} if len(batches) == 1 else {"dataloader": batches}
    trainable(network)
    with evaluating(network), warnings.catch_warnings():
        # It warns of the cycle parameter -> grad -> graph -> parameter, which `evaluating` breaks.
        warnings.filterwarnings("ignore", message=r"Using backward\(\) with create_graph=True", category=UserWarning)
        hessian = pyhessian.hessian(network, objective, cuda=images.is_cuda, **data)
        try:
            yield hessian
        finally:
            hessian.gradsH = None  # frees the graph, which the caller's reference would keep


def _require_probes(probes: int) -> None:
    if probes < 2:
        raise OnebasinError(f"sharpness: a standard error takes at least 2 probes, not {probes}; raise `probes`")


def _rademacher(like: Tensor, generator: torch.Generator) -> Tensor:
    """-1 or 1 with equal odds, in the shape, type and place of `like`."""
    bits = torch.randint(0, 2, like.shape, generator=generator, device=generator.device, dtype=torch.int8)
    return bits.to(like).mul_(2).sub_(1)


def _estimate(draws: list[float]) -> Estimate:
    values = torch.tensor(draws, dtype=torch.float64)
    return Estimate(values.mean().item(), values.std().item() / math.sqrt(len(draws)), len(draws))
