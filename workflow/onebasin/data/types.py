"""Data sets as tensors: inputs and targets per split, on one device; images, rows of a table and tokens alike.

There are no worker processes: batches are index operations on the device, driven by an explicit generator. A data set
that is made of pixels is kept as uint8 until it is on its device, in its file, too.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from onebasin.errors import OnebasinError

# What images of natural colours are normalised with: mean and standard deviation of ImageNet's pixels, per channel.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

IMAGES = 4  # axes of a batch of images `[n, c, h, w]`


@dataclass(frozen=True)
class Split:
    """Inputs `[n, ...]` and targets int64 `[n]`, or `[n, positions]` where every position of an input has its own.

    Inputs are images `[n, c, h, w]` float32 (uint8 until `Data.to`), rows `[n, features]` float32, or tokens
    `[n, positions]` int64.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def images(self) -> Tensor:
        """The inputs, as data of images call them."""
        return self.inputs

    @property
    def labels(self) -> Tensor:
        """The targets, as data of images call them."""
        return self.targets

    def fault(self, name: str, classes: int) -> str | None:
        """What is wrong with targets that are no class numbers, or with inputs that are not finite; None if nothing."""
        if self.targets.dtype != torch.int64:
            kind = self.targets.dtype
            return f"data: the {name} targets are {kind}; they have to be class numbers, int64 (targets.long())"
        outside = self.targets[(self.targets < 0) | (self.targets >= classes)]
        if len(outside):
            return (
                f"data: a {name} target is {int(outside[0])}, and {classes} classes are 0 to {classes - 1}; correct "
                f"the targets or the number of classes"
            )
        if not self.inputs.is_floating_point() or bool(self.inputs.isfinite().all()):
            return None
        wrong = (~self.inputs.flatten(1).isfinite().all(dim=1)).nonzero()
        return (
            f"data: {len(wrong)} {name} inputs hold NaN or infinity, the first of them number {int(wrong[0])}; leave "
            f"them out or mend them"
        )

    def first(self, count: int | None) -> "Split":
        """The first `count` samples; all, if None."""
        return Split(self.inputs[:count], self.targets[:count])


@dataclass(frozen=True)
class Data:
    """A training and a test split, the number of classes, and perhaps a validation split held out of the training set.

    `mean` and `std` (one value, or one a channel) say what became of a pixel p in [0, 1]: (p - mean) / std. For float32
    images that has happened; for uint8 pixels, 0 to 255, it does in `to`. Other inputs have no use for them.
    """

    train: Split
    test: Split
    classes: int
    validation: Split | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: `(c, h, w)` of an image."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def input_type(self) -> torch.dtype:
        """Type of the inputs that a network sees: int64 for tokens, else float32, which pixels become in `to`."""
        own = self.train.inputs.dtype
        return torch.float32 if own == torch.uint8 else own

    @property
    def has_images(self) -> bool:
        """Whether the inputs are images `[n, c, h, w]`."""
        return self.train.inputs.dim() == IMAGES

    def example(self, count: int = 2) -> Tensor:
        """A batch `[count, ...]` as the network sees it: zeros, or of tokens the first ones of the training set.

        Any number will do for a network of numbers; which tokens there are, only the data know, and who proves
        something of a network wants several (`symmetry.check`).
        """
        inputs = self.train.inputs
        if self.input_type.is_floating_point:
            return torch.zeros(count, *self.input_shape, dtype=self.input_type, device=inputs.device)
        return inputs[:count]

    @property
    def splits(self) -> dict[str, Split]:
        """The splits there are, by name."""
        held_out = {} if self.validation is None else {"validation": self.validation}
        return {"train": self.train, **held_out, "test": self.test}

    @functools.cached_property
    def fault(self) -> str | None:
        """Why no measure can be right about these data, in one line; None if nothing is wrong with them."""
        return next(filter(None, (split.fault(name, self.classes) for name, split in self.splits.items())), None)

    @functools.cached_property
    def black(self) -> Tensor:
        """What a black pixel has become, `[c]` on the images' device.

        Raises:
            OnebasinError: the inputs are no images, so that there is nothing to shift and mirror.
        """
        if not self.has_images:
            shape = ", ".join(map(str, ("n", *self.input_shape)))
            raise OnebasinError(
                f"config: augmentation: moves images [n, c, h, w], these inputs are [{shape}]; leave it out"
            )
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
        """The data on `device`; uint8 pixels are scaled to [0, 1] and normalised there, as float32."""
        validation = None if self.validation is None else self._moved(self.validation, device)
        train, test = self._moved(self.train, device), self._moved(self.test, device)
        return replace(self, train=train, test=test, validation=validation)

    def _moved(self, split: Split, device: torch.device | str) -> Split:
        inputs = split.inputs.to(device)
        if inputs.dtype == torch.uint8:
            channels = (-1, *[1] * (inputs.dim() - 2))
            mean, std = (torch.tensor(values, device=device).view(channels) for values in (self.mean, self.std))
            inputs = inputs.float().div_(255).sub_(mean).div_(std)
        return Split(inputs, split.targets.to(device))


def batches(size: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """One epoch of `size` samples in random order: index tensors of length `batch`, the last one shorter."""
    order = torch.randperm(size, generator=generator, device=generator.device)
    yield from order.split(batch)
