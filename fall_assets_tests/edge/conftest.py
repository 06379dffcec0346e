"""What several tests of edge/ share: one model folder, exported once."""

from __future__ import annotations

from pathlib import Path

import pytest

from fall_assets.delivery.onnx_export import write_model
from fall_assets.edge.model import EdgeModel
from fall_assets.features.movenet import pose_network_path
from fall_assets.learning.detector import Detector
from fall_assets_tests.edge.models import FEATURES, untrained


@pytest.fixture(scope="session")
def detector() -> Detector:
    """What the model folder was made of."""
    return untrained()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, detector: Detector) -> Path:
    """A model folder; copy it before changing it."""
    folder = tmp_path_factory.mktemp("model") / "model"
    write_model(detector, "7", FEATURES, pose_network_path(), folder)
    return folder


@pytest.fixture(scope="session")
def edge_model(model_folder: Path) -> EdgeModel:
    return EdgeModel.load(model_folder)
