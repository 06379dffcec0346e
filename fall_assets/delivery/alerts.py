"""Scores into alerts: one alert per event, whatever the segments, with an id that stays.

Here: joining segments, naming events. Not here: the rule by which scores become an event
(`learning.events`), the still (`stills.py`), the kind (`kinds.py`), sending (`channels.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import table
from fall_assets.learning.events import EventSettings, to_events

JOIN_GAP_S = 2.0
"""Segments of a camera this close together, or overlapping, are one stretch of footage."""
SAME_EVENT_S = 5.0
"""A recomputed event this close to an earlier alert is that alert."""


@dataclass(frozen=True)
class _Segment:
    """One scored segment: its place in time and its scores."""

    video_id: str
    day: date
    start: datetime
    end: datetime
    end_s: tuple[float, ...]
    score: tuple[float, ...]


@dataclass(frozen=True)
class _Occurrence:
    """One event of one camera, and the segment in which it was raised."""

    camera_id: str
    segment: _Segment
    start: datetime
    raised: datetime
    end: datetime
    score: float


def merge(
    predictions: pl.DataFrame,
    videos: pl.DataFrame,
    cameras: pl.DataFrame,
    *,
    settings: EventSettings,
    previous: pl.DataFrame,
    window_s: float = 4.0,
    day: date | None = None,
) -> pl.DataFrame:
    """The table `alerts`, with `still` and `kind` null, from the scores of one model.

    Segments of a camera that follow each other (`JOIN_GAP_S`) are judged as one, so that an event
    across a border is one alert; it belongs to the segment in which it was raised, and `start_s`
    may be negative or `end_s` beyond the segment's end. Pass the scores of the neighbouring days
    and `day` to join over midnight: only alerts of that day are returned.

    `previous` are alerts as they stand (and, where a version of the lake dropped some, those too):
    an event of the same camera within `SAME_EVENT_S` of one of them takes its id, each id once, so
    that a recomputed day sends nothing twice. Other ids are made from the camera and the second
    in which the event was raised. `cameras` gives ward and room, 'unknown' where it lacks a camera.

    Raises PermanentFailureError where scores of several models are mixed, or where a scored
    segment is not in `videos`.
    """
    schema = table("alerts").schema
    models = predictions["model_version"].unique().sort().to_list()
    if len(models) > 1:
        raise PermanentFailureError(
            f"alerts come from one model, the predictions hold {', '.join(models)}: pass those of "
            "the champion"
        )
    rooms = {row["camera_id"]: row for row in cameras.to_dicts()}
    occurrences = [
        occurrence
        for camera_id, stretch in _stretches(predictions, videos)
        for occurrence in _occurrences(camera_id, stretch, settings, window_s)
        if day is None or occurrence.segment.day == day
    ]
    ids = _identify(occurrences, previous)
    rows = []
    for occurrence, alert_id in zip(occurrences, ids, strict=True):
        segment, room = occurrence.segment, rooms.get(occurrence.camera_id, {})
        rows.append(
            {
                "day": segment.day,
                "alert_id": alert_id,
                "camera_id": occurrence.camera_id,
                "ward": room.get("ward", "unknown"),
                "room": room.get("room", "unknown"),
                "video_id": segment.video_id,
                "model_version": models[0],
                "start_utc": occurrence.start,
                "raised_utc": occurrence.raised,
                "end_utc": occurrence.end,
                "start_s": (occurrence.start - segment.start).total_seconds(),
                "end_s": (occurrence.end - segment.start).total_seconds(),
                "score": occurrence.score,
                "still": None,
                "kind": None,
            }
        )
    return pl.DataFrame(rows, schema=schema).sort("camera_id", "raised_utc")


def _stretches(
    predictions: pl.DataFrame, videos: pl.DataFrame
) -> Iterator[tuple[str, list[_Segment]]]:
    """Scored segments by camera, cut where footage is missing."""
    scores = (
        predictions.sort("end_s")
        .group_by("video_id", maintain_order=True)
        .agg(pl.col("end_s", "score"))
    )
    scored = scores.join(
        videos.select("video_id", "camera_id", "day", "start_utc", "duration_s"),
        on="video_id",
        how="left",
    )
    missing = scored.filter(pl.col("start_utc").is_null())["video_id"].sort().to_list()
    if missing:
        raise PermanentFailureError(
            f"{len(missing)} scored segments are not in videos ({missing[0][:12]}… first): "
            "materialize videos and predictions of these days again"
        )
    camera, stretch = "", list[_Segment]()
    for row in scored.sort("camera_id", "start_utc", "video_id").iter_rows(named=True):
        start: datetime = row["start_utc"]
        segment = _Segment(
            video_id=row["video_id"],
            day=row["day"],
            start=start,
            end=start + timedelta(seconds=row["duration_s"]),
            end_s=tuple(row["end_s"]),
            score=tuple(row["score"]),
        )
        reached = max((earlier.end for earlier in stretch), default=start)
        if stretch and (
            row["camera_id"] != camera or start - reached > timedelta(seconds=JOIN_GAP_S)
        ):
            yield camera, stretch
            stretch = []
        camera = row["camera_id"]
        stretch.append(segment)
    if stretch:
        yield camera, stretch


def _occurrences(
    camera_id: str, stretch: Sequence[_Segment], settings: EventSettings, window_s: float
) -> Iterator[_Occurrence]:
    """The events of one stretch of footage, in UTC."""
    first = stretch[0].start
    best: dict[float, float] = {}
    source: dict[float, _Segment] = {}
    for segment in stretch:
        offset = (segment.start - first).total_seconds()
        for end_s, score in zip(segment.end_s, segment.score, strict=True):
            # Recorders overlap their segments: of two scores of one moment the higher counts.
            moment = round(offset + end_s, 3)
            if score > best.get(moment, -1.0):
                best[moment], source[moment] = score, segment
    moments = sorted(best)
    for event in to_events(moments, [best[moment] for moment in moments], settings, window_s):
        yield _Occurrence(
            camera_id=camera_id,
            segment=source[event.raised_s],
            start=first + timedelta(seconds=event.start_s),
            raised=first + timedelta(seconds=event.raised_s),
            end=first + timedelta(seconds=event.end_s),
            score=event.score,
        )


def _identify(occurrences: Sequence[_Occurrence], previous: pl.DataFrame) -> list[str]:
    """An id for each event: an earlier alert's where it is the same event, else a new one."""
    slack = timedelta(seconds=SAME_EVENT_S)
    earlier: dict[str, list[tuple[datetime, datetime, datetime, str]]] = {}
    columns = ("camera_id", "start_utc", "raised_utc", "end_utc", "alert_id")
    for camera_id, start, raised, end, alert_id in previous.select(columns).iter_rows():
        earlier.setdefault(camera_id, []).append((start, raised, end, alert_id))
    pairs = sorted(
        (abs(occurrence.raised - raised), place, alert_id)
        for place, occurrence in enumerate(occurrences)
        for start, raised, end, alert_id in earlier.get(occurrence.camera_id, ())
        if occurrence.start <= end + slack and start <= occurrence.end + slack
    )
    ids: dict[int, str] = {}
    taken: set[str] = set()
    for _, place, alert_id in pairs:
        if place not in ids and alert_id not in taken:
            ids[place] = alert_id
            taken.add(alert_id)
    taken.update(previous["alert_id"])
    for place, occurrence in enumerate(occurrences):
        if place in ids:
            continue
        number = 0
        while (alert_id := _new_id(occurrence, number)) in taken:
            number += 1
        ids[place] = alert_id
        taken.add(alert_id)
    return [ids[place] for place in range(len(occurrences))]


def _new_id(occurrence: _Occurrence, number: int) -> str:
    """Hash of the camera and the second; `number` tells apart what would else be equal."""
    second = (occurrence.raised + timedelta(milliseconds=500)).replace(microsecond=0)
    text = f"{occurrence.camera_id}|{second.isoformat()}|{number}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
