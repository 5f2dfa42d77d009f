"""Data sets as tensors: images `[n, c, h, w]` float32 and labels `[n]` int64, per split, on one device.

There are no worker processes: batches are index operations on the device, driven by an explicit generator.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onebasin import artifacts
from onebasin.errors import OnebasinError
from onebasin.registry import resolve


@dataclass(frozen=True)
class Split:
    """Images `[n, c, h, w]` float32 and their labels `[n]` int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    """A training and a test split, and the number of classes."""

    train: Split
    test: Split
    classes: int

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape `(c, h, w)` of one image."""
        return tuple(self.train.images.shape[1:])

    def split(self, name: str) -> Split:
        """The split called `train` or `test`."""
        return {"train": self.train, "test": self.test}[name]


def make_data(settings: Mapping[str, Any]) -> Data:
    """The data set named by `settings["name"]`, made with the other settings as arguments."""
    arguments = dict(settings)
    make: Callable[..., Data] = resolve("data", arguments.pop("name"))
    return make(**arguments)


def save_data(path: str | Path, data: Data, **facts: Any) -> None:
    """Write a data set as an artifact of kind `data`; `facts` say which it is."""
    artifacts.save(path, "data", _tensors(data), classes=data.classes, **facts)


def load_data(path: str | Path, device: torch.device | str = "cpu") -> Data:
    """Read a data set (artifact of kind `data`) onto `device`.

    Raises:
        OnebasinError: the file is missing or damaged.
    """
    artifact = artifacts.load(path, "data", ("classes",))
    found = {name: tensor.to(device) for name, tensor in artifact.tensors.items()}
    train, test = (Split(found[f"{name}_images"], found[f"{name}_labels"]) for name in ("train", "test"))
    return Data(train, test, artifact.facts["classes"])


def digits(test_fraction: float = 0.2, seed: int = 0) -> Data:
    """scikit-learn's 8 x 8 digits, scaled to [0, 1]: 1,797 images of ten classes, split stratified by class."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float().div_(16).unsqueeze_(1)
    labels = torch.from_numpy(bunch.target).long()
    everyone = torch.arange(len(labels)).numpy()
    try:
        train, test = train_test_split(everyone, test_size=test_fraction, random_state=seed, stratify=bunch.target)
    except ValueError as error:
        raise OnebasinError(f"config: data: the digits cannot be split so: {error}") from None
    return Data(Split(images[train], labels[train]), Split(images[test], labels[test]), classes=10)


def batches(size: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """One epoch of `size` samples in random order: index tensors of length `batch`, the last one shorter."""
    order = torch.randperm(size, generator=generator, device=generator.device)
    yield from order.split(batch)


def _tensors(data: Data) -> dict[str, Tensor]:
    splits = {"train": data.train, "test": data.test}
    images = {f"{name}_images": split.images for name, split in splits.items()}
    return images | {f"{name}_labels": split.labels for name, split in splits.items()}
