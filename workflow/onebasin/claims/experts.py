"""Effects of the claims about mixtures of experts (arXiv 2509.11348, NeurIPS 2025)."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from onebasin.claims.effects import Condition, Effect, Tables, by_trial, of_every_method, where


def _order(column: str, of: Callable[[pd.DataFrame], pd.Series], what: str) -> Effect:
    """An effect of the table `expert_order`."""

    def measure(tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
        rows = where(tables["expert_order"], method=method, count=count, split=condition.options["split"])
        return by_trial(rows.assign(**{column: of(rows)}), column)

    return Effect(("expert_order",), ("split",), measure, of_every_method("expert_order", what, measure))


OUTPUT_CHANGE = _order("output_change", lambda rows: rows["output_change"], "largest change of an output")
REMAINING_BARRIER = _order("remaining", lambda rows: rows["remaining"], "share of the barrier that is left")
# 0 for the best of all orders, 1 for the worst
ORDER_RANK = _order("place", lambda rows: (rows["rank"] - 1) / (rows["orders"] - 1), "place among all orders")
ORDER_SPREAD = _order(
    "spread", lambda rows: rows["median"] / rows["least"].where(rows["least"] > 0, np.nan), "median over least barrier"
)
