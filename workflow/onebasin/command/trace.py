"""`onebasin trace`: what may be permuted in a network, what not, and why."""

from pathlib import Path

import click

from onebasin.command.options import Shape, output_option, tokens_option
from onebasin.command.outputs import check_output


@click.command(short_help="What may be permuted in a network, what not, and why.")
@click.argument("network", metavar="NETWORK")
@click.option("--input", "input_shape", type=Shape(), required=True, help="Shape of one input.")
@tokens_option
@click.option("--classes", default=10, show_default=True, type=click.IntRange(min=1), help="Number of logits.")
@output_option("Write the symmetries as JSON, too.", required=False)
def command(network: str, input_shape: tuple[int, ...], tokens: bool, classes: int, output: Path | None) -> None:
    """Follow the graph of NETWORK and list its permutation groups, and the axes that stay.

    \b
    onebasin trace mlp:width=64 --input 1,8,8
    onebasin trace torchvision.models:resnet18 --input 3,32,32
    """
    if output:
        check_output(output, [], ".json")
    import torch

    from onebasin import api
    from onebasin.command.texts import fixed_table, groups_table
    from onebasin.networks.named import make_network
    from onebasin.symmetry.spec import save_spec

    kind = torch.int64 if tokens else torch.float32
    spec = api.trace(make_network(network, input_shape, classes), input_shape, kind)
    click.echo(groups_table(spec) if spec.groups else "Nothing may be permuted.")
    if spec.fixed:
        click.echo(f"\n{fixed_table(spec)}")
    if output:
        save_spec(output, spec, network=network)
