"""Windows cover a segment, and their figures are what was measured in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.features.people import People
from fall_assets.features.quality import Quality
from fall_assets.features.settings import FeatureSettings
from fall_assets.features.tracking import Track
from fall_assets.features.windows import Measurements, window_rows, window_spans

SETTINGS = FeatureSettings()


@given(st.floats(0.01, 500))
def test_windows_cover_the_segment(duration_s: float) -> None:
    spans = window_spans(duration_s, SETTINGS)
    assert spans[0][0] == 0
    assert spans[-1][1] == pytest.approx(duration_s, abs=0.051)
    assert [start for start, _ in spans] == [n * SETTINGS.stride_s for n in range(len(spans))]
    for start, end in spans[:-1]:
        assert end - start == SETTINGS.window_s
    for start, end in spans[1:]:
        assert SETTINGS.min_window_s <= end - start <= SETTINGS.window_s + 1e-9


@pytest.mark.parametrize(
    ("duration_s", "spans"),
    [
        (0.3, [(0, 0.3)]),
        (3.3, [(0, 3.3)]),
        (4.0, [(0, 4)]),
        (4.01, [(0, 4)]),
        (4.5, [(0, 4), (1, 4.5)]),
        (6.0, [(0, 4), (1, 5), (2, 6)]),
    ],
)
def test_where_windows_lie(duration_s: float, spans: list[tuple[float, float]]) -> None:
    assert window_spans(duration_s, SETTINGS) == spans


def person(seconds: float, *, first: int = 0) -> Track:
    """Half the picture's height, a quarter of its width, hips at 0.6."""
    samples = round(seconds * SETTINGS.sample_hz)
    boxes = np.tile(np.array([0.25, 0.2, 0.5, 0.7, 0.5], np.float32), (samples, 1))
    keypoints = np.tile(np.array([0.4, 0.6, 0.8], np.float32), (samples, 17, 1))
    return Track(first, keypoints, boxes)


def measured(duration_s: float, fps: float = 20.0) -> Measurements:
    return Measurements(
        frame_s=[n / fps for n in range(round(duration_s * fps))],
        changed=[(n / 10, n / 1000) for n in range(1, round(duration_s * 10))],
        looks=[
            (n / 2, 640, 360, Quality(0.1 * n, 0.2, 0.3, 0.01)) for n in range(int(2 * duration_s))
        ],
        watched=[(0.0, duration_s)],
    )


def test_figures_of_a_window() -> None:
    rows = window_rows(measured(5), [person(2)], 2.0, 5.0, SETTINGS)
    assert [row["window"] for row in rows] == [0, 1]
    first, second = rows
    assert (first["width"], first["height"]) == (640, 360)
    assert first["fps"] == pytest.approx(20)
    assert first["brightness"] == pytest.approx(0.35)
    assert second["brightness"] == pytest.approx(0.55)
    assert first["motion_max"] == pytest.approx(0.039)
    assert second["motion_mean"] == pytest.approx(np.arange(10, 50).mean() / 1000)
    assert (first["watched"], first["lying"]) == (1.0, 0.0)
    assert first["people"] == pytest.approx(0.5)
    assert second["people"] == pytest.approx(0.25)
    assert first["keypoint_score"] == pytest.approx(0.8)
    assert first["person_height"] == pytest.approx(0.5)
    assert first["person_aspect"] == pytest.approx(0.5 / (0.25 * 2))
    assert first["person_y"] == pytest.approx(0.6)


def test_two_people_count_twice() -> None:
    (row,) = window_rows(measured(4), [person(4), person(4)], 1.0, 4.0, SETTINGS)
    assert row["people"] == pytest.approx(2)


def test_unseen_samples_do_not_count() -> None:
    blinking = person(4)
    blinking.boxes[::2] = 0
    blinking.keypoints[::2] = 0
    (row,) = window_rows(measured(4), [blinking], 1.0, 4.0, SETTINGS)
    assert row["people"] == pytest.approx(0.5)
    assert row["keypoint_score"] == pytest.approx(0.8)


def test_an_empty_window_has_no_person_figures() -> None:
    (row,) = window_rows(measured(4), [], 1.0, 4.0, SETTINGS)
    assert row["people"] == 0
    for name in ("keypoint_score", "person_height", "person_aspect", "person_y"):
        assert row[name] is None


def test_a_gap_in_the_recording_keeps_what_was_seen_last() -> None:
    looks = [(0.0, 640, 360, Quality(0.4, 0.2, 0.3, 0.01))]
    rows = window_rows(Measurements([0.0, 0.1, 9.0], [], looks), [], 1.0, 9.1, SETTINGS)
    assert {row["brightness"] for row in rows} == {0.4}
    assert all(isinstance(row["fps"], float) for row in rows)


def test_windows_that_were_not_watched() -> None:
    found = measured(20)
    found.watched = [(0.0, 2.0), (18.0, 20.0)]
    upright = person(0.1)
    lies = np.array([[0.2, 0.7, 0.8, 0.9, 0.4]], np.float32)
    found.glances = [
        (8.0, People.nobody()),
        (12.5, People(upright.keypoints[:1], lies)),
    ]
    rows = window_rows(found, [person(1)], 1.0, 20.0, SETTINGS)
    watched = [row["watched"] for row in rows]
    assert watched[:5] == pytest.approx([0.5, 0.25, 0, 0, 0])
    assert watched[-3:] == pytest.approx([0, 0.25, 0.5])
    people = [row["people"] for row in rows]
    # 10 of the 20 samples that were looked at, though the window has 40.
    assert people[0] == pytest.approx(0.5)
    assert people[2:5] == [None, None, None]
    assert people[5:9] == [0.0] * 4
    assert people[9] == 1.0
    lying = [row["lying"] for row in rows]
    assert lying[0] == 0.0
    assert lying[5:9] == [None] * 4
    assert lying[9:13] == [1.0] * 4
    assert lying[13] is None


def seated(seconds: float, *, speed: float = 0.0) -> Track:
    """Somebody who sits, seen from the side, a box 0.4 high and 0.2 wide, in a square picture.

    `speed` is in heights of the box per second, to the right.
    """
    samples = round(seconds * SETTINGS.sample_hz)
    places = {5: (0.0, -0.2), 11: (0.0, 0.0), 13: (0.15, 0.02), 15: (0.15, 0.2)}
    keypoints = np.zeros((samples, 17, 3), np.float32)
    moved = 0.1 + 0.4 * speed * np.arange(samples) / SETTINGS.sample_hz
    for first, (right, down) in places.items():
        keypoints[:, first : first + 2] = [0.0, 0.6 + down, 0.5]
        keypoints[:, first : first + 2, 0] = (moved + right)[:, None]
    boxes = np.tile(np.array([0.0, 0.4, 0.2, 0.8, 0.5], np.float32), (samples, 1))
    boxes[:, (0, 2)] += moved[:, None] - 0.02
    return Track(0, keypoints, boxes)


def test_who_sits_still_and_who_rolls() -> None:
    (still,) = window_rows(measured(4), [seated(4)], 1.0, 4.0, SETTINGS)
    assert (still["sitting"], still["rolling"]) == (1.0, 0.0)
    assert still["person_speed"] == pytest.approx(0, abs=1e-6)
    assert [still["sitting_x"], still["sitting_y"]] == pytest.approx([0.1, 0.6])
    assert (still["lying_x"], still["lying_y"]) == (None, None)
    (rolls,) = window_rows(measured(4), [seated(4, speed=0.4)], 1.0, 4.0, SETTINGS)
    assert (rolls["sitting"], rolls["rolling"]) == (1.0, 1.0)
    assert rolls["person_speed"] == pytest.approx(0.4, rel=0.02)
    assert rolls["person_x"] == pytest.approx(0.1 + 0.16 * 3.9 / 2, abs=0.01)
    both = window_rows(measured(4), [seated(4), seated(4, speed=0.4)], 1.0, 4.0, SETTINGS)
    assert both[0]["rolling"] == pytest.approx(0.5)


def test_jitter_is_no_speed() -> None:
    """Key points that tremble by half a hundredth of the person's height."""
    trembling = seated(4)
    trembling.keypoints[..., :2] += np.random.default_rng(0).normal(
        0, 0.002, trembling.keypoints[..., :2].shape
    )
    (row,) = window_rows(measured(4), [trembling], 1.0, 4.0, SETTINGS)
    speed = row["person_speed"]
    assert speed is not None
    assert speed < 0.02
    assert row["rolling"] == 0.0


def test_where_people_lie() -> None:
    lies = person(4)
    lies.boxes[:, :4] = [0.2, 0.5, 0.8, 0.7]
    (row,) = window_rows(measured(4), [lies, seated(4)], 1.0, 4.0, SETTINGS)
    assert [row["lying_x"], row["lying_y"]] == pytest.approx([0.4, 0.6])
    assert row["sitting_x"] == pytest.approx(0.1)
    assert row["sitting"] == pytest.approx(0.5)


def test_later_figures_are_null_where_nobody_is_seen_and_in_single_pictures() -> None:
    later = ("person_x", "person_speed", "sitting", "rolling", "sitting_x", "lying_x", "lying_y")
    (row,) = window_rows(measured(4), [], 1.0, 4.0, SETTINGS)
    assert [row[name] for name in later] == [None] * len(later)
    glanced = measured(4)
    glanced.watched = []
    someone = seated(0.1)
    glanced.glances = [(1.0, People(someone.keypoints, someone.boxes))]
    (row,) = window_rows(glanced, [], 1.0, 4.0, SETTINGS)
    assert (row["sitting"], row["person_speed"], row["rolling"]) == (1.0, None, None)


def test_colour_figures_are_means_of_the_looks_that_know_them() -> None:
    looks = [
        (0.0, 640, 360, Quality(0.4, 0.2, 0.3, 0.01, 0.1, 0.2, 0.3, 0.4)),
        (1.0, 640, 360, Quality(0.4, 0.2, 0.3, 0.01, 0.3, 0.4, 0.1, 0.0)),
        (2.0, 640, 360, Quality(0.4, 0.2, 0.3, 0.01)),
    ]
    names = ("warmth", "colour", "dark_share", "bright_share")
    (row,) = window_rows(Measurements([0.0, 3.9], [], looks), [], 1.0, 4.0, SETTINGS)
    assert [row[name] for name in names] == pytest.approx([0.2, 0.3, 0.2, 0.2])
    (row,) = window_rows(Measurements([0.0, 3.9], [], looks[2:]), [], 1.0, 4.0, SETTINGS)
    assert [row[name] for name in names] == [None] * 4
