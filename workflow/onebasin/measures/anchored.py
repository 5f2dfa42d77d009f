"""The three-model test: two models matched to a third, and the barrier between the two (Ito et al., ICLR 2025).

A search that aligns models makes all of them fit each other; one that only finds a low path to the anchor does not. The
anchor is the first model; of N models, every two of the others are tested.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch

from onebasin.data import Data
from onebasin.matching.latents import with_reference
from onebasin.matching.search import Search
from onebasin.measures.pairwise import interpolation_curves, pairwise_barriers
from onebasin.measures.run import Run
from onebasin.merging.average import aligned_models
from onebasin.merging.recalibration import Recalibration
from onebasin.models.stack import Models
from onebasin.parameters import one
from onebasin.registry import resolve
from onebasin.seeding import generator
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import Elements, to_first
from onebasin.symmetry.spec import Spec


def match_to_anchor(
    search: Search, models: Models, spec: Spec, data: Data, settings: Mapping[str, Any], *key: int | str
) -> Alignment:
    """The permutations of all models when each but the first is matched to the first alone, which keeps its order.

    Args:
        search: a method for two models; a pair that it puts into an order of its own is brought into the first one's.
        key: names the random streams, one a pair.
    """
    device = data.train.targets.device
    found = [
        in_order_of_first(
            spec, search(models.some([0, model]), spec, data, settings, generator(*key, model, device=device))
        )
        for model in range(1, len(models))
    ]
    return Alignment(with_reference(spec, {name: torch.stack([own[name] for own in found]) for name in found[0]}))


def anchored_barriers(
    models: Models, spec: Spec, permutations: Alignment, data: Data, points: int, recalibrate: Recalibration
) -> pd.DataFrame:
    """Barriers between the permuted models but the first: `split, model_a, model_b, barrier_loss, barrier_accuracy`."""
    others = aligned_models(models, spec, permutations).some(slice(1, None))
    return pairwise_barriers(interpolation_curves(others, data, points, recalibrate))


def in_order_of_first(spec: Spec, alignment: Alignment) -> Elements:
    """The elements of the second of two models that fit the first as it is."""
    return one(to_first(spec, alignment.elements), 1)


def without_anchor(barriers: pd.DataFrame, anchor: int | str) -> pd.DataFrame:
    """Of the barriers of all pairs, those between models other than the anchor."""
    ends = barriers[["model_a", "model_b"]].astype(str)
    return barriers[(ends != str(anchor)).all(axis=1)]


def of_counts(barriers: pd.DataFrame, models: Models, counts: Sequence[int]) -> pd.DataFrame:
    """The barriers again for every count: those between its first models. No search here depends on the count."""
    tables = []
    for count in counts:
        seeds = set(models.seeds[:count])
        inside = barriers["model_a"].isin(seeds) & barriers["model_b"].isin(seeds)
        tables.append(barriers[inside].assign(count=count))
    return pd.concat(tables, ignore_index=True)


def three_models(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Measure `three_models`: the table of that name, for every method and count.

    Those of methods that leave the first model as it is are measured already, with all pairs.

    Args:
        settings: `points` of a line between two models.
    """
    known = run.part("pairwise")
    tables = [without_anchor(known[~known["method"].isin(run.searched)], run.models.seeds[0])]
    for method, (function, own) in run.searched.items():
        key = (run.root, "three_models", method, run.trial)
        found = match_to_anchor(resolve("method", function), run.models, run.spec, run.data, own, *key)
        barriers = anchored_barriers(run.models, run.spec, found, run.data, settings["points"], run.recalibration())
        tables.append(of_counts(barriers, run.models, run.counts).assign(method=method))
    return {"three_models": pd.concat(tables)}
