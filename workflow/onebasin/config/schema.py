"""The schema of a configuration: `schema.yaml`, completed by the settings that the registry's entries bring."""

import copy
import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from jsonschema import Draft202012Validator

from onebasin import registry
from onebasin.registry import entries

STAGES = ("data", "train", "adopt", "symmetries", "match", "merge")  # of a run, beside its measures
OWN = "[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*"  # package.module:callable


def schema() -> dict[str, Any]:
    """The JSON schema of a configuration, for the entries that the registry has now."""
    return _schema(os.environ.get(registry.VARIABLE, ""))


@functools.cache
def _schema(own: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("schema.yaml").read_text(encoding="utf-8"))
    defs = found["$defs"]
    for kind in ("data", "network"):
        known = entries(kind)
        common = defs[kind]["properties"]
        common["name"] = {
            "type": "string",
            "pattern": f"^({'|'.join(known)})$|^{OWN}$",
            "x-allowed": f"{', '.join(known)}, or your own as package.module:callable",
        }
        defs[kind]["allOf"] = [
            {
                "if": {"required": ["name"], "properties": {"name": {"const": name}}},
                "then": _settings(entry, {key: {} for key in common}),
            }
            for name, entry in known.items()
        ]
    defs["methods"]["properties"] = {name: _settings(entry) for name, entry in entries("method").items()}
    defs["methods"]["additionalProperties"]["x-allowed"] = (
        f"{', '.join(entries('method'))}, or one of your own, with `function: package.module:callable` and its settings"
    )
    measures = {name: entry for name, entry in entries("measure").items() if "function" in entry}
    defs["measures"]["properties"] = {name: _settings(entry) for name, entry in measures.items()}
    defs["measures"]["additionalProperties"] = False
    resources = defs["experiment"]["properties"]["resources"]
    needs = resources.pop("additionalProperties")
    resources |= {"additionalProperties": False, "properties": dict.fromkeys((*STAGES, *measures), needs)}
    return found


def _settings(entry: Mapping[str, Any], common: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The schema of an entry's settings."""
    properties = {**(common or {}), **entry.get("settings", {})}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": entry.get("required", []),
        "properties": properties,
    }


def complete(reference: str, settings: dict[str, Any]) -> jsonschema.ValidationError | None:
    """Put the defaults of what is not given into the settings, and return what is wrong with them, if anything is.

    Args:
        reference: which part of the schema they are, such as `#` or `#/$defs/network`.
    """
    whole = schema()
    part = whole if reference == "#" else {"$ref": reference, "$defs": whole["$defs"]}
    found: jsonschema.ValidationError | None = jsonschema.exceptions.best_match(_Completing(part).iter_errors(settings))
    return found


def default_of(key: str) -> Any:
    """What a key of the whole configuration (`threads`, `device`) is if it is not given."""
    return schema()["properties"][key]["default"]


def _with_defaults(
    validator: Any, properties: Mapping[str, Any], instance: Any, part: Mapping[str, Any]
) -> Iterator[jsonschema.ValidationError]:
    """The schema's `properties`, putting in the defaults of those that are absent."""
    if isinstance(instance, dict):
        for name, own in properties.items():
            pointed = own.get("$ref", "").removeprefix("#/$defs/")
            for source in (own, schema()["$defs"].get(pointed, {})):
                if "default" in source:
                    instance.setdefault(name, copy.deepcopy(source["default"]))
    yield from Draft202012Validator.VALIDATORS["properties"](validator, properties, instance, part)


_Completing = jsonschema.validators.extend(Draft202012Validator, {"properties": _with_defaults})
