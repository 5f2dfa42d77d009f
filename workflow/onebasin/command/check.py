"""`onebasin check`: the proof by trial that permuting leaves a network's function as it is."""

import click

from onebasin.command.options import Shape, tokens_option


@click.command(short_help="Prove that permuting leaves a network's function as it is.")
@click.argument("network", metavar="NETWORK")
@click.option("--input", "input_shape", type=Shape(), required=True, help="Shape of one input.")
@tokens_option
@click.option("--classes", default=10, show_default=True, type=click.IntRange(min=1), help="Number of logits.")
def command(network: str, input_shape: tuple[int, ...], tokens: bool, classes: int) -> None:
    """Permute all groups of NETWORK at random, and say how far its outputs move, in float64.

    Rounding moves them by about 1e-15 of their size; above 1e-9 the check fails, with the group and the tensors (1e-5
    where NETWORK casts to float32 on its way).

    \b
    onebasin check torchvision.models:resnet18 --input 3,32,32
    """
    import torch

    from onebasin import api
    from onebasin.networks.named import make_network

    module = make_network(network, input_shape, classes)
    kind = torch.int64 if tokens else torch.float32
    spec = api.trace(module, input_shape, kind)
    change = api.check(module, spec, input_shape, kind)
    units = sum(group.size for group in spec.groups)
    click.echo(f"function preserved: {len(spec.groups)} groups, {units} units, permuted at random")
    click.echo(f"largest change of an output, relative, in float64: {change:.1e}")
