"""How many examples a training draws from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fall_assets.learning.dataset import LearningSet, training_windows
from fall_assets.learning.training import make_bank
from fall_assets_tests.learning.people import small_training


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [(60, 1500), (200, 3200)],
    ids=["no fewer than asked for", "each drawn twice"],
)
def test_more_steps_draw_from_more_examples(drawn: LearningSet, steps: int, wanted: int) -> None:
    settings = replace(small_training(), steps=steps)
    assert len(make_bank(training_windows(drawn), settings)) == wanted
