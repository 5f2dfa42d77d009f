"""The exact diagonal of the Hessian is that of the Hessian; where it cannot be had, the graph says so."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from onebasin import seeding
from onebasin.data import Split
from onebasin.measures.sharpness import gauss_newton
from onebasin.measures.sharpness.gauss_newton import hessian_diagonal, softmax_factors
from onebasin.measures.sharpness.hutchinson import hessian_trace, scaled_hessian_trace
from onebasin.measures.sharpness.measure import Sharpness
from onebasin.measures.sharpness.piecewise_linear import NotPiecewiseLinearError, piecewise_linear
from onebasin.networks.build import new_network

CLASSES = 3


class Net(nn.Module):
    """Modules by name, and a forward pass that is given as a function of them and the images."""

    def __init__(self, how, **parts):
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, nn.Parameter) or not isinstance(part, torch.Tensor):
                setattr(self, name, part)
            else:
                self.register_buffer(name, part)
        self.how = how

    def forward(self, images):
        return self.how(self, images)


def normed(norm):
    """A BatchNorm with statistics, weights and biases of its own."""
    with torch.no_grad():
        for tensor in (norm.running_mean, norm.weight, norm.bias):
            tensor.uniform_(0.5, 1.5)
        norm.running_var.uniform_(0.5, 2)
    return norm


def head(features):
    return nn.Sequential(nn.Flatten(), nn.Linear(features, CLASSES))


def residual(net, x):
    x = F.relu(net.norm1(net.conv1(x)))
    x = F.relu(x + net.norm2(net.conv2(x)))
    return net.head(F.max_pool2d(x, 2))


def branches(net, x):
    one, other = net.a(x.flatten(1)).chunk(2, dim=1)
    larger = torch.maximum(one, net.b(x.flatten(1)))
    joined = torch.cat([larger, F.pad(other, (1, 1))[:, :3]], dim=1).unflatten(1, (3, 2)).transpose(1, 2)
    return net.head(torch.cat([joined.flatten(1), joined.mean(dim=2)], dim=1))


# what is measured exactly, layer by layer: the input's shape, and the network
EXACT = {
    "linear, ReLU": ((1, 2, 2), lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.ReLU(), head(5))),
    "leaky, hardtanh, threshold": (
        (1, 2, 2),
        lambda: nn.Sequential(
            nn.Flatten(),
            nn.Linear(4, 5),
            nn.LeakyReLU(),
            nn.Linear(5, 4),
            nn.Hardtanh(),
            nn.Threshold(-0.2, 0.1),
            head(4),
        ),
    ),
    "no bias, dropout": (
        (1, 2, 2),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 5, bias=False), nn.Dropout(), head(5)),
    ),
    "ReLU in place": (
        (1, 2, 2),
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 4), nn.ReLU6(True), head(4)
        ),
    ),
    "linear at positions": ((3, 4), lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), head(15))),
    "residual, BatchNorm, max-pooling": (
        (2, 4, 4),
        lambda: Net(
            residual,
            conv1=nn.Conv2d(2, 3, 3, padding=1, bias=False),
            norm1=normed(nn.BatchNorm2d(3)),
            conv2=nn.Conv2d(3, 3, 3, padding=1),
            norm2=normed(nn.BatchNorm2d(3)),
            head=head(12),
        ),
    ),
    "large convolution, stride, dilation, average": (
        (2, 12, 12),
        lambda: nn.Sequential(
            nn.Conv2d(2, 2, 3, dilation=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(2, 3, 3, stride=2),
            nn.AdaptiveAvgPool2d(1),
            head(3),
        ),
    ),
    "grouped, depthwise": (
        (4, 4, 4),
        lambda: nn.Sequential(
            nn.Conv2d(4, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 4, 2, groups=4), nn.AvgPool2d(1), head(4)
        ),
    ),
    "one and three dimensions": (
        (2, 2, 3, 3),
        lambda: Net(
            lambda net, x: net.head(net.one(F.relu(net.three(x)).flatten(2))),
            three=nn.Conv3d(2, 2, 2),
            one=nn.Conv1d(2, 3, 2),
            head=head(9),
        ),
    ),
    "transposed": (
        (2, 3, 3),
        lambda: nn.Sequential(
            nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, output_padding=1), nn.ReLU(), nn.MaxPool2d(2), head(36)
        ),
    ),
    "BatchNorm of rows": (
        (1, 2, 2),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 5), normed(nn.BatchNorm1d(5)), nn.ReLU(), head(5)),
    ),
    "scale and shift of its own": (
        (2, 2, 2),
        lambda: Net(
            lambda net, x: net.head((x * net.scale - net.shift).abs() / 2 + net.everywhere),
            scale=nn.Parameter(torch.randn(2, 1, 1)),
            shift=nn.Parameter(torch.randn(2, 2)),
            everywhere=nn.Parameter(torch.randn(1, 2, 2, 2)),
            head=head(8),
        ),
    ),
    "branches that part and join": (
        (1, 2, 2),
        lambda: Net(branches, a=nn.Linear(4, 6), b=nn.Linear(4, 3), head=head(8)),
    ),
    "a gate of other parameters": (
        (1, 2, 2),
        lambda: Net(
            lambda net, x: net.head(net.a(x.flatten(1)) * net.b(x.flatten(1))),
            a=nn.Linear(4, 3),
            b=nn.Linear(4, 3),
            head=head(3),
        ),
    ),
    "functions of the images alone": (
        (1, 2, 2),
        lambda: Net(
            lambda net, x: net.head(torch.sin(x) * x.exp() / net.scale), scale=torch.full((2, 2), 3.0), head=head(4)
        ),
    ),
}


def built(name):
    shape, build = EXACT[name]
    with seeding.global_rng("network", name):
        network = build().double().eval()
    generator = seeding.generator("images", name)
    images = torch.randn(7, *shape, generator=generator, dtype=torch.float64)
    return network, images, torch.randint(0, CLASSES, (7,), generator=generator)


def exact_diagonal(network, images, labels):
    """The diagonal of the Hessian of the mean cross-entropy by two passes of automatic differentiation."""
    parameters = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
    sizes = [p.numel() for p in parameters.values()]

    def loss(flat):
        parts = flat.split(sizes)
        values = {name: part.view_as(p) for part, (name, p) in zip(parts, parameters.items(), strict=True)}
        return F.cross_entropy(functional_call(network, values, (images,)), labels)

    flat = torch.cat([p.flatten() for p in parameters.values()])
    diagonal = torch.func.jacrev(torch.func.jacrev(loss))(flat).diag()
    return {n: part.view_as(parameters[n]) for n, part in zip(parameters, diagonal.split(sizes), strict=True)}


def measured(network, images, batch):
    graph = piecewise_linear(network, images[:batch])
    return hessian_diagonal(graph, network.state_dict(), images, batch)


@pytest.mark.parametrize("name", EXACT)
def test_it_is_the_diagonal_of_the_hessian_whatever_the_batch_and_the_chunk(name, monkeypatch):
    network, images, labels = built(name)
    expected = exact_diagonal(network, images, labels)
    for batch, chunk in ((7, 2**24), (3, 1)):
        monkeypatch.setattr(gauss_newton, "CHUNK", chunk)
        found = measured(network, images, batch)
        assert found.keys() == expected.keys()
        for parameter, entries in expected.items():
            assert entries.abs().max() > 1e-8, "the test would say nothing of this parameter"
            torch.testing.assert_close(found[parameter], entries, rtol=1e-10, atol=1e-12)


def test_convolutions_of_few_and_of_many_positions_agree(monkeypatch):
    network, images, _ = built("residual, BatchNorm, max-pooling")
    few = measured(network, images, 7)
    monkeypatch.setattr(gauss_newton, "FEW", 0)
    for name, entries in measured(network, images, 7).items():
        torch.testing.assert_close(entries, few[name], rtol=1e-10, atol=1e-14)


def test_what_is_not_trained_is_left_out():
    network, images, _ = built("linear, ReLU")
    network[1].weight.requires_grad_(False)
    assert set(measured(network, images, 7)) == {"1.bias", "3.1.weight", "3.1.bias"}


def test_the_factors_multiply_to_the_hessian_of_the_cross_entropy_by_the_logits():
    logits = 3 * torch.randn(5, 4, generator=seeding.generator("logits"), dtype=torch.float64)
    columns = torch.stack([*softmax_factors(logits)], dim=2)
    p = logits.softmax(dim=1)
    torch.testing.assert_close(columns @ columns.mT, torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1))


def test_confident_logits_keep_their_curvature_in_float32():
    logits = torch.tensor([[20.0, 0.0, -1.0]])
    columns = torch.stack([*softmax_factors(logits)], dim=2)[0].double()
    p = logits.double().softmax(dim=1)[0]
    torch.testing.assert_close((columns @ columns.T).diag(), p * (1 - p), rtol=1e-6, atol=0)


# What must not pass


def tied(net, x):
    x = net.a(x.flatten(1))
    return net.head(F.relu(F.linear(F.relu(x), net.a.weight)))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.head = nn.Linear(4, 12), nn.Linear(8, CLASSES)

    def forward(self, x):
        q, k, v = self.qkv(x.flatten(1).view(-1, 2, 4)).chunk(3, dim=-1)
        return self.head(((q @ k.mT).softmax(dim=-1) @ v).flatten(1))


@torch.library.custom_op("onebasin_tests::doubled", mutates_args=())
def doubled(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@doubled.register_fake
def _(x):
    return torch.empty_like(x)


def linear(how, **parts):
    """A network on rows of four, with a head of five."""
    return lambda: Net(how, a=nn.Linear(4, 5), head=nn.Linear(5, CLASSES), **parts)


# what is not, or not known to be: the input's shape, the network, and a word of the reason
REFUSED = {
    "GELU": ((4,), linear(lambda net, x: net.head(F.gelu(net.a(x)))), "gelu"),
    "tanh": ((4,), linear(lambda net, x: net.head(torch.tanh(net.a(x)))), "tanh"),
    "softmax attention": ((2, 2, 2), Attention, "matmul"),
    "tied weights": (
        (4,),
        lambda: Net(tied, a=nn.Linear(4, 4), head=nn.Linear(4, CLASSES)),
        "a.weight",
    ),
    "a shared layer": (
        (4,),
        lambda: Net(lambda net, x: net.head(net.a(net.a(x))), a=nn.Linear(4, 4), head=nn.Linear(4, 3)),
        "a.",
    ),
    "two names of one parameter": (
        (4,),
        lambda: (lambda net: (setattr(net.b, "weight", net.a.weight), net)[1])(
            Net(
                lambda net, x: net.head(F.relu(net.b(net.a(x)))),
                a=nn.Linear(4, 4),
                b=nn.Linear(4, 4),
                head=nn.Linear(4, 3),
            )
        ),
        "a.weight",
    ),
    "a batch's statistics": (
        (4,),
        linear(lambda net, x: net.head(net.norm(net.a(x))), norm=nn.BatchNorm1d(5, track_running_stats=False)),
        "statistics from the batch",
    ),
    "LayerNorm": ((4,), linear(lambda net, x: net.head(net.norm(net.a(x))), norm=nn.LayerNorm(5)), "layer_norm"),
    "a product with itself": ((4,), linear(lambda net, x: net.head(net.a(x) * F.relu(net.a(x)))), "a."),
    "a quotient": ((4,), linear(lambda net, x: net.head(1 / (net.a(x) ** 2 + 1))), "pow"),
    "weights that are computed": (
        (4,),
        linear(lambda net, x: F.linear(net.a(x), net.head.weight * net.head.weight.abs().detach(), net.head.bias)),
        "head.weight",
    ),
    "a transposed weight": ((4,), linear(lambda net, x: net.a(x) @ net.head.weight.t()), "head.weight"),
    "samples that meet": ((4,), linear(lambda net, x: net.head(net.a(x) - x.mean())), "mean"),
    "samples that change places": ((4,), linear(lambda net, x: net.head(net.a(x).flip(0))), "flip"),
    "an operation of the user's": ((4,), linear(lambda net, x: net.head(doubled(net.a(x)))), "doubled"),
    "an output that is no row of logits": ((4,), linear(lambda net, x: net.head(net.a(x)).unsqueeze(2)), "its output"),
    "two outputs": ((4,), linear(lambda net, x: (net.head(net.a(x)), x)), "one tensor"),
    "control flow by values": (
        (4,),
        linear(lambda net, x: net.head(net.a(x)) if x.sum() > 0 else x[:, :3]),
        "cannot be traced",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_to_be_piecewise_linear_is_refused_with_the_reason(name):
    shape, build, reason = REFUSED[name]
    with pytest.raises(NotPiecewiseLinearError) as caught:
        piecewise_linear(build().eval(), torch.zeros(3, *shape))
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


# Which of the two is taken


def test_both_traces_are_exact_where_they_can_be_and_given_by_layer():
    network, images, labels = built("residual, BatchNorm, max-pooling")
    sharpness = Sharpness(network, Split(images, labels), probes=5)
    traces, eigenvalue, layers = sharpness.at(network.state_dict(), "key")
    diagonal = exact_diagonal(network, images, labels)
    expected = {
        "trace": {n: float(d.sum()) for n, d in diagonal.items()},
        "scaled_trace": {n: float((d * network.state_dict()[n] ** 2).sum()) for n, d in diagonal.items()},
    }
    assert sharpness.reason is None
    for row in traces.itertuples():
        assert row.value == pytest.approx(math.fsum(expected[row.estimator].values()), rel=1e-10)
        assert (row.standard_error, row.probes) == (0, 0)
    assert [*layers["layer"].unique()] == ["conv1", "norm1", "conv2", "norm2", "head.1"]
    conv2 = layers[(layers["layer"] == "conv2") & (layers["estimator"] == "scaled_trace")]["value"].item()
    assert conv2 == pytest.approx(expected["scaled_trace"]["conv2.weight"] + expected["scaled_trace"]["conv2.bias"])
    assert len(eigenvalue) == 1


def test_elsewhere_they_are_estimated_as_before_and_the_log_says_why(caplog):
    network = REFUSED["GELU"][1]().eval()
    images, labels = torch.randn(9, 4, generator=seeding.generator("images")), torch.arange(9) % CLASSES
    with caplog.at_level("INFO"):
        sharpness = Sharpness(network, Split(images, labels), probes=5)
    traces, _, layers = sharpness.at(network.state_dict(), "key")
    assert "gelu" in caplog.text
    assert [*layers.columns] == ["estimator", "layer", "value"]
    assert layers.empty
    estimates = [
        hessian_trace(network, images, labels, 5, ("key", "trace")),
        scaled_hessian_trace(network, images, labels, 5, seeding.generator("key", "scaled_trace")),
    ]
    assert [*traces["value"]] == [estimate.value for estimate in estimates]
    assert set(traces["probes"]) == {5}


@pytest.mark.parametrize("settings", [{"name": "mlp", "width": 20}, {"name": "vgg11", "width": 0.05}])
def test_estimates_lie_around_the_exact_value(settings):
    network = new_network(settings, (3, 32, 32), 10, "network").eval()
    generator = seeding.generator("images")
    split = Split(torch.randn(12, 3, 32, 32, generator=generator), torch.randint(0, 10, (12,), generator=generator))
    traces, _, _ = Sharpness(network, split, probes=2).at(network.state_dict(), "key")
    exact = dict(zip(traces["estimator"], traces["value"], strict=True))
    trace = hessian_trace(network, split.inputs, split.targets, 30, ("probes",))
    scaled = scaled_hessian_trace(network, split.inputs, split.targets, 30, seeding.generator("probes"))
    assert trace.value == pytest.approx(exact["trace"], abs=4 * trace.standard_error)
    assert scaled.value == pytest.approx(exact["scaled_trace"], abs=4 * scaled.standard_error)


def test_the_narrow_resnet_is_measured_exactly():
    network = new_network({"name": "resnet20", "width": 0.5}, (3, 32, 32), 10, "test").eval()
    graph = piecewise_linear(network, torch.zeros(2, 3, 32, 32))
    assert set(graph.uses) == {name for name, _ in network.named_parameters()}
