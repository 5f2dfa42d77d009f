"""Data sets that are downloaded: MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, by way of torchvision.

Their archives lie below a folder, `root`, where torchvision puts them: `MNIST/raw/*.gz`, `FashionMNIST/raw/*.gz`,
`cifar-10-python.tar.gz`, `cifar-100-python.tar.gz`. An archive that is there and has the checksum that torchvision
knows is used, and no network is touched; they are unpacked elsewhere, so the folder may be shared and read-only.

CIFAR's archives hold pickles, which torchvision unpickles once their checksums are found right. They are the one
exception to the rule that nothing is unpickled from disk: by the checksums, these are the bytes that were published.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from onebasin.data import IMAGENET_MEAN, IMAGENET_STD, Data, Split
from onebasin.errors import OnebasinError
from onebasin.vision import torchvision

DATASETS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}


@dataclass(frozen=True)
class Archive:
    """A file that is downloaded: its path below the root, its MD5 checksum, and where it can be had."""

    path: str
    md5: str
    urls: tuple[str, ...]


def mnist(root: str = "data", download: bool = True) -> Data:
    """Handwritten digits: 60,000 and 10,000 grey images of 28 x 28, ten classes, scaled to [0, 1]."""
    return _grey("mnist", root, download)


def fashion_mnist(root: str = "data", download: bool = True) -> Data:
    """Pieces of clothing: 60,000 and 10,000 grey images of 28 x 28, ten classes, scaled to [0, 1]."""
    return _grey("fashion_mnist", root, download)


def cifar10(root: str = "data", download: bool = True) -> Data:
    """Photographs: 50,000 and 10,000 colour images of 32 x 32, ten classes, normalised as ImageNet is."""
    return _coloured("cifar10", root, download)


def cifar100(root: str = "data", download: bool = True) -> Data:
    """Photographs: 50,000 and 10,000 colour images of 32 x 32, a hundred classes, normalised as ImageNet is."""
    return _coloured("cifar100", root, download)


def fetch(name: str, root: str | Path = "data", download: bool = True) -> dict[Path, Archive]:
    """Make sure that the archives of the data set `name` are below `root`, whole; download those that are not.

    Returns:
        The archives by the files that hold them.

    Raises:
        OnebasinError: an archive is missing or damaged, and cannot be downloaded or is not to be.
    """
    archives = {Path(root).expanduser() / archive.path: archive for archive in _archives(name)}
    absent = _absent(archives)
    problem = "" if download else "downloads are off (data.download: false)"
    for path in absent:
        problem = problem or _download(path, archives[path])
    if absent and problem:
        files = ", ".join(f"{path} ({'damaged' if path.is_file() else 'missing'})" for path in _absent(archives))
        raise OnebasinError(f"data set {name}: no {files}; {problem}; put them there, or set data.root to their folder")
    return archives


def _archives(name: str) -> list[Archive]:
    dataset = getattr(torchvision.datasets, DATASETS[name])
    if issubclass(dataset, torchvision.datasets.MNIST):
        return [
            Archive(f"{dataset.__name__}/raw/{file}", md5, tuple(f"{mirror}{file}" for mirror in dataset.mirrors))
            for file, md5 in dataset.resources
        ]
    return [Archive(dataset.filename, dataset.tgz_md5, (dataset.url,))]


def _absent(archives: Mapping[Path, Archive]) -> list[Path]:
    """The files that are missing or damaged."""
    whole = torchvision.datasets.utils.check_integrity
    return [path for path, archive in archives.items() if not whole(path, archive.md5)]


def _download(path: Path, archive: Archive) -> str:
    """Try the archive's addresses in turn; what went wrong at the last one, or nothing."""
    problem = ""
    for url in archive.urls:
        try:
            torchvision.datasets.utils.download_url(url, path.parent, path.name, archive.md5)
        except (OSError, RuntimeError) as error:
            problem = f"not downloaded ({' '.join(str(error).split())})"
        else:
            return ""
    return problem


def _grey(name: str, root: str, download: bool) -> Data:
    train, test = (Split(part.data.unsqueeze(1), part.targets.long()) for part in _train_and_test(name, root, download))
    return Data(train, test, classes=10)


def _coloured(name: str, root: str, download: bool) -> Data:
    parts = _train_and_test(name, root, download)
    train, test = (
        Split(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
        for part in parts
    )
    return Data(train, test, classes=len(parts[0].classes), mean=IMAGENET_MEAN, std=IMAGENET_STD)


def _train_and_test(name: str, root: str, download: bool) -> list[Any]:
    dataset = getattr(torchvision.datasets, DATASETS[name])
    archives = fetch(name, root, download)
    with tempfile.TemporaryDirectory() as unpacked:
        for path, archive in archives.items():
            folder = (Path(unpacked) / archive.path).parent
            folder.mkdir(parents=True, exist_ok=True)
            torchvision.datasets.utils.extract_archive(path, folder)
        return [dataset(unpacked, train=train) for train in (True, False)]
