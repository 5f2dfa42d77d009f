"""The one digest of content: SHA-256, in hexadecimal, of files, texts, JSON values and tensors."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

UNSEALED = "0" * 64  # what stands in a file in the place of its own digest until that is known


def of_text(text: str) -> str:
    """Of a text as UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def of_json(content: Any) -> str:
    """Of a JSON value, however it is laid out and its keys are ordered."""
    return of_text(json.dumps(content, sort_keys=True))


def of_file(path: str | Path, seal: int | None = None) -> str:
    """Of a file's bytes; of one that holds its digest at byte `seal`, as it was before this was written."""
    with Path(path).open("rb") as file:
        before = hashlib.sha256()
        if seal is not None:
            before.update(file.read(seal) + UNSEALED.encode())
            file.seek(len(UNSEALED), os.SEEK_CUR)
        return hashlib.file_digest(file, lambda: before).hexdigest()  # a chunk at a time


def of_tensors(tensors: Mapping[str, "Tensor"]) -> str:
    """Of names, types, shapes and bytes of tensors on the CPU, whatever their order."""
    import torch  # most users of this module need none

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        if tensor.numel():
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
