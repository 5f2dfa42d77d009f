"""`onebasin info`: what a file holds and says of itself."""

import json
from pathlib import Path

import click

from onebasin.command.options import FILE


@click.command(short_help="What a file holds and says of itself.")
@click.argument("file", type=FILE)
def command(file: Path) -> None:
    """Say what FILE holds: an artifact of onebasin, whose checksum is looked at, or a state dict.

    \b
    onebasin info results/digits_mlp/models/seed-0.safetensors
    """
    from onebasin.models.checkpoints import read_header
    from onebasin.parameters import is_finite
    from onebasin.storage import artifacts
    from onebasin.storage.state_dicts import read_state_dict

    header = read_header(file)
    if header is None:
        tensors = read_state_dict(file)
        click.echo(f"{file}: a state dict")
    else:
        artifact = artifacts.load(file, str(header.get("kind")))
        tensors = artifact.tensors
        versions = ", ".join(f"{name} {version}" for name, version in header.get("versions", {}).items())
        click.echo(f"{file}: {artifact.kind}, whole, written by {versions or 'onebasin'}")
        for name, fact in sorted(artifact.facts.items()):
            click.echo(f"  {name}: {json.dumps(fact, sort_keys=True)}")
    click.echo(f"{len(tensors)} tensors, {sum(tensor.numel() for tensor in tensors.values())} numbers")
    for name, tensor in tensors.items():
        kind = str(tensor.dtype).removeprefix("torch.")
        click.echo(f"  {name} {list(tensor.shape)} {kind}{'' if is_finite(tensor) else ', holds NaN or infinity'}")
