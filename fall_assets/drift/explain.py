"""Which figure moved, on a camera that drifted: several answers side by side.

Here: what tells today's camera-hours from the ordinary ones, by learned tests and by the library's
plain ones. Not here: whether anything moved at all (`daily.py`, `vectors.py`), or what it is called
(`causes.py`). Figures that move together, as height and speed of people do, are told together here,
where tests of single figures each speak for themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fall_assets.drift import tests
from fall_assets.drift.days import part_of
from fall_assets.drift.mmd import Labels
from fall_assets.drift.statistics import (
    MAD_TO_SD,
    effective_size,
    intraclass_correlation,
    two_samples,
)
from fall_assets.drift.stature import with_stature

Real = npt.NDArray[np.float64]

LEAST_HOURS = 8
"""So many camera-hours it takes on the day."""
LEAST_ORDINARY = 20
"""So many it takes on ordinary days."""

_LIMIT = 5.0
_MOST = 0.6


@dataclass(frozen=True)
class Hours:
    """Camera-hours of one camera as vectors, less what is usual in their quarter of the day.

    ordinary (n, f) and today (m, f), finite; `figures` names their columns; `days` (n,) numbers the
    days of the ordinary ones, `parts` the quarters of all.
    """

    figures: tuple[str, ...]
    ordinary: Real
    today: Real
    days: npt.NDArray[np.int64]
    parts: Labels


@dataclass(frozen=True)
class Moved:
    """One figure's part in what tells today from ordinary days.

    share: its part of the whole (0-1), mean of both learned methods; shift: of its median, in
    robust standard deviations of the ordinary hours; difference: what SpotTheDiffDrift adds to the
    ordinary mean; weight: the classifier's coefficient, positive where today is higher; p_ks and
    p_cvm: of Kolmogorov and Smirnov's and of Cramer and von Mises' test of this figure alone, whose
    hours count for as many as they are worth (Kish 1965).
    """

    figure: str
    share: float
    shift: float
    difference: float
    weight: float
    p_ks: float
    p_cvm: float


@dataclass(frozen=True)
class Explanation:
    """All figures, what tells most first, and whether they differ together.

    p_mmd and p_lsdd exchange hours within quarters of the day, which is eager: hours of one day are
    alike. That neither is small says that there is nothing to explain.
    """

    moved: tuple[Moved, ...]
    p_mmd: float
    p_lsdd: float


def hours_of(profile: pl.DataFrame, day: date) -> Hours:
    """The hours of `day` and of ordinary days, of one camera's rows of `camera_profile`.

    Figures are those that most hours have; hours that lack one of them are left out.
    """
    is_today = pl.col("day") == day
    profile = pl.concat(with_stature(profile.filter(~is_today), profile.filter(is_today)))
    wide = profile.pivot("figure", index=["day", "hour"], values="value").sort("day", "hour")
    figures = tuple(
        name
        for name in sorted(set(wide.columns) - {"day", "hour"})
        if all(wide.filter(side)[name].count() >= _MOST * wide.filter(side).height
               for side in (is_today, ~is_today))
    )  # fmt: skip
    whole = wide.drop_nulls(figures).with_columns(part_of(pl.col("hour")).alias("part"))
    usual = whole.filter(~is_today).group_by("part").agg(pl.col(figures).mean().name.suffix("_"))
    centred = whole.join(usual, on="part", how="inner", maintain_order="left").select(
        "day", "part", *(pl.col(name) - pl.col(f"{name}_") for name in figures)
    )
    first, second = centred.filter(~is_today), centred.filter(is_today)
    return Hours(
        figures,
        first.select(figures).to_numpy(),
        second.select(figures).to_numpy(),
        first["day"].rank("dense").cast(pl.Int64).to_numpy(),
        Labels(first["part"].to_numpy(), second["part"].to_numpy()),
    )


def explain(hours: Hours, seed: int = 0) -> Explanation:
    """What tells the day from ordinary days; takes some seconds: meant for cameras that drifted.

    Values are limited to 5 robust standard deviations on the ordinary scale and then given a common
    one, so that a figure that left its range by far does not hide the others.

    Raises ValueError where there are fewer than 8 hours, or fewer than 20 ordinary ones.
    """
    if len(hours.ordinary) < LEAST_ORDINARY:
        raise ValueError(f"need {LEAST_ORDINARY} ordinary hours, got {len(hours.ordinary)}")
    first, second = two_samples(hours.ordinary, hours.today, LEAST_HOURS)
    if len(hours.figures) != first.shape[1]:
        raise ValueError(
            f"need a name for each of {first.shape[1]} figures, got {len(hours.figures)}"
        )
    before, after = _scaled(first, second)
    told = tests.classifier_two_sample(before, after, permutations=1, seed=seed)
    difference = tests.spot_the_difference(before, after, seed)[1]
    shares = 0.5 * (_shares(told.weights) + _shares(difference))
    shift = np.median(_standardised(first, second), axis=0)
    worth = _worth(hours)
    p_ks, p_cvm = (test(first, second, effective=worth)[1] for test in (tests.ks, tests.cvm))
    columns = zip(
        hours.figures, *(map(float, column) for column in
        (shares, shift, difference, told.weights, p_ks, p_cvm)), strict=True,
    )  # fmt: skip
    moved = sorted((Moved(*column) for column in columns), key=lambda one: -one.share)
    together = (
        test(before, after, permutations=199, seed=seed, strata=hours.parts)[1]
        for test in (tests.mmd, tests.lsdd)
    )
    return Explanation(tuple(moved), *together)


def _standardised(first: Real, second: Real) -> Real:
    """The second in robust standard deviations of the first."""
    centre = np.median(first, axis=0)
    spread = MAD_TO_SD * np.median(np.abs(first - centre), axis=0)
    spread = np.where(spread > 0, spread, first.std(axis=0))
    spread = np.where(spread > 0, spread, np.where(second.std(axis=0) > 0, second.std(axis=0), 1.0))
    scaled: Real = (second - centre) / spread
    return scaled


def _scaled(first: Real, second: Real) -> tuple[Real, Real]:
    both = np.clip(_standardised(first, np.concatenate([first, second])), -_LIMIT, _LIMIT)
    return both[: len(first)], both[len(first) :]


def _worth(hours: Hours) -> tests.EffectiveSizes:
    """How many independent hours each side is worth, per figure: hours of a day are alike."""
    today = np.zeros(len(hours.today), np.int64)
    alike = [intraclass_correlation([(column, hours.days)]) for column in hours.ordinary.T]
    sizes = [
        np.array([effective_size(labels, one) for one in alike]) for labels in (hours.days, today)
    ]
    return tests.EffectiveSizes(*sizes)


def _shares(values: npt.NDArray[np.floating[Any]]) -> Real:
    total = float(np.abs(values).sum())
    shares: Real = np.abs(values) / total if total > 0 else np.zeros(len(values))
    return shares
