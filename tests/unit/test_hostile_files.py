"""Whatever stands where a job expects a file: the job gets what was saved there, or one line that names the file."""

import hashlib
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onebasin.data import Data, Split, load_data, save_data
from onebasin.errors import OnebasinError
from onebasin.storage import artifacts
from onebasin.storage.files import write_text
from onebasin.symmetry.alignment import Alignment, load_alignment, save_alignment
from onebasin.symmetry.spec import Axis, Group, Spec, load_spec, save_spec
from onebasin.tables.collect import read_csv

SPEC = Spec((Group("1", 4, (Axis("1.weight", 0), Axis("2.weight", 1))),))
IMAGES = Split(torch.arange(12, dtype=torch.uint8).reshape(3, 1, 2, 2), torch.tensor([0, 1, 1]))


def refusal(use, path, *content):
    """The message with which reading (or writing) the file is refused: one readable line that names it."""
    with pytest.raises(OnebasinError) as caught:
        use(path, *content)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert len(message.splitlines()) == 1
    assert len(message) < len(str(path)) + 400
    return message


def read_model(path):
    return artifacts.load(path, "model")


def write_header(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)


def entry(start, stop, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


# Headers


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, bytes(12)),
        ({"a": entry(0, 8, [2]), "b": entry(0, 8, [2])}, bytes(8)),
        ({"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, bytes(12)),
        ({"a": entry(0, 8000, [2000])}, bytes(8)),
        ({"a": entry(8, 0, [2])}, bytes(8)),
        ({"a": entry(-8, 0, [2])}, bytes(8)),
        ({"a": entry(0, 8, [3])}, bytes(8)),
        ({"a": entry(0, 8, [2.0])}, bytes(8)),
        ({"a": entry(0, 8, [2**62, 8])}, bytes(8)),
        ({"a": entry(0, 0, [0, 2**63])}, b""),
        ({"a": entry(0, 4, [1], "F3\n2")}, bytes(4)),
        ({"a": entry(0, 12, [16], "F6_E2M3")}, bytes(12)),
        (
            b'{"a":' + json.dumps(entry(0, 4, [1])).encode() + b',"a":' + json.dumps(entry(4, 8, [1])).encode() + b"}",
            bytes(8),
        ),
        (b'{"__metadata__":{"a":"1"},"__metadata__":{"a":"1"}}', b""),
        (b'{"a":' * 100_000, b""),
        (b"[" * 100_000, b""),
        (b'{"\xff\xfe":1}', b""),
        ({"__metadata__": {"onebasin": 3}}, b""),
        ({"__metadata__": "onebasin"}, b""),
    ],
    ids=[
        *("overlapping", "the same place twice", "a gap", "beyond the end", "backwards", "negative", "too few bytes"),
        *("a broken number", "an overflow", "more than an index", "no type", "a type torch lacks", "a name twice"),
        *("metadata twice", "deep objects", "deep lists", "not UTF-8", "a number for text", "text for an object"),
    ],
)
def test_an_impossible_header_is_refused(tmp_path, header, data):
    write_header(tmp_path / "model.safetensors", header, data)
    refusal(read_model, tmp_path / "model.safetensors")


def test_a_header_of_ours_with_one_key_twice_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    artifacts.save(path, "model", {"weight": torch.zeros(2)}, seed=1)
    whole = path.read_bytes()
    text = whole[8 : 8 + int.from_bytes(whole[:8], "little")].rstrip()
    twice = text.replace(b'\\"seed\\": 1', b'\\"seed\\": 2, \\"seed\\": 1')
    assert twice != text
    write_header(path, twice, bytes(8))
    assert "checksum" in refusal(read_model, path)


@pytest.mark.parametrize("facts", ['{"a":' * 50_000, "[" * 50_000, "1" * 50_000, "NaN"])
def test_facts_that_no_json_reader_survives_are_refused(tmp_path, facts):
    path = tmp_path / "model.safetensors"
    write_header(path, {"__metadata__": {"onebasin": f'{{"kind": "model", "sha256": "{"0" * 64}", "facts": {facts}'}})
    assert "header is damaged" in refusal(read_model, path)


def test_a_hostile_file_with_the_right_checksum_is_refused_all_the_same(tmp_path):
    """Its checksum is right, but torch has no such shape, and its kind would fill the screen."""
    path = tmp_path / "model.safetensors"

    def write(kind, tensor):
        header = {"facts": {}, "kind": kind, "sha256": "0" * 64}
        write_header(
            path, {"__metadata__": {"onebasin": json.dumps(header)}, "a": tensor}, bytes(tensor["data_offsets"][1])
        )
        sealed = path.read_bytes().replace(b"0" * 64, hashlib.sha256(path.read_bytes()).hexdigest().encode())
        path.write_bytes(sealed)

    write("model", entry(0, 8, [2]))
    assert read_model(path).tensors["a"].tolist() == [0.0, 0.0]
    write("model", entry(0, 0, [0, 2**63]))
    assert "not a safetensors file" in refusal(read_model, path)
    write("line\n" * 10_000, entry(0, 8, [2]))
    assert "expected 'model'" in refusal(read_model, path)


@pytest.mark.parametrize("length", [2**63, 2**40, 99_000_000, 1000])
def test_a_header_longer_than_its_file_is_refused_without_memory_for_it(tmp_path, length):
    path = tmp_path / "model.safetensors"
    write_header(path, {"a": entry(0, 4, [1])}, bytes(4), length)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refusal(read_model, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB


def test_a_file_that_is_a_hundred_gigabytes_of_nothing_is_refused_without_reading_it(tmp_path):
    path = tmp_path / "model.safetensors"
    write_header(path, {"a": entry(0, 100 << 30, [25 << 30])})
    os.truncate(path, path.stat().st_size + (100 << 30))
    refusal(read_model, path)


# What is no file


def link_to_itself(path):
    path.symlink_to(path)


def link_to_nothing(path):
    path.symlink_to("absent")


def link_to_a_folder(path):
    path.symlink_to(path.parent)


def link_to_a_device(path):
    path.symlink_to("/dev/zero")


def listen(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


READERS = {
    "artifact": read_model,
    "data": load_data,
    "symmetries": load_spec,
    "permutations": lambda path: load_alignment(path, SPEC, (0, 1)),
    "table": lambda path: read_csv(path, "merged"),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    ("put", "why"),
    [
        (lambda path: None, "no such file"),
        (link_to_nothing, "leads nowhere"),
        (link_to_itself, "symbolic links"),
        (link_to_a_folder, "a folder"),
        (Path.mkdir, "a folder"),
        (os.mkfifo, "pipe"),
        (link_to_a_device, "device"),
        (listen, "socket"),
    ],
    ids=["nothing", "dangling link", "loop", "link to a folder", "folder", "pipe", "device", "socket"],
)
def test_what_is_no_file_is_refused_without_waiting(tmp_path, monkeypatch, read, put, why):
    monkeypatch.chdir(tmp_path)  # a socket's path has to be short
    put(Path("place"))
    assert why in refusal(read, Path("place"))


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("content", [b"", b"\0", b"\xff" * 100, b"[" * 100_000, b'{"groups": 3}', b"\n\n"])
def test_a_file_of_something_else_is_refused(tmp_path, read, content):
    (tmp_path / "place").write_bytes(content)
    refusal(read, tmp_path / "place")


def test_a_link_to_an_artifact_is_followed(tmp_path):
    artifacts.save(tmp_path / "model.safetensors", "model", {"weight": torch.ones(2)})
    (tmp_path / "link").symlink_to("model.safetensors")
    assert read_model(tmp_path / "link").tensors["weight"].tolist() == [1.0, 1.0]


# Places that cannot be written


@pytest.fixture
def mount(tmp_path):
    """A file system of 64 kB."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def save_large_model(path):
    artifacts.save(path, "model", {"weight": torch.zeros(100_000)})


def write_long_text(path):
    write_text(path, "x" * 100_000)


WRITERS = pytest.mark.parametrize("write", [save_large_model, write_long_text])


@WRITERS
@pytest.mark.parametrize("before", [[], ["model.safetensors"]], ids=["no file before", "a file before"])
def test_on_a_full_disk_the_old_file_stays_and_no_temporary(mount, write, before):
    for name in before:
        artifacts.save(mount / name, "model", {"weight": torch.ones(3)})
    content = [(file.name, file.read_bytes()) for file in mount.iterdir()]
    message = refusal(write, mount / "model.safetensors")
    assert message.endswith("not written (No space left on device); free the disk or choose another folder")
    assert [(file.name, file.read_bytes()) for file in mount.iterdir()] == content


@WRITERS
@pytest.mark.parametrize("place", ["model.safetensors", "new.safetensors", "folder/new.safetensors"])
def test_a_file_system_that_is_read_only_is_refused(mount, write, place):
    artifacts.save(mount / "model.safetensors", "model", {"weight": torch.ones(3)})
    subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
    assert "(Read-only file system); make the folder writable" in refusal(write, mount / place)
    assert [file.name for file in mount.iterdir()] == ["model.safetensors"]
    assert read_model(mount / "model.safetensors").tensors["weight"].tolist() == [1.0, 1.0, 1.0]


def test_a_folder_that_is_a_link_to_nothing_is_refused(tmp_path):
    (tmp_path / "results").symlink_to("absent")
    message = refusal(save_large_model, tmp_path / "results" / "model.safetensors")
    assert "something that is no folder stands in its way" in message


def test_writing_over_a_link_leaves_what_it_leads_to(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "model.safetensors").symlink_to("theirs")
    artifacts.save(tmp_path / "model.safetensors", "model", {"weight": torch.ones(2)})
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert not (tmp_path / "model.safetensors").is_symlink()


# Files of another experiment


@pytest.mark.parametrize(
    ("expected", "named"),
    [
        ({"seed": 2}, "seed is 1, expected 2"),
        ({"recipe": {"training": {"lr": 0.1}, "root": 5}}, "recipe.training.lr is 0.01, expected 0.1"),
        ({"recipe": {"training": {"lr": 0.01}}}, "recipe.root is 5, expected None"),
        ({"recipe": {"training": 3, "root": 5}}, "recipe.training is {'lr': 0.01}, expected 3"),
    ],
)
def test_an_artifact_made_in_another_way_is_named_with_what_differs(tmp_path, expected, named):
    path = tmp_path / "model.safetensors"
    recipe = {"training": {"lr": 0.01}, "root": 5}
    artifacts.save(path, "model", {}, seed=1, recipe=recipe, shape=(1, 2))
    assert named in refusal(lambda path: artifacts.load(path, "model", expected=expected), path)
    assert artifacts.load(path, "model", expected={"seed": 1, "recipe": recipe, "shape": (1, 2)}).facts["seed"] == 1


def test_an_artifact_that_does_not_say_how_it_was_made_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    artifacts.save(path, "model", {})
    assert "does not say its recipe" in refusal(
        lambda path: artifacts.load(path, "model", expected={"recipe": {}}), path
    )


def test_an_artifact_of_an_older_version_is_refused_and_said_to_be_one(tmp_path):
    path = tmp_path / "model.safetensors"
    artifacts.save(path, "model", {}, made={"lr": 1})
    assert refusal(lambda path: artifacts.load(path, "model", expected={"recipe": {"lr": 1}}), path) == (
        f"{path}: its header does not say its recipe; written by an older version; {artifacts.REMAKE}"
    )


# Bytes from a generator


def written(write):
    """The bytes that a function writes into the file it is given."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "file")
        return (Path(folder) / "file").read_bytes()


TENSORS = {"weight": torch.tensor([[1.5, -2.0]]), "count": torch.tensor(3), "empty": torch.zeros(0, 2)}
FACTS = {"seed": 3, "recipe": {"lr": 0.001, "name": "größer"}}
WHOLE = {
    "artifact": written(lambda path: artifacts.save(path, "model", TENSORS, **FACTS)),
    "data": written(lambda path: save_data(path, Data(IMAGES, IMAGES, classes=2))),
    "symmetries": written(lambda path: save_spec(path, SPEC, network={"name": "mlp"})),
    "permutations": written(
        lambda path: save_alignment(path, Alignment({"1": torch.arange(4).expand(2, 4)}), models=[0, 1])
    ),
}


@st.composite
def damaged(draw, whole):
    """A file with one to three of these faults: bits flipped, bytes cut out, put in, or copied from elsewhere in it."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        here = draw(st.integers(0, len(content)))
        there = draw(st.integers(0, len(content)))
        start, stop = sorted((here, there))
        match draw(st.sampled_from(["flip", "cut", "end", "insert", "splice"])):
            case "flip" if content:
                content[here % len(content)] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[start:stop]
            case "end":
                del content[start:]
            case "insert":
                content[here:here] = draw(st.binary(max_size=20))
            case "splice":
                content[here:here] = content[start:stop]
    return bytes(content)


def outcome(name, content, folder):
    """What a reader makes of a file of this content: an object, or None for a refusal in one line."""
    path = folder / "fuzzed"
    path.write_bytes(content)
    try:
        return READERS[name](path)
    except OnebasinError as error:
        refused = str(error)
    assert refused.startswith(str(path))
    assert len(refused.splitlines()) == 1
    return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzzed")


@settings(max_examples=400)
@given(content=st.binary(max_size=400) | damaged(WHOLE["artifact"]))
@example(content=WHOLE["artifact"])
def test_an_artifact_is_what_was_saved_or_refused(folder, content):
    found = outcome("artifact", content, folder)
    assert (found is not None) == (content == WHOLE["artifact"])
    if found is not None:
        assert found.facts == FACTS
        assert all(torch.equal(found.tensors[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize("name", ["data", "permutations"])
@settings(max_examples=60)
@given(choices=st.data())
def test_data_and_permutations_are_what_was_saved_or_refused(folder, name, choices):
    content = choices.draw(damaged(WHOLE[name]))
    assert (outcome(name, content, folder) is not None) == (content == WHOLE[name])


@settings(max_examples=200)
@given(content=damaged(WHOLE["symmetries"]))
def test_symmetries_are_what_was_saved_or_refused(folder, content):
    assert outcome("symmetries", content, folder) in (None, SPEC)


def test_a_file_the_reader_may_not_read_is_refused(tmp_path):
    program = (
        "import os, sys\nfrom onebasin.storage import artifacts\nfrom onebasin.errors import OnebasinError\n"
        "if os.getuid() == 0:\n    os.setuid(65534)\n"
        "try:\n    artifacts.load(sys.argv[1], 'model')\nexcept OnebasinError as error:\n    print(error)\n"
    )
    path = tmp_path / "closed" / "model.safetensors"
    artifacts.save(path, "model", {})
    path.parent.chmod(0)
    environment = {"PYTHONPATH": str(Path(artifacts.__file__).parents[1])}
    command = [sys.executable, "-c", program, path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    path.parent.chmod(0o700)
    assert "cannot be read (Permission denied)" in done.stdout, done.stderr
    assert len(done.stdout.splitlines()) == 1
