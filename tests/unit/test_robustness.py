"""Attacks against slow references, and the norms of models."""

import math

import pytest
import torch
from networks_for_tests import stream
from torch import nn
from torch.nn import functional as F

import onebasin
from onebasin.data import Data, Split
from onebasin.measures.attacks import Range, fgsm, input_gradient, noisy, pgd
from onebasin.measures.robustness import norms, rescaled, under_attack

INPUTS = torch.rand(24, 1, 3, 3, generator=stream("images"))
TARGETS = torch.randint(4, (24,), generator=stream("labels"))
MEAN, STD = (0.4,), (0.5,)
SPLIT = Split((INPUTS - 0.4) / 0.5, TARGETS)
DATA = Data(SPLIT, SPLIT, 4, mean=MEAN, std=STD)


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 12), nn.Tanh(), nn.Linear(12, 4))


MODELS = onebasin.stack_models([network(), network()], (1, 3, 3))
NETWORK, OWN = MODELS.network, MODELS[0]
ALLOWED = Range.of(DATA)


def slow_gradient(inputs):
    """By finite differences of the summed loss, in float64, entry by entry."""
    own = network().double()
    own.load_state_dict(OWN)
    found, step = torch.zeros_like(inputs, dtype=torch.float64), 1e-6
    for place in range(inputs.numel()):
        ends = []
        for sign in (1, -1):
            moved = inputs.double().clone()
            moved.view(-1)[place] += sign * step
            ends.append(F.cross_entropy(own(moved), TARGETS[: len(inputs)], reduction="sum"))
        found.view(-1)[place] = (ends[0] - ends[1]).detach() / (2 * step)
    return found


def test_gradients_are_those_of_finite_differences():
    few = SPLIT.first(4)
    found = input_gradient(NETWORK, OWN, few)
    torch.testing.assert_close(found.double(), slow_gradient(few.inputs), rtol=1e-3, atol=1e-5)


def test_one_step_goes_along_the_sign_in_units_of_a_pixel_and_stays_a_picture():
    few = SPLIT.first(4)
    found = fgsm(NETWORK, OWN, few, 0.1, ALLOWED) * 0.5 + 0.4  # as pixels again
    expected = (INPUTS[:4] + 0.1 * slow_gradient(few.inputs).sign()).clamp(0, 1)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_ten_steps_are_those_of_a_slow_loop():
    few, strength = SPLIT.first(4), 0.1
    found = pgd(NETWORK, OWN, few, strength, ALLOWED, stream("pgd"))
    reach = strength / 0.5
    moved = few.inputs + reach * (2 * torch.rand(few.inputs.shape, generator=stream("pgd")) - 1)
    low, high = (0 - 0.4) / 0.5, (1 - 0.4) / 0.5
    moved = moved.clamp(low, high)
    for _ in range(10):
        moved = moved + 0.25 * reach * slow_gradient(moved).sign()
        moved = (few.inputs + (moved - few.inputs).clamp(-reach, reach)).clamp(low, high)
    torch.testing.assert_close(found.double(), moved.double(), rtol=0, atol=1e-5)
    assert float((found - few.inputs).abs().max()) <= reach + 1e-6


def test_stronger_attacks_hurt_more_and_pgd_most():
    strengths = {"fgsm": [0.05, 0.2], "pgd": [0.05, 0.2], "noise": [0.1]}
    table = under_attack(MODELS, OWN, SPLIT, DATA, strengths, stream("attack"))
    losses = table.set_index(["attack", "strength"])["loss"]
    assert losses["clean", 0.0] == pytest.approx(float(F.cross_entropy(NETWORK(SPLIT.inputs), TARGETS)), rel=1e-5)
    assert losses["clean", 0.0] < losses["fgsm", 0.05] < losses["fgsm", 0.2]
    assert losses["pgd", 0.2] >= losses["fgsm", 0.2] - 0.05
    again = under_attack(MODELS, OWN, SPLIT, DATA, strengths, stream("attack"))
    assert table.equals(again)


def test_noise_has_its_deviation_where_nothing_is_cut_off():
    wide = Range(torch.tensor(-99.0), torch.tensor(99.0), torch.tensor(2.0))
    many = Split(torch.zeros(4000, 9), torch.zeros(4000, dtype=torch.int64))
    assert float(noisy(many, 0.3, wide, stream("noise")).std()) == pytest.approx(0.6, rel=0.02)


def test_the_range_of_what_is_no_image_is_that_of_the_training_set():
    table = Split(torch.tensor([[-3.0, 1.0], [2.0, 5.0]]), torch.tensor([0, 1]))
    found = Range.of(Data(table, table, 2))
    assert (float(found.low), float(found.high), float(found.unit)) == (-3, 5, 1)


def test_norms_are_what_they_are():
    found = norms(MODELS, OWN, SPLIT)
    weights = [OWN["1.weight"], OWN["3.weight"]]
    assert found["frobenius"] == pytest.approx(math.sqrt(sum(float(t.square().sum()) for t in OWN.values())), rel=1e-6)
    product = math.prod(float(torch.linalg.svdvals(weight)[0]) for weight in weights)
    assert found["spectral_product"] == pytest.approx(product, rel=1e-5)
    assert found["mean_logit"] == pytest.approx(float(NETWORK(SPLIT.inputs).abs().mean()), rel=1e-5)
    half = rescaled(MODELS, OWN, found["frobenius"] / 2)
    assert norms(MODELS, half, SPLIT)["frobenius"] == pytest.approx(found["frobenius"] / 2, rel=1e-6)
