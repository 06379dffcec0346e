"""The decision: what may go, and what keeps the rest."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.footage.retention import Decision, Hold, decide, open_holds
from fall_assets.lake.registry import table

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
OLD = NOW - timedelta(days=40)


def videos(*rows: Mapping[str, object]) -> pl.DataFrame:
    whole = [
        {
            "day": row.get("start_utc", OLD).date(),  # type: ignore[attr-defined]
            "video_id": f"v{number}",
            "camera_id": "cam-01",
            "dataset": "site",
            "path": f"cam-01/{number}.mp4",
            "start_utc": OLD,
            "duration_s": 60.0,
            "width": 320,
            "height": 180,
            "fps": 25.0,
            "frames": 1500,
            "codec": "h264",
            "bytes": 1000,
            "subject": None,
            "scene": "site/cam-01",
            "deleted_utc": None,
            **row,
        }
        for number, row in enumerate(rows)
    ]
    return pl.DataFrame(whole, schema=table("videos").schema)


def sighting(video_id: str, path: str, **more: object) -> pl.DataFrame:
    row = {
        "day": OLD.date(),
        "path": path,
        "source": "recorders",
        "camera_id": "cam-01",
        "start_utc": OLD,
        "video_id": video_id,
        "bytes": 1000,
        "fingerprint": "1",
        "first_seen_utc": OLD,
        "gone_utc": None,
        **more,
    }
    return pl.DataFrame([row], schema=table("sightings").schema)


def alert(**more: object) -> pl.DataFrame:
    row = {
        "day": OLD.date(),
        "alert_id": "a",
        "camera_id": "cam-01",
        "ward": "w",
        "room": "r",
        "video_id": "other",
        "model_version": "1",
        "start_utc": OLD,
        "raised_utc": OLD,
        "end_utc": OLD,
        "start_s": 0.0,
        "end_s": 1.0,
        "score": 1.0,
        "still": None,
        **more,
    }
    return pl.DataFrame([row], schema=table("alerts").schema)


def decided(
    rows: pl.DataFrame,
    sightings: pl.DataFrame | None = None,
    *,
    days: int = 30,
    labelled: tuple[str, ...] = (),
    alerts: pl.DataFrame | None = None,
    holds: tuple[Hold, ...] = (),
) -> Decision:
    return decide(
        rows,
        table("sightings").empty() if sightings is None else sightings,
        now=NOW,
        days=days,
        labelled=labelled,
        alerts=table("alerts").empty() if alerts is None else alerts,
        holds=holds,
    )


def test_only_what_is_older_than_the_retention_goes() -> None:
    limit = NOW - timedelta(days=30)
    rows = videos(
        {"start_utc": limit - timedelta(seconds=1)},
        {"start_utc": limit},
        {"start_utc": OLD, "deleted_utc": NOW},
    )
    found = decided(rows)
    assert found.go == ("v0",)
    assert found.young == 1
    assert found.kept == {}


def test_a_retention_of_no_days_keeps_everything() -> None:
    assert decided(videos({}), days=0).go == ()


def test_labels_alerts_and_data_sets_keep_and_say_so() -> None:
    rows = videos(
        {}, {}, {"camera_id": "cam-02"}, {"camera_id": "cam-03", "dataset": "urfd"}, {}
    ).with_columns(
        start_utc=pl.when(pl.col("video_id") == "v4")
        .then(OLD - timedelta(hours=1))
        .otherwise("start_utc")
    )
    found = decided(
        rows,
        labelled=("v0",),
        alerts=pl.concat([alert(camera_id="cam-02", video_id="v2"), alert(video_id="v0")]),
    )
    # v1 is of the same camera and time as v0's alert: the event may reach into it.
    assert found.kept == {
        "v0": ("label", "alert"),
        "v1": ("alert",),
        "v2": ("alert",),
        "v3": ("dataset",),
    }
    assert found.go == ("v4",)


def test_an_alert_keeps_every_segment_that_the_event_touches() -> None:
    after = OLD + timedelta(seconds=60)
    rows = videos({}, {"start_utc": after}, {"start_utc": after + timedelta(seconds=120)})
    event = alert(
        video_id="v1", start_utc=OLD + timedelta(seconds=50), end_utc=after + timedelta(seconds=9)
    )
    assert decided(rows, alerts=event).go == ("v2",)


def test_a_copy_in_a_data_sets_folder_keeps() -> None:
    rows = videos({}, {})
    names = pl.concat(
        [sighting("v0", "urfd/fall-01-cam0.mp4", source="urfd"), sighting("v1", "cam-01/1.mp4")]
    )
    assert decided(rows, names).kept == {"v0": ("dataset",)}


HOLDS = {
    "all": (Hold("h"), True),
    "camera": (Hold("h", camera_id="cam-01"), True),
    "another camera": (Hold("h", camera_id="cam-02"), False),
    "segment": (Hold("h", video_id="v0"), True),
    "another segment": (Hold("h", video_id="v9"), False),
    "from its end": (Hold("h", from_utc=OLD + timedelta(seconds=60)), True),
    "from later": (Hold("h", from_utc=OLD + timedelta(seconds=61)), False),
    "until its start": (Hold("h", until_utc=OLD), True),
    "until earlier": (Hold("h", until_utc=OLD - timedelta(seconds=1)), False),
    "camera at another time": (Hold("h", camera_id="cam-01", from_utc=NOW), False),
}


@pytest.mark.parametrize("name", HOLDS)
def test_a_hold_covers_camera_segment_and_time(name: str) -> None:
    hold, covers = HOLDS[name]
    assert decided(videos({}), holds=(hold,)).go == (() if covers else ("v0",))


def test_a_hold_covers_a_segment_by_any_of_its_names() -> None:
    other = sighting("v0", "cam-02/copy.mp4", camera_id="cam-02", start_utc=NOW)
    for hold in (Hold("h", camera_id="cam-02"), Hold("h", from_utc=NOW)):
        assert decided(videos({}), other, holds=(hold,)).kept == {"v0": ("hold",)}


def test_released_holds_hold_nothing() -> None:
    row = {
        "hold_id": "h",
        "camera_id": None,
        "video_id": None,
        "from_utc": None,
        "until_utc": None,
        "reason": "r",
        "placed_by": "p",
        "placed_utc": NOW,
        "released_by": None,
        "released_utc": None,
    }
    standing = pl.DataFrame([row], schema=table("legal_holds").schema)
    assert open_holds(standing) == [Hold("h")]
    assert open_holds(standing.with_columns(released_utc=pl.lit(NOW))) == []


@given(st.data())
def test_what_goes_is_old_unkept_and_still_there(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    ages = data.draw(st.lists(st.integers(0, 80), min_size=count, max_size=count))
    gone = data.draw(st.sets(st.integers(0, count - 1)))
    labelled = data.draw(st.sets(st.integers(0, count - 1)))
    held = data.draw(st.sets(st.integers(0, count - 1)))
    rows = videos(
        *(
            {
                "start_utc": NOW - timedelta(days=age),
                "deleted_utc": NOW if number in gone else None,
            }
            for number, age in enumerate(ages)
        )
    )
    found = decided(
        rows,
        labelled=tuple(f"v{number}" for number in labelled),
        holds=tuple(Hold("h", video_id=f"v{number}") for number in held),
    )
    old = {number for number, age in enumerate(ages) if age > 30} - gone
    assert set(found.go) == {f"v{number}" for number in old - labelled - held}
    assert set(found.kept) == {f"v{number}" for number in old & (labelled | held)}
    assert found.young == count - len(gone) - len(old)
