"""What the warm start of the assignments saves, and whether it changes anything (Ito et al. 2025, accelerated WM).

The same search runs twice from the same random stream, with the dual variables kept from solve to solve and without.
Work is counted in rows of cost matrices that the solver scans, which no machine's speed enters.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch

from onebasin.data import Data
from onebasin.matching.ste_mm import ste_mm
from onebasin.measures.run import Run
from onebasin.merging.average import aligned_models
from onebasin.models.stack import Models
from onebasin.parameters import mean, squared_distance
from onebasin.seeding import generator
from onebasin.symmetry.spec import Spec


def compare_warm_start(
    models: Models, spec: Spec, data: Data, settings: Mapping[str, Any], *key: int | str
) -> pd.DataFrame:
    """Run STE-MM with and without warm start.

    Args:
        settings: those of `ste_mm`; its `warm_start` does not matter.
        key: names the random stream of both runs.

    Returns:
        A row each: `warm_start, steps, assignments, row_scans, objective, identical`. The objective is the mean squared
        L2 distance of the permuted models to their mean; `identical`: the permutations are those with warm start.
    """
    device = data.train.targets.device
    found = {
        warm: ste_mm(models, spec, data, {**settings, "warm_start": warm}, generator(*key, device=device))
        for warm in (True, False)
    }
    rows = []
    for warm, permutations in found.items():
        permuted = aligned_models(models, spec, permutations).parameters
        objective = squared_distance(permuted, mean(permuted)) / len(models)
        same = all(torch.equal(index, found[True].elements[name]) for name, index in permutations.elements.items())
        rows.append({"warm_start": warm, **permutations.work, "objective": objective, "identical": same})
    return pd.DataFrame(rows)


def measure_acceleration(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Measure `acceleration`: the table of that name, for all models of a trial.

    Args:
        settings: `epochs` of either search; the others are those of the experiment's `ste_mm`.
    """
    _, own = run.searched["ste_mm"]
    search = {**own, **settings}
    key = (run.root, "acceleration", run.trial)
    table = compare_warm_start(run.models, run.spec, run.data, search, *key)
    return {"acceleration": table.assign(method="ste_mm", count=len(run.models))}
