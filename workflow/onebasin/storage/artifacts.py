"""Artifacts: named tensors in a safetensors file, with what made them in its header.

The header is one JSON object under one key, so that equal content has equal bytes. Nothing is ever unpickled.
It holds the SHA-256 of the whole file with these digits as zeros: safetensors notices a truncated file, but neither a
flipped bit of the data nor one that makes another header of a header. `load` gives what was saved, or refuses.
"""

import json
import os
import re
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
from onebasin.storage.digests import UNSEALED, of_file
from onebasin.storage.files import replacing, require_regular

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
        "sha256": UNSEALED,
        "versions": {"onebasin": __version__, "torch": str(torch.__version__)},
    }
    with replacing(path) as temporary:
        try:
            safetensors.torch.save_file(dense, temporary, {HEADER_KEY: json.dumps(header, sort_keys=True)})
        except safetensors.SafetensorError as error:
            raise _as_os_error(error) from error
        place = _place_of(UNSEALED, temporary)
        seal = of_file(temporary, place)
        with temporary.open("r+b") as file:
            file.seek(place)
            file.write(seal.encode())


def load(path: str | Path, kind: str, facts: Iterable[str] = (), expected: Mapping[str, Any] | None = None) -> Artifact:
    """Read an artifact of the given kind, whose facts have to include those named in `facts`.

    Args:
        expected: facts that have to have these values (`require_facts`): the artifact may be of another experiment.

    Raises:
        OnebasinError: the file is missing, damaged, not an artifact, of another kind, or made in another way.
    """
    require_regular(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = _verified((file.metadata() or {}).get(HEADER_KEY), Path(path))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except OnebasinError:
        raise
    except Exception as error:  # what torch makes of a hostile shape is of many kinds
        raise OnebasinError(f"{path}: truncated or not a safetensors file ({_brief(error)}); {REMAKE}") from None
    if header["kind"] != kind:
        held = _brief(header["kind"])
        raise OnebasinError(f"{path}: holds '{held}', expected '{kind}'; give a file of that kind")
    if missing := sorted({*facts, *(expected or {})} - header["facts"].keys()):
        old = "written by an older version; " if "made" in header["facts"] else ""  # what a recipe was called there
        raise OnebasinError(f"{path}: its header does not say its {', '.join(missing)}; {old}{REMAKE}")
    require_facts(path, header["facts"], expected or {})
    return Artifact(kind, tensors, header["facts"])


def require_facts(path: str | Path, facts: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a file of which another value is known than the expected one.

    Raises:
        OnebasinError: a value differs; of mappings the entry that differs is named.
    """
    for name, value in expected.items():
        if found := _difference(name, facts.get(name), json.loads(json.dumps(value))):
            raise OnebasinError(f"{path}: of another experiment or configuration ({found}); {REMAKE}")


def _verified(text: str | None, path: Path) -> dict[str, Any]:
    """The header that `save` wrote, after the whole file has been held against its checksum."""
    if text is None:
        raise OnebasinError(f"{path}: a safetensors file, but not written by onebasin; {REMAKE}")
    header = _header(text)
    if header is None:
        raise OnebasinError(f"{path}: its header is damaged; {REMAKE}")
    if of_file(path, _place_of(header["sha256"], path)) != header["sha256"]:
        raise OnebasinError(f"{path}: its content does not match its checksum; {REMAKE}")
    return header


def _header(text: str) -> dict[str, Any] | None:
    """The header as an object; None if it is not one that `save` wrote."""
    try:
        header = json.loads(text)
        types = [type(header[key]) for key in ("kind", "facts", "sha256")]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return header if types == [str, dict, str] and re.fullmatch("[0-9a-f]{64}", header["sha256"]) else None


def _place_of(digits: str, path: Path) -> int:
    """Where in the file the header's `sha256` stands: behind the facts, so it is the last of its kind."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        before = rb"\"sha256\": \""
        return 8 + file.read(length).rindex(before + digits.encode()) + len(before)


def _as_os_error(error: safetensors.SafetensorError) -> OSError:
    """A full disk or a folder that cannot be written, of which safetensors tells in words."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(error))


def _difference(name: str, have: Any, want: Any) -> str | None:
    """The first entry in which two JSON values differ, in words; None if there is none."""
    if isinstance(have, dict) and isinstance(want, dict):
        pairs = ((f"{name}.{key}", have.get(key), want.get(key)) for key in sorted(have.keys() | want.keys()))
        return next((found for pair in pairs if (found := _difference(*pair))), None)
    return None if have == want else _brief(f"{name} is {have}, expected {want}")


def _brief(text: object) -> str:
    """What a file or library says, as part of one line that a person can read."""
    line = " ".join(str(text).split())
    return line if len(line) <= 160 else f"{line[:160]}..."
