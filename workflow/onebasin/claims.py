"""Claims: what a paper says, held against the tables of an experiment by rules that were fixed in advance.

The rules are data (`config/claims.yaml`). A claim names an *effect*, a function of this module that turns the tables of
one experiment into one number a trial; Student's t interval of its mean over trials is then compared with a threshold.
A verdict is never given on missing data: what cannot be computed is inconclusive and says why. Nothing is measured
here, and no value of a paper is assumed.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from onebasin import tables as contract
from onebasin.errors import OnebasinError
from onebasin.files import write_text

REPRODUCED, CONTRADICTED, INCONCLUSIVE = "reproduced", "contradicted", "inconclusive"

Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Claim:
    """One claim and its rule; the file of claims explains the fields. `options` are the effect's own (split, ...)."""

    paper: str
    claim: str
    statement: str
    effect: str
    methods: tuple[str, ...]
    side: str
    threshold: float
    minimum_count: int
    options: Mapping[str, str]


@dataclass(frozen=True)
class Rules:
    """All claims, and the confidence in (0, 1) of the intervals that judge them."""

    confidence: float
    claims: tuple[Claim, ...]


class Interval(NamedTuple):
    """A mean over trials and the ends of its confidence interval."""

    effect: float
    low: float
    high: float


class _MissingError(Exception):
    """The tables lack what a verdict needs; the message says what."""


def load(path: str | Path) -> Rules:
    """Read and check a file of claims.

    Raises:
        OnebasinError: the file cannot be read, a key is missing, unknown or misspelt, or a value is not allowed.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise OnebasinError(f"{path}: claims cannot be read ({error.strerror}); give the path of the file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OnebasinError(f"{path}: not YAML ({' '.join(str(error).split())}); correct it there") from error
    where = str(path)
    _require_keys(content, {"confidence", "tolerance", "claims"}, set(), where)
    confidence = _number(content["confidence"], f"{where}: confidence")
    if not 0 < confidence < 1:
        raise OnebasinError(f"{where}: confidence is {confidence}; write a number between 0 and 1, such as 0.95")
    tolerance = _number(content["tolerance"], f"{where}: tolerance")
    if not isinstance(content["claims"], list):
        raise OnebasinError(f"{where}: claims is not a list; write one '- paper: ...' for each claim")
    claims = tuple(_claim(entry, tolerance, f"{where}: claim {n}") for n, entry in enumerate(content["claims"], 1))
    names = [f"{claim.paper} {claim.claim}" for claim in claims]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OnebasinError(f"{where}: more than one claim called {', '.join(twice)}; give each its own name")
    return Rules(confidence, claims)


def _claim(entry: Any, tolerance: float, where: str) -> Claim:
    required = {"paper", "claim", "statement", "effect", "methods", "side", "threshold"}
    if isinstance(entry, dict) and "claim" in entry:
        where += f" ({entry['claim']})"
    effect = EFFECTS.get(str(entry.get("effect"))) if isinstance(entry, dict) else None
    if isinstance(entry, dict) and "effect" in entry and effect is None:
        raise OnebasinError(f"{where}: no effect called '{entry['effect']}'; known: {', '.join(EFFECTS)}")
    options = set(effect.options) if effect else set()
    _require_keys(entry, required | options, {"minimum_count"}, where)
    for key in ("paper", "claim", "statement", *options):
        if not isinstance(entry[key], str) or not entry[key]:
            raise OnebasinError(f"{where}: {key} is {entry[key]!r}; write text")
    methods = entry["methods"]
    if not isinstance(methods, list) or not methods or not all(isinstance(method, str) for method in methods):
        raise OnebasinError(f"{where}: methods is {methods!r}; write a list of names, such as [ste_mm]")
    if entry["side"] not in ("above", "below"):
        raise OnebasinError(f"{where}: side is {entry['side']!r}; write above or below")
    threshold = tolerance if entry["threshold"] == "tolerance" else _number(entry["threshold"], f"{where}: threshold")
    return Claim(
        paper=entry["paper"],
        claim=entry["claim"],
        statement=entry["statement"],
        effect=entry["effect"],
        methods=tuple(dict.fromkeys(methods)),
        side=entry["side"],
        threshold=threshold,
        minimum_count=int(_number(entry.get("minimum_count", 2), f"{where}: minimum_count")),
        options={key: entry[key] for key in sorted(options)},
    )


def _require_keys(entry: Any, required: set[str], optional: set[str], where: str) -> None:
    if not isinstance(entry, dict):
        raise OnebasinError(f"{where}: not keys and values; write 'key: value' lines for {', '.join(sorted(required))}")
    missing = sorted(required - set(entry))
    unknown = sorted(str(key) for key in set(entry) - required - optional)
    if missing or unknown:
        wrong = [f"{what} key {', '.join(keys)}" for what, keys in (("missing", missing), ("unknown", unknown)) if keys]
        raise OnebasinError(f"{where}: {'; '.join(wrong)}; its keys are {', '.join(sorted(required | optional))}")


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise OnebasinError(f"{where} is {value!r}; write a number")
    return float(value)


def evaluate(rules: Rules, tables: Tables, experiments: Iterable[str] | None = None) -> pd.DataFrame:
    """The verdict on every claim by every experiment.

    Args:
        rules: the claims, from `load`.
        tables: the tables by the names of `onebasin.tables.COLUMNS`; those that no claim needs may be absent.
        experiments: the experiments to judge by; all that occur in the tables, by name, if not given.

    Returns:
        One row a claim and experiment with the columns of `onebasin.tables.COLUMNS["claims"]`. `effect`, `low` and
        `high` are NaN where nothing could be computed; `detail` then says what is missing.

    Raises:
        OnebasinError: a table is not as its contract has it.
    """
    # sorted, so that no sum and no list of a detail depends on the order of the rows
    checked = {name: contract.check(frame, name).sort_values(contract.KEYS[name]) for name, frame in tables.items()}
    if experiments is None:
        experiments = sorted({experiment for frame in checked.values() for experiment in frame["experiment"]})
    of = {
        experiment: {name: _where(frame, experiment=experiment) for name, frame in checked.items()}
        for experiment in experiments
    }
    rows = [_row(claim, experiment, of[experiment], rules.confidence) for claim in rules.claims for experiment in of]
    return contract.check(pd.DataFrame(rows, columns=contract.COLUMNS["claims"]), "claims")


def confidence_interval(values: Iterable[float], confidence: float) -> Interval:
    """Student's t interval of the mean of independent `values`, two-sided; of equal values, their value itself."""
    sample = np.asarray(list(values), dtype=float)
    mean = float(sample.mean())
    quantile = stats.t.ppf((1 + confidence) / 2, len(sample) - 1)
    half = float(quantile * sample.std(ddof=1) / math.sqrt(len(sample)))
    return Interval(mean, mean - half, mean + half)


def _row(claim: Claim, experiment: str, tables: Tables, confidence: float) -> list[Any]:
    try:
        verdict, interval, detail = _judge(claim, tables, confidence)
    except _MissingError as missing:
        verdict, interval, detail = INCONCLUSIVE, Interval(math.nan, math.nan, math.nan), f"missing: {missing}"
    return [claim.paper, claim.claim, claim.statement, experiment, verdict, *interval, detail]


def _judge(claim: Claim, tables: Tables, confidence: float) -> tuple[str, Interval, str]:
    effect = EFFECTS[claim.effect]
    count = _largest_count(effect, tables)
    if count < claim.minimum_count:
        raise _MissingError(f"the claim is about {claim.minimum_count} or more models, the largest count is {count}")
    confidence = 1 - (1 - confidence) / len(claim.methods)
    values = {method: _complete(effect, claim, tables, method, count) for method in claim.methods}
    intervals = {method: confidence_interval(of_method, confidence) for method, of_method in values.items()}
    verdicts = {_verdict(interval, claim) for interval in intervals.values()}
    verdict = REPRODUCED if REPRODUCED in verdicts else CONTRADICTED if verdicts == {CONTRADICTED} else INCONCLUSIVE
    if effect.refuted(tables, claim):
        verdict = CONTRADICTED
    reported = max(intervals.values(), key=lambda found: found.low if claim.side == "above" else -found.high)
    trials = len(next(iter(values.values())))
    listed = ", ".join(f"{method} {_show(interval)}" for method, interval in intervals.items())
    detail = (
        f"{claim.effect} claimed {claim.side} {claim.threshold:.3g}; {count} models, {trials} trials, "
        f"{100 * confidence:.4g} % interval: {listed}; {effect.describe(tables, claim, count)}"
    )
    return verdict, reported, detail


def _verdict(interval: Interval, claim: Claim) -> str:
    above, below = interval.low > claim.threshold, interval.high < claim.threshold
    if above or below:
        return REPRODUCED if above == (claim.side == "above") else CONTRADICTED
    return INCONCLUSIVE


def _largest_count(effect: "Effect", tables: Tables) -> int:
    absent = [name for name in effect.tables if name not in tables or tables[name].empty]
    if absent:
        raise _MissingError(f"no rows in table {', '.join(absent)}")
    return max(int(tables[name]["count"].max()) for name in effect.tables)


def _complete(effect: "Effect", claim: Claim, tables: Tables, method: str, count: int) -> pd.Series:
    """The effect of every trial that the experiment has; a trial left out could be the one that decides."""
    trials = sorted({int(trial) for name in effect.tables for trial in tables[name]["trial"]})
    values = effect.measure(tables, claim, method, count).reindex(trials)
    wrong = [str(trial) for trial in trials if not math.isfinite(values[trial])]
    if wrong:
        which = "every trial" if len(wrong) == len(trials) else f"trial {', '.join(wrong)}"
        raise _MissingError(f"{claim.effect} of {method} at {count} models is absent or not finite in {which}")
    if len(trials) < 2:
        raise _MissingError("a second trial; one trial has no interval")
    return values


def _where(frame: pd.DataFrame, **values: Any) -> pd.DataFrame:
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def _by_trial(frame: pd.DataFrame, column: str) -> pd.Series:
    return frame.set_index("trial")[column]


# Effects: (tables of one experiment, claim, method, count) -> a number for each trial that has one


def _excess_loss(tables: Tables, claim: Claim, method: str, count: int) -> pd.Series:
    """Loss of the merged model over its parents' mean loss, less 1."""
    rows = _where(tables["merged"], method=method, count=count, split=claim.options["split"])
    return _by_trial(rows, "loss") / _by_trial(rows, "parents_loss") - 1


def _pair_barrier(tables: Tables, claim: Claim, method: str, count: int) -> pd.Series:
    """Mean loss barrier over all pairs of permuted models, in units of the parents' mean loss."""
    barriers = _pair_barriers(tables, claim, method, count).groupby("trial")
    whole = barriers.size() == count * (count - 1) // 2
    return barriers.agg(lambda pairs: pairs.mean(skipna=False)).where(whole)


def _sharpness_change(tables: Tables, claim: Claim, method: str, count: int) -> pd.Series:
    """Logarithm of the merged model's sharpness at `count` models over that at the smallest count."""
    merged = _where(tables["sharpness"], model="merged", **claim.options)
    smallest = merged["count"].min()
    if not smallest < count:
        raise _MissingError("sharpness at two numbers of models; there is no change to see at one")
    large, small = (_by_trial(_where(merged, method=method, count=number), "value") for number in (count, smallest))
    return _log_ratio(large, small)


def _scan_reduction(tables: Tables, claim: Claim, method: str, count: int) -> pd.Series:
    """Logarithm of the row scans with the warm start over those without."""
    rows = _where(tables["acceleration"], method=method, count=count)
    warm, cold = (_by_trial(_where(rows, warm_start=start), "row_scans") for start in (True, False))
    return _log_ratio(warm, cold)


def _pair_barriers(tables: Tables, claim: Claim, method: str, count: int) -> pd.Series:
    """Loss barrier of each pair in units of the parents' mean loss, by trial."""
    rows = {"method": method, "count": count, "split": claim.options["split"]}
    barriers = _by_trial(_where(tables["pairwise"], **rows), "barrier_loss")
    parents = _by_trial(_where(tables["merged"], **rows), "parents_loss")
    return barriers / parents.reindex(barriers.index)


def _log_ratio(above: pd.Series, below: pd.Series) -> pd.Series:
    """Logarithm of the ratio, NaN where either is absent or not positive."""
    return pd.Series(np.log(above.where(above > 0) / below.where(below > 0)))


# Details: what a reader wants to see beside the verdict


def _excess_loss_detail(tables: Tables, claim: Claim, count: int) -> str:
    return "; ".join(f"{method} by count: {_by_count(tables, claim, method)}" for method in claim.methods)


def _pair_barrier_detail(tables: Tables, claim: Claim, count: int) -> str:
    methods = [
        *claim.methods,
        *(other for other in tables["pairwise"]["method"].unique() if other not in claim.methods),
    ]
    found = []
    for method in methods:
        relative = _pair_barriers(tables, claim, method, count)
        nats = _where(tables["pairwise"], method=method, count=count, split=claim.options["split"])["barrier_loss"]
        if len(relative):
            mean = _pair_barrier(tables, claim, method, count).mean(skipna=False)
            largest = f"{relative.max(skipna=False):.3g} ({nats.max(skipna=False):.3g} nats)"
            found.append(f"{method} mean {mean:.3g}, largest pair {largest}")
    return "barriers in units of the parents' loss: " + "; ".join(found)


def _sharpness_detail(tables: Tables, claim: Claim, count: int) -> str:
    own = claim.options["estimator"]
    merged = _where(tables["sharpness"], model="merged", split=claim.options["split"])
    found = []
    for method in claim.methods:
        by_count = _where(merged, method=method, estimator=own).groupby("count")
        means = ", ".join(f"{number}: {part['value'].mean(skipna=False):.3g}" for number, part in by_count)
        found.append(f"{method} mean {own} by count: {means}")
        for estimator in sorted(set(merged["estimator"]) - {own}):
            other = replace(claim, options={**claim.options, "estimator": estimator})
            found.append(f"{claim.effect} of {method}'s {estimator}: {_mean_effect(tables, other, method, count)}")
    return "; ".join(found)


def _scan_detail(tables: Tables, claim: Claim, count: int) -> str:
    factors = [
        f"{method} {math.exp(-_scan_reduction(tables, claim, method, count).mean(skipna=False)):.3g}"
        for method in claim.methods
    ]
    different = _different(tables, claim)
    results = f"results differ in {different} runs" if different else "results identical in all runs"
    return f"times fewer row scans with warm start (geometric mean over trials): {', '.join(factors)}; {results}"


def _different(tables: Tables, claim: Claim) -> int:
    rows = tables["acceleration"]
    return int((~rows["identical"] & rows["method"].isin(claim.methods)).sum())


def _by_count(tables: Tables, claim: Claim, method: str) -> str:
    """The mean effect at every number of models that the method has."""
    frames = [tables[name] for name in EFFECTS[claim.effect].tables]
    counts = sorted({int(count) for frame in frames for count in _where(frame, method=method)["count"]})
    return ", ".join(f"{count}: {_mean_effect(tables, claim, method, count)}" for count in counts)


def _mean_effect(tables: Tables, claim: Claim, method: str, count: int) -> str:
    try:
        mean = EFFECTS[claim.effect].measure(tables, claim, method, count).mean(skipna=False)
    except _MissingError:
        mean = math.nan
    return "missing" if math.isnan(mean) else f"{mean:.3g}"


def _show(interval: Interval) -> str:
    return f"{interval.effect:.3g} [{interval.low:.3g}, {interval.high:.3g}]"


@dataclass(frozen=True)
class Effect:
    """How to measure an effect: the tables and the keys of the claim that it needs, and what to tell beside it.

    `refuted` says whether the tables hold a counterexample that no mean can outweigh.
    """

    tables: tuple[str, ...]
    options: tuple[str, ...]
    measure: Callable[[Tables, Claim, str, int], pd.Series]
    describe: Callable[[Tables, Claim, int], str]
    refuted: Callable[[Tables, Claim], bool] = lambda tables, claim: False


EFFECTS: dict[str, Effect] = {
    "excess_loss": Effect(("merged",), ("split",), _excess_loss, _excess_loss_detail),
    "pair_barrier": Effect(("pairwise", "merged"), ("split",), _pair_barrier, _pair_barrier_detail),
    "sharpness_change": Effect(("sharpness",), ("split", "estimator"), _sharpness_change, _sharpness_detail),
    "scan_reduction": Effect(
        ("acceleration",), (), _scan_reduction, _scan_detail, lambda tables, claim: _different(tables, claim) > 0
    ),
}


def write_rst(claims: pd.DataFrame, path: str | Path) -> None:
    """Write the verdicts of `evaluate` as reStructuredText for the head of a report: one paragraph a claim."""
    parts = []
    for row in claims.to_dict("records"):
        known = not math.isnan(row["effect"])
        rule = row["detail"].partition(";")[0]  # which effect, on which side of what; or what is missing
        interval = f" {_show(Interval(row['effect'], row['low'], row['high']))}," if known else ""
        head = f"**{row['claim']} of {row['paper']}, {row['experiment']}: {row['verdict']}**"
        parts.append(f"{head}\n    {row['statement']}. *Effect*{interval} {rule}.\n")
    write_text(path, "\n".join(parts))


def write_markdown(claims: pd.DataFrame, path: str | Path) -> None:
    """Write the verdicts of `evaluate` for people: how many there are of each, then one row a claim and experiment.

    Raises:
        OnebasinError: the file cannot be written.
    """
    counts = claims["verdict"].value_counts()
    totals = ", ".join(f"{counts.get(verdict, 0)} {verdict}" for verdict in (REPRODUCED, CONTRADICTED, INCONCLUSIVE))
    numbers = zip(claims["effect"], claims["low"], claims["high"], strict=True)
    shown = claims[["verdict", "paper", "claim", "experiment"]].copy()
    shown["effect [interval]"] = ["" if math.isnan(ends[0]) else _show(Interval(*ends)) for ends in numbers]
    shown[["statement", "detail"]] = claims[["statement", "detail"]]
    shown = shown.astype(str).replace(r"\|", r"\\|", regex=True)
    write_text(path, f"# Claims\n\n{totals}.\n\n{shown.to_markdown(index=False, disable_numparse=True)}\n")
