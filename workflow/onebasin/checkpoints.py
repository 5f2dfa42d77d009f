"""Checkpoints made elsewhere: a file of safetensors or of PyTorch becomes the tensors of a network that is known here.

A PyTorch file is a pickle, and a pickle may name any program to be run while it is read. `torch.load` with
`weights_only=True` builds tensors and containers of them and refuses the rest; nothing else reads such files here. What
people commonly wrap a `state_dict` in is taken off: dictionaries that hold it beside an epoch or an optimiser's state,
and the prefixes that `DataParallel` and `torch.compile` put before every name.
"""

import hashlib
import logging
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from onebasin import artifacts
from onebasin.errors import OnebasinError
from onebasin.models import check_fit
from onebasin.symmetry.apply import Parameters

WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")
SAVE = "save network.state_dict() with safetensors or torch.save"

logger = logging.getLogger("onebasin")


def read_state_dict(path: str | Path) -> Parameters:
    """The tensors of a checkpoint by name, on the CPU, of whatever types they have.

    Args:
        path: an artifact of kind `model`, another safetensors file, or a file of `torch.save`; told by its content.

    Raises:
        OnebasinError: the file is missing, damaged, a pickle of more than tensors, or holds no `state_dict`.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise OnebasinError(f"{path}: cannot be read ({error.strerror}); name a file that can") from None
    # safetensors begins with the length of its header, eight bytes, and the header, a JSON object
    content = _read_safetensors(path) if start[8:] == b"{" else _read_pickle(path)
    return _without_prefix(_unwrapped(content, path))


def fitted(tensors: Mapping[str, Tensor], network: nn.Module, path: str | Path) -> Parameters:
    """The tensors as the network holds them. Half precision becomes the network's type, which changes no value.

    Raises:
        OnebasinError: names, shapes or types are not the network's, or values are not finite (`models.check_fit`).
    """
    exact, widened = dict(tensors), set()
    for name, own in network.state_dict().items():
        if name in exact and _is_narrower(exact[name].dtype, own.dtype):
            widened.add(f"{exact[name].dtype} to {own.dtype}")
            exact[name] = exact[name].to(own.dtype)
    for change in sorted(widened):
        logger.info(f"{path}: converted from {change}, which is exact")
    check_fit(exact, network, path)
    return exact


def origin(path: str | Path) -> dict[str, str]:
    """Where a checkpoint is from: its path as given, and the SHA-256 of the file."""
    with Path(path).open("rb") as file:
        return {"source": str(path), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _read_safetensors(path: Path) -> Parameters:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            is_artifact = artifacts.HEADER_KEY in (file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise OnebasinError(f"{path}: truncated or not a safetensors file ({error}); {SAVE}") from None
    # ours has a checksum and says what it holds
    return artifacts.load(path, "model").tensors if is_artifact else tensors


def _read_pickle(path: Path) -> Any:
    try:
        # of a path torch would look at the suffix; its warnings foretell the errors below
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wants = re.search(r"GLOBAL (\S+)", str(error))
        if wants:
            raise OnebasinError(
                f"{path}: a pickle of more than tensors (it wants {wants[1]}), refused because such a file can run any "
                f"program; {SAVE}"
            ) from None
        reason = "a pickle of more than tensors, or no file of torch.save"
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        # what torch raises at damaged files and TorchScript archives, its reasons many lines long
        reason = f"truncated, or no file of torch.save: {str(error).partition(chr(10))[0]}".rstrip(": ")
    raise OnebasinError(f"{path}: neither safetensors nor a PyTorch state dict ({reason}); {SAVE}")


def _unwrapped(content: Any, path: Path) -> Parameters:
    """The `state_dict` in what was read: that itself, or what lies in it under one of the usual names."""
    while isinstance(content, Mapping) and (inner := [key for key in WRAPPERS if _is_mapping(content.get(key))]):
        content = content[inner[0]]
    if not isinstance(content, Mapping) or not content:
        what = "an empty dictionary" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise OnebasinError(f"{path}: holds {what}, no state dict; {SAVE}")
    for name, value in content.items():
        if not (isinstance(name, str) and isinstance(value, Tensor) and value.layout is torch.strided):
            kind = f"{value.layout} tensor" if isinstance(value, Tensor) else type(value).__name__
            raise OnebasinError(
                f"{path}: '{name}' is a {kind}, not a dense tensor; a state dict is looked for in the dictionary "
                f"itself and under {', '.join(WRAPPERS)}; {SAVE}"
            )
    return {name: value.detach() for name, value in content.items()}


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _without_prefix(tensors: Parameters) -> Parameters:
    for prefix in PREFIXES * 2:  # a compiled network may be in a parallel one, and the other way round
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _is_narrower(given: torch.dtype, own: torch.dtype) -> bool:
    """Whether every value of one floating-point type is one of the other as well, and they differ."""
    return given.is_floating_point and given != own and torch.promote_types(given, own) == own
