"""A feature set's version names its settings, all of them."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from fall_assets.errors import PermanentFailureError
from fall_assets.features import FeatureSettings, TrackerSettings

OTHER: dict[str, Any] = {
    "sample_hz": 5.0,
    "max_wait_s": 0.1,
    "window_s": 3.0,
    "stride_s": 0.5,
    "min_window_s": 2.0,
    "quality_every": 2,
    "quality_side": 128,
    "motion_long_side": 80,
    "motion_threshold": 0.1,
    "pose_long_side": 192,
    "pose_sha256": "0" * 64,
    "tracker": TrackerSettings(max_gap_s=2.0),
}


@pytest.mark.parametrize("name", [field.name for field in fields(FeatureSettings)])
def test_every_setting_changes_the_version(name: str) -> None:
    ours = FeatureSettings()
    other = replace(ours, **{name: OTHER[name]})
    assert other.version != ours.version
    assert other.version.startswith("pose-")
    assert len(other.version) == len("pose-") + 10


def test_equal_settings_have_one_version() -> None:
    assert FeatureSettings().version == FeatureSettings(tracker=TrackerSettings()).version


def test_settings_survive_json() -> None:
    settings = FeatureSettings(sample_hz=8.0, tracker=TrackerSettings(keep_score=0.1))
    again = FeatureSettings.from_dict(json.loads(json.dumps(settings.as_dict())))
    assert again == settings
    assert again.version == settings.version


@pytest.mark.parametrize("content", [{"sample_hertz": 10.0}, {"tracker": {"patience": 3}}])
def test_settings_of_another_version_are_refused(content: dict[str, Any]) -> None:
    with pytest.raises(PermanentFailureError, match="no feature settings of this version"):
        FeatureSettings.from_dict(content)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sample_hz": 0.0},
        {"window_s": float("nan")},
        {"stride_s": -1.0},
        {"pose_long_side": 250},
        {"quality_every": 0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PermanentFailureError):
        FeatureSettings(**wrong)


@pytest.mark.parametrize("wrong", [{"keep_score": 0.5}, {"min_seen": 0}, {"reach": 0.0}])
def test_impossible_tracker_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PermanentFailureError):
        TrackerSettings(**wrong)
