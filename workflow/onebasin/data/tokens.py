"""Text as tokens: windows of a plain text file, and at each position the token that comes next."""

from pathlib import Path

import torch

from onebasin.data import Data, Split
from onebasin.errors import OnebasinError


def text(path: str, context: int = 64, test_fraction: float = 0.1, stride: int | None = None) -> Data:
    """Inputs `[n, context]` int64 and targets `[n, context]` int64, the inputs one character on.

    The classes are the characters of the whole file in the order of their code points. The last `test_fraction` of the
    text is the test split; no window of one split reaches into the other.

    Args:
        path: a UTF-8 text file.
        context: positions of a window.
        stride: how far a window is behind the one before it; `context`, if None, so that none overlap.

    Raises:
        OnebasinError: the file cannot be read, is no text, or is too short for a window in either split.
    """
    try:
        characters = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise OnebasinError(f"config: data.path: {path}: cannot be read ({error.strerror}); name a file") from None
    except UnicodeDecodeError:
        raise OnebasinError(f"config: data.path: {path}: not UTF-8 text; convert it, or name another file") from None
    vocabulary = {character: number for number, character in enumerate(sorted(set(characters)))}
    tokens = torch.tensor([vocabulary[character] for character in characters], dtype=torch.int64)
    border = len(tokens) - round(len(tokens) * test_fraction)
    splits = []
    for name, part in (("training", tokens[:border]), ("test", tokens[border:])):
        if len(part) <= context:
            raise OnebasinError(
                f"config: data: {path}: {len(part)} characters are too few for a {name} window of {context}; "
                f"lower data.context or change data.test_fraction"
            )
        windows = part.unfold(0, context + 1, stride or context)
        splits.append(Split(windows[:, :-1].contiguous(), windows[:, 1:].contiguous()))
    train, test = splits
    return Data(train, test, classes=len(vocabulary))
