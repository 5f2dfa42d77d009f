import pytest
import torch
from networks_for_tests import like, stream
from torch import nn

from onebasin import seeding
from onebasin.data import Split
from onebasin.errors import OnebasinError
from onebasin.merging.average import aligned_models, merge
from onebasin.merging.recalibration import BATCH, Recalibration, batches, output_statistics, recompute, repair
from onebasin.models.running import forward
from onebasin.models.stack import Models, initial
from onebasin.networks.build import new_network
from onebasin.parameters import mean, stacked
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import random_elements
from onebasin.symmetry.spec import Axis, Group, Spec

SHAPE = (3, 8, 8)
IMAGES = torch.randn(120, *SHAPE, generator=stream("images")).split(50)
SPLIT = Split(torch.cat(IMAGES), torch.zeros(120, dtype=torch.int64))
CONVOLUTIONAL = Spec(
    (
        Group(
            "1",
            5,
            (
                *(Axis(f"0.{n}", 0) for n in ("weight", "bias")),
                *(Axis(f"1.{n}", 0) for n in ("weight", "bias", "running_mean", "running_var")),
                Axis("3.weight", 1),
            ),
        ),
        Group(
            "4",
            4,
            (
                *(Axis(f"3.{n}", 0) for n in ("weight", "bias")),
                *(Axis(f"4.{n}", 0) for n in ("weight", "bias", "running_mean", "running_var")),
                Axis("8.weight", 1),
            ),
        ),
    )
)
PLAIN = Spec(
    (
        Group("1", 5, (Axis("0.weight", 0), Axis("0.bias", 0), Axis("3.weight", 1))),
        Group("4", 4, (Axis("3.weight", 0), Axis("3.bias", 0), Axis("8.weight", 1))),
    )
)


def network(norm, key):
    def layer(width):
        return nn.BatchNorm2d(width) if norm else nn.Identity()

    with seeding.global_rng("normalization", key):
        built = nn.Sequential(
            nn.Conv2d(3, 5, 3),
            layer(5),
            nn.ReLU(),
            nn.Conv2d(5, 4, 3),
            layer(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        )
        for name, tensor in built.state_dict().items():
            if norm and name.endswith(("running_var", "1.weight", "4.weight")):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point():
                tensor.add_(0.2 * torch.randn(tensor.shape))
    return built.eval()


def two_models(norm) -> Models:
    networks = [network(norm, key) for key in range(2)]
    return Models(networks[0], stacked([initial(n) for n in networks]), (0, 1), SHAPE)


def close(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], **tolerance, msg=lambda text, name=name: f"{name}: {text}")


def test_statistics_are_what_torchs_own_recomputation_gives():
    models = two_models(norm=True)
    merged = mean(models.parameters)
    found = recompute(models.network, merged, IMAGES)
    reference = network(True, 0)
    reference.load_state_dict(merged)
    torch.optim.swa_utils.update_bn(IMAGES, reference)
    close(found, initial(reference))
    assert found["1.num_batches_tracked"] == len(IMAGES)


def test_recomputing_leaves_everything_else_alone():
    models = two_models(norm=True)
    merged = mean(models.parameters)
    before = {name: tensor.clone() for name, tensor in merged.items()}
    own = {name: tensor.clone() for name, tensor in initial(models.network).items()}
    found = recompute(models.network, merged, IMAGES)
    close(merged, before, rtol=0, atol=0)
    close(initial(models.network), own, rtol=0, atol=0)
    assert not any(module.training for module in models.network.modules())
    assert {layer.momentum for layer in models.network.modules() if isinstance(layer, nn.BatchNorm2d)} == {0.1}
    assert all(torch.equal(found[name], merged[name]) for name in merged if "running" not in name and "num" not in name)


def test_a_network_without_batchnorm_is_returned_as_it_is():
    models = two_models(norm=False)
    merged = mean(models.parameters)
    assert recompute(models.network, merged, IMAGES) is merged


@pytest.mark.parametrize("norm", [True, False])
def test_output_statistics_are_those_of_the_whole_data_at_once(norm):
    models = two_models(norm)
    found = output_statistics(models.network, models[0], IMAGES)
    assert list(found) == (["1", "4"] if norm else ["0", "3"])
    for name, (average, deviation) in found.items():
        layers = models.network[: int(name) + 1]
        with torch.no_grad():
            output = layers(SPLIT.inputs).double().movedim(1, 0).flatten(1)
        torch.testing.assert_close(average, output.mean(dim=1), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(deviation, output.std(dim=1, unbiased=False), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", [True, False])
def test_a_repaired_model_has_the_interpolated_statistics(norm):
    models = two_models(norm)
    recalibrate = Recalibration(models.network, SPLIT, {"method": "repair"})
    parents = recalibrate.statistics([models[0], models[1]])
    found = recalibrate(mean(models.parameters), parents, [0.25, 0.75])
    for name, (average, deviation) in output_statistics(models.network, found, [SPLIT.inputs]).items():
        for value, part in ((average, 0), (deviation, 1)):
            wanted = 0.25 * parents[0][name][part] + 0.75 * parents[1][name][part]
            torch.testing.assert_close(value, wanted, rtol=1e-3, atol=1e-4)


def test_repairing_a_model_by_its_own_statistics_changes_nothing_of_its_function():
    models = two_models(norm=False)
    own = output_statistics(models.network, models[0], IMAGES)
    found = repair(models.network, models[0], own, IMAGES)
    torch.testing.assert_close(
        forward(models.network, found, SPLIT.inputs), forward(models.network, models[0], SPLIT.inputs)
    )


@pytest.mark.parametrize("method", ["recompute", "repair"])
@pytest.mark.parametrize(("norm", "spec"), [(True, CONVOLUTIONAL), (False, PLAIN)])
def test_permuting_then_recalibrating_is_recalibrating_then_permuting(method, norm, spec):
    models = two_models(norm)
    recalibrate = Recalibration(models.network, SPLIT, {"method": method})
    common = {name: index.expand(2, -1) for name, index in random_elements(spec, 1, stream("common")).items()}
    recalibrated = merge(
        models,
        spec,
        Alignment({name: torch.arange(i.shape[1]).repeat(2, 1) for name, i in common.items()}),
        recalibrate,
    )
    permuted_first = merge(models, spec, Alignment(common), recalibrate)
    one = like(models, {name: tensor[None] for name, tensor in recalibrated.items()}, (0,))
    recalibrated_first = aligned_models(one, spec, Alignment({name: index[:1] for name, index in common.items()}))[0]
    close(permuted_first, recalibrated_first, rtol=1e-4, atol=1e-5)


def test_only_so_many_images_are_used_as_are_set():
    models = two_models(norm=True)
    merged = mean(models.parameters)
    few = Recalibration(models.network, SPLIT, {"method": "recompute", "images": 30})(merged)
    close(few, recompute(models.network, merged, [SPLIT.inputs[:30]]))
    assert len(SPLIT) <= BATCH


def test_the_average_of_permuted_copies_is_the_original_again_once_recalibrated():
    built = new_network({"name": "resnet20", "width": 0.25}, SHAPE, 3, "test").eval()
    parameters = initial(built)
    merged = mean(stacked([parameters, parameters]))
    assert merged["norm.num_batches_tracked"].dtype == torch.int64
    torch.testing.assert_close(forward(built, merged, SPLIT.inputs), forward(built, parameters, SPLIT.inputs))


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 2, 1437])
def test_batches_are_evened_out_and_as_few_as_can_be(count):
    inputs = torch.arange(count)
    parts = batches(inputs)
    sizes = [len(part) for part in parts]
    assert torch.equal(torch.cat(list(parts)), inputs)
    assert max(sizes) <= BATCH
    assert max(sizes) - min(sizes) <= 1
    assert (len(parts) - 1) * BATCH < count


@pytest.mark.parametrize("count", [BATCH + 1, BATCH + 2, 2 * BATCH + 2])
def test_statistics_do_not_hang_on_the_images_that_are_left_over(count):
    norm = nn.Sequential(nn.BatchNorm1d(3))
    rows = torch.randn(count, 3, generator=stream("rows", count))
    rows[-2:] += 5  # in a batch of their own they would count as all others together
    found = Recalibration(norm, Split(rows, torch.zeros(count, dtype=torch.int64)), {})(initial(norm))
    torch.testing.assert_close(found["0.running_mean"], rows.mean(dim=0), atol=1e-3, rtol=0)
    torch.testing.assert_close(found["0.running_var"], rows.var(dim=0), atol=0, rtol=0.05)


def test_one_image_of_one_value_a_channel_has_no_statistics():
    norm = nn.Sequential(nn.BatchNorm1d(3))
    with pytest.raises(OnebasinError, match=r"cannot be measured anew on 1 image.*give more images"):
        Recalibration(norm, Split(torch.ones(1, 3), torch.zeros(1, dtype=torch.int64)), {})(initial(norm))


class HeadFirst(nn.Module):
    """Its head is registered before the layers that run before it."""

    def __init__(self):
        super().__init__()
        self.head, self.hidden = nn.Linear(6, 3), nn.Linear(5, 6)

    def forward(self, inputs):
        return self.head(torch.relu(self.hidden(inputs)))


def test_repair_leaves_the_layer_alone_that_runs_last_wherever_it_is_registered():
    networks = [HeadFirst() for _ in range(2)]
    stack = stacked([initial(network) for network in networks])
    rows = torch.randn(100, 5, generator=stream("head first"))
    recalibrate = Recalibration(networks[0], Split(rows, torch.zeros(100, dtype=torch.int64)), {"method": "repair"})
    average = mean(stack)
    repaired = recalibrate(average, recalibrate.statistics([initial(network) for network in networks]))
    assert torch.equal(repaired["head.weight"], average["head.weight"])
    assert not torch.allclose(repaired["hidden.weight"], average["hidden.weight"])
