"""A feature set's version names its settings, all of them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import fields, replace
from typing import Any

import pytest

from fall_assets.errors import PermanentFailureError
from fall_assets.features.crop import Crop
from fall_assets.features.settings import (
    KINDS,
    EmbeddingSettings,
    FeatureSettings,
    MotionSettings,
    PictureSettings,
    PoseSettings,
    TrackerSettings,
)

OTHER: dict[str, Any] = {
    "extractor": PoseSettings(tracker=TrackerSettings(max_gap_s=2.0)),
    "picture": PictureSettings(long_side=192),
    "sample_hz": 5.0,
    "max_wait_s": 0.1,
    "window_s": 3.0,
    "stride_s": 0.5,
    "min_window_s": 2.0,
    "quality_every": 2,
    "quality_side": 128,
    "motion_long_side": 80,
    "motion_threshold": 0.1,
    "gate": None,
}
EMBEDDING = FeatureSettings(extractor=EmbeddingSettings())
MOTION = FeatureSettings(extractor=MotionSettings())


def changed(value: Any) -> Any:
    """Another value that every one of our settings takes."""
    if isinstance(value, bool):
        return not value
    return value / 2 if isinstance(value, float) and value else value + 1


@pytest.mark.parametrize("name", [field.name for field in fields(FeatureSettings)])
def test_every_setting_changes_the_version(name: str) -> None:
    ours = FeatureSettings()
    other = replace(ours, **{name: OTHER[name]})
    assert other.version != ours.version
    assert other.version.startswith("pose-")
    assert len(other.version) == len("pose-") + 10


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("long_side", 128),
        ("colour", False),
        ("brightness", 0.1),
        ("contrast", 1.2),
        ("sharpness", 0.5),
        ("crop", Crop(0, 0, 0.5, 1)),
    ],
)
@pytest.mark.parametrize("ours", [FeatureSettings(), EMBEDDING, MOTION])
def test_every_setting_of_the_picture_changes_the_version(
    ours: FeatureSettings, name: str, value: Any
) -> None:
    other = replace(ours, picture=replace(ours.picture, **{name: value}))
    assert other.version != ours.version
    assert FeatureSettings.from_dict(json.loads(json.dumps(other.as_dict()))) == other


def test_all_settings_of_the_picture_are_tried() -> None:
    tried = {"long_side", "colour", "brightness", "contrast", "sharpness", "crop"}
    assert {field.name for field in fields(PictureSettings)} == tried


@pytest.mark.parametrize(
    "other",
    [
        EmbeddingSettings(backbone="resnet18"),
        EmbeddingSettings(weights="ab" * 32),
        EmbeddingSettings(weights="cd" * 32),
        EmbeddingSettings(weights="random"),
        EmbeddingSettings(weights="random", seed=7),
        MotionSettings(),
        MotionSettings(columns=8),
        MotionSettings(rows=8),
        MotionSettings(threshold=0.1),
        PoseSettings(network="0" * 64),
    ],
)
def test_every_extractor_has_its_own_version_and_survives_json(other: Any) -> None:
    sets = [FeatureSettings(extractor=extractor) for extractor in (PoseSettings(), other)]
    assert len({one.version for one in (*sets, EMBEDDING)}) == 3
    assert sets[1].version.startswith(f"{other.kind}-")
    again = FeatureSettings.from_dict(json.loads(json.dumps(sets[1].as_dict())))
    assert again == sets[1]
    assert again.version == sets[1].version


@pytest.mark.parametrize("field", [field.name for field in fields(TrackerSettings)])
def test_every_setting_of_the_tracker_changes_the_version(field: str) -> None:
    tracker = TrackerSettings()
    other = replace(tracker, **{field: changed(getattr(tracker, field))})
    assert (
        FeatureSettings(extractor=PoseSettings(tracker=other)).version != FeatureSettings().version
    )


def test_equal_settings_have_one_version() -> None:
    same = FeatureSettings(extractor=PoseSettings(tracker=TrackerSettings()), sample_hz=10)
    assert same == FeatureSettings()
    assert same.version == FeatureSettings().version


def test_the_default_is_the_pose_of_the_detector() -> None:
    ours = FeatureSettings()
    assert ours.pose == PoseSettings()
    assert ours.picture == PictureSettings(256)
    assert set(KINDS) == {"pose", "embedding", "motion"}


def test_another_network_is_another_feature_set() -> None:
    other = FeatureSettings().with_network("0" * 64)
    assert other.pose.network == "0" * 64
    assert other.pose.tracker == FeatureSettings().pose.tracker
    with pytest.raises(PermanentFailureError, match="has no people"):
        MOTION.with_network("0" * 64)


def test_settings_survive_json() -> None:
    settings = FeatureSettings(
        extractor=PoseSettings(tracker=TrackerSettings(keep_score=0.1)),
        picture=PictureSettings(128, colour=False, crop=Crop(0.1, 0.2, 0.7, 0.9)),
        sample_hz=8.0,
        gate=None,
    )
    again = FeatureSettings.from_dict(json.loads(json.dumps(settings.as_dict())))
    assert again == settings
    assert again.version == settings.version


@pytest.mark.parametrize(
    "content",
    [
        {"sample_hertz": 10.0},
        {"extractor": {"kind": "pose", "tracker": {"patience": 3}}},
        {"extractor": {"kind": "magic"}},
        {"extractor": {}},
        {"extractor": {"kind": "motion", "network": "0" * 64}},
        {"extractor": "pose"},
        {"picture": {"hue": 1.0}},
        {"picture": 3},
        {"gate": {"mood": 1.0}},
        # The settings of revision 1.
        {"pose_long_side": 256, "tracker": {}},
    ],
)
def test_settings_of_another_version_are_refused(content: dict[str, Any]) -> None:
    with pytest.raises(PermanentFailureError, match="no feature settings of this version"):
        FeatureSettings.from_dict(content)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sample_hz": 0.0},
        {"sample_hz": "10"},
        {"window_s": float("nan")},
        {"stride_s": -1.0},
        {"max_wait_s": -0.1},
        {"picture": PictureSettings(250)},
        {"picture": PictureSettings(32), "extractor": EmbeddingSettings()},
        {"extractor": "pose"},
        {"picture": {"long_side": 256}},
        {"quality_every": 0},
        {"quality_every": 2.5},
        {"motion_threshold": 6.0},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PermanentFailureError):
        FeatureSettings(**wrong)


@pytest.mark.parametrize("wrong", [{"keep_score": 0.5}, {"min_seen": 0}, {"reach": 0.0}])
def test_impossible_tracker_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PermanentFailureError):
        TrackerSettings(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"long_side": 8}, "at least 16"),
        ({"colour": 1}, "colour of the picture settings must be of type bool"),
        ({"brightness": 1.5}, "-1 <= brightness <= 1"),
        ({"contrast": 0.0}, "0 < contrast <= 10"),
        ({"contrast": float("inf")}, "contrast"),
        ({"sharpness": -2.0}, "-1 to 8"),
    ],
)
def test_impossible_pictures_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(PermanentFailureError, match=said):
        PictureSettings(**wrong)


def test_an_impossible_crop_of_a_feature_set_does_not_blame_the_cameras() -> None:
    with pytest.raises(PermanentFailureError, match="picture settings") as caught:
        FeatureSettings.from_dict({"picture": {"crop": {"x0": 0.5, "x1": 0.2}}})
    assert "cameras.csv" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"weights": ""}, "not ''"),
        ({"weights": "Random"}, "not 'Random'"),
        ({"weights": "abc123"}, "SHA-256"),
        ({"weights": "IMAGENET1K_V2"}, "not 'IMAGENET1K_V2'"),
        ({"seed": 3}, "only random weights have a seed"),
        ({"weights": "random", "seed": -1}, "seed must be"),
        ({"backbone": "../resnet"}, "is no backbone"),
    ],
)
def test_impossible_embeddings_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(PermanentFailureError, match=said):
        EmbeddingSettings(**wrong)


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"columns": 100}, {"threshold": 0.0}])
def test_impossible_motion_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PermanentFailureError, match="motion settings need"):
        MotionSettings(**wrong)


@pytest.mark.parametrize("settings", [FeatureSettings(), EMBEDDING, MOTION])
def test_settings_cannot_be_changed(settings: FeatureSettings) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.sample_hz = 3.0  # type: ignore[misc]
