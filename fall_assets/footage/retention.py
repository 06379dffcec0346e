"""Which footage may be deleted, and why the rest stays.

What belongs here: the decision, from rows. What does not: deleting, and the audit of it (see
`pipeline/retention.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import polars as pl

from fall_assets.datasets import DATASETS, SITE
from fall_assets.errors import PermanentFailureError

Keeper = Literal["dataset", "label", "alert", "hold"]
"""What keeps footage that is older than the retention."""

KEEPERS: Mapping[Keeper, str] = {
    "dataset": "it belongs to a public data set",
    "label": "somebody labelled it",
    "alert": "an alert was raised on it",
    "hold": "a legal hold stands",
}


class HoldError(PermanentFailureError):
    """A legal hold that cannot be: the message says why."""


@dataclass(frozen=True)
class Hold:
    """Footage that must be kept. What is None does not narrow it.

    Attributes:
        hold_id: its id.
        camera_id: footage of this camera only.
        video_id: this segment only.
        from_utc: footage that ends at or after this moment only.
        until_utc: footage that starts at or before this moment only.
    """

    hold_id: str
    camera_id: str | None = None
    video_id: str | None = None
    from_utc: datetime | None = None
    until_utc: datetime | None = None

    def covers(self, video_id: str, camera_id: str, start_utc: datetime, duration_s: float) -> bool:
        """Whether footage of this video, camera and time is held."""
        end_utc = start_utc + timedelta(seconds=duration_s)
        return (
            self.camera_id in (None, camera_id)
            and self.video_id in (None, video_id)
            and (self.from_utc is None or end_utc >= self.from_utc)
            and (self.until_utc is None or start_utc <= self.until_utc)
        )


def open_holds(rows: pl.DataFrame) -> list[Hold]:
    """The holds of the table `legal_holds` that nobody released."""
    columns = ("hold_id", "camera_id", "video_id", "from_utc", "until_utc")
    standing = rows.filter(pl.col("released_utc").is_null()).select(columns)
    return [Hold(**row) for row in standing.iter_rows(named=True)]


@dataclass(frozen=True)
class Decision:
    """What may go, and what keeps each of the others that are old enough.

    Attributes:
        go: video_ids, sorted.
        kept: video_id to everything that keeps it, in the order of `KEEPERS`.
        young: how many are not older than the retention yet.
    """

    go: tuple[str, ...]
    kept: Mapping[str, tuple[Keeper, ...]]
    young: int


def decide(
    videos: pl.DataFrame,
    sightings: pl.DataFrame,
    *,
    now: datetime,
    days: int,
    labelled: Sequence[str] | pl.Series,
    alerts: pl.DataFrame,
    holds: Sequence[Hold],
) -> Decision:
    """Decide about footage that still has a file.

    A segment is old enough `days` after its start. Then it stays if it belongs to a data set, if
    a label or an alert speaks of it, or if a hold covers it. An alert speaks of the segment in
    which it was raised and of all segments of its camera that the event touches. A hold covers a
    segment by any name under which it was seen: two cameras' names for the same content, or two
    times, are both looked at.

    Args:
        videos: rows of `videos`; those with a `deleted_utc` are passed over.
        sightings: rows of `sightings` of these videos (any day).
        now: the present.
        days: the retention; 0 lets nothing go.
        labelled: video_ids that labels or annotations speak of.
        alerts: rows of `alerts` of the videos' days and the days beside them.
        holds: the open holds.
    """
    limit = now - timedelta(days=days)
    seen = sightings.partition_by("video_id", as_dict=True)
    labels = set(labelled)
    alerted = set(alerts["video_id"])
    events: dict[str, list[tuple[datetime, datetime]]] = {}
    for camera_id, start, end in alerts.select("camera_id", "start_utc", "end_utc").iter_rows():
        events.setdefault(camera_id, []).append((start, end))
    go: list[str] = []
    kept: dict[str, tuple[Keeper, ...]] = {}
    young = 0
    for video in videos.filter(pl.col("deleted_utc").is_null()).iter_rows(named=True):
        if not days or video["start_utc"] >= limit:
            young += 1
            continue
        video_id = video["video_id"]
        names = [video, *_rows(seen.get((video_id,)))]
        keepers: list[Keeper] = []
        if video["dataset"] != SITE or any(_of_dataset(name) for name in names):
            keepers.append("dataset")
        if video_id in labels:
            keepers.append("label")
        if video_id in alerted or _touched(video, events.get(video["camera_id"], ())):
            keepers.append("alert")
        if any(is_held(hold, video, names) for hold in holds):
            keepers.append("hold")
        if keepers:
            kept[video_id] = tuple(keepers)
        else:
            go.append(video_id)
    return Decision(tuple(sorted(go)), kept, young)


def is_held(hold: Hold, video: Mapping[str, Any], names: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a hold covers a video under any of its names.

    `video` is a row of `videos`; `names` are rows with camera_id and start_utc (of `sightings`,
    or the video's own).
    """
    return any(
        hold.covers(video["video_id"], name["camera_id"], name["start_utc"], video["duration_s"])
        for name in (video, *names)
    )


def _rows(frame: pl.DataFrame | None) -> Iterator[dict[str, Any]]:
    if frame is not None:
        yield from frame.iter_rows(named=True)


def _of_dataset(name: Mapping[str, Any]) -> bool:
    """Whether a file lies in a data set's folder, by its row of `sightings` or `videos`."""
    return name.get("source") in DATASETS or name["path"].split("/", 1)[0] in DATASETS


def _touched(video: Mapping[str, Any], events: Sequence[tuple[datetime, datetime]]) -> bool:
    start: datetime = video["start_utc"]
    end = start + timedelta(seconds=video["duration_s"])
    return any(event_start <= end and event_end >= start for event_start, event_end in events)
