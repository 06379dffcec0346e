"""What the disk and the lake take, and when the disk is full. Pure but for asking the disk.

What belongs here: measuring folders, and slopes. What does not: making room
(`pipeline.maintenance`, `pipeline.retention`).
"""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Final

DISK: Final = "(disk)"
"""Stands for the disk where tables are named."""
FILES: Final = "(files)"
"""Stands for the lake's folder of pictures and manifests."""

LEAST_POINTS: Final = 3
LEAST_DAYS: Final = 1.0
"""Less says nothing of how fast anything grows."""
MOST_POINTS: Final = 120
"""Slopes of all pairs: 7,140 at most."""

_DAY_S: Final = 86400.0


@dataclass(frozen=True)
class Disk:
    """The site's disk, in bytes; `free` is what a user without privileges may still write."""

    total: int
    free: int

    @property
    def free_share(self) -> float:
        """Share of the disk that is free, 0 to 1."""
        return self.free / self.total if self.total else 0.0


def disk_of(folder: Path) -> Disk:
    """The disk on which a folder lies, or will lie. Raises OSError where it cannot be asked."""
    at = folder
    while not at.exists() and at != at.parent:
        at = at.parent
    usage = shutil.disk_usage(at)
    # Blocks that only root may use are neither used nor free.
    return Disk(usage.used + usage.free, usage.free)


def folder_size(folder: Path) -> tuple[int, int]:
    """Bytes and files below a folder; what goes away meanwhile is not counted. No folder: 0, 0."""
    size = files = 0
    left = [str(folder)]
    while left:
        try:
            with os.scandir(left.pop()) as found:
                for entry in found:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            left.append(entry.path)
                        else:
                            size += entry.stat(follow_symlinks=False).st_size
                            files += 1
                    except FileNotFoundError:
                        continue
        except (FileNotFoundError, NotADirectoryError):
            continue
    return size, files


def growth_per_day(points: Sequence[tuple[datetime, float]]) -> float | None:
    """How much is added per day: the median slope of all pairs (Theil 1950, Sen 1968).

    One clean-up, or one day of much footage, does not bend it: it holds while under 29 % of the
    points are out of line. None for fewer than LEAST_POINTS points, or less than LEAST_DAYS
    between the first and the last. Of many points the newest MOST_POINTS count.
    """
    known = sorted(points)[-MOST_POINTS:]
    if len(known) < LEAST_POINTS:
        return None
    if (known[-1][0] - known[0][0]).total_seconds() < LEAST_DAYS * _DAY_S:
        return None
    slopes = [
        (later[1] - earlier[1]) / ((later[0] - earlier[0]).total_seconds() / _DAY_S)
        for earlier, later in combinations(known, 2)
        if later[0] > earlier[0]
    ]
    return float(statistics.median(slopes)) if slopes else None


def days_until_full(free_bytes: float, growth: float | None) -> float | None:
    """Days until nothing is left; None where it does not grow, or nobody knows."""
    if growth is None or growth <= 0:
        return None
    return max(0.0, free_bytes) / growth
