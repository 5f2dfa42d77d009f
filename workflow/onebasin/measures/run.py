"""What a measure is given: the run of an experiment, of which it opens what it asks for and nothing else.

A measure is a function `(run, settings) -> {table: frame}`; its entry in the registry says its scope and its tables.
The frames need no columns that the run knows: experiment, and where the scope has them trial and method.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pandas as pd
import torch
from torch import nn

from onebasin.data import Data, Split, load_data
from onebasin.merging.average import aligned_models
from onebasin.merging.recalibration import Recalibration
from onebasin.models.checkpoints import load_merged, load_models
from onebasin.models.stack import Models
from onebasin.networks.build import FORM, is_canonical_form, matched_network
from onebasin.parameters import Parameters
from onebasin.seeding import generator
from onebasin.storage.parts import read_parts
from onebasin.symmetry.alignment import Alignment, load_alignment
from onebasin.symmetry.spec import Spec, load_spec

Opened = TypeVar("Opened")


@dataclass(frozen=True)
class Run:
    """One run of a measure: of an experiment, of a trial, or of a method and trial.

    Attributes:
        experiment: its name.
        root: the root of its random streams.
        recipe: what decides the bits of its models; `network` and `data` are in it.
        normalization: what is done to merged and interpolated models.
        counts: the model counts that the measure is about.
        seeds: the models of each trial, by trial.
        trial, method: which trial (-1: none) and method, where the scope has one.
        files: the paths by what they hold: `data`, `symmetries`, `models` (by seed), `permutations` and `merged` (by
            method and count), `reads` (parts of another measure).
        searched: the methods that the measure runs itself: where the function of each is, and its settings.
    """

    experiment: str
    root: int
    recipe: Mapping[str, Any]
    normalization: Mapping[str, Any]
    counts: Sequence[int]
    seeds: Mapping[int, Sequence[int]]
    device: torch.device
    files: Mapping[str, Any]
    searched: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    trial: int = -1
    method: str = ""
    _opened: dict[Hashable, Any] = field(default_factory=dict)

    def of(self, method: str) -> "Run":
        """The same run of one method; what was opened stays open."""
        return replace(self, method=method)

    def once(self, key: Hashable, make: Callable[[], Opened]) -> Opened:
        """What `make` returns, made once for all methods of a job; `key` tells it apart."""
        if key not in self._opened:
            self._opened[key] = make()
        found: Opened = self._opened[key]
        return found

    @property
    def data(self) -> Data:
        """The data set, on the device."""
        return self.once("data", lambda: load_data(self.files["data"], self.device, self.recipe["data"]))

    def split(self, settings: Mapping[str, Any]) -> Split:
        """The first `images` samples (all, if None) of the split called `split`."""
        return self.data.split(settings["split"]).first(settings["images"])

    @property
    def network(self) -> nn.Module:
        """A network of the experiment, whose own values do not matter."""
        return self.once("network", self._new_network)

    def _new_network(self) -> nn.Module:
        shape, classes = self.data.input_shape, self.data.classes
        return matched_network(self.recipe["network"], shape, classes, "unused").to(self.device)

    @property
    def models(self) -> Models:
        """The models of the trial, of the largest count that the measure is about."""
        seeds = self.seeds[self.trial]
        return self.once("models", lambda: self.models_of(seeds))

    def models_of(self, seeds: Sequence[int]) -> Models:
        """The models of these seeds."""
        paths = [self.files["models"][seed] for seed in seeds]
        return load_models(paths, self.recipe["network"], self.device, self.recipe)

    @property
    def as_trained(self) -> Models:
        """The models of the trial in the form in which they were trained, whatever form they are matched in."""
        if not is_canonical_form(self.recipe["network"]):
            return self.models
        settings = {name: value for name, value in self.recipe["network"].items() if name != FORM}
        paths = [self.files["models"][seed] for seed in self.seeds[self.trial]]
        return self.once("as trained", lambda: load_models(paths, settings, self.device, self.recipe))

    @property
    def spec(self) -> Spec:
        """What may be permuted in the network."""
        return self.once("spec", lambda: load_spec(self.files["symmetries"], self.recipe["network"]))

    def parents(self, count: int) -> Models:
        """The first `count` models of the trial, before permutation."""
        return self.models.first(count)

    def alignment(self, count: int) -> Alignment:
        """What the method found for the first `count` models."""
        path = self.files["permutations"][self.method, count]
        return load_alignment(path, self.spec, self.parents(count).seeds, self._search)

    def aligned(self, count: int) -> Models:
        """The first `count` models after permutation."""
        return aligned_models(self.parents(count), self.spec, self.alignment(count))

    def merged(self, count: int) -> Parameters:
        """The average of the first `count` models after permutation, as it is used."""
        facts = {"models": self.seeds[self.trial][:count], **self._search}
        return load_merged(self.files["merged"][self.method, count], self.network, self.device, facts)

    @property
    def _search(self) -> dict[str, Any]:
        return {"method": self.method, "trial": self.trial}

    def recalibration(self, repair: bool = True, network: nn.Module | None = None) -> Recalibration:
        """What is done to the parameters of a combined model before it is measured; without REPAIR, if not `repair`.

        Args:
            network: what they are of, if not of `network`.
        """
        settings = self.normalization if repair else {**self.normalization, "method": "recompute"}
        key = ("recalibration", repair, id(network))
        return self.once(key, lambda: Recalibration(network or self.network, self.data.train, settings))

    def part(self, table: str) -> pd.DataFrame:
        """A table of the measure that this one reads, of the same experiment and trial."""
        parts = self.once("reads", lambda: [read_parts(path) for path in self.files["reads"]])
        return pd.concat([part[table] for part in parts], ignore_index=True).drop(columns=["experiment", "trial"])

    def stream(self, *key: int | str) -> torch.Generator:
        """A random stream on the device that is named by `key`, within the experiment's root."""
        return generator(self.root, *key, device=self.device)


def one_below_the_other(found: Iterable[Mapping[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """The tables of several measurements, put together by name."""
    frames: dict[str, list[pd.DataFrame]] = {}
    for tables in found:
        for table, frame in tables.items():
            frames.setdefault(table, []).append(frame)
    return {table: pd.concat(parts) for table, parts in frames.items()}


def by_count(run: Run, measured: Callable[[int], Mapping[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """The tables that `measured` returns for each of the run's counts, put together with a column `count`."""
    return one_below_the_other(
        {table: frame.assign(count=count) for table, frame in measured(count).items()} for count in run.counts
    )


def measured(
    measure: Callable[[Run, Mapping[str, Any]], Mapping[str, pd.DataFrame]],
    run: Run,
    settings: Mapping[str, Any],
    methods: Sequence[str],
) -> dict[str, pd.DataFrame]:
    """What a measure finds for each of the methods ("" where it has no method), with the columns that the run knows."""

    def of(method: str) -> dict[str, pd.DataFrame]:
        known: dict[str, Any] = {"experiment": run.experiment}
        known |= {"trial": run.trial} if run.trial >= 0 else {}
        known |= {"method": method} if method else {}
        return {
            table: frame.assign(**{name: value for name, value in known.items() if name not in frame})
            for table, frame in measure(run.of(method), settings).items()
        }

    return one_below_the_other(map(of, methods))
