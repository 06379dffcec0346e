"""How many labels the review queue saves on real footage.

Labelling is played in rounds. The pool is every 4 s piece of the footage that may be learned from;
to label a piece tells the truth of all windows that end in it. The first model has seen simulated
motion only, as on a new site. Each round a number of pieces is labelled, a model learns from all
that is labelled so far (and simulated motion), and is judged on footage of other scenes and
subjects. The two orders differ in nothing but which pieces are labelled:

- random: a random order of the pool;
- queue: the top of `fall_assets.labelling.queue.rank`, ranked again in each round with the newest
  model and the one before it. It sees the figures and scores of the pool, never its labels before
  they are given, and nothing of the footage that judges.

Each seed has its own split (thirds of the groups; two teach, one judges), its own random order
and its own networks. The figure is the average precision over the windows of the footage that
judges; beside it stands the F1 of events at the best threshold (for both orders, so flattering
both). The goal: the queue reaches 95 % of the precision that all labels give with at most half of
the labels that the random order needs, over the means of all seeds.

The features are computed once (some minutes on two cores) into a lake below `--work`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from fall_assets.features.settings import FeatureSettings
from fall_assets.labelling.clips import cut_clips
from fall_assets.labelling.queue import (
    ReviewSettings,
    cut_pieces,
    judge_pieces,
    part_of_day,
    rank,
    with_piece,
)
from fall_assets.labelling.splits import assign_folds
from fall_assets.lake import Lake
from fall_assets.learning.algorithms.pose_tcn import PoseModel
from fall_assets.learning.dataset import LearningSet, VideoTruth, training_windows
from fall_assets.learning.detector import Detector
from fall_assets.learning.evaluate import score_videos
from fall_assets.learning.metrics import ScoredVideo, operating_curve
from fall_assets.learning.training import TrainingSettings, train
from fall_assets.learning.windows import WindowSet
from fall_assets.simulation.poses import pose_windows

REPOSITORY = Path(__file__).resolve().parents[1]
LEVELS = (0.90, 0.95, 0.98)
GOAL_LEVEL = 0.95
GOAL = 0.5
FOLDS = 3
JUDGES = 0
ROUNDS = (6, 12, 18, 24, 36, 48, 60, 72, 96)
ORDERS = ("random", "queue")
ABLATIONS = {
    "only doubt": ReviewSettings(novelty=0.0, coverage=0.0, alarm=0.0),
    "only novelty": ReviewSettings(doubt=0.0, disagreement=0.0, alarm=0.0, coverage=0.0),
}


@dataclass(frozen=True)
class Point:
    """What a number of labels led to: average precision (of all held-out windows, and of those
    outside URFD), best F1 of events, and falls among the labelled pieces."""

    labels: int
    precision: float
    elsewhere: float
    f1: float
    falls: int


@dataclass(frozen=True)
class Seed:
    """One split of the footage: what teaches, what judges."""

    number: int
    learning_set: LearningSet
    videos: pl.DataFrame
    pieces: pl.DataFrame
    rooms: dict[str, str]
    simulated: WindowSet
    training: TrainingSettings

    @classmethod
    def of(cls, lake: Lake, number: int, training: TrainingSettings, simulated: WindowSet) -> Seed:
        """Split by scene and subject."""
        feature_set = FeatureSettings().version
        videos, labels, cameras = (lake.read(name) for name in ("videos", "labels", "cameras"))
        clips = cut_clips(labels, videos)
        clips = clips.join(assign_folds(clips, folds=FOLDS, seed=number), on="split_group")
        tracks = lake.read("pose_tracks", where=pl.col("feature_set") == feature_set)
        features = lake.read("features", where=pl.col("feature_set") == feature_set)
        learning_set = LearningSet.from_tables(
            clips=clips, videos=videos, labels=labels, cameras=cameras, pose_tracks=tracks
        )
        teaching = clips.filter(pl.col("fold") != JUDGES)["video_id"].unique().to_list()
        pool = videos.filter(pl.col("video_id").is_in(teaching))
        rooms = dict(cameras.select("camera_id", "room").iter_rows())
        settings = replace(training, seed=number)
        pieces = cut_pieces(pool, features)
        return cls(number, learning_set, pool, pieces, rooms, simulated, settings)

    def learn(self, labelled: pl.DataFrame) -> Detector:
        """A model from the labelled pieces and simulated motion."""
        clips = self.clips_of(labelled)
        windows = training_windows(self.learning_set.with_clips(clips))
        simulated: WindowSet | None = self.simulated
        if not len(windows):
            windows, simulated = self.simulated, None
        feature_set = self.learning_set.feature_set
        return train(windows, self.training, feature_set=feature_set, simulated=simulated)

    def clips_of(self, labelled: pl.DataFrame) -> pl.DataFrame:
        """The clips that end in some pieces of the pool."""
        clips = self.learning_set.clips.filter(pl.col("fold") != JUDGES)
        placed = with_piece(clips, self.videos, ReviewSettings().piece_s)
        return placed.join(labelled, on=["video_id", "piece"], how="semi").drop("piece")

    def judge(self, detector: Detector, labelled: pl.DataFrame) -> Point:
        """What a model makes of the footage that judges."""
        scored = self.score(detector, self.learning_set.videos_in([JUDGES]))
        clips = self.learning_set.clips.filter(
            pl.col("fold") == JUDGES, pl.col("target").is_not_null()
        )
        scores = {(v.video_id, round(e, 3)): s for v in scored for e, s in _scores(v)}
        keys = clips.select("video_id", "end_s").iter_rows()
        found = np.array([scores.get((video, round(end_s, 3)), 0.0) for video, end_s in keys])
        target = clips["target"].to_numpy()
        away = (clips["dataset"] != "urfd").to_numpy()
        curve = operating_curve(scored, detector.events)
        falls = self.clips_of(labelled).filter(pl.col("target") == 1)
        return Point(
            labelled.height,
            average_precision(target, found),
            average_precision(target[away], found[away]),
            max(point.f1 or 0.0 for point in curve),
            with_piece(falls, self.videos, 4.0).select("video_id", "piece").n_unique(),
        )

    def score(self, detector: Detector, truths: Sequence[VideoTruth]) -> list[ScoredVideo]:
        """What a model makes of some segments."""
        window_s = detector.windows.window_s
        return score_videos(PoseModel(detector), self.learning_set, truths, window_s)

    def predictions(self, detector: Detector, version: str) -> pl.DataFrame:
        """Scores of the pool, as far as the ranking reads them."""
        truths = [truth for truth in self.learning_set.truths.values() if truth.fold != JUDGES]
        rows = [
            (video.video_id, version, end_s, score)
            for video in self.score(detector, truths)
            for end_s, score in _scores(video)
        ]
        names = ["video_id", "model_version", "end_s", "score"]
        return pl.DataFrame(rows, schema=names, orient="row")

    def next_pieces(
        self,
        labelled: pl.DataFrame,
        models: Sequence[pl.DataFrame],
        count: int,
        settings: ReviewSettings,
    ) -> pl.DataFrame:
        """The top of the queue: columns video_id and piece."""
        judged = judge_pieces(
            self.pieces,
            pl.concat(models),
            self.videos,
            newest=models[-1]["model_version"][0],
            other=models[-2]["model_version"][0] if len(models) > 1 else None,
        )
        given = labelled.with_columns(labelled=pl.lit(1.0))
        judged = judged.join(given, on=["video_id", "piece"], how="left", maintain_order="left")
        judged = judged.with_columns(pl.col("labelled").fill_null(0.0))
        done = judged.filter(pl.col("labelled") > 0).select(
            "camera_id", part=part_of_day(pl.col("start_utc"))
        )
        counts = Counter((self.rooms[camera], part) for camera, part in done.iter_rows())
        queue = rank(
            judged,
            replace(settings, items=count),
            rooms=self.rooms,
            labelled={key: float(number) for key, number in counts.items()},
        )
        return queue.join(
            self.pieces.select("video_id", "piece", "start_s"),
            on=["video_id", "start_s"],
            maintain_order="left",
        ).select("video_id", "piece")


def average_precision(target: npt.NDArray[np.int64], score: npt.NDArray[np.float64]) -> float:
    """Mean precision at the rank of each positive: the area under precision over recall."""
    ordered = target[np.argsort(-score, kind="stable")]
    if not ordered.sum():
        return float("nan")
    precision = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    return float((precision * ordered).sum() / ordered.sum())


def play(seed: Seed, order: str, start: Detector, settings: ReviewSettings) -> list[Point]:
    """Label in one order; a point per round, the one without labels not among them."""
    rng = np.random.default_rng(1000 + seed.number)
    keys = seed.pieces.select("video_id", "piece")
    shuffled = keys[rng.permutation(keys.height)]
    labelled, detector, points = keys.clear(), start, []
    models = [seed.predictions(start, "0")]
    for number, count in enumerate((n for n in ROUNDS if n < keys.height), start=1):
        if order == "random":
            labelled = shuffled.head(count)
        else:
            new = seed.next_pieces(labelled, models[-2:], count - labelled.height, settings)
            labelled = pl.concat([labelled, new])
        detector = seed.learn(labelled)
        if order != "random":
            models.append(seed.predictions(detector, str(number)))
        points.append(seed.judge(detector, labelled))
    return points


def labels_needed(points: Sequence[Point], level: float) -> float | None:
    """Labels at which a curve first reaches a precision, between rounds by a straight line."""
    before: Point | None = None
    for point in points:
        if point.precision >= level:
            if before is None or point.labels == before.labels:
                return float(point.labels)
            share = (level - before.precision) / (point.precision - before.precision)
            return before.labels + share * (point.labels - before.labels)
        before = point
    return None


def mean_curve(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """Means over seeds, round by round; the last point of each is all labels."""
    rounds = min(len(curve) for curve in curves)
    chosen = [[*curve[: rounds - 1], curve[-1]] for curve in curves]
    return [
        Point(
            round(float(np.mean([p.labels for p in at]))),
            float(np.mean([p.precision for p in at])),
            float(np.nanmean([p.elsewhere for p in at])),
            float(np.mean([p.f1 for p in at])),
            round(float(np.mean([p.falls for p in at]))),
        )
        for at in zip(*chosen, strict=True)
    ]


def draw(path: Path, curves: dict[str, list[list[Point]]]) -> None:
    """Mean and range over seeds of both orders."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), dpi=80, layout="constrained")
    axes = figure.add_subplot()
    colours = dict(zip(curves, ("#8a8f98", "#2b6ca3", "#c0392b", "#3a7d44"), strict=False))
    for order, seeds in curves.items():
        mean = mean_curve(seeds)
        labels = [point.labels for point in mean]
        trimmed = [[*curve[: len(mean) - 1], curve[-1]] for curve in seeds]
        values = np.array([[point.precision for point in curve] for curve in trimmed])
        colour = colours[order]
        axes.fill_between(labels, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
        axes.plot(labels, [point.precision for point in mean], "o-", color=colour, ms=3.5)
        axes.annotate(
            order,
            (labels[3], mean[3].precision),
            color=colour,
            fontsize=9,
            xytext=(6, -12 if order == "random" else 8),
            textcoords="offset points",
        )
    final = mean_curve(curves["random"])[-1].precision
    axes.axhline(GOAL_LEVEL * final, color="black", lw=0.8, ls=":")
    axes.text(
        labels[-1],
        GOAL_LEVEL * final - 0.005,
        "95 % of all labels",
        ha="right",
        va="top",
        fontsize=8,
    )
    axes.set(xlabel="pieces labelled (4 s each)", ylabel="average precision, held-out footage")
    axes.set_ylim(0.4, 1.0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path)


def prepared(work_folder: Path, footage: Path) -> Lake:
    """A lake with labels and features of the footage; computed where it is not there yet."""
    lake = Lake(work_folder / "lake")
    features = lake.read("features", columns=["video_id", "feature_set"])
    if (features["feature_set"] == FeatureSettings().version).any() and lake.rows("labels"):
        return lake
    from fall_assets.pipeline import collection, labelling
    from fall_assets.pipeline.features import extract_day
    from fall_assets.pipeline.work import Work
    from fall_assets.site import Site

    work = Work(Site(work_folder, footage), lake, log=lambda line: print(line, flush=True))
    collection.refresh_cameras(work)
    days = collection.footage_days(work)
    for day in days:
        collection.collect(work, day)
    labelling.label(work, days)
    for day in days:
        extract_day(work, day)
    return lake


def report(curves: dict[str, list[list[Point]]]) -> float | None:
    """Print the tables; returns labels of the queue over labels of the random order."""
    means = {order: mean_curve(seeds) for order, seeds in curves.items()}
    print("\nmeans over seeds: average precision (outside URFD; F1 of events; pieces with a fall)")
    print("labels   " + "".join(f"{order:<34}" for order in means))
    for at in zip(*means.values(), strict=True):
        cells = [f"{p.precision:.3f} ({p.elsewhere:.3f}; {p.f1:.3f}; {p.falls})" for p in at]
        print(f"{at[0].labels:>6}   " + "".join(f"{cell:<34}" for cell in cells))
    final = means["random"][-1].precision
    print("\nlabels needed for a share of the precision of all labels, on the means")
    ratio = None
    for level in LEVELS:
        needed = {order: labels_needed(mean, level * final) for order, mean in means.items()}
        shown = "  ".join(f"{o} {n:.0f}" if n else f"{o} never" for o, n in needed.items())
        base, queue = needed["random"], needed["queue"]
        share = queue / base if base and queue else None
        print(
            f"  {level:.0%} ({level * final:.3f}): {shown}  ratio "
            + (f"{share:.2f}" if share else "-")
        )
        if level == GOAL_LEVEL:
            ratio = share
    print(f"\nper seed at {GOAL_LEVEL:.0%}:")
    for number, base_curve in enumerate(curves["random"]):
        level = GOAL_LEVEL * base_curve[-1].precision
        needed = {o: labels_needed(seeds[number], level) for o, seeds in curves.items()}
        print(
            f"  seed {number}: "
            + "  ".join(f"{o} {n:.0f}" if n else f"{o} never" for o, n in needed.items())
        )
    return ratio


def main() -> int:
    """Play all seeds and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--plot", type=Path, help="write the curves there, as PNG")
    parser.add_argument("--ablations", action="store_true", help="also parts of the ranking alone")
    parser.add_argument("--footage", type=Path, default=REPOSITORY.parent / "shared" / "footage")
    parser.add_argument(
        "--work",
        type=Path,
        default=REPOSITORY / "data" / "label_efficiency",
        help="where the lake with the features is kept",
    )
    options = parser.parse_args()
    if not (options.footage / "urfd").is_dir():
        print(f"no real footage at {options.footage}: give its folder with --footage")
        return 2
    lake = prepared(options.work, options.footage)
    training = TrainingSettings(steps=150, examples=5000)
    simulated = WindowSet(*pose_windows(3000, 0))
    orders: dict[str, ReviewSettings] = {order: ReviewSettings() for order in ORDERS}
    if options.ablations:
        orders |= ABLATIONS
    curves: dict[str, list[list[Point]]] = {order: [] for order in orders}
    started = time.monotonic()
    for number in range(options.seeds):
        seed = Seed.of(lake, number, training, simulated)
        nothing = seed.pieces.select("video_id", "piece").clear()
        first = seed.learn(nothing)
        everything = seed.pieces.select("video_id", "piece")
        before = seed.judge(first, nothing)
        after = seed.judge(seed.learn(everything), everything)
        for order, settings in orders.items():
            played = play(seed, order, first, settings)
            curves[order].append([before, *played, after])
            shown = " ".join(f"{p.labels}:{p.precision:.3f}" for p in curves[order][-1])
            print(
                f"{time.monotonic() - started:>4.0f} s  seed {number} {order:<13} {shown}",
                flush=True,
            )
    ratio = report(curves)
    if options.plot:
        draw(options.plot, curves)
    shown = "never reached" if ratio is None else f"{ratio:.2f}"
    print(f"\nlabel_efficiency: {shown} of random's labels (goal at most {GOAL})")
    return 0 if ratio is not None and ratio <= GOAL else 1


def _scores(video: ScoredVideo) -> list[tuple[float, float]]:
    return list(zip(video.end_s, video.score, strict=True))


if __name__ == "__main__":
    sys.exit(main())
