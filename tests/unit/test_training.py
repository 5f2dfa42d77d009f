import pytest
import torch
from torch.nn import functional as F

from onebasin.data import batches
from onebasin.errors import OnebasinError
from onebasin.models import initial, new_network
from onebasin.seeding import generator
from onebasin.training import train

NETWORK = {"name": "mlp", "width": 7, "depth": 2}
ADAM = {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.0, "batch": 9, "epochs": 3}
SGD = {"optimizer": "sgd", "lr": 0.1, "weight_decay": 0.01, "batch": 9, "epochs": 3}
DECAYING = ADAM | {"weight_decay": 0.01}
ROOT = 5


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def history_of(history, seed):
    return history[history["seed"] == seed].drop(columns="seed").to_numpy().tolist()


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
            images, labels = tiny_data.train.images[indices], tiny_data.train.labels[indices]
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
    losses = torch.tensor(history_of(history, 8))[:, 1:]
    torch.testing.assert_close(losses, torch.tensor(means), rtol=1e-4, atol=1e-5)


def test_every_model_learns(tiny_data):
    models, history = train(NETWORK, tiny_data, ADAM | {"epochs": 15}, [0, 1, 2], ROOT)
    for index, seed in enumerate(models.seeds):
        losses = history.loc[history["seed"] == seed, "train_loss"].tolist()
        assert losses[-1] < 0.5 * losses[0]
        assert not equal(models[index], initial_of(tiny_data, seed))


def test_the_history_has_a_row_for_every_seed_and_epoch(tiny_data):
    _, history = train(NETWORK, tiny_data, ADAM, [4, 2], ROOT)
    assert list(history.columns) == ["seed", "epoch", "train_loss", "train_accuracy"]
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

    monkeypatch.setattr("onebasin.training.new_network", spoiled)
    with pytest.raises(OnebasinError, match="loss of seed 2 is not finite in epoch 1"):
        train(NETWORK, tiny_data, ADAM, [1, 2, 3], ROOT)


def test_a_batch_larger_than_the_data_is_all_of_them(tiny_data):
    large, _ = train(NETWORK, tiny_data, ADAM | {"batch": 1000}, [0], ROOT)
    whole, _ = train(NETWORK, tiny_data, ADAM | {"batch": len(tiny_data.train)}, [0], ROOT)
    assert equal(large.parameters, whole.parameters)
