"""Label files become labels: every interval is checked before it is believed.

What belongs here: the rules for what can be a label. What does not: the files' formats (see
`statements.py`), their words (see `taxonomy.py`) and cutting clips (see `clips.py`).

An interval is left out, and reported by file and line, where it

- is not made of numbers, or starts before 0, or does not end after its start,
- lies behind the end of its video, or ends more than TOLERANCE_S behind it (less is cut off),
- has a word that its data set's taxonomy does not know,
- names a file that leads out of the folder, or, in a site's own labels, one that does not exist,
- repeats or overlaps another interval of the same person and label (the later one goes), or
- contradicts one: two postures of one person overlap by more than TOLERANCE_S (both go, since
  nobody knows which is right; with less, the earlier one ends where the later one starts).

`other` contradicts nothing: people read while they sit.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from fall_assets.datasets import DATASETS, SITE
from fall_assets.labelling.files import dataset_statements, label_files, site_statements
from fall_assets.labelling.statements import Place, Problem, Statement
from fall_assets.labelling.taxonomy import (
    DESCENT_S,
    TAXONOMY_VERSION,
    nearest_word,
    to_label,
)
from fall_assets.lake.registry import table

__all__ = ["TOLERANCE_S", "LabelReading", "label_files", "read_labels"]

TOLERANCE_S = 0.5
"""How far annotators' times may be off before an interval is impossible."""


@dataclass(frozen=True)
class LabelReading:
    """What all label files say of the videos at hand.

    Attributes:
        labels: rows of the table `labels`.
        problems: rows of the table `label_problems`.
        absent_files: videos that label files name and that are not among the videos given.
    """

    labels: pl.DataFrame
    problems: pl.DataFrame
    absent_files: int


def read_labels(landing: Path, videos: pl.DataFrame) -> LabelReading:
    """Read every label file of a landing folder.

    A data set's own files come before its `labels.csv`, which is read for the videos that the own
    files do not list, so that nothing is labelled twice.

    Args:
        landing: the folder with `labels/` and the data sets' folders.
        videos: rows of the table `videos`; labels of other videos are counted, not returned.

    Returns:
        Labels sorted by day, camera, video and start; problems sorted by file and line.
    """
    reading = _Reading(landing, videos)
    reading.take(site_statements(landing))
    for name in DATASETS:
        reading.take(dataset_statements(landing, name))
    return reading.finish()


@dataclass
class _Interval:
    """A statement about one video that is possible in itself."""

    statement: Statement
    video: dict[str, Any]
    start_s: float
    end_s: float
    label: str
    event_id: str | None = None
    contradicted_by: list[_Interval] = field(default_factory=list)

    @property
    def subject(self) -> str | None:
        return self.statement.subject

    def __str__(self) -> str:
        place = self.statement.place
        return (
            f"line {place.line} of {place.file} "
            f"({self.statement.word} {self.start_s:g} to {self.end_s:g} s)"
        )


class _Reading:
    """The state of one reading of all files."""

    def __init__(self, landing: Path, videos: pl.DataFrame) -> None:
        self._landing = landing
        self._by_path: dict[str, list[dict[str, Any]]] = {}
        self._by_scene: dict[str, list[dict[str, Any]]] = {}
        columns = ("day", "video_id", "camera_id", "dataset", "path", "start_utc", "duration_s")
        for row in videos.select(*columns, "scene").sort("path").iter_rows(named=True):
            self._by_path.setdefault(row["path"], []).append(row)
            self._by_scene.setdefault(row["scene"], []).append(row)
        self._intervals: dict[str, list[_Interval]] = {}
        self._problems: dict[tuple[str, int, int], Problem] = {}
        self._absent: set[str] = set()

    def take(self, items: Iterable[Statement | Problem]) -> None:
        for item in items:
            if isinstance(item, Problem):
                self._report(item.place, item.reason)
            else:
                self._place(item)

    def finish(self) -> LabelReading:
        rows: list[dict[str, Any]] = []
        for video_id in sorted(self._intervals):
            kept = self._without_contradictions(self._intervals[video_id])
            _name_events(kept)
            rows += [_row(interval) for interval in kept]
        problems = [
            {
                "file": problem.place.file,
                "line": problem.place.line,
                "part": problem.place.part,
                "text": problem.place.text,
                "reason": problem.reason,
            }
            for _key, problem in sorted(self._problems.items())
        ]
        return LabelReading(
            labels=pl.DataFrame(rows, schema=table("labels").schema).sort(
                "day", "camera_id", "video_id", "start_s", "end_s", "label", "label_id"
            ),
            problems=pl.DataFrame(problems, schema=table("label_problems").schema),
            absent_files=len(self._absent),
        )

    def _report(self, place: Place, reason: str) -> None:
        self._problems.setdefault((place.file, place.line, place.part), Problem(place, reason))

    def _place(self, statement: Statement) -> None:
        """Check one statement against its videos."""
        known = self._by_scene if statement.is_scene else self._by_path
        videos = known.get(statement.target, [])
        reason = _impossible(statement)
        label = to_label(statement.dataset, statement.word)
        if reason is None and label is None:
            near = nearest_word(statement.dataset, statement.word)
            hint = f"; did you mean {near!r}?" if near else ""
            reason = f"label {statement.word!r} is not in the taxonomy of {statement.dataset}{hint}"
        if reason is None and not videos and self._is_missing(statement):
            reason = f"there is no file {statement.target!r}; correct the path"
        if reason is not None or label is None:
            self._report(statement.place, reason or "unknown label")
            return
        if not videos:
            self._absent.add(statement.target)
        for video in videos:
            self._place_on(statement, label, video)

    def _is_missing(self, statement: Statement) -> bool:
        """Whether a site's label names a file that does not exist.

        A data set's own files list the whole set, of which a part may be at hand.
        """
        return statement.dataset == SITE and not (self._landing / statement.target).exists()

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
        self._intervals.setdefault(video["video_id"], []).extend(
            _Interval(statement, video, *piece) for piece in pieces
        )

    def _without_contradictions(self, intervals: Sequence[_Interval]) -> list[_Interval]:
        """One video's intervals in order of start, without those that cannot be believed."""
        ordered = sorted(
            intervals,
            key=lambda x: (x.start_s, x.end_s, x.statement.place.file, x.statement.place.line),
        )
        repeated: set[int] = set()
        for number, earlier in enumerate(ordered):
            if number in repeated:
                continue
            for other, later in enumerate(ordered[number + 1 :], start=number + 1):
                if later.start_s >= earlier.end_s:
                    break
                if later.subject != earlier.subject or other in repeated:
                    continue
                if later.label == earlier.label:
                    if later.label != "other":
                        repeated.add(other)
                        self._report(
                            later.statement.place,
                            f"overlaps {earlier}, which says the same; make them one interval",
                        )
                elif "other" not in (later.label, earlier.label):
                    self._settle(earlier, later)
        for interval in ordered:
            if interval.contradicted_by:
                against = "; ".join(str(x) for x in interval.contradicted_by)
                self._report(
                    interval.statement.place,
                    f"{interval.statement.word} {interval.start_s:g} to {interval.end_s:g} s "
                    f"contradicts {against}: one person cannot do both; correct one of them",
                )
        return [
            interval
            for number, interval in enumerate(ordered)
            if number not in repeated and not interval.contradicted_by
        ]

    def _settle(self, earlier: _Interval, later: _Interval) -> None:
        """Two postures of one person at once: trim a small overlap, else doubt both."""
        overlap_s = min(earlier.end_s, later.end_s) - later.start_s
        follows = later.end_s >= earlier.end_s and later.start_s > earlier.start_s
        if overlap_s <= TOLERANCE_S and follows:
            earlier.end_s = later.start_s
        else:
            earlier.contradicted_by.append(later)
            later.contradicted_by.append(earlier)


def _impossible(statement: Statement) -> str | None:
    """What is wrong with the times themselves."""
    start_s, end_s = statement.start_s, statement.end_s
    if not (math.isfinite(start_s) and math.isfinite(end_s)):
        return f"{statement.word} {start_s:g} to {end_s:g} s: the times must be finite"
    if start_s < 0:
        return f"{statement.word} {start_s:g} to {end_s:g} s starts before the video"
    if end_s <= start_s:
        return f"{statement.word} {start_s:g} to {end_s:g} s does not end after its start"
    return None


def _name_events(intervals: Sequence[_Interval]) -> None:
    """Give falls, and lying after them, the id of their event.

    An event that the source names holds for all cameras on that day. Where it names none, a data
    set's falls are counted per scene, so that all cameras of the scene agree, and a site's per
    segment.
    """
    count = 0
    latest: dict[str | None, str] = {}
    for interval in intervals:
        video, told = interval.video, interval.statement.event
        if told is not None:
            interval.event_id = f"{video['dataset']}/{video['day']}/{told}"
        elif interval.label == "fall":
            count += 1
            happening = (
                f"{SITE}/{video['camera_id']}/{video['start_utc']:%Y-%m-%dT%H:%M:%SZ}"
                if video["dataset"] == SITE
                else video["scene"]
            )
            interval.event_id = f"{happening}#{count}"
        elif interval.label == "lying_after_fall":
            interval.event_id = latest.get(interval.subject)
        if interval.label == "fall" and interval.event_id is not None:
            latest[interval.subject] = interval.event_id


def _row(interval: _Interval) -> dict[str, Any]:
    statement, video = interval.statement, interval.video
    place = statement.place
    identity = (place.file, place.line, place.part, video["video_id"], interval.label)
    times = (round(interval.start_s, 6), round(interval.end_s, 6))
    return {
        "day": video["day"],
        "label_id": hashlib.sha256(repr((identity, times)).encode()).hexdigest()[:32],
        "video_id": video["video_id"],
        "camera_id": video["camera_id"],
        "start_s": times[0],
        "end_s": times[1],
        "label": interval.label,
        "original_label": statement.word,
        "zone": statement.zone,
        "subject": statement.subject,
        "source": statement.source,
        "event_id": interval.event_id,
        "taxonomy_version": TAXONOMY_VERSION,
        "file": place.file,
        "line": place.line,
    }
