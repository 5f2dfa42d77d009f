"""`onebasin merge`: the average of permuted models, and how good it is."""

from pathlib import Path
from typing import Any

import click

from onebasin.command.options import (
    FILE,
    UNJUDGED,
    compute_options,
    data_option,
    model_files,
    network_options,
    normalization_options,
    output_option,
    search_options,
    skip_option,
)
from onebasin.command.outputs import check_output
from onebasin.command.searching import read_settings


@click.command(short_help="Average permuted models, and say how good the average is.")
@model_files
@network_options
@skip_option
@data_option(required=False)
@click.option("--permutations", type=FILE, help="What `onebasin match` found; without it, the search is made now.")
@search_options
@normalization_options
@compute_options
@output_option("Where the merged model goes (.safetensors).")
def command(
    files: tuple[Path, ...],
    permutations: Path | None,
    method: str,
    given: tuple[str, ...],
    seed: int,
    trial: int,
    normalization: str,
    normalization_images: int | None,
    output: Path,
    **opening: Any,
) -> None:
    """Average two or more MODELS after permuting each, and write the merged model.

    With --data, say loss and accuracy of the merged model, of its parents and of their ensemble, and measure BatchNorm
    statistics anew. The merged model is a state dict for `safetensors.torch.load_file`.

    \b
    onebasin merge a.pt b.pt c.pt --network mlp:width=512 --data digits -o merged.safetensors
    onebasin merge a.pt b.pt --network resnet20 --permutations perms.safetensors --data cifar10 -o merged.safetensors
    """
    check_output(output, [*files, *([permutations] if permutations else [])], ".safetensors")
    settings = read_settings(method, given, opening["data"], permutations)
    from onebasin import api
    from onebasin.command.opening import open_models
    from onebasin.command.texts import merged_table
    from onebasin.merging.average import save_merged

    opened = open_models(files, **opening, at_least=2)
    models, data = opened.models, opened.data
    kept = None if normalization == "none" else normalization
    api.recalibration_of(models, data, kept, normalization_images)  # refuses before the search, not after it
    found, method, trial = opened.find(permutations, method, settings, seed, trial)
    merged = api.merge(models, opened.spec, found, data, kept, normalization_images)
    if models.skipped:
        table = f"not evaluated, as {', '.join(models.skipped)} are those of {files[0]}"
    elif data and data.objective == UNJUDGED:
        table = "not evaluated, as there is no objective"
    elif data:
        table = merged_table(api.evaluate(models, merged, data), opened.unit)
    else:
        table = "give --data to see how good it is"
    save_merged(output, merged, models, method, trial, **opened.identities)
    click.echo(f"{output}: the average of {len(files)} models, permuted by {method}\n{table}")
