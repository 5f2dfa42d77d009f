"""Small data sets in the formats of the real ones, written where torchvision looks for them."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile

import numpy as np

from onebasin.data import downloads
from onebasin.machine.vision import torchvision

GREY = {"mnist": torchvision.datasets.MNIST, "fashion_mnist": torchvision.datasets.FashionMNIST}
COLOURED = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}


def md5(content):
    return hashlib.md5(content).hexdigest()


def write_grey(name, root, monkeypatch, count=(30, 20)):
    """Write gzipped idx files, tell torchvision their checksums; images [n, 28, 28] and labels [n] of both splits."""
    dataset, draws, parts, resources, unpacked = GREY[name], np.random.default_rng(0), [], [], {}
    folder = root / dataset.__name__ / "raw"
    folder.mkdir(parents=True)
    for prefix, n in zip(("train", "t10k"), count, strict=True):
        images = draws.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        contents = {
            f"{prefix}-images-idx3-ubyte.gz": struct.pack(">iiii", 0x803, n, 28, 28) + images.tobytes(),
            f"{prefix}-labels-idx1-ubyte.gz": struct.pack(">ii", 0x801, n) + labels.tobytes(),
        }
        for file, content in contents.items():
            (folder / file).write_bytes(gzip.compress(content))
            unpacked[file.removesuffix(".gz")] = md5(content)
            resources.append((file, md5((folder / file).read_bytes())))
        parts.append((images, labels))
    monkeypatch.setattr(dataset, "resources", resources)
    monkeypatch.setitem(downloads.UNPACKED, name, unpacked)
    return parts


def write_coloured(name, root, monkeypatch, count=20):
    """Write an archive of pickled batches, tell torchvision the checksums; images [n, 3, 32, 32] and labels [n]."""
    dataset, draws, parts, contents = COLOURED[name], np.random.default_rng(0), [], {}
    classes, key = (10, "labels") if name == "cifar10" else (100, "fine_labels")
    for batches in (dataset.train_list, dataset.test_list):
        images, labels = [], []
        for file, _ in batches:
            images.append(draws.integers(0, 256, (count, 3072), dtype=np.uint8))
            labels.append(draws.integers(0, classes, count).tolist())
            contents[file] = pickle.dumps({"data": images[-1], key: labels[-1]})
        parts.append((np.concatenate(images).reshape(-1, 3, 32, 32), np.concatenate(labels)))
    meta = dataset.meta["filename"]
    contents[meta] = pickle.dumps({dataset.meta["key"]: [f"class {number}" for number in range(classes)]})
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / dataset.filename, "w:gz") as archive:
        for file, content in contents.items():
            entry = tarfile.TarInfo(f"{dataset.base_folder}/{file}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    monkeypatch.setattr(dataset, "tgz_md5", md5((root / dataset.filename).read_bytes()))
    monkeypatch.setattr(dataset, "train_list", [[file, md5(contents[file])] for file, _ in dataset.train_list])
    monkeypatch.setattr(dataset, "test_list", [[file, md5(contents[file])] for file, _ in dataset.test_list])
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "md5": md5(contents[meta])})
    return parts
