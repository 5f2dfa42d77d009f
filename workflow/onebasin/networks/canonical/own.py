"""The transformers of this project (`onebasin.networks.transformer`) in canonical form."""

from torch import nn

from onebasin.networks.canonical.module import Form
from onebasin.networks.canonical.weights import Reading, attention, centred, mlp
from onebasin.networks.transformer import Block, Patches, Transformer
from onebasin.parameters import Parameters


def transformer(network: Transformer) -> tuple[Form, Parameters]:
    """The canonical form of `vit` or `gpt`, and its values in float64."""
    stem, blocks = network.stem, list(network.blocks)
    width = network.head.in_features
    images = isinstance(stem, Patches)
    values: Parameters = {"positions": centred(stem.positions)}
    if images:
        values |= {
            "embedding.weight": centred(stem.embedding.weight, 0),
            "first": centred(stem.first + stem.positions[:1]),
            "positions": centred(stem.positions[1:]) + centred(stem.embedding.bias),
        }
    else:
        values["embedding.weight"] = centred(stem.embedding.weight)
    for number, block in enumerate(blocks):
        values |= {f"blocks.{number}.{name}": tensor for name, tensor in _block(block).items()}
    head = Reading.of(network.head.weight, network.head.bias, network.norm)
    values |= {"head.weight": head.weight, "head.bias": head.bias}
    form = Form(
        stem="patches" if images else "tokens",
        inputs=stem.embedding.in_channels if images else stem.embedding.num_embeddings,
        patch=stem.patch if images else 0,
        positions=len(values["positions"]),
        first=images,
        width=width,
        depth=len(blocks),
        heads=blocks[0].attention.heads,
        hidden=blocks[0].hidden.out_features,
        classes=network.head.out_features,
        tells=network.tells,
        swapped=True,
        causal=blocks[0].attention.causal,
        activation="gelu",
        scale=(width // blocks[0].attention.heads) ** -0.5,
        eps=network.norm.eps,
    )
    return form, values


def _block(block: Block) -> Parameters:
    own = block.attention

    def read(layer: nn.Linear, norm: nn.LayerNorm) -> Reading:
        return Reading.of(layer.weight, layer.bias, norm)

    query, key, value = (read(layer, block.attention_norm) for layer in (own.query, own.key, own.value))
    products = attention(query, key, value, own.out.weight, own.out.bias, own.heads)
    return products | mlp(read(block.hidden, block.mlp_norm), block.out.weight, block.out.bias)
