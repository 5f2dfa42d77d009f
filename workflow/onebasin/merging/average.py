"""Merging: the plain average of permuted models, weights 1/N (Ito et al. 2025, section on merging many models)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from onebasin.merging.recalibration import Recalibration
from onebasin.models.canonical import form_facts
from onebasin.models.stack import Models
from onebasin.parameters import Parameters, mean
from onebasin.storage import artifacts
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import act_on_stack
from onebasin.symmetry.spec import Spec


def aligned_models(models: Models, spec: Spec, permutations: Alignment) -> Models:
    """The models, each with its units in their new order; every one computes what it computed before."""
    indices = permutations.to(models.device).elements  # those of a file are on the CPU
    return replace(models, parameters=act_on_stack(models.parameters, spec, indices))


def merge(models: Models, spec: Spec, permutations: Alignment, recalibrate: Recalibration | None = None) -> Parameters:
    """The average of the models after permuting each, recalibrated if that is given; one model's parameters."""
    permuted = aligned_models(models, spec, permutations)
    average = mean(permuted.parameters) | {name: permuted[0][name] for name in models.skipped}
    return recalibrate(average, recalibrate.statistics([*permuted])) if recalibrate else average


def save_merged(path: str | Path, merged: Parameters, models: Models, method: str, trial: int, **facts: Any) -> None:
    """Write a merged model (artifact of kind `merged`), with the models and the method that it is from, and `facts`."""
    facts |= form_facts(models)
    artifacts.save(path, "merged", merged, method=method, trial=trial, models=models.seeds, **facts)
