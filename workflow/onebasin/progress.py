"""Progress of a long loop: a bar on a terminal, a line now and then in a log."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

logger = logging.getLogger(__name__)
SECONDS_BETWEEN_LINES = 10.0

Item = TypeVar("Item")


def track(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Yield the items, showing how many of `total` are done."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=description, total=total, leave=False, dynamic_ncols=True)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            left = (now - start) / max(done, 1) * (total - done)
            logger.info("%s: %d of %d, about %.0f s left", description, done, total, left)
        yield item
    logger.info("%s: %d of %d done in %.1f s", description, total, total, time.monotonic() - start)
