"""The Taylor estimate: the full Hessian's, exact where the loss is a quadratic form, and measured in its own state."""

import pytest
import torch
import torch.nn.functional as F
from networks_for_tests import like, random_convolutions, random_data, random_images, random_mlps
from torch.func import functional_call

from onebasin.measures.taylor import directional_derivatives, excess_estimate, taylor_estimates
from onebasin.merging.recalibration import Recalibration
from onebasin.models.running import measure
from onebasin.parameters import lerp, stacked

MAKERS = {
    "mlp": lambda: (random_mlps(3, dtype=torch.float64), random_data(dtype=torch.float64)),
    "convolutions": lambda: (random_convolutions(3, norm=False), random_images()),
    "batchnorm": lambda: (random_convolutions(3), random_images()),
}


@pytest.fixture(params=MAKERS)
def case(request):
    return made(request.param)


def made(name):
    models, data = MAKERS[name]()
    return models, data, Recalibration(models.network, data.train, {})


def exact(models, model, split):
    """Loss, gradient and the full Hessian with respect to what is trained, as vectors and a matrix."""
    weights = {name: tensor[model] for name, tensor in models.weights.items()}
    buffers = {name: tensor for name, tensor in models[model].items() if name not in weights}

    def loss(flat):
        parts = flat.split([tensor.numel() for tensor in weights.values()])
        own = {name: part.view_as(weights[name]) for part, name in zip(parts, weights, strict=True)}
        return F.cross_entropy(functional_call(models.network, {**own, **buffers}, (split.inputs,)), split.targets)

    here = torch.cat([tensor.flatten() for tensor in weights.values()])
    return here, torch.func.grad(loss)(here), torch.func.hessian(loss)(here)


@pytest.mark.parametrize("batch", [4, 2048])
def test_the_estimate_is_that_of_the_full_hessians(case, batch):
    models, data, recalibrate = case
    table = taylor_estimates(models, data.test, 5, recalibrate, batch).set_index(["model_a", "model_b", "weight_b"])
    ends = [exact(models, model, data.test) for model in range(3)]
    assert len(table) == 3 * 3
    for a, b, weight_b in table.index:
        (start, gradient_a, hessian_a), (end, gradient_b, hessian_b) = ends[a], ends[b]
        d, lam = end - start, 1 - weight_b
        curvature = (1 - lam) * d @ hessian_a @ d + lam * d @ hessian_b @ d
        expected = lam * (1 - lam) * ((gradient_a - gradient_b) @ d + curvature / 2)
        assert table.loc[(a, b, weight_b), "estimate"] == pytest.approx(float(expected), rel=1e-9)


def test_at_the_midpoint_it_is_the_published_form():
    slope_a, slope_b, curvature_a, curvature_b = 0.3, -0.1, 2.0, 5.0  # slopes toward the other end: g_a.d and -g_b.d
    found = excess_estimate((slope_a, curvature_a), (slope_b, curvature_b), 0.5)
    assert found == pytest.approx((slope_a + slope_b) / 4 + (curvature_a + curvature_b) / 16)


def test_close_models_have_the_excess_that_is_estimated(case):
    """Third order in the distance: ten times closer, a thousand times less of an error."""
    models, data, recalibrate = case
    errors = []
    for step in (1e-2, 1e-3):
        near = {
            name: tensor[0] + step * (models.weights[name][1] - tensor[0]) if name in models.weights else tensor[1]
            for name, tensor in models.parameters.items()
        }
        close = like(models, stacked([models[0], near]))
        row = taylor_estimates(close, data.test, 3, recalibrate).iloc[0]
        errors.append(abs(row["estimate"] - row["measured"]))
    assert errors[1] < errors[0] / 300
    assert errors[0] < 1e-3


def test_what_is_measured_keeps_the_statistics_of_the_ends_and_what_is_recomputed_does_not():
    models, data, recalibrate = made("batchnorm")
    losses = []
    for end in (0, 1):
        mixed = lerp(models[0], models[1], 0.25)
        own = {name: tensor[end] for name, tensor in models.parameters.items() if name not in models.weights}
        losses.append(measure(models.network, {**mixed, **own}, data.test)[0])
    ends = [measure(models.network, models[end], data.test)[0] for end in (0, 1)]
    line = 0.75 * ends[0] + 0.25 * ends[1]
    row = taylor_estimates(models.first(2), data.test, 5, recalibrate).set_index("weight_b").loc[0.25]
    assert row["measured"] == pytest.approx(0.75 * losses[0] + 0.25 * losses[1] - line)
    recalibrated = measure(models.network, recalibrate(lerp(models[0], models[1], 0.25)), data.test)[0]
    assert row["recomputed"] == pytest.approx(recalibrated - line)
    assert abs(row["recomputed"] - row["measured"]) > 1e-4


def test_without_statistics_both_are_the_excess_of_the_line_between_the_models():
    models, data, recalibrate = made("mlp")
    table = taylor_estimates(models.first(2), data.test, 4, recalibrate)
    ends = [measure(models.network, models[end], data.test)[0] for end in (0, 1)]
    assert table["weight_b"].tolist() == pytest.approx([1 / 3, 1 / 2, 2 / 3])  # the midpoint is none of the four points
    for row in table.itertuples():
        loss = measure(models.network, lerp(models[0], models[1], row.weight_b), data.test)[0]
        assert (
            row.measured
            == row.recomputed
            == pytest.approx(loss - (1 - row.weight_b) * ends[0] - row.weight_b * ends[1])
        )


def test_frozen_parameters_are_no_direction():
    models, data, _ = made("mlp")
    models.network[1].weight.requires_grad_(False)
    moved = {**models[0], "1.weight": models[1]["1.weight"]}
    assert directional_derivatives(models.network, models[0], [moved], data.test) == [(0.0, 0.0)]
