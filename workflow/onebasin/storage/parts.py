"""Parts: what a job measured, several tables in one file that is sealed with a checksum.

## merged
split,loss,...
...
## pairwise
...
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from onebasin.storage.files import as_csv, read_sealed, write_sealed_text

if TYPE_CHECKING:
    import pandas as pd

HEAD = "## "


Row = Mapping[str, str | float | None]


def write_parts(tables: Mapping[str, "pd.DataFrame | Row"], path: str | Path) -> None:
    """Write data frames by table; numbers have nine significant digits.

    One that has a single row may be a mapping: a job that measures a single thing needs no pandas.
    """
    texts = {name: _row_as_csv(rows) if isinstance(rows, Mapping) else as_csv(rows) for name, rows in tables.items()}
    write_sealed_text("".join(f"{HEAD}{name}\n{text}" for name, text in texts.items()), path)


def _row_as_csv(row: Row) -> str:
    cells = [f"{value:.9g}" if isinstance(value, float) else value for value in row.values()]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([row.keys(), ["" if cell == "nan" else cell for cell in cells]])
    return text.getvalue()


def read_texts(path: str | Path) -> dict[str, str]:
    """The CSV text of each table in a file that `write_parts` wrote.

    Raises:
        OnebasinError: there is no such file, or it is not as it was written.
    """
    found: dict[str, str] = {}
    for section in read_sealed(path).split(f"\n{HEAD}"):
        name, _, text = section.removeprefix(HEAD).partition("\n")
        found[name] = text if text.endswith("\n") else f"{text}\n"
    return found


def read_parts(path: str | Path) -> dict[str, "pd.DataFrame"]:
    """The data frames in a file that `write_parts` wrote, by table; errors as for `read_texts`."""
    import pandas as pd

    return {name: pd.read_csv(io.StringIO(text)) for name, text in read_texts(path).items()}
