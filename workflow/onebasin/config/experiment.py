"""What a configuration means: which models a trial draws, which are trained together, and what is wrong with it.

The workflow imports this module while it builds its graph, so it needs nothing but the standard library.
"""

import difflib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from onebasin.errors import OnebasinError
from onebasin.registry import builtins, function_of
from onebasin.storage.files import read_text, write_text

PLACE = ("root", "download")  # settings of data that are downloaded: where they are, and whether they may be


@dataclass(frozen=True)
class Experiment:
    """One entry of `experiments` in the configuration, after validation against the schema."""

    name: str
    settings: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.settings[key]

    @property
    def counts(self) -> list[int]:
        """The model counts N, ascending."""
        return sorted(self["counts"])

    @property
    def largest(self) -> int:
        """The largest count, which is how many models a trial draws."""
        return max(self["counts"])

    @property
    def plane_count(self) -> int | None:
        """The count whose first three models span the plane of the loss surface: the smallest that has three."""
        return min((count for count in self.counts if count >= 3), default=None)

    @property
    def anchored_counts(self) -> list[int]:
        """The counts that have two models beside the first, for the three-model test."""
        return [count for count in self.counts if count >= 3]

    @property
    def trials(self) -> range:
        """The trials' numbers."""
        return range(self["trials"])

    def models_of(self, trial: int, count: int | None = None) -> list[int]:
        """Seeds of the first `count` models of a trial (all by default). No two trials share a model."""
        start = trial * self.largest
        return self["seeds"][start : start + (self.largest if count is None else count)]

    @property
    def checkpoints(self) -> dict[int, str]:
        """The user's own checkpoints by seed; none if the models are trained here."""
        paths = self.settings.get("models", {}).get("checkpoints", [])
        return dict(zip(self["seeds"], paths, strict=True)) if paths else {}

    @property
    def archives(self) -> str | None:
        """The name of its data set if that is downloaded."""
        name: str = self["data"]["name"]
        return name if builtins("data").get(name, {}).get("archives") else None

    @property
    def data(self) -> dict[str, Any]:
        """The settings that decide its data. An archive is known by its checksum, so where it is decides nothing."""
        return {key: value for key, value in self["data"].items() if not (self.archives and key in PLACE)}

    @property
    def recipe(self) -> dict[str, Any]:
        """What decides the bits of a model of a given seed; models say it of themselves.

        Those of checkpoints that were made elsewhere say which network and data they were adopted for.
        """
        if self.checkpoints:
            return {"network": self["network"], "data": self.data}
        training = {key: value for key, value in self["training"].items() if key != "seeds_per_job"}
        return {"network": self["network"], "training": training, "data": self.data, "root": self["seed"]}

    def function_of(self, kind: str, method: str | None = None) -> str:
        """Where the experiment's `data`, `network` or one of its methods is, as `package.module:callable`."""
        if kind == "method":
            assert method is not None
            return self["methods"][method].get("function") or function_of(kind, method)
        return function_of(kind, self[kind]["name"])

    def method_settings(self, method: str) -> dict[str, Any]:
        """The settings that reach the method's function."""
        return {
            key: value
            for key, value in self["methods"][method].items()
            if key not in ("function", "model_by_model", "anchored")
        }

    def searched_counts(self, method: str) -> list[int]:
        """The counts that a method searches for: all, or the largest if it `is_model_by_model`."""
        return [self.largest] if self.is_model_by_model(method) else self.counts

    def is_model_by_model(self, method: str) -> bool:
        """Whether a method treats every model apart from the others, so that its first N permutations serve N."""
        return self._fact(method, "model_by_model")

    def is_anchored(self, method: str) -> bool:
        """Whether a method leaves the first model as it is, so that its permutations match all others to that one."""
        return self._fact(method, "anchored")

    def _fact(self, method: str, name: str) -> bool:
        facts = builtins("method").get(method, self["methods"][method])
        return bool(facts.get(name, False))


def read_experiments(config: Mapping[str, Any]) -> dict[str, Experiment]:
    """The experiments of a validated configuration by name.

    Raises:
        OnebasinError: what a schema cannot say: too few seeds for the trials, a landscape of absent models, seeds that
            are not those of the checkpoints.
    """
    found = {name: Experiment(name, _named(_in_order(settings))) for name, settings in config["experiments"].items()}
    for experiment in found.values():
        _check(experiment)
    return found


def require_checkpoints(experiments: Mapping[str, Experiment], adopted: str) -> None:
    """Refuse own checkpoints that are not there and have not been adopted before.

    Args:
        adopted: the pattern of what is made of them, with `{experiment}` and `{seed}`.
    """
    for experiment in experiments.values():
        for seed, path in experiment.checkpoints.items():
            if not (Path(path).is_file() or Path(adopted.format(experiment=experiment.name, seed=seed)).is_file()):
                raise OnebasinError(
                    f"config: experiments.{experiment.name}.models.checkpoints: {path}: no such file; name a file, "
                    f"from the folder that the workflow runs in"
                )


def read_downloads(experiments: Mapping[str, Experiment]) -> dict[str, dict[str, Any]]:
    """The data sets that are downloaded, by name: the folder of their archives (`root`), and whether all that use them
    let them be downloaded (`download`).

    Raises:
        OnebasinError: two experiments look for one data set in two folders.
    """
    found: dict[str, dict[str, Any]] = {}
    for experiment in experiments.values():
        if experiment.archives:
            root, download = (experiment["data"][key] for key in PLACE)
            place = found.setdefault(experiment.archives, {"root": root, "download": download})
            place["download"] &= download
            if place["root"] != root:
                raise OnebasinError(
                    f"config: experiments.{experiment.name}.data.root: {experiment.archives} is in {place['root']} for "
                    f"another experiment; name one folder"
                )
    return found


def _in_order(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with their keys sorted, so that writing them in another order is no change; methods keep theirs."""
    ordered = {key: _in_order(own) if isinstance(own, Mapping) else own for key, own in sorted(settings.items())}
    if isinstance(settings.get("methods"), Mapping):
        ordered["methods"] = {name: _in_order(own) for name, own in settings["methods"].items()}
    return ordered


def _named(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings with seeds: checkpoints that have none are named by their places in the list."""
    own = settings.get("models", {}).get("checkpoints", [])
    return {"seeds": list(range(len(own))), **settings}


def _check(experiment: Experiment) -> None:
    where = f"experiments.{experiment.name}"
    own = experiment.settings.get("models", {}).get("checkpoints")
    if own is not None and len(own) != len(experiment["seeds"]):
        raise OnebasinError(
            f"config: {where}.seeds: {len(experiment['seeds'])} for {len(own)} models.checkpoints; name each, or leave "
            f"seeds out"
        )
    need, have = experiment.largest * len(experiment.trials), len(experiment["seeds"])
    if need > have:
        kind, place = ("seeds", "seeds") if own is None else ("models", "models.checkpoints")
        raise OnebasinError(
            f"config: {where}.counts: {len(experiment.trials)} trials of {experiment.largest} need {need} {kind}; "
            f"{where}.{place} has {have}; add {kind}, or lower counts or trials"
        )
    plane = experiment["landscape"]
    if plane["trial"] not in experiment.trials:
        raise OnebasinError(
            f"config: {where}.landscape.trial: {plane['trial']} is not below trials ({len(experiment.trials)})"
        )


class SchemaError(Protocol):
    """What is used here of `jsonschema.ValidationError`."""

    json_path: str
    message: str
    validator: str
    instance: Any
    schema: Mapping[str, Any]


def explain(error: SchemaError) -> str:
    """One line for a refused configuration: the key, what is wrong, and what is allowed."""
    path = error.json_path.removeprefix("$").removeprefix(".")
    if error.validator == "additionalProperties":
        allowed = error.schema.get("properties", {})
        unknown = next(key for key in error.instance if key not in allowed)
        close = difflib.get_close_matches(unknown, allowed, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return (
            f"config: {path}{'.' if path else ''}{unknown}: no such key; {hint}allowed: {', '.join(allowed) or 'none'}"
        )
    if error.validator == "oneOf":  # its own message would be the whole section
        ways = [alternative["required"] for alternative in error.schema["oneOf"]]
        has = [key for way in ways for key in way if key in error.instance]
        wants = ", or ".join(" and ".join(way) for way in ways)
        return f"config: {path}: wants either {wants}; has {', '.join(has) or 'neither'}"
    allowed = error.schema.get("x-allowed") or _number_hint(error)
    return f"config: {path}{': ' if path else ''}{error.message}" + (f"; allowed: {allowed}" if allowed else "")


def _number_hint(error: SchemaError) -> str:
    """What to write for a number that YAML took for text: it wants a point before the exponent."""
    try:
        return f"{float(error.instance)}" if error.validator == "type" and isinstance(error.instance, str) else ""
    except ValueError:
        return ""


def plan_stacks(experiment: Experiment, planned: Iterable[Sequence[int]]) -> list[list[int]]:
    """Which seeds are trained together, `training.seeds_per_job` at a time.

    A seed that has a stack keeps it: a stack that a new seed joined would train all its old seeds again. So new seeds
    form new stacks, in the configuration's order.

    Args:
        planned: the stacks of earlier runs; seeds that the configuration no longer has are dropped from them.
    """
    wanted = set(experiment["seeds"])
    stacks = [kept for stack in planned if (kept := [seed for seed in stack if seed in wanted])]
    placed = {seed for stack in stacks for seed in stack}
    new = [seed for seed in experiment["seeds"] if seed not in placed]
    size = experiment["training"]["seeds_per_job"]
    return stacks + [new[start : start + size] for start in range(0, len(new), size)]


def read_stacks(path: str | Path) -> list[list[int]]:
    """The stacks planned by earlier runs; none if there is no such file."""
    try:
        stacks = json.loads(read_text(path)) if os.path.lexists(path) else []
    except (ValueError, RecursionError):
        stacks = None
    if not (isinstance(stacks, list) and all(_is_stack(stack) for stack in stacks)):
        raise OnebasinError(f"{path}: not a list of lists of seeds; delete it (models that exist are kept)")
    return stacks


def _is_stack(stack: Any) -> bool:
    return isinstance(stack, list) and all(type(seed) is int for seed in stack)


def write_stacks(path: str | Path, stacks: Sequence[Sequence[int]]) -> None:
    """Remember the plan for later runs."""
    write_text(path, json.dumps(stacks) + "\n")
