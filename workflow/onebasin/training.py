"""Training: one model a seed, one after the other in one process.

Every model has its own initialisation and its own order of the data, both named by its seed, and is trained as if it
were alone: its bits do not depend on the company.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch.nn import functional as F

from onebasin.data import Data, batches
from onebasin.errors import OnebasinError
from onebasin.models import Models, initial, new_network, stacked
from onebasin.products import FastLinear
from onebasin.progress import track
from onebasin.seeding import generator

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
HISTORY = ["seed", "epoch", "train_loss", "train_accuracy"]


def train(
    network_settings: Mapping[str, Any], data: Data, settings: Mapping[str, Any], seeds: Sequence[int], root: int
) -> tuple[Models, pd.DataFrame]:
    """Train one model a seed, and keep the last epoch (the test data select nothing).

    Args:
        network_settings: the network's name and arguments.
        settings: `optimizer`, its `lr` and `weight_decay`, `batch`, `epochs`.
        seeds: the models' seeds; the stack has this order.
        root: the experiment's seed.

    Returns:
        The models, and the history: `seed, epoch, train_loss, train_accuracy` (means over the epoch, as it went).

    Raises:
        OnebasinError: the loss of a model is no longer finite.
    """
    trained, history = [], []
    for seed in seeds:
        network = new_network(network_settings, data.input_shape, data.classes, root, "initialisation", seed)
        network.to(data.train.labels.device).train()
        history += _train_one(network, data, settings, seed, root)
        trained.append(initial(network))
    models = Models(network.eval(), stacked(trained), tuple(seeds), data.input_shape)
    return models, pd.DataFrame(history, columns=HISTORY)


def _train_one(
    network: torch.nn.Module, data: Data, settings: Mapping[str, Any], seed: int, root: int
) -> list[tuple[int, int, float, float]]:
    """Train one network in place; its rows of the history."""
    order = generator(root, "data order", seed, device=data.train.labels.device)
    optimizer = OPTIMIZERS[settings["optimizer"]](
        network.parameters(), lr=settings["lr"], weight_decay=settings["weight_decay"], fused=True
    )
    history = []
    for epoch in track(range(settings["epochs"]), f"training seed {seed}", settings["epochs"]):
        total = torch.zeros(2, device=data.train.labels.device)
        for chosen in batches(len(data.train), settings["batch"], order):
            total += _step(network, data.train.images[chosen], data.train.labels[chosen], optimizer)
        loss, accuracy = (total / len(data.train)).tolist()
        if not torch.isfinite(total).all():
            raise OnebasinError(
                f"training: the loss of seed {seed} is not finite in epoch {epoch + 1}; lower training.lr"
            )
        history.append((seed, epoch + 1, loss, accuracy))
    return history


def _step(
    network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, optimizer: torch.optim.Optimizer
) -> torch.Tensor:
    """One optimiser step; the sum of the losses and the number of right answers `[2]` before it."""
    with FastLinear():
        logits = network(images)
    loss = F.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    right = (logits.detach().argmax(dim=1) == labels).sum()
    return torch.stack([loss.detach() * len(labels), right])
