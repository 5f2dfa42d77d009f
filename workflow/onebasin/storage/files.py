"""Files that are whole or absent: every output is written beside its place and renamed into it.

What is read has to be a regular file, or a link to one: a pipe or a device in its place would be waited for.
"""

import errno
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from onebasin.errors import OnebasinError
from onebasin.storage import digests

if TYPE_CHECKING:
    import pandas as pd

_SEAL = "# sha256 "
_TEMPORARY = re.compile(r"\..+-[0-9a-f]{12}(\.[^.]*)?")
_WAY_OUT: dict[int | None, str] = {
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make the folder writable or choose another"),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), "something that is no folder stands in its way: remove it"),
    **dict.fromkeys((errno.EISDIR, errno.ENOTEMPTY), "a folder stands in its place: remove it"),
}


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary file in the folder of `path`; on success rename it to `path`, on failure remove it.

    Its mode is that of any new file there, whatever writes it.

    Raises:
        OnebasinError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    # the suffix stays last: Matplotlib and pandas choose the format by it
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode  # what the user's umask gives; safetensors would leave the file to its owner
        yield temporary
        temporary.chmod(mode)
        _flush(temporary)
        temporary.replace(path)
    except OSError as error:
        why = error.strerror or str(error)
        way_out = _WAY_OUT.get(error.errno, "free the disk or choose another folder")
        raise OnebasinError(f"{path}: not written ({why}); {way_out}") from error
    finally:
        with suppress(OSError):  # where the folder is no folder, there is nothing to remove, either
            temporary.unlink()


def _flush(path: Path) -> None:
    """Have the file on the disk before it gets its name: network file systems and quotas refuse only here."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: str | Path) -> None:
    """Remove below `folder` what writers left that were killed. No writer may be at work there."""
    for path in Path(folder).rglob(".*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def require_regular(path: str | Path) -> None:
    """Refuse a path where there is no regular file, nor a link to one.

    Raises:
        OnebasinError: nothing is there, something else is, or it may not be looked at.
    """
    try:
        mode = Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        what = "a link that leads nowhere" if os.path.islink(path) else "no such file"
        raise OnebasinError(f"{path}: {what}; run the workflow to make it") from None
    except OSError as error:
        raise OnebasinError(f"{path}: cannot be read ({error.strerror}); give a file that can") from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe, device or socket"
        raise OnebasinError(f"{path}: {what}, not a file; remove it and run again")


def read_text(path: str | Path) -> str:
    """The UTF-8 text of a regular file, its line ends as they are.

    Raises:
        OnebasinError: there is no such file, it cannot be read, or it is not UTF-8.
    """
    require_regular(path)
    try:
        return Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise OnebasinError(f"{path}: not UTF-8 text; delete it and run again to make it anew") from None
    except OSError as error:
        raise OnebasinError(f"{path}: cannot be read ({error.strerror}); give a file that can") from None


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_frame(frame: "pd.DataFrame", path: str | Path) -> None:
    """Write a data frame as CSV, atomically: nine significant digits, NaN as an empty cell, no index.

    The same frame gives the same bytes on every machine.
    """
    write_text(path, as_csv(frame))


def write_sealed_text(text: str, path: str | Path) -> None:
    """Write text, and as a last line the SHA-256 of what stands before it: for what jobs hand to other jobs."""
    write_text(path, f"{text}{_SEAL}{digests.of_text(text)}\n")


def read_sealed(path: str | Path) -> str:
    """The text of a file that `write_sealed_text` wrote.

    Raises:
        OnebasinError: there is no such file, or it is not as it was written.
    """
    text, _, seal = read_text(path).rpartition(_SEAL)
    if seal != f"{digests.of_text(text)}\n":
        raise OnebasinError(f"{path}: its rows do not match its checksum; delete it and run again to make it anew")
    return text


def as_csv(frame: "pd.DataFrame") -> str:
    """A data frame as the text that `write_frame` writes."""
    text: str = frame.to_csv(index=False, float_format="%.9g", lineterminator="\n")
    return text
