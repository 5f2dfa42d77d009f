import pytest
import torch
from torch import nn

from onebasin.errors import OnebasinError
from onebasin.networks.build import new_network

CIFAR = (3, 32, 32)
SMALL = [("vgg11", 0.125), ("resnet20", 0.25)]


def build(name, input_shape=CIFAR, classes=10, **settings):
    return new_network({"name": name, **settings}, input_shape, classes, "networks")


def size(network):
    return sum(parameter.numel() for parameter in network.parameters())


def convolutions(network):
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}


@pytest.mark.parametrize(("name", "width", "millions"), [("vgg11", 4, 147.5), ("resnet20", 16, 74.4)])
def test_networks_of_the_papers_width_have_its_number_of_parameters(name, width, millions):
    with torch.device("meta"):
        network = new_network({"name": name, "width": width}, CIFAR, 10, "test")
    assert round(size(network) / 1e6, 1) == millions


def test_vgg11_at_width_4_has_the_layers_of_the_recipe():
    with torch.device("meta"):
        network = new_network({"name": "vgg11", "width": 4}, CIFAR, 10, "test")
    layers = convolutions(network).values()
    assert [layer.out_channels for layer in layers] == [256, 512, 1024, 1024, 2048, 2048, 2048, 2048]
    assert all(layer.bias is not None and layer.kernel_size == (3, 3) for layer in layers)
    kinds = [type(module) for module in network.children()]
    assert [kinds.count(kind) for kind in (nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.Linear)] == [8, 8, 5, 1]
    assert tuple(network.get_submodule("head").weight.shape) == (10, 2048)


def test_resnet20_at_width_16_has_the_layers_of_the_recipe():
    with torch.device("meta"):
        network = new_network({"name": "resnet20", "width": 16}, CIFAR, 10, "test")
    layers = convolutions(network)
    shortcuts = [name for name in layers if "shortcut" in name]
    assert shortcuts == ["stage2.block1.shortcut.conv", "stage3.block1.shortcut.conv"]
    widths = [layer.out_channels for name, layer in layers.items() if name not in shortcuts]
    assert widths == [256] * 7 + [512] * 6 + [1024] * 6
    assert [name for name, layer in layers.items() if layer.stride == (2, 2)] == [
        f"stage{stage}.block1.{part}" for stage in (2, 3) for part in ("conv1", "shortcut.conv")
    ]
    assert all(layer.bias is None and layer.kernel_size == (3, 3) for layer in layers.values())
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == len(layers)


def test_resnet20_has_kaiming_normal_weights():
    for name, layer in convolutions(build("resnet20")).items():
        weight = layer.weight.detach()
        expected = (2 / weight[0].numel()) ** 0.5
        assert float(weight.std()) == pytest.approx(expected, rel=0.15), name
        assert float(weight.abs().max()) > 2 * expected, name  # a uniform distribution ends at 1.73


@pytest.mark.parametrize(("name", "width"), SMALL)
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_networks_map_images_to_logits_and_train(name, width, norm):
    network = build(name, classes=7, width=width, norm=norm)
    logits = network(torch.randn(4, *CIFAR, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (4, 7)
    logits.square().sum().backward()
    for parameter, tensor in network.named_parameters():
        assert tensor.grad is not None, parameter
        assert bool(torch.isfinite(tensor.grad).all()), parameter


@pytest.mark.parametrize(("name", "width"), SMALL)
def test_the_norm_is_what_was_asked_for(name, width):
    kinds = {"batch": nn.BatchNorm2d, "layer": nn.GroupNorm, "none": nn.Identity}
    for norm, kind in kinds.items():
        network = build(name, width=width, norm=norm)
        norms = [module for name, module in network.named_modules() if name.rpartition(".")[2].startswith("norm")]
        assert len(norms) == len(convolutions(network))
        assert {type(module) for module in norms} == {kind}


@pytest.mark.parametrize(("name", "width"), SMALL)
def test_a_layer_norm_sees_one_image_at_a_time(name, width):
    network = build(name, width=width, norm="layer")
    images = torch.randn(3, *CIFAR, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(images)[:1], network(images[:1]))


@pytest.mark.parametrize(("name", "width"), SMALL)
def test_a_norm_that_does_not_exist_is_refused(name, width):
    with pytest.raises(OnebasinError, match=r"norm: 'bach'.*batch, layer, none"):
        build(name, width=width, norm="bach")


def test_a_fractional_width_is_rounded_to_whole_channels():
    assert [layer.out_channels for layer in convolutions(build("vgg11", width=0.01)).values()] == [1, 1, 3, 3, *[5] * 4]
    assert convolutions(build("resnet20", width=0.3))["conv"].out_channels == 5


def test_vgg11_flattens_what_five_poolings_leave():
    network = build("vgg11", (1, 64, 96), width=0.05)
    assert network(torch.zeros(2, 1, 64, 96)).shape == (2, 10)
    assert network.get_submodule("head").in_features == 26 * 2 * 3


def test_vgg11_refuses_images_that_its_poolings_would_use_up():
    with pytest.raises(OnebasinError, match=r"32 x 32.*28 x 28"):
        build("vgg11", (1, 28, 28))


def test_resnet20_takes_images_of_any_size():
    network = build("resnet20", (1, 28, 28), width=0.25)
    for height, width in ((28, 28), (8, 40)):
        assert network(torch.zeros(2, 1, height, width)).shape == (2, 10)


@pytest.mark.parametrize(("name", "width"), SMALL)
def test_the_seed_decides_the_initial_parameters(name, width):
    first, again = build(name, width=width).state_dict(), build(name, width=width).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    other = new_network({"name": name, "width": width}, CIFAR, 10, "another").state_dict()
    assert any(not torch.equal(first[key], other[key]) for key in first)


def with_a_default(input_shape, classes=7):
    return nn.Linear(input_shape[0], classes)


def test_a_number_of_classes_that_is_not_known_is_the_builders_own_default():
    name = f"{__name__}:with_a_default"
    assert new_network({"name": name}, (4,), None, "networks").out_features == 7
    assert new_network({"name": name}, (4,), 3, "networks").out_features == 3
