"""How the units of models correlate: their activations on the same images, in one pass over these.

The activation of a group's units is what the layers that read them take in, after nonlinearity and norm: the input of
every linear layer and convolution whose weight has the units on its input axis. Where there is none (only depthwise
convolutions and norms, or a weight that is used transposed), it is the output of the layers that make the units. Every
image and every place in it (pixel, token) is a sample.

The pass adds up moments in float64 and keeps no more than a batch: N (N - 1) / 2 matrices n x n a group, one for every
two models, and the activations of one batch in all N models.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from onebasin.data import Split
from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs, shape_of, shape_text
from onebasin.machine.matmul import add_product
from onebasin.matching.cost import units_of
from onebasin.models.features import AXES, Call, watch
from onebasin.models.stack import Models
from onebasin.progress import track
from onebasin.symmetry.spec import Axis, Group, Spec

CONSTANT = 1e-12  # of a unit's mean square; a variance below that is the rounding of float32 activations


class Moments:
    """Sums over samples of the activations of one group's units in N models, and of their products.

    Args:
        models: N.
        units: n.
    """

    def __init__(self, models: int, units: int, device: torch.device | str = "cpu") -> None:
        self._samples = 0
        self._sums, self._squares = torch.zeros(2, models, units, dtype=torch.float64, device=device)
        self._products: list[Tensor | None] = [None] * (models - 1)  # of model k with those behind it

    def add(self, activations: Tensor) -> None:
        """Take in samples: `[N, n, samples]` float64, the same ones in all models."""
        self._samples += activations.shape[2]
        self._sums += activations.sum(dim=2)
        self._squares += activations.square().sum(dim=2)
        for first, total in enumerate(self._products):
            behind = activations[first + 1 :]
            self._products[first] = add_product(total, activations[first].expand_as(behind), behind)

    def finite(self) -> Tensor:
        """`[N]`: whether all activations of a model were numbers."""
        return self._squares.isfinite().all(dim=1)

    def correlations(self) -> "Correlations":
        """What the samples so far say. A unit that does not vary correlates with nothing: 0."""
        means = self._sums / self._samples
        squares = self._squares / self._samples
        variances = squares - means.square()
        varies = variances > CONSTANT * squares
        scales = torch.where(varies, variances.clamp_min(0).rsqrt(), 0.0)
        pairs = []
        for first, total in enumerate(self._products):
            assert total is not None, "no samples"
            pairs.append(total / self._samples - means[first, :, None] * means[first + 1 :, None, :])
            pairs[-1] *= scales[first, :, None] * scales[first + 1 :, None, :]
        return Correlations(pairs)


class Correlations:
    """Pearson correlations of one group's units between N models.

    Args:
        pairs: number k `[N - 1 - k, n, n]` has those of model k (rows) with the models behind it (columns), in order.
    """

    def __init__(self, pairs: list[Tensor]) -> None:
        self._pairs = pairs

    @property
    def models(self) -> int:
        """N."""
        return len(self._pairs) + 1

    def between(self, one: int, other: int) -> Tensor:
        """`[n, n]`: unit i of model `one` with unit j of model `other`."""
        if one > other:
            return self.between(other, one).T
        return self._pairs[one][other - one - 1]


@torch.no_grad()
def correlations(models: Models, spec: Spec, split: Split, batch: int) -> dict[str, Correlations]:
    """The correlations of every group's units between all models on the images of a split, `batch` at a time.

    The models are in evaluation mode, batch norms with their own statistics.

    Raises:
        OnebasinError: no images or not the network's, activations that are not numbers, or a group whose units no layer
            takes in or puts out by themselves (the heads of attention).
    """
    if not len(split) or shape_of(split.inputs) != models.input_shape:
        have, want = shape_text(shape_of(split.inputs)), shape_text(models.input_shape)
        raise OnebasinError(
            f"activations: {len(split)} inputs of {have}, but there must be some of {want}; check the data set"
        )
    roles = _roles(models, spec, split.inputs[:1])
    moments = {group.name: Moments(len(models), group.size, split.inputs.device) for group in spec.groups}
    rounds = -(-len(split) // batch)
    for images in track(split.inputs.split(batch), f"activations of {len(models)} models, batches", rounds):
        seen = [_activations(models, model, spec, images, roles) for model in range(len(models))]
        for name, own in moments.items():
            own.add(torch.stack([activations.pop(name) for activations in seen]))
    for name, own in moments.items():
        bad = [seed for seed, fine in zip(models.seeds, own.finite().tolist(), strict=True) if not fine]
        if bad:
            raise OnebasinError(
                f"activations: NaN or infinity in group {name} of model {bad[0]}; look for it in the training images, "
                f"then in that model"
            )
    return {name: own.correlations() for name, own in moments.items()}


def _seen(call: Call, spec: Spec) -> Iterator[tuple[Group, str, Tensor, Axis]]:
    """The groups whose units a layer takes in or puts out (`reads` or `writes`), the tensor, and how they lie in it."""
    axes = spec.axes_of(call.name)
    for role, number, tensor in zip(("reads", "writes"), AXES[call.function], (call.input, call.output), strict=True):
        if number not in axes:
            continue
        channels = call.channel_axis(tensor)
        if tensor.shape[channels] == call.weight.shape[number]:  # a grouped convolution has fewer on its weight's axis
            for axis, group in axes[number]:
                yield group, role, tensor, replace(axis, axis=channels)


def _roles(models: Models, spec: Spec, images: Inputs) -> dict[str, str]:
    """Whether the activations of a group are seen where layers read its units, or where they are written."""
    found: dict[str, set[str]] = {group.name: set() for group in spec.groups}

    def see(call: Call) -> None:
        for group, role, *_ in _seen(call, spec):
            found[group.name].add(role)

    watch(models.network, models[0], images, see)
    for name, roles in found.items():
        if not roles:
            raise OnebasinError(
                f"activations: no linear layer, convolution or embedding takes in or puts out the units of {name} by "
                f"themselves; match this network by its weights (weight_matching, c2m3)"
            )
    return {name: "reads" if "reads" in roles else "writes" for name, roles in found.items()}


def _activations(models: Models, model: int, spec: Spec, images: Inputs, roles: Mapping[str, str]) -> dict[str, Tensor]:
    """The activations `[n, samples]` float64 of every group's units in one model."""
    parts: dict[str, list[Tensor]] = {}

    def see(call: Call) -> None:
        for group, role, tensor, axis in _seen(call, spec):
            if role == roles[group.name]:
                units = units_of(tensor[None], axis, group)[0]
                # a copy, because the network may go on in place
                parts.setdefault(group.name, []).append(units.to(torch.float64, copy=True))

    watch(models.network, models[model], images, see)
    return {name: torch.cat(found, dim=1) for name, found in parts.items()}
