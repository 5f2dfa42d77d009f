"""`onebasin sharpness`: traces and the top eigenvalue of the Hessian at models."""

from pathlib import Path
from typing import Any

import click

from onebasin.command.options import compute_options, data_option, model_files, network_options, output_option
from onebasin.command.outputs import check_output


@click.command(short_help="Traces and the top eigenvalue of the Hessian at models.")
@model_files
@network_options
@data_option(required=True)
@click.option("--split", type=click.Choice(["train", "test"]), help="Whose loss; as in the workflow if not given.")
@click.option("--images", type=click.IntRange(min=1), help="How many images of it; all if not given.")
@click.option("--probes", type=click.IntRange(min=2), help="Random vectors; as in the workflow if not given.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Root of the random draws.")
@compute_options
@output_option("Where the table goes (.csv).", required=False)
def command(
    files: tuple[Path, ...],
    split: str | None,
    images: int | None,
    probes: int | None,
    seed: int,
    output: Path | None,
    **opening: Any,
) -> None:
    """Say how sharp the loss is at each of the MODELS: the trace of the Hessian, its scale-invariant form, and the
    eigenvalue largest in magnitude (with its residual). Traces are exact for networks that are piecewise linear in
    every parameter, estimated for others; all models meet the same random vectors.

    \b
    onebasin sharpness merged.safetensors a.pt --network mlp:width=512 --data digits
    """
    if output:
        check_output(output, files, ".csv")
    import pandas as pd

    from onebasin.command.opening import open_models
    from onebasin.command.texts import sharpness_table
    from onebasin.config.settings import stage_settings
    from onebasin.measures.sharpness.measure import Sharpness
    from onebasin.progress import track
    from onebasin.storage.files import write_frame

    settings = stage_settings("sharpness", split=split, images=images, probes=probes)
    opened = open_models(files, **opening, measured=True)
    assert opened.data is not None  # the option is required
    where = opened.data.split(settings["split"]).first(settings["images"])
    models = opened.models
    sharpness = Sharpness(models.network, where, settings["probes"])
    parts = []
    for number in track(range(len(files)), "sharpness, models", len(files)):
        traces, eigenvalue, _ = sharpness.at(models[number], seed, "sharpness")
        top = eigenvalue.rename(columns={"residual": "standard_error"}).assign(estimator="top_eigenvalue")
        parts.append(pd.concat([traces, top]).assign(model=str(files[number]), split=settings["split"]))
    measured = pd.concat(parts)
    if output:
        write_frame(measured, output)
    click.echo(sharpness_table(measured))
