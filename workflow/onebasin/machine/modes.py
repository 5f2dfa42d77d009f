"""Whether a network is in training mode, for the length of a block."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def mode(network: nn.Module, training: bool | Collection[nn.Module]) -> Iterator[None]:
    """The network in training mode (True), in evaluation mode (False), or in evaluation mode but for some of its
    modules, which train; afterwards every module is as it was.

    A network that decides for itself what `train` means, as with frozen norms, is asked.
    """
    wanted = training if isinstance(training, bool) else False
    before = [(module, module.training) for module in network.modules()]
    if any(was is not wanted for _, was in before):
        network.train(wanted)
    try:
        for module in () if isinstance(training, bool) else training:
            module.train()
        yield
    finally:
        for module, was in before:
            if module.training is not was:
                module.training = was
