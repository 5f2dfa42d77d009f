"""What an effect is: a number for each trial, from the tables of one experiment, and what to tell beside it."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from onebasin.errors import OnebasinError
from onebasin.registry import function_of, resolve

Tables = Mapping[str, pd.DataFrame]

METHOD = "method"
PARENTS = "parents"  # stands for a method where an effect is of the models before any matching


class MissingError(Exception):
    """The tables lack what a verdict needs; the message says what."""


@dataclass(frozen=True)
class Condition:
    """An effect and where it has to lie; the file of claims explains the fields. `options` are the effect's own.

    One with a `place` is about a study: about its rows that have these values in the columns of varied settings. With a
    `versus` it is the effect there less `times` the effect at the place that differs by these values, trial by trial;
    a `method` among them is the one that it is held against.
    """

    effect: str
    methods: tuple[str, ...]
    side: str
    threshold: float
    minimum_count: int
    at: str
    options: Mapping[str, Any]
    place: Mapping[str, Any] | None = None
    versus: Mapping[str, Any] | None = None
    times: float = 1.0

    @property
    def places(self) -> list[Mapping[str, Any]]:
        """The places of a study that it is about: where it is measured, and what it is held against."""
        own = self.place or {}
        other = {column: value for column, value in (self.versus or {}).items() if column != METHOD}
        return [own] if self.versus is None else [own, {**own, **other}]


Measure = Callable[[Tables, Condition, str, int], pd.Series]
"""(tables of one experiment, condition, method, count) -> a number for each trial that has one."""


@dataclass(frozen=True)
class Effect:
    """How to measure an effect: the tables and the keys of the condition that it needs, and what to tell beside it.

    `refuted` says whether the tables hold a counterexample that no mean can outweigh. An effect that is not
    `of_methods` is of the models before matching.
    """

    tables: tuple[str, ...]
    options: tuple[str, ...]
    measure: Measure
    describe: Callable[[Tables, Condition, int], str]
    refuted: Callable[[Tables, Condition], bool] = lambda tables, condition: False
    of_methods: bool = True

    def __call__(self, tables: Tables, condition: Condition, method: str, count: int) -> pd.Series:
        return self.measure(tables, condition, method, count)


def effect_named(name: str) -> Effect:
    """The effect of that name, from the registry.

    Raises:
        OnebasinError: there is none, or what its entry names is none.
    """
    found: Any = resolve("effect", name)
    if not isinstance(found, Effect):
        raise OnebasinError(f"effect {name}: {function_of('effect', name)} is no onebasin.claims.effects.Effect")
    return found


def where(frame: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """The rows that have these values in these columns."""
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def at_place(tables: Tables, names: Iterable[str], place: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """The rows of these tables of a study that have the values of a `place`.

    Raises:
        MissingError: a table has no such column or no such row.
    """
    found = {}
    for name in names:
        frame = tables.get(name, pd.DataFrame())
        for column, value in place.items():
            cells = frame[column] if column in frame else pd.Series(index=frame.index, dtype=str)
            frame = frame[cells == (value if pd.api.types.is_numeric_dtype(cells) else str(value))]
        if frame.empty:
            said = f" where {told(place)}" if place else ""
            raise MissingError(f"no rows in table {name}{said}")
        found[name] = frame
    return found


def told(place: Mapping[str, Any]) -> str:
    """A place of a study as a reader sees it."""
    return " and ".join(f"{column} is {value}" for column, value in place.items())


def by_trial(frame: pd.DataFrame, column: str) -> pd.Series:
    """A column, indexed by trial."""
    return frame.set_index("trial")[column]


def mean_of_pairs(frame: pd.DataFrame, column: str, pairs: int) -> pd.Series:
    """The mean over the pairs of each trial that has that many; NaN if one of them is."""
    found = frame.groupby("trial")[column]
    return found.agg(lambda values: values.mean(skipna=False)).where(found.size() == pairs)


def mean_effect(measure: Measure, tables: Tables, condition: Condition, method: str, count: int) -> str:
    """The mean over trials as a reader sees it."""
    try:
        mean = measure(tables, condition, method, count).mean(skipna=False)
    except MissingError:
        mean = math.nan
    return "missing" if math.isnan(mean) else f"{mean:.3g}"


def mean_by_count(measure: Measure, tables: Tables, table: str, condition: Condition, method: str) -> str:
    """The mean over trials at every number of models that the method has in that table: `2: 0.1, 5: 0.3`."""
    counts = sorted({int(count) for count in where(tables[table], method=method)["count"]})
    return ", ".join(f"{count}: {mean_effect(measure, tables, condition, method, count)}" for count in counts)


def of_every_method(table: str, what: str, measure: Measure) -> Callable[[Tables, Condition, int], str]:
    """A detail that lists a number for every method of a table; `what` may name options of the condition in braces."""

    def describe(tables: Tables, condition: Condition, count: int) -> str:
        methods = dict.fromkeys(where(tables[table], count=count)["method"])
        listed = [f"{method} {mean_effect(measure, tables, condition, method, count)}" for method in methods]
        return f"{what.format(**condition.options)}: {', '.join(listed)}"

    return describe


def log_ratio(above: pd.Series, below: pd.Series) -> pd.Series:
    """Logarithm of the ratio, NaN where either is absent or not positive."""
    return pd.Series(np.log(above.where(above > 0) / below.where(below > 0)))


def smallest_count(frame: pd.DataFrame, count: int, what: str) -> int:
    """The smallest number of models there is, to see a change from.

    Raises:
        MissingError: it is not below `count`.
    """
    smallest = frame["count"].min()  # NaN, if there is none
    if not smallest < count:
        raise MissingError(f"{what} at two numbers of models; there is no change to see at one")
    return int(smallest)


def pairs_of(count: int) -> int:
    """How many pairs so many models make."""
    return count * (count - 1) // 2
