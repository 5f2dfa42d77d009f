"""`onebasin check`: the proof by trial that permuting leaves a network's function as it is."""

from typing import Any

import click

from onebasin.command.options import canonical_option, input_option, verbose_option


@click.command(short_help="Prove that permuting leaves a network's function as it is.")
@click.argument("network", metavar="NETWORK")
@input_option("Shape of one input", required=True)
@click.option("--classes", default=10, show_default=True, type=click.IntRange(min=1), help="Number of logits.")
@canonical_option
@verbose_option
def command(network: str, inputs: tuple[Any, ...], classes: int, canonical: bool, verbose: bool) -> None:
    """Permute all groups of NETWORK at random, and say how far its outputs move, in float64.

    Rounding moves them by about 1e-15 of their size; above 1e-9 the check fails, with the group and the tensors (1e-5
    where NETWORK casts to float32 on its way).

    \b
    onebasin check torchvision.models:resnet18 --input 3,32,32
    onebasin check my_models:bert --input input_ids=int64:16 --input attention_mask=bool:16
    """
    from onebasin.command.texts import groups_table
    from onebasin.command.tracing import Traced

    traced = Traced(network, inputs, classes, canonical)
    if verbose:
        click.echo(f"{groups_table(traced.spec)}\n")
    summary = traced.summary()
    if traced.spec.groups:
        click.echo("function preserved: all groups were permuted at random")
    click.echo(summary)
