"""What folds share is found: names, and motion under another name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from fall_assets.features.packing import pack_keypoints, unpack_keypoints
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.leakage import LeakageSettings, Shared, find_leaks, motion_of
from fall_assets_tests.learning.people import segment, tables, video_id

# Drawn people fall in one way, and lie far nearer to each other than real ones.
NEAR = LeakageSettings(distance=0.006)


def with_copy(of: int, instead_of: int, jitter: float, shift: int = 0) -> dict[str, pl.DataFrame]:
    """The drawn people, where one segment holds another one's motion: as if encoded again."""
    frames = tables()
    tracks = frames["pose_tracks"]
    source = tracks.filter(pl.col("video_id") == video_id(of))["keypoints"][0]
    points = np.roll(unpack_keypoints(source).copy(), shift, axis=0)
    rng = np.random.default_rng(1)
    points[..., :2] += rng.normal(0, jitter, points[..., :2].shape)
    packed = pack_keypoints(points.astype(np.float32))
    frames["pose_tracks"] = tracks.with_columns(
        keypoints=pl.when(pl.col("video_id") == video_id(instead_of))
        .then(pl.lit(packed))
        .otherwise("keypoints")
    )
    return frames


def test_drawn_people_in_clean_folds_share_nothing() -> None:
    frames = tables()
    leaks = find_leaks(LearningSet.from_tables(**frames), frames["videos"], settings=NEAR)
    assert leaks.compared > 20
    assert leaks.twins == ()
    assert leaks.shared == ()
    assert leaks.passed


@pytest.mark.parametrize("jitter", [0.0, 0.002])
def test_a_copy_under_another_name_is_found(jitter: float) -> None:
    # Segments 0 and 3 are falls of different folds.
    frames = with_copy(0, 3, jitter)
    leaks = find_leaks(LearningSet.from_tables(**frames), frames["videos"], settings=NEAR)
    assert not leaks.passed
    assert leaks.share > leaks.settings.max_share
    twins = leaks.twins[0]
    assert {twins.video_id, twins.other_id} == {video_id(0), video_id(3)}
    assert twins.end_s == twins.other_end_s
    assert twins.windows > 3
    assert twins.fold != twins.other_fold
    assert "near-duplicate" in leaks.text


def test_a_copy_in_the_same_fold_is_none() -> None:
    frames = with_copy(0, 12, 0.0)
    assert find_leaks(LearningSet.from_tables(**frames), frames["videos"], settings=NEAR).passed


def test_a_copy_that_starts_half_a_second_later_is_found() -> None:
    frames = with_copy(0, 3, 0.0, shift=5)
    twins = find_leaks(LearningSet.from_tables(**frames), settings=NEAR).twins
    assert {twins[0].video_id, twins[0].other_id} == {video_id(0), video_id(3)}
    assert abs(twins[0].end_s - twins[0].other_end_s) == 0.5


def test_a_sample_of_the_windows_finds_it_as_well_and_says_how_many_it_looked_at() -> None:
    frames = with_copy(0, 3, 0.0)
    learning_set = LearningSet.from_tables(**frames)
    everything = find_leaks(learning_set, settings=NEAR)
    part = find_leaks(learning_set, settings=replace(NEAR, max_windows=everything.compared - 5))
    assert part.windows == everything.windows
    assert part.compared == everything.compared - 5
    assert part.duplicated <= everything.duplicated


def test_a_scene_a_subject_and_a_group_in_two_folds_are_named() -> None:
    frames = tables()
    learning_set = LearningSet.from_tables(**frames)
    same = pl.col("video_id").is_in([video_id(0), video_id(3)])
    videos = frames["videos"].with_columns(
        dataset=pl.lit("home"),
        scene=pl.when(same).then(pl.lit("ward/1")).otherwise("scene"),
        subject=pl.when(same).then(pl.lit("s1")).otherwise(pl.lit(None)),
    )
    other = pl.col("video_id") == video_id(6)
    videos = videos.with_columns(
        subject=pl.when(other).then(pl.lit("s2")).otherwise("subject"),
    )
    groups = {video_id(1): "g", video_id(4): "g", video_id(2): "h"}
    leaks = find_leaks(learning_set, videos, groups)
    assert leaks.shared == (
        Shared("scene", "ward/1", (0, 1)),
        Shared("subject", "home/s1", (0, 1)),
        Shared("group", "g", (0, 1)),
    )
    assert not leaks.passed
    assert "scene ward/1 lies in folds 0, 1" in leaks.text
    alone = videos.with_columns(subject=pl.lit("only"), scene=pl.col("video_id"))
    assert find_leaks(learning_set, alone).shared == ()


def test_the_distance_knows_neither_place_nor_size_in_the_picture() -> None:
    points = segment(0, "fall", 0).tracks[0].keypoints[20:60]
    moved = points.copy()
    moved[..., :2] = moved[..., :2] * 0.5 + 0.2
    other = segment(1, "bend", 0).tracks[0].keypoints[20:60]
    motion = motion_of(np.stack([points, moved, other]), 1.5)
    near, far = (float(np.sqrt(((motion[0] - row) ** 2).mean())) for row in motion[1:])
    assert near < 0.01
    assert far > 0.05
