import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from onebasin.data import Data, Split, batches, digits, hold_out, load_data, make_data, save_data
from onebasin.errors import OnebasinError
from onebasin.machine.vision import torchvision
from onebasin.storage import artifacts


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(images):
    """The images in an order of their own."""
    return sorted(images.flatten(1).tolist())


@pytest.mark.parametrize(("fraction", "test"), [(0.2, 360), (0.5, 899)])
def test_digits_are_split_by_the_fraction_asked_for(fraction, test):
    data = digits(test_fraction=fraction)
    assert (len(data.train), len(data.test)) == (1797 - test, test)


def test_digits_have_the_shapes_and_types_that_a_data_set_has():
    data = digits()
    assert data.input_shape == (1, 8, 8)
    assert data.classes == 10
    for split in (data.split("train"), data.split("test")):
        assert split.inputs.shape == (len(split), 1, 8, 8)
        assert split.inputs.dtype == torch.float32
        assert split.targets.dtype == torch.int64


def test_digits_are_scaled_to_the_unit_interval():
    data = digits()
    for split in (data.train, data.test):
        assert split.inputs.min() == 0
        assert split.inputs.max() == 1


def test_every_digit_is_in_one_of_the_splits_with_its_label():
    data, original = digits(), load_digits()
    labelled = torch.cat(
        [torch.from_numpy(original.images).flatten(1) / 16, torch.from_numpy(original.target)[:, None]], 1
    )
    images = torch.cat([data.train.inputs, data.test.inputs]).flatten(1).double()
    labels = torch.cat([data.train.targets, data.test.targets])
    assert rows(torch.cat([images, labels[:, None]], 1)) == rows(labelled)


def test_digits_are_stratified():
    data = digits(test_fraction=0.2)
    everyone = data.train.targets.bincount() + data.test.targets.bincount()
    assert (data.test.targets.bincount() - 0.2 * everyone).abs().max() < 1


def test_the_seed_decides_the_split():
    assert torch.equal(digits(seed=1).test.inputs, digits(seed=1).test.inputs)
    assert rows(digits(seed=1).test.inputs) != rows(digits(seed=2).test.inputs)


@pytest.mark.parametrize("settings", [{"test_fraction": 0.001}, {"test_fraction": 0.999}, {"seed": 2**32}])
def test_a_split_that_cannot_be_made_is_one_line(settings):
    with pytest.raises(OnebasinError, match="data") as caught:
        digits(**settings)
    assert len(str(caught.value).splitlines()) == 1


def test_the_global_generators_do_not_decide_the_split():
    before = digits().test.inputs
    torch.manual_seed(7)
    assert torch.equal(digits().test.inputs, before)


def pixels(count, channels=3):
    """Random uint8 images of two classes in turn, and how they are to be normalised."""
    images = torch.randint(0, 256, (count, channels, 4, 5), dtype=torch.uint8, generator=stream())
    split = Split(images, torch.arange(count) % 2)
    return Data(split, split, 2, mean=(0.5, 0.25, 0.125)[:channels], std=(0.5, 2.0, 1.0)[:channels])


def test_a_part_of_the_training_set_can_be_held_out():
    data, whole = make_data({"name": "digits", "validation_fraction": 0.1}), digits()
    assert len(data.train) + len(data.validation) == len(whole.train)
    assert len(data.split("validation")) == 144
    assert torch.equal(data.test.inputs, whole.test.inputs)
    images = torch.cat([data.train.inputs, data.validation.inputs]).flatten(1)
    labels = torch.cat([data.train.targets, data.validation.targets])[:, None]
    expected = torch.cat([whole.train.inputs.flatten(1), whole.train.targets[:, None]], 1)
    assert rows(torch.cat([images, labels], 1)) == rows(expected)


def test_the_validation_split_is_stratified():
    data, whole = hold_out(digits(), 0.25, seed=0), digits()
    assert (data.validation.targets.bincount() - 0.25 * whole.train.targets.bincount()).abs().max() < 1


def test_the_validation_seed_decides_what_is_held_out():
    def held(seed):
        settings = {"name": "digits", "validation_fraction": 0.1, "validation_seed": seed}
        return rows(make_data(settings).validation.inputs)

    assert held(1) == held(1)
    assert held(1) != held(2)


def test_without_a_fraction_nothing_is_held_out():
    data = make_data({"name": "digits", "validation_fraction": 0.0, "validation_seed": 3})
    assert data.validation is None
    assert torch.equal(data.train.inputs, digits().train.inputs)
    with pytest.raises(OnebasinError, match="validation_fraction"):
        data.split("validation")


def test_what_is_held_out_already_is_not_held_out_again():
    with pytest.raises(OnebasinError, match="validation_fraction"):
        hold_out(hold_out(digits(), 0.1, seed=0), 0.1, seed=0)


def test_a_validation_split_that_cannot_be_made_is_one_line():
    with pytest.raises(OnebasinError, match="the training set") as caught:
        make_data({"name": "digits", "validation_fraction": 0.001})
    assert len(str(caught.value).splitlines()) == 1


def test_pixels_are_scaled_and_normalised_by_channel():
    data = pixels(6)
    ready = hold_out(data, 0.5, seed=0).to("cpu")
    functional = torchvision.transforms.v2.functional
    expected = functional.normalize(data.test.inputs.float() / 255, data.mean, data.std)
    assert torch.equal(ready.test.inputs, expected)
    for name in ("train", "validation"):
        assert ready.split(name).inputs.dtype == torch.float32
    assert ready.input_shape == data.input_shape


def test_float_images_are_left_as_they_are():
    data = digits()
    assert torch.equal(data.to("cpu").train.inputs, data.train.inputs)


def test_black_is_what_becomes_of_a_black_pixel():
    data = pixels(4)
    data.train.inputs[:, :, 0, 0] = 0
    ready = data.to("cpu")
    assert torch.equal(ready.black.expand(4, 3), ready.train.inputs[:, :, 0, 0])
    assert digits().black.tolist() == [0.0]


def table(count, kind=torch.float32):
    split = Split(torch.arange(count * 5).view(count, 5).to(kind), torch.arange(count) % 2)
    return Data(split, split, 2)


def test_rows_of_a_table_come_back_as_they_were(tmp_path):
    data = hold_out(table(20), 0.2, seed=0)
    save_data(tmp_path / "data.safetensors", data)
    again = load_data(tmp_path / "data.safetensors")
    assert (again.input_shape, again.input_type) == ((5,), torch.float32)
    for name in ("train", "validation", "test"):
        assert torch.equal(again.split(name).inputs, data.split(name).inputs)
        assert torch.equal(again.split(name).targets, data.split(name).targets)


def test_small_whole_numbers_of_a_table_are_scaled_as_pixels_are():
    assert torch.equal(table(20, torch.uint8).to("cpu").train.inputs, table(20).train.inputs / 255)


def test_there_is_no_black_but_in_images():
    with pytest.raises(OnebasinError, match=r"augmentation: moves images .* these inputs are 5") as caught:
        _ = table(20).black
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("data", [digits(), pixels(6), table(6)], ids=["floats", "pixels", "table"])
def test_an_example_has_the_shape_and_type_that_a_network_sees(data):
    example, ready = data.example(3), data.to("cpu").train.inputs
    assert (example.shape, example.dtype) == (ready[:3].shape, ready.dtype)
    assert not example.any()


def test_one_mean_and_deviation_serve_all_channels():
    data = Data(pixels(4).train, pixels(4).test, 2, mean=(0.5,), std=(0.25,)).to("cpu")
    assert torch.equal(data.train.inputs, (pixels(4).train.inputs / 255 - 0.5) / 0.25)
    assert data.black.tolist() == [-2.0, -2.0, -2.0]


def test_pixels_stay_pixels_in_the_file(tmp_path):
    data = hold_out(pixels(10), 0.2, seed=0)
    save_data(tmp_path / "data.safetensors", data)
    stored = artifacts.load(tmp_path / "data.safetensors", "data").tensors
    assert sorted(stored) == sorted(
        f"{s}_{kind}" for s in ("train", "validation", "test") for kind in ("images", "labels")
    )
    assert all(tensor.dtype == torch.uint8 for name, tensor in stored.items() if name.endswith("images"))
    again, expected = load_data(tmp_path / "data.safetensors"), data.to("cpu")
    assert (again.classes, again.mean, again.std) == (2, data.mean, data.std)
    for name in ("train", "validation", "test"):
        assert torch.equal(again.split(name).inputs, expected.split(name).inputs)
        assert torch.equal(again.split(name).targets, expected.split(name).targets)


def test_data_are_loaded_by_name_with_their_settings():
    assert torch.equal(make_data({"name": "digits", "seed": 3}).test.inputs, digits(seed=3).test.inputs)


def test_a_users_data_are_loaded_by_module_and_name(tmp_path, monkeypatch):
    (tmp_path / "my_data.py").write_text(
        "import torch\nfrom onebasin.data import Data, Split\n\n\n"
        "def zeros(size):\n    split = Split(torch.zeros(size, 3, 2, 2), torch.zeros(size).long())\n"
        "    return Data(split, split, 4)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    data = make_data({"name": "my_data:zeros", "size": 5})
    assert isinstance(data, Data)
    assert isinstance(data.train, Split)
    assert (len(data.train), data.input_shape, data.classes) == (5, (3, 2, 2), 4)


@given(size=st.integers(1, 60), batch=st.integers(1, 70), seed=st.integers(0, 99))
def test_an_epoch_has_every_index_once(size, batch, seed):
    epoch = list(batches(size, batch, stream(seed)))
    assert torch.cat(epoch).sort().values.tolist() == list(range(size))
    assert [len(indices) for indices in epoch[:-1]] == [batch] * (len(epoch) - 1)
    assert 0 < len(epoch[-1]) <= batch


def test_batches_depend_on_nothing_but_the_generator():
    first = [indices.tolist() for indices in batches(50, 8, stream())]
    torch.manual_seed(9)
    assert [indices.tolist() for indices in batches(50, 8, stream())] == first
    assert [indices.tolist() for indices in batches(50, 8, stream(1))] != first


def test_the_size_of_a_batch_does_not_change_the_order():
    assert torch.equal(torch.cat([*batches(50, 8, stream())]), torch.cat([*batches(50, 13, stream())]))


def test_the_next_epoch_has_another_order():
    generator = stream()
    first, second = torch.cat([*batches(50, 8, generator)]), torch.cat([*batches(50, 8, generator)])
    assert not torch.equal(first, second)


def test_a_data_set_comes_back_from_its_file(tmp_path):
    data = digits()
    save_data(tmp_path / "data.safetensors", data)
    again = load_data(tmp_path / "data.safetensors")
    assert again.classes == data.classes
    assert again.validation is None
    for name in ("train", "test"):
        assert torch.equal(again.split(name).inputs, data.split(name).inputs)
        assert torch.equal(again.split(name).targets, data.split(name).targets)
