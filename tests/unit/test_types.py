"""Numbers of other types than float32: float64 and half precision go through, the others are read or refused."""

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import onebasin
from onebasin.command import main
from onebasin.data import Data, Split
from onebasin.errors import OnebasinError


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3))


def models(kind):
    networks = []
    for seed in range(2):
        torch.manual_seed(seed)
        networks.append(network().to(kind))
    return onebasin.stack_models(networks, (1, 4, 4))


@pytest.fixture
def data():
    draws = torch.Generator().manual_seed(3)
    splits = [
        Split(torch.randn(20, 1, 4, 4, generator=draws), torch.randint(3, (20,), generator=draws)) for _ in range(2)
    ]
    return Data(*splits, classes=3)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("method", ["weight_matching", "activation_matching", "c2m3", "ste", "ste_mm"])
def test_networks_of_other_types_go_through_everything(kind, method, data):
    given, plain = models(kind), models(torch.float32)
    spec = onebasin.symmetries(given)
    settings = {"epochs": 2, "batch": 10} if method.startswith("ste") else {}
    found = onebasin.match(given, spec, method, data, **settings)
    merged = onebasin.merge(given, spec, found, data)
    assert all(merged[name].dtype == tensor.dtype for name, tensor in given.parameters.items())
    told = onebasin.evaluate(given, merged, data).set_index("split").loc["test"]
    alike = onebasin.evaluate(plain, onebasin.merge(plain, spec, found, data), data).set_index("split").loc["test"]
    assert told["loss"] == pytest.approx(alike["loss"], rel=1e-6 if kind == torch.float64 else 0.05)
    onebasin.barrier(given, data)


def test_the_sharpness_of_a_network_in_float64_is_measured(data):
    from onebasin.measures.sharpness.measure import Sharpness

    given, plain = models(torch.float64), models(torch.float32)
    found, expected = (Sharpness(own.network, data.test, 3).at(own[0], "key")[0] for own in (given, plain))
    assert found["value"].tolist() == pytest.approx(expected["value"].tolist(), rel=1e-4)


def test_a_quantised_tensor_is_refused_and_told(tmp_path):
    state = network().state_dict()
    state["1.weight"] = torch.quantize_per_tensor(state["1.weight"], 0.1, 0, torch.qint8)
    torch.save(state, tmp_path / "q.pt")
    with pytest.raises(OnebasinError, match=r"q.pt: 1.weight is torch.qint8, expected torch.float32"):
        onebasin.load_models([tmp_path / "q.pt"], network(), (1, 4, 4))
    done = CliRunner().invoke(main, ["info", str(tmp_path / "q.pt")])
    assert "1.weight [12, 16] qint8" in done.stdout, done.output


def test_numbers_of_8_bits_are_told(tmp_path):
    state = {"a": torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn)}
    torch.save(state, tmp_path / "f.pt")
    done = CliRunner().invoke(main, ["info", str(tmp_path / "f.pt")])
    assert "a [2] float8_e4m3fn, holds NaN or infinity" in done.stdout, done.output


def test_files_in_float64_make_a_network_in_float64(tmp_path, data, caplog):
    for number in (0, 1):
        torch.manual_seed(number)
        torch.save(network().double().state_dict(), tmp_path / f"{number}.pt")
    read = onebasin.load_models([tmp_path / "0.pt", tmp_path / "1.pt"], network(), (1, 4, 4))
    assert read.parameters["1.weight"].dtype == torch.float64
    spec = onebasin.symmetries(read)
    merged = onebasin.merge(read, spec, onebasin.match(read, spec), data)
    assert onebasin.evaluate(read, merged, data)["loss"].notna().all()
