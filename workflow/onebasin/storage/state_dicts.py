"""State dicts that others wrote: safetensors files, and PyTorch files without running any code of theirs.

A PyTorch file is a pickle, which can run anything. It is read by PyTorch's restricted unpickler (`weights_only=True`)
and by nothing else: a file that needs more is refused. What training programs wrap a state dict in is taken off, and
said so in the log.
"""

import json
import logging
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from onebasin.errors import OnebasinError

logger = logging.getLogger(__name__)

# keys under which training programs keep the network's tensors, the likeliest first
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "params", "student", "module")
EXTRA = "_extra_state"  # the end of the name of what a module keeps beside parameters and buffers, of any type
INDEX = ".index.json"  # the end of the name of a list of shards
PREFIXES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every name
PYTORCH_BEGINNINGS = (b"PK", b"\x80\x02", b"\x80\x03")  # a zip archive, and the pickle of PyTorch before 1.6


def read_state_dict(path: str | Path, key: str | None = None) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU: safetensors, PyTorch's own format, or the index of shards of either.

    A state dict under one of the usual keys, and names that all begin with one of the usual prefixes, are unwrapped.

    Args:
        key: which of a PyTorch file's state dicts to take, where the usual one is not wanted.

    Raises:
        OnebasinError: the file cannot be read, is of neither format, needs to run code, or holds no state dict, or none
            under `key`.
    """
    path = Path(path)
    if path.name.endswith(INDEX):
        return _read_shards(path, key)
    try:
        with path.open("rb") as file:
            beginning = file.read(9)
    except OSError as error:
        raise OnebasinError(f"{path}: cannot be read ({error.strerror}); give a file of tensors") from None
    if beginning.startswith(PYTORCH_BEGINNINGS):
        return _without_prefix(_tensors(_unwrapped(_read_pytorch(path), path, key), path), path)
    if beginning.startswith((b"\x80\x04", b"\x80\x05")):
        raise OnebasinError(
            f"{path}: a pickle of protocol {beginning[1]}, which is not read, as it could run code; load it where it "
            f"was made and save the state dict with torch.save"
        )
    if key is not None:
        raise OnebasinError(f"{path}: no PyTorch file, so it holds nothing under '{key}'; leave the key out")
    if path.suffix == ".safetensors" or beginning[8:9] == b"{":
        return _without_prefix(_read_safetensors(path), path)
    raise OnebasinError(f"{path}: neither a safetensors nor a PyTorch file; save a state dict with torch.save")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors = safetensors.torch.load_file(path)
        with safetensors.safe_open(path, framework="pt") as file:
            tied = file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise OnebasinError(f"{path}: truncated or not a safetensors file ({_line(error)}); save it again") from None

    # `save_model` keeps one name of a tensor that has several, and says of the others whose value they have
    return tensors | {name: tensors[kept] for name, kept in tied.items() if kept in tensors and name not in tensors}


def _read_shards(path: Path, key: str | None) -> dict[str, Tensor]:
    """The tensors of all files that an index names, which lie beside it."""
    try:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        shards = {shard: read_state_dict(path.parent / shard, key) for shard in sorted(set(places.values()))}
        return {name: shards[shard][name] for name, shard in places.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OnebasinError(f"{path}: no index of shards that hold that ({_line(error)}); save it again") from None


def _read_pytorch(path: Path) -> Any:
    try:
        with path.open("rb") as file, warnings.catch_warnings():  # of a path torch would look at the suffix
            warnings.simplefilter("ignore")  # what is wrong is said below
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's text has a dozen lines; the name of what would be called is the reason
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"reading it would run code ({wanted[1]}), which is refused" if wanted else "no tensors, or damaged"
        raise OnebasinError(f"{path}: {reason}; save only the network's state_dict()") from None
    except Exception as error:  # whatever the unpickler makes of a damaged file is that file's fault
        if "TorchScript" in str(error):
            raise OnebasinError(f"{path}: a TorchScript archive, which is code; save its state_dict()") from None
        raise OnebasinError(f"{path}: damaged or not a PyTorch file ({_line(error)}); save it again") from None


def _unwrapped(content: Any, path: Path, key: str | None) -> Any:
    """What is under `key`; or under the first usual key that holds a dictionary, as deep as they go; or the content."""
    if key is not None:
        if not (isinstance(content, Mapping) and _is_state_dict(content.get(key))):
            raise OnebasinError(f"{path}: no state dict under '{key}'; it has some under: {_listed(content)}")
        return content[key]
    if not isinstance(content, Mapping):
        return content
    if content.keys() == {"state", "param_groups"}:
        raise OnebasinError(f"{path}: the state of an optimiser, not of a network; save the network's state_dict()")
    for usual in WRAPPERS:
        if isinstance(content.get(usual), Mapping):
            logger.info("%s: took the state dict under '%s'", path, usual)
            others = [name for name, value in content.items() if name != usual and _is_state_dict(value)]
            if others:
                logger.warning("%s: ignored the state dicts under %s; --key takes one of them", path, ", ".join(others))
            return _unwrapped(content[usual], path, None)
    return content


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(part, Tensor) for part in value.values())


def _listed(content: Any) -> str:
    found = (
        [str(name) for name, value in content.items() if _is_state_dict(value)] if isinstance(content, Mapping) else []
    )
    return ", ".join(found) or "no key"


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise OnebasinError(f"{path}: holds a {type(content).__name__}, not a state dict; save network.state_dict()")
    extra = [name for name, value in content.items() if str(name).endswith(EXTRA) and not isinstance(value, Tensor)]
    if extra:
        logger.warning("%s: left out %s, which are no tensors; the network keeps its own", path, ", ".join(extra))
        content = {name: value for name, value in content.items() if name not in extra}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            kind = type(value).__name__
            raise OnebasinError(f"{path}: '{name}' is a {kind}, not a tensor; save only the network's state_dict()")
        if value.layout is not torch.strided:
            raise OnebasinError(f"{path}: '{name}' is a {value.layout} tensor; save it as a dense one")
    if not content:
        raise OnebasinError(f"{path}: an empty dictionary; save the network's state_dict()")
    return {name: tensor.detach() for name, tensor in content.items()}


def _without_prefix(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    for prefix in PREFIXES * 2:  # a compiled network may be in a parallel one, and the other way round
        if tensors and all(name.startswith(prefix) for name in tensors):
            logger.info("%s: took the prefix '%s' off all names", path, prefix)
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0]
