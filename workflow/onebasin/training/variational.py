"""Bayes by Backprop: a posterior of independent normal distributions over a network's weights.

C. Blundell, J. Cornebise, K. Kavukcuoglu, D. Wierstra, "Weight Uncertainty in Neural Networks", ICML 2015. A weight is
mu + log(1 + exp(rho)) * epsilon, with a standard normal epsilon that is drawn anew in every step. What is minimised is
the mean loss of the data plus KL(posterior || prior) / (number of training samples): the negative evidence lower bound,
a sample. The prior is normal about zero. Weights are what has two axes or more; biases and the gains of norms are
trained as points. What a network keeps fixed (`networks.asymmetric`) has neither a posterior nor a prior.
"""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onebasin.data import Data, Split, batches
from onebasin.errors import OnebasinError
from onebasin.models.objective import objective_named
from onebasin.models.running import forward, predictions
from onebasin.networks.asymmetric import fixed_entries
from onebasin.parameters import Parameters
from onebasin.progress import track
from onebasin.seeding import drawing_from


class Posterior:
    """A normal distribution a weight of a network, all independent of each other.

    Args:
        deviation: of every weight to begin with; the means are the network's own values.
        prior: the deviation of the prior.
    """

    def __init__(self, network: nn.Module, deviation: float, prior: float) -> None:
        own = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
        fixed = fixed_entries(network)
        self._prior = prior
        self._free = {name: (~fixed[name]).to(own[name].dtype) if name in fixed else None for name in own}
        self.points = {name: tensor.requires_grad_() for name, tensor in own.items() if tensor.dim() < 2}
        self.mu = {name: tensor.requires_grad_() for name, tensor in own.items() if tensor.dim() > 1}
        start = math.log(math.expm1(deviation))
        self.rho = {name: torch.full_like(tensor, start).requires_grad_() for name, tensor in self.mu.items()}

    @property
    def parameters(self) -> list[Tensor]:
        """What is trained."""
        return [*self.points.values(), *self.mu.values(), *self.rho.values()]

    def draw(self, stream: torch.Generator) -> Parameters:
        """Parameters of a network, drawn from the posterior."""
        drawn = {}
        for name, mu in self.mu.items():
            noise = torch.randn(mu.shape, generator=stream, device=mu.device, dtype=mu.dtype)
            drawn[name] = mu + F.softplus(self.rho[name]) * noise
        return {**self.points, **drawn}

    def divergence(self) -> Tensor:
        """KL(posterior || prior) in nats, summed over the weights that are not fixed."""
        total = torch.zeros((), device=next(iter(self.mu.values())).device)
        for name, mu in self.mu.items():
            deviation = F.softplus(self.rho[name])
            own = torch.log(self._prior / deviation) + (deviation.square() + mu.square()) / (2 * self._prior**2) - 0.5
            free = self._free[name]
            total = total + (own if free is None else own * free).sum()
        return total


def train_posterior(
    network: nn.Module, data: Data, settings: Mapping[str, Any], order: torch.Generator, stream: torch.Generator
) -> pd.DataFrame:
    """Train a posterior from a network's values on, with Adam, and look at it after every epoch.

    Args:
        settings: `epochs`, `lr`, `batch`; `deviation` and `prior` as for `Posterior`; `samples`, how many draws a
            prediction is the mean of.
        order: gives the order of the data.
        stream: gives the draws, those of predictions and dropout included.

    Returns:
        A row an epoch and split: `epoch, split, loss, accuracy, divergence`; the loss and accuracy of the mean
        probabilities of the draws, and KL(posterior || prior) / (number of training samples), in nats.

    Raises:
        OnebasinError: the loss is not finite.
    """
    objective = objective_named(data.objective)
    posterior = Posterior(network, settings["deviation"], settings["prior"])
    state = {name: tensor.clone() for name, tensor in network.named_buffers()}
    optimizer = torch.optim.Adam(posterior.parameters, lr=settings["lr"])
    samples, rows = len(data.train), []
    for epoch in track(range(settings["epochs"]), "variational training", settings["epochs"]):
        for chosen in batches(samples, settings["batch"], order):
            parameters = {**state, **posterior.draw(stream)}
            with drawing_from(stream):
                given = forward(network, parameters, data.train.inputs[chosen], training=True)
            loss, _ = objective.judged(given, data.train.targets[chosen])
            optimizer.zero_grad()
            (loss + posterior.divergence() / samples).backward()
            optimizer.step()
        divergence = float(posterior.divergence().detach()) / samples
        if not math.isfinite(divergence + float(loss.detach())):
            raise OnebasinError(f"variational training: the loss is not finite in epoch {epoch + 1}; lower its lr")
        with torch.no_grad():
            draws = [{**state, **posterior.draw(stream)} for _ in range(settings["samples"])]
        for split in ("train", "test"):
            found = predictive(network, draws, data.split(split))
            rows.append((epoch + 1, split, *found, divergence))
    return pd.DataFrame(rows, columns=["epoch", "split", "loss", "accuracy", "divergence"])


def predictive(network: nn.Module, draws: list[Parameters], split: Split) -> tuple[float, float]:
    """Loss and accuracy of what several draws predict together: of the mean of their probabilities."""
    objective = objective_named(split.objective)
    return objective.score(objective.ensemble([predictions(network, draw, split) for draw in draws]), split.targets)
