"""How the learning rate changes while a model trains: a function a schedule, by name.

Each gives the share of `lr` that holds at an epoch, which may be a fraction of one. All epochs count from 0.
"""

import bisect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Settings = Mapping[str, Any]


def linear(schedule: Settings, epoch: float, epochs: int) -> float:
    """In straight lines from 0 to 1 at `peak` epochs and to 0 at the end, as released with STE-MM."""
    return float(np.interp(epoch, [0, schedule["peak"], epochs], [0, 1, 0]))


def cosine(schedule: Settings, epoch: float, epochs: int) -> float:
    """Up in `warmup` epochs, then down to 0 along half a cosine (Loshchilov and Hutter, ICLR 2017; no restarts)."""
    done = np.interp(epoch, [schedule.get("warmup", 0), epochs], [0, 1])
    return warmed(schedule, epoch) * (1 + math.cos(math.pi * done)) / 2


def step(schedule: Settings, epoch: float, epochs: int) -> float:
    """Up in `warmup` epochs, and times `factor` from each of the `milestones` on."""
    passed = bisect.bisect_right(sorted(schedule["milestones"]), epoch)
    return warmed(schedule, epoch) * float(schedule.get("factor", 0.1) ** passed)


SCHEDULES: dict[str, Callable[[Settings, float, int], float]] = {"linear": linear, "cosine": cosine, "step": step}


def warmed(schedule: Settings, epoch: float) -> float:
    """The share that a linear warm-up lets through: from 0 to 1 in `warmup` epochs (0)."""
    warmup = schedule.get("warmup", 0)
    return min(1.0, epoch / warmup) if warmup else 1.0


def lr_at(settings: Settings, epoch: float) -> float:
    """The learning rate: constant, or `lr` times what `schedule` says, which is `linear` if it has no `name`.

    `schedule.update` says whether it changes every `epoch` (as released with STE-MM, where the first epoch therefore
    runs at 0) or every `step`.
    """
    schedule = settings.get("schedule")
    if not schedule:
        return float(settings["lr"])
    return float(settings["lr"] * SCHEDULES[schedule.get("name", "linear")](schedule, epoch, settings["epochs"]))
