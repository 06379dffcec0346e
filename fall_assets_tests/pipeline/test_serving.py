"""Each camera has one version whose alerts count, and each version watches what its part says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.edge.assignment import ALL, Assignment
from fall_assets.edge.assignment import Part as BoxPart
from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import table
from fall_assets.learning.algorithms.base import Scores
from fall_assets.learning.events import EventSettings
from fall_assets.learning.tracking import UnknownModelError
from fall_assets.learning.windows import SegmentTracks
from fall_assets.pipeline import serving
from fall_assets.pipeline.operation import predict, raise_alerts, shadow_events
from fall_assets.pipeline.review import label_automatically
from fall_assets.pipeline.serving import Part, parts_of, rows_of, serving_on, watched
from fall_assets.rollout.assignment import Place
from fall_assets.rollout.machine import State
from fall_assets_tests.pipeline.recorded import OLD, OLD_DAY, RUN, Recorded

CAMERAS = ("cam-01", "cam-02", "cam-03", "cam-04")
PLACES: dict[str, Place] = {"cam-01": "challenger", "cam-02": "control", "cam-03": "rest"}
SET = "pose-aaaaaaaaaa"
NEXT_DAY = OLD_DAY + timedelta(days=1)
STATES = tuple(state for state in get_args(State) if state != "held")


def live(version: str, cameras: tuple[str, ...] | None = None) -> Part:
    return Part(version, cameras, shadow=False)


def shadow(version: str, cameras: tuple[str, ...] | None = None) -> Part:
    return Part(version, cameras, shadow=True)


# Parts.

SPLIT = {
    live("1"),
    live("2", ("cam-01",)),
    shadow("1", ("cam-01",)),
    shadow("2", ("cam-02",)),
}


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        ("shadow", {live("1"), shadow("2")}),
        ("step", SPLIT),
        ("comparing", SPLIT),
        (
            "full",
            {live("2"), live("1", ("cam-03",)), shadow("1", ("cam-01",)), shadow("2", ("cam-03",))},
        ),
        ("retired", {live("2")}),
        ("rolled_back", {live("1")}),
        ("aborted", {live("1")}),
        ("reported", {live("1")}),
    ],
)
def test_what_both_versions_do_in_each_state(state: State, wanted: set[Part]) -> None:
    parts = parts_of(state, "1", "2", PLACES)
    assert set(parts) == wanted
    assert len(parts) == len(wanted)


def test_a_held_rollout_is_asked_for_by_the_state_that_it_was_held_from() -> None:
    with pytest.raises(ValueError, match="held from"):
        parts_of("held", "1", "2", PLACES)


def test_on_all_cameras_the_old_version_is_everywhere_in_shadow() -> None:
    everywhere: dict[str, Place] = dict.fromkeys(CAMERAS, "challenger")
    for places in ({}, everywhere):
        assert set(parts_of("full", "1", "2", places)) == {live("2"), shadow("1")}


def test_nobody_watches_no_camera() -> None:
    nowhere: dict[str, Place] = {"cam-01": "rest"}
    assert parts_of("step", "1", "2", nowhere) == (live("1"),)
    assert watched([live("1"), live("2", ("elsewhere",))], ["cam-01"]) == [(live("1"), ("cam-01",))]


@given(
    st.sampled_from(STATES),
    st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(get_args(Place))),
    st.sets(st.sampled_from("abcdefghij"), min_size=1),
)
def test_a_camera_has_one_live_version_and_boxes_read_it_alike(
    state: State, places: dict[str, Place], cameras: set[str]
) -> None:
    parts = parts_of(state, "1", "2", places)
    found = watched(parts, cameras)
    for camera in cameras:
        watching = [(part.model_version, part.shadow) for part, own in found if camera in own]
        assert [hidden for _, hidden in watching].count(False) == 1
        assert len({version for version, _ in watching}) == len(watching), "once each"
        assert len(watching) <= 2
    told = Assignment(1, False, tuple(_for_box(part) for part in parts), "")
    served = told.served(sorted(cameras))
    assert [(part.model_version, part.shadow, own) for part, own in served] == [
        (part.model_version, part.shadow, own) for part, own in found
    ]


def _for_box(part: Part) -> BoxPart:
    cameras = part.cameras or (ALL,)
    return BoxPart("", 0, part.model_version, part.model_version, 1, cameras, part.shadow)


def test_two_live_versions_of_one_camera_are_refused() -> None:
    with pytest.raises(PermanentFailureError, match="one camera"):
        watched([live("1", ("cam-01",)), live("2", ("cam-01",))], CAMERAS)
    with pytest.raises(PermanentFailureError, match="one camera"):
        watched([live("1"), live("2")], CAMERAS)


# A site with two versions that are made up.


@dataclass
class MadeUp:
    """A detector that scores 0.95 in stretches of segments, by their ids, else 0.05."""

    high: dict[str, tuple[float, float]] = field(default_factory=dict)
    feature_set: str = SET
    events: EventSettings = field(default_factory=EventSettings)
    windows: Any = field(default_factory=lambda: SimpleNamespace(window_s=4.0))

    def scores(self, segment: SegmentTracks) -> Scores:
        start, end = self.high.get(segment.video_id, (1.0, 0.0))
        end_s = np.arange(4.0, segment.duration_s + 0.25, 0.5)
        score = np.where((end_s >= start) & (end_s <= end), 0.95, 0.05)
        return Scores(end_s, score, (0,) * len(end_s))


@dataclass
class Hospital:
    """A site, its registry and its rollouts."""

    site: Recorded
    versions: dict[str, MadeUp] = field(default_factory=dict)
    champion: str | None = "1"
    loaded: list[str] = field(default_factory=list)

    def segment(self, camera: str, start: datetime = OLD, feature_set: str = SET) -> str:
        """A minute of footage with features; its video_id."""
        video = self.site.take_in(f"{camera}/{start:%d-%H-%M}.mp4", start)
        figures = {"fps": 25.0, "watched": 1.0, "motion_mean": 0.1, "motion_max": 0.2}
        figures |= dict.fromkeys(("brightness", "contrast", "sharpness", "noise"), 0.5)
        row = {"day": start.date(), "video_id": video, "camera_id": camera, "window": 0}
        row |= {"feature_set": feature_set, "start_s": 0.0, "end_s": 4.0, **figures}
        self.site.add("features", [row | {"width": 320, "height": 180}], start.date())
        return video

    def decide(
        self,
        state: State,
        effective: date,
        *,
        number: int = 0,
        rollout: str = "r1",
        versions: tuple[str, str] = ("1", "2"),
        places: Mapping[str, Place] | None = None,
        hour: int = 0,
    ) -> None:
        """A decision, and the places that hold from it on."""
        row = {
            "rollout_id": rollout,
            "number": number,
            "at_utc": datetime(2026, 3, 1, hour, number, tzinfo=UTC),
            "evidence_day": effective - timedelta(days=1),
            "effective_day": effective,
            "champion": versions[0],
            "challenger": versions[1],
            "action": "next",
            "state": state,
            "step": 0,
            "share": 0.0,
            "by": "automatic",
            "sentence": "",
            "numbers": "{}",
            "settings": "{}",
        }
        self.site.add("rollout", [row])
        rows = [
            {
                "rollout_id": rollout,
                "number": number,
                "camera_id": camera,
                "stratum": "w",
                "place": place,
            }
            for camera, place in (places or {}).items()
        ]
        self.site.lake.append(
            "rollout_cameras", pl.DataFrame(rows, schema=table("rollout_cameras").schema), RUN
        )

    def load_detector(self, version: str) -> MadeUp:
        self.loaded.append(version)
        if version not in self.versions:
            raise UnknownModelError(f"no version {version}")
        return self.versions[version]

    def alerts(self, day: date = OLD_DAY) -> list[tuple[str, str]]:
        """Camera and version of the day's alerts."""
        rows = raise_alerts(self.site.work, day, channels=[]).alerts
        return rows.select("camera_id", "model_version").rows()

    def scored(self) -> dict[str, set[str]]:
        """Of each camera the versions that have rows in `predictions`."""
        rows = self.site.lake.read("predictions")
        return {
            camera: set(own["model_version"])
            for (camera,), own in rows.group_by("camera_id", maintain_order=True)
        }


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    made = Hospital(Recorded(tmp_path / "site"), {"1": MadeUp(), "2": MadeUp()})
    registry = SimpleNamespace(
        champion=lambda: made.champion and SimpleNamespace(version=made.champion),
        load_detector=made.load_detector,
    )
    monkeypatch.setattr(serving, "tracking", lambda _: registry)
    return made


# Who serves on a day.


def test_the_last_decision_that_holds_on_a_day_says_who_serves(hospital: Hospital) -> None:
    # cam-02 was taken down.
    grown: dict[str, Place] = {"cam-01": "challenger", "cam-03": "challenger"}
    everywhere: dict[str, Place] = {"cam-01": "challenger", "cam-03": "rest"}
    history: Sequence[tuple[State, Mapping[str, Place]]] = (
        ("shadow", {}),
        ("step", PLACES),
        ("held", {}),
        ("held", {}),
        ("step", grown),
        ("full", everywhere),
        ("rolled_back", {}),
    )
    days = [OLD_DAY + timedelta(days=number) for number in range(len(history))]
    for number, (state, places) in enumerate(history):
        hospital.decide(state, days[number], number=number, places=places)
    work = hospital.site.work
    assert serving_on(work, OLD_DAY - timedelta(days=1)) == (live("1"),)
    told = [serving_on(work, day) for day in days]
    assert told == [
        parts_of("shadow", "1", "2", {}),
        parts_of("step", "1", "2", PLACES),
        parts_of("step", "1", "2", PLACES),
        parts_of("step", "1", "2", PLACES),
        parts_of("step", "1", "2", grown),
        parts_of("full", "1", "2", everywhere),
        (live("1"),),
    ]
    assert shadow("2", ("cam-02",)) not in told[4]
    assert live("1", ("cam-03",)) in told[5]
    assert serving_on(work, days[-1] + timedelta(days=100)) == (live("1"),)


def test_before_the_oldest_rollout_its_champion_served_whoever_does_today(
    hospital: Hospital,
) -> None:
    later = NEXT_DAY + timedelta(days=1)
    hospital.decide("full", NEXT_DAY, hour=5)
    hospital.decide("retired", later, number=1, hour=5)
    hospital.decide("shadow", later, rollout="r0", versions=("2", "3"), hour=9)
    hospital.champion = "2"
    assert serving_on(hospital.site.work, OLD_DAY) == (live("1"),)
    hospital.champion = None
    assert serving_on(hospital.site.work, OLD_DAY) == (live("1"),)


def test_of_two_rollouts_the_one_that_goes_on_counts_and_then_the_later_one(
    hospital: Hospital,
) -> None:
    later = NEXT_DAY + timedelta(days=1)
    hospital.decide("full", OLD_DAY)
    hospital.decide("shadow", NEXT_DAY, rollout="r0", versions=("2", "3"), hour=5)
    hospital.decide("retired", later, number=1)
    hospital.decide("aborted", later, rollout="r0", versions=("2", "3"), number=1, hour=6)
    hospital.champion = "2"
    work = hospital.site.work
    assert serving_on(work, OLD_DAY) == parts_of("full", "1", "2", {})
    assert serving_on(work, NEXT_DAY) == parts_of("shadow", "2", "3", {})
    assert serving_on(work, later) == (live("2"),)


def test_after_a_rollout_the_champion_serves_whoever_named_it(hospital: Hospital) -> None:
    hospital.decide("step", OLD_DAY, places=PLACES)
    hospital.decide("rolled_back", NEXT_DAY, number=1)
    for champion in ("1", "2", "7"):
        hospital.champion = champion
        assert serving_on(hospital.site.work, NEXT_DAY) == (live(champion),)
        assert serving_on(hospital.site.work, OLD_DAY) == parts_of("step", "1", "2", PLACES)


def test_a_version_that_was_taken_back_from_all_cameras_does_not_serve_a_moment_longer(
    hospital: Hospital,
) -> None:
    hospital.decide("full", OLD_DAY)
    hospital.decide("rolled_back", NEXT_DAY, number=1)
    # The decision stands in the lake before the registry hears of it.
    hospital.champion = "2"
    assert serving_on(hospital.site.work, NEXT_DAY) == (live("1"),)


def test_without_champion_and_rollout_nobody_serves(hospital: Hospital) -> None:
    hospital.champion = None
    with pytest.raises(PermanentFailureError, match="no champion is registered"):
        serving_on(hospital.site.work, OLD_DAY)


# Scores and alerts.


def test_each_camera_is_scored_by_those_that_watch_it_and_alerts_come_from_one(
    hospital: Hospital,
) -> None:
    videos = [hospital.segment(camera) for camera in CAMERAS]
    for detector in hospital.versions.values():
        detector.high = dict.fromkeys(videos, (8.0, 12.0))
    hospital.decide("step", OLD_DAY, places=PLACES)
    predict(hospital.site.work, OLD_DAY)
    assert hospital.scored() == {
        "cam-01": {"1", "2"}, "cam-02": {"1", "2"}, "cam-03": {"1"}, "cam-04": {"1"},
    }  # fmt: skip
    assert sorted(hospital.loaded) == ["1", "2"], "once each"
    assert hospital.alerts() == [
        ("cam-01", "2"), ("cam-02", "1"), ("cam-03", "1"), ("cam-04", "1"),
    ]  # fmt: skip
    events = shadow_events(hospital.site.work, OLD_DAY)
    assert events.columns == ["camera_id", "model_version", "start_utc", "raised_utc", "score"]
    assert events.select("camera_id", "model_version", "raised_utc", "score").rows() == [
        ("cam-01", "1", OLD + timedelta(seconds=8), 0.95),
        ("cam-02", "2", OLD + timedelta(seconds=8), 0.95),
    ]
    # Nothing but the alerts was written, and a day that is computed again keeps its ids.
    first = hospital.site.lake.read("alerts")
    assert set(first["model_version"]) == {"1", "2"}
    hospital.alerts()
    assert hospital.site.lake.read("alerts").equals(first)
    labels = label_automatically(hospital.site.work, OLD_DAY).filter(label="fall")
    assert labels.sort("camera_id").select("camera_id", "model_version").rows() == [
        ("cam-01", "2"), ("cam-02", "1"), ("cam-03", "1"), ("cam-04", "1"),
    ]  # fmt: skip


def test_each_version_raises_by_its_own_rule(hospital: Hospital) -> None:
    videos = [hospital.segment(camera) for camera in CAMERAS]
    for detector in hospital.versions.values():
        detector.high = dict.fromkeys(videos, (8.0, 12.0))
    hospital.versions["2"].events = EventSettings(threshold=0.99)
    hospital.decide("step", OLD_DAY, places=PLACES)
    predict(hospital.site.work, OLD_DAY)
    assert hospital.alerts() == [("cam-02", "1"), ("cam-03", "1"), ("cam-04", "1")]
    assert shadow_events(hospital.site.work, OLD_DAY)["model_version"].to_list() == ["1"]


def test_alerts_keep_their_ids_when_the_version_changes(hospital: Hospital) -> None:
    video = hospital.segment("cam-01")
    for detector in hospital.versions.values():
        detector.high = {video: (8.0, 12.0)}
    work = hospital.site.work
    predict(work, OLD_DAY)
    before = raise_alerts(work, OLD_DAY, channels=[]).alerts
    hospital.versions["2"].high = {video: (9.0, 12.0)}
    hospital.decide("full", OLD_DAY)
    predict(work, OLD_DAY)
    after = raise_alerts(work, OLD_DAY, channels=[]).alerts
    assert (before["model_version"][0], after["model_version"][0]) == ("1", "2")
    assert before["alert_id"].to_list() == after["alert_id"].to_list()


def test_a_shadow_without_features_is_left_out_and_a_live_version_is_not(
    hospital: Hospital,
) -> None:
    hospital.segment("cam-01")
    hospital.versions["2"].feature_set = "pose-bbbbbbbbbb"
    hospital.decide("shadow", OLD_DAY)
    predict(hospital.site.work, OLD_DAY)
    assert hospital.scored() == {"cam-01": {"1"}}
    assert any("pose-bbbbbbbbbb" in line and "shadow" in line for line in hospital.site.lines)
    hospital.decide("step", OLD_DAY, number=1, places=PLACES)
    with pytest.raises(PermanentFailureError, match=r"version 2 needs, which is live on cam-01"):
        predict(hospital.site.work, OLD_DAY)


def test_a_shadow_that_cannot_be_loaded_holds_up_nobody(hospital: Hospital) -> None:
    hospital.segment("cam-01")
    del hospital.versions["2"]
    hospital.decide("shadow", OLD_DAY)
    predict(hospital.site.work, OLD_DAY)
    assert hospital.scored() == {"cam-01": {"1"}}
    assert any("no version 2" in line for line in hospital.site.lines)
    hospital.decide("full", OLD_DAY, number=1)
    with pytest.raises(UnknownModelError):
        predict(hospital.site.work, OLD_DAY)


# A version changes with the day.

LATE = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)


def over_midnight(hospital: Hospital, change: State) -> tuple[str, str]:
    """The segments around a midnight with which a rollout goes from shadow to another state."""
    evening, morning = (hospital.segment("cam-01", start) for start in (LATE, MIDNIGHT))
    hospital.decide("shadow", OLD_DAY)
    hospital.decide(change, NEXT_DAY, number=1, places=PLACES)
    return evening, morning


def of_both_days(hospital: Hospital) -> list[tuple[str, datetime]]:
    for day in (OLD_DAY, NEXT_DAY):
        predict(hospital.site.work, day)
    for day in (OLD_DAY, NEXT_DAY, OLD_DAY, NEXT_DAY):
        raise_alerts(hospital.site.work, day, channels=[])
    rows = hospital.site.lake.read("alerts").sort("raised_utc")
    return rows.select("model_version", "raised_utc").rows()


def test_a_fall_that_shows_on_both_sides_of_a_change_is_told_once(hospital: Hospital) -> None:
    evening, morning = over_midnight(hospital, "step")
    for detector in hospital.versions.values():
        detector.high = {evening: (55.0, 60.0), morning: (0.0, 10.0)}
    assert of_both_days(hospital) == [("1", LATE + timedelta(seconds=55))]


def test_a_fall_that_the_old_version_did_not_tell_is_told_by_the_new_one(
    hospital: Hospital,
) -> None:
    evening, morning = over_midnight(hospital, "step")
    # In shadow it saw the fall before the change, when nobody listened.
    hospital.versions["2"].high = {evening: (55.0, 60.0), morning: (0.0, 10.0)}
    assert of_both_days(hospital) == [("2", MIDNIGHT + timedelta(seconds=4))]


def test_falls_before_and_after_a_change_are_two(hospital: Hospital) -> None:
    evening, morning = over_midnight(hospital, "full")
    for detector in hospital.versions.values():
        detector.high = {evening: (20.0, 25.0), morning: (40.0, 45.0)}
    assert of_both_days(hospital) == [
        ("1", LATE + timedelta(seconds=20)),
        ("2", MIDNIGHT + timedelta(seconds=40)),
    ]


def test_rows_of_nobody_who_watched_count_for_nothing(hospital: Hospital) -> None:
    video = hospital.segment("cam-01")
    hospital.versions["2"].high = {video: (8.0, 12.0)}
    hospital.decide("full", OLD_DAY)
    predict(hospital.site.work, OLD_DAY)
    # The rows stay until the day is scored anew.
    hospital.decide("rolled_back", OLD_DAY, number=1)
    predictions = hospital.site.lake.read("predictions")
    parts = {OLD_DAY: serving_on(hospital.site.work, OLD_DAY)}
    assert set(rows_of(predictions, parts)["model_version"]) == {"1"}
    assert rows_of(predictions, parts, shadow=True).is_empty()
    assert hospital.alerts() == []
    assert shadow_events(hospital.site.work, OLD_DAY).is_empty()
