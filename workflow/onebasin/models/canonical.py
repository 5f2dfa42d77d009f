"""Models in canonical form (`networks.canonical`): each of a stack is brought into it, and computes what it did."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs, Type, map_inputs, type_text
from onebasin.models.running import forward
from onebasin.models.stack import Models, initial
from onebasin.networks.canonical import Canonical, Form, canonical
from onebasin.networks.copies import copied
from onebasin.parameters import Parameters, stacked
from onebasin.seeding import generator
from onebasin.symmetry.check import random_input

FLOAT = "float32"  # the type of inputs that goes without saying
TOLERANCE = 1e-9  # relative, in float64
FACT = "canonical"  # by which an artifact says that its tensors are of a network in canonical form


def form_facts(models: Models) -> dict[str, Any]:
    """What an artifact of one of these models says so that it can be run; nothing, if the network is ordinary."""
    if not isinstance(models.network, Canonical):
        return {}
    return {FACT: asdict(models.network.form), "input_shape": models.input_shape, **type_facts(models.input_type)}


def network_of_form(facts: Mapping[str, Any]) -> Canonical:
    """The network that an artifact with these facts is of.

    Raises:
        OnebasinError: it is none in canonical form, or one of a version that has another.
    """
    try:
        return Canonical(Form(**facts[FACT]))
    except (KeyError, TypeError) as error:
        raise OnebasinError(f"not a model in canonical form as this version knows it ({error})") from None


def type_facts(kind: Type) -> dict[str, Any]:
    """What an artifact says of its network's inputs: nothing, if they are numbers."""
    text = type_text(kind)
    return {} if text == FLOAT else {"input_type": text}


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
    inputs = map_inputs(lambda own: random_input(own, draws), example)
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
