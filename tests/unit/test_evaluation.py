"""Losses, accuracies, ensembles, lines between models and barriers, by hand and against torch."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from networks_for_tests import few_digits, like, permuted_copies, random_data, random_mlps, same, spec_of, trained_mlps
from torch import nn
from torch.nn import functional as F

from onebasin.data import Data, Split
from onebasin.errors import OnebasinError
from onebasin.measures.merged import evaluate_merged, predict
from onebasin.measures.pairwise import interpolation_curves, pairwise_barriers
from onebasin.merging.average import aligned_models
from onebasin.models import running
from onebasin.models.objective import cross_entropy
from onebasin.models.running import forward, measure, measure_many, outputs
from onebasin.models.stack import Models
from onebasin.parameters import lerp, mean
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import invert


class Constant(nn.Module):
    """A network whose logits are its one parameter, whatever the image."""

    def __init__(self, classes=2):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(classes))

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def constants(*rows):
    """Models with these logits."""
    rows = torch.tensor(rows)
    return Models(Constant(rows.shape[1]), {"logits": rows}, tuple(range(10, 10 + len(rows))), (1, 1, 1))


def labelled(*labels):
    return Split(torch.zeros(len(labels), 1, 1, 1), torch.tensor(labels))


# one model


def test_the_loss_is_torchs_cross_entropy_and_the_accuracy_the_fraction_of_right_answers():
    models, data = random_mlps(2), random_data(test=50)
    for model in range(2):
        loss, accuracy = measure(models.network, models[model], data.test)
        outputs = forward(models.network, models[model], data.test.inputs)
        assert loss == pytest.approx(float(F.cross_entropy(outputs, data.test.targets)), rel=1e-6)
        right = sum(int(row.argmax()) == int(label) for row, label in zip(outputs, data.test.targets, strict=True))
        assert accuracy == pytest.approx(right / 50)
        assert 0 < accuracy < 1


@pytest.mark.parametrize("batch", [1, 7, 50, 51])
def test_the_size_of_a_batch_does_not_matter(monkeypatch, batch):
    models, data = random_mlps(1), random_data(test=50)
    expected = measure(models.network, models[0], data.test)
    calls = []
    monkeypatch.setattr(running, "VALUES", 5 * batch)
    monkeypatch.setattr(running, "forward", lambda *args: (calls.append(len(args[-1])), forward(*args))[1])
    assert measure(models.network, models[0], data.test) == pytest.approx(expected, rel=1e-6)
    assert len(calls) == math.ceil(50 / batch)
    assert max(calls) <= batch


def test_a_network_is_measured_in_evaluation_mode_and_without_gradients():
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(5, 3))
    data = random_data()
    parameters = dict(network.named_parameters())
    expected = network[2](data.test.inputs.flatten(1))
    found = outputs(network.train(), parameters, data.test)
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad


def test_the_score_of_probabilities_is_the_one_worked_out_by_hand():
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75], [0.25, 0.5, 0.25]])
    loss, accuracy = cross_entropy.score(probabilities.log(), torch.tensor([0, 1, 1]))
    assert loss == pytest.approx((1 + 3 + 1) * math.log(2) / 3)
    assert accuracy == pytest.approx(2 / 3)


def test_with_positions_loss_and_accuracy_are_means_over_all_of_them():
    draws = torch.Generator().manual_seed(0)
    given, targets = torch.randn(6, 4, 5, generator=draws), torch.randint(4, (6, 5), generator=draws)
    rows, row_targets = given.movedim(1, 2).reshape(30, 4), targets.reshape(30)
    assert cross_entropy.score(given.log_softmax(1), targets) == cross_entropy.score(rows.log_softmax(1), row_targets)
    assert float(cross_entropy(given, targets)) == pytest.approx(float(F.cross_entropy(given, targets)), rel=1e-6)
    hits = (rows.argmax(1) == row_targets).sum()
    assert float(cross_entropy.right(given, targets)) == pytest.approx(float(hits) / 5)
    assert int(cross_entropy.right(rows, row_targets)) == int(hits)


@pytest.mark.parametrize(("logits", "targets"), [((6, 4), (6, 5)), ((6, 5, 4), (6, 5)), ((6, 4), (7,)), ((6,), (6,))])
def test_logits_that_are_not_of_the_targets_are_one_line(logits, targets):
    with pytest.raises(OnebasinError, match=r"logits .*\[n, classes\]") as caught:
        cross_entropy(torch.zeros(logits), torch.zeros(targets, dtype=torch.int64))
    assert len(str(caught.value).splitlines()) == 1


def test_many_models_are_measured_as_one_by_one():
    models, data = random_mlps(3), random_data()
    each = [models[model] for model in range(3)]
    found = measure_many(models.network, iter(each), data.train)
    assert found == [measure(models.network, parameters, data.train) for parameters in each]


# merged models


def test_parents_ensemble_and_barriers_are_those_worked_out_by_hand():
    # probabilities of class 0: 3/4 and 1/5; the train labels are 0, 0, 1 and the test label 0
    parents = constants([math.log(3), 0.0], [0.0, math.log(4)])
    merged = {"logits": torch.tensor([math.log(7), 0.0])}  # class 0 with 7/8
    data = Data(labelled(0, 0, 1), labelled(0), classes=2)
    table = evaluate_merged(parents, merged, data).set_index("split")
    losses = {"train": lambda p: -(2 * math.log(p) + math.log(1 - p)) / 3, "test": lambda p: -math.log(p)}
    rights = {"train": (2 / 3, 1 / 3), "test": (1.0, 0.0)}  # of a model that says class 0, or class 1
    for split, loss in losses.items():
        row, of = table.loc[split], rights[split]
        assert row["loss"] == pytest.approx(loss(7 / 8), rel=1e-6)
        assert row["accuracy"] == pytest.approx(of[0])
        assert row["parents_loss"] == pytest.approx((loss(3 / 4) + loss(1 / 5)) / 2, rel=1e-6)
        assert row["parents_accuracy"] == pytest.approx(0.5)
        assert row["barrier_loss"] == pytest.approx(loss(7 / 8) - (loss(3 / 4) + loss(1 / 5)) / 2, rel=1e-5)
        assert row["barrier_accuracy"] == pytest.approx(0.5 - of[0])
        # probabilities are averaged, not logits: (3/4 + 1/5) / 2 = 0.475, so that the ensemble says class 1
        assert row["ensemble_loss"] == pytest.approx(loss(0.475), rel=1e-6)
        assert row["ensemble_accuracy"] == pytest.approx(of[1])


def test_a_merged_model_worse_than_its_parents_has_positive_barriers_and_a_better_one_negative():
    parents, data = constants([1.0, 0.0], [2.0, 0.0]), Data(labelled(0), labelled(0, 0, 1), classes=2)
    worse, better = (
        evaluate_merged(parents, {"logits": torch.tensor(values)}, data).set_index("split").loc["train"]
        for values in ([0.0, 5.0], [5.0, 0.0])
    )
    assert worse["barrier_loss"] > 0
    assert worse["barrier_accuracy"] == 1
    assert better["barrier_loss"] < 0
    assert better["barrier_accuracy"] == 0


def test_copies_of_one_model_are_their_ensemble_and_have_no_barrier():
    models, data = trained_mlps(), few_digits()
    copies = like(models, {name: torch.stack([tensor[0]] * 3) for name, tensor in models.parameters.items()})
    for _, row in evaluate_merged(copies, mean(copies.parameters), data).iterrows():
        assert row["barrier_loss"] == pytest.approx(0, abs=1e-6)
        assert row["barrier_accuracy"] == pytest.approx(0, abs=1e-12)
        assert row["ensemble_loss"] == pytest.approx(row["parents_loss"], rel=1e-6)
        assert row["ensemble_accuracy"] == pytest.approx(row["parents_accuracy"])


def test_the_ensemble_is_never_worse_than_its_members_on_average():
    models, data = random_mlps(4), random_data(train=60, test=60)
    for _, row in evaluate_merged(models, mean(models.parameters), data).iterrows():
        assert row["ensemble_loss"] < row["parents_loss"]  # Jensen's inequality


# lines between models


def test_what_is_known_of_more_models_gives_the_same_numbers():
    models, data = random_mlps(4), random_data(train=60, test=60)
    few = models.first(2)
    known = evaluate_merged(few, mean(few.parameters), data, predict(models, data))
    assert known.equals(evaluate_merged(few, mean(few.parameters), data))


def test_interpolation_is_exact_at_both_ends_and_linear_between_them():
    models = random_mlps(2)
    a, b = models[0], models[1]
    assert same(lerp(a, b, 0.0), a)
    assert same(lerp(a, b, 1.0), b)
    for name, tensor in lerp(a, b, 0.25).items():
        torch.testing.assert_close(tensor, 0.75 * a[name] + 0.25 * b[name])


def test_points_on_a_curve_are_direct_evaluations_of_the_interpolated_models():
    models, data = random_mlps(3), random_data()
    curves = interpolation_curves(models, data, points=5)
    assert len(curves) == 2 * 3 * 5
    for row in curves.itertuples():
        point = lerp(models[row.model_a], models[row.model_b], row.weight_b)
        assert (row.loss, row.accuracy) == measure(models.network, point, data.split(row.split))
    for _, curve in curves.groupby(["split", "model_a", "model_b"]):
        assert curve["weight_b"].tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_curves_name_models_by_their_seeds_and_hold_every_pair_once():
    models = random_mlps(3)
    models = like(models, models.parameters, seeds=(7, 2, 5))
    curves = interpolation_curves(models, random_data(), points=3)
    for _, of_split in curves.groupby("split"):
        pairs = of_split[["model_a", "model_b"]].drop_duplicates().itertuples(index=False, name=None)
        assert list(pairs) == [(7, 2), (7, 5), (2, 5)]
    assert set(curves["split"]) == {"train", "test"}


def curve(losses, accuracies, split="test", a=0, b=1):
    weights = np.linspace(0, 1, len(losses))
    columns = {"split": split, "model_a": a, "model_b": b, "weight_b": weights}
    return pd.DataFrame({**columns, "loss": losses, "accuracy": accuracies})


@pytest.mark.parametrize(
    ("losses", "accuracies", "expected"),
    [
        # above the line 1, 1.5, 2, 2.5, 3 by 0, 1.5, 1, 0, 0; below the line 0.9, 0.8, ..., 0.5 by 0, 0, 0.3, 0.2, 0
        ([1, 3, 3, 2.5, 3], [0.9, 0.8, 0.4, 0.4, 0.5], (1.5, 0.3)),
        ([1, 1, 1], [0.5, 0.25, 0.5], (0.0, 0.25)),
        ([1, 2, 1], [0.5, 0.75, 0.5], (1.0, 0.0)),  # accuracy gained is no barrier
        ([2, 1, 0.5], [0.5, 0.75, 0.9], (0.0, 0.0)),  # convex: the ends themselves have excess 0
        ([2, 1.75, 0.5], [0.5, 0.5, 0.9], (0.5, 0.2)),  # a barrier although the loss falls
    ],
)
def test_pairwise_barriers_are_the_largest_excess_over_the_straight_line(losses, accuracies, expected):
    row = pairwise_barriers(curve(losses, accuracies)).iloc[0]
    assert (row["barrier_loss"], row["barrier_accuracy"]) == pytest.approx(expected)


def test_every_pair_and_split_has_its_own_barrier():
    heights = {("train", 0, 1): 0.5, ("train", 0, 2): 1.5, ("test", 0, 1): 2.5, ("test", 0, 2): 3.5}
    curves = pd.concat([curve([0, height, 0], [1, 1, 1], *key) for key, height in heights.items()])
    found = pairwise_barriers(curves).set_index(["split", "model_a", "model_b"])["barrier_loss"]
    assert found.to_dict() == heights


def test_barriers_are_those_of_the_definition_on_models_evaluated_anew():
    models, data = trained_mlps(), few_digits()
    found = pairwise_barriers(interpolation_curves(models, data, points=5))
    assert len(found) == 2 * 3
    for row in found.itertuples():
        a, b, split = models[row.model_a], models[row.model_b], data.split(row.split)
        ends = [measure(models.network, end, split) for end in (a, b)]
        loss_excess, accuracy_lost = [], []
        for weight in (0, 0.25, 0.5, 0.75, 1):
            loss, accuracy = measure(models.network, lerp(a, b, weight), split)
            loss_excess.append(loss - (1 - weight) * ends[0][0] - weight * ends[1][0])
            accuracy_lost.append((1 - weight) * ends[0][1] + weight * ends[1][1] - accuracy)
        assert row.barrier_loss == pytest.approx(max(loss_excess), rel=1e-9, abs=1e-12)
        assert row.barrier_accuracy == pytest.approx(max(accuracy_lost), rel=1e-9, abs=1e-12)
        assert row.barrier_loss > 0.1  # of models that were not permuted


def test_a_model_has_no_barrier_with_its_permuted_copy_once_that_is_permuted_back():
    models, data = trained_mlps(), few_digits()
    spec = spec_of(models)
    stack, planted = permuted_copies(models[0], spec, 3)
    copies = like(models, stack)
    restored = aligned_models(copies, spec, Alignment(invert(spec, planted)))
    assert pairwise_barriers(interpolation_curves(restored, data, points=5))["barrier_loss"].max() < 1e-6
    assert pairwise_barriers(interpolation_curves(restored, data, points=5))["barrier_accuracy"].max() < 1e-12
    assert pairwise_barriers(interpolation_curves(copies, data, points=5))["barrier_loss"].min() > 0.1
