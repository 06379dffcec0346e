"""What every stage is given: the site, its lake, and in whose name it writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from fall_assets.features.crop import Crop
from fall_assets.lake import Lake, Provenance
from fall_assets.progress import ProgressLog
from fall_assets.site import Site

if TYPE_CHECKING:
    from fall_assets.footage.store import Footage


def _silent(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Work:
    """One piece of work on one site.

    Attributes:
        site: folders and settings.
        lake: the site's lake.
        run_id: recorded in every commit to the lake.
        code_version: recorded in every commit to the lake.
        log: takes lines for a person who waits.
    """

    site: Site
    lake: Lake
    run_id: str = "by-hand"
    code_version: str = "unknown"
    log: Callable[[str], None] = _silent

    @property
    def footage(self) -> Footage:
        """The site's footage, in the landing folder and in buckets."""
        from fall_assets.footage.store import Footage

        return Footage(self.site.landing, self.site.root / "cache" / "footage")

    def looked_at(self, crop: str | None) -> Crop:
        """The part of a whole picture in which the detector's key points lie.

        `crop` is the camera's, as `cameras` has it; the site's settings may look at a part of that.
        Who hides a head or draws a zone must go by this part, or it is hidden in the wrong place.
        """
        return self.site.settings.features.detector.picture.crop.inside(Crop.parse(crop))

    def provenance(self, day: date | None = None) -> Provenance:
        """Who writes, for the commit of one day (None: a table without days)."""
        return Provenance(self.run_id, day.isoformat() if day else None, self.code_version)

    def progress(self, what: str) -> ProgressLog:
        """Progress lines of a long piece of work."""
        return ProgressLog(what, self.log)
