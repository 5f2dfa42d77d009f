"""The rules of the claims, read and checked: which effect of which methods has to lie on which side of what."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from onebasin.claims.effects import METHOD, PARENTS, Condition, effect_named
from onebasin.errors import OnebasinError
from onebasin.registry import entries

_NUMBERS = {"gamma", "strength"}  # options that are numbers; the others are text
_COUNTS = ("largest", "smallest")


@dataclass(frozen=True)
class Claim:
    """One claim: it holds where all its conditions do."""

    paper: str
    claim: str
    statement: str
    conditions: tuple[Condition, ...]

    @property
    def of_studies(self) -> bool:
        """Whether it is about studies, not about experiments."""
        return self.conditions[0].place is not None


@dataclass(frozen=True)
class Rules:
    """All claims, and the confidence in (0, 1) of the intervals that judge them."""

    confidence: float
    claims: tuple[Claim, ...]

    @property
    def tables(self) -> set[str]:
        """The tables that the claims are judged by."""
        conditions = [condition for claim in self.claims for condition in claim.conditions]
        return {table for condition in conditions for table in effect_named(condition.effect).tables}


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
    if isinstance(entry, dict) and "claim" in entry:
        where += f" ({entry['claim']})"
    names = ("paper", "claim", "statement")
    first = _condition(entry, tolerance, where, required=set(names), optional={"also"})
    for key in names:
        _text(entry[key], f"{where}: {key}")
    also = entry.get("also", [])
    if not isinstance(also, list):
        raise OnebasinError(f"{where}: also is {also!r}; write a list of further conditions")
    others = [_condition(other, tolerance, f"{where}: also {n}") for n, other in enumerate(also, 1)]
    if len({other.place is None for other in (first, *others)}) > 1:
        raise OnebasinError(f"{where}: where stands in some of its conditions; write it in all or in none")
    return Claim(entry["paper"], entry["claim"], entry["statement"], (first, *others))


def _condition(
    entry: Any, tolerance: float, where: str, required: set[str] | None = None, optional: set[str] | None = None
) -> Condition:
    name = entry.get("effect") if isinstance(entry, dict) else None
    if name is not None and name not in entries("effect"):
        raise OnebasinError(f"{where}: no effect called '{name}'; known: {', '.join(entries('effect'))}")
    effect = None if name is None else effect_named(name)
    options = set(effect.options) if effect else set()
    of_methods = {"methods"} if effect is None or effect.of_methods else set()
    needed = {"effect", "side", "threshold"} | of_methods | options | (required or set())
    _require_keys(entry, needed, {"minimum_count", "at", "where", "versus", "times"} | (optional or set()), where)
    for key in sorted(options - _NUMBERS):
        _text(entry[key], f"{where}: {key}")
    methods = entry["methods"] if of_methods else [PARENTS]
    if not isinstance(methods, list) or not methods or not all(isinstance(method, str) for method in methods):
        raise OnebasinError(f"{where}: methods is {methods!r}; write a list of names, such as [ste_mm]")
    for key, allowed in (("side", ("above", "below")), ("at", _COUNTS)):
        if entry.get(key, allowed[0]) not in allowed:
            raise OnebasinError(f"{where}: {key} is {entry[key]!r}; write {' or '.join(allowed)}")
    threshold = tolerance if entry["threshold"] == "tolerance" else _number(entry["threshold"], f"{where}: threshold")
    numbers = {key: _number(entry[key], f"{where}: {key}") for key in sorted(options & _NUMBERS)}
    return Condition(
        effect=entry["effect"],
        methods=tuple(dict.fromkeys(methods)),
        side=entry["side"],
        threshold=threshold,
        minimum_count=int(_number(entry.get("minimum_count", 2), f"{where}: minimum_count")),
        at=entry.get("at", "largest"),
        options={key: entry[key] for key in sorted(options)} | numbers,
        place=_place(entry, "where", where),
        versus=_place(entry, "versus", where),
        times=_number(entry.get("times", 1), f"{where}: times"),
    )


def _place(entry: dict[str, Any], key: str, where: str) -> dict[str, Any] | None:
    if key not in entry:
        return None
    place = entry[key]
    if key == "versus" and "where" not in entry and not (isinstance(place, dict) and set(place) == {METHOD}):
        raise OnebasinError(
            f"{where}: versus without where; name both places of the study (a method alone needs no where)"
        )
    if not (isinstance(place, dict) and all(isinstance(value, int | float | str) for value in place.values())):
        raise OnebasinError(f"{where}: {key} is {place!r}; write columns of a study and values, such as {{width: 64}}")
    return place


def _require_keys(entry: Any, required: set[str], optional: set[str], where: str) -> None:
    if not isinstance(entry, dict):
        raise OnebasinError(f"{where}: not keys and values; write 'key: value' lines for {', '.join(sorted(required))}")
    missing = sorted(required - set(entry))
    unknown = sorted(str(key) for key in set(entry) - required - optional)
    if missing or unknown:
        wrong = [f"{what} key {', '.join(keys)}" for what, keys in (("missing", missing), ("unknown", unknown)) if keys]
        raise OnebasinError(f"{where}: {'; '.join(wrong)}; its keys are {', '.join(sorted(required | optional))}")


def _text(value: Any, where: str) -> None:
    if not isinstance(value, str) or not value:
        raise OnebasinError(f"{where} is {value!r}; write text")


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise OnebasinError(f"{where} is {value!r}; write a number")
    return float(value)
