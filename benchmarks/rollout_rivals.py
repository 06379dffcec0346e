"""The usual ways to judge a canary, on the counts that `benchmarks.rollout` simulates.

Each rule gets the false alarms of live versions alone and looks once a day. It returns the look (1
is the first day's) at which it would roll back, 0 for none.

- Daily p-value and fixed horizon: the challenger's share of all alarms is binomial under equal
  rates (the conditional test of two Poisson rates; Przyborowski and Wilenski 1940), one-sided, at
  .05; on every day, or on the last one only.
- E-value at 20: mean over `RATIOS` of the likelihood ratio of that binomial, a test martingale; the
  ratios are those that come nearest to the figures of the issue that asked for this benchmark.
- Kayenta: its judge calls a metric high where the lower limit of a 98 % confidence interval of
  Wilcoxon and Mann-Whitney's shift (normal approximation, corrected for ties and continuity) is
  above a tolerance of .25 of the estimated shift (NetflixACAJudge.scala, `confLevel = 0.98`,
  `tolerance = 0.25`, in github.com/spinnaker/kayenta, kayenta-judge). Most camera-days have no
  alarm: limit and estimate then lie on the same step at 0 and their comparison is the root finder's
  rounding. In its favour the test alone is asked, at the same level; likewise outliers, which that
  judge cuts off above the 99th percentile, are kept: of a quiet site it would cut all alarms.
  It compares an experiment with a control group (docs/faq.md there): once so, with the control
  group of the same size, once with all other cameras.
- Flagger: a check fails where the metric leaves its range over the last interval, here the day's
  rate over 1.5 times that of the other cameras; failed checks are counted, not in a row, and at
  `threshold` of them it rolls back. Without a setting that is 1 (`GetAnalysisThreshold`,
  pkg/apis/flagger/v1beta1/canary.go in github.com/fluxcd/flagger), in examples 5 or 10
  (docs/gitbook/usage/how-it-works.md there has 10): here 1 and 5. The range is always the site's
  own; 1.5 is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

Real = NDArray[np.float64]
Whole = NDArray[np.int64]

RATIOS: Final = (1.25, 1.5, 2.0, 3.0, 4.0)
LEVEL: Final = 0.05
EVIDENCE: Final = 20.0
KAYENTA_CONFIDENCE: Final = 0.98
FLAGGER_RANGE: Final = 1.5

_MOST: Final = 200
"""Counts of a camera-day above this are taken as this."""


@dataclass(frozen=True)
class LiveCounts:
    """False alarms of the versions that raise alerts, by day.

    Attributes:
        challenger: counts, (days, its cameras).
        control: counts of the control group, (days, its cameras).
        rest: counts of all cameras that the champion serves, (days, cameras).
        challenger_days: camera-days of the challenger's, (days,).
        rest_days: the same of the champion's, (days,).
    """

    challenger: Whole
    control: Whole
    rest: Whole
    challenger_days: Real
    rest_days: Real


Rule = Callable[[LiveCounts], int]


def daily_p(counts: LiveCounts) -> int:
    """The one-sided p-value of all days so far, on every day."""
    return _first(_p_values(counts) <= LEVEL)


def fixed_horizon(counts: LiveCounts) -> int:
    """The same p-value on the last day only."""
    p = _p_values(counts)
    return len(p) if p[-1] <= LEVEL else 0


def simple_e(counts: LiveCounts) -> int:
    """The mixture likelihood ratio of all days so far, on every day."""
    ours, all_, share = _sums(counts)
    ratios = np.array(RATIOS)[:, None]
    worse = ratios * share / (ratios * share + 1 - share)
    logs = ours * np.log(worse / share) + (all_ - ours) * np.log((1 - worse) / (1 - share))
    return _first(np.exp(np.minimum(logs, 700.0)).mean(axis=0) >= EVIDENCE)


def kayenta_control(counts: LiveCounts) -> int:
    """Mann-Whitney of camera-days against a baseline of the same size."""
    return _mann_whitney(counts.challenger, counts.control)


def kayenta_rest(counts: LiveCounts) -> int:
    """Mann-Whitney of camera-days against all other cameras."""
    return _mann_whitney(counts.challenger, counts.rest)


def flagger(threshold: int) -> Rule:
    """Failed checks of each day's rate, `threshold` of them."""

    def rule(counts: LiveCounts) -> int:
        ours = counts.challenger.sum(axis=1) * counts.rest_days
        theirs = counts.rest.sum(axis=1) * counts.challenger_days
        return _first(np.cumsum(ours > FLAGGER_RANGE * theirs) >= threshold)

    return rule


RIVALS: Final[Mapping[str, Rule]] = {
    "daily p ≤ .05": daily_p,
    "e-value at 20": simple_e,
    "fixed horizon": fixed_horizon,
    "Kayenta, control": kayenta_control,
    "Kayenta, rest": kayenta_rest,
    "Flagger, 1": flagger(1),
    "Flagger, 5": flagger(5),
}


def _first(rolls_back: NDArray[np.bool_]) -> int:
    return int(rolls_back.argmax()) + 1 if rolls_back.any() else 0


def _sums(counts: LiveCounts) -> tuple[Real, Real, Real]:
    """Challenger's alarms, all alarms, and the challenger's share of camera-days, so far."""
    ours = counts.challenger.sum(axis=1).cumsum().astype(float)
    theirs = counts.rest.sum(axis=1).cumsum().astype(float)
    mine, other = counts.challenger_days.cumsum(), counts.rest_days.cumsum()
    return ours, ours + theirs, mine / (mine + other)


def _p_values(counts: LiveCounts) -> Real:
    ours, all_, share = _sums(counts)
    p: Real = binom.sf(ours - 1, all_, share)
    return p


def _mann_whitney(ours: Whole, theirs: Whole) -> int:
    if not ours.size or not theirs.size:
        return 0
    x, y = _histograms(ours), _histograms(theirs)
    n, m = x.sum(axis=1), y.sum(axis=1)
    ties = x + y
    rank = np.cumsum(ties, axis=1) - ties + (ties + 1) / 2
    shift = (x * rank).sum(axis=1) - n * (n + 1) / 2 - n * m / 2
    total = n + m
    variance = n * m / 12 * (total + 1 - (ties**3 - ties).sum(axis=1) / (total * (total - 1)))
    z = (shift - 0.5 * np.sign(shift)) / np.sqrt(np.maximum(variance, 1e-12))
    return _first((variance > 0) & (z > norm.ppf(0.5 + KAYENTA_CONFIDENCE / 2)))


def _histograms(counts: Whole) -> Real:
    """How often each count came up to each day, (days, values)."""
    days = len(counts)
    cells = np.minimum(counts, _MOST) + (_MOST + 1) * np.arange(days)[:, None]
    by_day = np.bincount(cells.ravel(), minlength=days * (_MOST + 1))
    return by_day.reshape(days, -1).cumsum(axis=0).astype(float)
