"""The kind `orthogonal`, and which axes the tracer grades so."""

import numpy as np
import pytest
import scipy.linalg
import torch
from networks_for_tests import stream
from torch import nn
from torch.nn import functional as F

from onebasin.errors import OnebasinError
from onebasin.matching.c2m3 import c2m3
from onebasin.symmetry.alignment import check_elements
from onebasin.symmetry.check import check
from onebasin.symmetry.kinds import KINDS
from onebasin.symmetry.kinds.orthogonal import matrix_of, polar, rotation
from onebasin.symmetry.kinds.permutation import act as permuted
from onebasin.symmetry.spec import Axis, Group, Spec
from onebasin.symmetry.trace import trace

ORTHOGONAL = KINDS["orthogonal"]
GROUP = Group("g", 4, (), "orthogonal")


def numbers(*shape, key=0):
    return torch.randn(*shape, generator=stream("numbers", key), dtype=torch.float64)


@pytest.mark.parametrize("axis", [Axis("t", 1), Axis("t", 1, offset=2, outer=2, inner=3)])
def test_a_permutation_acts_as_the_matrix_that_it_is(axis):
    tensor = numbers(3, axis.end(GROUP) + (axis.offset > 0), 2)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(
        ORTHOGONAL.act(tensor, 1, [(axis, GROUP, matrix_of(order))]), permuted(tensor, 1, [(axis, GROUP, order)])
    )


def test_elements_act_as_sums_over_units():
    element, tensor = ORTHOGONAL.random(GROUP, stream("element")), numbers(3, 4)
    slow = torch.stack([sum(element[i, j] * tensor[:, j] for j in range(4)) for i in range(4)], dim=1)
    assert torch.allclose(ORTHOGONAL.act(tensor, 1, [(Axis("t", 1), GROUP, element)]), slow, atol=1e-12)


def test_two_elements_one_after_the_other_are_one_and_every_element_has_an_inverse():
    one, other = (ORTHOGONAL.random(GROUP, stream("element", key)) for key in range(2))
    tensor, place = numbers(4, 5), Axis("t", 0)
    both = ORTHOGONAL.act(ORTHOGONAL.act(tensor, 0, [(place, GROUP, one)]), 0, [(place, GROUP, other)])
    assert torch.allclose(ORTHOGONAL.act(tensor, 0, [(place, GROUP, ORTHOGONAL.compose(one, other))]), both, atol=1e-12)
    nothing = ORTHOGONAL.compose(one, ORTHOGONAL.invert(one))
    assert torch.allclose(nothing, ORTHOGONAL.identity(GROUP, "cpu"), atol=1e-12)


def test_the_best_element_is_that_of_procrustes():
    gains = numbers(6, 4, 4)
    solver = ORTHOGONAL.solver(6, GROUP, True)
    old = torch.stack([ORTHOGONAL.identity(GROUP, "cpu")] * 6)
    found, improved = solver.best(-gains, range(6), old)
    for own, gain in zip(found, gains, strict=True):
        # SciPy's R has |A R - B| least, which is <R, A^T B> largest
        expected, _ = scipy.linalg.orthogonal_procrustes(np.eye(4), gain.numpy())
        assert np.allclose(own.numpy(), expected, atol=1e-10)
    assert improved.all()
    again, improved = solver.best(-gains, range(6), found)
    assert not improved.any()
    assert torch.allclose(again, found, atol=1e-10)


def test_no_element_gains_more_than_the_best():
    gain = numbers(1, 4, 4)
    best = (polar(gain, torch.eye(4, dtype=torch.float64)[None]) * gain).sum()
    others = [(ORTHOGONAL.random(GROUP, stream("try", key)) * gain[0]).sum() for key in range(200)]
    assert max(others) < best


def test_where_gains_say_nothing_the_element_stays():
    known, old = numbers(4, 2), ORTHOGONAL.random(GROUP, stream("old"))[None]
    gains = (known @ (known.mT @ old[0]))[None]  # of rank 2, and best as it is
    assert torch.allclose(polar(gains, old), old, atol=1e-9)
    assert torch.allclose(polar(torch.zeros(1, 4, 4, dtype=torch.float64), old), old, atol=1e-9)


def test_a_rotation_of_a_latent_matrix_is_unique_and_has_its_gradient():
    latent = numbers(4, 4).requires_grad_()
    q = rotation(latent)
    assert torch.allclose(q @ q.mT, torch.eye(4, dtype=torch.float64), atol=1e-12)
    assert ((q.mT @ latent).diagonal() > 0).all()
    own = ORTHOGONAL.random(GROUP, stream("element"))
    assert torch.allclose(rotation(own), own, atol=1e-12)
    assert torch.autograd.gradcheck(rotation, (latent,))
    assert torch.autograd.gradcheck(rotation, (torch.eye(3, dtype=torch.float64, requires_grad=True),))


def test_what_is_not_orthogonal_is_no_element():
    spec = Spec((GROUP,))
    check_elements({"g": ORTHOGONAL.random(GROUP, stream("element"))[None]}, spec, 1, "file")
    for wrong in (numbers(1, 4, 4), torch.eye(4)[None], torch.eye(3, dtype=torch.float64)[None], torch.arange(4)[None]):
        with pytest.raises(OnebasinError, match="group g holds no orthogonals"):
            check_elements({"g": wrong}, spec, 1, "file")


class Between(nn.Module):
    """Two linear layers with something in between."""

    def __init__(self, between):
        super().__init__()
        self.one, self.other, self.between = nn.Linear(5, 8), nn.Linear(8, 3), between

    def forward(self, x):
        return self.other(self.between(self.one(x)))


def rms(x):
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6)


LINEAR = {
    "nothing": lambda x: x,
    "a number times it": lambda x: 2 * x / 3,
    "the root mean square": rms,
    "torch's": lambda x: F.rms_norm(x, (8,)),
    "its square times it": lambda x: x * (x * x).sum(dim=1, keepdim=True),
    "turned and turned back": lambda x: x.T.unsqueeze(0).permute(2, 0, 1).flatten(1),
}
ELEMENTWISE = {
    "relu": torch.relu,
    "a number more": lambda x: x + 1,
    "ones more": lambda x: x + torch.ones(8),
    "less its mean": lambda x: x - x.mean(dim=-1, keepdim=True),
    "times its sum": lambda x: x * x.sum(dim=-1, keepdim=True),
    "times itself": lambda x: x * x,
    "the square seen twice": lambda x: x.square() + x.square().sum(dim=-1, keepdim=True),
    "a layer norm": lambda x: F.layer_norm(x, (8,)),
    "a part of its square": lambda x: x * x.square().mean(),
    "rounded": lambda x: torch.div(x, 0.5, rounding_mode="floor"),
    "cut into two": lambda x: torch.cat([x[:, :4], 2 * x[:, 4:]], dim=1),
}


@pytest.mark.parametrize("between", LINEAR.values(), ids=LINEAR.keys())
def test_what_is_linear_may_be_rotated(between):
    network, example = Between(between), torch.zeros(2, 5)
    [group] = trace(network, example).groups
    assert (group.kind, group.size) == ("orthogonal", 8)
    assert check(network, Spec((group,)), example, stream("check")) < 1e-9


@pytest.mark.parametrize("between", ELEMENTWISE.values(), ids=ELEMENTWISE.keys())
def test_what_is_done_unit_by_unit_lowers_the_grade(between):
    spec = trace(Between(between), torch.zeros(2, 5))
    assert spec.groups
    assert {group.kind for group in spec.groups} == {"permutation"}


class Residual(nn.Module):
    """A residual stream with norms, with a gain or without."""

    def __init__(self, gain):
        super().__init__()
        self.first, self.hidden, self.back, self.head = (
            nn.Linear(*sizes) for sizes in ((5, 8), (8, 6), (6, 8), (8, 3))
        )
        self.gain = gain

    def forward(self, x):
        x = self.first(x)
        x = x + self.back(F.gelu(self.hidden(self.gain * rms(x))))
        return self.head(self.gain * rms(x))


def test_a_gain_makes_rotations_fail():
    plain, example = Residual(1.0), torch.zeros(2, 5)
    spec = trace(plain, example)
    assert [group.kind for group in spec.groups] == ["orthogonal", "permutation"]
    assert check(plain, spec, example, stream("check")) < 1e-9
    with_gain = Residual(nn.Parameter(torch.rand(8, generator=stream("gain")) + 0.5))
    assert {group.kind for group in trace(with_gain, example).groups} == {"permutation"}
    with pytest.raises(OnebasinError, match=r"permuting changes the function.*group first"):
        check(with_gain, spec, example, stream("check"))


def test_a_method_of_permutations_alone_says_so():
    network = Between(lambda x: x)
    spec = trace(network, torch.zeros(2, 5))
    with pytest.raises(OnebasinError, match="c2m3: group one is orthogonal"):
        c2m3(None, spec, None, {"max_steps": 1}, stream("c2m3"))
