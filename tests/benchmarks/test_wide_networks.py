"""The paper's widest network on a GPU: how fast ResNet20 x16 trains in bf16, and how STE-MM searches five of them.

The images are glyphs at CIFAR-10's size. Skipped where there is no GPU; `make bench` on one takes minutes.
"""

import functools
import os
from dataclasses import replace

import pytest
import torch
from test_search import as_a_job, no_gpu, timed
from torch.utils.flop_counter import FlopCounterMode

from onebasin.data import Data, make_data
from onebasin.merging.average import merge
from onebasin.merging.recalibration import Recalibration
from onebasin.models.running import measure
from onebasin.models.stack import Models
from onebasin.parameters import stacked
from onebasin.registry import resolve
from onebasin.seeding import generator
from onebasin.symmetry.trace import trace
from onebasin.training.run import _Run

GPU, COUNT, EPOCHS = "cuda", 5, 3
NETWORK = {"name": "resnet20", "width": 16}
TRAINING = {
    **{"optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "batch": 500, "epochs": EPOCHS},
    **{"schedule": {"peak": 1, "update": "step"}, "augmentation": {"crop": 4}, "precision": "bf16"},
}
SEARCHES = {
    "naive": {},
    "weight_matching": {"max_rounds": 100, "first_sweep": "signal"},
    "ste_mm": {
        **{"epochs": 1, "batch": 256, "lr": 0.001, "weights": "random", "augmentation": {"crop": 4}},
        **{"first_sweep": "signal", "warm_start": True},
    },
}
SEARCHED = 20480  # images: 80 steps
THREADS = os.cpu_count() or 1

pytestmark = no_gpu


@pytest.fixture(autouse=True, scope="module")
def _deterministic():
    with as_a_job(THREADS, GPU, "error"):
        yield


@functools.cache
def images() -> Data:
    return make_data({"name": "glyphs", "train": 50000, "test": 10000}).to(GPU)


@functools.cache
def trained() -> tuple[Models, list[float], int]:
    """The models, the seconds of every epoch but the first of each, and the operations of a step on a whole batch."""
    weights, seconds = [], []
    for seed in range(COUNT):
        run = _Run(NETWORK, images(), TRAINING, seed, 0)
        for epoch in range(EPOCHS):
            spent, _ = timed(run.train_epoch, GPU)
            if epoch:
                seconds.append(spent)
        weights.append(run.selected())
    models = Models(run.network.eval(), stacked(weights), tuple(range(COUNT)), images().input_shape)
    batch = images().train.first(TRAINING["batch"])
    with FlopCounterMode(display=False) as counter:
        _Run(NETWORK, images(), TRAINING, 0, 0)._step(batch.inputs, batch.targets)
    return models, seconds, counter.get_total_flops()


def matrix_rate(size: int = 8192, rounds: int = 20) -> float:
    """Floating-point operations a second of a bf16 matrix product of random numbers."""
    a, b = torch.randn(2, size, size, device=GPU, dtype=torch.bfloat16)
    for _ in range(3):
        a @ b
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(rounds):
        a @ b
    end.record()
    torch.cuda.synchronize()
    return rounds * 2 * size**3 / (start.elapsed_time(end) / 1000)


def test_training(benchmark):
    models, seconds, flops = benchmark.pedantic(trained, rounds=1)
    rate, best = matrix_rate(), min(seconds)
    speed = len(images().train) / best
    accuracies = [measure(models.network, models[model], images().test)[1] for model in range(COUNT)]
    assert min(accuracies) > 0.8
    achieved = speed * flops / TRAINING["batch"]
    benchmark.extra_info.update(
        title="training of ResNet20 x16, bf16",
        ours=best,
        unit="s an epoch",
        inputs=f"50,000 images, {speed:,.0f} a second, {flops / TRAINING['batch'] / 1e9:.1f} GFLOP each: "
        f"{achieved / 1e12:.0f} of {rate / 1e12:.0f} TFLOP/s ({achieved / rate:.0%}); "
        f"test accuracy after {EPOCHS} epochs {min(accuracies):.3f} to {max(accuracies):.3f}; "
        f"{torch.cuda.get_device_name()}",
        device=GPU,
        threads=THREADS,
    )


@pytest.mark.parametrize(("method", "settings"), SEARCHES.items(), ids=SEARCHES)
def test_search(benchmark, method, settings):
    models = trained()[0]
    spec = trace(models.network, models.example_input)
    data = images()
    few = replace(data, train=data.train.first(SEARCHED))
    draws = generator("bench", device=GPU)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    search = functools.partial(resolve("method", method), models, spec, few, settings, draws)
    seconds, found = benchmark.pedantic(timed, (search, GPU), rounds=1)
    peak = torch.cuda.max_memory_allocated() - before
    size = sum(tensor.numel() * tensor.element_size() for tensor in models.parameters.values())
    merged = merge(models, spec, found, Recalibration(models.network, few.train, {"method": "recompute"}))
    loss, accuracy = measure(models.network, merged, data.test)
    benchmark.extra_info.update(
        title=f"{method} of five ResNet20 x16",
        ours=seconds,
        unit="s",
        inputs=f"{found.work['steps']} steps, {found.work['assignments']} assignments, memory beyond the models "
        f"{peak / size:.1f} times theirs; test accuracy of the average {accuracy:.3f}, loss {loss:.3f} nats; {GPU}",
        device=GPU,
        threads=THREADS,
    )
