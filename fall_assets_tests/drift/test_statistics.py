"""Thinning, independence and corrections."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.drift.statistics import (
    effective_size,
    holm,
    intraclass_correlation,
    non_overlapping,
)


def segment(
    camera: str, video: str, windows: int, length_s: float, stride_s: float
) -> pl.DataFrame:
    starts = np.arange(windows) * stride_s
    return pl.DataFrame(
        {
            "camera_id": [camera] * windows,
            "video_id": [video] * windows,
            "window": np.arange(windows),
            "start_s": starts,
            "end_s": starts + length_s,
        }
    )


@given(
    windows=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    length_s=st.floats(0.5, 10),
    stride_s=st.floats(0.25, 5),
)
def test_kept_windows_never_overlap_and_leave_no_room(
    windows: list[int], length_s: float, stride_s: float
) -> None:
    frame = pl.concat(
        [
            segment("cam", f"v{number}", count, length_s, stride_s)
            for number, count in enumerate(windows)
        ]
    )
    kept = non_overlapping(frame)
    assert set(kept["video_id"]) == set(frame["video_id"])
    for video in kept.partition_by("video_id"):
        starts, ends = video["start_s"].to_numpy(), video["end_s"].to_numpy()
        assert (starts[1:] >= ends[:-1] - 1e-5 * stride_s).all()
        assert (starts[1:] - ends[:-1] <= stride_s + 1e-6).all()


def test_four_second_windows_at_one_second_leave_every_fourth() -> None:
    kept = non_overlapping(segment("cam", "v", 17, 4.0, 1.0))
    assert kept["window"].to_list() == [0, 4, 8, 12, 16]


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_intraclass_correlation_is_found_again(correlation: float) -> None:
    rng = np.random.default_rng(7)
    segments = np.repeat(np.arange(400), 5)
    shared = np.repeat(rng.normal(0, np.sqrt(correlation), 400), 5)
    values = shared + rng.normal(0, np.sqrt(1 - correlation), len(segments))
    # Another mean on the other side must not look like correlation.
    found = intraclass_correlation([(values, segments), (values + 10.0, segments)])
    assert found == pytest.approx(correlation, abs=0.05)


def test_one_window_per_segment_counts_fully_and_constant_segments_once() -> None:
    alone = np.arange(10)
    assert effective_size(alone, 1.0) == pytest.approx(10)
    repeated = np.repeat(np.arange(4), 5)
    constant = np.repeat([1.0, 2.0, 3.0, 4.0], 5)
    correlation = intraclass_correlation([(constant, repeated)])
    assert effective_size(repeated, correlation) == pytest.approx(4)
    assert effective_size(repeated, 0.0) == pytest.approx(20)


def test_holm_on_the_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_none_and_bonferroni_and_keeps_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for raw, corrected in zip(p_values, adjusted, strict=True):
        assert raw <= corrected <= min(1.0, len(p_values) * raw) + 1e-12 or corrected <= 1.0
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
    assert adjusted[int(order[0])] == min(1.0, len(p_values) * p_values[int(order[0])])
