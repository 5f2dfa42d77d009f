"""What a GPU computes: deterministic, and what the CPU computes up to rounding. Skipped where there is none."""

import functools
import warnings
from dataclasses import replace

import pytest
import torch
from networks_for_tests import coincide, like, permuted_copies, spec_of
from torch import nn

from onebasin.data import Data, Split, digits, make_data
from onebasin.machine.jobs import prepare_torch
from onebasin.matching.search import run_search
from onebasin.matching.weight import weight_matching
from onebasin.measures.acceleration import compare_warm_start
from onebasin.measures.alignment import alignments
from onebasin.measures.anchored import anchored_barriers, match_to_anchor
from onebasin.measures.distance import distances
from onebasin.measures.landscape import landscape
from onebasin.measures.merged import evaluate_merged
from onebasin.measures.pairwise import interpolation_curves
from onebasin.measures.responses import responses
from onebasin.measures.sharpness.hessian import hessian_vector_product
from onebasin.measures.sharpness.measure import Sharpness
from onebasin.measures.singular import decompose, singular_values
from onebasin.measures.taylor import taylor_estimates
from onebasin.measures.truncation import truncation_barriers
from onebasin.merging.average import aligned_models, merge
from onebasin.merging.recalibration import Recalibration
from onebasin.models.stack import Models
from onebasin.networks.build import new_network
from onebasin.parameters import one
from onebasin.registry import resolve
from onebasin.seeding import generator
from onebasin.storage import artifacts
from onebasin.symmetry.alignment import Alignment, load_alignment, save_alignment
from onebasin.symmetry.spec import Spec
from onebasin.training import run as training
from onebasin.training.run import train

GPU = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch.cuda.is_available() is false")

NETWORKS = {
    "mlp": {"name": "mlp", "width": 40, "depth": 3},
    "resnet20": {"name": "resnet20", "width": 0.25},
    "vgg11": {"name": "vgg11", "width": 0.125},
}
SGD = {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.0005, "batch": 50, "epochs": 2}
TRAINING = {
    "mlp": {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.0, "batch": 100, "epochs": 2},
    "resnet20": {**SGD, "augmentation": {"crop": 4, "flip": True}, "precision": "bf16"},
    "vgg11": {**SGD, "augmentation": {"crop": 4, "flip": True}},
}
METHODS = {
    "naive": {},
    "weight_matching": {"max_rounds": 20, "first_sweep": "signal"},
    "activation_matching": {"images": 200, "batch": 100, "max_rounds": 20},
    "c2m3": {"max_steps": 20},
    "ste": {"epochs": 1, "batch": 100, "lr": 0.001, "first_sweep": "signal", "warm_start": True},
    "ste_mm": {
        **{"epochs": 1, "batch": 100, "lr": 0.001, "first_sweep": "signal", "warm_start": True},
        **{"weights": "random", "augmentation": {"crop": 2, "flip": False}},
    },
}
RECALIBRATION = {"images": 200, "method": "recompute"}

on_networks = pytest.mark.parametrize("network", NETWORKS)


@pytest.fixture(autouse=True, scope="module")
def _deterministic():
    filled = torch.utils.deterministic.fill_uninitialized_memory
    prepare_torch(1, GPU, "error")
    yield
    torch.set_deterministic_debug_mode("default")
    torch.utils.deterministic.fill_uninitialized_memory = filled


@functools.cache
def data_for(network: str, device: str = GPU) -> Data:
    data = digits() if network == "mlp" else make_data({"name": "glyphs", "train": 400, "test": 100})
    return data.to(device)


@functools.cache
def trained(network: str) -> Models:
    return train(NETWORKS[network], data_for(network), TRAINING[network], [0, 1, 2], root=0)[0]


@functools.cache
def on_cpu(network: str) -> Models:
    models = trained(network)
    module = new_network(NETWORKS[network], models.input_shape, 10, "any values")
    return replace(models, network=module, parameters={name: t.cpu() for name, t in models.parameters.items()})


def spec_for(network: str) -> Spec:
    return spec_of(on_cpu(network))


def search(network: str, method: str) -> Alignment:
    function, settings = resolve("method", method), METHODS[method]
    return run_search(function, method, trained(network), spec_for(network), data_for(network), settings, 0, 0)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def close(found, expected, tolerance):
    """Tables of the two devices: numbers agree up to the rounding of TF32 convolutions, all else is the same."""
    assert list(found.columns) == list(expected.columns)
    for name in found:
        if found[name].dtype.kind == "f":
            scale = expected[name].abs().max()
            assert found[name].to_numpy() == pytest.approx(
                expected[name].to_numpy(), abs=tolerance * scale, nan_ok=True
            ), name
        else:
            assert found[name].tolist() == expected[name].tolist(), name


@on_networks
def test_training_again_gives_the_same_bytes(network):
    again, _ = train(NETWORKS[network], data_for(network), TRAINING[network], [0, 1, 2], root=0)
    assert equal(again.parameters, trained(network).parameters)
    assert again.device.type == GPU


def test_a_training_learns():
    test = data_for("mlp").test
    assert training.measure(trained("mlp").network, trained("mlp")[0], test)[1] > 0.5


@on_networks
def test_a_training_that_was_interrupted_ends_with_the_same_bytes(network, tmp_path):
    arguments = (NETWORKS[network], data_for(network), TRAINING[network], 1, 0)
    first = training._Run(*arguments)
    first.train_epoch()
    first.save(tmp_path / "state", "key")
    second = training._Run(*arguments)
    second.resume(tmp_path / "state", "key")
    second.train_epoch()
    assert equal(second.selected(), trained(network)[1])


@on_networks
def test_data_stay_on_the_device_while_a_network_trains(network):
    """Synchronisations are what reading a number, or copying between device and host, takes: a few an epoch."""

    def synchronisations(batch):
        run = training._Run(NETWORKS[network], data_for(network), {**TRAINING[network], "batch": batch}, 0, 0)
        run.train_epoch()  # what is made once
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                run.train_epoch()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return [str(w.message) for w in caught if "called a synchronizing" in str(w.message)]

    few, many = synchronisations(100), synchronisations(20)
    assert len(few) == len(many) <= 5, many


@on_networks
@pytest.mark.parametrize("method", METHODS)
def test_a_search_again_gives_the_same_permutations(network, method):
    first, again = search(network, method), search(network, method)
    assert equal(first.elements, again.elements)
    assert {index.device.type for index in first.elements.values()} == {GPU}
    for name, index in first.elements.items():
        assert torch.equal(index.sort(dim=1).values.cpu(), torch.arange(index.shape[1]).expand(3, -1)), name


@on_networks
def test_a_search_finds_what_it_finds_on_the_cpu(network):
    """Two models, of which the order of visits is one; in float32 both devices see the same costs up to rounding."""
    models = trained(network).first(2)
    spec = spec_for(network)
    cpu = on_cpu(network).first(2)

    def spread(models, found):
        both = aligned_models(models, spec, found).weights
        return sum(float((t[0] - t[1]).double().square().sum()) for t in both.values())

    settings = METHODS["weight_matching"]
    found = weight_matching(models, spec, None, settings, generator("gpu"))  # the same orders on both
    expected = weight_matching(cpu, spec, None, settings, generator("gpu"))
    assert spread(models, found) == pytest.approx(spread(cpu, expected), rel=1e-3)


@on_networks
def test_planted_permutations_are_found(network):
    spec = spec_for(network)
    stack, planted = permuted_copies(on_cpu(network)[0], spec, 3)
    models = like(trained(network), {name: tensor.to(GPU) for name, tensor in stack.items()})
    found = weight_matching(models, spec, None, METHODS["weight_matching"], generator("gpu", device=GPU))
    assert coincide(planted, {name: index.cpu() for name, index in found.elements.items()})


@on_networks
def test_permutations_of_a_file_are_for_models_on_any_device(network, tmp_path):
    models, spec, found = trained(network), spec_for(network), search(network, "weight_matching")
    save_alignment(tmp_path / "p.safetensors", found, models=models.seeds, method="weight_matching", trial=0)
    read = load_alignment(tmp_path / "p.safetensors", spec, models.seeds)
    assert equal(aligned_models(models, spec, read).parameters, aligned_models(models, spec, found).parameters)


@on_networks
def test_measures_are_those_of_the_cpu(network):
    found = search(network, "weight_matching")
    results = []
    for models in (trained(network), on_cpu(network)):
        device = models.device.type
        data, spec = data_for(network, device), spec_for(network)
        split = data.test.first(60)
        recalibrate = Recalibration(models.network, data.train, RECALIBRATION)
        merged = merge(models, spec, found, recalibrate)
        permuted = aligned_models(models, spec, found)
        parts = [decompose(one(models.weights, model)) for model in range(3)]
        tables = {
            "merged": evaluate_merged(models, merged, data),
            "interpolation": interpolation_curves(permuted, data, 5, recalibrate),
            "landscape": landscape(permuted, split, 3, recalibrate),
            "taylor": taylor_estimates(permuted, split, 3, recalibrate),
            "alignment": alignments(models, parts, spec, found, merged, [0.0, 0.5]),
            "distance": distances(models, permuted),
            "singular_values": singular_values(parts[0]),
            "three_models": anchored_barriers(models, spec, found, data, 3, recalibrate),
        }
        responses(models.network, models[0], parts[0], split)  # vectors of equal singular values are any basis
        results.append(tables)
    for name, table in results[0].items():
        close(table, results[1][name], 0.03)


@on_networks
def test_products_with_the_hessian_are_those_of_the_cpu(network):
    products = []
    for models in (trained(network), on_cpu(network)):
        split = data_for(network, models.device.type).test.first(60)
        models.network.load_state_dict(models[0])
        names = dict(models.network.named_parameters())
        vector = {name: torch.ones_like(tensor) for name, tensor in models[0].items() if name in names}
        product = hessian_vector_product(models.network, split.inputs, split.targets, vector)
        products.append(torch.cat([part.flatten().cpu().double() for part in product.values()]))
    found, expected = products
    assert float((found - expected).norm() / expected.norm()) < 0.03


@on_networks
def test_sharpness_again_gives_the_same_numbers(network):
    models = trained(network)
    split = data_for(network).test.first(60)
    first, again = (Sharpness(models.network, split, 3).at(models[0], 0, "gpu") for _ in range(2))
    assert all(table.equals(same) for table, same in zip(first, again, strict=True))
    assert float(first[1]["value"].iloc[0]) > 0


@on_networks
def test_exact_traces_are_those_of_the_cpu(network):
    found, expected = (
        Sharpness(models.network, data_for(network, models.device.type).test.first(60), 2).at(models[0], 0, "gpu")[2]
        for models in (trained(network), on_cpu(network))
    )
    for estimator in ("trace", "scaled_trace"):
        close(*(table[table["estimator"] == estimator] for table in (found, expected)), 0.03)


@on_networks
def test_what_searches_again_runs(network):
    models, data = trained(network), data_for(network)
    spec, recalibrate = spec_for(network), Recalibration(models.network, data.train, RECALIBRATION)
    table = compare_warm_start(models, spec, data, METHODS["ste_mm"], "gpu")
    assert table["identical"].all()
    match_to_anchor(weight_matching, models, spec, data, METHODS["weight_matching"], "gpu")
    truncation_barriers(models, spec, data, [0.0, 0.5], METHODS["weight_matching"], 3, recalibrate, "gpu")


def test_what_is_written_is_on_the_cpu(tmp_path):
    models = trained("mlp")
    artifacts.save(tmp_path / "model", "model", models[0])
    read = artifacts.load(tmp_path / "model", "model")
    assert equal(read.tensors, {name: tensor.cpu() for name, tensor in models[0].items()})


class Words(nn.Module):
    """Tells the next token from this one, with dropout on the GPU and a draw on the host."""

    def __init__(self, classes):
        super().__init__()
        self.embedding, self.hidden = nn.Embedding(classes, 16), nn.Linear(16, 32)
        self.dropout, self.head = nn.Dropout(0.3), nn.Linear(32, classes)

    def forward(self, tokens):
        scale = 1 + float(torch.rand(1)) if self.training else 1.5
        return self.head(self.dropout(self.hidden(self.embedding(tokens)).relu() * scale)).transpose(1, 2)


def words(classes):
    return Words(classes)


def test_tokens_are_trained_on_with_dropout_to_the_same_bytes_killed_or_not(tmp_path):
    draws = torch.Generator().manual_seed(0)
    tokens = torch.randint(20, (300, 13), generator=draws)
    split = Split(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    data, network = Data(split, split, 20).to(GPU), {"name": "test_gpu:words"}
    settings = {**TRAINING["mlp"], "optimizer": "adamw", "clip": 1.0, "epochs": 3, "save_every": 1}
    before = torch.cuda.get_rng_state()
    whole, _ = train(network, data, settings, [0, 1], root=0)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    run, state = training._Run(network, data, settings, 1, 0), tmp_path / "seed-1.safetensors"
    run.train_epoch()
    run.save(state, "key")
    torch.cuda.manual_seed(3)
    again, _ = train(network, data, settings, [1], 0, [state], "key")
    assert equal(again[0], whole[1])
