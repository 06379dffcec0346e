"""CVAT for video 1.1: tracks become intervals.

What belongs here: that format. What does not: CVAT for images, which knows no time.

From CVAT's documentation of its XML and its exporter's source (`formats/cvat.py`, `bindings.py`):
a `<track id label source>` holds one shape per frame, each with `frame` (0-based, counted in the
video itself whatever the task's start and frame step), `outside` (1: not visible from here on) and
`<attribute name>` elements, which may change from frame to frame. A shape stands until the track's
next one; the last stands for one step. The task's `<meta>` names the video (`<source>`), the step
(`<frame_filter>step=N</frame_filter>`) and people. Projects hold several tasks, and their tracks a
`task_id`.

A track is one stretch of one label, or a person: where it has an attribute called `label`,
`activity`, `action` or `posture`, that attribute is the label and the track is the person's.
Frame n is taken to start at n / fps, with the video's mean frame rate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fall_assets.datasets import SITE
from fall_assets.labelling.statements import Problem, Statement
from fall_assets.labelling.tools.base import Film, Films, Places, moment, whole, word, zone_name
from fall_assets.labelling.tools.safe_xml import BadXmlError, events

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_SHAPES = ("box", "polygon", "polyline", "points", "ellipse", "cuboid", "skeleton", "mask")
_LABEL_NAMES = ("label", "activity", "action", "posture")
_NOTHING = ("", "none", "no", "-", "undefined", "__undefined__")
_STEP = re.compile(r"step\s*=\s*(\d+)")


@dataclass
class _Task:
    """What the header tells of one task."""

    source: str | None = None
    step: int = 1
    annotator: str | None = None
    stated_utc: datetime | None = None


@dataclass
class _Header:
    """What stands before the first track."""

    tasks: dict[str, _Task] = field(default_factory=dict)
    main: _Task = field(default_factory=_Task)

    def of(self, task_id: str | None) -> _Task:
        return self.tasks.get(task_id or "", self.main)


def read(landing: Path, path: Path, films: Films) -> Iterator[Statement | Problem]:
    """What the tracks of a file say; the line is the number of the track in the file, from 1.

    Of a damaged file, the tracks before the damage count, and the damage is reported.
    """
    places = Places(landing, path)
    tracks = 0
    try:
        for element, header in _tracks(path):
            tracks += 1
            if element.tag == "image":
                yield places.problem(
                    tracks,
                    f"image {element.get('name', '?')}",
                    "this is CVAT for images, which knows no time; export as CVAT for video 1.1",
                )
                return
            yield from _track(element, tracks, header.of(element.get("task_id")), places, films)
    except BadXmlError as error:
        yield places.problem(tracks + 1, path.name, f"{error}; export it again")


def _tracks(path: Path) -> Iterator[tuple[Element, _Header]]:
    """Tracks (or images) one by one, with what the header before them tells."""
    header = _Header()
    inside = False
    for event, element in events(path):
        if event == "start":
            inside = inside or element.tag == "track"
        elif element.tag == "meta" and not inside:
            header = _header(element)
            element.clear()
        elif element.tag in ("track", "image"):
            inside = False
            yield element, header
            element.clear()


def _header(meta: Element) -> _Header:
    header = _Header()
    shared = word(meta.findtext("source"))
    for kind in ("task", "job"):
        if (element := meta.find(kind)) is not None:
            header.main = _task(element, shared)
    for element in meta.iterfind("project/tasks/task"):
        if (number := word(element.findtext("id"))) is not None:
            header.tasks[number] = _task(element, shared)
    if header.main.source is None:
        header.main.source = shared
    return header


def _task(element: Element, shared: str | None) -> _Task:
    found = _STEP.search(element.findtext("frame_filter") or "")
    names = (element.findtext("assignee/username"), element.findtext("owner/username"))
    return _Task(
        source=word(element.findtext("source")) or shared,
        step=max(1, int(found[1][:9])) if found else 1,
        annotator=next((name for x in names if (name := word(x))), None),
        stated_utc=moment(element.findtext("updated")),
    )


@dataclass
class _Stretch:
    """Frames from `first` to before `end` with one label and zone."""

    first: int
    end: int
    label: str
    zone: str | None


def _track(
    element: Element, number: int, task: _Task, places: Places, films: Films
) -> Iterator[Statement | Problem]:
    named = word(element.get("label")) or "?"
    text = f"track {element.get('id', '?')} ({named})"
    film = _film(task, films)
    if isinstance(film, str):
        yield places.problem(number, text, film)
        return
    if film.fps <= 0:
        yield places.problem(number, text, f"the frame rate of {film.path} is not known")
        return
    shapes = [x for x in element if x.tag in _SHAPES]
    frames = [whole(shape.get("frame")) for shape in shapes]
    if not shapes or None in frames:
        yield places.problem(
            number, text, "it has no shapes, or shapes without a frame number; export it again"
        )
        return
    ordered = sorted(
        ((frame, shape) for frame, shape in zip(frames, shapes, strict=True) if frame is not None),
        key=lambda x: x[0],
    )
    person = whole(element.get("id"))
    stretches = _stretches(ordered, named, task.step)
    if not stretches:
        yield places.problem(number, text, "it is nowhere visible with a label; correct or drop it")
    for stretch in stretches:
        yield Statement(
            place=places.at(
                number, f"{text}: {stretch.label} frames {stretch.first} to {stretch.end - 1}"
            ),
            dataset=SITE,
            target=film.path,
            is_scene=False,
            start_s=round(stretch.first / film.fps, 6),
            end_s=round(stretch.end / film.fps, 6),
            word=stretch.label,
            source="auto" if element.get("source") == "auto" else "reviewer",
            zone=stretch.zone,
            annotator=task.annotator,
            track=person,
            stated_utc=task.stated_utc,
        )


def _film(task: _Task, films: Films) -> Film | str:
    if task.source is None:
        return (
            "the file does not name its video (<source>): export the task of one video as 'CVAT "
            "for video 1.1'"
        )
    return films.by_name(task.source)


def _stretches(shapes: list[tuple[int, Element]], named: str, step: int) -> list[_Stretch]:
    """The stretches on which a track is visible under one label."""
    stretches: list[_Stretch] = []
    follows = [frame for frame, _shape in shapes[1:]] + [shapes[-1][0] + step]
    for (frame, shape), end in zip(shapes, follows, strict=True):
        if end <= frame or shape.get("outside") == "1":
            continue
        told = {(x.get("name") or "").lower(): x.text or "" for x in shape.iterfind("attribute")}
        label = next((told[name].strip() for name in _LABEL_NAMES if name in told), named)
        if label.lower() in _NOTHING:
            continue
        zone = zone_name(told.get("zone"))
        zone = None if zone in _NOTHING else zone
        latest = stretches[-1] if stretches else None
        if latest and (latest.end, latest.label, latest.zone) == (frame, label, zone):
            latest.end = end
        else:
            stretches.append(_Stretch(frame, end, label, zone))
    return stretches
