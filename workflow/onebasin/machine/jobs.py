"""What every job of the workflow shares: its log, its number of threads, and one line for the user's errors."""

import contextlib
import ctypes
import logging
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from onebasin.errors import OnebasinError
from onebasin.machine.devices import ready

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("onebasin")

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
SMALL_TENSOR = 2**26  # bytes; larger ones are few, and to keep their memory would cost more than it saves


@contextmanager
def job(log: str | Path) -> Iterator[None]:
    """Run a block as a job that logs into the file `log`.

    A user's error ends the process with status 1 and one line on stderr and in the log; any other error leaves its
    traceback in both.
    """
    _log_into(Path(log))
    try:
        yield
    except OnebasinError as error:
        _fail(f"onebasin: {error}")
    except Exception:
        logger.exception("onebasin: this is a fault of the program, not yours")
        raise


@contextmanager
def computing_job(log: str | Path, threads: int, device: str) -> Iterator["torch.device"]:
    """A `job` that computes with torch on `threads` threads and `device` (which it is given), deterministically."""
    with job(log):
        yield prepare_torch(threads, device, "error")


def prepare_torch(threads: int, device: str, nondeterministic: str) -> "torch.device":
    """Let torch compute on `threads` threads, deterministically; the device called `device`.

    Args:
        nondeterministic: what an operation without a deterministic form comes to: `error` or `warn`.

    Raises:
        OnebasinError: there is no such device.
    """
    # here, because what does not compute starts a second sooner without it
    import torch

    _keep_freed_memory()
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(nondeterministic)  # use_deterministic_algorithms imports the compiler: 1 s
    # to fill all new memory with NaN takes up to a tenth of the time, and nothing here reads what it has not written
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return ready(device)


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of small tensors that are gone for the next ones, not return it to the system.

    Every page that the system gives is zeroed first: a tenth of the time of convolutional networks.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, SMALL_TENSOR)
        library.mallopt(M_TRIM_THRESHOLD, 16 * SMALL_TENSOR)


def _log_into(path: Path) -> None:
    logging.captureWarnings(capture=True)
    # on a disk that is full the user's one line is not to be buried under the log's own complaints
    logging.raiseExceptions = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        logging.basicConfig(
            filename=path,
            filemode="w",
            level=logging.INFO,
            format="%(asctime)s %(message)s",
            datefmt="%H:%M:%S",
            force=True,
        )
    except OSError as error:
        sys.exit(f"onebasin: {path}: not written ({error.strerror}); choose another folder")


def peak_memory_mb() -> float:
    """The largest resident memory that this process has had, in MB (10^6 bytes)."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        kilobytes = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))
    except (OSError, StopIteration):
        # on Linux this would include the peak of the process that started this one
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * 1024 / 1e6


def _fail(line: str) -> None:
    logger.error(line)
    print(line, file=sys.stderr, flush=True)
    sys.exit(1)
