"""Verdicts: the interval of every effect over trials, held against its threshold."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from onebasin.claims.effects import METHOD, Condition, Effect, MissingError, Tables, at_place, effect_named, told, where
from onebasin.claims.rules import Claim, Rules
from onebasin.tables.collect import check
from onebasin.tables.record import table

REPRODUCED, CONTRADICTED, INCONCLUSIVE = "reproduced", "contradicted", "inconclusive"
_DECIDING = (CONTRADICTED, INCONCLUSIVE, REPRODUCED)  # of several conditions, which one is the claim's verdict


class Interval(NamedTuple):
    """A mean over trials and the ends of its confidence interval."""

    effect: float
    low: float
    high: float


UNKNOWN = Interval(math.nan, math.nan, math.nan)


Studies = Mapping[str, tuple[Sequence[str], Tables]]
"""The columns of varied settings and the tables of each study, by its name."""


def evaluate(
    rules: Rules, tables: Tables, experiments: Iterable[str] | None = None, studies: Studies | None = None
) -> pd.DataFrame:
    """The verdicts of one file of claims by these experiments (all that occur in the tables, by name, if not given) and
    studies; the rest as for `judge`."""
    if experiments is None:
        experiments = sorted({experiment for frame in tables.values() for experiment in frame["experiment"]})
    return judge([(rules, [*experiments, *(studies or {})])], tables, studies or {})


def judge(files: Iterable[tuple[Rules, Iterable[str]]], tables: Tables, studies: Studies) -> pd.DataFrame:
    """The verdict on every claim by every experiment; if it is about studies, by each that varies what it asks for.

    Where no study does, all of them say what is missing.

    Args:
        files: the claims, each from `load`, with the experiments and studies to judge them by; their verdicts come one
            after the other.
        tables: the tables of experiments by name; those that no claim needs may be absent.

    Returns:
        One row a claim and experiment with the columns of the table `claims`. `effect`, `low` and
        `high` are those of the condition that decides, and NaN where nothing could be computed; `detail` then says what
        is missing.

    Raises:
        OnebasinError: a table is not as its contract has it.
    """
    checked = _checked(tables)
    checked_studies = {name: _checked(own, varied) for name, (varied, own) in studies.items()}
    rows = []
    for rules, subjects in files:
        of: dict[str, Tables] = {}
        of_studies: dict[str, Tables] = {}
        for subject in subjects:
            if subject in studies:
                of_studies[subject] = checked_studies[subject]
            else:
                of[subject] = {name: where(frame, experiment=subject) for name, frame in checked.items()}
        rows += [
            _row(claim, subject, own, rules.confidence)
            for claim in rules.claims
            for subject, own in (_concerned(claim, of_studies) if claim.of_studies else of).items()
        ]
    return check(pd.DataFrame(rows, columns=list(table("claims").columns)), "claims")


def _concerned(claim: Claim, studies: Mapping[str, Tables]) -> Mapping[str, Tables]:
    """The studies that have rows of all places that the claim is about; all studies, if none has."""

    def has_all(tables: Tables) -> bool:
        try:
            for condition in claim.conditions:
                for place in condition.places:
                    at_place(tables, effect_named(condition.effect).tables, place)
        except MissingError:
            return False
        return True

    return {name: tables for name, tables in studies.items() if has_all(tables)} or studies


def _checked(tables: Tables, varied: Sequence[str] = ()) -> dict[str, pd.DataFrame]:
    """The tables, sorted, so that no sum and no list of a detail depends on the order of the rows."""
    return {
        name: check(frame, name, varied=varied).sort_values(list(table(name, varied).keys))
        for name, frame in tables.items()
    }


def confidence_interval(values: Iterable[float], confidence: float) -> Interval:
    """Student's t interval of the mean of independent `values`, two-sided; of equal values, their value itself."""
    sample = np.asarray(list(values), dtype=float)
    mean = float(sample.mean())
    quantile = stats.t.ppf((1 + confidence) / 2, len(sample) - 1)
    half = float(quantile * sample.std(ddof=1) / math.sqrt(len(sample)))
    return Interval(mean, mean - half, mean + half)


def show(interval: Interval) -> str:
    """An interval as a reader sees it."""
    return f"{interval.effect:.3g} [{interval.low:.3g}, {interval.high:.3g}]"


def _row(claim: Claim, experiment: str, tables: Tables, confidence: float) -> list[Any]:
    judged = [_judge(condition, tables, confidence) for condition in claim.conditions]
    # the deciding condition first; among equals the one that the rules name first
    judged.sort(key=lambda found: _DECIDING.index(found[0]))
    verdict, interval, _ = judged[0]
    return [claim.paper, claim.claim, claim.statement, experiment, verdict, *interval, _details(judged)]


def _details(judged: list[tuple[str, Interval, str]]) -> str:
    first, *others = judged
    return "; ".join([first[2], *(f"also ({verdict}): {detail}" for verdict, _, detail in others)])


def _judge(condition: Condition, tables: Tables, confidence: float) -> tuple[str, Interval, str]:
    try:
        return _judge_complete(condition, tables, confidence)
    except MissingError as missing:
        return INCONCLUSIVE, UNKNOWN, f"missing: {missing}"


def _judge_complete(condition: Condition, tables: Tables, confidence: float) -> tuple[str, Interval, str]:
    effect = effect_named(condition.effect)
    if condition.place is None and condition.versus is None:
        others = []
    else:
        tables, *others = [at_place(tables, effect.tables, place) for place in condition.places]
    count = _count(effect, condition, tables)
    confidence = 1 - (1 - confidence) / len(condition.methods)
    values = {method: _complete(effect, condition, tables, method, count) for method in condition.methods}
    for other in others:
        for method, own in values.items():
            against = (condition.versus or {}).get(METHOD, method)
            values[method] = own - condition.times * _complete(effect, condition, other, against, count)
    intervals = {method: confidence_interval(of_method, confidence) for method, of_method in values.items()}
    verdicts = {_verdict(interval, condition) for interval in intervals.values()}
    verdict = REPRODUCED if REPRODUCED in verdicts else CONTRADICTED if verdicts == {CONTRADICTED} else INCONCLUSIVE
    if effect.refuted(tables, condition):
        verdict = CONTRADICTED
    reported = max(intervals.values(), key=lambda found: found.low if condition.side == "above" else -found.high)
    trials = len(next(iter(values.values())))
    listed = ", ".join(f"{method} {show(interval)}" for method, interval in intervals.items())
    detail = (
        f"{condition.effect}{_at(condition)} claimed {condition.side} {condition.threshold:.3g}; {count} models, "
        f"{trials} trials, {100 * confidence:.4g} % interval: {listed}; {effect.describe(tables, condition, count)}"
    )
    detail += "".join(f"; where {told(condition.versus or {})}, {effect.describe(o, condition, count)}" for o in others)
    return verdict, reported, detail


def _at(condition: Condition) -> str:
    """Which places of a study the effect is measured at."""
    own = f" where {told(condition.place)}" if condition.place else ""
    if condition.versus is None:
        return own
    times = "" if condition.times == 1 else f"{condition.times:g} times "
    return f"{own} less {times}that where {told(condition.versus)}"


def _verdict(interval: Interval, condition: Condition) -> str:
    above, below = interval.low > condition.threshold, interval.high < condition.threshold
    if above or below:
        return REPRODUCED if above == (condition.side == "above") else CONTRADICTED
    return INCONCLUSIVE


def _count(effect: Effect, condition: Condition, tables: Tables) -> int:
    """The number of models that the condition is judged at."""
    absent = [name for name in effect.tables if name not in tables or tables[name].empty]
    if absent:
        raise MissingError(f"no rows in table {', '.join(absent)}")
    counts = sorted({count for name in effect.tables for count in _counts_of(tables[name])})
    if not counts:
        return 1  # a trial is about one model
    enough = [count for count in counts if count >= condition.minimum_count]
    if not enough:
        raise MissingError(
            f"the claim is about {condition.minimum_count} or more models, the largest count is {counts[-1]}"
        )
    return enough[0] if condition.at == "smallest" else enough[-1]


def _counts_of(table: pd.DataFrame) -> set[int]:
    """The model counts of a table; of one that is about the models before merging, how many a trial has, if it says."""
    if "count" in table:
        return set(table["count"].astype(int))
    if "model" not in table:
        return set()
    return {int(table.groupby("trial")["model"].nunique().max())}


def _complete(effect: Effect, condition: Condition, tables: Tables, method: str, count: int) -> pd.Series:
    """The effect of every trial that the experiment has; a trial left out could be the one that decides."""
    trials = sorted({int(trial) for name in effect.tables for trial in tables[name]["trial"]})
    values = effect(tables, condition, method, count).reindex(trials)
    wrong = [str(trial) for trial in trials if not math.isfinite(values[trial])]
    if wrong:
        which = "every trial" if len(wrong) == len(trials) else f"trial {', '.join(wrong)}"
        raise MissingError(f"{condition.effect} of {method} at {count} models is absent or not finite in {which}")
    if len(trials) < 2:
        raise MissingError("a second trial; one trial has no interval")
    return values
