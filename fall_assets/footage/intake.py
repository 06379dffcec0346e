"""Intake of one day: what is found becomes segments, or stands in quarantine with a reason.

What belongs here: the decision about each file and each content. What does not: finding files
(`discovery.py`), getting at them (`store.py`), looking into them (`sandbox.py`), writing tables.

A content is one video, known by its hash, under however many names: the names are its sightings.
It keeps the day, start and camera of its first sighting for ever, so that a clock that changes
moves nothing. Rows of `videos` and `sightings` stay when files go, marked with the time.

A file that was taken in and that a later stage could not decode stands in quarantine beside its
sighting, until it changes or is tried again; its content is not gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from fall_assets.datasets import SITE
from fall_assets.errors import PassingFailureError
from fall_assets.footage.buckets import is_address
from fall_assets.footage.cameras import UNKNOWN, merge_cameras
from fall_assets.footage.discovery import find
from fall_assets.footage.probe import Probe, UnusableFileError
from fall_assets.footage.sandbox import DEFAULT_LIMITS, WORKER, Limits, probe_all
from fall_assets.footage.sources import SourceSettings
from fall_assets.footage.store import FileState, Footage
from fall_assets.footage.watching import Found
from fall_assets.lake.registry import table

Row = dict[str, Any]
Retry = bool | Collection[str]
ByIds = Callable[[Collection[str]], pl.DataFrame]

_STILL_WRITTEN = "still_being_written"


class LandingAwayError(PassingFailureError):
    """The landing folder is not there, and it was."""


def _no_videos(_ids: Collection[str]) -> pl.DataFrame:
    return table("videos").empty()


def _no_sightings(_ids: Collection[str]) -> pl.DataFrame:
    return table("sightings").empty()


@dataclass(frozen=True)
class Known:
    """What the lake held before.

    Attributes:
        videos, sightings, quarantine: the day's rows.
        videos_elsewhere: rows of `videos` of other days with one of some ids.
        sightings_elsewhere: rows of `sightings` of other days with one of some ids.
    """

    videos: pl.DataFrame = field(default_factory=table("videos").empty)
    sightings: pl.DataFrame = field(default_factory=table("sightings").empty)
    quarantine: pl.DataFrame = field(default_factory=table("quarantine").empty)
    videos_elsewhere: ByIds = _no_videos
    sightings_elsewhere: ByIds = _no_sightings


@dataclass(frozen=True)
class Intake:
    """What one day's intake comes to.

    Attributes:
        videos, sightings, quarantine: the day's rows.
        cameras: all cameras known after it.
        elsewhere: rows of `videos` of other days that change, because the last name of a content
            went or one came back.
        new: ids of contents that were not known before.
        read: how many files were read and taken in; the others had not changed.
    """

    videos: pl.DataFrame
    sightings: pl.DataFrame
    quarantine: pl.DataFrame
    cameras: pl.DataFrame
    elsewhere: pl.DataFrame
    new: frozenset[str] = frozenset()
    read: int = 0


def inspect_day(
    footage: Footage,
    sources: Sequence[SourceSettings],
    day: date,
    *,
    cameras: pl.DataFrame,
    known: Known | None = None,
    retry: Retry = False,
    settle_s: float = 10.0,
    workers: int = 2,
    now: datetime | None = None,
    progress: Callable[[int, int], None] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    worker: Sequence[str] = WORKER,
) -> Inspection:
    """Look at the day's files.

    A file that cannot be used never stops the others. A file whose fingerprint is that of the last
    intake is not read again, whether it was taken in or quarantined. Taking in the same files
    again gives the same rows.

    Args:
        footage: the landing folder and the buckets; nothing else is opened.
        sources: the site's layouts.
        day: the day that the names tell, UTC.
        cameras: rows of the table `cameras`; cameras of one known room share their scenes.
        known: what the lake held before; nothing where None.
        retry: look again into quarantined files that have not changed: all, or these paths.
        settle_s: a file that looks unfinished and changed within this time is still being written.
        workers: processes that look into files at the same time.
        now: the time of intake; the clock's where None.
        progress: called with files read and files to read.
        limits, worker: as for `sandbox.probe_all`.

    Raises:
        LandingAwayError: the landing folder is not there though files of it were known.
        BucketAwayError, BucketError: a bucket of the sources cannot be used.
    """
    known = known or Known()
    moment = datetime.now(UTC) if now is None else now.astimezone(UTC)
    if not footage.landing.is_dir() and _has_live_files(known.sightings):
        raise LandingAwayError(
            f"the landing folder {footage.landing} is not there; mount it and try again"
        )
    files = {file.path: file for file in find(footage.landing, sources, day)}
    inspection = Inspection(day, moment, known, footage, files, cameras)
    unread = inspection.sort(retry)
    for done, looked in enumerate(
        probe_all(
            _staged(footage, unread, inspection.refuse),
            settle_s=settle_s,
            now_s=moment.timestamp(),
            workers=workers,
            limits=limits,
            worker=worker,
        ),
        start=1,
    ):
        if looked.probe is not None:
            inspection.accept(looked.key, looked.probe)
        elif looked.error is not None:
            inspection.refuse(looked.key, looked.error)
        if progress is not None:
            progress(done, len(unread))
    return inspection


def _staged(
    footage: Footage,
    paths: Iterable[str],
    refuse: Callable[[str, UnusableFileError], None],
) -> Iterator[tuple[str, Path]]:
    """Local files, each when it is asked for; those that went meanwhile are left out."""
    for path in paths:
        try:
            yield path, footage.stage(path)
        except UnusableFileError as error:
            refuse(path, _outside(error))
        except FileNotFoundError:
            continue


def _outside(error: UnusableFileError) -> UnusableFileError:
    """The same error, of the place and not of the content."""
    return UnusableFileError(error.reason, error.detail, error.advice, is_inside=False)


class Inspection:
    """What was seen of one day's files, and the decision about each content."""

    def __init__(
        self,
        day: date,
        moment: datetime,
        known: Known,
        footage: Footage,
        files: Mapping[str, Found],
        cameras: pl.DataFrame,
    ) -> None:
        self._day, self._moment, self._known = day, moment, known
        self._footage, self._files = footage, files
        self._cameras = merge_cameras(cameras, files.values())
        self._seen = {row["path"]: row for row in known.sightings.iter_rows(named=True)}
        self._refused = {row["path"]: row for row in known.quarantine.iter_rows(named=True)}
        self._states: dict[str, FileState] = {}
        self._probes: dict[str, Probe] = {}
        self._sightings: dict[str, Row] = {}
        self._quarantine: dict[str, Row] = {}
        self._retry: Retry = False

    def sort(self, retry: Retry) -> list[str]:
        """Decide what needs no look; return the paths that do, sorted."""
        self._retry = retry
        unread = []
        for path, file in sorted(self._files.items()):
            if file.unusable_name:
                self.refuse(
                    path,
                    UnusableFileError("unusable_name", "it is not valid UTF-8", is_inside=False),
                )
                continue
            state = file.state or self._footage.state(path)
            if state is not None:
                self._states[path] = state
            seen, refused = self._seen.get(path), self._refused.get(path)
            is_retried = refused is not None and self._is_retried(path)
            is_known = bool(state and seen and _is_taken_in(seen, state))
            is_refused = bool(state and refused and _is_settled(refused, state))
            if is_retried or not (is_known or is_refused):
                unread.append(path)
                continue
            if seen and is_known:
                self._sightings[path] = self._sighting(file, seen["video_id"], seen)
            if refused and is_refused:
                # With a sighting as well: it was taken in, and a later stage could not decode it.
                self._quarantine[path] = refused
        return unread

    def _is_retried(self, path: str) -> bool:
        return self._retry if isinstance(self._retry, bool) else path in self._retry

    def accept(self, path: str, probe: Probe) -> None:
        """The file is a usable segment."""
        self._probes[path] = probe
        before = self._seen.get(path)
        same = before if before and before["video_id"] == probe.video_id else None
        self._sightings[path] = self._sighting(self._files[path], probe.video_id, same)

    def refuse(self, path: str, error: UnusableFileError) -> None:
        """The file is not taken in."""
        state = self._states.get(path)
        before = self._refused.get(path)
        row = {
            "day": self._day,
            "path": path,
            "reason": error.reason,
            "action": "skipped" if error.reason == _STILL_WRITTEN else "quarantined",
            "detail": error.detail,
            "advice": error.advice,
            "bytes": state.bytes if state else 0,
            "first_seen_utc": before["first_seen_utc"] if before else self._moment,
            "tried_utc": self._moment,
            # Rights and places change without it.
            "fingerprint": state.fingerprint if state and error.is_inside else None,
        }
        if (
            before
            and not self._is_retried(path)
            and {**row, "tried_utc": before["tried_utc"]} == before
        ):
            row = before
        self._quarantine[path] = row

    def decide(self) -> Intake:
        """All rows. Only here contents of other days are looked up, and only where one changed."""
        self._mark_gone()
        rooms = {row["camera_id"]: (row["ward"], row["room"]) for row in self._cameras.to_dicts()}
        videos = {row["video_id"]: row for row in self._known.videos.iter_rows(named=True)}
        fresh = {probe.video_id for probe in self._probes.values()} - set(videos)
        elsewhere = {
            row["video_id"]: row
            for row in (self._known.videos_elsewhere(fresh) if fresh else _no_videos(())).to_dicts()
        }
        new = set[str]()
        for path, probe in sorted(self._probes.items()):
            if probe.video_id not in videos and probe.video_id not in elsewhere:
                videos[probe.video_id] = self._video(self._files[path], probe)
                new.add(probe.video_id)
        changed = self._update_liveness(videos, elsewhere, new)
        for row in videos.values():
            row["scene"] = self._scene(row, rooms)
        return Intake(
            videos=_frame("videos", videos.values()),
            sightings=_frame("sightings", self._sightings.values()),
            quarantine=_frame("quarantine", self._quarantine.values()),
            cameras=self._cameras,
            elsewhere=_frame("videos", changed),
            new=frozenset(new),
            read=len(self._probes),
        )

    def _sighting(self, file: Found, video_id: str, before: Row | None) -> Row:
        state = self._states.get(file.path)
        return {
            "day": self._day,
            "path": file.path,
            "source": file.source,
            "camera_id": file.camera_id,
            "start_utc": file.start_utc,
            "video_id": video_id,
            "bytes": state.bytes if state else self._probes[file.path].bytes,
            # Without a state it came between two looks, and is read again the next time.
            "fingerprint": state.fingerprint if state else "",
            "first_seen_utc": before["first_seen_utc"] if before else self._moment,
            "gone_utc": None,
        }

    def _mark_gone(self) -> None:
        """Keep the names that are not taken in any more, with the time at which they went."""
        for path, before in self._seen.items():
            if path in self._sightings:
                continue
            is_elsewhere = path not in self._files and self._footage.state(path) is not None
            # A file that no layout names any more, since the settings changed, is not gone.
            gone = before["gone_utc"] or (None if is_elsewhere else self._moment)
            self._sightings[path] = {**before, "gone_utc": gone}

    def _update_liveness(
        self, videos: dict[str, Row], elsewhere: dict[str, Row], new: Collection[str]
    ) -> list[Row]:
        """Mark contents whose last name went or that came back; return rows of other days."""
        before = _names(self._seen.values())
        after = _names(self._sightings.values())
        ids = {
            video_id
            for video_id in before.keys() | after.keys()
            if video_id not in new and before.get(video_id) != after.get(video_id)
        }
        # A run that was killed in between may have left a row that its names do not bear out.
        ids |= {
            video_id
            for video_id, row in videos.items()
            if video_id not in new and (row["deleted_utc"] is None) != (video_id in after)
        }
        for video_id in new:
            videos[video_id]["path"] = after[video_id][0]
        if not ids:
            return []
        unread = ids - videos.keys() - elsewhere.keys()
        if unread:
            rows = self._known.videos_elsewhere(unread).to_dicts()
            elsewhere = {**elsewhere, **{row["video_id"]: row for row in rows}}
        others = _names(self._known.sightings_elsewhere(ids).to_dicts())
        changed = []
        for video_id in sorted(ids):
            row = videos.get(video_id) or elsewhere.get(video_id)
            if row is None:
                continue
            names = sorted([*after.get(video_id, ()), *others.get(video_id, ())])
            alive = {
                "deleted_utc": None if names else row["deleted_utc"] or self._moment,
                "path": row["path"] if row["path"] in names or not names else names[0],
            }
            if video_id in videos:
                videos[video_id] = {**row, **alive}
            elif any(row[name] != value for name, value in alive.items()):
                changed.append({**row, **alive})
        return changed

    def _video(self, file: Found, probe: Probe) -> Row:
        return {
            "day": self._day,
            "camera_id": file.camera_id,
            "dataset": file.dataset,
            "path": file.path,
            "start_utc": file.start_utc,
            "subject": file.subject,
            "scene": file.scene,
            "deleted_utc": None,
            **asdict(probe),
        }

    def _scene(self, row: Row, rooms: Mapping[str, tuple[str, str]]) -> str:
        if row["dataset"] != SITE:
            return str(row["scene"])
        ward, room = rooms.get(row["camera_id"], (UNKNOWN, UNKNOWN))
        # Cameras of one room see the same people; so do one day's segments of the room.
        place = row["camera_id"] if room == UNKNOWN else f"{ward}/{room}"
        return f"{SITE}/{place}/{self._day}"


def _is_taken_in(seen: Row, state: FileState) -> bool:
    return seen["gone_utc"] is None and bool(seen["fingerprint"] == state.fingerprint)


def _is_settled(refused: Row, state: FileState) -> bool:
    return refused["reason"] != _STILL_WRITTEN and bool(refused["fingerprint"] == state.fingerprint)


def _has_live_files(sightings: pl.DataFrame) -> bool:
    return any(
        gone is None and not is_address(path)
        for path, gone in sightings.select("path", "gone_utc").iter_rows()
    )


def _names(sightings: Iterable[Row]) -> dict[str, list[str]]:
    """The names, sorted, under which each content lies."""
    names: dict[str, list[str]] = {}
    for row in sightings:
        if row["gone_utc"] is None:
            names.setdefault(row["video_id"], []).append(row["path"])
    return {video_id: sorted(paths) for video_id, paths in names.items()}


def _frame(name: str, rows: Iterable[Row]) -> pl.DataFrame:
    described = table(name)
    frame = pl.DataFrame(list(rows), schema=described.schema)
    return frame.sort("path")
