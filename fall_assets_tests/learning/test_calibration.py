"""Reliability by window."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from fall_assets.learning.calibration import calibration, certain_windows
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.evaluate import CrossValidation


def drawn_windows(power: float, count: int = 6000) -> pl.DataFrame:
    """Windows of 200 scenes whose score to that power is how often they show a fall."""
    rng = np.random.default_rng(0)
    score = rng.random(count)
    return pl.DataFrame(
        {
            "scene": [str(n % 200) for n in range(count)],
            "score": score,
            "target": (rng.random(count) < score**power).astype(np.int64),
        }
    )


def test_scores_that_are_shares_are_calibrated() -> None:
    found = calibration(drawn_windows(1.0))
    assert found.ece is not None
    assert found.ece < 0.02
    assert found.windows == sum(one.windows for one in found.bins) == 6000
    assert found.falls == round(sum(one.share * one.windows for one in found.bins))
    assert found.brier == pytest.approx(1 / 6, abs=0.01)
    for one in found.bins:
        assert one.low <= one.mean_score <= one.high
        assert one.share_low is not None
        assert one.share_high is not None
        assert one.share_low <= one.share <= one.share_high


def test_scores_that_promise_too_much_are_seen() -> None:
    found = calibration(drawn_windows(3.0))
    # The mean of score - score ** 3 is 1/2 - 1/4.
    assert found.ece == pytest.approx(0.25, abs=0.02)
    assert found.ece_low is not None
    assert found.ece_low > 0.2
    assert all(one.share < one.mean_score for one in found.bins[2:8])


def test_one_scene_has_no_interval_and_nothing_has_no_error() -> None:
    alone = calibration(drawn_windows(1.0).with_columns(scene=pl.lit("one")))
    assert alone.ece is not None
    assert alone.ece_low is None
    assert all(one.share_low is None and one.scenes == 1 for one in alone.bins)
    nothing = calibration(drawn_windows(1.0).clear())
    assert (nothing.ece, nothing.brier, nothing.bins) == (None, None, ())


def test_windows_in_large_scenes_are_less_certain() -> None:
    windows = drawn_windows(1.0)
    # Whole scenes of falls or of none, with the same scores in each.
    by_scene = windows.with_columns(
        scene=pl.format("{}-{}", pl.col("target"), pl.col("scene").cast(pl.Int64) % 5)
    )
    wide, narrow = calibration(by_scene), calibration(windows)
    assert (wide.ece_high or 0) - (wide.ece_low or 0) > (narrow.ece_high or 0) - (
        narrow.ece_low or 0
    )


def test_truths_are_those_of_the_clips(drawn: LearningSet, validation: CrossValidation) -> None:
    windows = certain_windows(validation.videos, drawn.clips)
    certain = drawn.clips.filter(pl.col("target").is_not_null())
    assert windows.height == certain.height
    assert windows["target"].sum() == certain["target"].sum()
    one = validation.videos[0]
    shown = windows.filter(pl.col("scene") == one.video_id)["score"].to_list()
    assert set(shown) <= set(one.score)
    named = certain_windows(
        validation.videos, drawn.clips, {v.video_id: "all" for v in validation.videos}
    )
    assert named["scene"].unique().to_list() == ["all"]
