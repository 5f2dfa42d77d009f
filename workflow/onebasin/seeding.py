"""Randomness without global state: every stream is named, and its name decides its bits.

A stream is keyed by everything that tells it apart from the others (experiment seed, stage, trial, ...),
hashed to 64 bits. Two runs, in whatever order and with whatever number of cores, draw the same numbers.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(*key: int | str) -> int:
    """A 63-bit seed from the parts of `key`; any change of a part gives an unrelated seed."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` for the stream named by `key`."""
    return torch.Generator(device=device).manual_seed(derive_seed(*key))


@contextmanager
def global_rng(*key: int | str) -> Iterator[None]:
    """Seed torch's global generator for the block, and restore it afterwards.

    Only for code that is not ours and offers no generator argument: the initialisers of `nn.Module`s, PyHessian.
    """
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(*key))
        yield


def child(parent: torch.Generator, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Another stream that belongs to `parent`, from which nothing is drawn for it: keyed by what that was seeded by."""
    return generator(name, parent.initial_seed(), device=device)


@contextmanager
def drawing_from(*streams: torch.Generator) -> Iterator[None]:
    """Within the block, what draws from torch's global generators draws from these streams, one a device, instead.

    For the layers of networks that train: dropout and its kin take no generator. The streams go on with every block,
    and the global generators are afterwards what they were.
    """
    pairs = [(stream, _everyones(stream.device)) for stream in streams]
    before = [everyones.get_state() for _, everyones in pairs]
    for stream, everyones in pairs:
        everyones.set_state(stream.get_state())
    try:
        yield
    finally:
        for (stream, everyones), state in zip(pairs, before, strict=True):
            stream.set_state(everyones.get_state())
            everyones.set_state(state)


def _everyones(device: torch.device) -> torch.Generator:
    """torch's global generator of a device."""
    if device.type == "cpu":
        return torch.default_generator
    found: torch.Generator = torch.get_device_module(device).default_generators[device.index or 0]
    return found
