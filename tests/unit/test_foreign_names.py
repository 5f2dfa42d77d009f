"""Tensors under the names that training programs gave them come to be the network's, or are refused by name."""

import logging

import pytest
import torch
from torch import nn

import onebasin
from onebasin.data import Data, Split
from onebasin.errors import OnebasinError
from onebasin.models.checkpoints import fitted


def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))


NETWORK = network()
STATE = NETWORK.state_dict()


def tied():
    layers = nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)
    built = nn.Sequential(*layers)
    built[4].weight = built[2].weight
    return built


def read(tensors, of=NETWORK):
    return fitted(tensors, of, "file.pt")


@pytest.mark.parametrize(
    ("foreign", "line"),
    [
        ({f"model.{name}": tensor for name, tensor in STATE.items()}, "took 'model.' off all names"),
        ({f"net.0.{name}": tensor for name, tensor in STATE.items()}, "took 'net.0.' off all names"),
        (
            {"n_averaged": torch.tensor(3), **{f"module.{name}": tensor for name, tensor in STATE.items()}},
            "took 'module.' off all names, and left out n_averaged",
        ),
        ({name.replace("0.", "0.module.", 1): tensor for name, tensor in STATE.items()}, "took 'module.' off"),
        ({name: tensor for name, tensor in STATE.items() if "num_batches" not in name}, "has no 1.num_batches_tracked"),
    ],
)
def test_wrapped_names_are_unwrapped_and_said(foreign, line, caplog):
    with caplog.at_level(logging.INFO):
        found = read(foreign)
    assert list(found) == list(STATE)
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)
    assert line in caplog.text


@pytest.mark.parametrize(
    ("foreign", "line"),
    [
        ({**STATE, "head.weight": torch.ones(2)}, "has a tensor head.weight that the network lacks"),
        ({f"{who}.{name}": t for who in ("student", "teacher") for name, t in STATE.items()}, "has no tensor 0.bias"),
        ({"0.lora_A.weight": torch.ones(2, 2), "0.lora_B.weight": torch.ones(2, 2)}, "a LoRA adapter"),
        ({"0.weights": torch.ones(2), "1.bias": torch.ones(4)}, r"has no tensor 0.bias \(nearest: 1.bias"),
    ],
)
def test_what_is_not_the_networks_is_refused_by_name(foreign, line):
    with pytest.raises(OnebasinError, match=line):
        read(foreign)


def test_two_values_for_one_tensor_are_refused():
    state = {name: tensor.clone() for name, tensor in tied().state_dict().items()}
    assert torch.equal(read(state, tied())["4.weight"], state["2.weight"])
    state["4.weight"] += 1
    with pytest.raises(OnebasinError, match=r"2.weight and 4.weight are one tensor in the network"):
        read(state, tied())


def test_tied_networks_are_merged_and_evaluated_and_stay_tied():
    models = onebasin.stack_models([tied(), tied()], (6,))
    split = Split(torch.linspace(-1, 1, 36).view(6, 6), torch.tensor([0, 1, 2, 0, 1, 2]))
    data = Data(split, split, 3)
    spec = onebasin.symmetries(models)
    for method in ("weight_matching", "ste_mm"):
        settings = {"epochs": 1} if method == "ste_mm" else {}
        merged = onebasin.merge(models, spec, onebasin.match(models, spec, method, data, **settings), data)
        assert torch.equal(merged["2.weight"], merged["4.weight"])
        assert onebasin.evaluate(models, merged, data)["loss"].notna().all()


def weight_normed(norm):
    layers = nn.Flatten(), norm(nn.Linear(9, 6)), nn.ReLU(), nn.Linear(6, 3)
    return nn.Sequential(*layers)


def test_factors_of_a_weight_norm_of_the_old_style_are_read_into_a_parametrization(caplog):
    old, new = weight_normed(nn.utils.weight_norm), weight_normed(nn.utils.parametrizations.weight_norm)
    with caplog.at_level(logging.INFO):
        found = read(old.state_dict(), new)
    inputs = torch.randn(2, 1, 3, 3)
    torch.testing.assert_close(torch.func.functional_call(new, found, (inputs,)), old(inputs))
    assert "has no 1.parametrizations.weight.original0, 1.parametrizations.weight.original1" in caplog.text


def test_a_network_that_computes_its_weights_is_copied():
    """torch's own copying refuses the weight that the old style keeps beside its factors."""
    models = onebasin.stack_models([weight_normed(nn.utils.weight_norm) for _ in range(2)], (1, 3, 3))
    spec = onebasin.symmetries(models)
    merged = onebasin.merge(models, spec, onebasin.match(models, spec))
    assert torch.equal(merged["3.bias"], models.parameters["3.bias"].mean(0))


class Extra(nn.Linear):
    """Keeps something beside its tensors."""

    def get_extra_state(self):
        return {"scale": 1.0}

    def set_extra_state(self, state):
        pass


def test_extra_state_that_is_no_tensor_stays_with_the_network(tmp_path, caplog):
    network = nn.Sequential(Extra(4, 5), nn.ReLU(), nn.Linear(5, 2))
    for number in (0, 1):
        torch.save(network.state_dict(), tmp_path / f"{number}.pt")
    models = onebasin.load_models([tmp_path / "0.pt", tmp_path / "1.pt"], network, (4,))
    assert "left out 0._extra_state, which are no tensors" in caplog.text
    for copies in (models, onebasin.stack_models([network, network], (4,))):
        spec = onebasin.symmetries(copies)
        merged = onebasin.merge(copies, spec, onebasin.match(copies, spec))
        assert merged.keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}
