"""Width instead of permutations: inverse temperatures against a grid, and the identities of disjoint halves."""

import itertools
import math

import pytest
import torch
from networks_for_tests import stream
from scipy.optimize import minimize_scalar
from torch import nn
from torch.nn import functional as F

import onebasin
from onebasin.data import Data, Split
from onebasin.errors import OnebasinError
from onebasin.measures.calibration import compared, inverse_temperature, judged, with_random_others
from onebasin.measures.lewc import exponential_connectivity, reciprocal_orthogonality
from onebasin.parameters import lerp, mean

N, INPUTS, CLASSES, UNITS = 60, 6, 4, 8
TARGETS = torch.randint(CLASSES, (N,), generator=stream("targets"))
SPLIT = Split(torch.randn(N, INPUTS, generator=stream("inputs"), dtype=torch.float64), TARGETS)
HELD_OUT = Split(torch.randn(N, INPUTS, generator=stream("held out"), dtype=torch.float64), TARGETS)
DATA = Data(SPLIT, SPLIT, CLASSES, validation=HELD_OUT)


def noisy_logits(*shape):
    """Logits that often tell the targets right, and not always."""
    logits = torch.randn(N, CLASSES, *shape, generator=stream("logits"), dtype=torch.float64)
    targets = TARGETS.view(N, 1, *[1] * len(shape)).expand(N, 1, *shape)
    return logits.scatter_add(1, targets, torch.full(targets.shape, 1.5, dtype=torch.float64))


# Inverse temperatures


def test_the_inverse_temperature_is_that_of_a_grid_and_of_a_minimiser():
    logits = noisy_logits()
    found = inverse_temperature(logits, TARGETS)

    def loss(beta):
        return float(F.cross_entropy(beta * logits, TARGETS))

    grid = torch.linspace(0.2, 3, 2801, dtype=torch.float64)
    nearest = min(grid.tolist(), key=loss)
    assert found == pytest.approx(nearest, abs=1e-3)
    assert found == pytest.approx(minimize_scalar(loss, bounds=(0.1, 10), method="bounded").x, rel=1e-4)
    assert loss(found) < min(loss(found * 1.01), loss(found / 1.01))


@pytest.mark.parametrize("scale", [1e-6, 0.25, 1, 8, 1e5])
def test_logits_that_were_scaled_give_the_scale_back(scale):
    logits = noisy_logits()
    found = inverse_temperature(logits * scale, TARGETS)
    assert found * scale == pytest.approx(inverse_temperature(logits, TARGETS), rel=1e-9)


def test_probabilities_that_are_true_need_no_temperature():
    logits = torch.randn(200_000, 3, generator=stream("true"), dtype=torch.float64)
    drawn = torch.multinomial(logits.softmax(dim=1), 1, generator=stream("drawn"))[:, 0]
    assert inverse_temperature(logits, drawn) == pytest.approx(1, abs=0.02)
    assert inverse_temperature(logits / 4, drawn) == pytest.approx(4, abs=0.08)


def test_every_position_counts_as_a_sample():
    logits = noisy_logits(5)
    targets = TARGETS[:, None].expand(N, 5)
    rows = logits.movedim(1, 2).reshape(-1, CLASSES)
    assert inverse_temperature(logits, targets) == inverse_temperature(rows, targets.reshape(-1))


def test_logits_without_a_best_temperature_say_so():
    right = F.one_hot(TARGETS, CLASSES).double()
    assert math.isnan(inverse_temperature(right, TARGETS))  # the larger, the better
    assert inverse_temperature(-right, TARGETS) < 1e-5  # the smaller, the better
    assert inverse_temperature(torch.ones(N, CLASSES), TARGETS) == 1
    assert math.isnan(inverse_temperature(torch.full((N, CLASSES), math.inf), TARGETS))


# Networks on disjoint parts of the units


def network(depth, seed, part=None, parts=2):
    """A network without biases of `depth` hidden layers; with a `part`, of that part of the units alone."""
    torch.manual_seed(seed)
    sizes = [INPUTS, *[parts * UNITS] * depth, CLASSES]
    layers = [nn.Linear(*sides, bias=False) for sides in itertools.pairwise(sizes)]
    if part is not None:
        own = torch.zeros(parts * UNITS)
        own[part * UNITS : (part + 1) * UNITS] = 1
        with torch.no_grad():
            for number, layer in enumerate(layers):
                layer.weight *= 1 if number == depth else own[:, None]
                layer.weight *= 1 if number == 0 else own
    with_activations = [module for layer in layers for module in (layer, nn.ReLU())][:-1]
    return nn.Sequential(*with_activations).double()


def models(depth, parts=2, disjoint=True):
    networks = [network(depth, part, part if disjoint else None, parts) for part in range(parts)]
    return onebasin.stack_models(networks, (INPUTS,))


def lewc(stack, alphas=(0.25, 0.5)):
    return exponential_connectivity(stack, mean(stack.parameters), SPLIT, alphas, None, stream("directions"))


@pytest.mark.parametrize(("depth", "parts"), [(1, 2), (2, 2), (3, 2), (2, 3)])
def test_networks_on_disjoint_units_have_exponentially_weighted_features(depth, parts):
    stack = models(depth, parts)
    table = lewc(stack)
    assert len(table) == (depth + 1) * (1 + 2 * math.comb(parts, 2))
    assert table["residual"].max() < 1e-12
    assert table["dissimilarity"].abs().max() < 1e-12
    assert reciprocal_orthogonality(stack, SPLIT)["orthogonality"].max() == 0


@pytest.mark.parametrize(("depth", "parts"), [(1, 2), (2, 2), (3, 2), (2, 3)])
def test_their_average_at_that_power_of_their_number_is_their_ensemble(depth, parts):
    stack = models(depth, parts)
    beta = parts**depth  # L = depth + 1 layers
    with torch.no_grad():
        inputs = SPLIT.inputs
        logits = [network(depth, part, part, parts)(inputs) for part in range(parts)]
        own = judged(stack, mean(stack.parameters), DATA)
        torch.testing.assert_close(beta * own.logits, torch.stack(logits).mean(dim=0), rtol=1e-12, atol=1e-12)
    parents = [judged(stack, parameters, DATA) for parameters in stack]
    row = compared(own, parents, own)
    assert row["agreement"] == 1
    assert row["cosine"] == pytest.approx(1, abs=1e-12)


def test_it_is_held_out_data_that_decide():
    stack = models(1)
    own = judged(stack, stack[0], DATA)
    with torch.no_grad():
        logits = network(1, 0, 0)(HELD_OUT.inputs)
    assert own.beta == inverse_temperature(logits, TARGETS)
    assert own.calibrated_loss == pytest.approx(float(F.cross_entropy(own.beta * own.logits, TARGETS)), rel=1e-12)
    swapped = judged(stack, stack[0], Data(SPLIT, HELD_OUT, CLASSES, validation=SPLIT))
    assert swapped.beta != own.beta
    more = Data(HELD_OUT, SPLIT, CLASSES, validation=HELD_OUT)  # other training data
    assert judged(stack, stack[0], more).beta == own.beta


def test_networks_that_share_their_units_have_no_such_features():
    """A control: what holds on disjoint units is no property of the measure."""
    stack = models(2, disjoint=False)
    table = lewc(stack)
    assert table.loc[table["layer"] == "0", "residual"].max() < 1e-12  # linear in the weights, for any models
    assert table.loc[table["layer"] == "4", "residual"].min() > 0.1
    orthogonality = reciprocal_orthogonality(stack, SPLIT)
    assert set(orthogonality["layer"]) == {"2", "4"}
    assert orthogonality["orthogonality"].min() > 0.1


def test_residuals_are_what_they_are_by_hand():
    stack, share = models(1, disjoint=False), 0.25
    row = lewc(stack, [share]).set_index(["layer", "model_b"]).loc[("2", 1)]
    one, other = (network(1, seed) for seed in range(2))
    between = lerp(stack[0], stack[1], 1 - share)
    with torch.no_grad():
        own = F.relu(SPLIT.inputs @ between["0.weight"].T) @ between["2.weight"].T
        weighted = share**2 * one(SPLIT.inputs) + (1 - share) ** 2 * other(SPLIT.inputs)
        plain = share * one(SPLIT.inputs) + (1 - share) * other(SPLIT.inputs)
    assert row["weight_b"] == 1 - share
    for name, expected in (("", weighted), ("plain_", plain)):
        assert row[f"{name}residual"] == pytest.approx(float((own - expected).norm() / own.norm()), rel=1e-9)
        angle = 1 - F.cosine_similarity(own, expected, dim=1).mean()
        assert row[f"{name}dissimilarity"] == pytest.approx(float(angle), rel=1e-9)


def test_controls_are_worse_where_features_are_exponentially_weighted():
    table = lewc(models(3)).set_index(["layer", "model_b", "weight_b"])
    last = table.loc[("6", "merged", 0.5)]
    assert last["plain_residual"] == pytest.approx(2**3 - 1)  # it is 2^(L-1) times as long
    assert last["plain_dissimilarity"] == pytest.approx(0, abs=1e-12)  # and points there, too
    assert last["random_residual"] == pytest.approx(math.sqrt(2), abs=0.2)
    uneven = table.loc[("6", 1, 0.75)]
    assert uneven["plain_dissimilarity"] > 1e-3


def test_residuals_are_the_same_again():
    stack = models(2, disjoint=False)
    assert lewc(stack).equals(lewc(stack))


# The average with random directions


def test_random_directions_have_the_lengths_of_the_models_that_they_stand_for():
    networks = [nn.Sequential(nn.Linear(INPUTS, 9), nn.ReLU(), nn.Linear(9, CLASSES)) for _ in range(3)]
    stack = onebasin.stack_models(networks, (INPUTS,))
    found, average = with_random_others(stack, stream("random")), mean(stack.parameters)
    for name in ("0.bias", "2.bias"):
        torch.testing.assert_close(found[name], average[name])
    for name in ("0.weight", "2.weight"):
        assert not torch.allclose(found[name], average[name], atol=1e-2)
    two = onebasin.stack_models(networks[:2], (INPUTS,))
    found = with_random_others(two, stream("random"))
    for name in ("0.weight", "2.weight"):
        other = 2 * found[name] - two[0][name]
        assert float(other.norm()) == pytest.approx(float(two[1][name].norm()), rel=1e-5)
    assert torch.equal(two.parameters["0.weight"][1], networks[1][0].weight)  # the models stay as they are


def test_the_average_of_one_model_with_itself_is_better_than_with_random_directions():
    """The control can fail: where the others have something to add, it does."""
    torch.manual_seed(0)
    one = network(1, 0)
    with torch.no_grad():
        targets = one(torch.cat([SPLIT.inputs, HELD_OUT.inputs])).argmax(dim=1)
    flipped = targets.clone()
    flipped[::7] = (flipped[::7] + 1) % CLASSES  # a best temperature wants errors
    test, held_out = Split(SPLIT.inputs, flipped[:N]), Split(HELD_OUT.inputs, flipped[N:])
    data = Data(test, test, CLASSES, validation=held_out)
    stack = onebasin.stack_models([one, one], (INPUTS,))
    own = judged(stack, mean(stack.parameters), data)
    control = judged(stack, with_random_others(stack, stream("control")), data)
    row = compared(own, [own, own], control)
    assert row["barrier_calibrated"] == row["barrier_loss"] == row["barrier_accuracy"] == 0
    assert row["agreement"] == 1
    assert row["random_calibrated_loss"] > row["calibrated_loss"] + 0.05


# What cannot be calibrated


def test_without_held_out_data_nothing_is_calibrated():
    stack = models(1)
    with pytest.raises(OnebasinError, match=r"no validation split; set data\.validation_fraction") as caught:
        judged(stack, stack[0], Data(SPLIT, SPLIT, CLASSES))
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_judged_otherwise_has_no_temperature():
    stack = models(1)
    numbers = Split(SPLIT.inputs, torch.zeros(N, CLASSES), "mean_squared_error")
    with pytest.raises(OnebasinError, match=r"calibration: .* not mean_squared_error; leave this measure out"):
        judged(stack, stack[0], Data(numbers, numbers, validation=numbers))
