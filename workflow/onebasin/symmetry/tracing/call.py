"""One operation of a network as its rule sees it: `Call`, with tensors as the layouts of their axes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onebasin.symmetry.tracing.layout import PLACE, Layout, equate, fix, fixed, length


class Axes(tuple[Layout, ...]):
    """The layouts of the axes of a tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        return tuple(map(length, self))


@dataclass(frozen=True)
class Call:
    """One operation of a network.

    Attributes:
        name: of the operation (`conv2d`).
        place: the same with the module that calls it, for the reader (`conv2d (features.0)`).
        arguments: by the names of the operation's schema; tensors as their `Axes`.
        shapes: of the results.
    """

    name: str
    place: str
    arguments: Mapping[str, Any]
    shapes: Sequence[tuple[int, ...]]

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    @property
    def tensors(self) -> list[Axes]:
        """The tensors among the arguments, also those in lists."""
        lists = [a if isinstance(a, list) else [a] for a in self.arguments.values()]
        return [tensor for some in lists for tensor in some if isinstance(tensor, Axes)]

    @property
    def over(self) -> str:
        """The reason why an axis is fixed on which this operation does not treat all places alike."""
        return f"{self.place} does not treat its places alike"

    @property
    def unfit(self) -> str:
        """The reason why axes are fixed that this operation relates in a way that layouts cannot express."""
        return f"{self.place} mixes it with other axes"

    def equate(self, one: Layout, other: Layout) -> None:
        """Make two axes permuted alike."""
        equate(one, other, self.unfit)

    def fix(self, axes: Iterable[Layout]) -> None:
        """Let nothing on these axes be permuted."""
        for layout in axes:
            fix(layout, self.over)

    def fixed(self, size: int) -> Layout:
        """A new axis whose places are not alike."""
        return fixed(size, self.over)

    def broadcast(self, tensors: Sequence[Axes], shape: Sequence[int]) -> Axes:
        """The axes of what becomes of tensors that are broadcast to one shape and combined place by place."""
        axes = []
        for axis, size in enumerate(shape, -len(shape)):
            layouts = [t[axis] for t in tensors if len(t) >= -axis and length(t[axis]) == size]
            if size == 1:
                layouts = [PLACE]
            if not layouts:
                raise NotImplementedError("no input has the shape of the output")
            for other in layouts[1:]:
                self.equate(layouts[0], other)
            axes.append(layouts[0])
        return Axes(axes)


Rule = Callable[[Call], list[Axes]]


def registering(rules: dict[str, Rule]) -> Callable[..., Callable[[Rule], Rule]]:
    """A decorator that enters a rule under the names of its operations."""

    def names_of(*names: str) -> Callable[[Rule], Rule]:
        def register(rule: Rule) -> Rule:
            rules.update(dict.fromkeys(names, rule))
            return rule

        return register

    return names_of
