"""Cameras are drawn evenly, alike in every stratum, and keep their places."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.rollout.assignment import CameraTraits, Place, assign

SHARES = st.one_of(
    st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9, 1.0]),
    st.integers(0, 1000).map(lambda thousandths: thousandths / 1000),
)
IDS = st.text(min_size=1, max_size=8)


def site(sizes: list[int], first: str = "") -> list[CameraTraits]:
    """A ward of each size."""
    return [
        CameraTraits(f"{first}w{ward}-{n}", f"w{ward}", "640x480", "f1")
        for ward, size in enumerate(sizes)
        for n in range(size)
    ]


SITES = st.lists(st.integers(1, 30), min_size=1, max_size=8).map(site)


def of(places: Mapping[str, Place], place: Place) -> set[str]:
    return {camera for camera, its in places.items() if its == place}


def size(share: float, cameras: int) -> int:
    return math.ceil(Fraction(str(share)) * cameras)


@settings(deadline=None)
@given(st.data(), SITES, IDS, SHARES)
def test_the_order_of_the_cameras_does_not_matter(
    data: st.DataObject, cameras: list[CameraTraits], rollout: str, share: float
) -> None:
    before = assign(rollout, cameras, share / 2)
    shuffled = data.draw(st.permutations(cameras))
    assert list(assign(rollout, shuffled, share, before=before).items()) == list(
        assign(rollout, cameras, share, before=before).items()
    )


def test_another_process_draws_the_same() -> None:
    # Python's own hash differs from process to process.
    code = (
        "import json; from fall_assets_tests.rollout.test_assignment import assign, site;"
        "print(json.dumps(assign('r1', site([40, 7, 1]), 0.3)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == assign("r1", site([40, 7, 1]), 0.3)


def test_the_draw_is_this_one() -> None:
    # Rollouts in the lake are replayed years later: a change here would change their history.
    places = assign("r1", site([6, 3]), 0.3)
    assert sorted(of(places, "challenger")) == ["w0-0", "w0-3", "w1-0"]
    assert sorted(of(places, "control")) == ["w0-1", "w0-5", "w1-2"]


@settings(deadline=None)
@given(SITES, IDS, SHARES)
def test_every_camera_has_a_place_and_the_arms_have_their_sizes(
    cameras: list[CameraTraits], rollout: str, share: float
) -> None:
    places = assign(rollout, cameras, share)
    wanted = size(share, len(cameras))
    assert set(places) == {camera.camera_id for camera in cameras}
    assert len(of(places, "challenger")) == wanted
    assert len(of(places, "control")) == min(wanted, len(cameras) - wanted)


def test_the_size_is_that_of_the_share_as_it_is_written() -> None:
    # 0.07 * 100 is a little over 7 in binary.
    assert len(of(assign("r", site([100]), 0.07), "challenger")) == 7


def test_the_smallest_share_is_one_camera() -> None:
    assert len(of(assign("r", site([3]), 0.001), "challenger")) == 1


@settings(deadline=None)
@given(SITES, IDS, SHARES, SHARES)
def test_a_greater_share_holds_the_cameras_of_a_smaller_one(
    cameras: list[CameraTraits], rollout: str, one: float, other: float
) -> None:
    small, great = sorted((one, other))
    assert of(assign(rollout, cameras, small), "challenger") <= of(
        assign(rollout, cameras, great), "challenger"
    )


def part_by_stratum(cameras: list[CameraTraits], chosen: set[str]) -> list[tuple[int, int]]:
    every = Counter(camera.stratum for camera in cameras)
    mine = Counter(camera.stratum for camera in cameras if camera.camera_id in chosen)
    return [(mine[stratum], count) for stratum, count in every.items()]


@settings(deadline=None)
@given(SITES, IDS, SHARES, st.sampled_from(["challenger", "control"]))
def test_strata_have_a_common_part_to_within_a_camera(
    cameras: list[CameraTraits], rollout: str, share: float, place: Place
) -> None:
    parts = part_by_stratum(cameras, of(assign(rollout, cameras, share), place))
    if place == "control" and share > 0.5:
        return  # what the challenger leaves
    lowest = max((mine - 1) / count for mine, count in parts)
    highest = min((mine + 1) / count for mine, count in parts)
    assert lowest <= highest + 1e-12


@settings(deadline=None)
@given(st.integers(1, 25), st.integers(1, 12), IDS, SHARES)
def test_strata_of_a_size_get_the_share_to_within_a_camera(
    cameras_each: int, strata: int, rollout: str, share: float
) -> None:
    cameras = site([cameras_each] * strata)
    places = assign(rollout, cameras, share)
    for place in ("challenger", "control"):
        chosen = of(places, place)
        wanted = len(chosen) / strata
        assert all(abs(mine - wanted) < 1 for mine, _ in part_by_stratum(cameras, chosen))


def test_strata_are_of_ward_resolution_and_feature_set() -> None:
    one = CameraTraits("c", "w", "640x480", "f1")
    others = [replace(one, ward="v"), replace(one, resolution="1x1"), replace(one, feature_set="g")]
    assert len({camera.stratum for camera in [one, *others]}) == 4
    # Of each half one half, though the draw alone would often take three of a half.
    for number in range(50):
        cameras = [
            CameraTraits(f"c{n}", "w", "640x480" if n < 4 else "1280x720", "f1") for n in range(8)
        ]
        chosen = of(assign(f"r{number}", cameras, 0.5), "challenger")
        assert [mine for mine, _ in part_by_stratum(cameras, chosen)] == [2, 2]


def test_another_rollout_draws_others() -> None:
    cameras = site([100])
    one, other = (of(assign(rollout, cameras, 0.5), "challenger") for rollout in ("a", "b"))
    assert 10 < len(one & other) < 40


@pytest.mark.parametrize("place", ["challenger", "control"])
def test_every_camera_is_drawn_as_often(place: Place) -> None:
    cameras, share, draws = site([1, 2, 3, 5, 9]), 0.3, 4000
    drawn: Counter[str] = Counter()
    for number in range(draws):
        drawn.update(of(assign(f"rollout {number}", cameras, share), place))
    error = math.sqrt(share * (1 - share) / draws)
    assert sum(drawn.values()) == draws * 6
    for camera in cameras:
        # Five errors, and a little for the strata's common part, which is not quite fixed.
        assert abs(drawn[camera.camera_id] / draws - share) < 5 * error + 0.01, camera


@settings(deadline=None)
@given(st.data(), SITES, IDS, SHARES)
def test_pinned_cameras_count_and_excluded_ones_do_not(
    data: st.DataObject, cameras: list[CameraTraits], rollout: str, share: float
) -> None:
    ids = [camera.camera_id for camera in cameras]
    pin = data.draw(st.sets(st.sampled_from(ids)))
    exclude = data.draw(st.sets(st.sampled_from(ids))) - pin
    before = assign(rollout, cameras, 0.5)
    for known in ({}, before):
        places = assign(rollout, cameras, share, pin=pin, exclude=exclude, before=known)
        challengers, control = of(places, "challenger"), of(places, "control")
        assert exclude <= of(places, "rest")
        if share == 0:
            assert of(places, "rest") == set(ids)
            continue
        assert pin <= challengers
        held = of(known, "challenger") - exclude
        wanted = max(size(share, len(ids) - len(exclude)), len(pin | held))
        assert len(challengers) == wanted
        assert len(control) == min(wanted, len(ids) - len(exclude) - wanted)


def test_pinned_cameras_are_of_their_stratum_s_part() -> None:
    cameras = site([10, 10])
    pin = {f"w0-{n}" for n in range(5)}
    for number in range(20):
        chosen = of(assign(f"r{number}", cameras, 0.5, pin=pin), "challenger")
        assert [mine for mine, _ in part_by_stratum(cameras, chosen)] == [5, 5]


def test_ids_that_no_camera_has_do_nothing() -> None:
    cameras = site([9])
    assert assign("r", cameras, 0.5, pin=["gone"], exclude=["gone too"]) == assign(
        "r", cameras, 0.5
    )


@settings(deadline=None)
@given(st.data(), IDS, SHARES, SITES, st.lists(st.integers(1, 10), max_size=3))
def test_cameras_come_and_go_and_the_others_stay(
    data: st.DataObject, rollout: str, share: float, cameras: list[CameraTraits], more: list[int]
) -> None:
    before = assign(rollout, cameras, share)
    ids = sorted(before)
    gone = data.draw(st.sets(st.sampled_from(ids)))
    stay = [camera for camera in cameras if camera.camera_id not in gone]
    there = stay + site(more, "new-")
    after = assign(rollout, there, share, before=before, share_before=share)
    assert set(after) == {camera.camera_id for camera in there}
    assert of(before, "challenger") - gone <= of(after, "challenger")
    # The share did not grow: nobody is taken from the control group, which may only be too large.
    assert not of(before, "control") & of(after, "challenger")
    challengers, control = of(after, "challenger"), of(after, "control")
    assert len(control) == min(len(challengers), len(there) - len(challengers))
    kept = of(before, "control") - gone
    assert control <= kept if len(kept) > len(control) else kept <= control


@settings(deadline=None)
@given(IDS, SITES, SHARES)
def test_nothing_changes_where_nothing_changed(
    rollout: str, cameras: list[CameraTraits], share: float
) -> None:
    before = assign(rollout, cameras, share)
    assert assign(rollout, cameras, share, before=before, share_before=share) == before
    assert assign(rollout, cameras, share, before=before) == before


@settings(deadline=None)
@given(IDS, SITES, SHARES, SHARES)
def test_step_by_step_is_the_same_as_at_once(
    rollout: str, cameras: list[CameraTraits], one: float, other: float
) -> None:
    small, great = sorted((one, other))
    before = assign(rollout, cameras, small)
    after = assign(rollout, cameras, great, before=before, share_before=small)
    assert len(of(after, "challenger")) == size(great, len(cameras))
    assert of(before, "challenger") <= of(after, "challenger")
    if size(small, len(cameras)) + size(great, len(cameras)) <= len(cameras):
        # There is room beside the control group: it stays where it is.
        assert of(before, "control") <= of(after, "control")
        assert after == assign(rollout, cameras, great)


@settings(deadline=None)
@given(IDS, SITES, SHARES, SHARES)
def test_a_smaller_share_keeps_some_of_the_same(
    rollout: str, cameras: list[CameraTraits], one: float, other: float
) -> None:
    small, great = sorted((one, other))
    if small == great:
        return
    before = assign(rollout, cameras, great)
    after = assign(rollout, cameras, small, before=before, share_before=great)
    assert of(after, "challenger") == of(assign(rollout, cameras, small), "challenger")


def test_control_cameras_fill_up_only_a_growing_share() -> None:
    cameras = site([100])
    before = assign("r", cameras, 0.5)
    gone = sorted(of(before, "challenger"))[:10]
    there = [camera for camera in cameras if camera.camera_id not in gone]
    same = assign("r", there, 0.5, before=before, share_before=0.5)
    assert (len(of(same, "challenger")), len(of(same, "control"))) == (40, 40)
    unknown = assign("r", there, 0.5, before=before)
    assert (len(of(unknown, "challenger")), len(of(unknown, "control"))) == (45, 45)
    grown = assign("r", there, 0.6, before=before, share_before=0.5)
    assert (len(of(grown, "challenger")), len(of(grown, "control"))) == (54, 36)


def test_new_cameras_get_their_part() -> None:
    before = assign("r", site([60]), 0.5)
    cameras = site([60]) + site([40], "new-")
    after = assign("r", cameras, 0.5, before=before, share_before=0.5)
    new = {camera for camera in after if camera.startswith("new-")}
    assert len(of(after, "challenger") & new) == len(of(after, "control") & new) == 20


def test_the_control_group_stays_when_cameras_come() -> None:
    for number in range(50):
        before = assign(f"r{number}", site([20]), 0.2)
        cameras = site([20]) + site([10], "new-")
        after = assign(f"r{number}", cameras, 0.2, before=before, share_before=0.2)
        assert of(before, "control") < of(after, "control")
        assert len(of(after, "control")) == 6


def test_what_cannot_be_is_said() -> None:
    cameras = site([3])
    with pytest.raises(ValueError, match=r"share is 1\.5"):
        assign("r", cameras, 1.5)
    with pytest.raises(ValueError, match="share is nan"):
        assign("r", cameras, math.nan)
    with pytest.raises(ValueError, match="both pinned and excluded: w0-1"):
        assign("r", cameras, 0.5, pin=["w0-1", "w0-2"], exclude=["w0-1"])
    with pytest.raises(ValueError, match="more than once: w0-0"):
        assign("r", [*cameras, cameras[0]], 0.5)


@settings(max_examples=20, deadline=None)
@given(SHARES)
def test_a_site_without_cameras_has_no_places(share: float) -> None:
    assert assign("r", [], share) == {}
    assert assign("r", site([2]), share, exclude=["w0-0", "w0-1"]) == {
        "w0-0": "rest",
        "w0-1": "rest",
    }
