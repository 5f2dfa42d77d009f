"""Optimisers and learning rates by name: an entry each."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,  # weight decay apart from the gradient (Loshchilov and Hutter, ICLR 2019)
    "sgd": torch.optim.SGD,
}


def linear(schedule: Mapping[str, Any], epoch: float, epochs: int) -> float:
    """From 0 to 1 at `peak` epochs, and to 0 at the end, as released with STE-MM."""
    return float(np.interp(epoch, [0, schedule["peak"], epochs], [0, 1, 0]))


def cosine(schedule: Mapping[str, Any], epoch: float, epochs: int) -> float:
    """From 1 to 0 at the end along half a cosine (Loshchilov and Hutter, ICLR 2017, without restarts)."""
    start = schedule.get("warmup", 0)
    return (1 + math.cos(math.pi * (epoch - start) / (epochs - start))) / 2


def step(schedule: Mapping[str, Any], epoch: float, epochs: int) -> float:
    """From 1 down by `factor` at each of the `milestones`, in epochs."""
    factor: float = schedule["factor"]
    return factor ** sum(epoch >= milestone for milestone in schedule["milestones"])


SCHEDULES: dict[str, Callable[[Mapping[str, Any], float, int], float]] = {
    "linear": linear,
    "cosine": cosine,
    "step": step,
}


def lr_at(settings: Mapping[str, Any], epoch: float) -> float:
    """The learning rate at a moment of a training: constant, or `lr` times what the `schedule` says.

    `schedule.kind` names the schedule (`linear`, if not given). The others go from 0 to their start in the first
    `warmup` epochs. `schedule.update` says whether the rate changes every `epoch` (as released with STE-MM, where the
    first epoch therefore runs at 0) or every `step`; the caller asks accordingly.
    """
    schedule = settings.get("schedule")
    if not schedule:
        return float(settings["lr"])
    kind, warmup = schedule.get("kind", "linear"), schedule.get("warmup", 0)
    if kind != "linear" and epoch < warmup:
        return float(settings["lr"] * epoch / warmup)
    return float(settings["lr"] * SCHEDULES[kind](schedule, epoch, settings["epochs"]))


def optimizer_of(network: torch.nn.Module, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimiser of a network's parameters that the settings of a training name."""
    momentum = {"momentum": settings.get("momentum", 0.0)} if settings["optimizer"] == "sgd" else {}
    make = OPTIMIZERS[settings["optimizer"]]
    return make(network.parameters(), lr=settings["lr"], weight_decay=settings["weight_decay"], fused=True, **momentum)
