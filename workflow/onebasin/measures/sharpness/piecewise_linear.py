"""Which networks are piecewise linear in every single parameter, read off their graph.

Where the logits are piecewise linear in each parameter, their second derivative by it is zero (almost everywhere), and
the diagonal of the Hessian of the cross-entropy is that of the Gauss-Newton matrix (Schraudolph, 2002), which
`gauss_newton` computes exactly. Every tensor of the graph is followed with the trainable parameters it depends on: what
is piecewise linear keeps them, a sum unites them, and a product may only be of factors without a parameter in common.
Every parameter has to enter at one place, in a way whose gradient is known sample by sample, and axis 0 has to stay
that of the samples. It fails closed: anything else, and any operation without a rule, is refused with the reason.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import Node

from onebasin.errors import OnebasinError
from onebasin.symmetry.tracing.graph import arguments_by_name, capture, name_of


class NotPiecewiseLinearError(Exception):
    """Why a network is not known to be piecewise linear in its parameters."""


@dataclass(frozen=True)
class Use:
    """The one place where a trainable parameter enters: as which argument of which operation."""

    node: Node
    argument: str


@dataclass(frozen=True)
class PiecewiseLinear:
    """The graph of a network that is piecewise linear in every parameter, for batches of the size it was captured with.

    Attributes:
        program: gives logits `[n, classes]` of the parameters, the buffers and a batch of images.
        uses: of every trainable parameter that the logits depend on, by its name.
        names: of the tensors that the graph's inputs stand for, in its order; None for the images.
    """

    program: ExportedProgram
    uses: Mapping[str, Use]
    names: tuple[str | None, ...]


def piecewise_linear(network: nn.Module, images: Tensor) -> PiecewiseLinear:
    """The graph of a network in evaluation mode, for batches like this one.

    Args:
        network: left as it is.
        images: at least two, `[n, ...]`, on the network's device; their values do not matter.

    Raises:
        NotPiecewiseLinearError: it is not, or not known to be; or it cannot be captured.
    """
    try:
        program = capture(network, images, training=False)
    except OnebasinError as error:
        raise NotPiecewiseLinearError(str(error)) from error
    if any(_is_mutable(node) for node in program.graph.nodes):
        program = program.run_decompositions({})  # what is written in place is written elsewhere
    followed = _Following(network, len(images))
    followed.follow(program)
    return PiecewiseLinear(program, followed.uses, tuple(followed.names))


def _is_mutable(node: Node) -> bool:
    target: Any = node.target
    return node.op == "call_function" and hasattr(target, "_schema") and target._schema.is_mutable


@dataclass(frozen=True)
class Value:
    """What a tensor of the graph is.

    Attributes:
        shape: of the tensor.
        parameters: the trainable parameters that it depends on, piecewise linearly on each.
        of_samples: whether it depends on the images, axis 0 being that of the samples, each place on its own alone.
        parameter: the name of the trainable parameter that it is itself, if it is one.
    """

    shape: tuple[int, ...]
    parameters: frozenset[str] = frozenset()
    of_samples: bool = False
    parameter: str | None = None


@dataclass(frozen=True)
class Step:
    """One operation as its rule sees it: the arguments by the names of its schema, tensors as `Value`s."""

    name: str
    arguments: Mapping[str, Any]
    shapes: tuple[tuple[int, ...], ...]

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    @property
    def values(self) -> dict[str, Value]:
        """The tensors among the arguments, those in lists under the list's name and their number."""
        found: dict[str, Value] = {}
        for name, argument in self.arguments.items():
            many = enumerate(argument) if isinstance(argument, list) else [("", argument)]
            found |= {f"{name}{number}": value for number, value in many if isinstance(value, Value)}
        return found

    @property
    def parameters(self) -> frozenset[str]:
        """All parameters that the arguments depend on."""
        return frozenset().union(*(value.parameters for value in self.values.values()))

    def refuse(self, why: str) -> NotPiecewiseLinearError:
        """The error that says what is wrong with this operation."""
        return NotPiecewiseLinearError(f"{self.name} {why}")

    def require(self, condition: bool, why: str) -> None:
        """Raise that error unless the condition holds."""
        if not condition:
            raise self.refuse(why)

    def result(self, *inputs: Value) -> list[Value]:
        """Results that are piecewise linear in each parameter of the inputs, sample by sample where one of these is."""
        of_samples = any(value.of_samples for value in inputs)
        return [Value(shape, self.parameters, of_samples) for shape in self.shapes]

    def require_disjoint(self, *factors: Value | None) -> None:
        """Refuse a product of factors that share a parameter: it is quadratic in that."""
        seen: frozenset[str] = frozenset()
        for factor in factors:
            if factor is not None:
                common = sorted(seen & factor.parameters)
                self.require(not common, f"multiplies what depends on {', '.join(common[:1])} twice")
                seen |= factor.parameters


Rule = Callable[[Step], list[Value]]
_RULES: dict[str, Rule] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


class _Following:
    """One pass over a graph."""

    def __init__(self, network: nn.Module, samples: int) -> None:
        self.samples = samples
        self.uses: dict[str, Use] = {}
        self.names: list[str | None] = []
        tensors = network.state_dict(keep_vars=True)
        # tied parameters are one: all their names stand for the first
        first: dict[Any, str] = {}
        self.trained = {
            name: first.setdefault((tensor.data_ptr() or id(tensor), tensor.shape, tensor.stride()), name)
            for name, tensor in tensors.items()
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad
        }

    def follow(self, program: ExportedProgram) -> None:
        """Follow all operations; raise `NotPiecewiseLinearError` at the first that will not do."""
        inputs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
        values: dict[Node, Any] = {}
        for node in program.graph.nodes:
            if node.op == "placeholder":
                values[node] = self._input(node, inputs[node.name])
            elif node.op == "call_function":
                values[node] = self._apply(node, values)
            elif node.op != "output":
                raise NotPiecewiseLinearError(f"{node.name} is control flow")
        specs = program.graph_signature.output_specs
        by_name = {node.name: value for node, value in values.items()}
        outputs = [by_name.get(spec.arg.name) for spec in specs if spec.kind is OutputKind.USER_OUTPUT]
        if len(specs) != 1 or not isinstance(outputs[0], Value) or not outputs[0].of_samples:
            raise NotPiecewiseLinearError("it does not return one tensor that depends on the images alone")
        if len(outputs[0].shape) != 2:
            raise NotPiecewiseLinearError(
                f"its output has the shape {outputs[0].shape}, not one row of logits a sample"
            )

    def _input(self, node: Node, spec: Any) -> Value:
        shape = tuple(node.meta["val"].shape)
        is_image = spec.kind is InputKind.USER_INPUT
        self.names.append(None if is_image else spec.target)
        name = self.trained.get(spec.target) if spec.kind is InputKind.PARAMETER else None
        return Value(shape, frozenset([name] if name else []), of_samples=is_image, parameter=name)

    def _apply(self, node: Node, values: Mapping[Node, Any]) -> Any:
        target: Any = node.target
        if target is operator.getitem:
            whole, place = node.args
            return values[whole][place]  # type: ignore[index]
        if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten":
            raise NotPiecewiseLinearError(f"{target} is not known")
        meta = node.meta.get("val")
        returned = list(meta) if isinstance(meta, tuple | list) else [meta]
        shapes = tuple(tuple(one.shape) for one in returned if isinstance(one, Tensor))
        step = Step(name_of(node), arguments_by_name(node, values), shapes)
        results = _rule_of(target)(step)
        for argument, value in step.values.items():
            if value.parameter:
                self._enter(value.parameter, Use(node, argument), step, results)
        for result in results:
            if result.of_samples:
                step.require(result.shape[:1] == (self.samples,), "does not keep the samples on axis 0")
        return results if isinstance(meta, tuple | list) else results[0]

    def _enter(self, name: str, use: Use, step: Step, results: list[Value]) -> None:
        step.require(
            use.argument in _ENTRIES.get(step.name, ()), f"takes {name}, whose gradient by sample is not known"
        )
        step.require(results[0].of_samples, f"takes {name} and nothing that depends on the images")
        step.require(name not in self.uses, f"uses {name} a second time")
        self.uses[name] = use


def _rule_of(operation: torch._ops.OpOverload) -> Rule:
    name = operation.name().removeprefix("aten::").partition(".")[0]
    return _RULES.get(name, _elementwise if torch.Tag.pointwise in operation.tags else _unknown)


def _unknown(step: Step) -> list[Value]:
    step.require(not step.values, "has no rule")
    return [Value(shape) for shape in step.shapes]  # a constant


# As which arguments of which operations a parameter may enter: `gauss_newton` knows its gradient by sample there.
_ENTRIES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d", "batch_norm"), ("weight", "bias")),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), ("weight", "bias")),
    **dict.fromkeys(("add", "sub", "mul"), ("self", "other")),
    "div": ("self",),
}


# Elementwise


def _elementwise(step: Step) -> list[Value]:
    """Any function of what depends on no parameter; none of what does."""
    step.require(not step.parameters, "of what depends on parameters is not known to be piecewise linear")
    return _broadcast(step, *step.values.values())


def _broadcast(step: Step, *values: Value) -> list[Value]:
    """Axis 0 of the result is that of the samples: of images as wide as the result, and of nothing else."""
    axes = len(step.shapes[0])
    for value in values:
        if value.of_samples:
            step.require(len(value.shape) == axes, "does not keep the samples on axis 0")
        elif any(other.of_samples for other in values):
            alike = len(value.shape) < axes or value.shape[0] == 1
            step.require(alike, "treats the samples of a batch differently")
    return step.result(*values)


@_rule("alias", "abs", "clone", "contiguous", "hardtanh", "leaky_relu", "lift_fresh_copy", "neg", "relu", "relu6")
@_rule("threshold", "_to_copy")
def _unary(step: Step) -> list[Value]:
    """Piecewise linear functions of one tensor; a conversion to whole numbers is none."""
    kind = step.arguments.get("dtype")
    step.require(kind is None or kind.is_floating_point, f"makes {kind} of it")
    return step.result(step["self"])


@_rule("clamp", "clamp_min", "clamp_max")
def _clamp(step: Step) -> list[Value]:
    step.require(len(step.values) == 1, "has bounds that are tensors")
    return step.result(step["self"])


@_rule("dropout")
def _dropout(step: Step) -> list[Value]:
    step.require(not step["train"], "is random")
    return step.result(step["input"])


@_rule("add", "sub", "maximum", "minimum")
def _sum(step: Step) -> list[Value]:
    return _broadcast(step, *step.values.values())


@_rule("mul")
def _product(step: Step) -> list[Value]:
    step.require_disjoint(*step.values.values())
    return _broadcast(step, *step.values.values())


@_rule("div")
def _quotient(step: Step) -> list[Value]:
    below = step["other"]
    step.require(not (isinstance(below, Value) and below.parameters), "divides by what depends on parameters")
    step.require(step.arguments.get("rounding_mode") is None, "rounds")
    return _broadcast(step, *step.values.values())


# Layers


@_rule("linear")
def _linear(step: Step) -> list[Value]:
    return _layer(step, 2)


@_rule("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _convolution(step: Step) -> list[Value]:
    step.require(not isinstance(step.arguments.get("padding"), str), "has its padding given as a word")
    return _layer(step, len(step["weight"].shape))


def _layer(step: Step, axes: int) -> list[Value]:
    given, weight, bias = step["input"], step["weight"], step["bias"]
    step.require_disjoint(given, weight, bias)
    step.require(len(given.shape) >= axes, "does not keep the samples on axis 0")
    _require_weights(step, weight, bias)
    return step.result(given)


def _require_weights(step: Step, *weights: Value | None) -> None:
    of_samples = any(weight is not None and weight.of_samples for weight in weights)
    step.require(not of_samples, "has weights that depend on the images")


@_rule("batch_norm")
def _batch_norm(step: Step) -> list[Value]:
    step.require(not step["training"], "takes its statistics from the batch")
    given = step["input"]
    others = [step[name] for name in ("weight", "bias", "running_mean", "running_var")]
    step.require_disjoint(given, *others)
    for name in ("running_mean", "running_var"):
        step.require(step[name] is not None and not step[name].parameters, "has no fixed statistics")
    _require_weights(step, *others)
    step.require(len(given.shape) >= 2, "does not keep the samples on axis 0")
    return step.result(given)


@_rule(*(f"{kind}_pool{n}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max") for n in (1, 2, 3)))
@_rule("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d")
def _pooling(step: Step) -> list[Value]:
    """What is done with the last axes, each of the others for itself."""
    given = step.arguments.get("self", step.arguments.get("input"))
    dimensions = next(int(letter) for letter in step.name if letter.isdigit())
    step.require(len(given.shape) > dimensions, "does not keep the samples on axis 0")
    return step.result(given)


# Reductions and what moves elements


@_rule("sum", "mean", "amax", "amin")
def _reduction(step: Step) -> list[Value]:
    given = step["self"]
    along = step.arguments.get("dim")
    along = [along] if isinstance(along, int) else along or range(len(given.shape))
    step.require(all(axis % len(given.shape) for axis in along) or not given.of_samples, "runs over the samples")
    return step.result(given)


@_rule("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze")
def _reshape(step: Step) -> list[Value]:
    """The same elements in the same order: where axis 0 keeps its length, it keeps its places."""
    (given,) = step.values.values()
    return step.result(given)


@_rule("permute", "transpose", "t")
def _permute(step: Step) -> list[Value]:
    given = step["self"]
    axes = len(given.shape)
    if step.name == "permute":
        stays = step["dims"][0] % axes == 0
    else:  # `t` has no arguments, and exchanges axes 0 and 1
        stays = all(step.arguments.get(name, 0) % axes for name in ("dim0", "dim1"))
    step.require(stays or not given.of_samples, "does not keep the samples on axis 0")
    return step.result(given)


@_rule("cat", "stack")
def _join(step: Step) -> list[Value]:
    given = list(step.values.values())
    step.require(len({one.of_samples for one in given}) == 1, "joins what depends on the images with what does not")
    axes = len(given[0].shape) + (step.name == "stack")
    step.require(step["dim"] % axes != 0 or not given[0].of_samples, "does not keep the samples on axis 0")
    return step.result(*given)


@_rule("split", "split_with_sizes", "chunk", "slice", "select")
def _part(step: Step) -> list[Value]:
    given = step["self"]
    step.require(step["dim"] % len(given.shape) != 0 or not given.of_samples, "takes some of the samples")
    return step.result(given)


@_rule("pad", "constant_pad_nd")
def _pad(step: Step) -> list[Value]:
    given = step["self"]
    step.require(len(step["pad"]) < 2 * len(given.shape), "does not keep the samples on axis 0")
    return step.result(given)
