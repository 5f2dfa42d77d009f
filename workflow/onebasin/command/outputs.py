"""Where results go, looked at before any work is done."""

import os
from collections.abc import Iterable
from pathlib import Path

from onebasin.errors import OnebasinError


def check_output(path: Path, inputs: Iterable[Path], suffix: str) -> None:
    """Refuse a file that could not be written afterwards, is an input, or is named as another format."""
    if path.suffix != suffix:
        raise OnebasinError(f"{path}: what is written is a {suffix[1:]} file; name it {path.with_suffix(suffix).name}")
    if path.is_dir():
        raise OnebasinError(f"{path}: a folder; name a file")
    if path.resolve() in [source.resolve() for source in inputs]:
        raise OnebasinError(f"{path}: is an input as well; name another output")
    check_folder(path.parent, path)


def check_folder(folder: Path, output: Path | None = None) -> None:
    """Refuse a folder that cannot be written or made."""
    existing = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    if not existing.is_dir():
        raise OnebasinError(f"{output or folder}: {existing} is a file, not a folder; choose another output")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OnebasinError(f"{output or folder}: {existing} may not be written; choose another folder")
