"""What a network says of itself: parts of it that may change places, as the experts of a mixture may.

A module says so by an attribute `interchangeable`, names of its own parts that change places together:

    self.interchangeable = "experts", "gate"

A list of modules has a block in every one of them; a parameter, or every tensor of another module, has its blocks along
the first axis: the rows of a gate, the weights of all experts in one tensor. Several such sets are a list of them.
Whatever the network does with its blocks, looking them up by number or leaving most of them out, the tracer takes it at
its word; `symmetry.check` does not.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from onebasin.errors import OnebasinError

Names = Sequence[str]


@dataclass(frozen=True)
class Interchangeable:
    """`size` blocks that may change places.

    Attributes:
        where: the module that says so, and what it says, for the reader.
        modules: tensors of one module a block: what they are called together, and those of every block.
        rows: tensors that have the blocks along their first axis.
    """

    where: str
    size: int
    modules: Mapping[str, tuple[str, ...]]
    rows: tuple[str, ...]


def declarations(module: nn.Module, more: Mapping[str, Sequence[Names]]) -> list[Interchangeable]:
    """All that a network says, and `more` in the name of its modules.

    Raises:
        OnebasinError: something that is named does not exist, or has another number of blocks than the rest.
    """
    found = []
    for path, part in module.named_modules():
        said = getattr(part, "interchangeable", ())
        sets = [said] if said and all(isinstance(name, str) for name in said) else list(said)
        for names in [*sets, *more.get(path, ())]:
            found.append(_declaration(path, part, names))
    return found


def _declaration(path: str, part: nn.Module, names: Names) -> Interchangeable:
    where = f"{path or type(part).__name__}.interchangeable ({', '.join(names)})"
    sizes: dict[str, int] = {}
    modules: dict[str, tuple[str, ...]] = {}
    rows: list[str] = []
    for name in names:
        prefix = f"{path}.{name}".lstrip(".")
        own = _named(part, name, where)
        if isinstance(own, nn.ModuleList | nn.ModuleDict | nn.ParameterList):
            members = list(own.items()) if isinstance(own, nn.ModuleDict) else [(str(k), m) for k, m in enumerate(own)]
            sizes[name] = len(members)
            modules |= _by_block(prefix, members, where)
        else:
            tensors = {prefix: own} if isinstance(own, Tensor) else dict(_tensors(own, f"{prefix}."))
            for tensor, value in tensors.items():
                sizes[tensor] = value.shape[0] if value.dim() else 1
                rows.append(tensor)
    if len(set(sizes.values())) != 1 or min(sizes.values()) < 2:
        told = ", ".join(f"{size} of {name}" for name, size in sizes.items())
        raise OnebasinError(f"{where}: must be two or more of everything, and as many: there are {told or 'none'}")
    return Interchangeable(where, min(sizes.values()), modules, tuple(rows))


def _named(part: nn.Module, name: str, where: str) -> Any:
    own: Any = part
    for word in name.split("."):
        own = getattr(own, word, None)
    if not isinstance(own, Tensor | nn.Module):
        raise OnebasinError(f"{where}: there is no module or parameter {name}")
    return own


def _by_block(prefix: str, members: Sequence[tuple[str, Any]], where: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    of_block = [{"": member} if isinstance(member, Tensor) else dict(_tensors(member, ".")) for _, member in members]
    for name, first in of_block[0].items():
        for (block, _), tensors in zip(members, of_block, strict=True):
            if tensors.keys() != of_block[0].keys() or tensors[name].shape != first.shape:
                raise OnebasinError(
                    f"{where}: {prefix}.{block} has other tensors or shapes than {prefix}.{members[0][0]}"
                )
        yield f"{prefix}.*{name}", tuple(f"{prefix}.{block}{name}" for block, _ in members)


def _tensors(module: nn.Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in module.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor) and (tensor.is_floating_point() or tensor.is_complex()):
            yield prefix + name, tensor
