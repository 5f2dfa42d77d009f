"""The settings of a search, refused before anything is read."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from onebasin.errors import OnebasinError

OPTIONS = {"method": "--method", "given": "--set", "seed": "--seed", "trial": "--trial"}


def read_settings(method: str, given: Iterable[str], data: str | None, permutations: Path | None) -> dict[str, Any]:
    """All settings of a method, those `given` as `key=value` among them; none where permutations are there already.

    Raises:
        OnebasinError: no such setting or value, or the method reads data and there are none.
        UsageError: options of a search beside permutations that were found by one.
    """
    if permutations:
        _refuse_options_of_a_search()
        return {}
    from onebasin.config.settings import method_settings, needs_data, parse_setting

    settings = method_settings(method, dict(map(parse_setting, given)))
    if data is None and needs_data(method):
        raise OnebasinError(f"{method} reads training data; give --data, or take a method that reads weights alone")
    return settings


def _refuse_options_of_a_search() -> None:
    context = click.get_current_context()
    for parameter, option in OPTIONS.items():
        if context.get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option} belongs to a search, and --permutations were found by one; give either")
