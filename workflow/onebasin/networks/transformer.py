"""Pre-norm transformers: `vit` for images (Dosovitskiy et al. 2021), `gpt` for tokens (Radford et al. 2019).

x <- x + attention(norm(x)); x <- x + mlp(norm(x)), LayerNorm and GELU; a last norm, and a linear head. They train in
this form; `onebasin.networks.canonical` has the form in which their residual streams may be rotated.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onebasin.errors import OnebasinError

DEVIATION = 0.02  # of initial embeddings and positions


class Attention(nn.Module):
    """Multi-head self-attention from `[n, positions, width]` to the same."""

    def __init__(self, width: int, heads: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """What every head reads, weighted by its softmax of products of queries and keys, and written back."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """A layer: attention and an MLP of one hidden layer, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout, causal)
        self.hidden, self.out = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`[n, positions, width]` to the same."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.dropout(self.out(F.gelu(self.hidden(self.mlp_norm(x)))))


class Patches(nn.Module):
    """Images `[n, c, h, w]` as vectors `[n, positions, width]`, a class token in front."""

    def __init__(self, input_shape: tuple[int, ...], patch: int, width: int) -> None:
        super().__init__()
        channels, height, breadth = input_shape
        if height % patch or breadth % patch:
            raise OnebasinError(f"images of {height} x {breadth} are not made of patches of {patch}; choose a divisor")
        self.patch = patch
        self.embedding = nn.Conv2d(channels, width, patch, stride=patch)
        self.first = nn.Parameter(torch.randn(1, 1, width) * DEVIATION)
        self.positions = nn.Parameter(torch.randn(1 + (height // patch) * (breadth // patch), width) * DEVIATION)

    def forward(self, images: Tensor) -> Tensor:
        """One vector a patch, row by row."""
        patches = self.embedding(images).flatten(2).transpose(1, 2)
        return torch.cat([self.first.expand(len(images), -1, -1), patches], dim=1) + self.positions


class Tokens(nn.Module):
    """Tokens `[n, positions]` as vectors `[n, positions, width]`."""

    def __init__(self, vocabulary: int, context: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(context, width) * DEVIATION)
        nn.init.normal_(self.embedding.weight, std=DEVIATION)

    def forward(self, tokens: Tensor) -> Tensor:
        """One vector a token, that of its place added."""
        return self.embedding(tokens) + self.positions[: tokens.shape[1]]


class Transformer(nn.Module):
    """A pre-norm transformer.

    Attributes:
        tells: `first`: logits `[n, classes]` of the first position; `all`: `[n, classes, positions]`.
    """

    def __init__(self, stem: nn.Module, blocks: list[Block], width: int, classes: int, tells: str, dropout: float):
        super().__init__()
        self.tells = tells
        self.stem, self.blocks = stem, nn.ModuleList(blocks)
        self.dropout = nn.Dropout(dropout)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """The logits."""
        x = self.dropout(self.stem(inputs))
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, 0]) if self.tells == "first" else self.head(x).transpose(1, 2)


def vit(
    input_shape: tuple[int, ...],
    classes: int,
    patch: int = 4,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    hidden: int | None = None,
    dropout: float = 0.0,
) -> Transformer:
    """A vision transformer on patches of `patch` x `patch` pixels, with a class token.

    Args:
        width, depth, heads: of the residual stream, layers, and heads a layer.
        hidden: units of the MLPs; twice the width, if not given.

    Raises:
        OnebasinError: the images are not made of such patches, or the width is no multiple of the heads.
    """
    stem = Patches(input_shape, patch, width)
    return Transformer(
        stem, _blocks(width, depth, heads, hidden or 2 * width, dropout), width, classes, "first", dropout
    )


def gpt(
    input_shape: tuple[int, ...],
    classes: int,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    hidden: int | None = None,
    dropout: float = 0.0,
) -> Transformer:
    """A decoder that tells the next token at every position, from this one and those before; arguments as of `vit`, and
    four times the width hidden units, if not given."""
    (context,) = input_shape
    blocks = _blocks(width, depth, heads, hidden or 4 * width, dropout, causal=True)
    return Transformer(Tokens(classes, context, width), blocks, width, classes, "all", dropout)


def _blocks(width: int, depth: int, heads: int, hidden: int, dropout: float, causal: bool = False) -> list[Block]:
    if width % heads:
        raise OnebasinError(f"a width of {width} is not shared by {heads} heads; choose a multiple")
    return [Block(width, heads, hidden, dropout, causal) for _ in range(depth)]
