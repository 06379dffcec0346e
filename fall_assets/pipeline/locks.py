"""Locks between processes: what must not happen at the same time on one site.

What belongs here: taking and leaving a lock. What does not: what is done under it. A lock is the
operating system's: it is left when its holder ends, however it ends.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from fall_assets.errors import PassingFailureError
from fall_assets.pipeline.work import Work

P = ParamSpec("P")
R = TypeVar("R")

_PAUSE_S = 0.05


class BusyError(PassingFailureError):
    """Another process holds the lock; try again later."""


@contextmanager
def locked(work: Work, name: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the site's lock `name` (a plain word), waiting for it up to `wait_s` seconds.

    It is held against other threads and processes that work on the same site's folder, not by
    the thread again: a lock taken twice by one thread waits for itself.

    Raises:
        BusyError: another has it, and did not leave it in time.
    """
    folder = work.site.root / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    with (folder / f"{name}.lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise BusyError(
                        f"another run holds the lock {folder / name}.lock; wait until it has "
                        "ended and try again"
                    ) from None
                time.sleep(_PAUSE_S)
        yield


def segments_of(day: date) -> str:
    """Name of the lock under which the rows of a day's segments are read, changed and written."""
    return f"segments-{day.isoformat()}"


def alone_on_the_day(
    function: Callable[Concatenate[Work, date, P], R],
) -> Callable[Concatenate[Work, date, P], R]:
    """Let `function(work, day, …)` be the only one that changes the day's segments.

    It waits up to ten minutes for another to end.
    """

    @wraps(function)
    def alone(work: Work, day: date, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with locked(work, segments_of(day), wait_s=600.0):
            return function(work, day, *args, **kwargs)

    return alone
