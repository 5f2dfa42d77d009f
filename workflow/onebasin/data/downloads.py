"""Data sets that are downloaded: MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, by way of torchvision.

Their archives lie below a folder, `root`, where torchvision puts them: `MNIST/raw/*.gz`, `FashionMNIST/raw/*.gz`,
`cifar-10-python.tar.gz`, `cifar-100-python.tar.gz`. An archive that is there and has the checksum that torchvision
knows is used, and no network is touched; they are unpacked elsewhere, so the folder may be shared and read-only.
The files of MNIST and Fashion-MNIST may be unpacked or compressed anew, and may lie in `root` itself: what they hold
is known by its own checksum.

CIFAR's archives hold pickles, which torchvision unpickles once their checksums are found right. They are the one
exception to the rule that nothing is unpickled from disk: by the checksums, these are the bytes that were published.
"""

import gzip
import hashlib
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from onebasin.data import IMAGENET_MEAN, IMAGENET_STD, Data, Split
from onebasin.errors import OnebasinError
from onebasin.machine.vision import torchvision

DATASETS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}

# MD5 checksums of the unpacked files, of which torchvision knows those of the archives alone
UNPACKED = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}


@dataclass(frozen=True)
class Archive:
    """A file that is downloaded: its path below the root, its MD5 checksum, where it can be had, and the checksum of
    the one file that it holds, if that may stand in its place."""

    path: str
    md5: str
    urls: tuple[str, ...]
    unpacked_md5: str | None = None

    def places(self, root: Path) -> list[Path]:
        """Where the file may be, the place that torchvision gives it first."""
        place = root / self.path
        if self.unpacked_md5 is None:
            return [place]
        return [place, place.with_suffix(""), root / place.name, root / place.stem]

    def is_whole(self, path: Path) -> bool:
        """Whether this file, as it was published, unpacked or compressed anew, is at `path`."""
        if torchvision.datasets.utils.check_integrity(path, self.md5):
            return True
        return self.unpacked_md5 is not None and path.is_file() and _md5_of_content(path) == self.unpacked_md5

    def found(self, root: Path) -> Path | None:
        """The first of its places where the file is whole."""
        return next((path for path in self.places(root) if self.is_whole(path)), None)


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
    folder, archives = Path(root).expanduser(), _archives(name)
    problem = "" if download else "downloads are off (data.download: false)"
    for archive in archives:
        if not (problem or archive.found(folder)):
            problem = _download(folder / archive.path, archive)
    places = {archive: archive.found(folder) for archive in archives}
    if absent := [archive for archive, place in places.items() if place is None]:
        files = ", ".join(_what_is_wrong(archive, folder) for archive in absent)
        raise OnebasinError(f"data set {name}: no {files}; {problem}; put them there, or set data.root to their folder")
    return {place: archive for archive, place in places.items() if place is not None}


def _archives(name: str) -> list[Archive]:
    dataset = getattr(torchvision.datasets, DATASETS[name])
    if issubclass(dataset, torchvision.datasets.MNIST):
        return [
            Archive(
                f"{dataset.__name__}/raw/{file}",
                md5,
                tuple(f"{mirror}{file}" for mirror in dataset.mirrors),
                UNPACKED[name].get(file.removesuffix(".gz")),
            )
            for file, md5 in dataset.resources
        ]
    return [Archive(dataset.filename, dataset.tgz_md5, (dataset.url,))]


def _what_is_wrong(archive: Archive, root: Path) -> str:
    damaged = [path for path in archive.places(root) if path.is_file()]
    return f"{damaged[0]} (damaged)" if damaged else f"{root / archive.path} (missing)"


def _md5_of_content(path: Path) -> str | None:
    """The MD5 checksum of a file, of what is in it if it is compressed; None if that cannot be read."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except (OSError, EOFError, zlib.error):
        return None


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
            if path.suffix == ".gz":
                torchvision.datasets.utils.extract_archive(path, folder)
            else:
                (folder / path.name).symlink_to(path.resolve())
        return [dataset(unpacked, train=train) for train in (True, False)]
