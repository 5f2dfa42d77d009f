"""The exact diagonal of the Hessian of the cross-entropy, for networks that are piecewise linear in every parameter.

There H_ii = (1/n) sum_n sum_c ((J_n^T S_n)_ic)^2 with J_n the Jacobian of the logits of sample n and S_n S_n^T the
Hessian of its cross-entropy by the logits, diag(p) - p p^T, so that S = diag(sqrt p) - p sqrt(p)^T: one backward pass a
class (the exact "DiagGGN" of Dangel, Kunstner, Hennig, ICLR 2020). It depends on no label. The network's graph is run
as it is; between a layer's input and the gradient by its output, each sample's gradient by the layer's parameters is a
product, whose squares are summed. Samples come in batches, and for convolutions in chunks of a batch, so that no more
than `CHUNK` gradients are held.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Interpreter, Node

from onebasin.machine.matmul import add_product, fast_linear
from onebasin.measures.sharpness.piecewise_linear import PiecewiseLinear, Use
from onebasin.parameters import Parameters

CHUNK = 2**24
"""Elements of the gradients by sample that are held at once: 64 MB."""

FEW = 64
"""Output positions up to which the gradients of a convolution are products of unfolded inputs."""

LINEAR = torch.ops.aten.linear.default


def hessian_diagonal(graph: PiecewiseLinear, parameters: Parameters, images: Tensor, batch: int) -> Parameters:
    """The diagonal of the Hessian of the mean cross-entropy, a tensor like each trainable parameter.

    Args:
        graph: of the network, captured with batches of the size `batch`.
        parameters: parameters and buffers, where to measure.
        images: `[n, ...]`; the last batch is filled with images that do not count.
        batch: images a pass.

    Returns:
        By the names of `graph.uses`; a parameter on which the logits do not depend is left out, its entries are 0.
    """
    state = {name: tensor.detach() for name, tensor in parameters.items()}
    total = {name: torch.zeros_like(state[name]) for name in graph.uses}
    with fast_linear():
        for some in images.split(batch) if total else ():
            filling = some[-1:].expand(batch - len(some), *some.shape[1:])
            run = _Run(graph, state, torch.cat([some, filling]) if len(filling) else some)
            for use, found in run.squared_gradients(len(some)):
                total[use] += found
    return {name: tensor / len(images) for name, tensor in total.items()}


def softmax_factors(logits: Tensor) -> Iterator[Tensor]:
    """The columns `[n, classes]` of S = diag(sqrt p) - p sqrt(p)^T, one a class; S S^T = diag(p) - p p^T.

    In float64, and 1 - p as the sum of the others, as confident networks have p near 1.
    """
    p = F.softmax(logits.double(), dim=1)
    for label in range(p.shape[1]):
        others = p.clone()
        others[:, label] = 0
        column = -p
        column[:, label] = others.sum(dim=1)
        yield (column * p[:, label : label + 1].sqrt()).to(logits.dtype)


@dataclass
class _Layer:
    """An operation that parameters enter: its arguments by name, and its output, which gradients are taken by."""

    arguments: dict[str, Any]
    output: Tensor


class _Run(Interpreter):
    """One forward pass over a batch that keeps what the layers with parameters get and give."""

    def __init__(self, graph: PiecewiseLinear, state: Parameters, images: Tensor) -> None:
        super().__init__(graph.program.graph_module)
        self.uses = graph.uses
        self.layers: dict[Node, _Layer] = {}
        self._at: set[Node] = {use.node for use in graph.uses.values()}
        constants = graph.program.constants
        inputs = [images if name is None else state[name] if name in state else constants[name] for name in graph.names]
        with torch.enable_grad():
            (self.logits,) = self.run(*inputs)

    def run_node(self, n: Node) -> Any:
        """Run one operation. The outputs of layers are what gradients are taken by, so they begin to need them here."""
        if n not in self._at:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        target: Any = n.target
        output = (F.linear if target is LINEAR else target)(*args, **kwargs)
        if not output.requires_grad:
            output = output.requires_grad_()
        names = [argument.name for argument in target._schema.arguments]
        self.layers[n] = _Layer({**dict(zip(names, args, strict=False)), **kwargs}, output)
        return output

    def squared_gradients(self, samples: int) -> Iterator[tuple[str, Tensor]]:
        """By parameter: the squares of the gradients by sample, summed over classes and the first `samples`."""
        nodes, outputs = list(self.layers), [layer.output for layer in self.layers.values()]
        counts = torch.arange(len(self.logits), device=self.logits.device) < samples
        sums: dict[str, Tensor] = {}
        squares = {node: torch.zeros_like(outputs[k]) for k, node in enumerate(nodes) if self._is_plain(node)}
        for column in softmax_factors(self.logits.detach()):
            column = column * counts.unsqueeze(1)
            gradients = torch.autograd.grad(self.logits, outputs, column, retain_graph=True, allow_unused=True)
            by_node = dict(zip(nodes, gradients, strict=True))
            for node in squares:
                if by_node[node] is not None:
                    squares[node].addcmul_(by_node[node], by_node[node])
            for name, use in self.uses.items():
                gradient = by_node[use.node]
                if use.node not in squares and gradient is not None:
                    found = _sum_of_squares(_of_samples(use, self.layers[use.node].arguments), gradient)
                    sums[name] = found if name not in sums else sums[name] + found
        for name, use in self.uses.items():
            if use.node in squares:
                given = self.layers[use.node].arguments["input"]
                yield name, _of_plain_linear(use.argument, given, squares[use.node])
            elif name in sums:
                yield name, sums[name]

    def _is_plain(self, node: Node) -> bool:
        """A linear layer of one row a sample, whose squared gradients are products of squares."""
        return node.target is LINEAR and self.layers[node].output.dim() == 2


def _of_plain_linear(argument: str, given: Tensor, squares: Tensor) -> Tensor:
    """For output gradients d and inputs a: sum_n (sum_c d_nc^2) by the bias, times a_n^2 by the weight."""
    if argument == "bias":
        return squares.sum(dim=0)
    return add_product(None, squares.T.unsqueeze(0), (given.detach() ** 2).T.unsqueeze(0))[0]


@dataclass(frozen=True)
class _GradientOfSamples:
    """How a parameter's gradients by sample `[m, *shape]` follow from a chunk of m samples, and how many numbers of
    them there are a sample."""

    of: Callable[[slice, Tensor], Tensor]
    elements: int


def _sum_of_squares(gradient_of: _GradientOfSamples, gradient: Tensor) -> Tensor:
    """Sum over samples of the squares of their gradients, a chunk at a time."""
    size = max(1, CHUNK // gradient_of.elements)
    parts = (
        gradient_of.of(slice(start, start + size), gradient[start : start + size]).square_().sum(dim=0)
        for start in range(0, len(gradient), size)
    )
    return sum(parts, torch.zeros((), dtype=gradient.dtype, device=gradient.device))


def _of_samples(use: Use, arguments: Mapping[str, Any]) -> _GradientOfSamples:
    """How the gradients by sample of a parameter follow from those by the output of the operation it enters."""
    target: Any = use.node.target
    name, parameter = target.name().removeprefix("aten::").partition(".")[0], arguments[use.argument]
    elements = parameter.numel()
    if name in ("add", "sub", "mul", "div"):
        other = arguments["other" if use.argument == "self" else "self"]
        factor = _factor(name, use.argument, other, arguments.get("alpha", 1))
        return _GradientOfSamples(lambda chunk, d: _reduced(d * _cut(factor, chunk, d), parameter.shape), elements)
    given = arguments["input"].detach()
    if name == "linear":
        if use.argument == "bias":
            return _GradientOfSamples(lambda chunk, d: d.flatten(1, -2).sum(dim=1), elements)
        product = lambda chunk, d: d.flatten(1, -2).mT @ given[chunk].flatten(1, -2)  # noqa: E731
        return _GradientOfSamples(product, max(elements, given[0].numel()))
    if use.argument == "bias":
        return _GradientOfSamples(lambda chunk, d: _by_channel(d), elements)
    if name == "batch_norm":
        return _GradientOfSamples(lambda chunk, d: _by_channel(d * _normalised(arguments, given[chunk])), elements)
    return _GradientOfSamples(lambda chunk, d: _of_convolution(name, arguments, given[chunk], d), elements)


def _by_channel(gradients: Tensor) -> Tensor:
    """`[m, channels, ...]` summed over positions, in new memory: `[m, channels]`."""
    return gradients.flatten(2).sum(dim=2) if gradients.dim() > 2 else gradients.clone()


def _normalised(arguments: Mapping[str, Any], given: Tensor) -> Tensor:
    """What BatchNorm multiplies by its weight."""
    places = (1, -1, *[1] * (given.dim() - 2))
    mean, variance = (arguments[f"running_{name}"].view(places) for name in ("mean", "var"))
    return (given - mean) * (variance + arguments["eps"]).rsqrt()


def _factor(name: str, argument: str, other: Any, alpha: float) -> Any:
    """What the gradient by a term or factor is multiplied by, up to its sign."""
    if name in ("add", "sub"):
        return alpha if argument == "other" else 1.0
    other = other.detach() if isinstance(other, Tensor) else other
    return 1 / other if name == "div" else other


def _cut(factor: Any, chunk: slice, like: Tensor) -> Any:
    """The samples of a chunk of a factor, if it is one of samples and not the same for all."""
    of_samples = isinstance(factor, Tensor) and factor.dim() == like.dim() and len(factor) > 1
    return factor[chunk] if of_samples else factor


def _reduced(gradients: Tensor, shape: torch.Size) -> Tensor:
    """Gradients `[m, ...]` summed over the axes along which a parameter of this shape was repeated: `[m, *shape]`."""
    kept = shape[-(gradients.dim() - 1) :] if len(shape) >= gradients.dim() else shape
    padded = (1,) * (gradients.dim() - 1 - len(kept)) + tuple(kept)
    axes = [axis for axis, size in enumerate(padded, 1) if size == 1 and gradients.shape[axis] != 1]
    found = gradients.sum(dim=axes, keepdim=True) if axes else gradients.clone()
    return found.reshape(len(gradients), *shape)


def _of_convolution(name: str, arguments: Mapping[str, Any], given: Tensor, gradient: Tensor) -> Tensor:
    """Gradients `[m, *weight.shape]` by a convolution's weight.

    Few positions make products of unfolded inputs; elsewhere the samples are the groups of one convolution, for which
    nothing is unfolded. On one core the first was 3 to 7 times as fast at 4 x 4, the second 2 to 9 times at 16 x 16.
    """
    weight, samples, groups = arguments["weight"], len(given), arguments.get("groups", 1)
    spatial = weight.dim() - 2
    stride, padding, dilation, output_padding = (
        _numbers(arguments.get(key, default), spatial)
        for key, default in (("stride", 1), ("padding", 0), ("dilation", 1), ("output_padding", 0))
    )
    if name == "conv2d" and groups == 1 and gradient[0, 0].numel() <= FEW:
        columns = F.unfold(given, tuple(weight.shape[2:]), dilation, padding, stride)
        return torch.bmm(gradient.flatten(2), columns.mT).view(samples, *weight.shape)
    _, found, _ = torch.ops.aten.convolution_backward(
        gradient.reshape(1, -1, *gradient.shape[2:]),
        given.reshape(1, -1, *given.shape[2:]),
        weight.repeat(samples, *[1] * (weight.dim() - 1)),
        None,
        stride,
        padding,
        dilation,
        "transpose" in name,
        output_padding,
        groups * samples,
        [False, True, False],
    )
    return found.reshape(samples, *weight.shape)


def _numbers(given: int | Sequence[int], spatial: int) -> tuple[int, ...]:
    """A setting of a convolution, one number a spatial axis."""
    numbers = (given,) if isinstance(given, int) else tuple(given)
    return numbers * spatial if len(numbers) == 1 else numbers
