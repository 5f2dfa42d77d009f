"""The console command `onebasin`: a thin layer over `onebasin.api`, one file a subcommand.

A subcommand is imported when it is named, and torch when the work begins, so that help and refusals come at once. What
the user can put right is one line on stderr and a status that is not 0; results are on stdout, progress is on stderr.
"""

import importlib
import logging
import os
import sys
from typing import Any

import click

from onebasin import __version__
from onebasin.errors import OnebasinError

SUBCOMMANDS = ("info", "trace", "check", "match", "merge", "barrier", "sharpness", "permute")


class Interrupted(click.ClickException):
    """Ctrl-C."""

    exit_code = 130  # what shells report of a program that ended by it


class Subcommands(click.Group):
    """A group whose commands are modules of this package, and whose errors are the user's."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order in which they are used."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now; None if there is none."""
        if cmd_name not in SUBCOMMANDS:
            return None
        found: click.Command = importlib.import_module(f"onebasin.command.{cmd_name}").command
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it raises for the user becomes one line."""
        handler = _Stderr()
        logger = logging.getLogger("onebasin")
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        try:
            return super().invoke(ctx)
        except OnebasinError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            raise Interrupted("interrupted; no output was written") from None
        finally:
            logger.removeHandler(handler)


class _Stderr(logging.Handler):
    """Lines of the log to whatever stderr is now."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


@click.group(cls=Subcommands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="onebasin")
def main() -> None:
    """Permute independently trained networks into one low-loss basin, and average them.

    \b
    onebasin match a.pt b.pt c.pt --network torchvision.models:resnet18 --input 3,32,32 -o perms.safetensors
    onebasin merge a.pt b.pt c.pt --network torchvision.models:resnet18 --input 3,32,32 \\
        --permutations perms.safetensors --data cifar10 -o merged.safetensors
    """
    # modules named as package.module:callable may be in the working folder, as they may for `python -m`
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
