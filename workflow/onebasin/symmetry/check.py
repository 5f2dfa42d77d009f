"""Proof by trial that a spec is right: random permutations must leave the function unchanged."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._python_dispatch import TorchDispatchMode

from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs, arguments_of, map_inputs
from onebasin.networks.copies import copy_sharing_tensors, tensors_in
from onebasin.parameters import Parameters
from onebasin.seeding import global_rng
from onebasin.symmetry.apply import act
from onebasin.symmetry.kinds import kind_of
from onebasin.symmetry.memory import remembered
from onebasin.symmetry.spec import Group, Spec

logger = logging.getLogger(__name__)

TOLERANCE = 1e-9  # relative, in float64: rounding stays orders of magnitude below, a wrong axis far above
FLOAT32 = 1e-5  # of networks that compute in float32 on their way: 100 times its rounding, and still far below


@dataclass(frozen=True)
class Proof:
    """The largest relative change of the outputs, and what it was held to (`TOLERANCE` or `FLOAT32`)."""

    change: float
    tolerance: float

    @property
    def precision(self) -> str:
        """In what the network computed."""
        return "float64" if self.tolerance == TOLERANCE else "float32, which the network casts to on its way"


def check(module: nn.Module, spec: Spec, example_input: Inputs, generator: torch.Generator) -> float:
    """The largest relative change of the outputs when all groups are permuted at random (`prove`)."""
    return prove(module, spec, example_input, generator).change


def prove(module: nn.Module, spec: Spec, example_input: Inputs, generator: torch.Generator) -> Proof:
    """Permute all groups at random, in float64, and see that the outputs stay.

    The network runs in evaluation mode, and once more with its batch norms in training mode if it has any. Its
    parameters and buffers get noise, its inputs are random: where they are all alike, permuting would prove nothing.
    A network that casts to float32 on its way, as for a norm or a softmax, is held to float32's accuracy, and that is
    said.

    Raises:
        OnebasinError: the network remembers between calls (`symmetry.memory`).
        OnebasinError: a place that the spec moves does not exist or is moved twice, or the function changes; the
            message names the group and the tensors it moves.
    """
    _check_axes(module, spec)
    try:
        return _prove(module, spec, example_input, generator, torch.float64)
    except _OtherTypeError as not_in_float64:
        logger.info("%s; checked in float32", not_in_float64)
        try:
            return _prove(module, spec, example_input, generator, torch.float32)
        except _OtherTypeError:
            raise not_in_float64 from None


class _OtherTypeError(OnebasinError):
    """The network does not run on numbers of a type."""


def _prove(
    module: nn.Module, spec: Spec, example_input: Inputs, generator: torch.Generator, kind: torch.dtype
) -> Proof:
    network = copy_sharing_tensors(module, training=False)
    state = {name: _in(kind, tensor) for name, tensor in _noisy_state(module, generator).items()}
    inputs = map_inputs(lambda example: _in(kind, random_input(example, generator)), example_input)
    place = remembered(module, state, lambda copied, parameters: _outputs(copied, parameters, inputs, kind))
    if place is not None:
        raise OnebasinError(
            f"{type(module).__name__} remembers between calls: {place} keeps what was computed of one model's "
            f"parameters, and uses it for the next; compute it anew in every forward pass"
        )
    norms = [part for part in network.modules() if isinstance(part, _NormBase)]

    def permuted(part: Spec) -> list[Tensor]:
        elements = {group.name: kind_of(group).telling(group, generator).to(inputs.device) for group in part.groups}
        return _outputs(network, act(state, part, elements), inputs, kind)

    largest, allowed = 0.0, TOLERANCE
    for training in (False, True) if norms else (False,):
        for norm in norms:
            norm.training = training
        with Float32() as narrow:
            before = _outputs(network, state, inputs, kind)
        difference = _difference(before, permuted(spec))
        tolerance = FLOAT32 if narrow.seen else TOLERANCE
        if tolerance > allowed:
            name = type(network).__name__
            logger.info("%s computes in float32 on its way; checked to %.0e, not %.0e", name, tolerance, TOLERANCE)
        if not difference <= tolerance:
            if _differ(before, _outputs(network, state, inputs, kind, "another")):
                raise OnebasinError(
                    f"{type(network).__name__} cannot be checked: it draws random numbers in evaluation mode, so that "
                    f"it gives other outputs at every call; let it draw while it trains alone"
                )
            alone = [(group, _difference(before, permuted(replace(spec, groups=(group,))))) for group in spec.groups]
            culprits = [group for group, change in alone if not change <= tolerance]
            raise OnebasinError(
                f"permuting changes the function{' in training mode' * training} (by {difference:.1e} of its size): "
                + "; ".join(f"group {group.name} ({_tensors(group)})" for group in culprits or spec.groups)
            )
        largest, allowed = max(largest, difference), max(allowed, tolerance)
    return Proof(largest, allowed)


class Float32(TorchDispatchMode):
    """Within the block, sees whether an operation returns numbers in float32."""

    seen = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and look at its type."""
        results = func(*args, **(kwargs or {}))
        self.seen = self.seen or any(tensor.dtype == torch.float32 for tensor in tensors_in(results))
        return results


def _check_axes(module: nn.Module, spec: Spec) -> None:
    tensors = spec.join(module.state_dict())
    taken: dict[tuple[str, int], set[int]] = {}
    for group in spec.groups:
        for axis in group.axes:
            if axis.tensor not in tensors:
                raise OnebasinError(f"group {group.name}: the network has no tensor {axis.tensor}")
            shape = tuple(tensors[axis.tensor].shape)
            where = f"group {group.name}: axis {axis.axis} of {axis.tensor} {shape}"
            length = shape[axis.axis] if 0 <= axis.axis < len(shape) else 0
            if axis.offset < 0 or axis.end(group) > length:
                raise OnebasinError(f"{where} has no places for {group.shape} units")
            places = set(axis.places(group).flatten().tolist())
            others = taken.setdefault((axis.tensor, axis.axis), set())
            if places & others:
                raise OnebasinError(f"{where} is moved twice at place {min(places & others)}")
            others |= places


def _noisy_state(module: nn.Module, generator: torch.Generator) -> Parameters:
    """Parameters and buffers in float64, with noise on those that a permutation may move; tied ones stay equal."""
    kept = module.state_dict()
    tensors = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    noisy: dict[int, Tensor] = {}
    for name, tensor in tensors.items():
        if id(tensor) not in noisy:
            noisy[id(tensor)] = _noisy(tensor.detach(), generator) if name in kept else _double(tensor.detach())
    return {name: noisy[id(tensor)] for name, tensor in tensors.items()}


def _noisy(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """With noise that leaves what is nowhere negative so: variances remain variances."""
    if not tensor.is_floating_point():
        return tensor
    noise = _random(tensor, generator)
    finite = tensor[tensor.isfinite()].double()
    scale = 0.01 + float(finite.std() if len(finite) > 1 else finite.abs().sum())
    return tensor.double() + scale * (noise if (tensor < 0).any() else noise.abs())


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _random(like: Tensor, generator: torch.Generator) -> Tensor:
    numbers = torch.randn(like.shape, generator=generator, device=generator.device, dtype=torch.float64)
    return numbers.to(like.device)


def random_input(example: Tensor, generator: torch.Generator) -> Tensor:
    """Like the example: numbers if it holds any, else a random choice among its values, all of which are allowed."""
    if example.is_floating_point():
        return _random(example, generator)
    choice = torch.randint(example.numel(), example.shape, generator=generator, device=generator.device)
    return example.flatten()[choice.to(example.device)]


def _outputs(
    network: nn.Module, state: Mapping[str, Tensor], inputs: Inputs, kind: torch.dtype, draw: str = "check"
) -> list[Tensor]:
    """What the network returns, as a list of tensors; its state is left as it is."""
    own = {name: tensor.clone() for name, tensor in state.items()}  # training mode writes into buffers
    arguments, named = arguments_of(inputs)
    try:
        with torch.no_grad(), _making(kind), global_rng(draw):
            outputs = tensors_in(functional_call(network, own, arguments, named, tie_weights=False))
    except RuntimeError as error:
        reason = f"it does not run in {str(kind).removeprefix('torch.')} ({str(error).splitlines()[0]})"
        raise _OtherTypeError(f"{type(network).__name__} cannot be checked: {reason}") from error
    if not outputs or any(bool(tensor.isnan().any()) for tensor in outputs):
        fault = "NaN for random parameters and inputs" if outputs else "no tensor, nor dictionaries or tuples of them"
        raise OnebasinError(f"{type(network).__name__} cannot be checked: it returns {fault}")
    return [tensor.double() for tensor in outputs]


def _in(kind: torch.dtype, tensor: Tensor) -> Tensor:
    return tensor.to(kind) if tensor.dtype == torch.float64 else tensor


@contextmanager
def _making(kind: torch.dtype) -> Iterator[None]:
    """What the network makes on its way is of this type, too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _difference(before: list[Tensor], after: list[Tensor]) -> float:
    """The largest change of an output, relative to the largest number in it."""
    changes = []
    for old, new in zip(before, after, strict=True):
        size = torch.where(old.isfinite(), old, 0.0).abs().max().clamp_min(torch.finfo(torch.float64).tiny)
        changes.append(float(torch.where(new == old, 0.0, (new - old).abs()).max() / size))
    return max(changes)


def _differ(one: list[Tensor], other: list[Tensor]) -> bool:
    return not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _tensors(group: Group) -> str:
    return ", ".join(f"axis {axis.axis} of {axis.tensor}" for axis in group.axes)
