"""Data sets: their types, making them by name, their files; a module a family of data sets."""

from onebasin.data.make import hold_out, make_data
from onebasin.data.scanned import digits
from onebasin.data.store import load_data, save_data
from onebasin.data.types import IMAGENET_MEAN, IMAGENET_STD, Data, Split, batches

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Data",
    "Split",
    "batches",
    "digits",
    "hold_out",
    "load_data",
    "make_data",
    "save_data",
]
