"""UP-Fall, also HAR-UP (Martínez-Villaseñor et al., Sensors 19(9) 1988, 2019, doi
10.3390/s19091988): 17 people, 11 activities, 3 trials each, two cameras.

Where it comes from: https://sites.google.com/up.edu.mx/har-up/ gives each camera's recording as a
zip of PNG frames named after the moment they were taken,
`Subject1Activity1Trial1Camera1.zip` with `2018-07-04T12_04_17.738369.png` in it, some 18 per
second at uneven times. `fall-assets frames pack` makes videos of them that keep those times. Videos
are known by `Subject1Activity1Trial1Camera1.mp4` or `Subject1/Activity1/Trial1/Camera1.mp4`.

Labels come from the sensors' table, per trial (`Subject1Activity1Trial1.csv`) or whole
(`CompleteDataSet.csv`): two header lines, a column `TimeStamps`, and `Subject`, `Activity`, `Trial`
and `Tag` at the end. A tag of 1 to 5 marks the moment of the fall itself; what stands around it has
tags of its own. The first line of a trial is taken for the start of its videos: for subject 1,
activity 1, trial 1, both are 12:04:17.738369. Where there is no table, the folder's or file's name
tells what a whole trial of daily life is (activities 6 to 11); that somebody falls in trials 1 to 5
is known then, but not when.

The real files were not at hand: names and columns are as the data set's site, the loaders that
others published and OmniFall's label file have them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
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
from fall_assets.labelling.statements import Place, Problem, Statement, number

_ACTIVITIES = {
    1: "falling forward using hands",
    2: "falling forward using knees",
    3: "falling backwards",
    4: "falling sideward",
    5: "falling sitting in empty chair",
    6: "walking",
    7: "standing",
    8: "sitting",
    9: "picking up an object",
    10: "jumping",
    11: "laying",
}
_FALLS = range(1, 6)
_LAYING = 11
_ON_KNEES = 20
_AFTER_FALL = "laying after a fall"
_WORDS = {
    **{_ACTIVITIES[activity]: "fall" for activity in _FALLS},
    _AFTER_FALL: "lying_after_fall",
    "picking up an object": "bending",
    "on knees": "bending",
    "jumping": "other",
    "laying": "lying",
}
_SUBJECTS, _TRIALS = 17, 3
_SAMPLE_S = 0.055
"""One line of the table stands for this long: some 18 per second."""


def _scene(subject: int, activity: int, trial: int) -> str:
    return f"s{subject:02}-a{activity:02}-t{trial}"


def _read_path(path: str) -> Seen | None:
    match = re.search(r"Subject(\d+)/?Activity(\d+)/?Trial(\d+)/?Camera(\d+)\.\w+$", path)
    if match is None:
        return None
    subject, activity, trial, camera = (int(text) for text in match.groups())
    known = subject <= _SUBJECTS and activity in _ACTIVITIES and 1 <= trial <= _TRIALS
    slot = ((subject - 1) * len(_ACTIVITIES) + activity - 1) * _TRIALS + trial - 1
    return Seen(
        DatasetCamera(f"up_fall-camera{camera}", "up_fall", "level"),
        _scene(subject, activity, trial),
        f"s{subject}",
        slot if known and subject > 0 else None,
    )


def _names_of(target: str) -> set[str]:
    return scene_names("up_fall", _read_path, target)


def _read_labels(landing: Path, path: Path, covered: set[str]) -> Iterator[Statement | Problem]:
    """The table's tags, joined to intervals; they hold for both cameras."""
    file = path.relative_to(landing).as_posix()
    trial: _Trial | None = None
    told: set[str] = set()
    elsewhere: dict[str, Place] = {}
    for line, text, sample in _samples(path):
        # Lines hold 47 columns: as much as tells one apart.
        here = Place(file, line, 0, text[:80])
        if isinstance(sample, str):
            yield Problem(here, sample)
            continue
        if trial is None or sample.trial != trial.trial:
            if trial is not None:
                yield from trial.finish()
                trial = None
            scene = f"up_fall/{_scene(*sample.trial)}"
            if scene in covered:
                elsewhere.setdefault(scene, here)
                continue
            trial = _Trial(sample.trial, scene, sample.moment)
            told.add(scene)
            covered.add(scene)
        problem = trial.add(here, sample)
        if isinstance(problem, str):
            yield Problem(here, problem)
        elif problem is not None:
            yield problem
    if trial is not None:
        yield from trial.finish()
    if elsewhere:
        first = next(iter(elsewhere))
        yield Problem(
            elsewhere[first],
            f"{len(elsewhere)} trials, {first.removeprefix('up_fall/')} the first of them, are "
            "told by another file or another part of this one already; keep one of the two",
        )


@dataclass(frozen=True)
class _Sample:
    """One line of the table: when, of which subject, activity and trial, and its tag."""

    moment: datetime
    trial: tuple[int, int, int]
    tag: int


def _samples(path: Path) -> Iterator[tuple[int, str, _Sample | str]]:
    """Number, text and sample of each line of a table, or what is wrong with the line.

    The whole set's table has 118,000 lines of 47 numbers: only five cells of each are looked at.
    """
    wanted = ("timestamps", "subject", "activity", "trial", "tag")
    columns: list[int] = []
    known: dict[tuple[str, ...], tuple[int, ...]] = {}
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line, raw in enumerate(file, start=1):
            text = raw.rstrip("\n")
            if not text.strip(" ,"):
                continue
            cells = text.split(",")
            if not columns:
                names = [cell.strip().strip('"').lower() for cell in cells]
                missing = [name for name in wanted if name not in names]
                if missing:
                    yield line, text, f"the header has no column {', '.join(missing)}; add it"
                    return
                columns = [names.index(name) for name in wanted]
                continue
            if len(cells) <= max(columns):
                yield line, text, f"{len(cells)} cells, too few to hold a tag; complete the line"
                continue
            stamp, *rest = (cells[column].strip() for column in columns)
            if line == 2 and number(rest[-1]) is None:
                continue  # The second header line holds units.
            key = tuple(rest)
            if key not in known:
                values = [number(cell) for cell in rest]
                whole = [int(x) for x in values if x is not None and 0 <= x < 1000 and x % 1 == 0]
                if len(whole) < len(rest):
                    yield line, text, f"{', '.join(rest)}: {', '.join(wanted[1:])} must be whole"
                    continue
                known[key] = tuple(whole)
            try:
                moment = datetime.fromisoformat(stamp)
            except ValueError:
                yield line, text, "the time stamp is not like 2018-07-04T12:04:17.738369"
                continue
            subject, activity, trial, tag = known[key]
            # A zone would not matter, but must not meet a time without one.
            yield (
                line,
                text,
                _Sample(moment.replace(tzinfo=None), (subject, activity, trial), tag),
            )


@dataclass
class _Trial:
    """One trial while it is read: the run of one tag that is open."""

    trial: tuple[int, int, int]
    scene: str
    started: datetime
    fell: bool = False
    tag: int | None = None
    place: Place | None = None
    first_s: float = 0.0
    last_s: float = 0.0

    def add(self, place: Place, sample: _Sample) -> Statement | str | None:
        """Take a sample: the run that it ends, what is wrong with it, or None."""
        at_s = (sample.moment - self.started).total_seconds()
        if at_s < self.last_s:
            return f"{sample.moment} comes after a later time; sort the lines"
        ended = None
        if self.tag is not None and sample.tag != self.tag:
            ended = self._statement(at_s, is_last=False)
        if sample.tag != self.tag:
            self.tag, self.place, self.first_s = sample.tag, place, at_s
        self.fell = self.fell or sample.tag in _FALLS
        self.last_s = at_s
        return ended

    def finish(self) -> Iterator[Statement]:
        """The run that the trial ends with."""
        if self.tag is not None:
            yield self._statement(self.last_s + _SAMPLE_S, is_last=True)

    def _statement(self, until_s: float, *, is_last: bool) -> Statement:
        if self.place is None or self.tag is None:
            raise AssertionError("a run has a place and a tag")
        word = _ACTIVITIES.get(self.tag, f"tag {self.tag}")
        if self.tag == _ON_KNEES:
            word = "on knees"
        elif self.tag == _LAYING and self.fell:
            word = _AFTER_FALL
        return Statement(
            place=self.place,
            dataset="up_fall",
            target=self.scene,
            is_scene=True,
            start_s=self.first_s,
            end_s=until_s,
            word=word,
            source="dataset",
            runs_to_end=is_last,
        )


def _read_names(landing: Path, covered: set[str]) -> Iterator[Statement | Problem]:
    """What whole trials are, from their names; falls are said once to be without times."""
    falls: list[str] = []
    for video in place(landing, DATASET):
        if f"up_fall/{video.seen.scene}" in covered or video.path in covered:
            continue
        match = re.search(r"Activity(\d+)/?Trial", video.path)
        activity = int(match[1]) if match else 0
        if activity in _FALLS:
            falls.append(video.path)
        elif activity in _ACTIVITIES:
            yield Statement(
                place=Place(video.path, 1, 0, video.path),
                dataset="up_fall",
                target=video.path,
                is_scene=False,
                start_s=0.0,
                end_s=WHOLE_CLIP_S,
                word=_ACTIVITIES[activity],
                source="dataset",
                runs_to_end=True,
            )
    yield from falls_without_times(
        falls,
        "lay their tables (Subject1Activity1Trial1.csv), CompleteDataSet.csv or "
        "OmniFall's labels/up_fall.csv beside them",
    )


DATASET = Dataset(
    name="up_fall",
    day=date(2024, 1, 5),
    read_path=_read_path,
    words=_WORDS,
    own_labels=OwnLabels(
        ("**/CompleteDataSet.csv", "**/Subject*Activity*Trial[0-9].csv"), _read_labels
    ),
    names_of=_names_of,
    read_names=_read_names,
    # 561 scenes of at most a minute.
    slot_s=120,
)
