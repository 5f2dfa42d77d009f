"""From a pre-norm transformer's weights to canonical ones, each step leaving the function as it is.

An adapter says where the weights are (`Ordinary`), `values` does the rest, in float64. Linear layers have torch's
layout, `[outputs, inputs]`; a vector of the residual stream is a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onebasin.errors import OnebasinError
from onebasin.networks.canonical.module import ACTIVATIONS, Form
from onebasin.parameters import Parameters

Affine = tuple[Tensor, Tensor | None]
"""Weight `[outputs, inputs]` and bias of a linear layer."""


def affine(layer: nn.Module) -> Affine:
    """Those of a layer; transposed, of one that keeps `[inputs, outputs]` (`Conv1D` of the transformers library)."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    return (weight.T if type(layer).__name__ == "Conv1D" else weight), bias if isinstance(bias, Tensor) else None


def thirds(layer: Affine) -> list[Affine]:
    """Queries, keys and values of a layer that makes all three, one after the other."""
    weight, bias = layer
    biases = [None] * 3 if bias is None else bias.chunk(3)
    return list(zip(weight.chunk(3), biases, strict=True))


@dataclass(frozen=True)
class Layer:
    """The weights of one layer."""

    attention_norm: nn.LayerNorm
    query: Affine
    key: Affine
    value: Affine
    out: Affine
    mlp_norm: nn.LayerNorm
    hidden: Affine
    back: Affine


@dataclass(frozen=True)
class Ordinary:
    """The weights of a pre-norm transformer as it is trained.

    Attributes:
        embedding: of patches, weight `[width, c, p, p]` and bias; of tokens, `[tokens, width]` and None.
        positions: `[positions, width]`, without that of a class token.
        first: `[width]`, a class token and its position; None if there is none.
        heads, activation, tells, causal: as in `Form`.
    """

    embedding: Affine
    positions: Tensor
    first: Tensor | None
    layers: Sequence[Layer]
    norm: nn.LayerNorm
    head: Affine
    heads: int
    activation: str
    tells: str
    causal: bool = False

    @property
    def form(self) -> Form:
        """What its canonical form is made of.

        Raises:
            OnebasinError: norms of different eps, or an activation that the form does not know.
        """
        norms = [self.norm, *(norm for layer in self.layers for norm in (layer.attention_norm, layer.mlp_norm))]
        if len({norm.eps for norm in norms}) > 1:
            raise OnebasinError("canonical form: the norms have different eps; leave the network ordinary")
        if self.activation not in ACTIVATIONS:
            raise OnebasinError(
                f"canonical form: no activation '{self.activation}' is known here (known: {', '.join(ACTIVATIONS)}); "
                f"leave the network ordinary"
            )
        weight = self.embedding[0]
        patches = weight.dim() > 2
        width = self.positions.shape[1]
        return Form(
            stem="patches" if patches else "tokens",
            inputs=weight.shape[1] if patches else weight.shape[0],
            patch=weight.shape[2] if patches else 0,
            positions=len(self.positions),
            first=self.first is not None,
            width=width,
            depth=len(self.layers),
            heads=self.heads,
            hidden=len(self.layers[0].hidden[0]),
            classes=len(self.head[0]),
            tells=self.tells,
            causal=self.causal,
            activation=self.activation,
            scale=(len(self.layers[0].query[0]) // self.heads) ** -0.5,
            eps=self.norm.eps,
        )

    def values(self) -> Parameters:
        """The values of its canonical form, in float64."""
        weight, bias = self.embedding
        found = {
            "embedding.weight": centred(weight, 0 if weight.dim() > 2 else 1),
            "positions": centred(self.positions) + (0 if bias is None else centred(bias)),
        }
        if self.first is not None:
            found["first"] = centred(self.first)[None, None]
        for number, layer in enumerate(self.layers):
            own = attention(layer, self.heads) | mlp(layer)
            found |= {f"blocks.{number}.{name}": tensor for name, tensor in own.items()}
        found["head.weight"], found["head.bias"] = reading(self.head, self.norm)
        return found


def centred(tensor: Tensor, axis: int = -1) -> Tensor:
    """What is written to the residual stream, less its mean over the stream's axis, which the norms would subtract."""
    tensor = tensor.double()
    return tensor - tensor.mean(dim=axis, keepdim=True)


def reading(layer: Affine, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """A layer behind a norm, with its gain and offset in it; of what has mean 0, a row's own mean reads nothing."""
    weight, bias = layer
    weight = weight.double()
    bias = weight.new_zeros(len(weight)) if bias is None else bias.double()
    if norm.bias is not None:
        bias = bias + weight @ norm.bias.double()
    if norm.weight is not None:
        weight = weight * norm.weight.double()
    return centred(weight), bias


def attention(layer: Layer, heads: int) -> Parameters:
    """The products of every head: QK = W_q W_k^T and OV = W_v W_o."""
    (query, asked), (key, _), (value, constant) = (
        reading(own, layer.attention_norm) for own in (layer.query, layer.key, layer.value)
    )
    out, bias = centred(layer.out[0], 0), layer.out[1]
    q, k, v = (own.unflatten(0, (heads, -1)) for own in (query, key, value))
    return {
        "attention.qk": q.mT @ k,
        "attention.qk_bias": (asked.view(heads, 1, -1) @ k).squeeze(1),
        "attention.ov": v.mT @ out.T.unflatten(0, (heads, -1)),
        "attention.bias": out @ constant + (0 if bias is None else centred(bias)),
    }


def mlp(layer: Layer) -> Parameters:
    """The MLP of a layer."""
    weight, bias = reading(layer.hidden, layer.mlp_norm)
    back, constant = layer.back
    return {
        "hidden.weight": weight,
        "hidden.bias": bias,
        "out.weight": centred(back, 0),
        "out.bias": torch.zeros_like(back[:, 0]).double() if constant is None else centred(constant),
    }


def require(found: bool, what: str) -> None:
    """Refuse a network that has what the form has no place for.

    Raises:
        OnebasinError: it was not found as it has to be.
    """
    if not found:
        raise OnebasinError(f"canonical form: there is no place for {what}; leave the network ordinary")
