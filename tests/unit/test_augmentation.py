import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onebasin.data import Data, Split
from onebasin.data.augmentation import augment, draw, move
from onebasin.machine.vision import torchvision

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP_AND_FLIP = {"crop": 4, "flip": True}
SEEDS = st.integers(0, 99)
BLACK = torch.tensor([-2.0, 0.0, 3.0])


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(count=6, height=32, width=32, channels=3):
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=stream(1))


def normalised(images):
    split = Split(images, torch.zeros(len(images), dtype=torch.int64))
    return Data(split, split, 1, mean=MEAN, std=STD).to("cpu")


def one_by_one(images, crop, draws):
    """torchvision on the pixels of every image, normalised afterwards."""
    functional = torchvision.transforms.v2.functional
    height, width = images.shape[-2:]
    moved = []
    for image, (down, right, mirrored) in zip(images, draws.tolist(), strict=True):
        turned = functional.horizontal_flip(image) if mirrored else image
        moved.append(functional.crop(functional.pad(turned, crop), crop - down, crop - right, height, width))
    return normalised(torch.stack(moved)).train.inputs


@given(size=st.tuples(st.integers(1, 9), st.integers(1, 9)), crop=st.integers(0, 4), flip=st.booleans(), seed=SEEDS)
def test_a_batch_is_augmented_as_torchvision_augments_one_image(size, crop, flip, seed):
    images = pixels(5, *size)
    data, settings = normalised(images), {"crop": crop, "flip": flip}
    expected = one_by_one(images, crop, draw(5, settings, stream(seed)))
    assert torch.equal(augment(data.train.inputs, settings, stream(seed), data.black), expected)


def test_every_shift_and_both_sides_come_up_about_equally_often():
    draws = draw(90_000, CROP_AND_FLIP, stream())
    for column in (0, 1):
        shifts, counts = draws[:, column].unique(return_counts=True)
        assert shifts.tolist() == list(range(-4, 5))
        assert (counts - 10_000).abs().max() < 500  # five standard deviations
    sides, counts = draws[:, 2].unique(return_counts=True)
    assert sides.tolist() == [0, 1]
    assert (counts - 45_000).abs().max() < 750
    correlation = torch.corrcoef(draws.T.float()) - torch.eye(3)
    assert correlation.abs().max() < 0.02


def test_images_of_a_batch_are_moved_apart_from_each_other():
    assert len(draw(100, CROP_AND_FLIP, stream()).unique(dim=0)) > 60


@pytest.mark.parametrize("settings", [{}, {"crop": 0, "flip": False}])
def test_without_settings_nothing_happens(settings):
    images = normalised(pixels()).train.inputs
    assert torch.equal(augment(images, settings, stream(), BLACK), images)


def test_only_what_is_asked_for_is_drawn():
    assert draw(200, {"crop": 3}, stream())[:, 2].tolist() == [0] * 200
    flips = draw(200, {"flip": True}, stream())
    assert flips[:, :2].count_nonzero() == 0
    assert 0 < flips[:, 2].sum() < 200


def test_an_augmentation_is_a_function_of_the_generators_state():
    images, generator = normalised(pixels(20)).train.inputs, stream(5)
    first, second = (augment(images, CROP_AND_FLIP, generator, BLACK) for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(augment(images, CROP_AND_FLIP, stream(5), BLACK), first)
    assert not torch.equal(first, second)
    assert not torch.equal(augment(images, CROP_AND_FLIP, stream(6), BLACK), first)


def test_the_images_given_are_left_as_they_are():
    images = normalised(pixels()).train.inputs
    before = images.clone()
    augment(images, CROP_AND_FLIP, stream(), BLACK)
    assert torch.equal(images, before)


def test_a_stack_of_models_gets_what_each_would_get_alone():
    images = normalised(pixels(12)).train.inputs.unflatten(0, (3, 4))
    draws = torch.cat([draw(4, CROP_AND_FLIP, stream(model)) for model in range(3)])
    together = move(images.flatten(0, 1), draws, BLACK).view_as(images)
    for model in range(3):
        assert torch.equal(together[model], augment(images[model], CROP_AND_FLIP, stream(model), BLACK))


def test_what_a_shift_uncovers_is_black():
    moved = move(torch.full((1, 3, 4, 4), 9.0), torch.tensor([[1, -2, 0]]), BLACK)[0]
    for channel, black in zip(moved, BLACK, strict=True):
        assert channel.tolist() == [[black] * 4, *[[9, 9, black, black]] * 3]
