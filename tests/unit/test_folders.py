import numpy as np
import pytest
import torch
from PIL import Image

from onebasin.data import make_data
from onebasin.errors import OnebasinError
from onebasin.machine.vision import torchvision

COLOURS = {"cat": (250, 10, 20), "dog": (30, 240, 60)}


@pytest.fixture
def root(tmp_path):
    """Images of two classes, one colour a class, of several sizes and formats."""
    for name, count in (("train", 4), ("test", 2)):
        for label, colour in COLOURS.items():
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (20 + 4 * number, 30 - 3 * number), colour)
                image.save(folder / f"{number}.{'png' if number % 2 else 'jpg'}")
    return tmp_path


def load(root, size=8, **settings):
    return make_data({"name": "image_folder", "root": str(root), "size": size, **settings})


def refusal(root, **settings):
    with pytest.raises(OnebasinError) as caught:
        load(root, **settings)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_folder_a_class_is_a_data_set(root):
    data = load(root)
    assert (data.input_shape, data.classes, len(data.train), len(data.test)) == ((3, 8, 8), 2, 8, 4)
    assert data.train.targets.tolist() == [0] * 4 + [1] * 4
    assert data.train.inputs.dtype == torch.uint8
    for image, label in zip(data.train.inputs, data.train.targets, strict=True):
        colour = torch.tensor([*COLOURS.values()][label]).view(3, 1, 1)
        assert (image.int() - colour).abs().max() <= 3  # what JPEG makes of it
    assert data.to("cpu").black.tolist() == pytest.approx([-2.1179, -2.0357, -1.8044], abs=1e-4)


def test_images_are_resized_and_cropped_to_the_middle(root):
    picture = np.random.default_rng(0).integers(0, 256, (24, 48, 3), dtype=np.uint8)
    Image.fromarray(picture).save(root / "train" / "cat" / "0.png")
    (root / "train" / "cat" / "0.jpg").unlink()
    functional = torchvision.transforms.v2.functional
    small = functional.pil_to_tensor(functional.resize(Image.fromarray(picture), [12, 24]))
    assert torch.equal(load(root, size=12).train.inputs[0], small[:, :, 6:18])


def test_grey_images_and_images_with_transparency_become_rgb(root):
    Image.new("L", (9, 9), 77).save(root / "test" / "cat" / "0.jpg")
    Image.new("RGBA", (9, 9), (1, 2, 3, 0)).save(root / "test" / "cat" / "1.png")
    images = load(root).test.inputs
    assert images[0].unique().tolist() == [77]
    assert images[1, :, 0, 0].tolist() == [1, 2, 3]


def test_val_is_the_test_split_where_there_is_no_other(root):
    expected = load(root).test.inputs
    (root / "test").rename(root / "val")
    data = load(root)
    assert torch.equal(data.test.inputs, expected)
    assert data.validation is None


def test_val_is_the_validation_split_beside_a_test_split(root):
    (root / "train").rename(root / "val")
    (root / "test").rename(root / "train")
    for label in COLOURS:
        (root / "test" / label).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(root / "test" / label / "one.png")
    data = load(root)
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [4, 8, 2]
    assert "validation split of their own" in refusal(root, validation_fraction=0.5)


def test_a_part_of_the_training_folder_can_be_held_out(root):
    data = load(root, validation_fraction=0.5)
    assert data.train.targets.bincount().tolist() == data.validation.targets.bincount().tolist() == [2, 2]


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_missing_folder_is_named(root, missing):
    (root / missing).rename(root / "elsewhere")
    line = refusal(root)
    assert str(root) in line
    assert missing in line


def test_splits_with_different_classes_are_refused(root):
    (root / "test" / "dog").rename(root / "test" / "wolf")
    assert "dog, wolf" in refusal(root)


def test_an_empty_class_is_refused(root):
    (root / "train" / "fish").mkdir()
    line = refusal(root)
    assert str(root / "train") in line
    assert "fish" in line


def test_a_file_that_is_no_image_is_named(root):
    broken = root / "train" / "dog" / "1.png"
    for content in (b"no image", broken.read_bytes()[:40]):
        broken.write_bytes(content)
        assert str(broken) in refusal(root)
