"""Networks that remember between calls: what they computed of one model's parameters is used for the next.

Attention biases that are gathered once and kept in evaluation mode (LeViT, EfficientFormer) are of this kind. A network
whose parameters are passed in cannot know that its memory is of others, so its numbers would be silently wrong.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from onebasin.networks.copies import attributes_of, copy_sharing_tensors, tensors_beside, tensors_in
from onebasin.parameters import Parameters

Run = Callable[[nn.Module, Parameters], list[Tensor]]
"""(network, parameters) -> its outputs."""


def remembered(module: nn.Module, state: Parameters, run: Run) -> str | None:
    """Where the network keeps what it computed and uses it for other parameters: `module.attribute`; None if nowhere.

    What is kept and not used, such as the last activations, does no harm.

    Args:
        state: some parameters and buffers.
    """
    network = _forgetful(module, state, run)
    before = _kept(network)
    run(network, state)
    changed = [place for place, tensors in _kept(network).items() if tensors != before.get(place)]
    if not changed:
        return None
    other = {name: 1.5 * tensor if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    fresh = run(_forgetful(module, state, run), other)
    same = all(torch.equal(old, new) for old, new in zip(run(network, other), fresh, strict=True))
    return None if same else changed[0]


def _forgetful(module: nn.Module, state: Parameters, run: Run) -> nn.Module:
    """A copy in evaluation mode with its dictionaries of tensors empty, if it can do without them."""
    network = copy_sharing_tensors(module, training=False)
    memories = [
        (part, attribute, value)
        for part in network.modules()
        for attribute, value in attributes_of(part)
        if isinstance(value, dict) and tensors_in(value)
    ]
    if not memories:
        return network
    for part, attribute, value in memories:
        setattr(part, attribute, type(value)())
    try:
        run(copy_sharing_tensors(network, training=False), state)
    except Exception:  # tables that it was built with
        return copy_sharing_tensors(module, training=False)
    return network


def _kept(module: nn.Module) -> dict[str, list[int]]:
    """Which tensors lie beside parameters and buffers, by place."""
    return {place: [id(tensor) for tensor in tensors] for place, tensors in tensors_beside(module).items()}
