"""Settings outside a configuration file, completed and refused by the schema of the configuration.

The schema is the one place that knows which settings there are, what they may be and what they are if not given.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from onebasin.config.explain import explain
from onebasin.config.schema import complete
from onebasin.errors import OnebasinError
from onebasin.registry import entries, function_of

NAMED = re.compile(r"(?P<name>.*?)(?::(?P<settings>\w+=.*))?", re.DOTALL)


def parse_named(text: str) -> tuple[str, dict[str, Any]]:
    """A name and its settings from `name:key=value,key=value`; the name may be `package.module:callable`.

    Raises:
        OnebasinError: a value is not a finite number where it looks like a number.
    """
    found = NAMED.fullmatch(text)
    assert found is not None  # it matches everything
    settings = re.split(r",(?=\w+=)", found["settings"]) if found["settings"] else []
    return found["name"], dict(parse_setting(setting) for setting in settings)


def parse_setting(text: str) -> tuple[str, Any]:
    """A key and its value from `key=value`; the value is read as YAML, and `1e-3` as the number that it is.

    Raises:
        OnebasinError: it has no `=`, or the value is no YAML or not finite.
    """
    key, equals, written = text.partition("=")
    if not (key and equals):
        raise OnebasinError(f"'{text}' is no setting; write key=value")
    try:
        value = yaml.safe_load(written)
    except yaml.YAMLError:
        raise OnebasinError(f"{key}: '{written}' cannot be read; write a number, a word or {{key: value}}") from None
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise OnebasinError(f"{key}: {written} is not a finite number")
    return key, value


def network_settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the network called `name`, as `networks.build.new_network` takes them.

    Raises:
        OnebasinError: there is no such network or setting, or a value is not allowed. So for the functions below.
    """
    function_of("network", name)
    return _completed("#/$defs/network", {"name": name, **given}, f"network {name}")


def data_settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the data set called `name`, as `data.make_data` takes them."""
    function_of("data", name)
    return _completed("#/$defs/data", {"name": name, **given}, f"data {name}")


def method_settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the search called `name`; those of your own (`package.module:callable`) are left as they are."""
    function_of("method", name)
    if name not in entries("method"):
        return dict(given)
    return _completed(f"#/$defs/methods/properties/{name}", given, f"method {name}")


def needs_data(method: str) -> bool:
    """Whether a search reads more than weights. A search of your own is asked for nothing: it may do with what it gets.

    Raises:
        OnebasinError: there is no such method.
    """
    function_of("method", method)
    facts = entries("method").get(method)
    return facts is not None and not facts.get("weights_only", False)


def reads_targets(method: str) -> bool:
    """Whether a search judges networks by the data's targets; one of your own is asked for nothing."""
    facts = entries("method").get(method)
    return facts is not None and not (facts.get("weights_only") or facts.get("inputs_only"))


def stage_settings(stage: str, **given: Any) -> dict[str, Any]:
    """The settings of a stage (`normalization`, `interpolation`, `sharpness`); None stands for the default."""
    said = {key: value for key, value in given.items() if value is not None}
    return _completed(f"#/$defs/experiment/properties/{stage}", said, stage)


def _completed(reference: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    settings = dict(given)
    error = complete(reference, settings)
    if error is not None:
        raise OnebasinError(f"{where}: {explain(error).removeprefix('config: ')}")
    return settings
