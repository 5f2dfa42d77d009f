"""One search: the random stream that a method draws from, and the artifact of what it found."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from onebasin.data import Data
from onebasin.models.stack import Models
from onebasin.networks.copies import copied
from onebasin.seeding import generator
from onebasin.symmetry.alignment import Alignment, save_alignment
from onebasin.symmetry.apply import identity
from onebasin.symmetry.kinds.orthogonal import matrix_of
from onebasin.symmetry.spec import Spec

Search = Callable[..., Alignment]
FLOAT32 = 4  # bytes of a number


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
    seen = spec.without(models.skipped) if models.skipped else spec
    if not seen.groups:  # a network without symmetries, as asymmetric ones are
        return Alignment(identity(spec, len(models), models.device), {"steps": 0})
    found = _searched(search, _widened(models), seen, data, settings, draws)
    if seen is spec:
        return found
    # what a search does not see stays as it is
    return replace(found, elements=identity(spec, len(models), models.device) | found.elements)


def _searched(
    search: Search, models: Models, spec: Spec, data: Data | None, settings: Mapping[str, Any], draws: Any
) -> Alignment:
    """What the search finds; without `rotations`, if the settings say so, permutations where more might act."""
    rotated = spec.rotated
    if settings.get("rotations", True) or not rotated:
        return search(models, spec, data, settings, draws)
    groups = [replace(g, kind="permutation") if g.name in rotated else g for g in spec.groups]
    found = search(models, replace(spec, groups=tuple(groups)), data, settings, draws)
    elements = {name: matrix_of(own) if name in rotated else own for name, own in found.elements.items()}
    return replace(found, elements=elements)


def _widened(models: Models) -> Models:
    """The models in float32 at least, as sums of half precision tell units apart badly; no value changes."""
    narrow = {name for name, t in models.parameters.items() if t.is_floating_point() and t.itemsize < FLOAT32}
    if not narrow:
        return models
    wide = {name: tensor.float() if name in narrow else tensor for name, tensor in models.parameters.items()}
    return replace(models, parameters=wide, network=copied(models.network).float())


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
