"""The symmetries of all kinds of networks follow from their graphs: they are right, and what is left out is said."""

import functools
import re
from dataclasses import replace

import pytest
import torch
from architectures_for_tests import (
    ARCHITECTURES,
    IMAGES,
    SEQUENCES,
    VECTORS,
    Lambda,
    parameter,
    resnet20,
    tied_names,
)
from hypothesis import given, settings
from random_networks import networks
from torch import nn
from torch.nn import functional as F

from onebasin import seeding
from onebasin.errors import OnebasinError
from onebasin.symmetry.apply import act
from onebasin.symmetry.check import check
from onebasin.symmetry.kinds import kind_of
from onebasin.symmetry.spec import Axis, Fixed, Spec
from onebasin.symmetry.trace import trace
from onebasin.symmetry.tracing import graph


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def build(function):
    with seeding.global_rng("trace"):
        return function()


def proven(network, example):
    """The spec of a network, after all that can be said of any spec was found true."""
    spec = trace(network, example)
    assert_right(spec, network, example)
    return spec


def assert_right(spec, network, example):
    assert check(network, spec, example, stream()) <= 1e-9
    assert_every_group_moves_something(network, spec)
    assert_every_place_is_moved_or_accounted_for(network, spec)


def assert_every_group_moves_something(network, spec):
    distinct = {name: torch.arange(t.numel()).reshape(t.shape) for name, t in network.state_dict().items()}
    for group in spec.groups:
        assert group.size > 1
        alone = replace(spec, groups=(group,))
        turned = act(distinct, alone, {group.name: kind_of(group).telling(group, stream())})
        for axis in group.axes:
            assert not torch.equal(alone.join(turned)[axis.tensor], alone.join(distinct)[axis.tensor])


def assert_every_place_is_moved_or_accounted_for(network, spec):
    accounted = {(fixed.tensor, fixed.axis) for fixed in spec.fixed}
    for name, tensor in network.state_dict().items():
        for number, length in enumerate(tensor.shape):
            parts = spec.axes_of(name).get(number, ())
            places = [place for axis, group in parts for place in axis.places(group).flatten().tolist()]
            assert len(places) == len(set(places)), "no two groups move one place"
            assert set(places) <= set(range(length))
            assert length - len(places) <= 1 or (name, number) in accounted


@functools.cache
def spec_of(name):
    return trace(ARCHITECTURES[name].network(), ARCHITECTURES[name].example)


def names(spec):
    return [group.name for group in spec.groups]


def reason(spec, tensor, axis):
    (found,) = [fixed.reason for fixed in spec.fixed if (fixed.tensor, fixed.axis) == (tensor, axis)]
    return found


# All architectures


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_groups_of_an_architecture_are_found_and_proven(name):
    architecture = ARCHITECTURES[name]
    assert [group.size for group in spec_of(name).groups] == architecture.sizes
    assert_right(spec_of(name), architecture.network(), architecture.example)


@settings(max_examples=10)
@given(network_and_example=networks())
def test_no_symmetry_is_made_up(network_and_example):
    proven(*network_and_example)


DEEP = ["VGG11", "VGG11 with BatchNorm", "ResNet50"]  # seconds each; ResNet18 and MobileNetV2 have all that they have


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name not in DEEP])
def test_a_graph_that_is_followed_as_it_is_says_what_one_that_was_broken_down_says(monkeypatch, name):
    network, example = ARCHITECTURES[name].network(), ARCHITECTURES[name].example
    monkeypatch.setattr(graph, "_all_known", lambda program: False)
    assert trace(network, example) == spec_of(name)


def assert_followed_as_it_is(network, example):
    assert graph._all_known(torch.export.export(network, (example,), strict=False))


def everyday(net, x):
    """What networks are full of beside their layers: dropout and masks of all kinds, casts, sizes taken of others."""
    x = F.hardswish(F.dropout(net.enter(x), 0.1, net.training, inplace=True), inplace=True)
    kept = x.new_empty(len(x), 1).bernoulli_(0.9)
    numbers = torch.arange(len(x), device=x.device)
    seen = (numbers[:, None] >= 0) & (numbers <= numbers.max()).expand_as(x[:, :2]).any(1, keepdim=True)
    x = torch.where(seen, x, 0.0).to(torch.float64).to(x.dtype) * kept.reshape_as(x[:, :1])
    return net.out(x.to("cpu") + torch.gather(x.mean(1), 0, numbers)[:, None])


def test_a_graph_of_everyday_operations_is_followed_as_it_is():
    network = build(lambda: Lambda(everyday, enter=nn.Linear(7, 6), out=nn.Linear(6, 3)))
    for training in (False, True):
        assert_followed_as_it_is(network.train(training), VECTORS)
    assert names(proven(network, VECTORS)) == ["enter"]


def overwriting_a_view(x, y):
    x[:, :2].add_(y)  # the first half of x is of the units of y from here on
    return x


def overwriting_what_is_viewed(x, y):
    view = x[:, :2]
    x.mul_(2)
    return torch.cat([view * y, x], dim=1)


def overwriting_across(x, y):
    x.transpose(0, 1)[:2].sub_(y.transpose(0, 1))
    return x.relu_()


def filling_a_view(x, y):
    x[:, :2].fill_(0.5)
    x[:, 2:].fill_(0.0)
    return torch.cat([x, x[:, :2] * y], dim=1)


OVERWRITING = [overwriting_a_view, overwriting_what_is_viewed, overwriting_across, filling_a_view]


@pytest.mark.parametrize("function", OVERWRITING)
def test_what_is_overwritten_in_place_is_followed_through_all_views(function):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.narrow, self.out = nn.Linear(3, 4), nn.Linear(3, 2), nn.LazyLinear(2)

        def forward(self, inputs):
            return self.out(function(self.wide(inputs), self.narrow(inputs)))

    network, example = build(Network), torch.zeros(2, 3)
    network(example)  # decides the size of the last layer
    assert_followed_as_it_is(network, example)
    spec = proven(network, example)
    assert [group.size for group in spec.groups] == [2, 2]
    assert any({axis.tensor for axis in group.axes} >= {"wide.weight", "narrow.weight"} for group in spec.groups)


# What the groups look like


def test_groups_are_named_for_what_makes_their_units_in_the_order_of_the_signal():
    assert names(spec_of("ResNet20")) == [
        *("0", "3.conv1", "4.conv1", "5.conv1"),
        *("6.conv1", "6.conv2", "7.conv1", "8.conv1"),
        *("9.conv1", "9.conv2", "10.conv1", "11.conv1"),
    ]


def test_a_projection_and_the_residual_branch_share_the_units_of_the_stream():
    group = spec_of("ResNet20").groups[5]
    made_by = [
        f"6.{part}" for part in ("conv2.weight", "bn2.weight", "bn2.bias", "bn2.running_mean", "bn2.running_var")
    ]
    projected = [name.replace("conv2", "shortcut.0").replace("bn2", "shortcut.1") for name in made_by]
    read_by = ["7.conv1.weight", *(name.replace("6.", "7.") for name in made_by)]
    read_by += ["8.conv1.weight", *(name.replace("6.", "8.") for name in made_by)]
    last = ["9.conv1.weight", "9.shortcut.0.weight"]
    assert [axis.tensor for axis in group.axes] == [*made_by, *projected, *read_by, *last]
    reading = {"7.conv1.weight", "8.conv1.weight", *last}
    assert all(axis == Axis(axis.tensor, int(axis.tensor in reading)) for axis in group.axes)


def test_what_is_concatenated_lies_behind_one_another():
    spec = spec_of("DenseNet")
    parts = spec.axes_of("features.transition1.conv.weight")[1]
    layers = [f"features.denseblock1.denselayer{n}.conv2" for n in (1, 2)]
    assert [(axis.offset, group.size, group.name) for axis, group in parts] == [
        (0, 8, "features.conv0"), (8, 4, layers[0]), (12, 4, layers[1]),
    ]  # fmt: skip


def test_flattened_pixels_make_blocks_and_channels_last_make_rounds():
    assert Axis("6.weight", 1, inner=16) in spec_of("InstanceNorm").groups[1].axes
    assert Axis("out.weight", 1, outer=36) in spec_of("pixels first").groups[0].axes


def test_the_two_halves_of_a_gated_layer_move_together():
    first, second = spec_of("gates").groups
    assert first.axes == (Axis("gate.weight", 0, outer=2), Axis("gate.bias", 0, outer=2), Axis("glu.0.weight", 1))
    assert second.axes == (Axis("glu.0.weight", 0, outer=2), Axis("glu.0.bias", 0, outer=2), Axis("out.weight", 1))


def test_the_gates_of_a_recurrent_cell_move_with_its_state():
    (group,) = spec_of("LSTM").groups
    assert {(axis.tensor, axis.axis, axis.outer) for axis in group.axes} == {
        *((f"cell.{kind}_l0", 0, 4) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
        ("cell.weight_hh_l0", 1, 1),
        ("out.weight", 1, 1),
    }


def test_a_layer_used_twice_moves_on_both_axes():
    (group,) = spec_of("a layer used twice").groups
    assert {Axis("step.0.weight", 0), Axis("step.0.weight", 1)} <= set(group.axes)


def test_a_tied_weight_moves_under_both_its_names():
    (group,) = spec_of("two layers with one weight").groups
    assert {Axis(f"{layer}.weight", axis) for layer in (2, 4) for axis in (0, 1)} <= set(group.axes)


def test_a_decoder_tied_to_its_encoder_moves_with_it():
    (group,) = spec_of("tied autoencoder").groups
    assert group.axes == (Axis("encoder.weight", 0), Axis("encoder.bias", 0))


def test_the_residual_stream_of_a_transformer_and_its_heads_are_found():
    spec = spec_of("attention")
    assert names(spec)[:3] == [
        "token", "encoder.layers.0.self_attn.in_proj_weight", "encoder.layers.0.linear1",
    ]  # fmt: skip
    heads = spec.groups[1]
    assert (heads.kind, heads.size, heads.inner) == ("nested", 2, (4, 4))
    assert Axis(heads.name, 0, outer=2, family=1, block=4) in heads.axes  # queries and keys of a head
    assert Axis(heads.name, 0, offset=16, family=2, block=4) in heads.axes  # values
    assert Axis("encoder.layers.0.self_attn.out_proj.weight", 1, family=2, block=4) in heads.axes


def test_the_channels_of_a_norm_group_move_within_it_and_what_is_left_out_is_said():
    spec = spec_of("GroupNorm")
    assert names(spec) == ["0[0:4]", "0[4:8]", "3"]
    assert Axis("1.weight", 0, offset=4) in spec.groups[1].axes
    for tensor, axis in (("0.weight", 0), ("1.bias", 0), ("3.weight", 1)):
        assert reason(spec, tensor, axis) == "moved only within each of the 2 groups of group_norm (1)"


def test_grouped_channels_move_in_blocks_and_what_is_left_out_is_said():
    spec = spec_of("grouped convolutions")
    assert spec.groups[0].axes[:2] == (Axis("0.weight", 0, inner=4), Axis("0.bias", 0, inner=4))
    assert reason(spec, "0.weight", 0).startswith("moved in blocks")
    assert reason(spec, "2.weight", 1).startswith("would move the same places as another group")


def test_softmax_and_norms_over_the_units_are_no_obstacle():
    layers = (
        nn.Linear(7, 6),
        nn.Softmax(-1),
        nn.Linear(6, 5),
        nn.RMSNorm(5),
        nn.Linear(5, 4),
        nn.PReLU(4),
        nn.Linear(4, 3),
    )
    assert names(proven(nn.Sequential(*layers), VECTORS)) == ["0", "2", "4"]


def test_a_buffer_with_units_is_part_of_the_group():
    class Running(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.out = nn.Linear(7, 6), nn.Linear(6, 3)
            self.register_buffer("mean", torch.zeros(6))

        def forward(self, x):
            x = self.enter(x)
            if self.training:
                self.mean.mul_(0.9).add_(x.detach().mean(0))
            return self.out(x - self.mean)

    (group,) = proven(Running(), VECTORS).groups
    assert Axis("mean", 0) in group.axes


def test_a_head_that_only_training_uses_moves_as_well():
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.out, self.extra = nn.Linear(7, 6), nn.Linear(6, 3), nn.Linear(6, 2)

        def forward(self, x):
            x = F.relu(self.enter(x))
            return (self.out(x), self.extra(x)) if self.training else self.out(x)

    (group,) = proven(Auxiliary(), VECTORS).groups
    assert Axis("extra.weight", 1) in group.axes


def multiplied(x, probability, training):
    return x * (torch.rand(size=(len(x), 1, 1)) > probability) if training else x


@pytest.mark.parametrize("dropout", [F.dropout, F.alpha_dropout, F.dropout1d, multiplied])
def test_dropout_is_no_obstacle_in_training(dropout):
    network = Lambda(
        lambda net, x: net.out(dropout(net.enter(x), 0.3, net.training)), enter=nn.Linear(7, 6), out=nn.Linear(6, 3)
    )
    assert names(proven(network, SEQUENCES)) == ["enter"]


DRAWING = [
    lambda: torch.rand([]),
    lambda: torch.rand(1),
    lambda: torch.rand(size=(1, 1)),
    lambda: torch.rand(()).item(),
]


@pytest.mark.parametrize("draw", DRAWING)
def test_layers_that_training_leaves_out_at_random_are_all_followed(draw):
    def forward(net, x):
        x = net.enter(x)
        for layer in (net.first, net.second):
            if not net.training or draw() >= 0.5:
                x = x + layer(x)
        return net.out(x)

    layers = {"first": nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6)), "second": nn.Linear(6, 6)}
    network = build(lambda: Lambda(forward, enter=nn.Linear(7, 6), **layers, out=nn.Linear(6, 3)))
    assert names(proven(network, VECTORS)) == ["enter", "first.0"]
    for training in (False, True):
        program = graph.capture(network, VECTORS, training)
        assert [graph.name_of(node) for node in program.graph.nodes].count("linear") == 5


def test_functions_methods_and_operators_are_followed_like_modules():
    def forward(net, x):
        x = torch.einsum("bi,hi->bh", x, net.first).sigmoid_()
        x = x.add(1.0) * torch.stack([x, x.exp()]).mean(0)
        x = (x @ net.second.T).view(len(x), -1, 1).expand(-1, -1, 3).reshape(len(x), -1)
        return {"logits": (x @ net.third,), "largest": x.amax(1)}

    spec = proven(Lambda(forward, first=parameter(6, 7), second=parameter(5, 6), third=parameter(15, 2)), VECTORS)
    assert names(spec) == ["first", "second"]


# What stays, and why


def test_input_and_output_stay():
    spec = spec_of("MLP")
    assert spec.fixed == (
        Fixed("1.weight", 1, "input of the network"),
        Fixed("7.weight", 0, "output of the network"),
        Fixed("7.bias", 0, "output of the network"),
    )


def test_an_unknown_operation_fixes_what_enters_and_leaves_it_and_is_named():
    spec = spec_of("unknown operation")
    assert names(spec) == ["0", "4"]
    unknown = "the symmetry of linalg_matrix_exp (3) is not known"
    assert [f for f in spec.fixed if "put of the network" not in f.reason] == [
        Fixed("2.weight", 0, unknown), Fixed("2.bias", 0, unknown), Fixed("4.weight", 1, unknown),
    ]  # fmt: skip


STOPPING = {
    "cumsum": lambda x: x.cumsum(1),
    "sort": lambda x: x.sort(-1).values,
    "flip": lambda x: x.flip(-1),
    "roll": lambda x: x.roll(2, 1),
    "argmax": lambda x: x + x.argmax(-1, keepdim=True),
    "select": lambda x: x[:, :1] * x[:, 5, None],
    "slice": lambda x: x[:, ::2],
    "conv1d": lambda x: F.conv1d(x[:, None], x.new_ones(1, 1, 3))[:, 0],
    "avg_pool1d": lambda x: F.avg_pool1d(x, 2),
    "pad": lambda x: F.pad(x[:, None], (1, 1), mode="reflect")[:, 0],
    "diagonal": lambda x: (x[:, :, None] * x[:, None]).diagonal(1, 1, 2),
    "index": lambda x: x[:, [3, 1, 2]],
    "triu": lambda x: (x[:, :, None] * x[:, None]).triu().sum(1),
}


@pytest.mark.parametrize("operation", STOPPING)
def test_an_operation_that_tells_units_apart_fixes_them(operation):
    layer = Lambda(lambda net, x: STOPPING[operation](x))
    size = layer(torch.ones(2, 6)).shape[1]
    spec = proven(nn.Sequential(nn.Linear(7, 6), layer, nn.Linear(size, 5), nn.ReLU(), nn.Linear(5, 2)), VECTORS)
    assert names(spec) == ["2"]
    if operation != "triu":  # which is a comparison of numbered places
        assert operation in reason(spec, "0.weight", 0)
        assert "(1)" in reason(spec, "0.weight", 0)


def test_convolutions_fix_their_kernels_and_embeddings_their_words():
    assert reason(spec_of("pixels first"), "conv.weight", 2) == "conv2d (conv) does not treat its places alike"
    assert reason(spec_of("embedding"), "0.weight", 0) == "embedding (0) looks it up by number"


@pytest.mark.parametrize("what", ["attribute", "literal", "buffer"])
def test_what_is_not_in_the_state_dict_cannot_be_permuted(what):
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.out, self.attribute = nn.Linear(7, 3), nn.Linear(3, 2), torch.arange(3.0)
            self.register_buffer("buffer", torch.arange(3.0), persistent=False)

        def forward(self, x):
            constant = torch.tensor([0.0, 1.0, 2.0]) if what == "literal" else getattr(self, what)
            return self.out(self.enter(x) + constant)

    spec = proven(Constant(), VECTORS)
    assert names(spec) == []
    says = f"the constant {what}, which is not in the state dict, tells its places apart"
    assert what == "literal" or reason(spec, "enter.weight", 0) == says


def test_numbered_places_are_a_constant_of_their_own():
    numbered = Lambda(lambda net, x: x + torch.arange(6))
    spec = proven(nn.Sequential(nn.Linear(7, 6), numbered, nn.Linear(6, 2)), VECTORS)
    assert reason(spec, "0.weight", 0) == "arange (1) makes a constant"


def test_constants_that_are_all_alike_are_no_obstacle():
    network = Lambda(
        lambda net, x: net.out(torch.ones(6) - net.enter(x) * x.new_full((2, 6), 0.5) + torch.zeros_like(x[:, :6])),
        enter=nn.Linear(7, 6),
        out=nn.Linear(6, 2),
    )
    assert names(proven(network, VECTORS)) == ["enter"]


def test_whole_numbers_are_never_permuted():
    class Shuffle(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.out = nn.Linear(7, 6), nn.Linear(6, 2)
            self.register_buffer("order", torch.tensor([3, 1, 0, 2, 5, 4]))

        def forward(self, x):
            return self.out(self.enter(x)[:, self.order])

    spec = proven(Shuffle(), VECTORS)
    assert names(spec) == []
    assert reason(spec, "order", 0) == "it holds whole numbers"


def test_what_the_network_does_not_use_is_said():
    network = Lambda(lambda net, x: net.used(x), used=nn.Linear(7, 3), idle=nn.Linear(4, 4))
    spec = proven(network, VECTORS)
    assert names(spec) == []
    assert reason(spec, "idle.weight", 1) == "the network does not use it"


def test_units_that_would_move_one_place_twice_are_fixed():
    outer = Lambda(lambda net, x: (x[:, :, None] * x[:, None]).flatten(1))
    spec = proven(nn.Sequential(nn.Linear(7, 4), outer, nn.Linear(16, 2)), VECTORS)
    assert names(spec) == []
    assert reason(spec, "0.weight", 0) == "would move the same places as another group (axis 1 of 2.weight)"


# Robustness


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_network_and_the_global_generator_are_left_as_they_are(training, dtype):
    class Remembering(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.norm, self.drop = nn.Linear(7, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)
            self.last = None

        def forward(self, x):
            self.last = self.drop(self.norm(self.enter(x))) + torch.rand(6, dtype=x.dtype)
            return self.last

    network = build(Remembering).to(dtype).train(training)
    network.norm.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    generator = torch.get_rng_state()
    trace(network, VECTORS.to(dtype))
    check(network, Spec(()), VECTORS.to(dtype), stream())
    assert torch.equal(torch.get_rng_state(), generator)
    assert [network.training, network.drop.training, network.norm.training] == [training, training, False]
    assert network.last is None
    assert {name: tensor.dtype for name, tensor in network.state_dict().items()} == {
        n: t.dtype for n, t in before.items()
    }
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_spec_does_not_depend_on_the_values_of_parameters_or_example():
    first, second = build(resnet20), resnet20()
    assert trace(first, IMAGES) == trace(second, torch.randn(IMAGES.shape, generator=stream()))


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.norm, self.out = nn.Linear(7, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.norm(self.enter(x)))


class Branching(Layers):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else x


class Selecting(Layers):
    def forward(self, x):
        return self.out(x[x[:, 0] > 0][:, :4])


class Strict(Layers):
    def forward(self, x):
        if self.training:
            raise ValueError("targets are missing")
        return super().forward(x)


@pytest.mark.parametrize(
    ("network", "example", "message"),
    [
        (
            Branching,
            VECTORS,
            r"Branching .* evaluation mode: the values .* \(test_trace\.py, line \d+: .*; use torch\.where",
        ),
        (Selecting, VECTORS, r"index returns a tensor whose shape depends on values; use torch\.where"),
        (Strict, VECTORS, r"Strict .* training mode: targets are missing .*; give an example input"),
        (Layers, torch.zeros(2, 5), r"Layers cannot be traced in evaluation mode: .*; give an example input"),
        (Layers, torch.zeros(1, 7), r"training mode: Expected more than 1 value per channel .*; give an example input"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_one_line(network, example, message, capfd):
    with pytest.raises(OnebasinError, match=message) as caught:
        trace(network(), example)
    assert len(str(caught.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")


# The proof finds faults


def without(spec, group, axis):
    left = replace(group, axes=tuple(other for other in group.axes if other != axis))
    return Spec(tuple(left if other is group else other for other in spec.groups)), left


@pytest.mark.parametrize(
    "name", ["squeeze and excitation", "DenseNet", "attention", "LSTM", "a layer used twice", "gates", "embedding"]
)
def test_a_spec_that_lacks_an_axis_is_found_with_its_group(name):
    network, example, spec = ARCHITECTURES[name].network(), ARCHITECTURES[name].example, spec_of(name)
    for group in spec.groups:
        for axis in group.axes:
            broken, left = without(spec, group, axis)
            tensors = ", ".join(f"axis {axis.axis} of {axis.tensor}" for axis in left.axes)
            with pytest.raises(OnebasinError, match=re.escape(f"group {group.name} ({tensors})")) as caught:
                check(network, broken, example, stream())
            assert str(caught.value).count("group ") == 1


def test_a_spec_that_lacks_the_second_name_of_a_tied_weight_is_found():
    network, spec = build(tied_names), spec_of("two layers with one weight")
    broken, _ = without(spec, spec.groups[0], Axis("4.weight", 1))
    with pytest.raises(OnebasinError, match="permuting changes the function"):
        check(network, broken, VECTORS, stream())


@pytest.mark.parametrize("change", [{"offset": 1}, {"outer": 4, "inner": 9}, {"outer": 36, "inner": 1}])
def test_places_that_are_wrong_are_found(change):
    network, example = ARCHITECTURES["InstanceNorm"].network(), IMAGES
    spec = spec_of("InstanceNorm")
    group = spec.groups[1]
    wrong = replace(group, axes=tuple(replace(a, **change) if a.tensor == "6.weight" else a for a in group.axes))
    with pytest.raises(OnebasinError, match="group 3"):
        check(network, Spec((spec.groups[0], wrong)), example, stream())


def test_a_group_that_goes_through_an_unknown_operation_in_order_is_no_symmetry():
    network = nn.Sequential(nn.Linear(7, 4), Lambda(lambda net, x: x.cumsum(-1)), nn.Linear(4, 2))
    made_up = replace(
        spec_of("tied autoencoder").groups[0], name="0", size=4, axes=(Axis("0.weight", 0), Axis("0.bias", 0))
    )
    with pytest.raises(OnebasinError, match="group 0 "):
        check(network, Spec((made_up,)), VECTORS, stream())


def test_batch_norm_is_proven_in_training_mode_too():
    class Trained(Layers):
        def forward(self, x):
            x = self.enter(x)
            return self.out(self.norm(x) + x.detach().cumsum(1) * self.norm.training)

    network, (group,) = build(Trained), trace(build(Layers), VECTORS).groups
    with pytest.raises(OnebasinError, match=r"changes the function in training mode \(.*: group enter \(axis 0"):
        check(network, Spec((group,)), VECTORS, stream())


def test_a_place_that_is_moved_twice_is_named():
    (group,) = trace(build(Layers), VECTORS).groups
    twice = Spec((group, replace(group, name="other", size=2, axes=(Axis("out.weight", 1, offset=2),))))
    with pytest.raises(OnebasinError, match=r"^group other: axis 1 of out\.weight \(2, 4\) is moved twice at place 2$"):
        check(build(Layers), twice, VECTORS, stream())


def test_a_part_of_an_axis_may_move_while_the_rest_stays():
    network = Lambda(
        lambda net, x: net.out(torch.cat([net.enter(x), x], 1)), enter=nn.Linear(7, 6), out=nn.Linear(13, 3)
    )
    spec = proven(network, VECTORS)
    assert [group.axes for group in spec.groups] == [
        (Axis("enter.weight", 0), Axis("enter.bias", 0), Axis("out.weight", 1))
    ]
    assert reason(spec, "out.weight", 1) == "input of the network"
