"""What makes a step of a gradient: torch's fused optimisers by name, and the clipping of gradients before it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

# the class, and which settings it takes beside `lr` and `weight_decay`
OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], Mapping[str, float]]] = {
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "sgd": (torch.optim.SGD, {"momentum": 0.0}),
}


def new_optimizer(parameters: Iterable[Tensor], settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimiser that `settings["optimizer"]` names, with its `lr`, `weight_decay` and what else it takes."""
    kind, more = OPTIMIZERS[settings["optimizer"]]
    own: dict[str, Any] = {name: settings.get(name, default) for name, default in more.items()}
    return kind(parameters, lr=settings["lr"], weight_decay=settings["weight_decay"], fused=True, **own)


def clip(network: nn.Module, settings: Mapping[str, Any]) -> None:
    """Scale the gradient down to the global L2 norm `settings["clip"]`, if that is set and the gradient is longer."""
    if "clip" in settings:
        nn.utils.clip_grad_norm_(network.parameters(), settings["clip"])
