"""Alignment R: do two models' singular vectors point the same way (Ito et al., ICLR 2025)?

    R(a, b) = sum_l sum_ij (u_i^a . u_j^b) (v_i^a . v_j^b) / sum_l n_l

over the layers l of two models (b permuted), and the singular vectors i, j whose singular values are at least gamma
times the layer's largest. 1 is perfectly aligned, about 0 not at all. Where the models keep different numbers of
vectors, n_l is their geometric mean; the paper does not say.

The double sum for the k_a and k_b first vectors is an entry of the cumulative sum, along both axes, of the elementwise
product of U_a'U_b and V_a'V_b. So two products a layer serve every gamma.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from operator import truediv

import pandas as pd
from torch import Tensor

from onebasin.measures.singular import Decomposition, decompose, layer_of
from onebasin.models.stack import Models
from onebasin.parameters import Parameters
from onebasin.progress import track
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.spec import Spec

Decompositions = Mapping[str, Decomposition]

COLUMNS = ["layer", "gamma", "alignment", "kept"]


def alignment(a: Decompositions, b: Decompositions, gammas: Sequence[float]) -> pd.DataFrame:
    """R between two models, for every layer and in total.

    Returns:
        `layer, gamma, alignment, kept`; the layer is `total` for all of them, and `kept` is the normaliser n.
    """
    rows: list[tuple[str, float, float, float]] = []
    sums, totals = [0.0] * len(gammas), [0.0] * len(gammas)
    for name in a:
        cutoffs = [(a[name].kept(gamma), b[name].kept(gamma)) for gamma in gammas]
        for number, (gamma, term, cutoff) in enumerate(
            zip(gammas, layer_terms(a[name], b[name], cutoffs), cutoffs, strict=True)
        ):
            kept = math.sqrt(math.prod(cutoff))
            rows.append((layer_of(name), gamma, term / kept, kept))
            sums[number] += term
            totals[number] += kept
    rows += [("total", *values) for values in zip(gammas, map(truediv, sums, totals), totals, strict=True)]
    return pd.DataFrame(rows, columns=COLUMNS)


def layer_terms(a: Decomposition, b: Decomposition, cutoffs: Sequence[tuple[int, int]]) -> list[float]:
    """The double sum of a layer over the `k_a` first vectors of a and the `k_b` first of b, for each such pair."""
    products = (_cosines(a.left, b.left) * _cosines(a.right, b.right)).double()
    sums = products.cpu().cumsum(0).cumsum(1)  # a GPU has no deterministic cumulative sum
    return [float(sums[kept_a - 1, kept_b - 1]) for kept_a, kept_b in cutoffs]


def alignments(
    models: Models,
    decompositions: Sequence[Decompositions],
    spec: Spec,
    permutations: Alignment,
    merged: Parameters,
    gammas: Sequence[float],
) -> pd.DataFrame:
    """R of every two models before and after matching, and of the merged model with each of its permuted parents.

    Args:
        models: before permutation.
        decompositions: theirs.
        merged: the average of the permuted models.

    Returns:
        `model_a, model_b, layer, gamma, alignment_before, alignment, kept`, `model_b` being `merged` for the merged
        model, which has no alignment before.
    """
    permutations = permutations.to(models.device)
    permuted = [
        {name: part.permuted(name, spec, permutations.of(model)) for name, part in own.items()}
        for model, own in enumerate(decompositions)
    ]
    of_merged = decompose({name: merged[name] for name in models.weights})
    parts = []
    pairs = list(itertools.combinations(range(len(models)), 2))
    for a, b in track(pairs, f"alignment of pairs of {len(models)} models", len(pairs)):
        found = alignment(permuted[a], permuted[b], gammas)
        before = alignment(decompositions[a], decompositions[b], gammas)["alignment"]
        parts.append(found.assign(model_a=models.seeds[a], model_b=models.seeds[b], alignment_before=before))
    for seed, own in zip(models.seeds, permuted, strict=True):
        found = alignment(own, of_merged, gammas)
        parts.append(found.assign(model_a=seed, model_b="merged", alignment_before=math.nan))
    return pd.concat(parts, ignore_index=True)


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    """The inner products `[r_a, r_b]` of the vectors of two bases `[..., r]`."""
    return a.flatten(0, -2).T @ b.flatten(0, -2)
