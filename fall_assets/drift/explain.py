"""Which figure moved, on a camera that drifted: two learned answers side by side.

Here: what tells today's camera-hours from the ordinary ones. Not here: whether anything moved at
all (`daily.py`, `vectors.py`), or what it is called (`causes.py`). Figures that move together, as
height and speed of people do, are told together here, where tests of single figures each speak for
themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fall_assets.drift import tests
from fall_assets.drift.days import part_of
from fall_assets.drift.statistics import MAD_TO_SD, two_samples

Real = npt.NDArray[np.float64]

LEAST_HOURS = 8
"""So many camera-hours it takes on each side."""

_LIMIT = 5.0
_MOST = 0.6


@dataclass(frozen=True)
class Moved:
    """One figure's part in what tells today from ordinary days.

    share: its part of the whole (0-1), mean of both methods; shift: of its median, in robust
    standard deviations of the ordinary hours; difference: what SpotTheDiffDrift adds to the
    ordinary mean; weight: the classifier's coefficient, positive where today is higher.
    """

    figure: str
    share: float
    shift: float
    difference: float
    weight: float


def hours_of(profile: pl.DataFrame, day: date) -> tuple[list[str], Real, Real]:
    """Camera-hours of one camera as vectors, less what is usual in that quarter of the day.

    `profile` are its rows of `camera_profile`, of `day` and of ordinary days. Returns the figures
    that most hours have, ordinary hours (n, f) and the day's (m, f); hours that lack one of them
    are left out.
    """
    wide = profile.pivot("figure", index=["day", "hour"], values="value").sort("day", "hour")
    today = pl.col("day") == day
    names = [name for name in wide.columns if name not in ("day", "hour")]
    figures = [
        name
        for name in sorted(names)
        if all(wide.filter(side)[name].count() >= _MOST * wide.filter(side).height
               for side in (today, ~today))
    ]  # fmt: skip
    whole = wide.drop_nulls(figures).with_columns(part_of(pl.col("hour")).alias("part"))
    usual = whole.filter(~today).group_by("part").agg(pl.col(figures).mean().name.suffix("_"))
    centred = whole.join(usual, on="part", how="inner", maintain_order="left").select(
        "day", *(pl.col(name) - pl.col(f"{name}_") for name in figures)
    )
    sides = [centred.filter(side).select(figures).to_numpy() for side in (~today, today)]
    return figures, sides[0], sides[1]


def what_moved(
    ordinary: npt.NDArray[np.floating[Any]],
    today: npt.NDArray[np.floating[Any]],
    figures: Sequence[str],
    seed: int = 0,
) -> list[Moved]:
    """The figures in the order in which they tell today from ordinary days.

    ordinary (n, f), today (m, f): camera-hours of one camera, less what is usual at that time of
    day, finite; n and m at least 8; `figures` names the columns. Values are limited to 5 robust
    standard deviations on the ordinary scale and then given a common one, so that a figure that
    left its range by far does not hide the others. Takes a second or two: meant for cameras that
    drifted. No p-value: hours of one day are not independent.
    """
    first, second = two_samples(ordinary, today, LEAST_HOURS)
    if len(figures) != first.shape[1]:
        raise ValueError(f"need a name for each of {first.shape[1]} figures, got {len(figures)}")
    centre = np.median(first, axis=0)
    spread = MAD_TO_SD * np.median(np.abs(first - centre), axis=0)
    spread = np.where(spread > 0, spread, first.std(axis=0))
    spread = np.where(spread > 0, spread, np.where(second.std(axis=0) > 0, second.std(axis=0), 1.0))
    before, after = (np.clip((side - centre) / spread, -_LIMIT, _LIMIT) for side in (first, second))
    shift = np.median((second - centre) / spread, axis=0)
    told = tests.classifier_two_sample(before, after, permutations=1, seed=seed)
    difference = tests.spot_the_difference(before, after, seed)[1]
    shares = 0.5 * (_shares(told.weights) + _shares(difference))
    order = np.argsort(-shares, kind="stable")
    return [
        Moved(
            figures[place],
            float(shares[place]),
            float(shift[place]),
            float(difference[place]),
            float(told.weights[place]),
        )
        for place in order
    ]


def _shares(values: Real) -> Real:
    total = float(np.abs(values).sum())
    shares: Real = np.abs(values) / total if total > 0 else np.zeros(len(values))
    return shares
