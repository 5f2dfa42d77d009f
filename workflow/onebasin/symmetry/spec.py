"""What may be permuted: groups of tensor axes that one permutation moves together."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """One axis of a named tensor on which a group acts."""

    tensor: str
    axis: int


@dataclass(frozen=True)
class Group:
    """`size` hidden units and every axis that is indexed by them."""

    name: str
    size: int
    axes: tuple[Axis, ...]


@dataclass(frozen=True)
class Spec:
    """The permutation groups of a network, in the order in which its signal passes them."""

    groups: tuple[Group, ...]

    def axes_of(self, tensor: str) -> dict[int, str]:
        """The permuted axes of a tensor: axis -> name of the group that moves it."""
        return {axis.axis: group.name for group in self.groups for axis in group.axes if axis.tensor == tensor}

    def neighbours(self, group: Group) -> set[str]:
        """Names of the groups that share a tensor with `group`: their permutations enter its matching problem."""
        return {name for axis in group.axes for name in self.axes_of(axis.tensor).values()} - {group.name}
