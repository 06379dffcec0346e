"""One alert per event, whatever the segments, and the same id however often it is computed."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.delivery.alerts import merge
from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import table
from fall_assets.learning.events import EventSettings
from fall_assets_tests.delivery.scenes import MIDNIGHT, at, cameras, scores, segments, video_id

NONE = table("alerts").empty()
RULE = EventSettings(threshold=0.5)
Intervals = list[tuple[datetime, datetime]]


def alerts(
    videos: pl.DataFrame,
    high: dict[str, Intervals],
    previous: pl.DataFrame = NONE,
    rule: EventSettings = RULE,
) -> pl.DataFrame:
    known = cameras(*videos["camera_id"].unique().sort())
    return merge(scores(videos, high), videos, known, settings=rule, previous=previous)


def test_an_event_becomes_an_alert_that_says_where_and_when() -> None:
    videos = segments(("cam-01", at(0), 20))
    found = alerts(videos, {"cam-01": [(at(8), at(11))]})
    assert dict(found.schema) == table("alerts").schema
    assert len(found) == 1
    alert = found.row(0, named=True)
    assert alert["ward"] == "Geriatrics"
    assert alert["room"] == "room of cam-01"
    assert alert["raised_utc"] == at(8)
    assert alert["start_utc"] == at(4)
    assert alert["end_utc"] == at(11)
    assert (alert["start_s"], alert["end_s"]) == (4.0, 11.0)
    assert alert["score"] == 0.9
    assert alert["video_id"] == video_id("cam-01", at(0))
    assert alert["day"] == at(0).date()
    assert alert["model_version"] == "3"


def test_an_event_over_a_border_of_segments_is_one_alert() -> None:
    videos = segments(("cam-01", at(0), 20), ("cam-01", at(21), 20))
    found = alerts(videos, {"cam-01": [(at(18), at(25))]})
    assert len(found) == 1
    assert found["raised_utc"][0] == at(18)
    assert found["end_utc"][0] == at(25)
    assert found["end_s"][0] == 25.0
    assert found["video_id"][0] == video_id("cam-01", at(0))


def test_an_alert_belongs_to_the_segment_in_which_it_was_raised() -> None:
    videos = segments(("cam-01", at(0), 20), ("cam-01", at(20), 20))
    found = alerts(videos, {"cam-01": [(at(21), at(25))]})
    assert found["video_id"][0] == video_id("cam-01", at(20))
    assert found["start_s"][0] == -3.0


def test_overlapping_segments_are_one_stretch() -> None:
    videos = segments(("cam-01", at(0), 20), ("cam-01", at(15), 20))
    assert len(alerts(videos, {"cam-01": [(at(14), at(22))]})) == 1


def test_footage_apart_or_of_other_cameras_is_not_joined() -> None:
    videos = segments(("cam-01", at(0), 20), ("cam-01", at(60), 20), ("cam-02", at(0), 20))
    high = [(at(18), at(20)), (at(60.5), at(62))]
    found = alerts(videos, {"cam-01": high, "cam-02": high})
    assert found["camera_id"].to_list() == ["cam-01", "cam-01", "cam-02"]
    assert found["alert_id"].n_unique() == 3


def test_midnight_is_a_border_like_any_other() -> None:
    evening = MIDNIGHT - timedelta(seconds=20)
    videos = segments(("cam-01", evening, 20), ("cam-01", MIDNIGHT, 20))
    seconds = timedelta(seconds=1)
    scored = scores(videos, {"cam-01": [(MIDNIGHT - 3 * seconds, MIDNIGHT + 5 * seconds)]})
    by_day = {
        day: merge(scored, videos, cameras("cam-01"), settings=RULE, previous=NONE, day=day)
        for day in (evening.date(), MIDNIGHT.date())
    }
    assert [len(found) for found in by_day.values()] == [1, 0]


def test_a_recomputed_day_keeps_its_ids() -> None:
    videos = segments(("cam-01", at(0), 60))
    first = alerts(videos, {"cam-01": [(at(8), at(11)), (at(40), at(43))]})
    again = alerts(videos, {"cam-01": [(at(8), at(11)), (at(40), at(43))]}, first)
    assert again.equals(first)
    # Another model sees it a little later, and one event less or more.
    shifted = alerts(videos, {"cam-01": [(at(9.5), at(12)), (at(55), at(56))]}, first)
    assert shifted["alert_id"][0] == first["alert_id"][0]
    assert shifted["alert_id"][1] not in first["alert_id"].to_list()


def test_an_id_is_given_to_one_event_only() -> None:
    videos = segments(("cam-01", at(0), 60))
    one = alerts(videos, {"cam-01": [(at(8), at(30))]})
    apart = EventSettings(threshold=0.5, merge_gap_s=1.0)
    two = alerts(videos, {"cam-01": [(at(9), at(14)), (at(22), at(26))]}, one, apart)
    assert len(two) == 2
    assert two["alert_id"].n_unique() == 2
    assert two["alert_id"][0] == one["alert_id"][0]


def test_alerts_of_another_camera_lend_no_id() -> None:
    first = alerts(segments(("cam-01", at(0), 20)), {"cam-01": [(at(8), at(11))]})
    other = alerts(segments(("cam-02", at(0), 20)), {"cam-02": [(at(8), at(11))]}, first)
    assert other["alert_id"][0] != first["alert_id"][0]


def test_nothing_scored_gives_no_alerts() -> None:
    videos = segments(("cam-01", at(0), 20))
    none = merge(table("predictions").empty(), videos, cameras(), settings=RULE, previous=NONE)
    assert none.equals(NONE)


def test_a_camera_that_is_not_configured_still_alerts() -> None:
    videos = segments(("cam-01", at(0), 20))
    scored = scores(videos, {"cam-01": [(at(8), at(11))]})
    found = merge(scored, videos, cameras(), settings=RULE, previous=NONE)
    assert (found["ward"][0], found["room"][0]) == ("unknown", "unknown")


def test_mixed_models_and_unknown_segments_are_refused() -> None:
    videos = segments(("cam-01", at(0), 20))
    both = pl.concat([scores(videos, {}), scores(videos, {}, "4")])
    with pytest.raises(PermanentFailureError, match="one model, the predictions hold 3, 4"):
        merge(both, videos, cameras(), settings=RULE, previous=NONE)
    with pytest.raises(PermanentFailureError, match="1 scored segments are not in videos"):
        merge(scores(videos, {}), videos.clear(), cameras(), settings=RULE, previous=NONE)


@settings(max_examples=40, deadline=None)
@given(
    events=st.lists(st.tuples(st.integers(0, 240), st.integers(1, 20)), max_size=5),
    cuts=st.sets(st.integers(1, 119), max_size=4),
)
def test_how_a_recorder_cuts_its_footage_changes_no_alert(
    events: list[tuple[int, int]], cuts: set[int]
) -> None:
    high = {"cam-01": [(at(a / 2), at((a + b) / 2)) for a, b in events]}
    borders = [0, *sorted(cuts), 120]
    pieces = [("cam-01", at(a), float(b - a)) for a, b in pairwise(borders)]
    times = ["alert_id", "start_utc", "raised_utc", "end_utc", "score"]
    whole = alerts(segments(("cam-01", at(0), 120.0)), high)
    cut = alerts(segments(*pieces), high)
    assert cut.select(times).equals(whole.select(times))
    assert cut["alert_id"].is_unique().all()
    assert alerts(segments(*pieces), high, previous=cut).equals(cut)
