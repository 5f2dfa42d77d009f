import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from onebasin.errors import OnebasinError
from onebasin.storage import artifacts

TENSORS = {
    "weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "transposed": torch.arange(12, dtype=torch.float64).reshape(3, 4).T,
    "strided": torch.arange(12, dtype=torch.float32)[::2],
    "expanded": torch.tensor([1.5]).expand(4),
    "empty": torch.empty(0, 5),
    "scalar": torch.tensor(2.5),
    "counts": torch.tensor([2**40, -1], dtype=torch.int64),
    "mask": torch.tensor([True, False, True]),
    "half": torch.tensor([0.1, -3.0], dtype=torch.bfloat16),
    "parameter": torch.nn.Parameter(torch.ones(2)),
}
FACTS = {"seed": 3, "recipe": {"lr": 0.001, "name": "größer"}, "models": [1, 2]}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    artifacts.save(path, "model", TENSORS, **FACTS)
    return path


def refusal(path, kind="model"):
    """The message with which the file is refused: one line that names the file."""
    with pytest.raises(OnebasinError) as caught:
        artifacts.load(path, kind)
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) == 1
    return message


def test_what_is_saved_is_loaded(path):
    loaded = artifacts.load(path, "model")
    assert loaded.kind == "model"
    assert loaded.facts == FACTS
    assert loaded.tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert torch.equal(loaded.tensors[name], tensor.detach()), name


def test_no_tensors_at_all_are_an_artifact(tmp_path):
    artifacts.save(tmp_path / "none.safetensors", "permutations", {})
    assert artifacts.load(tmp_path / "none.safetensors", "permutations").tensors == {}


def test_two_names_of_one_tensor_are_saved_as_two_tensors(tmp_path):
    tied = torch.arange(4.0)
    artifacts.save(tmp_path / "tied.safetensors", "model", {"encoder": tied, "decoder": tied, "part": tied[:2]})
    loaded = artifacts.load(tmp_path / "tied.safetensors", "model").tensors
    assert torch.equal(loaded["encoder"], loaded["decoder"])
    assert loaded["part"].tolist() == [0.0, 1.0]


def test_equal_content_has_equal_bytes_in_whatever_order_it_is_given(path, tmp_path):
    artifacts.save(
        tmp_path / "again.safetensors", "model", dict(reversed(TENSORS.items())), **dict(reversed(FACTS.items()))
    )
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_equal_content_has_equal_bytes_in_another_process(tmp_path):
    program = (
        "import sys, torch; from onebasin.storage import artifacts; "
        "artifacts.save(sys.argv[1], 'model', {c: torch.arange(3.0) for c in 'bac'}, seed=1, recipe={'x': 1, 'a': 2})"
    )
    package = Path(artifacts.__file__).parents[1]
    environment = {"PYTHONPATH": str(package), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "there")], env=environment, check=True)
    artifacts.save(tmp_path / "here", "model", {c: torch.arange(3.0) for c in "cab"}, recipe={"a": 2, "x": 1}, seed=1)
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "merged"},
        {"tensors": {"weight": torch.zeros(3)}},
        {"tensors": {"weight": torch.ones(2)}},
        {"tensors": {"bias": torch.zeros(2)}},
        {"tensors": {"weight": torch.zeros(2, dtype=torch.int64)}},
        {"seed": 2},
    ],
)
def test_other_content_has_other_bytes(tmp_path, change):
    content = {"kind": "model", "tensors": {"weight": torch.zeros(2)}, "seed": 1}
    artifacts.save(tmp_path / "one", **content)
    artifacts.save(tmp_path / "other", **(content | change))
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


def test_a_failing_write_leaves_the_old_file_and_no_temporary(path, monkeypatch):
    before = path.read_bytes()

    def write_half(tensors, filename, metadata):
        Path(filename).write_bytes(before[:50])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", write_half)
    with pytest.raises(OnebasinError, match=r"model\.safetensors: not written \(No space left on device\)"):
        artifacts.save(path, "model", {"weight": torch.zeros(2)})
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_disk_that_fills_up_is_one_line_that_names_the_file(tmp_path):
    program = (
        "import resource, signal, sys, torch\n"
        "from onebasin.storage import artifacts\n"
        "from onebasin.errors import OnebasinError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    artifacts.save(sys.argv[1], 'model', {'weight': torch.zeros(1000)})\n"
        "except OnebasinError as error:\n"
        "    print(error)\n"
    )
    path = tmp_path / "model.safetensors"
    environment = {"PYTHONPATH": str(Path(artifacts.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], env=environment, capture_output=True, text=True, check=False
    )
    assert f"{path}: not written" in done.stdout, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OnebasinError, match=r"model\.safetensors: not written") as caught:
        artifacts.save(tmp_path / "file" / "model.safetensors", "model", TENSORS)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_is_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "absent.safetensors")


def test_a_folder_is_refused(tmp_path):
    refusal(tmp_path)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, -200, -1])
def test_a_truncated_file_is_refused(path, length):
    path.write_bytes(path.read_bytes()[:length])
    assert "truncated" in refusal(path)


def test_appended_bytes_are_refused(path):
    path.write_bytes(path.read_bytes() + b"\0")
    refusal(path)


@pytest.mark.parametrize("content", [b"\x80\x04\x95pickle" * 9, b"PK\x03\x04" + bytes(500), b"{}\n" * 40, b"\xff" * 99])
def test_a_file_of_another_format_is_refused(path, content):
    path.write_bytes(content)
    assert "not a safetensors file" in refusal(path)


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}])
def test_a_safetensors_file_of_another_program_is_refused(path, metadata):
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path, metadata)
    assert "not written by onebasin" in refusal(path)


@pytest.mark.parametrize("header", ["", "{", "not JSON", "[]", "3", "null", '"model"', "{}"])
def test_a_header_that_is_no_object_of_ours_is_refused(path, header):
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path, {artifacts.HEADER_KEY: header})
    refusal(path)


@pytest.mark.parametrize("key", ["kind", "facts", "sha256"])
def test_a_header_that_lacks_a_key_is_refused(path, key):
    header = {"kind": "model", "facts": {}, "sha256": "0" * 64, "versions": {}}
    del header[key]
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path, {artifacts.HEADER_KEY: json.dumps(header)})
    assert "header is damaged" in refusal(path)


def test_any_flipped_bit_is_refused(tmp_path):
    """Of the data, of the facts, of the header's own syntax, even of the blanks behind it."""
    path = tmp_path / "small.safetensors"
    artifacts.save(path, "model", {"weight": torch.tensor([1.0, -2.0]), "mask": torch.tensor([True])}, seed=3)
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        refusal(path)
        assert position < len(whole) - 9 or "checksum" in refusal(path)


def test_another_kind_is_refused_with_both_kinds_named(path):
    message = refusal(path, kind="permutations")
    assert "'model'" in message
    assert "'permutations'" in message


def test_nothing_is_unpickled(path):
    torch.save({"weight": torch.zeros(2)}, path)
    assert "not a safetensors file" in refusal(path)
