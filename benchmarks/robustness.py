"""What the detector loses on real footage that is made worse.

Every labelled segment is cross-validated as the product does, with one network a fold: networks
that learned from other folds (and simulated motion) score it, at a threshold chosen on folds that
neither taught nor judge, and raised by simulated ordinary life. The same networks and thresholds
then judge the same segment again at half resolution, at 10 frames per second, with a third of the
light, with noise, at a low bit rate, and merely encoded again (the control). The table gives the
differences with 95 % intervals over resampled scenes, the same before and after.

The features of the footage as it is are computed once into a lake below `--work` (as in
`benchmarks.label_efficiency`); each degradation decodes everything anew, some minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import polars as pl

from benchmarks.label_efficiency import REPOSITORY, prepared
from fall_assets.features.settings import FeatureSettings
from fall_assets.labelling.splits import assign_folds
from fall_assets.lake import Lake
from fall_assets.learning.algorithms.base import FitContext, Model, Plan
from fall_assets.learning.dataset import LearningSet, VideoTruth
from fall_assets.learning.evaluate import LearningSettings, raised, score_videos
from fall_assets.learning.inputs import SegmentInputs
from fall_assets.learning.metrics import (
    Row,
    ScoredVideo,
    VideoOutcome,
    choose_threshold,
    outcome,
)
from fall_assets.learning.robustness import DEGRADATIONS, losses
from fall_assets.learning.slices import Traits
from fall_assets.learning.training import TrainingSettings
from fall_assets.learning.windows import SegmentTracks, WindowSet
from fall_assets.pipeline.learning import ordinary_films
from fall_assets.pipeline.robustness import Film, judge_worse
from fall_assets.simulation.poses import pose_windows
from fall_assets.site import LearningChoices

FOLDS = 5


class Detectors:
    """A detector per fold, which has not seen it, and its threshold."""

    def __init__(self, learning_set: LearningSet, settings: LearningSettings) -> None:
        self._settings = settings
        algorithm = settings.build()
        folds = learning_set.folds
        chooses = {fold: folds[(place + 1) % len(folds)] for place, fold in enumerate(folds)}
        plans = [
            Plan(settings.training.seed * 1000 + fold, frozenset(folds) - {fold, chooses[fold]})
            for fold in folds
        ]
        choices = LearningChoices()
        simulated = WindowSet(*pose_windows(choices.simulated_windows, settings.training.seed))
        models = algorithm.fit(learning_set, plans, FitContext(settings.windows, simulated))
        ordinary = ordinary_films(settings)
        self._models: dict[int, Model] = dict(zip(folds, models, strict=True))
        window_s = settings.windows.window_s
        self._thresholds = {
            fold: raised(
                choose_threshold(
                    score_videos(
                        self._models[fold],
                        learning_set,
                        learning_set.videos_in([chooses[fold]]),
                        window_s,
                    ),
                    settings.events,
                ),
                self._models[fold],
                ordinary,
                settings,
            )
            for fold in folds
        }

    def judge(self, truth: VideoTruth, people: SegmentTracks) -> VideoOutcome:
        """What the detector that has not seen the segment makes of these people."""
        inputs = SegmentInputs(truth.video_id, truth.duration_s, people)
        scores = self._models[truth.fold].scores(inputs)
        video: ScoredVideo = truth.scored(
            scores.end_s.tolist(), scores.score.tolist(), self._settings.windows.window_s
        )
        events = replace(self._settings.events, threshold=self._thresholds[truth.fold])
        return outcome(video, events)


def learning_set_of(lake: Lake, seed: int) -> tuple[LearningSet, pl.DataFrame, pl.DataFrame]:
    """All labelled footage in folds, with the rows of videos and cameras."""
    feature_set = FeatureSettings().version
    videos, labels, cameras = (lake.read(name) for name in ("videos", "labels", "cameras"))
    clips = lake.read("clips")
    if clips.is_empty():
        from fall_assets.labelling.clips import cut_clips

        clips = cut_clips(labels, videos)
    clips = clips.join(assign_folds(clips, folds=FOLDS, seed=seed), on="split_group")
    tracks = lake.read("pose_tracks", where=pl.col("feature_set") == feature_set)
    learning_set = LearningSet.from_tables(
        clips=clips, videos=videos, labels=labels, cameras=cameras, pose_tracks=tracks
    )
    return learning_set, videos, cameras


def show(rows: list[Row]) -> None:
    """Print the table."""
    print(
        f"{'footage':<36}{'found':>13}{'sens':>6}{'change':>27}{'alarms':>8}"
        f"{'change a camera-day':>28}{'F1':>7}{'delay':>7}"
    )
    for row in rows:
        print(
            f"{row['footage']:<36}{row['found']:>5} of {row['falls']:<4}"
            f"{_number(row['sensitivity'], '.3f'):>6}"
            f"{_change(row, 'sensitivity_change', '+.3f'):>27}{row['false_alarms']:>8}"
            f"{_change(row, 'alarms_change', '+.0f'):>28}{_number(row['f1'], '.3f'):>7}"
            f"{_number(row['delay_median_s'], '.1f'):>7}"
        )


def _number(value: str | float | None, shape: str) -> str:
    return "-" if value is None else format(float(value), shape)


def _change(row: Row, name: str, shape: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    interval = "" if low is None else f" ({_number(low, shape)} to {_number(high, shape)})"
    return f"{_number(row[name], shape)}{interval}"


def main() -> int:
    """Judge everything as it is and worse, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--footage", type=Path, default=REPOSITORY.parent / "shared" / "footage")
    parser.add_argument("--work", type=Path, default=REPOSITORY / "data" / "label_efficiency")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="judge every n-th segment only")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="degradations by the start of their names")
    options = parser.parse_args()
    if not (options.footage / "urfd").is_dir():
        print(f"no real footage at {options.footage}: give its folder with --footage")
        return 2
    learning_set, videos, cameras = learning_set_of(
        prepared(options.work, options.footage), options.seed
    )
    settings = LearningSettings(
        TrainingSettings(seed=options.seed),
        max_ordinary_alarms_per_hour=LearningChoices().max_ordinary_alarms_per_hour,
    )
    detectors = Detectors(learning_set, settings)
    paths = dict(videos.select("video_id", "path").iter_rows())
    scenes = {key: Traits(scene=scene) for key, scene in videos.select("video_id", "scene").rows()}
    crops = dict(cameras.select("camera_id", "crop").iter_rows())
    films = [
        Film(options.footage / paths[truth.video_id], truth, crops.get(truth.camera_id))
        for truth in learning_set.reviewed[:: options.every]
    ]
    before = [
        detectors.judge(film.truth, learning_set.tracks[film.truth.video_id]) for film in films
    ]
    after, started = {}, time.monotonic()
    for how in DEGRADATIONS:
        if options.only and not any(how.name.startswith(start) for start in options.only):
            continue
        worse = judge_worse(films, how, detectors.judge, FeatureSettings(), workers=options.workers)
        after[how.name] = worse.outcomes
        print(
            f"{time.monotonic() - started:>5.0f} s  {how.name}: {len(films)} segments, "
            f"{len(worse.failed)} without features; "
            f"{sum(len(item.matching.found) for item in worse.outcomes)} falls found",
            flush=True,
        )
    hours = sum(film.truth.duration_s for film in films) / 3600
    print(f"\n{len(films)} segments, {hours:.2f} h, seed {options.seed}, {FOLDS} folds")
    show(losses(before, after, scenes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
