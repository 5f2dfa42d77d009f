"""The order of experts that a method found among all orders (arXiv 2509.11348, NeurIPS 2025).

Two mixtures of n experts may be merged in n! orders of the second one's experts, in each of which the hidden units of
every pair of experts are given to each other as their weights say. If the order that a method finds is what brings the
two into one basin, its barrier is among the lowest of all, and little is left of that of the models as they are.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from onebasin.data import Split
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
    for family, units in enumerate(group.inner, start=1):
        shape, span = (group.size, group.size, units), group.span(family)
        problems = InnerProblems(costs[span, span], np.zeros(shape), np.full(shape, -1))
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


def expert_order(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Measure `expert_order`: the table of that name, by method, for the first two models and every nested group.

    `rank` is 1 plus the number of other orders with a lower barrier (the loss halfway between the two models less the
    mean of their own, on the `split`), out of `orders`; `remaining` is the barrier's share of the one between the
    models as they were trained. `least` and `median` are over all orders. `output_change` is how much the second
    model's outputs change by being aligned, in float64 and relative to the largest.

    Args:
        settings: the `split` and how many of its `images`; `orders`, how many to try at most.
    """
    split = run.split(settings)
    groups = [group for group in run.spec.groups if group.inner]

    def measured(count: int) -> dict[str, pd.DataFrame]:
        found, trained = run.aligned(count).first(2), run.parents(count).first(2)
        own = _barrier(run, found[0], found[1], split)
        naive = _barrier(run, trained[0], trained[1], split)
        change = _change(run.network, trained[1], found[1], split.inputs)
        rows = []
        for group in groups:
            units = units_by_pair(found, run.spec, group)
            drawn = run.stream("expert order", run.method, run.trial, group.name)
            others = [
                _barrier(run, found[0], in_order(found[1], run.spec, group, order, units), split)
                for order in orders(group.size, settings["orders"], drawn)
            ]
            everyone = [own, *others]
            rank = 1 + sum(other < own for other in others)
            values = (len(everyone), rank, own, naive, own / naive, min(everyone), float(np.median(everyone)), change)
            rows.append((group.name, *values))
        columns = ["group", "orders", "rank", "barrier_loss", "naive_barrier_loss", "remaining", "least", "median"]
        columns.append("output_change")
        return {"expert_order": pd.DataFrame(rows, columns=columns).assign(split=settings["split"])}

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


def _barrier(run: Run, one: Parameters, other: Parameters, split: Split) -> float:
    """The loss halfway between two models less the mean of their own."""
    recalibrate = run.recalibration()
    middle = recalibrate(lerp(one, other, MIDDLE), recalibrate.statistics([one, other]))
    losses = [measure(run.network, parameters, split)[0] for parameters in (middle, one, other)]
    return losses[0] - (losses[1] + losses[2]) / 2
