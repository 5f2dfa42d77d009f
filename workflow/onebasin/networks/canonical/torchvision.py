"""torchvision's `VisionTransformer` for canonical form."""

from typing import Any

from onebasin.networks.canonical.weights import Layer, Ordinary, affine, require, thirds


def vision_transformer(network: Any) -> Ordinary:
    """Where it has its weights.

    Raises:
        OnebasinError: it has a stem of convolutions, or a representation layer before its head.
    """
    require(type(network.conv_proj).__name__ == "Conv2d", "a stem of several convolutions")
    require(len(network.heads) == 1, "a representation layer before the head")
    positions = network.encoder.pos_embedding[0]
    layers = list(network.encoder.layers)
    return Ordinary(
        embedding=(network.conv_proj.weight, network.conv_proj.bias),
        positions=positions[1:],
        first=network.class_token[0, 0] + positions[0],
        layers=[_layer(layer) for layer in layers],
        norm=network.encoder.ln,
        head=affine(network.heads[0]),
        heads=layers[0].num_heads,
        activation="gelu",
        tells="first",
    )


def _layer(layer: Any) -> Layer:
    own = layer.self_attention
    query, key, value = thirds((own.in_proj_weight, own.in_proj_bias))
    hidden, back = affine(layer.mlp[0]), affine(layer.mlp[3])
    return Layer(layer.ln_1, query, key, value, affine(own.out_proj), layer.ln_2, hidden, back)
