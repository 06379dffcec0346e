"""Whether the challenger's alarms come later than the champion's: an e-process on ranks.

What belongs here: the test martingale on delays in the order in which they came. What does not:
what a delay is (`evidence`), the other measures (`rates`).

Each new delay's rank among all before it, of either version, is uniform as long as both versions'
delays come from one distribution, whatever it is (exchangeable). A small p-value says that it is
among the longest. Only the challenger's are bet on: each multiplies the e-process by the mixture
over epsilon of epsilon * p^(epsilon - 1), whose mean is 1 under a uniform p (Vovk, Nouretdinov and
Gammerman 2003, Testing exchangeability on-line; the simple mixture martingale). Ties are broken by
a number drawn from the place in the sequence, so that a replay finds the same.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from hashlib import sha256

import numpy as np

_EPSILONS = (0.2, 0.35, 0.5, 0.65, 0.8)


def log_e_later(delays: Sequence[tuple[bool, float]]) -> float:
    """Log e-value against "the challenger's delays are no longer than the champion's".

    `delays`: in the order in which they came, whether it is the challenger's, and seconds.
    """
    before: list[float] = []
    logs = np.zeros(len(_EPSILONS))
    bets = np.log(np.array(_EPSILONS))
    for place, (is_challengers, delay_s) in enumerate(delays):
        if is_challengers and before:
            p = _p_value(before, delay_s, place)
            logs += bets + (np.array(_EPSILONS) - 1) * math.log(p)
        bisect.insort(before, delay_s)
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))


def _p_value(before: list[float], delay_s: float, place: int) -> float:
    """Share of all delays so far, its own included, that are longer; uniform on (0, 1]."""
    longer = len(before) - bisect.bisect_right(before, delay_s)
    equal = 1 + bisect.bisect_right(before, delay_s) - bisect.bisect_left(before, delay_s)
    drawn = int.from_bytes(sha256(f"rank {place}".encode()).digest()[:6]) + 1
    return (longer + equal * drawn / 2**48) / (len(before) + 1)
