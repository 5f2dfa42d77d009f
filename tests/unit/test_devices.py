import contextlib
from pathlib import Path

import pytest
import torch

from onebasin.machine.devices import autocast, device_named, hardware, to_host

LIBRARY = Path(__file__).parents[2] / "workflow" / "onebasin"


@pytest.mark.parametrize(("there", "found"), [([], "cpu"), (["nvidia0"], "cuda"), (["nvidiactl"], "cpu")])
def test_auto_is_the_gpu_of_a_machine_that_has_one(tmp_path, monkeypatch, there, found):
    for name in there:
        (tmp_path / name).touch()
    monkeypatch.setattr("onebasin.machine.devices.Path", lambda _: tmp_path)
    assert device_named("auto") == found


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_a_device_that_is_named_is_taken_whatever_there_is(name):
    assert device_named(name) == name


@pytest.mark.parametrize(
    ("device", "precision", "half"), [("cuda", "bf16", True), ("cuda", "float32", False), ("cpu", "bf16", False)]
)
def test_half_precision_is_for_gpus_where_it_is_asked_for(device, precision, half):
    assert isinstance(autocast(torch.device(device), precision), torch.autocast) == half
    assert half or isinstance(autocast(torch.device(device), precision), contextlib.nullcontext)


def test_what_the_host_holds_is_not_copied_to_it():
    tensor = torch.arange(3)
    assert to_host(tensor) is tensor


def test_a_cpu_needs_no_other_name():
    assert hardware("cpu") == "cpu"


def test_no_other_module_of_the_library_names_a_kind_of_gpu():
    named = {
        str(path.relative_to(LIBRARY))
        for path in LIBRARY.rglob("*.py")
        # the keyword is PyHessian's
        if "cuda" in path.read_text().replace("cuda=images.is_cuda", "")
    }
    assert named == {"machine/devices.py"}
