"""The label files of a landing folder, and our own format.

What belongs here: which files there are, which reader each has, and our CSV, `labels/*.csv` beside
a site's footage and `labels.csv` in a data set's folder. What does not: a data set's own format
(its module in `fall_assets.datasets`), a labelling tool's (`labelling.tools`), and whether a time
or a word makes sense (`readers.py`).

Our CSV tells an interval of a file, `file,start_s,end_s,label,source`, or of a camera's timeline,
`camera,start_utc,end_utc,label,source` (ISO times with a zone); one file may hold both. Where
known: `annotator,track,zone,event,subject,stated_utc,note`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath

import polars as pl

from fall_assets.datasets import DATASETS, SITE
from fall_assets.footage.lines import Line, read_lines
from fall_assets.labelling.statements import (
    Place,
    Problem,
    Statement,
    number,
    on_camera,
    place_of,
)
from fall_assets.labelling.tools import Films, reader_for

LABELS_FOLDER = "labels"

_SOURCES = {
    "dataset": "dataset",
    "by eye": "by_eye",
    "by_eye": "by_eye",
    "simulated": "simulated",
    "reviewer": "reviewer",
    "staff": "staff",
    "auto": "auto",
}
_OF_FILE = ("file", "start_s", "end_s", "label", "source")
_OF_CAMERA = ("camera", "start_utc", "end_utc", "label", "source")

_ALWAYS_LABELS = (".csv", ".tsv", ".json", ".xml", ".eaf")
_PERHAPS_LABELS = ".txt"
"""Notes have this suffix, too: such a file is one of labels where a tool's reader knows it."""


def label_files(landing: Path) -> list[Path]:
    """Every label file of a landing folder, sorted; data sets' own files included."""
    files = [*_site_files(landing)]
    for dataset in DATASETS:
        files += [*_own_files(landing, dataset), *_common_file(landing, dataset)]
    return sorted(files)


def site_statements(
    landing: Path, videos: pl.DataFrame, sightings: pl.DataFrame | None = None
) -> Iterator[Statement | Problem]:
    """What the files in `labels/` say; paths in our CSV are below the landing folder.

    Args:
        landing: the landing folder.
        videos: rows of the table `videos`, for tools that count in frames.
        sightings: path and video_id of the table `sightings`: other names of the same videos.
    """
    films: Films | None = None
    for path in _site_files(landing):
        reader = reader_for(path)
        if reader is not None:
            films = films or Films(videos, sightings)
            yield from reader(landing, path, films)
        elif path.suffix.lower() == ".csv":
            yield from _common_format(landing, path, SITE, "")
        else:
            place = Place(path.relative_to(landing).as_posix(), 1, 0, "")
            yield Problem(
                place,
                "not the export of a labelling tool that is known (see docs/labelling-tools.md); "
                "export it again in one of those formats, or take the file away",
            )


def dataset_statements(landing: Path, dataset: str) -> Iterator[Statement | Problem]:
    """What a data set's own files say, and `labels.csv` for the videos that those do not list;
    where neither lists a video, what its name tells.

    Lines of `labels.csv` that name an annotator are a second opinion: they are read for all
    videos.
    """
    covered: set[str] = set()
    known = DATASETS[dataset]
    if known.own_labels is not None:
        for path in _own_files(landing, dataset):
            yield from known.own_labels.read(landing, path, covered)
    told = set(covered)
    for path in _common_file(landing, dataset):
        for item in _common_format(landing, path, dataset, f"{dataset}/"):
            if (
                isinstance(item, Problem)
                or item.is_on_camera
                or item.annotator is not None
                or not covered.intersection(known.names_of(item.target))
            ):
                if isinstance(item, Statement):
                    told.add(item.target)
                yield item
    if known.read_names is not None:
        yield from known.read_names(landing, told)


def _common_format(
    landing: Path, path: Path, dataset: str, prefix: str
) -> Iterator[Statement | Problem]:
    for line in read_lines(path, _required(path)):
        place = place_of(landing, path, line)
        told = _told(line, dataset, prefix, place)
        yield Problem(place, told) if isinstance(told, str) else told


def _required(path: Path) -> tuple[str, ...]:
    """The columns that a file of our format must have, by whether it speaks of files or cameras."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = next((line for line in file if line.strip()), "")
    try:
        names = {cell.strip().lower() for cell in next(csv.reader([header]), [])}
    except csv.Error:
        names = set()
    if "camera" not in names:
        return _OF_FILE
    return _OF_CAMERA if "file" not in names else tuple(dict.fromkeys(_OF_FILE + _OF_CAMERA))


def _told(line: Line, dataset: str, prefix: str, place: Place) -> Statement | str:
    """The line's statement, or what is wrong with it."""
    cells = line.cells
    if line.problem is not None:
        return line.problem
    of_camera = "camera" in cells and "file" not in cells
    required = _OF_CAMERA if of_camera else _OF_FILE
    if missing := [name for name in required if name not in cells]:
        return f"no {', '.join(missing)}; fill the cell"
    source = _SOURCES.get(cells["source"].lower())
    if source is None:
        return (
            f"source {cells['source']!r} is not known; write one of "
            f"{', '.join(sorted(set(_SOURCES.values())))}"
        )
    track = cells.get("track")
    if track is not None and not (track.isascii() and track.isdecimal() and len(track) <= 18):
        return f"track {track!r} must be a whole number from 0"
    stated = _moment(cells["stated_utc"]) if "stated_utc" in cells else None
    if "stated_utc" in cells and stated is None:
        return _no_moment("stated_utc", cells)
    zone, event, subject = cells.get("zone"), cells.get("event"), cells.get("subject")
    zone = zone.lower() if zone else None
    annotator, number_of_track = cells.get("annotator"), int(track) if track else None
    if of_camera:
        start, end = _moment(cells["start_utc"]), _moment(cells["end_utc"])
        if start is None or end is None:
            return _no_moment("start_utc" if start is None else "end_utc", cells)
        return on_camera(
            place,
            cells["camera"],
            start,
            end,
            cells["label"],
            source,
            dataset=dataset,
            zone=zone,
            event=event,
            subject=subject,
            annotator=annotator,
            track=number_of_track,
            stated_utc=stated,
        )
    target = _below(cells["file"], prefix)
    if target is None:
        return f"file {cells['file']!r} leads out of its folder; give a path below it, with '/'"
    times = number(cells["start_s"]), number(cells["end_s"])
    if times[0] is None or times[1] is None:
        return f"start_s {cells['start_s']!r} and end_s {cells['end_s']!r} must be numbers"
    return Statement(
        place=place,
        dataset=dataset,
        target=target,
        is_scene=False,
        start_s=times[0],
        end_s=times[1],
        word=cells["label"],
        source=source,
        zone=zone,
        event=event,
        subject=subject,
        annotator=annotator,
        track=number_of_track,
        stated_utc=stated,
    )


def _below(text: str, prefix: str) -> str | None:
    """The path as in `videos`; None where it leads out of its folder."""
    if text.startswith("s3://") and not prefix:
        return text
    file = PurePosixPath(text)
    if file.is_absolute() or ".." in file.parts or "\\" in text:
        return None
    return f"{prefix}{file.as_posix()}"


def _moment(text: str) -> datetime | None:
    """An ISO time with a zone; None where it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if moment.tzinfo is None else moment


def _no_moment(name: str, cells: dict[str, str]) -> str:
    return f"{name} {cells[name]!r} must be a time with its zone, as in 2026-03-01T08:15:00Z"


def _site_files(landing: Path) -> list[Path]:
    found = []
    for path in sorted((landing / LABELS_FOLDER).glob("*")):
        suffix = path.suffix.lower()
        if path.name.startswith(".") or not path.is_file():
            continue
        if suffix in _ALWAYS_LABELS or (suffix == _PERHAPS_LABELS and reader_for(path) is not None):
            found.append(path)
    return found


def _own_files(landing: Path, dataset: str) -> list[Path]:
    own = DATASETS[dataset].own_labels
    patterns = own.patterns if own else ()
    found = (path for x in patterns for path in (landing / dataset).glob(x))
    return sorted(path for path in found if path.is_file())


def _common_file(landing: Path, dataset: str) -> list[Path]:
    path = landing / dataset / "labels.csv"
    return [path] if path.is_file() else []
