"""Windows taken from packed tracks all at once, against the same done track by track."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.errors import PermanentFailureError
from fall_assets.features.packing import pack_keypoints
from fall_assets.learning.dataset import COLUMNS, LearningSet, training_windows
from fall_assets.learning.windows import (
    Floats,
    GatheredPoints,
    MixedTracksError,
    PackedTracks,
    StackedPoints,
    Track,
    WindowSet,
    WindowSettings,
    pose_features,
    seen,
    segment_tracks,
    window_at,
)
from fall_assets_tests.learning.people import segment, tables, video_id

VIDEOS = 9


def one_by_one(
    frames: dict[str, pl.DataFrame], how: WindowSettings
) -> dict[str, npt.NDArray[np.generic]]:
    """What `training_windows` promises, said plainly: clip by clip and track by track."""
    folds = dict(frames["clips"].select("video_id", "fold").iter_rows())
    rows: list[tuple[Floats, float, int, str, tuple[str, str | None]]] = []
    for clip in frames["clips"].sort("video_id", "end_s", "clip_id").iter_rows(named=True):
        if clip["target"] is None:
            continue
        own = frames["pose_tracks"].filter(pl.col("video_id") == clip["video_id"])
        tracks = segment_tracks(clip["video_id"], 10.0, own)
        people = [window_at(track, clip["end_s"], how) for track in tracks.tracks]
        people = [window for window in people if seen(window).sum() >= how.min_seen]
        if clip["target"] and people:
            column = 2 * 17 + 1
            height = pose_features(np.stack(people), tracks.aspect)[..., column]
            drop = (height - np.minimum.accumulate(height, axis=-1)).max(axis=-1)
            people = [people[int(np.argmax(drop))]]
        source = (clip["video_id"], clip["event_id"] if clip["target"] else None)
        rows += [(w, tracks.aspect, clip["target"], clip["video_id"], source) for w in people]
    sources = [row[4] for row in rows]
    weights = [
        1 / sources.count(source) if target else sources.count(source) ** -0.5
        for _, _, target, _, source in rows
    ]
    return {
        "keypoints": np.stack([row[0] for row in rows]),
        "aspect": np.array([row[1] for row in rows], np.float32),
        "target": np.array([row[2] for row in rows], np.int64),
        "weight": np.array(weights, np.float32),
        "group": np.array([folds[row[3]] for row in rows], np.int64),
    }


def crowded(seed: int) -> dict[str, pl.DataFrame]:
    """Segments with nobody to three people, who come late, leave early and are lost at times."""
    rng = np.random.default_rng(seed)
    frames = tables(VIDEOS, folds=3, seed=seed)
    rows: list[dict[str, Any]] = []
    for row in frames["pose_tracks"].iter_rows(named=True):
        number = int(row["video_id"], 16)
        for track in range(int(rng.integers(0, 4))):
            kind = str(rng.choice(["fall", "bend", "walk"]))
            points = segment(number, kind, seed + track).tracks[0].keypoints
            first = int(rng.integers(0, 40))
            points = points[first : first + int(rng.integers(1, 80))].copy()
            points[rng.random(len(points)) < rng.choice([0.0, 0.3, 0.95])] = 0
            # Whoever hides the first joint is seen all the same.
            points[rng.random(len(points)) < 0.3, 0] = 0
            where = {"track": track, "start_s": first / 10, "samples": len(points)}
            rows.append({**row, **where, "keypoints": pack_keypoints(points)})
    frames["pose_tracks"] = pl.DataFrame(rows, schema=frames["pose_tracks"].schema)
    shuffled = {
        name: frame.sample(fraction=1.0, shuffle=True, seed=seed) for name, frame in frames.items()
    }
    certain = pl.col("target") == 1
    # An event that is not named counts with the rest of its segment.
    unnamed = pl.col("video_id") == video_id(3)
    shuffled["clips"] = shuffled["clips"].with_columns(
        event_id=pl.when(certain & unnamed).then(None).otherwise(pl.col("event_id"))
    )
    return shuffled


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), min_seen=st.sampled_from([1, 5, 20]))
def test_windows_taken_at_once_are_those_taken_one_by_one(seed: int, min_seen: int) -> None:
    frames = crowded(seed)
    if frames["pose_tracks"].is_empty():
        return
    how = replace(WindowSettings(), min_seen=min_seen)
    found = training_windows(LearningSet.from_tables(**frames), how)
    expected = one_by_one(frames, how)
    for name, values in expected.items():
        np.testing.assert_array_equal(np.asarray(getattr(found, name)), values, err_msg=name)
        assert np.asarray(getattr(found, name)).dtype == values.dtype


def test_clips_that_end_together_are_in_order_of_their_ids() -> None:
    frames = tables(3)
    twice = frames["clips"].with_columns(
        clip_id="second " + pl.col("clip_id"), target=1 - pl.col("target"), event_id=pl.lit("e")
    )
    frames["clips"] = pl.concat([twice, frames["clips"]])
    found = training_windows(LearningSet.from_tables(**frames))
    expected = one_by_one(frames, WindowSettings())
    np.testing.assert_array_equal(found.target, expected["target"])
    np.testing.assert_array_equal(found.weight, expected["weight"])


def test_the_columns_that_are_named_are_enough() -> None:
    frames = tables()
    fewer = {
        name: frame.select(COLUMNS[name]) if name in COLUMNS else frame
        for name, frame in frames.items()
    }
    found, expected = LearningSet.from_tables(**fewer), LearningSet.from_tables(**frames)
    assert dict(found.truths) == dict(expected.truths)
    np.testing.assert_array_equal(
        np.asarray(training_windows(found).keypoints),
        np.asarray(training_windows(expected).keypoints),
    )


def test_a_segments_tracks_are_those_of_its_rows() -> None:
    frames = crowded(3)
    found = LearningSet.from_tables(**frames).tracks
    assert len(found) == VIDEOS
    assert set(found) == {video_id(number) for number in range(VIDEOS)}
    for name in found:
        own = frames["pose_tracks"].filter(pl.col("video_id") == name)
        expected = segment_tracks(name, 10.0, own)
        assert (found[name].rate_hz, found[name].aspect) == (expected.rate_hz, expected.aspect)
        assert [(t.number, t.start) for t in found[name].tracks] == [
            (t.number, t.start) for t in expected.tracks
        ]
        for track, wanted in zip(found[name].tracks, expected.tracks, strict=True):
            np.testing.assert_array_equal(track.keypoints, wanted.keypoints)
    with pytest.raises(KeyError):
        found["another"]


def test_key_points_that_are_not_whole_samples_are_refused() -> None:
    frames = tables(3)
    cut = pl.Series([row[:-2] for row in frames["pose_tracks"]["keypoints"]], dtype=pl.Binary)
    frames["pose_tracks"] = frames["pose_tracks"].with_columns(keypoints=cut)
    with pytest.raises(PermanentFailureError, match="no packed key points"):
        LearningSet.from_tables(**frames)


def test_tracks_of_one_segment_that_are_sampled_in_several_ways_are_refused() -> None:
    frames = tables(3)
    faster = frames["pose_tracks"].with_columns(track=pl.lit(1, pl.Int64), rate_hz=pl.lit(25.0))
    frames["pose_tracks"] = pl.concat([frames["pose_tracks"], faster])
    with pytest.raises(MixedTracksError, match="sampled in several ways"):
        LearningSet.from_tables(**frames)


def points_of(seed: int) -> tuple[GatheredPoints, Floats]:
    """Windows that lie before, across and behind their tracks, and the same as an array."""
    rng = np.random.default_rng(seed)
    length = np.array([30, 7, 50])
    # The first and the last lie in one array, with something between them.
    one, two = (rng.random(size).astype(np.float16) for size in ((30 + 50) * 51 + 3, 7 * 51))
    begin, source = np.array([2, 0, 3 + 30 * 51]), np.array([0, 1, 0])
    packed = PackedTracks([one, two], source, begin, length, np.array([0, 5, 9]))
    track = rng.integers(0, 3, 20)
    first = rng.integers(-30, 60, 20)
    windows = WindowSettings(window_s=1.2, in_view=0)
    expected = [
        window_at(
            Track(0, int(packed.start[k]), packed.keypoints(k)),
            (f + packed.start[k] + windows.samples) / windows.rate_hz,
            windows,
        )
        for k, f in zip(track.tolist(), first.tolist(), strict=True)
    ]
    return GatheredPoints(packed, track, first, windows.samples), np.stack(expected)


@pytest.mark.parametrize(
    "asked",
    [
        3,
        -1,
        slice(2, 9),
        slice(None, None, -3),
        np.array([5, 5, 0, 19]),
        np.arange(20) % 3 == 0,
        np.zeros(20, np.bool_),
    ],
)
def test_gathered_and_stacked_windows_are_indexed_as_arrays_are(asked: Any) -> None:
    gathered, array = points_of(1)
    np.testing.assert_array_equal(gathered[asked], array[asked])
    assert gathered[asked].dtype == np.float32
    drawn = np.random.default_rng(2).random((4, 12, 17, 3), np.float32)
    stacked = StackedPoints([gathered, drawn, gathered])
    whole = np.concatenate([array, drawn, array])
    assert stacked.shape == whole.shape
    if isinstance(asked, np.ndarray) and asked.dtype == np.bool_:
        asked = np.resize(asked, len(whole))
    np.testing.assert_array_equal(stacked[asked], whole[asked])
    np.testing.assert_array_equal(np.asarray(stacked), whole)


def test_a_person_is_seen_where_any_score_is_above_nothing() -> None:
    samples = np.zeros((6, 17, 3), np.float16)
    samples[..., :2] = 0.5
    samples[1, 0, 2], samples[2, 16, 2], samples[4, 3, 2] = 0.5, 6e-8, -1.0
    begin, length = np.array([51, 0]), np.array([4, 1])
    tracks = PackedTracks([samples.reshape(-1)], np.zeros(2, np.int64), begin, length, begin * 0)
    track = np.array([0, 0, 0, 0, 1])
    first = np.array([0, -2, 1, 9, 0])
    how = WindowSettings(window_s=0.3, min_seen=1, in_view=0)
    assert tracks.scored(track, first, how).tolist() == [True, True, True, False, False]
    twice = replace(how, min_seen=2)
    assert tracks.scored(track, first, twice).tolist() == [True, False, False, False, False]
    # Only the second window's last sample shows the person.
    at_the_end = replace(how, in_view=1)
    assert tracks.scored(track, first, at_the_end).tolist() == [False, True, False, False, False]


def test_key_points_at_odd_places_in_memory_are_read_all_the_same() -> None:
    frames = tables(3)
    expected = training_windows(LearningSet.from_tables(**frames))
    odd = pl.Series([b"x" * 13, *frames["pose_tracks"]["keypoints"]], dtype=pl.Binary)[1:]
    frames["pose_tracks"] = frames["pose_tracks"].with_columns(keypoints=odd)
    found = training_windows(LearningSet.from_tables(**frames))
    np.testing.assert_array_equal(np.asarray(found.keypoints), np.asarray(expected.keypoints))


def test_sets_are_joined_in_order() -> None:
    gathered, array = points_of(4)
    one = WindowSet(gathered, np.ones(20, np.float32), np.arange(20) % 2)
    both = WindowSet.concatenate([one, WindowSet.empty(12), one])
    np.testing.assert_array_equal(np.asarray(both.keypoints), np.concatenate([array, array]))
    assert both.target.tolist() == [*(np.arange(20) % 2), *(np.arange(20) % 2)]
