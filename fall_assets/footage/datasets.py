"""Data sets that come as a folder without a clock: how their paths tell camera, scene and time.

What belongs here: the layout of each data set that is known. What does not: its labels (see
`labelling/readers.py`).

A data set is recognised by its folder's name in the landing folder. It has no dates, so each gets
one nominal day, and its scenes start one after the other on a fixed grid of that day, in the order
of their names; cameras that saw the same scene start together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from fall_assets.errors import PermanentFailureError

SLOT_S = 180
"""Seconds from one scene's start to the next one's; longer than any segment of the data sets."""

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

    `scene` is what several cameras saw at once; `subject` is None where nobody tells.
    """

    camera: DatasetCamera
    scene: str
    subject: str | None = None


@dataclass(frozen=True)
class Dataset:
    """One data set: its folder's name, its nominal day and how to read its paths."""

    name: str
    day: date
    read_path: Callable[[str], Seen | None]


@dataclass(frozen=True)
class Placed:
    """One file of a data set with its nominal start; `path` is below the landing folder."""

    path: str
    start_utc: datetime
    seen: Seen


def _urfd(path: str) -> Seen | None:
    match = re.search(r"(?:^|/)((?:fall|adl)-\d+)-(cam[01])\.\w+$", path)
    if match is None:
        return None
    scene, camera = match.groups()
    return Seen(_URFD_CAMERAS[camera], scene)


def _gmdcsa24(path: str) -> Seen | None:
    match = re.search(r"(?:^|/)Subject (\d+)/(ADL|Fall)/([^/]+)\.\w+$", path)
    if match is None:
        return None
    number, kind, name = match.groups()
    subject = f"s{int(number)}"
    camera = DatasetCamera(f"gmdcsa24-{subject}", f"gmdcsa24-{subject}", "level")
    return Seen(camera, f"{subject}-{kind.lower()}-{name}", subject)


def _assist_iot(path: str) -> Seen | None:
    match = re.search(r"(?:^|/)(adl|fall|imm)/([^/]+)\.\w+$", path)
    if match is None:
        return None
    kind, name = match.groups()
    key = f"{kind}/{name}"
    return Seen(
        _ASSIST_CAMERAS[_ASSIST_LAYOUTS.get(key, "lab")],
        f"{kind}-{name}",
        _ASSIST_SUBJECTS.get(key),
    )


def _people_walking(path: str) -> Seen | None:
    return Seen(_PEOPLE_WALKING_CAMERA, Path(path).stem)


_URFD_CAMERAS = {
    "cam0": DatasetCamera("urfd-cam0", "urfd", "level"),
    "cam1": DatasetCamera("urfd-cam1", "urfd", "ceiling"),
}
_PEOPLE_WALKING_CAMERA = DatasetCamera("people_walking", "people_walking", "corner")

# One frame shows two views, black bars and a clock. The larger view is used; it stands left in most
# files, right in some, and the staircase has other sizes (edges measured on 22 files of 1280x720:
# 854x640 left, from x = 427 right, 769x576 from x = 511 on the stairs).
_ASSIST_CAMERAS = {
    "lab": DatasetCamera("assist_iot-lab", "assist_iot-lab", "level", "0,0,0.6664,0.8889"),
    "lab-right": DatasetCamera(
        "assist_iot-lab-right", "assist_iot-lab", "level", "0.3336,0,1,0.8889"
    ),
    "stairs": DatasetCamera("assist_iot-stairs", "assist_iot-stairs", "corner", "0.4,0,1,0.8"),
}
_ASSIST_LAYOUTS = {
    "adl/06_walking_stairs_quickly": "stairs",
    "adl/11_sitting_laying_down_slowly": "lab-right",
    "adl/12_sitting_laying_down_quickly": "lab-right",
    "adl/19_raising_hands": "lab-right",
}
# Read off the frames: one person per recording day, told apart by the burnt-in date and clothes.
_ASSIST_SUBJECTS = {
    "adl/01_walking_slowly": "2023-02-06",
    "adl/02_walking_quickly": "2023-02-06",
    "adl/03_jogging_slowly": "2023-02-09",
    "adl/04_jogging_quickly": "2023-02-09",
    "adl/06_walking_stairs_quickly": "2023-02-01",
    "adl/07_sitting_high_chair": "2023-02-06",
    "adl/08_low_chair_sitting_slowly": "2023-02-09",
    "adl/09_low_chair_sitting_quickly": "2023-02-09",
    "adl/10_collapsing_onto_chair": "2023-02-09",
    "adl/11_sitting_laying_down_slowly": "2023-02-07",
    "adl/12_sitting_laying_down_quickly": "2023-02-07",
    "adl/13_bending_at_knees": "2023-02-06",
    "adl/14_bending_wo_knees": "2023-02-06",
    "adl/15_stumbling": "2023-02-06",
    "adl/16_jumping_reaching": "2023-02-09",
    "adl/17_crawling": "2023-02-06",
    "adl/18_multiple_jumps": "2023-02-09",
    "adl/19_raising_hands": "2023-02-07",
    "fall/05_vertical_fall_faint": "2023-02-09",
    "fall/07_fall_to_knees_forward": "2023-02-06",
    "imm/01_imm_back": "2023-02-06",
    "imm/02_imm_stomach": "2023-02-06",
}

DATASETS: Mapping[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset("urfd", date(2024, 1, 1), _urfd),
        Dataset("assist_iot", date(2024, 1, 2), _assist_iot),
        Dataset("gmdcsa24", date(2024, 1, 3), _gmdcsa24),
        Dataset("people_walking", date(2024, 1, 4), _people_walking),
    )
}
"""The data sets that are known, by the name of their folder."""

SITE = "site"
"""What stands in place of a data set's name for the hospital's own footage."""


def dataset_of_camera(camera_id: str) -> str:
    """The data set whose camera this is, or 'site'."""
    name = camera_id.split("-", 1)[0]
    return name if name in DATASETS else SITE


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
    scenes = sorted({seen.scene for _path, seen in files})
    if len(scenes) * SLOT_S > 86_400:
        raise PermanentFailureError(
            f"data set {dataset.name} has {len(scenes)} scenes, more than its nominal day holds "
            f"({86_400 // SLOT_S}); leave some out, or lay the footage out with a path template"
        )
    midnight = datetime(dataset.day.year, dataset.day.month, dataset.day.day, tzinfo=UTC)
    starts = {scene: midnight + timedelta(seconds=SLOT_S * i) for i, scene in enumerate(scenes)}
    return [Placed(path, starts[seen.scene], seen) for path, seen in sorted(files)]


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
