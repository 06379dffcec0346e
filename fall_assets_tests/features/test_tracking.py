"""People keep their identity, and nothing is invented or used twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fall_assets.features.people import People, box_overlap, keypoint_similarity
from fall_assets.features.settings import TrackerSettings
from fall_assets.features.tracking import Track, track

SETTINGS = TrackerSettings()
HZ = 10.0
GAP = round(SETTINGS.max_gap_s * HZ)


def followed(samples: Sequence[People], first: int = 0) -> list[Track]:
    return track(samples, SETTINGS, sample_hz=HZ, first=first)


def person(
    x: float, y: float = 0.5, *, score: float = 0.5, width: float = 0.1, height: float = 0.4
) -> People:
    """One person whose box is centred on (x, y); the first key point tells who it is."""
    box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2, score]
    share = np.linspace(-0.5, 0.5, 17)
    points = np.stack([x + share * width, y + share * height, np.full(17, score)], axis=-1)
    return People(points[None].astype(np.float32), np.array([box], np.float32))


def crowd(*people: People) -> People:
    return People(
        np.concatenate([one.keypoints for one in people]),
        np.concatenate([one.boxes for one in people]),
    )


def centres(found: Track) -> NDArray[np.float32]:
    x: NDArray[np.float32] = (found.boxes[:, 0] + found.boxes[:, 2]) / 2
    return x


def test_one_person_is_one_track() -> None:
    (only,) = followed([person(0.2 + 0.01 * n) for n in range(50)])
    assert only.first == 0
    assert len(only.boxes) == 50
    assert only.seen.all()
    assert centres(only) == pytest.approx([0.2 + 0.01 * n for n in range(50)], abs=1e-5)


def test_people_far_apart_keep_apart() -> None:
    samples = [crowd(person(0.2 + 0.004 * n), person(0.8 - 0.004 * n)) for n in range(50)]
    left, right = followed(samples)
    assert centres(left)[-1] == pytest.approx(0.396, abs=1e-4)
    assert centres(right)[-1] == pytest.approx(0.604, abs=1e-4)


def test_an_occlusion_up_to_the_limit_keeps_the_identity() -> None:
    samples = [person(0.3)] * 10 + [People.nobody()] * GAP + [person(0.36)] * 10
    (only,) = followed(samples)
    assert only.seen.sum() == 20
    assert not only.seen[10 : 10 + GAP].any()
    assert not only.keypoints[10 : 10 + GAP].any()


def test_a_longer_absence_is_another_track() -> None:
    samples = [person(0.3)] * 10 + [People.nobody()] * (GAP + 1) + [person(0.3)] * 10
    assert [found.first for found in followed(samples)] == [0, 10 + GAP + 1]


def test_a_person_who_falls_is_kept_with_a_low_score() -> None:
    standing = [person(0.5, 0.45)] * 15
    falling = [
        person(
            0.5 + 0.02 * n, 0.45 + 0.04 * n, score=0.2, width=0.1 + 0.04 * n, height=0.4 - 0.04 * n
        )
        for n in range(8)
    ]
    lying = [person(0.64, 0.75, score=0.09, width=0.4, height=0.12)] * 30
    (only,) = followed([*standing, *falling, *lying])
    assert only.seen.all()
    assert len(only.boxes) == 53


def test_what_never_scores_well_is_nobody() -> None:
    chair = person(0.5, score=SETTINGS.birth_score - 0.01)
    assert followed([chair] * 50) == []


def test_a_believed_track_begins_with_its_first_weak_detection() -> None:
    samples = [person(0.5, score=0.12)] * 8 + [person(0.5, score=0.4)] * 4
    (only,) = followed(samples)
    assert only.first == 0
    assert len(only.boxes) == 12


def test_a_flash_is_nobody() -> None:
    samples = [People.nobody()] * 5 + [person(0.5)] * (SETTINGS.min_seen - 1)
    assert followed([*samples, *[People.nobody()] * 30]) == []


def test_the_same_person_found_twice_is_one() -> None:
    twice = crowd(person(0.5, score=0.6), person(0.505, score=0.4))
    assert len(followed([twice] * 20)) == 1


def test_someone_far_away_does_not_take_over_a_track() -> None:
    samples = [person(0.1)] * 10 + [person(0.9)] * 10
    assert [found.first for found in followed(samples)] == [0, 10]


@pytest.mark.parametrize("hidden", [0, 4])
def test_people_who_pass_each_other_keep_their_identity(hidden: int) -> None:
    samples = []
    for n in range(40):
        rightwards, leftwards = person(0.2 + 0.015 * n, 0.5), person(0.8 - 0.015 * n, 0.55)
        passing = abs(n - 20) * 2 < hidden
        samples.append(leftwards if passing else crowd(rightwards, leftwards))
    left, right = followed(samples)
    assert centres(left)[-1] == pytest.approx(0.785, abs=1e-4)
    assert centres(right)[-1] == pytest.approx(0.215, abs=1e-4)


def test_nobody_gives_no_track() -> None:
    assert followed([]) == []
    assert followed([People.nobody()] * 20) == []


@st.composite
def scenes(draw: st.DrawFn) -> list[People]:
    """Samples of up to six people each, anywhere, with any scores."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    samples = []
    for _ in range(draw(st.integers(1, 25))):
        count = int(rng.integers(0, 7))
        corner, size = rng.uniform(0, 0.6, (count, 2)), rng.uniform(0.05, 0.4, (count, 2))
        boxes = np.concatenate([corner, corner + size, rng.uniform(0.01, 0.6, (count, 1))], axis=1)
        points = corner[:, None] + rng.uniform(0, 1, (count, 17, 2)) * size[:, None]
        keypoints = np.concatenate([points, rng.uniform(0, 1, (count, 17, 1))], axis=-1)
        samples.append(People(keypoints.astype(np.float32), boxes.astype(np.float32)))
    return samples


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_every_row_of_a_track_is_a_detection_and_none_is_used_twice(samples: list[People]) -> None:
    used: set[tuple[int, bytes]] = set()
    for found in followed(samples):
        assert found.seen[0]
        assert found.seen[-1]
        assert found.boxes[:, 4].max() >= np.float32(SETTINGS.birth_score)
        assert found.seen.sum() >= SETTINGS.min_seen
        gaps = np.diff(np.flatnonzero(found.seen)) - 1
        assert gaps.max(initial=0) <= GAP
        for row in np.flatnonzero(found.seen):
            sample = found.first + int(row)
            same = (samples[sample].boxes == found.boxes[row]).all(axis=1)
            assert (samples[sample].keypoints[same] == found.keypoints[row]).all()
            place = (sample, found.boxes[row].tobytes())
            assert same.sum() == 1
            assert place not in used
            used.add(place)


@settings(max_examples=40, deadline=None)
@given(scenes(), st.integers(0, 2**32 - 1))
def test_the_order_of_detections_does_not_matter(samples: list[People], seed: int) -> None:
    rng = np.random.default_rng(seed)
    shuffled = [people.at(rng.permutation(len(people))) for people in samples]
    ours, theirs = followed(samples), followed(shuffled)
    assert [found.first for found in ours] == [found.first for found in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert (one.boxes == other.boxes).all()


def test_overlap_of_boxes() -> None:
    ours = np.array([[0, 0, 2, 2], [5, 5, 5, 5]])
    theirs = np.array([[1, 0, 3, 2], [0, 0, 2, 2], [9, 9, 10, 10]])
    assert box_overlap(ours, theirs) == pytest.approx(np.array([[1 / 3, 1, 0], [0, 0, 0]]))


def test_similarity_of_poses() -> None:
    people = crowd(person(0.2), person(0.2), person(0.8))
    alike = keypoint_similarity(people, 16 / 9)
    assert alike[0, 1] == pytest.approx(1)
    assert alike[0, 2] < 1e-6
    assert (alike == alike.T).all()


def test_tracks_are_numbered_as_the_samples_of_the_segment() -> None:
    samples = [People.nobody()] * 3 + [person(0.3)] * 10
    from_the_start, later = followed(samples)[0], followed(samples, first=1000)[0]
    assert (from_the_start.first, later.first) == (3, 1003)
    assert (from_the_start.boxes == later.boxes).all()


def test_the_gap_that_is_bridged_hangs_on_the_rate() -> None:
    samples = [person(0.3)] * 10 + [People.nobody()] * GAP + [person(0.3)] * 10
    assert len(track(samples, SETTINGS, sample_hz=HZ)) == 1
    assert len(track(samples, SETTINGS, sample_hz=HZ / 2)) == 2
