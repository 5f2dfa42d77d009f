"""What an effect is: a number for each trial, from the tables of one experiment, and what to tell beside it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from onebasin.errors import OnebasinError
from onebasin.registry import function_of, resolve

Tables = Mapping[str, pd.DataFrame]

PARENTS = "parents"  # stands for a method where an effect is of the models before any matching


class MissingError(Exception):
    """The tables lack what a verdict needs; the message says what."""


@dataclass(frozen=True)
class Condition:
    """An effect and where it has to lie; the file of claims explains the fields. `options` are the effect's own."""

    effect: str
    methods: tuple[str, ...]
    side: str
    threshold: float
    minimum_count: int
    at: str
    options: Mapping[str, Any]


Measure = Callable[[Tables, Condition, str, int], pd.Series]
"""(tables of one experiment, condition, method, count) -> a number for each trial that has one."""


@dataclass(frozen=True)
class Effect:
    """How to measure an effect: the tables and the keys of the condition that it needs, and what to tell beside it.

    `refuted` says whether the tables hold a counterexample that no mean can outweigh. An effect that is not
    `of_methods` is of the models before matching; one that is `of_studies` is read off the tables of a study.
    """

    tables: tuple[str, ...]
    options: tuple[str, ...]
    measure: Measure
    describe: Callable[[Tables, Condition, int], str]
    refuted: Callable[[Tables, Condition], bool] = lambda tables, condition: False
    of_methods: bool = True
    of_studies: bool = False

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
