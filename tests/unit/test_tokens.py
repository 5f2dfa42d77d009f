"""Text as tokens: its windows, and all the way from training to merged models."""

import pytest
import torch

from onebasin.data import load_data, make_data, save_data
from onebasin.data.tokens import text
from onebasin.errors import OnebasinError
from onebasin.matching.search import run_search
from onebasin.matching.ste_mm import ste_mm
from onebasin.matching.weight import weight_matching
from onebasin.measures.merged import evaluate_merged
from onebasin.measures.pairwise import interpolation_curves
from onebasin.merging.average import aligned_models, merge
from onebasin.models.checkpoints import load_models, save_model
from onebasin.seeding import generator
from onebasin.symmetry.check import check
from onebasin.symmetry.tracing.trace import trace
from onebasin.training.run import train

NETWORK = {"name": "networks_for_tests:next_token", "width": 12}
ADAM = {"optimizer": "adam", "lr": 0.02, "weight_decay": 0.0, "batch": 16, "epochs": 3}


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("the cat sat on the mat, and the rat sat on the cat. " * 40)
    return path


def test_a_target_is_the_token_behind_its_own(book):
    data = text(str(book), context=8)
    assert data.train.inputs.shape == data.train.targets.shape
    assert data.train.inputs.dtype == data.train.targets.dtype == torch.int64
    assert torch.equal(data.train.inputs[:, 1:], data.train.targets[:, :-1])
    assert data.classes == len(set(book.read_text()))
    assert int(data.train.inputs.max()) < data.classes


def test_no_window_of_training_reaches_into_the_test_text(book):
    characters = book.read_text()
    data = text(str(book), context=8, test_fraction=0.25, stride=1)
    border = len(characters) - len(characters) // 4
    assert len(data.train) == border - 8
    assert len(data.test) == len(characters) - border - 8
    alphabet = sorted(set(characters))
    assert "".join(alphabet[token] for token in data.test.inputs[0]) == characters[border : border + 8]


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"path": "none.txt"}, "cannot be read"), ({"context": 5000}, "too few for a training window"), ({}, "UTF-8")],
)
def test_what_is_no_text_or_too_short_is_refused(book, settings, says):
    if not settings:
        book.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OnebasinError, match=says) as caught:
        text(**({"path": str(book)} | settings))
    assert len(str(caught.value).splitlines()) == 1


def test_tokens_are_stored_and_held_out_like_other_data(book, tmp_path):
    data = make_data({"name": "text", "path": str(book), "context": 8, "validation_fraction": 0.25})
    save_data(tmp_path / "data.safetensors", data)
    again = load_data(tmp_path / "data.safetensors")
    for name, split in data.splits.items():
        assert torch.equal(again.split(name).inputs, split.inputs)
        assert torch.equal(again.split(name).targets, split.targets)
    assert again.input_type == torch.int64


def test_models_of_text_are_trained_stored_matched_and_merged(book, tmp_path):
    data = text(str(book), context=8)
    models, history = train(NETWORK, data, ADAM, [0, 1, 2], 0)
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert history["train_accuracy"].between(0, 1).all()
    paths = [tmp_path / f"seed-{seed}.safetensors" for seed in models.seeds]
    for number, path in enumerate(paths):
        save_model(path, models, number, data.classes, {"network": NETWORK})
    loaded = load_models(paths, NETWORK)
    assert loaded.example_input.dtype == torch.int64
    spec = trace(loaded.network, data.example())
    assert check(loaded.network, spec, data.example(), generator("check")) < 1e-9
    settings = {"epochs": 1, "batch": 32, "lr": 0.01, "weights": "random", "first_sweep": "signal", "warm_start": True}
    for method, search, own in [
        ("weight_matching", weight_matching, {"max_rounds": 10, "first_sweep": "signal"}),
        ("ste_mm", ste_mm, settings),
    ]:
        found = run_search(search, method, loaded, spec, data, own, 0, 0)
        permuted = aligned_models(loaded, spec, found)
        table = evaluate_merged(loaded, merge(loaded, spec, found), data)
        assert table["accuracy"].between(0, 1).all()
        curves = interpolation_curves(permuted, data, 3)
        ends = curves[(curves["split"] == "test") & (curves["weight_b"] == 0)]
        assert ends["loss"].mean() == pytest.approx(table["parents_loss"].iloc[1], rel=0.5)
