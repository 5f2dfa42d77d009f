"""VGG11 as STE-MM trains it on CIFAR-10: eight 3 x 3 convolutions with bias, norm and ReLU, five max-pools, one linear
layer (Simonyan and Zisserman, ICLR 2015, configuration A, without the two hidden linear layers)."""

from collections import OrderedDict

from torch import nn

from onebasin.errors import OnebasinError
from onebasin.networks.layers import norm_layer, scaled

# Channels of the convolutions between one max-pool and the next.
STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


def vgg11(input_shape: tuple[int, ...], classes: int, width: float = 1, norm: str = "batch") -> nn.Sequential:
    """A VGG11 whose layers have `width` times the usual channels (STE-MM: 4), PyTorch's default initialisation.

    Args:
        norm: `batch`, `layer` (over channels and pixels of an image) or `none`.

    Raises:
        OnebasinError: the images are smaller than 32 x 32, which the five max-pools take to 1 x 1.
    """
    channels, *size = input_shape
    pooled = [length // 2 ** len(STAGES) for length in size]
    if min(pooled) < 1:
        raise OnebasinError(f"config: network: vgg11 needs images of 32 x 32 or more, these are {size[0]} x {size[1]}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    number = 0
    for stage, widths in enumerate(STAGES, start=1):
        for out in (scaled(usual, width) for usual in widths):
            number += 1
            layers[f"conv{number}"] = nn.Conv2d(channels, out, kernel_size=3, padding=1)
            layers[f"norm{number}"] = norm_layer(norm, out)
            layers[f"relu{number}"] = nn.ReLU()
            channels = out
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(channels * pooled[0] * pooled[1], classes)
    return nn.Sequential(layers)
