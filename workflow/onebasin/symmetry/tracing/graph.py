"""The graph of a network: the ATen operations that its forward pass comes down to, in evaluation or training mode.

`torch.export` runs the module once on tensors without data. Operations that the tracer has a rule for stay whole; where
there are others, the graph is broken down to those of core ATen and rid of what changes tensors in place.
"""

import functools
import gc
import io
import logging
import operator
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node
from torch.overrides import TorchFunctionMode

from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs, arguments_of
from onebasin.networks.copies import copy_sharing_tensors
from onebasin.symmetry.tracing.operations import is_elementwise, rule_of


def capture(module: nn.Module, example_input: Inputs, training: bool, all_selected: bool = False) -> ExportedProgram:
    """The graph of the module in training or in evaluation mode, whatever mode it is in; the module is left as it is.

    Args:
        all_selected: where it cannot be captured as values decide what is computed, capture what it would compute if
            every choice were for everything (`AllSelected`).

    Raises:
        OnebasinError: it does not run on the example, or the values that it computes decide which way it goes.
    """
    try:
        return _captured(module, example_input, training, NothingDropped())
    except Exception as error:
        if all_selected:
            with suppress(Exception):
                return _captured(module, example_input, training, AllSelected())
        mode = "training" if training else "evaluation"
        raise OnebasinError(f"{type(module).__name__} cannot be traced in {mode} mode: {_fault(error)}") from error


def _captured(module: nn.Module, example_input: Inputs, training: bool, how: TorchFunctionMode) -> ExportedProgram:
    arguments, named = arguments_of(example_input)
    module = copy_sharing_tensors(module, training)
    with _quiet(), _uncollected(), torch.random.fork_rng(devices=[]), how:
        program = torch.export.export(module, arguments, named, strict=False)
        return program if _all_known(program) else program.run_decompositions(dict(_broken_down()))


class NothingDropped(TorchFunctionMode):
    """Within the block, a single random number is one, the largest.

    Where it decides whether a layer is left out in training (LayerDrop), as even with a probability of 0 in some of
    transformers' models, none is: a graph goes one way only, and on this way are all layers.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the function, or return the one."""
        kwargs = kwargs or {}
        if func is torch.rand:
            size = kwargs.get("size", args[0] if args and isinstance(args[0], list | tuple) else args)
            if all(length == 1 for length in size):
                return torch.tensor(1.0).reshape(tuple(size))
        return func(*args, **kwargs)


class AllSelected(NothingDropped):
    """Within the block, every choice is for everything: what is asked of values is true, but that two are equal.

    A mixture of experts that runs each of them on the samples of its own has no graph, as their numbers depend on
    values. With all samples for every expert it computes the same of the same tensors, and only more of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._equalities: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the function, or return what it would if all were chosen."""
        kwargs = kwargs or {}
        if func is Tensor.__bool__:
            return not any(args[0] is one for one in self._equalities)
        if func in (torch.nonzero, Tensor.nonzero) or (func is torch.where and len(args) == 1 and not kwargs):
            places = torch.meshgrid(*map(torch.arange, args[0].shape), indexing="ij")
            columns = tuple(place.flatten() for place in places)
            as_columns = func is torch.where or kwargs.get("as_tuple", False)
            return columns if as_columns else torch.stack(columns, dim=1)
        if func in (Tensor.__getitem__, Tensor.__setitem__) and _is_mask(args[1]):
            tensor, mask, *values = args
            flat = tensor.flatten(0, mask.dim() - 1)
            return flat.copy_(values[0]) if values else flat
        result = super().__torch_function__(func, types, args, kwargs)
        if func in (torch.eq, Tensor.eq, Tensor.__eq__):
            self._equalities.append(result)
        return result


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype == torch.bool and index.dim() > 0


def name_of(node: Node) -> str:
    """The name of a node's operation: `conv2d`."""
    target: Any = node.target
    if hasattr(target, "name"):
        return str(target.name()).removeprefix("aten::").partition(".")[0]
    return str(getattr(target, "__name__", target))


def arguments_by_name(node: Node, values: Mapping[Node, Any]) -> dict[str, Any]:
    """The arguments of a node by name, in the order of the operation's schema; of other nodes their `values`."""

    def valued(argument: Any) -> Any:
        if isinstance(argument, Node):
            return values[argument]
        return [valued(one) for one in argument] if isinstance(argument, list | tuple) else argument

    operation: Any = node.target
    arguments = {}
    for position, argument in enumerate(operation._schema.arguments):
        if position < len(node.args):
            arguments[argument.name] = valued(node.args[position])
        elif argument.name in node.kwargs:
            arguments[argument.name] = valued(node.kwargs[argument.name])
        elif argument.has_default_value():
            arguments[argument.name] = argument.default_value
    return arguments


def _all_known(program: ExportedProgram) -> bool:
    """Whether the tracer can follow every operation as it is, which saves two thirds of the time.

    What is core ATen but has no rule, and assertions, are no reason to break the graph down: they would stay in it.
    In place only elementwise ones may be: what they write has the units of what they read at the same place, so that
    they ask no more of any view of that memory, before them or after, than if they wrote elsewhere.
    """
    operations = [node.target for node in program.graph.nodes if node.op == "call_function"]
    return all(
        operation is operator.getitem
        or (rule_of(operation) is not None and (is_elementwise(operation) or not operation._schema.is_mutable))
        or (isinstance(operation, torch._ops.OpOverload) and _is_unbreakable(operation))
        for operation in operations
    )


def _is_unbreakable(operation: torch._ops.OpOverload) -> bool:
    core = torch.Tag.core in operation.tags and operation not in _broken_down()
    return (core or operation.name().startswith("aten::_assert")) and not operation._schema.is_mutable


@functools.cache
def _broken_down() -> dict[Any, Callable[..., Any]]:
    table = torch.export.default_decompositions()
    return {operation: how for operation, how in table.items() if rule_of(operation) is None}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the pages that export writes where it fails: its error says what is needed."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection: a graph in the making is many objects that all live, and looking at them in vain
    takes a twentieth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _fault(error: Exception) -> str:
    """What is wrong, the line of the user's where it is, and what helps."""
    torch_folder = Path(torch.__file__).parent
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    users = [frame for frame in frames if torch_folder not in Path(frame.filename).parents and frame.line]
    where = f" ({Path(users[-1].filename).name}, line {users[-1].lineno}: {users[-1].line})" if users else ""
    if "DataDependent" in type(error).__name__:
        return f"the values that it computes decide which way it goes{where}; use torch.where instead"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return f"{lines[0]}{where}; give an example input that it accepts in both modes"
