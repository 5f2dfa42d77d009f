"""Mixtures of experts (arXiv 2509.11348, NeurIPS 2025): an input, perhaps a trunk, and a mixture that gives the logits.

A mixture is D(x) = sum over experts i of softmax_i(s(x)) E_i(x), with gate scores s(x) = W x + b and experts E_i of one
hidden layer. *Sparse* ones take the softmax over the k largest scores alone, of equal ones those of the first experts;
*shared* experts are run for every input and added. The network says that its experts may change places with their rows
of the gate; the units inside each of them are found by the tracer.
"""

import math
import re

import torch
from torch import Tensor, nn

from onebasin.errors import OnebasinError


class Mixture(nn.Module):
    """A mixture of experts from `[n, features]` to `[n, outputs]`.

    Attributes:
        top_k: how many experts an input is sent to; 0: to all of them (dense).
        interchangeable: what of it may change places (`onebasin.symmetry.tracing.declared`).
    """

    def __init__(self, features: int, outputs: int, experts: int, width: int, top_k: int = 0, shared: int = 0) -> None:
        super().__init__()
        self.top_k = top_k
        self.gate = nn.Linear(features, experts)
        self.experts = nn.ModuleList(_expert(features, width, outputs) for _ in range(experts))
        self.shared = nn.ModuleList(_expert(features, width, outputs) for _ in range(shared))
        self.interchangeable = [("experts", "gate"), *([("shared",)] if shared > 1 else [])]

    def weights(self, scores: Tensor) -> Tensor:
        """The weights `[n, experts]` that the gate's scores give the experts."""
        if 0 < self.top_k < scores.shape[1]:
            last = scores.argsort(dim=1, descending=True, stable=True)[:, self.top_k :]
            scores = scores.scatter(1, last, -math.inf)
        return scores.softmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """The weighted sum of the experts, and the shared ones."""
        weights = self.weights(self.gate(x))
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
        mixed = (weights[:, :, None] * outputs).sum(dim=1)
        return sum((expert(x) for expert in self.shared), mixed)


def moe(
    input_shape: tuple[int, ...],
    classes: int,
    experts: int = 4,
    width: int = 32,
    gating: str = "dense",
    trunk: str = "none",
    trunk_width: int = 64,
) -> nn.Sequential:
    """A classifier whose logits are a mixture of experts; PyTorch's default initialisation.

    Args:
        experts, width: n, and h, the hidden units of each.
        gating: `dense`, `top_<k>` (`top_2`), or with shared experts `top_<k>_shared_<number>` (`top_2_shared_1`).
        trunk: what comes before: `none`, `mlp` (a hidden layer of `trunk_width` ReLU units) or `conv` (two 3 x 3
            convolutions of so many channels, each with ReLU and 2 x 2 pooling, averaged over places in the end).

    Raises:
        OnebasinError: there is no such gating.
    """
    top_k, shared = _gating(gating)
    size = math.prod(input_shape)
    layers: dict[str, tuple[int, list[nn.Module]]] = {
        "none": (size, [nn.Flatten()]),
        "mlp": (trunk_width, [nn.Flatten(), nn.Linear(size, trunk_width), nn.ReLU()]),
        "conv": (trunk_width, _convolutions(input_shape[0], trunk_width)),
    }
    features, before = layers[trunk]
    return nn.Sequential(*before, Mixture(features, classes, experts, width, top_k, shared))


def _gating(name: str) -> tuple[int, int]:
    """The numbers of experts that an input is sent to (0: all), and of shared ones."""
    found = re.fullmatch(r"dense|top_([1-9]\d*)(?:_shared_([1-9]\d*))?", name)
    if found is None:
        raise OnebasinError(f"moe: no gating called '{name}'; take dense, top_2, top_2_shared_1 or the like")
    return int(found[1] or 0), int(found[2] or 0)


def _expert(features: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, outputs))


def _convolutions(channels: int, width: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for own in (channels, width):
        layers += [nn.Conv2d(own, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()]
