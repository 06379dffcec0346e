"""Intervals by resampling whole scenes, of one model and of the difference between two. Pure.

What belongs here: sums per scene, resampling, intervals, the paired comparison. What does not:
which slices there are (`slices`), whether a difference matters (`delivery.gate`).

Windows, alarms and even falls of one scene resemble each other (one fall is seen by two cameras,
one patient raises alarm after alarm), so whole scenes are drawn, with replacement, and everything
in them comes along (Efron, Annals of Statistics 7(1), 1979; cluster form: Davison and Hinkley,
Bootstrap Methods and their Application, 1997, section 3.8). With fewer than some ten scenes such
an interval is too narrow; the number of scenes is always told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fall_assets.learning.metrics import SECONDS_PER_DAY

Reals = npt.NDArray[np.float64]

FIGURES = (
    "sensitivity",
    "precision",
    "f1",
    "false_alarms_per_camera_day",
    "delay_median_s",
    "delay_p95_s",
)
"""What is resampled, by the names of the table `evaluation`."""

MORE_IS_BETTER = frozenset({"sensitivity", "precision", "f1"})
"""Of the others, less is better."""

RESAMPLES = 2000
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Piece:
    """What happened in one part of a slice: all of it belongs to one scene, `unit`.

    `delays_s`: of the falls that were found.
    """

    unit: str
    falls: int = 0
    found: int = 0
    false_alarms: int = 0
    footage_s: float = 0.0
    delays_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class Spread:
    """A figure with its 95 % interval; None where it is not defined.

    `units`: how many scenes it rests on.
    """

    value: float | None
    low: float | None
    high: float | None
    units: int


@dataclass(frozen=True)
class Difference:
    """How two models differ in one figure of one slice, on the same footage.

    Attributes:
        figure: one of `FIGURES`.
        candidate: the figure of the one.
        champion: of the other.
        difference: candidate less champion.
        low: its 95 % interval, from; None where too few resamples define it.
        high: its 95 % interval, to.
        worse_share: of the resamples that define it, those in which the candidate is worse.
        units: scenes that were drawn from.
    """

    figure: str
    candidate: float | None
    champion: float | None
    difference: float | None
    low: float | None
    high: float | None
    worse_share: float | None
    units: int


def spreads(
    pieces: Sequence[Piece], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Spread]:
    """Every figure of a slice with its interval (percentiles of the resamples).

    An interval needs the figure to be defined in half of the resamples or more, and two scenes to
    draw from. The same pieces
    and seed give the same intervals.
    """
    units = sorted({piece.unit for piece in pieces})
    sums = _Sums.of(pieces, units)
    whole = sums.figures(np.ones((1, len(units))))
    drawn = _resampled([sums], len(units), resamples, seed)[0]
    result = {}
    for figure in FIGURES:
        low, high = _interval(drawn[figure]) if len(units) > 1 else (None, None)
        value = float(whole[figure][0])
        result[figure] = Spread(
            None if np.isnan(value) else value,
            None if np.isnan(value) else low,
            None if np.isnan(value) else high,
            len(units),
        )
    return result


def paired(
    candidate: Sequence[Piece],
    champion: Sequence[Piece],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Difference]:
    """How two models differ on the same footage: the same scenes are drawn for both.

    A resample in which both are equal counts as not worse. One scene has no interval, and its
    share is 1 or 0: what happened in it cannot be put down to chance. Where a figure of
    only one model is defined (a model that finds nothing has no delay), there is no difference.
    """
    units = sorted({piece.unit for piece in (*candidate, *champion)})
    both = [_Sums.of(candidate, units), _Sums.of(champion, units)]
    one, other = (sums.figures(np.ones((1, len(units)))) for sums in both)
    drawn, drawn_other = _resampled(both, len(units), resamples, seed)
    result = []
    for figure in FIGURES:
        sign = 1.0 if figure in MORE_IS_BETTER else -1.0
        ours, theirs = float(one[figure][0]), float(other[figure][0])
        gaps = drawn[figure] - drawn_other[figure]
        known = gaps[~np.isnan(gaps)]
        low, high = _interval(gaps)
        enough = low is not None and not np.isnan(ours - theirs)
        result.append(
            Difference(
                figure,
                _or_none(ours),
                _or_none(theirs),
                _or_none(ours - theirs),
                low if enough and len(units) > 1 else None,
                high if enough and len(units) > 1 else None,
                # Sums in another order must not make equals differ.
                float((sign * known < -1e-9).mean()) if enough else None,
                len(units),
            )
        )
    return result


@dataclass(frozen=True)
class _Sums:
    """Sums per scene: `counts` (scenes, 4) and the delays in order with their scene."""

    counts: Reals
    delays_s: Reals
    unit: npt.NDArray[np.int64]

    @classmethod
    def of(cls, pieces: Sequence[Piece], units: Sequence[str]) -> _Sums:
        number = {unit: place for place, unit in enumerate(units)}
        counts = np.zeros((len(units), 4))
        delays: list[tuple[float, int]] = []
        for piece in pieces:
            row = number[piece.unit]
            counts[row] += (piece.falls, piece.found, piece.false_alarms, piece.footage_s)
            delays += [(delay_s, row) for delay_s in piece.delays_s]
        delays.sort()
        return cls(
            counts,
            np.array([delay_s for delay_s, _ in delays], np.float64),
            np.array([row for _, row in delays], np.int64),
        )

    def figures(self, weights: Reals) -> dict[str, Reals]:
        """Every figure under weights (resamples, scenes); NaN where it is not defined."""
        falls, found, alarms, footage_s = (weights @ self.counts).T
        with np.errstate(divide="ignore", invalid="ignore"):
            shown = {
                "sensitivity": found / falls,
                "precision": found / (found + alarms),
                "f1": np.where(falls > 0, 2 * found / (falls + found + alarms), np.nan),
                "false_alarms_per_camera_day": alarms * SECONDS_PER_DAY / footage_s,
            }
        # Nothing over nothing is no figure; alarms without footage (a label's, say) neither.
        values = {name: np.where(np.isinf(value), np.nan, value) for name, value in shown.items()}
        middle, late = self._percentiles(weights, (0.5, 0.95))
        return {**values, "delay_median_s": middle, "delay_p95_s": late}

    def _percentiles(self, weights: Reals, shares: Sequence[float]) -> list[Reals]:
        """Percentiles of the delays by linear interpolation, each as often as its scene."""
        if not len(self.delays_s):
            return [np.full(len(weights), np.nan) for _ in shares]
        until = np.cumsum(weights[:, self.unit], axis=1)
        total = until[:, -1]
        result = []
        for share in shares:
            place = share * np.maximum(total - 1, 0)
            low = np.floor(place)
            # The delay of rank r is the first that r + 1 or more delays do not lie above.
            rank = [(until > at[:, None] + 1e-9).argmax(axis=1) for at in (low, np.ceil(place))]
            first, second = (self.delays_s[at] for at in rank)
            value = first + (second - first) * (place - low)
            result.append(np.where(total > 0, value, np.nan))
        return result


def _resampled(
    several: Sequence[_Sums], units: int, resamples: int, seed: int
) -> list[dict[str, Reals]]:
    """Every figure in every resample, of several models under the same draws."""
    if not units:
        return [{figure: np.full(resamples, np.nan) for figure in FIGURES} for _ in several]
    rng = np.random.default_rng(seed)
    widest = max([units, *(len(sums.delays_s) for sums in several)])
    step = max(1, _AT_ONCE // widest)
    parts: list[list[dict[str, Reals]]] = [[] for _ in several]
    for at in range(0, resamples, step):
        count = min(step, resamples - at)
        weights = rng.multinomial(units, np.full(units, 1 / units), size=count).astype(np.float64)
        for place, sums in enumerate(several):
            parts[place].append(sums.figures(weights))
    return [
        {figure: np.concatenate([part[figure] for part in own]) for figure in FIGURES}
        for own in parts
    ]


def _interval(values: Reals) -> tuple[float | None, float | None]:
    known = values[~np.isnan(values)]
    if len(known) * 2 < len(values) or not len(known):
        return None, None
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
