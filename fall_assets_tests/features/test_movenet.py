"""The pose network is found, checked, and reads pictures of any shape."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fall_assets.errors import PermanentFailureError
from fall_assets.features.movenet import (
    CACHE_VARIABLE,
    NETWORK_VARIABLE,
    MoveNet,
    network_sha256,
    pose_network_path,
)
from fall_assets.features.settings import MOVENET_SHA256, FeatureSettings, MotionSettings
from fall_assets_tests.features.clips import plain


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(NETWORK_VARIABLE, raising=False)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_network_is_read_out_of_the_installed_wheel(cache: Path) -> None:
    path = pose_network_path()
    assert path.parent == cache
    assert hashlib.sha256(path.read_bytes()).hexdigest() == MOVENET_SHA256
    assert pose_network_path() == path


def test_a_damaged_copy_is_replaced(cache: Path) -> None:
    path = pose_network_path()
    path.write_bytes(path.read_bytes()[:1000])
    assert network_sha256(pose_network_path()) == MOVENET_SHA256


def test_several_at_once_get_a_whole_file(cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = {future.result() for future in [pool.submit(pose_network_path) for _ in range(8)]}
    assert [network_sha256(path) for path in paths] == [MOVENET_SHA256]
    assert list(cache.iterdir()) == list(paths)


def test_another_network_can_be_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = pose_network_path()
    monkeypatch.setenv(NETWORK_VARIABLE, str(ours))
    assert pose_network_path() == ours
    monkeypatch.setenv(NETWORK_VARIABLE, str(cache / "gone.tflite"))
    with pytest.raises(PermanentFailureError, match=r"gone\.tflite, which is no file"):
        pose_network_path()


def test_a_cache_that_cannot_be_written_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.delenv(NETWORK_VARIABLE, raising=False)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(PermanentFailureError, match=CACHE_VARIABLE):
        pose_network_path()


def test_the_settings_and_the_network_must_agree(tmp_path: Path) -> None:
    other = tmp_path / "other.tflite"
    other.write_bytes(b"something else")
    with pytest.raises(PermanentFailureError, match="needs the pose network with SHA-256"):
        MoveNet.of(FeatureSettings(), other)
    matching = FeatureSettings().with_network(network_sha256(other))
    with pytest.raises(PermanentFailureError, match="no network for LiteRT"):
        MoveNet.of(matching, other)


def test_a_feature_set_without_people_has_no_network() -> None:
    with pytest.raises(PermanentFailureError, match="has no people"):
        MoveNet.of(FeatureSettings(extractor=MotionSettings()))


@pytest.mark.parametrize("size", [(256, 192), (256, 144), (144, 256), (255, 97), (33, 31)])
def test_pictures_of_any_shape_are_taken(network: MoveNet, size: tuple[int, int]) -> None:
    people = network.people(plain(128, *size))
    assert people.keypoints.shape == (len(people), 17, 3)
    assert people.boxes.shape == (len(people), 5)
    assert ((people.boxes >= 0) & (people.boxes <= 1)).all()


def test_an_answer_does_not_depend_on_what_was_asked_before(network: MoveNet) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (144, 256, 3), np.uint8)
    first = network.people(picture)
    # White pictures of two shapes: neither padding nor old pixels may shine through.
    network.people(plain(255, 256, 160))
    network.people(plain(255, 192, 256))
    again = network.people(picture)
    assert (first.keypoints == again.keypoints).all()
    assert (first.boxes == again.boxes).all()
