"""What several test files of this package share: one small trained detector."""

from __future__ import annotations

import pytest

from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.detector import Detector
from fall_assets.learning.evaluate import CrossValidation, cross_validate, train_final
from fall_assets_tests.learning.people import learning_set, small_settings


@pytest.fixture(scope="session")
def drawn() -> LearningSet:
    return learning_set()


@pytest.fixture(scope="session")
def validation(drawn: LearningSet) -> CrossValidation:
    return cross_validate(drawn, small_settings())


@pytest.fixture(scope="session")
def detector(drawn: LearningSet, validation: CrossValidation) -> Detector:
    return train_final(drawn, small_settings(), validation.threshold)
