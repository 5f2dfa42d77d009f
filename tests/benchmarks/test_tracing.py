"""How long it takes to find the symmetries of a large network, and to prove them: seconds of a user who waits."""

import time

import pytest
import torch

from onebasin.seeding import generator
from onebasin.symmetry.check import check
from onebasin.symmetry.trace import trace
from onebasin.vision import torchvision

IMAGE = (3, 224, 224)


@pytest.mark.parametrize("what", ["traced", "checked"])
def test_resnet50(benchmark, what):
    network, example = torchvision.models.resnet50(), torch.zeros(2, *IMAGE)
    spec = trace(network, example) if what == "checked" else None  # the first trace also imports the compiler
    run = (lambda: check(network, spec, example, generator("bench"))) if spec else (lambda: trace(network, example))
    start = time.perf_counter()
    benchmark.pedantic(run, rounds=1)
    seconds = time.perf_counter() - start
    facts = {
        "title": f"ResNet50 {what}",
        "inputs": "torchvision's, images of 224 x 224, for the first time",
        "unit": "s",
    }
    benchmark.extra_info.update(ours=seconds, threads=torch.get_num_threads(), **facts)
