"""Nested groups: blocks that may change places, and units that may change places inside each of them."""

import itertools

import numpy as np
import pytest
import torch
from networks_for_tests import coincide, permuted_copies, stream
from scipy.optimize import linear_sum_assignment
from torch import nn

import onebasin
from onebasin.errors import OnebasinError
from onebasin.matching.c2m3 import c2m3
from onebasin.matching.cost import Costs, agreement, gains
from onebasin.matching.hierarchical import hierarchical
from onebasin.matching.weight import weight_matching
from onebasin.models.stack import Models, initial
from onebasin.symmetry.alignment import Alignment, check_elements
from onebasin.symmetry.apply import act, act_on_stack, compose, invert, random_elements
from onebasin.symmetry.check import check
from onebasin.symmetry.kinds import KINDS
from onebasin.symmetry.kinds.nested import joint, parted
from onebasin.symmetry.kinds.permutation import total
from onebasin.symmetry.spec import Axis, Group, Joined, Spec, load_spec, save_spec
from onebasin.symmetry.trace import trace

NESTED = KINDS["nested"]
SMALL = Group("g", 3, (), "nested", (4, 2))

# Three blocks: two families of units inside them, of which one lies in modules of their own; a plain group beside.
GROUP = Group(
    "heads",
    3,
    (
        Axis("joint", 0, family=1, block=4),
        Axis("joint", 0, offset=12, family=2, block=2),
        Axis("rows", 0),
        Axis("experts.*", 0, family=1, block=5, rounds=1),
        Axis("experts.*", 0, block=5, start=4),
        Axis("back", 1, family=2, block=4, rounds=2),
        Axis("bias.*", 0),
    ),
    "nested",
    (4, 2),
)
OTHER = Group("other", 7, (Axis("joint", 1), Axis("experts.*", 1), Axis("back", 0), Axis("rows", 1)))
SPEC = Spec(
    (GROUP, OTHER),
    joined=(
        Joined("experts.*", ("experts.0", "experts.1", "experts.2"), 3, 0, 1),
        Joined("bias.*", ("bias.0", "bias.1", "bias.2"), 3),
    ),
)
SHAPES = {
    "joint": (18, 7),
    "rows": (3, 7),
    "back": (7, 12),
    **{f"experts.{k}": (5, 7) for k in range(3)},
    **{f"bias.{k}": (2,) for k in range(3)},
}


def tensors(count, key):
    draws = stream("nested", key)
    return {name: torch.randn(count, *shape, generator=draws, dtype=torch.float64) for name, shape in SHAPES.items()}


def random_costs(group, problems, key):
    return torch.randn(problems, group.units, group.units, generator=stream("costs", key), dtype=torch.float64)


def blocks_of(costs, group, family, place, block):
    units = group.inner[family - 1]
    own = costs[group.span(family), group.span(family)]
    return own[place * units : (place + 1) * units, block * units : (block + 1) * units]


def best_of_all(costs, group):
    """The least cost by trying all orders, every inner problem by SciPy."""
    values = costs[: group.size, : group.size].copy()
    for place, block in itertools.product(range(group.size), repeat=2):
        for family in range(1, len(group.inner) + 1):
            own = blocks_of(costs, group, family, place, block)
            values[place, block] += own[linear_sum_assignment(own)].sum()
    return min(
        sum(values[i, order[i]] for i in range(group.size)) for order in itertools.permutations(range(group.size))
    )


def every_element(group):
    """All elements of a small group."""
    insides = [list(itertools.permutations(range(units))) for units in group.inner for _ in range(group.size)]
    for order in itertools.permutations(range(group.size)):
        for chosen in itertools.product(*insides):
            rest = iter(chosen)
            inside = [torch.tensor([next(rest) for _ in range(group.size)]) for _ in group.inner]
            yield joint(group, torch.tensor(order), inside)


def test_elements_are_taken_apart_and_put_together():
    element = NESTED.random(SMALL, stream("element"))
    order, inside = parted(SMALL, element)
    assert sorted(order.tolist()) == [0, 1, 2]
    assert [tuple(units.shape) for units in inside] == [(3, 4), (3, 2)]
    assert torch.equal(joint(SMALL, order, inside), element)


def test_elements_form_a_group():
    one, other = (torch.stack([NESTED.random(SMALL, stream(k, key)) for k in range(5)]) for key in "ab")
    product = NESTED.compose(one, other)
    same = NESTED.identity(SMALL, "cpu").expand(5, -1)
    assert all(NESTED.is_element(stack, SMALL) for stack in (one, other, product, NESTED.invert(one), same))
    assert torch.equal(NESTED.compose(one, NESTED.invert(one)), same)
    telling = NESTED.telling(SMALL, stream("telling"))
    assert NESTED.is_element(telling[None], SMALL)
    assert not (telling == same[0]).any()


@pytest.mark.parametrize("wrong", ["units leave their block", "a family leaves", "blocks disagree", "no permutation"])
def test_what_is_no_element_is_told(wrong):
    element = NESTED.identity(SMALL, "cpu").clone()
    pairs = {"units leave their block": (3, 7), "a family leaves": (3, 15), "blocks disagree": (0, 1)}
    if wrong in pairs:
        one, other = pairs[wrong]
        element[one], element[other] = int(element[other]), int(element[one])
    else:
        element[4] = element[5]
    assert not NESTED.is_element(element[None], SMALL)
    with pytest.raises(OnebasinError, match="holds no nesteds"):
        check_elements({"g": element[None]}, Spec((SMALL,)), 1, "here")


@pytest.mark.parametrize("warm", [True, False])
def test_the_best_element_is_that_of_all(warm):
    group = Group("g", 3, (), "nested", (4,))
    solver = NESTED.solver(2, group, warm)
    old = torch.stack([NESTED.identity(group, "cpu")] * 2)
    everyone = torch.stack([*every_element(group)])
    for step in range(3):
        costs = random_costs(group, 2, step)
        new, improved = solver.best(costs, [0, 1], old)
        for own, element, before, better in zip(costs.numpy(), new, old, improved, strict=True):
            values = total(np.broadcast_to(own, (len(everyone), *own.shape)), everyone.numpy())
            assert total(own[None], element.numpy()[None])[0] == pytest.approx(values.min(), abs=1e-9)
            assert better == (values.min() < total(own[None], before.numpy()[None])[0] - 1e-12)
        old = new


@pytest.mark.parametrize("group", [SMALL, Group("g", 5, (), "nested", (9,)), Group("g", 4, (), "nested", (1, 6))])
def test_several_families_and_larger_blocks(group):
    solver = NESTED.solver(1, group, True)
    old = NESTED.identity(group, "cpu")[None]
    for step in range(4):
        costs = random_costs(group, 1, step)
        new, _ = solver.best(costs, [0], old)
        assert NESTED.is_element(new, group)
        found = total(costs.numpy(), new.numpy())[0]
        assert found == pytest.approx(best_of_all(costs[0].numpy(), group), abs=1e-9)
        old = new


def test_pairs_of_blocks_that_cannot_win_are_not_solved():
    group = Group("g", 12, (), "nested", (8,))
    planted = NESTED.random(group, stream("planted"))
    costs = 0.1 * random_costs(group, 1, "noise")
    costs[0, torch.arange(group.units), planted] -= 1
    solver = NESTED.solver(1, group, True)
    new, improved = solver.best(costs, [0], NESTED.identity(group, "cpu")[None])
    assert torch.equal(new[0], planted)
    assert improved.all()
    assert solver.solved < group.size**2 / 2


def test_equal_costs_are_no_better():
    solver, old = NESTED.solver(1, SMALL, True), NESTED.random(SMALL, stream("old"))[None]
    _, improved = solver.best(torch.zeros(1, SMALL.units, SMALL.units), [0], old)
    assert not improved.any()


def test_costs_that_are_no_numbers_are_refused():
    costs = torch.full((1, SMALL.units, SMALL.units), torch.nan)
    with pytest.raises(OnebasinError, match="must be finite"):
        NESTED.solver(1, SMALL, True).best(costs, [0], NESTED.identity(SMALL, "cpu")[None])


@pytest.mark.parametrize(
    ("joined", "shapes"),
    [
        (Joined("w", ("w",), 3, 0, 1), [(3, 4, 5)]),
        (Joined("w", ("w",), 3, 0, 2), [(3, 5, 4)]),
        (Joined("w", ("w",), 3, 1, 2), [(5, 3, 4)]),
        (Joined("w", ("w",), 3, 2, 0), [(4, 5, 3)]),
        (Joined("w", ("a", "b", "c"), 3, 0, 1), [(4, 5)] * 3),
        (Joined("w", ("a", "b", "c"), 3, 0, 2), [(5, 4)] * 3),
        (Joined("w", ("a", "b", "c"), 3), [(5,)] * 3),
    ],
)
@pytest.mark.parametrize("leading", [0, 1])
def test_tensors_are_joined_and_parted(joined, shapes, leading):
    draws = stream("joined")
    own = {
        name: torch.randn(*(2,) * leading, *shape, generator=draws)
        for name, shape in zip(joined.tensors, shapes, strict=True)
    }
    whole = joined.whole(own, leading)
    again = joined.parts(whole, leading)
    assert all(torch.equal(again[name], tensor) for name, tensor in own.items())
    if joined.axis is not None:
        assert whole.dim() == leading + 2
        assert 12 in whole.shape[leading:]  # blocks and units along one axis, blocks slow
        axis = [*whole.shape].index(12, leading)
        first = next(iter(own.values()))
        if len(joined.tensors) == 1:
            first = first.select(leading + joined.blocks, 0)
        assert torch.equal(whole.narrow(axis, 0, 4).flatten().sort().values, first.flatten().sort().values)


def test_a_spec_with_nested_groups_is_kept(tmp_path):
    save_spec(tmp_path / "spec.json", SPEC)
    assert load_spec(tmp_path / "spec.json") == SPEC


def test_acting_twice_is_acting_with_the_composition():
    model = {name: tensor[0] for name, tensor in tensors(1, "model").items()}
    first, then = (
        {name: element[0] for name, element in random_elements(SPEC, 1, stream("elements", k)).items()} for k in "ab"
    )
    twice = act(act(model, SPEC, first), SPEC, then)
    once = act(model, SPEC, compose(SPEC, first, then))
    back = act(act(model, SPEC, first), SPEC, invert(SPEC, first))
    assert list(once) == list(model)
    for name, tensor in model.items():
        assert torch.equal(twice[name], once[name])
        assert torch.equal(back[name], tensor)
    moved = act(model, SPEC, first)
    assert not torch.equal(moved["experts.0"], model["experts.0"])


def test_gains_are_inner_products():
    target, source = (SPEC.join(tensors(2, key), leading=1) for key in ("target", "source"))
    present, chosen = (random_elements(SPEC, 2, stream("elements", key)) for key in ("present", "chosen"))
    found = gains(target, source, SPEC, present, GROUP)
    element = chosen["heads"]
    values = total(found.numpy(), element.numpy())
    expected = agreement(target, source, SPEC, {**present, "heads": element}, GROUP)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    between = found.clone()
    for family in range(3):
        between[:, GROUP.span(family), GROUP.span(family)] = 0
    assert not between.any()


@pytest.mark.parametrize("group", SPEC.groups, ids=lambda group: group.name)
def test_costs_that_are_mended_are_those_computed_anew(group):
    target, source = (SPEC.join(tensors(1, key), leading=1) for key in ("target", "source"))
    elements = random_elements(SPEC, 1, stream("before"))
    costs = Costs(target, source, SPEC, {"heads", "other"})
    costs.of(group, elements, [0])
    order, inside = parted(GROUP, elements["heads"][0])
    inside[0][1] = inside[0][1].roll(1)
    few = {"heads": joint(GROUP, order, inside)[None], "other": elements["other"].clone()}
    few["other"][0, :2] = few["other"][0, :2].flip(0)
    expected = -gains(target, source, SPEC, few, group)
    torch.testing.assert_close(costs.of(group, few, [0]), expected, rtol=1e-12, atol=1e-12)


def test_what_a_search_does_not_see_takes_its_whole_along():
    left = SPEC.without({"experts.1"})
    assert all(axis.tensor != "experts.*" for group in left.groups for axis in group.axes)
    assert any(axis.tensor == "bias.*" for axis in left.groups[0].axes)


# Attention


class Attention(nn.Module):
    """One layer of attention with a residual stream, as a user would write it with torch's module or by hand."""

    def __init__(self, written="module"):
        super().__init__()
        self.written = written
        self.into, self.norm, self.out = nn.Linear(5, 12), nn.LayerNorm(12), nn.Linear(12, 3)
        if written == "module":
            self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        elif written == "joint":
            self.qkv, self.back = nn.Linear(12, 36), nn.Linear(12, 12)
        else:
            self.q, self.k, self.v, self.back = (nn.Linear(12, 12) for _ in range(4))

    def forward(self, x):
        h = self.into(x)
        if self.written == "module":
            mixed = self.attention(h, h, h, need_weights=False)[0]
        elif self.written == "joint":
            q, k, v = self.qkv(h).reshape(*h.shape[:2], 3, 3, 4).permute(2, 0, 3, 1, 4).unbind(0)
            mixed = self.back(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        else:
            q, k, v = (part(h).view(*h.shape[:2], 3, 4).transpose(1, 2) for part in (self.q, self.k, self.v))
            weights = (q @ k.transpose(2, 3) / 2).softmax(dim=-1)
            mixed = self.back((weights @ v).transpose(1, 2).reshape(h.shape))
        return self.out(self.norm(h + mixed).mean(dim=1))


class Encoder(nn.Module):
    """Two layers of torch's transformer encoder."""

    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(5, 12), nn.Linear(12, 3)
        layer = nn.TransformerEncoderLayer(12, 3, 20, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x):
        return self.out(self.layers(self.into(x)).mean(dim=1))


NETWORKS = {**{written: lambda w=written: Attention(w) for written in ("module", "joint", "apart")}, "encoder": Encoder}


def models_of(build, shape=(4, 5)):
    torch.manual_seed(0)
    network = build().double().eval()
    for layer in network.modules():  # zeros and ones tell no unit from another
        if isinstance(layer, nn.LayerNorm | nn.MultiheadAttention):
            for parameter in layer.parameters(recurse=False):
                nn.init.normal_(parameter, 1.0, 0.3)
    state = {name: tensor[None] for name, tensor in initial(network).items()}
    return Models(network, state, (0,), shape)


@pytest.mark.parametrize("name", NETWORKS)
def test_heads_and_their_coordinates_are_found(name):
    models = models_of(NETWORKS[name])
    spec = trace(models.network, models.example_input.double())
    nested = [group for group in spec.groups if group.kind == "nested"]
    assert [(group.size, group.inner) for group in nested] == [(3, (4, 4))] * (2 if name == "encoder" else 1)
    assert check(models.network, spec, models.example_input, stream("check")) < 1e-12


@pytest.mark.parametrize("search", [weight_matching, hierarchical, c2m3])
@pytest.mark.parametrize("name", NETWORKS)
def test_permuted_copies_of_attention_merge_to_themselves(name, search):
    models = models_of(NETWORKS[name])
    spec = trace(models.network, models.example_input.double())
    parameters, planted = permuted_copies(models[0], spec, 3, key=name)
    copies = Models(models.network, parameters, (0, 1, 2), models.input_shape)
    settings = {"max_rounds": 20, "first_sweep": "signal", "max_steps": 60}
    found = search(copies, spec, None, settings, stream("search"))
    assert coincide(planted, found.elements)
    aligned = act_on_stack(parameters, spec, found.elements)
    assert all(torch.equal(tensor[0], tensor[1]) and torch.equal(tensor[0], tensor[2]) for tensor in aligned.values())


class SharedInside(Attention):
    """A gain of the coordinates that all heads share: they may not be permuted each in its own way."""

    def __init__(self):
        super().__init__("apart")
        self.gain = nn.Parameter(torch.rand(4))

    def forward(self, x):
        h = self.into(x)
        q, k, v = (part(h).view(*h.shape[:2], 3, 4).transpose(1, 2) for part in (self.q, self.k, self.v))
        weights = (q * self.gain @ k.transpose(2, 3)).softmax(dim=-1)
        return self.out((self.norm(h + self.back((weights @ v).transpose(1, 2).reshape(h.shape)))).mean(dim=1))


class SummedOverHeads(Attention):
    """The heads' values are added up: their coordinates have to be in one order."""

    def __init__(self):
        super().__init__("apart")
        self.back = nn.Linear(4, 12)

    def forward(self, x):
        h = self.into(x)
        q, k, v = (part(h).view(*h.shape[:2], 3, 4).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed = ((q @ k.transpose(2, 3)).softmax(dim=-1) @ v).sum(dim=1)
        return self.out(self.norm(h + self.back(mixed)).mean(dim=1))


class AllPairs(Attention):
    """Every head's queries meet every head's keys, which are the same projections: no head can have its own order."""

    def __init__(self):
        super().__init__("apart")

    def forward(self, x):
        h = self.into(x)
        q, v = (part(h).view(*h.shape[:2], 3, 4).transpose(1, 2) for part in (self.q, self.v))
        scores = (q[:, :, None] @ q[:, None].transpose(3, 4)).mean(dim=2)
        return self.out(self.norm(h + self.back((scores @ v).transpose(1, 2).reshape(h.shape))).mean(dim=1))


@pytest.mark.parametrize(
    ("build", "inner"),
    [(SharedInside, [(4,)]), (SummedOverHeads, [(4,)]), (AllPairs, [(4,)])],
    ids=lambda value: str(value),
)
def test_coordinates_that_heads_share_are_not_nested(build, inner):
    models = models_of(build)
    spec = trace(models.network, models.example_input.double())
    assert check(models.network, spec, models.example_input, stream("check")) < 1e-12
    assert [group.inner for group in spec.groups if group.kind == "nested"] == inner


def test_alignments_of_nested_groups_go_through_files_and_merging(tmp_path):
    models = models_of(Encoder)
    spec = onebasin.symmetries(models)
    planted = Alignment(random_elements(spec, 1, stream("planted")))
    moved = onebasin.permute(models, spec, planted)
    both = Models(
        models.network,
        {name: torch.cat([tensor, moved.parameters[name]]) for name, tensor in models.parameters.items()},
        (0, 1),
        models.input_shape,
    )
    found = onebasin.match(both, spec)
    merged = onebasin.merge(both, spec, found)
    aligned = onebasin.permute(both, spec, found)
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, aligned[0][name], rtol=1e-12, atol=1e-12)
