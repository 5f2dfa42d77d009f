"""Networks of many kinds, small where they can be, for what has to work on any architecture.

`ARCHITECTURES` has for every name how to build it, an example input, and the sizes of the groups that it has.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onebasin import seeding
from onebasin.machine.vision import torchvision
from onebasin.networks.mlp import mlp

models = torchvision.models


class Lambda(nn.Module):
    """A forward pass written as a function of the network and its input, and the parts that it uses."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, inputs):
        return self.function(self, inputs)


def parameter(*shape):
    return nn.Parameter(torch.randn(*shape))


def vgg11(batch_norm):
    """Torchvision's, with a narrow classifier instead of its 120 million weights."""
    network = models.VGG(models.vgg.make_layers(models.vgg.cfgs["A"], batch_norm=batch_norm), init_weights=False)
    hidden = [layer for sizes in ((512 * 49, 32), (32, 24)) for layer in (nn.Linear(*sizes), nn.ReLU(), nn.Dropout())]
    network.classifier = nn.Sequential(*hidden, nn.Linear(24, 5))
    return network


class Block(nn.Module):
    """Two convolutions and a shortcut, which is conv 3 x 3 and BatchNorm where the shape changes."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)
        projection = [nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after)]
        self.shortcut = nn.Sequential(*projection if before != after else ())

    def forward(self, x):
        hidden = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


def resnet20(width=4):
    """The residual network of three stages for CIFAR."""
    layers, before = [nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()], width
    for stage in range(3):
        for block in range(3):
            after = width * 2**stage
            layers.append(Block(before, after, 2 if stage and not block else 1))
            before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 5))


def squeeze_excite():
    return Lambda(
        lambda net, x: net.out((net.enter(x) * net.gate(net.enter(x))).mean((2, 3))),
        enter=nn.Conv2d(3, 8, 3),
        gate=nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 1), nn.Hardsigmoid()
        ),
        out=nn.Linear(8, 3),
    )


class Feedforward(nn.Module):
    """The MLP block of a transformer with its norm and residual."""

    def __init__(self, size, hidden):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(size), nn.Linear(size, hidden), nn.Linear(hidden, size)

    def forward(self, x):
        return x + self.down(F.gelu(self.up(self.norm(x))))


def layer_norm_net():
    return nn.Sequential(
        nn.Linear(7, 8), Feedforward(8, 10), Feedforward(8, 9), nn.LayerNorm(8), nn.Flatten(), nn.Linear(8 * 5, 3)
    )


def tied_autoencoder():
    """Decodes with the transpose of the weight it encodes with."""
    return Lambda(
        lambda net, x: F.linear(F.relu(net.encoder(x)), net.encoder.weight.t(), net.bias),
        encoder=nn.Linear(7, 6),
        bias=parameter(7),
    )


def used_twice():
    """A layer applied twice, with residuals: its weight has the same units on both axes."""
    return Lambda(
        lambda net, x: net.out(net.step(net.step(net.enter(x))) + net.step(net.enter(x)) + net.enter(x)),
        enter=nn.Linear(7, 6),
        step=nn.Sequential(nn.Linear(6, 6), nn.ReLU()),
        out=nn.Linear(6, 3),
    )


def tied_names():
    """Two layers with one weight."""
    network = nn.Sequential(nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 3))
    network[4].weight = network[2].weight
    return network


class Exponential(nn.Module):
    """The exponential of a matrix: an operation that the tracer does not know."""

    def forward(self, x):
        return torch.linalg.matrix_exp(0.1 * x[:, :, None] * x[:, None, :]).sum(1)


def unknown_operation():
    return nn.Sequential(
        nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 5), Exponential(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)
    )


def attention_net():
    """Patches, a class token, positions, encoder layers, and a reading of the class token."""
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.1, batch_first=True, norm_first=True)

    def forward(net, x):
        tokens = torch.cat([net.token.expand(len(x), -1, -1), net.patches(x).flatten(2).mT], dim=1)
        return net.out(net.encoder(tokens + net.positions)[:, 0])

    return Lambda(
        forward,
        patches=nn.Conv2d(3, 8, 4, 4),
        token=parameter(1, 1, 8),
        positions=parameter(1, 5, 8),
        encoder=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        out=nn.Linear(8, 3),
    )


def group_norm():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.GroupNorm(1, 6), *head(6 * 16)
    )


def instance_norm():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.InstanceNorm2d(8, affine=True),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        nn.InstanceNorm2d(6, track_running_stats=True),
        *head(6 * 16),
    )


def head(inputs):
    return nn.Flatten(), nn.Linear(inputs, 3)


def grouped():
    """A grouped convolution, and a depthwise one with two filters a channel."""
    channels = nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 6, 3, groups=3), nn.ReLU(), nn.Conv2d(6, 12, 3, groups=6)
    return nn.Sequential(*channels, nn.ReLU(), *head(12 * 4))


def pixels_first():
    """Flattened with the channels last, as arrays of other libraries are."""
    return Lambda(
        lambda net, x: net.out(F.relu(net.conv(x)).permute(0, 2, 3, 1).flatten(1)),
        conv=nn.Conv2d(3, 4, 3),
        out=nn.Linear(4 * 36, 3),
    )


def zero_padded_shortcut():
    """The shortcut without parameters: every other pixel, zeros for new channels."""
    return Lambda(
        lambda net, x: net.out(net.add(net.enter(x)).sum((2, 3))),
        enter=nn.Conv2d(3, 4, 3, padding=1),
        add=Lambda(
            lambda net, x: net.conv(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 3)),
            conv=nn.Conv2d(4, 9, 3, 2, padding=1),
        ),
        out=nn.Linear(9, 3),
    )


def recurrent():
    return Lambda(
        lambda net, x: net.out(net.cell(x)[0][:, -1]), cell=nn.LSTM(7, 5, batch_first=True), out=nn.Linear(5, 3)
    )


def mobilenet():
    """MobileNetV2's first three stages."""
    return models.MobileNetV2(num_classes=5, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2]])


def dense_net():
    return models.DenseNet(growth_rate=4, block_config=(2, 2), num_init_features=8, num_classes=5)


def embedding_net():
    return nn.Sequential(nn.Embedding(11, 6), nn.LayerNorm(6), nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 3))


def gated():
    """Half of the units gate the other half."""
    return Lambda(
        lambda net, x: net.out(net.glu(F.silu(net.gate(x).chunk(2, dim=-1)[0]) * net.gate(x).chunk(2, dim=-1)[1])),
        gate=nn.Linear(7, 12),
        glu=nn.Sequential(nn.Linear(6, 8), nn.GLU()),
        out=nn.Linear(4, 3),
    )


@dataclass(frozen=True)
class Architecture:
    build: Callable[[], nn.Module]
    example: Tensor
    sizes: list[int]

    def network(self) -> nn.Module:
        with seeding.global_rng("architecture"):
            return self.build()


VECTORS, SEQUENCES, WORDS = torch.zeros(2, 7), torch.zeros(2, 5, 7), torch.arange(10).view(2, 5)
IMAGES, LARGE = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 64, 64)

VGG = [64, 128, 256, 256, 512, 512, 512, 512, 32, 24]
RESNET18 = [64, 64, 64] + [size for size in (128, 256, 512) for _ in range(3)]
RESNET50 = [64] + [
    size
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3))
    for size in (width, width, 4 * width, *[width] * (2 * blocks - 2))
]
ARCHITECTURES = {
    "MLP": Architecture(lambda: mlp((1, 2, 3), classes=4, width=5, depth=3), torch.zeros(2, 1, 2, 3), [5, 5, 5]),
    "VGG11": Architecture(lambda: vgg11(batch_norm=False), torch.zeros(2, 3, 32, 32), VGG),
    "VGG11 with BatchNorm": Architecture(lambda: vgg11(batch_norm=True), torch.zeros(2, 3, 32, 32), VGG),
    "ResNet20": Architecture(resnet20, IMAGES, [4] * 4 + [8] * 4 + [16] * 4),
    "ResNet18": Architecture(models.resnet18, LARGE, RESNET18),
    "ResNet50": Architecture(models.resnet50, LARGE, RESNET50),
    "MobileNetV2": Architecture(mobilenet, LARGE, [32, 16, 96, 24, 144, 144, 32, 192, 1280]),
    "DenseNet": Architecture(dense_net, LARGE, [8, 16, 4, 16, 4, 8, 16, 4, 16, 4]),
    "squeeze and excitation": Architecture(squeeze_excite, IMAGES, [8, 4]),
    "LayerNorm": Architecture(layer_norm_net, SEQUENCES, [8, 10, 9]),
    "GroupNorm": Architecture(group_norm, IMAGES, [4, 4, 6]),
    "InstanceNorm": Architecture(instance_norm, IMAGES, [8, 6]),
    "grouped convolutions": Architecture(grouped, IMAGES, [3]),
    "zero-padded shortcut": Architecture(zero_padded_shortcut, IMAGES, [4, 2, 3]),
    "pixels first": Architecture(pixels_first, IMAGES, [4]),
    "gates": Architecture(gated, VECTORS, [6, 4]),
    "attention": Architecture(attention_net, IMAGES, [8, 2, 12, 2, 12]),
    "embedding": Architecture(embedding_net, WORDS, [6, 7]),
    "LSTM": Architecture(recurrent, SEQUENCES, [5]),
    "tied autoencoder": Architecture(tied_autoencoder, VECTORS, [6]),
    "a layer used twice": Architecture(used_twice, VECTORS, [6]),
    "two layers with one weight": Architecture(tied_names, VECTORS, [6]),
    "unknown operation": Architecture(unknown_operation, VECTORS, [6, 4]),
}
