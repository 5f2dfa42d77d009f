"""Matrix products on the CPU by the library that is fastest there.

torch multiplies float32 matrices with MKL, which keeps to 256-bit instructions on AMD's processors; oneDNN, which torch
takes for convolutions, uses what the processor has. Measured on one core, 512 x 512: on an AMD EPYC with AVX-512 MKL
100 GFLOP/s and oneDNN 230; on one without it both 85, on an Intel Xeon both 150, but oneDNN copies a transposed matrix
first and makes a new one of every sum, which costs a search 15 % of its time. So oneDNN multiplies on AMD's processors,
in searches on those with AVX-512 alone (a network's passes take as long with either), and only float32.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

NARROW = 32  # units, or terms of a sum; a product with a smaller matrix takes MKL no longer


def add_product(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """`total + left right^T` for stacks left `[k, n, r]`, right `[k, m, r]` and total `[k, n, m]` (or nothing yet).

    What is in `total` may be overwritten; no gradient passes.
    """
    if left.shape[2] < NARROW or not (_has_avx512() and _by_onednn(left, right)):
        return torch.bmm(left, right.mT) if total is None else total.baddbmm_(left, right.mT)
    sums = [None] * len(left) if total is None else total
    found = [_product(a, b, c) for a, b, c in zip(left, right, sums, strict=True)]
    return found[0][None] if len(found) == 1 else torch.stack(found)


def fast_linear() -> AbstractContextManager[Any]:
    """Within this context linear layers take the fast product, in the pass and in its derivatives of any order.

    Not for `torch.func.jvp` and `vmap`, which such a layer does not know.
    """
    return _FastLinear() if _onednn_is_faster() else nullcontext()


class _FastLinear(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return (_linear if func is F.linear else func)(*args, **(kwargs or {}))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if len(weight) < NARROW or torch.is_autocast_enabled("cpu") or not _by_onednn(input, weight):
        return F.linear(input, weight, bias)
    result = _Product.apply(input.reshape(-1, input.shape[-1]), weight, bias)
    return result.reshape(*input.shape[:-1], len(weight))


class _Product(torch.autograd.Function):
    """`left right^T + bias` of two matrices and a vector (or None); its derivatives are such products again."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(left, right)
        return _product(left, right, bias=bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        of_left, of_right, of_bias = ctx.needs_input_grad
        return (
            _laid_out_like(left, gradient, right.T) if of_left else None,
            _laid_out_like(right, gradient.T, left.T) if of_right else None,
            gradient.sum(dim=0) if of_bias else None,
        )


def _laid_out_like(model: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """`left right^T`, by columns where `model` is: elementwise functions of two layouts are slow."""
    if model.stride(0) == 1 and model.stride(1) != 1:
        return _Product.apply(right, left, None).T
    return _Product.apply(left, right, None)


def _product(left: Tensor, right: Tensor, total: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    if total is None:
        return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return torch.ops.mkldnn._linear_pointwise.binary(left, total, right, bias, "add")


def _by_onednn(*tensors: Tensor) -> bool:
    plain = all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)
    return plain and _onednn_is_faster()


@functools.cache
def _onednn_is_faster() -> bool:
    amd = "AuthenticAMD" in _processor()
    return amd and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@functools.cache
def _has_avx512() -> bool:
    return "avx512f" in _processor()


def _processor() -> str:
    """What the system says of the processor; nothing where it is not Linux."""
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.is_file() else ""
