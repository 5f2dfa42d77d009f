"""Elements acting on a network's tensors, whatever the kinds of its groups.

Parameters are dictionaries of tensors keyed like a `state_dict`. Elements are a tensor a group, those of a stack of N
models with a leading model axis.
"""

from collections.abc import Callable, Mapping
from itertools import groupby

import torch
from torch import Tensor

from onebasin.parameters import Parameters, one
from onebasin.symmetry.kinds import Kind, kind_of
from onebasin.symmetry.spec import Group, Parts, Spec

Elements = dict[str, Tensor]


def act(parameters: Mapping[str, Tensor], spec: Spec, elements: Mapping[str, Tensor]) -> Parameters:
    """One model's parameters after the element of every group has acted on them."""
    joined = spec.join(parameters)
    moved = spec.part({name: act_on_tensor(name, tensor, spec, elements) for name, tensor in joined.items()})
    return {name: moved[name] for name in parameters}


def act_on_stack(stack: Mapping[str, Tensor], spec: Spec, elements: Mapping[str, Tensor]) -> Parameters:
    """The same for a stack: tensors `[N, ...]`, and elements of N models."""
    own = [one(elements, model) for model in range(len(next(iter(stack.values()))))]
    moved = {
        name: torch.stack([act_on_tensor(name, tensor[model], spec, mine) for model, mine in enumerate(own)])
        if spec.axes_of(name)
        else tensor
        for name, tensor in spec.join(stack, leading=1).items()
    }
    moved = spec.part(moved, leading=1)
    return {name: moved[name] for name in stack}


def act_on_tensor(
    name: str, tensor: Tensor, spec: Spec, elements: Mapping[str, Tensor], without: int | None = None
) -> Tensor:
    """One tensor of one model, as groups know it (`Spec.join`), after the elements have acted along its axes.

    Args:
        without: the number of an axis that is left as it is.
    """
    for axis, parts in spec.axes_of(name).items():
        if axis != without:
            tensor = act_on_axis(tensor, axis, parts, elements)
    return tensor


def act_on_axis(tensor: Tensor, axis: int, parts: Parts, elements: Mapping[str, Tensor]) -> Tensor:
    """A tensor after the elements of the groups of `parts` have acted along one axis of it."""
    for _, alike in groupby(parts, lambda part: part[1].kind):
        mine = list(alike)
        places = [(place, group, elements[group.name]) for place, group in mine]
        tensor = kind_of(mine[0][1]).act(tensor, axis, places)
    return tensor


def identity(spec: Spec, models: int = 1, device: torch.device | str = "cpu") -> Elements:
    """The elements of `models` models that change nothing."""
    return _each(spec, lambda kind, group: torch.stack([kind.identity(group, device)] * models))


def random_elements(spec: Spec, models: int, generator: torch.Generator) -> Elements:
    """Independent uniformly random elements of every group and of `models` models."""
    return _each(spec, lambda kind, group: torch.stack([kind.random(group, generator) for _ in range(models)]))


def invert(spec: Spec, elements: Mapping[str, Tensor]) -> Elements:
    """The elements that undo these, of one model or a stack."""
    return {group.name: kind_of(group).invert(elements[group.name]) for group in spec.groups}


def compose(spec: Spec, first: Mapping[str, Tensor], then: Mapping[str, Tensor]) -> Elements:
    """The elements that do what `first` and `then` do one after the other."""
    return {g.name: kind_of(g).compose(first[g.name], then[g.name]) for g in spec.groups}


def to_first(spec: Spec, elements: Mapping[str, Tensor]) -> Elements:
    """The elements of a stack after which the first model is as it was, and all others lie to it as before."""
    back = invert(spec, {name: element[:1].expand_as(element) for name, element in elements.items()})
    return compose(spec, elements, back)


def _each(spec: Spec, make: Callable[[Kind, Group], Tensor]) -> Elements:
    return {group.name: make(kind_of(group), group) for group in spec.groups}
