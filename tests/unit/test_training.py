from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from onebasin.data import Data, Split, batches
from onebasin.errors import OnebasinError
from onebasin.models.running import measure
from onebasin.models.stack import initial
from onebasin.networks.build import new_network
from onebasin.seeding import generator
from onebasin.storage import artifacts
from onebasin.training import run as training
from onebasin.training.run import HISTORY, train

NETWORK = {"name": "mlp", "width": 7, "depth": 2}
ADAM = {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.0, "batch": 9, "epochs": 3}
SGD = {"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.01, "batch": 9, "epochs": 3}
DECAYING = ADAM | {"weight_decay": 0.01}
ROOT = 5


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def history_of(history, seed):
    return history[history["seed"] == seed].drop(columns="seed").fillna(-1).to_numpy().tolist()


def initial_of(data, seed):
    return initial(new_network(NETWORK, data.input_shape, data.classes, ROOT, "initialisation", seed))


@pytest.fixture
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("settings", "width", "threads"),
    [(ADAM, 1, 1), (ADAM, 7, 1), (ADAM, 64, 1), (ADAM, 64, 2), (DECAYING, 7, 1), (SGD, 7, 1), (SGD, 64, 1)],
    indirect=["threads"],
)
@pytest.mark.usefixtures("threads")
def test_a_model_has_the_same_bits_in_whatever_company_it_is_trained(tiny_data, settings, width):
    network = NETWORK | {"width": width}
    alone, history = train(network, tiny_data, settings, [3], ROOT)
    for seeds in ([3, 1], [1, 3], [0, 1, 2, 3, 4], [4, 2, 0, 1, 3]):
        together, histories = train(network, tiny_data, settings, seeds, ROOT)
        assert together.seeds == tuple(seeds)
        assert equal(together[seeds.index(3)], alone[0]), seeds
        assert history_of(histories, 3) == history_of(history, 3)


def test_training_again_gives_the_same_bits_whatever_the_global_generator(tiny_data):
    first, _ = train(NETWORK, tiny_data, ADAM, [0, 1], ROOT)
    torch.manual_seed(99)
    again, _ = train(NETWORK, tiny_data, ADAM, [0, 1], ROOT)
    assert equal(first.parameters, again.parameters)


def test_another_seed_or_root_gives_another_model(tiny_data):
    models, _ = train(NETWORK, tiny_data, ADAM, [0, 1], ROOT)
    other, _ = train(NETWORK, tiny_data, ADAM, [0], ROOT + 1)
    for name in models.parameters:
        assert not torch.equal(models[0][name], models[1][name])
        assert not torch.equal(models[0][name], other[0][name])


def test_models_with_equal_initialisations_would_still_see_the_data_in_different_orders():
    orders = [torch.cat([*batches(40, 9, generator(ROOT, "data order", seed))]) for seed in (0, 1)]
    assert not torch.equal(*orders)


@pytest.mark.parametrize("settings", [ADAM, SGD], ids=["adam", "sgd"])
def test_training_is_what_a_plain_module_and_optimiser_do(tiny_data, settings):
    models, history = train(NETWORK, tiny_data, settings, [3, 8], ROOT)
    network = new_network(NETWORK, tiny_data.input_shape, tiny_data.classes, ROOT, "initialisation", 8)
    kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[settings["optimizer"]]
    optimizer = kind(network.parameters(), lr=settings["lr"], weight_decay=settings["weight_decay"])
    order = generator(ROOT, "data order", 8)
    means = []
    for _ in range(settings["epochs"]):
        total = right = 0
        for indices in batches(len(tiny_data.train), settings["batch"], order):
            images, labels = tiny_data.train.inputs[indices], tiny_data.train.targets[indices]
            logits = network(images)
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(indices)
            right += (logits.argmax(dim=1) == labels).sum().item()
        means.append([total / len(tiny_data.train), right / len(tiny_data.train)])

    for name, tensor in initial(network).items():
        torch.testing.assert_close(models[1][name], tensor, rtol=1e-4, atol=1e-5)
    losses = torch.tensor(history_of(history, 8))[:, 2:4]
    torch.testing.assert_close(losses, torch.tensor(means), rtol=1e-4, atol=1e-5)


def test_every_model_learns(tiny_data):
    models, history = train(NETWORK, tiny_data, ADAM | {"epochs": 15}, [0, 1, 2], ROOT)
    for index, seed in enumerate(models.seeds):
        losses = history.loc[history["seed"] == seed, "train_loss"].tolist()
        assert losses[-1] < 0.5 * losses[0]
        assert not equal(models[index], initial_of(tiny_data, seed))


def test_the_history_has_a_row_for_every_seed_and_epoch(tiny_data):
    _, history = train(NETWORK, tiny_data, ADAM, [4, 2], ROOT)
    assert list(history.columns) == [*HISTORY]
    assert sorted(zip(history["seed"], history["epoch"], strict=True)) == [(s, e) for s in (2, 4) for e in (1, 2, 3)]
    assert history["train_accuracy"].between(0, 1).all()
    assert (history["train_loss"] > 0).all()


def test_the_result_is_a_stack_without_gradients_of_the_data_sets_shape(tiny_data):
    models, _ = train(NETWORK, tiny_data, ADAM, [4, 2], ROOT)
    assert models.input_shape == tiny_data.input_shape
    assert not models.network.training
    for name, tensor in initial_of(tiny_data, 0).items():
        assert models.parameters[name].shape == (2, *tensor.shape)
        assert not models.parameters[name].requires_grad


def test_a_model_that_diverges_is_named_with_what_to_do(tiny_data):
    with pytest.raises(
        OnebasinError, match=r"loss of seed 11 is not finite in epoch \d+; lower training\.lr"
    ) as caught:
        train(NETWORK, tiny_data, SGD | {"lr": 1e30}, [11], ROOT)
    assert len(str(caught.value).splitlines()) == 1


def test_the_model_that_diverges_is_the_one_that_is_named(tiny_data, monkeypatch):
    def spoiled(settings, shape, classes, *key):
        network = new_network(settings, shape, classes, *key)
        if key[-1] == 2:
            network[1].bias.data.fill_(torch.inf)
        return network

    monkeypatch.setattr("onebasin.training.run.new_network", spoiled)
    with pytest.raises(OnebasinError, match="loss of seed 2 is not finite in epoch 1"):
        train(NETWORK, tiny_data, ADAM, [1, 2, 3], ROOT)


def test_a_batch_larger_than_the_data_is_all_of_them(tiny_data):
    large, _ = train(NETWORK, tiny_data, ADAM | {"batch": 1000}, [0], ROOT)
    whole, _ = train(NETWORK, tiny_data, ADAM | {"batch": len(tiny_data.train)}, [0], ROOT)
    assert equal(large.parameters, whole.parameters)


# The recipe of the convolutional networks

CONVOLUTIONAL = {"name": "resnet20", "width": 0.25}
RECIPE = {
    **{"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "batch": 16, "epochs": 4},
    **{"schedule": {"peak": 1, "update": "epoch"}, "augmentation": {"crop": 2, "flip": True}, "select": "validation"},
}


@pytest.fixture(scope="module")
def coloured():
    """Sixty images [3, 8, 8] of three classes that can be told apart by colour; twelve each to validate and to test."""
    draws = torch.Generator().manual_seed(3)
    labels = torch.arange(84) % 3
    images = torch.eye(3)[labels][:, :, None, None] + 0.3 * torch.randn(84, 3, 8, 8, generator=draws)
    parts = [Split(*part) for part in zip(images.split([60, 12, 12]), labels.split([60, 12, 12]), strict=True)]
    return Data(parts[0], parts[2], 3, validation=parts[1])


def test_a_rate_updated_by_epoch_leaves_the_first_epoch_without_a_change(coloured):
    models, history = train(CONVOLUTIONAL, coloured, {**RECIPE, "epochs": 1, "select": "last"}, [0], ROOT)
    start = new_network(CONVOLUTIONAL, coloured.input_shape, 3, ROOT, "initialisation", 0)
    for name, parameter in start.named_parameters():
        assert torch.equal(models[0][name], parameter), name
    assert history["lr"].tolist() == [0]


def test_the_epoch_with_the_least_validation_loss_is_kept(coloured):
    models, history = train(CONVOLUTIONAL, coloured, RECIPE, [0], ROOT)
    kept, _ = measure(models.network, models[0], coloured.validation)
    assert kept == pytest.approx(history["validation_loss"].min(), rel=1e-6)
    last, _ = train(CONVOLUTIONAL, coloured, {**RECIPE, "select": "last"}, [0], ROOT)
    found, _ = measure(last.network, last[0], coloured.validation)
    assert found == pytest.approx(history["validation_loss"].iloc[-1], rel=1e-6)


def test_selecting_without_a_validation_split_is_refused(tiny_data):
    with pytest.raises(OnebasinError, match=r"data\.validation_fraction"):
        train(NETWORK, tiny_data, ADAM | {"select": "validation"}, [0], ROOT)


def test_momentum_and_weight_decay_reach_the_optimiser(tiny_data):
    plain, _ = train(NETWORK, tiny_data, SGD, [0], ROOT)
    for change in ({"momentum": 0.9}, {"weight_decay": 0.5}):
        other, _ = train(NETWORK, tiny_data, SGD | change, [0], ROOT)
        assert not equal(plain[0], other[0])


class KilledError(Exception):
    pass


@pytest.mark.parametrize("killed_in", [1, 3, 6])
def test_a_training_that_was_killed_goes_on_to_the_same_bytes(coloured, tmp_path, monkeypatch, killed_in):
    settings = {**RECIPE, "save_every": 1}
    whole, history = train(CONVOLUTIONAL, coloured, settings, [0, 1], ROOT)
    states = [tmp_path / "training" / f"seed-{seed}.safetensors" for seed in (0, 1)]
    ran, train_epoch = [], training._Run.train_epoch

    def counted(self):
        ran.append(self.epoch)
        if len(ran) == killed_in + 1:
            raise KilledError
        train_epoch(self)

    monkeypatch.setattr(training._Run, "train_epoch", counted)
    with pytest.raises(KilledError):
        train(CONVOLUTIONAL, coloured, settings, [0, 1], ROOT, states, "key")
    again, histories = train(CONVOLUTIONAL, coloured, settings, [0, 1], ROOT, states, "key")
    assert len(ran) == 2 * settings["epochs"] + 1  # none was repeated but the one that was cut off
    assert equal(again.parameters, whole.parameters)
    pd.testing.assert_frame_equal(histories, history)


@pytest.fixture
def saved(coloured, tmp_path):
    """The state after one epoch of two, where the state goes, and what an undisturbed training gives."""
    settings, state = {**RECIPE, "epochs": 2, "select": "last", "save_every": 1}, tmp_path / "seed-0.safetensors"
    run = training._Run(CONVOLUTIONAL, coloured, settings, 0, ROOT)
    run.train_epoch()
    run.save(state, "key")
    whole, _ = train(CONVOLUTIONAL, coloured, settings, [0], ROOT)
    return settings, state, whole


def keep(path):
    pass


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def flip_in_the_history(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"[[0, 1,") + len("[[0, ")] ^= 1
    path.write_bytes(content)


def another_training(path):
    artifact = artifacts.load(path, "training_state")
    artifacts.save(path, "training_state", artifact.tensors, **{**artifact.facts, "key": "another"})


def another_network(path):
    artifact = artifacts.load(path, "training_state")
    tensors = {name: tensor for name, tensor in artifact.tensors.items() if not name.endswith(".bias")}
    artifacts.save(path, "training_state", tensors, **artifact.facts)


def another_kind(path):
    artifacts.save(path, "model", artifacts.load(path, "training_state").tensors)


def link_to_nothing(path):
    path.unlink()
    path.symlink_to("absent")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (keep, None),
        (Path.unlink, None),
        (cut, "truncated"),
        (empty, "truncated"),
        (flip, "checksum"),
        (flip_in_the_history, "checksum"),
        (another_training, "key is another, expected key"),
        (another_network, "not a state of this training"),
        (another_kind, "holds 'model'"),
        (link_to_nothing, "leads nowhere"),
    ],
)
def test_a_state_that_is_not_of_this_training_is_told_in_the_log_and_not_used(coloured, saved, caplog, damage, why):
    settings, state, whole = saved
    damage(state)
    found, history = train(CONVOLUTIONAL, coloured, settings, [0], ROOT, [state], "key")
    assert equal(found.parameters, whole.parameters)
    assert history["epoch"].tolist() == [1, 2]
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == (0 if why is None else 1)
    assert all(f"training seed 0 starts over: {state}" in line and why in line for line in warnings)
