"""Tables as they stand on a terminal."""

import pandas as pd
from tabulate import tabulate

from onebasin.symmetry.spec import Spec


def merged_table(measured: pd.DataFrame) -> str:
    """Loss and accuracy of merged model, parents and ensemble: a row each, two columns a split."""
    rows = []
    for label, prefix in (("merged model", ""), ("parents, mean", "parents_"), ("their ensemble", "ensemble_")):
        row = [label]
        for _, split in measured.iterrows():
            row += [f"{split[f'{prefix}loss']:.4f}", f"{100 * split[f'{prefix}accuracy']:.2f}"]
        rows.append(row)
    headers = [f"{split} {quantity}" for split in measured["split"] for quantity in ("loss (nats)", "accuracy (%)")]
    return _columns(rows, ["", *headers])


def barrier_table(barriers: pd.DataFrame) -> str:
    """The barriers of all pairs, by method and split: mean and largest."""
    rows = []
    for (method, split), part in barriers.groupby(["method", "split"], sort=False):
        losses, accuracies = part["barrier_loss"], 100 * part["barrier_accuracy"]
        rows.append(
            [method, split, len(part), *(f"{value:.4f}" for value in (losses.mean(), losses.max()))]
            + [f"{value:.2f}" for value in (accuracies.mean(), accuracies.max())]
        )
    headers = ["method", "split", "pairs", "loss barrier, mean (nats)", "largest"]
    return _columns(rows, [*headers, "accuracy barrier, mean (%)", "largest"])


def sharpness_table(measured: pd.DataFrame) -> str:
    """Estimates and their standard errors, a row each."""
    rows = [
        [row["model"], row["estimator"].replace("_", " "), f"{row['value']:.5g}", f"{row['standard_error']:.2g}"]
        for _, row in measured.iterrows()
    ]
    return _columns(rows, ["model", "estimator", "value", "standard error or residual"])


def groups_table(spec: Spec) -> str:
    """The permutation groups, and the tensor axes that each moves."""
    rows = [
        [group.name, group.size, ", ".join(f"{axis.tensor}[{axis.axis}]" for axis in group.axes)]
        for group in spec.groups
    ]
    return _columns(rows, ["group", "units", "moves tensor[axis]"])


def fixed_table(spec: Spec) -> str:
    """What stays, and why; axes of one tensor with the same reason in one row."""
    axes: dict[tuple[str, str], list[int]] = {}
    for fixed in spec.fixed:
        axes.setdefault((fixed.tensor, fixed.reason), []).append(fixed.axis)
    rows = [[f"{tensor}[{', '.join(map(str, found))}]", reason] for (tensor, reason), found in axes.items()]
    return _columns(rows, ["stays", "because"])


def _columns(rows: list[list], headers: list[str]) -> str:
    return tabulate(rows, headers, tablefmt="plain", disable_numparse=True)
