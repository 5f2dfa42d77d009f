"""Deriving the permutation symmetries of a network from its graph.

Every axis of every parameter and buffer begins as a set of free units. The operations of the graph are followed in the
order in which they run; the rule of each says which axes have to be permuted alike and which have to stay, and
`layout` keeps account. What is still free in the end may be permuted, and is a group. The network is followed in
evaluation and in training mode, so that what is found holds in both.
"""

import logging
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, OutputKind
from torch.fx import Node

from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs
from onebasin.seeding import generator
from onebasin.symmetry.check import check
from onebasin.symmetry.spec import Spec
from onebasin.symmetry.tracing.call import Axes, Call
from onebasin.symmetry.tracing.constants import alike_everywhere
from onebasin.symmetry.tracing.declared import Interchangeable, Names, declarations
from onebasin.symmetry.tracing.grades import lengths, lowered
from onebasin.symmetry.tracing.graph import arguments_by_name, capture, name_of
from onebasin.symmetry.tracing.layout import Layout, Units, equate, fix, fixed, free, lower
from onebasin.symmetry.tracing.lookups import Apart, divided, divisions
from onebasin.symmetry.tracing.nesting import Operation, settle
from onebasin.symmetry.tracing.operations import rule_of
from onebasin.symmetry.tracing.proposals import proposals
from onebasin.symmetry.tracing.reading import Stacked, read

MOST_AXES = 3  # of a tensor that may have blocks along its first

logger = logging.getLogger(__name__)

State = dict[str, Axes]
"""The layouts of parameters and buffers by their names in the state dict; those of tied ones are one object."""


def trace(module: nn.Module, example_input: Inputs) -> Spec:
    """The permutation groups of a network, and which axes stay as they are, with the reason.

    It fails closed: an axis is fixed unless its permutation is known to leave the function unchanged. What modules say
    may change places (`tracing.declared`) is believed; where they say nothing of what looks like experts and their gate
    (`tracing.proposals`), it is proven (`symmetry.check`).

    Args:
        module: any network whose forward pass takes the same way for all inputs of one shape, apart from layers that
            training leaves out at random. It is left as it is.
        example_input: a batch `[n, ...]` that the module accepts in training mode, too; its values do not matter.

    Raises:
        OnebasinError: the network cannot be captured as a graph, or what is said to be interchangeable cannot be.
    """
    proven: dict[str, list[Names]] = {}
    for path, names in proposals(module):
        more = {**proven, path: [*proven.get(path, ()), names]}
        try:
            check(module, _traced(module, example_input, more), example_input, generator("interchangeable", path))
        except OnebasinError as error:
            logger.info("%s: %s may not change places (%s)", path, ", ".join(names), error)
        else:
            logger.info("%s: %s may change places, as is proven by trial", path, ", ".join(names))
            proven = more
    return _traced(module, example_input, proven)


def _traced(module: nn.Module, example_input: Inputs, interchangeable: Mapping[str, Sequence[Names]]) -> Spec:
    """As `trace`, where parts of modules may change places, by the module's name, beside what these say themselves."""
    declared = declarations(module, interchangeable)
    state, stacked = _state(module, declared)
    used: dict[int, str] = {}
    for training in (False, True):
        _follow(capture(module, example_input, training, all_selected=bool(declared)), state, used)
    met = {name: axes for first in used.values() for name, axes in state.items() if axes is state[first]}
    settle(([], [axes]) for axes in met.values())
    return read(state, met, stacked)


def _state(module: nn.Module, declared: Sequence[Interchangeable]) -> tuple[State, list[Stacked]]:
    """A layout of new units for every axis of every tensor, and what is stacked as it may change places."""
    layouts: dict[tuple[Any, ...], Axes] = {}
    state: State = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor):
            memory = tensor.data_ptr() or id(tensor)
            linear = tensor.is_floating_point()
            state[name] = layouts.setdefault((memory, tensor.shape, tensor.stride()), _new_axes(tensor.shape, linear))
            if not (tensor.is_floating_point() or tensor.is_complex()):
                _fix_all(state[name], "it holds whole numbers")
    stacked = []
    for one in declared:
        blocks = Units(one.size, within=(), declared=True)
        for name, tensors in one.modules.items():
            whole = Axes((((blocks,),), *_inside(blocks, state[tensors[0]].shape)))
            stacked.append(Stacked(name, tensors, whole))
            state |= {tensor: Axes(whole[1:]) for tensor in tensors}
        for name in one.rows:
            state[name] = Axes((((blocks,),), *_inside(blocks, state[name].shape[1:])))
    return state, stacked


def _inside(blocks: Units, shape: Iterable[int]) -> Iterator[Layout]:
    return (free(size, within=(blocks,), linear=True) for size in shape)


def _new_axes(shape: torch.Size, linear: bool) -> Axes:
    """Units of a tensor's own; those along the second axis and the third may lie within the places of the first."""
    if not shape:
        return Axes()
    first = free(shape[0], within=(), linear=linear)
    blocks = tuple(units for block in first for units in block) if len(shape) <= MOST_AXES else ()
    return Axes((first, *(free(size, within=blocks, linear=linear) for size in shape[1:])))


def _fix_all(axes: Iterable[Layout], reason: str) -> None:
    for layout in axes:
        fix(layout, reason)


# Following the graph


def _follow(program: ExportedProgram, state: State, used: dict[int, str]) -> None:
    """Restrict the layouts of the state as the graph demands; add what it uses to `used`, in that order."""
    inputs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    values: dict[Node, Any] = {}  # an `Axes`, a list of them, or None for what is no tensor
    operations: list[Operation] = []
    dividing, numbers = divisions(program.graph)
    alike = alike_everywhere(program.graph)
    squared = lengths(program.graph)
    for node in program.graph.nodes:
        for argument in node.all_input_nodes:
            if argument in alike:
                values[argument] = _new_units(argument)  # at every use: equal numbers couple nothing
            name = inputs[argument.name].target if argument.name in inputs else None
            if name in state:
                used.setdefault(id(state[name]), name)
        if node.op == "placeholder":
            values[node] = _beginning(node, inputs[node.name], state)
        elif node.op == "call_function" and node.target is operator.getitem:
            values[node] = values[node.args[0]][node.args[1]]
        elif node.op == "call_function":
            if node in dividing:
                values[node] = divided(values[node.all_input_nodes[0]], dividing[node], f"{_place(node)} divides it")
            elif node.args and isinstance(apart := values.get(node.args[0]), Apart):
                values[node] = _apply_apart(node, values, apart, numbers)
            else:
                values[node] = _apply(node, values, squared.get(node, frozenset()))
            if node not in alike:
                given = [axes for argument in node.all_input_nodes for axes in _tensors(values[argument])]
                operations.append((given, _tensors(values[node])))
        elif node.op == "get_attr":  # the graph of a control flow operation
            values[node] = None
    results = {node.name: axes for node, axes in values.items()}
    for spec in program.graph_signature.output_specs:
        axes = results.get(getattr(spec.arg, "name", ""))
        if isinstance(axes, Axes):
            if spec.kind is OutputKind.BUFFER_MUTATION and spec.target in state:
                for old, new in zip(state[spec.target], axes, strict=True):
                    equate(old, new, f"the network changes the buffer {spec.target}")
            else:
                _fix_all(axes, "output of the network")
    settle(operations)


def _tensors(value: Any) -> list[Axes]:
    """The layouts among what a node returns."""
    return [axes for axes in (value if type(value) in (list, Apart) else [value]) if isinstance(axes, Axes)]


def _apply_apart(node: Node, values: Mapping[Node, Any], apart: Apart, numbers: Mapping[Node, int]) -> Any:
    """What an operation makes of a tensor that is several, each by the same rule; one of them where it looks one up."""

    def applied(part: Axes, shapes: Shapes) -> list[Axes]:
        [given] = node.all_input_nodes
        results = _by_rule(node, {**values, given: part}, shapes)
        assert results is not None, f"{_place(node)} moves axes"
        return results

    value = node.meta["val"]
    if node in numbers:
        shape = [*value.shape]
        shape[numbers[node]] = 1
        return Apart(applied(part, [tuple(shape)])[0] for part in apart)
    if name_of(node) == "unbind":
        return [applied(part, [tuple(one.shape)])[0] for part, one in zip(apart, value, strict=True)]
    index: Any = node.args[2]
    return applied(apart[index], [tuple(value.shape)])[0]


def _new_units(node: Node) -> Any:
    """Layouts of new units for every axis of what a node returns."""
    value = node.meta["val"]
    if isinstance(value, tuple | list):
        return [Axes(map(free, one.shape)) for one in value]
    return Axes(map(free, value.shape))


def _beginning(node: Node, spec: InputSpec, state: State) -> Axes | None:
    if spec.target in state and spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
        return state[spec.target]
    constant = f"the constant {spec.target}, which is not in the state dict, tells its places apart"
    reason = "input of the network" if spec.kind is InputKind.USER_INPUT else constant
    tensor = node.meta["val"]
    return Axes(fixed(size, reason) for size in tensor.shape) if isinstance(tensor, Tensor) else None


def _apply(node: Node, values: Mapping[Node, Any], squared: frozenset[int]) -> Any:
    """The layouts of what an operation returns."""
    value = node.meta.get("val")
    returned = list(value) if isinstance(value, tuple | list) else [value]
    shapes = [tuple(one.shape) if isinstance(one, Tensor) else None for one in returned]
    if any(isinstance(size, torch.SymInt) for shape in shapes for size in shape or ()):
        raise OnebasinError(f"{_place(node)} returns a tensor whose shape depends on values; use torch.where instead")
    results = _by_rule(node, values, shapes, squared) or _unknown(node, values, shapes)
    return results if isinstance(value, tuple | list) else results[0]


Shapes = list[tuple[int, ...] | None]  # None for what is no tensor


def _by_rule(
    node: Node, values: Mapping[Node, Any], shapes: Shapes, squared: frozenset[int] = frozenset()
) -> list[Axes] | None:
    rule = rule_of(node.target)
    if rule is None or None in shapes:
        return None
    call = Call(
        name_of(node), _place(node), arguments_by_name(node, values), [shape for shape in shapes if shape is not None]
    )
    try:
        results = rule(call)
    except NotImplementedError:
        return None
    if [axes.shape for axes in results] != shapes:
        return None
    for layout in lowered(call, results, squared):
        lower(layout)
    return results


def _unknown(node: Node, values: Mapping[Node, Any], shapes: Shapes) -> list[Axes | None]:
    """An operation that may do anything: all that it gets stays as it is, then so does what it returns."""
    inputs = [] if name_of(node).startswith("_assert") else [values[argument] for argument in node.all_input_nodes]
    reason = f"the symmetry of {_place(node)} is not known" if inputs else f"{_place(node)} makes a constant"
    for given in inputs:
        for axes in given if type(given) is list else [given]:
            _fix_all(axes or (), reason)
    return [None if shape is None else Axes(fixed(size, reason) for size in shape) for shape in shapes]


def _place(node: Node) -> str:
    """The operation and the module that calls it: `conv2d (features.0)`."""
    modules = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
    module = modules[-1].partition("@")[0] if modules else ""
    return f"{name_of(node)} ({module})" if module else name_of(node)
