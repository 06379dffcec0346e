"""Windows over tracks and the features of a window."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.learning.augmentation import AugmentationSettings, augment, mirror
from fall_assets.learning.windows import (
    CHANNELS,
    Floats,
    MixedTracksError,
    Track,
    WindowSettings,
    hold_gaps,
    pose_features,
    scored_ends,
    segment_tracks,
    strongest_drop,
    window_at,
)
from fall_assets_tests.learning.people import FEATURE_SET, segment, tables, video_id


def _windows(kind: str, end_s: float = 7.0, number: int = 0) -> Floats:
    return window_at(segment(number, kind, seed=3).tracks[0], end_s)


def test_windows_end_every_stride_and_once_at_the_last_sample() -> None:
    assert scored_ends(1.73) == [1.0, 1.2, 1.4, 1.6, 1.7]
    assert scored_ends(2.0) == [1.0, 1.2, 1.4, 1.6, 1.8, 2.0]
    assert scored_ends(0.64) == [0.6]
    assert scored_ends(0.0) == []


@given(st.floats(0, 400))
def test_scored_ends_rise_and_stay_inside_the_segment(duration_s: float) -> None:
    ends = scored_ends(duration_s)
    assert all(b > a for a, b in pairwise(ends))
    assert all(0 < end <= duration_s + 1e-6 for end in ends)


def test_a_window_holds_what_was_seen_before_its_end_and_nothing_later() -> None:
    keypoints = np.ones((30, 17, 3), np.float32) * np.arange(1, 31)[:, None, None]
    window = window_at(Track(0, 5, keypoints), 2.0)
    assert window.shape == (40, 17, 3)
    assert not window[:25].any()  # before the segment, and before the track
    assert window[25:, 0, 0].tolist() == list(range(1, 16))
    assert not window_at(Track(0, 100, keypoints), 2.0).any()
    assert not window_at(Track(0, 0, keypoints), 9.0).any()


def test_who_has_left_the_picture_is_not_looked_at_any_more() -> None:
    gone = Track(0, 0, np.full((30, 17, 3), 0.5, np.float32))
    assert window_at(gone, 3.1).any()
    assert not window_at(gone, 3.2).any()
    assert window_at(gone, 3.2, WindowSettings(in_view=0)).any()
    hidden = gone.keypoints.copy()
    hidden[18:25] = 0
    assert window_at(Track(0, 0, hidden), 1.9).any()
    assert not window_at(Track(0, 0, hidden), 2.5).any()
    assert window_at(Track(0, 0, hidden), 2.6).any()


def test_how_sure_the_pose_network_is_moves_no_feature_of_who_is_seen_clearly() -> None:
    window = _windows("fall")
    doubted = window.copy()
    doubted[..., 2] *= 0.5
    np.testing.assert_allclose(pose_features(doubted, 1.5), pose_features(window, 1.5), atol=0.02)


def test_short_gaps_are_bridged_and_long_ones_held() -> None:
    points = np.zeros((1, 12, 17, 3), np.float32)
    for sample, x in ((1, 0.2), (4, 0.5), (9, 0.7)):
        points[0, sample, :, 0], points[0, sample, :, 2] = x, 0.5
    held = hold_gaps(points, max_gap=3)[0, :, 0, 0]
    np.testing.assert_allclose(held[:5], [0.2, 0.2, 0.3, 0.4, 0.5], atol=1e-6)
    np.testing.assert_allclose(held[5:9], 0.5, atol=1e-6)
    np.testing.assert_allclose(held[9:], 0.7, atol=1e-6)
    assert not hold_gaps(points)[0, 2, :, 2].any()


def test_features_do_not_depend_on_place_and_distance() -> None:
    window = _windows("fall")
    moved = window.copy()
    moved[..., :2] = (window[..., :2] - 0.5) * 0.7 + 0.45
    inner = slice(0, CHANNELS - 4)  # the last four tell how near the edges are
    np.testing.assert_allclose(
        pose_features(window, 1.5)[:, inner], pose_features(moved, 1.5)[:, inner], atol=0.02
    )


def test_features_of_one_window_are_those_it_has_in_a_batch() -> None:
    windows = np.stack([_windows("fall"), _windows("walk", 3.0), np.zeros((40, 17, 3), np.float32)])
    together = pose_features(windows, np.array([1.5, 1.2, 1.0], np.float32))
    assert together.shape == (3, 40, CHANNELS)
    assert np.isfinite(together).all()
    np.testing.assert_array_equal(together[1], pose_features(windows[1], 1.2))


@given(st.integers(0, 2**32 - 1))
def test_features_are_finite_and_bounded_whatever_was_seen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    window = rng.random((2, 40, 17, 3), np.float32) * rng.choice([0.0, 1.0], (2, 40, 1, 1))
    features = pose_features(window.astype(np.float32), 1.3)
    assert np.isfinite(features).all()
    assert np.abs(features).max() <= 4


def test_the_one_who_falls_is_the_one_who_drops() -> None:
    people = np.stack([_windows("walk"), _windows("bend", number=1), _windows("fall", number=2)])
    assert strongest_drop(people, 1.5) == 2


def test_a_mirrored_person_changes_sides() -> None:
    window = _windows("fall")
    mirrored = mirror(window)
    np.testing.assert_allclose(mirrored[:, 5, 0], 1 - window[:, 6, 0], atol=1e-6)
    np.testing.assert_allclose(mirror(mirrored), window, atol=1e-6)
    assert not mirror(np.zeros((40, 17, 3), np.float32)).any()


def test_augmented_windows_are_other_windows_of_the_same_person_by_seed() -> None:
    windows = np.stack([_windows("fall"), _windows("bend"), np.zeros((40, 17, 3), np.float32)])
    aspect = np.full(3, 1.5, np.float32)
    first = augment(windows, aspect, AugmentationSettings(), np.random.default_rng(1))
    again = augment(windows, aspect, AugmentationSettings(), np.random.default_rng(1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, windows)
    assert np.isfinite(first).all()
    assert first[..., 2].min() >= 0
    assert first[..., 2].max() <= 1
    assert not first[2, :, :, 2].any()  # nobody stays nobody


def test_augmentation_that_is_switched_off_changes_nothing() -> None:
    windows = np.stack([_windows("fall"), _windows("walk")])
    off = AugmentationSettings(0, 0, 0, 0, 0, 0, 0, 0, 0)
    same = augment(windows, np.full(2, 1.5, np.float32), off, np.random.default_rng(0))
    np.testing.assert_allclose(same, windows, atol=1e-5)


def test_tracks_come_from_rows_of_the_lake() -> None:
    rows = tables(3)["pose_tracks"]
    own = rows.filter(pl.col("video_id") == video_id(1))
    tracks = segment_tracks(video_id(1), 10.0, own)
    assert tracks.rate_hz == WindowSettings().rate_hz
    np.testing.assert_allclose(
        tracks.tracks[0].keypoints, segment(1, "bend", 0).tracks[0].keypoints, atol=1e-3
    )
    assert set(own["feature_set"]) == {FEATURE_SET}
    assert segment_tracks(video_id(9), 10.0, rows.clear()).tracks == ()


def test_tracks_of_several_segments_are_refused() -> None:
    with pytest.raises(MixedTracksError, match="give those of one segment"):
        segment_tracks(video_id(1), 10.0, tables(3)["pose_tracks"])


def test_key_points_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="wanted"):
        Track(0, 0, np.zeros((5, 16, 3), np.float32))
