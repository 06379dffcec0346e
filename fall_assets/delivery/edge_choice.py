"""Which number format of a network is packed: the evaluation decides. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WORTH = 0.8
"""A smaller format must take at most this share of the time, or it is not worth its rounding."""

EXACT = "float32"


@dataclass(frozen=True)
class Judged:
    """What one number format makes of the labelled footage.

    `largest_difference` is that of its scores to the framework's, `window_ms` the median time of
    one window.
    """

    precision: str
    falls: int
    found: int
    false_alarms: int
    largest_difference: float
    window_ms: float
    head_bytes: int


@dataclass(frozen=True)
class Choice:
    """The format that is packed, and why."""

    precision: str
    reason: str


def choose(judged: Sequence[Judged]) -> Choice:
    """The fastest format that finds as many falls with as few false alarms as float32.

    One that is not faster by a fifth is passed over: its rounding would buy nothing. `judged` holds
    float32 and any number of others.
    """
    exact = next(one for one in judged if one.precision == EXACT)
    why = []
    best = exact
    for one in judged:
        if one is exact:
            continue
        share = one.window_ms / exact.window_ms
        told = f"{one.precision} takes {share:.2f} of float32's time"
        if one.found < exact.found or one.false_alarms > exact.false_alarms:
            why.append(
                f"{told}, but finds {one.found} of {one.falls} falls with {one.false_alarms} false "
                f"alarms where float32 finds {exact.found} with {exact.false_alarms}"
            )
        elif share > WORTH:
            why.append(f"{told}: not worth it (at most {WORTH:g} is)")
        elif one.window_ms < best.window_ms:
            best = one
            why.append(f"{told} and finds the same falls")
    return Choice(best.precision, "; ".join(why) or "the only format")
