"""Networks as their libraries build them, with random weights: what is found in each of them, and that it is right.

Large ones get small images or fewer and narrower layers, where their settings allow it: whatever a tracer may stumble
over is still there. The three numbers of a row were read off and looked at once; here they are noticed if they move.
"""

import re
from collections import ChainMap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

import onebasin
from onebasin import seeding
from onebasin.errors import OnebasinError
from onebasin.machine import vision  # noqa: F401 - torchvision, before timm and transformers import it by its name
from onebasin.symmetry.summary import moving_share

pytestmark = [pytest.mark.exhaustive, pytest.mark.usefixtures("one_thread")]


@dataclass(frozen=True)
class Architecture:
    """One row.

    Attributes:
        build: makes the network, given the library.
        shape: of one input, without the batch.
        groups: how many there are.
        share: of the parameters that move, to three digits.
        nested: how many of the groups are blocks with units of their own: heads, experts, convolutions in groups.
        remembers: where the network keeps what it computed of one model's parameters, for which it is refused.
    """

    family: str
    build: Callable[[Any], nn.Module]
    shape: tuple[int, ...]
    groups: int
    share: float
    nested: int = 0
    type: torch.dtype = torch.float32
    remembers: str | None = None


# torchvision

SMALL = (3, 64, 64)


def plain(name, **settings):
    """The builder of torchvision's model of that name."""
    return lambda torchvision: getattr(torchvision.models, name)(weights=None, **settings)


def narrow_vgg11(torchvision):
    """VGG11 with BatchNorm, and 64 hidden units in its classifier instead of two times 4096."""
    vgg = torchvision.models.vgg
    network = vgg.VGG(vgg.make_layers(vgg.cfgs["A"], batch_norm=True), init_weights=False)
    network.classifier = nn.Sequential(nn.Linear(512 * 49, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 10))
    return network


def narrow_vit(torchvision):
    """ViT-B/16 with a third of its layers, a twelfth as wide."""
    return torchvision.models.VisionTransformer(64, 16, num_layers=4, num_heads=4, hidden_dim=64, mlp_dim=256)


GOOGLENET = plain("googlenet", aux_logits=False, init_weights=False)
TORCHVISION = {
    "resnet18": Architecture("ResNets", plain("resnet18"), SMALL, 12, 1.0),
    "resnet50": Architecture("ResNets", plain("resnet50"), SMALL, 37, 1.0),
    "regnet_y_400mf": Architecture("ResNets", plain("regnet_y_400mf"), SMALL, 37, 1.0, 16),
    "vgg11_bn": Architecture("CNNs without shortcuts", narrow_vgg11, SMALL, 9, 1.0),
    "squeezenet1_1": Architecture("CNNs without shortcuts", plain("squeezenet1_1"), SMALL, 25, 0.999),
    "googlenet": Architecture("CNNs without shortcuts", GOOGLENET, SMALL, 57, 1.0),
    "densenet121": Architecture("DenseNet", plain("densenet121"), SMALL, 120, 1.0),
    "mobilenet_v2": Architecture("mobile CNNs", plain("mobilenet_v2"), SMALL, 25, 1.0),
    "mobilenet_v3_small": Architecture("mobile CNNs", plain("mobilenet_v3_small"), SMALL, 27, 1.0),
    "efficientnet_b0": Architecture("mobile CNNs", plain("efficientnet_b0"), SMALL, 40, 1.0),
    "shufflenet_v2_x0_5": Architecture("mobile CNNs", plain("shufflenet_v2_x0_5"), SMALL, 30, 0.998),
    "convnext_tiny": Architecture("ConvNeXt", plain("convnext_tiny"), SMALL, 22, 1.0),
    "swin_t": Architecture("vision transformers", plain("swin_t"), SMALL, 28, 1.0, 12),
    "vit_b_16": Architecture("vision transformers", narrow_vit, SMALL, 9, 0.997, 4),
}

# timm


def made(name, **settings):
    """The builder of timm's model of that name."""
    return lambda timm: timm.create_model(name, pretrained=False, num_classes=10, **settings)


def narrow_convmixer(timm):
    """ConvMixer-768/32 with 6 of its 32 layers, a sixth as wide."""
    return timm.models.convmixer.ConvMixer(dim=128, depth=6, kernel_size=7, patch_size=8, num_classes=10)


ATTENTIVE, MIXING, CACHING = "vision transformers", "MLP-Mixers and the like", "cached attention biases"
FULL = (3, 224, 224)  # LeViT and EfficientFormer have biases for one size
FIRST, LAST = "stages.0.blocks.0.attn", "stages.3.blocks.4.token_mixer"
TIMM = {
    "convnext_atto": Architecture("ConvNeXt", made("convnext_atto"), SMALL, 16, 1.0),
    "repvgg_a0": Architecture("ResNets", made("repvgg_a0"), SMALL, 5, 1.0),
    "ghostnet_050": Architecture("mobile CNNs", made("ghostnet_050"), SMALL, 31, 1.0),
    "deit_tiny": Architecture(ATTENTIVE, made("deit_tiny_patch16_224", img_size=64), SMALL, 25, 1.0, 12),
    "pit_ti": Architecture(ATTENTIVE, made("pit_ti_224", img_size=64), SMALL, 25, 1.0, 12),
    "xcit_nano_12": Architecture(ATTENTIVE, made("xcit_nano_12_p16_224"), SMALL, 32, 1.0, 14),
    "edgenext_xx_small": Architecture(ATTENTIVE, made("edgenext_xx_small"), SMALL, 22, 1.0, 3),
    "mixer_s32": Architecture(MIXING, made("mixer_s32_224", img_size=64), SMALL, 17, 1.0),
    "resmlp_12": Architecture(MIXING, made("resmlp_12_224", img_size=64), SMALL, 13, 1.0),
    "gmlp_ti16": Architecture(MIXING, made("gmlp_ti16_224", img_size=64), SMALL, 31, 0.998),
    "convmixer_768_32": Architecture(MIXING, narrow_convmixer, SMALL, 7, 1.0),
    "poolformer_s12": Architecture(MIXING, made("poolformer_s12"), SMALL, 16, 1.0),
    "levit_128s": Architecture(CACHING, made("levit_128s"), FULL, 28, 1.0, remembers=FIRST),
    "efficientformer_l1": Architecture(CACHING, made("efficientformer_l1"), FULL, 21, 1.0, remembers=LAST),
}

# transformers


class First(nn.Module):
    """The first tensor of what a model returns: here, its logits or embeddings."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs):
        return self.model(inputs)[0]


def configured(name, *settings, **more):
    """The builder of transformers' model of that name, from settings of its configuration: nothing is downloaded."""

    def build(transformers):
        kind = getattr(transformers, name)
        return First(kind(kind.config_class(**ChainMap(more, *settings))))

    return build


LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
WORDS = {"vocab_size": 50, "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GROUPED = {"num_key_value_heads": 2}  # two heads of queries share one of keys and values
DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": 50}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}
OPT = {"ffn_dim": 48, "word_embed_proj_dim": 32}
MAMBA = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}
CONVOLUTIONS = {
    **{"conv_dim": (16, 16), "conv_kernel": (10, 3), "conv_stride": (5, 2)},
    **{"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
    "apply_spec_augment": False,  # what training overwrites by a mask would stay
}
WHISPER = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 48}
SPECTRA = {"num_mel_bins": 16, "max_source_positions": 20}
PATCHES = {"image_size": 32, "patch_size": 8}
RESNET = {"embedding_size": 16, "hidden_sizes": [16, 32, 48], "depths": [1, 2, 1]}

IMAGE, SOUND, SPECTRUM, TOKENS = (3, 32, 32), (400,), (16, 40), (8,)


def text(family, build, groups, share, nested=0):
    return Architecture(family, build, TOKENS, groups, share, nested, torch.int64)


EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
QWEN2 = {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 24, "decoder_sparse_step": 1}
DEEPSEEK = {
    **{"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 0},
    **{"n_group": 1, "topk_group": 1, "q_lora_rank": 16, "kv_lora_rank": 16},
    **{"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8},
}
BERT, GPT, MIXTURES = "BERT and other encoders", "GPT, Llama and the like", "mixtures of experts"
TRANSFORMERS = {
    "ResNet": Architecture("ResNets", configured("ResNetForImageClassification", RESNET), IMAGE, 11, 1.0),
    "ViT": Architecture(ATTENTIVE, configured("ViTForImageClassification", LAYERS, PATCHES), IMAGE, 5, 1.0, 2),
    "CLIP": Architecture(ATTENTIVE, configured("CLIPVisionModelWithProjection", LAYERS, PATCHES), IMAGE, 5, 1.0, 2),
    "BERT": text(BERT, configured("BertForMaskedLM", LAYERS, WORDS), 5, 0.997, 2),
    "RoBERTa": text(BERT, configured("RobertaForMaskedLM", LAYERS, WORDS), 5, 0.997, 2),
    "ALBERT": text(BERT, configured("AlbertForMaskedLM", LAYERS, WORDS, embedding_size=16), 4, 0.995, 1),
    "DistilBERT": text(BERT, configured("DistilBertForMaskedLM", DISTIL, WORDS), 5, 0.997, 2),
    "T5": text(BERT, configured("T5ForTokenClassification", T5), 4, 1.0, 1),
    "GPT-2": text(GPT, configured("GPT2LMHeadModel", GPT2, WORDS), 5, 1.0, 2),
    "OPT": text(GPT, configured("OPTForCausalLM", LAYERS, WORDS, OPT), 5, 1.0, 2),
    "Llama": text(GPT, configured("LlamaForCausalLM", LAYERS, WORDS), 5, 1.0, 2),
    "Mistral": text(GPT, configured("MistralForCausalLM", LAYERS, WORDS, GROUPED, sliding_window=4), 5, 1.0, 2),
    "Qwen2": text(GPT, configured("Qwen2ForCausalLM", LAYERS, WORDS, GROUPED), 5, 1.0, 2),
    "Mamba": text("Mamba", configured("MambaForCausalLM", MAMBA), 7, 1.0),
    "Mixtral": text(MIXTURES, configured("MixtralForCausalLM", LAYERS, WORDS, GROUPED, num_local_experts=4), 5, 1.0, 4),
    "Qwen2-MoE": text(MIXTURES, configured("Qwen2MoeForCausalLM", LAYERS, WORDS, GROUPED, EXPERTS, QWEN2), 7, 1.0, 4),
    "OLMoE": text(MIXTURES, configured("OlmoeForCausalLM", LAYERS, WORDS, GROUPED, EXPERTS), 5, 1.0, 4),
    "DeepSeek-V3": text(MIXTURES, configured("DeepseekV3ForCausalLM", LAYERS, WORDS, DEEPSEEK), 11, 1.0, 2),
    "wav2vec 2.0": Architecture("speech", configured("Wav2Vec2ForCTC", LAYERS, CONVOLUTIONS), SOUND, 7, 0.996, 2),
    "Whisper": Architecture(
        "speech", configured("WhisperForAudioClassification", WHISPER, SPECTRA), SPECTRUM, 7, 1.0, 2
    ),
}

ROWS = [
    pytest.param(library, architecture, id=f"{library}, {architecture.family}, {name}")
    for library, table in (("torchvision", TORCHVISION), ("timm", TIMM), ("transformers", TRANSFORMERS))
    for name, architecture in table.items()
]


@pytest.mark.parametrize(("library", "architecture"), ROWS)
def test_the_symmetries_of_an_architecture_are_found_and_proven(library, architecture):
    module = pytest.importorskip(library, reason=f"{library} is missing or incomplete: pip install -e .[zoo]")
    with seeding.global_rng("architecture"):
        network = architecture.build(module)
    shape, dtype = architecture.shape, architecture.type
    spec = onebasin.trace(network, shape, dtype)
    found = len(spec.groups), round(moving_share(network, spec), 3), sum(bool(group.inner) for group in spec.groups)
    assert found == (architecture.groups, architecture.share, architecture.nested)
    if architecture.remembers is None:
        assert onebasin.check(network, spec, shape, dtype) <= 1e-5  # and 1e-9 where nothing is cast to float32
    else:
        where = re.escape(f"{architecture.remembers}.attention_bias_cache")
        with pytest.raises(OnebasinError, match=f"remembers between calls: {where}"):
            onebasin.check(network, spec, shape, dtype)
