import pytest
import torch
from hypothesis import settings

from onebasin.data import Data, Split

settings.register_profile("onebasin", deadline=None)  # nothing is asserted about time: machines are busy
settings.load_profile("onebasin")


@pytest.fixture(autouse=True, scope="session")
def _one_thread(one_thread):
    """In all unit tests."""


@pytest.fixture(scope="session")
def tiny_data():
    """Forty training images [1, 2, 3] of three classes that can be told apart, ten test images."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(50) % 3
    images = torch.randn(3, 1, 2, 3, generator=generator)[labels] + 0.3 * torch.randn(50, 1, 2, 3, generator=generator)
    return Data(Split(images[:40], labels[:40]), Split(images[40:], labels[40:]), classes=3)
