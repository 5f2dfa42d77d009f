"""How strongly a layer's inputs excite its singular directions (Ito et al., ICLR 2025).

If the inputs x of a layer lie along the right singular vectors v_i with large singular values s_i, these decide what
the layer computes, and to align them is to align the layer. Plotted is the mean of |x . v_i| against s_i.
"""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onebasin.data import Split
from onebasin.measures.singular import Decomposition, layer_of
from onebasin.models.features import CONVOLUTIONS, Call, watch
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
    vectors = {name: part.right.movedim(-1, 0).contiguous() for name, part in decompositions.items()}
    sums: dict[str, Tensor] = {}
    counts = dict.fromkeys(vectors, 0)

    def add(call: Call) -> None:
        if call.function not in (F.linear, *CONVOLUTIONS) or call.name not in vectors:
            return
        if call.weight.shape[1] == call.input.shape[call.channel_axis(call.input)]:
            projections = call.by_channel(call.with_weight(vectors[call.name]))
            sums[call.name] = sums.get(call.name, 0) + projections.abs().double().sum(dim=1)
            counts[call.name] += projections.shape[1]

    for images in split.inputs.split(batch):
        watch(network, parameters, images, add)
    rows = []
    for name, part in decompositions.items():
        if name in sums:
            values, means = part.singular_values.tolist(), (sums[name] / counts[name]).tolist()
            rows += [(layer_of(name), *row) for row in zip(range(len(means)), values, means, strict=True)]
    return pd.DataFrame(rows, columns=["layer", "rank", "singular_value", "response"])
