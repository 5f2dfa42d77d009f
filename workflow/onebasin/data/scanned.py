"""scikit-learn's scans of handwritten digits, which come with it."""

import torch

from onebasin.data.make import parted
from onebasin.data.types import Data, Split


def digits(test_fraction: float = 0.2, seed: int = 0) -> Data:
    """scikit-learn's 8 x 8 digits, scaled to [0, 1]: 1,797 images of ten classes, split stratified by class."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float().div_(16).unsqueeze_(1)
    labels = torch.from_numpy(bunch.target).long()
    train, test = parted(labels, test_fraction, seed, "the digits")
    return Data(Split(images[train], labels[train]), Split(images[test], labels[test]), classes=10)
