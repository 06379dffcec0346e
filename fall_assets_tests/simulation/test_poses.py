"""Key points without pictures: shapes, targets, and the marks that a pose network leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fall_assets.simulation.poses import PoseNoise, Scenery, pose_films, pose_windows


def test_shapes_types_ranges_and_share_of_falls() -> None:
    points, aspect, target = pose_windows(120, 3)
    assert [one.shape for one in (points, aspect, target)] == [(120, 40, 17, 3), (120,), (120,)]
    assert [str(one.dtype) for one in (points, aspect, target)] == ["float32", "float32", "int64"]
    assert np.isfinite(points).all()
    assert points.min() >= 0
    assert points.max() <= 1
    assert target.mean() == pytest.approx(0.35, abs=0.01)
    assert len(set(aspect.tolist())) > 1


def test_the_same_seed_gives_the_same_windows_and_another_does_not() -> None:
    first, again, other = pose_windows(40, 5), pose_windows(40, 5), pose_windows(40, 6)
    for number in range(3):
        np.testing.assert_array_equal(first[number], again[number])
    assert not np.array_equal(first[0], other[0])


def test_who_is_not_seen_is_all_zero_and_windows_may_begin_unseen() -> None:
    points, _, _ = pose_windows(200, 1)
    seen = points[..., 2].max(axis=-1) > 0
    assert (points[~seen] == 0).all()
    assert (points[seen][..., 2] > 0).all()
    assert 0.02 < (~seen[:, -1]).mean() < 0.35
    late = ~seen[:, :5].any(axis=1)
    assert 0.08 < late.mean() < 0.5


def test_without_noise_a_fall_ends_lower_than_it_began_from_the_side() -> None:
    calm = PoseNoise(jitter=0, bias_upright=0, bias_lying=0, lost=0, swapped=0,
                     late_share=0)  # fmt: skip
    points, _, target = pose_windows(200, 2, noise=calm)
    neck = points[:, :, 5:7, 1].mean(axis=2)
    lowest, start = neck[:, -10:].max(axis=1), neck[:, 8:16].min(axis=1)
    assert np.median((lowest - start)[target == 1]) > 0.1
    assert np.median((lowest - start)[target == 0]) < 0.1


def test_other_rates_and_lengths_and_extremes() -> None:
    assert pose_windows(6, 0, rate_hz=5.0, window_s=3.0)[0].shape == (6, 15, 17, 3)
    assert pose_windows(0, 0)[0].shape == (0, 40, 17, 3)
    assert pose_windows(8, 0, positive_share=1.0)[2].tolist() == [1] * 8
    assert pose_windows(8, 0, positive_share=0.0)[2].tolist() == [0] * 8
    with pytest.raises(ValueError, match="positive_share=2"):
        pose_windows(8, 0, positive_share=2)


def test_people_cut_off_by_the_picture_s_edge_are_among_the_windows_where_asked_for() -> None:
    inside = pose_windows(150, 4, scenery=Scenery(cut_off=False))[0]
    cut = pose_windows(150, 4)[0]

    def at_edge(points: Any) -> float:
        seen = points[..., 2] > 0
        return float(((points[..., 0] == 0) | (points[..., 0] == 1))[seen].mean())

    assert at_edge(cut) > 2 * at_edge(inside)


def test_films_hold_their_programme_its_labels_and_the_same_by_seed() -> None:
    films = pose_films(["forwards", "stroll"], 2, duration_s=20.0)
    again = pose_films(["forwards", "stroll"], 2, duration_s=20.0)
    assert [film.programme for film in films] == ["forwards", "stroll"]
    assert [film.keypoints.shape for film in films] == [(200, 17, 3)] * 2
    assert "fall" in {one.label for one in films[0].labels}
    assert "fall" not in {one.label for one in films[1].labels}
    for film, other in zip(films, again, strict=True):
        np.testing.assert_array_equal(film.keypoints, other.keypoints)
