"""CAUCAFall (Eraso et al., Data in Brief 45, 2022, doi 10.1016/j.dib.2022.108610; Mendeley Data
7w7fccy7ky): ten people, five falls and five activities each, one camera in a home.

Layout, as the release unpacks: `CAUCAFall/Subject.1/Fall backwards/FallBackwardsS1.avi`, beside it
the same film as PNG frames (`cas100001.png`, ...), for each frame a text file with the person's box
(`0 0.309 0.526 0.215 0.490`) and `classes.txt` with the names of the classes, `nofall` and, in the
falls' folders, `fall`. The video counts, its frames do not. OmniFall's names,
`backwards/FallBackwardsS1`, are understood as well.

Text file n, in the order of the numbers in the names, stands for frame n of the video at 20 per
second; the videos are a frame or two shorter than the sequences. `fall` runs on while the person
lies, mostly to the end: its first 1.5 s are the fall and the rest is lying after it. It begins soon
after the fall does: 65 % of the falls' frames are `fall`, and by OmniFall's times 70 % of subject
1's stand after the start of the fall, 32 % after its end. In daily life the folder's name tells
more than `nofall` and is the label of the whole clip.

The real files were not at hand: layout, counts and the odd names are as others' inspections of the
whole release report them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from fall_assets.datasets.base import (
    WHOLE_CLIP_S,
    Dataset,
    DatasetCamera,
    OwnLabels,
    Seen,
    falls_without_times,
    place,
    scene_names,
)
from fall_assets.labelling.statements import Place, Problem, Statement

FRAMES_PER_S = 20
"""Frame n of a sequence stands at (n - 1) / 20 s."""

_FALLS = ("fallbackwards", "fallforward", "fallleft", "fallright", "fallsitting")
_DAILY_LIFE = ("hop", "kneel", "pickupobject", "sitdown", "walk")
_ACTIVITIES = _FALLS + _DAILY_LIFE
_WORDS = {
    "nofall": "other",
    "hop": "other",
    "kneel": "bending",
    "pickupobject": "bending",
    "sitdown": "sitting_down",
    "walk": "walking",
}
_CAMERA = DatasetCamera("caucafall", "caucafall", "unknown")
_SUBJECTS = 10


def _seen(activity: str, subject: int) -> Seen:
    slot = (subject - 1) * len(_ACTIVITIES) + _ACTIVITIES.index(activity)
    known = 1 <= subject <= _SUBJECTS
    return Seen(_CAMERA, f"s{subject:02}-{activity}", f"s{subject}", slot if known else None)


def _read_path(path: str) -> Seen | None:
    match = re.search(rf"(?:^|/)({'|'.join(_ACTIVITIES)})S(\d+)\.\w+$", path, re.IGNORECASE)
    return None if match is None else _seen(match[1].lower(), int(match[2]))


def _names_of(target: str) -> set[str]:
    return scene_names("caucafall", _read_path, target)


def _read_labels(landing: Path, path: Path, covered: set[str]) -> Iterator[Statement | Problem]:
    """One activity's folder, known by its `classes.txt`: the classes of its frames."""
    name = path.relative_to(landing).as_posix()
    here = Place(name, 1, 0, "")
    match = re.search(r"Subject\.?(\d+)/([^/]+)/classes\.txt$", name, re.IGNORECASE)
    activity = match[2].lower().replace(" ", "") if match else ""
    if match is None or activity not in _ACTIVITIES:
        yield Problem(
            here, "the folder is not like 'Subject.1/Fall backwards'; give it its own name back"
        )
        return
    scene = f"caucafall/{_seen(activity, int(match[1])).scene}"
    if activity in _DAILY_LIFE:
        covered.add(scene)
        yield _statement(here, scene, 0.0, WHOLE_CLIP_S, activity, to_end=True)
        return
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        classes = [line.strip().lower() for line in file.read(1000).splitlines()]
    frames = _frames(path.parent)
    if not frames:
        yield Problem(here, "no frame of the folder has a text file; unpack the folder whole")
        return
    covered.add(scene)
    run: tuple[str, int, Place] | None = None
    for number, frame in enumerate(frames):
        file_name = frame.relative_to(landing).as_posix()
        word, text = _word_of(frame, classes)
        if word is None:
            yield Problem(
                Place(file_name, 1, 0, text),
                f"the line does not start with a class of classes.txt ({', '.join(classes)}); "
                "correct it",
            )
        if run is not None and word != run[0]:
            yield _run(run, number, scene, to_end=False)
            run = None
        if run is None and word is not None:
            run = (word, number, Place(file_name, 1, 0, text))
    if run is not None:
        yield _run(run, len(frames), scene, to_end=True)


def _run(run: tuple[str, int, Place], until: int, scene: str, *, to_end: bool) -> Statement:
    word, first, place = run
    start_s, end_s = first / FRAMES_PER_S, until / FRAMES_PER_S
    return _statement(place, scene, start_s, end_s, word, to_end=to_end)


def _statement(
    place: Place, scene: str, start_s: float, end_s: float, word: str, *, to_end: bool
) -> Statement:
    return Statement(
        place=place,
        dataset="caucafall",
        target=scene,
        is_scene=True,
        start_s=start_s,
        end_s=end_s,
        word=word,
        source="dataset",
        runs_to_end=to_end,
    )


def _frames(folder: Path) -> list[Path]:
    """The frames' text files in order of the last number in their names."""
    numbered = []
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122
            numbers = re.findall(r"[0-9]+", stem)
            if suffix == ".txt" and stem != "classes" and numbers and entry.is_file():
                numbered.append((int(numbers[-1][:18]), entry.name, Path(entry.path)))
    return [path for _number, _name, path in sorted(numbered)]


def _word_of(path: Path, classes: list[str]) -> tuple[str | None, str]:
    """The class of one frame, None where it cannot be told, and the line that tells it."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        text = file.readline(200).strip()
    cell = text.split(maxsplit=1)[0] if text else ""
    number = int(cell) if re.fullmatch(r"[0-9]{1,3}", cell) else len(classes)
    return (classes[number] if number < len(classes) else None), text


def _read_names(landing: Path, covered: set[str]) -> Iterator[Statement | Problem]:
    """What clips of daily life are, where the frames' text files were left out."""
    falls: list[str] = []
    for video in place(landing, DATASET):
        scene = f"caucafall/{video.seen.scene}"
        if scene in covered or video.path in covered:
            continue
        activity = video.seen.scene.split("-", 1)[1]
        if activity in _FALLS:
            falls.append(video.path)
        else:
            here = Place(video.path, 1, 0, video.path)
            yield _statement(here, scene, 0.0, WHOLE_CLIP_S, activity, to_end=True)
    yield from falls_without_times(
        falls,
        "leave the frames' text files and classes.txt beside them, or add OmniFall's "
        "labels/caucafall.csv",
    )


DATASET = Dataset(
    name="caucafall",
    day=date(2024, 1, 7),
    read_path=_read_path,
    words=_WORDS,
    own_labels=OwnLabels(("**/classes.txt",), _read_labels),
    names_of=_names_of,
    falls_include_lying=True,
    read_names=_read_names,
)
