"""Waiting for something that another thread or process does, never for ever."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], object], what: str, limit_s: float = 30.0) -> None:
    """Return as soon as the condition holds; fail with `what` where it never does."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"waited {limit_s:.0f} s in vain: {what}"
        time.sleep(0.01)
