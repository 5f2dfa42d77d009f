"""What the two ends know of the barrier between them: its second-order Taylor estimate (Ito et al., ICLR 2025).

With d = b - a, lambda the weight of a, gradients g and Hessians H of the loss at the ends,

    B(lambda) = lambda (1 - lambda) [ (g_a - g_b).d + ((1 - lambda) d'H_a d + lambda d'H_b d) / 2 ] + O(|d|^3)

is the excess of the loss over the straight line between the ends: each end's expansion, weighted by the end's weight.
So four scalars of a pair give the whole path, and no Hessian is formed.

An expansion at an end keeps the BatchNorm statistics of that end. What it estimates is therefore measured in the same
state: with the statistics of a and with those of b, weighted likewise. The excess with statistics that were measured
anew at the point, as for every other barrier, stands beside it. Without BatchNorm the two are one.
"""

import copy
import itertools
from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn

from onebasin.data import Split
from onebasin.inputs import in_type_of
from onebasin.measures.sharpness.hessian import BATCH, hessian_operator, shares
from onebasin.merging.recalibration import Recalibration
from onebasin.models.objective import objective_named
from onebasin.models.running import measure
from onebasin.models.stack import Models
from onebasin.parameters import Parameters, dot, lerp
from onebasin.progress import track

MIDPOINT = 0.5


def taylor_estimates(
    permuted: Models, split: Split, points: int, recalibrate: Recalibration, batch: int = BATCH
) -> pd.DataFrame:
    """The estimated and the measured excess of the loss between every two models, along the line and at its middle.

    Args:
        permuted: the models after permutation.
        split: whose mean loss is meant.
        points: evenly spaced points, of which those between the ends are taken; the midpoint always is.
        recalibrate: measures statistics anew; must not repair.
        batch: images whose graph is held at once.

    Returns:
        `model_a, model_b, weight_b, estimate, measured, recomputed` in nats, as the module says.
    """
    models, network = range(len(permuted)), permuted.network
    losses = [measure(network, permuted[model], split)[0] for model in models]
    along = []
    for model in track(models, f"Taylor expansions at {len(models)} models", len(models)):
        ends = [permuted[other] for other in models if other != model]
        found = directional_derivatives(network, permuted[model], ends, split, batch)
        found.insert(model, (0.0, 0.0))
        along.append(found)
    inner = torch.linspace(0, 1, points, dtype=torch.float64)[1:-1].tolist()
    rows = []
    for a, b in itertools.combinations(models, 2):
        for weight_b in sorted({*inner, MIDPOINT}):
            estimate = excess_estimate(along[a][b], along[b][a], weight_b)
            line = (1 - weight_b) * losses[a] + weight_b * losses[b]
            excess = _measured(permuted, a, b, weight_b, line, split, recalibrate)
            rows.append((permuted.seeds[a], permuted.seeds[b], weight_b, estimate, *excess))
    return pd.DataFrame(rows, columns=["model_a", "model_b", "weight_b", "estimate", "measured", "recomputed"])


def excess_estimate(at_a: tuple[float, float], at_b: tuple[float, float], weight_b: float) -> float:
    """B(1 - weight_b) from slope and curvature at each end, both in the direction of the other end."""
    (slope_a, curvature_a), (slope_b, curvature_b) = at_a, at_b
    weight_a = 1 - weight_b
    return weight_a * weight_b * (slope_a + slope_b + (weight_b * curvature_a + weight_a * curvature_b) / 2)


def directional_derivatives(
    network: nn.Module, here: Parameters, ends: Sequence[Parameters], split: Split, batch: int = BATCH
) -> list[tuple[float, float]]:
    """Slope g.d and curvature d'H d of the mean loss at `here`, in the direction d of each of the `ends`.

    The network is in eval mode with the buffers of `here`, and stays as it is. A batch meets all directions before the
    next one, so that its gradient is differentiated once.
    """
    network = copy.deepcopy(network).eval()
    network.load_state_dict(here)
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    found = [(0.0, 0.0)] * len(ends)
    objective, inputs = objective_named(split.objective), in_type_of(split.only_input("the Taylor estimate"), here)
    for share, images, labels in shares(inputs, split.targets, batch):
        product = hessian_operator(network, images, labels, objective)
        loss = objective.loss(network(images), labels)
        gradient = dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))
        for number, end in enumerate(ends):
            direction = {name: end[name] - parameter.detach() for name, parameter in trained.items()}
            slope, curvature = found[number]
            slope += share * dot(gradient, direction)
            curvature += share * dot(product(direction), direction)
            found[number] = (slope, curvature)
    return found


def _measured(
    permuted: Models, a: int, b: int, weight_b: float, line: float, split: Split, recalibrate: Recalibration
) -> tuple[float, float]:
    """The excess over the line at a point with the ends' own statistics, and with statistics measured anew."""
    network, shares = permuted.network, (1 - weight_b, weight_b)
    point = lerp(permuted[a], permuted[b], weight_b)
    recalibrated = recalibrate(point)
    recomputed = measure(network, recalibrated, split)[0] - line
    if recalibrated is point:  # no statistics
        return recomputed, recomputed
    trained = {name: point[name] for name in permuted.weights}
    own = [measure(network, {**permuted[end], **trained}, split)[0] for end in (a, b)]
    return sum(share * loss for share, loss in zip(shares, own, strict=True)) - line, recomputed
