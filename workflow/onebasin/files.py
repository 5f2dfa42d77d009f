"""Files that are whole or absent: every output is written beside its place and renamed into it."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from onebasin.errors import OnebasinError

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success rename it to `path`, on failure remove it.

    Raises:
        OnebasinError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    # the suffix stays last: Matplotlib and pandas choose the format by it
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        why = error.strerror or str(error)
        raise OnebasinError(f"{path}: not written ({why}); free the disk or choose another folder") from error
    finally:
        with suppress(OSError):  # where the folder is no folder, there is nothing to remove, either
            temporary.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_frame(frame: "pd.DataFrame", path: str | Path) -> None:
    """Write a data frame as CSV, atomically: nine significant digits, NaN as an empty cell, no index.

    The same frame gives the same bytes on every machine.
    """
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.9g", lineterminator="\n", encoding="utf-8")
