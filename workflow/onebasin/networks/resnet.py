"""ResNet20 as STE-MM trains it on CIFAR-10: three stages of three basic blocks (He et al., CVPR 2016, section 4.2),
with a 3 x 3 convolution and a norm on the shortcut where the shape changes."""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from onebasin.networks.layers import norm_layer, scaled

STAGES = (16, 32, 64)
BLOCKS = 3


class Block(nn.Module):
    """Two 3 x 3 convolutions, and the input added to what they make of it."""

    def __init__(self, channels: int, out: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1 = convolution(channels, out, stride, norm)
        self.norm1 = norm_layer(norm, out)
        self.conv2 = convolution(out, out, 1, norm)
        self.norm2 = norm_layer(norm, out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            projection = {"conv": convolution(channels, out, stride, norm), "norm": norm_layer(norm, out)}
            self.shortcut = nn.Sequential(OrderedDict(projection))

    def forward(self, features: Tensor) -> Tensor:
        inner = F.relu(self.norm1(self.conv1(features)))
        return F.relu(self.norm2(self.conv2(inner)) + self.shortcut(features))


def resnet20(input_shape: tuple[int, ...], classes: int, width: float = 1, norm: str = "batch") -> nn.Sequential:
    """A ResNet20 whose stages have `width` times the usual 16, 32 and 64 channels (STE-MM: 16).

    Weights are Kaiming-normal; convolutions have no bias, except without norm.

    Args:
        norm: `batch`, `layer` (over channels and pixels of an image) or `none`.
    """
    channels = scaled(STAGES[0], width)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = convolution(input_shape[0], channels, 1, norm)
    layers["norm"] = norm_layer(norm, channels)
    layers["relu"] = nn.ReLU()
    for stage, usual in enumerate(STAGES, start=1):
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(1, BLOCKS + 1):
            out = scaled(usual, width)
            blocks[f"block{number}"] = Block(channels, out, 2 if stage > 1 and number == 1 else 1, norm)
            channels = out
        layers[f"stage{stage}"] = nn.Sequential(blocks)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(channels, classes)
    network = nn.Sequential(layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    return network


def convolution(channels: int, out: int, stride: int, norm: str) -> nn.Conv2d:
    """A 3 x 3 convolution; a norm brings its own shift, so only without one does it need a bias."""
    return nn.Conv2d(channels, out, kernel_size=3, stride=stride, padding=1, bias=norm == "none")
