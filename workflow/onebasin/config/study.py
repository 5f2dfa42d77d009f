"""Studies: experiments that differ in what is varied.

`vary: {network.width: [16, 64]}` on an experiment makes one experiment of it for every combination of the values, named
by them; together they are a study of the experiment's name. Values may have names of their own, which stand for them:
`vary: {training.spawn: {independent: {epochs: 0}, spawned: {epochs: 5}}}`.
"""

import copy
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onebasin.errors import OnebasinError

VARY = "vary"


@dataclass(frozen=True)
class Study:
    """What a study's experiments differ in: `varied[experiment][column]` is the value of a varied setting.

    `claims` are the files of rules that the study names, None if it leaves that to the configuration.
    """

    name: str
    varied: Mapping[str, Mapping[str, Any]]
    claims: list[str] | None = None

    @property
    def columns(self) -> list[str]:
        """The columns that its tables have more than an experiment's."""
        return list(next(iter(self.varied.values())))


def expand(experiments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Study]]:
    """The experiments with every varied one replaced by those that it stands for, and the studies by name.

    A column is called by the last part of its setting, or by all parts where two settings end alike.

    Raises:
        OnebasinError: `vary` is not settings with values, names a setting that cannot be reached, or two experiments
            come to have one name.
    """
    found: dict[str, Any] = {}
    studies: dict[str, Study] = {}
    for name, settings in experiments.items():
        if not (isinstance(settings, Mapping) and VARY in settings):
            found[name] = settings
            continue
        where, vary = f"config: experiments.{name}.{VARY}", settings[VARY]
        if not (
            isinstance(vary, Mapping)
            and vary
            and all(isinstance(values, list | Mapping) and values for values in vary.values())
        ):
            raise OnebasinError(
                f"{where}: not settings with lists of values; write it as in {{network.width: [16, 64]}}"
            )
        columns = _columns(vary)
        varied: dict[str, dict[str, Any]] = {}
        for cells in itertools.product(*map(_cells, vary.values())):
            own = copy.deepcopy({key: value for key, value in settings.items() if key != VARY})
            for path, (_, value) in zip(vary, cells, strict=True):
                _put(own, path.split("."), copy.deepcopy(value), f"{where}.{path}")
            words = {column: cell for column, (cell, _) in zip(columns, cells, strict=True)}
            combination = "_".join([name, *(f"{column}_{_word(cell)}" for column, cell in words.items())])
            if combination in found or combination in experiments:
                raise OnebasinError(f"{where}: more than one experiment would be called {combination}; rename one")
            found[combination] = own
            varied[combination] = words
        studies[name] = Study(name, varied, settings.get("claims"))
    return found, studies


def _columns(vary: Mapping[str, Any]) -> list[str]:
    last = [str(path).rpartition(".")[2] for path in vary]
    return [own if last.count(own) == 1 else str(path).replace(".", "_") for own, path in zip(last, vary, strict=True)]


def _put(settings: dict[str, Any], path: list[str], value: Any, where: str) -> None:
    for part in path[:-1]:
        settings = settings.setdefault(part, {})
        if not isinstance(settings, dict):
            raise OnebasinError(f"{where}: {part} holds no settings; name a key as in network.width")
    settings[path[-1]] = value


def _word(value: Any) -> str:
    """A value as a part of an experiment's name: small letters, digits and _."""
    return re.sub(r"[^a-z0-9]+", "_", str(value).lower()).strip("_") or "none"


def _cells(values: list[Any] | Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """What stands in a table for each of the values, and the value: its name, or what it is."""
    if isinstance(values, Mapping):
        return [(str(name), value) for name, value in values.items()]
    plain = [isinstance(value, int | float | str) and not isinstance(value, bool) for value in values]
    return [(value if is_plain else str(value), value) for is_plain, value in zip(plain, values, strict=True)]
