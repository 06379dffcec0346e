"""Public data sets that stand in the landing folder: all their files, on their nominal day.

What belongs here: data sets as a source. What does not: what their paths tell
(`fall_assets.datasets`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from fall_assets.datasets import Dataset, place
from fall_assets.footage.store import fingerprint
from fall_assets.footage.watching import (
    Change,
    Found,
    Progress,
    Window,
    escaped,
    is_text,
    status_of,
)


@dataclass(frozen=True)
class DatasetSource:
    """One data set's folder."""

    landing: Path
    dataset: Dataset

    @property
    def name(self) -> str:
        """The data set's."""
        return self.dataset.name

    @property
    def where(self) -> str:
        """Its folder."""
        return f"{self.landing}/{self.dataset.name}"

    def days(self) -> list[date]:
        """The nominal day, where the folder holds a video."""
        return [self.dataset.day] if place(self.landing, self.dataset) else []

    def find(self, day: date) -> list[Found]:
        """All files on the nominal day, none on others."""
        if day != self.dataset.day:
            return []
        return [
            Found(
                path=escaped(placed.path),
                camera_id=escaped(placed.seen.camera.camera_id),
                start_utc=placed.start_utc,
                dataset=self.dataset.name,
                subject=placed.seen.subject and escaped(placed.seen.subject),
                scene=escaped(f"{self.dataset.name}/{placed.seen.scene}"),
                camera=placed.seen.camera,
                source=self.dataset.name,
                unusable_name=not is_text(placed.path),
            )
            for placed in place(self.landing, self.dataset)
        ]

    def changed(self, window: Window, progress: Progress) -> Iterator[Change]:
        """Look at every file: data sets are small."""
        for placed in place(self.landing, self.dataset):
            status = status_of(f"{self.landing}/{placed.path}")
            if status is not None and window.holds(status.st_ctime):
                yield Change(self.dataset.day, placed.path, fingerprint(status))
