"""Networks without parameter symmetries: layers with fixed entries, and gates of a fixed matrix.

D. Lim, T. Putterman, R. Walters, H. Maron, S. Jegelka, "The Empirical Impact of Neural Parameter Symmetries, or Lack
Thereof", NeurIPS 2024. A W-asymmetric layer has the weight M * W + (1 - M) * F: in each of its rows `n_fix` entries,
another choice in every row, are not trained but drawn once. A sigma-asymmetric one is followed by the nonlinearity
FiGLU, sigmoid(F x) * x, whose F is not trained. What is fixed is the same for all models of an experiment, follows
from the seed of the `asymmetry`, and is no state of a model.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onebasin.errors import OnebasinError
from onebasin.seeding import generator

NONE = {"kind": "none"}


class AsymmetricLinear(nn.Linear):
    """A linear layer some of whose weights are fixed (`fix`)."""

    fixed: Tensor
    fixed_values: Tensor
    shared: bool

    def forward(self, inputs: Tensor) -> Tensor:
        """The layer's output `[n, out_features]`."""
        return F.linear(inputs, whole_weight(self), self.bias)


class AsymmetricConv2d(nn.Conv2d):
    """A convolution some of whose weights are fixed (`fix`)."""

    fixed: Tensor
    fixed_values: Tensor
    shared: bool

    def forward(self, images: Tensor) -> Tensor:
        """The layer's output `[n, out_channels, h, w]`."""
        return self._conv_forward(images, whole_weight(self), self.bias)


Asymmetric = AsymmetricLinear | AsymmetricConv2d


def whole_weight(layer: Asymmetric) -> Tensor:
    """M * W + (1 - M) * F. Where the mask is a model's own, the mean of two models has neither's: W as it is."""
    return torch.where(layer.fixed, layer.fixed_values, layer.weight) if layer.shared else layer.weight


class FiGLU(nn.Module):
    """The nonlinearity sigmoid(F x) * x over the channels of x `[n, channels, ...]`, F being fixed.

    The entries of F are normal with the deviation `kappa` / sqrt(channels): F x is about `kappa` times as large as x.
    """

    gates: Tensor

    def __init__(self, channels: int, kappa: float, stream: torch.Generator) -> None:
        super().__init__()
        gates = torch.randn(channels, channels, generator=stream) * kappa / channels**0.5
        self.register_buffer("gates", gates, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """The gated features, of the same shape."""
        mixed = torch.tensordot(features, self.gates, dims=([1], [1])).movedim(-1, 1)
        return torch.sigmoid(mixed) * features


def fix(layer: Asymmetric, n_fix: int, kappa: float, stream: torch.Generator, shared: bool) -> None:
    """Fix `n_fix` entries of every row to draws of a normal distribution with the deviation `kappa`.

    Args:
        stream: what the choice of entries and their values are drawn from.
        shared: whether all models have these entries. Else the layer knows them while it is trained alone.

    Raises:
        OnebasinError: a row has fewer entries.
    """
    rows = layer.weight.detach().flatten(1)
    if n_fix > rows.shape[1]:
        raise OnebasinError(
            f"config: network.asymmetry.n_fix: {n_fix}, where a row of the layer has {rows.shape[1]} entries; fix fewer"
        )
    chosen = torch.rand(rows.shape, generator=stream).argsort(dim=1)[:, :n_fix]
    fixed = torch.zeros(rows.shape, dtype=torch.bool).scatter(1, chosen, True).view_as(layer.weight)
    values = (kappa * torch.randn(rows.shape, generator=stream)).view_as(layer.weight)
    layer.register_buffer("fixed", fixed, persistent=False)
    layer.register_buffer("fixed_values", torch.where(fixed, values, 0.0), persistent=False)
    layer.shared = shared
    restore(layer)


def restore(network: nn.Module) -> None:
    """Write what is fixed back into the weights, over what an optimiser's weight decay made of it."""
    for layer in network.modules():
        if isinstance(layer, Asymmetric):
            with torch.no_grad():
                torch.where(layer.fixed, layer.fixed_values, layer.weight, out=layer.weight)


def fixed_entries(network: nn.Module) -> dict[str, Tensor]:
    """Which entries of which weights are fixed, by the weights' names."""
    return {
        f"{name}.weight".lstrip("."): layer.fixed
        for name, layer in network.named_modules()
        if isinstance(layer, Asymmetric)
    }


class Asymmetry:
    """What makes the layers of one network asymmetric, or leaves them as they are.

    Args:
        settings: `kind` (`none`, `w` or `sigma`); of `w` `n_fix` and `kappa`, a number or one a level of the network;
            of `sigma` `kappa`; `seed`, which what is fixed follows from; `masks`, `shared` or each model's `own`.
        levels: how many levels the network has.

    Raises:
        OnebasinError: the settings are not for so many levels.
    """

    def __init__(self, settings: Mapping[str, Any] | None, levels: int) -> None:
        self._settings = {"seed": 0, "masks": "shared", "kappa": 1.0, **(settings or NONE)}
        self.kind: str = self._settings["kind"]
        self._layers = 0
        if self.kind == "w" and "n_fix" not in self._settings:
            raise OnebasinError("config: network.asymmetry.n_fix: missing; say how many entries of a row are fixed")
        for key in ("n_fix", "kappa"):
            given = self._settings.get(key, 0)
            if isinstance(given, Sequence) and len(given) != levels:
                raise OnebasinError(
                    f"config: network.asymmetry.{key}: {len(given)} numbers for {levels} levels of the network; write "
                    f"one number, or one a level"
                )
        # a model's own entries are drawn where its other initial values are: from the stream that it is made in
        own = self._settings["masks"] == "own"
        self._own = torch.Generator().manual_seed(int(torch.randint(2**62, ()))) if self.kind == "w" and own else None

    def linear(self, level: int, inputs: int, outputs: int) -> nn.Linear:
        """A linear layer of a level."""
        return self._fixed(AsymmetricLinear(inputs, outputs), level) if self.kind == "w" else nn.Linear(inputs, outputs)

    def convolution(self, level: int, channels: int, out: int, **settings: Any) -> nn.Conv2d:
        """A convolution of a level; `settings` are those of `nn.Conv2d`."""
        if self.kind != "w":
            return nn.Conv2d(channels, out, **settings)
        return self._fixed(AsymmetricConv2d(channels, out, **settings), level)

    def activation(self, level: int, channels: int, usual: nn.Module) -> nn.Module:
        """The nonlinearity behind a layer of a level."""
        return FiGLU(channels, self._at("kappa", level), self._stream()) if self.kind == "sigma" else usual

    def _fixed(self, layer: Any, level: int) -> Any:
        fix(layer, self._at("n_fix", level), self._at("kappa", level), self._stream(), self._own is None)
        return layer

    def _at(self, key: str, level: int) -> Any:
        given = self._settings[key]
        return given[level] if isinstance(given, Sequence) else given

    def _stream(self) -> torch.Generator:
        """A stream a layer, in the order in which the network makes them."""
        self._layers += 1
        return self._own or generator("asymmetry", self._settings["seed"], self._layers)
