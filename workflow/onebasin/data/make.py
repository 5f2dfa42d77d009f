"""Making a data set from its settings, and holding a part of it out."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from onebasin.data.types import Data
from onebasin.errors import OnebasinError
from onebasin.registry import CROSS_ENTROPY, resolve


def make_data(settings: Mapping[str, Any]) -> Data:
    """The data set named by `settings["name"]`, made with the other settings as arguments, as it is stored.

    Three settings are for every data set: `validation_fraction` (0) of the training set is held out, chosen by
    `validation_seed` (0); and the `objective` that networks are judged by, if not the one that the data set says.

    Raises:
        OnebasinError: what is made has a `fault`, or cannot be split so.
    """
    arguments = dict(settings)
    make: Callable[..., Data] = resolve("data", arguments.pop("name"))
    fraction, seed = arguments.pop("validation_fraction", 0.0), arguments.pop("validation_seed", 0)
    objective = arguments.pop("objective", None)
    data = make(**arguments)
    if objective is not None:
        data = data.judged_by(objective)
    if data.fault is not None:
        raise OnebasinError(data.fault)
    return hold_out(data, fraction, seed) if fraction else data


def hold_out(data: Data, fraction: float, seed: int) -> Data:
    """Hold a fraction of the training set out as the validation split, stratified by class.

    Where every position has a target, or targets are no class numbers, the fraction is drawn from all of them.

    Raises:
        OnebasinError: the training set cannot be split so, or there is a validation split already.
    """
    if data.validation is not None:
        raise OnebasinError("config: data.validation_fraction: the data have a validation split of their own; write 0")
    targets = data.train.targets if data.objective == CROSS_ENTROPY else torch.arange(len(data.train))[:, None]
    rest, held = parted(targets, fraction, seed, "the training set")
    return replace(data, train=data.train.some(rest), validation=data.train.some(held))


def parted(targets: Tensor, fraction: float, seed: int, what: str) -> tuple[Tensor, Tensor]:
    """Indices of the samples that stay and of those that a fraction of every class leaves to, both shuffled.

    Raises:
        OnebasinError: `what` cannot be split so: it is too small.
    """
    from sklearn.model_selection import train_test_split

    everyone = torch.arange(len(targets)).numpy()
    classes = targets.numpy() if targets.dim() == 1 and targets.dtype == torch.int64 else None
    try:
        parts = train_test_split(everyone, test_size=fraction, random_state=seed, stratify=classes)
    except ValueError as error:
        raise OnebasinError(f"config: data: {what} cannot be split so: {error}") from None
    rest, held = map(torch.from_numpy, parts)
    return rest, held
