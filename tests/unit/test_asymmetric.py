"""Networks without symmetries: what is fixed, what that does to symmetries, and how their posteriors are trained."""

import numpy as np
import pytest
import torch
from networks_for_tests import random_images, stream
from torch import distributions
from torch.nn import functional as F

import onebasin
from onebasin.config.experiment import read_configuration
from onebasin.data import Data, Split
from onebasin.errors import OnebasinError
from onebasin.measures.monotonic import monotonic, read
from onebasin.measures.run import Run
from onebasin.measures.variational import variational
from onebasin.models.stack import initial
from onebasin.networks.asymmetric import FiGLU, fixed_entries, whole_weight
from onebasin.networks.build import new_network
from onebasin.registry import entries
from onebasin.symmetry.alignment import load_alignment, save_alignment
from onebasin.symmetry.check import prove
from onebasin.symmetry.trace import trace
from onebasin.training.run import train, untrained
from onebasin.training.variational import Posterior, predictive, train_posterior

W = {"kind": "w", "n_fix": [3, 2, 2], "kappa": [1, 0.5, 2]}
MLP = {"name": "mlp", "width": 6, "depth": 2, "norm": "layer", "activation": "gelu"}
RESNET = {"name": "resnet20", "width": 0.125, "norm": "layer"}
DECAYING = {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.5, "batch": 8, "epochs": 2, "save_every": 1}
DATA = random_images(dtype=torch.float32)


def made(network, *key):
    shape = (1, 6, 6) if network["name"] == "mlp" else (3, 8, 8)
    return new_network(network, shape, 3, *key), torch.randn(2, *shape, generator=stream("inputs"))


def weights(network):
    return {name: tensor for name, tensor in initial(network).items() if tensor.dim() > 1}


def bits(tensor):
    return tensor.numpy().tobytes()


@pytest.mark.parametrize("network", [MLP, RESNET], ids=lambda network: network["name"])
def test_every_row_has_its_fixed_entries_which_are_those_of_all_models(network):
    n_fix = [3, 2, 2] if network is MLP else [5, 4, 4, 4, 1]
    own = network | {"asymmetry": {"kind": "w", "n_fix": n_fix, "kappa": 2}}
    (one, _), (other, _) = made(own, 1), made(own, 2)
    masks = fixed_entries(one)
    assert masks.keys() == {name for name in weights(one) if "norm" not in name}
    rows = {name: mask.flatten(1).sum(dim=1) for name, mask in masks.items()}
    assert all(len(set(counts.tolist())) == 1 for counts in rows.values())
    first, last = next(iter(rows.values())), list(rows.values())[-1]
    assert (int(first[0]), int(last[0])) == (n_fix[0], n_fix[-1])
    for name, mask in masks.items():
        assert torch.equal(mask, fixed_entries(other)[name])
        assert len({bits(row) for row in mask.flatten(1)}) > 1
        a, b = weights(one)[name], weights(other)[name]
        assert bits(a[mask]) == bits(b[mask])
        assert not (a == b)[~mask].any()
    drawn = torch.cat([weights(one)[name][mask] for name, mask in masks.items()])
    assert float(drawn.std()) == pytest.approx(2, rel=0.25)
    again, _ = made(own | {"asymmetry": {"kind": "w", "n_fix": n_fix, "kappa": 2, "seed": 1}}, 1)
    assert any(not torch.equal(mask, masks[name]) for name, mask in fixed_entries(again).items())
    assert not any("fixed" in name for name in one.state_dict())


@pytest.mark.parametrize("masks", ["shared", "own"])
def test_fixed_entries_are_the_same_bits_after_training(masks, tmp_path):
    network = MLP | {"asymmetry": {**W, "masks": masks}}
    before = [untrained(network, DATA, DECAYING, seed, 0) for seed in (0, 1)]
    models, _ = train(network, DATA, DECAYING, [0, 1], 0)
    for number, begun in enumerate(before):
        for name, mask in fixed_entries(begun).items():
            assert bits(models[number][name][mask]) == bits(weights(begun)[name][mask])
            assert not torch.equal(models[number][name][~mask], weights(begun)[name][~mask])
    same = [torch.equal(fixed_entries(before[0])[name], mask) for name, mask in fixed_entries(before[1]).items()]
    assert all(same) if masks == "shared" else not any(same)
    state = tmp_path / "state.safetensors"  # and after an interruption
    train(network, DATA, DECAYING | {"epochs": 1}, [1], 0, [state])
    resumed, _ = train(network, DATA, DECAYING, [1], 0, [state])
    assert all(bits(resumed.parameters[name][0]) == bits(models.parameters[name][1]) for name in models.parameters)


def test_what_is_fixed_counts_and_what_is_in_its_place_does_not():
    network, inputs = made(MLP | {"asymmetry": W}, 1)
    before = network(inputs)
    [layer] = [layer for name, layer in network.named_modules() if name == "1"]
    with torch.no_grad():
        layer.weight[layer.fixed] = 99.0
    assert torch.equal(network(inputs), before)
    assert torch.equal(whole_weight(layer)[layer.fixed], layer.fixed_values[layer.fixed])
    with torch.no_grad():
        layer.weight[~layer.fixed] += 1.0
    assert not torch.equal(network(inputs), before)


@pytest.mark.parametrize("network", [MLP, RESNET], ids=lambda network: network["name"])
@pytest.mark.parametrize("kind", ["none", "w", "sigma"])
def test_asymmetric_networks_have_no_permutation_and_the_tracer_says_why(network, kind):
    asymmetry = {"kind": kind} | ({"n_fix": 2} if kind == "w" else {})
    module, inputs = made(network | {"asymmetry": asymmetry}, 1)
    spec = trace(module, inputs)
    prove(module, spec, inputs, stream("check"))
    assert bool(spec.groups) == (kind == "none")
    reasons = [fixed.reason for fixed in spec.fixed if fixed.tensor.startswith(("1.", "conv"))]
    what = {"w": "fixed", "sigma": "gates", "none": ""}[kind]
    assert kind == "none" or any(
        f".{what}, which is not in the state dict, tells its places apart" in r for r in reasons
    )


@pytest.mark.parametrize("method", entries("method"))
def test_every_method_leaves_networks_without_symmetries_as_they_are(method, tmp_path):
    network = MLP | {"asymmetry": W}
    models, _ = train(network, DATA, DECAYING | {"epochs": 1}, [0, 1, 2], 0)
    spec = trace(models.network, models.example_input)
    found = onebasin.match(models, spec, method, DATA)
    save_alignment(tmp_path / "a.safetensors", found, models=models.seeds, method=method, trial=0)
    loaded = load_alignment(tmp_path / "a.safetensors", spec, models.seeds, {"method": method})
    merged = onebasin.merge(models, spec, loaded)
    assert all(torch.equal(tensor, models.parameters[name].mean(dim=0)) for name, tensor in merged.items())


def test_masks_of_a_model_s_own_leave_the_network_its_permutations():
    module, inputs = made(MLP | {"asymmetry": {**W, "masks": "own"}}, 1)
    assert len(trace(module, inputs).groups) == 2
    plain, _ = made(MLP, 2)
    plain.load_state_dict(module.state_dict())
    torch.testing.assert_close(plain(inputs), module(inputs))


def test_a_network_without_asymmetry_is_what_it_was():
    plain, said = made(MLP, 1)[0], made(MLP | {"asymmetry": {"kind": "none"}}, 1)[0]
    assert all(torch.equal(tensor, said.state_dict()[name]) for name, tensor in plain.state_dict().items())
    assert len(trace(plain, torch.randn(2, 1, 6, 6)).groups) == 2


def test_figlu_gates_channels_by_a_fixed_matrix():
    layer = FiGLU(5, 1.0, stream("gates"))
    vectors, images = torch.randn(4, 5, generator=stream(1)), torch.randn(4, 5, 2, 3, generator=stream(2))
    torch.testing.assert_close(layer(vectors), torch.sigmoid(vectors @ layer.gates.T) * vectors)
    by_pixel = layer(images.permute(0, 2, 3, 1).reshape(-1, 5)).reshape(4, 2, 3, 5).permute(0, 3, 1, 2)
    torch.testing.assert_close(layer(images), by_pixel)
    assert not list(layer.state_dict())


@pytest.mark.parametrize(
    ("asymmetry", "says"),
    [
        ({"kind": "w"}, "n_fix: missing"),
        ({"kind": "w", "n_fix": [1, 2]}, "2 numbers for 3 levels"),
        ({"kind": "w", "n_fix": 2, "kappa": [1, 2, 3, 4]}, "4 numbers for 3 levels"),
        ({"kind": "w", "n_fix": 7}, "7, where a row of the layer has 6 entries"),
    ],
)
def test_settings_that_no_network_can_have_are_refused(asymmetry, says):
    with pytest.raises(OnebasinError, match=says):
        made(MLP | {"asymmetry": asymmetry}, 1)


@pytest.mark.parametrize(
    ("asymmetry", "says"), [({"kind": "x"}, "'w', 'sigma'"), ({"n_fix": 1}, "kind"), ({"kind": "w", "fix": 1}, "fix")]
)
def test_a_configuration_with_unknown_settings_is_refused(asymmetry, says):
    own = {
        **{"data": {"name": "digits"}, "network": MLP | {"asymmetry": asymmetry}, "training": DECAYING},
        **{"seeds": ["0-1"], "counts": [2], "trials": 1, "methods": {"naive": {}}},
    }
    with pytest.raises(OnebasinError, match=says):
        read_configuration({"experiments": {"own": own}})


# The line from a model's beginning


def test_what_a_line_shows():
    assert read(np.array([3.0, 2.0, 1.0])) == {"rise": 0.0, "convex": 1.0}
    assert read(np.array([3.0, 2.0, 2.5, 1.0, 1.2])) == {"rise": 0.5, "convex": pytest.approx(2 / 3)}
    assert read(np.array([1.0, 1.5, 2.0, 1.0]))["rise"] == 1.0  # over all that it was before


def run_of(network, training=None):
    recipe = {"network": network, "data": {"name": "own"}, "root": 0} | ({"training": training} if training else {})
    normalization = {"method": "recompute", "images": None}
    return Run("own", 0, recipe, normalization, [2], {0: [0, 1]}, torch.device("cpu"), {}, trial=0)


def opened(run, **what):
    run._opened.update(what)
    return run


def test_the_line_begins_at_the_initialisation_and_ends_at_the_model():
    models, _ = train(MLP, DATA, DECAYING, [0, 1], 0)
    run = opened(run_of(MLP, DECAYING), data=DATA, models=models)
    found = monotonic(run, {"split": "test", "images": None, "points": 5})
    path = found["path"].set_index(["model", "weight"])["loss"]
    for number, seed in enumerate((0, 1)):
        begun = untrained(MLP, DATA, DECAYING, seed, 0).eval()
        expected = F.cross_entropy(begun(DATA.test.inputs), DATA.test.targets)
        assert path[seed, 0.0] == pytest.approx(float(expected.detach()), rel=1e-5)
        begun.load_state_dict(models[number])
        expected = F.cross_entropy(begun(DATA.test.inputs), DATA.test.targets).detach()
        assert path[seed, 1.0] == pytest.approx(float(expected), rel=1e-5)
    assert list(found["monotonic"]["model"]) == [0, 1]
    adopted = opened(run_of(MLP), data=DATA, models=models)
    with pytest.raises(OnebasinError, match="where their training began"):
        monotonic(adopted, {"split": "test", "images": None, "points": 5})


# Posteriors


def test_the_divergence_is_the_closed_form_of_what_is_not_fixed():
    network, _ = made(MLP | {"asymmetry": W}, 1)
    posterior = Posterior(network, 0.02, 0.3)
    expected = 0.0
    for name, mu in posterior.mu.items():
        q = distributions.Normal(mu, F.softplus(posterior.rho[name]))
        own = distributions.kl_divergence(q, distributions.Normal(0.0, 0.3))
        expected += float(own[~fixed_entries(network)[name]].sum().detach())
        torch.testing.assert_close(q.scale, torch.full_like(mu, 0.02))
    assert float(posterior.divergence()) == pytest.approx(expected, rel=1e-5)
    assert set(posterior.mu) == set(fixed_entries(network))
    assert {name for name, _ in network.named_parameters()} == {*posterior.mu, *posterior.points}


def test_gradients_of_a_posterior_are_those_of_finite_differences():
    network, inputs = made(MLP, 1)
    network, inputs, targets = network.double(), inputs.double(), torch.tensor([0, 2])
    posterior = Posterior(network, 0.1, 0.2)

    def bound():
        drawn = posterior.draw(stream("draw"))
        return (
            F.cross_entropy(torch.func.functional_call(network, drawn, inputs), targets) + posterior.divergence() / 10
        )

    bound().backward()
    tensors = posterior.parameters
    assert all(tensor.grad is not None for tensor in tensors)
    for tensor in tensors:
        place, step = (0,) * tensor.dim(), 1e-6
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor[place] += sign * step
            ends.append(float(bound()))
            with torch.no_grad():
                tensor[place] -= sign * step
        assert float(tensor.grad[place]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4, abs=1e-8)


def test_a_posterior_learns_and_is_the_same_again():
    inputs = torch.randn(60, 1, 6, 6, generator=stream("learn"))
    targets = (inputs.flatten(1)[:, 0] > 0).long()
    data = Data(Split(inputs, targets), Split(inputs[:20], targets[:20]), 3)
    settings = {"epochs": 30, "lr": 0.01, "batch": 16, "prior": 0.3, "deviation": 0.01, "samples": 4}
    network = MLP | {"asymmetry": W}
    curves, again = (
        train_posterior(made(network, 1)[0], data, settings, stream("order"), stream("draws")) for _ in range(2)
    )
    assert curves.equals(again)
    assert len(curves) == 60
    train_loss = curves[curves["split"] == "train"]["loss"].to_numpy()
    assert train_loss[-1] < 0.5 * train_loss[0]
    assert (curves["divergence"] > 0).all()


def test_predictions_are_those_of_the_mean_probabilities():
    network, _ = made(MLP, 1)
    draws = [initial(made(MLP, key)[0]) for key in (1, 2, 3)]
    loss, accuracy = predictive(network, draws, DATA.test)
    mean = torch.stack(
        [torch.func.functional_call(network.eval(), draw, DATA.test.inputs).softmax(dim=1) for draw in draws]
    ).mean(dim=0)
    assert loss == pytest.approx(float(F.nll_loss(mean.log(), DATA.test.targets)), rel=1e-5)
    assert accuracy == pytest.approx(float((mean.argmax(dim=1) == DATA.test.targets).float().mean()))


def test_a_trial_has_a_posterior_of_its_own_and_other_objectives_none():
    settings = {"epochs": 2, "lr": 0.01, "batch": 8, "prior": 0.1, "deviation": 0.01, "samples": 2}
    run = opened(run_of(MLP, DECAYING), data=DATA)
    found = variational(run, settings)
    assert len(found["variational"]) == 4
    last = found["variational"][found["variational"]["epoch"] == 2].drop(columns="epoch")
    assert found["posterior"].equals(last)
    other = opened(run_of(MLP, DECAYING), data=DATA.judged_by("mean_squared_error"))
    with pytest.raises(OnebasinError, match="these data by mean_squared_error"):
        variational(other, settings)
