"""Gradual change: what is too small for one day adds up over days.

Here: the sum over days of how far a figure lay from what is ordinary, and how high it may rise.
Not here: the days' scores (`daily.py`), or which streams there are (`signals.py`).

A site has thousands of streams, one per camera and figure. Each gets a cumulative sum (CUSUM, Page
1954), whose threshold for an expected run time without change is computed, not drawn: the sum is a
Markov chain (Brook and Evans 1972). Its time does not depend on the run time: a thousand camera-
years cost what a month does. alibi-detect's online detectors draw as many streams as the run time
is long, ten times over: `CVMDriftOnline` with windows of 7 and 14 days and 28 days of reference
took 0.25, 3.4 and 37 s of CPU and 1.1 to 1.3 GB for 300, 3,000 and 30,000 days at 10 bootstraps per
day (one run each); one false drift in 100 camera-months, shared by thousands of streams, needs
500,000 and more. It also takes days for independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.float64]

SLACK = 0.75
"""What is taken off each day's score: changes of twice this many standard deviations are found
soonest. Smaller ones need not be found: the ordinary days' mean is itself known no better."""

CORRELATION = 0.3
"""Of neighbouring days' scores, where nothing better is known: at least so much is assumed."""

_LIMIT = 5.0
_STATES = 200
_PAIR_STATES = 40
_LEVELS = 17
_HIGHEST = 200.0


@dataclass(frozen=True)
class Cusum:
    """What the days add up to.

    statistic: the larger of both sums on the last day, with the sign of its direction; threshold:
    what it is compared with; alarm_day: the first day on which the threshold was reached, or None.
    """

    statistic: float
    threshold: float
    alarm_day: int | None

    @property
    def alarm(self) -> bool:
        """Whether the sum is above its threshold on the last day."""
        return abs(self.statistic) >= self.threshold


def cusum(
    z: npt.NDArray[np.floating[Any]],
    ert: float,
    slack: float = SLACK,
    correlation: float = CORRELATION,
) -> Cusum:
    """Two-sided cumulative sum of daily scores, z of shape (days,), oldest first.

    Without change z is normal with mean 0, standard deviation 1 and the lag-1 `correlation`; then
    the mean number of days until the threshold is reached is `ert`, from sums of 0. Days that are
    NaN (nothing recorded) are passed over. One day adds at most 5: what one day shows is the daily
    tests' to tell.

    Raises ValueError as `threshold_for` does.
    """
    threshold = threshold_for(ert, slack, correlation)
    up = down = 0.0
    first: int | None = None
    for day, score in enumerate(np.asarray(z, np.float64)):
        if not math.isfinite(score):
            continue
        score = min(_LIMIT, max(-_LIMIT, score))
        up, down = max(0.0, up + score - slack), max(0.0, down - score - slack)
        if first is None and max(up, down) >= threshold:
            first = day
    return Cusum(up if up >= down else -down, threshold, first)


@lru_cache(maxsize=1024)
def threshold_for(ert: float, slack: float = SLACK, correlation: float = CORRELATION) -> float:
    """The threshold at which a two-sided cumulative sum has the expected run time `ert`, days.

    Raises ValueError where ert is not above 2, slack not above 0, correlation not in [0, 0.95], or
    no threshold below 200 is enough.
    """
    if not ert > 2 or not slack > 0 or not 0 <= correlation <= 0.95:
        raise ValueError(
            f"need ert above 2, slack above 0 and correlation in [0, 0.95], got {ert}, {slack}, "
            f"{correlation}"
        )
    from scipy.optimize import brentq

    def missed(threshold: float) -> float:
        return math.log(run_time(threshold, slack, correlation)) - math.log(ert)

    high = 4.0
    while missed(high) < 0:
        high *= 1.5
        if high > _HIGHEST:
            raise ValueError(f"no threshold below {_HIGHEST} gives a run time of {ert} days")
    if missed(1e-3) > 0:
        return 1e-3
    return float(brentq(missed, 1e-3, high, xtol=1e-3))


def run_time(
    threshold: float, slack: float = SLACK, correlation: float = 0.0, shift: float = 0.0
) -> float:
    """Mean days until the two-sided sum of scores with mean `shift` reaches the threshold.

    One side by Brook and Evans (1972): the sum in steps, with correlation the pair of the sum and
    the last score. Both sides together by 1 / L = 1 / L+ + 1 / L- (Van Dobben de Bruyn 1968: exact
    without correlation; with it a good approximation).
    """
    rates = sum(1.0 / _one_sided(threshold, slack, correlation, side) for side in (shift, -shift))
    return 1.0 / rates


def _one_sided(threshold: float, slack: float, correlation: float, shift: float) -> float:
    if correlation == 0:
        return _independent(threshold, slack, shift)
    return _autoregressive(threshold, slack, correlation, shift)


def _independent(threshold: float, slack: float, shift: float) -> float:
    """Mean run length of the one-sided sum of independent normal scores."""
    from scipy.stats import norm

    width = 2.0 * threshold / (2 * _STATES - 1)
    centre = np.arange(_STATES) * width
    # State 0 is all that is at most half a step; the last ends at the threshold.
    edge = centre + width / 2
    below = norm.cdf(edge[None, :] - centre[:, None] + slack - shift)
    moves = np.diff(below, axis=1, prepend=0.0)
    return float(np.linalg.solve(np.eye(_STATES) - moves, np.ones(_STATES))[0])


def _autoregressive(threshold: float, slack: float, correlation: float, shift: float) -> float:
    """The same for scores with z' = r z + sqrt(1 - r^2) e, starting from the usual distribution.

    Scores lie in `_LEVELS` bins between -5 and 5, sums on a grid; a sum between two grid points is
    divided over them.
    """
    from scipy.stats import norm

    edges = np.linspace(-_LIMIT, _LIMIT, _LEVELS + 1)[1:-1]
    usual = np.diff(norm.cdf(edges), prepend=0.0, append=1.0)
    # The mean of a normal score within its bin.
    level = -np.diff(norm.pdf(np.concatenate([[-np.inf], edges, [np.inf]]))) / usual
    # What scores vary within their bins is not lost.
    level /= math.sqrt(float(usual @ level**2))
    scale = math.sqrt(1 - correlation**2)
    step = np.diff(
        norm.cdf((edges[None, :] - correlation * level[:, None]) / scale),
        axis=1,
        prepend=0.0,
        append=1.0,
    )
    width = threshold / _PAIR_STATES
    grid = np.arange(_PAIR_STATES) * width
    landed = np.maximum(0.0, grid[:, None] + level[None, :] + shift - slack) / width
    low = np.floor(landed).astype(np.int_)
    part = landed - low
    to = np.zeros((_PAIR_STATES, _LEVELS, _PAIR_STATES + 2))  # sum, next score, next sum
    rows, columns = np.indices(landed.shape)
    capped = np.minimum(low, _PAIR_STATES)
    np.add.at(to, (rows, columns, capped), 1 - part)
    np.add.at(to, (rows, columns, np.minimum(capped + 1, _PAIR_STATES + 1)), part)
    kept = to[:, :, :_PAIR_STATES]
    # Score i and sum s to score j and sum t.
    size = _LEVELS * _PAIR_STATES
    moves = (step[:, None, :, None] * kept[None, :, :, :]).reshape(size, size)
    lengths = np.linalg.solve(np.eye(size) - moves, np.ones(size)).reshape(_LEVELS, -1)
    return float(usual @ lengths[:, 0])
