"""Linear features: the identities of Zhou et al. (NeurIPS 2023), stitching by hand, a beginning that models share."""

import math

import pytest
import torch
from networks_for_tests import stream
from torch import nn
from torch.nn import functional as F

import onebasin
from onebasin.config.experiment import read_configuration
from onebasin.data import Data, Split
from onebasin.errors import OnebasinError
from onebasin.measures.llfc import conditions, cosine, linear_connectivity, stitching
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import random_elements
from onebasin.training.run import train

SPLIT = Split(torch.randn(40, 6, generator=stream("inputs")), torch.randint(3, (40,), generator=stream("targets")))


def mlp(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 3)).double()


def models(*networks):
    return onebasin.stack_models(networks, (6,))


def test_the_first_layer_is_linear_in_the_weights_for_any_pair():
    table = linear_connectivity(models(mlp(0), mlp(1), mlp(2)), SPLIT, [0.25, 0.5], None)
    first = table[table["layer"] == "0"]
    assert first["dissimilarity"].abs().max() < 1e-12
    assert (first["coefficient"] - 1).abs().max() < 1e-12
    assert (table.loc[table["layer"] == "4", "dissimilarity"] > 1e-3).all()
    assert len(table) == 3 * (3 * 2 + 1)  # pairs and alphas, and the average of all


def test_models_that_differ_in_their_last_layer_alone_have_linear_features():
    one, other = mlp(0), mlp(0)
    with torch.no_grad():
        other[4].weight.normal_()
        other[4].bias.normal_()
    table = linear_connectivity(models(one, other), SPLIT, [0.3], None)
    assert table["dissimilarity"].abs().max() < 1e-12
    assert (table["coefficient"] - 1).abs().max() < 1e-12
    assert table.loc[table["layer"] == "4", "baseline"].min() > 0.1


def test_a_permuted_copy_has_linear_features_once_it_is_matched():
    model = models(mlp(0))
    spec = onebasin.symmetries(model)
    copy = onebasin.permute(model, spec, Alignment(random_elements(spec, 1, stream("copy"))))
    both = models(mlp(0), mlp(0))
    for name, tensor in copy[0].items():
        both.parameters[name][1] = tensor
    before = linear_connectivity(both, SPLIT, [0.5], None)
    assert before["dissimilarity"].max() > 0.01
    matched = onebasin.permute(both, spec, onebasin.match(both, spec))
    after = linear_connectivity(matched, SPLIT, [0.5], None)
    assert after["dissimilarity"].abs().max() < 1e-12
    assert conditions(matched, SPLIT)["commutativity"].abs().max() < 1e-12


def test_what_does_not_commute_is_the_product_of_the_differences():
    one, other = mlp(0), mlp(1)
    table = conditions(models(one, other), SPLIT).set_index("layer")
    inputs = SPLIT.inputs.double()
    hidden = [F.relu(network[0](inputs)) for network in (one, other)]
    weights = [network[2].weight for network in (one, other)]
    residual = (hidden[0] - hidden[1]) @ (weights[0] - weights[1]).T
    straight = hidden[0] @ weights[0].T + hidden[1] @ weights[1].T
    mixed = straight - residual
    expected = (residual.square().sum(1) / (straight.norm(dim=1) * mixed.norm(dim=1))).mean()
    assert table.loc["2", "commutativity"] == pytest.approx(float(expected), rel=1e-10)
    assert table.loc["0", "commutativity"] == pytest.approx(0, abs=1e-12)  # both take in the same


def test_unrelated_gaussians_are_nearly_additive_under_relu():
    """E cos = (1 / pi + 3 / 4) / sqrt(1 + 1 / pi): the measure barely tells, as the notes on the paper say."""
    one, other = torch.randn(2, 400, 2000, generator=stream("gaussians"), dtype=torch.float64)
    found = cosine(F.relu(one) + F.relu(other), F.relu(one + other)).mean()
    assert float(found) == pytest.approx((1 / math.pi + 3 / 4) / math.sqrt(1 + 1 / math.pi), abs=2e-3)


def test_vectors_of_zeros_have_no_angle():
    assert cosine(torch.zeros(2, 3), torch.ones(2, 3)).tolist() == [0, 0]


def test_stitched_models_are_what_they_are_by_hand():
    one, other = mlp(0), mlp(1)
    table = stitching(models(one, other), SPLIT).set_index(["layer", "model_a", "model_b"])
    with torch.no_grad():
        for layer in (0, 2):
            logits = other[layer + 1 :](one[: layer + 1](SPLIT.inputs.double()))
            found = table.loc[(str(layer), 0, 1)]
            assert found["loss"] == pytest.approx(float(F.cross_entropy(logits, SPLIT.targets)), rel=1e-10)
            assert found["accuracy"] == pytest.approx(float((logits.argmax(1) == SPLIT.targets).double().mean()))
    assert len(table) == 4


def test_the_average_of_many_is_held_against_the_mean_of_their_features():
    several = models(*map(mlp, range(3)))
    table = linear_connectivity(several, SPLIT, [0.5], None)
    row = table[(table["model_b"] == "merged") & (table["layer"] == "2")].iloc[0]
    inputs = SPLIT.inputs.double()
    outputs = [network[2](F.relu(network[0](inputs))) for network in map(mlp, range(3))]
    average = {name: tensor.mean(0) for name, tensor in several.parameters.items()}
    own = F.linear(
        F.relu(F.linear(inputs, average["0.weight"], average["0.bias"])), average["2.weight"], average["2.bias"]
    )
    mean = torch.stack(outputs).mean(0)
    expected = 1 - F.cosine_similarity(own, mean, dim=1).mean()
    assert row["dissimilarity"] == pytest.approx(float(expected), rel=1e-9)


# Models that share the first epochs


TRAINING = {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.0, "batch": 8, "save_every": 1}
NETWORK = {"name": "mlp", "width": 5, "depth": 1}
DATA = Data(SPLIT, SPLIT, 3)


def trained(seeds, epochs, shared, states=None):
    settings = {**TRAINING, "epochs": epochs, "spawn": {"epochs": shared, "models": 3}}
    return train(NETWORK, DATA, settings, seeds, 0, states)[0].parameters


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_models_of_a_trial_are_one_model_until_they_are_spawned():
    shared = trained([3, 4, 5, 6], epochs=2, shared=2)
    assert torch.equal(shared["1.weight"][0], shared["1.weight"][1])
    assert torch.equal(shared["1.weight"][0], shared["1.weight"][2])
    assert not torch.equal(shared["1.weight"][0], shared["1.weight"][3])  # of the next trial
    spawned = trained([3, 4, 5], epochs=3, shared=2)
    assert not torch.equal(spawned["1.weight"][0], spawned["1.weight"][1])


def test_a_spawned_model_is_the_same_alone_and_after_an_interruption(tmp_path):
    together = {name: tensor[1:2] for name, tensor in trained([3, 4], epochs=4, shared=2).items()}
    assert equal(trained([4], epochs=4, shared=2), together)
    for stop in (2, 3):
        state = tmp_path / f"{stop}.safetensors"
        trained([4], epochs=stop, shared=2, states=[state])
        assert equal(trained([4], epochs=4, shared=2, states=[state]), together)


def test_nothing_is_shared_for_no_epochs():
    alone = train(NETWORK, DATA, {**TRAINING, "epochs": 2}, [4], 0)[0].parameters
    assert equal(trained([4], epochs=2, shared=0), alone)


def test_seeds_have_to_lie_as_trials_do():
    experiment = {
        "data": {"name": "digits"},
        "network": NETWORK,
        "training": {**TRAINING, "epochs": 2, "spawn": {"epochs": 1}},
        "counts": [2],
        "trials": 2,
        "methods": {"naive": {}},
    }
    read_configuration({"experiments": {"own": {**experiment, "seeds": ["0-1", "4-5"]}}})
    with pytest.raises(OnebasinError, match=r"trial 0 have to be 0 to 1, not \[1, 2\]"):
        read_configuration({"experiments": {"own": {**experiment, "seeds": ["1-4"]}}})


class Shared(nn.Module):
    """Two weights of one module, and a layer that runs twice."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Parameter(torch.randn(8, 6)), nn.Parameter(torch.randn(8, 8))
        self.twice, self.out = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, inputs):
        hidden = F.relu(F.linear(F.relu(F.linear(inputs, self.one)), self.two))
        return self.out(F.relu(self.twice(F.relu(self.twice(hidden)))))


def test_layers_are_known_by_their_weights_and_have_one_output():
    networks = []
    for seed in range(2):
        torch.manual_seed(seed)
        networks.append(Shared().double())
    table = linear_connectivity(models(*networks), SPLIT, [0.5], None)
    assert list(dict.fromkeys(table["layer"])) == ["one", "two", "out"]
    assert list(dict.fromkeys(stitching(models(*networks), SPLIT)["layer"])) == ["one", "two"]


def test_what_is_not_a_number_stays_so():
    assert cosine(torch.full((1, 3), math.nan), torch.ones(1, 3)).isnan().all()
