"""An intake that kills itself before its n-th write: `python -m … SITE_FOLDER WRITES DAY`."""

from __future__ import annotations

import os
import signal
import sys
from datetime import date
from pathlib import Path
from typing import Any

from fall_assets.lake import Lake
from fall_assets.pipeline.collection import collect
from fall_assets.pipeline.work import Work
from fall_assets.site import FootageSettings, Site, SiteSettings


def site_at(root: Path) -> Work:
    """Work on a site that takes files in at once."""
    settings = SiteSettings(footage=FootageSettings(settle_s=0.0))
    site = Site(root, root / "landing", settings)
    site.landing.mkdir(parents=True, exist_ok=True)
    return Work(site, Lake(site.lake_root))


class MortalLake(Lake):
    """A lake whose user dies before it replaces a partition for the n-th time."""

    def __init__(self, root: Path, writes: int) -> None:
        super().__init__(root)
        self._left = writes

    def replace_partition(self, *args: Any) -> int:
        """Replace, or die."""
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1
        return super().replace_partition(*args)


def main() -> None:
    """Take in one day."""
    work = site_at(Path(sys.argv[1]))
    mortal = MortalLake(work.site.lake_root, int(sys.argv[2]))
    collect(Work(work.site, mortal), date.fromisoformat(sys.argv[3]))


if __name__ == "__main__":
    main()
