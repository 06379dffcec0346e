"""What a label file says, before it is believed: one interval, where it stands, or what is wrong.

What belongs here: the types that every reader of label files yields. What does not: reading a
format (`files.py`, `fall_assets.datasets`) and judging whether a time or a word makes sense
(`readers.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fall_assets.footage.lines import Line


@dataclass(frozen=True)
class Place:
    """Where something stands: the label file below the landing folder, line and part."""

    file: str
    line: int
    part: int
    text: str


@dataclass(frozen=True)
class Problem:
    """A part of a label file that is left out, and why."""

    place: Place
    reason: str


@dataclass(frozen=True)
class Statement:
    """One interval as a label file states it.

    Attributes:
        place: where it stands.
        dataset: whose words are used.
        target: the video's path below the landing folder; or the scene, where the statement is
            about all cameras of a scene.
        is_scene: which of the two `target` is.
        start_s, end_s: from the segment's first frame.
        word: the source's own word.
        source: as the table `labels` allows.
        zone, event, subject: None where not told.
        runs_to_end: the end means the end of the clip, known to whole seconds only.
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


def place_of(landing: Path, path: Path, line: Line) -> Place:
    """Where a line stands."""
    return Place(path.relative_to(landing).as_posix(), line.number, 0, line.text)


def number(text: str) -> float | None:
    """The number that a cell holds; None where it holds none."""
    try:
        return float(text)
    except ValueError:
        return None
