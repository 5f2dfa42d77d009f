"""What a refused configuration is told: one line with the key, what is wrong, and what is allowed."""

import difflib
from collections.abc import Mapping
from typing import Any, Protocol

GONE = {"seeds_per_job": "write seeds that share a job as a range, as in seeds: [0-4, 5-9]"}  # keys of earlier versions


class SchemaError(Protocol):
    """What is used here of `jsonschema.ValidationError`."""

    json_path: str
    message: str
    validator: str
    instance: Any
    schema: Mapping[str, Any]


def explain(error: SchemaError) -> str:
    """One line for a refused configuration: the key, what is wrong, and what is allowed."""
    path = error.json_path.removeprefix("$").removeprefix(".")
    if error.validator == "additionalProperties":
        allowed = error.schema.get("properties", {})
        unknown = next(key for key in error.instance if key not in allowed)
        close = difflib.get_close_matches(unknown, allowed, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        hint = f"{GONE[unknown]}; " if unknown in GONE else hint
        return (
            f"config: {path}{'.' if path else ''}{unknown}: no such key; {hint}allowed: {', '.join(allowed) or 'none'}"
        )
    if error.validator == "oneOf":  # its own message would be the whole section
        ways = [alternative["required"] for alternative in error.schema["oneOf"]]
        has = [key for way in ways for key in way if key in error.instance]
        wants = ", or ".join(" and ".join(way) for way in ways)
        return f"config: {path}: wants either {wants}; has {', '.join(has) or 'neither'}"
    allowed = error.schema.get("x-allowed") or _number_hint(error)
    return f"config: {path}{': ' if path else ''}{error.message}" + (f"; allowed: {allowed}" if allowed else "")


def _number_hint(error: SchemaError) -> str:
    """What to write for a number that YAML took for text: it wants a point before the exponent."""
    try:
        return f"{float(error.instance)}" if error.validator == "type" and isinstance(error.instance, str) else ""
    except ValueError:
        return ""
