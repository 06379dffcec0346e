"""What a box scores with is what was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.delivery.onnx_export import quantized_head, write_model
from fall_assets.edge.model import HEAD_FILE, POSE_FILE, EdgeModel
from fall_assets.errors import PermanentFailureError
from fall_assets.features.movenet import pose_network_path
from fall_assets.features.settings import FeatureSettings, PictureSettings
from fall_assets.learning.detector import Detector
from fall_assets.learning.scoring import FeatureSetError
from fall_assets.learning.windows import Floats, WindowSettings, window_at
from fall_assets_tests.edge.models import FEATURES, untrained
from fall_assets_tests.learning.people import segment


@pytest.fixture(scope="module")
def detector() -> Detector:
    return untrained()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, detector: Detector) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    write_model(detector, "3", FEATURES, pose_network_path(), folder)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> EdgeModel:
    return EdgeModel.load(folder)


def _drawn() -> tuple[Floats, Floats]:
    """Windows of drawn people who walk, bend and fall."""
    windows = [
        window_at(track, end_s, WindowSettings())
        for number in range(12)
        for track in segment(number, ("fall", "bend", "walk")[number % 3], 5).tracks
        for end_s in np.arange(1.0, 10.0, 0.4).tolist()
    ]
    return np.stack(windows), np.full(len(windows), 1.5, np.float32)


def test_scores_of_drawn_people_are_those_of_the_detector(
    model: EdgeModel, detector: Detector
) -> None:
    windows, aspect = _drawn()
    wanted = detector.score_windows(windows, aspect)
    assert np.ptp(wanted) > 0.2
    assert model.score_windows(windows, aspect) == pytest.approx(wanted, abs=1e-5)


@settings(max_examples=40)
@given(st.integers(1, 5), st.integers(0, 10_000), st.floats(0, 1), st.floats(0.3, 3))
def test_scores_of_anything_are_those_of_the_detector(
    model: EdgeModel, detector: Detector, count: int, seed: int, unseen: float, aspect: float
) -> None:
    rng = np.random.default_rng(seed)
    windows = rng.uniform(-0.5, 1.5, (count, 40, 17, 3)).astype(np.float32)
    windows[rng.random((count, 40)) < unseen] = 0
    wide = np.full(count, aspect, np.float32)
    wanted = detector.score_windows(windows, wide)
    assert model.score_windows(windows, wide) == pytest.approx(wanted, abs=1e-4)


def test_a_window_alone_scores_as_in_a_batch(model: EdgeModel) -> None:
    windows, aspect = _drawn()
    alone = [model.score_windows(windows[n : n + 1], aspect[n : n + 1])[0] for n in range(20)]
    assert model.score_windows(windows, aspect)[:20] == pytest.approx(alone, abs=1e-6)


def test_eight_bits_are_smaller_and_near(
    model: EdgeModel, detector: Detector, folder: Path, tmp_path: Path
) -> None:
    write_model(detector, "3", FEATURES, pose_network_path(), tmp_path / "model", "int8")
    small = EdgeModel.load(tmp_path / "model")
    assert small.info.head_precision == "int8"
    sizes = [(one / HEAD_FILE).stat().st_size for one in (tmp_path / "model", folder)]
    assert sizes[0] < 0.6 * sizes[1]
    windows, aspect = _drawn()
    off = small.score_windows(windows, aspect) - model.score_windows(windows, aspect)
    assert np.abs(off).max() < 0.2


def test_one_file_holds_the_network(folder: Path, tmp_path: Path) -> None:
    """No weights beside it, whose hash nobody would check."""
    assert sorted(path.name for path in folder.iterdir()) == [HEAD_FILE, "model.json", POSE_FILE]
    quantized_head(folder / HEAD_FILE, tmp_path / "small.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_what_does_not_belong_together_is_refused(
    detector: Detector, folder: Path, tmp_path: Path
) -> None:
    other = FeatureSettings(picture=PictureSettings(long_side=192))
    with pytest.raises(FeatureSetError):
        write_model(detector, "3", other, pose_network_path(), tmp_path / "a")
    with pytest.raises(PermanentFailureError, match="not empty"):
        write_model(detector, "3", FEATURES, pose_network_path(), folder)
    wrong = tmp_path / "pose.tflite"
    wrong.write_bytes(b"no network")
    with pytest.raises(PermanentFailureError, match="needs the pose network"):
        write_model(detector, "3", FEATURES, wrong, tmp_path / "b")
