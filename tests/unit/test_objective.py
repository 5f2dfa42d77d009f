"""What networks are judged by: cross-entropy over positions, squared errors, and functions of one's own."""

import math
import sys

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.nn import functional as F

import onebasin
from onebasin.command import main
from onebasin.data import Data, Split, hold_out, load_data, save_data
from onebasin.errors import OnebasinError
from onebasin.models import running
from onebasin.models.objective import cross_entropy, mean_squared_error, objective_named


def segmenter():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 5, 1))


def regressor():
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0))


class Twofold(nn.Module):
    """Gives a dictionary."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, x):
        return {"out": self.body(x), "aux": self.body(x).mean(1)}


def two(build):
    networks = []
    for seed in range(2):
        torch.manual_seed(seed)
        networks.append(build())
    return onebasin.stack_models(networks, (3, 4, 4))


def data(targets, count=12, **facts):
    draws = torch.Generator().manual_seed(5)
    splits = [Split(torch.randn(count, 3, 4, 4, generator=draws), targets(count, draws)) for _ in range(2)]
    return Data(*splits, **facts)


def classes(*places):
    return lambda count, draws: torch.randint(4, (count, *places), generator=draws)


def numbers(*places):
    return lambda count, draws: torch.randn(count, *places, generator=draws)


@pytest.mark.parametrize("build", [segmenter, regressor, Twofold])
def test_what_asks_for_no_logits_works_for_outputs_that_are_none(build):
    models, samples = two(build), data(classes(), classes=4)
    spec = onebasin.symmetries(models)
    for method in ("weight_matching", "activation_matching"):
        found = onebasin.match(models, spec, method, samples)
        onebasin.merge(models, spec, found, samples)
    with pytest.raises(OnebasinError, match="the network gives"):
        onebasin.evaluate(models, onebasin.merge(models, spec, found, samples), samples)


def test_a_cross_entropy_is_over_all_positions():
    models, samples = two(segmenter), data(classes(4, 4), classes=4)
    spec = onebasin.symmetries(models)
    merged = onebasin.merge(models, spec, onebasin.match(models, spec), samples)
    found = onebasin.evaluate(models, merged, samples).set_index("split").loc["test"]
    logits = torch.func.functional_call(models.network, merged, (samples.test.inputs,))
    assert found["loss"] == pytest.approx(float(F.cross_entropy(logits, samples.test.targets)), rel=1e-5)
    assert found["accuracy"] == pytest.approx(float((logits.argmax(1) == samples.test.targets).float().mean()))
    assert found["ensemble_loss"] < found["parents_loss"]


def test_squared_errors_have_no_accuracy_and_an_ensemble_of_means():
    models, samples = two(regressor), data(numbers()).judged_by("mean_squared_error")
    spec = onebasin.symmetries(models)
    merged = onebasin.merge(models, spec, onebasin.match(models, spec))
    found = onebasin.evaluate(models, merged, samples).set_index("split").loc["test"]
    outputs = [torch.func.functional_call(models.network, own, (samples.test.inputs,)) for own in (merged, *models)]
    errors = [float(F.mse_loss(output, samples.test.targets)) for output in outputs]
    assert found["loss"] == pytest.approx(errors[0], rel=1e-5)
    assert found["parents_loss"] == pytest.approx(sum(errors[1:]) / 2, rel=1e-5)
    together = float(F.mse_loss(torch.stack(outputs[1:]).mean(0), samples.test.targets))
    assert found["ensemble_loss"] == pytest.approx(together, rel=1e-5)
    assert math.isnan(found["accuracy"])
    assert math.isnan(found["barrier_accuracy"])
    curves, barriers = onebasin.barrier(models, samples)
    assert curves["loss"].notna().all()
    assert barriers["barrier_loss"].notna().all()


def test_a_search_with_gradients_takes_the_gradients_of_the_objective():
    models, samples = two(regressor), data(numbers()).judged_by("mean_squared_error")
    spec = onebasin.symmetries(models)
    found = onebasin.match(models, spec, "ste", samples, epochs=2, batch=4)
    assert set(found.elements) == {group.name for group in spec.groups}


def test_a_function_of_ones_own_judges_any_outputs():
    models, samples = two(Twofold), data(classes(), classes=4)
    spec = onebasin.symmetries(models)
    merged = onebasin.merge(models, spec, onebasin.match(models, spec))

    def own(outputs, targets):
        return F.cross_entropy(outputs["out"], targets), (outputs["out"].argmax(1) == targets).float().mean()

    found = onebasin.evaluate(models, merged, samples, own).set_index("split").loc["test"]
    outputs = torch.func.functional_call(models.network, merged, (samples.test.inputs,))["out"]
    assert found["loss"] == pytest.approx(float(F.cross_entropy(outputs, samples.test.targets)), rel=1e-5)
    assert 0 <= found["accuracy"] <= 1
    assert math.isnan(found["ensemble_loss"])
    alone = onebasin.evaluate(models, merged, samples, lambda outputs, targets: own(outputs, targets)[0])
    assert alone["accuracy"].isna().all()


@pytest.mark.parametrize(
    ("own", "line"),
    [
        (lambda outputs, targets: outputs["other"], "objective <lambda>: KeyError: 'other'"),
        (lambda outputs, targets: outputs["aux"], r"objective <lambda>: gave \[2\]; return the mean loss"),
        (lambda outputs, targets: 3.0, "objective <lambda>: gave float; return the mean loss"),
        ("no_such", "no objective called 'no_such'; .*cross_entropy, mean_squared_error"),
    ],
)
def test_objectives_that_are_none_are_refused(own, line):
    models, samples = two(Twofold), data(classes(), classes=4)
    with pytest.raises(OnebasinError, match=line):
        onebasin.evaluate(models, models[0], samples, own)


def test_targets_have_to_be_the_objectives():
    models = two(regressor)
    with pytest.raises(OnebasinError, match=r"the train targets are torch.float32; they have to be class numbers"):
        onebasin.evaluate(models, models[0], data(numbers(), classes=4))
    with pytest.raises(OnebasinError, match=r"outputs \(2,\) for targets \(2, 3\)"):
        onebasin.evaluate(models, models[0], data(numbers(3)), "mean_squared_error")
    spoilt = data(numbers())
    spoilt.test.targets[3] = math.nan
    with pytest.raises(OnebasinError, match="1 test targets hold NaN or infinity, the first of them number 3"):
        onebasin.evaluate(models, models[0], spoilt, "mean_squared_error")


def test_objectives_are_what_they_say():
    assert objective_named("cross_entropy") is cross_entropy
    assert objective_named("mean_squared_error") is mean_squared_error
    outputs, targets = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    assert float(mean_squared_error(outputs, targets)) == (1 + 4 + 9 + 9) / 4
    assert mean_squared_error.score(outputs, targets)[0] == (1 + 4 + 9 + 9) / 4


def test_a_file_keeps_the_objective(tmp_path):
    samples = data(numbers()).judged_by("mean_squared_error")
    save_data(tmp_path / "data.safetensors", samples)
    assert load_data(tmp_path / "data.safetensors").objective == "mean_squared_error"


def test_splits_with_different_objectives_are_refused():
    one, other = data(classes(), classes=4), data(classes(), classes=4).judged_by("mean_squared_error")
    assert "different objectives" in Data(one.train, other.test, 4).fault


class Bare:
    """Holds logits, and is nothing that torch knows to look into."""

    def __init__(self, logits):
        self.logits = logits


class Holding(nn.Module):
    """Gives its logits in something of its own, or a number beside them."""

    def __init__(self, wrap):
        super().__init__()
        self.body, self.wrap = nn.Sequential(nn.Flatten(), nn.Linear(48, 4)), wrap

    def forward(self, x):
        return self.wrap(self.body(x))


@pytest.mark.parametrize("wrap", [Bare, lambda logits: {"logits": logits, "loss": logits.mean()}])
def test_outputs_that_cannot_be_put_together_are_refused(wrap, monkeypatch):
    monkeypatch.setattr(running, "VALUES", 48 * 5)  # five samples a batch
    models = two(lambda: Holding(wrap))

    def own(outputs, targets):
        return F.cross_entropy(outputs.logits if isinstance(outputs, Bare) else outputs["logits"], targets)

    with pytest.raises(OnebasinError, match="cannot be put together for many batches"):
        onebasin.evaluate(models, models[0], data(classes(), classes=4), own)


def test_whole_numbers_may_be_targets_of_squared_errors():
    counts = data(classes(), count=30).judged_by("mean_squared_error")
    assert len(hold_out(counts, 0.2, 0).validation) == 6


def test_a_function_is_called_once_a_step_and_kept_in_no_file(tmp_path):
    calls = []

    def own(outputs, targets):
        calls.append(1)
        return F.cross_entropy(outputs, targets), (outputs.argmax(1) == targets).float().mean()

    objective = objective_named(own)
    loss, right = objective.judged(torch.randn(6, 4, requires_grad=True), torch.arange(6) % 4)
    assert len(calls) == 1
    assert loss.requires_grad
    assert not right.requires_grad
    with pytest.raises(OnebasinError, match="a file keeps no function"):
        save_data(tmp_path / "data.safetensors", data(classes(), classes=4).judged_by(own))


def test_the_command_judges_as_it_is_told(tmp_path, monkeypatch):
    (tmp_path / "my_task.py").write_text(
        "import torch\nfrom torch import nn\nfrom onebasin.data import Data, Split\n"
        "def regressor():\n    return nn.Sequential(nn.Flatten(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 1))\n"
        "def curve():\n    x = torch.linspace(-1, 1, 90).view(10, 1, 3, 3)\n"
        "    return Data(Split(x, x.mean((2, 3))), Split(x, x.mean((2, 3))))\n"
        "def worst(outputs, targets):\n    return (outputs - targets).abs().max()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_task

    paths = [tmp_path / f"{number}.pt" for number in (0, 1)]
    for path in paths:
        torch.manual_seed(len(path.name))
        torch.save(my_task.regressor().state_dict(), path)
    merge = ["merge", *map(str, paths), "--network", "my_task:regressor", "--data", "my_task:curve"]
    merge += ["-o", str(tmp_path / "merged.safetensors"), "--objective"]
    told = CliRunner().invoke(main, [*merge, "mean_squared_error"])
    assert told.exit_code == 0, told.output
    assert "test loss" in told.stdout
    assert "nats" not in told.stdout
    assert "accuracy" not in told.stdout
    own = CliRunner().invoke(main, [*merge, "my_task:worst"])
    assert own.exit_code == 0, own.output
    assert "ensemble" not in own.stdout
    unjudged = CliRunner().invoke(main, [*merge, "none"])
    assert "not evaluated, as there is no objective" in unjudged.stdout, unjudged.output
    lines = ["barrier", *merge[1:-3], "-o", str(tmp_path / "lines"), "--objective", "none"]
    assert "without an objective there is no loss to measure" in CliRunner().invoke(main, lines).stderr
    wrong = CliRunner().invoke(main, merge[:-1])
    assert "they have to be class numbers" in wrong.stderr
    assert wrong.exit_code == 1
    del sys.modules["my_task"]
