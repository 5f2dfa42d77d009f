import pytest
import torch

from onebasin.errors import OnebasinError
from onebasin.models.checkpoints import check_fit, load_merged, load_models, save_model
from onebasin.models.running import forward
from onebasin.models.stack import Models, initial
from onebasin.networks.build import new_network
from onebasin.parameters import mean, stacked
from onebasin.storage import artifacts

SETTINGS = {"name": "mlp", "width": 5, "depth": 2}
SHAPE, CLASSES = (1, 2, 3), 4


def network(key=0, **settings):
    return new_network(SETTINGS | settings, SHAPE, CLASSES, "test", key)


@pytest.fixture
def three():
    networks = [network(key) for key in range(3)]
    return Models(networks[0].eval(), stacked([initial(each) for each in networks]), (4, 7, 1), SHAPE)


@pytest.fixture
def paths(three, tmp_path):
    paths = [tmp_path / f"seed-{seed}.safetensors" for seed in three.seeds]
    for index, path in enumerate(paths):
        save_model(path, three, index, CLASSES, {"network": SETTINGS})
    return paths


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def images(*batch):
    return torch.rand(*batch, *SHAPE, generator=torch.Generator().manual_seed(0))


def test_a_network_is_drawn_from_its_key_alone():
    torch.manual_seed(0)
    first = initial(network(1))
    torch.manual_seed(1)
    assert equal(initial(network(1)), first)
    assert not equal(initial(network(2)), first)


def test_the_configured_network_is_built():
    sizes = [tuple(tensor.shape) for name, tensor in initial(network()).items() if name.endswith("weight")]
    assert sizes == [(5, 6), (5, 5), (4, 5)]


def test_models_are_loaded_as_they_were_saved(paths, three):
    loaded = load_models(paths, SETTINGS)
    assert loaded.seeds == three.seeds
    assert loaded.input_shape == SHAPE
    assert equal(loaded.parameters, three.parameters)
    assert not loaded.network.training
    assert torch.equal(forward(loaded.network, loaded[1], images(3)), forward(three.network, three[1], images(3)))


def test_models_are_stacked_in_the_order_of_their_paths(paths, three):
    loaded = load_models(paths[::-1], SETTINGS)
    assert loaded.seeds == (1, 7, 4)
    assert equal(loaded[0], three[2])


def test_a_checkpoint_says_how_it_was_made(paths):
    facts = artifacts.load(paths[1], "model").facts
    assert facts == {"seed": 7, "input_shape": list(SHAPE), "classes": CLASSES, "recipe": {"network": SETTINGS}}


def test_loading_models_draws_nothing_from_the_global_generator(paths):
    torch.manual_seed(3)
    undisturbed = torch.rand(2)
    torch.manual_seed(3)
    load_models(paths, SETTINGS)
    assert torch.equal(torch.rand(2), undisturbed)


def test_the_first_models_are_the_first(three):
    two = three.first(2)
    assert (len(two), two.seeds) == (2, (4, 7))
    assert equal(two[0], three[0])
    assert equal(two[1], three[1])
    assert all(tensor.shape[0] == 2 for tensor in two.parameters.values())


def test_the_example_input_is_accepted(three):
    assert three.example_input.shape == (2, *SHAPE)
    assert forward(three.network, three[0], three.example_input).shape == (2, CLASSES)


def test_the_mean_is_the_average_of_every_tensor(three):
    average = mean(three.parameters)
    for name, tensor in average.items():
        torch.testing.assert_close(tensor, (three[0][name] + three[1][name] + three[2][name]) / 3)


def test_a_network_computes_with_the_given_parameters_and_not_its_own(three):
    assert torch.equal(forward(network(0), three[2], images(3)), network(2)(images(3)))


def test_a_merged_model_is_loaded_as_it_was_saved(tmp_path, three):
    artifacts.save(tmp_path / "merged.safetensors", "merged", mean(three.parameters))
    assert equal(load_merged(tmp_path / "merged.safetensors", three.network), mean(three.parameters))


MISFITS = {
    "missing": (lambda tensors: tensors.pop("3.bias"), "has no tensor 3.bias"),
    "extra": (lambda tensors: tensors.update(scale=torch.ones(1)), "has a tensor scale"),
    "shape": (
        lambda tensors: tensors.update({"3.bias": torch.zeros(6)}),
        "3.bias is (6,), the network's is (5,)",
    ),
    "transposed": (lambda tensors: tensors.update({"1.weight": torch.zeros(6, 5)}), "1.weight is (6, 5)"),
    "dtype": (lambda tensors: tensors.update({"3.bias": torch.zeros(5).double()}), "3.bias is torch.float64"),
    "nan": (lambda tensors: tensors["3.bias"].__setitem__(2, torch.nan), "3.bias holds NaN or infinity"),
    "infinity": (lambda tensors: tensors["3.bias"].__setitem__(2, -torch.inf), "3.bias holds NaN or infinity"),
}


@pytest.mark.parametrize("misfit", MISFITS)
@pytest.mark.parametrize("kind", ["model", "merged"])
def test_tensors_that_are_not_the_networks_are_refused_with_file_and_tensor(tmp_path, kind, misfit):
    spoil, message = MISFITS[misfit]
    tensors = {name: tensor.clone() for name, tensor in initial(network()).items()}
    spoil(tensors)
    path = tmp_path / "other.safetensors"
    artifacts.save(path, kind, tensors, seed=1, input_shape=SHAPE, classes=CLASSES)
    with pytest.raises(OnebasinError) as caught:
        load_models([path], SETTINGS) if kind == "model" else load_merged(path, network())
    assert str(caught.value).startswith(f"{path}: {message}")
    assert len(str(caught.value).splitlines()) == 1


def test_the_file_that_does_not_fit_is_the_one_named(paths, three):
    narrow = network(width=3)
    save_model(paths[1], Models(narrow, stacked([initial(narrow)]), (7,), SHAPE), 0, CLASSES, {})
    with pytest.raises(OnebasinError, match=r"seed-7\.safetensors"):
        load_models(paths, SETTINGS)


def test_tensors_that_fit_are_accepted():
    assert check_fit(initial(network()), network(3), "here") is None


@pytest.mark.parametrize("fact", ["seed", "input_shape", "classes"])
def test_a_checkpoint_that_lacks_a_fact_is_refused(tmp_path, fact):
    facts = {"seed": 1, "input_shape": SHAPE, "classes": CLASSES}
    del facts[fact]
    path = tmp_path / "seed-1.safetensors"
    artifacts.save(path, "model", initial(network()), **facts)
    with pytest.raises(OnebasinError, match=r"seed-1\.safetensors"):
        load_models([path], SETTINGS)


def test_a_file_of_another_kind_is_refused(paths):
    with pytest.raises(OnebasinError, match="holds 'model', expected 'merged'"):
        load_merged(paths[0], network())
