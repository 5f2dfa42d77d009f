"""`onebasin barrier`: the loss on the lines between models, before and after permuting."""

from pathlib import Path
from typing import Any

import click

from onebasin.command.options import (
    FILE,
    compute_options,
    data_option,
    model_files,
    network_options,
    normalization_options,
    output_option,
    search_options,
)
from onebasin.command.outputs import check_folder
from onebasin.command.searching import read_settings


@click.command(short_help="Loss and accuracy on the lines between models, before and after permuting.")
@model_files
@network_options
@data_option(required=True)
@click.option("--permutations", type=FILE, help="What `onebasin match` found; without it, the search is made now.")
@search_options
@normalization_options
@click.option("--points", type=click.IntRange(min=3), help="Points on a line; as in the workflow if not given.")
@compute_options
@output_option("Where interpolation.csv, pairwise.csv and interpolation.png go.", folder=True)
def command(
    files: tuple[Path, ...],
    permutations: Path | None,
    method: str,
    given: tuple[str, ...],
    seed: int,
    trial: int,
    normalization: str,
    normalization_images: int | None,
    points: int | None,
    output: Path,
    **opening: Any,
) -> None:
    """Measure loss and accuracy on the line between every two of the MODELS, as they are and permuted.

    The curves, the barriers of all pairs and a picture go into a folder. A barrier is the largest excess of the loss
    over the straight line between the two ends.

    \b
    onebasin barrier a.pt b.pt c.pt --network mlp:width=512 --data digits -o barriers/
    """
    check_folder(output)
    settings = read_settings(method, given, opening["data"], permutations)
    import pandas as pd

    from onebasin import api
    from onebasin.command.opening import open_models
    from onebasin.command.texts import barrier_table
    from onebasin.figures.interpolation import interpolation
    from onebasin.figures.style import save, without_nats
    from onebasin.storage.files import write_frame

    opened = open_models(files, **opening, at_least=2, measured=True)
    models, data = opened.models, opened.data
    assert data is not None  # the option is required
    kept = None if normalization == "none" else normalization
    found, method, trial = opened.find(permutations, method, settings, seed, trial)
    versions = {"naive": models, method: api.permute(models, opened.spec, found)}
    tables: dict[str, list[pd.DataFrame]] = {"interpolation": [], "pairwise": []}
    for name, version in versions.items():
        measured = api.barrier(version, data, points, kept, normalization_images)
        for table, part in zip(tables.values(), measured, strict=True):
            table.append(part.assign(method=name, count=len(files), trial=trial))
    frames = {name: pd.concat(parts) for name, parts in tables.items()}
    for name, frame in frames.items():
        write_frame(frame, output / f"{name}.csv")
    figure = interpolation(frames)
    save(figure if opened.unit else without_nats(figure), output / "interpolation.png")
    told = barrier_table(frames["pairwise"], opened.unit)
    click.echo(f"{output}: interpolation.csv, pairwise.csv, interpolation.png\n{told}")
