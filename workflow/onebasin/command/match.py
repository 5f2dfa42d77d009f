"""`onebasin match`: the permutations that bring models together."""

from pathlib import Path
from typing import Any

import click

from onebasin.command.options import (
    compute_options,
    data_option,
    model_files,
    network_options,
    output_option,
    search_options,
    skip_option,
)
from onebasin.command.outputs import check_output
from onebasin.command.searching import read_settings


@click.command(short_help="Search the permutations that bring models together.")
@model_files
@network_options
@skip_option
@data_option(required=False)
@search_options
@compute_options
@output_option("Where the permutations go (.safetensors).")
def command(
    files: tuple[Path, ...], method: str, given: tuple[str, ...], seed: int, trial: int, output: Path, **opening: Any
) -> None:
    """Search permutations of the hidden units of two or more MODELS, artifacts or state dicts of one network.

    \b
    onebasin match a.pt b.pt c.pt --network mlp:width=512 --input 1,8,8 -o perms.safetensors
    onebasin match results/digits_mlp/models/seed-{0,1}.safetensors --method ste_mm --set epochs=10 \\
        --data digits -o perms.safetensors
    """
    check_output(output, files, ".safetensors")
    settings = read_settings(method, given, opening["data"], None)
    from onebasin import api
    from onebasin.command.opening import open_models
    from onebasin.matching.search import save_found

    opened = open_models(files, **opening, at_least=2, judged=False)
    found = api.match(opened.models, opened.spec, method, opened.data, seed, trial, **settings)
    save_found(output, found, opened.models, method, settings, trial, **opened.identities)
    click.echo(f"{output}: permutations of {len(files)} models by {method}")
