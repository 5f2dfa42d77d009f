"""State dicts that others wrote are read whole, and nothing in them is run."""

import json
import logging
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from networks_for_tests import random_mlps, same
from torch import nn

from onebasin.errors import OnebasinError
from onebasin.storage.state_dicts import read_state_dict

STATE = random_mlps(1)[0]


def refusal(path):
    with pytest.raises(OnebasinError) as caught:
        read_state_dict(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message


@pytest.fixture
def saved(tmp_path):
    """A function that saves something as a PyTorch file and returns its path."""

    def save(content, **how):
        torch.save(content, tmp_path / "model.pt", **how)
        return tmp_path / "model.pt"

    return save


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pytorch_file_is_read_as_it_was_saved(saved, zipped):
    assert same(read_state_dict(saved(STATE, _use_new_zipfile_serialization=zipped)), STATE)


@pytest.mark.parametrize("name", ["model.safetensors", "model.bin"])
def test_safetensors_are_read_whatever_the_file_is_called(tmp_path, name):
    safetensors.torch.save_file(dict(STATE), tmp_path / name)
    assert same(read_state_dict(tmp_path / name), STATE)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "params", "student"])
def test_a_usual_wrapper_is_taken_off_and_said(saved, key, caplog):
    with caplog.at_level(logging.INFO):
        assert same(read_state_dict(saved({"epoch": 3, key: STATE, "optimizer": {"state": {}}})), STATE)
    assert f"under '{key}'" in caplog.text


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_the_prefixes_of_parallel_and_compiled_networks_are_taken_off_and_said(saved, prefix, caplog):
    with caplog.at_level(logging.INFO):
        found = read_state_dict(saved({f"{prefix}{name}": tensor for name, tensor in STATE.items()}))
    assert same(found, STATE)
    assert "off all names" in caplog.text


def test_a_prefix_that_only_some_names_have_stays(saved):
    mixed = {"module.weight": torch.ones(2), "bias": torch.ones(2)}
    assert same(read_state_dict(saved(mixed)), mixed)


class Malicious:
    """Unpickling it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_with_its_name_and_not_run(saved, tmp_path, zipped):
    path = saved({"a": torch.ones(1), "b": Malicious(tmp_path / "ran")}, _use_new_zipfile_serialization=zipped)
    message = refusal(path)
    assert "would run code" in message
    assert "getattr" in message or "pathlib" in message.lower()
    assert not (tmp_path / "ran").exists()


def test_a_bare_pickle_that_would_run_code_is_refused_and_not_run(tmp_path):
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Malicious(tmp_path / "ran"), protocol=2))
    refusal(tmp_path / "model.pt")
    assert not (tmp_path / "ran").exists()


def test_a_whole_pickled_network_is_refused_with_what_to_save_instead(saved):
    message = refusal(saved(random_mlps(1).network))
    assert "would run code (torch.nn.modules" in message
    assert "state_dict()" in message


def test_the_state_of_an_optimiser_is_told_from_a_networks(saved):
    state = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.001, "params": [0]}]}
    assert "optimiser" in refusal(saved(state))


OTHERS = {
    "a tensor": (torch.ones(2), "holds a Tensor"),
    "a list": ([torch.ones(2)], "holds a list"),
    "a number among the tensors": ({"weight": torch.ones(2), "epoch": 3}, "'epoch' is a int"),
    "a name that is no text": ({3: torch.ones(2)}, "'3'"),
    "nothing": ({}, "an empty dictionary"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_no_state_dict_is_refused_with_what_it_is(saved, other):
    content, reason = OTHERS[other]
    assert reason in refusal(saved(content))


NOT_MODELS = {
    "photo.jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(range(200)),
    "photo.pt": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(range(200)),
    "empty.pt": b"",
    "empty.safetensors": b"",
    "words.pt": b"epoch 3: loss 0.2\n",
    "archive.pt": b"PK\x03\x04 and then nothing of use",
    "pickle.pt": b"\x80\x02 and then nothing of use",
    "words.safetensors": b"epoch 3: loss 0.2\n",
}


@pytest.mark.parametrize("name", NOT_MODELS)
def test_files_of_other_formats_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(NOT_MODELS[name])
    refusal(tmp_path / name)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.98])
def test_a_truncated_file_is_refused(saved, tmp_path, share):
    path = saved(STATE)
    safetensors.torch.save_file(dict(STATE), tmp_path / "model.safetensors")
    for file in (path, tmp_path / "model.safetensors"):
        content = file.read_bytes()
        file.write_bytes(content[: int(share * len(content))])
        refusal(file)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_script_archive_is_refused_as_code(tmp_path):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / "model.pt")
    assert "TorchScript" in refusal(tmp_path / "model.pt")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "absent.pt")
    assert "directory" in refusal(tmp_path)


def test_of_several_state_dicts_the_usual_one_is_taken_and_the_others_are_named(saved, caplog):
    other = {name: tensor + 1 for name, tensor in STATE.items()}
    path = saved({"model": STATE, "model_ema": other, "optimizer": {"state": {}, "param_groups": []}})
    assert same(read_state_dict(path), STATE)
    assert "ignored the state dicts under model_ema" in caplog.text
    assert same(read_state_dict(path, "model_ema"), other)
    with pytest.raises(OnebasinError, match="no state dict under 'optimizer'; it has some under: model, model_ema"):
        read_state_dict(path, "optimizer")


def test_shards_are_read_by_their_index(tmp_path):
    half = len(STATE) // 2
    places = {name: f"model-{1 + (k >= half)}.safetensors" for k, name in enumerate(STATE)}
    for shard in set(places.values()):
        part = {name: tensor for name, tensor in STATE.items() if places[name] == shard}
        safetensors.torch.save_file(part, tmp_path / shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert same(read_state_dict(index), STATE)
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(OnebasinError, match=r"model-2\.safetensors: cannot be read"):
        read_state_dict(index)
    index.write_text("{}")
    assert "no index of shards" in refusal(index)


def test_both_names_of_a_tensor_that_save_model_wrote_once_are_there(tmp_path):
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    safetensors.torch.save_model(network, str(tmp_path / "tied.safetensors"))
    assert same(read_state_dict(tmp_path / "tied.safetensors"), network.state_dict())


def test_a_pickle_of_a_protocol_that_torch_does_not_read_is_named(saved):
    assert same(read_state_dict(saved(STATE, _use_new_zipfile_serialization=False, pickle_protocol=3)), STATE)
    line = refusal(saved(STATE, _use_new_zipfile_serialization=False, pickle_protocol=4))
    assert "a pickle of protocol 4" in line
