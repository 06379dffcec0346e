"""Progress of long work: lines in a log, and a bar where a person looks on.

What belongs here: wording, pacing, and whether there is a terminal. What does not: measuring.

A bar is drawn only where the command line asks for it: `SCREEN` in the environment names the file
descriptor of its terminal. A server's runs have a terminal as well, but nobody waits there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, TextIO

SCREEN = "FALL_PROGRESS_FD"
"""Environment variable: the file descriptor on which the command line wants a bar."""

LINE_EVERY_S = 5.0
LINE_BESIDE_BAR_EVERY_S = 60.0
"""Who sees a bar needs fewer lines; the log keeps some."""

_BAR = "{percentage:3.0f}%|{bar:20}| {desc}"


def screen() -> TextIO | None:
    """The terminal for a bar; None where none was named, or what was named is no terminal."""
    named = os.environ.get(SCREEN, "")
    if not named.isdecimal() or not os.isatty(int(named)):
        return None
    return os.fdopen(int(named), "w", closefd=False)


class ProgressLog:
    """Says how far work is, at most every `every_s` seconds and once at its end.

    Work that ends within `every_s` says nothing, so that short days do not fill the log. With a
    screen there is a bar as well, and `every_s` is a minute where it is not given.
    """

    def __init__(
        self,
        what: str,
        log: Callable[[str], None],
        every_s: float | None = None,
        on: TextIO | None = None,
    ) -> None:
        self._what = what
        self._log = log
        self._screen = on or screen()
        self._every_s = every_s or (LINE_BESIDE_BAR_EVERY_S if self._screen else LINE_EVERY_S)
        self._started = time.monotonic()
        self._spoken = self._started
        self._bar: Any = None
        self._is_over = False

    def __call__(
        self, done: int, total: int, *, share: float | None = None, note: str = ""
    ) -> None:
        """Take note that `done` of `total` pieces are finished.

        `share` is the part of the work that they were (0 to 1), where pieces differ in size: the
        time left follows from it. `note` is said as well.
        """
        now = time.monotonic()
        elapsed = now - self._started
        if share is None:
            share = done / total if total else 1.0
        if self._screen is not None:
            self._draw(self._line(done, total, share, note, elapsed), done, total, share)
        finished = done >= total and self._spoken > self._started
        if not finished and now - self._spoken < self._every_s:
            return
        self._spoken = now
        self._log(self._line(done, total, share, note, elapsed))

    def close(self) -> None:
        """Take the cursor off the bar's line, where the work ended early."""
        self._is_over = True
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _line(self, done: int, total: int, share: float, note: str, elapsed: float) -> str:
        rate = done / elapsed if elapsed > 0 else 0.0
        # Shares are sums of floats: the last may lie a little over 1.
        rest = max(1 - share, 0.0)
        left = f"{elapsed * rest / share:.0f} s left" if share > 0 else "time left unknown"
        parts = (f"{self._what}: {done} of {total}", f"{rate:.2f}/s", note, left)
        return ", ".join(part for part in parts if part)

    def _draw(self, line: str, done: int, total: int, share: float) -> None:
        if self._is_over:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                desc=line,
                total=1.0,
                bar_format=_BAR,
                file=self._screen,
                dynamic_ncols=True,
                miniters=0,
            )
        self._bar.set_description_str(line, refresh=False)
        self._bar.update(max(share - self._bar.n, 0.0))
        if done >= total:
            self._bar.refresh()
            self.close()
