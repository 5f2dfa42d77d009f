"""Text as data, from the file to a merged model that is measured."""

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.nn import functional as F

from onebasin import api
from onebasin.command import main
from onebasin.config.settings import data_settings, method_settings
from onebasin.data import load_data, make_data, save_data
from onebasin.data.tokens import text
from onebasin.errors import OnebasinError
from onebasin.matching.search import run_search
from onebasin.measures.merged import evaluate_merged
from onebasin.measures.sharpness.measure import Sharpness
from onebasin.merging.average import merge
from onebasin.merging.recalibration import Recalibration
from onebasin.models.checkpoints import load_models, save_model
from onebasin.networks.build import new_network
from onebasin.networks.examples import example_for
from onebasin.registry import resolve
from onebasin.seeding import generator
from onebasin.storage import artifacts
from onebasin.symmetry.check import check
from onebasin.symmetry.trace import trace
from onebasin.training.run import train

RHYME = "how much wood would a woodchuck chuck if a woodchuck could chuck wood? "
TRAINING = {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.01, "batch": 16, "epochs": 4}
READER = '''
from torch import nn


class Reader(nn.Module):
    """Tells the next token from this one, at every position."""

    def __init__(self, classes, width):
        super().__init__()
        self.embedding = nn.Embedding(classes, width)
        self.hidden = nn.Linear(width, 2 * width)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, tokens):
        return self.head(self.hidden(self.embedding(tokens)).relu()).transpose(1, 2)


def reader(classes, width=6):
    return Reader(classes, width)


def backwards(classes, width=6):
    return nn.Sequential(nn.Embedding(classes, width), nn.Linear(width, classes))
'''


@pytest.fixture
def rhyme(tmp_path):
    """A file with 5,000 characters of few kinds."""
    path = tmp_path / "rhyme.txt"
    path.write_text((RHYME * 100)[:5000])
    return path


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A network of one's own that reads tokens."""
    (tmp_path / "my_reader.py").write_text(READER)
    monkeypatch.syspath_prepend(str(tmp_path))
    return {"name": "my_reader:reader", "width": 6}


def test_a_target_is_the_next_token(rhyme):
    data = text(str(rhyme), context=9)
    vocabulary = sorted(set(RHYME))
    assert data.classes == len(vocabulary)
    for split in data.splits.values():
        assert split.inputs.dtype == split.targets.dtype == torch.int64
        assert split.inputs.shape == split.targets.shape == (len(split), 9)
        assert torch.equal(split.inputs[:, 1:], split.targets[:, :-1])
    first = "".join(vocabulary[token] for token in [*data.train.inputs[0], data.train.targets[0, -1]])
    assert first == RHYME[:10]


def test_no_token_is_in_both_splits_or_in_two_samples(tmp_path):
    (tmp_path / "different.txt").write_bytes(bytes(range(250)))
    data = text(str(tmp_path / "different.txt"), context=4, vocabulary="bytes", test_fraction=0.3)
    assert (data.classes, len(data.train), len(data.test)) == (256, 35, 15)
    samples = [torch.cat([split.inputs, split.targets[:, -1:]], 1) for split in data.splits.values()]
    assert torch.cat(samples).flatten().tolist() == list(range(250))


def test_the_first_samples_of_either_part_are_taken(rhyme):
    few, all_of_them = text(str(rhyme), context=9, train=20, test=5), text(str(rhyme), context=9)
    assert torch.equal(few.train.inputs, all_of_them.train.inputs[:20])
    assert torch.equal(few.test.inputs, all_of_them.test.inputs[:5])


def test_a_text_comes_back_from_its_file_under_names_that_are_not_of_images(rhyme, tmp_path):
    data = make_data({**data_settings("text", {"path": str(rhyme), "context": 9}), "validation_fraction": 0.2})
    save_data(tmp_path / "data.safetensors", data)
    assert "train_inputs" in artifacts.load(tmp_path / "data.safetensors", "data").tensors
    again = load_data(tmp_path / "data.safetensors")
    assert sorted(again.splits) == ["test", "train", "validation"]
    for name, split in data.splits.items():
        assert torch.equal(again.split(name).inputs, split.inputs)
        assert torch.equal(again.split(name).targets, split.targets)
    assert (again.input_type, again.input_shape, again.classes) == (torch.int64, (9,), data.classes)


@pytest.mark.parametrize(
    ("content", "settings", "says"),
    [
        (None, {}, "cannot be read"),
        (b"", {}, "too few for a training and a test split"),
        (b"short", {"context": 3}, "make 1 pieces of context + 1 = 4"),
        (b"\xff\xfe" * 200, {}, "is not UTF-8 (byte 0); write data.vocabulary: bytes"),
    ],
)
def test_a_file_that_is_no_such_text_is_one_line(tmp_path, content, settings, says):
    if content is not None:
        (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(OnebasinError) as caught:
        text(str(tmp_path / "text.txt"), **settings)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_example_of_tokens_is_some_of_them(rhyme):
    data = text(str(rhyme), context=9)
    assert torch.equal(data.example(3), data.train.inputs[:3])


@pytest.mark.parametrize("method", ["naive", "weight_matching", "activation_matching", "ste_mm"])
def test_models_of_tokens_are_trained_matched_merged_and_measured(rhyme, reader, tmp_path, method):
    data = text(str(rhyme), context=9, train=200)
    models, history = train(reader, data, TRAINING, [3, 5], root=0)
    assert history["train_loss"].iloc[-1] < 0.8 * history["train_loss"].iloc[0]
    assert history["train_accuracy"].between(0, 1).all()

    paths = [tmp_path / f"seed-{seed}.safetensors" for seed in models.seeds]
    for index, path in enumerate(paths):
        save_model(path, models, index, data.classes, {"network": reader})
    loaded = load_models(paths, reader)
    assert (loaded.input_type, loaded.example_input.dtype) == (torch.int64, torch.int64)
    assert all(torch.equal(tensor, models.parameters[name]) for name, tensor in loaded.parameters.items())

    network = new_network(reader, data.input_shape, data.classes, "symmetries")
    spec = trace(network, data.example())
    assert sorted(group.size for group in spec.groups) == [6, 12]
    assert check(network, spec, data.example(), generator("symmetries")) < 1e-9

    given = {"epochs": 1, "batch": 50} if method == "ste_mm" else {}
    settings = method_settings(method, given)
    found = run_search(resolve("method", method), method, loaded, spec, data, settings, seed=0, trial=0)
    merged = merge(loaded, spec, found, Recalibration(loaded.network, data.train, {"method": "recompute"}))
    table = evaluate_merged(loaded, merged, data).set_index("split")
    with torch.no_grad():
        logits = torch.func.functional_call(network, merged, (data.test.inputs,))
    assert logits.shape == (len(data.test), data.classes, 9)
    assert table.loc["test", "loss"] == pytest.approx(float(F.cross_entropy(logits, data.test.targets)), rel=1e-5)
    right = (logits.argmax(dim=1) == data.test.targets).double().mean()
    assert table.loc["test", "accuracy"] == pytest.approx(float(right))


def test_sharpness_of_models_of_tokens_is_estimated(rhyme, reader):
    data = text(str(rhyme), context=9, train=40)
    models, _ = train(reader, data, {**TRAINING, "epochs": 1}, [0], root=0)
    traces, eigenvalue, _ = Sharpness(models.network, data.test, probes=3).at(models[0], "key")
    assert traces["probes"].tolist() == [3, 3]
    assert eigenvalue["value"].notna().all()


def test_the_functions_for_ones_own_networks_take_tokens_if_told(rhyme, reader):
    data = text(str(rhyme), context=9, train=40)
    networks = [new_network(reader, data.input_shape, data.classes, seed) for seed in (0, 1)]
    stack = api.stack_models(networks, data.input_shape, torch.int64)
    spec = api.symmetries(stack)
    assert api.count_classes(stack) == data.classes
    assert len(api.evaluate(stack, api.merge(stack, spec, api.match(stack, spec)), data)) == 2
    assert api.stack_models(networks, data.input_shape).input_type == torch.int64  # found out
    with pytest.raises(OnebasinError, match="input_type"):
        api.check_data(api.stack_models(networks, data.input_shape, torch.float32), data)


def test_logits_with_their_axes_in_another_order_are_one_line(rhyme, reader):
    data = text(str(rhyme), context=9, train=40)
    with pytest.raises(OnebasinError, match=r"gives logits .* \[n, classes, positions\]") as caught:
        train({"name": "my_reader:backwards"}, data, {**TRAINING, "epochs": 1}, [0], root=0)
    assert len(str(caught.value).splitlines()) == 1


def test_tokens_are_not_augmented(rhyme, reader):
    data = text(str(rhyme), context=9, train=40)
    with pytest.raises(OnebasinError, match=r"augmentation: moves images .* these inputs are 9; leave it out"):
        train(reader, data, {**TRAINING, "augmentation": {"crop": 1}}, [0], root=0)


def test_a_text_can_be_held_out_by_sample(rhyme):
    data = text(str(rhyme), context=9)
    held = make_data({"name": "text", "path": str(rhyme), "context": 9, "validation_fraction": 0.25})
    assert len(held.train) + len(held.validation) == len(data.train)
    everyone = torch.cat([held.train.inputs, held.validation.inputs])
    assert sorted(everyone.tolist()) == sorted(data.train.inputs.tolist())


def test_the_command_takes_tokens_if_told_or_if_the_data_are_tokens(rhyme, reader, tmp_path):
    for shape in ("int64:9", "9"):  # said, and found out
        done = CliRunner().invoke(main, ["check", "my_reader:reader", "--input", shape, "--classes", "18"])
        assert "2 groups, " in done.stdout, done.output

    data = f"text:path={rhyme},context=9,train=40"
    classes = text(str(rhyme), context=9).classes
    paths = [tmp_path / f"{number}.pt" for number in (0, 1)]
    for path in paths:
        torch.save(new_network(reader, (9,), classes, path.name).state_dict(), path)
    merge_them = [
        "merge",
        *map(str, paths),
        "--network",
        "my_reader:reader",
        "-o",
        str(tmp_path / "merged.safetensors"),
    ]
    done = CliRunner().invoke(main, [*merge_them, "--data", data])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(main, [*merge_them, "--input", "int64:9", "--classes", str(classes)])
    assert done.exit_code == 0, done.output


def test_without_data_an_example_has_as_many_tokens_as_an_embedding_knows(reader):
    network = new_network(reader, (9,), 4, "example")
    assert example_for(network, (9,), torch.int64, "cpu").unique().tolist() == [0, 1, 2, 3]
    assert not example_for(nn.Linear(9, 2), (9,), torch.int64, "cpu").any()
    assert not example_for(network, (9,), torch.float32, "cpu").any()
