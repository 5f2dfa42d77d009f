"""Images of one's own: a folder a class, below `train` and below `test` or `val`, as torchvision's `ImageFolder`."""

from collections.abc import Sequence
from pathlib import Path

import torch

from onebasin.data import IMAGENET_MEAN, IMAGENET_STD, Data, Split
from onebasin.errors import OnebasinError
from onebasin.machine.vision import torchvision


def image_folder(root: str, size: int) -> Data:
    """The images `<root>/train/<class>/*` and `<root>/test/<class>/*` in any format that Pillow reads, as RGB.

    The shorter side is resized to `size`, the middle `size` x `size` pixels are kept, and normalised as ImageNet is.
    Without a folder `test`, `val` holds the test split; where both are, `val` is the validation split.

    Raises:
        OnebasinError: a folder is missing or empty, the splits have different classes, or a file is no image.
    """
    folder = Path(root).expanduser()
    found = [name for name in ("train", "val", "test") if (folder / name).is_dir()]
    if found[:1] != ["train"] or len(found) < 2:
        raise OnebasinError(f"{folder}: needs the folders train and test (or val), with a folder a class in each")
    classes: Sequence[str] | None = None
    splits = {}
    for name in found:
        splits[name], its_classes = _read(folder / name, size)
        if classes is not None and its_classes != classes:
            differing = ", ".join(sorted(set(its_classes) ^ set(classes)))
            raise OnebasinError(f"{folder / name}: not the classes of train ({differing}); give both the same folders")
        classes = its_classes
    assert classes is not None
    test, validation = (splits["test"], splits.get("val")) if "test" in splits else (splits["val"], None)
    return Data(splits["train"], test, len(classes), validation, IMAGENET_MEAN, IMAGENET_STD)


def _read(folder: Path, size: int) -> tuple[Split, Sequence[str]]:
    transforms = torchvision.transforms.v2
    resize = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size), transforms.PILToTensor()])
    try:
        files = torchvision.datasets.ImageFolder(folder, transform=resize)
    except FileNotFoundError as error:
        raise OnebasinError(f"{folder}: {' '.join(str(error).split())}") from None
    images = torch.empty(len(files), 3, size, size, dtype=torch.uint8)
    for index, (file, _) in enumerate(files.samples):
        try:
            images[index] = files[index][0]
        except OSError as error:
            raise OnebasinError(f"{file}: not a whole image ({error}); replace or remove it") from None
    return Split(images, torch.tensor(files.targets)), files.classes
