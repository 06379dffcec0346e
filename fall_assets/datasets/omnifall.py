"""OmniFall (Schneider et al., arXiv 2505.19889, 2025): labels for the videos of other data sets.

`labels/*.csv` of the set's repository (its STRUCTURE.md and LABELS.md describe them) with the
columns `path,label,start,end,subject,cam,dataset`: one interval a line in seconds, a class from 0
to 15, and the video's path without a suffix. They stand below `omnifall/` in the landing folder and
label the videos of UP-Fall, Le2i, GMDCSA24 and CAUCAFall that lie beside it. The set holds no
videos of its own here: its synthetic ones and those of data sets that are not known are reported
once per file.

Where a data set's own label files stand as well, both are kept: OmniFall is an annotator of its
own, and what is decided where they differ is the site's rule for annotators.

Kneeling and squatting are `bending`; lying down on purpose is `lying`; standing up, crawling and
jumping are `other`.

Its label files were seen in part (the first lines of four of them).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

from fall_assets.datasets.base import Dataset, OwnLabels, Seen, place
from fall_assets.footage.lines import read_lines
from fall_assets.labelling.statements import Place, Problem, Statement, number, place_of

ANNOTATOR = "omnifall"

_PUBLISHED_UTC = datetime(2025, 5, 26, tzinfo=UTC)
"""Newer than the labels of the data sets themselves, which are not dated."""

_CLASSES = {
    "walk": "walking",
    "fall": "fall",
    "fallen": "lying_after_fall",
    "sit_down": "sitting_down",
    "sitting": "sitting",
    "lie_down": "lying",
    "lying": "lying",
    "stand_up": "other",
    "standing": "standing",
    "other": "other",
    "kneel_down": "bending",
    "kneeling": "bending",
    "squat_down": "bending",
    "squatting": "bending",
    "crawl": "other",
    "jump": "other",
}
_NUMBERED = {str(index): word for index, word in enumerate(_CLASSES)}


def _read_path(_path: str) -> Seen | None:
    """None: videos lie in the folders of their own data sets."""
    return None


def _read_labels(landing: Path, path: Path, covered: set[str]) -> Iterator[Statement | Problem]:
    """One label file; nothing is added to `covered`, since the own label files count as well."""
    videos: dict[str, dict[tuple[str, str], list[str]]] = {}
    unknown: dict[str, tuple[Place, int]] = {}
    for line in read_lines(path, ("path", "label", "start", "end", "dataset")):
        here = place_of(landing, path, line)
        if line.problem is not None:
            yield Problem(here, line.problem)
            continue
        cells = line.cells
        video, name = cells.get("path", ""), cells.get("dataset", "")
        dataset = _dataset(name)
        if dataset is None:
            first, count = unknown.get(name, (here, 0))
            unknown[name] = (first, count + 1)
            continue
        times = number(cells.get("start", "")), number(cells.get("end", ""))
        word = cells.get("label", "")
        if times[0] is None or times[1] is None or not word:
            yield Problem(here, "a label and a start and an end in seconds are needed")
            continue
        seen = dataset.read_path(f"{video}.mp4")
        if seen is None:
            yield Problem(here, f"path {video!r} is not one of data set {name!r}; correct it")
            continue
        if dataset.name not in videos:
            videos[dataset.name] = _videos(landing, dataset)
        key = (seen.scene, seen.camera.camera_id)
        for target in videos[dataset.name].get(key, [f"{dataset.name}/{video}"]):
            yield Statement(
                place=here,
                dataset="omnifall",
                target=target,
                is_scene=False,
                start_s=times[0],
                end_s=times[1],
                word=_NUMBERED.get(word, word),
                source="dataset",
                annotator=ANNOTATOR,
                stated_utc=_PUBLISHED_UTC,
            )
    for name, (first, count) in unknown.items():
        yield Problem(
            first,
            f"{count} lines, this one the first, label videos of data set {name!r}, whose layout "
            "is not known; add it (docs/datasets.md) or leave the lines out",
        )


def _dataset(name: str) -> Dataset | None:
    """The data set that OmniFall calls so, where it is known."""
    # The list of the data sets holds this one.
    from fall_assets.datasets import DATASETS

    return DATASETS.get(name.lower()) if name.lower() != "omnifall" else None


def _videos(landing: Path, dataset: Dataset) -> dict[tuple[str, str], list[str]]:
    """Paths of the videos at hand by scene and camera."""
    paths: dict[tuple[str, str], list[str]] = {}
    for video in place(landing, dataset):
        key = (video.seen.scene, video.seen.camera.camera_id)
        paths.setdefault(key, []).append(video.path)
    return paths


DATASET = Dataset(
    name="omnifall",
    day=date(2024, 1, 8),
    read_path=_read_path,
    words=_CLASSES,
    own_labels=OwnLabels(("**/labels/*.csv",), _read_labels),
)
