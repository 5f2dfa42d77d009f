"""Looking things up by name: a built-in by its short name, a user's own as `package.module:callable`."""

import difflib
import functools
import importlib
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onebasin.errors import OnebasinError


@functools.cache
def builtins(kind: str) -> dict[str, dict[str, Any]]:
    """The entries of a kind (`data`, `network`, `method`, `figure`): short name -> `function` and facts about it."""
    return tomllib.loads((Path(__file__).parent / f"{kind}.toml").read_text(encoding="utf-8"))


def function_of(kind: str, name: str) -> str:
    """Where the thing called `name` is, as `package.module:callable`.

    Raises:
        OnebasinError: neither a built-in nor of that form.
    """
    function: str = builtins(kind)[name]["function"] if name in builtins(kind) else name
    if not all(function.partition(":")):
        close = difflib.get_close_matches(name, builtins(kind), n=1)
        hint = f" did you mean {close[0]}?" if close else ""
        known = ", ".join(builtins(kind))
        raise OnebasinError(
            f"no {kind} called '{name}';{hint} known: {known}; your own is named package.module:callable"
        )
    return function


def resolve(kind: str, name: str) -> Callable[..., Any]:
    """The callable called `name`; its module is imported now and not before.

    Raises:
        OnebasinError: no such name, module or callable.
    """
    module_name, _, attribute = function_of(kind, name).partition(":")
    if module_name.partition(".")[0] == "torchvision":
        importlib.import_module("onebasin.machine.vision")  # without which its import may fail
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise OnebasinError(f"{kind} '{name}': cannot import {error.name}; is its folder on PYTHONPATH?") from error
    if not hasattr(module, attribute):
        raise OnebasinError(f"{kind} '{name}': module {module_name} has no '{attribute}'")
    found = getattr(module, attribute)
    if not callable(found):
        raise OnebasinError(f"{kind} '{name}': {attribute} of {module_name} cannot be called")
    return found
