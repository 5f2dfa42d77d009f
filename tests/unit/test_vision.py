import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from onebasin.errors import OnebasinError
from onebasin.machine import vision
from onebasin.machine.vision import torchvision


def write_idx(path, values):
    """Write bytes in MNIST's IDX format: two zeros, type 8 (unsigned byte), number of axes, sizes, data."""
    header = bytes([0, 0, 8, values.dim()]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(header + bytes(values.flatten().tolist()))


def test_mnist_in_its_own_format_is_read_back(tmp_path):
    images = torch.arange(3 * 28 * 28).remainder(256).to(torch.uint8).reshape(3, 28, 28)
    labels = torch.tensor([7, 2, 1], dtype=torch.uint8)
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels)

    data = torchvision.datasets.MNIST(str(tmp_path), train=False, download=False)

    assert torch.equal(data.data, images)
    assert data.targets.tolist() == [7, 2, 1]
    assert data[0][0].size == (28, 28)


def test_both_kinds_of_transforms_resize_and_normalise():
    for transforms in (torchvision.transforms, torchvision.transforms.v2):
        transform = transforms.Compose([transforms.Resize((4, 4)), transforms.Normalize([0.5] * 3, [0.25] * 3)])
        image = transform(torch.full((3, 8, 8), 0.75))
        assert image.shape == (3, 4, 4)
        torch.testing.assert_close(image, torch.ones(3, 4, 4))


def test_a_resnet_runs_and_differentiates():
    with torch.random.fork_rng():
        network = torchvision.models.resnet18(weights=None, num_classes=10).eval()
    outputs = network(torch.zeros(2, 3, 32, 32))
    outputs.sum().backward()
    assert outputs.shape == (2, 10)


def test_a_module_of_ones_own_may_import_it_first(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torchvision.models import resnet18\ndef small(classes):\n    return resnet18(num_classes=classes)\n"
    )
    check = "from onebasin.registry import resolve; print(resolve('network', 'mine:small')(3).fc.out_features)"
    places = os.pathsep.join([str(Path(vision.__file__).parents[2]), str(tmp_path)])
    environment = {**os.environ, "PYTHONPATH": places}
    done = subprocess.run([sys.executable, "-c", check], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "3", done.stderr[-500:]


def test_importing_again_is_harmless():
    assert importlib.reload(vision).torchvision is torchvision
    assert importlib.import_module("torchvision") is torchvision


@pytest.mark.parametrize("first", ["", "try:\n    import torchvision\nexcept RuntimeError:\n    pass\n"])
def test_a_fresh_process_can_import_it_even_after_a_failed_import(first):
    check = "from onebasin.machine.vision import torchvision as t; "
    check += "t.extension, t.ops, t.io, t.utils, t.models, t.transforms.v2"
    environment = {**os.environ, "PYTHONPATH": str(Path(vision.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", first + check], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_operators_that_are_there_are_not_declared_again():
    before = torch.ops.torchvision.nms
    vision._declare_missing_operators()
    assert torch.ops.torchvision.nms is before


def test_a_missing_torchvision_is_the_users_to_mend(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(vision.importlib, "import_module", missing)
    with pytest.raises(OnebasinError, match="pip install torchvision"):
        vision._import_torchvision()


def test_another_failure_of_the_import_is_not_hidden(monkeypatch):
    def failing(name):
        raise RuntimeError("compiled with different CUDA major versions")

    monkeypatch.setattr(vision.importlib, "import_module", failing)
    with pytest.raises(RuntimeError, match="CUDA major versions"):
        vision._import_torchvision()
