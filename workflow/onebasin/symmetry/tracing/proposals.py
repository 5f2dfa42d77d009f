"""Parts of a network that look as if they may change places, where it does not say so: the experts of a mixture.

Modules of a list with tensors of the same shapes, or tensors with as many places along their first axis, beside a gate
that has a row for each. What looks so need not be so: proposals are for `symmetry.trace` to prove.
"""

from collections.abc import Iterator

from torch import Tensor, nn

Proposal = tuple[str, tuple[str, ...]]
"""The name of a module, and what of it may change places, as `tracing.declared` has it."""

LISTS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList)
CONVOLUTIONS = (nn.Conv1d, nn.ConvTranspose1d)
STACKED_AXES = 3  # of a tensor with the matrices of all experts


def proposals(module: nn.Module) -> Iterator[Proposal]:
    """What may be worth a proof, in all modules that say nothing."""
    for path, part in module.named_modules():
        if not getattr(part, "interchangeable", ()) and not isinstance(part, LISTS):
            for size in sorted({size for size in map(_blocks, _parts(part).values()) if size > 1}):
                names = tuple(name for name, own in _parts(part).items() if _blocks(own) == size)
                if _has_experts(part, names) and _has_gate(part, names):
                    yield path, names


def _parts(part: nn.Module) -> dict[str, nn.Module | Tensor]:
    """The modules and parameters that a module has itself."""
    return {**dict(part.named_children()), **dict(part.named_parameters(recurse=False))}


def _blocks(own: nn.Module | Tensor) -> int:
    """How many blocks there are in a part of a module; 0 if they are not alike."""
    if isinstance(own, LISTS):
        members = list(own.values()) if isinstance(own, nn.ModuleDict) else list(own)
        shapes = [[tensor.shape for tensor in _tensors(member)] for member in members]
        return len(members) if shapes and shapes[0] and all(one == shapes[0] for one in shapes) else 0
    sizes = {tensor.shape[0] if tensor.dim() else 0 for tensor in _tensors(own)}
    return sizes.pop() if len(sizes) == 1 else 0


def _tensors(own: nn.Module | Tensor) -> list[Tensor]:
    return [own] if isinstance(own, Tensor) else list(own.parameters())


def _has_experts(part: nn.Module, names: tuple[str, ...]) -> bool:
    own = [_parts(part)[name] for name in names]
    return any(
        isinstance(one, LISTS)
        or (not isinstance(one, CONVOLUTIONS) and any(tensor.dim() == STACKED_AXES for tensor in _tensors(one)))
        for one in own
    )


def _has_gate(part: nn.Module, names: tuple[str, ...]) -> bool:
    own = [_parts(part)[name] for name in names]
    return any(
        not isinstance(one, LISTS) and all(tensor.dim() < STACKED_AXES for tensor in _tensors(one)) for one in own
    )
