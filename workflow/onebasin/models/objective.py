"""Running one model, and the objective: mean cross-entropy in nats, accuracy as a fraction of one.

Logits are `[n, classes]` for targets `[n]`, or `[n, classes, positions]` for targets `[n, positions]`, as torch has it;
means are then over samples and positions. Nothing else knows how a network is judged.
"""

import math
from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from onebasin.data import Split
from onebasin.errors import OnebasinError
from onebasin.machine.matmul import fast_linear
from onebasin.machine.modes import mode
from onebasin.parameters import Parameters

SPLITS = ("train", "test")
# Input values a forward pass: 170 images of CIFAR-10's shape, whose activations caches hold. ResNet20 x0.5 took 1.8
# times as long for all images at once. No result depends on it beyond rounding.
VALUES = 2**19
TOKENS = 2**13  # the same for tokens, each of which becomes a vector


def forward(
    network: nn.Module, parameters: Parameters, inputs: Tensor, *, training: bool | Collection[nn.Module] = False
) -> Tensor:
    """Logits of the network with the given parameters.

    Args:
        training: whether the network is in training mode, or which of its modules are; it is left as it was. Layers
            that then draw random numbers draw from torch's global generator (`seeding.drawing_from`).
    """
    with mode(network, training), fast_linear():
        return functional_call(network, parameters, (inputs,), tie_weights=False)  # tied names bring one value each


@torch.no_grad()
def logits(network: nn.Module, parameters: Parameters, split: Split) -> Tensor:
    """Logits of one model on a whole split."""
    values = VALUES if split.inputs.is_floating_point() else TOKENS
    size = max(1, values // math.prod(split.inputs.shape[1:]))
    return torch.cat([forward(network, parameters, inputs) for inputs in split.inputs.split(size)])


def log_probabilities(network: nn.Module, parameters: Parameters, split: Split) -> Tensor:
    """Log-probabilities of one model on a whole split, shaped as its logits are."""
    return F.log_softmax(logits(network, parameters, split), dim=1)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean cross-entropy, which gradients are taken of.

    Raises:
        OnebasinError: the logits are not of such targets.
    """
    return F.cross_entropy(*_rows(logits, targets))


def right(logits: Tensor, targets: Tensor) -> Tensor:
    """How many samples are told right; one with positions counts by the fraction of them that are."""
    hits = logits.argmax(dim=1) == targets
    return hits.sum() if hits.dim() == 1 else hits.flatten(1).float().mean(dim=1).sum()


def measure(network: nn.Module, parameters: Parameters, split: Split) -> tuple[float, float]:
    """Loss and accuracy of one model on a split."""
    return score(log_probabilities(network, parameters, split), split.targets)


def score(log_probabilities: Tensor, targets: Tensor) -> tuple[float, float]:
    """Loss (mean negative log-likelihood, summed in float64) and accuracy of predictions, shaped as logits are."""
    loss = F.nll_loss(*_rows(log_probabilities.double(), targets))
    accuracy = (log_probabilities.argmax(dim=1) == targets).double().mean()
    return float(loss), float(accuracy)


def measure_many(network: nn.Module, many: Iterable[Parameters], split: Split) -> list[tuple[float, float]]:
    """Loss and accuracy of several models on one split.

    One after the other: every product is large enough to fill the machine, and a batched product over a stack took
    2.5 times as long for eleven MLPs of width 512 on a CPU.
    """
    return [measure(network, parameters, split) for parameters in many]


def _rows(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits `[m, classes]` and targets `[m]`, a row a position: on a GPU torch's loss is deterministic only so."""
    if logits.dim() < 2 or (len(logits), *logits.shape[2:]) != tuple(targets.shape):
        have, want = (tuple(tensor.shape) for tensor in (logits, targets))
        raise OnebasinError(
            f"the network gives logits {have} for targets {want}; they have to be [n, classes] for targets [n], or "
            f"[n, classes, positions] for targets [n, positions]"
        )
    if logits.dim() == 2:
        return logits, targets
    return logits.movedim(1, -1).flatten(0, -2), targets.flatten()
