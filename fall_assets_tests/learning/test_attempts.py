"""What an attempt is, its identity, and the attempts that a grid makes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fall_assets.features.settings import (
    EmbeddingSettings,
    FeatureSettings,
    MotionSettings,
    PictureSettings,
)
from fall_assets.learning.algorithms import registry
from fall_assets.learning.algorithms.registry import AlgorithmError, settings_of
from fall_assets.learning.attempts import (
    AttemptSettings,
    GridError,
    GridSettings,
    differences,
    environment,
    merge,
    ready_grid,
    windows_at,
)
from fall_assets.learning.events import EventSettings
from fall_assets.learning.windows import WindowSettings

POSE = FeatureSettings()
MOTION = FeatureSettings(extractor=MotionSettings())


def attempt(**changes: Any) -> AttemptSettings:
    return replace(AttemptSettings("pose-tcn", settings_of("pose-tcn"), (POSE,)), **changes)


def test_values_make_the_same_attempt_again() -> None:
    made = attempt(
        training=settings_of("pose-tcn", {"steps": 9, "network": {"dilations": [1, 2]}}),
        features=(FeatureSettings(picture=PictureSettings(colour=False), sample_hz=5.0),),
        windows=windows_at(5.0),
        events=EventSettings(merge_gap_s=4.0),
        max_false_alarms_per_hour=2.0,
        simulated_windows=7,
        missed_fall_cost=2.0,
    )
    again = AttemptSettings.from_values(json.loads(json.dumps(made.as_values())))
    assert again == made
    assert again.identity("a") == made.identity("a")


CHANGES = [
    {"training": settings_of("pose-tcn", {"seed": 1})},
    {"training": settings_of("pose-tcn", {"network": {"width": 8}})},
    {"features": (FeatureSettings(picture=PictureSettings(sharpness=1.0)),)},
    {"windows": WindowSettings(stride_s=0.25)},
    {"events": EventSettings(confirm=3)},
    {"max_false_alarms_per_hour": 1.0},
    {"missed_fall_cost": 4.0},
    {"simulated_windows": 1},
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_setting_is_part_of_the_identity(change: dict[str, Any]) -> None:
    assert attempt(**change).identity("a") != attempt().identity("a")


def test_the_training_set_is_part_of_the_identity() -> None:
    assert attempt().identity("a") != attempt().identity("b")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "needs an algorithm"),
        ({"algorithm": "pose-tcn", "colour": True}, "no setting colour"),
        ({"algorithm": "pose-tcn", "windows": {"length": 4}}, "windows has no setting length"),
        ({"algorithm": "pose-tcn", "events": {"threshold": 3}}, "wanted a share"),
    ],
)
def test_what_is_no_attempt_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(GridError, match=says):
        AttemptSettings.from_values(values)


def test_unknown_training_settings_are_refused() -> None:
    with pytest.raises(AlgorithmError, match="rate"):
        AttemptSettings.from_values({"algorithm": "pose-tcn", "training": {"rate": 1}})


def test_an_attempt_needs_the_sets_that_its_algorithm_looks_at() -> None:
    attempt().check()
    with pytest.raises(GridError, match="looks at pose"):
        attempt(features=(MOTION,)).check()
    with pytest.raises(GridError, match="samples per second"):
        attempt(windows=windows_at(5.0)).check()
    with pytest.raises(GridError, match="one feature set of a kind"):
        attempt(features=(POSE, FeatureSettings(sample_hz=5.0)))
    with pytest.raises(GridError, match="not at both"):
        attempt(features=(MOTION, FeatureSettings(extractor=EmbeddingSettings())))


def test_nested_settings_can_be_changed_one_by_one() -> None:
    changed = attempt().with_training({"steps": 7, "network": {"width": 12}})
    usual = registry.as_values(attempt().training)
    assert registry.as_values(changed.training) == {
        **usual,
        "steps": 7,
        "network": {**usual["network"], "width": 12},
    }


def test_the_title_says_what_is_unusual_and_no_more() -> None:
    assert attempt().title == "pose-tcn, seed 0"
    told = attempt(
        training=settings_of("pose-tcn", {"seed": 3, "network": {"width": 8}}),
        features=(FeatureSettings(picture=PictureSettings(colour=False), sample_hz=5.0),),
        windows=windows_at(5.0),
    ).title
    assert told == "pose-tcn, colour False, sample_hz 5, width 8, seed 3"


def test_windows_at_another_rate_show_the_same_seconds() -> None:
    half = windows_at(5.0)
    assert half.samples * 2 == WindowSettings().samples
    assert (half.rate_hz, half.min_seen, half.max_gap) == (5.0, 3, 4)
    assert windows_at(10.0) == WindowSettings()


def test_a_grid_is_a_product_and_holds_each_attempt_once() -> None:
    block = {
        "algorithms": ["pose-tcn"],
        "pictures": [{}, {"colour": False}],
        "training": [{}, {"steps": 10}],
        "sample_hz": [10, 5.0],
        "seeds": [0, 1],
    }
    grid = GridSettings.from_values({"blocks": [block, {"algorithms": ["pose-tcn"]}]})
    made = grid.attempts(5)
    assert len(made) == 16
    assert len({one.identity("") for one in made}) == 16
    assert {one.training.seed for one in made} == {0, 1}
    assert {one.simulated_windows for one in made} == {5}
    assert {one.windows.rate_hz for one in made} == {5.0, 10.0}
    assert GridSettings.from_values(grid.as_values()).attempts(5) == made


def test_only_pose_takes_simulated_windows_and_sets_follow_from_what_is_needed() -> None:
    grid = GridSettings.from_values(
        {
            "simulated_windows": 9,
            "blocks": [
                {
                    "algorithms": ["motion-boosting", "pose-tcn"],
                    "extractors": {"motion": {"columns": 2, "rows": 2}},
                }
            ],
        }
    )
    boosting, tcn = grid.attempts(5)
    assert (boosting.simulated_windows, tcn.simulated_windows) == (0, 9)
    assert boosting.features == (FeatureSettings(extractor=MotionSettings(columns=2, rows=2)),)
    assert tcn.features == (POSE,)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"blocks": []}, "holds no attempts"),
        ({"block": []}, "no setting block"),
        ({"blocks": [{"algorithms": []}]}, "needs algorithms"),
        ({"blocks": [{"algorithms": ["pose-tcn"], "seeds": 3}]}, "must be a list"),
        ({"blocks": ["pose-tcn"]}, "settings by name"),
    ],
)
def test_what_is_no_grid_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(GridError, match=says):
        GridSettings.from_values(values).attempts()


def test_the_ready_grids_make_attempts() -> None:
    attempts = ready_grid("default").attempts()
    pictures = {one.picture for made in attempts for one in made.features}
    assert {picture.colour for picture in pictures} == {True, False}
    for setting in ("brightness", "contrast", "sharpness", "long_side"):
        assert len({getattr(picture, setting) for picture in pictures}) > 1, setting
    assert len({made.windows.rate_hz for made in attempts}) > 1
    assert {"pose-tcn", "motion-boosting"} <= {made.algorithm for made in attempts}
    assert len(ready_grid("smoke").attempts()) == 2
    with pytest.raises(GridError, match="default, smoke"):
        ready_grid("large")


def test_differences_and_merging_are_opposites() -> None:
    usual = {"a": 1, "b": {"c": 2.0, "d": [1]}}
    changed = merge(usual, {"b": {"c": 3.0}})
    assert changed == {"a": 1, "b": {"c": 3.0, "d": [1]}}
    assert differences(usual, changed) == ["c 3"]
    assert differences(usual, usual) == []


def test_the_environment_names_versions() -> None:
    found = environment()
    assert {"python", "machine", "torch", "numpy", "polars"} <= set(found)
    assert all(isinstance(value, str) and value for value in found.values())
