"""Has precision fallen? Answers of the ward's staff as bets that may be looked at every day.

Here: the evidence that fewer of the alerts are falls than before. Not here: which answers count
(`pipeline`), or what is done about it (`answers.py`).

Staff confirm alerts one by one, and somebody looks after each. A test of a fixed number of answers
would be wrong then: looked at often enough it rejects in the end. An e-process (Ramdas et al., Stat
Sci 38, 2023) stays valid: it is the money of somebody who bets against "precision is at least p0"
and cannot expect to win while that is true. By Ville's inequality it ever reaches 1/alpha with
probability alpha at most, however many answers come and whenever one stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.float64]

_BETS = 16
"""Precisions below p0 that are bet on, evenly spaced, with equal stakes."""


@dataclass(frozen=True)
class PrecisionEvidence:
    """Evidence after each answer.

    path: e-values, shape (answers,). peak: the largest so far (1 without answers). p_value: 1 over
    the peak, valid at any time. alarm: the number (from 0) of the answer that made it certain, or
    None. since: the number of the answer from which on precision is most likely to have fallen, or
    None without answers.
    """

    path: Real
    peak: float
    p_value: float
    alarm: int | None
    since: int | None


def usual_precision(falls: int, false_alarms: int, quantile: float = 0.1) -> float:
    """A precision that is reached at least, judged by earlier answers: 0-1.

    Lower `quantile` of the Beta posterior from Jeffreys' prior: with few answers it is far below
    the observed share. Raises ValueError for negative counts.
    """
    if falls < 0 or false_alarms < 0 or not 0 < quantile < 1:
        raise ValueError(
            f"need counts from 0 and a quantile in (0, 1), got {falls}, {false_alarms}, {quantile}"
        )
    from scipy.stats import beta

    return float(beta.ppf(quantile, falls + 0.5, false_alarms + 0.5))


def precision_evidence(answers: Sequence[bool], p0: float, alpha: float) -> PrecisionEvidence:
    """Evidence against "each answer is a fall with probability at least p0", answers in order.

    True is a fall, False a false alarm. On each precision q below p0 an equal stake is bet: an
    answer multiplies it by q / p0 or (1 - q) / (1 - p0). Precision may fall after many good
    answers, which would have lost all the money by then: a share of 1 / (n (n + 1)) of it is bet
    from the n-th answer on. What is not yet bet counts as it is.

    Raises ValueError where p0 or alpha is not within (0, 1).
    """
    if not 0 < p0 < 1 or not 0 < alpha < 1:
        raise ValueError(f"need p0 and alpha in (0, 1), got {p0} and {alpha}")
    if not len(answers):
        return PrecisionEvidence(np.empty(0), 1.0, 1.0, None, None)
    against = p0 * (np.arange(_BETS) + 0.5) / _BETS
    won, lost = np.log(against / p0), np.log((1 - against) / (1 - p0))
    count = len(answers)
    start = np.arange(1, count + 1)
    stake = -np.log(start) - np.log(start + 1.0)
    money = np.full((count, _BETS), -np.inf)  # logarithms, by start and bet
    path = np.empty(count)
    for number, fall in enumerate(answers):
        money[number] = stake[number] - np.log(_BETS)
        money[: number + 1] += won if fall else lost
        waiting = 1.0 / (number + 2)
        path[number] = np.exp(np.logaddexp.reduce(money[: number + 1].ravel())) + waiting
    reached = np.flatnonzero(path >= 1 / alpha)
    peak = max(1.0, float(path.max()))
    # Without the stakes, which only say how late one began to look.
    likely = np.logaddexp.reduce(money - stake[:, None], axis=1)
    return PrecisionEvidence(
        path,
        peak,
        1.0 / peak,
        int(reached[0]) if len(reached) else None,
        int(np.argmax(likely)),
    )
