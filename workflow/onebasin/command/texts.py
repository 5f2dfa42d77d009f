"""Tables as they stand on a terminal."""

from collections import Counter

import pandas as pd
from tabulate import tabulate

from onebasin.symmetry.spec import Spec

FEW = 20  # rows of a short list


def merged_table(measured: pd.DataFrame, unit: str) -> str:
    """Loss and accuracy of merged model, parents and ensemble: a row each, two columns a split; what is NaN left out.

    Args:
        unit: of the losses, in brackets and after a space; nothing where nobody knows it.
    """
    headers, rows = [""], []
    for label, prefix in (("merged model", ""), ("parents, mean", "parents_"), ("their ensemble", "ensemble_")):
        losses, accuracies = measured[f"{prefix}loss"], 100 * measured[f"{prefix}accuracy"]
        if losses.notna().any():
            rows.append([label])
            for loss, accuracy in zip(losses, accuracies, strict=True):
                rows[-1] += [f"{loss:.4f}", *([f"{accuracy:.2f}"] if accuracy == accuracy else [])]
    for split, accuracy in zip(measured["split"], measured["accuracy"], strict=True):
        headers += [f"{split} loss{unit}", *([f"{split} accuracy (%)"] if accuracy == accuracy else [])]
    return _columns(rows, headers)


def barrier_table(barriers: pd.DataFrame, unit: str) -> str:
    """The barriers of all pairs, by method and split: mean and largest; the unit as of `merged_table`."""
    headers, rows = ["method", "split", "pairs", f"loss barrier, mean{unit}", "largest"], []
    told = barriers["barrier_accuracy"].notna().all()
    for (method, split), part in barriers.groupby(["method", "split"], sort=False):
        losses, accuracies = part["barrier_loss"], 100 * part["barrier_accuracy"]
        row = [method, split, len(part), *(f"{value:.4f}" for value in (losses.mean(), losses.max()))]
        rows.append(row + ([f"{value:.2f}" for value in (accuracies.mean(), accuracies.max())] if told else []))
    return _columns(rows, headers + (["accuracy barrier, mean (%)", "largest"] if told else []))


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
        [group.name, group.shape, group.kind, ", ".join(f"{axis.tensor}[{axis.axis}]" for axis in group.axes)]
        for group in spec.groups
    ]
    return _columns(rows, ["group", "units", "kind", "moves tensor[axis]"])


def short_groups_table(spec: Spec) -> str:
    """The permutation groups, the first `FEW` of them, and how many axes each moves."""
    rows = [[group.name, group.shape, group.kind, len(group.axes)] for group in spec.groups[:FEW]]
    table = _columns(rows, ["group", "units", "kind", "axes moved"])
    more = len(spec.groups) - FEW
    return table + (f"\n... and {more} groups more; --verbose lists all, and the tensors" if more > 0 else "")


def reasons_table(spec: Spec) -> str:
    """Why axes stay, and how many for each reason; the commonest first."""
    counts = Counter(fixed.reason for fixed in spec.fixed).most_common()
    table = _columns([[str(count), reason] for reason, count in counts[:FEW]], ["axes that stay", "because"])
    more = len(counts) - FEW
    return table + (f"\n... and {more} reasons more; --verbose lists all" if more > 0 else "")


def fixed_table(spec: Spec) -> str:
    """What stays, and why; axes of one tensor with the same reason in one row."""
    axes: dict[tuple[str, str], list[int]] = {}
    for fixed in spec.fixed:
        axes.setdefault((fixed.tensor, fixed.reason), []).append(fixed.axis)
    rows = [[f"{tensor}[{', '.join(map(str, found))}]", reason] for (tensor, reason), found in axes.items()]
    return _columns(rows, ["stays", "because"])


def _columns(rows: list[list], headers: list[str]) -> str:
    return tabulate(rows, headers, tablefmt="plain", disable_numparse=True)
