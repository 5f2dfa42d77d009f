"""Text as tokens: to tell the next character from those before it, at every position.

The text is cut into pieces of `context + 1` tokens that do not overlap: the first `context` are an input, the last
`context` its targets. The end of the text is the test split, so that no token is in both. Samples stay in the order of
the text; training draws its own.
"""

from pathlib import Path

import torch

from onebasin.data.types import Data, Split
from onebasin.errors import OnebasinError

BYTES = 256


def text(
    path: str,
    context: int = 64,
    vocabulary: str = "characters",
    test_fraction: float = 0.1,
    train: int | None = None,
    test: int | None = None,
) -> Data:
    """Inputs and targets `[n, context]` int64 of a text file; the classes are the vocabulary.

    Args:
        vocabulary: `characters`, those that occur in the text (UTF-8), in the order of their code points; or `bytes`,
            of which there are 256.
        test_fraction: of the pieces, the last ones.
        train: how many of the other pieces to take, the first ones; all, if None.
        test: how many of the test pieces to take, likewise.

    Raises:
        OnebasinError: the file cannot be read, is not UTF-8, or is too short for a sample in either split.
    """
    tokens, classes = _tokens(Path(path).expanduser(), vocabulary)
    pieces = len(tokens) // (context + 1)
    held = max(1, round(pieces * test_fraction))
    if pieces - held < 1:
        raise OnebasinError(
            f"{path}: {len(tokens)} {vocabulary} make {pieces} pieces of context + 1 = {context + 1}, too few for a "
            f"training and a test split; lower data.context or data.test_fraction, or give a longer text"
        )
    samples = tokens[: pieces * (context + 1)].view(pieces, context + 1)
    return Data(pieces_of(samples[: pieces - held][:train]), pieces_of(samples[pieces - held :][:test]), classes)


def _tokens(path: Path, vocabulary: str) -> tuple[torch.Tensor, int]:
    """The text as numbers `[length]` int64, and how many different ones there may be."""
    try:
        content = path.read_bytes()
        if vocabulary == "bytes":
            return torch.tensor(list(content), dtype=torch.int64), BYTES
        characters = content.decode()
    except OSError as error:
        raise OnebasinError(f"{path}: cannot be read ({error.strerror}); give a text file as data.path") from None
    except UnicodeDecodeError as error:
        raise OnebasinError(f"{path}: is not UTF-8 (byte {error.start}); write data.vocabulary: bytes") from None
    known = {character: number for number, character in enumerate(sorted(set(characters)))}
    return torch.tensor([known[character] for character in characters], dtype=torch.int64), len(known)


def pieces_of(samples: torch.Tensor) -> Split:
    """Inputs and targets `[n, context]` of pieces `[n, context + 1]`."""
    return Split(samples[:, :-1].contiguous(), samples[:, 1:].contiguous())
