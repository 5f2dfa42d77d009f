"""Training: one model a seed, one after the other in one process.

Every model has its own initialisation, order of the data, augmentation and dropout, all named by its seed, and is
trained as if it were alone: its bits do not depend on the company.
"""

import copy
import logging
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from onebasin.data import Data, batches
from onebasin.data.augmentation import augment
from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs, arguments_of
from onebasin.machine.devices import autocast
from onebasin.machine.matmul import fast_linear
from onebasin.models.objective import objective_named
from onebasin.models.running import measure, refusing_small_batches
from onebasin.models.stack import Models, initial
from onebasin.networks.asymmetric import restore
from onebasin.networks.build import new_network
from onebasin.parameters import Parameters, stacked
from onebasin.progress import track
from onebasin.seeding import drawing_from, generator
from onebasin.storage import artifacts
from onebasin.training.balance import watching
from onebasin.training.optimizers import clip, new_optimizer
from onebasin.training.schedules import lr_at

logger = logging.getLogger(__name__)

HISTORY = ("seed", "epoch", "lr", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


def train(
    network_settings: Mapping[str, Any],
    data: Data,
    settings: Mapping[str, Any],
    seeds: Sequence[int],
    root: int,
    states: Sequence[Path | None] | None = None,
    key: str = "",
) -> tuple[Models, pd.DataFrame]:
    """Train one model a seed; keep its last epoch, or its best on the validation split (test data select nothing).

    Args:
        network_settings: the network's name and arguments.
        settings: `optimizer`, its `lr`, `weight_decay` and (SGD) `momentum`, `batch`, `epochs`; and if wanted
            `schedule` (`lr_at`), `clip` (the gradient's largest norm), `augmentation` (`onebasin.data.augmentation`),
            `balance` (the weight of the loss of `training.balance`, for mixtures of experts),
            `spawn` (`epochs`, `models`: seeds k n to k n + n - 1 are one model for so many epochs, n models), `select`
            (`last` or `validation`), `precision` (`bf16`: autocast on a GPU; the weights stay float32),
            `compile`, `save_every` epochs.
        seeds: the models' seeds; the stack has this order.
        root: the experiment's seed.
        states: a file a seed, where a training that is killed can go on from; the caller removes them in the end.
        key: what a state must have been written for. With a state of anything else, or one that is damaged, a
            training starts over and the log says why.

    Returns:
        The models, and the history, a row an epoch: `seed, epoch, lr` (at its start), `train_loss, train_accuracy`
        (means over the epoch, as it went), `validation_loss, validation_accuracy` (NaN without a validation split).

    Raises:
        OnebasinError: the loss of a model is no longer finite, there is no validation split to select by, no image to
            augment, or the network's logits are not of the data's targets.
    """
    trained, history = [], []
    for seed, state in zip(seeds, [None] * len(seeds) if states is None else states, strict=True):
        run = _Run(network_settings, data, settings, seed, root)
        if state is not None and os.path.lexists(state):
            try:
                run.resume(state, key)
            except OnebasinError as error:  # nothing is lost but time
                logger.warning("training seed %d starts over: %s", seed, error)
                run = _Run(network_settings, data, settings, seed, root)  # the other may have read half of it
        every = settings.get("save_every", 0)
        for epoch in track(range(run.epoch, settings["epochs"]), f"training seed {seed}", settings["epochs"]):
            run.train_epoch()
            if state is not None and (epoch + 1 == settings["epochs"] or (every and (epoch + 1) % every == 0)):
                run.save(state, key)
        trained.append(run.selected())
        history += run.history
    models = Models(run.network.eval(), stacked(trained), tuple(seeds), data.input_shape, data.input_type)
    return models, pd.DataFrame(history, columns=[*HISTORY])


def untrained(
    network_settings: Mapping[str, Any], data: Data, settings: Mapping[str, Any], seed: int, root: int
) -> nn.Module:
    """The network of a seed as its training begins, on the device of the data; arguments as for `train`."""
    key = (root, "initialisation", _trunk(settings, seed))
    return new_network(network_settings, data.input_shape, data.classes, *key).to(data.train.targets.device)


def _trunk(settings: Mapping[str, Any], seed: int) -> int:
    """The seed of the model that a seed's is until models are spawned."""
    spawn = settings.get("spawn") or {"epochs": 0}
    return seed - seed % spawn["models"] if spawn["epochs"] else seed


class _Run:
    """One training: the network, its optimiser, its random streams, and what has been seen so far."""

    def __init__(
        self, network_settings: Mapping[str, Any], data: Data, settings: Mapping[str, Any], seed: int, root: int
    ) -> None:
        self.data, self.settings, self.seed = data, settings, seed
        self.device = data.train.targets.device
        self._root, self._spawned_at = root, (settings.get("spawn") or {"epochs": 0})["epochs"]
        trunk = _trunk(settings, seed)
        self.network = untrained(network_settings, data, settings, seed, root).train()
        self._forward = torch.compile(self.network) if settings.get("compile") else self.network
        self.optimizer = new_optimizer(self.network.parameters(), settings)
        self.streams = {
            name: generator(root, name, trunk, device=self.device) for name in ("data order", "augmentation")
        }
        # a network may draw on its device, and on the host to decide what it does
        self._dropout = {
            f"dropout {place.type}": generator(root, "dropout", trunk, device=place)
            for place in dict.fromkeys([torch.device("cpu"), self.device])
        }
        self.streams |= self._dropout
        self._objective = objective_named(data.objective)
        self.history: list[tuple[float, ...]] = []
        self.best: tuple[float, Parameters] | None = None
        if settings.get("select") == "validation":
            data.split("validation")

    @property
    def epoch(self) -> int:
        """How many epochs have been trained."""
        return len(self.history)

    def train_epoch(self) -> None:
        """Train one more epoch, and measure the validation split where there is one."""
        if self._spawned_at and self.epoch == self._spawned_at:
            for name, stream in self.streams.items():
                stream.set_state(generator(self._root, name, "spawned", self.seed, device=stream.device).get_state())
        total, lr = torch.zeros(2, device=self.device), lr_at(self.settings, self.epoch)
        steps = -(-len(self.data.train) // self.settings["batch"])
        order = batches(len(self.data.train), self.settings["batch"], self.streams["data order"])
        with drawing_from(*self._dropout.values()):
            for step, chosen in enumerate(order):
                by_step = (self.settings.get("schedule") or {}).get("update") == "step"
                rate = lr_at(self.settings, self.epoch + step / steps) if by_step else lr
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                total += self._step(self.data.train.inputs[chosen], self.data.train.targets[chosen])
        loss, accuracy = (total / len(self.data.train)).tolist()
        if not math.isfinite(loss):
            raise OnebasinError(
                f"training: the loss of seed {self.seed} is not finite in epoch {self.epoch + 1}; lower training.lr"
            )
        self.history.append((self.seed, self.epoch + 1, lr, loss, accuracy, *self._validate()))

    def _step(self, inputs: Inputs, targets: Tensor) -> Tensor:
        """One optimiser step; the sum of the losses and the number of right answers `[2]` before it.

        The network is in training mode from its making on, and holds its parameters itself, as `torch.compile` wants.
        """
        if self.settings.get("augmentation"):
            assert isinstance(inputs, Tensor)  # `black` refuses what is no image
            inputs = augment(inputs, self.settings["augmentation"], self.streams["augmentation"], self.data.black)
        arguments, named = arguments_of(inputs)
        small = refusing_small_batches(len(targets))
        balance = self.settings.get("balance", 0)
        watched: AbstractContextManager[list[Tensor]] = watching(self.network) if balance else nullcontext([])
        with small, autocast(self.device, self.settings.get("precision", "float32")), fast_linear(), watched as loads:
            outputs = self._forward(*arguments, **named)
        outputs = pytree.tree_map(_in_float32, outputs)
        loss, right = self._objective.judged(outputs, targets)
        self.optimizer.zero_grad()
        (loss + balance * sum(loads)).backward() if loads else loss.backward()
        clip(self.network, self.settings)
        self.optimizer.step()
        restore(self.network)
        return torch.stack([loss.detach() * len(targets), right])

    def _validate(self) -> tuple[float, float]:
        if self.data.validation is None:
            return float("nan"), float("nan")
        loss, accuracy = measure(self.network, initial(self.network), self.data.validation)
        if self.settings.get("select") == "validation" and (self.best is None or loss < self.best[0]):
            self.best = loss, copy.deepcopy(initial(self.network))
        return loss, accuracy

    def selected(self) -> Parameters:
        """The parameters to keep: the last, or those with the least validation loss."""
        return initial(self.network) if self.best is None else self.best[1]

    def save(self, path: Path, key: str) -> None:
        """Write everything that the rest of the training depends on."""
        tensors = {f"network.{name}": tensor for name, tensor in initial(self.network).items()}
        tensors |= {f"stream.{name}": stream.get_state() for name, stream in self.streams.items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": t for name, t in state.items() if isinstance(t, Tensor)}
        if self.best is not None:
            tensors |= {f"best.{name}": tensor for name, tensor in self.best[1].items()}
        best = None if self.best is None else self.best[0]
        artifacts.save(path, "training_state", tensors, key=key, history=self.history, best=best)

    def resume(self, path: Path, key: str) -> None:
        """Go on from where `save` was called.

        Raises:
            OnebasinError: the state is damaged, or not of a training for this `key`; this object is of no use then.
        """
        artifact = artifacts.load(path, "training_state", ("history", "best"), {"key": key})
        try:
            self._restore(artifact)
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise OnebasinError(f"{path}: not a state of this training ({type(error).__name__})") from error

    def _restore(self, artifact: artifacts.Artifact) -> None:
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "stream": {}, "optimizer": {}, "best": {}}
        for name, tensor in artifact.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.network.load_state_dict(parts["network"])
        for name, state in parts["stream"].items():
            self.streams[name].set_state(state)
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            number, _, rest = name.partition(".")
            states.setdefault(int(number), {})[rest] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": states})
        self.history = [tuple(row) for row in artifact.facts["history"]]
        if artifact.facts["best"] is not None:
            best = {name: tensor.to(self.device) for name, tensor in parts["best"].items()}
            self.best = artifact.facts["best"], best


def _in_float32(part: Any) -> Any:
    """What autocast left in half precision, as the loss takes it."""
    return part.float() if isinstance(part, Tensor) and part.dtype == torch.bfloat16 else part
