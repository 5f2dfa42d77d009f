"""Transformers in canonical form, and mixtures of experts, from training to tables."""

import pandas as pd
import pytest
import yaml

import onebasin

pytestmark = pytest.mark.exhaustive
VIT = {"name": "vit", "patch": 4, "width": 16, "heads": 2, "hidden": 24, "form": "canonical"}
GPT = {"name": "gpt", "width": 16, "heads": 2, "form": "canonical"}
SENTENCES = {"name": "sentences", "train": 100, "test": 50, "context": 12}
EXPERIMENTS = {
    "vit": {
        "network": VIT,
        "methods": {"weight_matching": {}, "learned": {"epochs": 1}, "permutation_matching": {}},
        "measures": {"evaluation": {}, "geometry": {}, "llfc": {}, "robustness": {}, "monotonic": {"points": 3}},
        "claims": ["config/claims/transformers.yaml"],
    },
    "gpt": {
        "data": SENTENCES,
        "network": GPT,
        "methods": {"naive": {}, "ste_mm": {"epochs": 1}},
        "measures": {"evaluation": {}, "perplexity": {}},
        "claims": [],
    },
    "experts": {
        "network": {"name": "moe", "experts": 3, "width": 4},
        "vary": {"network.gating": ["dense", "top_2"]},
        "methods": {"naive": {}, "moe_matching": {}, "weight_matching": {}},
        "measures": {"evaluation": {}, "expert_order": {}},
        "claims": [],
    },
}


def test_they_go_through_the_whole_pipeline(fresh_tiny):
    clone = fresh_tiny
    config = yaml.safe_load((clone.folder / "tiny.yaml").read_text())
    tiny = config["experiments"].pop("tiny")
    config["experiments"] = {name: {**tiny, **own} for name, own in EXPERIMENTS.items()}
    (clone.folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    clone.make()
    results = clone.folder / "results"

    merged = pd.read_csv(results / "vit/tables/merged.csv")
    assert set(merged["method"]) == {"weight_matching", "learned", "permutation_matching"}
    model = onebasin.load_canonical(results / "vit/merged/learned/n2-t0.safetensors")
    data = onebasin.load_data(results / "vit/data.safetensors")
    right = (model(data.test.inputs).argmax(dim=1) == data.test.targets).double().mean().item()
    known = merged[(merged["method"] == "learned") & (merged["split"] == "test")]["accuracy"].item()
    assert right == pytest.approx(known, abs=1e-6)
    groups = yaml.safe_load((results / "vit/symmetries.json").read_text())["groups"]
    assert [group["kind"] for group in groups] == ["orthogonal", *["permutation"] * 4]

    found = pd.read_csv(results / "gpt/tables/perplexity.csv")
    assert (found["perplexity"] > found["floor"]).all()

    orders = pd.read_csv(results / "experts/tables/expert_order.csv")
    assert (orders["orders"] == 6).all()
    assert set(orders["gating"]) == {"dense", "top_2"}
    assert orders["output_change"].max() < 1e-10
    assert (results / "experts/figures/expert_order.png").is_file()
