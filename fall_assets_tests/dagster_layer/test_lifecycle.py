"""Once around the loop on a small simulated hospital, read back from the lake."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from fall_assets.lake import TABLES
from fall_assets.lake.registry import EVALUATION_SLICES
from fall_assets.pipeline.models import champion
from fall_assets.pipeline.training_sets import ManifestChangedError, load_training_set
from fall_assets_tests.site import CHANGED_DAY, DAYS, SPEC, TestSite


def test_every_table_has_rows(lived_in: TestSite) -> None:
    rows = lived_in.rows()
    # All simulated label lines are right and by one annotator; nobody answered an alert, held
    # footage or deleted any; the only feature set is the detector's, of people; studies, packaging
    # and rollouts are jobs of their own, there is no gateway, and there was no champion to compare
    # the first candidate with.
    assert {name for name in TABLES if not rows.get(name)} == {
        "label_problems",
        "experiments",
        "tuning_study",
        "comparison",
        "label_conflicts",
        "label_agreement",
        "alert_feedback",
        "reported_falls",
        "legal_holds",
        "sequences",
        "deletions",
        "edge_alerts",
        "ward_answers",
        "edge_reports",
        "edge_updates",
        "edge_package",
        "edge_variants",
        "edge_parity",
        "rollout",
        "rollout_cameras",
        "rollout_evidence",
        "site_health",
        "storage_use",
        "technician_deliveries",
        "camera_embeddings",
        "drift_answers",
    }


def test_segments_are_taken_in_or_set_aside_with_a_reason(lived_in: TestSite) -> None:
    videos = lived_in.lake.read("videos")
    assert videos.height == SPEC.days * SPEC.cameras * SPEC.segments_per_day
    aside = lived_in.lake.read("quarantine")
    assert aside.height == SPEC.bad_files
    assert set(aside["reason"]) == {"empty", "truncated", "not_a_video"}
    assert aside.filter(pl.col("advice").str.len_chars() < 10).is_empty()


def test_the_newest_day_is_held_back_from_learning(lived_in: TestSite) -> None:
    training_set = load_training_set(lived_in.work)
    assert training_set.row["last_day"] == DAYS[-2]
    assert set(training_set.manifest["day"]) == set(DAYS[:-1])


def test_the_training_set_is_pinned_and_verified(lived_in: TestSite) -> None:
    training_set = load_training_set(lived_in.work)
    assert set(training_set.pins) == {"cameras", "videos", "labels", "clips", "pose_tracks"}
    path = lived_in.lake.resolve(str(training_set.row["manifest"]))
    content = path.read_bytes()
    try:
        path.write_bytes(content + b"x")
        with pytest.raises(ManifestChangedError, match="backup"):
            load_training_set(lived_in.work)
    finally:
        path.write_bytes(content)


def test_no_subject_or_scene_is_in_two_folds(lived_in: TestSite) -> None:
    manifest = load_training_set(lived_in.work).manifest
    for column in ("split_group", "video_id", "event_id"):
        folds = manifest.drop_nulls(column).group_by(column).agg(pl.col("fold").n_unique())
        assert folds["fold"].max() == 1, column


def test_the_evaluation_leads_with_what_a_ward_feels(lived_in: TestSite) -> None:
    rows = lived_in.lake.read("evaluation")
    everything = rows.filter(pl.col("slice") == "all").row(0, named=True)
    falls = load_training_set(lived_in.work).manifest.drop_nulls("event_id")
    assert everything["falls"] >= falls["event_id"].n_unique()
    assert everything["sensitivity_low"] <= everything["sensitivity"]
    assert everything["sensitivity"] <= everything["sensitivity_high"]
    hours = everything["camera_days"] * 24
    assert everything["false_alarms_per_hour"] == pytest.approx(everything["false_alarms"] / hours)
    # No drift was learned from here.
    assert set(rows["slice"]) == set(EVALUATION_SLICES) - {"changed"}


def test_the_champion_serves_the_scores_of_the_lake(lived_in: TestSite) -> None:
    detector, version = champion(lived_in.work.site)
    predictions = lived_in.lake.read("predictions")
    assert set(predictions["model_version"]) == {version}
    assert set(predictions["feature_set"]) == {detector.feature_set}
    assert set(predictions["video_id"]) == set(lived_in.lake.read("videos")["video_id"])


def test_alerts_have_a_still_and_were_delivered_once(lived_in: TestSite) -> None:
    alerts = lived_in.lake.read("alerts")
    assert alerts.height
    for path in alerts["still"]:
        assert lived_in.lake.resolve(path).read_bytes().startswith(b"\xff\xd8")
    deliveries = lived_in.lake.read("alert_deliveries")
    assert sorted(deliveries["alert_id"]) == sorted(alerts["alert_id"])


def test_drift_is_named_on_the_changed_day_only(lived_in: TestSite) -> None:
    reports = lived_in.lake.read("drift_report").sort("day")
    drifted = dict(reports.select("day", "drifted").iter_rows())
    assert drifted == {day: day == CHANGED_DAY for day in DAYS}
    verdict = reports["verdict"][-1]
    assert "resolution from 320x180 to 640x360" in verdict
    videos = lived_in.lake.read("videos", days=[CHANGED_DAY])
    replaced = videos.filter(pl.col("width") == SPEC.changed_width)["camera_id"].unique()
    assert json.loads(reports["cameras"][-1]) == replaced.to_list()


def test_materializations_carry_counts_schema_and_pictures(lived_in: TestSite) -> None:
    wanted = {
        "clips": ["dagster/row_count", "contact sheet"],
        "evaluation": ["precision and recall", "confusion", "sensitivity against false alarms"],
        "drift_report": ["what changed", "verdict"],
        "alerts": ["still 1"],
    }
    for asset, names in wanted.items():
        event = lived_in.instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event is not None
        assert event.asset_materialization is not None
        metadata = event.asset_materialization.metadata
        for name in names:
            value = metadata[name]
            if name not in ("dagster/row_count", "verdict"):
                assert isinstance(value, dg.MarkdownMetadataValue)
                assert "data:image/" in str(value.md_str), (asset, name)


def test_the_day_s_drift_page_shows_the_camera_before_and_after(lived_in: TestSite) -> None:
    event = lived_in.instance.get_latest_materialization_event(dg.AssetKey("drift_report"))
    assert event is not None
    assert event.asset_materialization is not None
    report = event.asset_materialization.metadata["report"]
    assert isinstance(report, dg.PathMetadataValue)
    page = Path(str(report.value)).read_text()
    assert "320x180" in page
    assert "640x360" in page
    assert page.count("data:image/jpeg") == 2


def test_running_a_day_again_changes_no_rows(lived_in: TestSite) -> None:
    before = lived_in.rows()
    content = {
        name: lived_in.lake.read(name, days=[DAYS[0]]).drop("first_seen_utc", strict=False)
        for name in ("videos", "quarantine", "labels", "clips", "features", "predictions", "alerts")
    }
    lived_in.execute("nightly", [DAYS[0]])
    assert lived_in.rows() == before
    for name, frame in content.items():
        again = lived_in.lake.read(name, days=[DAYS[0]]).drop("first_seen_utc", strict=False)
        assert again.equals(frame), name
