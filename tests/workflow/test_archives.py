"""Archives are found or missed by the real Snakefile; nothing is downloaded here."""

import gzip
import hashlib
import json
import struct

import pytest
import yaml

from onebasin.storage import artifacts

DATA = [f"results/{name}/data.safetensors" for name in ("first", "second")]
FLAG = "results/downloads/mnist.json"
pytestmark = pytest.mark.exhaustive


@pytest.fixture
def clone(fresh):
    """A clone in which two experiments use MNIST, which they may not download."""
    configure(fresh, download=False)
    return fresh


def configure(clone, **place):
    small = next(iter(yaml.safe_load((clone.folder / "small.yaml").read_text())["experiments"].values()))
    experiments = {
        name: {**small, "data": {"name": "mnist", "validation_fraction": fraction, **place}}
        for name, fraction in (("first", 0.0), ("second", 0.5))
    }
    (clone.folder / "small.yaml").write_text(yaml.safe_dump({"experiments": experiments}))


def write_archives(folder, monkeypatch):
    """Twenty images a split below `folder`; a sitecustomize tells the jobs' Python what their checksums are."""
    images = struct.pack(">iiii", 0x803, 20, 28, 28) + bytes(range(196)) * 4 * 20
    labels = struct.pack(">ii", 0x801, 20) + bytes(range(10)) * 2
    raw, sums = folder / "MNIST" / "raw", []
    raw.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        for name, content in ((f"{prefix}-images-idx3-ubyte.gz", images), (f"{prefix}-labels-idx1-ubyte.gz", labels)):
            (raw / name).write_bytes(gzip.compress(content, mtime=0))
            sums.append((name, hashlib.md5((raw / name).read_bytes()).hexdigest()))
    site = folder.parent / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import sys\n\nif sys.orig_argv[-1].endswith(('download.py', 'data.py')):\n"
        "    sys.path.insert(0, 'workflow')\n    from onebasin.machine.vision import torchvision\n\n"
        f"    torchvision.datasets.MNIST.resources = {sums!r}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(site))
    return dict(sums)


def test_missing_archives_stop_the_run_in_one_line_that_says_where_they_belong(clone):
    done = clone.run("--cores", "1", *DATA)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("onebasin: ")]
    assert len(lines) == 1
    assert "data/MNIST/raw/train-images-idx3-ubyte.gz (missing)" in lines[0]
    assert "data.root" in lines[0]
    assert "Traceback" not in done.stderr
    assert not any((clone.folder / path).exists() for path in (*DATA, FLAG))


def test_archives_that_are_there_serve_all_experiments_wherever_they_are(clone, monkeypatch):
    sums = write_archives(clone.folder / "data", monkeypatch)
    assert clone.planned(*DATA) == {"download": 1, "data": 2}
    done = clone.run("--cores", "2", *DATA)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((clone.folder / FLAG).read_text()) == {f"MNIST/raw/{name}": md5 for name, md5 in sums.items()}
    for path, size in zip(DATA, (20, 10), strict=True):
        stored = artifacts.load(clone.folder / path, "data")
        assert stored.tensors["train_images"].shape == (size, 1, 28, 28)
        assert stored.facts["recipe"]["name"] == "mnist"
        assert "root" not in stored.facts["recipe"]

    (clone.folder / "data").rename(clone.folder / "elsewhere")
    configure(clone, root="elsewhere")
    assert clone.planned(*DATA) == {}
