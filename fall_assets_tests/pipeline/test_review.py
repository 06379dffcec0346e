"""Automatic labels, the review queue and the automatic share of a training set, on a lake."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fall_assets.features.settings import FeatureSettings
from fall_assets.labelling.automatic import EVERY_FOLD
from fall_assets.labelling.queue import ReviewSettings
from fall_assets.lake import Lake
from fall_assets.lake.registry import one_row, table
from fall_assets.learning.detector import Detector
from fall_assets.learning.evaluate import cross_validate, judge, train_final
from fall_assets.pipeline import review
from fall_assets.pipeline.feedback import report_fall
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.operation import predict
from fall_assets.pipeline.review import build_review_queue, label_automatically
from fall_assets.pipeline.training_sets import (
    cut_training_set,
    load_training_set,
    open_training_set,
)
from fall_assets.pipeline.work import Work
from fall_assets.site import LabellingSettings, LearningChoices, Site, SiteSettings
from fall_assets_tests.learning.people import DAY, learning_set, small_settings, tables, video_id

VIDEOS, LABELLED = 24, 18
FEATURE_SET = FeatureSettings().version
NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def detectors() -> tuple[Detector, Detector]:
    """Two versions that learned from drawn people."""
    drawn = learning_set()
    first = train_final(drawn, small_settings(), 0.5)
    second = train_final(drawn, small_settings(seed=1), 0.5)
    return replace(first, feature_set=FEATURE_SET), replace(second, feature_set=FEATURE_SET)


def _work(root: Path) -> Work:
    site = Site(root, root / "landing", SiteSettings(learning=LearningChoices(folds=4)))
    return Work(site, Lake(site.lake_root))


@pytest.fixture(scope="module")
def labelled_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of 24 segments, a third of them falls, of which people labelled 18."""
    root = tmp_path_factory.mktemp("labelled") / "site"
    work = _work(root)
    frames = tables(VIDEOS)
    labelled = [video_id(number) for number in range(LABELLED)]
    known = pl.col("video_id").is_in(labelled)
    frames["labels"] = frames["labels"].filter(known)
    frames["clips"] = frames["clips"].filter(known).drop("fold")
    frames["pose_tracks"] = frames["pose_tracks"].with_columns(feature_set=pl.lit(FEATURE_SET))
    frames["features"] = _features(frames["videos"])
    work.lake.replace("cameras", frames.pop("cameras"), work.provenance())
    for name in ("videos", "labels", "clips", "pose_tracks", "features"):
        work.lake.replace_partition(name, DAY, frames[name], work.provenance(DAY))
    # A new tracking store takes seconds to make; the tests copy this one.
    assert tracking(work.site).champion() is None
    return root


@pytest.fixture(scope="module")
def serving_site(
    labelled_site: Path,
    detectors: tuple[Detector, Detector],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The same site with a champion that scored the day, and a challenger that did not."""
    root = tmp_path_factory.mktemp("serving") / "site"
    shutil.copytree(labelled_site, root)
    work = _work(root)
    register(work, detectors[0], "champion", 0)
    register(work, detectors[1], "challenger", 1)
    predict(work, DAY)
    return root


@pytest.fixture
def work(labelled_site: Path, tmp_path: Path) -> Work:
    """A copy of the labelled site."""
    shutil.copytree(labelled_site, tmp_path / "site")
    return _work(tmp_path / "site")


@pytest.fixture
def serving(serving_site: Path, tmp_path: Path) -> Work:
    """A copy of the serving site."""
    shutil.copytree(serving_site, tmp_path / "site")
    return _work(tmp_path / "site")


def _features(videos: pl.DataFrame) -> pl.DataFrame:
    figures = {"fps": 10.0, "brightness": 0.5, "contrast": 0.2, "sharpness": 0.1, "noise": 0.0}
    figures |= {"watched": 1.0, "lying": 0.0}
    figures |= {"motion_max": 0.1, "people": 1.0, "keypoint_score": 0.6, "person_height": 0.5}
    rows = [
        {
            **{name: video[name] for name in ("day", "video_id", "camera_id", "width", "height")},
            "feature_set": FEATURE_SET,
            "window": window,
            "start_s": float(window),
            "end_s": window + 4.0,
            **figures,
            "motion_mean": 0.01 * (number % 5),
            "person_aspect": 2.0 - 0.1 * (number % 7),
            "person_y": 0.5,
        }
        for number, video in enumerate(videos.iter_rows(named=True))
        for window in range(7)
    ]
    return pl.DataFrame(rows, schema=table("features").schema)


def register(work: Work, detector: Detector, alias: Any, number: int) -> str:
    """Put a version into the registry and the lake."""
    store = tracking(work.site)
    run_id = store.log_candidate(
        detector,
        settings={},
        pins={},
        metrics={},
        plots={},
        git_commit="unknown",
        lock_sha256="unknown",
    )
    version = store.register(run_id, alias, "test")
    row = {
        "model_version": version,
        "run_id": run_id,
        "alias": alias,
        "registered_utc": NOW + timedelta(hours=number),
        "training_set_id": "test",
        "reason": "test",
    }
    work.lake.append("registered_model", one_row("registered_model", row), work.provenance())
    return version


def with_settings(work: Work, **parts: Any) -> Work:
    site = replace(work.site, settings=replace(work.site.settings, **parts))
    return replace(work, site=site)


# The queue.


def test_before_there_is_a_champion_the_queue_holds_what_nobody_labelled(work: Work) -> None:
    queue = build_review_queue(work)
    assert set(queue["video_id"]) == {video_id(number) for number in range(LABELLED, VIDEOS)}
    assert queue["suggested_label"].null_count() == queue.height
    assert_frame_equal(work.lake.read("review_queue").sort("rank"), queue)
    assert_frame_equal(build_review_queue(work), queue)


def test_footage_that_is_gone_is_not_queued(work: Work) -> None:
    gone = video_id(VIDEOS - 1)
    videos = work.lake.read("videos").with_columns(
        deleted_utc=pl.when(pl.col("video_id") == gone).then(NOW).otherwise(None)
    )
    work.lake.replace_partition("videos", DAY, videos, work.provenance(DAY))
    assert gone not in set(build_review_queue(work)["video_id"])


def test_older_days_than_the_settings_say_are_not_read(work: Work) -> None:
    newer = DAY + timedelta(days=1)
    moved = (
        work.lake.read("videos").tail(1).with_columns(day=pl.lit(newer), video_id=pl.lit("f" * 64))
    )
    work.lake.replace_partition("videos", newer, moved, work.provenance(newer))
    one_day = with_settings(work, review=ReviewSettings(days=1))
    assert build_review_queue(one_day).is_empty()
    assert work.lake.read("review_queue").is_empty()
    assert not build_review_queue(with_settings(work, review=ReviewSettings(days=2))).is_empty()


def test_a_day_leaves_a_bounded_number_of_pieces(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review, "CANDIDATES_PER_DAY", 10)
    queue = build_review_queue(work)
    assert 0 < queue.height <= 10
    assert_frame_equal(build_review_queue(work), queue)


def test_the_queue_knows_models_staff_and_drift(serving: Work) -> None:
    lake, provenance = serving.lake, serving.provenance()
    unlabelled = [video_id(number) for number in range(LABELLED, VIDEOS)]
    videos = {row["video_id"]: row for row in lake.read("videos").iter_rows(named=True)}
    told, start = unlabelled[3], videos[unlabelled[3]]["start_utc"]
    version = tracking(serving.site).champion()
    assert version is not None
    alert = {
        "day": DAY,
        "alert_id": "alert-1",
        "camera_id": videos[told]["camera_id"],
        "ward": "A",
        "room": "room",
        "video_id": told,
        "model_version": version.version,
        **dict.fromkeys(("start_utc", "raised_utc", "end_utc"), start),
        "start_s": 4.5,
        "end_s": 7.0,
        "score": 0.9,
        "still": None,
    }
    lake.replace_partition("alerts", DAY, one_row("alerts", alert), serving.provenance(DAY))
    for hour, verdict in enumerate(("fall", "no_fall")):
        at = NOW + timedelta(hours=hour)
        answer = {"alert_id": "alert-1", "at_utc": at, "by": "ward", "verdict": verdict}
        lake.append("alert_feedback", one_row("alert_feedback", answer), provenance)
    # A drift that is open and asks for labels; another that is over.
    for episode, camera, until in (("open", "cam-2", None), ("over", "cam-1", str(DAY))):
        noted = {
            "at_utc": NOW,
            "episode_id": episode,
            "model_version": version.version,
            "cause": "exposure",
            "cameras": json.dumps([camera]),
            "since": DAY,
            "answer": "annotate",
            "state": "done",
            "sentence": "it is darker",
            "evidence": json.dumps({"until": until}),
            "run_id": "by-hand",
        }
        lake.append("drift_answers", one_row("drift_answers", noted), provenance)
    queue = build_review_queue(serving)
    # The newest answer counts.
    assert queue.row(0, named=True)["video_id"] == told
    assert "no fall after an alert" in queue["reason"][0]
    assert queue["suggested_label"].null_count() == 0
    drifted = queue.filter(pl.col("reasons").str.contains('"drift"'))
    assert set(drifted["camera_id"]) == {"cam-2"}
    # The challenger scored nothing of the day: it is asked now.
    assert queue["reasons"].str.contains('"disagreement"').any()


def test_a_reported_fall_is_looked_for_until_it_is_labelled(serving: Work) -> None:
    videos = {row["video_id"]: row for row in serving.lake.read("videos").iter_rows(named=True)}
    missed = videos[video_id(LABELLED + 3)]
    until = missed["start_utc"] + timedelta(seconds=missed["duration_s"])
    report_fall(serving, missed["camera_id"], until, by="nurse", within_min=0.1, now=NOW)
    first = build_review_queue(serving).row(0, named=True)
    assert first["video_id"] == missed["video_id"]
    assert first["reason"].startswith("staff found a fall here that raised no alert")
    labels = serving.lake.read("labels")
    mark = labels.filter(pl.col("label") == "fall").head(1)
    found = mark.with_columns(
        label_id=pl.lit("found"),
        video_id=pl.lit(missed["video_id"]),
        camera_id=pl.lit(missed["camera_id"]),
        start_utc=pl.lit(until - timedelta(seconds=5)),
        end_utc=pl.lit(until - timedelta(seconds=3)),
    )
    both = pl.concat([labels, found])
    serving.lake.replace_partition("labels", DAY, both, serving.provenance(DAY))
    assert "raised no alert" not in " ".join(build_review_queue(serving)["reason"])


def test_a_version_whose_run_is_gone_gives_no_second_opinion(serving: Work) -> None:
    newest = serving.lake.read("registered_model").sort("registered_utc").tail(1)
    gone = newest.with_columns(
        model_version=pl.lit("99"),
        run_id=pl.lit("0" * 32),
        registered_utc=pl.col("registered_utc") + timedelta(hours=1),
    )
    serving.lake.append("registered_model", gone, serving.provenance())
    queue = build_review_queue(serving)
    # The next newest is asked instead.
    assert queue["reasons"].str.contains('"disagreement"').any()


# Automatic labels.


def test_the_champion_labels_a_day_and_says_so_each_time_alike(serving: Work) -> None:
    rows = label_automatically(serving, DAY)
    assert rows["label"].is_in(["fall", "other"]).all()
    assert_frame_equal(serving.lake.read("automatic_labels"), rows, check_row_order=False)
    assert_frame_equal(label_automatically(serving, DAY), rows)
    falls = set(rows.filter(pl.col("label") == "fall")["video_id"])
    drawn = {video_id(number) for number in range(0, VIDEOS, 3)}
    assert len(falls & drawn) >= 6


# The automatic share of a training set.


def test_a_set_without_a_share_is_the_same_whatever_the_champion_says(serving: Work) -> None:
    before = cut_training_set(serving)
    label_automatically(serving, DAY)
    after = cut_training_set(serving)
    assert after.id == before.id
    assert after.row["automatic_clips"] == 0
    assert "automatic_labels" not in after.pins


def test_confident_automatic_clips_teach_and_never_judge(serving: Work) -> None:
    label_automatically(serving, DAY)
    settings = LabellingSettings(automatic_share=0.1, automatic_confidence=0.8)
    sharing = with_settings(serving, labelling=settings)
    training_set = load_training_set(sharing, cut_training_set(sharing).id)
    manifest = training_set.manifest
    automatic = manifest.filter(pl.col("label_source").eq_missing("auto"))
    people = manifest.filter(pl.col("label_source").ne_missing("auto"))
    assert 0 < automatic.height <= 0.1 * manifest.height
    assert training_set.row["automatic_clips"] == automatic.height
    assert training_set.pins["automatic_labels"] == serving.lake.version("automatic_labels")
    assert not set(automatic["video_id"]) & set(people["video_id"])
    assert set(automatic["fold"]) == {EVERY_FOLD}
    assert training_set.row["folds"] == people["fold"].n_unique()
    assert training_set.row["falls"] == cut_training_set(serving).row["falls"]
    assert cut_training_set(sharing).id == training_set.id != cut_training_set(serving).id

    learning = open_training_set(sharing, training_set.id).read()[1]
    reviewed = set(people["video_id"])
    assert {truth.video_id for truth in learning.reviewed} == reviewed
    assert EVERY_FOLD not in learning.folds
    validation = cross_validate(learning, small_settings())
    assert {video.video_id for video in validation.videos} == reviewed
    detector = train_final(learning, small_settings(), validation.threshold)
    assert {o.video.video_id for o in judge(detector, learning)} == reviewed


def test_automatic_clips_change_what_is_learned(serving: Work) -> None:
    label_automatically(serving, DAY)
    settings = LabellingSettings(automatic_share=0.3, automatic_confidence=0.8)
    sharing = with_settings(serving, labelling=settings)
    without = open_training_set(serving, cut_training_set(serving).id).read()[1]
    shared = open_training_set(sharing, cut_training_set(sharing).id).read()[1]
    alone, together = (cross_validate(x, small_settings()) for x in (without, shared))
    assert [v.video_id for v in alone.videos] == [v.video_id for v in together.videos]
    assert alone.videos != together.videos


def test_days_that_are_held_back_teach_nothing(serving: Work) -> None:
    label_automatically(serving, DAY)
    settings = LabellingSettings(automatic_share=0.3, automatic_confidence=0.8)
    sharing = with_settings(serving, labelling=settings)
    newer = DAY + timedelta(days=1)
    told = serving.lake.read("automatic_labels").with_columns(
        day=pl.lit(newer), label_id=pl.concat_str(pl.lit("n"), "label_id")
    )
    for name in ("videos", "pose_tracks"):
        rows = serving.lake.read(name).with_columns(
            day=pl.lit(newer), video_id=pl.concat_str(pl.lit("n"), "video_id")
        )
        serving.lake.replace_partition(name, newer, rows, serving.provenance(newer))
    told = told.with_columns(video_id=pl.concat_str(pl.lit("n"), "video_id"))
    serving.lake.replace_partition("automatic_labels", newer, told, serving.provenance(newer))
    assert cut_training_set(sharing, last_day=DAY).manifest["day"].max() == DAY
    assert cut_training_set(sharing).manifest["day"].max() == newer
