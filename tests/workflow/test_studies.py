"""A study: experiments that differ in a setting, their tables together, a figure and a claim over them."""

import pandas as pd
import pytest
import yaml

pytestmark = pytest.mark.exhaustive

PROGRAM = """
import seaborn

from onebasin.claims.effects import Effect, where


def against_width(tables):
    return seaborn.relplot(tables["merged"], x="width", y="loss", hue="method").figure


def loss_of_merged(tables, condition, method, count):
    return where(tables["merged"], method=method, count=count, split="test").set_index("trial")["loss"]


LOSS = Effect(("merged",), (), loss_of_merged, lambda *_: "merged loss")
"""
ENTRIES = """
[figure.against_width]
function = "study:against_width"
tables = ["merged"]
of = "studies"
title = "Loss against width"
words = "The merged model's loss against the width of the networks."

[effect.merged_loss]
function = "study:LOSS"
"""
CLAIM = {
    **{"paper": "own", "claim": "S1", "statement": "Wider networks merge better", "effect": "merged_loss"},
    **{"methods": ["ste_mm"], "side": "below", "threshold": 0, "where": {"width": 16}, "versus": {"width": 8}},
}


@pytest.fixture
def study(fresh_tiny):
    clone = fresh_tiny
    (clone.folder / "study.py").write_text(PROGRAM)
    (clone.folder / "study.toml").write_text(ENTRIES)
    (clone.folder / "own.yaml").write_text(yaml.safe_dump({"confidence": 0.95, "tolerance": 0.15, "claims": [CLAIM]}))
    config = yaml.safe_load((clone.folder / "tiny.yaml").read_text())
    config["experiments"]["tiny"] |= {"vary": {"network.width": [8, 16]}, "measures": {"evaluation": {}}}
    config["experiments"]["tiny"] |= {"trials": 2, "seeds": ["0-3"]}
    config |= {"registry": ["study.toml"], "claims": ["config/claims/ste_mm.yaml", "own.yaml"]}
    (clone.folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    return clone


def test_a_study_has_its_experiments_and_what_is_said_of_them_together(study):
    study.make()
    results = study.folder / "results"
    merged = pd.read_csv(results / "tiny/tables/merged.csv")
    assert list(merged.columns[:3]) == ["experiment", "width", "method"]
    assert merged.groupby("experiment")["width"].unique().map(list).to_dict() == {
        "tiny_width_8": [8],
        "tiny_width_16": [16],
    }
    own = pd.read_csv(results / "tiny_width_8/tables/merged.csv")
    assert merged[merged["width"] == 8].drop(columns="width").reset_index(drop=True).equals(own)
    assert "| width" in (results / "tiny/tables/merged.md").read_text().replace("count |   width", "| width")
    assert (results / "tiny/figures/against_width.png").is_file()
    assert not (results / "tiny_width_8/figures/against_width.png").exists()
    assert not (results / "tiny/figures/merged.png").exists()
    claims = pd.read_csv(results / "claims.csv")
    judged = claims[claims["claim"] == "S1"]
    assert judged["experiment"].tolist() == ["tiny"]
    losses = merged[(merged["split"] == "test") & (merged["method"] == "ste_mm")].groupby("width")["loss"].mean()
    assert judged["effect"].item() == pytest.approx(losses[16] - losses[8])
    assert set(claims[claims["claim"] == "C2"]["experiment"]) == {"tiny_width_8", "tiny_width_16"}
    assert "Nothing to be done" in study.run("--dry-run").stdout + study.run("--dry-run").stderr

    study.edit("tiny.yaml", "- 8\n", "- 8\n      - 12\n")
    planned = study.planned()
    assert planned["train_0_3"] == planned["measure_search[evaluation]"] / 2 == 1
    assert planned["tables"] == 2  # of the new experiment, and of the study
