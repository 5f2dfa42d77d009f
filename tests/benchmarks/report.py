"""Turn pytest-benchmark's JSON into results/benchmarks/search.md and .csv and the plot scaling.png and .pdf.

    python tests/benchmarks/report.py search.json results/benchmarks

The floor under a step of STE-MM is what no bookkeeping can save: the floating-point operations of its cost products
over this machine's rate for matrix products, and its assignments' time.
"""

import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from onebasin.figures.style import log_ticks, new_figure, number, paper_settings, save
from onebasin.machine.matmul import add_product
from onebasin.storage.files import write_text

COLUMNS = ["title", "ratio", "ours", "textbook", "unit", "inputs", "against", "value", "device", "threads"]
GROWTH = {
    "N": "number of models $N$ (width 256)",
    "width": "width of the hidden layers in units ($N$ = 3)",
    "width, ordinary ViT": "width of a ViT, nested groups ($N$ = 3)",
    "width, canonical ViT": "width of a canonical ViT, orthogonal groups ($N$ = 3)",
}
LOOKS = {"ours": ("#7a0f3c", "o", "-"), "textbook": ("#808080", "s", "--")}


def main(source: str, folder: str) -> None:
    """Write the report of one run."""
    runs = json.loads(Path(source).read_text(encoding="utf-8"))
    facts = [benchmark["extra_info"] for benchmark in runs["benchmarks"]]
    threads = facts[0]["threads"]
    rows = pd.DataFrame([fact for fact in facts if "ours" in fact])
    rows = rows.reindex(
        columns=[*["title", "ratio", "ours", "textbook", "unit", "inputs", "against", "value", "device", "threads"]]
    )
    rows["title"] = rows["title"].fillna("growth with " + rows["against"].astype(str))
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    table = rows.drop(columns=["against", "value", "device"])
    write_text(out / "search.csv", table.to_csv(index=False))
    parts = next((fact for fact in facts if "parts" in fact), None)
    sections = [heading(threads), as_markdown(table.drop(columns="threads"))]
    if parts is not None:
        sections.append(time_of_a_step(parts, matrix_rate(threads)))
    write_text(out / "search.md", "\n\n".join(sections) + "\n")
    for device, growth in rows[rows["against"].notna()].groupby("device"):
        figure = scaling(growth, str(device))
        for suffix in ("png", "pdf"):
            save(figure, out / f"scaling{'' if device == 'cpu' else '-' + str(device)}.{suffix}")
    print((out / "search.md").read_text(encoding="utf-8"))


def heading(threads: int) -> str:
    """What was measured, and on what."""
    return (
        "# The searches against a textbook version\n\n"
        "`ratio` = textbook / ours, both measured in turns in one process on the same inputs (the best round counts); "
        f"the textbook is `tests/benchmarks/textbook.py`. torch {torch.__version__}, {threads} threads, "
        f"{processor()}."
    )


def processor() -> str:
    """The processor's name where the system tells it, else its architecture."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def as_markdown(table: pd.DataFrame) -> str:
    """The table with short numbers; what was not measured is left empty."""
    shown = table.copy()
    shown["ratio"] = [f"**{value:.1f}x**" if np.isfinite(value) else "" for value in table["ratio"]]
    for column in ("ours", "textbook"):
        shown[column] = [f"{value:.3g}" if np.isfinite(value) else "" for value in table[column]]
    return shown.to_markdown(index=False)


def matrix_rate(threads: int, size: int = 2048, rounds: int = 5) -> float:
    """Floating-point operations a second of a float32 matrix product; the best of some rounds."""
    torch.set_num_threads(threads)
    a, b = torch.randn(2, 1, size, size)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        add_product(None, a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def time_of_a_step(facts: dict[str, Any], rate: float) -> str:
    """The parts of a step of STE-MM, and the floor under it."""
    step, parts, products = facts["step"], facts["parts"], facts["flops"] / rate
    floor = products + parts["assignments"]
    lines = [f"## Where a step of STE-MM goes\n\n{facts['inputs']}: {1e3 * step:.1f} ms.\n", "| part | ms | share |"]
    lines.append("|:--|--:|--:|")
    lines += [f"| {part} | {1e3 * seconds:.2f} | {seconds / step:.0%} |" for part, seconds in parts.items()]
    lines.append(
        f"\nFloor: {facts['flops'] / 1e9:.2f} GFLOP of cost products at {rate / 1e9:.0f} GFLOP/s (float32, "
        f"{facts['threads']} threads) = {1e3 * products:.1f} ms, and {1e3 * parts['assignments']:.1f} ms of "
        f"assignments: {1e3 * floor:.1f} ms. A step takes **{step / floor:.2f} times** the floor."
    )
    return "\n".join(lines)


def scaling(growth: pd.DataFrame, device: str):
    """Seconds a step against the number of models and against the width, on logarithmic axes with fitted slopes."""
    with paper_settings():
        drawn = {against: label for against, label in GROWTH.items() if against in set(growth["against"])}
        rows = -(-len(drawn) // 2)
        figure, panels = new_figure(rows, 2, height=2.6 * rows)
        for axes, (against, label) in zip(panels, drawn.items(), strict=True):
            panel = growth[growth["against"] == against].sort_values("value")
            for version, (colour, marker, dashes) in LOOKS.items():
                line = panel[panel[version].notna()]
                x, y = line["value"].to_numpy(float), line[version].to_numpy(float)
                if not len(x):
                    continue
                name = f"{version}, slope {np.polyfit(np.log(x), np.log(y), 1)[0]:.2f}" if len(x) > 1 else version
                axes.plot(x, y, color=colour, marker=marker, linestyle=dashes, label=name)
            axes.set(xscale="log", yscale="log", xlabel=label, ylabel=f"STE-MM step in seconds ({device})")
            axes.set_xticks(panel["value"], [number(value) for value in panel["value"]])
            axes.set_xticks([], minor=True)
            log_ticks(axes.yaxis, *axes.get_ylim())
            axes.legend()
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


if __name__ == "__main__":
    main(*sys.argv[1:])
