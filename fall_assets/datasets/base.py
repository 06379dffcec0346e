"""What a data set's module says: how its paths are read, its label files, and its words.

What belongs here: the types and the walk that all data sets share. What does not: anything of one
data set (its own module) and the rules for what can be a label (`labelling/readers.py`).

A data set is recognised by its folder's name in the landing folder. It has no dates, so each gets
one nominal day, and its scenes start one after the other on a fixed grid of that day, in the order
of their names; cameras that saw the same scene start together. Where names number the scenes,
each has a fixed slot, so that parts of a data set that come later do not move what is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from fall_assets.errors import PermanentFailureError
from fall_assets.labelling.statements import Place, Problem, Statement

SITE = "site"
"""What stands in place of a data set's name for the hospital's own footage."""

SLOT_S = 180
"""Seconds from one scene's start to the next one's; longer than a data set's longest segment."""

WHOLE_CLIP_S = 3600.0
"""The end of an interval that lasts as long as its clip, where nobody tells how long that is."""

_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v"})


@dataclass(frozen=True)
class DatasetCamera:
    """A camera of a data set, in the words of the table `cameras`.

    `crop` is 'x0,y0,x1,y1' as shares of the picture; None is the whole picture.
    """

    camera_id: str
    room: str
    view: str
    crop: str | None = None


@dataclass(frozen=True)
class Seen:
    """What one path below a data set's folder tells.

    `scene` is what several cameras saw at once; `subject` is None where nobody tells; `slot` is
    the scene's place on the nominal day, from 0, where its name tells one.
    """

    camera: DatasetCamera
    scene: str
    subject: str | None = None
    slot: int | None = None


LabelReader = Callable[[Path, Path, set[str]], Iterator[Statement | Problem]]
"""Reads one label file, given the landing folder and the file's path; adds the names of the videos
that the file lists to its last argument.
"""


NameReader = Callable[[Path, set[str]], Iterator[Statement | Problem]]
"""What the videos' own names tell, given the landing folder and the names of the videos and scenes
that label files list already.
"""


@dataclass(frozen=True)
class OwnLabels:
    """A data set's own label files: patterns below its folder, and how one is read."""

    patterns: tuple[str, ...]
    read: LabelReader


def _own_name(target: str) -> set[str]:
    return {target}


@dataclass(frozen=True)
class Dataset:
    """One data set.

    Attributes:
        name: of its folder in the landing folder.
        day: its nominal day.
        read_path: what a path below its folder tells; None where it tells nothing known.
        words: its own words, in lower case, and the label that each stands for.
        own_labels: its own label files; None where it has none.
        names_of: the names under which its own label files may list a video of `labels.csv`.
        falls_include_lying: whether its falls run on to the end of the clip.
        read_names: labels that the videos' names tell, for videos that no label file lists.
        slot_s: seconds from one scene's start to the next one's, where SLOT_S does not fit.
    """

    name: str
    day: date
    read_path: Callable[[str], Seen | None]
    words: Mapping[str, str] = field(default_factory=dict)
    own_labels: OwnLabels | None = None
    names_of: Callable[[str], set[str]] = _own_name
    falls_include_lying: bool = False
    read_names: NameReader | None = None
    slot_s: int = SLOT_S


@dataclass(frozen=True)
class Placed:
    """One file of a data set with its nominal start; `path` is below the landing folder."""

    path: str
    start_utc: datetime
    seen: Seen


def place(landing: Path, dataset: Dataset) -> list[Placed]:
    """The videos of one data set with their nominal starts, sorted by path.

    Files whose path tells nothing known are passed by, as are hidden ones. Only names are read.

    Raises PermanentFailureError where there are more scenes than the nominal day holds.
    """
    files: list[tuple[str, Seen]] = []
    for path in _videos_below(landing, dataset.name):
        seen = dataset.read_path(path.removeprefix(f"{dataset.name}/"))
        if seen is not None:
            files.append((path, seen))
    slots = _slots({seen.scene: seen.slot for _path, seen in files})
    last = max(slots.values(), default=0)
    if (last + 1) * dataset.slot_s > 86_400:
        raise PermanentFailureError(
            f"data set {dataset.name} has {last + 1} scenes, more than its nominal day holds "
            f"({86_400 // dataset.slot_s}); leave some out, or lay the footage out with a path "
            "template"
        )
    midnight = datetime(dataset.day.year, dataset.day.month, dataset.day.day, tzinfo=UTC)
    return [
        Placed(path, midnight + timedelta(seconds=dataset.slot_s * slots[seen.scene]), seen)
        for path, seen in sorted(files, key=lambda file: file[0])
    ]


def scene_names(dataset: str, read_path: Callable[[str], Seen | None], target: str) -> set[str]:
    """The names of a video where own label files list scenes: its path, and '<data set>/<scene>'.

    For `Dataset.names_of`; `target` is the video's path below the landing folder.
    """
    seen = read_path(target.removeprefix(f"{dataset}/"))
    return {target} if seen is None else {target, f"{dataset}/{seen.scene}"}


def _slots(wanted: Mapping[str, int | None]) -> dict[str, int]:
    """A slot of its own for each scene: the one its name tells, else the first that is free."""
    slots: dict[str, int] = {}
    taken: set[int] = set()
    for scene in sorted(wanted):
        slot = wanted[scene]
        if slot is not None and slot not in taken:
            slots[scene] = slot
            taken.add(slot)
    free = 0
    for scene in sorted(wanted.keys() - slots.keys()):
        while free in taken:
            free += 1
        slots[scene] = free
        taken.add(free)
    return slots


def _videos_below(landing: Path, name: str) -> list[str]:
    found = []
    for folder, subfolders, files in os.walk(landing / name):
        subfolders[:] = sorted(entry for entry in subfolders if not entry.startswith("."))
        found += [
            Path(folder, file).relative_to(landing).as_posix()
            for file in files
            if not file.startswith(".") and Path(file).suffix.lower() in _SUFFIXES
        ]
    return sorted(found)


def falls_without_times(falls: list[str], remedy: str) -> Iterator[Problem]:
    """One problem for all videos whose names tell a fall, but not when; none without such videos.

    `falls` are paths below the landing folder; `remedy` says what to lay beside them.
    """
    if falls:
        yield Problem(
            Place(falls[0], 1, 0, falls[0]),
            f"names tell that somebody falls in {len(falls)} videos, this one the first, but not "
            f"when; {remedy}",
        )
