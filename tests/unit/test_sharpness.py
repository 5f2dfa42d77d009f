import itertools
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from onebasin import seeding
from onebasin.errors import OnebasinError
from onebasin.measures.sharpness import hessian, hutchinson


def small_network(*widths, key=0, dtype=torch.float64):
    """An MLP with biases, [n, 1, 1, widths[0]] -> [n, widths[-1]]; tanh, so that every second derivative counts."""
    with seeding.global_rng("network", key):
        layers = [nn.Flatten()]
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.Tanh()]
    return nn.Sequential(*layers[:-1]).to(dtype).eval()


def small_data(features, classes, n=24, dtype=torch.float64):
    generator = seeding.generator("data")
    images = torch.randn(n, 1, 1, features, generator=generator, dtype=dtype)
    return images, torch.randint(0, classes, (n,), generator=generator)


def exact_hessian(network, images, labels):
    """The Hessian [d, d] over the trainable parameters, flattened one after the other."""
    parameters = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
    sizes = [p.numel() for p in parameters.values()]

    def loss(flat):
        parts = flat.split(sizes)
        values = {name: part.view_as(p) for part, (name, p) in zip(parts, parameters.items(), strict=True)}
        return F.cross_entropy(functional_call(network, values, (images,)), labels)

    return torch.func.jacrev(torch.func.jacrev(loss))(flatten(parameters))


def flatten(vector):
    return torch.cat([part.detach().flatten() for part in vector.values()])


def trainable(network):
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


class Quadratic(nn.Module):
    """A network of one class against another, whose cross-entropy at label 0 is 1 + sum_i a_i theta_i^2 / 2."""

    def __init__(self, curvatures, dtype=torch.float64):
        super().__init__()
        self.curvatures = torch.tensor(curvatures, dtype=dtype)
        self.theta = nn.Parameter(torch.linspace(0.2, 0.9, len(curvatures), dtype=dtype))

    def forward(self, images):
        loss = 1 + (self.curvatures * self.theta**2).sum() / 2
        logits = torch.stack([-torch.log(torch.expm1(loss)), torch.zeros_like(loss)])
        return logits.expand(len(images), 2)


@pytest.fixture
def problem():
    return small_network(4, 5, 3), *small_data(4, 3)


def test_hessian_vector_products_are_those_of_the_exact_hessian(problem):
    network, images, labels = problem
    matrix = exact_hessian(network, images, labels)
    generator = seeding.generator("vector")
    vector = {name: torch.randn(p.shape, generator=generator, dtype=p.dtype) for name, p in trainable(network).items()}
    expected = matrix @ flatten(vector)
    product = hessian.hessian_operator(network, images, labels)
    for image in (
        product(vector),
        product(vector),
        hessian.hessian_vector_product(network, images, labels, vector),
        hessian.hessian_vector_product(network, images, labels, vector, batch=7),
    ):
        torch.testing.assert_close(flatten(image), expected, rtol=1e-10, atol=1e-12)


def test_both_estimates_agree_with_the_exact_hessian(problem):
    network, images, labels = problem
    diagonal = exact_hessian(network, images, labels).diag()
    scaled = (diagonal * flatten(trainable(network)) ** 2).sum().item()

    estimate = hutchinson.hessian_trace(network, images, labels, 2000, ("probes",))
    assert estimate.value == pytest.approx(diagonal.sum().item(), abs=4 * estimate.standard_error)
    assert 0 < estimate.standard_error < 0.1 * diagonal.sum().item()
    assert estimate.probes == 2000

    estimate = hutchinson.scaled_hessian_trace(network, images, labels, 2000, seeding.generator("probes"))
    assert estimate.value == pytest.approx(scaled, abs=4 * estimate.standard_error)
    assert 0 < estimate.standard_error < 0.1 * scaled
    assert estimate.probes == 2000


def all_signs(network):
    """Draw after draw every vector of signs, cut to the shape that is asked for."""
    count = sum(p.numel() for p in network.parameters())
    return itertools.chain.from_iterable(itertools.product((-1.0, 1.0), repeat=count)), 2**count


@pytest.mark.parametrize("batch", [100, 7])
def test_the_mean_over_all_probes_is_exactly_the_trace(monkeypatch, batch):
    network = small_network(2, 2)
    images, labels = small_data(2, 2)
    signs, probes = all_signs(network)

    def enumerated(p, **_):
        return torch.tensor([next(signs) for _ in range(p.numel())], dtype=p.dtype).view(p.shape)

    monkeypatch.setattr(torch, "randint_like", enumerated)
    estimate = hutchinson.hessian_trace(network, images, labels, probes, (), batch)
    assert estimate.value == pytest.approx(exact_hessian(network, images, labels).trace().item(), rel=1e-10)


def test_the_mean_over_all_scaled_probes_is_exactly_the_scaled_trace(monkeypatch):
    network = small_network(2, 2)
    images, labels = small_data(2, 2)
    signs, probes = all_signs(network)

    def enumerated(like, _):
        return torch.tensor([next(signs) for _ in range(like.numel())], dtype=like.dtype).view(like.shape)

    monkeypatch.setattr(hutchinson, "_rademacher", enumerated)
    estimate = hutchinson.scaled_hessian_trace(network, images, labels, probes, seeding.generator())
    expected = (exact_hessian(network, images, labels).diag() * flatten(trainable(network)) ** 2).sum().item()
    assert estimate.value == pytest.approx(expected, rel=1e-10)


def test_a_negative_trace_does_not_end_the_probes_early():
    network, (images, labels) = Quadratic([-0.5, -0.25]), small_data(1, 1)
    estimate = hutchinson.hessian_trace(network, images, labels, 9, ("probes",))
    assert estimate.probes == 9
    assert estimate.value == pytest.approx(-0.75)


def test_a_diagonal_quadratic_has_no_standard_error():
    curvatures = [3.0, 0.5, -1.0]
    network, (images, labels) = Quadratic(curvatures), small_data(1, 1)
    estimate = hutchinson.hessian_trace(network, images, labels, 10, ("probes",))
    assert estimate.value == pytest.approx(sum(curvatures))
    assert estimate.standard_error == pytest.approx(0, abs=1e-12)
    estimate = hutchinson.scaled_hessian_trace(network, images, labels, 10, seeding.generator("probes"))
    assert estimate.value == pytest.approx((network.curvatures * network.theta**2).sum().item())
    assert estimate.standard_error == pytest.approx(0, abs=1e-12)


def test_the_scaled_trace_does_not_change_when_a_unit_is_rescaled():
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    images, labels = small_data(3, 2)
    values = []
    for _ in range(2):
        trace = (exact_hessian(network, images, labels).diag() * flatten(trainable(network)) ** 2).sum().item()
        estimate = hutchinson.scaled_hessian_trace(network, images, labels, 50, seeding.generator("probes"))
        values.append((trace, estimate.value))
        with torch.no_grad():
            network[1].weight.mul_(4)
            network[1].bias.mul_(4)
            network[3].weight.div_(4)
    assert values[0] == pytest.approx(values[1], rel=1e-9)


@pytest.mark.parametrize("batch", [100, 10])
def test_the_top_eigenvalue_is_that_of_the_exact_hessian(batch):
    network = small_network(4, 5, 3, dtype=torch.float32)
    images, labels = small_data(4, 3, dtype=torch.float32)
    spectrum = torch.linalg.eigvalsh(exact_hessian(network.double(), images.double(), labels)).numpy()
    found = hutchinson.top_eigenvalue(network.float(), images, labels, ("start",), batch, 500, 1e-7)
    assert found.value == pytest.approx(max(spectrum, key=abs), rel=1e-4)
    assert found.residual < 0.01 * found.value


def test_the_residual_bounds_the_distance_to_an_eigenvalue():
    network = small_network(4, 5, 3, dtype=torch.float32)
    images, labels = small_data(4, 3, dtype=torch.float32)
    spectrum = torch.linalg.eigvalsh(exact_hessian(network, images, labels))
    found = hutchinson.top_eigenvalue(network, images, labels, ("start",), max_iterations=2)
    assert found.residual > 0.01 * found.value
    assert (spectrum - found.value).abs().min().item() <= found.residual


def measure(network, images, labels, key, batch=100):
    generator = seeding.generator(*key)
    return (
        hutchinson.hessian_trace(network, images, labels, 5, key, batch),
        hutchinson.scaled_hessian_trace(network, images, labels, 5, generator, batch),
        hutchinson.top_eigenvalue(network, images, labels, key, batch, 20),
    )


@pytest.fixture
def single():
    return small_network(4, 5, 3, dtype=torch.float32), *small_data(4, 3, dtype=torch.float32)


def test_the_key_decides_the_bits(single):
    first = measure(*single, ("a", 1))
    assert measure(*single, ("a", 1)) == first
    assert all(one != other for one, other in zip(measure(*single, ("a", 2)), first, strict=True))


def test_batches_give_the_answer_of_one_batch(single):
    whole, parts = measure(*single, ("a",)), measure(*single, ("a",), batch=7)
    for one, other in zip(whole, parts, strict=True):
        assert other.value == pytest.approx(one.value, rel=1e-4)
    assert [parts[0].standard_error, parts[1].standard_error] == pytest.approx(
        [whole[0].standard_error, whole[1].standard_error], rel=1e-4
    )


def test_the_generator_ends_at_the_same_place_for_any_batch(single):
    ends = []
    for batch in (100, 7):
        generator = seeding.generator("a")
        hutchinson.scaled_hessian_trace(*single, 3, generator, batch)
        ends.append(generator.get_state())
    assert torch.equal(*ends)


@pytest.mark.parametrize("batch", [100, 7])
def test_nothing_is_left_changed_and_nothing_is_warned_of(batch):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    images, labels = small_data(4, 3, dtype=torch.float32)
    network[1].weight.requires_grad_(False)
    network[4].bias.grad = torch.ones(3)
    network.train()
    network[2].eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.get_rng_state()

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        measure(network, images, labels, ("a",), batch)

    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert network.training
    assert network[1].training
    assert not network[2].training
    assert [p.requires_grad for p in network.parameters()] == [False] + [True] * 5
    assert network[4].bias.grad.tolist() == [1, 1, 1]
    assert all(p.grad is None for p in network.parameters() if p is not network[4].bias)


def test_parameters_that_need_no_gradient_are_held_fixed(problem):
    network, images, labels = problem
    network[1].weight.requires_grad_(False)
    diagonal = exact_hessian(network, images, labels).diag()
    estimate = hutchinson.hessian_trace(network, images, labels, 500, ("probes",))
    assert estimate.value == pytest.approx(diagonal.sum().item(), abs=4 * estimate.standard_error)
    estimate = hutchinson.scaled_hessian_trace(network, images, labels, 500, seeding.generator("probes"))
    scaled = (diagonal * flatten(trainable(network)) ** 2).sum().item()
    assert estimate.value == pytest.approx(scaled, abs=4 * estimate.standard_error)


def test_what_cannot_be_measured_is_refused(problem):
    network, images, labels = problem
    with pytest.raises(OnebasinError, match="at least 2 probes"):
        hutchinson.hessian_trace(network, images, labels, 1, ())
    with pytest.raises(OnebasinError, match="at least 2 probes"):
        hutchinson.scaled_hessian_trace(network, images, labels, 1, seeding.generator())
    with pytest.raises(ValueError, match="images"):
        hutchinson.scaled_hessian_trace(network, images[:0], labels[:0], 2, seeding.generator())
    with pytest.raises(ValueError, match="require a gradient"):
        hutchinson.hessian_trace(network.requires_grad_(False), images, labels, 2, ())
