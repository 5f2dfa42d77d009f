"""The transformers of this project (`onebasin.networks.transformer`) for canonical form."""

from onebasin.networks.canonical.weights import Layer, Ordinary, affine
from onebasin.networks.transformer import Block, Patches, Tokens, Transformer


def transformer(network: Transformer) -> Ordinary:
    """Where `vit` and `gpt` have their weights."""
    stem, blocks = network.stem, [block for block in network.blocks if isinstance(block, Block)]
    assert isinstance(stem, Patches | Tokens)
    patches = isinstance(stem, Patches)
    embedding = stem.embedding.weight, stem.embedding.bias if isinstance(stem, Patches) else None
    return Ordinary(
        embedding=embedding,
        positions=stem.positions[1:] if patches else stem.positions,
        first=(stem.first[0, 0] + stem.positions[0]) if isinstance(stem, Patches) else None,
        layers=[_layer(block) for block in blocks],
        norm=network.norm,
        head=affine(network.head),
        heads=blocks[0].attention.heads,
        activation="gelu",
        tells=network.tells,
        causal=blocks[0].attention.causal,
    )


def _layer(block: Block) -> Layer:
    own = block.attention
    query, key, value, out = map(affine, (own.query, own.key, own.value, own.out))
    return Layer(block.attention_norm, query, key, value, out, block.mlp_norm, affine(block.hidden), affine(block.out))
