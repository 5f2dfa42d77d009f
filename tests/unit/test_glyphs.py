import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from onebasin.data.glyphs import CLASSES, FONTS, OTHERS, SHEET, draw, glyphs, sheet
from onebasin.errors import OnebasinError


def test_glyphs_have_the_shapes_and_types_of_cifar10():
    data = glyphs(train=30, test=20)
    assert (data.input_shape, data.classes, len(data.train), len(data.test)) == ((3, 32, 32), 10, 30, 20)
    for split in (data.train, data.test):
        assert split.inputs.dtype == torch.uint8
        assert split.targets.dtype == torch.int64
        assert split.targets.bincount().tolist() == [len(split) // 10] * 10
    assert data.mean == (0.485, 0.456, 0.406)


def test_glyphs_are_a_function_of_their_seed():
    first, again, other = (glyphs(20, 10, seed=seed) for seed in (1, 1, 2))
    for name in ("train", "test"):
        assert torch.equal(first.split(name).inputs, again.split(name).inputs)
        assert not torch.equal(first.split(name).inputs, other.split(name).inputs)


def test_the_global_generators_do_not_decide_the_glyphs():
    before = glyphs(10, 10).train.inputs
    np.random.seed(7)  # noqa: NPY002 (that it has no effect is the point)
    torch.manual_seed(7)
    assert torch.equal(glyphs(10, 10).train.inputs, before)


def test_more_glyphs_leave_the_first_ones_as_they_are():
    few, many = glyphs(20, 10), glyphs(40, 30)
    assert torch.equal(many.train.inputs[:20], few.train.inputs)
    assert torch.equal(many.test.inputs[:10], few.test.inputs)


def test_no_two_glyphs_are_equal():
    data = glyphs(100, 100)
    images = torch.cat([data.train.inputs, data.test.inputs])
    assert len(images.flatten(1).unique(dim=0)) == 200


@pytest.mark.parametrize("size", [16, 64])
def test_glyphs_come_in_other_sizes(size):
    assert glyphs(10, 10, size=size).input_shape == (3, size, size)


def test_a_larger_image_is_the_same_picture_in_finer_pixels():
    small, large = (draw("A", size, np.random.default_rng(3)).astype(float) for size in (32, 64))
    coarse = large.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    another = draw("A", 32, np.random.default_rng(4)).astype(float)
    assert np.abs(coarse - small).mean() < 0.5 * np.abs(another - small).mean()


@pytest.mark.parametrize("font", FONTS)
def test_every_font_draws_every_letter_whole_and_differently(font):
    sheets = [np.asarray(sheet(font, letter)) for letter in CLASSES + OTHERS]
    for letter, drawn in zip(CLASSES + OTHERS, sheets, strict=True):
        assert drawn.shape == (SHEET, SHEET)
        assert (drawn > 128).sum() > 100, letter
        border = np.concatenate([drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]])
        assert border.max() == 0, letter
    assert len({drawn.tobytes() for drawn in sheets}) == len(sheets)


def test_the_letter_is_in_the_image_lighter_than_the_ground():
    bright = np.zeros((len(CLASSES), 32, 32))
    for label, letter in enumerate(CLASSES):
        for number in range(60):
            image = draw(letter, 32, np.random.default_rng([label, number])).astype(float)
            bright[label] += image @ [0.299, 0.587, 0.114]
    for mean in bright / 60:
        centre, border = mean[8:24, 8:24].mean(), np.concatenate([mean[:3].ravel(), mean[-3:].ravel()]).mean()
        assert centre > border + 10


def test_a_linear_classifier_learns_something_of_the_glyphs_and_not_enough():
    data = glyphs(2000, 500).to("cpu")
    linear = LogisticRegression(C=3e-4, max_iter=60, tol=0.01).fit(data.train.inputs.flatten(1), data.train.targets)
    assert 0.2 < linear.score(data.test.inputs.flatten(1), data.test.targets) < 0.5


def test_too_few_glyphs_are_refused():
    with pytest.raises(OnebasinError, match="10 images"):
        glyphs(train=5)
