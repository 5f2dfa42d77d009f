"""Training a stack of models with one architecture in one process; a stack of one is the ordinary case.

Every model has its own initialisation and its own order of the data, both named by its seed: its bits do not depend
on the company it is trained in. The batched products give each model what it would get alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from onebasin.data import Data, batches
from onebasin.errors import OnebasinError
from onebasin.models import Models, forward_stack, initial, new_network, stacked
from onebasin.progress import track
from onebasin.seeding import generator

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


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
    device = data.train.labels.device
    networks = [
        new_network(network_settings, data.input_shape, data.classes, root, "initialisation", seed) for seed in seeds
    ]
    stack = {name: tensor.to(device).requires_grad_() for name, tensor in stacked([*map(initial, networks)]).items()}
    orders = [generator(root, "data order", seed, device=device) for seed in seeds]
    optimizer = OPTIMIZERS[settings["optimizer"]](
        list(stack.values()), lr=settings["lr"], weight_decay=settings["weight_decay"]
    )
    network = networks[0].to(device).train()
    history = []
    for epoch in track(range(settings["epochs"]), f"training seeds {_names(seeds)}", settings["epochs"]):
        losses = torch.zeros(len(seeds), device=device)
        correct = torch.zeros(len(seeds), device=device)
        for indices in zip(*(batches(len(data.train), settings["batch"], order) for order in orders), strict=True):
            chosen = torch.stack(indices)
            loss, right = _step(network, stack, data.train.images[chosen], data.train.labels[chosen], optimizer)
            losses += loss * chosen.shape[1]
            correct += right
        _check_finite(losses, seeds, epoch)
        rows = zip(seeds, (losses / len(data.train)).tolist(), (correct / len(data.train)).tolist(), strict=True)
        history += [(seed, epoch + 1, loss, accuracy) for seed, loss, accuracy in rows]
    trained = {name: tensor.detach() for name, tensor in stack.items()}
    columns = ["seed", "epoch", "train_loss", "train_accuracy"]
    return Models(network.eval(), trained, tuple(seeds), data.input_shape), pd.DataFrame(history, columns=columns)


def _step(
    network: torch.nn.Module, stack: dict[str, Tensor], images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer
) -> tuple[Tensor, Tensor]:
    """One optimiser step of every model: its mean loss and number of right answers `[N]` before the step.

    The models share no parameter, so the gradient of the sum of their losses is each one's own gradient; Adam and SGD
    work element by element, so one optimiser over the stack is one optimiser a model.
    """
    logits = forward_stack(network, stack, images)
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels).mean(dim=1)
    optimizer.zero_grad()
    losses.sum().backward()
    optimizer.step()
    return losses.detach(), (logits.detach().argmax(dim=-1) == labels).sum(dim=1)


def _check_finite(losses: Tensor, seeds: Sequence[int], epoch: int) -> None:
    for seed, finite in zip(seeds, torch.isfinite(losses).tolist(), strict=True):
        if not finite:
            raise OnebasinError(
                f"training: the loss of seed {seed} is not finite in epoch {epoch + 1}; lower training.lr"
            )


def _names(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
