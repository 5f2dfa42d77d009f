"""One search: the random stream that a method draws from, and the artifact of what it found."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from onebasin.data import Data
from onebasin.models.stack import Models
from onebasin.seeding import generator
from onebasin.symmetry.alignment import Alignment, save_alignment
from onebasin.symmetry.spec import Spec

Search = Callable[..., Alignment]


def run_search(
    search: Search,
    method: str,
    models: Models,
    spec: Spec,
    data: Data | None,
    settings: Mapping[str, Any],
    seed: int,
    trial: int,
) -> Alignment:
    """Search the permutations of the models; the method's name, the seed, N and the trial decide its random numbers.

    Args:
        search: the function called `method`.
        data: may be None for a method that reads nothing but weights.
        seed: the root of an experiment's random streams.
    """
    draws = generator(seed, "search", method, len(models), trial, device=models.device)
    return search(models, spec, data, settings, draws)


def save_found(
    path: str | Path,
    permutations: Alignment,
    models: Models,
    method: str,
    settings: Mapping[str, Any],
    trial: int,
    **facts: Any,
) -> None:
    """Write the permutations of the models, with what they were searched by and any other `facts`."""
    save_alignment(path, permutations, models=models.seeds, method=method, settings=settings, trial=trial, **facts)
