"""Merging: the plain average of permuted models, weights 1/N (Ito et al. 2025, section on merging many models)."""

from dataclasses import replace

from onebasin.models import Models, mean
from onebasin.symmetry.apply import Parameters, permute_stack
from onebasin.symmetry.permutations import Permutations
from onebasin.symmetry.spec import Spec


def permuted_models(models: Models, spec: Spec, permutations: Permutations) -> Models:
    """The models, each with its units in their new order; every one computes what it computed before."""
    return replace(models, parameters=permute_stack(models.parameters, spec, permutations.indices))


def merge(models: Models, spec: Spec, permutations: Permutations) -> Parameters:
    """The average of the models after permuting each; one model's parameters."""
    return mean(permuted_models(models, spec, permutations).parameters)
