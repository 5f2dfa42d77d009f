"""Transformers in canonical form: the same function, its symmetries, and what finds them."""

import functools

import numpy as np
import pytest
import torch
from networks_for_tests import few_digits, stream

import onebasin
from onebasin import seeding
from onebasin.config.settings import method_settings
from onebasin.errors import OnebasinError
from onebasin.machine.vision import torchvision
from onebasin.matching.learned import Learned, mixture
from onebasin.matching.search import run_search
from onebasin.merging.average import aligned_models
from onebasin.models.canonical import canonical_models, prove_canonical
from onebasin.models.running import measure
from onebasin.models.stack import Models, initial
from onebasin.networks.canonical import canonical
from onebasin.networks.transformer import gpt, vit
from onebasin.parameters import lerp, stacked
from onebasin.registry import resolve
from onebasin.symmetry.apply import act, identity, random_elements, to_first
from onebasin.symmetry.check import check
from onebasin.symmetry.trace import trace
from onebasin.training.run import train

IMAGE, CONTEXT = (1, 8, 8), (12,)
VIT = {"name": "vit", "patch": 4, "width": 16, "heads": 2, "depth": 2, "hidden": 24}


def noisy(network, key=0):
    """The network with all values moved, gains and offsets, too."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=stream("noise", key))
    return network.eval()


def own_vit():
    with seeding.global_rng("vit"):
        return noisy(vit(IMAGE, 10, **{name: value for name, value in VIT.items() if name != "name"}))


def own_gpt():
    with seeding.global_rng("gpt"):
        return noisy(gpt(CONTEXT, 20, width=12, heads=3))


def of_torchvision():
    with seeding.global_rng("torchvision"):
        sizes = {"num_layers": 2, "num_heads": 4, "hidden_dim": 32, "mlp_dim": 48, "num_classes": 10}
        return noisy(torchvision.models.VisionTransformer(16, 8, **sizes))


def of_timm(**settings):
    timm = pytest.importorskip("timm", reason="timm is missing: pip install -e .[zoo]")
    with seeding.global_rng("timm"):
        sizes = {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 10}
        return noisy(timm.models.vision_transformer.VisionTransformer(**sizes, **settings))


def of_transformers(name, **settings):
    library = pytest.importorskip("transformers", reason="transformers is missing: pip install -e .[zoo]")
    kind = getattr(library, name)
    with seeding.global_rng("transformers"):
        return noisy(kind(kind.config_class(**settings)))


LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 12, "vocab_size": 20}
TOKENS = torch.arange(2 * 12).view(2, 12) % 20
NETWORKS = {
    "vit": (own_vit, torch.zeros(2, *IMAGE)),
    "gpt": (own_gpt, TOKENS),
    "torchvision": (of_torchvision, torch.zeros(2, 3, 16, 16)),
    "timm": (of_timm, torch.zeros(2, 3, 16, 16)),
    "timm, mean": (
        lambda: of_timm(global_pool="avg", class_token=False, fc_norm=False),
        torch.zeros(2, 3, 16, 16),
    ),
    "timm, norm of the mean": (lambda: of_timm(global_pool="avg", class_token=False), torch.zeros(2, 3, 16, 16)),
    "timm, scaled layers": (lambda: of_timm(init_values=0.1), torch.zeros(2, 3, 16, 16)),
    "GPT-2": (lambda: of_transformers("GPT2LMHeadModel", **GPT2), TOKENS),
    "ViT": (
        lambda: of_transformers("ViTForImageClassification", image_size=16, patch_size=8, **LAYERS),
        torch.zeros(2, 3, 16, 16),
    ),
}


@pytest.mark.parametrize(("build", "example"), NETWORKS.values(), ids=NETWORKS.keys())
def test_canonical_form_computes_the_same_and_so_do_its_transforms(build, example):
    network = build()
    assert prove_canonical(network, example) < 1e-10
    found = canonical(network)
    spec = trace(found, example)
    depth, kinds = found.form.depth, [group.kind for group in spec.groups]
    assert kinds == ["orthogonal", *["permutation"] * 2 * depth]
    assert [group.size for group in spec.groups] == [found.form.width, *[found.form.heads, found.form.hidden] * depth]
    assert check(found, spec, example, stream("check")) < 1e-10


def test_what_has_no_canonical_form_is_refused_in_a_line():
    with pytest.raises(OnebasinError, match=r"BertForMaskedLM is post-norm: .*leave it ordinary"):
        canonical(of_transformers("BertForMaskedLM", vocab_size=20, **LAYERS))
    with pytest.raises(OnebasinError, match="Linear has no canonical form that is known"):
        canonical(torch.nn.Linear(2, 3))
    with pytest.raises(OnebasinError, match="no place for a norm before the layers"):
        canonical(of_timm(pre_norm=True))


def as_models(networks, shape, kind=torch.float32):
    ordinary = Models(networks[0], stacked([*map(initial, networks)]), tuple(range(len(networks))), shape, kind)
    return canonical_models(ordinary)


@functools.cache
def planted(build, shape, kind):
    """Three copies of a canonical model, two of them transformed at random, and the spec."""
    one = as_models([build()], shape, kind)
    spec = trace(one.network, one.example_input)
    draws = stream("planted")
    copies = [one[0]]
    for _ in range(2):
        copies.append(act(one[0], spec, {name: own[0] for name, own in random_elements(spec, 1, draws).items()}))
    return Models(one.network, stacked(copies), (0, 1, 2), shape, kind), spec


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("method", ["weight_matching", "transformer_matching", "hierarchical"])
@pytest.mark.parametrize(("build", "shape", "kind"), [(own_vit, IMAGE, torch.float32), (own_gpt, CONTEXT, torch.int64)])
def test_planted_transforms_are_recovered(method, count, build, shape, kind):
    models, spec = planted(build, shape, kind)
    models = models.first(count)
    found = run_search(resolve("method", method), method, models, spec, None, method_settings(method, {}), 0, 0)
    aligned = aligned_models(models, spec, found).parameters
    assert max(float((own - own[:1]).abs().max()) for own in aligned.values()) < 1e-3
    mean = {name: own.mean(dim=0) for name, own in aligned.items()}
    outputs = [torch.func.functional_call(models.network, own, models.example_input) for own in (mean, models[0])]
    assert torch.allclose(*outputs, atol=1e-4)


def test_permutations_alone_are_found_where_nothing_may_be_rotated():
    models, spec = planted(own_vit, IMAGE, torch.float32)
    settings = method_settings("permutation_matching", {})
    found = run_search(
        resolve("method", "permutation_matching"), "permutation_matching", models, spec, None, settings, 0, 0
    )
    stream_of = next(group.name for group in spec.groups if group.kind == "orthogonal")
    assert set(found.elements[stream_of].unique().tolist()) == {0.0, 1.0}
    onebasin.permute(models, spec, found)


@functools.cache
def trained():
    """Three small transformers, trained for seconds, in canonical form; and the spec."""
    settings = {"optimizer": "adam", "lr": 0.003, "weight_decay": 0.0, "batch": 50, "epochs": 12}
    models = canonical_models(train(VIT, few_digits(), settings, range(3), root=0)[0])
    return models, trace(models.network, models.example_input)


def barrier(one, other, network, split):
    losses = [measure(network, own, split)[0] for own in (lerp(one, other, 0.5), one, other)]
    return losses[0] - (losses[1] + losses[2]) / 2


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("method", ["activation_matching", "learned", "learned_from_identity", "ste_mm", "ste"])
def test_methods_that_read_data_connect_transformers_better_than_nothing(method):
    models, spec = trained()
    data = few_digits()
    epochs = {} if method == "activation_matching" else {"epochs": 10, "batch": 50}
    settings = method_settings(method, epochs)
    found = run_search(resolve("method", method), method, models, spec, data, settings, 0, 0)
    aligned = aligned_models(models, spec, found)
    before = [measure(models.network, own, data.test)[0] for own in models]
    after = [measure(models.network, own, data.test)[0] for own in aligned]
    assert np.allclose(before, after, atol=1e-4)
    naive = barrier(models[0], models[1], models.network, data.train)
    assert barrier(aligned[0], aligned[1], models.network, data.train) < 0.9 * naive


def test_the_gradient_of_learned_matching_is_that_of_its_loss():
    models, spec = trained()
    wide = {name: tensor.double() for name, tensor in models.parameters.items()}
    models = Models(models.network, wide, models.seeds, models.input_shape)
    batch = few_digits().train.first(8)
    start = {name: own[1:] for name, own in identity(spec, 2).items()}
    search = Learned(models.first(2), spec, start, lr=0.0)
    weights = [0.45, 0.55]
    loss, latents = search.loss(batch, weights)
    name = next(group.name for group in spec.groups if group.kind == "orthogonal")
    [gradient] = torch.autograd.grad(loss, [latents[name]])
    for place in ((0, 0, 1), (0, 3, 2), (0, 5, 5)):
        ends = []
        for step in (1e-5, -1e-5):
            search._latents[name][place] += step
            ends.append(float(search.loss(batch, weights)[0].detach()))
            search._latents[name][place] -= step
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float(gradient[place]), rel=1e-4, abs=1e-7)


def test_the_straight_through_gradient_of_an_assignment_is_that_of_its_matrix():
    models, spec = trained()
    start = {name: own[1:] for name, own in identity(spec, 2).items()}
    search = Learned(models.first(2), spec, start, lr=0.0)
    name = next(group.name for group in spec.groups if group.kind == "permutation")
    latent = search._latents[name].clone().requires_grad_()
    matrices = search._matrices(name, latent)
    assert torch.equal(matrices.detach(), torch.eye(2, dtype=torch.float64)[None])
    (matrices * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    assert torch.equal(latent.grad, torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], dtype=torch.float64))


def test_mixtures_are_near_half_of_two_and_dirichlet_of_many():
    draws = np.random.default_rng(0)
    two = np.array([mixture(2, 0.1, draws) for _ in range(500)])
    assert ((two >= 0.4) & (two <= 0.6)).all()
    assert two.std() > 0.04
    three = np.array([mixture(3, 0.1, draws) for _ in range(500)])
    assert np.allclose(three.sum(axis=1), 1)
    assert np.allclose(three.mean(axis=0), 1 / 3, atol=0.06)
    assert np.median(three.max(axis=1)) > 0.9
    even = np.array([mixture(3, 100.0, draws) for _ in range(500)])
    assert even.max() < 0.6


def test_alignment_to_the_first_leaves_it_and_keeps_how_the_others_lie():
    models, spec = planted(own_vit, IMAGE, torch.float32)
    elements = random_elements(spec, 3, stream("elements"))
    moved = to_first(spec, elements)
    for name, own in identity(spec).items():
        assert torch.allclose(moved[name][0].double(), own[0].double(), atol=1e-9)
    before = {name: own[1] for name, own in elements.items()}
    after = {name: own[1] for name, own in moved.items()}
    back = act(act(models[1], spec, after), spec, {name: own[0] for name, own in elements.items()})
    expected = act(models[1], spec, before)
    assert all(torch.allclose(back[name], expected[name], atol=1e-4) for name in expected)
