"""The multilayer perceptron of Git Re-Basin and STE-MM: ReLU layers of one width with biases, a linear output."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from onebasin.networks.asymmetric import Asymmetry

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


def mlp(
    input_shape: tuple[int, ...],
    classes: int,
    width: int = 512,
    depth: int = 3,
    norm: str = "none",
    activation: str = "relu",
    asymmetry: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """An MLP of `depth` hidden layers of `width` units, PyTorch's default initialisation.

    Args:
        norm: `none`, or `layer` before every nonlinearity (Lim et al. 2024).
        activation: `relu` or `gelu`.
        asymmetry: what takes its symmetries (`onebasin.networks.asymmetric`); every layer is a level of its own.
    """
    asymmetric = Asymmetry(asymmetry, levels=depth + 1)
    sizes = [math.prod(input_shape), *[width] * depth]
    layers: list[nn.Module] = [nn.Flatten()]
    for level, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        layers.append(asymmetric.linear(level, fan_in, fan_out))
        if norm == "layer":
            layers.append(nn.LayerNorm(fan_out))
        layers.append(asymmetric.activation(level, fan_out, ACTIVATIONS[activation]()))
    return nn.Sequential(*layers, asymmetric.linear(depth, sizes[-1], classes))
