"""Inputs changed so that a model errs: the fast gradient sign, projected gradient descent, and noise.

Strengths are in input units: of images in those of a pixel in [0, 1], whatever they are normalised by. What is changed
is kept in the range that inputs may have.

I. Goodfellow et al., ICLR 2015 (FGSM); A. Madry et al., ICLR 2018 (PGD).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebasin.data import Data, Split
from onebasin.errors import OnebasinError
from onebasin.models.objective import objective_named
from onebasin.models.running import forward
from onebasin.parameters import Parameters

STEPS = 10  # of projected gradient descent
STRIDE = 2.5  # how far its steps could go in all, in units of the strength


@dataclass(frozen=True)
class Range:
    """The least and the largest value of an input, and what one input unit is, each shaped to go with a batch."""

    low: Tensor
    high: Tensor
    unit: Tensor

    @classmethod
    def of(cls, data: Data) -> "Range":
        """That of pixels in [0, 1] as they are normalised; of other inputs, of the training set's extremes."""
        inputs = data.train.only_input("an attack")
        if not inputs.is_floating_point():
            raise OnebasinError("an attack moves numbers along gradients; this network takes tokens or masks")
        if not data.has_images:
            return cls(inputs.min(), inputs.max(), torch.ones((), device=inputs.device))
        mean, std = (torch.tensor(values, device=inputs.device).view(-1, 1, 1) for values in (data.mean, data.std))
        return cls((0 - mean) / std, (1 - mean) / std, 1 / std)

    def clamp(self, inputs: Tensor) -> Tensor:
        """The inputs within the range."""
        return torch.minimum(torch.maximum(inputs, self.low), self.high)


def input_gradient(network: nn.Module, parameters: Parameters, batch: Split) -> Tensor:
    """The gradient of the batch's summed loss by its inputs."""
    inputs = batch.only_input("an attack").detach().requires_grad_()
    with torch.enable_grad():
        outputs = forward(network, {name: tensor.detach() for name, tensor in parameters.items()}, inputs)
        loss = objective_named(batch.objective).loss(outputs, batch.targets) * len(batch)
        [gradient] = torch.autograd.grad(loss, [inputs])
    return gradient


def fgsm(network: nn.Module, parameters: Parameters, batch: Split, strength: float, allowed: Range) -> Tensor:
    """The inputs after one step of length `strength` along the sign of the gradient."""
    moved = batch.only_input("an attack") + strength * allowed.unit * input_gradient(network, parameters, batch).sign()
    return allowed.clamp(moved)


def pgd(
    network: nn.Module,
    parameters: Parameters,
    batch: Split,
    strength: float,
    allowed: Range,
    generator: torch.Generator,
    steps: int = STEPS,
) -> Tensor:
    """The inputs after `steps` steps along signs of gradients from a random start, none further than `strength`."""
    given, reach = batch.only_input("an attack"), strength * allowed.unit
    start = 2 * torch.rand(given.shape, generator=generator, device=generator.device) - 1
    moved = allowed.clamp(given + reach * start.to(given))
    for _ in range(steps):
        gradient = input_gradient(network, parameters, Split(moved, batch.targets, batch.objective))
        moved = moved + STRIDE / steps * reach * gradient.sign()
        moved = allowed.clamp(torch.minimum(torch.maximum(moved, given - reach), given + reach))
    return moved


def noisy(batch: Split, deviation: float, allowed: Range, generator: torch.Generator) -> Tensor:
    """The inputs with Gaussian noise."""
    given = batch.only_input("noise")
    draws = torch.randn(given.shape, generator=generator, device=generator.device)
    return allowed.clamp(given + deviation * allowed.unit * draws.to(given))


Attack = Callable[[nn.Module, Parameters, Split, float, Range, torch.Generator], Tensor]

ATTACKS: dict[str, Attack] = {
    "fgsm": lambda network, parameters, batch, strength, allowed, _: fgsm(
        network, parameters, batch, strength, allowed
    ),
    "pgd": pgd,
    "noise": lambda network, parameters, batch, strength, allowed, generator: noisy(
        batch, strength, allowed, generator
    ),
}
