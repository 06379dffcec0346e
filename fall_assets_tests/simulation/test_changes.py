"""Changes: each alters what it says, from its day on, for its cameras, and nothing else."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import DRIFT_CAUSES
from fall_assets.simulation.body import JOINT, Body
from fall_assets.simulation.changes import KINDS, Change, installed, lit_by, now, visitors
from fall_assets.simulation.hospital import (
    MANIFEST,
    Happening,
    HospitalSpec,
    camera_id,
    generate,
    plan,
    truth_of,
)
from fall_assets.simulation.motions import FALL_FROM_WHEELCHAIR, FALLS, ROLL, perform
from fall_assets.simulation.render import Light, Scene
from fall_assets.simulation.room import Room
from fall_assets.simulation.scenarios import SCENARIOS, ordinary_hospital

MONDAY = date(2026, 3, 2)
TUESDAY = MONDAY + timedelta(days=1)
SPEC = HospitalSpec(
    seed=12, first_day=MONDAY, days=2, cameras=3, segments_per_day=1, segment_s=2.0, fps=5,
    width=160, height=90, changed_cameras=0, bad_files=0, views=("level", "corner", "level"),
    hours=(10, 16),
)  # fmt: skip
ROOM_1 = ("cam-01", "cam-02")


def _changed(kind: str, cameras: tuple[str, ...] = ("cam-01",), **more: Any) -> HospitalSpec:
    first_day = more.pop("first_day", TUESDAY)
    return replace(SPEC, changes=(Change(kind, cameras, first_day, **more),))


def _digests(landing: Path) -> dict[str, str]:
    """Camera and day to the digest of its films."""
    found: dict[str, str] = {}
    for path in sorted(landing.rglob("*.mp4")):
        camera, day, _ = path.relative_to(landing).parts
        found[f"{camera} {day}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _frames(landing: Path, camera: str, day: date) -> list[npt.NDArray[np.uint8]]:
    """The pictures of a camera's day, uint8 RGB."""
    (path,) = (landing / camera / str(day)).glob("*.mp4")
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in frames]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    landing = tmp_path_factory.mktemp("plain") / "landing"
    generate(SPEC, landing, workers=1)
    return landing


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory, plain: Path) -> dict[str, Path]:
    """The same hospital with one change each on Tuesday, of the first camera or its room."""
    made: dict[str, Path] = {}
    amounts = {"resolution": 180.0, "frame_rate": 10.0, "children": 1.0, "wheelchairs": 1.0}
    for kind, one in KINDS.items():
        landing = tmp_path_factory.mktemp(kind) / "landing"
        cameras = ROOM_1 if one.of_room else ("cam-01",)
        spec = _changed(kind, cameras, amount=amounts.get(kind))
        generate(spec, landing, workers=1, like=plain)
        made[kind] = landing
    return made


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].cause])
def test_a_change_alters_its_cameras_from_its_day_on_and_no_others(
    kind: str, plain: Path, changed: dict[str, Path]
) -> None:
    before, after = _digests(plain), _digests(changed[kind])
    differ = {key for key in before if before[key] != after[key]}
    cameras = ROOM_1 if KINDS[kind].of_room else ("cam-01",)
    # Whether somebody in a room is a child or rides is seen only where somebody is up.
    assert differ <= {f"{camera} {TUESDAY}" for camera in cameras}
    if kind not in ("children", "wheelchairs"):
        assert differ == {f"{camera} {TUESDAY}" for camera in cameras}


def test_the_same_spec_gives_the_same_bytes_linked_or_drawn(
    tmp_path: Path, changed: dict[str, Path]
) -> None:
    spec = _changed("furniture", ROOM_1)
    generate(spec, tmp_path / "drawn", workers=1)
    assert _digests(tmp_path / "drawn") == _digests(changed["furniture"])


def test_a_camera_records_larger_or_faster(changed: dict[str, Path]) -> None:
    assert _frames(changed["resolution"], "cam-01", MONDAY)[0].shape == (90, 160, 3)
    assert _frames(changed["resolution"], "cam-01", TUESDAY)[0].shape == (180, 320, 3)
    assert len(_frames(changed["frame_rate"], "cam-01", MONDAY)) == 10
    assert len(_frames(changed["frame_rate"], "cam-01", TUESDAY)) == 20


def _grey(pictures: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float64]:
    return np.stack([picture.mean(axis=2) for picture in pictures])


def test_pictures_are_what_the_change_says(plain: Path, changed: dict[str, Path]) -> None:
    usual = _frames(plain, "cam-01", TUESDAY)
    today = {kind: _frames(landing, "cam-01", TUESDAY) for kind, landing in changed.items()}
    warmth = {
        kind: float(np.mean([one[..., 0].mean() - one[..., 2].mean() for one in pictures]))
        for kind, pictures in (today | {"usual": usual}).items()
    }
    assert _grey(today["exposure"]).mean() > 1.2 * _grey(usual).mean()
    assert warmth["exposure"] < warmth["usual"] - 10

    infrared = np.stack(today["infrared"]).astype(int)
    assert np.ptp(infrared, axis=-1).max() <= 3
    assert _grey(today["infrared"]).std(axis=(1, 2)).mean() < 0.8 * _grey(usual).std()

    def edges(pictures: list[npt.NDArray[np.uint8]]) -> float:
        still = np.median(_grey(pictures), axis=0)
        return float(np.abs(np.diff(still, axis=1)).mean())

    assert edges(today["smear"]) < 0.7 * edges(usual)
    assert edges(today["knock"]) > 0.8 * edges(usual)
    moved = np.abs(np.median(_grey(today["knock"]), axis=0) - np.median(_grey(usual), axis=0))
    assert (moved > 15).mean() > 0.15


def test_what_grows_comes_little_by_little() -> None:
    smear = Change("smear", first_day=MONDAY, days=14)
    shares = [smear.share(MONDAY + timedelta(days=number)) for number in (-1, 0, 6, 13, 30)]
    assert shares == [0.0, pytest.approx(1 / 14), 0.5, 1.0, 1.0]
    assert Change("knock", first_day=MONDAY).share(MONDAY) == 1.0


def _people(spec: HospitalSpec, day: date) -> list[tuple[Happening, str, Body]]:
    from fall_assets.simulation import hospital

    return [
        (scene, one.subject, one.performance.body)
        for scene in plan(spec)
        if scene.day == day and scene.room == 0
        for one in hospital._people(spec, scene)
    ]


def test_children_are_small_and_adults_stay_on_the_days_before() -> None:
    spec = replace(_changed("children", ROOM_1), segments_per_day=12)
    patients = {
        day: [body for _, who, body in _people(spec, day) if who.startswith("patient")]
        for day in (MONDAY, TUESDAY)
    }
    assert all(1.0 <= body.height_m <= 1.4 and body.child for body in patients[TUESDAY])
    assert all(body.height_m > 1.4 for body in patients[MONDAY])
    lively = [
        [scene.programme for scene in plan(one) if scene.day == TUESDAY and scene.room == 0]
        for one in (replace(spec, changes=()), spec)
    ]
    assert lively[1].count("stroll") > lively[0].count("stroll")


def test_in_a_ward_with_wheelchairs_those_on_their_feet_roll_and_fall_out_of_them() -> None:
    spec = replace(_changed("wheelchairs", ROOM_1, amount=1.0), segments_per_day=16)
    usual = [scene for scene in plan(replace(spec, changes=())) if scene.room == 0]
    today = [scene for scene in plan(spec) if scene.room == 0]
    for before, after in zip(usual, today, strict=True):
        if after.day == MONDAY:
            assert after == before
        elif before.programme in FALLS:
            assert after.programme in (FALL_FROM_WHEELCHAIR, "out_of_bed")
        elif before.programme in ("stroll", "stand", "pick_up"):
            assert after.programme == ROLL
    assert ROLL in {scene.programme for scene in today}


def test_who_rolls_stays_seated_in_the_wheelchair_and_moves_along() -> None:
    acted = perform(ROLL, Body(), Room(), np.random.default_rng(3), 20.0)
    times = np.arange(0, 20, 0.1)
    joints, wheels = acted.joints(times), acted.wheelchair_at(times)
    assert wheels is not None
    hips = joints[:, JOINT["pelvis"]]
    assert np.linalg.norm(hips[:, :2] - wheels[:, :2], axis=1).max() < 0.05
    assert 0.4 < hips[:, 2].min() <= hips[:, 2].max() < 0.8
    assert np.linalg.norm(np.diff(wheels[:, :2], axis=0), axis=1).sum() > 2.0
    assert {one.label for one in acted.intervals} == {"sitting"}


def test_who_falls_out_of_a_wheelchair_leaves_it_where_it_is() -> None:
    acted = perform(FALL_FROM_WHEELCHAIR, Body(), Room(), np.random.default_rng(4), 12.0)
    assert acted.fall is not None
    after = np.linspace(acted.fall.end_s + 0.5, 12.0, 20)
    wheels = acted.wheelchair_at(after)
    assert wheels is not None
    assert np.ptp(wheels, axis=0).max() < 1e-6
    assert acted.joints(after)[:, JOINT["pelvis"], 2].max() < 0.35
    assert perform("stroll", Body(), Room(), np.random.default_rng(4), 5.0).wheelchair is None


def test_a_wheelchair_is_drawn_where_it_stands() -> None:
    from fall_assets.simulation.camera import Camera

    scene = Scene(Room(), Camera((2.7, 0.1, 1.4), (2.7, 4.0, 0.9), 70.0, 160, 90), seed=1)
    picture = scene.frame([], [np.array([2.7, 3.5, 0.4])])
    rows, columns = np.nonzero(np.abs(picture.astype(int) - scene.background).max(axis=2) > 20)
    pixels, _ = scene.camera.project(np.array([[2.7, 3.5, 0.0], [2.7, 3.5, 1.0]]))
    assert abs(np.median(columns) - pixels[0, 0]) < 8
    assert pixels[1, 1] - 6 < rows.min() < rows.max() < pixels[0, 1] + 10


def test_the_bed_changes_sides_and_the_door_stays() -> None:
    from fall_assets.simulation import hospital

    present = now((Change("furniture", first_day=MONDAY),), ["cam-01"], MONDAY)
    before, after = hospital._room(SPEC, 0), hospital._room(SPEC, 0, present)
    assert after.bed_left is not before.bed_left
    assert (after.door, after.threshold, after.corridor) == (
        before.door, before.threshold, before.corridor,
    )  # fmt: skip
    assert after.paint is not None


def test_light_follows_the_day_the_weather_the_curtains_and_the_season() -> None:
    ordinary = now(installed(MONDAY), ["cam-01"], MONDAY)

    def at(hour: int, present: Any = ordinary, weather: float = 0.8) -> Light:
        light = lit_by(present, datetime(2026, 3, 2, hour, tzinfo=UTC), weather)
        assert light is not None
        return light

    assert at(12).lamps > at(19).lamps > at(23).lamps
    assert at(12).window > at(8).window > at(23).window == 0
    assert at(12).window > at(12, weather=0.1).window
    drawn = now((*installed(MONDAY), Change("curtains", first_day=MONDAY)), ["cam-01"], MONDAY)
    assert at(12, drawn).window < 0.5 * at(12).window
    assert at(23, drawn) == at(23)
    season = (*installed(MONDAY), Change("sun", first_day=MONDAY, days=28))
    early, late = (now(season, ["cam-01"], MONDAY + timedelta(days=n)) for n in (0, 27))
    assert at(12).window < at(12, early).window < at(12, late).window
    assert at(12, late).patch > 0 == at(12).patch == at(12, late, weather=0.0).patch
    assert at(23, late) == at(23)
    assert lit_by(now((), ["cam-01"], MONDAY), datetime(2026, 3, 2, 12, tzinfo=UTC), 0.5) is None


def test_visitors_come_by_day_and_more_of_them_at_weekends() -> None:
    spec = replace(SPEC, days=7, segments_per_day=40, hours=(0, 24), changes=installed(MONDAY))
    scenes = plan(spec)
    assert all(9 <= scene.start.hour < 20 for scene in scenes if scene.visitors)

    def share(weekend: bool, what: str) -> float:
        counted = [s for s in scenes if (s.start.weekday() >= 5) is weekend]
        return sum(bool(getattr(s, what)) for s in counted) / len(counted)

    assert share(True, "visitors") > 1.5 * share(False, "visitors")
    assert share(True, "visit") < share(False, "visit")
    many = now((Change("visitors", first_day=MONDAY),), ["cam-01"], MONDAY)
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert [visitors(many, noon, draws) for draws in ((0.5, 0.2), (0.5, 0.9), (0.7, 0.2))] == [
        1, 2, 0,
    ]  # fmt: skip


def test_the_truth_stands_beside_the_films(changed: dict[str, Path]) -> None:
    (row,) = truth_of(changed["knock"])
    assert (row["kind"], row["cameras"], row["first_day"]) == ("knock", ["cam-01"], "2026-03-03")
    assert (row["is_drift"], row["cause"]) == (True, "view_moved")
    assert json.loads((changed["knock"] / MANIFEST).read_text())["truth"] == [row]
    command = [sys.executable, "-m", "fall_assets.simulation", "--truth", "--landing"]
    told = subprocess.run(
        [*command, str(changed["visitors"])], capture_output=True, text=True, check=True
    )
    assert told.stdout.startswith("visitors     no drift  from 2026-03-03  cam-01, cam-02")
    assert json.loads(told.stdout.splitlines()[-1])[0]["is_drift"] is False


def test_what_is_so_from_the_start_is_no_drift() -> None:
    spec = ordinary_hospital()
    cameras = [camera_id(number) for number in range(spec.cameras)]
    from fall_assets.simulation.changes import truth

    assert not any(row["is_drift"] for row in truth(spec.changes, spec.first_day, cameras))
    assert HospitalSpec.from_json(json.loads(json.dumps(spec.as_json()))) == spec


def test_a_hospital_that_was_made_before_is_known_again() -> None:
    # A landing folder's manifest from before there were changes has no such fields.
    assert set(HospitalSpec().as_json()) == {
        "seed", "first_day", "days", "cameras", "segments_per_day", "segment_s", "fps", "width",
        "height", "changed_cameras", "changed_width", "changed_height", "bad_files", "fall_share",
        "visit_share", "layout",
    }  # fmt: skip


def test_every_drift_has_a_name_that_the_report_can_say() -> None:
    causes = {one.cause for one in SCENARIOS.values() if one.is_drift}
    assert causes <= set(DRIFT_CAUSES)
    assert len(causes) == 9
    assert sum(not one.is_drift for one in SCENARIOS.values()) == 5
    for one in SCENARIOS.values():
        spec = one.hospital()
        assert spec.first_day < one.judged_from
        assert one.days[-1] == spec.first_day + timedelta(days=spec.days - 1)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"kind": "flood"}, "no kind 'flood'"),
        ({"kind": "knock", "days": 0}, "at least 1 day"),
        ({"kind": "resolution", "amount": 5000}, "amount of resolution must be 90 to 2160"),
        ({"kind": "knock", "cameras": ("cam-01", "cam-01")}, "names a camera twice"),
    ],
)
def test_an_impossible_change_is_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Change(**wrong)


def test_changes_of_cameras_that_are_not_there_or_of_half_a_room_are_refused() -> None:
    with pytest.raises(ValueError, match="knock changes cam-09; there are cam-01, cam-02, cam-03"):
        _changed("knock", ("cam-09",))
    with pytest.raises(ValueError, match="happens in a room: name all of its cameras"):
        _changed("children", ("cam-01",))
    with pytest.raises(ValueError, match="hours must be"):
        replace(SPEC, hours=(20, 8))


def test_films_of_another_hospital_are_not_used(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(PermanentFailureError, match="differs in more than its days and changes"):
        generate(replace(SPEC, seed=13), tmp_path / "new", workers=1, like=plain)
    with pytest.raises(PermanentFailureError, match="holds no simulated hospital"):
        generate(SPEC, tmp_path / "other", workers=1, like=tmp_path)


def test_the_command_lists_scenarios_and_refuses_what_they_decide(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fall_assets.simulation"]
    listed = subprocess.run(
        [*command, "--scenarios"], capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(SCENARIOS)
    refused = subprocess.run(
        [*command, "--scenario", "knock", "--days", "3", "--landing", str(tmp_path / "new")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "decides on days itself" in refused.stderr
