"""How much closer matching brings two models: their L2 distance before and after (Ito et al., ICLR 2025).

Only what is trained counts; running statistics are measurements of it.
"""

import itertools
import math

import pandas as pd

from onebasin.models.stack import Models
from onebasin.parameters import distance, one


def distances(models: Models, permuted: Models) -> pd.DataFrame:
    """The distance of every two models before and after permutation.

    Returns:
        `model_a, model_b, distance_before, distance, reduction`; the reduction is the part of the distance before that
        is gone, NaN between equal models.
    """
    rows = []
    for a, b in itertools.combinations(range(len(models)), 2):
        before, after = (distance(one(stack.weights, a), one(stack.weights, b)) for stack in (models, permuted))
        reduction = (before - after) / before if before else math.nan
        rows.append((models.seeds[a], models.seeds[b], before, after, reduction))
    return pd.DataFrame(rows, columns=["model_a", "model_b", "distance_before", "distance", "reduction"])
