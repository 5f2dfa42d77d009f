"""Artifacts: named tensors in a safetensors file, with what made them in its header.

The header is one JSON object under one key, so that equal content has equal bytes. Nothing is ever unpickled.
A checksum of the tensors is stored with them: safetensors notices a truncated file, not a flipped bit.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from onebasin import __version__
from onebasin.errors import OnebasinError
from onebasin.files import replacing

HEADER_KEY = "onebasin"
REMAKE = "delete it and run again to make it anew"


@dataclass(frozen=True)
class Artifact:
    """Tensors by name, the kind of thing they are (`model`, `permutations`, `merged`), and facts about their making."""

    kind: str
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save(path: str | Path, kind: str, tensors: Mapping[str, Tensor], **facts: Any) -> None:
    """Write an artifact atomically. `facts` (JSON values) say how it came about: configuration, seed, parents.

    Raises:
        OnebasinError: the place cannot be written.
    """
    dense = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    header = {
        "kind": kind,
        "facts": facts,
        "sha256": checksum(dense),
        "versions": {"onebasin": __version__, "torch": str(torch.__version__)},
    }
    with replacing(path) as temporary:
        try:
            safetensors.torch.save_file(dense, temporary, {HEADER_KEY: json.dumps(header, sort_keys=True)})
        except safetensors.SafetensorError as error:  # how safetensors reports a full disk
            raise OSError(str(error)) from error


def load(path: str | Path, kind: str, facts: Iterable[str] = ()) -> Artifact:
    """Read an artifact of the given kind, whose facts have to include those named.

    Raises:
        OnebasinError: the file is missing, damaged, not an artifact, or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise OnebasinError(f"{path}: no such file; run the workflow to make it")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise OnebasinError(f"{path}: truncated or not a safetensors file ({error}); {REMAKE}") from None
    if HEADER_KEY not in metadata:
        raise OnebasinError(f"{path}: a safetensors file, but not written by onebasin; {REMAKE}")
    header = _header(metadata[HEADER_KEY])
    if header is None:
        raise OnebasinError(f"{path}: its header is damaged; {REMAKE}")
    if header["kind"] != kind:
        raise OnebasinError(f"{path}: holds '{header['kind']}', expected '{kind}'; give a file of that kind")
    if missing := sorted(set(facts) - header["facts"].keys()):
        raise OnebasinError(f"{path}: its header does not say its {', '.join(missing)}; {REMAKE}")
    if header["sha256"] != checksum(tensors):
        raise OnebasinError(f"{path}: its tensors do not match its checksum; {REMAKE}")
    return Artifact(kind, tensors, header["facts"])


def _header(text: str) -> dict[str, Any] | None:
    """The header that `save` wrote; None if it is not one."""
    try:
        header = json.loads(text)
    except ValueError:
        return None
    whole = isinstance(header, dict) and header.keys() >= {"kind", "facts", "sha256"}
    return header if whole and isinstance(header["facts"], dict) else None


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
