"""Searches for permutations that bring N models together. Every method is one function

    (models, spec, data, settings, generator) -> Permutations

registered here by name. This module is light: the workflow reads it to know the methods.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """Where a method's function is (`module:callable`), and whether it searches `model_by_model`.

    Such a search treats every model apart from the others, so the permutations of the first N models of a trial are
    the first N permutations: it is made once a trial.
    """

    function: str
    model_by_model: bool = False


METHODS = {
    "naive": Method("onebasin.matching.naive:naive", model_by_model=True),
    "weight_matching": Method("onebasin.matching.weight:weight_matching"),
    "ste": Method("onebasin.matching.ste:ste", model_by_model=True),
    "ste_mm": Method("onebasin.matching.ste_mm:ste_mm"),
}
