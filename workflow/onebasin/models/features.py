"""What the layers of a network take in and put out while it runs: the one way to look at features.

A layer is recognised by the weight that a function of torch is called with, so that it does not matter which module
calls it. What is computed between layers (nonlinearities, sums, poolings) is seen where the next layer takes it in.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from onebasin.inputs import Inputs, arguments_of, in_type_of
from onebasin.machine.matmul import fast_linear
from onebasin.machine.modes import mode
from onebasin.networks.canonical.module import patterns
from onebasin.parameters import Parameters

Function = Callable[..., Tensor]
See = Callable[["Call"], Tensor | None]

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
NORMS = (F.batch_norm, F.instance_norm, F.group_norm)
CHANNELS_SECOND = (*NORMS, patterns)
# Functions of an input and a weight: the weight's axes of input and of output channels, None where it has no such axis.
AXES: dict[Function, tuple[int | None, int | None]] = {
    **dict.fromkeys((F.linear, *CONVOLUTIONS), (1, 0)),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), (0, 1)),
    F.embedding: (None, 1),
    patterns: (None, 0),  # attention of canonical form: what is seen of heads
    **dict.fromkeys((*NORMS, F.layer_norm), (None, None)),
}
# Where the weight is among the arguments, if it is not the second one.
PLACES: dict[Function, int] = {F.batch_norm: 3, F.instance_norm: 3, F.group_norm: 2, F.layer_norm: 2, patterns: 2}


@dataclass(frozen=True)
class Call:
    """One run of a layer. The tensors are the network's own, which may go on in place: who keeps one keeps a copy.

    Attributes:
        name: of the layer's weight among the parameters.
        function: of torch, a key of `AXES`.
        input: what the layer took in, `[n, channels, places ...]`, or `[n, ..., channels]` of a linear layer.
        output: what it put out, likewise.
    """

    name: str
    function: Function
    input: Tensor
    weight: Tensor
    output: Tensor
    arguments: tuple[Any, ...]
    named_arguments: Mapping[str, Any]

    def kept(self) -> "Call":
        """The same with copies of what the network may overwrite."""
        return replace(self, input=self.input.clone(), output=self.output.clone())

    @property
    def layer(self) -> str:
        """The layer's name."""
        return self.name.rpartition(".")[0]

    def channel_axis(self, tensor: Tensor) -> int:
        """The axis of the input or output that the channels are on."""
        if self.function in CHANNELS_SECOND:
            return 1
        behind = self.weight.dim() - (self.function is not F.layer_norm)  # axes of places, or all that are normalised
        return tensor.dim() - behind

    def by_channel(self, tensor: Tensor) -> Tensor:
        """The input or output as `[channels, samples]`: every place of every input of the batch is a sample."""
        return tensor.movedim(self.channel_axis(tensor), 0).flatten(1)

    def with_weight(self, weight: Tensor) -> Tensor:
        """What a linear layer or convolution puts out with another weight, and zeros for its bias."""
        bias = self.arguments[2] if len(self.arguments) > 2 else self.named_arguments.get("bias")
        zeros = None if bias is None else weight.new_zeros(len(weight))
        others = {name: own for name, own in self.named_arguments.items() if name not in ("input", "weight", "bias")}
        return self.function(self.input, weight, zeros, *self.arguments[3:], **others)


def watch(network: nn.Module, parameters: Parameters, inputs: Inputs, see: See) -> Any:
    """The output of one model in evaluation mode; `see(call)` is called whenever one of its layers has run.

    If `see` gives a tensor, the network goes on with that in the place of the layer's output.
    """
    arguments, named = arguments_of(in_type_of(inputs, parameters))
    # the watch is the innermost, as a fast product is no call of `F.linear` any more
    with mode(network, training=False), fast_linear(), _Watch(parameters, see):
        return functional_call(network, parameters, arguments, named, tie_weights=False)


class _Watch(TorchFunctionMode):
    def __init__(self, parameters: Parameters, see: See) -> None:
        super().__init__()
        self._names = {id(tensor): name for name, tensor in parameters.items()}
        self._see = see

    def __torch_function__(
        self, func: Function, types: Iterable[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        output = func(*args, **named)
        if func not in AXES:
            return output
        place = PLACES.get(func, 1)
        weight: Any = args[place] if len(args) > place else named.get("weight")
        if (name := self._names.get(id(weight))) is None:
            return output
        given = args[0] if args else named["input"]
        seen = self._see(Call(name, func, given, weight, output, args, named))
        return output if seen is None else seen
