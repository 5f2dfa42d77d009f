"""The functions that `import onebasin` offers."""

import subprocess
import sys

import pytest
import safetensors.torch
import torch
from networks_for_tests import few_digits, like, permuted_copies, same, spec_of, stream, trained_mlps
from PIL import Image
from torch import nn

import onebasin
from onebasin.data import Data, Split, save_data
from onebasin.errors import OnebasinError
from onebasin.matching.weight import weight_matching
from onebasin.merging.average import merge
from onebasin.models.checkpoints import save_model
from onebasin.models.running import measure, outputs
from onebasin.networks.named import make_network
from onebasin.seeding import generator
from onebasin.symmetry.alignment import Alignment
from onebasin.symmetry.apply import identity, random_elements
from onebasin.symmetry.spec import Axis, Group, Spec

MLP = "mlp:width=24"
SHAPE = (1, 8, 8)


@pytest.fixture
def files(tmp_path):
    """Three trained models as a PyTorch file, as safetensors, and as an artifact."""
    models = trained_mlps()
    torch.save(models[0], tmp_path / "0.pt")
    safetensors.torch.save_file({n: t.contiguous() for n, t in models[1].items()}, tmp_path / "1.safetensors")
    recipe = {"network": {"name": "mlp", "width": 24, "depth": 3}}
    save_model(tmp_path / "2.safetensors", models, 2, 10, recipe)
    return [tmp_path / "0.pt", tmp_path / "1.safetensors", tmp_path / "2.safetensors"]


def small_cnn(norm=True):
    layers = [nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6) if norm else nn.Identity(), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 64, 10))


def cnns(count=2, norm=True):
    networks = []
    for seed in range(count):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            networks.append(small_cnn(norm))
    return networks


def test_importing_the_package_imports_no_torch():
    program = "import sys, onebasin; dir(onebasin); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_function_that_is_promised_is_there():
    assert set(onebasin.__all__) <= set(dir(onebasin))
    assert all(callable(getattr(onebasin, name)) for name in onebasin.__all__)
    with pytest.raises(AttributeError, match="no attribute 'unheard_of'"):
        _ = onebasin.unheard_of


def test_files_of_all_formats_are_the_models_they_were(files):
    models = onebasin.load_models(files, MLP, SHAPE, classes=10)
    assert same(models.parameters, trained_mlps().parameters)
    assert models.seeds == (0, 1, 2)
    assert models.input_shape == SHAPE


def test_an_artifact_says_itself_which_network_it_is_of(files):
    models = onebasin.load_models(files[2:])
    assert same(models[0], trained_mlps()[2])
    assert models.seeds == (2,)


def test_models_with_one_seed_are_named_by_their_place(files):
    assert onebasin.load_models([files[2], files[2]]).seeds == (0, 1)


def test_a_constructor_of_torchvision_is_named_with_its_settings(tmp_path):
    networks = [make_network("torchvision.models:squeezenet1_1:num_classes=3", (3, 32, 32)) for _ in range(2)]
    with torch.no_grad():
        networks[1].classifier[1].bias += 1
    for number, network in enumerate(networks):
        torch.save(network.state_dict(), tmp_path / f"{number}.pt")
    paths = [tmp_path / "0.pt", tmp_path / "1.pt"]
    models = onebasin.load_models(paths, "torchvision.models:squeezenet1_1:num_classes=3", (3, 32, 32))
    difference = models[1]["classifier.1.bias"] - models[0]["classifier.1.bias"]
    torch.testing.assert_close(difference, torch.ones(3))


def test_modules_become_models_and_stay_as_they_are():
    networks = cnns()
    models = onebasin.stack_models(networks, SHAPE)
    assert same(models[1], dict(networks[1].state_dict()))
    models.parameters["0.weight"].zero_()
    assert networks[0][0].weight.abs().sum() > 0
    assert networks[0].training


def test_matching_and_merging_are_those_of_the_library():
    models, data = trained_mlps(), few_digits()
    spec = onebasin.symmetries(models)
    assert spec == spec_of(models)
    found = onebasin.match(models, spec, seed=5, trial=1, max_rounds=2)
    draws = generator(5, "search", "weight_matching", 3, 1)
    expected = weight_matching(models, spec, None, {"max_rounds": 2, "first_sweep": "signal"}, draws)
    assert same(found.elements, expected.elements)
    assert same(onebasin.merge(models, spec, found), merge(models, spec, expected))
    table = onebasin.evaluate(models, onebasin.merge(models, spec, found), data)
    loss, accuracy = measure(models.network, merge(models, spec, expected), data.test)
    assert table.set_index("split").loc["test", ["loss", "accuracy"]].tolist() == [loss, accuracy]


def test_permuted_copies_of_a_model_are_matched_and_merge_to_it():
    model, data = trained_mlps(1), few_digits()
    stack, _ = permuted_copies(model[0], spec_of(model), 3)
    copies = like(model, stack)
    spec = onebasin.symmetries(copies)
    merged = onebasin.merge(copies, spec, onebasin.match(copies, spec))
    before = outputs(model.network, model[0], data.test)
    torch.testing.assert_close(outputs(model.network, merged, data.test), before, rtol=1e-4, atol=1e-4)
    unmatched = onebasin.merge(copies, spec, Alignment(identity(spec, 3)))
    assert not torch.allclose(outputs(model.network, unmatched, data.test), before, rtol=0.1, atol=0.1)


def test_barriers_recompute_from_the_curves_and_vanish_between_copies():
    models, data = trained_mlps(2), few_digits()
    curves, barriers = onebasin.barrier(models, data, points=5)
    assert sorted(set(curves["weight_b"])) == [0, 0.25, 0.5, 0.75, 1]
    test = curves[curves["split"] == "test"].set_index("weight_b")["loss"]
    excess = max(test[w] - (1 - w) * test[0] - w * test[1] for w in (0.25, 0.5, 0.75))
    assert barriers.set_index("split").loc["test", "barrier_loss"] == pytest.approx(excess)
    twice = like(
        models, {name: tensor[:1].repeat(2, *[1] * (tensor.dim() - 1)) for name, tensor in models.parameters.items()}
    )
    assert onebasin.barrier(twice, data, points=3)[1]["barrier_loss"].max() == pytest.approx(0, abs=1e-6)


def test_permuting_changes_the_order_and_not_the_function():
    models, data = trained_mlps(), few_digits()
    spec = onebasin.symmetries(models)
    permuted = onebasin.permute(models, spec, Alignment(random_elements(spec, 3, stream("order"))))
    assert not torch.equal(permuted[1]["1.weight"], models[1]["1.weight"])
    torch.testing.assert_close(
        outputs(models.network, permuted[1], data.test),
        outputs(models.network, models[1], data.test),
        rtol=1e-4,
        atol=1e-4,
    )


def test_batch_norm_statistics_are_measured_anew_or_asked_for():
    models, data = onebasin.stack_models(cnns(), SHAPE), few_digits()
    spec = onebasin.symmetries(models)
    found = onebasin.match(models, spec)
    with pytest.raises(OnebasinError, match="running statistics are measured anew"):
        onebasin.merge(models, spec, found)
    plain = onebasin.merge(models, spec, found, normalization=None)
    assert torch.equal(plain["1.running_mean"], torch.zeros(6))
    recalibrated = onebasin.merge(models, spec, found, data, images=100)
    network = small_cnn()
    network.load_state_dict(plain)
    features = network[0](data.train.inputs[:100])
    torch.testing.assert_close(recalibrated["1.running_mean"], features.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_repair_needs_data_without_batch_norm_as_well():
    models = onebasin.stack_models(cnns(norm=False), SHAPE)
    spec = onebasin.symmetries(models)
    found = onebasin.match(models, spec)
    onebasin.merge(models, spec, found)
    with pytest.raises(OnebasinError, match="REPAIR measures activations"):
        onebasin.merge(models, spec, found, normalization="repair")


def test_a_spec_of_ones_own_is_proven_or_refused():
    network = small_cnn(norm=False)
    assert onebasin.check(network, onebasin.trace(network, SHAPE), SHAPE) < 1e-12
    wrong = Spec((Group("0", 6, (Axis("0.weight", 0), Axis("0.bias", 0))),))
    with pytest.raises(OnebasinError, match="permuting changes the function"):
        onebasin.check(network, wrong, SHAPE)


def test_data_are_named_as_in_the_configuration_or_are_a_file_or_a_folder(tmp_path):
    assert len(onebasin.load_data("digits:test_fraction=0.5").test) == 899
    save_data(tmp_path / "data.safetensors", few_digits())
    assert torch.equal(onebasin.load_data(tmp_path / "data.safetensors").test.inputs, few_digits().test.inputs)
    for split in ("train", "test"):
        for label in ("cats", "dogs"):
            (tmp_path / "photos" / split / label).mkdir(parents=True)
            Image.new("RGB", (9, 7)).save(tmp_path / "photos" / split / label / "one.png")
    assert onebasin.load_data(tmp_path / "photos", size=4).input_shape == (3, 4, 4)


def few_classes():
    data = few_digits()
    return Data(data.train, Split(data.test.inputs, data.test.targets), classes=11)


class Doubles(nn.Module):
    """Not for merging: gives two outputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, images):
        hidden = self.layer(images.flatten(1))
        return hidden, hidden


def broken(files, spoil):
    tensors = torch.load(files[0], weights_only=True)
    spoil(tensors)
    torch.save(tensors, files[0])
    return onebasin.load_models(files, MLP, SHAPE, 10)


REFUSALS = {
    "no files": (lambda files: onebasin.load_models([]), "no models"),
    "no modules": (lambda files: onebasin.stack_models([], SHAPE), "no models"),
    "no network": (lambda files: onebasin.load_models(files, None, SHAPE), "does not say of which network"),
    "no shape": (lambda files: onebasin.load_models(files, MLP), "inputs of which shape"),
    "no classes": (lambda files: onebasin.load_models(files, MLP, SHAPE), "number of classes"),
    "another width": (
        lambda files: onebasin.load_models(files, "mlp:width=25", SHAPE, 10),
        "the network's is (25,)",
    ),
    "another network": (lambda files: onebasin.load_models(files, "resnet20", (1, 32, 32), 10), "has a tensor 1.bias"),
    "a missing tensor": (lambda files: broken(files, lambda t: t.pop("3.bias")), "has no tensor 3.bias"),
    "NaN": (lambda files: broken(files, lambda t: t["3.bias"].fill_(torch.nan)), "3.bias holds NaN or infinity"),
    "another type": (
        lambda files: broken(files, lambda t: t.update({"3.bias": t["3.bias"].double()})),
        "is torch.float64",
    ),
    "no such module": (lambda files: onebasin.load_models(files, "nowhere:net", SHAPE), "cannot import nowhere"),
    "no module": (lambda files: onebasin.load_models(files, "fractions:Fraction", SHAPE), "has to return an nn.Module"),
    "other modules": (
        lambda files: onebasin.stack_models([small_cnn(), small_cnn(norm=False)], SHAPE),
        "has no tensor 1.bias",
    ),
    "nothing to permute": (
        lambda files: onebasin.symmetries(onebasin.stack_models([nn.Linear(3, 2)] * 2, (3,))),
        "nothing in this network may be permuted",
    ),
    "inputs of another shape": (
        lambda files: onebasin.symmetries(onebasin.stack_models([small_cnn()] * 2, (1, 9, 9))),
        "cannot be traced",
    ),
    "one model": (lambda files: onebasin.match(trained_mlps(1), spec_of(trained_mlps())), "give at least two"),
    "no data": (lambda files: onebasin.match(trained_mlps(), spec_of(trained_mlps()), "ste_mm"), "ste_mm reads"),
    "no such method": (lambda files: onebasin.match(trained_mlps(), spec_of(trained_mlps()), "stemm"), "did you mean"),
    "a method that finds nothing": (
        lambda files: onebasin.match(trained_mlps(), spec_of(trained_mlps()), "builtins:print"),
        "gave NoneType",
    ),
    "no such setting": (
        lambda files: onebasin.match(trained_mlps(), spec_of(trained_mlps()), max_round=3),
        "did you mean max_rounds?",
    ),
    "permutations of fewer models": (
        lambda files: onebasin.merge(
            trained_mlps(), spec_of(trained_mlps()), Alignment(identity(spec_of(trained_mlps()), 2))
        ),
        "holds no permutations",
    ),
    "images of another shape": (
        lambda files: onebasin.barrier(onebasin.stack_models(cnns(), (1, 9, 9)), few_digits()),
        "the data's inputs are 1x8x8, the network takes 1x9x9",
    ),
    "more classes": (lambda files: onebasin.barrier(trained_mlps(), few_classes()), "the data have 11 classes"),
    "no logits": (
        lambda files: onebasin.barrier(onebasin.stack_models([Doubles()] * 2, SHAPE), few_digits()),
        "the network gives tuple, not logits",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_is_refused_in_one_line(files, case):
    attempt, reason = REFUSALS[case]
    with pytest.raises(OnebasinError) as caught:
        attempt(files)
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.Identity])
def test_a_normalization_that_is_misspelt_is_refused_whatever_the_network(norm):
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(64, 6), norm(6), nn.ReLU(), nn.Linear(6, 10)) for _ in range(2)]
    models = onebasin.stack_models(networks, SHAPE)
    spec = onebasin.symmetries(models)
    with pytest.raises(OnebasinError, match="recomputed"):
        onebasin.merge(models, spec, onebasin.match(models, spec), few_digits(), normalization="recomputed")
