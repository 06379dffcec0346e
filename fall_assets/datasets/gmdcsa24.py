"""GMDCSA24 (Alam et al., 2024, doi 10.5281/zenodo.12921216): falls and activities of four people
in their bedrooms.

`Falling` runs on to the end of the clip. Its first seconds are the fall and the rest is lying after
it: on the eight falls that were looked at, people lay 1.0 to 1.8 s after the start of the interval.
What people do (reading, eating, ...) is `other`; it may overlap a posture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from fall_assets.datasets.base import Dataset, DatasetCamera, OwnLabels, Seen
from fall_assets.footage.lines import read_lines
from fall_assets.labelling.statements import Place, Problem, Statement, number, place_of

_WORDS = {
    "falling": "fall",
    "sleeping": "lying",
    "reading": "other",
    "writing": "other",
    "eating": "other",
    "drinking": "other",
    "exercising": "other",
    "exercise": "other",
    "talking": "other",
    "picking": "bending",
}


def _read_path(path: str) -> Seen | None:
    match = re.search(r"(?:^|/)Subject[ _](\d+)/(ADL|Fall)/([^/]+)\.\w+$", path)
    if match is None:
        return None
    number, kind, name = match.groups()
    subject = f"s{int(number)}"
    camera = DatasetCamera(f"gmdcsa24-{subject}", f"gmdcsa24-{subject}", "level")
    return Seen(camera, f"{subject}-{kind.lower()}-{name}", subject)


_PIECE = re.compile(
    r"""
    (?P<word>[A-Za-z][A-Za-z ]*(?:\([A-Za-z ]*\))?)?  # 'Falling (BW)'; absent in '; 6.6 to 7.9]'
    \s* (?P<bracket>\[)? \s*
    (?P<interval>[^\]\[]*?)
    \s* \]? [\s:.,]*
    """,
    re.VERBOSE,
)


def _read_labels(landing: Path, path: Path, covered: set[str]) -> Iterator[Statement | Problem]:
    """GMDCSA24's classes, as in 'Sitting[0 to 2]; Standing[2.4 to 3.6; 6.6 to 7.9]'."""
    folder = path.relative_to(landing).parent.as_posix()
    for line in read_lines(path, required=("file name", "length (seconds)", "classes")):
        place = place_of(landing, path, line)
        if line.problem is not None:
            yield Problem(place, line.problem)
            continue
        name, classes = line.cells.get("file name"), line.cells.get("classes")
        if name is None:
            yield Problem(place, "no file name; fill the cell")
            continue
        target = f"{folder}/{path.stem}/{name}"
        covered.add(target)
        length = number(line.cells.get("length (seconds)", ""))
        word: str | None = None
        pieces = [piece.strip() for piece in (classes or "").split(";") if piece.strip()]
        if not pieces:
            yield Problem(place, f"no classes for {target}; fill the cell")
        for part, piece in enumerate(pieces):
            here = Place(place.file, place.line, part, place.text)
            match = _PIECE.fullmatch(piece)
            if match is None:
                yield Problem(here, f"{piece!r} is not 'Class[start to end]'")
                continue
            word = match["word"].strip() if match["word"] else word
            ends = [number(text) for text in re.split(r"\s+to\s+", match["interval"])]
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


DATASET = Dataset(
    name="gmdcsa24",
    day=date(2024, 1, 3),
    read_path=_read_path,
    words=_WORDS,
    own_labels=OwnLabels(("Subject */ADL.csv", "Subject */Fall.csv"), _read_labels),
    falls_include_lying=True,
)
