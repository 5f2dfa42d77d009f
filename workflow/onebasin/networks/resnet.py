"""ResNet20 as STE-MM trains it on CIFAR-10: three stages of three basic blocks (He et al., CVPR 2016, section 4.2),
with a 3 x 3 convolution and a norm on the shortcut where the shape changes."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from onebasin.networks.asymmetric import Asymmetry, restore
from onebasin.networks.layers import norm_layer, scaled

STAGES = (16, 32, 64)
BLOCKS = 3


class Block(nn.Module):
    """Two 3 x 3 convolutions, and the input added to what they make of it."""

    def __init__(self, channels: int, out: int, stride: int, norm: str, asymmetric: Asymmetry, level: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels, out, stride, norm, asymmetric, level)
        self.norm1 = norm_layer(norm, out)
        self.conv2 = convolution(out, out, 1, norm, asymmetric, level)
        self.norm2 = norm_layer(norm, out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            projection = convolution(channels, out, stride, norm, asymmetric, level)
            self.shortcut = nn.Sequential(OrderedDict({"conv": projection, "norm": norm_layer(norm, out)}))
        self.relu1 = asymmetric.activation(level, out, nn.ReLU())
        self.relu2 = asymmetric.activation(level, out, nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        inner = self.relu1(self.norm1(self.conv1(features)))
        return self.relu2(self.norm2(self.conv2(inner)) + self.shortcut(features))


def resnet20(
    input_shape: tuple[int, ...],
    classes: int,
    width: float = 1,
    norm: str = "batch",
    asymmetry: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """A ResNet20 whose stages have `width` times the usual 16, 32 and 64 channels (STE-MM: 16).

    Weights are Kaiming-normal; convolutions have no bias, except without norm.

    Args:
        norm: `batch`, `layer` (over channels and pixels of an image) or `none`.
        asymmetry: what takes its symmetries (`onebasin.networks.asymmetric`). Its levels are the first convolution, the
            three stages and the linear layer.
    """
    channels = scaled(STAGES[0], width)
    asymmetric = Asymmetry(asymmetry, levels=len(STAGES) + 2)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = convolution(input_shape[0], channels, 1, norm, asymmetric, 0)
    layers["norm"] = norm_layer(norm, channels)
    layers["relu"] = asymmetric.activation(0, channels, nn.ReLU())
    for stage, usual in enumerate(STAGES, start=1):
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, BLOCKS + 1):
            out = scaled(usual, width)
            stride = 2 if stage > 1 and number == 1 else 1
            blocks[f"block{number}"] = Block(channels, out, stride, norm, asymmetric, stage)
            channels = out
        layers[f"stage{stage}"] = nn.Sequential(blocks)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head"] = asymmetric.linear(len(STAGES) + 1, channels, classes)
    network = nn.Sequential(layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    restore(network)
    return network


def convolution(channels: int, out: int, stride: int, norm: str, asymmetric: Asymmetry, level: int) -> nn.Conv2d:
    """A 3 x 3 convolution; a norm brings its own shift, so only without one does it need a bias."""
    bias = norm == "none"
    return asymmetric.convolution(level, channels, out, kernel_size=3, stride=stride, padding=1, bias=bias)
