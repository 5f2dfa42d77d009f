"""What a configuration means: which models a trial draws, what is searched, measured and shown, and what is wrong.

The workflow imports this module while it builds its graph, so it needs neither torch nor pandas.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onebasin.config.explain import explain
from onebasin.config.schema import complete
from onebasin.config.study import Study, expand
from onebasin.errors import OnebasinError
from onebasin.registry import CROSS_ENTROPY, entries, function_of, use

PLACE = ("root", "download")  # settings of data that are downloaded: where they are, and whether they may be


@dataclass(frozen=True)
class Configuration:
    """A whole configuration after validation: its experiments, those of its studies included, and its studies."""

    settings: Mapping[str, Any]
    experiments: Mapping[str, "Experiment"]
    studies: Mapping[str, Study]

    @property
    def claims(self) -> dict[str, list[str]]:
        """By file of claims, the experiments and studies that it is about: those that name it, and those that name none
        if the configuration does."""
        found: dict[str, list[str]] = {path: [] for path in self.settings["claims"]}
        own = {name: experiment.settings.get("claims") for name, experiment in self.experiments.items()}
        own |= {name: study.claims for name, study in self.studies.items()}
        for subject, paths in own.items():
            for path in self.settings["claims"] if paths is None else paths:
                found.setdefault(path, []).append(subject)
        return {path: subjects for path, subjects in found.items() if subjects}


def read_configuration(config: dict[str, Any]) -> Configuration:
    """Complete a configuration by its defaults, in place, and check it.

    Raises:
        OnebasinError: it is not as the schema has it, or what a schema cannot say: too few seeds for the trials, a
            landscape of absent models, seeds that are not those of the checkpoints.
    """
    own = config.get("registry")
    use(own if isinstance(own, list) and all(isinstance(path, str) for path in own) else [])
    experiments = config.get("experiments")
    settings = {**config}
    studies: dict[str, Study] = {}
    if isinstance(experiments, dict):
        settings["experiments"], studies = expand(experiments)
    error = complete("#", settings)
    if error is not None:
        raise OnebasinError(explain(error))
    config.update({key: value for key, value in settings.items() if key != "experiments"})
    return Configuration(settings, read_experiments(settings), studies)


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
    def trials(self) -> range:
        """The trials' numbers."""
        return range(self["trials"])

    def models_of(self, trial: int, count: int | None = None) -> list[int]:
        """Seeds of the first `count` models of a trial (all by default). No two trials share a model."""
        start = trial * self.largest
        return self["seeds"][start : start + (self.largest if count is None else count)]

    @property
    def blocks(self) -> list[tuple[int, ...]]:
        """The seeds that are trained by one job each: as the configuration groups them into ranges."""
        return [] if self.checkpoints else [tuple(_seeds_of(entry)) for entry in self["seeds_by_job"]]

    @property
    def checkpoints(self) -> dict[int, str]:
        """The user's own checkpoints by seed; none if the models are trained here."""
        paths = self.settings.get("models", {}).get("checkpoints", [])
        return dict(zip(self["seeds"], paths, strict=True)) if paths else {}

    @property
    def archives(self) -> str | None:
        """The name of its data set if that is downloaded."""
        name: str = self["data"]["name"]
        return name if entries("data").get(name, {}).get("archives") else None

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
        training = dict(self["training"])
        if "spawn" in training:  # who shares a beginning follows from how many models a trial has
            training["spawn"] = {**training["spawn"], "models": self.largest}
        return {"network": self["network"], "training": training, "data": self.data, "root": self["seed"]}

    @property
    def objective(self) -> str:
        """What its networks are judged by."""
        return str(self["data"].get("objective", CROSS_ENTROPY))

    @property
    def functions(self) -> list[str]:
        """Where the network is built, and what it is judged by, as `package.module:callable`."""
        canonical = [one["function"] for one in entries("canonical").values()] if "form" in self["network"] else []
        return [self.function_of("network"), function_of("objective", self.objective), *canonical]

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
        facts = entries("method").get(method, self["methods"][method])
        return bool(facts.get(name, False))

    @property
    def blocks_of_methods(self) -> dict[str, list[str]]:
        """Which methods share the jobs that measure, by the first one: most of a small job is its start."""
        methods = list(self["methods"])
        size = self["methods_per_job"] or len(methods)
        return {methods[start]: methods[start : start + size] for start in range(0, len(methods), size)}

    @property
    def measures(self) -> list[str]:
        """What is measured: what the experiment lists and what that reads, or all that is not optional; in the order of
        the registry, without what its counts and methods do not allow."""
        known = entries("measure")
        listed = self.settings.get("measures")
        wanted = {name for name, entry in known.items() if not entry.get("optional")} if listed is None else {*listed}
        wanted |= {known[name]["reads"] for name in wanted if "reads" in known[name]}
        return [name for name, entry in known.items() if self._measures(name, entry, wanted)]

    def _measures(self, name: str, entry: Mapping[str, Any], wanted: set[str]) -> bool:
        if entry["scope"] == "training":
            return not self.checkpoints
        if entry["scope"] == "matching":
            return True
        searches = entry.get("searches", [])
        has_methods = searches == "unanchored" or set(searches) <= set(self["methods"])
        return name in wanted and has_methods and bool(self.counts_of(name))

    @property
    def tables(self) -> dict[str, str]:
        """The experiment's tables, and which measure fills each."""
        return {table: name for name in self.measures for table in entries("measure")[name].get("tables", {})}

    def counts_of(self, measure: str) -> list[int]:
        """The model counts that a measure is about."""
        entry = entries("measure")[measure]
        counts = [count for count in self.counts if count >= entry.get("minimum_count", 2)]
        return counts[:1] if entry.get("smallest_count") else counts

    def trials_of(self, measure: str) -> list[int]:
        """The trials that a measure is about."""
        if entries("measure")[measure].get("one_trial"):
            return [self.settings_of(measure)["trial"]]
        return list(self.trials)

    def settings_of(self, measure: str) -> dict[str, Any]:
        """The settings that reach a measure's function."""
        shared = [place.split(".") for place in entries("measure")[measure].get("uses", [])]
        own = (self.settings.get("measures") or {}).get(measure, {})
        return {key: self[section][key] for section, key in shared} | own

    def searches_of(self, measure: str) -> dict[str, tuple[str, dict[str, Any]]]:
        """The searches that a measure runs itself: by method, where its function is, and its settings."""
        wanted = entries("measure")[measure].get("searches", [])
        if wanted == "unanchored":
            wanted = [name for name in self["methods"] if not self.is_anchored(name)]
        return {name: (self.function_of("method", name), self.method_settings(name)) for name in wanted}


def figures_from(tables: Collection[str], of: str = "experiments", varied: Collection[str] = ()) -> list[str]:
    """The figures of `experiments` or of `studies` that need no other tables than these, and of studies none that is
    against a setting that is not `varied`."""
    return [
        name
        for name, entry in entries("figure").items()
        if set(entry["tables"]) <= set(tables)
        and entry.get("of", "experiments") == of
        and set(entry.get("varied", ())) <= set(varied)
    ]


def read_experiments(config: Mapping[str, Any]) -> dict[str, Experiment]:
    """The experiments of a configuration that was completed by the schema, by name.

    Raises:
        OnebasinError: what a schema cannot say: too few seeds for the trials, a landscape of absent models, seeds that
            are not those of the checkpoints.
    """
    found = {
        name: Experiment(name, _named(name, _in_order(settings))) for name, settings in config["experiments"].items()
    }
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


def require_claims(paths: Collection[str]) -> None:
    """Refuse files of claims that are not there: Snakemake would leave old verdicts as they are without a word."""
    for path in paths:
        if not Path(path).is_file():
            raise OnebasinError(
                f"config: claims: {path}: no such file; name files from the folder that the workflow runs in, or []"
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


def _named(name: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings with `seeds` one by one, and `seeds_by_job` as they were given.

    Checkpoints that have none are named by their places in the list.
    """
    own = settings.get("models", {}).get("checkpoints", [])
    given = settings.get("seeds", list(range(len(own))))
    seeds = [seed for entry in given for seed in _seeds_of(entry)]
    twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
    if twice is not None:
        raise OnebasinError(f"config: experiments.{name}.seeds: {twice} is there twice; keep one of them")
    return {**settings, "seeds": seeds, "seeds_by_job": given}


def _seeds_of(entry: int | str) -> Iterator[int]:
    """The seeds of an entry of `seeds`: one, or a range."""
    first, _, last = str(entry).partition("-")
    yield from range(int(first), int(last or first) + 1)


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
    if experiment.settings.get("training", {}).get("spawn", {}).get("epochs"):
        for trial in experiment.trials:
            seeds = experiment.models_of(trial)
            first = seeds[0] - seeds[0] % len(seeds)
            if seeds != list(range(first, first + len(seeds))):
                raise OnebasinError(
                    f"config: {where}.seeds: with training.spawn a trial's models share a beginning, so that the "
                    f"{len(seeds)} of trial {trial} have to be {first} to {first + len(seeds) - 1}, not {seeds}"
                )
    plane = experiment["landscape"]
    if plane["trial"] not in experiment.trials:
        raise OnebasinError(
            f"config: {where}.landscape.trial: {plane['trial']} is not below trials ({len(experiment.trials)})"
        )
