"""What staff find when they come to an alert is a label, by whatever way they said it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from fall_assets.lake.registry import table
from fall_assets.pipeline.feedback import Verdict, answer_alert
from fall_assets.pipeline.labelling import cut, label
from fall_assets_tests.pipeline.recorded import NOW, OLD, OLD_DAY, Recorded


@pytest.fixture
def site(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path / "site")


def labels(site: Recorded) -> list[tuple[str, float, float, str, str | None]]:
    label(site.work, [OLD_DAY])
    rows = site.lake.read("labels", days=[OLD_DAY]).sort("start_s")
    return rows.select("label", "start_s", "end_s", "source", "annotator").rows()


def edge_alert(site: Recorded, alert_id: str, camera_id: str, raised: datetime) -> None:
    row = {
        "day": raised.date(),
        "alert_id": alert_id,
        "number": 1,
        "box": "box-1",
        "camera_id": camera_id,
        "model_version": "1",
        "start_utc": raised - timedelta(seconds=4),
        "raised_utc": raised,
        "received_utc": raised,
        "score": 0.9,
        "kind": "fall",
        "shadow": False,
    }
    frame = pl.DataFrame([row], schema=table("edge_alerts").schema)
    site.lake.extend_partition("edge_alerts", raised.date(), frame, site.work.provenance())


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        ("fall", [("fall", 29.0, 31.0, "staff", "nurse")]),
        ("no_fall", [("other", 26.0, 30.0, "staff", "nurse")]),
        ("unsure", []),
    ],
)
def test_an_answer_to_a_box_alert_is_a_label(
    site: Recorded, verdict: Verdict, told: list[tuple[str, float, float, str, str]]
) -> None:
    site.take_in("cam-01/a.mp4")
    edge_alert(site, "a1", "cam-01", OLD + timedelta(seconds=30))
    assert labels(site) == []
    answer_alert(site.work, "a1", verdict, by="nurse", now=NOW)
    assert labels(site) == told


def test_a_confirmed_fall_teaches_by_windows_that_hold_it_whole(site: Recorded) -> None:
    """Those on which the alert was raised may show its beginning alone."""
    video = site.take_in("cam-01/a.mp4")
    edge_alert(site, "a1", "cam-01", OLD + timedelta(seconds=30))
    answer_alert(site.work, "a1", "fall", by="nurse", now=NOW)
    label(site.work, [OLD_DAY])
    cut(site.work, OLD_DAY)
    clips = site.lake.read("clips", days=[OLD_DAY], where=pl.col("video_id") == video)
    assert clips.filter(target=1)["end_s"].sort().to_list() == [30.5, 31.0]
    unsure = clips.filter(pl.col("target").is_null())["end_s"]
    assert unsure.sort().to_list() == [29.5, 30.0]


def test_the_newest_answer_is_the_label_and_one_without_footage_waits(site: Recorded) -> None:
    raised = OLD + timedelta(seconds=30)
    edge_alert(site, "a1", "cam-01", raised)
    site.take_in("cam-02/b.mp4")
    answer_alert(site.work, "a1", "no_fall", by="nurse", now=NOW)
    answer_alert(site.work, "a1", "fall", by="doctor", now=NOW + timedelta(minutes=1))
    assert labels(site) == []
    assert site.lake.rows("label_problems") == 0, "footage that is late is no mistake"
    site.take_in("cam-01/a.mp4")
    assert labels(site) == [("fall", 29.0, 31.0, "staff", "doctor")]


def test_an_answer_to_the_platforms_own_alert_is_a_label(site: Recorded) -> None:
    alert = site.alert(site.take_in("cam-01/a.mp4"))
    answer_alert(site.work, alert, "no_fall", by="nurse", now=NOW.astimezone(UTC))
    assert [(row[0], row[3]) for row in labels(site)] == [("other", "staff")]
