"""Label files become labels: every interval is checked before it is believed.

What belongs here: the rules for what can be a label. What does not: the files' formats (see
`statements.py`), their words (see `taxonomy.py`), where annotators differ from each other (see
`resolution.py`) and cutting clips (see `clips.py`).

An interval is left out, and reported by file and line, where it

- is not made of numbers, or starts before 0, or does not end after its start, or, on a camera's
  timeline, has times without a zone or lasts longer than LONGEST_S,
- lies behind the end of its video, or ends more than TOLERANCE_S behind it (less is cut off),
- has a word that its data set's taxonomy does not know,
- names a file that leads out of the folder, or, in a site's own labels, one that does not exist,
- names a camera without footage, or a time of which there is no footage at all,
- repeats or overlaps another interval of the same annotator, person and label (the later one
  goes), or
- contradicts one of the same annotator: two postures of one person overlap by more than
  TOLERANCE_S (both go, since nobody knows which is right; with less, the earlier one ends where
  the later one starts).

`other` contradicts nothing: people read while they sit. An interval of a camera's timeline goes or
stays with all of its parts.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from fall_assets.datasets import DATASETS, SITE
from fall_assets.labelling.files import dataset_statements, label_files, site_statements
from fall_assets.labelling.resolution import resolve
from fall_assets.labelling.statements import Place, Problem, Statement
from fall_assets.labelling.taxonomy import (
    DESCENT_S,
    TAXONOMY_VERSION,
    nearest_word,
    to_label,
)
from fall_assets.lake.registry import table

__all__ = ["LONGEST_S", "TOLERANCE_S", "LabelReading", "label_files", "problem_rows", "read_labels"]

TOLERANCE_S = 0.5
"""How far annotators' times may be off before an interval is impossible."""

LONGEST_S = 86_400.0
"""Nobody keeps one posture for longer; a longer interval has a typing error in its times."""

_SHORTEST_S = 1e-6
"""Times are kept to the microsecond."""


_FIRST_YEAR, _LAST_YEAR = 1970, 2200
_NAMED = 3
"""How many contradicting intervals a message names."""


@dataclass(frozen=True)
class LabelReading:
    """What all label files say of the videos at hand.

    Attributes:
        labels: rows of the table `labels`.
        problems: rows of the table `label_problems`.
        absent_files: videos that label files name and that are not among the videos given.
        annotations: rows of the table `annotations`.
        conflicts: rows of the table `label_conflicts`.
    """

    labels: pl.DataFrame
    problems: pl.DataFrame
    absent_files: int
    annotations: pl.DataFrame = field(default_factory=table("annotations").empty)
    conflicts: pl.DataFrame = field(default_factory=table("label_conflicts").empty)

    def of_days(self, days: Sequence[date]) -> LabelReading:
        """The rows of those days; problems and absent files are of all days."""
        wanted = pl.col("day").is_in(list(days))
        return LabelReading(
            self.labels.filter(wanted),
            self.problems,
            self.absent_files,
            self.annotations.filter(wanted),
            self.conflicts.filter(wanted),
        )


def read_labels(
    landing: Path,
    videos: pl.DataFrame,
    sightings: pl.DataFrame | None = None,
    rule: str = "priority",
    also: Iterable[Statement] = (),
) -> LabelReading:
    """Read every label file of a landing folder.

    A data set's own files come before its `labels.csv`, which is read for the videos that the own
    files do not list, so that nothing is labelled twice; lines of `labels.csv` that name an
    annotator are read for all videos.

    Args:
        landing: the folder with `labels/` and the data sets' folders.
        videos: rows of the table `videos`; labels of other videos are counted, not returned.
        sightings: path and video_id of the table `sightings`: other names of the same videos.
        rule: what holds where annotators differ, one of RESOLUTION_RULES.
        also: statements that stand in no file, as staff's answers.

    Returns:
        Labels sorted by day, camera, video and start; problems sorted by file and line.
    """
    reading = _Reading(landing, videos, sightings)
    reading.take(site_statements(landing, videos, sightings))
    for name in DATASETS:
        reading.take(dataset_statements(landing, name))
    reading.take(also)
    return reading.finish(rule)


def problem_rows(problems: Iterable[Problem]) -> pl.DataFrame:
    """Problems as rows of the table `label_problems`, sorted by file and line.

    Of several problems of one part the first is kept.
    """
    rows: dict[tuple[str, int, int], dict[str, Any]] = {}
    for problem in problems:
        place = problem.place
        row = {"text": place.text, "reason": problem.reason}
        named = {"file": place.file, "line": place.line, "part": place.part}
        rows.setdefault((place.file, place.line, place.part), named | row)
    return pl.DataFrame([rows[key] for key in sorted(rows)], schema=table("label_problems").schema)


@dataclass
class _Interval:
    """A statement about one video that is possible in itself.

    `start_s` and `end_s` lie within the video; `from_s` and `until_s` are where the whole interval
    starts and ends, before the video or after it where it spans several.
    """

    statement: Statement
    video: dict[str, Any]
    start_s: float
    end_s: float
    label: str
    from_s: float
    until_s: float
    interval_id: str
    event_id: str | None = None
    label_id: str = ""
    contradicted_by: list[_Interval] = field(default_factory=list)
    contradictions: int = 0

    def doubt(self, other: _Interval) -> None:
        """Remember that another interval contradicts this one; a few are kept to be named."""
        self.contradictions += 1
        if len(self.contradicted_by) < _NAMED:
            self.contradicted_by.append(other)

    @property
    def whom(self) -> tuple[str, str | None, int | None]:
        """Who says it of whom."""
        told = self.statement
        return told.annotator_of, told.subject, None if told.subject else told.track

    def __str__(self) -> str:
        place = self.statement.place
        return f"line {place.line} of {place.file} ({_times(self.statement, self)})"


class _Reading:
    """The state of one reading of all files."""

    def __init__(self, landing: Path, videos: pl.DataFrame, sightings: pl.DataFrame | None) -> None:
        self._landing = landing
        columns = ("day", "video_id", "camera_id", "dataset", "path", "start_utc", "duration_s")
        self._videos = videos.select(*columns, "scene").sort("path")
        self._rows: dict[int, dict[str, Any]] = {}
        self._by_path = {path: number for number, path in enumerate(self._videos["path"])}
        if sightings is not None:
            names = self._videos.with_row_index("number").select("number", "video_id")
            pairs = sightings.select("path", "video_id").join(names, on="video_id", how="inner")
            self._by_path = (
                dict(pairs.sort("path").select("path", "number").iter_rows()) | self._by_path
            )
        self._by_scene: defaultdict[str, list[int]] = defaultdict(list)
        for number, scene in enumerate(self._videos["scene"]):
            self._by_scene[scene].append(number)
        self._cameras: dict[str, _Camera | None] = {}
        self._intervals: defaultdict[str, list[_Interval]] = defaultdict(list)
        self._problems: list[Problem] = []
        self._absent: set[str] = set()

    def take(self, items: Iterable[Statement | Problem]) -> None:
        for item in items:
            if isinstance(item, Problem):
                self._problems.append(item)
            else:
                self._place(item)

    def finish(self, rule: str) -> LabelReading:
        kept = self._believed()
        rows = [_row(interval) for interval in kept]
        schema = {**table("annotations").schema, "stated_utc": pl.Datetime("us", "UTC")}
        del schema["outcome"]
        resolution = resolve(pl.DataFrame(rows, schema=schema), rule)
        labels = _with_events(resolution.labels, self._videos)
        events = (
            resolution.support.join(labels.select("label_id", "event_id"), on="label_id")
            .sort("annotation_id", "event_id", nulls_last=True)
            .unique("annotation_id", keep="first", maintain_order=True)
            .select("annotation_id", event_of="event_id")
        )
        annotations = (
            resolution.annotations.join(
                events, left_on="label_id", right_on="annotation_id", how="left"
            )
            .with_columns(event_id=pl.coalesce("event_of", "event_id"))
            .select(list(table("annotations").schema))
        )
        return LabelReading(
            labels=labels,
            problems=problem_rows(self._problems),
            absent_files=len(self._absent),
            annotations=annotations,
            conflicts=resolution.conflicts,
        )

    def _report(self, place: Place, reason: str) -> None:
        self._problems.append(Problem(place, reason))

    def _video(self, number: int) -> dict[str, Any]:
        if number not in self._rows:
            self._rows[number] = self._videos.row(number, named=True)
        return self._rows[number]

    def _place(self, statement: Statement) -> None:
        """Check one statement against its videos."""
        reason = _impossible(statement)
        label = to_label(statement.dataset, statement.word)
        if reason is None and label is None:
            near = nearest_word(statement.dataset, statement.word)
            hint = f"; did you mean {near!r}?" if near else ""
            reason = f"label {statement.word!r} is not in the taxonomy of {statement.dataset}{hint}"
        if reason is not None or label is None:
            self._report(statement.place, reason or "unknown label")
        elif statement.is_on_camera:
            self._place_on_camera(statement, label)
        elif numbers := self._named(statement):
            for number in numbers:
                self._place_on(statement, label, self._video(number))
        elif self._is_missing(statement):
            self._report(
                statement.place, f"there is no file {statement.target!r}; correct the path"
            )
        else:
            self._absent.add(statement.target)

    def _named(self, statement: Statement) -> list[int]:
        if statement.is_scene:
            return self._by_scene.get(statement.target, [])
        number = self._by_path.get(statement.target)
        return [] if number is None else [number]

    def _is_missing(self, statement: Statement) -> bool:
        """Whether a site's label names a file that does not exist.

        A data set's own files list the whole set, of which a part may be at hand; what lies in a
        bucket is not looked up.
        """
        if statement.dataset != SITE or "://" in statement.target:
            return False
        try:
            return not (self._landing / statement.target).exists()
        except (OSError, ValueError):
            return True

    def _place_on(self, statement: Statement, label: str, video: dict[str, Any]) -> None:
        start_s, end_s, duration_s = statement.start_s, statement.end_s, video["duration_s"]
        beyond_s = end_s - duration_s
        if start_s >= duration_s or (beyond_s > TOLERANCE_S and not statement.runs_to_end):
            self._report(
                statement.place,
                f"{statement.word} {start_s:g} to {end_s:g} s does not fit {video['path']}, "
                f"which lasts {duration_s:.2f} s; correct the times",
            )
            return
        end_s = min(end_s, duration_s)
        pieces = [(start_s, end_s, label)]
        known = DATASETS.get(statement.dataset)
        includes_lying = label == "fall" and known is not None and known.falls_include_lying
        if includes_lying and end_s - start_s > DESCENT_S:
            landed_s = start_s + DESCENT_S
            pieces = [(start_s, landed_s, "fall"), (landed_s, end_s, "lying_after_fall")]
        self._intervals[video["video_id"]].extend(
            _Interval(statement, video, *piece, *piece[:2], _interval_id(statement, piece, video))
            for piece in pieces
        )

    def _place_on_camera(self, statement: Statement, label: str) -> None:
        """The parts of an interval of a camera's timeline, one per segment that it touches."""
        start_utc, end_utc = statement.start_utc, statement.end_utc
        camera = self._camera(statement.target)
        if camera is None or start_utc is None or end_utc is None:
            self._report(
                statement.place,
                f"there is no footage of camera {statement.target!r}; correct its name",
            )
            return
        parts = []
        for number in camera.between(start_utc, end_utc):
            video = self._video(number)
            from_s = (start_utc - video["start_utc"]).total_seconds()
            until_s = (end_utc - video["start_utc"]).total_seconds()
            start_s, end_s = max(from_s, 0.0), min(until_s, video["duration_s"])
            if end_s - start_s >= _SHORTEST_S:
                parts.append((video, start_s, end_s, from_s, until_s))
        if not parts:
            self._report(
                statement.place,
                f"camera {statement.target} has no footage of "
                f"{start_utc.isoformat()} to {end_utc.isoformat()}; correct the times",
            )
            return
        interval_id = _interval_id(statement, (label,), None)
        event_id = None
        if label == "fall" and len(parts) > 1:
            event_id = f"{parts[0][0]['dataset']}/{statement.target}/{start_utc.isoformat()}"
        for video, start_s, end_s, from_s, until_s in parts:
            self._intervals[video["video_id"]].append(
                _Interval(
                    statement, video, start_s, end_s, label, from_s, until_s, interval_id, event_id
                )
            )

    def _camera(self, camera_id: str) -> _Camera | None:
        if camera_id not in self._cameras:
            rows = (
                self._videos.with_row_index("number")
                .filter(pl.col("camera_id") == camera_id)
                .sort("start_utc", "video_id")
            )
            self._cameras[camera_id] = (
                _Camera(
                    rows["number"].to_list(),
                    rows["start_utc"].to_list(),
                    timedelta(seconds=max(rows["duration_s"])),
                )
                if rows.height
                else None
            )
        return self._cameras[camera_id]

    def _believed(self) -> list[_Interval]:
        """The intervals without those that cannot be believed, by video and start.

        An interval that goes in one segment goes in all.
        """
        gone: set[str] = set()
        ordered: list[_Interval] = []
        for video_id in sorted(self._intervals):
            intervals = self._intervals[video_id]
            lost = self._contradictions(intervals)
            gone |= lost
            ordered += sorted(intervals, key=_order)
        kept: list[_Interval] = []
        seen: set[str] = set()
        for interval in ordered:
            is_empty = interval.end_s - interval.start_s < _SHORTEST_S
            if interval.interval_id in gone or is_empty:
                continue
            interval.label_id = _label_id(interval)
            if interval.label_id in seen:
                self._report(interval.statement.place, "says the same twice; remove one")
                continue
            seen.add(interval.label_id)
            kept.append(interval)
        return kept

    def _contradictions(self, intervals: Sequence[_Interval]) -> set[str]:
        """Settle one video's intervals; the ids of those that cannot be believed."""
        by_whom: defaultdict[tuple[str, str, str], list[_Interval]] = defaultdict(list)
        for interval in intervals:
            if interval.label == "other":
                continue
            annotator, subject, track = interval.whom
            by_whom[annotator, subject or "", "" if track is None else str(track)].append(interval)
        repeated: set[str] = set()
        for whom in sorted(by_whom):
            ordered = sorted(by_whom[whom], key=_order)
            for number, earlier in enumerate(ordered):
                if earlier.interval_id in repeated:
                    continue
                for later in ordered[number + 1 :]:
                    if later.start_s >= earlier.end_s:
                        break
                    if later.interval_id in repeated:
                        continue
                    if later.label != earlier.label:
                        _settle(earlier, later)
                    elif later.interval_id != earlier.interval_id:
                        repeated.add(later.interval_id)
                        self._report(
                            later.statement.place,
                            f"overlaps {earlier}, which says the same; make them one interval",
                        )
        contradicted: set[str] = set()
        for interval in intervals:
            if interval.contradicted_by:
                contradicted.add(interval.interval_id)
                against = "; ".join(str(x) for x in interval.contradicted_by)
                if interval.contradictions > _NAMED:
                    against += f" and {interval.contradictions - _NAMED} more"
                self._report(
                    interval.statement.place,
                    f"{_times(interval.statement, interval)} contradicts {against}: "
                    "one person cannot do both; correct one of them",
                )
        return repeated | contradicted


@dataclass(frozen=True)
class _Camera:
    """A camera's segments by start: their numbers, starts and the longest one's length."""

    numbers: list[int]
    starts: list[datetime]
    longest: timedelta

    def between(self, start: datetime, end: datetime) -> list[int]:
        """Those that may lie in a stretch of time."""
        first = bisect_left(self.starts, start - self.longest)
        return self.numbers[first : bisect_right(self.starts, end)]


def _order(interval: _Interval) -> tuple[float, float, float, str, int]:
    place = interval.statement.place
    return interval.start_s, interval.from_s, interval.end_s, place.file, place.line


def _settle(earlier: _Interval, later: _Interval) -> None:
    """Two postures of one person at once: trim a small overlap, else doubt both."""
    overlap_s = min(earlier.until_s, later.until_s) - later.from_s
    follows = later.until_s >= earlier.until_s and later.from_s > earlier.from_s
    if overlap_s <= TOLERANCE_S and follows:
        earlier.end_s = later.start_s
        earlier.until_s = later.from_s
    else:
        earlier.doubt(later)
        later.doubt(earlier)


def _times(statement: Statement, interval: _Interval | None = None) -> str:
    """A statement's word and times, for a message."""
    if statement.start_utc is not None and statement.end_utc is not None:
        start, end = statement.start_utc.isoformat(), statement.end_utc.isoformat()
        return f"{statement.word} {start} to {end}"
    start_s = interval.start_s if interval else statement.start_s
    end_s = interval.end_s if interval else statement.end_s
    return f"{statement.word} {start_s:g} to {end_s:g} s"


def _impossible(statement: Statement) -> str | None:
    """What is wrong with a statement whatever its video; None where nothing is."""
    told = _times(statement)
    start, end = statement.start_utc, statement.end_utc
    if start is not None:
        if end is None or start.tzinfo is None or end.tzinfo is None:
            return f"{told}: both times need a zone, as in 2026-03-01T08:15:00Z"
        if min(start.year, end.year) < _FIRST_YEAR or max(start.year, end.year) > _LAST_YEAR:
            return f"{told}: no footage is of that year; correct the times"
        length_s = (end - start).total_seconds()
        if length_s <= 0:
            return f"{told} does not end after its start"
        if length_s > LONGEST_S:
            return f"{told} lasts longer than a day; correct the times"
        return None
    if not (math.isfinite(statement.start_s) and math.isfinite(statement.end_s)):
        return f"{told}: the times must be finite"
    if statement.start_s < 0:
        return f"{told} starts before the video"
    if statement.end_s <= statement.start_s:
        return f"{told} does not end after its start"
    return None


def _with_events(labels: pl.DataFrame, videos: pl.DataFrame) -> pl.DataFrame:
    """Give falls, and lying after them, the id of their event.

    An event that the source names holds for all cameras on that day. Where it names none, a data
    set's falls are counted per scene, so that all cameras of the scene agree, and a site's per
    segment; a fall that spans segments is named by its start.
    """
    grave = labels.filter(pl.col("label").is_in(["fall", "lying_after_fall"]))
    if grave.is_empty():
        return labels
    about = {
        row["video_id"]: row
        for row in videos.join(grave.select("video_id").unique(), on="video_id", how="semi")
        .select("video_id", "dataset", "camera_id", "start_utc", "scene")
        .iter_rows(named=True)
    }
    named: list[tuple[str, str]] = []
    for key, part in grave.group_by("video_id", maintain_order=True):
        count = 0
        latest: dict[tuple[str | None, int | None], str] = {}
        video = about[str(key[0])]
        for row in part.iter_rows(named=True):
            person = (row["subject"], None if row["subject"] else row["track"])
            event_id = row["event_id"]
            if event_id is None and row["label"] == "fall":
                count += 1
                happening = (
                    f"{SITE}/{video['camera_id']}/{video['start_utc']:%Y-%m-%dT%H:%M:%SZ}"
                    if video["dataset"] == SITE
                    else video["scene"]
                )
                event_id = f"{happening}#{count}"
            elif event_id is None:
                event_id = latest.get(person)
            if event_id is not None:
                named.append((row["label_id"], event_id))
                if row["label"] == "fall":
                    latest[person] = event_id
    told = pl.DataFrame(named, schema={"label_id": pl.String(), "named": pl.String()}, orient="row")
    return (
        labels.join(told, on="label_id", how="left", maintain_order="left")
        .with_columns(event_id=pl.coalesce("event_id", "named"))
        .select(labels.columns)
    )


def _interval_id(statement: Statement, piece: Sequence[Any], video: dict[str, Any] | None) -> str:
    place = statement.place
    told = (place.file, place.line, place.part, statement.annotator, statement.track, piece[-1])
    if video is None:
        return _hash((*told, statement.target, statement.start_utc, statement.end_utc))
    return _hash((*told, video["video_id"], *piece[:2]))


def _label_id(interval: _Interval) -> str:
    place = interval.statement.place
    identity: tuple[Any, ...] = (
        place.file,
        place.line,
        place.part,
        interval.video["video_id"],
        interval.label,
    )
    told = interval.statement
    if told.annotator is not None or told.track is not None:
        identity = (*identity, told.annotator, told.track)
    return _hash((identity, (round(interval.start_s, 6), round(interval.end_s, 6))))


def _hash(parts: tuple[Any, ...]) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _row(interval: _Interval) -> dict[str, Any]:
    """A row of `annotations` without its outcome, and when it was stated."""
    statement, video = interval.statement, interval.video
    event_id = interval.event_id
    if statement.event is not None:
        day = _event_day(interval)
        event_id = f"{video['dataset']}/{day}/{statement.event}"
    start_s, end_s = round(interval.start_s, 6), round(interval.end_s, 6)
    return {
        "day": video["day"],
        "label_id": interval.label_id,
        "video_id": video["video_id"],
        "camera_id": video["camera_id"],
        "start_s": start_s,
        "end_s": end_s,
        "label": interval.label,
        "original_label": statement.word,
        "zone": statement.zone,
        "subject": statement.subject,
        "source": statement.source,
        "event_id": event_id,
        "taxonomy_version": TAXONOMY_VERSION,
        "file": statement.place.file,
        "line": statement.place.line,
        "annotator": statement.annotator_of,
        "track": statement.track,
        "interval_id": interval.interval_id,
        "start_utc": video["start_utc"] + timedelta(seconds=start_s),
        "end_utc": video["start_utc"] + timedelta(seconds=end_s),
        "stated_utc": _stated(statement.stated_utc),
    }


def _stated(moment: datetime | None) -> datetime | None:
    """When something was stated, in UTC; None where that is not known."""
    if moment is None or moment.tzinfo is None:
        return None
    return moment.astimezone(UTC) if _FIRST_YEAR <= moment.year <= _LAST_YEAR else None


def _event_day(interval: _Interval) -> date:
    """The day on which a named event counts: that of its interval's start."""
    video: dict[str, Any] = interval.video
    day: date = video["day"]
    if interval.from_s < 0:
        day = (video["start_utc"] + timedelta(seconds=interval.from_s)).date()
    return day
