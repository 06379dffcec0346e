"""Automatic labels: intervals from scores, and the share of them that may teach."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from fall_assets.labelling.automatic import (
    EVERY_FOLD,
    automatic_clips,
    automatic_intervals,
    automatic_labels,
    choose_automatic,
)
from fall_assets.lake.registry import table
from fall_assets.lake.validation import validate
from fall_assets.learning.events import EventSettings, to_events
from fall_assets.learning.windows import scored_ends
from fall_assets_tests.labelling.rows import DAY, video, videos

SETTINGS = EventSettings(threshold=0.6)


def predictions(video_id: str, scores: dict[float, float], quiet: float = 0.02) -> pl.DataFrame:
    """Rows of `predictions` of a segment of 30 s that scores `quiet` but where told."""
    ends = scored_ends(30.0)
    return pl.DataFrame(
        {
            "day": DAY,
            "video_id": video_id,
            "camera_id": "cam-01",
            "model_version": "3",
            "feature_set": "pose-test",
            "end_s": ends,
            "track": [0] * len(ends),
            "score": [scores.get(end, quiet) for end in ends],
        },
        schema=table("predictions").schema,
    )


FALL = {end: 0.8 for end in scored_ends(14.4) if end >= 12.0} | {12.0: 0.7, 13.0: 0.99, 14.0: 0.9}


def test_an_event_becomes_a_fall_and_quiet_time_becomes_other() -> None:
    labels = automatic_labels(predictions("v", FALL), SETTINGS)
    validate(labels, table("automatic_labels"), day=DAY)
    falls = labels.filter(pl.col("label") == "fall").to_dicts()
    assert [(x["start_s"], x["end_s"], x["confidence"]) for x in falls] == [(11.0, 12.0, 0.99)]
    others = labels.filter(pl.col("label") == "other")
    assert others["confidence"].to_list() == pytest.approx([0.98] * others.height)
    assert max((others["end_s"] - others["start_s"]).to_list()) <= 4.0 + 1e-9
    # Nothing is said of the moments before the fall and of the lying after it.
    assert others.filter(pl.col("end_s") > 8.0, pl.col("start_s") < 24.4).is_empty()
    assert others["end_s"].max() == 30.0


def test_clips_of_an_automatic_fall_are_the_windows_that_scored() -> None:
    labels = automatic_labels(predictions("v", FALL), SETTINGS)
    clips = automatic_clips(labels, videos(video("v", 30.0)), 0.95)
    falls = clips.filter(pl.col("target") == 1)
    assert falls["end_s"].to_list() == [12.0]
    assert falls["event_id"].null_count() == 0
    assert set(clips["label_source"]) == {"auto"}
    assert clips.filter(pl.col("target") == 0)["event_id"].null_count() == clips.height - 1


def test_only_confident_labels_make_clips() -> None:
    unsure = {**{end: 0.3 for end in scored_ends(30.0) if end <= 15}, **FALL, 13.0: 0.94}
    labels = automatic_labels(predictions("v", unsure), SETTINGS)
    clips = automatic_clips(labels, videos(video("v", 30.0)), 0.95)
    assert set(clips["target"]) == {0}
    assert min(clips["end_s"].to_list()) > 15


def test_of_a_score_that_was_not_confirmed_nothing_is_said() -> None:
    labels = automatic_labels(predictions("v", {12.0: 0.8}), SETTINGS)
    assert set(labels["label"]) == {"other"}
    assert labels["confidence"].to_list() == pytest.approx([0.98] * labels.height)
    shown = labels.filter(pl.col("start_s") < 12.0, pl.col("end_s") >= 12.0)
    assert shown.is_empty()


def test_where_nobody_is_seen_nothing_is_said() -> None:
    empty = predictions("v", {}).with_columns(track=pl.lit(None, pl.Int64))
    assert automatic_labels(empty, SETTINGS).is_empty()


def test_the_same_predictions_give_the_same_labels_in_any_order() -> None:
    rows = pl.concat([predictions("v", FALL), predictions("w", {})])
    once = automatic_labels(rows, SETTINGS)
    again = automatic_labels(rows.sample(fraction=1.0, shuffle=True, seed=1), SETTINGS)
    assert_frame_equal(once, again)
    assert once["label_id"].is_unique().all()


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60))
def test_intervals_of_any_scores_are_possible(scored: list[tuple[float, bool]]) -> None:
    ends = [1.0 + 0.5 * number for number in range(len(scored))]
    scores, seen = [score for score, _ in scored], [anybody for _, anybody in scored]
    intervals = automatic_intervals(ends, scores, seen, SETTINGS)
    falls = [x for x in intervals if x[2] == "fall"]
    assert len(falls) == len(to_events(ends, scores, SETTINGS, 4.0))
    for start_s, end_s, label, confidence in intervals:
        assert 0 <= start_s < end_s <= ends[-1]
        assert 0 <= confidence <= 1
        assert label == "fall" or confidence > 1 - SETTINGS.threshold - 1e-9
    for fall in falls:
        assert not any(x[0] < fall[1] and fall[0] < x[1] for x in intervals if x[2] == "other")


# The share of a training set.


def clips(names: dict[str, str], fold: int | None = None, each: int = 10) -> pl.DataFrame:
    """Clips of segments, by segment and split group."""
    rows: list[dict[str, Any]] = [
        {
            "day": DAY,
            "clip_id": f"{name}-{number}",
            "video_id": name,
            "camera_id": "cam-01",
            "dataset": "site",
            "start_s": number - 4.0,
            "end_s": float(number),
            "label": "walking",
            "target": 0,
            "event_id": None,
            "split_group": group,
            "label_source": "auto" if fold is None else "reviewer",
        }
        for name, group in names.items()
        for number in range(each)
    ]
    frame = pl.DataFrame(rows, schema=table("clips").schema)
    return frame if fold is None else frame.with_columns(fold=pl.lit(fold, pl.Int64))


REVIEWED = pl.concat([clips({"a": "g-a"}, fold=0), clips({"b": "g-b"}, fold=1)])
SCENES = pl.DataFrame(
    {
        "video_id": ["a", "b", "x", "y", "z", "w"],
        "scene": ["s-a", "s-b", "s-x", "s-a", "s-z", "s-w"],
    }
)


@settings(deadline=None)
@given(share=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_the_share_is_kept_and_the_choice_is_the_same_each_time(share: float, seed: int) -> None:
    automatic = clips({"x": "g-x", "z": "g-z"}, each=50)
    chosen = choose_automatic(REVIEWED, automatic, SCENES, share=share, seed=seed)
    assert chosen.height <= share * (chosen.height + REVIEWED.height) + 1e-6
    wanted = int(share / (1 - share) * REVIEWED.height + 1e-9)
    assert chosen.height == min(wanted, automatic.height)
    assert_frame_equal(
        chosen,
        choose_automatic(REVIEWED, automatic.reverse(), SCENES, share=share, seed=seed),
    )


def test_an_automatic_clip_lies_in_the_fold_of_its_group_or_scene() -> None:
    automatic = clips({"x": "g-a", "y": "g-y", "z": "g-z", "a": "g-a", "w": "g-w"})
    scenes = SCENES.with_columns(scene=pl.col("scene").replace({"s-w": "s-b"}))
    # w's group has another segment, in a scene of another fold.
    torn = pl.concat([automatic, clips({"v": "g-w"})])
    scenes = pl.concat([scenes, pl.DataFrame({"video_id": ["v"], "scene": ["s-a"]})])
    chosen = choose_automatic(REVIEWED, torn, scenes, share=0.89, seed=0)
    folds = dict(chosen.select("video_id", "fold").unique().iter_rows())
    # x by its group, y by its scene, z nowhere; a is reviewed, g-w lies in two folds.
    assert folds == {"x": 0, "y": 0, "z": EVERY_FOLD}
    together = pl.concat([REVIEWED.select(chosen.columns), chosen])
    groups = together.group_by("split_group").agg(pl.col("fold").n_unique())
    assert groups["fold"].max() == 1
