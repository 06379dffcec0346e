"""From zones.csv and key points to an alert's kind, and to who is told of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from fall_assets.assets import operation as operation_assets
from fall_assets.delivery.channels import AlertSettings, WardChoice
from fall_assets.features.crop import Crop
from fall_assets.features.packing import pack_boxes, pack_keypoints
from fall_assets.features.settings import FeatureSettings
from fall_assets.lake.registry import TABLES
from fall_assets.learning.events import EventSettings
from fall_assets.pipeline import operation, serving
from fall_assets.pipeline.labelling import refresh_zones
from fall_assets.resources.site import SiteResource
from fall_assets_tests.delivery.test_kinds import BESIDE, IN_BED, Reals, person
from fall_assets_tests.pipeline.recorded import OLD, OLD_DAY, Recorded

HEADER = "camera_id,kind,name,polygon,valid_from,valid_until"
BED = "0.1 0.5; 0.5 0.5; 0.5 0.7; 0.1 0.7"
ELSEWHERE = "0.9 0.9; 1 0.9; 1 1; 0.9 1"
RAISED_S = 8.0
VERSION = FeatureSettings().version


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    detector = SimpleNamespace(events=EventSettings(), windows=SimpleNamespace(window_s=4.0))
    registry = SimpleNamespace(
        champion=lambda: SimpleNamespace(version="1"), load_detector=lambda _: detector
    )
    monkeypatch.setattr(serving, "tracking", lambda _: registry)
    return Recorded(tmp_path / "site")


def fallen(site: Recorded, *tracks: tuple[Reals, Reals], raised_by: int | None = 0) -> str:
    """A segment in which people are in one place, and from 6.5 s on in another; its video_id."""
    video = site.take_in("cam-01/a.mp4")
    scores = [
        {
            "day": OLD_DAY,
            "video_id": video,
            "camera_id": "cam-01",
            "model_version": "1",
            "feature_set": VERSION,
            "end_s": end_s,
            # Before and after the alarm somebody else has the highest score.
            "track": raised_by if end_s == RAISED_S else 1,
            "score": 0.9 if RAISED_S <= end_s < RAISED_S + 2 else 0.1,
        }
        for end_s in (7.0, 7.5, RAISED_S, 8.5, 9.0)
    ]
    site.add("predictions", scores, OLD_DAY)
    rows = [
        {
            "day": OLD_DAY,
            "video_id": video,
            "camera_id": "cam-01",
            "feature_set": VERSION,
            "track": number,
            "start_s": 1.0,
            "rate_hz": 10.0,
            "samples": 100,
            "aspect": 16 / 9,
            "keypoints": pack_keypoints(np.stack([before] * 55 + [after] * 45)),
            "boxes": pack_boxes(np.zeros((100, 5))),
        }
        for number, (before, after) in enumerate(tracks)
    ]
    site.add("pose_tracks", rows, OLD_DAY)
    return video


def zones(site: Recorded, *lines: str) -> None:
    site.landing.mkdir(parents=True, exist_ok=True)
    (site.landing / "zones.csv").write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    refresh_zones(site.work)


def raised(site: Recorded, settings: str = "") -> dg.ExecuteInProcessResult:
    """Materialize the asset of that day, by the site's settings."""
    config = site.root / "site.toml"
    config.write_text(settings)
    resource = SiteResource(root=str(site.root), config=str(config))
    names = ("predictions", "videos", "cameras", "zones", "pose_tracks")
    result = dg.materialize(
        [operation_assets.alerts, *(dg.AssetSpec(name) for name in names)],
        selection=["alerts"],
        partition_key=OLD_DAY.isoformat(),
        resources={"site": resource},
    )
    assert result.success
    return result


def kinds(site: Recorded) -> list[str]:
    return site.lake.read("alerts")["kind"].to_list()


OUT, ONTO = (person(IN_BED), person(BESIDE)), (person(BESIDE), person(IN_BED))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([f"cam-01,bed,b,{BED},2026-01-01,"], "fall_out_of_bed"),
        ([], "fall"),
        ([f"cam-01,chair,b,{BED},2026-01-01,"], "fall"),
        # The bed was moved since: what held at that moment counts.
        (
            [f"cam-01,bed,b,{BED},2026-01-01,", f"cam-01,bed,b,{ELSEWHERE},2026-03-01T08:00:09Z,"],
            "fall_out_of_bed",
        ),
        (
            [f"cam-01,bed,b,{BED},2026-01-01,", f"cam-01,bed,b,{ELSEWHERE},2026-03-01T08:00:08Z,"],
            "fall",
        ),
        ([f"cam-01,bed,b,{BED},2026-01-01,2026-02-01"], "fall"),
        # The whole picture is a bed: nobody is ever out of it.
        (["cam-01,bed,b,,2026-01-01,"], "fall"),
    ],
)
def test_the_beds_of_that_moment_count(site: Recorded, lines: list[str], said: str) -> None:
    fallen(site, OUT, ONTO)
    zones(site, *lines)
    raised(site)
    assert kinds(site) == [said]


@pytest.mark.parametrize(
    ("raised_by", "said"), [(0, "fall_out_of_bed"), (1, "fall_onto_bed"), (None, "fall")]
)
def test_the_person_counts_whose_score_raised_it(
    site: Recorded, raised_by: int | None, said: str
) -> None:
    fallen(site, OUT, ONTO, raised_by=raised_by)
    zones(site, f"cam-01,bed,b,{BED},2026-01-01,")
    raised(site)
    assert kinds(site) == [said]


def test_a_bed_is_in_the_whole_picture_and_key_points_in_the_part_that_is_used(
    site: Recorded,
) -> None:
    fallen(site, OUT)
    crop = "0.5,0,1,0.5"
    corners = [corner.split() for corner in BED.split(";")]
    half = "; ".join(f"{0.5 + float(x) / 2} {float(y) / 2}" for x, y in corners)
    zones(site, f"cam-01,bed,b,{half},2026-01-01,")
    raised(site)
    assert kinds(site) == ["fall"]
    cameras = site.lake.read("cameras").with_columns(crop=pl.lit(crop))
    site.lake.replace("cameras", cameras, site.work.provenance())
    raised(site)
    assert kinds(site) == ["fall_out_of_bed"]


def test_a_kind_that_is_not_delivered_is_recorded_and_not_sent(site: Recorded) -> None:
    fallen(site, ONTO, OUT)
    zones(site, f"cam-01,bed,b,{BED},2026-01-01,")
    result = raised(site, "[alerts]\ndeliver = ['fall', 'fall_out_of_bed']")
    event = result.asset_materializations_for_node("alerts")[0]
    assert event.metadata["delivered now"].value == 0
    assert "fall_onto_bed" in str(event.metadata["by kind"].value)
    assert kinds(site) == ["fall_onto_bed"]
    assert site.lake.rows("alert_deliveries") == 0
    first = site.lake.read("alerts")

    raised(site, "[alerts]\ndeliver = []\n[[alerts.wards]]\nward = 'w'")
    assert site.lake.read("alerts").equals(first)
    assert site.lake.read("alert_deliveries")["alert_id"].to_list() == first["alert_id"].to_list()
    raised(site)
    assert site.lake.rows("alert_deliveries") == 1


def test_a_ward_that_no_camera_is_in_is_named(site: Recorded) -> None:
    fallen(site, OUT)
    work = site.work
    settings = dataclasses.replace(
        work.site.settings, alerts=AlertSettings(wards=(WardChoice("W"),))
    )
    work = dataclasses.replace(work, site=dataclasses.replace(work.site, settings=settings))
    operation.raise_alerts(work, OLD_DAY, channels=[])
    assert any("no camera is in ward 'W'; correct the name; there are: w" in x for x in site.lines)


def test_an_alert_keeps_its_id_and_its_kind_without_key_points(site: Recorded) -> None:
    fallen(site, OUT)
    zones(site, f"cam-01,bed,b,{BED},2026-01-01,")
    raised(site)
    first = site.lake.read("alerts")
    tracks = site.lake.read("pose_tracks").clear()
    site.lake.replace_partition("pose_tracks", OLD_DAY, tracks, site.work.provenance())
    raised(site)
    assert site.lake.read("alerts").equals(first)


def test_an_older_lake_s_alerts_stay_readable_and_get_a_kind(
    site: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = TABLES["alerts"]
    older = dataclasses.replace(now, columns=tuple(x for x in now.columns if x.name != "kind"))
    video = fallen(site, OUT)
    zones(site, f"cam-01,bed,b,{BED},2026-01-01,")
    with monkeypatch.context() as earlier:
        earlier.setitem(TABLES, "alerts", older)
        row: Mapping[str, Any] = {
            "day": OLD_DAY, "alert_id": "an old one", "camera_id": "cam-01", "ward": "w",
            "room": "r", "video_id": video, "model_version": "1", "start_s": 4.0, "end_s": 9.0,
            "score": 0.9, "still": None,
        }  # fmt: skip
        times = {name: OLD.replace(second=second) for name, second in
                 (("start_utc", 4), ("raised_utc", 8), ("end_utc", 9))}  # fmt: skip
        site.add("alerts", [{**row, **times}], OLD_DAY)
        assert "kind" not in site.lake.read("alerts").columns
    assert site.lake.read("alerts").select("alert_id", "kind").rows() == [("an old one", None)]
    raised(site)
    found = site.lake.read("alerts").select("alert_id", "kind").rows()
    assert found == [("an old one", "fall_out_of_bed")]


def test_heads_and_beds_are_where_the_detector_s_picture_is_cut(site: Recorded) -> None:
    work = site.work
    whole = work.site.settings
    picture = dataclasses.replace(whole.features.detector.picture, crop=Crop(0.5, 0, 1, 1))
    detector = dataclasses.replace(whole.features.detector, picture=picture)
    features = dataclasses.replace(whole.features, detector=detector)
    settings = dataclasses.replace(whole, features=features)
    cut = dataclasses.replace(work, site=dataclasses.replace(work.site, settings=settings))
    assert work.looked_at("0.5,0,1,0.5") == Crop(0.5, 0, 1, 0.5)
    assert cut.looked_at("0.5,0,1,0.5") == Crop(0.75, 0, 1, 0.5)
    assert cut.looked_at(None) == Crop(0.5, 0, 1, 1)
