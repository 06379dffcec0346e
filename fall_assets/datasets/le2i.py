"""Le2i, the Fall Detection Dataset of Dijon (Charfi et al., Journal of Electronic Imaging 22(4)
041106, 2013; doi 10.25666/DATAUBFC-2024-04-09): falls and daily life in six rooms, one camera each.

Layout, as the release unpacks: `Coffee_room_01/Coffee_room_01/Videos/video (1).avi` and beside it
`Annotation_files/video (1).txt` (`Annotations_files` in Coffee_room_02). `Lecture room` and
`Office` have neither a folder `Videos` nor annotations. OmniFall's names, `Coffee_room_01/video_1`,
are understood as well.

An annotation's first two lines are the first and the last frame of the fall, or 0 and 0 where
nobody falls; then comes one line per frame with a box around the person. In one file the two
numbers come after the first box, in two they are missing: those are reported. Before a fall a
person walks, stands or sits, which is `other` here; what comes after it is not labelled, since the
files do not say whether the person stays down.

Nobody tells who is seen. The room stands in place of the subject, so that a split never has one
room, and with it most of its people, on both sides.

The real files were not at hand: layout, the three odd files and the frame rates (24 per second in
Home_01 and Home_02, 25 elsewhere) are as an inspection of the whole release reports them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

from fall_assets.datasets.base import (
    WHOLE_CLIP_S,
    Dataset,
    DatasetCamera,
    OwnLabels,
    Seen,
    scene_names,
)
from fall_assets.labelling.statements import Place, Problem, Statement


@dataclass(frozen=True)
class _Room:
    """A room: its frame rate, its first video's number, and its first slot of the day."""

    fps: float
    first: int
    last: int
    slot: int


_ROOMS = {
    "coffee_room_01": _Room(25, 1, 48, 0),
    "coffee_room_02": _Room(25, 49, 70, 48),
    "home_01": _Room(24, 1, 30, 70),
    "home_02": _Room(24, 31, 60, 100),
    "lecture_room": _Room(25, 1, 27, 130),
    "office": _Room(25, 1, 33, 157),
}
_PATH = re.compile(
    r"(?:^|/)(Coffee_room_0[12]|Home_0[12]|Lecture[ _]room|Office)/"
    r"(?:Videos/|Annotations?_files/)?video[ _]?\(?(\d+)\)?\.\w+$",
    re.IGNORECASE,
)
_HEAD_LINES = 4
"""The two numbers are looked for in so many lines."""


def _read_path(path: str) -> Seen | None:
    match = _PATH.search(path)
    if match is None:
        return None
    name, video = match[1].lower().replace(" ", "_"), int(match[2])
    room = _ROOMS[name]
    camera = DatasetCamera(f"le2i-{name}", f"le2i-{name}", "unknown")
    slot = room.slot + video - room.first if room.first <= video <= room.last else None
    return Seen(camera, f"{name}-{video:02}", name, slot)


def _names_of(target: str) -> set[str]:
    return scene_names("le2i", _read_path, target)


def _read_labels(landing: Path, path: Path, covered: set[str]) -> Iterator[Statement | Problem]:
    """One annotation file: whether and when somebody falls."""
    name = path.relative_to(landing).as_posix()
    seen = _read_path(name)
    lines = _head(path)
    first = Place(name, 1, 0, lines[0][1] if lines else "")
    if seen is None:
        yield Problem(first, "the file's name is not like 'video (1).txt' below a room's folder")
        return
    span = _span(lines)
    if span is None:
        yield Problem(
            first,
            "the two lines with the first and the last frame of the fall are missing; add them, or "
            "0 and 0 where nobody falls",
        )
        return
    line, start, end = span
    place = Place(name, line, 0, f"{start} {end}")
    if (start, end) != (0, 0) and not 1 <= start <= end:
        yield Problem(
            place,
            f"a fall from frame {start} to frame {end} cannot be; correct the two lines, or write "
            "0 and 0 where nobody falls",
        )
        return
    scene = f"le2i/{seen.scene}"
    covered.add(scene)
    fps = _ROOMS[seen.scene.rsplit("-", 1)[0]].fps
    if end == 0:
        yield _statement(place, scene, 0.0, WHOLE_CLIP_S, "no fall")
        return
    if start > 1:
        yield _statement(place, scene, 0.0, (start - 1) / fps, "before the fall")
    # Frame n is seen from (n - 1) / fps to n / fps.
    after = Place(name, line, 1, place.text)
    yield _statement(after, scene, (start - 1) / fps, end / fps, "fall")


def _head(path: Path) -> list[tuple[int, str]]:
    """The first lines that are not empty, with their numbers."""
    lines: list[tuple[int, str]] = []
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line in range(1, 100):
            # A line without an end is not read whole.
            text = file.readline(1000)
            if not text or len(lines) == _HEAD_LINES:
                break
            if text.strip():
                lines.append((line, text.strip()))
    return lines


def _span(lines: list[tuple[int, str]]) -> tuple[int, int, int] | None:
    """Line, first and last frame: the first two lines that hold nothing but a number each."""
    for (line, text), (_next, following) in pairwise(lines):
        if re.fullmatch(r"[0-9]{1,9}", text) and re.fullmatch(r"[0-9]{1,9}", following):
            return line, int(text), int(following)
    return None


def _statement(place: Place, scene: str, start_s: float, end_s: float, word: str) -> Statement:
    return Statement(
        place=place,
        dataset="le2i",
        target=scene,
        is_scene=True,
        start_s=start_s,
        end_s=end_s,
        word=word,
        source="dataset",
        runs_to_end=end_s == WHOLE_CLIP_S,
    )


DATASET = Dataset(
    name="le2i",
    day=date(2024, 1, 6),
    read_path=_read_path,
    words={"no fall": "other", "before the fall": "other"},
    own_labels=OwnLabels(("**/Annotation*_files/*.txt",), _read_labels),
    names_of=_names_of,
)
