import copy
import hashlib
import os
import pickle
import warnings
import zipfile
from collections import OrderedDict

import pytest
import safetensors.torch
import torch
from torch import nn

from onebasin import seeding
from onebasin.errors import OnebasinError
from onebasin.models.checkpoints import fitted, load_models, origin, read_model_file, save_model
from onebasin.models.stack import Models
from onebasin.parameters import stacked
from onebasin.storage import artifacts


@pytest.fixture
def network():
    with seeding.global_rng("checkpoints"):
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()


@pytest.fixture
def tensors(network):
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def read(path):
    return read_model_file(path).tensors


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def refusal(path):
    with pytest.raises(OnebasinError) as caught:
        read(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert len(line.splitlines()) == 1
    return line


# Formats


def as_artifact(path, tensors):
    artifacts.save(path, "model", tensors, seed=0)


def as_safetensors(path, tensors):
    safetensors.torch.save_file(tensors, path)


def as_zip(path, tensors):
    torch.save(OrderedDict(tensors), path)


def as_legacy(path, tensors):
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


FORMATS = [as_artifact, as_safetensors, as_zip, as_legacy]


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "model"])
def test_a_file_is_told_by_its_content_whatever_its_name(tmp_path, tensors, write, name):
    write(tmp_path / name, tensors)
    assert same(read(tmp_path / name), tensors)


def test_parameters_are_read_as_tensors_without_gradients(tmp_path, network):
    torch.save(dict(network.named_parameters()), tmp_path / "model.pt")
    assert not any(tensor.requires_grad for tensor in read(tmp_path / "model.pt").values())


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_a_state_dict_is_found_beside_an_optimisers(tmp_path, network, tensors, wrapper):
    optimizer = torch.optim.Adam(network.parameters())
    torch.save({"epoch": 3, wrapper: tensors, "optimizer": optimizer.state_dict()}, tmp_path / "model.pt")
    assert same(read(tmp_path / "model.pt"), tensors)


def test_a_state_dict_is_found_in_several_wrappers(tmp_path, tensors):
    torch.save({"model": {"state_dict": tensors}}, tmp_path / "model.pt")
    assert same(read(tmp_path / "model.pt"), tensors)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_what_parallel_and_compiled_networks_put_before_every_name_is_taken_off(tmp_path, tensors, prefix):
    torch.save({prefix + name: tensor for name, tensor in tensors.items()}, tmp_path / "model.pt")
    assert same(read(tmp_path / "model.pt"), tensors)


def test_a_prefix_of_some_names_is_part_of_them(tmp_path, tensors):
    mixed = {("module." if number else "") + name: tensor for number, (name, tensor) in enumerate(tensors.items())}
    torch.save(mixed, tmp_path / "model.pt")
    assert read(tmp_path / "model.pt").keys() == mixed.keys()


# Files that are refused


class Malicious:
    """Unpickled by `pickle.load`, it makes a folder."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


def as_plain_pickle(path, content):
    path.write_bytes(pickle.dumps(content, protocol=2))


def as_modern_pickle(path, content):
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("write", [as_zip, as_legacy, as_plain_pickle, as_modern_pickle])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_pickle_that_wants_to_run_a_program_runs_nothing(tmp_path, monkeypatch, tensors, write, wrapped):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # even where the user turned torch's guard off
    victim, path = tmp_path / "victim", tmp_path / "model.pt"
    content = {"state_dict": tensors, "hyper": Malicious(victim)} if wrapped else {"hyper": Malicious(victim)}
    write(path, content)
    line = refusal(path)
    assert write in (as_plain_pickle, as_modern_pickle) or "would run code (posix.mkdir)" in line
    assert "state" in line
    assert not victim.exists()
    if write in (as_zip, as_legacy):
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert victim.exists(), "nothing was refused that would have run"


def test_a_whole_network_is_refused_with_the_way_out(tmp_path, network):
    torch.save(network, tmp_path / "model.pt")
    line = refusal(tmp_path / "model.pt")
    assert "torch.nn.modules.container.Sequential" in line
    assert "save only the network's state_dict()" in line


def test_a_scripted_network_is_refused(tmp_path, network):
    with warnings.catch_warnings(action="ignore"):
        torch.jit.trace(network, torch.zeros(2, 3)).save(tmp_path / "model.pt")
    assert "TorchScript" in refusal(tmp_path / "model.pt")


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("kept", [0, 1, 9, 200, -40])
def test_a_truncated_file_is_refused(tmp_path, tensors, write, kept):
    path = tmp_path / "model"
    write(path, tensors)
    path.write_bytes(path.read_bytes()[:kept])
    refusal(path)


@pytest.mark.parametrize(
    "content", [b"\x00" * 100, b"PK\x03\x04" + b"\x00" * 100, b"{}", b"12345678{", bytes(range(256))]
)
def test_a_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "model").write_bytes(content)
    refusal(tmp_path / "model")


def test_an_empty_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("readme", "nothing")
    refusal(tmp_path / "model.pt")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert "No such file" in refusal(tmp_path / "nothing.pt")
    assert "directory" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([torch.zeros(2)], "a list"),
        (torch.zeros(2), "a Tensor"),
        ({}, "an empty dictionary"),
        ({"weight": torch.zeros(2), "epoch": 3}, "'epoch' is a int"),
        ({3: torch.zeros(2)}, "'3' is a"),
        ({"weight": torch.eye(2).to_sparse()}, "'weight' is a torch.sparse_coo tensor"),
        ({"network": {"weight": torch.zeros(2)}}, "'network' is a dict"),
    ],
)
def test_content_that_is_no_state_dict_is_named(tmp_path, content, named):
    torch.save(content, tmp_path / "model.pt")
    assert named in refusal(tmp_path / "model.pt")


def test_an_artifact_that_is_damaged_or_no_model_is_refused(tmp_path, tensors):
    as_artifact(tmp_path / "model", tensors)
    content = bytearray((tmp_path / "model").read_bytes())
    content[-1] ^= 1
    (tmp_path / "model").write_bytes(content)
    assert "checksum" in refusal(tmp_path / "model")
    artifacts.save(tmp_path / "found", "permutations", tensors)
    assert "holds 'permutations'" in refusal(tmp_path / "found")


# Fitting a network


def test_tensors_that_fit_are_taken_as_they_are(network, tensors):
    assert same(fitted(tensors, network, "model.pt"), tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_converted_exactly_and_said(network, tensors, dtype, caplog):
    half = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    with caplog.at_level("INFO", logger="onebasin.models.checkpoints"):
        found = fitted(half, network, "model.pt")
    assert {name: tensor.dtype for name, tensor in found.items()} == {n: t.dtype for n, t in tensors.items()}
    assert all(torch.equal(found[name].to(dtype), half[name]) for name in half if half[name].is_floating_point())
    assert f"model.pt: converted from {dtype} to torch.float32, which is exact" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tensors: tensors.pop("3.bias"), "has no tensor 3.bias"),
        (lambda tensors: tensors.update(scale=torch.ones(1)), "has a tensor scale"),
        (lambda tensors: tensors.update({"0.weight": torch.zeros(4, 5)}), "0.weight is (4, 5)"),
        (lambda tensors: tensors.update({"3.bias": torch.zeros(2).double()}), "3.bias is torch.float64"),
        (lambda tensors: tensors.update({"3.bias": torch.zeros(2, dtype=torch.int64)}), "3.bias is torch.int64"),
        (lambda tensors: tensors.update({"3.bias": torch.tensor([0, torch.nan]).half()}), "3.bias holds NaN"),
    ],
)
def test_tensors_that_are_not_the_networks_are_refused(network, tensors, spoil, message):
    spoil(tensors)
    with pytest.raises(OnebasinError) as caught:
        fitted(tensors, network, "model.pt")
    assert str(caught.value).startswith(f"model.pt: {message}")


def test_fitting_changes_neither_tensors_nor_network(network, tensors):
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    before, own = dict(half), copy.deepcopy(network.state_dict())
    fitted(half, network, "model.pt")
    assert all(half[name] is before[name] for name in before)
    assert same(dict(network.state_dict()), dict(own))


def test_the_origin_of_a_checkpoint_is_its_path_and_its_files_checksum(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"anything")
    assert origin(tmp_path / "model.pt") == {
        "source": str(tmp_path / "model.pt"),
        "sha256": hashlib.sha256(b"anything").hexdigest(),
    }


# What a checkpoint says of the inputs

MLP = {"name": "mlp", "width": 2, "depth": 1}


def mlp_for(kind):
    tensors = {name: torch.zeros(shape) for name, shape in (("1.weight", (2, 3)), ("1.bias", (2,)))}
    tensors |= {name: torch.zeros(shape) for name, shape in (("3.weight", (4, 2)), ("3.bias", (4,)))}
    return Models(nn.Identity(), stacked([tensors]), (0,), (3,), kind)


def test_a_checkpoint_of_a_network_for_numbers_says_nothing_of_the_type_of_its_inputs(tmp_path):
    save_model(tmp_path / "seed-0.safetensors", mlp_for(torch.float32), 0, 4, {})
    facts = artifacts.load(tmp_path / "seed-0.safetensors", "model").facts
    assert sorted(facts) == ["classes", "input_shape", "recipe", "seed"]
    assert load_models([tmp_path / "seed-0.safetensors"], MLP).input_type == torch.float32


def test_a_checkpoint_of_a_network_for_tokens_says_so(tmp_path):
    save_model(tmp_path / "seed-0.safetensors", mlp_for(torch.int64), 0, 4, {})
    assert artifacts.load(tmp_path / "seed-0.safetensors", "model").facts["input_type"] == "int64"
    assert load_models([tmp_path / "seed-0.safetensors"], MLP).input_type == torch.int64


@pytest.mark.parametrize("kind", ["load", "no such", 3, None])
def test_a_type_of_inputs_that_is_none_is_refused(tmp_path, kind):
    path = tmp_path / "seed-0.safetensors"
    facts = {"seed": 0, "input_shape": [3], "classes": 4, "recipe": {}, "input_type": kind}
    artifacts.save(path, "model", mlp_for(torch.float32)[0], **facts)
    with pytest.raises(OnebasinError, match="is no type of tensors") as caught:
        load_models([path], MLP)
    assert len(str(caught.value).splitlines()) == 1
