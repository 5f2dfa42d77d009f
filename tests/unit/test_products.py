import pytest
import torch
from torch import nn
from torch.nn import functional as F

from onebasin.machine import matmul as products
from onebasin.machine.matmul import add_product, fast_linear


@pytest.fixture(autouse=True, params=["MKL", "oneDNN"])
def _library(request, monkeypatch):
    """Both ways on any processor, whichever of them is the faster one there."""
    for question in ("_onednn_is_faster", "_has_avx512"):
        monkeypatch.setattr(products, question, lambda: request.param == "oneDNN")


def stream(key=0):
    return torch.Generator().manual_seed(key)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize(("n", "m", "r"), [(5, 7, 3), (64, 48, 100), (40, 40, 1)])
def test_a_product_is_added_to_a_total_or_to_nothing(dtype, models, n, m, r):
    left, right, total = (
        torch.randn(models, *shape, generator=stream(key), dtype=dtype)
        for key, shape in enumerate([(n, r), (m, r), (n, m)])
    )
    expected = left @ right.mT
    torch.testing.assert_close(add_product(None, left, right), expected)
    torch.testing.assert_close(add_product(total.clone(), left, right), total + expected)
    by_columns = left.mT.contiguous().mT, right.mT.contiguous().mT
    torch.testing.assert_close(add_product(None, *by_columns), expected)


def network():
    layers = [nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 33, bias=False), nn.Tanh(), nn.Linear(33, 3)]
    network = nn.Sequential(*layers)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3, generator=stream())
    return network


def derivatives(module, images):
    """The output, the loss's gradient, and the Hessian times a vector."""
    parameters = [*module.parameters(), images]
    output = module(images)
    gradient = torch.autograd.grad(output.logsumexp(dim=-1).sum(), parameters, create_graph=True)
    product = torch.autograd.grad(gradient, parameters, [p.detach() for p in parameters])
    return [output, *gradient, *product]


@pytest.mark.parametrize("shape", [(6,), (9, 6), (2, 5, 6)])
def test_fast_layers_and_their_first_and_second_derivatives_are_those_of_plain_ones(shape):
    module, images = network(), torch.randn(shape, generator=stream(1), requires_grad=True)
    plain = derivatives(module, images)
    with fast_linear():
        fast = derivatives(module, images)
    for one, other in zip(fast, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_fast_layers_pass_on_what_they_do_not_know():
    with fast_linear():
        assert F.linear(torch.ones(2, 3).double(), torch.ones(40, 3).double()).dtype == torch.float64
        assert F.linear(torch.ones(2, 3), torch.ones(4, 3)).shape == (2, 4)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert F.linear(torch.ones(2, 3), torch.ones(40, 3)).dtype == torch.bfloat16
