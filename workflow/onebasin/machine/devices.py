"""Devices: the one place that knows what a GPU is called and what it needs.

The workflow imports this module while it builds its graph, so torch is imported where it is used.
"""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from onebasin.errors import OnebasinError

if TYPE_CHECKING:
    import torch


NAMES = ("cpu", "cuda", "auto")


def device_named(name: str) -> str:
    """`auto` is the GPU of this machine if it has one, else the CPU; any other name is itself."""
    if name != "auto":
        return name
    return "cuda" if any(Path("/dev").glob("nvidia[0-9]*")) else "cpu"


def ready(name: str) -> "torch.device":
    """The device of that name, prepared to compute deterministically.

    Raises:
        OnebasinError: a GPU is asked for where there is none to use.
    """
    import torch

    if name == "cuda":
        if not torch.cuda.is_available():
            raise OnebasinError("config: device: cuda: this machine has no usable GPU; write cpu")
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    return torch.device(name)


def autocast(device: "torch.device", precision: str) -> contextlib.AbstractContextManager[object]:
    """What a forward pass runs in: with `bf16`, products in bfloat16 on a GPU; nothing for `float32` or on a CPU."""
    import torch

    if device.type == "cuda" and precision == "bf16":
        return torch.autocast("cuda", torch.bfloat16)
    return contextlib.nullcontext()


def to_host(tensor: "torch.Tensor") -> "torch.Tensor":
    """The tensor in the host's memory: from a GPU by way of page-locked memory, which takes a fraction of the time."""
    import torch

    if tensor.device.type == "cpu":
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)


def hardware(name: str) -> str:
    """What the device of that name is, for provenance: the GPU's model, or `cpu`."""
    import torch

    return torch.cuda.get_device_name() if name == "cuda" else name
