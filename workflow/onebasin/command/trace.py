"""`onebasin trace`: what may be permuted in a network, what not, and why."""

from pathlib import Path
from typing import Any

import click

from onebasin.command.options import canonical_option, input_option, output_option, verbose_option
from onebasin.command.outputs import check_output


@click.command(short_help="What may be permuted in a network, what not, and why.")
@click.argument("network", metavar="NETWORK")
@input_option("Shape of one input", required=True)
@click.option("--classes", default=10, show_default=True, type=click.IntRange(min=1), help="Number of logits.")
@canonical_option
@verbose_option
@output_option("Write the symmetries as JSON, too.", required=False)
def command(
    network: str, inputs: tuple[Any, ...], classes: int, canonical: bool, verbose: bool, output: Path | None
) -> None:
    """Follow the graph of NETWORK and list its permutation groups, and why the other axes stay; prove it (`check`).

    \b
    onebasin trace mlp:width=64 --input 1,8,8
    onebasin trace torchvision.models:resnet18 --input 3,32,32 --verbose
    """
    if output:
        check_output(output, [], ".json")
    from onebasin.command.texts import fixed_table, groups_table, reasons_table, short_groups_table
    from onebasin.command.tracing import Traced
    from onebasin.symmetry.spec import save_spec

    traced = Traced(network, inputs, classes, canonical)
    spec = traced.spec
    if not spec.groups:
        click.echo("Nothing may be permuted.")
    else:
        click.echo(groups_table(spec) if verbose else short_groups_table(spec))
    if spec.fixed:
        click.echo(f"\n{fixed_table(spec) if verbose else reasons_table(spec)}")
    if output:
        save_spec(output, spec, network=network)
    click.echo(f"\n{traced.summary()}")
