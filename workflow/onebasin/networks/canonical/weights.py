"""The steps from a pre-norm transformer's weights to canonical ones; each leaves the function as it is.

All is computed in float64. Linear layers have torch's layout, `[outputs, inputs]`; a vector is a row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebasin.parameters import Parameters


def centred(tensor: Tensor, axis: int = -1) -> Tensor:
    """What writes to the residual stream, less the mean over the stream's axis, which the norms would subtract."""
    tensor = tensor.double()
    return tensor - tensor.mean(dim=axis, keepdim=True)


@dataclass(frozen=True)
class Reading:
    """A linear layer behind a norm, `[outputs, width]`, and its bias (zeros, if it has none)."""

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, norm: nn.LayerNorm) -> "Reading":
        """With the norm's gain and offset in it; what it reads has mean 0, so the mean of its rows counts nothing."""
        weight = weight.double()
        bias = torch.zeros(len(weight), dtype=torch.float64, device=weight.device) if bias is None else bias.double()
        if norm.bias is not None:
            bias = bias + weight @ norm.bias.double()
        if norm.weight is not None:
            weight = weight * norm.weight.double()
        return cls(centred(weight), bias)


def attention(query: Reading, key: Reading, value: Reading, out: Tensor, bias: Tensor | None, heads: int) -> Parameters:
    """The products of every head, of layers that have the heads one after the other.

    Args:
        out: `[width, width of all heads]`.
        bias: that of `out`.
    """
    q, k, v = (own.weight.unflatten(0, (heads, -1)) for own in (query, key, value))
    o = centred(out, 0)
    constant = o @ value.bias + (0 if bias is None else centred(bias))
    return {
        "attention.qk": q.mT @ k,
        "attention.qk_bias": (query.bias.view(heads, 1, -1) @ k).squeeze(1),
        "attention.ov": v.mT @ o.T.unflatten(0, (heads, -1)),
        "attention.bias": constant,
    }


def mlp(hidden: Reading, out: Tensor, bias: Tensor | None) -> Parameters:
    """The MLP of a layer."""
    zeros = torch.zeros(len(out), dtype=torch.float64, device=out.device)
    return {
        "hidden.weight": hidden.weight,
        "hidden.bias": hidden.bias,
        "out.weight": centred(out, 0),
        "out.bias": zeros if bias is None else centred(bias),
    }
