"""Data sets as tensors: images `[n, c, h, w]` float32 and labels `[n]` int64, per split, on one device.

There are no worker processes: batches are index operations on the device, driven by an explicit generator. A data set
that is made of pixels is kept as uint8 until it is on its device, in its file, too.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onebasin.errors import OnebasinError
from onebasin.registry import resolve
from onebasin.storage import artifacts

# What images of natural colours are normalised with: mean and standard deviation of ImageNet's pixels, per channel.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Split:
    """Inputs `[n, ...]`, such as images `[n, c, h, w]` float32 (uint8 until `Data.to`), and targets `[n]` int64."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def first(self, count: int | None) -> "Split":
        """The first `count` samples; all, if None."""
        return Split(self.inputs[:count], self.targets[:count])


@dataclass(frozen=True)
class Data:
    """A training and a test split, the number of classes, and perhaps a validation split held out of the training set.

    `mean` and `std` (one value, or one a channel) say what became of a pixel p in [0, 1]: (p - mean) / std. For float32
    images that has happened; for uint8 pixels, 0 to 255, it does in `to`.
    """

    train: Split
    test: Split
    classes: int
    validation: Split | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape `(c, h, w)` of one image."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def splits(self) -> dict[str, Split]:
        """The splits there are, by name."""
        held_out = {} if self.validation is None else {"validation": self.validation}
        return {"train": self.train, **held_out, "test": self.test}

    @functools.cached_property
    def black(self) -> Tensor:
        """What a black pixel has become, `[c]` on the images' device."""
        channels, device = self.input_shape[0], self.train.inputs.device
        mean, std = (torch.tensor(values, device=device) for values in (self.mean, self.std))
        return ((0 - mean) / std).expand(channels)

    def split(self, name: str) -> Split:
        """The split called `train`, `validation` or `test`.

        Raises:
            OnebasinError: there is no validation split.
        """
        if name == "validation" and self.validation is None:
            raise OnebasinError("the data have no validation split; set data.validation_fraction")
        return self.splits[name]

    def to(self, device: torch.device | str) -> "Data":
        """The data on `device`, as float32: uint8 pixels are scaled to [0, 1] and normalised there."""
        validation = None if self.validation is None else self._moved(self.validation, device)
        train, test = self._moved(self.train, device), self._moved(self.test, device)
        return replace(self, train=train, test=test, validation=validation)

    def _moved(self, split: Split, device: torch.device | str) -> Split:
        images = split.inputs.to(device)
        if images.dtype == torch.uint8:
            mean, std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (self.mean, self.std))
            images = images.float().div_(255).sub_(mean).div_(std)
        return Split(images, split.targets.to(device))


def make_data(settings: Mapping[str, Any]) -> Data:
    """The data set named by `settings["name"]`, made with the other settings as arguments, as it is stored.

    Two settings are for every data set: `validation_fraction` (0) of the training set is held out, chosen by
    `validation_seed` (0).
    """
    arguments = dict(settings)
    make: Callable[..., Data] = resolve("data", arguments.pop("name"))
    fraction, seed = arguments.pop("validation_fraction", 0.0), arguments.pop("validation_seed", 0)
    data = make(**arguments)
    return hold_out(data, fraction, seed) if fraction else data


def hold_out(data: Data, fraction: float, seed: int) -> Data:
    """Hold a fraction of the training set out as the validation split, stratified by class.

    Raises:
        OnebasinError: the training set cannot be split so, or there is a validation split already.
    """
    if data.validation is not None:
        raise OnebasinError("config: data.validation_fraction: the data have a validation split of their own; write 0")
    rest, held = _stratified(data.train.targets, fraction, seed, "the training set")
    images, labels = data.train.inputs, data.train.targets
    return replace(data, train=Split(images[rest], labels[rest]), validation=Split(images[held], labels[held]))


def save_data(path: str | Path, data: Data, **facts: Any) -> None:
    """Write a data set as an artifact of kind `data`; `facts` say which it is."""
    images = {f"{name}_images": split.inputs for name, split in data.splits.items()}
    labels = {f"{name}_labels": split.targets for name, split in data.splits.items()}
    artifacts.save(path, "data", images | labels, classes=data.classes, mean=data.mean, std=data.std, **facts)


def load_data(path: str | Path, device: torch.device | str = "cpu", made: Mapping[str, Any] | None = None) -> Data:
    """Read a data set (artifact of kind `data`) onto `device`, as float32; if `made` is given, one of these settings.

    Raises:
        OnebasinError: the file is missing, damaged, or of other settings.
    """
    artifact = artifacts.load(path, "data", ("classes", "mean", "std"), {} if made is None else {"made": made})
    found, facts = artifact.tensors, artifact.facts
    needed = {f"{split}_{what}" for split in ("train", "test") for what in ("images", "labels")}
    if missing := sorted(needed - found.keys()):
        raise OnebasinError(f"{path}: has no {', '.join(missing)}; {artifacts.REMAKE}")
    splits = {
        name: Split(found[f"{name}_images"], found[f"{name}_labels"])
        for name in ("train", "validation", "test")
        if f"{name}_images" in found
    }
    return Data(**splits, classes=facts["classes"], mean=tuple(facts["mean"]), std=tuple(facts["std"])).to(device)


def digits(test_fraction: float = 0.2, seed: int = 0) -> Data:
    """scikit-learn's 8 x 8 digits, scaled to [0, 1]: 1,797 images of ten classes, split stratified by class."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float().div_(16).unsqueeze_(1)
    labels = torch.from_numpy(bunch.target).long()
    train, test = _stratified(labels, test_fraction, seed, "the digits")
    return Data(Split(images[train], labels[train]), Split(images[test], labels[test]), classes=10)


def _stratified(labels: Tensor, fraction: float, seed: int, what: str) -> tuple[Tensor, Tensor]:
    """Indices of the samples that stay and of those that a fraction of every class leaves to, both shuffled."""
    from sklearn.model_selection import train_test_split

    everyone = torch.arange(len(labels)).numpy()
    try:
        parts = train_test_split(everyone, test_size=fraction, random_state=seed, stratify=labels.numpy())
    except ValueError as error:
        raise OnebasinError(f"config: data: {what} cannot be split so: {error}") from None
    rest, held = map(torch.from_numpy, parts)
    return rest, held


def batches(size: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """One epoch of `size` samples in random order: index tensors of length `batch`, the last one shorter."""
    order = torch.randperm(size, generator=generator, device=generator.device)
    yield from order.split(batch)
