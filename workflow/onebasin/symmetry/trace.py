"""Deriving the spec of a network from itself. Here: a sequence of linear layers and elementwise functions."""

import itertools

import torch
from torch import Tensor, nn

from onebasin.errors import OnebasinError
from onebasin.symmetry.spec import Axis, Group, Spec

ELEMENTWISE = (nn.ReLU, nn.GELU, nn.Tanh, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Sigmoid, nn.Identity)


def trace(module: nn.Module, example_input: Tensor) -> Spec:
    """The permutation groups of `module`, one per hidden layer.

    Args:
        module: an `nn.Sequential` of `nn.Flatten` (first), `nn.Linear` and elementwise activations.
        example_input: a batch that the module accepts, `[n, ...]`; it is run once.

    Raises:
        OnebasinError: the module holds anything else, so that its symmetries are not known.
    """
    with torch.no_grad():
        module(example_input)
    if not isinstance(module, nn.Sequential):
        raise OnebasinError(f"{type(module).__name__}: only nn.Sequential can be traced; build the network as one")
    linear = [(name, layer) for name, layer in module.named_children() if isinstance(layer, nn.Linear)]
    for position, (name, layer) in enumerate(module.named_children()):
        first = position == 0 and isinstance(layer, nn.Flatten)
        if not (first or isinstance(layer, (nn.Linear, *ELEMENTWISE))):
            raise OnebasinError(
                f"layer {name} ({type(layer).__name__}): its permutation symmetry is not known; "
                "use nn.Linear and elementwise activations"
            )
    seen: list[nn.Parameter] = []
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if any(parameter is other for other in seen):
            raise OnebasinError(
                f"layer {name.rpartition('.')[0]}: shares {name} with a layer before it; give it its own"
            )
        seen.append(parameter)
    groups = []
    for (name, layer), (after, _) in itertools.pairwise(linear):
        leaving = [Axis(f"{name}.weight", 0)]
        if layer.bias is not None:
            leaving.append(Axis(f"{name}.bias", 0))
        groups.append(Group(name, layer.out_features, (*leaving, Axis(f"{after}.weight", 1))))
    return Spec(tuple(groups))
