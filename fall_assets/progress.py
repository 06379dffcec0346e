"""Progress of long work, as lines in a log. What belongs here: wording and pacing."""

from __future__ import annotations

import time
from collections.abc import Callable


class ProgressLog:
    """Says how far work is, at most every `every_s` seconds and once at its end.

    Work that ends within `every_s` says nothing, so that short days do not fill the log.
    """

    def __init__(self, what: str, log: Callable[[str], None], every_s: float = 5.0) -> None:
        self._what = what
        self._log = log
        self._every_s = every_s
        self._started = time.monotonic()
        self._spoken = self._started

    def __call__(self, done: int, total: int) -> None:
        """Take note that `done` of `total` pieces are finished."""
        now = time.monotonic()
        elapsed = now - self._started
        finished = done >= total and self._spoken > self._started
        if not finished and now - self._spoken < self._every_s:
            return
        self._spoken = now
        rate = done / elapsed if elapsed > 0 else 0.0
        left = f"{(total - done) / rate:.0f} s left" if rate > 0 else "time left unknown"
        self._log(f"{self._what}: {done} of {total}, {rate:.2f}/s, {left}")
