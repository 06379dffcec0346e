"""The day's judgement: change is found and named, the ordinary is left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from fall_assets.drift.plots import histograms
from fall_assets.drift.reference import cut_reference
from fall_assets.drift.report import DriftJudgement, DriftSettings, judge
from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import table
from fall_assets_tests.drift.footage import FIRST_DAY, Hospital, Look

TODAY = 5


@pytest.fixture(scope="module")
def reference() -> pl.DataFrame:
    return cut_reference(Hospital().days(range(5)), "3")


def changed(**cameras: Look) -> Hospital:
    ordinary = Hospital()
    looks = {name.replace("_", "-"): look for name, look in cameras.items()}
    return replace(ordinary, cameras={**ordinary.cameras, **looks})


def judged(
    reference: pl.DataFrame, hospital: Hospital, day: int = TODAY, **settings: int
) -> DriftJudgement:
    return judge(
        reference,
        hospital.day(day),
        FIRST_DAY + timedelta(days=day),
        "3",
        replace(DriftSettings(), **settings),
    )


def drifted(judgement: DriftJudgement) -> set[tuple[str, str]]:
    rows = judgement.signals.filter("drifted")
    return set(zip(rows["camera_id"], rows["signal"], strict=True))


def test_the_tables_have_the_registry_s_columns(reference: pl.DataFrame) -> None:
    assert dict(reference.schema) == table("drift_reference").schema
    judgement = judged(reference, Hospital())
    assert dict(judgement.signals.schema) == table("drift_signals").schema
    assert dict(judgement.report.schema) == table("drift_report").schema
    assert len(judgement.report) == 1
    assert judgement.signals.select(table("drift_signals").key).is_unique().all()


def test_a_new_resolution_in_the_dark_is_named_for_both_cameras(reference: pl.DataFrame) -> None:
    replaced = Look(width=1280, height=720, brightness=0.25)
    judgement = judged(reference, changed(cam_03=replaced, cam_04=replaced))
    assert judgement.drifted
    assert judgement.verdict.startswith(
        "cameras cam-03 and cam-04: resolution changed from 640x360 to 1280x720; brightness fell "
        "from 0.42 to 0.25 (p "
    )
    assert json.loads(judgement.report["cameras"][0]) == ["cam-03", "cam-04"]
    assert drifted(judgement) == {
        (camera, signal)
        for camera in ("cam-03", "cam-04")
        for signal in ("resolution", "brightness")
    }


def test_what_came_with_a_new_camera_is_told_even_on_little_footage() -> None:
    few = replace(Hospital(), segments=4)
    replaced = Look(width=1280, height=720, brightness=0.25)
    looks = {**few.cameras, "cam-03": replaced, "cam-04": replaced}
    judgement = judged(cut_reference(few.days(range(2)), "3"), replace(few, cameras=looks))
    assert judgement.verdict.startswith(
        "cameras cam-03 and cam-04: resolution changed from 640x360 to 1280x720; brightness fell "
    )
    assert json.loads(judgement.report["cameras"][0]) == ["cam-03", "cam-04"]


@pytest.mark.parametrize(
    ("look", "signal", "words"),
    [
        (Look(fps=5), "fps", "frames per second changed from 10 to 5"),
        (Look(brightness=0.2), "brightness", "brightness fell from 0.42 to 0.2"),
        (Look(noise=0.02), "noise", "noise rose from 0.01 to 0.02"),
        (Look(sharpness=0.015), "sharpness", "sharpness fell from 0.03 to 0.015"),
    ],
)
def test_each_cause_is_found_and_named(
    reference: pl.DataFrame, look: Look, signal: str, words: str
) -> None:
    judgement = judged(reference, changed(cam_02=look))
    assert drifted(judgement) == {("cam-02", signal)}
    assert judgement.verdict.startswith("camera cam-02: ")
    assert words[: words.rindex(" ")] in judgement.verdict


def test_smaller_people_are_found_by_their_pose() -> None:
    ordinary = Hospital(cameras={"cam-01": Look(), "cam-02": Look()}, segments=80, windows=8)
    ward = replace(ordinary, cameras={**ordinary.cameras, "cam-01": Look(person_height=0.25)})
    judgement = judged(cut_reference(ordinary.days(range(3)), "3"), ward)
    assert drifted(judgement) == {("cam-01", "pose")}
    assert "pose changed, most of all people's height in the picture fell from" in judgement.verdict


def test_what_only_one_camera_of_a_group_shows_is_said_of_it_alone(reference: pl.DataFrame) -> None:
    both, loud = Look(width=1280, height=720), Look(width=1280, height=720, noise=0.02)
    judgement = judged(reference, changed(cam_03=both, cam_04=loud))
    assert judgement.verdict.startswith(
        "cameras cam-03 and cam-04: resolution changed from 640x360 to 1280x720; "
        "on cam-04 also noise rose from 0.01 to 0.02 (p"
    )


def test_a_camera_that_was_never_seen_is_new(reference: pl.DataFrame) -> None:
    judgement = judged(reference, changed(cam_09=Look()))
    assert drifted(judgement) == {("cam-09", "camera")}
    assert judgement.verdict == "camera cam-09: not in the reference of model 3."


def test_stable_footage_is_not_drift(reference: pl.DataFrame) -> None:
    days = [judged(reference, Hospital(), day) for day in range(5, 25)]
    assert sum(judgement.drifted for judgement in days) <= 1
    assert days[0].verdict.startswith("No drift: 5 cameras with ")


def test_the_days_that_made_the_reference_are_not_drift(reference: pl.DataFrame) -> None:
    assert not any(judged(reference, Hospital(), day).drifted for day in range(5))


def test_a_significant_but_small_change_is_not_drift() -> None:
    ordinary = Hospital(cameras={"cam-01": Look()}, segments=100)
    slightly = replace(ordinary, cameras={"cam-01": Look(brightness=0.435)})
    judgement = judged(cut_reference(ordinary.days(range(2)), "3"), slightly)
    row = judgement.signals.filter(signal="brightness")
    assert row["p_value"][0] < 0.001
    assert not judgement.drifted


def test_too_few_windows_are_said_not_judged(reference: pl.DataFrame) -> None:
    short = replace(Hospital(), segments=1)
    judgement = judged(reference, short)
    assert set(judgement.signals["signal"]) == {"resolution", "fps"}
    assert "too few windows for statistics on cameras cam-01, " in judgement.verdict


def test_a_day_without_footage_is_no_drift(reference: pl.DataFrame) -> None:
    judgement = judge(reference, table("features").empty(), FIRST_DAY, "3")
    assert not judgement.drifted
    assert judgement.report["windows"][0] == 0
    assert judgement.signals.is_empty()
    assert judgement.report["drift_id"][0] is None


def test_the_same_drift_has_one_id_and_another_drift_another(reference: pl.DataFrame) -> None:
    sharper = Look(width=1280, height=720, brightness=0.25)
    ids = {
        judged(reference, changed(cam_03=sharper), day).report["drift_id"][0] for day in (5, 6, 7)
    }
    assert len(ids) == 1
    other_camera = judged(reference, changed(cam_04=sharper)).report["drift_id"][0]
    other_cause = judged(reference, changed(cam_03=Look(fps=5))).report["drift_id"][0]
    # What follows from the exchange of the camera is not another drift.
    only_size = judged(reference, changed(cam_03=Look(width=1280, height=720)))
    assert only_size.report["drift_id"][0] in ids
    assert len({*ids, other_camera, other_cause}) == 3


def test_the_judgement_is_repeatable_whatever_the_order_of_rows(reference: pl.DataFrame) -> None:
    hospital = changed(cam_03=Look(brightness=0.3))
    day = FIRST_DAY + timedelta(days=TODAY)
    first = judge(reference, hospital.day(TODAY), day, "3")
    shuffled = hospital.day(TODAY).sample(fraction=1, shuffle=True, seed=2)
    second = judge(reference.reverse(), shuffled, day, "3")
    assert first.signals.equals(second.signals)
    assert first.report.equals(second.report)


def test_only_the_day_and_the_model_asked_for_count(reference: pl.DataFrame) -> None:
    other_model = cut_reference(changed(cam_01=Look(width=320, height=240)).days(range(2)), "2")
    both_days = pl.concat([Hospital().day(TODAY), changed(cam_01=Look(fps=2)).day(TODAY + 1)])
    day = FIRST_DAY + timedelta(days=TODAY)
    assert not judge(pl.concat([reference, other_model]), both_days, day, "3").drifted


def test_missing_ground_to_compare_says_what_to_do(reference: pl.DataFrame) -> None:
    day = FIRST_DAY + timedelta(days=TODAY)
    with pytest.raises(PermanentFailureError, match="no drift reference: materialize"):
        judge(reference, Hospital().day(TODAY), day, "4")
    other_set = Hospital().day(TODAY).with_columns(feature_set=pl.lit("pose-other"))
    with pytest.raises(PermanentFailureError, match="pose-other"):
        judge(reference, other_set, day, "3")


def test_a_reference_is_bounded_and_repeatable() -> None:
    features = Hospital(segments=30).days(range(3))
    first = cut_reference(features, "3", per_camera=50, seed=1)
    assert first.group_by("camera_id").len()["len"].to_list() == [50] * 5
    assert first.equals(cut_reference(features.reverse(), "3", per_camera=50, seed=1))
    assert not first.equals(cut_reference(features, "3", per_camera=50, seed=2))
    assert first.select(table("drift_reference").key).is_unique().all()


def test_a_reference_needs_features_of_one_set() -> None:
    with pytest.raises(PermanentFailureError, match="no features"):
        cut_reference(table("features").empty(), "3")
    mixed = pl.concat([Hospital().day(0), Hospital().day(1).with_columns(feature_set=pl.lit("b"))])
    with pytest.raises(PermanentFailureError, match="2 feature sets"):
        cut_reference(mixed, "3")


@pytest.mark.parametrize(
    "hospital",
    [
        Hospital(),
        changed(cam_03=Look(width=1280, height=720, brightness=0.25), cam_09=Look()),
        replace(Hospital(), segments=1),
    ],
    ids=["no drift", "drift", "few windows"],
)
def test_every_report_has_a_picture(reference: pl.DataFrame, hospital: Hospital) -> None:
    judgement = judged(reference, hospital)
    picture = histograms(reference, hospital.day(TODAY), judgement)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 100_000
    assert picture == histograms(reference, hospital.day(TODAY), judgement)
