import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from onebasin.data import Data, Split, batches, digits, load_data, make_data, save_data
from onebasin.errors import OnebasinError


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
        assert split.images.shape == (len(split), 1, 8, 8)
        assert split.images.dtype == torch.float32
        assert split.labels.dtype == torch.int64


def test_digits_are_scaled_to_the_unit_interval():
    data = digits()
    for split in (data.train, data.test):
        assert split.images.min() == 0
        assert split.images.max() == 1


def test_every_digit_is_in_one_of_the_splits_with_its_label():
    data, original = digits(), load_digits()
    labelled = torch.cat(
        [torch.from_numpy(original.images).flatten(1) / 16, torch.from_numpy(original.target)[:, None]], 1
    )
    images = torch.cat([data.train.images, data.test.images]).flatten(1).double()
    labels = torch.cat([data.train.labels, data.test.labels])
    assert rows(torch.cat([images, labels[:, None]], 1)) == rows(labelled)


def test_digits_are_stratified():
    data = digits(test_fraction=0.2)
    everyone = data.train.labels.bincount() + data.test.labels.bincount()
    assert (data.test.labels.bincount() - 0.2 * everyone).abs().max() < 1


def test_the_seed_decides_the_split():
    assert torch.equal(digits(seed=1).test.images, digits(seed=1).test.images)
    assert rows(digits(seed=1).test.images) != rows(digits(seed=2).test.images)


@pytest.mark.parametrize("settings", [{"test_fraction": 0.001}, {"test_fraction": 0.999}, {"seed": 2**32}])
def test_a_split_that_cannot_be_made_is_one_line(settings):
    with pytest.raises(OnebasinError, match="data") as caught:
        digits(**settings)
    assert len(str(caught.value).splitlines()) == 1


def test_the_global_generators_do_not_decide_the_split():
    before = digits().test.images
    torch.manual_seed(7)
    assert torch.equal(digits().test.images, before)


def test_data_are_loaded_by_name_with_their_settings():
    assert torch.equal(make_data({"name": "digits", "seed": 3}).test.images, digits(seed=3).test.images)


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
    for name in ("train", "test"):
        assert torch.equal(again.split(name).images, data.split(name).images)
        assert torch.equal(again.split(name).labels, data.split(name).labels)
