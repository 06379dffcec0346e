"""A model folder is read whole or not at all, and shared between threads."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fall_assets.edge.model import (
    HEAD_FILE,
    MODEL_FILE,
    POSE_FILE,
    EdgeModel,
    EdgeModelError,
    PosePool,
)
from fall_assets.features.movenet import MoveNet
from fall_assets.learning.detector import Detector
from fall_assets_tests.edge.models import EVENTS, FEATURES, with_events


@pytest.fixture
def copied(model_folder: Path, tmp_path: Path) -> Path:
    """A folder of one's own."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def test_a_folder_says_everything(edge_model: EdgeModel, detector: Detector) -> None:
    info = edge_model.info
    assert info.model_version == "7"
    assert (info.features, info.windows, info.events) == (FEATURES, detector.windows, EVENTS)
    assert info.feature_set_version == detector.feature_set
    assert info.head_precision == "float32"


def test_nothing_of_nobody(edge_model: EdgeModel) -> None:
    scores = edge_model.score_windows(np.zeros((0, 40, 17, 3), np.float32), np.zeros(0, np.float32))
    assert scores.shape == (0,)


def _change(what: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        content = json.loads((folder / MODEL_FILE).read_text())
        what(content)
        (folder / MODEL_FILE).write_text(json.dumps(content))

    return change


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no settings": (lambda folder: (folder / MODEL_FILE).unlink(), "no readable model"),
    "no head": (lambda folder: (folder / HEAD_FILE).unlink(), "head.onnx cannot be read"),
    "head cut": (lambda folder: _cut(folder / HEAD_FILE), "head.onnx has SHA-256"),
    "pose cut": (lambda folder: _cut(folder / POSE_FILE), "pose.tflite has SHA-256"),
    "no JSON": (lambda folder: (folder / MODEL_FILE).write_text("{"), "no readable model"),
    "a list": (lambda folder: (folder / MODEL_FILE).write_text("[]"), "no readable model"),
    "other format": (_change(lambda content: content.update(format=2)), "is of format 2"),
    "no threshold": (_change(lambda content: content["events"].pop("threshold")), "EventSettings"),
    "new setting": (_change(lambda content: content["windows"].update(new=1)), "WindowSettings"),
    "other features": (
        _change(lambda content: content["feature_set"].update(max_wait_s=0.5)),
        "feature set is",
    ),
    "other file": (_change(lambda content: content["head"].update(file="../x.onnx")), "x.onnx"),
    "other rate": (_change(lambda content: content["windows"].update(rate_hz=5.0)), "windows of"),
    "other pose": (_change(lambda content: content["pose"].update(sha256="0" * 64)), "needs the"),
    "odd precision": (_change(lambda content: content["head"].update(precision="int2")), "int2"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_refused_by_name(copied: Path, damage: str) -> None:
    harm, told = DAMAGES[damage]
    harm(copied)
    with pytest.raises(EdgeModelError, match=told):
        EdgeModel.load(copied)


def test_another_network_is_refused(copied: Path) -> None:
    import hashlib

    (copied / HEAD_FILE).write_bytes(b"no network")
    found = hashlib.sha256(b"no network").hexdigest()
    _change(lambda content: content["head"].update(sha256=found))(copied)
    with pytest.raises(EdgeModelError, match="no network for ONNX Runtime"):
        EdgeModel.load(copied)


def test_rules_for_events_come_from_the_folder(model_folder: Path, tmp_path: Path) -> None:
    other = replace(EVENTS, threshold=0.1)
    assert with_events(model_folder, other, tmp_path / "other").info.events == other


class _Counted(EdgeModel):
    """Counts the networks that were made."""

    made = 0

    def pose_network(self) -> MoveNet:
        self.made += 1
        return object()  # type: ignore[return-value]


def test_threads_share_a_few_networks(edge_model: EdgeModel) -> None:
    model = _Counted(edge_model.info, edge_model.folder, edge_model._session)
    pool = PosePool(model, 2)
    lock, at_work, most = threading.Lock(), [0], [0]
    both = threading.Barrier(2, timeout=10)

    def work(first: bool) -> None:
        for number in range(50):
            with pool.borrow("shape") as network:
                with lock:
                    at_work[0] += 1
                    most[0] = max(most[0], at_work[0])
                if first and not number:
                    both.wait()
                assert network is not None
                with lock:
                    at_work[0] -= 1

    threads = [threading.Thread(target=work, args=(number < 2,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive()
    assert most[0] == 2
    assert model.made == 2


def test_who_has_seen_pictures_of_a_shape_sees_them_again(edge_model: EdgeModel) -> None:
    pool = PosePool(_Counted(edge_model.info, edge_model.folder, edge_model._session), 2)
    with pool.borrow("wide") as wide, pool.borrow("square") as square:
        pass
    for _ in range(3):
        with pool.borrow("wide") as again:
            assert again is wide
        with pool.borrow("square") as again:
            assert again is square


def test_a_network_that_cannot_be_made_does_not_use_up_the_pool(edge_model: EdgeModel) -> None:
    class Broken(EdgeModel):
        def pose_network(self) -> MoveNet:
            raise EdgeModelError("broken")

    pool = PosePool(Broken(edge_model.info, edge_model.folder, edge_model._session), 1)
    for _ in range(3):
        with pytest.raises(EdgeModelError), pool.borrow():
            pass
    with pytest.raises(ValueError, match="at least 1"):
        PosePool(edge_model, 0)


def test_a_real_network_sees_pictures(edge_model: EdgeModel) -> None:
    with PosePool(edge_model, 1).borrow() as network:
        people = network.people(np.zeros((192, 256, 3), np.uint8))
    assert people.keypoints.shape[1:] == (17, 3)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
