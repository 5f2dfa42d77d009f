"""How the units of models correlate: their activations on the same images, in one pass over these.

The activation of a group's units is what the layers that read them take in, after nonlinearity and norm: the input of
every linear layer and convolution whose weight has the units on its input axis. Where there is none (only depthwise
convolutions and norms, or a weight that is used transposed), it is the output of the layers that make the units. Every
image and every place in it (pixel, token) is a sample.

The pass adds up moments in float64 and keeps no more than a batch: N (N - 1) / 2 matrices n x n a group, one for every
two models, and the activations of one batch in all N models.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from onebasin.data import Split
from onebasin.errors import OnebasinError
from onebasin.inputs import Inputs, shape_of, shape_text
from onebasin.machine.matmul import add_product
from onebasin.matching.cost import of_families, units_of
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

    def correlations(self, scaled: bool = True) -> "Correlations":
        """What the samples so far say. A unit that does not vary correlates with nothing: 0.

        Args:
            scaled: covariances, if not: what may be rotated has no units to scale one by one.
        """
        means = self._sums / self._samples
        squares = self._squares / self._samples
        variances = squares - means.square()
        varies = variances > CONSTANT * squares
        scales = torch.where(varies, variances.clamp_min(0).rsqrt(), 0.0)
        pairs = []
        for first, total in enumerate(self._products):
            assert total is not None, "no samples"
            pairs.append(total / self._samples - means[first, :, None] * means[first + 1 :, None, :])
            if scaled:
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

    def behind(self, first: int) -> Tensor:
        """`[N - 1 - first, n, n]`: model number `first` with all those behind it."""
        return self._pairs[first]

    def between(self, one: int, other: int) -> Tensor:
        """`[n, n]`: unit i of model `one` with unit j of model `other`."""
        if one > other:
            return self.between(other, one).T
        return self._pairs[one][other - one - 1]


Place = tuple[str, int]
"""A group, and which of its families of units."""


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
    moments = {place: Moments(len(models), units, split.inputs.device) for place, units in _sizes(spec, roles).items()}
    rounds = -(-len(split) // batch)
    for images in track(split.inputs.split(batch), f"activations of {len(models)} models, batches", rounds):
        seen = [_activations(models, model, spec, images, roles) for model in range(len(models))]
        for place, own in moments.items():
            found = [activations.pop(place) for activations in seen]
            if len({activations.shape for activations in found}) > 1:
                raise OnebasinError(
                    f"activations: the units of {place[0]} are not run on the same inputs in all models; match this "
                    f"network by its weights (weight_matching, c2m3)"
                )
            own.add(torch.stack(found))
    for (name, _), own in moments.items():
        bad = [seed for seed, fine in zip(models.seeds, own.finite().tolist(), strict=True) if not fine]
        if bad:
            raise OnebasinError(
                f"activations: NaN or infinity in group {name} of model {bad[0]}; look for it in the training images, "
                f"then in that model"
            )
    found_of = {place: own.correlations(scaled=place[0] not in spec.rotated) for place, own in moments.items()}
    return {group.name: _of_group(group, found_of) for group in spec.groups}


def _sizes(spec: Spec, places: Iterable[Place]) -> dict[Place, int]:
    """How many units the families have."""
    spans = {(group.name, f): group.span(f) for group in spec.groups for f in range(len(group.inner) + 1)}
    return {place: spans[place].stop - spans[place].start for place in places}


def _of_group(group: Group, found: Mapping[Place, Correlations]) -> Correlations:
    """The correlations of all units of a group; those of two families, and of families that are not seen, are 0."""
    if not group.inner:
        return found[group.name, 0]
    families = {f: found[group.name, f] for f in range(len(group.inner) + 1) if (group.name, f) in found}
    models = next(iter(families.values())).models
    pairs = [of_families({f: own.behind(first) for f, own in families.items()}, group) for first in range(models - 1)]
    return Correlations(pairs)


@dataclass(frozen=True)
class _Seen:
    """Units that a layer takes in or puts out (`role` `reads` or `writes`).

    Attributes:
        place: the group and the family.
        block: of which block of the group they are, if of one.
        units: gives them, `[n, samples]`.
    """

    place: Place
    role: str
    block: int | None
    units: Callable[[], Tensor]


def _seen(call: Call, spec: Spec) -> Iterator[_Seen]:
    name, block = spec.known_as(call.name)
    axes = spec.axes_of(name)
    for role, number, tensor in zip(("reads", "writes"), AXES[call.function], (call.input, call.output), strict=True):
        if number not in axes:
            continue
        channels = call.channel_axis(tensor)
        if tensor.shape[channels] == call.weight.shape[number]:  # a grouped convolution has fewer on its weight's axis
            for axis, group in axes[number]:
                lies, own, mine = replace(axis, axis=channels), group, None
                if block is not None and axis.family:  # the places of one block, and its units alone
                    own, mine = Group("", group.inner[axis.family - 1], ()), block
                    lies = Axis("", channels, axis.start, axis.rounds, axis.inner)
                place = group.name, axis.family
                yield _Seen(place, role, mine, partial(_units, tensor, lies, own))


def _units(tensor: Tensor, axis: Axis, group: Group) -> Tensor:
    # a copy, because the network may go on in place
    return units_of(tensor[None], axis, group)[0].to(torch.float64, copy=True)


def _roles(models: Models, spec: Spec, images: Inputs) -> dict[Place, str]:
    """Whether the activations of units are seen where layers read them, or where they are written."""
    found: dict[Place, set[str]] = {}

    def see(call: Call) -> None:
        for seen in _seen(call, spec):
            found.setdefault(seen.place, set()).add(seen.role)

    watch(models.network, models[0], images, see)
    for group in spec.groups:
        if not any(name == group.name for name, _ in found):
            raise OnebasinError(
                f"activations: no linear layer, convolution or embedding takes in or puts out the units of "
                f"{group.name} by themselves; match this network by its weights (weight_matching, c2m3)"
            )
    return {place: "reads" if "reads" in roles else "writes" for place, roles in found.items()}


def _activations(
    models: Models, model: int, spec: Spec, images: Inputs, roles: Mapping[Place, str]
) -> dict[Place, Tensor]:
    """The activations `[n, samples]` float64 of every family of units in one model."""
    parts: dict[Place, dict[int | None, list[Tensor]]] = {}

    def see(call: Call) -> None:
        for seen in _seen(call, spec):
            if seen.role == roles[seen.place]:
                parts.setdefault(seen.place, {}).setdefault(seen.block, []).append(seen.units())

    watch(models.network, models[model], images, see)
    sizes = _sizes(spec, roles)
    return {place: _together(place, sizes[place], parts.get(place, {})) for place in roles}


def _together(place: Place, units: int, parts: Mapping[int | None, list[Tensor]]) -> Tensor:
    """The activations of all units of a family from those seen together, and those seen block by block.

    Raises:
        OnebasinError: blocks are run on different inputs, or some on none.
    """
    blocks = [torch.cat(parts[block], dim=1) for block in sorted(block for block in parts if block is not None)]
    same = len({activations.shape for activations in blocks}) <= 1
    if not parts or not same or (blocks and sum(map(len, blocks)) != units):
        raise OnebasinError(
            f"activations: the blocks of {place[0]} are not run on the same inputs; match this network by its weights "
            f"(weight_matching, c2m3)"
        )
    return torch.cat(parts.get(None, []) + ([torch.cat(blocks)] if blocks else []), dim=1)
