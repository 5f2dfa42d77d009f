"""The verdicts for people: a Markdown table, and paragraphs for the head of a report."""

import math
from pathlib import Path

import pandas as pd

from onebasin.claims.verdicts import CONTRADICTED, INCONCLUSIVE, REPRODUCED, Interval, show
from onebasin.storage.files import write_text


def write_rst(claims: pd.DataFrame, path: str | Path) -> None:
    """Write the verdicts of `evaluate` as reStructuredText for the head of a report: one paragraph a claim."""
    parts = []
    for row in claims.to_dict("records"):
        known = not math.isnan(row["effect"])
        rule = row["detail"].partition(";")[0]  # which effect, on which side of what; or what is missing
        interval = f" {show(Interval(row['effect'], row['low'], row['high']))}," if known else ""
        head = f"**{row['claim']} of {row['paper']}, {row['experiment']}: {row['verdict']}**"
        parts.append(f"{head}\n    {row['statement']}. *Effect*{interval} {rule}.\n")
    write_text(path, "\n".join(parts))


def write_markdown(claims: pd.DataFrame, path: str | Path) -> None:
    """Write the verdicts of `evaluate` for people: how many there are of each, then one row a claim and experiment.

    Raises:
        OnebasinError: the file cannot be written.
    """
    counts = claims["verdict"].value_counts()
    totals = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in (REPRODUCED, CONTRADICTED, INCONCLUSIVE))
    numbers = zip(claims["effect"], claims["low"], claims["high"], strict=True)
    shown = claims[["verdict", "paper", "claim", "experiment"]].copy()
    shown["effect [interval]"] = ["" if math.isnan(ends[0]) else show(Interval(*ends)) for ends in numbers]
    shown[["statement", "detail"]] = claims[["statement", "detail"]]
    shown = shown.astype(str).replace(r"\|", r"\\|", regex=True)
    write_text(path, f"# Claims\n\n{totals}.\n\n{shown.to_markdown(index=False, disable_numparse=True)}\n")
