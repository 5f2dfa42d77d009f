"""Networks of one's own that were trained elsewhere go through the real Snakefile."""

import pandas as pd
import pytest
import safetensors.torch
import torch
import yaml

from onebasin.networks.build import new_network
from onebasin.storage import artifacts

NETWORK = {"name": "elsewhere:deep", "width": 6}
SOURCE = """\
from torch import nn


def deep(input_shape, classes, width):
    pixels = input_shape[0] * input_shape[1] * input_shape[2]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(pixels, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, classes)
    )
"""
MODEL = "results/own/models/seed-{}.safetensors"
ENDS = ("results/claims.csv", "results/own/figures/merged.pdf")  # all that comes before is made for these
pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def given(new_clone):
    """A clone with a network, three checkpoints of it in three formats, and an experiment of two of them."""
    clone = new_clone("own")
    (clone.folder / "elsewhere.py").write_text(SOURCE)
    tensors = [network(clone, key).state_dict() for key in range(3)]
    torch.save({"epoch": 9, "state_dict": {f"module.{n}": t for n, t in tensors[0].items()}}, clone.folder / "a.pt")
    safetensors.torch.save_file(tensors[1], clone.folder / "b.safetensors")
    half = {name: t.half() if t.is_floating_point() else t for name, t in tensors[2].items()}
    torch.save(half, clone.folder / "c.pth")
    configure(clone)
    return clone


def network(clone, key):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(clone.folder)
        return new_network(NETWORK, (1, 8, 8), 10, "own", key)


def configure(clone, **changes):
    small = yaml.safe_load((clone.folder / "small.yaml").read_text())["experiments"].popitem()[1]
    for key in ("training", "seeds"):
        small.pop(key, None)
    small |= {"network": NETWORK, "models": {"checkpoints": ["a.pt", "b.safetensors"]}, "counts": [2], "trials": 1}
    small["methods"] = {"naive": {}, "weight_matching": {}}
    (clone.folder / "small.yaml").write_text(yaml.safe_dump({"experiments": {"own": small | changes}}))


@pytest.fixture(scope="module")
def made(given):
    given.make(*ENDS)
    return given


def test_checkpoints_become_models_that_say_where_they_are_from(made):
    for seed, (name, given) in enumerate([("a.pt", network(made, 0)), ("b.safetensors", network(made, 1))]):
        artifact = artifacts.load(made.folder / MODEL.format(seed), "model")
        assert artifact.facts["seed"] == seed
        assert artifact.facts["source"] == name
        assert len(artifact.facts["sha256"]) == 64
        assert all(torch.equal(artifact.tensors[n], t) for n, t in given.state_dict().items())


def test_the_rest_of_the_pipeline_does_not_notice(made):
    own = made.folder / "results/own"
    merged = pd.read_csv(own / "tables/merged.csv")
    assert set(merged["method"]) == {"naive", "weight_matching"}
    assert merged.notna().all(axis=None)
    assert set(pd.read_csv(own / "tables/sharpness.csv")["model"]) == {"merged", "0", "1"}
    assert all((made.folder / end).is_file() for end in ENDS)


def test_there_is_no_table_and_no_figure_of_trainings(made):
    wanted = made.planned()
    assert wanted == {"provenance": 1}
    assert (made.folder / "results/own/figures/pairwise.pdf").is_file()
    assert not (made.folder / "results/own/tables/history.csv").exists()
    assert not (made.folder / "results/own/figures/training.pdf").exists()
    assert [rule for rule in wanted if "history" in rule or "train" in rule] == []


def test_a_changed_checkpoint_is_adopted_again_and_nothing_else_is(made):
    content = (made.folder / "a.pt").read_bytes()
    try:
        torch.save(network(made, 5).state_dict(), made.folder / "a.pt")
        planned = made.planned(*ENDS)
        assert planned["adopt"] == 1
        assert planned["match[weight_matching]"] == 1
        assert "data" not in planned
    finally:
        (made.folder / "a.pt").write_bytes(content)
    assert made.planned(*ENDS) == {}


def test_a_checkpoint_more_is_adopted_alone(made):
    before = (made.folder / "small.yaml").read_text()
    try:
        configure(made, models={"checkpoints": ["a.pt", "b.safetensors", "c.pth"]})
        assert made.planned(*ENDS, MODEL.format(2)) == {"adopt": 1}
        made.make(MODEL.format(2))
    finally:
        (made.folder / "small.yaml").write_text(before)
    tensors = artifacts.load(made.folder / MODEL.format(2), "model").tensors
    assert {t.dtype for n, t in tensors.items() if "tracked" not in n} == {torch.float32}
    assert "float16" in (made.folder / "results/own/logs/adopt/2.log").read_text()


def test_models_that_were_adopted_need_their_sources_no_more(made):
    (made.folder / "b.safetensors").rename(made.folder / "away")
    try:
        assert made.planned(*ENDS) == {}
    finally:
        (made.folder / "away").rename(made.folder / "b.safetensors")


class Program:
    def __reduce__(self):
        return print, ("run",)


def missing(folder):
    (folder / "a.pt").unlink()


def with_a_program(folder):
    torch.save({"state_dict": {}, "note": Program()}, folder / "a.pt")


def of_another_network(folder):
    torch.save({"weight": torch.zeros(2)}, folder / "a.pt")


@pytest.mark.parametrize(
    ("damage", "why"),
    [(missing, "no such file"), (with_a_program, "would run code (print)"), (of_another_network, "another network")],
)
def test_a_checkpoint_that_will_not_do_is_refused_in_one_line(given, fresh, damage, why):
    for name in ("small.yaml", "elsewhere.py", "a.pt", "b.safetensors"):
        (fresh.folder / name).write_bytes((given.folder / name).read_bytes())
    damage(fresh.folder)
    done = fresh.run("--cores", "1", MODEL.format(0))
    lines = [line for line in done.stderr.splitlines() if line.startswith("onebasin: ")]
    assert done.returncode != 0
    assert len(lines) == 1
    assert "a.pt" in lines[0]
    assert why in lines[0]
    assert "Traceback" not in done.stderr
    assert not (fresh.folder / "results/own/models").exists()
