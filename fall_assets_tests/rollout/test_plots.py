"""The evidence's paths are one small picture, whatever the rollout went through."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest

from fall_assets.rollout.judgement import Judgement
from fall_assets.rollout.library import compare_library
from fall_assets.rollout.machine import Decision, Look, Order, decide, standing, start
from fall_assets.rollout.plots import evidence_paths
from fall_assets.rollout.settings import RolloutSettings

FIRST = date(2026, 3, 1)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
Values = Sequence[tuple[float, float]]
FINE = compare_library([(True, True)] * 80, 0.1)


def rollout(
    values: Values, settings: RolloutSettings, orders: dict[int, Sequence[Order]]
) -> list[Decision]:
    """Decisions of a rollout with these e-values, a pair a day, and orders after some days."""
    history = [start("ward-7", "old", "new", FIRST, NOW, settings, "night shift")]
    for number, (worse, not_worse) in enumerate(values):
        here, day = standing(history), FIRST + timedelta(days=number)
        days = 0 if here.step_began is None else (day - here.step_began).days + 1
        look = Look(day, days, Judgement(worse, not_worse, {}, None, 2.0), FINE)
        for order in (None, *orders.get(number, ())):
            found = decide(history, look, settings, order, NOW)
            if found is not None:
                history.append(found)
    return history


def picture(values: Values, settings: RolloutSettings, orders: dict[int, Sequence[Order]]) -> bytes:
    days = [FIRST + timedelta(days=number) for number in range(len(values))]
    return evidence_paths(
        days,
        [worse for worse, _ in values],
        [not_worse for _, not_worse in values],
        rollout(values, settings, orders),
        settings.evidence,
    )


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


ANNA = "Anna-Magdalena of the night shift"
CASES: dict[str, Callable[[], bytes]] = {
    "nothing yet": lambda: picture([], RolloutSettings(), {}),
    "one day": lambda: picture([(0.9, 1.1)], RolloutSettings(), {}),
    "to all cameras": lambda: picture([(0.2, 40.0)] * 11, RolloutSettings(), {}),
    "endless": lambda: picture([(0.0, math.inf), (math.inf, 0.0)], RolloutSettings(), {}),
    "side by side": lambda: picture([(0.9, 1.1)] * 14, RolloutSettings(mode="ab"), {}),
    "a year of waiting": lambda: picture([(0.9, 1.1)] * 365, RolloutSettings(), {}),
    "many orders": lambda: picture(
        [(0.9, 1.1)] * 8,
        RolloutSettings(),
        {
            3: [Order("hold", ANNA), Order("resume", ANNA), Order("approve", ANNA)],
            5: [Order("hold", ANNA), Order("approve", ANNA), Order("abort", ANNA)],
        },
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", CASES)
def test_every_course_is_drawn_900_pixels_wide(case: str) -> None:
    png = CASES[case]()
    width, height = size(png)
    assert width == 900
    assert 400 < height < 800
    assert len(png) < 100_000


def test_equal_input_gives_equal_bytes_and_other_evidence_another_picture() -> None:
    assert CASES["to all cameras"]() == CASES["to all cameras"]()
    assert CASES["one day"]() != picture([(0.5, 1.1)], RolloutSettings(), {})
    assert CASES["one day"]() != picture([(0.9, 5.0)], RolloutSettings(), {})


def test_the_threshold_is_drawn() -> None:
    days, decisions = [FIRST], rollout([(0.9, 1.1)], RolloutSettings(), {})
    drawn = {evidence_paths(days, [0.9], [1.1], decisions, e) for e in (20.0, 30.0)}
    assert len(drawn) == 2


def test_what_does_not_belong_together_is_refused() -> None:
    decisions = rollout([], RolloutSettings(), {})
    with pytest.raises(ValueError, match="1 days, 0 and 1 e-values"):
        evidence_paths([FIRST], [], [1.0], decisions, 20.0)
    with pytest.raises(ValueError, match="0 decisions"):
        evidence_paths([], [], [], [], 20.0)
