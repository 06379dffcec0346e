"""Features: one decoding pass per segment, committed in batches so that a stopped run goes on.

What belongs here: what is missing of a day, handing it out, keeping what comes of it. What does
not: decoding (`features/`) and what quarantine means to intake (`collection.py`).

A segment counts as done for a feature set by its rows of `features`, which are committed last. Rows
of other tables without them are of a run that was killed in between; they go before the day is
worked on. Rows of segments whose files were deleted stay: they hold skeletons, not pixels.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Self

import polars as pl

from fall_assets.errors import PassingFailureError, PermanentFailureError
from fall_assets.features.crop import Crop
from fall_assets.features.pool import WORKER, extract_all
from fall_assets.features.segments import (
    TABLES,
    PassFigures,
    SegmentFeatures,
    SegmentResult,
    VideoRef,
)
from fall_assets.features.settings import FeatureSettings
from fall_assets.footage.buckets import is_address
from fall_assets.footage.probe import Reason, UnusableFileError
from fall_assets.footage.store import Footage
from fall_assets.lake.registry import table
from fall_assets.pipeline.collection import set_aside, set_aside_before
from fall_assets.pipeline.files import files_of, sightings_of
from fall_assets.pipeline.locks import locked
from fall_assets.pipeline.work import Work

BATCH = 64
"""Segments per commit. A killed run loses the batch that is gathered and the one being written."""
BATCH_S = 60.0
"""A batch is committed after so much work of a process, too: long segments are dear to lose."""
BATCH_BYTES = 64 << 20
"""And at this size, so that memory does not grow with the length of segments."""
FETCHED = 16
"""So many files of buckets are fetched ahead of the workers."""

MANY_CRASHES = 8
"""Where so many segments crashed and none went well, the machine is at fault and not the files."""

_LOCK_WAIT_S = 600.0
_NEEDED = ("day", "video_id", "camera_id", "path", "start_utc", "duration_s", "deleted_utc")
_REASONS: Mapping[str, Reason] = {
    "unreadable": "unreadable",
    "crashed": "crashed_the_decoder",
    "took_too_long": "took_too_long",
}
"""What the pool says of a file that cannot be decoded, in the words of `quarantine`."""


@dataclass
class DayFigures:
    """What one day's pass took. Of the segments that gave features, unless told otherwise.

    Attributes:
        segments: how many there were.
        footage_s: their length in seconds.
        workers: processes that worked on them.
        wall_s: seconds from the first segment that was handed out to the last commit.
        first_result_s: of these, until the first segment was done: start-up, for the most part.
        passes: sums over the segments; `peak_bytes` is the largest of all processes.
    """

    segments: int = 0
    footage_s: float = 0.0
    workers: int = 0
    wall_s: float = 0.0
    first_result_s: float = 0.0
    passes: PassFigures = field(default_factory=PassFigures)

    @property
    def decoded_share(self) -> float | None:
        """Decoded frames over all frames; None without frames."""
        return self.passes.decoded / self.passes.frames if self.passes.frames else None

    @property
    def segments_per_s(self) -> float:
        """Segments per second of wall time."""
        return self.segments / self.wall_s if self.wall_s else 0.0

    @property
    def hours_per_hour(self) -> float:
        """Hours of footage per hour of wall time."""
        return self.footage_s / self.wall_s if self.wall_s else 0.0

    @property
    def limit_share(self) -> float:
        """What part of the workers' time went into bare decoding and extracting, 0 to 1."""
        available_s = self.workers * self.wall_s
        return self.passes.bare_s / available_s if available_s else 0.0

    def seconds_by_step(self) -> dict[str, float]:
        """Where the processes' time went, in seconds; 'waiting' is start-up and idle time."""
        took = self.passes
        known_s = took.gate_s + took.bare_s
        return {
            "gate": took.gate_s,
            "decoding": took.decode_s,
            "scaling": took.picture_s,
            "extracting": took.extract_s,
            "other": max(took.wall_s - known_s, 0.0),
            "waiting": max(self.workers * self.wall_s - took.wall_s, 0.0),
        }

    def add(self, segment: SegmentFeatures, footage_s: float) -> None:
        """Count a segment of that length in seconds."""
        self.segments += 1
        self.footage_s += footage_s
        self.passes = _sum(self.passes, segment.figures)


def total_of(days: Iterable[DayFigures]) -> DayFigures:
    """The figures of several days, one after the other, as of one; with the longest start-up."""
    total = DayFigures()
    for day in days:
        total.segments += day.segments
        total.footage_s += day.footage_s
        total.workers = max(total.workers, day.workers)
        total.wall_s += day.wall_s
        total.first_result_s = max(total.first_result_s, day.first_result_s)
        total.passes = _sum(total.passes, day.passes)
    return total


def _sum(one: PassFigures, other: PassFigures) -> PassFigures:
    summed = {
        each.name: getattr(one, each.name) + getattr(other, each.name)
        for each in fields(PassFigures)
    }
    return PassFigures(**{**summed, "peak_bytes": max(one.peak_bytes, other.peak_bytes)})


@dataclass(frozen=True)
class FeatureDay:
    """What one day's pass did; counts and small figures only.

    Attributes:
        feature_sets: versions of the sets that were asked for.
        segments: segments of the day.
        reused: segments of which no set was missing.
        failed: segment paths and the reasons why they gave no features, in this pass or before.
        quarantined: of these paths, those that this pass put into quarantine.
        gone: segments of which a set is missing and whose file is not there any more.
        rows: rows of the day by table, after the pass.
        figures: of this pass.
    """

    feature_sets: tuple[str, ...]
    segments: int
    reused: int
    failed: Mapping[str, str]
    quarantined: tuple[str, ...]
    gone: int
    rows: Mapping[str, int]
    figures: DayFigures


def extract_day(work: Work, day: date, *, worker: Sequence[str] = WORKER) -> FeatureDay:
    """Extract what is missing of the day's features; what is there is never decoded again.

    Each segment is decoded once for all sets that it lacks. One whose file is gone is passed over
    and counted. One that cannot be decoded, crashes the decoder twice or takes too long is
    quarantined, and passed over from then on until its file changes or is tried again. `worker` is
    the program that extracts.

    Raises:
        PermanentFailureError: no segment of the day has features though files are there.
        PassingFailureError: a bucket is away, another run works on the day, or every process
            crashed.
    """
    with locked(work, f"features-{day.isoformat()}", wait_s=_LOCK_WAIT_S):
        return _extract(work, day, worker)


def _extract(work: Work, day: date, worker: Sequence[str]) -> FeatureDay:
    sets = {one.version: one for one in work.site.settings.features.sets}
    videos = work.lake.read("videos", days=[day], columns=_NEEDED)
    videos = videos.sort("camera_id", "start_utc", "video_id")
    done = _done(work, day)
    _remove_stale(work, day, videos, done)
    missing = _missing(videos, sets, done)
    there = videos.filter(pl.col("video_id").is_in(list(missing)), pl.col("deleted_utc").is_null())
    seen = _sightings(work, day, there)
    before = set_aside_before(work, seen)
    todo = there.filter(~pl.col("video_id").is_in(before["video_id"].to_list()))
    day_pass = _Pass(work, day, todo, seen)
    day_pass.failed |= {
        path: f"in quarantine as {reason}: {detail}; fall-assets quarantine retry tries again"
        for path, reason, detail in before.select("path", "reason", "detail").iter_rows()
    }
    day_pass.gone = len(missing) - there.height
    day_pass.run(_by_sets(todo["video_id"], missing), worker)
    rows = {name: _count(work, name, day) for name in TABLES}
    if day_pass.failed and not rows["features"]:
        path, reason = next(iter(day_pass.failed.items()))
        raise PermanentFailureError(
            f"none of the {len(videos)} segments of {day} gave features; {path}: {reason}"
        )
    return FeatureDay(
        feature_sets=tuple(sets),
        segments=videos.height,
        reused=videos.height - len(missing),
        failed=day_pass.failed,
        quarantined=tuple(day_pass.quarantined),
        gone=day_pass.gone,
        rows=rows,
        figures=day_pass.figures,
    )


# What is there -----------------------------------------------------------------------------------


def _done(work: Work, day: date) -> pl.DataFrame:
    """video_id and feature_set of what is done."""
    return _keys(work, "features", day, ["video_id", "feature_set"])


def _keys(work: Work, name: str, day: date, columns: Sequence[str]) -> pl.DataFrame:
    rows = work.lake.scan(name, days=[day]).select(columns)
    return rows.unique().collect(engine="streaming")


def _count(work: Work, name: str, day: date) -> int:
    return int(work.lake.scan(name, days=[day]).select(pl.len()).collect().item())


def _missing(
    videos: pl.DataFrame, sets: Mapping[str, FeatureSettings], done: pl.DataFrame
) -> dict[str, tuple[FeatureSettings, ...]]:
    """video_id to the sets that it lacks, where it lacks any."""
    known = set(done.iter_rows())
    lacking = {
        video_id: tuple(
            settings for version, settings in sets.items() if (video_id, version) not in known
        )
        for video_id in videos["video_id"]
    }
    return {video_id: lacks for video_id, lacks in lacking.items() if lacks}


def _by_sets(
    ids: pl.Series, missing: Mapping[str, tuple[FeatureSettings, ...]]
) -> dict[tuple[FeatureSettings, ...], list[str]]:
    """Segments that lack the same sets."""
    found: dict[tuple[FeatureSettings, ...], list[str]] = {}
    for video_id in ids:
        found.setdefault(missing[video_id], []).append(video_id)
    return found


def _remove_stale(work: Work, day: date, videos: pl.DataFrame, done: pl.DataFrame) -> None:
    """Remove rows of segments that are no more, and what a killed run left without features."""
    for name in TABLES:
        columns = [key for key in ("video_id", "feature_set") if key in table(name).schema]
        keys = _keys(work, name, day, columns)
        kept = keys.join(videos, on="video_id", how="semi").join(done, on=columns, how="semi")
        if kept.height < keys.height:
            rows = work.lake.read(name, days=[day]).join(kept, on=columns, how="semi")
            work.lake.replace_partition(name, day, rows, work.provenance(day))


def _sightings(work: Work, day: date, videos: pl.DataFrame) -> pl.DataFrame:
    """Names under which files of these segments are there: the day's, or else other days'."""
    ids = videos["video_id"]
    standing = pl.col("gone_utc").is_null() & pl.col("video_id").is_in(ids.to_list())
    seen = work.lake.read("sightings", days=[day], where=standing)
    elsewhere = sorted(set(ids) - set(seen["video_id"]))
    return pl.concat([seen, sightings_of(work, elsewhere)]) if elsewhere else seen


# One pass ----------------------------------------------------------------------------------------


class _Pass:
    """What became of the segments of one day so far; `todo` are their rows of `videos`."""

    def __init__(self, work: Work, day: date, todo: pl.DataFrame, seen: pl.DataFrame) -> None:
        self.failed: dict[str, str] = {}
        self.quarantined: list[str] = []
        self.gone = 0
        self.figures = DayFigures(workers=work.site.settings.features.workers)
        self._work, self._day, self._seen = work, day, seen
        self._files = files_of(work, todo)
        self._cameras: dict[str, str] = dict(todo.select("video_id", "camera_id").iter_rows())
        self._lengths_s: dict[str, float] = dict(todo.select("video_id", "duration_s").iter_rows())
        self._crops: dict[str, str | None] = dict(
            work.lake.read("cameras", columns=["camera_id", "crop"]).iter_rows()
        )
        self._finished, self._finished_s = 0, 0.0
        self._total_s = float(todo["duration_s"].sum())
        self._crashes = 0
        self._errors: dict[str, UnusableFileError] = {}
        self._began = self._set_aside = time.monotonic()
        self._progress = work.progress(f"{day}: segments decoded")

    def run(
        self, groups: Mapping[tuple[FeatureSettings, ...], Sequence[str]], worker: Sequence[str]
    ) -> None:
        """Extract from the segments of each group for its feature sets; commit in batches."""
        self._began = self._set_aside = time.monotonic()
        try:
            with _Batches(self._work, self._day) as batches:
                for sets, ids in groups.items():
                    for result in extract_all(
                        self._refs(ids), sets, workers=self.figures.workers, worker=worker
                    ):
                        if result.frames is not None:
                            batches.add(result.frames)
                        self._take(result)
            self._quarantine()
        finally:
            self.figures.wall_s = time.monotonic() - self._began
            self._progress.close()

    def _refs(self, ids: Sequence[str]) -> Iterator[VideoRef]:
        """The segments whose files are there, each when a process is free for it."""
        footage = self._work.footage
        for video_id in self._fetched(footage, ids):
            camera_id = self._cameras[video_id]
            crop = self._crops.get(camera_id)
            try:
                file = footage.stage(self._files[video_id])
            except (KeyError, FileNotFoundError):
                self.gone += 1
            except (UnusableFileError, OSError) as error:
                self.failed[self._files[video_id]] = str(error)
            else:
                if (problem := _problem_with(crop)) is None:
                    yield VideoRef(file, video_id, camera_id, self._day, crop)
                    continue
                self.failed[self._files[video_id]] = problem
            self._count(video_id)

    def _fetched(self, footage: Footage, ids: Sequence[str]) -> Iterator[str]:
        """The same, local files first; files of buckets are fetched a few ahead."""
        near: list[str] = []
        far: list[str] = []
        for video_id in ids:
            (far if is_address(self._files.get(video_id, "")) else near).append(video_id)
        yield from near
        if not far:
            return
        coming: deque[tuple[str, Future[Path]]] = deque()
        with ThreadPoolExecutor(1) as fetching:
            try:
                for video_id in far:
                    coming.append((video_id, fetching.submit(footage.stage, self._files[video_id])))
                    if len(coming) > FETCHED:
                        yield _once_there(coming.popleft())
                while coming:
                    yield _once_there(coming.popleft())
            finally:
                fetching.shutdown(wait=False, cancel_futures=True)

    def _take(self, result: SegmentResult) -> None:
        video_id = result.video.video_id
        path = self._files[video_id]
        if not self.figures.first_result_s:
            self.figures.first_result_s = time.monotonic() - self._began
        if result.frames is not None:
            self.figures.add(result.frames, self._lengths_s[video_id])
        elif not result.video.path.exists():
            # What was deleted in the meantime is gone, not broken.
            self.gone += 1
        else:
            self.failed[path] = error = result.error or "unknown"
            self._crashes += result.why == "crashed"
            if reason := _REASONS.get(result.why or ""):
                self._errors[path] = UnusableFileError(reason, error)
        self._count(video_id)
        # Not before something went well: else the machine may be at fault.
        if self.figures.segments and time.monotonic() - self._set_aside > BATCH_S:
            self._quarantine()

    def _count(self, video_id: str) -> None:
        """One more is finished, however."""
        figures = self.figures
        self._finished += 1
        self._finished_s += self._lengths_s[video_id]
        figures.wall_s = time.monotonic() - self._began
        self._progress(
            self._finished,
            len(self._cameras),
            share=self._finished_s / self._total_s if self._total_s else None,
            note=f"{figures.hours_per_hour:.1f} h of footage an hour, "
            f"{figures.limit_share:.0%} of the limit",
        )

    def _quarantine(self) -> None:
        """Put what could not be decoded into quarantine."""
        if not self.figures.segments and self._crashes >= MANY_CRASHES:
            raise PassingFailureError(
                f"all {self._crashes} segments of {self._day} that were tried crashed their "
                f"process and none did not; look at the machine (memory, installation) before the "
                f"files. The last said: {list(self.failed.values())[-1]}"
            )
        self._set_aside = time.monotonic()
        if self._errors:
            seen = self._seen.filter(pl.col("path").is_in(list(self._errors)))
            set_aside(self._work, seen, self._errors)
            self.quarantined += seen["path"].to_list()
            self._errors = {}


def _problem_with(crop: str | None) -> str | None:
    """What is wrong with a camera's crop: its segments would all fail, and not by their files."""
    try:
        Crop.parse(crop)
    except PermanentFailureError as error:
        return str(error)
    return None


def _once_there(coming: tuple[str, Future[Path]]) -> str:
    video_id, copy = coming
    # Why one cannot be had is said where it is wanted.
    wait([copy])
    return video_id


class _Batches:
    """Rows of segments, committed in the background so that no process waits for it."""

    def __init__(self, work: Work, day: date) -> None:
        self._work, self._day = work, day
        self._least_s = BATCH_S * work.site.settings.features.workers
        self._frames: list[SegmentFeatures] = []
        self._writer = ThreadPoolExecutor(1)
        self._written: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Commit the rest, after a failure as well: what was computed is kept."""
        with self._writer:
            self._hand_over()
            self._wait()

    def add(self, segment: SegmentFeatures) -> None:
        """Take a segment's rows; commit where a batch is full."""
        self._frames.append(segment)
        if (
            len(self._frames) >= BATCH
            or sum(one.figures.wall_s for one in self._frames) >= self._least_s
            or sum(_size(one) for one in self._frames) >= BATCH_BYTES
        ):
            self._hand_over()

    def _hand_over(self) -> None:
        self._wait()
        frames, self._frames = self._frames, []
        if frames:
            self._written = self._writer.submit(self._write, frames)

    def _wait(self) -> None:
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def _write(self, segments: Sequence[SegmentFeatures]) -> None:
        for name in TABLES:
            rows = pl.concat([table(name).empty(), *(one.tables[name] for one in segments)])
            if rows.height:
                self._work.lake.extend_partition(
                    name, self._day, rows, self._work.provenance(self._day)
                )


def _size(segment: SegmentFeatures) -> int:
    return sum(int(rows.estimated_size()) for rows in segment.tables.values())
