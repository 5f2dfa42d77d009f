"""The plane through three models: its geometry is that of parameter space, its losses those of the models."""

import itertools

import pytest
import torch
from networks_for_tests import few_digits, like, random_data, random_mlps, trained_mlps

from onebasin.errors import OnebasinError
from onebasin.measures.landscape import MARGIN, landscape
from onebasin.models.running import measure
from onebasin.parameters import lerp, mean


def flat(parameters):
    return torch.cat([tensor.flatten() for tensor in parameters.values()]).double()


def surface_of(models, data, resolution=4):
    table = landscape(models, data.test, resolution)
    return table[table["point"] == "grid"], table[table["point"] != "grid"].set_index("point")


@pytest.fixture(params=["random", "trained"])
def found(request):
    models, data = {
        "random": lambda: (random_mlps(3), random_data()),
        "trained": lambda: (trained_mlps(), few_digits()),
    }[request.param]()
    models = like(models, models.parameters, seeds=(8, 3, 5))
    return models, data, *surface_of(models, data)


def test_distances_and_angles_of_the_models_are_those_of_parameter_space(found):
    models, _, _, named = found
    places = torch.tensor(named.loc[["8", "3", "5"], ["x", "y"]].to_numpy())
    vectors = torch.stack([flat(models[model]) for model in range(3)])
    for a, b, c in itertools.permutations(range(3)):
        distances = [float((points[b] - points[a]).norm()) for points in (places, vectors)]
        assert distances[0] == pytest.approx(distances[1], rel=1e-6)
        cosines = [torch.cosine_similarity(p[b] - p[a], p[c] - p[a], dim=0) for p in (places, vectors)]
        assert float(cosines[0]) == pytest.approx(float(cosines[1]), abs=1e-6)


def test_the_first_model_is_the_origin_the_second_on_the_x_axis_and_the_merge_their_centre(found):
    _, _, _, named = found
    assert named.loc["8", ["x", "y"]].tolist() == [0, 0]
    assert named.loc["3", "x"] > 0
    assert named.loc["3", "y"] == 0
    assert named.loc["5", "y"] > 0
    for axis in ("x", "y"):
        assert named.loc["merged", axis] == pytest.approx(named.loc[["8", "3", "5"], axis].mean())


def test_the_losses_of_the_models_and_their_merge_are_those_measured_alone(found):
    models, data, _, named = found
    for model, seed in enumerate(("8", "3", "5")):
        assert tuple(named.loc[seed, ["loss", "accuracy"]]) == measure(models.network, models[model], data.test)
    merged = measure(models.network, mean(models.parameters), data.test)
    assert tuple(named.loc["merged", ["loss", "accuracy"]]) == merged


def test_the_grid_holds_all_models_within_the_margin(found):
    _, _, grid, named = found
    corners = named.loc[["8", "3", "5"]]
    margin = MARGIN * max(corners[axis].max() - corners[axis].min() for axis in ("x", "y"))
    for axis in ("x", "y"):
        assert grid[axis].min() == pytest.approx(corners[axis].min() - margin, rel=1e-5)
        assert grid[axis].max() == pytest.approx(corners[axis].max() + margin, rel=1e-5)
    assert len(grid) == 16
    assert grid[["x", "y"]].drop_duplicates().shape == (16, 2)
    steps = sorted(grid["x"].unique())
    assert steps[1] - steps[0] == pytest.approx(steps[3] - steps[2], rel=1e-5)


def test_the_loss_on_the_grid_is_that_of_the_affine_combination_of_the_models(found):
    models, data, grid, named = found
    places = torch.tensor(named.loc[["8", "3", "5"], ["x", "y"]].to_numpy())
    corners = torch.cat([places.mT, torch.ones(1, 3, dtype=torch.float64)])
    for row in grid.itertuples():
        weights = torch.linalg.solve(corners, torch.tensor([row.x, row.y, 1], dtype=torch.float64))
        point = {name: torch.tensordot(weights, t.double(), dims=1).float() for name, t in models.parameters.items()}
        assert row.loss == pytest.approx(measure(models.network, point, data.test)[0], rel=1e-3)


def test_more_models_than_three_do_not_change_the_plane():
    models, data = random_mlps(5), random_data()
    assert landscape(models, data.test, 3).equals(landscape(models.first(3), data.test, 3))


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_models_are_refused(count):
    with pytest.raises(OnebasinError, match=f"needs three models, given {count}"):
        landscape(random_mlps(count), random_data().test, 3)


def three(a, b, c):
    return {name: torch.stack([a[name], b[name], c[name]]) for name in a}


@pytest.mark.parametrize(
    "degenerate",
    [
        lambda a, b: three(a, b, lerp(a, b, 0.5)),
        lambda a, b: three(a, b, lerp(a, b, -2.0)),
        lambda a, b: three(a, a, b),
        lambda a, b: three(a, b, a),
        lambda a, b: three(a, b, b),
        lambda a, b: three(a, a, a),
    ],
    ids=["between", "beyond", "first twice", "first again", "second again", "one model"],
)
def test_three_models_on_one_line_are_refused(degenerate):
    models = random_mlps(2)
    stack = degenerate(models[0], models[1])
    with pytest.raises(OnebasinError, match="on one line"):
        landscape(like(models, stack), random_data().test, 3)
