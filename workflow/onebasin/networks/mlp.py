"""The multilayer perceptron of Git Re-Basin and STE-MM: ReLU layers of one width with biases, a linear output."""

import itertools
import math

from torch import nn


def mlp(input_shape: tuple[int, ...], classes: int, width: int = 512, depth: int = 3) -> nn.Sequential:
    """An MLP of `depth` hidden layers of `width` ReLU units, PyTorch's default initialisation, no norm layers."""
    sizes = [math.prod(input_shape), *[width] * depth]
    hidden = [layer for fan in itertools.pairwise(sizes) for layer in (nn.Linear(*fan), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], classes))
