"""What every job of the workflow shares: its log, its number of threads, and one line for the user's errors."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onebasin.errors import OnebasinError

logger = logging.getLogger("onebasin")


@contextmanager
def job(log: str | Path, threads: int) -> Iterator[None]:
    """Run a block as a job: log into the file `log`, compute on `threads` threads, deterministically.

    A user's error ends the process with status 1 and one line on stderr and in the log; any other error leaves its
    traceback in both.
    """
    _log_into(Path(log))
    try:
        _use_threads(threads)
        yield
    except OnebasinError as error:
        _fail(f"onebasin: {error}")
    except Exception:
        logger.exception("onebasin: this is a fault of the program, not yours")
        raise


def _log_into(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.captureWarnings(capture=True)
    logging.basicConfig(
        filename=path, filemode="w", level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
    )


def _use_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)


def _fail(line: str) -> None:
    logger.error(line)
    print(line, file=sys.stderr, flush=True)
    sys.exit(1)
