"""Collection: footage and telemetry come in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.footage.cameras import read_cameras
from fall_assets.footage.discovery import days_with_footage
from fall_assets.footage.intake import Known, Retry, inspect_day
from fall_assets.footage.probe import UnusableFileError
from fall_assets.footage.telemetry import read_telemetry
from fall_assets.lake.registry import table as describe_table
from fall_assets.pipeline.locks import alone_on_the_day, locked, segments_of
from fall_assets.pipeline.work import Work

RETRY_TAG = "fall_assets/retry"
"""A run with this tag looks again into quarantined files that have not changed."""

_OTHER_DAY_WAIT_S = 60.0
_INTAKE_WAIT_S = 600.0


@dataclass(frozen=True)
class Collected:
    """What one day brought: its rows of `videos`, `quarantine` and `sightings`."""

    videos: pl.DataFrame
    quarantine: pl.DataFrame
    sightings: pl.DataFrame


def refresh_cameras(work: Work) -> pl.DataFrame:
    """Write the configured cameras; cameras that were only seen stay as they are."""
    configured = read_cameras(work.site.landing)
    work.lake.upsert("cameras", configured, work.provenance())
    return work.lake.read("cameras")


def footage_days(work: Work) -> list[date]:
    """The days for which footage lies in the landing folder."""
    return days_with_footage(work.site.landing, work.site.settings.footage.sources)


@alone_on_the_day
def collect(work: Work, day: date, *, retry: Retry = False) -> Collected:
    """Take in the day's segments; what cannot be used is quarantined with a reason.

    Files that have not changed since the last time are not read again; with `retry`, quarantined
    ones are (all, or those of the given paths). A day whose rows stay as they are is not written.

    A run that is killed in between is completed by the next one: `sightings`, which say what need
    not be looked at again, are written last.
    """
    lake = work.lake
    known = Known(
        videos=lake.read("videos", days=[day]),
        sightings=lake.read("sightings", days=[day]),
        quarantine=lake.read("quarantine", days=[day]),
        videos_elsewhere=lambda ids: _elsewhere(work, "videos", day, ids),
        sightings_elsewhere=lambda ids: _elsewhere(work, "sightings", day, ids),
    )
    inspection = inspect_day(
        work.footage,
        work.site.settings.footage.sources,
        day,
        cameras=lake.read("cameras"),
        known=known,
        retry=retry,
        settle_s=work.site.settings.footage.settle_s,
        workers=work.site.settings.features.workers,
        progress=work.progress(f"{day}: segments probed"),
    )
    # Two days that meet the same new content at the same time must not both take it in.
    with locked(work, "contents", wait_s=_OTHER_DAY_WAIT_S):
        taken = inspection.decide()
        lake.append("cameras", taken.cameras, work.provenance(), skip_existing=True)
        _write(work, "videos", day, taken.videos, known.videos)
    _write_elsewhere(work, taken.elsewhere)
    _write(work, "quarantine", day, taken.quarantine, known.quarantine)
    _write(work, "sightings", day, taken.sightings, known.sightings)
    return Collected(taken.videos, taken.quarantine, taken.sightings)


@dataclass(frozen=True)
class Retried:
    """What became of a file that stood in quarantine.

    Attributes:
        path: the file.
        was: the reason that it was quarantined for.
        now: 'taken in', 'gone', or the reason that holds.
        detail: what was seen; '' where it is in quarantine no more.
    """

    path: str
    was: str
    now: str
    detail: str = ""


def waiting(work: Work, paths: Sequence[str] | None = None) -> pl.DataFrame:
    """Rows of `quarantine` that need a person, or those of `paths`; sorted by day and path.

    Raises NotInQuarantineError for a path that is not there.
    """
    where = pl.col("action") == "quarantined" if paths is None else pl.col("path").is_in(paths)
    rows = work.lake.read("quarantine", where=where).sort("day", "path")
    if missing := sorted(set(paths or ()) - set(rows["path"])):
        raise NotInQuarantineError(
            f"{', '.join(map(repr, missing))} is not in quarantine; "
            "fall-assets quarantine list shows what is"
        )
    return rows


def became(work: Work, rows: pl.DataFrame) -> list[Retried]:
    """What became of files, given their former rows of `quarantine`."""
    days = rows["day"].unique().to_list()
    still = {
        row["path"]: row for row in work.lake.read("quarantine", days=days).iter_rows(named=True)
    }
    live = set(work.lake.read("sightings", days=days, where=pl.col("gone_utc").is_null())["path"])
    found = []
    for path, was in rows.select("path", "reason").iter_rows():
        if path in still:
            found.append(Retried(path, was, still[path]["reason"], still[path]["detail"]))
        else:
            found.append(Retried(path, was, "taken in" if path in live else "gone"))
    return found


def retry_quarantine(work: Work, paths: Sequence[str] | None = None) -> list[Retried]:
    """Look again into files that wait in quarantine; say what became of each.

    Raises NotInQuarantineError for a path that is not in quarantine.
    """
    rows = waiting(work, paths)
    for day in rows["day"].unique().sort():
        collect(work, day, retry=rows.filter(pl.col("day") == day)["path"].to_list())
    return became(work, rows)


def set_aside(work: Work, sightings: pl.DataFrame, errors: Mapping[str, UnusableFileError]) -> None:
    """Quarantine files that were taken in and cannot be decoded; `errors` by path.

    `sightings` are their rows. Each row of `quarantine` stands until the file changes or is tried
    again; what was taken in stays. Waits while the intake of a day is at work.

    Raises BusyError where it does not end within ten minutes.
    """
    now = datetime.now(UTC)
    for (day,), files in sightings.filter(pl.col("path").is_in(list(errors))).group_by("day"):
        new = [
            {
                **{name: file[name] for name in ("day", "path", "bytes", "first_seen_utc")},
                "reason": errors[file["path"]].reason,
                "action": "quarantined",
                "detail": errors[file["path"]].detail,
                "advice": errors[file["path"]].advice,
                "tried_utc": now,
                "fingerprint": file["fingerprint"],
            }
            for file in files.iter_rows(named=True)
        ]
        rows = pl.DataFrame(new, schema=describe_table("quarantine").schema)
        with locked(work, segments_of(day), wait_s=_INTAKE_WAIT_S):
            before = work.lake.read("quarantine", days=[day])
            others = before.join(rows, on="path", how="anti")
            _write(work, "quarantine", day, pl.concat([others, rows]), before)


def set_aside_before(work: Work, sightings: pl.DataFrame) -> pl.DataFrame:
    """The files among `sightings` that stand in quarantine as they are: video_id, path, reason,
    detail.
    """
    rows = work.lake.read(
        "quarantine",
        days=sightings["day"].unique().to_list(),
        columns=["path", "fingerprint", "reason", "detail"],
        where=pl.col("action") == "quarantined",
    )
    found = sightings.join(rows, on=["path", "fingerprint"], how="inner")
    return found.select("video_id", "path", "reason", "detail")


class NotInQuarantineError(PermanentFailureError):
    """A path that is to be tried again does not stand in quarantine."""


def _elsewhere(work: Work, table: str, day: date, ids: Collection[str]) -> pl.DataFrame:
    where = (pl.col("day") != day) & pl.col("video_id").is_in(list(ids))
    return work.lake.read(table, where=where)


def _write(work: Work, table: str, day: date, rows: pl.DataFrame, before: pl.DataFrame) -> None:
    """Replace the day's rows where they changed, or where the table was never written."""
    if rows.is_empty() and before.is_empty() and work.lake.version(table) is not None:
        return
    if rows.is_empty() or not rows.sort("path").equals(before.sort("path")):
        work.lake.replace_partition(table, day, rows, work.provenance(day))


def _write_elsewhere(work: Work, changed: pl.DataFrame) -> None:
    """Put rows of `videos` in the place of those with their ids, on their own days."""
    for (day,), rows in changed.group_by("day"):
        with locked(work, segments_of(day), wait_s=_OTHER_DAY_WAIT_S):
            before = work.lake.read("videos", days=[day])
            kept = before.join(rows, on="video_id", how="anti")
            _write(work, "videos", day, pl.concat([kept, rows]), before)


def collect_health(work: Work, day: date) -> pl.DataFrame:
    """The day's telemetry: what boxes left beside the footage, and what they sent to the gateway.

    Of a camera and moment that both tell of, the gateway's row holds. What versions in shadow tell
    is left out: a camera is as the version sees it whose alerts the ward gets.
    """
    left, problems = read_telemetry(work.site.landing, day)
    for problem in problems:
        work.log(problem)
    live = pl.col("shadow").is_null() | ~pl.col("shadow")
    sent = work.lake.read("edge_reports", days=[day]).filter(live).select(left.columns)
    key = ["camera_id", "at_utc"]
    health = pl.concat([sent, left.join(sent, on=key, how="anti")]).sort(key)
    work.lake.replace_partition("camera_health", day, health, work.provenance(day))
    return health
