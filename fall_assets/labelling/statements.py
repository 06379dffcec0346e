"""What label files say, file by file, before it is believed.

What belongs here: the formats. What does not: whether a time or a word makes sense (see
`readers.py`). Formats:

- our own CSV, `labels/*.csv` beside a site's footage and `labels.csv` in a data set's folder:
  `file,start_s,end_s,label,source,note` and, where told, `zone,event,subject`;
- URFD's posture per frame, `urfall-cam0-falls.csv` and `urfall-cam0-adls.csv`;
- GMDCSA24's table of clips, `Subject N/ADL.csv` and `Subject N/Fall.csv`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fall_assets.footage.datasets import DATASETS, SITE
from fall_assets.footage.lines import Line, read_lines

LABELS_FOLDER = "labels"

URFD_FRAMES_PER_S = 30
"""Frame n of a URFD sequence stands at (n - 1) / 30 s."""

_URFD_LONGEST_GAP = 30
"""Frames without a label that are bridged; the files leave out single frames."""

_SOURCES = {
    "dataset": "dataset",
    "by eye": "by_eye",
    "by_eye": "by_eye",
    "simulated": "simulated",
    "reviewer": "reviewer",
    "staff": "staff",
    "auto": "auto",
}


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
    for path in _own_files(landing, dataset):
        yield from _OWN_FORMATS[dataset].read(landing, path, covered)
    for path in _common_file(landing, dataset):
        for item in _common_format(landing, path, dataset, f"{dataset}/"):
            if isinstance(item, Problem) or not covered.intersection(_names_of(dataset, item)):
                yield item


def _names_of(dataset: str, statement: Statement) -> set[str]:
    """The names under which a data set's own files may list a statement's video."""
    names = {statement.target}
    if dataset == "urfd":
        names.add(f"{dataset}/{re.sub(r'-cam[01]$', '', PurePosixPath(statement.target).stem)}")
    return names


def _common_format(
    landing: Path, path: Path, dataset: str, prefix: str
) -> Iterator[Statement | Problem]:
    required = ("file", "start_s", "end_s", "label", "source")
    for line in read_lines(path, required):
        place = _place(landing, path, line)
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
    times = _number(cells["start_s"]), _number(cells["end_s"])
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


def _urfd(landing: Path, path: Path, covered: set[str]) -> Iterator[Statement | Problem]:
    """URFD's postures, one frame a line, joined to intervals; they hold for all cameras."""
    run: _Run | None = None
    was_lying = False
    for line in read_lines(path, required=("sequence name", "frame #", "label")):
        place = _place(landing, path, line)
        if line.problem is not None:
            yield Problem(place, line.problem)
            continue
        cells = line.cells
        sequence, posture = cells.get("sequence name", ""), cells.get("label", "")
        frame = int(cells["frame #"]) if cells.get("frame #", "").isdecimal() else 0
        if not sequence or frame < 1 or posture not in ("-1", "0", "1"):
            yield Problem(place, "a sequence, a frame from 1 and a label of -1, 0 or 1 are needed")
            continue
        if run is not None and sequence == run.sequence and frame <= run.last:
            yield Problem(place, f"frame {frame} comes after frame {run.last}; sort the frames")
            continue
        covered.add(f"urfd/{sequence}")
        if run is None or sequence != run.sequence:
            was_lying = False
        joins = (
            run is not None and sequence == run.sequence and frame - run.last <= _URFD_LONGEST_GAP
        )
        if run is not None and joins and posture == run.posture:
            run.last = frame
            continue
        if run is not None:
            yield run.statement(until=frame if joins else run.last + 1)
        was_lying = was_lying or posture == "1"
        run = _Run(place, sequence, posture, frame, frame, rises=was_lying and posture == "0")
    if run is not None:
        yield run.statement(until=run.last + 1)


@dataclass
class _Run:
    """Consecutive frames of one posture; `rises` where the person lay before."""

    place: Place
    sequence: str
    posture: str
    first: int
    last: int
    rises: bool

    def statement(self, until: int) -> Statement:
        """The run as an interval that ends where frame `until` starts."""
        is_fall = self.sequence.startswith("fall")
        words = {
            "-1": "not lying",
            "0": "falling" if is_fall and not self.rises else "in between",
            "1": "lying_after_fall" if is_fall else "lying",
        }
        return Statement(
            place=self.place,
            dataset="urfd",
            target=f"urfd/{self.sequence}",
            is_scene=True,
            start_s=(self.first - 1) / URFD_FRAMES_PER_S,
            end_s=(until - 1) / URFD_FRAMES_PER_S,
            word=words[self.posture],
            source="dataset",
        )


_GMDCSA24_PIECE = re.compile(
    r"""
    (?P<word>[A-Za-z][A-Za-z ]*(?:\([A-Za-z ]*\))?)?  # 'Falling (BW)'; absent in '; 6.6 to 7.9]'
    \s* (?P<bracket>\[)? \s*
    (?P<interval>[^\]\[]*?)
    \s* \]? [\s:.,]*
    """,
    re.VERBOSE,
)


def _gmdcsa24(landing: Path, path: Path, covered: set[str]) -> Iterator[Statement | Problem]:
    """GMDCSA24's classes, as in 'Sitting[0 to 2]; Standing[2.4 to 3.6; 6.6 to 7.9]'."""
    folder = path.relative_to(landing).parent.as_posix()
    for line in read_lines(path, required=("file name", "length (seconds)", "classes")):
        place = _place(landing, path, line)
        if line.problem is not None:
            yield Problem(place, line.problem)
            continue
        name, classes = line.cells.get("file name"), line.cells.get("classes")
        if name is None:
            yield Problem(place, "no file name; fill the cell")
            continue
        target = f"{folder}/{path.stem}/{name}"
        covered.add(target)
        length = _number(line.cells.get("length (seconds)", ""))
        word: str | None = None
        pieces = [piece.strip() for piece in (classes or "").split(";") if piece.strip()]
        if not pieces:
            yield Problem(place, f"no classes for {target}; fill the cell")
        for part, piece in enumerate(pieces):
            here = Place(place.file, place.line, part, place.text)
            match = _GMDCSA24_PIECE.fullmatch(piece)
            if match is None:
                yield Problem(here, f"{piece!r} is not 'Class[start to end]'")
                continue
            word = match["word"].strip() if match["word"] else word
            ends = [_number(text) for text in re.split(r"\s+to\s+", match["interval"])]
            if word is None or len(ends) != 2 or ends[0] is None or ends[1] is None:
                what = "class" if word is None else "times"
                yield Problem(here, f"{piece!r} has no {what}; write 'Class[start to end]'")
                continue
            yield Statement(
                place=here,
                dataset="gmdcsa24",
                target=target,
                is_scene=False,
                start_s=ends[0],
                end_s=ends[1],
                word=word,
                source="dataset",
                runs_to_end=ends[1] == length,
            )


@dataclass(frozen=True)
class _OwnFormat:
    """Where a data set's own label files lie, and how one is read.

    The reader adds the names of the videos that the file lists to its last argument.
    """

    patterns: tuple[str, ...]
    read: Callable[[Path, Path, set[str]], Iterator[Statement | Problem]]


_OWN_FORMATS = {
    "urfd": _OwnFormat(("urfall-cam0-*.csv",), _urfd),
    "gmdcsa24": _OwnFormat(("Subject */ADL.csv", "Subject */Fall.csv"), _gmdcsa24),
}


def _site_files(landing: Path) -> list[Path]:
    return sorted((landing / LABELS_FOLDER).glob("*.csv"))


def _own_files(landing: Path, dataset: str) -> list[Path]:
    patterns = _OWN_FORMATS[dataset].patterns if dataset in _OWN_FORMATS else ()
    return sorted(path for x in patterns for path in (landing / dataset).glob(x))


def _common_file(landing: Path, dataset: str) -> list[Path]:
    path = landing / dataset / "labels.csv"
    return [path] if path.is_file() else []


def _place(landing: Path, path: Path, line: Line) -> Place:
    return Place(path.relative_to(landing).as_posix(), line.number, 0, line.text)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
