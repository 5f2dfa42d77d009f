"""The weights of layers as matrices, and their singular vectors (Ito et al., ICLR 2025).

Every trainable tensor with two or more axes is a matrix of (out) rows and (in k k) columns: for a convolution a row is
what one filter does to one patch. Permuting units permutes the rows of the singular vectors and leaves the singular
values alone, so a model is decomposed once, whatever is searched for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor

from onebasin.errors import OnebasinError
from onebasin.models.stack import Models
from onebasin.parameters import one
from onebasin.symmetry.apply import act_on_axis
from onebasin.symmetry.spec import Spec


@dataclass(frozen=True)
class Decomposition:
    """W = U S V' of a matrix: `left` U `[out, r]`, `singular_values` `[r]`, falling, and `right` V `[in, ..., r]`.

    V keeps the axes of the weights, as permutations are of these.
    """

    left: Tensor
    singular_values: Tensor
    right: Tensor

    def permuted(self, name: str, spec: Spec, elements: Mapping[str, Tensor]) -> "Decomposition":
        """That of the tensor `name` after the elements of the groups have acted on it.

        Raises:
            OnebasinError: it belongs to a block that changes places with others.
        """
        if any(name in one.tensors for one in spec.joined):
            raise OnebasinError(
                f"singular vectors: {name} changes places with other tensors, which is not followed; leave this "
                f"measure out"
            )
        left, right = self.left, self.right
        for axis, parts in spec.axes_of(name).items():
            if axis == 0:
                left = act_on_axis(left, 0, parts, elements)
            else:
                right = act_on_axis(right, axis - 1, parts, elements)
        return replace(self, left=left, right=right)

    def kept(self, gamma: float) -> int:
        """How many singular values are at least `gamma` times the largest, and not rounding errors of zero."""
        columns = self.right.numel() // len(self.singular_values)
        noise = torch.finfo(self.singular_values.dtype).eps * max(len(self.left), columns)
        return int((self.singular_values >= max(gamma, noise) * self.singular_values[0]).sum())

    def truncated(self, count: int) -> Tensor:
        """The tensor `[out, in, ...]` that the first `count` singular directions make up."""
        right = self.right.flatten(0, -2)[:, :count]
        matrix = (self.left[:, :count] * self.singular_values[:count]) @ right.T
        return matrix.view(len(self.left), *self.right.shape[:-1])


def decompose(weights: Mapping[str, Tensor]) -> dict[str, Decomposition]:
    """The decompositions of one model's trainable tensors that are matrices, by name, in the network's order."""
    return {name: _decomposition(tensor.detach()) for name, tensor in weights.items() if tensor.dim() >= 2}


def decompositions(models: Models) -> list[dict[str, Decomposition]]:
    """Those of each model of a stack."""
    return [decompose(one(models.weights, model)) for model in range(len(models))]


def singular_values(decompositions: Mapping[str, Decomposition]) -> pd.DataFrame:
    """`layer, rank, value` of one model, ranks from 0 at the largest."""
    rows = [
        (layer_of(name), rank, value)
        for name, part in decompositions.items()
        for rank, value in enumerate(part.singular_values.tolist())
    ]
    return pd.DataFrame(rows, columns=["layer", "rank", "value"])


def layer_of(tensor: str) -> str:
    """The layer that a tensor of weights belongs to, as tables name it."""
    return tensor.removesuffix(".weight")


def _decomposition(tensor: Tensor) -> Decomposition:
    left, values, right = torch.linalg.svd(tensor.flatten(1), full_matrices=False)
    return Decomposition(left, values, right.T.reshape(*tensor.shape[1:], len(values)))
