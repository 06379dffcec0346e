"""Nothing fails because a file is gone, and what was made of it stays."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from fall_assets.errors import PermanentFailureError
from fall_assets.features.settings import FeatureSettings
from fall_assets.lake.registry import table
from fall_assets.learning.events import EventSettings
from fall_assets.pipeline import operation, serving
from fall_assets.pipeline.collection import collect
from fall_assets.pipeline.features import extract_day
from fall_assets.pipeline.files import files_of
from fall_assets.pipeline.labelling import contact_sheet
from fall_assets.pipeline.retention import apply_retention
from fall_assets_tests.footage.films import film
from fall_assets_tests.pipeline.recorded import NOW, OLD, OLD_DAY, Recorded

HOUR = timedelta(hours=1)


@pytest.fixture
def site(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path / "site")


def filmed(site: Recorded, name: str, *, seed: int = 0, hours: int = 0) -> str:
    content = film(site.root / f"{seed}.mp4", seed=seed).read_bytes()
    return site.take_in(f"cam-01/{name}", OLD + hours * HOUR, content=content)


def test_features_of_deleted_footage_stay_and_gone_files_fail_nothing(site: Recorded) -> None:
    deleted = filmed(site, "deleted.mp4")
    kept = filmed(site, "kept.mp4", seed=1, hours=1)
    site.label(kept)
    extract_day(site.work, OLD_DAY)
    first = {name: site.lake.read(name) for name in ("features", "pose_tracks")}
    assert set(first["features"]["video_id"]) == {deleted, kept}
    apply_retention(site.work, now=NOW)
    assert site.without_files() == {deleted}

    # One more came late and was removed by the recorder before it could be decoded.
    filmed(site, "removed.mp4", seed=2, hours=2)
    (site.landing / "cam-01/removed.mp4").unlink()
    again = extract_day(site.work, OLD_DAY)
    assert (again.reused, again.gone, again.failed) == (2, 1, {})
    for name, before in first.items():
        assert site.lake.read(name).equals(before)


def test_a_day_of_which_every_file_is_gone_is_no_failure(site: Recorded) -> None:
    filmed(site, "a.mp4")
    filmed(site, "b.mp4", seed=1, hours=1)
    apply_retention(site.work, now=NOW)
    day = extract_day(site.work, OLD_DAY)
    assert (day.segments, day.gone, day.failed) == (2, 2, {})


def test_a_file_that_is_there_and_broken_still_fails(site: Recorded) -> None:
    site.take_in("cam-01/broken.mp4", content="no film at all")
    with pytest.raises(PermanentFailureError, match=r"cam-01/broken\.mp4"):
        extract_day(site.work, OLD_DAY)


def test_a_segment_is_read_under_the_name_that_is_left(site: Recorded) -> None:
    content = film(site.root / "a.mp4").read_bytes()
    video = site.take_in("cam-01/first.mp4", content=content, copies={"cam-01/second.mp4": OLD})
    rows = site.lake.read("sightings", days=[OLD_DAY])
    first = pl.col("path") == "cam-01/first.mp4"
    gone = rows.with_columns(gone_utc=pl.when(first).then(pl.lit(NOW)).otherwise(None))
    site.lake.replace_partition("sightings", OLD_DAY, gone, site.work.provenance())
    # Another film stands under the first name by now.
    site.write("cam-01/first.mp4", "another film")
    assert files_of(site.work, site.lake.read("videos")) == {video: "cam-01/second.mp4"}
    extract_day(site.work, OLD_DAY)
    assert set(site.lake.read("features")["video_id"]) == {video}


def test_an_alert_keeps_its_still_when_its_footage_is_gone(
    site: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = SimpleNamespace(events=EventSettings(), windows=SimpleNamespace(window_s=4.0))
    registry = SimpleNamespace(
        champion=lambda: SimpleNamespace(version="1"), load_detector=lambda _: detector
    )
    monkeypatch.setattr(serving, "tracking", lambda _: registry)
    video = filmed(site, "a.mp4")
    scores = [
        {
            "day": OLD_DAY,
            "video_id": video,
            "camera_id": "cam-01",
            "model_version": "1",
            "feature_set": FeatureSettings().version,
            "end_s": 4.0 + number,
            "track": 0,
            "score": 0.99,
        }
        for number in range(5)
    ]
    site.add("predictions", scores, OLD_DAY)
    before = operation.raise_alerts(site.work, OLD_DAY, channels=[]).alerts
    still = before["still"][0]
    picture = site.lake.resolve(still).read_bytes()
    assert picture.startswith(b"\xff\xd8")

    (site.landing / "cam-01/a.mp4").unlink()
    assert operation.raise_alerts(site.work, OLD_DAY, channels=[]).alerts.equals(before)
    videos = site.lake.read("videos").with_columns(deleted_utc=pl.lit(NOW))
    site.lake.replace_partition("videos", OLD_DAY, videos, site.work.provenance())
    # Even where another film took the name.
    film(site.landing / "cam-01/a.mp4", seed=9)
    assert operation.raise_alerts(site.work, OLD_DAY, channels=[]).alerts.equals(before)
    assert site.lake.resolve(still).read_bytes() == picture


def test_the_contact_sheet_passes_over_what_is_gone(site: Recorded) -> None:
    there = filmed(site, "there.mp4")
    gone = filmed(site, "gone.mp4", seed=1, hours=1)
    (site.landing / "cam-01/gone.mp4").unlink()
    rows = [
        {
            **dict.fromkeys(table("clips").schema),
            "day": OLD_DAY,
            "clip_id": video,
            "video_id": video,
            "camera_id": "cam-01",
            "start_s": 0.0,
            "end_s": 1.0,
            "label": "fall",
            "target": 1,
        }
        for video in (there, gone)
    ]
    clips = pl.DataFrame(rows, schema=table("clips").schema)
    sheet = contact_sheet(site.work, clips)
    assert sheet is not None
    assert sheet.startswith(b"\x89PNG")
    assert any("no picture of clip" in line for line in site.lines)
    assert contact_sheet(site.work, clips.filter(pl.col("video_id") == gone)) is None


def test_intake_and_retention_agree_on_what_is_gone(site: Recorded) -> None:
    (site.root / "landing").mkdir(parents=True)
    path = site.landing / "cam-01/2026-03-01/08-00-00.mp4"
    content = film(path).read_bytes()
    collect(site.work, OLD_DAY)
    apply_retention(site.work, now=NOW)
    assert site.files() == set()
    deleted = site.lake.read("videos")
    assert deleted["deleted_utc"].null_count() == 0
    collect(site.work, OLD_DAY)
    assert site.lake.read("videos").equals(deleted)
    # From a backup: it is there again, and goes again, with an audit of its own.
    path.write_bytes(content)
    assert collect(site.work, OLD_DAY).videos["deleted_utc"].null_count() == 1
    apply_retention(site.work, now=NOW)
    assert site.files() == set()
    assert [state for _, state in site.audit()] == ["planned", "deleted"] * 2
    assert site.lake.read("videos")["deleted_utc"].null_count() == 0
