"""State that training updates, and that no BatchNorm of torch's holds: found by a training pass, measured anew by more.

A BatchNorm of one's own, InstanceNorm with running statistics, the vectors of a spectral norm: an average of such
buffers is not the buffer of the average. Which ones there are is seen, not guessed from names.
"""

import logging
import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs
from onebasin.models.running import forward
from onebasin.parameters import Parameters
from onebasin.seeding import drawing_from, generator

logger = logging.getLogger(__name__)

SETTLED = 1e-3  # how much of what was there before may be left
MOST = 2000  # training passes; a momentum of 0.01 takes 700


@torch.no_grad()
def updated_by_training(
    network: nn.Module, parameters: Parameters, inputs: Inputs, known: Collection[str] = ()
) -> list[str]:
    """The names of the buffers of real numbers that a forward pass in training mode changes.

    Args:
        inputs: a small batch.
        known: modules whose buffers are taken care of.
    """
    names = [
        name
        for name, buffer in network.named_buffers()
        if name in parameters and buffer.is_floating_point() and name.rpartition(".")[0] not in known
    ]
    if not names:
        return []
    own = _with_own_buffers(network, parameters)
    try:
        with drawing_from(generator("training state", device=inputs.device)):
            forward(network, own, inputs, training=True)
    except Exception as error:  # the user's network may do anything with two inputs in training mode
        logger.warning("what training updates in this network could not be seen (%s)", error)
        return []
    return [name for name in names if not torch.equal(own[name], parameters[name])]


@torch.no_grad()
def settled(
    network: nn.Module,
    parameters: Parameters,
    images: Sequence[Inputs],
    names: Sequence[str],
    others: Collection[nn.Module] = (),
) -> Parameters:
    """The parameters with these buffers as training passes over the images leave them, whatever they were before.

    Two sets of buffers that begin one apart are updated until they agree; of InstanceNorm, whose momentum can be set, a
    single pass gives the cumulative average.

    Args:
        names: of the buffers, from `updated_by_training`.
        others: modules that train along, as they are measured anew, too.

    Raises:
        OnebasinError: they do not come to agree, or are not finite.
    """
    modules = dict(network.named_modules())
    owners = {name.rpartition(".")[0]: modules[name.rpartition(".")[0]] for name in names}
    training = [*owners.values(), *others]
    found, other = _with_own_buffers(network, parameters), _with_own_buffers(network, parameters)
    for name in names:
        other[name] = other[name] + 1
    momenta = {layer: layer.momentum for layer in owners.values() if isinstance(layer, _InstanceNorm)}
    passes = 0
    try:
        with drawing_from(generator("training state", device=images[0].device)):
            while passes < MOST:
                for batch in images:
                    passes += 1
                    for layer in momenta:
                        layer.momentum = 1 / passes
                    for state in (found, other):
                        forward(network, state, batch, training=training)
                apart = max(_apart(found[name], other[name]) for name in names)
                if not math.isfinite(apart) or apart <= SETTLED:
                    break
    finally:
        for layer, momentum in momenta.items():
            layer.momentum = momentum
    if not apart <= SETTLED:
        raise OnebasinError(
            f"{names[0]} is updated by training, and {passes} passes over the training data do not settle it after "
            f"averaging; give more images, or choose normalization none to keep the average"
        )
    return {name: found[name] if name in names else tensor for name, tensor in parameters.items()}


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference. Unit vectors, such as a spectral norm's singular vectors, may differ in sign."""
    units = one.numel() > 1 and all(abs(float(vector.norm()) - 1) < SETTLED for vector in (one, other))
    return min(float((one - sign * other).abs().max()) for sign in ((1, -1) if units else (1,)))


def _with_own_buffers(network: nn.Module, parameters: Parameters) -> Parameters:
    """The parameters with copies of all buffers, which may be written to."""
    buffers = {name for name, _ in network.named_buffers()}
    return {name: tensor.clone() if name in buffers else tensor for name, tensor in parameters.items()}
