"""How long it takes to find the symmetries of a large network, and to prove them: seconds of a user who waits."""

import pytest
import torch

from onebasin.machine.vision import torchvision
from onebasin.seeding import generator
from onebasin.symmetry.check import check
from onebasin.symmetry.trace import trace


@pytest.mark.parametrize("what", ["traced", "checked"])
def test_resnet50(benchmark, what):
    network, example = torchvision.models.resnet50(), torch.zeros(2, 3, 224, 224)
    if what == "traced":
        benchmark.pedantic(trace, (network, example), rounds=1)
    else:
        benchmark.pedantic(check, (network, trace(network, example), example, generator("bench")), rounds=1)
    benchmark.extra_info.update(
        title=f"ResNet50 {what}",
        ours=benchmark.stats.stats.min,
        unit="s",
        inputs="torchvision's, images of 224 x 224",
        threads=torch.get_num_threads(),
    )
