"""Features of a day that kill themselves before their n-th write: `python -m … FOLDER DAY WRITES`.

They work in batches of two, with a worker that makes rows up.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import date
from pathlib import Path
from typing import Any

from fall_assets.lake import Lake
from fall_assets.pipeline import features
from fall_assets.pipeline.work import Work
from fall_assets_tests.pipeline import made_up_worker
from fall_assets_tests.pipeline.killed_collection import site_at


class MortalLake(Lake):
    """A lake whose user dies before it adds to a day for the n-th time."""

    def __init__(self, root: Path, writes: int) -> None:
        super().__init__(root)
        self._left = writes

    def extend_partition(self, *args: Any) -> int:
        """Add rows, or die."""
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1
        return super().extend_partition(*args)


def main() -> None:
    """Extract one day."""
    work = site_at(Path(sys.argv[1]))
    mortal = MortalLake(work.site.lake_root, int(sys.argv[3]))
    features.BATCH = 2
    features.extract_day(
        Work(work.site, mortal), date.fromisoformat(sys.argv[2]), worker=made_up_worker.COMMAND
    )


if __name__ == "__main__":
    main()
