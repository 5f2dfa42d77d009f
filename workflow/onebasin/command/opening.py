"""What the options of a subcommand name, opened and checked against each other before any work is done."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from onebasin import api
from onebasin.command.options import UNJUDGED, read_inputs
from onebasin.config.schema import default_of
from onebasin.data import Data
from onebasin.errors import OnebasinError
from onebasin.machine.devices import device_named
from onebasin.machine.jobs import prepare_torch
from onebasin.models.checkpoints import ModelFile, check_identities, identities, read_model_file
from onebasin.models.stack import Models
from onebasin.registry import CROSS_ENTROPY
from onebasin.storage import artifacts
from onebasin.storage.digests import of_tensors
from onebasin.symmetry.alignment import Alignment, load_alignment
from onebasin.symmetry.spec import Spec

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """The models of the files and their data, if there are any."""

    files: list[ModelFile]
    models: Models
    data: Data | None

    @cached_property
    def spec(self) -> Spec:
        """What may be permuted, proven."""
        return api.symmetries(self.models, self.data)

    @property
    def unit(self) -> str:
        """The unit of the losses, as a heading has it; nothing for an objective that says none."""
        return " (nats)" if self.data and self.data.objective == CROSS_ENTROPY else ""

    @property
    def identities(self) -> dict[str, list[str]]:
        """Facts for artifacts made of these models: who they are, where seeds do not say it."""
        return identities(self.files)

    def find(
        self, path: Path | None, method: str, settings: Mapping[str, Any], seed: int, trial: int
    ) -> tuple[Alignment, str, int]:
        """The permutations in a file, or those that a search finds now; and the method and trial that they are of.

        Raises:
            OnebasinError: the file is damaged, or made for other models or these in another order.
        """
        if path is None:
            return api.match(self.models, self.spec, method, self.data, seed, trial, **settings), method, trial
        facts = artifacts.load(path, "permutations", ("models", "method", "trial")).facts
        check_identities(facts, self.files, path)
        return load_alignment(path, self.spec, self.models.seeds), facts["method"], facts["trial"]

    def own_permutation(self, path: Path) -> Alignment:
        """The permutation of the one model that is open, among those of a file.

        Raises:
            OnebasinError: the file is damaged, or was made for other models.
        """
        facts = artifacts.load(path, "permutations", ("models",)).facts
        everyone = facts.get("checksums", facts["models"])
        own = of_tensors(self.files[0].tensors) if "checksums" in facts else self.files[0].facts.get("seed")
        if own not in everyone:
            raise OnebasinError(f"{path}: not made for {self.files[0].path}; give the permutations it was matched in")
        place = everyone.index(own)
        found = load_alignment(path, self.spec, tuple(facts["models"]))
        return Alignment({group: index[place : place + 1] for group, index in found.elements.items()}, found.work)


def open_models(
    files: Sequence[Path],
    network: str | None = None,
    inputs: Sequence[tuple[str | None, str | None, tuple[int, ...]]] = (),
    classes: int | None = None,
    data: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    at_least: int = 1,
    key: str | None = None,
    objective: str | None = None,
    skip: Sequence[str] = (),
    judged: bool = True,
    measured: bool = False,
    canonical: bool = False,
) -> Opened:
    """Read the files and the data, and set torch up to compute as the workflow's jobs do.

    Args:
        judged: whether the models will be judged by the data's targets, so that these have to fit.
        measured: whether losses are all that is wanted.
        canonical: whether the models are brought into canonical form.

    Raises:
        OnebasinError: a file or the data cannot be read, they do not fit each other, or there are too few models.
    """
    if measured and objective == UNJUDGED:
        raise OnebasinError("without an objective there is no loss to measure; name one, or leave --objective out")
    if len(files) < at_least:
        raise OnebasinError(f"{len(files)} model; give at least {at_least} files")
    place = prepare_torch(threads or default_of("threads"), device_named(device or default_of("device")), "warn")
    for file in sorted({file for file in files if files.count(file) > 1}):
        logger.warning("%s: given more than once; it counts that often", file)
    read = [read_model_file(file, key=key) for file in files]
    shape, kind = read_inputs(inputs)
    shape = shape or read[0].input_shape
    size = shape[-1] if isinstance(shape, tuple) else None
    found = None if data is None else api.load_data(data, size, place, objective)
    if found is not None:
        shape, classes = shape or found.input_shape, classes or read[0].facts.get("classes") or found.classes or None
        kind = kind or found.input_type
    models = api.load_models(read, network, shape, classes, place, kind, skip, canonical)
    if found is not None and judged and not models.skipped and found.objective != UNJUDGED:
        api.check_data(models, found)
    elif found is not None:
        api.check_inputs(models, found)
    return Opened(read, models, found)
