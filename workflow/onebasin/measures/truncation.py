"""The intervention: is it enough to align the dominant singular directions?

Two models are matched by weight matching that sees nothing of them but the singular directions of their layers whose
singular values are at least gamma times the layer's largest; biases and norms are hidden from it. The barrier is
measured with the full weights. If matching works because it aligns these directions (Ito et al., ICLR 2025), the
barrier stays low while gamma rises. The paper does not make this experiment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from onebasin.data import Data
from onebasin.matching.weight import weight_matching
from onebasin.measures.pairwise import interpolation_curves, pairwise_barriers
from onebasin.measures.run import Run
from onebasin.measures.singular import Decomposition, decompositions
from onebasin.merging.average import aligned_models
from onebasin.merging.recalibration import Recalibration
from onebasin.models.stack import Models
from onebasin.parameters import stacked
from onebasin.progress import track
from onebasin.seeding import generator
from onebasin.symmetry.spec import Spec


def truncation_barriers(
    models: Models,
    spec: Spec,
    data: Data,
    gammas: Sequence[float],
    settings: Mapping[str, Any],
    points: int,
    recalibrate: Recalibration,
    *key: int | str,
) -> pd.DataFrame:
    """Barriers between the first model and each other one, matched by their dominant singular directions.

    Args:
        gammas: where the layers are cut off; 0 keeps them whole.
        settings: those of `weight_matching`.
        points: of the line between two models, the ends included.
        key: names the random streams; a pair has the same at every gamma.

    Returns:
        `gamma, kept_share, split, model_a, model_b, barrier_loss, barrier_accuracy`; `kept_share` is the part of all
        singular directions that the search saw.
    """
    parts = decompositions(models)
    cases = [(other, gamma) for other in range(1, len(models)) for gamma in gammas]
    tables = []
    for other, gamma in track(cases, "matching truncated layers", len(cases)):
        both, cut = models.some([0, other]), [parts[0], parts[other]]
        draws = generator(*key, other, device=data.train.targets.device)
        found = weight_matching(truncated(both, cut, gamma), spec, None, settings, draws)
        curves = interpolation_curves(aligned_models(both, spec, found), data, points, recalibrate)
        tables.append(pairwise_barriers(curves).assign(gamma=gamma, kept_share=kept_share(cut, gamma)))
    return pd.concat(tables, ignore_index=True)


def truncated(models: Models, decompositions: Sequence[Mapping[str, Decomposition]], gamma: float) -> Models:
    """The models with their layers cut off at `gamma`, and zeros for all else."""
    stack = stacked([{name: p.truncated(p.kept(gamma)) for name, p in own.items()} for own in decompositions])
    return replace(
        models, parameters={name: stack.get(name, torch.zeros_like(t)) for name, t in models.parameters.items()}
    )


def kept_share(decompositions: Sequence[Mapping[str, Decomposition]], gamma: float) -> float:
    """The part of all singular directions of the models' layers that `gamma` keeps."""
    parts = [part for own in decompositions for part in own.values()]
    return sum(part.kept(gamma) for part in parts) / sum(len(part.singular_values) for part in parts)


def measure_truncation(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Measure `truncation`: the table of that name, for the first model of a trial with each of the others.

    Args:
        settings: the cutoffs `truncation`, and `points` of a line between two models.
    """
    _, matching = run.searched["weight_matching"]
    search = (settings["truncation"], matching)
    key = (run.root, "truncation", run.trial)
    table = truncation_barriers(run.models, run.spec, run.data, *search, settings["points"], run.recalibration(), *key)
    return {"truncation": table.assign(method="weight_matching", count=2)}
