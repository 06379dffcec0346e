"""Training, cross-validation and the detector that comes out of it, on drawn people."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from fall_assets.lake.registry import table
from fall_assets.learning.dataset import (
    LearningSet,
    UnusableSetError,
    falls_of,
    training_windows,
)
from fall_assets.learning.detector import Detector, DetectorFileError, digest
from fall_assets.learning.evaluate import (
    CrossValidation,
    TooFewFoldsError,
    cross_validate,
    evaluation_frame,
    judge,
    train_final,
)
from fall_assets.learning.metrics import event_metrics
from fall_assets.learning.scoring import FeatureSetError
from fall_assets.learning.training import TooLittleDataError, train
from fall_assets.learning.windows import Floats, SegmentTracks, Track, WindowSet, seen, window_at
from fall_assets_tests.learning.people import (
    FALL_AT_S,
    FEATURE_SET,
    learning_set,
    segment,
    small_settings,
    small_training,
    tables,
    video_id,
)


def _windows(detector: Detector) -> tuple[Floats, Floats]:
    ends = np.arange(2.0, 10.0, 0.5)
    tracks = [segment(n, kind, 5).tracks[0] for n, kind in enumerate(("fall", "bend", "walk"))]
    windows = [window_at(track, end, detector.windows) for track in tracks for end in ends]
    return np.stack(windows), np.full(len(windows), 1.5, np.float32)


# The set to learn from.


def test_a_window_per_person_of_clips_that_are_certain(drawn: LearningSet) -> None:
    windows = training_windows(drawn)
    certain = drawn.clips.filter(pl.col("target").is_not_null())
    assert len(windows) == certain.height
    assert windows.target.sum() == certain["target"].sum()
    assert set(windows.group.tolist()) == set(drawn.folds)
    # Each fall weighs the same however many windows show it.
    assert windows.weight[windows.target == 1].sum() == pytest.approx(8)


def test_of_two_people_only_the_one_who_falls_teaches_a_fall() -> None:
    frames = tables(3)
    upright = frames["pose_tracks"].filter(pl.col("video_id") == video_id(2))
    beside = upright.with_columns(video_id=pl.lit(video_id(0)), track=pl.lit(1, pl.Int64))
    frames["pose_tracks"] = pl.concat([frames["pose_tracks"], beside])
    both = LearningSet.from_tables(**frames)
    alone = learning_set(3)
    assert len(both.tracks[video_id(0)].tracks) == 2
    falls = training_windows(both)
    expected = training_windows(alone)
    np.testing.assert_array_equal(
        falls.keypoints[falls.target == 1], expected.keypoints[expected.target == 1]
    )
    assert (falls.target == 0).sum() > (expected.target == 0).sum()


def test_parts_of_one_fall_are_one_and_last_while_the_person_lies() -> None:
    rows = [
        ("fall", 2.0, 2.5, "a"),
        ("fall", 2.5, 3.0, "a"),
        ("lying_after_fall", 3.2, 9.0, "a"),
        ("fall", 20.0, 21.0, "b"),
        ("lying_after_fall", 30.0, 31.0, None),
    ]
    labels = pl.DataFrame(
        rows, schema=["label", "start_s", "end_s", "event_id"], orient="row"
    ).with_columns(label_id=pl.lit("id"))
    found = [(f.event_id, f.start_s, f.end_s, f.until_s) for f in falls_of(labels)]
    assert found == [("a", 2.0, 3.0, 9.0), ("b", 20.0, 21.0, 21.0)]


def _no_clips(frames: dict[str, pl.DataFrame]) -> None:
    frames["clips"] = frames["clips"].clear()


def _unknown_video(frames: dict[str, pl.DataFrame]) -> None:
    frames["videos"] = frames["videos"].head(2)


def _two_folds(frames: dict[str, pl.DataFrame]) -> None:
    frames["clips"] = frames["clips"].with_columns(fold=pl.int_range(pl.len()).cast(pl.Int64) % 2)


def _two_feature_sets(frames: dict[str, pl.DataFrame]) -> None:
    other = frames["pose_tracks"].with_columns(feature_set=pl.lit("pose-other"))
    frames["pose_tracks"] = pl.concat([frames["pose_tracks"], other])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_no_clips, "label some footage"),
        (_unknown_video, "no row in videos"),
        (_two_folds, "several folds"),
        (_two_feature_sets, "wanted one"),
    ],
)
def test_tables_that_do_not_fit_are_refused(
    spoil: Callable[[dict[str, pl.DataFrame]], None], says: str
) -> None:
    frames = tables(6)
    spoil(frames)
    with pytest.raises(UnusableSetError, match=says):
        LearningSet.from_tables(**frames)


def test_rows_in_another_order_make_the_same_set(drawn: LearningSet) -> None:
    shuffled = {
        name: rows.sample(fraction=1.0, shuffle=True, seed=3) for name, rows in tables().items()
    }
    again = training_windows(LearningSet.from_tables(**shuffled))
    np.testing.assert_array_equal(again.keypoints, training_windows(drawn).keypoints)


# Training and cross-validation.


def test_cross_validation_finds_drawn_falls_and_nothing_else(
    drawn: LearningSet, validation: CrossValidation
) -> None:
    assert {video.video_id for video in validation.videos} == set(drawn.truths)
    assert set(validation.thresholds) == set(drawn.folds)
    row = event_metrics(validation.outcomes)[0]
    assert row["falls"] == 8
    assert row["found"] == 8
    assert row["false_alarms"] == 0


def test_a_fold_is_judged_without_having_been_learned_from(validation: CrossValidation) -> None:
    """What is drawn in a fold changes neither its threshold nor what is thought of others."""
    frames = tables()
    fold = 0
    inside = frames["clips"].filter(pl.col("fold") == fold)["video_id"].unique()
    mislabelled = (pl.col("fold") == fold) & pl.col("target").is_not_null()
    frames["clips"] = frames["clips"].with_columns(
        target=pl.when(mislabelled).then(1 - pl.col("target")).otherwise(pl.col("target"))
    )
    again = cross_validate(LearningSet.from_tables(**frames), small_settings())
    # Examples are drawn anew for other targets, so thresholds agree only about; scores of the
    # fold itself still rank its falls first, though its own labels now say the opposite.
    peaks = {v.video_id: max(v.score) for v in again.videos if v.video_id in set(inside)}
    falls = {video_id(n) for n in range(0, 24, 3)}
    assert min(p for v, p in peaks.items() if v in falls) > max(
        p for v, p in peaks.items() if v not in falls
    )


def test_the_same_seed_gives_the_same_scores(
    drawn: LearningSet, validation: CrossValidation
) -> None:
    again = cross_validate(drawn, small_settings())
    assert again.thresholds == validation.thresholds
    assert [video.score for video in again.videos] == [video.score for video in validation.videos]
    other = cross_validate(drawn, small_settings(seed=1))
    assert [video.score for video in other.videos] != [video.score for video in validation.videos]


def test_the_callers_random_numbers_are_left_alone(drawn: LearningSet) -> None:
    settings = small_training()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(training_windows(drawn), replace(settings, steps=2), feature_set=FEATURE_SET)
    torch.testing.assert_close(torch.rand(3), expected)


def test_progress_reaches_its_end(drawn: LearningSet) -> None:
    told: list[tuple[int, int]] = []
    settings = replace(small_training(), steps=45)
    train(
        training_windows(drawn),
        settings,
        feature_set=FEATURE_SET,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(20, 45), (40, 45), (45, 45)]


def test_simulated_windows_can_teach_without_real_falls(drawn: LearningSet) -> None:
    windows = training_windows(drawn)
    quiet = windows.target == 0
    without = WindowSet(windows.keypoints[quiet], windows.aspect[quiet], windows.target[quiet])
    settings = small_training()
    with pytest.raises(TooLittleDataError, match="holds a fall"):
        train(without, settings, feature_set=FEATURE_SET)
    taught = train(without, settings, feature_set=FEATURE_SET, simulated=windows)
    assert max(taught.scores(segment(0, "fall", 9)).score) > 0.5


def test_fewer_than_three_folds_are_refused() -> None:
    with pytest.raises(TooFewFoldsError, match="2 folds"):
        cross_validate(learning_set(folds=2), small_settings())


def test_the_final_detector_finds_new_falls_soon(detector: Detector) -> None:
    for number in range(6):
        (event,) = detector.detect(segment(number, "fall", seed=77))
        assert FALL_AT_S < event.raised_s < FALL_AT_S + 3
        assert not detector.detect(segment(number, "bend", seed=77))
        assert not detector.detect(segment(number, "walk", seed=77))


def test_judging_a_finished_detector_fills_the_table(
    drawn: LearningSet, detector: Detector
) -> None:
    rows = evaluation_frame(
        judge(detector, drawn),
        run_id="run",
        training_set_id="set",
        role="champion",
        evaluated_utc=datetime(2026, 3, 4, tzinfo=UTC),
    )
    assert rows.schema == pl.Schema(table("evaluation").schema)
    assert set(rows["slice"]) == {"all", "dataset", "camera", "room", "label"}
    assert rows.select("slice", "value").is_unique().all()
    with pytest.raises(FeatureSetError, match="pose-other"):
        judge(replace(detector, feature_set="pose-other"), drawn)


# The detector.


def test_one_window_alone_scores_as_in_a_batch(detector: Detector) -> None:
    windows, aspect = _windows(detector)
    together = detector.score_windows(windows, aspect)
    alone = [detector.score_windows(windows[[n]], aspect[[n]])[0] for n in range(len(windows))]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_segments_score_is_that_of_its_windows(detector: Detector) -> None:
    tracks = segment(0, "fall", 8)
    scores = detector.scores(tracks)
    ends = [float(end) for end in scores.end_s]
    windows = np.stack([window_at(tracks.tracks[0], end, detector.windows) for end in ends])
    expected = detector.score_windows(windows, np.full(len(ends), 1.5, np.float32))
    np.testing.assert_allclose(scores.score, expected, atol=1e-6)
    assert set(scores.track) == {0}


def test_the_highest_of_all_people_counts(detector: Detector) -> None:
    falling, walking = segment(0, "fall", 8), segment(1, "walk", 8)
    other = Track(7, 0, walking.tracks[0].keypoints)
    both = replace(falling, tracks=(other, *falling.tracks))
    scores, alone = detector.scores(both), detector.scores(falling)
    assert (scores.score >= alone.score - 1e-6).all()
    assert scores.track[int(np.argmax(scores.score))] == 0


def test_where_nobody_is_seen_the_score_is_nought(detector: Detector) -> None:
    empty = SegmentTracks(video_id(0), 5.0, 10.0, 1.5)
    scores = detector.scores(empty)
    assert len(scores) == 21
    assert not scores.score.any()
    assert set(scores.track) == {None}
    glimpse = segment(0, "walk", 1).tracks[0].keypoints[:4]
    brief = replace(empty, tracks=(Track(0, 0, glimpse),))
    assert seen(glimpse).all()
    assert not detector.scores(brief).score.any()


def test_a_mirrored_room_scores_the_same(detector: Detector) -> None:
    from fall_assets.learning.augmentation import mirror

    windows, aspect = _windows(detector)
    np.testing.assert_allclose(
        detector.score_windows(windows, aspect),
        detector.score_windows(mirror(windows), aspect),
        atol=1e-5,
    )


def test_tracks_at_another_rate_are_refused(detector: Detector) -> None:
    with pytest.raises(FeatureSetError, match=r"5\.0 samples per second"):
        detector.scores(replace(segment(0, "walk", 0), rate_hz=5.0))


def test_a_saved_detector_comes_back_whole(detector: Detector, tmp_path: Path) -> None:
    recorded = detector.save(tmp_path / "d")
    assert {path.name for path in (tmp_path / "d").iterdir()} == {
        "detector.json",
        "weights.safetensors",
    }
    loaded = Detector.load(tmp_path / "d", expected_digest=recorded)
    windows, aspect = _windows(detector)
    np.testing.assert_array_equal(
        loaded.score_windows(windows, aspect), detector.score_windows(windows, aspect)
    )
    assert loaded.windows == detector.windows
    assert loaded.events == detector.events
    assert loaded.feature_set == detector.feature_set
    assert loaded.parameters == detector.parameters
    assert loaded.training == json.loads(json.dumps(dict(detector.training)))
    assert digest(tmp_path / "d") == recorded


def _change_weights(folder: Path) -> None:
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)


def _lose_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()


def _other_format(folder: Path) -> None:
    settings = json.loads((folder / "detector.json").read_text())
    (folder / "detector.json").write_text(json.dumps({**settings, "format": 99}))


def _no_json(folder: Path) -> None:
    (folder / "detector.json").write_text("{")


@pytest.mark.parametrize("spoil", [_change_weights, _lose_weights, _other_format, _no_json])
def test_a_spoilt_detector_is_not_loaded(
    spoil: Callable[[Path], None], detector: Detector, tmp_path: Path
) -> None:
    detector.save(tmp_path / "d")
    spoil(tmp_path / "d")
    with pytest.raises(DetectorFileError):
        Detector.load(tmp_path / "d")


def test_another_detector_than_the_recorded_one_is_not_loaded(
    detector: Detector, tmp_path: Path
) -> None:
    recorded = detector.save(tmp_path / "d")
    detector.with_threshold(0.123).save(tmp_path / "other")
    with pytest.raises(DetectorFileError, match=recorded):
        Detector.load(tmp_path / "other", expected_digest=recorded)
    with pytest.raises(DetectorFileError, match="not empty"):
        detector.save(tmp_path / "d")


def test_a_detector_is_small(detector: Detector) -> None:
    default = train_size()
    assert detector.parameters < default < 100_000


def train_size() -> int:
    """Parameters of the default detector, both members."""
    from fall_assets.learning.network import NetworkSettings, TemporalNetwork
    from fall_assets.learning.training import TrainingSettings

    network = TemporalNetwork(NetworkSettings(), range(TrainingSettings().networks))
    return sum(weights.numel() for weights in network.parameters())


def test_the_final_detector_keeps_its_settings(drawn: LearningSet) -> None:
    settings = replace(small_settings(), training=replace(small_training(), steps=2))
    final = train_final(drawn, settings, 0.4)
    assert final.threshold == 0.4
    assert final.training == asdict(settings)
