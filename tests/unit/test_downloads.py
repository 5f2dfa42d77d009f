"""Nothing is downloaded here: the archives are written by the test, and the network is cut off."""

import gzip
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from files_for_tests import COLOURED, GREY, write_coloured, write_grey

from onebasin.data import downloads, make_data
from onebasin.data.downloads import fetch
from onebasin.errors import OnebasinError

NAMES = [*GREY, *COLOURED]


@pytest.fixture(autouse=True)
def requests(monkeypatch):
    """The addresses that were asked for; none of them answers."""
    asked = []

    def refuse(request, *_, **__):
        asked.append(request.full_url)
        raise urllib.error.URLError("Network is unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return asked


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that writes a data set's archives below `tmp_path / "data"`."""

    def write_archives(name):
        return (write_grey if name in GREY else write_coloured)(name, tmp_path / "data", monkeypatch)

    return write_archives


def refusal(name, root, **settings):
    with pytest.raises(OnebasinError) as caught:
        fetch(name, root, **settings)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert "://" not in line
    assert "data.root" in line
    return line


@pytest.mark.parametrize("name", NAMES)
def test_archives_that_are_there_are_read_and_no_network_is_touched(name, write, tmp_path, requests):
    written = write(name)
    data = make_data({"name": name, "root": str(tmp_path / "data")})
    for split, (images, labels) in zip((data.train, data.test), written, strict=True):
        assert split.inputs.dtype == torch.uint8
        assert torch.equal(split.inputs, torch.from_numpy(images).view_as(split.inputs))
        assert split.targets.dtype == torch.int64
        assert split.targets.tolist() == labels.tolist()
    assert data.classes == (100 if name == "cifar100" else 10)
    assert data.input_shape == ((1, 28, 28) if name in GREY else (3, 32, 32))
    assert requests == []


def unpack(path):
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()


def compress_anew(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=1))


@pytest.mark.parametrize("in_root", [False, True], ids=["in its folder", "in root"])
@pytest.mark.parametrize("change", [unpack, compress_anew])
@pytest.mark.parametrize("name", GREY)
def test_files_that_are_unpacked_or_compressed_anew_are_read(name, change, in_root, write, tmp_path, requests):
    written, root = write(name), tmp_path / "data"
    for path in sorted(root.rglob("*.gz")):
        change(path)
    if in_root:
        for path in sorted(root.rglob("*-ubyte*")):
            path.rename(root / path.name)
    before = {path: path.read_bytes() for path in root.rglob("*-ubyte*")}
    data = make_data({"name": name, "root": str(root), "download": False})
    for split, (images, labels) in zip((data.train, data.test), written, strict=True):
        assert torch.equal(split.inputs, torch.from_numpy(images).view_as(split.inputs))
        assert split.targets.tolist() == labels.tolist()
    assert {path: path.read_bytes() for path in root.rglob("*-ubyte*")} == before
    assert requests == []


@pytest.mark.parametrize("change", [unpack, compress_anew])
def test_of_files_that_are_not_as_published_the_content_is_checked(change, write, tmp_path):
    write("mnist")
    path = sorted((tmp_path / "data").rglob("*.gz"))[0]
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1] + b"!"))
    change(path)
    line = refusal("mnist", tmp_path / "data", download=False)
    assert f"{path.stem}" in line
    assert line.count("(damaged)") == 1


def test_the_files_of_another_data_set_of_the_same_names_are_not_taken(write, tmp_path):
    write("mnist")
    write("fashion_mnist")
    for path in sorted((tmp_path / "data" / "FashionMNIST").rglob("*.gz")):
        path.rename(tmp_path / "data" / path.name)
    assert set(fetch("mnist", tmp_path / "data", download=False)) == {*(tmp_path / "data" / "MNIST" / "raw").iterdir()}
    assert set(fetch("fashion_mnist", tmp_path / "data", download=False)) == {*(tmp_path / "data").glob("*.gz")}


def test_the_checksums_of_unpacked_files_are_those_of_files_that_torchvision_knows():
    for name, dataset in GREY.items():
        assert {*downloads.UNPACKED[name]} == {file.removesuffix(".gz") for file, _ in dataset.resources}
    assert len({md5 for sums in downloads.UNPACKED.values() for md5 in sums.values()}) == 8


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_of_the_archives_may_be_read_only(name, write, tmp_path):
    write(name)
    before = sorted((tmp_path / "data").rglob("*"))
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    make_data({"name": name, "root": str(tmp_path / "data")})
    assert sorted((tmp_path / "data").rglob("*")) == before


@pytest.mark.parametrize(("name", "black"), [("mnist", [0.0]), ("cifar10", [-2.1179, -2.0357, -1.8044])])
def test_grey_images_are_scaled_and_coloured_ones_normalised(name, black, write, tmp_path):
    write(name)
    data = make_data({"name": name, "root": str(tmp_path / "data")})
    ready = data.to("cpu")
    assert ready.black.tolist() == pytest.approx(black, abs=1e-4)
    if name in GREY:
        assert torch.equal(ready.train.inputs, data.train.inputs / 255)


@pytest.mark.parametrize("name", NAMES)
def test_missing_archives_are_named_with_the_place_where_they_belong(name, tmp_path, requests):
    line = refusal(name, tmp_path / "data", download=False)
    where = {
        "mnist": "MNIST/raw/t10k-labels-idx1-ubyte.gz",
        "fashion_mnist": "FashionMNIST/raw/train-images-idx3-ubyte.gz",
        "cifar10": "cifar-10-python.tar.gz",
        "cifar100": "cifar-100-python.tar.gz",
    }[name]
    assert f"{tmp_path / 'data' / where} (missing)" in line
    assert "data.download: false" in line
    assert requests == []
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_download_that_fails_is_said_in_one_line(name, tmp_path, requests):
    line = refusal(name, tmp_path / "data")
    assert "Network is unreachable" in line
    assert len(requests) > 0


def test_only_what_is_missing_is_asked_for(write, tmp_path, requests):
    write("mnist")
    missing = tmp_path / "data" / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    missing.unlink()
    line = refusal("mnist", tmp_path / "data")
    assert f"{missing} (missing)" in line
    assert "train-images" not in line
    assert {Path(url).name for url in requests} == {missing.name}


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_archive_is_not_read(name, write, tmp_path):
    write(name)
    path = next(path for path in sorted((tmp_path / "data").rglob("*.gz")))
    path.write_bytes(path.read_bytes()[:-1])
    line = refusal(name, tmp_path / "data", download=False)
    assert f"{path} (damaged)" in line
    assert line.count("(missing)") == 0


def test_what_was_downloaded_is_used(write, tmp_path, monkeypatch):
    written = write("cifar10")
    source = tmp_path / "data" / "cifar-10-python.tar.gz"

    class Response:
        def __init__(self, request):
            self.url, self.file = request.full_url, source.open("rb")
            self.length, self.read = source.stat().st_size, self.file.read

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    monkeypatch.setattr(urllib.request, "urlopen", Response)
    data = make_data({"name": "cifar10", "root": str(tmp_path / "elsewhere")})
    assert torch.equal(data.test.inputs, torch.from_numpy(written[1][0]))
    assert list(fetch("cifar10", tmp_path / "elsewhere", download=False)) == [tmp_path / "elsewhere" / source.name]
