"""A regression of one's own, of two inputs by name, goes through the real Snakefile: trained, merged, drawn."""

import pandas as pd
import pytest
import yaml
from safetensors import safe_open

SOURCE = """\
import torch
from torch import nn

from onebasin.data import Data, Split


def products():
    draws = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 240, 4, generator=draws)
    splits = [
        Split({"left": left[part], "right": right[part]}, (left * right)[part])
        for part in (slice(160), slice(160, None))
    ]
    return Data(*splits)


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))

    def forward(self, left, right):
        return self.body(torch.cat([left, right], 1))
"""
OWN = {
    "data": {"name": "task:products", "objective": "mean_squared_error"},
    "network": {"name": "task:Product"},
    "training": {"optimizer": "adam", "lr": 0.01, "batch": 40, "epochs": 3},
    "seeds": ["0-1"],
    "counts": [2],
    "trials": 1,
    "methods": {"naive": {}, "weight_matching": {}, "ste_mm": {"epochs": 1, "batch": 40}},
    "measures": {"evaluation": {}},
}
pytestmark = pytest.mark.exhaustive


def test_a_regression_of_several_inputs_is_reproduced_from_nothing(new_clone):
    clone = new_clone("objective")
    (clone.folder / "task.py").write_text(SOURCE)
    (clone.folder / "small.yaml").write_text(yaml.safe_dump({"claims": [], "experiments": {"own": OWN}}))
    clone.make()
    own = clone.folder / "results/own"
    merged = pd.read_csv(own / "tables/merged.csv")
    assert merged["loss"].notna().all()
    assert merged["accuracy"].isna().all()
    assert "accuracy" not in (own / "tables/merged.md").read_text()
    assert (own / "figures/merged.png").is_file()
    with safe_open(own / "data.safetensors", "pt") as file:
        assert {"train_inputs.left", "train_inputs.right"} <= set(file.keys())
