"""Maintenance: the lake's small files joined, old ones removed, and what the tables take.

What belongs here: upkeep of the lake as a whole and its figures. What does not: how files are
joined (`lake/`), and the deletion of footage (`retention`).
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from fall_assets.lake.lake import DEFAULT_RETENTION_HOURS, Maintenance
from fall_assets.pipeline.work import Work

FEATURE_TABLES = ("features", "pose_tracks", "sequences")
"""Tables whose size is told per hour of footage."""


@dataclass(frozen=True)
class TableUpkeep:
    """What upkeep did to one table, and what it takes.

    Attributes:
        table: its name.
        files_before, files_after: files of its latest version.
        bytes_before, bytes_after: their size.
        rows: its rows.
        files_removed: files of old versions and of killed writers that are gone.
        days_left: days whose small files others were writing beside; the next time joins them.
        footage_hours: of the feature tables: hours of footage, summed over cameras, on the days
            that the table has.
        bytes_per_camera_hour: bytes over those hours; None without footage, and for other tables.
    """

    table: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    rows: int
    files_removed: int
    days_left: int
    footage_hours: float | None = None
    bytes_per_camera_hour: float | None = None


def maintain_lake(work: Work, retain_hours: int = DEFAULT_RETENTION_HOURS) -> list[TableUpkeep]:
    """Join the small files of every table and remove those that nothing needs any more.

    Runs that write at the same time are not disturbed, and lose nothing: a day that they replace
    meanwhile is left as they leave it, and files younger than `retain_hours` stay, as do those of
    versions that a training set pins.

    Raises:
        PermanentFailureError: less than one hour is to be retained, or the pins of a training set
            cannot be read. Nothing is removed then.
    """
    rows = []
    for done in work.lake.maintain(retain_hours=retain_hours):
        hours = _footage_hours(work, done.table) if done.table in FEATURE_TABLES else None
        rows.append(_upkeep(done, hours))
        work.log(_in_words(rows[-1]))
    return rows


def _footage_hours(work: Work, table: str) -> float:
    videos = work.lake.scan("videos", days=work.lake.days(table))
    return float(videos.select(pl.col("duration_s").sum()).collect().item()) / 3600


def _upkeep(done: Maintenance, hours: float | None) -> TableUpkeep:
    return TableUpkeep(
        done.table,
        done.files_before,
        done.files_after,
        done.bytes_before,
        done.bytes_after,
        done.rows,
        done.files_removed,
        done.days_left,
        hours,
        done.bytes_after / hours if hours else None,
    )


def _in_words(row: TableUpkeep) -> str:
    text = (
        f"{row.table}: {row.files_before} files became {row.files_after}, "
        f"{row.bytes_before / 1e6:.1f} MB became {row.bytes_after / 1e6:.1f} MB"
    )
    if row.bytes_per_camera_hour is not None:
        text += f", {row.bytes_per_camera_hour / 1e3:.1f} kB per hour of footage"
    return text
