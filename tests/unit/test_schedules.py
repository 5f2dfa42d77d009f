"""Learning rates, optimisers and the clipping of gradients."""

import math

import pytest
import torch
from networks_for_tests import same
from torch import nn

from onebasin.training.optimizers import clip, new_optimizer
from onebasin.training.run import train
from onebasin.training.schedules import lr_at

NETWORK = {"name": "mlp", "width": 7, "depth": 2}
ADAM = {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.1, "batch": 9, "epochs": 3}


def rates(schedule, epochs, at):
    return [lr_at({"lr": 0.4, "epochs": epochs, "schedule": schedule}, epoch) for epoch in at]


def test_without_a_schedule_the_rate_is_constant():
    assert lr_at({"lr": 0.4, "epochs": 100}, 50) == 0.4


def test_a_schedule_without_a_name_is_the_linear_one():
    at = (0, 2.5, 5, 52.5, 100)
    assert rates({"peak": 5}, 100, at) == pytest.approx([0, 0.2, 0.4, 0.2, 0])
    assert rates({"peak": 5}, 100, at) == rates({"name": "linear", "peak": 5}, 100, at)


def test_half_a_cosine_leads_from_the_warm_up_to_nothing():
    assert rates({"name": "cosine"}, 8, (0, 4, 8)) == pytest.approx([0.4, 0.2, 0])
    assert rates({"name": "cosine", "warmup": 2}, 10, (0, 1, 2, 6, 10)) == pytest.approx([0, 0.2, 0.4, 0.2, 0])
    at = [step / 7 for step in range(70)]
    expected = [0.4 * (1 + math.cos(math.pi * epoch / 10)) / 2 for epoch in at]
    assert rates({"name": "cosine", "warmup": 0}, 10, at) == pytest.approx(expected)


def test_a_warm_up_may_last_to_the_end():
    assert rates({"name": "cosine", "warmup": 4}, 4, (0, 2)) == pytest.approx([0, 0.2])


def test_the_rate_falls_at_milestones():
    schedule = {"name": "step", "milestones": [6, 3], "factor": 0.5, "warmup": 2}
    assert rates(schedule, 8, (0, 1, 2, 2.9, 3, 5.9, 6, 8)) == pytest.approx([0, 0.2, 0.4, 0.4, 0.2, 0.2, 0.1, 0.1])


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_an_optimiser_is_torchs_of_that_name(name):
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
    settings = {"optimizer": name, "lr": 0.3, "weight_decay": 0.02, "momentum": 0.9}
    found = new_optimizer(nn.Linear(2, 2).parameters(), settings)
    assert type(found) is kind
    assert (found.defaults["lr"], found.defaults["weight_decay"]) == (0.3, 0.02)
    assert found.defaults.get("momentum", 0.9) == 0.9


def test_weight_decay_of_adamw_is_apart_from_the_gradient(tiny_data):
    plain, _ = train(NETWORK, tiny_data, ADAM, [0], 5)
    apart, _ = train(NETWORK, tiny_data, ADAM | {"optimizer": "adamw"}, [0], 5)
    assert not same(plain[0], apart[0])


def test_a_gradient_is_scaled_down_to_the_norm_and_a_short_one_is_left():
    network = nn.Linear(2, 3)
    for length, kept in ((5.0, 2.0), (1.5, 1.5)):
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter) * length / 3  # nine of them
        clip(network, {"clip": 2.0})
        gradient = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
        assert float(gradient.norm()) == pytest.approx(kept, rel=1e-5)


def test_clipping_reaches_the_training_and_a_bound_beyond_all_gradients_changes_nothing(tiny_data):
    settings = {**ADAM, "optimizer": "sgd"}
    plain, _ = train(NETWORK, tiny_data, settings, [0], 5)
    loose, _ = train(NETWORK, tiny_data, settings | {"clip": 1e6}, [0], 5)
    tight, _ = train(NETWORK, tiny_data, settings | {"clip": 1e-3}, [0], 5)
    assert same(plain[0], loose[0])
    assert not same(plain[0], tight[0])


@pytest.mark.parametrize("schedule", [{"name": "cosine", "warmup": 1}, {"name": "step", "milestones": [1]}])
def test_the_rates_are_in_the_history(tiny_data, schedule):
    settings = {**ADAM, "schedule": {**schedule, "update": "epoch"}}
    _, history = train(NETWORK, tiny_data, settings, [0], 5)
    assert history["lr"].tolist() == [lr_at(settings, epoch) for epoch in range(3)]
