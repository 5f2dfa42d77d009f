"""What the convolutional networks share: the choice of norm, and the width multiplier."""

from collections.abc import Callable

from torch import nn

from onebasin.errors import OnebasinError

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "layer": lambda channels: nn.GroupNorm(1, channels),  # over channels and pixels of one image
    "none": lambda channels: nn.Identity(),
}


def norm_layer(norm: str, channels: int) -> nn.Module:
    """A normalisation of `channels` feature maps, by name."""
    if norm not in NORMS:
        raise OnebasinError(f"config: network: norm: '{norm}' is unknown; allowed: {', '.join(NORMS)}")
    return NORMS[norm](channels)


def scaled(channels: int, width: float) -> int:
    """`channels` times the width multiplier, rounded, and at least one."""
    return max(1, round(channels * width))
