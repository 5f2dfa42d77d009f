"""Looking things up by name: a built-in by its short name, a user's own as `package.module:callable`."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from onebasin.errors import OnebasinError


def resolve(name: str, builtin: Mapping[str, str], what: str) -> Callable[..., Any]:
    """The callable called `name`: an entry of `builtin` (short name -> `module:callable`), or `module:callable` itself.

    Nothing is imported before it is asked for.

    Raises:
        OnebasinError: no such name, module or callable.
    """
    target = builtin.get(name, name)
    module_name, colon, attribute = target.partition(":")
    if not colon:
        known = ", ".join(builtin)
        raise OnebasinError(f"no {what} called '{name}'; known: {known}; your own is named package.module:callable")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise OnebasinError(f"{what} '{name}': cannot import {error.name}; is it on PYTHONPATH?") from error
    except AttributeError:
        raise OnebasinError(f"{what} '{name}': module {module_name} has no '{attribute}'") from None
    if not callable(found):
        raise OnebasinError(f"{what} '{name}': {target} cannot be called")
    return found
