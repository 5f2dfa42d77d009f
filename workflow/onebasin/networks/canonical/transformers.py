"""GPT-2 and ViT of the transformers library for canonical form; BERT, which has none."""

from typing import Any

from torch import nn

from onebasin.errors import OnebasinError
from onebasin.networks.canonical.weights import Layer, Ordinary, affine, require, thirds

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}


def gpt2(network: Any) -> Ordinary:
    """Where `GPT2LMHeadModel` has its weights. Its logits are `[n, classes, positions]` then, as torch's loss takes
    them.

    Raises:
        OnebasinError: its attention is scaled by layers.
    """
    own, config = network.transformer, network.config
    require(config.scale_attn_weights and not config.scale_attn_by_inverse_layer_idx, "attention scaled by layers")
    return Ordinary(
        embedding=(own.wte.weight, None),
        positions=own.wpe.weight,
        first=None,
        layers=[_block(block) for block in own.h],
        norm=own.ln_f,
        head=affine(network.lm_head),
        heads=config.n_head,
        activation=ACTIVATIONS.get(config.activation_function, config.activation_function),
        tells="all",
        causal=True,
    )


def _block(block: Any) -> Layer:
    query, key, value = thirds(affine(block.attn.c_attn))
    out, hidden, back = map(affine, (block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj))
    return Layer(block.ln_1, query, key, value, out, block.ln_2, hidden, back)


def vit(network: Any) -> Ordinary:
    """Where `ViTForImageClassification` has its weights."""
    own, config = network.vit, network.config
    positions = own.embeddings.position_embeddings[0]
    projection = own.embeddings.patch_embeddings.projection
    require(isinstance(network.classifier, nn.Linear), "a network without a head")
    return Ordinary(
        embedding=(projection.weight, projection.bias),
        positions=positions[1:],
        first=own.embeddings.cls_token[0, 0] + positions[0],
        layers=[_layer(layer) for layer in _part(own, "layers", "encoder.layer")],
        norm=own.layernorm,
        head=affine(network.classifier),
        heads=config.num_attention_heads,
        activation=ACTIVATIONS.get(config.hidden_act, config.hidden_act),
        tells="first",
    )


def _layer(layer: Any) -> Layer:
    return Layer(
        layer.layernorm_before,
        affine(_part(layer, "attention.q_proj", "attention.attention.query")),
        affine(_part(layer, "attention.k_proj", "attention.attention.key")),
        affine(_part(layer, "attention.v_proj", "attention.attention.value")),
        affine(_part(layer, "attention.o_proj", "attention.output.dense")),
        layer.layernorm_after,
        affine(_part(layer, "mlp.fc1", "intermediate.dense")),
        affine(_part(layer, "mlp.fc2", "output.dense")),
    )


def _part(module: Any, *names: str) -> Any:
    """The part of a module that is called by one of these names: the library's fifth version has new ones."""
    known = dict(module.named_modules())
    found = next((known[name] for name in names if name in known), None)
    require(found is not None, f"a {type(module).__name__} without {' or '.join(names)}")
    return found


def bert(network: Any) -> Ordinary:
    """BERT's norms come behind its shortcuts, so that no rotation passes them.

    Raises:
        OnebasinError: always.
    """
    raise OnebasinError(
        f"{type(network).__name__} is post-norm: its norms, with their gains, stand on the residual stream itself, and "
        f"no rotation passes them; leave it ordinary"
    )
