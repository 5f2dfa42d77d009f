"""Measure `perplexity`: how well merged models of tokens tell the next one, beside the floor where that is known."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from onebasin.measures.run import Run

COLUMNS = ["method", "count", "split", "accuracy", "parents_accuracy"]


def perplexity(run: Run, settings: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Table `perplexity`: exp of the loss, of merged models, their parents (exp of the mean loss) and their ensemble.

    `floor` is exp of the data's entropy rate: what a model that knows all would have in the long run. NaN where nobody
    knows it, as of a text that somebody wrote.
    """
    merged, rate = run.part("merged"), run.data.entropy_rate
    table = merged[COLUMNS].copy()
    for name in ("", "parents_", "ensemble_"):
        table[f"{name}perplexity"] = np.exp(merged[f"{name}loss"])
    return {"perplexity": table.assign(floor=math.nan if rate is None else math.exp(rate))}
