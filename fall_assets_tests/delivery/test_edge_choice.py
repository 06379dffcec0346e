"""The evaluation chooses the number format, not a person."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fall_assets.delivery.edge_choice import Judged, choose

EXACT = Judged("float32", 70, 66, 2, 1e-7, 0.40, 400_000)
SMALL = replace(EXACT, precision="int8", largest_difference=1e-3, window_ms=0.2, head_bytes=200_000)


@pytest.mark.parametrize(
    ("other", "chosen", "why"),
    [
        (SMALL, "int8", "takes 0.50 of float32's time and finds the same falls"),
        (replace(SMALL, window_ms=0.38), "float32", "0.95 of float32's time: not worth it"),
        (replace(SMALL, found=65), "float32", "finds 65 of 70 falls"),
        (replace(SMALL, false_alarms=3), "float32", "with 3 false alarms"),
        (replace(SMALL, found=67, false_alarms=1), "int8", "finds the same falls"),
    ],
)
def test_a_smaller_format_must_lose_nothing_and_gain_a_fifth(
    other: Judged, chosen: str, why: str
) -> None:
    for order in ([EXACT, other], [other, EXACT]):
        choice = choose(order)
        assert choice.precision == chosen
        assert why in choice.reason


def test_float32_alone_is_chosen() -> None:
    assert choose([EXACT]).precision == "float32"
