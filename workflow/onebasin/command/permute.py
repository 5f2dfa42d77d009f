"""`onebasin permute`: a permuted copy of a model, which computes the same function."""

from pathlib import Path
from typing import Any

import click

from onebasin.command.options import FILE, compute_options, network_options, output_option
from onebasin.command.outputs import check_output


@click.command(short_help="Write a permuted copy of a model, which computes the same.")
@click.argument("file", metavar="MODEL", type=FILE)
@network_options
@click.option("--permutations", type=FILE, help="What `onebasin match` found for this model and others.")
@click.option("--random", "seed", type=click.IntRange(min=0), help="Permute at random, from this seed.")
@compute_options
@output_option("Where the copy goes (.safetensors).")
def command(file: Path, permutations: Path | None, seed: int | None, output: Path, **opening: Any) -> None:
    """Write MODEL with its hidden units in another order: the one that was found for it, or a random one.

    \b
    onebasin permute b.pt --network mlp --input 1,8,8 --classes 10 --permutations perms.safetensors -o b2.safetensors
    onebasin permute a.pt --network torchvision.models:resnet18 --input 3,32,32 --random 7 -o copy.safetensors
    """
    check_output(output, [file, *([permutations] if permutations else [])], ".safetensors")
    if (permutations is None) == (seed is None):
        raise click.UsageError("give either --permutations or --random")
    from onebasin import api
    from onebasin.command.opening import open_models
    from onebasin.models.checkpoints import save_model
    from onebasin.seeding import generator
    from onebasin.symmetry.alignment import Alignment
    from onebasin.symmetry.apply import random_elements

    opened = open_models([file], **opening)
    how: dict[str, Any] = {"random": seed}
    if permutations:
        found, how = opened.own_permutation(permutations), {"permutations": str(permutations)}
    else:
        found = Alignment(random_elements(opened.spec, 1, generator("permute", seed or 0)))
    copy = api.permute(opened.models, opened.spec, found)
    recipe = {**opened.files[0].facts.get("recipe", {}), "permuted": how}
    save_model(output, copy, 0, api.count_classes(copy), recipe)
    click.echo(f"{output}: {file} with {sum(group.units for group in opened.spec.groups)} units in another order")
