"""Models in canonical form: every one of a stack is brought into it, and computes what it computed (`networks.canonical`)."""

from dataclasses import replace

import torch
from torch import nn

from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs, map_inputs
from onebasin.models.running import forward
from onebasin.models.stack import Models, initial
from onebasin.networks.canonical import Canonical, canonical
from onebasin.networks.copies import copied
from onebasin.parameters import Parameters, stacked
from onebasin.seeding import generator

TOLERANCE = 1e-9  # relative, in float64


def canonical_models(models: Models) -> Models:
    """The models in canonical form; that the first one's outputs stay is proven in float64.

    Raises:
        OnebasinError: the network has no such form, or another function in it.
    """
    if models.skipped:
        raise OnebasinError(
            f"{models.skipped[0]} is the first model's in all, and in canonical form it is a part of other tensors; "
            f"leave the models ordinary, or skip nothing"
        )
    ordinary = copied(models.network)
    found: list[Parameters] = []
    result: Canonical | None = None
    for own in models:
        ordinary.load_state_dict(own, assign=True)
        result = canonical(ordinary)
        found.append(initial(result))
    assert result is not None, "no models"
    ordinary.load_state_dict(models[0], assign=True)
    prove_canonical(ordinary, models.example_input)
    return replace(models, network=result.eval(), parameters=stacked(found))


@torch.no_grad()
def prove_canonical(network: nn.Module, example: Inputs) -> float:
    """The largest relative change of the outputs between a network and its canonical form, in float64, on random
    inputs.

    Raises:
        OnebasinError: it is above `TOLERANCE`.
    """
    draws = generator("canonical")
    inputs = map_inputs(
        lambda own: (
            torch.randn(own.shape, dtype=torch.float64, generator=draws).to(own.device)
            if own.is_floating_point()
            else own
        ),
        example,
    )
    one = copied(network).double().eval()
    other = canonical(one)
    before, after = forward(one, initial(one), inputs), forward(other, initial(other), inputs)
    before = before if isinstance(before, torch.Tensor) else before["logits"]  # the transformers library's outputs
    if before.shape != after.shape:  # logits of positions, in the other order
        before = before.transpose(1, 2)
    change = float((before - after).abs().max() / before.abs().max())
    if not change <= TOLERANCE:
        raise OnebasinError(
            f"{type(network).__name__} computes something else in canonical form (by {change:.1e} of its size): it has "
            f"something that the form does not know; leave it ordinary"
        )
    return change
