"""Running one model, and the objective: mean cross-entropy in nats, accuracy as a fraction of one."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from onebasin.data import Split
from onebasin.machine.matmul import fast_linear
from onebasin.parameters import Parameters

SPLITS = ("train", "test")
# Input values a forward pass: 170 images of CIFAR-10's shape, whose activations caches hold. ResNet20 x0.5 took 1.8
# times as long for all images at once. No result depends on it beyond rounding.
VALUES = 2**19


def forward(network: nn.Module, parameters: Parameters, images: Tensor) -> Tensor:
    """Logits `[n, classes]` of the network with the given parameters."""
    with fast_linear():
        return functional_call(network, parameters, (images,))


@torch.no_grad()
def logits(network: nn.Module, parameters: Parameters, split: Split) -> Tensor:
    """Logits `[n, classes]` of one model on a whole split."""
    network.eval()
    size = max(1, VALUES // math.prod(split.inputs.shape[1:]))
    return torch.cat([forward(network, parameters, images) for images in split.inputs.split(size)])


def measure(network: nn.Module, parameters: Parameters, split: Split) -> tuple[float, float]:
    """Loss and accuracy of one model on a split."""
    return score(F.log_softmax(logits(network, parameters, split), dim=1), split.targets)


def score(log_probabilities: Tensor, labels: Tensor) -> tuple[float, float]:
    """Loss (mean negative log-likelihood, summed in float64) and accuracy of predictions `[n, classes]`."""
    loss = F.nll_loss(log_probabilities.double(), labels)
    accuracy = (log_probabilities.argmax(dim=1) == labels).double().mean()
    return float(loss), float(accuracy)


def measure_many(network: nn.Module, many: Iterable[Parameters], split: Split) -> list[tuple[float, float]]:
    """Loss and accuracy of several models on one split.

    One after the other: every product is large enough to fill the machine, and a batched product over a stack took
    2.5 times as long for eleven MLPs of width 512 on a CPU.
    """
    return [measure(network, parameters, split) for parameters in many]
