"""timm's `VisionTransformer` for canonical form."""

from typing import Any

from torch import nn

from onebasin.networks.canonical.weights import Affine, Layer, Ordinary, affine, require, thirds

ACTIVATIONS = {"GELU": "gelu", "ReLU": "relu", "SiLU": "silu", "QuickGELU": "quick_gelu", "GELUTanh": "gelu_tanh"}


def vision_transformer(network: Any) -> Ordinary:
    """Where it has its weights.

    Raises:
        OnebasinError: it has register tokens, a norm before the layers, within attention or within an MLP, or pools in
            another way than by the class token or the mean.
    """
    require(getattr(network, "reg_token", None) is None, "register tokens")
    require(isinstance(network.norm_pre, nn.Identity), "a norm before the layers (norm_pre)")
    require(isinstance(network.patch_embed.norm, nn.Identity), "a norm in the patch embedding")
    require(network.global_pool in ("token", "avg"), f"global_pool {network.global_pool}")
    blocks = list(network.blocks)
    first = network.cls_token is not None
    positions = network.pos_embed[0]
    with_first = first and not network.no_embed_class
    token = (network.cls_token[0, 0] + (positions[0] if with_first else 0)) if first else None
    mean = network.global_pool == "avg"
    require(not (mean and first), "a class token beside a mean over the others")
    norm = network.norm if isinstance(network.fc_norm, nn.Identity) else network.fc_norm
    return Ordinary(
        embedding=(network.patch_embed.proj.weight, network.patch_embed.proj.bias),
        positions=positions[1:] if with_first else positions,
        first=token,
        layers=[_layer(block) for block in blocks],
        norm=norm,
        head=affine(network.head),
        heads=blocks[0].attn.num_heads,
        activation=ACTIVATIONS.get(type(blocks[0].mlp.act).__name__, type(blocks[0].mlp.act).__name__),
        tells="first" if not mean else "mean" if norm is network.norm else "normed mean",
    )


def _layer(block: Any) -> Layer:
    own = block.attn
    for name, part in (("q_norm", own), ("k_norm", own), ("norm", own)):
        require(isinstance(getattr(part, name, nn.Identity()), nn.Identity), f"{name} in its layers")
    require(isinstance(getattr(block.mlp, "norm", nn.Identity()), nn.Identity), "a norm within its MLPs")
    query, key, value = thirds(affine(own.qkv))
    out, back = _scaled(own.proj, block.ls1), _scaled(block.mlp.fc2, block.ls2)
    return Layer(block.norm1, query, key, value, out, block.norm2, affine(block.mlp.fc1), back)


def _scaled(layer: nn.Module, scale: nn.Module) -> Affine:
    """A layer with the scale that comes behind it (LayerScale), if there is one."""
    weight, bias = affine(layer)
    if isinstance(scale, nn.Identity):
        return weight, bias
    gamma: Any = scale.gamma
    return weight * gamma[:, None], None if bias is None else bias * gamma
