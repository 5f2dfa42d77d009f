"""Records of tables: what a table's columns are, and how it is summed up for readers.

A table's record stands in the entry of the measure that fills it (`registry/measure.toml`). Losses are in nats and
accuracies in [0, 1].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onebasin.errors import OnebasinError
from onebasin.registry import entries

# keys that are no numbers, and keys that are whole ones
_TEXT = {"experiment", "method", "split", "model", "model_a", "model_b", "estimator", "point", "layer"}
_WHOLE = {"seed", "epoch", "count", "trial", "rank"}


@dataclass(frozen=True)
class Table:
    """What a table is.

    Attributes:
        name: what it is called.
        keys: the columns that name a row, in the order of sorting; no two rows share them.
        values: the columns that a row holds beside.
        text, whole, truth: columns that are no floats: text (models too), whole numbers, True and False.
        words: what the report says of its summary; without them it has none.
        shown: the values that the summary is of.
        sections, rows, beside: the keys that the summary keeps apart, beside experiment, method and count: in sections,
            in rows of their own, and spread over columns (`role`: merged, parents, or a control by its name).
        per_cent, decimals, headings: how numbers are set, and what stands above them.
        group: the part of the report.
        varied: the columns of settings that a study varies, numbers or text.
        columns: all columns in their order.
    """

    name: str
    keys: Sequence[str]
    values: Sequence[str]
    text: Sequence[str] = ()
    whole: Sequence[str] = ()
    truth: Sequence[str] = ()
    words: str = ""
    shown: Sequence[str] = ()
    sections: Sequence[str] = ()
    rows: Sequence[str] = ()
    beside: str | None = None
    per_cent: Sequence[str] = ()
    decimals: Mapping[str, int] = field(default_factory=dict)
    headings: Mapping[str, str] = field(default_factory=dict)
    group: str = "03. Tables"
    varied: Sequence[str] = ()
    columns: Sequence[str] = ()

    @classmethod
    def of(cls, name: str, record: Mapping[str, Any], varied: Sequence[str] = ()) -> "Table":
        """The table of an entry's record; a study's has the columns `varied` behind the experiment.

        Raises:
            OnebasinError: the record is not one.
        """
        try:
            keys = ["experiment", *varied, *record["keys"]]
            values = list(record["values"])
            facts = {
                "columns": [*keys, *values],
                "shown": values,
                **record,
                "keys": keys,
                "text": {*record.get("text", []), *_TEXT},
                "whole": {*record.get("whole", []), *_WHOLE},
                "rows": [*varied, *record.get("rows", [])],
                "varied": varied,
            }
            return cls(name, **facts)
        except (KeyError, TypeError) as error:
            raise OnebasinError(f"table {name}: its record is wrong ({error}); see registry/measure.toml") from None


# Verdicts are no measure's: the claims make them.
_CLAIMS = {
    "keys": ["paper", "claim"],
    "values": ["statement", "verdict", "effect", "low", "high", "detail"],
    "columns": ["paper", "claim", "statement", "experiment", "verdict", "effect", "low", "high", "detail"],
    "text": ["paper", "claim", "statement", "verdict", "detail"],
}


def records() -> dict[str, Mapping[str, Any]]:
    """The records of all tables by name."""
    measures = entries("measure").values()
    return {name: record for entry in measures for name, record in entry.get("tables", {}).items()} | {
        "claims": _CLAIMS
    }


def table(name: str, varied: Sequence[str] = ()) -> Table:
    """The table called `name`; of a study that varies these settings.

    Raises:
        OnebasinError: there is none.
    """
    known = records()
    if name not in known:
        raise OnebasinError(f"no table called '{name}'; known: {', '.join(known)}")
    return Table.of(name, known[name], varied)
