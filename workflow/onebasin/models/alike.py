"""Whether modules differ in nothing but the tensors of their state dicts, so that one of them can stand for all."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs, map_inputs
from onebasin.models.running import forward
from onebasin.models.stack import Models
from onebasin.networks.copies import copy_sharing_tensors, tensors_beside, tensors_in
from onebasin.seeding import generator, global_rng


@torch.no_grad()
def require_alike(models: Models, networks: Sequence[nn.Module]) -> None:
    """Refuse networks of which the first one, given another's tensors, computes something else than that other.

    Then they differ in what no state dict has, such as a buffer that is not persistent or a number, and all models
    would silently have the first one's.

    Raises:
        OnebasinError: they do; the message says where, if a tensor is at fault.
    """
    inputs = map_inputs(_varied, models.example_input)
    for number in range(1, len(networks)):
        try:
            wanted = _outputs(networks[number], models, number, inputs)
            found = _outputs(models.network, models, number, inputs)
        except Exception:  # what does not run is refused where it is needed
            continue
        if _same(wanted, found):
            continue
        places = _differing(networks[0], networks[number])
        where = f" ({', '.join(places)})" if places else ""
        raise OnebasinError(
            f"model {number} differs from model 0 in what is not in its state dict{where}, so that model 0's would be "
            f"used for all; make it a parameter or a persistent buffer, or the same in all"
        )


def _outputs(network: nn.Module, models: Models, number: int, inputs: Inputs) -> list[Tensor]:
    with global_rng("alike"):
        return tensors_in(forward(copy_sharing_tensors(network, training=False), models[number], inputs))


def _same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    if [(part.shape, part.dtype) for part in some] != [(part.shape, part.dtype) for part in others]:
        return False
    return all(torch.allclose(one, other, equal_nan=True) for one, other in zip(some, others, strict=True))


def _varied(example: Tensor) -> Tensor:
    """Random numbers in place of zeros; tokens and masks as they are."""
    if not example.is_floating_point():
        return example
    return torch.randn(example.shape, generator=generator("alike")).to(example)


def _differing(one: nn.Module, other: nn.Module) -> list[str]:
    """The places of tensors that are in both, not in the state dict, and not equal."""
    first, second = _beside_the_state(one), _beside_the_state(other)
    shared = [place for place in first if place in second and first[place].shape == second[place].shape]
    return [place for place in shared if not torch.equal(first[place], second[place])]


def _beside_the_state(network: nn.Module) -> dict[str, Tensor]:
    kept = network.state_dict()
    found = {name: buffer for name, buffer in network.named_buffers() if name not in kept}
    return found | {place: tensors[0] for place, tensors in tensors_beside(network).items() if len(tensors) == 1}
