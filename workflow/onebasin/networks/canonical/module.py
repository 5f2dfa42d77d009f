"""The canonical form of a pre-norm transformer, in which its symmetries are plain (Theus et al., arXiv 2506.22712).

Norms are divisions by the root mean square without a gain, and attention is kept as products: head h sees QK_h = W_q
W_k^T in the place of queries and keys, and writes by OV_h = W_v W_o. So what is left of the symmetries inside of heads
is nothing, and a rotation R of the residual stream takes writers x to x R, readers W to R^T W, QK to R^T QK R, and OV
to R^T OV R.

A gain is part of the readers behind it (W' = diag(gamma) W), an offset of their biases (b' = b + beta W), the mean that
a LayerNorm subtracts is taken from the writers (x' = x - mean x). A bias of keys adds the same to all scores of a
query, which a softmax does not see; one of values goes through the weights of a head, which sum up to 1, into that of
the output.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "silu": F.silu,
}


@dataclass(frozen=True)
class Form:
    """What makes a canonical transformer, beside its values; JSON takes it.

    Attributes:
        stem: `patches` (images) or `tokens`.
        inputs: channels of the images, or the number of tokens there are.
        patch: side of a patch; 0 for tokens.
        positions: how many positions there are, without that of a class token.
        first: whether there is a class token.
        width, depth, heads: of the residual stream, of layers, of heads a layer.
        hidden: units of the MLPs.
        classes: how many logits.
        tells: of what the head reads: `first` position, `mean` of all after the last norm, `normed mean` of all before
            it, or `all` positions, each for itself (logits `[n, classes, positions]`, as torch's losses take them).
        causal: whether a position sees only itself and those before it.
        activation: of the MLPs (`ACTIVATIONS`).
        scale: of the scores of attention, 1 / sqrt(width of a head).
        eps: added to every mean square.
    """

    stem: str
    inputs: int
    patch: int
    positions: int
    first: bool
    width: int
    depth: int
    heads: int
    hidden: int
    classes: int
    tells: str
    causal: bool
    activation: str
    scale: float
    eps: float


class Norm(nn.Module):
    """Division by the root mean square of the last axis."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """The vectors, about as long as they have entries."""
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps)


def patterns(queries: Tensor, x: Tensor, qk: Tensor, scale: float, causal: bool) -> Tensor:
    """To what extent each position sees each other one, by head: `[n, heads, positions, positions]`; rows sum up to 1.

    No rotation of the residual stream changes them: they are what there is to see of heads (`models.features`).

    Args:
        queries: `[n, heads, positions, width]`, what heads ask for.
        x: `[n, positions, width]`, what there is.
        qk: the weight that the queries were made with.
    """
    if has_torch_function((queries, x, qk)):
        found: Tensor = handle_torch_function(patterns, (queries, x, qk), queries, x, qk, scale, causal)
        return found
    scores = (queries @ x[:, None].transpose(-1, -2)) * scale
    if causal:
        size = x.shape[1]
        later = torch.ones(size, size, dtype=torch.bool, device=x.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    return scores.softmax(dim=-1)


class Attention(nn.Module):
    """Attention as products: `qk` `[heads, width, width]`, `qk_bias` `[heads, width]`, `ov` `[heads, width, width]`."""

    interchangeable = "qk", "qk_bias", "ov"  # heads, as the tracer would find by trial

    def __init__(self, form: Form) -> None:
        super().__init__()
        heads, width = form.heads, form.width
        self.scale, self.causal = form.scale, form.causal
        self.qk, self.ov = (nn.Parameter(torch.zeros(heads, width, width)) for _ in range(2))
        self.qk_bias, self.bias = nn.Parameter(torch.zeros(heads, width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """What the heads write, `[n, positions, width]`."""
        heads, width = self.qk_bias.shape
        # one product for all heads, before and behind
        queries = F.linear(x, self.qk.transpose(1, 2).reshape(heads * width, width), self.qk_bias.flatten())
        queries = queries.unflatten(-1, (heads, width)).transpose(1, 2)
        mixed = patterns(queries, x, self.qk, self.scale, self.causal) @ x[:, None]
        return F.linear(mixed.transpose(1, 2).flatten(2), self.ov.flatten(0, 1).T, self.bias)


class Block(nn.Module):
    """A layer: attention and an MLP, each behind a norm and beside a shortcut."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.norm, self.attention = Norm(form.eps), Attention(form)
        self.hidden, self.out = nn.Linear(form.width, form.hidden), nn.Linear(form.hidden, form.width)
        self.activation = ACTIVATIONS[form.activation]

    def forward(self, x: Tensor) -> Tensor:
        """`[n, positions, width]` to the same."""
        x = x + self.attention(self.norm(x))
        return x + self.out(self.activation(self.hidden(self.norm(x))))


class Canonical(nn.Module):
    """A transformer in canonical form; its values are all 0 until they are loaded.

    Attributes:
        form: what it is made of.
    """

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        if form.stem == "patches":
            self.embedding: nn.Module = nn.Conv2d(form.inputs, form.width, form.patch, stride=form.patch, bias=False)
        else:
            self.embedding = nn.Embedding(form.inputs, form.width)
        self.positions = nn.Parameter(torch.zeros(form.positions, form.width))
        self.first = nn.Parameter(torch.zeros(1, 1, form.width)) if form.first else None
        self.blocks = nn.ModuleList(Block(form) for _ in range(form.depth))
        self.norm, self.head = Norm(form.eps), nn.Linear(form.width, form.classes)

    def forward(self, inputs: Tensor) -> Any:
        """The logits."""
        x: Any = self.embedding(inputs)
        if self.form.stem == "patches":
            x = x.flatten(2).transpose(1, 2)
        x = x + self.positions[: x.shape[1]]
        if self.first is not None:
            x = torch.cat([self.first.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self._told(x)

    def _told(self, x: Tensor) -> Any:
        tells = self.form.tells
        if tells == "first":
            return self.head(self.norm(x[:, 0]))
        if tells == "mean":
            return self.head(self.norm(x).mean(dim=1))
        if tells == "normed mean":
            return self.head(self.norm(x.mean(dim=1)))
        return self.head(self.norm(x)).transpose(1, 2)
