"""What the tests of features/ share."""

from __future__ import annotations

import pytest

from fall_assets.features import FeatureSettings
from fall_assets.features.movenet import MoveNet


@pytest.fixture(scope="session")
def network() -> MoveNet:
    return MoveNet.of(FeatureSettings())
