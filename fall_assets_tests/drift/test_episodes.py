"""A drift is one episode with one id, however it flickers, spreads or is reported late."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.drift.episodes import Episode, Note, ReportedDay, Sighting, episodes

FIRST = date(2026, 3, 1)


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def reported(
    numbers: Iterable[int], version: str = "1", cameras: Sequence[str] | None = None
) -> list[ReportedDay]:
    judged = None if cameras is None else frozenset(cameras)
    return [ReportedDay(day(number), version, judged) for number in numbers]


def seen(
    camera: str,
    numbers: Iterable[int],
    *,
    since: int | None = None,
    confirmed: bool = True,
    version: str = "1",
    cause: str = "exposure",
) -> list[Sighting]:
    numbers = list(numbers)
    first = numbers[0] if since is None else since
    return [
        Sighting(day(number), version, camera, cause, day(first), confirmed, "it is darker")
        for number in numbers
    ]


def note(one: Episode, learned: int | None = None) -> Note:
    learned_day = None if learned is None else day(learned)
    return Note(
        one.id,
        one.cause,
        frozenset(one.cameras),
        one.since,
        one.until,
        one.model_version,
        learned_day,
    )


def only(found: list[Episode]) -> Episode:
    assert len(found) == 1
    return found[0]


def test_a_confirmed_cause_opens_one_that_knows_where_and_since_when() -> None:
    one = only(episodes(reported(range(6)), seen("b", range(3, 6), since=2)))
    assert (one.cause, one.cameras, one.since, one.until) == ("exposure", ("b",), day(2), None)
    assert one.standing
    assert one.days_by == {"1": 3}
    assert one.words == "it is darker"
    assert episodes(reported(range(6)), seen("b", range(3, 6), confirmed=False)) == []


def test_the_id_stays_while_days_and_cameras_come_in() -> None:
    sightings = seen("b", range(2, 12)) + seen("a", range(4, 12)) + seen("c", range(9, 12))
    ids = set()
    for last in range(3, 12):
        found = episodes(reported(range(last)), [one for one in sightings if one.day < day(last)])
        ids.add(only(found).id)
    assert len(ids) == 1
    # Each camera begins within five days of the one before: a ward that is refitted.
    assert only(episodes(reported(range(12)), sightings)).cameras == ("a", "b", "c")


def test_another_cause_another_time_and_another_ward_are_others() -> None:
    sightings = seen("a", range(20)) + seen("b", range(20), cause="codec")
    sightings += seen("c", range(12, 20))
    found = episodes(reported(range(20)), sightings)
    assert [(one.cause, one.cameras) for one in found] == [
        ("codec", ("b",)),
        ("exposure", ("a",)),
        ("exposure", ("c",)),
    ]
    assert len({one.id for one in found}) == 3


def test_a_flicker_is_one_and_only_clean_days_in_a_row_end_it() -> None:
    flicker = seen("a", (2, 3, 5, 7))
    one = only(episodes(reported(range(8)), flicker))
    assert one.open
    assert one.standing
    quiet = only(episodes(reported(range(9)), flicker))
    assert quiet.open
    assert not quiet.standing
    assert only(episodes(reported(range(10)), flicker)).until == day(7)
    # What is not confirmed does not open one, and keeps one open.
    kept = flicker + seen("a", (9,), confirmed=False)
    assert only(episodes(reported(range(10)), kept)).open


def test_days_on_which_the_camera_was_off_are_not_clean() -> None:
    days = reported(range(4)) + reported(range(4, 8), cameras=["other"])
    assert only(episodes(days, seen("a", (2, 3)))).open
    judged = reported(range(4)) + reported(range(4, 8), cameras=["a"])
    assert not only(episodes(judged, seen("a", (2, 3)))).open


def test_one_that_was_over_comes_back_as_another() -> None:
    before = only(episodes(reported(range(8)), seen("a", (2, 3))))
    assert before.until == day(3)
    # The report may say that it began long ago; clean days lie in between.
    again = seen("a", (10, 11), since=2)
    found = episodes(reported(range(12)), seen("a", (2, 3)) + again, [note(before)])
    assert [(one.since, one.open) for one in found] == [(day(2), False), (day(10), True)]
    assert found[0].id == before.id != found[1].id


def test_late_reports_of_old_days_do_not_change_the_id() -> None:
    before = only(episodes(reported(range(4, 8)), seen("b", range(5, 8))))
    for late in (
        seen("b", range(2, 8)),
        seen("a", range(3, 8)) + seen("b", range(5, 8)),
        seen("b", range(6, 8)),
    ):
        after = only(episodes(reported(range(8)), late, [note(before)]))
        assert after.id == before.id
        assert after.since == before.since
    # A late report that takes it all back ends it.
    gone = only(episodes(reported(range(8)), [], [note(before)]))
    assert (gone.id, gone.open) == (before.id, False)


def test_days_that_are_not_read_any_more_do_not_change_it() -> None:
    before = only(episodes(reported(range(8)), seen("a", range(2, 8))))
    later = only(episodes(reported(range(60, 80)), seen("a", range(60, 80), since=2)))
    assert later.since == before.since
    kept = only(
        episodes(reported(range(60, 80)), seen("a", range(60, 80), since=60), [note(before)])
    )
    assert (kept.id, kept.since) == (before.id, before.since)


def test_what_comes_after_learning_is_another() -> None:
    before = only(episodes(reported(range(5)), seen("a", range(2, 5))))
    sightings = seen("a", range(2, 8)) + seen("b", range(6, 8))
    joined = only(episodes(reported(range(8)), sightings, [note(before)]))
    assert joined.cameras == ("a", "b")
    found = episodes(reported(range(8)), sightings, [note(before, learned=4)])
    assert [one.cameras for one in found] == [("a",), ("b",)]


def test_a_new_champion_under_whom_it_is_gone_ends_it() -> None:
    days = reported(range(6)) + reported(range(6, 9), version="2")
    sightings = seen("a", range(2, 6))
    assert only(episodes(days, sightings)).until == day(5)
    stays = only(episodes(days, sightings + seen("a", range(6, 9), version="2", since=2)))
    assert stays.open
    assert stays.days_by == {"1": 4, "2": 3}
    assert stays.model_version == "1"


def test_rows_of_a_version_that_the_day_was_not_reported_of_are_passed_over() -> None:
    assert episodes(reported(range(4), version="2"), seen("a", range(4), version="1")) == []


def test_cameras_that_are_gone_end_it() -> None:
    before = only(episodes(reported(range(4)), seen("a", range(2, 4))))
    days = reported(range(10, 40), cameras=["other"])
    assert not only(episodes(days, [], [note(before)])).open
    # A few silent days do not.
    assert only(episodes(reported(range(4, 6), cameras=["other"]), [], [note(before)])).open


@pytest.mark.parametrize("clear", [1, 2, 3])
@given(
    story=st.lists(st.lists(st.sampled_from(["", "?", "!"]), min_size=2, max_size=2), max_size=30)
)
def test_any_story_keeps_its_ids(clear: int, story: list[list[str]]) -> None:
    """Day by day with notes: ids never change, and none is open without a sighting."""
    notes: dict[str, Note] = {}
    sightings: list[Sighting] = []
    for number, cameras in enumerate(story):
        for camera, mark in zip("ab", cameras, strict=True):
            if mark:
                sightings += seen(camera, (number,), confirmed=mark == "!")
        found = episodes(reported(range(number + 1)), sightings, notes.values(), clear_days=clear)
        ids = [one.id for one in found]
        assert len(ids) == len(set(ids))
        assert set(notes) <= set(ids)
        for one in found:
            earlier = notes.get(one.id)
            if earlier is not None:
                assert one.since == earlier.since
                assert set(one.cameras) >= earlier.cameras
                assert earlier.until is None or one.until is not None
            lately = [
                mark
                for row in story[max(0, number - clear + 1) : number + 1]
                for camera, mark in zip("ab", row, strict=True)
                if camera in one.cameras and mark
            ]
            assert not one.open or lately
            if one.standing:
                assert "!" in story[number]
            notes[one.id] = note(one)
        # A confirmed sighting is always part of one that is open.
        for camera, mark in zip("ab", cameras, strict=True):
            if mark == "!":
                assert sum(one.open and camera in one.cameras for one in found) == 1
