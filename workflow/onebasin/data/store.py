"""A data set as a file: an artifact of kind `data`, tensors `<split>_images` and `<split>_labels` if it is of images,
`<split>_inputs` and `<split>_targets` if not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from onebasin.data.types import Data, Split
from onebasin.errors import OnebasinError
from onebasin.storage import artifacts

OF_IMAGES, OF_OTHERS = ("images", "labels"), ("inputs", "targets")


def save_data(path: str | Path, data: Data, **facts: Any) -> None:
    """Write a data set as an artifact of kind `data`; `facts` say which it is."""
    inputs, targets = OF_IMAGES if data.has_images else OF_OTHERS
    tensors = {f"{name}_{inputs}": split.inputs for name, split in data.splits.items()}
    tensors |= {f"{name}_{targets}": split.targets for name, split in data.splits.items()}
    artifacts.save(path, "data", tensors, classes=data.classes, mean=data.mean, std=data.std, **facts)


def load_data(path: str | Path, device: torch.device | str = "cpu", recipe: Mapping[str, Any] | None = None) -> Data:
    """Read a data set (artifact of kind `data`) onto `device` (`Data.to`); if `recipe` is given, one of that recipe.

    Raises:
        OnebasinError: the file is missing, damaged, or of other settings.
    """
    artifact = artifacts.load(path, "data", ("classes", "mean", "std"), {} if recipe is None else {"recipe": recipe})
    found, facts = artifact.tensors, artifact.facts
    names = OF_OTHERS if f"train_{OF_OTHERS[0]}" in found else OF_IMAGES
    needed = {f"{split}_{what}" for split in ("train", "test") for what in names}
    if missing := sorted(needed - found.keys()):
        raise OnebasinError(f"{path}: has no {', '.join(missing)}; {artifacts.REMAKE}")
    splits = {
        name: Split(*(found[f"{name}_{what}"] for what in names))
        for name in ("train", "validation", "test")
        if f"{name}_{names[0]}" in found
    }
    return Data(**splits, classes=facts["classes"], mean=tuple(facts["mean"]), std=tuple(facts["std"])).to(device)
