"""BatchNorm statistics and REPAIR: activations of a merged model brought back to what its layers expect.

The running statistics of an average are not the average of the running statistics, so they are measured again on
training data (Ito et al., 2025: reset, cumulative average, one pass). REPAIR (Jordan et al., ICLR 2023) also rescales
every channel: its mean and standard deviation become the interpolated ones of the permuted models it is made of. It
acts on the norm layers' outputs or, in a network without BatchNorm, on those of its hidden linear layers and
convolutions with a bias.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from onebasin.data import Split
from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs
from onebasin.merging.training_state import settled, updated_by_training
from onebasin.models.features import Call, watch
from onebasin.models.running import forward
from onebasin.parameters import Parameters

BATCH = 500  # images a forward pass at most; statistics are averages over such batches, as in the recipe

Statistics = dict[str, tuple[Tensor, Tensor]]
"""Mean and standard deviation `[c]` of the channels of a layer's output, by the layer's name."""


class Recalibration:
    """What is done to the parameters of a merged or interpolated model before it is used.

    Args:
        network: gives the function.
        split: the training data that statistics are measured on.
        settings: `method`: `recompute` or `repair`; `images`, how many of the split to take (all, if None).
    """

    def __init__(self, network: nn.Module, split: Split, settings: Mapping[str, Any]) -> None:
        self._network = network
        self._images = batches(split.first(settings.get("images")).inputs)
        self._repairs = settings.get("method") == "repair"

    def statistics(self, parents: Sequence[Parameters]) -> list[Statistics]:
        """What `__call__` needs to know of each permuted parent; to be measured once."""
        return [output_statistics(self._network, parent, self._images) for parent in parents] if self._repairs else []

    def __call__(
        self, parameters: Parameters, parents: Sequence[Statistics] = (), weights: Sequence[float] = ()
    ) -> Parameters:
        """The parameters with statistics measured anew and, if so set, repaired.

        Args:
            parents: `statistics` of the models that `parameters` are a combination of.
            weights: of the parents in that combination; equal if not given.
        """
        recalibrated = recompute(self._network, parameters, self._images)
        if self._repairs:
            weights = weights or [1 / len(parents)] * len(parents)
            recalibrated = repair(self._network, recalibrated, interpolated(parents, weights), self._images)
        return recalibrated


def batches(inputs: Inputs) -> Sequence[Inputs]:
    """The inputs in as few batches as `BATCH` allows, evened out: every batch counts the same in the
    averages, and the statistics of a few images that are left over are noise."""
    return inputs.tensor_split(math.ceil(len(inputs) / BATCH))


def keeps_statistics(network: nn.Module, parameters: Parameters, example: Inputs) -> bool:
    """Whether the network has running statistics or other state of training, to be measured anew after averaging."""
    return any(map(_tracks, network.modules())) or bool(updated_by_training(network, parameters, example))


@torch.no_grad()
def recompute(network: nn.Module, parameters: Parameters, images: Sequence[Inputs]) -> Parameters:
    """The parameters with all BatchNorm running statistics measured anew, as cumulative averages over the batches.

    So is what else training updates (`training_state`).

    Raises:
        OnebasinError: a batch is too small to have statistics.
    """
    layers = {name: layer for name, layer in network.named_modules() if _tracks(layer)}
    names = updated_by_training(network, parameters, images[0][:2], layers)
    if names:
        parameters = settled(network, parameters, images, names, layers.values())
    if not layers:
        return parameters
    fresh = dict(parameters)
    for name in layers:
        fresh[f"{name}.running_mean"] = torch.zeros_like(parameters[f"{name}.running_mean"])
        fresh[f"{name}.running_var"] = torch.ones_like(parameters[f"{name}.running_var"])
        fresh[f"{name}.num_batches_tracked"] = torch.zeros_like(parameters[f"{name}.num_batches_tracked"])
    momenta = {name: layer.momentum for name, layer in layers.items()}
    try:
        for layer in layers.values():
            layer.momentum = None
        for batch in images:
            forward(network, fresh, batch, training=layers.values())
    except ValueError as error:  # torch's, of a single value a channel
        raise OnebasinError(
            f"statistics cannot be measured anew on {len(images[0])} image(s) ({error}); give more images"
        ) from None
    finally:
        for name, layer in layers.items():
            layer.momentum = momenta[name]
    return fresh


@torch.no_grad()
def output_statistics(network: nn.Module, parameters: Parameters, images: Sequence[Inputs]) -> Statistics:
    """Mean and standard deviation of every channel of every layer that REPAIR acts on, over all images."""
    sums: dict[str, Tensor] = {}
    layers, heads = _repaired(network)
    last = ""

    def add(call: Call) -> None:
        nonlocal last
        last = call.layer if call.layer in heads else last
        if call.layer in layers:
            channels = call.by_channel(call.output).double()
            count = torch.full_like(channels[:, 0], channels.shape[1])
            moments = torch.stack([count, channels.sum(1), channels.square().sum(1)])
            sums[call.layer] = sums[call.layer] + moments if call.layer in sums else moments

    for batch in images:
        watch(network, parameters, batch, add)
    sums.pop(last, None)  # it makes the logits, whose scale is the network's own
    found = {}
    for name, (count, total, squares) in sums.items():
        average = total / count
        found[name] = (average, (squares / count - average**2).clamp_min(0).sqrt())
    return found


def interpolated(parents: Sequence[Statistics], weights: Sequence[float]) -> Statistics:
    """The weighted averages of the means and of the standard deviations."""
    share = torch.tensor(weights, dtype=torch.float64)
    found = {}
    for name in parents[0]:
        means, deviations = (torch.stack([parent[name][k] for parent in parents]) for k in (0, 1))
        found[name] = (share.to(means) @ means, share.to(means) @ deviations)
    return found


@torch.no_grad()
def repair(network: nn.Module, parameters: Parameters, wanted: Statistics, images: Sequence[Inputs]) -> Parameters:
    """The parameters after every channel was rescaled to have the `wanted` mean and standard deviation.

    Layer by layer from the input on, because a layer's statistics depend on the repairs before it.
    """
    repaired = dict(parameters)
    for name in wanted:  # in the order in which a forward pass meets the layers
        mean, deviation = output_statistics(network, repaired, images)[name]
        want_mean, want_deviation = wanted[name]
        scale = torch.where(deviation > 0, want_deviation / deviation.clamp_min(1e-12), torch.ones_like(deviation))
        weight, bias = repaired[f"{name}.weight"], repaired[f"{name}.bias"]
        factor = scale.to(weight).view(-1, *[1] * (weight.dim() - 1))
        repaired[f"{name}.weight"] = weight * factor
        repaired[f"{name}.bias"] = ((bias.double() - mean) * scale + want_mean).to(bias)
    return repaired


def _repaired(network: nn.Module) -> tuple[set[str], set[str]]:
    """The layers that REPAIR acts on, and those of which the last one to run is left alone.

    They are BatchNorms, and none; or without any the linear and convolutional ones with bias, and all of these.
    """
    modules = dict(network.named_modules())
    norms = {name for name, layer in modules.items() if _tracks(layer) and layer.affine}
    if norms:
        return norms, set()
    linear = {name for name, m in modules.items() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)}
    return {name for name in linear if modules[name].bias is not None}, linear


def _tracks(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and layer.track_running_stats
