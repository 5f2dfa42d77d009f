"""A data set as a file: an artifact of kind `data`, tensors `<split>_images` and `<split>_labels` if it is of images,
`<split>_inputs` and `<split>_targets` if not, and `<split>_inputs.<name>` of several inputs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onebasin.data.types import Data, Split
from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs, Named
from onebasin.registry import CROSS_ENTROPY
from onebasin.storage import artifacts

OF_IMAGES, OF_OTHERS = ("images", "labels"), ("inputs", "targets")


def save_data(path: str | Path, data: Data, **facts: Any) -> None:
    """Write a data set as an artifact of kind `data`; `facts` say which it is."""
    inputs, targets = OF_IMAGES if data.has_images else OF_OTHERS
    tensors: dict[str, Tensor] = {}
    for name, split in data.splits.items():
        if isinstance(split.inputs, Named):
            tensors |= {f"{name}_{inputs}.{word}": tensor for word, tensor in split.inputs.tensors.items()}
        else:
            tensors[f"{name}_{inputs}"] = split.inputs
    tensors |= {f"{name}_{targets}": split.targets for name, split in data.splits.items()}
    if data.objective != CROSS_ENTROPY:  # which goes without saying
        if not isinstance(data.objective, str):
            raise OnebasinError(f"{path}: a file keeps no function; name the objective as package.module:callable")
        facts["objective"] = data.objective
    if data.entropy_rate is not None:
        facts["entropy_rate"] = data.entropy_rate
    artifacts.save(path, "data", tensors, classes=data.classes, mean=data.mean, std=data.std, **facts)


def load_data(path: str | Path, device: torch.device | str = "cpu", recipe: Mapping[str, Any] | None = None) -> Data:
    """Read a data set (artifact of kind `data`) onto `device` (`Data.to`); if `recipe` is given, one of that recipe.

    Raises:
        OnebasinError: the file is missing, damaged, or of other settings.
    """
    artifact = artifacts.load(path, "data", ("classes", "mean", "std"), {} if recipe is None else {"recipe": recipe})
    found, facts = artifact.tensors, artifact.facts
    inputs, targets = OF_OTHERS if f"train_{OF_OTHERS[1]}" in found else OF_IMAGES
    splits, missing = {}, []
    for name in ("train", "validation", "test"):
        taken, wanted = _inputs(found, f"{name}_{inputs}"), found.get(f"{name}_{targets}")
        if taken is not None and wanted is not None:
            splits[name] = Split(taken, wanted, facts.get("objective", CROSS_ENTROPY))
        elif name != "validation":
            missing += [f"{name}_{what}" for what, part in ((inputs, taken), (targets, wanted)) if part is None]
    if missing:
        raise OnebasinError(f"{path}: has no {', '.join(sorted(missing))}; {artifacts.REMAKE}")
    values = tuple(facts["mean"]), tuple(facts["std"]), facts.get("entropy_rate")
    return Data(splits["train"], splits["test"], facts["classes"], splits.get("validation"), *values).to(device)


def _inputs(found: Mapping[str, Tensor], name: str) -> Inputs | None:
    """The one input of that name, or the several whose names begin with it; None if there are none."""
    several = {word.removeprefix(f"{name}."): own for word, own in found.items() if word.startswith(f"{name}.")}
    return Named(several) if several else found.get(name)
