import itertools
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from onebasin.errors import OnebasinError
from onebasin.models.running import forward
from onebasin.models.stack import initial
from onebasin.networks.mlp import mlp
from onebasin.parameters import stacked
from onebasin.storage import artifacts
from onebasin.symmetry.alignment import Alignment, check_elements, load_alignment, save_alignment
from onebasin.symmetry.apply import (
    act,
    act_on_stack,
    act_on_tensor,
    compose,
    identity,
    invert,
    random_elements,
)
from onebasin.symmetry.check import check
from onebasin.symmetry.spec import Axis, Group, Spec
from onebasin.symmetry.trace import trace

ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid, nn.LeakyReLU]
SIZES = st.lists(st.integers(1, 7), min_size=3, max_size=5)


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def layered(*sizes, activation=nn.ReLU, bias=True, seed=0):
    """Linear layers between the sizes with activations between them, float64, random parameters."""
    layers = [nn.Flatten()]
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after, bias=bias), activation()]
    network = nn.Sequential(*layers[:-1]).double()
    generator = stream(seed)
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=generator)
    return network


def inputs_of(network, samples=6):
    return torch.randn(samples, network[1].in_features, generator=stream(1), dtype=torch.float64)


def spec_of(network):
    """The spec of such a network spelled out, against which the traced one is held; a single unit cannot move."""
    layers = [(name, layer) for name, layer in network.named_children() if isinstance(layer, nn.Linear)]
    groups = []
    for (name, layer), (after, _) in itertools.pairwise(layers):
        bias = () if layer.bias is None else (Axis(f"{name}.bias", 0),)
        groups.append(Group(name, layer.out_features, (Axis(f"{name}.weight", 0), *bias, Axis(f"{after}.weight", 1))))
    return Spec(tuple(group for group in groups if group.size > 1))


def of_one(indices):
    return {name: index[0] for name, index in indices.items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# The spec and its tracing


def test_the_spec_of_an_mlp_has_a_group_for_every_hidden_layer():
    network = mlp((1, 2, 3), classes=4, width=5, depth=2)
    spec = trace(network, torch.zeros(2, 1, 2, 3))
    assert spec.groups == (
        Group("1", 5, (Axis("1.weight", 0), Axis("1.bias", 0), Axis("3.weight", 1))),
        Group("3", 5, (Axis("3.weight", 0), Axis("3.bias", 0), Axis("5.weight", 1))),
    )


def test_a_layer_without_bias_has_no_bias_axis():
    network = layered(3, 4, 5, 2, bias=False)
    tensors = {axis.tensor for group in trace(network, inputs_of(network)).groups for axis in group.axes}
    assert tensors == {"1.weight", "3.weight", "5.weight"}


def test_a_network_without_hidden_layers_has_no_groups():
    network = layered(3, 2)
    assert trace(network, inputs_of(network)).groups == ()


TENSORS = ["3.weight", "3.bias", "7.weight", "7.bias"]


def test_the_axes_of_a_tensor_are_those_that_its_groups_move():
    spec = spec_of(layered(3, 4, 5, 6, 2))
    names = {name: {axis: [g.name for _, g in parts] for axis, parts in spec.axes_of(name).items()} for name in TENSORS}
    assert names == {"3.weight": {0: ["3"], 1: ["1"]}, "3.bias": {0: ["3"]}, "7.weight": {1: ["5"]}, "7.bias": {}}


def test_neighbours_are_the_layers_before_and_after():
    spec = spec_of(layered(3, 4, 5, 6, 2))
    assert [spec.neighbours(group) for group in spec.groups] == [{"3"}, {"1", "5"}, {"3"}]


def test_an_activation_may_be_used_twice():
    relu = nn.ReLU()
    network = nn.Sequential(nn.Linear(3, 4), relu, nn.Linear(4, 5), relu, nn.Linear(5, 2))
    assert [group.size for group in trace(network, torch.zeros(2, 3)).groups] == [4, 5]


# Permuting


@settings(max_examples=60)
@given(sizes=SIZES, activation=st.sampled_from(ACTIVATIONS), bias=st.booleans(), seed=st.integers(0, 999))
def test_permuting_hidden_units_leaves_the_function_unchanged(sizes, activation, bias, seed):
    network = layered(*sizes, activation=activation, bias=bias, seed=seed)
    spec, images = spec_of(network), inputs_of(network)
    permuted = act(initial(network), spec, of_one(random_elements(spec, 1, stream(seed))))
    torch.testing.assert_close(forward(network, permuted, images), network(images), rtol=1e-10, atol=1e-10)


def test_new_unit_i_is_old_unit_p_of_i():
    network = layered(2, 3, 1)
    before, p = initial(network), torch.tensor([2, 0, 1])
    after = act(before, spec_of(network), {"1": p})
    for new, old in enumerate(p.tolist()):
        assert torch.equal(after["1.weight"][new], before["1.weight"][old])
        assert torch.equal(after["1.bias"][new], before["1.bias"][old])
        assert torch.equal(after["3.weight"][:, new], before["3.weight"][:, old])
    assert torch.equal(after["3.bias"], before["3.bias"])


def test_an_axis_can_be_left_out():
    network = layered(3, 4, 5, 2)
    spec, tensor = spec_of(network), initial(network)["3.weight"]
    indices = of_one(random_elements(spec, 1, stream()))
    assert torch.equal(act_on_tensor("3.weight", tensor, spec, indices, without=1), tensor[indices["3"]])
    assert torch.equal(act_on_tensor("3.weight", tensor, spec, indices, without=0), tensor[:, indices["1"]])


def test_the_units_of_a_group_may_lie_in_blocks_and_come_round_again():
    axis = Axis("t", 0, offset=1, outer=2, inner=3)  # place 0 stays; then two rounds of two units of three places
    spec = Spec((Group("g", 2, (axis,)),))
    permuted = act({"t": torch.arange(14)}, spec, {"g": torch.tensor([1, 0])})["t"]
    assert permuted.tolist() == [0, 4, 5, 6, 1, 2, 3, 10, 11, 12, 7, 8, 9, 13]


def test_several_groups_may_act_on_parts_of_one_axis():
    spec = Spec((Group("a", 2, (Axis("t", 1),)), Group("b", 3, (Axis("t", 1, offset=2), Axis("t", 0)))))
    indices = {"a": torch.tensor([1, 0]), "b": torch.tensor([2, 0, 1])}
    tensor = torch.arange(15).view(3, 5)
    permuted = act({"t": tensor}, spec, indices)["t"]
    assert torch.equal(permuted, tensor[[2, 0, 1]][:, [1, 0, 4, 2, 3]])
    assert spec.neighbours(spec.groups[0]) == {"b"}
    assert spec.neighbours(spec.groups[1]) == {"a", "b"}  # its own, through the other axis


@given(sizes=SIZES, models=st.integers(1, 4), seed=st.integers(0, 999))
def test_permuting_a_stack_permutes_each_of_its_models(sizes, models, seed):
    networks = [layered(*sizes, seed=seed + model) for model in range(models)]
    spec = spec_of(networks[0])
    indices = random_elements(spec, models, stream(seed))
    together = act_on_stack(stacked([initial(network) for network in networks]), spec, indices)
    for model, network in enumerate(networks):
        alone = act(initial(network), spec, Alignment(indices).of(model))
        assert equal({name: tensor[model] for name, tensor in together.items()}, alone)


def test_permuting_leaves_the_original_alone():
    network = layered(3, 4, 2)
    before = {name: tensor.clone() for name, tensor in initial(network).items()}
    permuted = act(initial(network), spec_of(network), {"1": torch.tensor([3, 2, 1, 0])})
    permuted["3.bias"] = permuted["3.bias"] + 1
    permuted["1.weight"].zero_()
    assert equal(initial(network), before)


SPECS = st.lists(st.integers(1, 8), min_size=1, max_size=3).map(
    lambda sizes: Spec(tuple(Group(f"g{i}", size, (Axis(f"t{i}", 0),)) for i, size in enumerate(sizes)))
)


@given(spec=SPECS, models=st.integers(1, 3), seed=st.integers(0, 999))
def test_an_inverse_undoes_its_permutation(spec, models, seed):
    indices = random_elements(spec, models, stream(seed))
    assert equal(compose(spec, indices, invert(spec, indices)), identity(spec, models))
    assert equal(compose(spec, invert(spec, indices), indices), identity(spec, models))
    assert equal(invert(spec, invert(spec, indices)), indices)


@given(spec=SPECS, models=st.integers(1, 3), seed=st.integers(0, 999))
def test_composing_is_doing_one_after_the_other(spec, models, seed):
    generator = stream(seed)
    first, then = (random_elements(spec, models, generator) for _ in range(2))
    stack = {axis.tensor: torch.rand(models, g.size, generator=generator) for g in spec.groups for axis in g.axes}
    one_by_one = act_on_stack(act_on_stack(stack, spec, first), spec, then)
    assert equal(act_on_stack(stack, spec, compose(spec, first, then)), one_by_one)


@given(spec=SPECS, seed=st.integers(0, 999))
def test_composing_is_associative_and_the_identity_is_neutral(spec, seed):
    generator = stream(seed)
    a, b, c = (random_elements(spec, 2, generator) for _ in range(3))
    assert equal(compose(spec, compose(spec, a, b), c), compose(spec, a, compose(spec, b, c)))
    assert equal(compose(spec, a, identity(spec, 2)), a)
    assert equal(compose(spec, identity(spec, 2), a), a)


@given(spec=SPECS, models=st.integers(1, 3), seed=st.integers(0, 999))
def test_random_permutations_are_permutations_that_their_generator_decides(spec, models, seed):
    indices = random_elements(spec, models, stream(seed))
    check_elements(indices, spec, models, "here")
    assert equal(indices, random_elements(spec, models, stream(seed)))


def test_models_get_different_random_permutations():
    index = random_elements(Spec((Group("g", 20, ()),)), 2, stream())["g"]
    assert not torch.equal(index[0], index[1])


# Proving a spec


def with_axes(spec, position, axes):
    groups = list(spec.groups)
    groups[position] = replace(groups[position], axes=axes)
    return Spec(tuple(groups))


@settings(max_examples=12)
@given(sizes=SIZES, activation=st.sampled_from(ACTIVATIONS), bias=st.booleans(), seed=st.integers(0, 999))
def test_a_traced_spec_is_right(sizes, activation, bias, seed):
    network = layered(*sizes, activation=activation, bias=bias, seed=seed)
    spec = trace(network, inputs_of(network))
    assert spec.groups == spec_of(network).groups
    assert check(network, spec, inputs_of(network), stream(seed)) <= 1e-9


def test_a_single_precision_network_in_training_mode_is_checked_and_left_as_it_is():
    network = mlp((1, 2, 3), classes=4, width=5, depth=2)
    before = {name: tensor.clone() for name, tensor in initial(network).items()}
    assert check(network, trace(network, torch.zeros(2, 1, 2, 3)), torch.zeros(2, 1, 2, 3), stream()) <= 1e-9
    assert equal(initial(network), before)
    assert network.training


@pytest.mark.parametrize("missing", range(3))
@pytest.mark.parametrize("position", range(2))
def test_a_missing_axis_is_found_with_its_group(position, missing):
    network = layered(5, 6, 6, 5)
    axes = spec_of(network).groups[position].axes
    spec = with_axes(spec_of(network), position, axes[:missing] + axes[missing + 1 :])
    left = re.escape(", ".join(f"axis {axis.axis} of {axis.tensor}" for axis in spec.groups[position].axes))
    with pytest.raises(OnebasinError, match=rf"group {spec.groups[position].name} \({left}\)") as caught:
        check(network, spec, inputs_of(network), stream())
    assert f"group {spec.groups[1 - position].name} " not in str(caught.value)


@pytest.mark.parametrize("seed", range(12))
def test_a_missing_axis_of_two_units_is_found_by_every_stream(seed):
    network = layered(5, 2, 5)
    spec = with_axes(spec_of(network), 0, spec_of(network).groups[0].axes[:2])
    with pytest.raises(OnebasinError, match="group 1 "):
        check(network, spec, inputs_of(network), stream(seed))


def test_a_missing_bias_is_found_though_all_biases_are_zero():
    network = layered(5, 6, 6, 5)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    group = spec_of(network).groups[0]
    spec = with_axes(spec_of(network), 0, tuple(axis for axis in group.axes if not axis.tensor.endswith("bias")))
    with pytest.raises(OnebasinError, match=r"group 1 \(axis 0 of 1\.weight, axis 1 of 3\.weight\)"):
        check(network, spec, inputs_of(network), stream())


def test_a_swapped_axis_of_a_square_matrix_is_found():
    network = layered(6, 6, 6, 6)
    swapped = with_axes(spec_of(network), 0, (Axis("1.weight", 1), Axis("1.bias", 0), Axis("3.weight", 1)))
    with pytest.raises(OnebasinError, match=r"group 1 \(axis 1 of 1\.weight"):
        check(network, swapped, inputs_of(network), stream())


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        (Axis("1.weight", 1), r"group 1: axis 1 of 1\.weight \(6, 5\) has no places for 6"),
        (Axis("1.bias", 1), r"group 1: axis 1 of 1\.bias \(6,\) has no places for 6"),
        (Axis("1.weight", -2), r"group 1.*axis -2 of 1\.weight"),
        (Axis("9.weight", 0), r"group 1: .* no tensor 9\.weight"),
    ],
)
def test_an_axis_that_does_not_exist_is_named(axis, message):
    network = layered(5, 6, 4)
    with pytest.raises(OnebasinError, match=message):
        check(network, with_axes(spec_of(network), 0, (axis,)), inputs_of(network), stream())


def test_a_group_that_is_too_large_is_named():
    network = layered(5, 6, 4)
    spec = Spec((replace(spec_of(network).groups[0], size=7),))
    with pytest.raises(OnebasinError, match=r"group 1: axis 0 of 1\.weight \(6, 5\) has no places for 7 units"):
        check(network, spec, inputs_of(network), stream())


# Alignment as an object and as an artifact

SPEC = Spec((Group("1", 4, (Axis("1.weight", 0),)), Group("3", 3, (Axis("3.weight", 0),))))


@pytest.fixture
def permutations():
    return Alignment(random_elements(SPEC, 3, stream()), {"steps": 7})


@pytest.fixture
def path(tmp_path, permutations):
    path = tmp_path / "n3-t0.safetensors"
    save_alignment(path, permutations, models=[5, 6, 9], method="ste_mm")
    return path


def refusal(path, spec=SPEC, seeds=(5, 6, 9)):
    with pytest.raises(OnebasinError) as caught:
        load_alignment(path, spec, seeds)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_permutations_are_of_so_many_models(permutations):
    assert len(permutations) == 3
    assert len(permutations.first(2)) == 2
    assert equal(permutations.first(2).of(1), permutations.of(1))
    assert permutations.first(2).work == permutations.work
    assert torch.equal(permutations.of(2)["3"], permutations.elements["3"][2])


def test_permutations_are_loaded_as_they_were_saved(path, permutations):
    loaded = load_alignment(path, SPEC, (5, 6, 9))
    assert equal(loaded.elements, permutations.elements)
    assert loaded.work == {"steps": 7}
    assert artifacts.load(path, "permutations").facts["method"] == "ste_mm"


@pytest.mark.parametrize("seeds", [(5, 6), (5, 9, 6), (5, 6, 9, 10), (1, 2, 3)])
def test_permutations_of_other_models_are_refused(path, seeds):
    assert f"made for models [5, 6, 9], not {list(seeds)}" in refusal(path, seeds=seeds)


@pytest.mark.parametrize(
    "groups",
    [SPEC.groups[:1], (*SPEC.groups, Group("5", 3, ())), (SPEC.groups[0], replace(SPEC.groups[1], name="4"))],
    ids=["fewer", "more", "renamed"],
)
def test_permutations_of_other_groups_are_refused(path, groups):
    assert "groups ['1', '3'] are not the network's" in refusal(path, Spec(groups))


def test_permutations_of_other_sizes_are_refused(path):
    assert "group 3 holds no permutations" in refusal(path, Spec((SPEC.groups[0], replace(SPEC.groups[1], size=4))))


@pytest.mark.parametrize(
    "index",
    [
        torch.tensor([[0, 1, 2], [0, 1, 1], [2, 1, 0]]),
        torch.tensor([[0, 1, 2], [0, 1, 3], [2, 1, 0]]),
        torch.tensor([[0, 1, 2], [0, 1, -1], [2, 1, 0]]),
        torch.tensor([[0, 1, 2], [2, 1, 0]]),
        torch.tensor([0, 1, 2]),
        torch.tensor([[0.0, 1.0, 2.0]] * 3),
        torch.tensor([[0, 1, 2]] * 3, dtype=torch.int32),
    ],
    ids=["repeated", "too large", "negative", "too few models", "one model", "float", "int32"],
)
def test_what_is_no_permutation_is_refused(tmp_path, permutations, index):
    path = tmp_path / "n3-t0.safetensors"
    save_alignment(path, Alignment({**permutations.elements, "3": index}), models=[5, 6, 9])
    assert "group 3 holds no permutations" in refusal(path)


@pytest.mark.parametrize("facts", [{}, {"models": [5, 6, 9]}, {"work": {}}])
def test_an_artifact_that_does_not_say_whose_permutations_it_holds_is_refused(tmp_path, permutations, facts):
    path = tmp_path / "n3-t0.safetensors"
    artifacts.save(path, "permutations", permutations.elements, **facts)
    refusal(path)
