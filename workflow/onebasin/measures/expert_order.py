"""The order of experts that a method found among all orders (arXiv 2509.11348, NeurIPS 2025).

Two mixtures of n experts may be merged in n! orders of the second one's experts, in each of which the hidden units of
every pair of experts are given to each other as their weights say. If the order that a method finds is what brings the
two into one basin, its barrier is among the lowest of all, and little is left of that of the models as they are.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from onebasin.inputs import Inputs, map_inputs
from onebasin.machine.devices import to_host
from onebasin.matching.cost import gains
from onebasin.measures.run import Run, by_count
from onebasin.models.running import forward, measure
from onebasin.models.stack import Models
from onebasin.parameters import Parameters, lerp, some
from onebasin.symmetry.apply import act, identity
from onebasin.symmetry.inner import InnerProblems
from onebasin.symmetry.kinds.nested import joint
from onebasin.symmetry.spec import Group, Spec

MIDDLE = 0.5


def orders(size: int, most: int, generator: torch.Generator) -> Iterator[tuple[int, ...]]:
    """All orders of so many blocks but the present one; if there are more than `most`, so many random ones."""
    present = tuple(range(size))
    if math.factorial(size) <= most:
        yield from (order for order in itertools.permutations(range(size)) if order != present)
        return
    seen = {present}
    while len(seen) < most:
        order = tuple(torch.randperm(size, generator=generator, device=generator.device).tolist())
        if order not in seen:
            seen.add(order)
            yield order


def units_by_pair(models: Models, spec: Spec, group: Group) -> list[np.ndarray]:
    """For every pair of blocks of two models the order of the second's units that is nearest to the first's by weights.

    Returns:
        `[n, n, h]` a family: `[i, j]` is that of block j in place i.
    """
    one, other = (spec.join(some(models.weights, slice(k, k + 1)), leading=1) for k in range(2))
    costs = to_host(gains(one, other, spec, identity(spec, 1, models.device), group)[0].neg()).numpy()
    places, blocks = (index.flatten() for index in np.indices((group.size, group.size)))
    found = []
    for family in range(1, len(group.inner) + 1):
        problems = InnerProblems.cold(costs, group, family)
        problems.solve(places, blocks, torch.get_num_threads())
        found.append(problems.solved)
    return found


def in_order(
    second: Parameters, spec: Spec, group: Group, order: tuple[int, ...], units: list[np.ndarray]
) -> Parameters:
    """The second model with its blocks in an order, and the units inside them as these."""
    places = np.arange(group.size)
    inside = [torch.from_numpy(own[places, list(order)]) for own in units]
    elements = {name: element[0] for name, element in identity(spec).items()}
    elements[group.name] = joint(group, torch.tensor(order), inside)
    device = next(iter(second.values())).device
    return act(second, spec, {name: element.to(device) for name, element in elements.items()})


Barrier = Callable[[Parameters, Parameters], float]
"""The loss halfway between two models less the mean of their own."""


def among_all_orders(
    found: Models, trained: Models, spec: Spec, group: Group, barrier: Barrier, tried: Iterable[tuple[int, ...]]
) -> dict[str, float]:
    """Where two aligned models stand among other orders of the second one's blocks.

    Args:
        found: the two models as a method aligned them.
        trained: the same as they were trained.
        tried: other orders of the blocks, after alignment.

    Returns:
        `orders`, how many there are with the present one; `rank`, 1 plus the number of others with a lower barrier;
        `barrier_loss`; `naive_barrier_loss`, that of the models as they were trained; `remaining`, the ratio of the two
        (NaN where there was none); `least` and `median` of all orders.
    """
    own, naive = barrier(found[0], found[1]), barrier(trained[0], trained[1])
    units = units_by_pair(found, spec, group)
    others = [barrier(found[0], in_order(found[1], spec, group, order, units)) for order in tried]
    return {
        "orders": 1 + len(others),
        "rank": 1 + sum(other < own for other in others),
        "barrier_loss": own,
        "naive_barrier_loss": naive,
        "remaining": own / naive if naive > 0 else math.nan,
        "least": min([own, *others]),
        "median": float(np.median([own, *others])),
    }


def expert_order(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Measure `expert_order`: the table of that name, by method, for the first two models and every nested group.

    Beside what `among_all_orders` says there is `output_change`: how much the second model's outputs change by being
    aligned, in float64 and relative to the largest.

    Args:
        settings: the `split` and how many of its `images`; `orders`, how many to try at most.
    """
    split, recalibrate = run.split(settings), run.recalibration()

    def barrier(one: Parameters, other: Parameters) -> float:
        middle = recalibrate(lerp(one, other, MIDDLE), recalibrate.statistics([one, other]))
        losses = [measure(run.network, parameters, split)[0] for parameters in (middle, one, other)]
        return losses[0] - (losses[1] + losses[2]) / 2

    def measured(count: int) -> dict[str, pd.DataFrame]:
        found, trained = run.aligned(count).first(2), run.parents(count).first(2)
        change = _change(run.network, trained[1], found[1], split.inputs)
        rows = []
        for group in (group for group in run.spec.groups if group.inner):
            drawn = run.stream("expert order", run.method, run.trial, group.name)
            tried = orders(group.size, settings["orders"], drawn)
            told = among_all_orders(found, trained, run.spec, group, barrier, tried)
            rows.append({"split": settings["split"], "group": group.name, **told, "output_change": change})
        return {"expert_order": pd.DataFrame(rows)}

    return by_count(run, measured)


@torch.no_grad()
def _change(network: nn.Module, before: Parameters, after: Parameters, inputs: Inputs) -> float:
    """The largest change of an output in float64, relative to the largest output."""
    wide = map_inputs(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor, inputs)
    one, other = (
        forward(network, {name: t.double() if t.is_floating_point() else t for name, t in state.items()}, wide)
        for state in (before, after)
    )
    return float((one - other).abs().max() / one.abs().max())
