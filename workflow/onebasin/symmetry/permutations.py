"""The permutations of N models as one object and as an artifact."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from onebasin.errors import OnebasinError
from onebasin.storage import artifacts
from onebasin.symmetry.apply import Indices
from onebasin.symmetry.spec import Spec


@dataclass(frozen=True)
class Permutations:
    """What a search found: `indices[group]` `[N, n]` int64 for N models, and the work it took (`steps`, ...)."""

    indices: Indices
    work: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.indices.values())))

    def first(self, count: int) -> "Permutations":
        """Those of the first `count` models, which is the answer for them where models are searched one by one."""
        return Permutations({name: index[:count] for name, index in self.indices.items()}, self.work)

    def to(self, device: torch.device | str) -> "Permutations":
        """The same on `device`; index tensors that are there already are not copied."""
        return Permutations({name: index.to(device) for name, index in self.indices.items()}, self.work)

    def of(self, model: int) -> Indices:
        """Those of one model, `[n]` per group."""
        return {name: index[model] for name, index in self.indices.items()}


def save_permutations(path: str | Path, permutations: Permutations, **facts: Any) -> None:
    """Write the artifact of kind `permutations`; `facts` say which method, trial and models."""
    artifacts.save(path, "permutations", permutations.indices, work=permutations.work, **facts)


def load_permutations(
    path: str | Path, spec: Spec, seeds: tuple[int, ...], search: Mapping[str, Any] | None = None
) -> Permutations:
    """Read the permutations of the models `seeds`, found by the `search` of these facts (method, trial) if given.

    Raises:
        OnebasinError: damaged, of other models or another search, not of this network, or not permutations.
    """
    artifact = artifacts.load(path, "permutations", ("models", "work"), search)
    if tuple(artifact.facts["models"]) != seeds:
        raise OnebasinError(
            f"{path}: made for models {artifact.facts['models']}, not {list(seeds)}; {artifacts.REMAKE}"
        )
    check_indices(artifact.tensors, spec, len(seeds), path)
    return Permutations(artifact.tensors, artifact.facts["work"])


def check_indices(indices: Mapping[str, torch.Tensor], spec: Spec, models: int, where: str | Path) -> None:
    """Refuse anything but one permutation of every group of the spec for each of the models."""
    if set(indices) != {group.name for group in spec.groups}:
        raise OnebasinError(f"{where}: groups {sorted(indices)} are not the network's; {artifacts.REMAKE}")
    for group in spec.groups:
        expected = torch.arange(group.size).expand(models, -1)
        index = indices[group.name].cpu()
        if (
            index.dtype != torch.int64
            or index.shape != expected.shape
            or not torch.equal(index.sort(dim=-1).values, expected)
        ):
            raise OnebasinError(f"{where}: group {group.name} holds no permutations; {artifacts.REMAKE}")
