"""How long both traces of the Hessian take: exactly, and as two estimates of so many probes each."""

import pytest
import torch
from test_search import THREADS, compare, no_gpu, timed

from onebasin import seeding
from onebasin.data import make_data
from onebasin.measures.sharpness.gauss_newton import hessian_diagonal
from onebasin.measures.sharpness.hutchinson import hessian_trace, scaled_hessian_trace
from onebasin.measures.sharpness.measure import Sharpness
from onebasin.networks.build import new_network

DIGITS, GLYPHS = {"name": "digits"}, {"name": "glyphs", "train": 100, "test": 100}
# the network, its data, the probes, and images a graph of the estimates, which is kept for all probes of a batch
CASES = {
    "MLP 3 x 512": ({"name": "mlp", "width": 512, "depth": 3}, DIGITS, 50, 2048, "cpu"),
    "ResNet20 x0.5": ({"name": "resnet20", "width": 0.5}, GLYPHS, 5, 100, "cpu"),
    "VGG11 x0.25": ({"name": "vgg11", "width": 0.25}, GLYPHS, 5, 100, "cpu"),
    "ResNet20 x16": ({"name": "resnet20", "width": 16}, GLYPHS, 50, 50, "cuda"),
}


@pytest.fixture(autouse=True, scope="module")
def _threads():
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[no_gpu] if case[-1] == "cuda" else []) for name, case in CASES.items()]
)
def test_traces(benchmark, name):
    network_settings, data_settings, probes, batch, device = CASES[name]
    data = make_data(data_settings).to(device)
    network = new_network(network_settings, data.input_shape, data.classes, "bench").to(device).eval()
    parameters, images, labels = network.state_dict(), data.test.inputs, data.test.targets
    sharpness = Sharpness(network, data.test, probes)
    memory = {}

    def exact():
        hessian_diagonal(sharpness.graph, parameters, images, sharpness.batch)

    def estimates():
        draws = seeding.generator("scaled", device=device)
        hessian_trace(network, images, labels, probes, ("trace",), batch)
        scaled_hessian_trace(network, images, labels, probes, draws, batch)

    def seconds_of(what):
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds, _ = timed(what, device)
        memory[what] = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0
        return seconds

    exact()  # the first takes longer
    compare(benchmark, lambda: seconds_of(exact), lambda: seconds_of(estimates), 2, "s", device=device)
    held = f"; GPU memory {memory[exact]:.1f} and {memory[estimates]:.1f} GB" if device == "cuda" else ""
    benchmark.extra_info.update(
        title=f"both traces of the Hessian, exact against {probes} probes each, {name}",
        inputs=f"{len(images)} images of {data_settings['name']}{held}",
    )
