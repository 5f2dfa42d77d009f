"""Put independently trained networks into one low-loss basin by permuting their hidden units."""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "barrier",
    "check",
    "evaluate",
    "load_canonical",
    "load_data",
    "load_models",
    "match",
    "merge",
    "permute",
    "stack_models",
    "symmetries",
    "trace",
]


def __getattr__(name: str) -> Any:
    """The functions of `onebasin.api`, imported when one is asked for: the workflow's graph is built without torch.

    By name, not by an import statement, which would make every job depend on all of the library (`fingerprint`).
    """
    if name in __all__:
        return getattr(importlib.import_module("onebasin.api"), name)
    raise AttributeError(f"module 'onebasin' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
