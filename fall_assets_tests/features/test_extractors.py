"""The extractors keep to one interface, and yield what they declare."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fall_assets.features.extractors import Extractor, Samples, build, describe, locate
from fall_assets.features.extractors.base import SampleRows
from fall_assets.features.extractors.motion import MotionExtractor, motion_values
from fall_assets.features.extractors.pose import PoseExtractor
from fall_assets.features.movenet import MoveNet, network_sha256
from fall_assets.features.packing import pack_sequence
from fall_assets.features.people import People
from fall_assets.features.settings import (
    EmbeddingSettings,
    FeatureSettings,
    MotionSettings,
    PictureSettings,
    PoseSettings,
)
from fall_assets.features.tracking import Track, track
from fall_assets_tests.features.clips import plain
from fall_assets_tests.features.test_tracking import person

POSE = FeatureSettings()
MOTION = FeatureSettings(extractor=MotionSettings(), picture=PictureSettings(160, colour=False))
HZ = POSE.sample_hz
GAP = round(POSE.pose.tracker.max_gap_s * HZ)


class Scripted:
    """Says who is seen, picture by picture."""

    def __init__(self, people: Sequence[People]) -> None:
        self._people = iter(people)

    def people(self, rgb: NDArray[np.uint8]) -> People:
        return next(self._people)


def posing(people: Sequence[People]) -> PoseExtractor:
    return PoseExtractor(POSE, cast("MoveNet", Scripted(people)))


def looked(extractor: Extractor, served: Sequence[range], *, aspect: float = 1.0) -> list[Any]:
    extractor.begin(aspect)
    for samples in served:
        extractor.look(plain(0, 16, 16), samples)
    return list(extractor.end())


def test_pose_follows_as_the_tracker_does() -> None:
    people = [person(0.2 + 0.01 * n) for n in range(30)]
    found = looked(posing(people), [range(n, n + 1) for n in range(30)])
    (expected,) = track(people, POSE.pose.tracker, sample_hz=HZ)
    (only,) = found
    assert isinstance(only, Track)
    assert (only.boxes == expected.boxes).all()
    assert (only.keypoints == expected.keypoints).all()


def test_pose_numbers_tracks_as_the_segment_does() -> None:
    (only,) = looked(posing([person(0.3)] * 10), [range(n, n + 1) for n in range(700, 710)])
    assert only.first == 700
    assert len(only.boxes) == 10


def test_samples_without_a_picture_saw_nobody() -> None:
    served = [*(range(n, n + 1) for n in range(5)), *(range(n, n + 1) for n in range(9, 14))]
    (only,) = looked(posing([person(0.3)] * 10), served)
    assert only.seen.tolist() == [True] * 5 + [False] * 4 + [True] * 5
    far = 5 + GAP + 1
    served = [*(range(n, n + 1) for n in range(5)), *(range(n, n + 1) for n in range(far, far + 5))]
    assert [one.first for one in looked(posing([person(0.3)] * 10), served)] == [0, far]


def test_a_slow_camera_serves_several_samples_with_a_frame() -> None:
    (only,) = looked(posing([person(0.3), person(0.32)]), [range(3, 6), range(6, 9)])
    assert only.first == 3
    assert only.seen.tolist() == [True] * 6
    assert (only.boxes[:3] == only.boxes[0]).all()


def test_an_identity_never_bridges_what_was_not_watched() -> None:
    extractor = posing([person(0.3)] * 20)
    first = looked(extractor, [range(n, n + 1) for n in range(10)])
    # Two samples later, at the same place: in one stretch it would be the same person.
    second = looked(extractor, [range(n, n + 1) for n in range(12, 22)])
    assert [one.first for one in (*first, *second)] == [0, 12]
    assert [len(one.boxes) for one in (*first, *second)] == [10, 10]


def test_distances_are_those_of_the_stretch_s_picture() -> None:
    samples = [person(0.2, width=0.05)] * 5 + [person(0.42, width=0.05)] * 5
    served = [range(n, n + 1) for n in range(10)]
    # In a picture that is four times as wide as high the step is too wide for the same person.
    assert len(looked(posing(samples), served, aspect=0.5)) == 1
    assert len(looked(posing(samples), served, aspect=4.0)) == 2


@pytest.mark.parametrize("make", [lambda: posing([person(0.3)] * 9), lambda: build(MOTION)])
def test_a_stretch_that_saw_nothing_has_no_parts(make: Any) -> None:
    extractor = make()
    extractor.begin(1.0)
    assert list(extractor.end()) == []


@pytest.mark.parametrize("make", [lambda: posing([person(0.3)] * 9), lambda: build(MOTION)])
def test_calls_in_another_order_are_refused(make: Any) -> None:
    extractor, picture = make(), plain(0, 16, 16)[..., 0]
    with pytest.raises(ValueError, match="begin a stretch"):
        extractor.look(picture, range(1))
    with pytest.raises(ValueError, match="no stretch has begun"):
        extractor.end()
    extractor.begin(1.0)
    extractor.look(picture, range(3, 5))
    for served in (range(4, 5), range(0), range(0, 1)):
        with pytest.raises(ValueError, match="samples must grow"):
            extractor.look(picture, served)


def test_a_stretch_that_broke_off_is_forgotten() -> None:
    people, motion = posing([person(0.3)] * 8), build(MOTION)
    for extractor, picture in ((people, plain(0, 16, 16)), (motion, scene(20))):
        extractor.begin(1.0)
        for n in range(7):
            extractor.look(picture, range(n, n + 1))
        extractor.begin(1.0)
        extractor.look(picture, range(1))
        assert list(extractor.end()) == []


def test_a_glance_belongs_to_no_stretch() -> None:
    extractor = posing([person(0.3)] * 11)
    extractor.begin(1.0)
    for n in range(5):
        extractor.look(plain(0, 16, 16), range(n, n + 1))
    assert len(extractor.people(plain(0, 16, 16))) == 1
    for n in range(5, 10):
        extractor.look(plain(0, 16, 16), range(n, n + 1))
    (only,) = extractor.end()
    assert len(only.boxes) == 10


# The motion extractor.


def scene(left: int, top: int = 30, *, shade: int = 60) -> NDArray[np.uint8]:
    """A light box of 20 x 30 pixels in a picture of 160 x 90."""
    picture = np.full((90, 160), shade, np.uint8)
    picture[top : top + 30, left : left + 20] = 200
    return picture


def moving(pictures: Sequence[NDArray[np.uint8]], served: Sequence[range]) -> list[Samples]:
    extractor = build(MOTION)
    extractor.begin(16 / 9)
    for picture, samples in zip(pictures, served, strict=True):
        extractor.look(picture, samples)
    return cast("list[Samples]", list(extractor.end()))


def ones(count: int, first: int = 0) -> list[range]:
    return [range(n, n + 1) for n in range(first, first + count)]


def test_motion_says_how_much_and_where() -> None:
    (part,) = moving([scene(20), scene(100)], ones(2, 50))
    assert part.first == 51
    (values,) = part.values.astype(float)
    changed, x, y, width, height = values[:5]
    # The box left one place and came to another: 2 x 600 of 14,400 pixels.
    assert changed == pytest.approx(1200 / 14400, rel=1e-3)
    assert x == pytest.approx((30 + 110) / 2 / 160, abs=1e-3)
    assert y == pytest.approx(45 / 90, abs=1e-3)
    assert 0.5 < width <= 1.0
    assert height == pytest.approx(30 / 90, abs=0.01)
    cells = values[5:].reshape(9, 12)
    assert cells.mean() == pytest.approx(changed, rel=0.05)
    assert (cells[:3] == 0).all()
    assert cells[4, 2] == pytest.approx(1.0)
    assert cells[4, 5] == 0


def test_a_still_picture_does_not_move() -> None:
    (part,) = moving([scene(20)] * 5, ones(5))
    assert part.first == 1
    assert part.values.shape == (4, 5 + 108)
    expected = np.array([0, 0.5, 0.5, 0, 0, *[0] * 108], np.float16)
    assert (part.values == expected).all()


def test_a_change_of_light_is_no_motion() -> None:
    (part,) = moving([scene(20, shade=60), np.minimum(scene(20, shade=60) + 40, 255)], ones(2))
    assert part.values[0, 0] == 0


def test_motion_is_compared_within_a_stretch_only() -> None:
    extractor = build(MOTION)
    for first, left in ((0, 20), (40, 100)):
        extractor.begin(16 / 9)
        extractor.look(scene(left), range(first, first + 1))
        assert list(extractor.end()) == []


def test_short_gaps_are_rows_of_nan_and_long_ones_end_the_part() -> None:
    served = [range(0, 1), range(1, 2), range(5, 6), range(30, 31), range(31, 33)]
    first, second = moving([scene(n) for n in (20, 30, 40, 50, 60)], served)
    assert first.first == 1
    assert np.isnan(first.values[:, 0]).tolist() == [False, True, True, True, False]
    assert np.isnan(first.values).all(axis=1).sum() == 3
    assert second.first == 31
    assert second.values.shape[0] == 2
    assert (second.values[0] == second.values[1]).all()
    for part in (first, second):
        assert len(pack_sequence(part.values)) == part.values.size * 2


def test_a_camera_that_changes_its_resolution_changed_wholly() -> None:
    (part,) = moving([scene(20), scene(20)[:, :120]], ones(2))
    assert part.values[0, 0] == 1


@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(2, 70),
    width=st.integers(2, 70),
    rows=st.integers(1, 12),
    columns=st.integers(1, 12),
)
def test_motion_values_are_shares(
    seed: int, height: int, width: int, rows: int, columns: int
) -> None:
    rng = np.random.default_rng(seed)
    changed = rng.uniform(size=(height, width)) < rng.uniform()
    values = motion_values(changed, rows, columns)
    assert values.shape == (5 + rows * columns,)
    assert ((values >= 0) & (values <= 1)).all()
    assert values[0] == pytest.approx(changed.mean())
    if rows <= height and columns <= width:
        sizes = np.outer(
            np.bincount(np.arange(height) * rows // height),
            np.bincount(np.arange(width) * columns // width),
        )
        assert (values[5:] * sizes.ravel()).sum() == pytest.approx(changed.sum())


def test_noise_in_a_corner_hardly_moves_the_extent() -> None:
    changed = np.zeros((90, 160), bool)
    changed[30:60, 60:100] = True
    clean = motion_values(changed, 9, 12)
    changed[0, 0] = True
    noisy = motion_values(changed, 9, 12)
    assert clean[3:5] == pytest.approx([40 / 160, 30 / 90], abs=0.01)
    assert noisy[1:5] == pytest.approx(clean[1:5], abs=0.01)


# What is declared.


def test_half_precision_holds_its_largest_number_at_most() -> None:
    rows = SampleRows(10.0)
    rows.add(range(2), np.array([1e9, -1e9, 0.5]))
    (part,) = rows.finish()
    assert part.values.tolist() == [[65504.0, -65504.0, 0.5]] * 2
    assert rows.finish() == []


def test_what_is_yielded_is_as_wide_as_declared() -> None:
    extractor = build(MOTION)
    (part,) = moving([scene(20), scene(30)], ones(2))
    shapes = [value.shape for value in extractor.yields]
    assert None not in shapes
    assert sum(int(np.prod(shape or ())) for shape in shapes) == part.values.shape[1]
    assert {value.table for value in extractor.yields} == {"sequences"}
    assert extractor.needs.form == "gray"
    assert extractor.needs.weights is None
    assert extractor.needs.long_side == 160


def test_pose_is_built_with_the_network_of_its_settings() -> None:
    path = locate(POSE)
    assert path is not None
    assert network_sha256(path) == PoseSettings().network
    extractor = build(POSE, path)
    assert isinstance(extractor, PoseExtractor)
    assert extractor.network.sha256 in str(extractor.needs.weights)
    assert [value.name for value in extractor.yields] == ["keypoints", "boxes"]
    assert looked(extractor, ones(3)) == []


def test_motion_needs_no_file() -> None:
    assert locate(MOTION) is None
    assert isinstance(build(MOTION), MotionExtractor)


def test_every_extractor_is_described() -> None:
    rows = describe()
    assert {row["extractor"] for row in rows} == {"pose", "embedding", "motion"}
    for row in rows:
        assert row["table"] in ("pose_tracks", "sequences")
        assert row["feature_set"].startswith(row["extractor"])
        assert row["picture"] in ("rgb", "gray")
        assert all(row[name] for name in ("value", "unit", "dtype", "meaning", "device"))
    unknown = replace(POSE, extractor=EmbeddingSettings(backbone="regnet_y_400mf"))
    assert describe([unknown])[0]["shape"] is None


def test_the_documentation_lists_what_is_yielded() -> None:
    text = (Path(__file__).parents[2] / "docs" / "feature-sets.md").read_text()
    for row in describe():
        shape = " x ".join(str(length) for length in row["shape"]) or "1"
        per = " per person" if row["table"] == "pose_tracks" else ""
        cells = [row["extractor"], row["table"], row["value"], shape + per, row["unit"]]
        line = f"| {' | '.join(cells)} | {row['dtype']} | {row['picture']} |"
        assert line in text


def test_importing_and_describing_brings_nothing_heavy() -> None:
    heavy = ("torch", "torchvision", "ai_edge_litert", "safetensors", "cv2", "matplotlib")
    code = (
        "import sys, fall_assets.features.extractors as e\n"
        "e.describe()\n"
        "e.build(e.EXAMPLES[2])\n"
        f"print(sorted(set({heavy!r}) & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
