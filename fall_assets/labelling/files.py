"""The label files of a landing folder, and our own format.

What belongs here: which files there are, and `labels/*.csv` beside a site's footage and
`labels.csv` in a data set's folder: `file,start_s,end_s,label,source,note` and, where told,
`zone,event,subject`. What does not: a data set's own format (its module in `fall_assets.datasets`)
and whether a time or a word makes sense (`readers.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fall_assets.datasets import DATASETS, SITE
from fall_assets.footage.lines import Line, read_lines
from fall_assets.labelling.statements import Place, Problem, Statement, number, place_of

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


def label_files(landing: Path) -> list[Path]:
    """Every label file of a landing folder, sorted; data sets' own files included."""
    files = [*_site_files(landing)]
    for dataset in DATASETS:
        files += [*_own_files(landing, dataset), *_common_file(landing, dataset)]
    return sorted(files)


def site_statements(landing: Path) -> Iterator[Statement | Problem]:
    """What the CSV files in `labels/` say; their paths are below the landing folder."""
    for path in _site_files(landing):
        yield from _common_format(landing, path, SITE, "")


def dataset_statements(landing: Path, dataset: str) -> Iterator[Statement | Problem]:
    """What a data set's own files say, and `labels.csv` for the videos that those do not list."""
    covered: set[str] = set()
    known = DATASETS[dataset]
    if known.own_labels is not None:
        for path in _own_files(landing, dataset):
            yield from known.own_labels.read(landing, path, covered)
    for path in _common_file(landing, dataset):
        for item in _common_format(landing, path, dataset, f"{dataset}/"):
            if isinstance(item, Problem) or not covered.intersection(known.names_of(item.target)):
                yield item


def _common_format(
    landing: Path, path: Path, dataset: str, prefix: str
) -> Iterator[Statement | Problem]:
    required = ("file", "start_s", "end_s", "label", "source")
    for line in read_lines(path, required):
        place = place_of(landing, path, line)
        told = _told(line, required, dataset, prefix, place)
        yield Problem(place, told) if isinstance(told, str) else told


def _told(
    line: Line, required: tuple[str, ...], dataset: str, prefix: str, place: Place
) -> Statement | str:
    """The line's statement, or what is wrong with it."""
    cells = line.cells
    if line.problem is not None:
        return line.problem
    if missing := [name for name in required if name not in cells]:
        return f"no {', '.join(missing)}; fill the cell"
    file = PurePosixPath(cells["file"])
    if file.is_absolute() or ".." in file.parts or "\\" in cells["file"]:
        return f"file {cells['file']!r} leads out of its folder; give a path below it, with '/'"
    source = _SOURCES.get(cells["source"].lower())
    if source is None:
        return (
            f"source {cells['source']!r} is not known; write one of "
            f"{', '.join(sorted(set(_SOURCES.values())))}"
        )
    times = number(cells["start_s"]), number(cells["end_s"])
    if times[0] is None or times[1] is None:
        return f"start_s {cells['start_s']!r} and end_s {cells['end_s']!r} must be numbers"
    return Statement(
        place=place,
        dataset=dataset,
        target=f"{prefix}{file.as_posix()}",
        is_scene=False,
        start_s=times[0],
        end_s=times[1],
        word=cells["label"],
        source=source,
        zone=cells["zone"].lower() if "zone" in cells else None,
        event=cells.get("event"),
        subject=cells.get("subject"),
    )


def _site_files(landing: Path) -> list[Path]:
    return sorted((landing / LABELS_FOLDER).glob("*.csv"))


def _own_files(landing: Path, dataset: str) -> list[Path]:
    own = DATASETS[dataset].own_labels
    patterns = own.patterns if own else ()
    return sorted(path for x in patterns for path in (landing / dataset).glob(x))


def _common_file(landing: Path, dataset: str) -> list[Path]:
    path = landing / dataset / "labels.csv"
    return [path] if path.is_file() else []
