"""Whether the challenger raises more of something than the champion, however often one looks.

What belongs here: the e-process on counts per camera and version. What does not: which counts
(`evidence`), the mean over measures (`judging`), what follows from it (`machine`).

**The model.** Camera c of stratum s raises counts at a rate a_c * nu_s * phi_s under the champion
and r times that under the challenger. nu_s comes from the days before the rollout; a_c is the
camera's own, Gamma(k, k), with k from the same days; phi_s says how the stratum differs from those
days, normal on the log scale. With n0, n1 counts in t0, t1 days of champion and challenger, and y
counts in T days before, a_c integrates out (Robbins 1970; Cook and Lawless 2007, The statistical
analysis of recurrent events, ch. 2), leaving for each camera

    r^n1 * phi^(n0 + n1) / (k + nu * (T + phi * (t0 + r * t1)))^(k + y + n0 + n1)

up to factors without r and phi. phi is integrated out of each stratum by Laplace's method.

**The e-process.** The mixture over some ratios r of these likelihoods over that of the null's
ratio, all days so far taken together. It starts at 1, and under the null its expectation at any
stopping time is at most 1: crossing 20 at any look has a probability of at most 1/20 (Ville 1939;
Grünwald, de Heide and Koolen 2024, Safe testing). Against a null of "at most r0" the border r0 is
the hardest, because counts have a monotone likelihood ratio. phi and a_c have the same prior under
both hypotheses. That makes it exact where that prior is right and near it elsewhere:
`benchmarks.rollout` measures it, also where cameras hang together or come in bursts.

**Why not simply counts of both arms?** One percent of the cameras may happen to be noisy ones, for
ever. A camera is told apart by its own past, by its stratum, and best of all by the other version
that watches it in shadow: n0 and t0 hold those counts too.

**Bursts.** Counts of a camera-day scatter more than a Poisson's. All counts and rates are divided
by the dispersion D >= 1 that the days before show within cameras (a quasi-likelihood).

**Versions suit cameras.** The challenger may be twice as loud in one room and silent in the next,
and a few cameras then say little of the others. With a variance v of the ratio between cameras, the
challenger's m expected counts of a camera scatter like m + v * m^2: they weigh 1 / (1 + v * m).
v is learned from the rollout's own counts, by the method of moments. (With weights that depend on
the counts the likelihood is a quasi-likelihood, as it is with D.)

**Days.** A lively week must not be held against whoever watched then: camera-days are weighted by
how lively the whole site was (`levels`), as far as the days before say that its days differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]

WORSE: Final[Mapping[float, float]] = {
    1.3: 0.05, 1.6: 0.20, 2.0: 0.25, 2.6: 0.20, 3.5: 0.15, 5.0: 0.15,
}  # fmt: skip
"""Ratios that count as worse, with their weights in the mixture."""
NOT_WORSE: Final = (0.5, 0.7, 0.85, 1.0, 1.15)
"""Ratios that count as not worse than a margin, in equal parts, as far as they lie below it."""
FEWER: Final = (0.05, 0.1, 0.25, 0.5, 0.75)
"""Shares of a rate that count as fewer, in equal parts."""

_UNKNOWN_RATE = 0.1
_UNKNOWN_SPREAD = 2.0
_SPREAD = 0.25
_UNKNOWN_SHAPES = (50.0, 10.0, 3.0, 1.0)
_LEAST_VARIANCE = 0.02
_DAY_VARIANCE = 0.05
_SUITS = 1.0
_SUITS_KNOWN = 5.0
_NEWTON = 30
_CLOSE = 1e-6
_RATIOS = np.geomspace(1 / 16, 16, 129)


@dataclass(frozen=True)
class RateTable:
    """What the days before the rollout say of each camera: the part of the model that stays.

    Attributes:
        stratum: number of each camera's stratum, (cameras,), from 0.
        counts: y, of the champion in the days before, (cameras,).
        days: T, camera-days before, (cameras,).
        rate: nu, counts per day of each stratum, (strata,).
        spread: standard deviation of log phi in each stratum, (strata,).
        shapes: k; 1 / k is the variance of the cameras' own factors. Where nothing is known of it
            there are several, in equal parts.
        dispersion: D, 1 or more.
        day_variance: variance of the days' own factors, of the whole site.
    """

    stratum: NDArray[np.int64]
    counts: Counts
    days: Counts
    rate: Counts
    spread: Counts
    shapes: tuple[float, ...]
    dispersion: float
    day_variance: float = _DAY_VARIANCE

    @classmethod
    def learn(
        cls,
        stratum: NDArray[np.int64],
        counts: Counts,
        days: Counts,
        squares: Counts,
        by_day: tuple[Counts, Counts] | None = None,
    ) -> Self:
        """Learn rates, spread of cameras and dispersion from the days before.

        Args:
            stratum: number of each camera's stratum, (cameras,), from 0 without gaps.
            counts: sum over the camera's days, (cameras,).
            days: of watching, (cameras,); 0 where nothing is known.
            squares: sum of the squares of the days' counts, (cameras,).
            by_day: counts and camera-days of the whole site on each of these days, (days,) each;
                without them days are taken to differ a little.
        """
        if days.sum() <= 0:
            # Nothing tells the strata or the cameras apart: one stratum, and several k.
            return cls(
                np.zeros_like(stratum),
                counts,
                days,
                np.full(1, _UNKNOWN_RATE),
                np.full(1, _UNKNOWN_SPREAD),
                _UNKNOWN_SHAPES,
                1.0,
            )
        strata = int(stratum.max(initial=-1)) + 1
        by_stratum = np.bincount(stratum, counts, strata).astype(np.float64)
        days_by_stratum = np.bincount(stratum, days, strata)
        overall = (counts.sum() + 0.5) / days.sum()
        dispersion = _dispersion(counts, days, squares)
        # A stratum of which little is known is taken to be like the others, as far as these are
        # alike.
        expected = overall * days_by_stratum
        alike = dispersion / _variance(by_stratum, expected, dispersion)
        rate = overall * (alike + by_stratum) / (alike + expected)
        variance = _variance(counts, rate[stratum] * days, dispersion)
        spread = np.sqrt(_SPREAD**2 + dispersion / (alike + by_stratum))
        day_variance = _DAY_VARIANCE
        if by_day is not None:
            expected = overall * by_day[1]
            day_variance = max(day_variance, _variance(by_day[0], expected, dispersion))
        return cls(stratum, counts, days, rate, spread, (1 / variance,), dispersion, day_variance)

    def levels(self, counts: Counts, expected: Counts) -> Counts:
        """How lively each day is on the whole site; 1 is as before.

        The mean of each day's own factor, Gamma with `day_variance`, after its counts.

        Args:
            counts: of the champion on each day, (days,).
            expected: of it at the cameras that it watched, (days,).
        """
        shrink = self.dispersion / self.day_variance
        return (shrink + counts) / (shrink + expected)

    def log_likelihoods(
        self,
        n0: Counts,
        t0: Counts,
        n1: Counts,
        t1: Counts,
        ratios: Counts,
    ) -> Counts:
        """Log likelihood of each ratio, (ratios,), up to what they have in common.

        Args:
            n0: counts of the champion, live or in shadow, (cameras,).
            t0: its camera-days, (cameras,).
            n1: counts of the challenger, (cameras,).
            t1: its camera-days, (cameras,).
            ratios: challenger's rate over the champion's, (ratios,), over 0.
        """
        seen = np.flatnonzero((t0 > 0) | (t1 > 0))
        if not len(seen):
            return np.zeros(len(ratios))
        seen = seen[np.argsort(self.stratum[seen], kind="stable")]
        strata, first = np.unique(self.stratum[seen], return_index=True)
        d = self.dispersion
        nu = self.rate[self.stratum[seen]] / d
        by_shape = []
        for shape in self.shapes:
            base = shape + nu * self.days[seen]
            power = shape + (self.counts[seen] + n0[seen]) / d
            weight = _weights(
                power / (base + nu * t0[seen]) * nu * t1[seen],
                n1[seen] / d,
                power,
                self.days[seen] + t0[seen] > 0,
            )
            n = weight * n1[seen] / d
            cameras = _Cameras(
                base=base,
                power=power + n,
                exposed=nu * (t0[seen] + ratios[:, None] * weight * t1[seen]),
                first=first,
            )
            counted = np.add.reduceat(n0[seen] / d + n, first)
            logs = cameras.integrated(counted, self.spread[strata]).sum(axis=1)
            logs += n.sum() * np.log(ratios)
            if len(self.shapes) > 1:
                from scipy.special import gammaln

                logs += (shape * np.log(shape) - gammaln(shape) + gammaln(cameras.power)).sum()
            by_shape.append(logs)
        return _log_sum(np.stack(by_shape, axis=1))

    def log_e_worse(self, n0: Counts, t0: Counts, n1: Counts, t1: Counts) -> float:
        """Log e-value against "the challenger's rate is at most the champion's"."""
        ratios = np.array([1.0, *WORSE])
        logs = self.log_likelihoods(n0, t0, n1, t1, ratios)
        return _log_mixture(logs[1:] - logs[0], np.array(list(WORSE.values())))

    def log_e_not_worse(
        self, n0: Counts, t0: Counts, n1: Counts, t1: Counts, margin: float
    ) -> float:
        """Log e-value against "the challenger's rate is `margin` times the champion's or more"."""
        below = [ratio for ratio in NOT_WORSE if ratio < 0.95 * margin]
        logs = self.log_likelihoods(n0, t0, n1, t1, np.array([margin, *below]))
        return _log_mixture(logs[1:] - logs[0], np.full(len(below), 1 / len(below)))

    def ratio(self, n0: Counts, t0: Counts, n1: Counts, t1: Counts) -> float | None:
        """The likeliest ratio, 1/16 to 16; none where one of the two never watched."""
        if not t1.sum() or not t0.sum() + self.days.sum() or not n1.sum() + n0.sum():
            return None
        return float(_RATIOS[int(self.log_likelihoods(n0, t0, n1, t1, _RATIOS).argmax())])


def log_e_fewer(count: float, days: float, rate: float, dispersion: float = 1.0) -> float:
    """Log e-value against "counts come at `rate` per day or more".

    The mixture over lower rates of a Poisson's likelihood over that of `rate`, which is the hardest
    of the null's. Cameras differ, but a sum of their Poisson counts is one; counts and rate are
    divided by `dispersion` (see Bursts).
    """
    shares = np.array(FEWER)
    logs = (count * np.log(shares) + (1 - shares) * rate * days) / dispersion
    return _log_mixture(logs, np.full(len(shares), 1 / len(shares)))


@dataclass(frozen=True)
class _Cameras:
    """Cameras sorted by stratum: what their likelihood is made of, besides phi.

    Attributes:
        base: k + nu * T, (cameras,).
        power: k + y + n0 + n1, (cameras,).
        exposed: nu * (t0 + r * t1), (ratios, cameras).
        first: place of each stratum's first camera, (strata,).
    """

    base: Counts
    power: Counts
    exposed: Counts
    first: NDArray[np.intp]

    def integrated(self, counted: Counts, spread: Counts) -> Counts:
        """Log of the integral over phi of each stratum's likelihood, (ratios, strata).

        By Laplace's method: in log phi the integrand is log-concave, so that Newton's method finds
        its only peak. `counted`: counts of each stratum; `spread`: of log phi.
        """
        size = np.diff(np.append(self.first, len(self.base)))
        log_phi = np.zeros((len(self.exposed), len(self.first)))
        curvature = np.ones_like(log_phi)
        for _ in range(_NEWTON):
            x = self.exposed * np.exp(np.repeat(log_phi, size, axis=1))
            share = x / (self.base + x)
            slope = counted - self._summed(self.power * share) - log_phi / spread**2
            curvature = self._summed(self.power * share * (1 - share)) + spread**-2
            step = np.clip(slope / curvature, -1.0, 1.0)
            log_phi += step
            if np.abs(step).max() < _CLOSE:
                break
        x = self.exposed * np.exp(np.repeat(log_phi, size, axis=1))
        peak = counted * log_phi - self._summed(self.power * np.log(self.base + x))
        found: Counts = peak - 0.5 * (log_phi / spread) ** 2 - 0.5 * np.log(curvature * spread**2)
        return found

    def _summed(self, values: Counts) -> Counts:
        """Over each stratum's cameras, (ratios, strata)."""
        found: Counts = np.add.reduceat(values, self.first, axis=1)
        return found


def _weights(
    expected: Counts,
    counts: Counts,
    power: Counts,
    known: NDArray[np.bool_],
) -> Counts:
    """Of each camera's counts under the challenger, by how far versions suit cameras, (cameras,).

    Where the champion never watched, a loud camera and a version that does not suit it are the same
    thing, for which the shapes stand.

    Args:
        expected: of a challenger like the champion, by the champion's counts, (cameras,).
        counts: the challenger's, (cameras,).
        power: of the Gamma that the camera's own factor has after the champion's, (cameras,).
        known: where the champion watched, before or during the rollout, (cameras,).
    """
    total = float(expected[known].sum())
    if total <= 0:
        return np.ones_like(expected)
    mean = np.where(known, expected, 0.0) * float(counts[known].sum()) / total
    beyond = float(((counts - mean)[known] ** 2).sum() - (mean + mean**2 / power).sum())
    information = float((mean**2 * (1 + 1 / power)).sum())
    variance = max(0.0, (_SUITS_KNOWN * _SUITS + beyond) / (_SUITS_KNOWN + information))
    found: Counts = np.where(known, 1 / (1 + variance * expected), 1.0)
    return found


def _log_sum(logs: Counts) -> Counts:
    """Log of the sum over the last axis of what is given by its logarithms."""
    top = logs.max(axis=-1)
    found: Counts = np.log(np.exp(logs - top[..., None]).sum(axis=-1)) + top
    return found


def _log_mixture(logs: Counts, weights: Counts) -> float:
    top = float(logs.max())
    return top + float(np.log((weights * np.exp(logs - top)).sum()))


def _dispersion(counts: Counts, days: Counts, squares: Counts) -> float:
    """Variance over mean of a camera's days, pooled over cameras; at least 1."""
    enough = days >= 2
    m = days[enough]
    scatter = squares[enough] - counts[enough] ** 2 / m
    expected = counts[enough] * (m - 1) / m
    return max(1.0, float(scatter.sum() / expected.sum())) if expected.sum() > 0 else 1.0


def _variance(counts: Counts, expected: Counts, dispersion: float) -> float:
    """Variance of the cameras' own factors, by the method of moments."""
    total = float((expected**2).sum())
    if total <= 0:
        return _LEAST_VARIANCE
    beyond = float(((counts - expected) ** 2 - dispersion * expected).sum()) / total
    return max(_LEAST_VARIANCE, beyond)
