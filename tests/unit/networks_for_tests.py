"""Small models, data and permuted copies that several test files build on."""

import functools

import torch
from torch import nn

from onebasin import seeding
from onebasin.data import Data, Split, digits
from onebasin.models.stack import Models, initial
from onebasin.parameters import stacked
from onebasin.symmetry.apply import act_on_stack, random_elements
from onebasin.symmetry.spec import Spec
from onebasin.symmetry.trace import trace
from onebasin.training.run import train


def stream(*key):
    return seeding.generator("test", *key)


_specs: dict[tuple[str, tuple[int, ...]], Spec] = {}


def spec_of(models: Models) -> Spec:
    """Traced once for all networks that read the same: these say all about themselves when printed."""
    key = repr(models.network), models.input_shape
    if key not in _specs:
        dtype = next(models.network.parameters()).dtype
        _specs[key] = trace(models.network, models.example_input.to(dtype))
    return _specs[key]


def random_mlps(count, inputs=5, widths=(6, 4), classes=3, key=0, dtype=torch.float32) -> Models:
    """Untrained MLPs with hidden layers of different widths, PyTorch's default initialisation."""
    networks = [_mlp(inputs, widths, classes, key, model).to(dtype) for model in range(count)]
    return Models(networks[0].eval(), stacked([*map(initial, networks)]), tuple(range(count)), (1, 1, inputs))


def _mlp(inputs, widths, classes, *key):
    with seeding.global_rng("network", *key):
        layers, size = [nn.Flatten()], inputs
        for width in widths:
            layers += [nn.Linear(size, width), nn.ReLU()]
            size = width
        return nn.Sequential(*layers, nn.Linear(size, classes))


def random_data(inputs=5, classes=3, train=24, test=15, key=0, dtype=torch.float32) -> Data:
    return random_images((1, 1, inputs), classes, train, test, key, dtype)


def random_images(shape=(1, 6, 6), classes=3, train=24, test=15, key=0, dtype=torch.float64) -> Data:
    def split(n, name):
        images = torch.randn(n, *shape, generator=stream("images", name, key), dtype=dtype)
        return Split(images, torch.randint(0, classes, (n,), generator=stream("labels", name, key)))

    return Data(split(train, "train"), split(test, "test"), classes)


def permuted_copies(parameters, spec, count, key=0, noise=0.0):
    """A stack of `count` copies of one model, each with other permutations, which are returned too."""
    planted = random_elements(spec, count, stream("planted", key))
    stack = {name: tensor.expand(count, *tensor.shape).contiguous() for name, tensor in parameters.items()}
    stack = act_on_stack(stack, spec, planted)
    draws = stream("noise", key)
    moved = {n: t + noise * torch.randn(t.shape, generator=draws, dtype=t.dtype) for n, t in stack.items() if noise}
    return stack | moved, planted


def like(models: Models, stack, seeds=None) -> Models:
    """Models of the same network with other parameters, named 0, 1, ... if not said otherwise."""
    count = len(next(iter(stack.values())))
    return Models(models.network, stack, tuple(range(count)) if seeds is None else seeds, models.input_shape)


def coincide(planted, found) -> bool:
    """Whether `found` brings copies that were permuted by `planted` into one order."""
    both = {name: index.gather(-1, found[name]) for name, index in planted.items()}
    return all(torch.equal(index, index[:1].expand_as(index)) for index in both.values())


def few_digits(train=400, test=200) -> Data:
    data = _digits()
    return Data(
        *(Split(s.inputs[:n], s.targets[:n]) for s, n in ((data.train, train), (data.test, test))), data.classes
    )


@functools.cache
def _digits() -> Data:
    return digits()


@functools.cache
def trained_mlps(count=3, width=24, depth=3, epochs=8) -> Models:
    """MLPs trained for a second on a few of the digits; not to be changed in place."""
    settings = {"optimizer": "adam", "lr": 0.003, "weight_decay": 0.0, "batch": 50, "epochs": epochs}
    return train({"name": "mlp", "width": width, "depth": depth}, few_digits(), settings, range(count), root=0)[0]


def same(a, b) -> bool:
    """Whether two dictionaries of tensors are equal, bit by bit."""
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def random_convolutions(count, norm=True, key=0, dtype=torch.float64) -> Models:
    """Untrained convolutional networks of images [1, 6, 6], each with BatchNorm statistics of its own (or none)."""
    networks = [_convolutions(norm, key, model).to(dtype) for model in range(count)]
    return Models(networks[0].eval(), stacked([*map(initial, networks)]), tuple(range(count)), (1, 6, 6))


def _convolutions(norm, *key):
    with seeding.global_rng("convolutions", *key):
        layers = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4) if norm else nn.Identity(), nn.Tanh()]
        layers += [nn.Conv2d(4, 5, (3, 2), stride=2, padding=(0, 1), bias=False), nn.Tanh(), nn.Flatten()]
        network = nn.Sequential(*layers, nn.Linear(40, 3))
        if norm:
            nn.init.uniform_(layers[1].running_mean, -0.5, 0.5)
            nn.init.uniform_(layers[1].running_var, 0.5, 1.5)
        return network
