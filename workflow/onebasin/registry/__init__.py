"""Looking things up by name: an entry of a registry file, or a user's own as `package.module:callable`.

A kind has a file here, `<kind>.toml`; its first lines explain its entries. They are no Python: a new entry changes no
program, so nothing that exists is made anew. A configuration may name files of the user's own (`use`), with a section
`[<kind>.<name>]` an entry.
"""

import difflib
import functools
import importlib
import os
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from onebasin.errors import OnebasinError

KINDS = ("data", "network", "canonical", "objective", "method", "measure", "figure", "effect")
CROSS_ENTROPY = "cross_entropy"  # the objective that goes without saying
VARIABLE = "ONEBASIN_REGISTRY"  # the user's own files for the processes that a run starts

Entry = dict[str, Any]


def use(paths: Iterable[str | Path]) -> None:
    """Look things up in these files of the user's own, too, here and in the processes that are started from here.

    Raises:
        OnebasinError: a file cannot be read, is no such file, or has an entry that is there already.
    """
    os.environ[VARIABLE] = os.pathsep.join(str(Path(path).absolute()) for path in paths)
    for kind in KINDS:
        entries(kind)


def entries(kind: str) -> dict[str, Entry]:
    """The entries of a kind (`KINDS`) by name: built-in ones, then the user's own."""
    return _entries(kind, os.environ.get(VARIABLE, ""))


@functools.cache
def _entries(kind: str, own: str) -> dict[str, Entry]:
    found = tomllib.loads((Path(__file__).parent / f"{kind}.toml").read_text(encoding="utf-8"))
    for path in filter(None, own.split(os.pathsep)):
        for name, entry in _own_file(path).get(kind, {}).items():
            if name in found:
                raise OnebasinError(f"{path}: {kind}.{name}: there is a {kind} of that name already; choose another")
            if not (isinstance(entry, dict) and all(str(entry.get("function", "")).partition(":"))):
                raise OnebasinError(f'{path}: {kind}.{name}: no function; write function = "package.module:callable"')
            found[name] = entry
    return found


@functools.cache
def _own_file(path: str) -> dict[str, Any]:
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise OnebasinError(f"config: registry: {path}: cannot be read ({error.strerror}); name a file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OnebasinError(f"{path}: not TOML ({error}); correct it there") from None
    for kind, named in found.items():
        if kind not in KINDS or not isinstance(named, dict):
            raise OnebasinError(f"{path}: {kind}: no kind of entry; write [kind.name], kind being {', '.join(KINDS)}")
    return found


def function_of(kind: str, name: str) -> str:
    """Where the thing called `name` is, as `package.module:callable`.

    Raises:
        OnebasinError: neither an entry nor of that form.
    """
    known = entries(kind)
    function: str = known[name]["function"] if name in known else name
    if not all(function.partition(":")):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" did you mean {close[0]}?" if close else ""
        raise OnebasinError(
            f"no {kind} called '{name}';{hint} known: {', '.join(known)}; your own is named package.module:callable"
        )
    return function


def _imported(name: str) -> ModuleType:
    """The module of that name, which may import torchvision: beside a CPU-only torch that fails without our help."""
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    importlib.import_module("onebasin.machine.vision")
    return importlib.import_module(name)


def resolve(kind: str, name: str) -> Callable[..., Any]:
    """The callable called `name`; its module is imported now and not before.

    Raises:
        OnebasinError: no such name, module or callable.
    """
    module_name, _, attribute = function_of(kind, name).partition(":")
    try:
        module = _imported(module_name)
    except ModuleNotFoundError as error:
        raise OnebasinError(f"{kind} '{name}': cannot import {error.name}; is its folder on PYTHONPATH?") from error
    if not hasattr(module, attribute):
        raise OnebasinError(f"{kind} '{name}': module {module_name} has no '{attribute}'")
    found: Callable[..., Any] = getattr(module, attribute)
    if not callable(found):
        raise OnebasinError(f"{kind} '{name}': {attribute} of {module_name} cannot be called")
    return found
