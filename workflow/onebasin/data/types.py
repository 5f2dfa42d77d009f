"""Data sets as tensors: inputs and targets per split, on one device; images, rows of a table and tokens alike.

There are no worker processes: batches are index operations on the device, driven by an explicit generator. A data set
that is made of pixels is kept as uint8 until it is on its device, in its file, too.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs, Named, Shape, Type, map_inputs, shape_of, shape_text, tensors_of, type_of
from onebasin.registry import CROSS_ENTROPY

# What images of natural colours are normalised with: mean and standard deviation of ImageNet's pixels, per channel.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

IMAGES = 4  # axes of a batch of images `[n, c, h, w]`


@dataclass(frozen=True)
class Split:
    """Inputs `[n, ...]` and targets: class numbers int64 `[n]`, or `[n, positions]` where every position has its own;
    or whatever the `objective` takes, `[n, ...]`.

    Inputs are images `[n, c, h, w]` float32 (uint8 until `Data.to`), rows `[n, features]` float32, or tokens
    `[n, positions]` int64. Several inputs are a dictionary of such tensors by the network's keywords (`inputs.Named`).
    """

    inputs: Inputs
    targets: Tensor
    objective: str | Callable[..., Any] = CROSS_ENTROPY

    def __post_init__(self) -> None:
        """Let a dictionary of tensors be several inputs."""
        if isinstance(self.inputs, Mapping):
            object.__setattr__(self, "inputs", Named(self.inputs))

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def images(self) -> Inputs:
        """The inputs, as data of images call them."""
        return self.inputs

    @property
    def labels(self) -> Tensor:
        """The targets, as data of images call them."""
        return self.targets

    def input_fault(self, name: str) -> str | None:
        """What is wrong with inputs that are not finite, or not as many as the targets; None if nothing."""
        if not len(self):
            return f"data: there are no {name} samples; give some"
        for tensor in tensors_of(self.inputs):
            if len(tensor) != len(self.targets):
                return f"data: {len(tensor)} {name} inputs for {len(self.targets)} targets; give each input its target"
            if fault := _not_finite(tensor, f"{name} inputs"):
                return fault
        return None

    def target_fault(self, name: str, classes: int) -> str | None:
        """What is wrong with targets that are not what the objective takes; None if nothing."""
        if self.objective != CROSS_ENTROPY:
            return _not_finite(self.targets, f"{name} targets")
        if self.targets.dtype != torch.int64:
            kind = self.targets.dtype
            return (
                f"data: the {name} targets are {kind}; they have to be class numbers, int64 (targets.long()), or the "
                f"objective another one than cross_entropy"
            )
        outside = self.targets[(self.targets < 0) | (self.targets >= classes)]
        if not len(outside):
            return None
        return (
            f"data: a {name} target is {int(outside[0])}, and {classes} classes are 0 to {classes - 1}; correct the "
            f"targets or the number of classes"
        )

    def only_input(self, what: str) -> Tensor:
        """The inputs, for `what` takes networks of one input alone.

        Raises:
            OnebasinError: there are several.
        """
        if isinstance(self.inputs, Tensor):
            return self.inputs
        raise OnebasinError(f"{what} takes networks of one input; this one has {', '.join(self.inputs.tensors)}")

    def some(self, chosen: Tensor | slice) -> "Split":
        """Some of the samples."""
        return replace(self, inputs=self.inputs[chosen], targets=self.targets[chosen])

    def first(self, count: int | None) -> "Split":
        """The first `count` samples; all, if None."""
        return self.some(slice(count))


def _not_finite(tensor: Tensor, what: str) -> str | None:
    if not tensor.is_floating_point() or bool(tensor.isfinite().all()):
        return None
    wrong = (~tensor.isfinite()).view(len(tensor), -1).any(dim=1).nonzero()
    return (
        f"data: {len(wrong)} {what} hold NaN or infinity, the first of them number {int(wrong[0])}; leave them out or "
        f"mend them"
    )


@dataclass(frozen=True)
class Data:
    """A training and a test split, the number of classes (0, if targets are no class numbers), and perhaps a validation
    split held out of the training set.

    `mean` and `std` (one value, or one a channel) say what became of a pixel p in [0, 1]: (p - mean) / std. For float32
    images that has happened; for uint8 pixels, 0 to 255, it does in `to`. Other inputs have no use for them.

    `entropy_rate` is the floor of every loss on a language that is known, nats a token; None where nobody knows it.
    """

    train: Split
    test: Split
    classes: int = 0
    validation: Split | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    entropy_rate: float | None = None

    @property
    def input_shape(self) -> Shape:
        """Shape of one input: `(c, h, w)` of an image."""
        return shape_of(self.train.inputs)

    @property
    def input_type(self) -> Type:
        """Type of the inputs that a network sees: int64 for tokens, else float32, which pixels become in `to`."""
        return type_of(self.example(0))

    @property
    def objective(self) -> str | Callable[..., Any]:
        """What networks are judged by on these data (`models.objective`)."""
        return self.train.objective

    def judged_by(self, objective: str | Callable[..., Any]) -> "Data":
        """The same data with another objective."""
        judged = {name: replace(split, objective=objective) for name, split in self.splits.items()}
        return replace(self, train=judged["train"], test=judged["test"], validation=judged.get("validation"))

    @property
    def has_images(self) -> bool:
        """Whether the inputs are images `[n, c, h, w]`."""
        return isinstance(self.train.inputs, Tensor) and self.train.inputs.dim() == IMAGES

    def example(self, count: int = 2) -> Inputs:
        """A batch `[count, ...]` as the network sees it: zeros, or of tokens the first ones of the training set.

        Any number will do for a network of numbers; which tokens there are, only the data know, and who proves
        something of a network wants several (`symmetry.check`).
        """
        return map_inputs(
            lambda own: (
                torch.zeros_like(own, dtype=torch.float32)
                if own.is_floating_point() or own.dtype == torch.uint8
                else own
            ),
            self.train.inputs[:count],
        )

    @property
    def splits(self) -> dict[str, Split]:
        """The splits there are, by name."""
        held_out = {} if self.validation is None else {"validation": self.validation}
        return {"train": self.train, **held_out, "test": self.test}

    @functools.cached_property
    def fault(self) -> str | None:
        """Why no measure can be right about these data, in one line; None if nothing is wrong with them."""
        if len({split.objective for split in self.splits.values()}) > 1:
            return "data: the splits have different objectives; give all the same"
        targets = (split.target_fault(name, self.classes) for name, split in self.splits.items())
        return self.input_fault or next(filter(None, targets), None)

    @functools.cached_property
    def input_fault(self) -> str | None:
        """The same of the inputs alone, for what asks for no targets."""
        return next(filter(None, (split.input_fault(name) for name, split in self.splits.items())), None)

    @functools.cached_property
    def black(self) -> Tensor:
        """What a black pixel has become, `[c]` on the images' device.

        Raises:
            OnebasinError: the inputs are no images, so that there is nothing to shift and mirror.
        """
        if not self.has_images:
            shape = shape_text(self.input_shape)
            raise OnebasinError(
                f"config: augmentation: moves images [n, c, h, w], these inputs are {shape}; leave it out"
            )
        channels, device = tensors_of(self.train.inputs)[0].shape[1], self.train.inputs.device
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
        inputs = map_inputs(lambda tensor: self._scaled(tensor.to(device)), split.inputs)
        return replace(split, inputs=inputs, targets=split.targets.to(device))

    def _scaled(self, inputs: Tensor) -> Tensor:
        if inputs.dtype != torch.uint8:
            return inputs
        channels = (-1, *[1] * (inputs.dim() - 2))
        mean, std = (torch.tensor(values, device=inputs.device).view(channels) for values in (self.mean, self.std))
        return inputs.float().div_(255).sub_(mean).div_(std)


def batches(size: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """One epoch of `size` samples in random order: index tensors of length `batch`, the last one shorter."""
    order = torch.randperm(size, generator=generator, device=generator.device)
    yield from order.split(batch)
