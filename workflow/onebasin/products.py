"""Matrix products on the CPU by the library that is fastest there.

torch multiplies float32 matrices with MKL, which keeps to 256-bit instructions on AMD's processors; oneDNN, which torch
takes for convolutions, uses what the processor has. Measured on one core of an AMD EPYC with AVX-512, 512 x 512: MKL
100 GFLOP/s, oneDNN 230. Anything but float32 on a CPU is left to torch.
"""

import torch
from torch import Tensor


def add_product(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
    """`total + left right^T` for stacks left `[k, n, r]`, right `[k, m, r]` and total `[k, n, m]` (or nothing yet).

    What is in `total` may be overwritten; no gradient passes.
    """
    if not _by_onednn(left, right):
        return torch.bmm(left, right.mT) if total is None else total.baddbmm_(left, right.mT)
    sums = [None] * len(left) if total is None else total
    found = [_product(a, b, c) for a, b, c in zip(left, right, sums, strict=True)]
    return found[0][None] if len(found) == 1 else torch.stack(found)


def _product(left: Tensor, right: Tensor, total: Tensor | None) -> Tensor:
    if total is None:
        return torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    return torch.ops.mkldnn._linear_pointwise.binary(left, total, right, None, "add")


def _by_onednn(*tensors: Tensor) -> bool:
    plain = all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)
    return plain and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
