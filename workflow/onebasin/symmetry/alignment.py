"""What a method finds: an element of every group for each of N models; as one object, and as an artifact."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from onebasin.errors import OnebasinError
from onebasin.storage import artifacts
from onebasin.symmetry.apply import Elements
from onebasin.symmetry.kinds import kind_of
from onebasin.symmetry.spec import Spec


@dataclass(frozen=True)
class Alignment:
    """`elements[group]` of N models, for a permutation `[N, n]` int64, and the work that finding it took (`steps`)."""

    elements: Elements
    work: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.elements.values())))

    @property
    def indices(self) -> Elements:
        """The elements, as permutations call theirs: new unit i of model k is its old unit `indices[group][k, i]`."""
        return self.elements

    def first(self, count: int) -> "Alignment":
        """That of the first `count` models, which is the answer for them where models are searched one by one."""
        return Alignment({name: element[:count] for name, element in self.elements.items()}, self.work)

    def to(self, device: torch.device | str) -> "Alignment":
        """The same on `device`; tensors that are there already are not copied."""
        return Alignment({name: element.to(device) for name, element in self.elements.items()}, self.work)

    def of(self, model: int) -> Elements:
        """The elements of one model."""
        return {name: element[model] for name, element in self.elements.items()}


def save_alignment(path: str | Path, alignment: Alignment, **facts: Any) -> None:
    """Write the artifact of kind `permutations`; `facts` say which method, trial and models."""
    artifacts.save(path, "permutations", alignment.elements, work=alignment.work, **facts)


def load_alignment(
    path: str | Path, spec: Spec, seeds: tuple[int, ...], search: Mapping[str, Any] | None = None
) -> Alignment:
    """Read the alignment of the models `seeds`, found by the `search` of these facts (method, trial) if given.

    Raises:
        OnebasinError: damaged, of other models or another search, not of this network, or not of its groups' kinds.
    """
    artifact = artifacts.load(path, "permutations", ("models", "work"), search)
    if tuple(artifact.facts["models"]) != seeds:
        raise OnebasinError(
            f"{path}: made for models {artifact.facts['models']}, not {list(seeds)}; {artifacts.REMAKE}"
        )
    check_elements(artifact.tensors, spec, len(seeds), path)
    return Alignment(artifact.tensors, artifact.facts["work"])


def check_elements(elements: Mapping[str, torch.Tensor], spec: Spec, models: int, where: str | Path) -> None:
    """Refuse anything but one element of every group of the spec for each of the models."""
    if set(elements) != {group.name for group in spec.groups}:
        raise OnebasinError(f"{where}: groups {sorted(elements)} are not the network's; {artifacts.REMAKE}")
    for group in spec.groups:
        own = elements[group.name]
        if own.dim() == 0 or len(own) != models or not kind_of(group).is_element(own, group):
            raise OnebasinError(f"{where}: group {group.name} holds no {group.kind}s; {artifacts.REMAKE}")
