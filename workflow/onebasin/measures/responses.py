"""How strongly a layer's inputs excite its singular directions (Ito et al., ICLR 2025).

If the inputs x of a layer lie along the right singular vectors v_i with large singular values s_i, these decide what
the layer computes, and to align them is to align the layer. Plotted is the mean of |x . v_i| against s_i.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call

from onebasin.data import Split
from onebasin.measures.singular import Decomposition
from onebasin.models.objective import forward
from onebasin.parameters import Parameters

BATCH = 500  # images a forward pass


@torch.no_grad()
def responses(
    network: nn.Module,
    parameters: Parameters,
    decompositions: Mapping[str, Decomposition],
    split: Split,
    batch: int = BATCH,
) -> pd.DataFrame:
    """Mean |x . v_i| over a split's inputs x (of a convolution: its patches) of every linear and convolutional layer.

    A layer's projections x . v_i are what it computes itself with the v_i in the place of its weights. Grouped
    convolutions, whose filters see some channels only, are left out.

    Args:
        network: gives the function.
        decompositions: of the model's weights, from `singular.decompose`.
        batch: images a forward pass; the inputs of one batch are in memory.

    Returns:
        `layer, rank, singular_value, response`, ranks from 0 at the largest singular value.
    """
    parts = {name: decompositions[f"{name}.weight"] for name in _layers(network) if f"{name}.weight" in decompositions}
    sums: dict[str, Tensor] = {}
    counts = dict.fromkeys(parts, 0)

    def add(name: str, projections: Tensor) -> None:
        total = projections.abs().double().sum(dim=1)
        sums[name] = sums[name] + total if name in sums else total
        counts[name] += projections.shape[1]

    with _projecting(network, parts, add):
        for images in split.inputs.split(batch):
            forward(network, parameters, images)
    rows = []
    for name, part in parts.items():
        if name in sums:
            means = (sums[name] / counts[name]).tolist()
            rows += [(name, *row) for row in zip(range(len(means)), part.singular_values.tolist(), means, strict=True)]
    return pd.DataFrame(rows, columns=["layer", "rank", "singular_value", "response"])


@contextmanager
def _projecting(
    network: nn.Module, parts: Mapping[str, Decomposition], see: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Call `see(layer, projections [r, ...])` with x . v_i whenever one of the layers runs in the block."""
    layers = _layers(network)

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        layer = copy.deepcopy(layers[name])  # without the hook
        weights = {"weight": parts[name].right.movedim(-1, 0).contiguous()}
        if layer.bias is not None:
            weights["bias"] = weights["weight"].new_zeros(len(weights["weight"]))

        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            projections = functional_call(layer, weights, inputs)
            see(name, projections.movedim(-1 if isinstance(layer, nn.Linear) else 1, 0).flatten(1))

        return hook

    handles = [layers[name].register_forward_pre_hook(hook_of(name)) for name in parts]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layers(network: nn.Module) -> dict[str, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d]:
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) and getattr(layer, "groups", 1) == 1
    }
