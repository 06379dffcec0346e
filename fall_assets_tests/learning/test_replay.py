"""New footage of a camera that changed weighs as much as what it showed before."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.learning.dataset import LearningSet, training_windows
from fall_assets.learning.events import EventSettings
from fall_assets.learning.metrics import choose_threshold, event_metrics, outcome, seen_now
from fall_assets.learning.replay import HEAVIEST, clip_weights
from fall_assets.learning.slices import sliced_metrics
from fall_assets_tests.learning.people import tables
from fall_assets_tests.learning.test_metrics import scored_video

CHANGE = date(2026, 3, 1)


def clips(before: int, since: int, camera: str = "cam-1") -> pl.DataFrame:
    """So many clips of a camera before and since a day."""
    days = [CHANGE - timedelta(days=1)] * before + [CHANGE] * since
    return pl.DataFrame(
        {"camera_id": [camera] * len(days), "day": days},
        schema={"camera_id": pl.String, "day": pl.Date},
    )


@given(before=st.integers(0, 300), since=st.integers(0, 300))
def test_old_and_new_weigh_alike(before: int, since: int) -> None:
    weighed = clip_weights(
        pl.concat([clips(before, since), clips(9, 9, "cam-2")]), {"cam-1": CHANGE}
    )
    own = weighed.filter(pl.col("camera_id") == "cam-1")
    assert own["changed"].to_list() == [False] * before + [True] * since
    assert own.filter(~pl.col("changed"))["weight"].to_list() == [1] * before
    new = own.filter("changed")["weight"]
    assert new.n_unique() == min(since, 1)
    if before > since > 0 and before <= HEAVIEST * since:
        assert abs(int(new.sum()) - before) <= since / 2
    assert new.is_between(1, HEAVIEST).all()
    other = weighed.filter(pl.col("camera_id") == "cam-2")
    assert not other["changed"].any()
    assert other["weight"].to_list() == [1] * 18


def test_windows_are_drawn_by_the_weights_of_their_clips() -> None:
    frames = tables()
    cameras = frames["videos"].select("video_id", "camera_id", "start_utc")
    known = frames["clips"].drop("camera_id", "day", strict=False)
    known = known.join(cameras, on="video_id", maintain_order="left")
    known = known.with_columns(day=pl.col("start_utc").dt.date()).drop("start_utc")
    last = known["day"].to_list()[-1]
    changed = dict.fromkeys(known["camera_id"].unique(), last)
    weighed = clip_weights(known, changed)
    heavy = weighed.with_columns(weight=pl.lit(5))
    plain = training_windows(LearningSet.from_tables(**frames))
    five = training_windows(LearningSet.from_tables(**{**frames, "clips": heavy}))
    np.testing.assert_allclose(five.weight, 5 * plain.weight)
    learning_set = LearningSet.from_tables(**{**frames, "clips": weighed})
    of_segment = dict(weighed.select("video_id", "weight").iter_rows())
    assert {one.video_id: one.weight for one in learning_set.truths.values()} == of_segment


def test_a_threshold_serves_what_cameras_see_now() -> None:
    """Ten old falls beside three that score lower since the camera changed."""
    old = [scored_video(n, 0.9, falls=True) for n in range(10)]
    calm = [scored_video(20 + n, 0.7, falls=False) for n in range(4)]
    new = [scored_video(40 + n, 0.5, falls=True) for n in range(3)]
    at_once = EventSettings(confirm=1)
    plainly = choose_threshold([*old, *calm, *new], at_once)
    assert plainly > 0.7
    weighed = [replace(one, changed=True, weight=4) for one in new]
    threshold = choose_threshold([*old, *calm, *weighed], at_once)
    assert threshold < 0.5
    # Wherever a model is judged, each segment is one.
    outcomes = [outcome(one, replace(at_once, threshold=threshold)) for one in weighed]
    (everything, *_) = event_metrics(outcomes)
    assert (everything["falls"], everything["found"]) == (3, 3)


def test_what_is_seen_no_longer_chooses_no_threshold() -> None:
    """A view that is gone had many false alarms; the new one scores its falls just under them."""
    gone = [scored_video(n, 0.9, falls=False) for n in range(40)]
    gone += [scored_video(100 + n, 0.95, falls=True) for n in range(40)]
    new = [replace(scored_video(200 + n, 0.85, falls=True), changed=True) for n in range(20)]
    other = [scored_video(300 + n, 0.5, falls=False, camera="cam-2") for n in range(9)]
    at_once = EventSettings(confirm=1)
    everything = [*gone, *new, *other]
    assert choose_threshold([replace(one, changed=False) for one in everything], at_once) > 0.9
    threshold = choose_threshold(everything, at_once)
    assert 0.5 < threshold < 0.85
    # What an unchanged camera shows it shows still: its alarms are kept away from.
    assert {one.camera_id for one in seen_now(everything)} == {"cam-1", "cam-2"}
    # A handful of falls chooses nothing alone.
    assert seen_now([*gone, *new[:3], *other]) == [*gone, *new[:3], *other]


def test_what_changed_is_a_slice_of_its_own() -> None:
    videos = [
        scored_video(0, 0.9, falls=True),
        replace(scored_video(1, 0.2, falls=True), changed=True),
    ]
    rows = {
        (row["slice"], row["value"]): row["sensitivity"]
        for row in sliced_metrics([outcome(one, EventSettings(0.5, confirm=1)) for one in videos])
    }
    assert rows["camera", "cam-1"] == pytest.approx(0.5)
    assert rows["changed", "cam-1"] == 0.0
