"""Intake of one day: what is found becomes segments, or stands in quarantine with a reason.

What belongs here: the decision about each file. What does not: finding (see `discovery.py`) and
probing (see `probe.py`) them, and writing tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from fall_assets.datasets import SITE
from fall_assets.footage.cameras import UNKNOWN, merge_cameras
from fall_assets.footage.discovery import Found, find
from fall_assets.footage.probe import Probe, Reason, UnusableFileError, probe
from fall_assets.footage.template import PathTemplate
from fall_assets.lake.registry import table

_SKIPPED: tuple[Reason, ...] = ("duplicate", "still_being_written")


@dataclass(frozen=True)
class Intake:
    """One day's rows of the tables `videos` and `quarantine`, and the cameras known after it."""

    videos: pl.DataFrame
    quarantine: pl.DataFrame
    cameras: pl.DataFrame


def take_in(
    landing: Path,
    template: PathTemplate,
    day: date,
    *,
    known: Mapping[str, str],
    cameras: pl.DataFrame,
    previous_quarantine: pl.DataFrame | None = None,
    settle_s: float = 10.0,
    workers: int = 2,
    now: datetime | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Intake:
    """Take in the day's files.

    A file that cannot be used never stops the others. Of files with the same content, the first
    path in sorted order is taken in and the others are duplicates of it, as are files whose
    content another day has. Taking in the same files again gives the same rows.

    Args:
        landing: the folder in which footage lies; nothing outside of it is opened.
        template: the site's layout.
        day: the day of the segments' starts, UTC.
        known: video_id to path, of all other days.
        cameras: rows of the table `cameras`; cameras of one known room share their scenes.
        previous_quarantine: the day's rows of the last intake, for when a file was first seen.
        settle_s: a file that looks unfinished and changed within this time is still being written.
        workers: files that are probed at the same time (FFmpeg and hashing leave Python's lock).
        now: the time of intake; the clock's where None.
        progress: called with files done and files in all.
    """
    moment = datetime.now(UTC) if now is None else now.astimezone(UTC)
    files = find(landing, template, day)
    look = partial(_look, landing.resolve(), settle_s=settle_s, now_s=moment.timestamp())
    results: list[_Result] = []
    with ThreadPoolExecutor(max_workers=max(workers, 1)) as pool:
        for result in pool.map(look, files):
            results.append(result)
            if progress is not None:
                progress(len(results), len(files))
    everyone = merge_cameras(cameras, files)
    rooms = {row["camera_id"]: (row["ward"], row["room"]) for row in everyone.iter_rows(named=True)}
    first_seen = (
        {}
        if previous_quarantine is None
        else dict(previous_quarantine.select("path", "first_seen_utc").iter_rows())
    )
    videos: dict[str, dict[str, Any]] = {}
    quarantine: list[dict[str, Any]] = []
    for result in results:
        error = result.error
        if result.probe is not None:
            same = known.get(result.probe.video_id)
            if same is None and result.probe.video_id in videos:
                same = videos[result.probe.video_id]["path"]
            if same is None:
                row = _video_row(day, result.file, result.probe, rooms[result.file.camera_id])
                videos[result.probe.video_id] = row
            else:
                error = UnusableFileError("duplicate", f"same content as {same}")
        if error is not None:
            quarantine.append(
                {
                    "day": day,
                    "path": result.file.path,
                    "reason": error.reason,
                    "action": "skipped" if error.reason in _SKIPPED else "quarantined",
                    "detail": error.detail,
                    "advice": error.advice,
                    "bytes": result.bytes,
                    "first_seen_utc": first_seen.get(result.file.path, moment),
                }
            )
    return Intake(
        videos=pl.DataFrame(list(videos.values()), schema=table("videos").schema),
        quarantine=pl.DataFrame(quarantine, schema=table("quarantine").schema),
        cameras=everyone,
    )


def confined(root: Path, path: str) -> Path:
    """The file `path` below `root`, with links followed.

    Args:
        root: a folder without links in its own path (`Path.resolve`).
        path: below `root`.

    Raises:
        UnusableFileError: outside_root, where a link or '..' leads out; unreadable, where a link
            leads nowhere.
        FileNotFoundError: there is no such file.
    """
    named = root / path
    try:
        target = named.resolve()
    except (OSError, RuntimeError) as error:
        raise UnusableFileError("unreadable", "its links lead in a circle") from error
    if not target.is_relative_to(root):
        raise UnusableFileError("outside_root", "it leads out of the landing folder")
    if named.is_symlink() and not target.exists():
        raise UnusableFileError("unreadable", "it is a link to a file that is not there")
    return target


@dataclass(frozen=True)
class _Result:
    """A file and what came of probing it; neither probe nor error where it is gone."""

    file: Found
    bytes: int = 0
    probe: Probe | None = None
    error: UnusableFileError | None = None


def _look(root: Path, file: Found, *, settle_s: float, now_s: float) -> _Result:
    size = 0
    try:
        path = confined(root, file.path)
        size = path.stat().st_size if path.is_file() else 0
        return _Result(file, size, probe=probe(path, settle_s=settle_s, now_s=now_s))
    except UnusableFileError as error:
        return _Result(file, size, error=error)
    except FileNotFoundError:
        # Recorders delete old files; one that went since the listing is not there.
        return _Result(file)


def _video_row(day: date, file: Found, found: Probe, place: tuple[str, str]) -> dict[str, Any]:
    scene = file.scene
    if file.dataset == SITE and place[1] != UNKNOWN:
        # Cameras of one room see the same people; so do one day's segments of the room.
        scene = f"{SITE}/{place[0]}/{place[1]}/{day}"
    return {
        "day": day,
        "camera_id": file.camera_id,
        "dataset": file.dataset,
        "path": file.path,
        "start_utc": file.start_utc,
        "subject": file.subject,
        "scene": scene,
        **asdict(found),
    }
