"""URFD, the UR Fall Detection Dataset (Kwolek and Kepski, Computer Methods and Programs in
Biomedicine 117(3), 2014): 30 falls from two cameras, 40 activities of daily living.

Its own labels say per frame whether a person is not lying (-1), in between (0) or lying (1). In a
fall, 'in between' is the descent and 'lying' what follows it; in daily life, 'in between' is
sitting or lying down and stays `other`, since the data set does not say which.

Its authors (https://fenix.ur.edu.pl/~mkepski/ds/uf.html) give each sequence as a zip of PNG frames,
`fall-01-cam0-rgb.zip`: `fall-assets frames pack urfd-zips urfd --fps 30` makes videos of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath

from fall_assets.datasets.base import Dataset, DatasetCamera, OwnLabels, Seen
from fall_assets.footage.lines import read_lines
from fall_assets.labelling.statements import Place, Problem, Statement, place_of

FRAMES_PER_S = 30
"""Frame n of a sequence stands at (n - 1) / 30 s."""

_LONGEST_GAP = 30
"""Frames without a label that are bridged; the files leave out single frames."""

_CAMERAS = {
    "cam0": DatasetCamera("urfd-cam0", "urfd", "level"),
    "cam1": DatasetCamera("urfd-cam1", "urfd", "ceiling"),
}
_SLOTS = {"adl": (0, 40), "fall": (40, 30)}
_WORDS = {
    "upright_or_other": "other",
    "adl_not_lying": "other",
    "adl_intermediate_pose": "other",
    "adl_lying": "lying",
    "falling": "fall",
    "not lying": "other",
    "in between": "other",
}


def _read_path(path: str) -> Seen | None:
    match = re.search(r"(?:^|/)((fall|adl)-(\d+))-(cam[01])(?:-rgb)?\.\w+$", path)
    if match is None:
        return None
    scene, kind, number, camera = match.groups()
    first, count = _SLOTS[kind]
    slot = first + int(number) - 1 if 1 <= int(number) <= count else None
    return Seen(_CAMERAS[camera], scene, slot=slot)


def _names_of(target: str) -> set[str]:
    """`labels.csv` lists files, the own files list sequences."""
    return {target, f"urfd/{re.sub(r'-cam[01](-rgb)?$', '', PurePosixPath(target).stem)}"}


def _read_labels(landing: Path, path: Path, covered: set[str]) -> Iterator[Statement | Problem]:
    """URFD's postures, one frame a line, joined to intervals; they hold for all cameras."""
    run: _Run | None = None
    was_lying = False
    for line in read_lines(path, required=("sequence name", "frame #", "label")):
        place = place_of(landing, path, line)
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
        joins = run is not None and sequence == run.sequence and frame - run.last <= _LONGEST_GAP
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
            start_s=(self.first - 1) / FRAMES_PER_S,
            end_s=(until - 1) / FRAMES_PER_S,
            word=words[self.posture],
            source="dataset",
        )


DATASET = Dataset(
    name="urfd",
    day=date(2024, 1, 1),
    read_path=_read_path,
    words=_WORDS,
    own_labels=OwnLabels(("urfall-cam0-*.csv",), _read_labels),
    names_of=_names_of,
)
