"""What a label file says, before it is believed: one interval, where it stands, or what is wrong.

What belongs here: the types that every reader of label files yields. What does not: reading a
format (`files.py`, `fall_assets.datasets`) and judging whether a time or a word makes sense
(`readers.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from fall_assets.footage.lines import Line


@dataclass(frozen=True)
class Place:
    """Where something stands: the label file below the landing folder, line and part.

    Bytes of a file's name that are no UTF-8 are shown as '\\xNN', since tables hold text only.
    """

    file: str
    line: int
    part: int
    text: str

    def __post_init__(self) -> None:
        for name in ("file", "text"):
            value = getattr(self, name)
            if not value.isascii():
                shown = value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                object.__setattr__(self, name, shown)


@dataclass(frozen=True)
class Problem:
    """A part of a label file that is left out, and why."""

    place: Place
    reason: str


@dataclass(frozen=True)
class Statement:
    """One interval as a label file states it: of a video, of a scene, or of a camera's timeline.

    Attributes:
        place: where it stands.
        dataset: whose words are used.
        target: the video's path as in `videos` or `sightings`; or the scene, where the statement
            is about all cameras of a scene; or the camera, where `start_utc` is told.
        is_scene: whether `target` is a scene.
        start_s, end_s: from the segment's first frame; without meaning where `start_utc` is told.
        word: the source's own word.
        source: as the table `labels` allows.
        zone, event, subject: None where not told.
        runs_to_end: the end means the end of the clip, known to whole seconds only.
        annotator: who says so; None stands for the source's word (see `annotator_of`).
        track: the person's track in the labelling tool; None where not told.
        start_utc, end_utc: on the timeline of camera `target`, both aware of their zone; the
            interval may span segments. See `on_camera`.
        stated_utc: when it was said, aware of its zone (for published labels the day of their
            publication); None where not told. Only its order against other statements matters.
    """

    place: Place
    dataset: str
    target: str
    is_scene: bool
    start_s: float
    end_s: float
    word: str
    source: str
    zone: str | None = None
    event: str | None = None
    subject: str | None = None
    runs_to_end: bool = False
    annotator: str | None = None
    track: int | None = None
    start_utc: datetime | None = None
    end_utc: datetime | None = None
    stated_utc: datetime | None = None

    @property
    def annotator_of(self) -> str:
        """Who says so, or the source's word where nobody is told."""
        return self.annotator or self.source

    @property
    def is_on_camera(self) -> bool:
        """Whether it is about a camera's timeline."""
        return self.start_utc is not None


def on_camera(
    place: Place,
    camera_id: str,
    start_utc: datetime,
    end_utc: datetime,
    word: str,
    source: str,
    *,
    dataset: str = "site",
    zone: str | None = None,
    event: str | None = None,
    subject: str | None = None,
    annotator: str | None = None,
    track: int | None = None,
    stated_utc: datetime | None = None,
) -> Statement:
    """A statement about a camera's timeline, which may span several segments.

    Args are as for `Statement`; the times must be aware of their zone.
    """
    return Statement(
        place=place,
        dataset=dataset,
        target=camera_id,
        is_scene=False,
        start_s=0.0,
        end_s=0.0,
        word=word,
        source=source,
        zone=zone,
        event=event,
        subject=subject,
        annotator=annotator,
        track=track,
        start_utc=start_utc,
        end_utc=end_utc,
        stated_utc=stated_utc,
    )


def place_of(landing: Path, path: Path, line: Line) -> Place:
    """Where a line stands."""
    return Place(_name_below(landing, path), line.number, 0, line.text)


@lru_cache(maxsize=256)
def _name_below(landing: Path, path: Path) -> str:
    return path.relative_to(landing).as_posix()


def number(text: str) -> float | None:
    """The number that a cell holds; None where it holds none."""
    try:
        return float(text)
    except ValueError:
        return None
