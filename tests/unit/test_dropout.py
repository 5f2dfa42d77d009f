"""What a network draws while it trains is drawn from streams of the training's own."""

import pytest
import torch
from networks_for_tests import same
from torch.nn import functional as F

from onebasin.matching.search import run_search
from onebasin.models.running import forward
from onebasin.networks.build import new_network
from onebasin.registry import resolve
from onebasin.seeding import child, drawing_from, generator
from onebasin.symmetry.trace import trace
from onebasin.training import run as training
from onebasin.training.run import train

SETTINGS = {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.0, "batch": 9, "epochs": 3, "save_every": 1}
ROOT = 5
NETWORKS = '''
import torch
from torch import nn
from torch.nn import functional as F


class Draws(nn.Module):
    """A multilayer perceptron that draws in one of torch's many ways while it trains."""

    def __init__(self, way, classes):
        super().__init__()
        self.way = way
        self.dropout = nn.Dropout(0.4)
        self.hidden, self.head = nn.Linear(6, 8), nn.Linear(8, classes)

    def forward(self, images):
        hidden = self.hidden(images.flatten(1))
        if self.way == "module":
            hidden = self.dropout(hidden.relu())
        elif self.way == "function":
            hidden = F.dropout(hidden.relu(), 0.4, self.training)
        elif self.way == "rrelu":
            hidden = F.rrelu(hidden, training=self.training)
        elif self.way == "attention":
            some = hidden.view(-1, 4, 2)
            hidden = F.scaled_dot_product_attention(some, some, some, dropout_p=0.4 * self.training).flatten(1)
        elif self.training:
            hidden = hidden + 0.1 * torch.randn(hidden.shape)
        return self.head(hidden)


def draws(classes, way):
    return Draws(way, classes)
'''
WAYS = ["module", "function", "rrelu", "attention", "randn"]


@pytest.fixture(autouse=True)
def _own_network(tmp_path, monkeypatch):
    (tmp_path / "drawing_networks.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(str(tmp_path))


def network(way="module"):
    return {"name": "drawing_networks:draws", "way": way}


@pytest.mark.parametrize("way", WAYS)
def test_bits_depend_on_neither_company_nor_the_global_generator_which_stays_as_it_was(tiny_data, way):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    together, _ = train(network(way), tiny_data, SETTINGS, [3, 1], ROOT)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    for index, seed in enumerate(together.seeds):
        alone, _ = train(network(way), tiny_data, SETTINGS, [seed], ROOT)
        assert same(alone[0], together[index])


@pytest.mark.parametrize("way", WAYS)
def test_the_network_does_draw_and_every_seed_something_of_its_own(tiny_data, way, monkeypatch):
    trained, _ = train(network(way), tiny_data, SETTINGS, [3], ROOT)

    def another(root, name, seed, device):
        return generator(root, f"{name}, another" if name == "dropout" else name, seed, device=device)

    monkeypatch.setattr(training, "generator", another)
    other, _ = train(network(way), tiny_data, SETTINGS, [3], ROOT)
    assert not same(trained[0], other[0])


@pytest.mark.parametrize("killed_after", [1, 2])
def test_a_training_that_was_killed_draws_on_from_where_it_was(tiny_data, tmp_path, killed_after):
    whole, _ = train(network(), tiny_data, SETTINGS, [0], ROOT)
    run, state = training._Run(network(), tiny_data, SETTINGS, 0, ROOT), tmp_path / "seed-0.safetensors"
    for _ in range(killed_after):
        run.train_epoch()
    run.save(state, "key")
    torch.manual_seed(3)
    again, history = train(network(), tiny_data, SETTINGS, [0], ROOT, [state], "key")
    assert same(again[0], whole[0])
    assert len(history) == SETTINGS["epochs"]


def test_a_search_that_trains_the_network_draws_from_its_own_stream(tiny_data):
    models, _ = train(network(), tiny_data, SETTINGS, [0, 1], ROOT)
    spec = trace(models.network, models.example_input)
    settings = {"epochs": 2, "batch": 9, "lr": 0.01, "first_sweep": "signal", "warm_start": True, "weights": "random"}
    for method in ("ste", "ste_mm"):
        torch.manual_seed(4)
        before = torch.get_rng_state()
        first = run_search(resolve("method", method), method, models, spec, tiny_data, settings, ROOT, 0)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(5)
        again = run_search(resolve("method", method), method, models, spec, tiny_data, settings, ROOT, 0)
        assert same(first.elements, again.elements)
        assert not models.network.training


def test_a_pass_says_whether_it_trains_whatever_mode_the_network_is_in(tiny_data):
    built = new_network(network(), tiny_data.input_shape, tiny_data.classes, ROOT)
    parameters, images = dict(built.named_parameters()), tiny_data.train.inputs
    for before in (True, False):
        built.train(before)
        plain = forward(built, parameters, images)
        assert torch.equal(forward(built, parameters, images, training=False), plain)
        assert not torch.equal(forward(built, parameters, images, training=True), plain)
        assert not torch.equal(forward(built, parameters, images, training=[built.dropout]), plain)
        assert [module.training for module in built.modules()] == [before] * len([*built.modules()])


def test_a_mode_is_put_back_after_an_error(tiny_data):
    built = new_network(network(), tiny_data.input_shape, tiny_data.classes, ROOT).train()
    with pytest.raises(RuntimeError):
        forward(built, dict(built.named_parameters()), torch.zeros(2, 7))
    assert all(module.training for module in built.modules())


def test_a_stream_goes_on_from_block_to_block():
    stream, numbers = generator("stream"), torch.rand(6, generator=generator("stream"))
    found = []
    for _ in range(3):
        with drawing_from(stream):
            found.append(torch.rand(2))
        torch.rand(1)
    assert torch.equal(torch.cat(found), numbers)


def test_dropout_draws_what_its_stream_says():
    ones = torch.ones(50)
    with drawing_from(generator("stream")):
        first = F.dropout(ones)
    with drawing_from(generator("stream")):
        assert torch.equal(F.dropout(ones), first)
    with drawing_from(generator("another")):
        assert not torch.equal(F.dropout(ones), first)


def test_a_child_is_another_stream_and_takes_nothing_from_its_parent():
    parent, alike = generator("parent"), generator("parent")
    found = child(parent, "dropout")
    assert torch.equal(parent.get_state(), alike.get_state())
    assert found.initial_seed() == child(alike, "dropout").initial_seed() != parent.initial_seed()
    assert child(parent, "other").initial_seed() != found.initial_seed()
