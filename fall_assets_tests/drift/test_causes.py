"""What signals together are called: one name for what explains the others."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.drift.causes import Evidence, Turn, causes_of, group_of
from fall_assets.drift.days import POSE_FIGURES, QUALITY_FIGURES
from fall_assets.lake.registry import DRIFT_CAUSES

Change = tuple[str, float, float, float]


def evidence(*changes: Change, likely: tuple[str, ...] = ()) -> list[Evidence]:
    """(signal, before, after, effect) each; certain, but for those that are only likely."""
    return [
        Evidence(
            name,
            "scene" if name == "scene" else group_of(name),
            before,
            after,
            effect,
            drifted=name not in likely,
            likely=name in likely,
        )
        for name, before, after, effect in changes
    ]


def names(*changes: Change, turn: Turn | None = None, likely: tuple[str, ...] = ()) -> list[str]:
    return [cause.name for cause in causes_of(evidence(*changes, likely=likely), turn)]


SCENE = ("scene", 0.05, 0.6, 2.4)
TURNED = Turn(10.0, 0.02, 0.01, explained=True)
UNEXPLAINED = Turn(2.0, 0.1, 0.1, explained=False)
DARKER = ("brightness", 0.5, 0.3, 2.5)
SOFTER = ("sharpness", 0.04, 0.02, 2.0)
SMALLER = ("person_height", 0.4, 0.25, 2.1)


def test_nothing_that_drifted_has_no_name() -> None:
    assert names() == []
    assert names(DARKER, SMALLER, likely=("brightness", "person_height")) == []


@pytest.mark.parametrize(
    ("changes", "turn", "expected"),
    [
        ([SCENE, DARKER, ("lying_x", 0.3, 0.6, 2.0)], TURNED, ["view_moved"]),
        ([SCENE, ("lying_x", 0.3, 0.6, 2.0), DARKER], UNEXPLAINED, ["room_changed"]),
        ([SCENE], None, ["room_changed"]),
        ([("colour", 0.08, 0.02, 2.0), DARKER, SMALLER], None, ["night_mode"]),
        ([SOFTER, ("contrast", 0.2, 0.12, 2.0), SMALLER], None, ["lens_blurred"]),
        ([DARKER, ("warmth", 0.0, 0.1, 2.5), SOFTER], None, ["exposure"]),
        ([DARKER, SMALLER], None, ["exposure", "smaller_people"]),
        ([("noise", 0.01, 0.03, 2.0)], None, ["picture"]),
        ([SMALLER, ("person_speed", 0.5, 1.2, 1.5)], None, ["smaller_people"]),
        ([("rolling", 0.0, 0.4, 3.0), ("sitting", 0.2, 0.8, 2.0), SMALLER], None, ["wheelchairs"]),
        ([("sitting", 0.2, 0.8, 2.0), ("person_aspect", 2.6, 1.5, 2.0)], None, ["wheelchairs"]),
        ([("upright", 0.9, 0.4, 2.0), ("person_aspect", 2.7, 2.0, 1.4)], None, ["wheelchairs"]),
        ([("upright", 0.9, 0.4, 2.0), ("stature", 1.0, 0.6, 2.7)], None, ["smaller_people"]),
        ([("upright", 0.9, 0.4, 2.0)], None, ["pose"]),
        ([("upright", 0.9, 0.4, 2.0), ("person_speed", 0.2, 0.1, 0.7)], None, ["pose"]),
        ([("upright", 0.9, 0.4, 2.0), ("person_speed", 0.2, 0.19, 0.1)], None, ["wheelchairs"]),
        ([("lying", 0.1, 0.6, 1.6)], None, ["pose"]),
        ([("score", 0.1, 0.4, 3.0)], None, ["scores"]),
    ],
)
def test_what_explains_the_others_names_them(
    changes: list[Change], turn: Turn | None, expected: list[str]
) -> None:
    assert names(*changes, turn=turn) == expected


def test_an_exchanged_camera_explains_its_picture_and_people() -> None:
    exact = Evidence("resolution", "exact", math.nan, math.nan, None, drifted=True)
    assert [cause.name for cause in causes_of([exact, *evidence(DARKER, SMALLER)])] == [
        "resolution"
    ]


@pytest.mark.parametrize("fact", ["firmware", "camera_model"])
def test_another_firmware_or_model_explains_nothing_that_is_seen(fact: str) -> None:
    exact = Evidence(fact, "exact", math.nan, math.nan, None, drifted=True)
    found = causes_of([exact, *evidence(DARKER)])
    assert [(cause.name, cause.exact) for cause in found] == [
        (fact, True),
        ("exposure", False),
    ]


def test_an_unknown_camera_has_one_cause() -> None:
    new = Evidence("camera", "new_camera", math.nan, math.nan, None, drifted=True)
    assert [cause.name for cause in causes_of([new, *evidence(SMALLER)])] == ["new_camera"]


@given(
    st.lists(
        st.builds(
            lambda name, before, after, effect, drifted: Evidence(
                name,
                "scene" if name == "scene" else group_of(name),
                before,
                after,
                effect,
                drifted,
                not drifted,
            ),
            st.sampled_from([*QUALITY_FIGURES, *POSE_FIGURES, "scene", "score"]),
            st.floats(0, 1),
            st.floats(0, 1),
            st.floats(0, 10),
            st.booleans(),
        ),
        max_size=8,
    ),
    st.one_of(
        st.none(),
        st.builds(Turn, st.floats(-20, 20), st.floats(0, 1), st.floats(0, 1), st.booleans()),
    ),
)
def test_whatever_drifted_has_a_known_name(found: list[Evidence], turn: Turn | None) -> None:
    causes = causes_of(found, turn)
    assert bool(causes) == any(one.drifted for one in found)
    assert {cause.name for cause in causes} <= set(DRIFT_CAUSES)
    assert len({cause.name for cause in causes}) == len(causes)
    assert all(cause.signals for cause in causes)
