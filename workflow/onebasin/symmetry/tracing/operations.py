"""What each operation of a network makes of the layouts of its inputs: one rule an operation.

A rule gets a `Call` and returns the layouts of the results. Whatever has to be permuted alike for the operation to
commute with permutations, it equates; what must stay, it fixes. Elementwise operations of ATen need no rules of their
own, they carry a tag that says what they are. Operations without a rule are fixed altogether by the tracer, and so is
a call that its rule refuses with `NotImplementedError`.
"""

from typing import Any

import torch

from onebasin.symmetry.tracing import arithmetic, rearranging
from onebasin.symmetry.tracing.call import Rule

_RULES = arithmetic.RULES | rearranging.RULES


def is_elementwise(operation: torch._ops.OpOverload) -> bool:
    """Whether every place of an ATen operation's result depends on that place of its arguments alone."""
    return torch.Tag.pointwise in operation.tags or _rule_named(operation) is arithmetic.elementwise


def rule_of(operation: Any) -> Rule | None:
    """The rule of an ATen operation, None if it has none."""
    if not isinstance(operation, torch._ops.OpOverload):
        return None
    if operation.namespace != "aten":
        return _RULES.get(operation.name())
    if is_elementwise(operation):
        return arithmetic.elementwise
    return _rule_named(operation)


def _rule_named(operation: torch._ops.OpOverload) -> Rule | None:
    name = operation.name().removeprefix("aten::")  # of the form mean.dim, where dim tells it from others called mean
    return _RULES.get(name, _RULES.get(name.partition(".")[0]))
