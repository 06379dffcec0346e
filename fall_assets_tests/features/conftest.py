"""What the tests of features/ share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fall_assets.features.extract import Team
from fall_assets.features.movenet import MoveNet
from fall_assets.features.settings import FeatureSettings


@pytest.fixture(scope="session")
def network() -> MoveNet:
    return MoveNet.of(FeatureSettings())


@pytest.fixture(scope="session")
def team() -> Team:
    """The detector's feature set, without a motion gate."""
    return Team.of([replace(FeatureSettings(), gate=None)])
