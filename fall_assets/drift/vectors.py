"""Have vectors of camera-hours changed? Calibrated by how ordinary days differ from one another.

Here: MMD and LSDD of one day against ordinary days. Not here: tests of single figures
(`daily.py`), or the plain permutation test (`mmd.py`), which asks whether rows may be exchanged.
Hours of one day may not: days differ from one another on an ordinary ward, so that every day would
be drift. A day is therefore measured by the same statistic as each ordinary day against the
others, and its p-value is how far out it lies among those: a prediction interval of log statistics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fall_assets.drift.mmd import Labels, mmd_test
from fall_assets.drift.statistics import pooled_tail

Real = npt.NDArray[np.float64]

_CENTRES = 100
_RIDGE = 0.1
_LEAST_DAYS = 5
_LEAST_ROWS = 2
_LEAST_SPREAD = 0.3
_NOTHING = 1e-12
_HOURS = 199
_SUSPICIOUS = 0.05
_LIMIT = 6.0


@dataclass(frozen=True)
class Vectors:
    """One camera's rows: ordinary (n, f), the number of each one's day (n,), today's (m, f).

    `strata` are the quarters of the day of both; hours are exchanged within them only.
    """

    ordinary: npt.NDArray[Any]
    days: npt.NDArray[np.int_]
    today: npt.NDArray[Any]
    strata: Labels | None = None

    def checked(self) -> tuple[Real, Real]:
        """Ordinary and today's rows; ValueError where they do not fit or are not finite."""
        first = np.asarray(self.ordinary, np.float64)
        second = np.asarray(self.today, np.float64)
        if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
            raise ValueError(f"need rows of the same figures, got {first.shape} and {second.shape}")
        if not len(first) or not len(second) or len(self.days) != len(first):
            raise ValueError(
                f"need rows on both sides and a day for each, got {len(first)}, {len(second)} and "
                f"{len(self.days)} days"
            )
        if not (np.isfinite(first).all() and np.isfinite(second).all()):
            raise ValueError("a row holds NaN or infinity; leave it out")
        return first, second


@dataclass(frozen=True)
class VectorTest:
    """One day against ordinary days. `p_value` is None with few of them or few of today's hours."""

    mmd: float
    lsdd: float
    p_value: float | None


@dataclass(frozen=True)
class _Statistics:
    """Of each ordinary day against the others, and last of today; and what the hours say."""

    mmd: Real
    lsdd: Real
    hours_p: float


def vector_tests(cameras: Mapping[str, Vectors]) -> dict[str, VectorTest]:
    """Compare today's rows of each camera with those of its ordinary days.

    Every figure is centred and scaled by the ordinary rows' median and spread. The statistics are
    the biased maximum mean discrepancy with a Gaussian kernel of median width (Gretton et al., JMLR
    13, 2012) and the least-squares density difference on up to 100 kernel centres (Sugiyama et al.,
    Neural Computation 25, 2013). Today's is compared with each ordinary day's against the others,
    as logarithms, which are about normal, with a variance shrunk over all cameras
    (`statistics.pooled_tail`). The p-value is twice the smaller of the two, at most 1.

    Before days are asked, hours are: where a permutation of today's hours and the ordinary ones,
    within strata, already says that they may be exchanged, there is nothing to ask, and its p-value
    is the smallest that is given.

    Raises ValueError for empty or unequal input, or values that are not finite.
    """
    found = {camera_id: _measured(cameras[camera_id]) for camera_id in sorted(cameras)}
    logs = [
        {
            camera_id: np.log(values)
            for camera_id, one in found.items()
            if len(values := (one.mmd, one.lsdd)[place]) > _LEAST_DAYS
        }
        for place in (0, 1)
    ]
    tests = {}
    for camera_id, one in found.items():
        p_value = None
        if camera_id in logs[0]:
            tails = [
                pooled_tail(
                    own[camera_id][-1],
                    own[camera_id][:-1],
                    [others[:-1] for name, others in own.items() if name != camera_id],
                    _LEAST_SPREAD,
                )
                for own in logs
            ]
            p_value = min(1.0, 2 * min(tails))
            if one.hours_p > _SUSPICIOUS:
                p_value = max(p_value, one.hours_p)
        tests[camera_id] = VectorTest(float(one.mmd[-1]), float(one.lsdd[-1]), p_value)
    return tests


def _measured(vectors: Vectors) -> _Statistics:
    first, second = vectors.checked()
    if len(second) < _LEAST_ROWS:
        nothing = np.full(1, _NOTHING)
        return _Statistics(nothing, nothing, 1.0)
    centre = np.median(first, axis=0)
    spread = 1.4826 * np.median(np.abs(first - centre), axis=0)
    spread = np.where(spread > 1e-9, spread, np.maximum(first.std(axis=0), 1e-9))
    rows = np.clip((np.vstack([first, second]) - centre) / spread, -_LIMIT, _LIMIT)
    numbers = np.unique(vectors.days, return_inverse=True)[1]
    count = int(numbers.max()) + 1
    hours = mmd_test(
        rows[: len(first)], rows[len(first) :], permutations=_HOURS, strata=vectors.strata
    )
    labels = np.concatenate([numbers, np.full(len(second), count)])
    kernel = _kernel(rows)
    return _Statistics(_mmd(kernel, labels, count), _lsdd(kernel, labels, count), hours.p_value)


def _kernel(rows: Real) -> Real:
    squares = (rows**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * rows @ rows.T, 0.0)
    width = float(np.median(distances[distances > 0])) if (distances > 0).any() else 1.0
    kernel: Real = np.exp(-distances / width)
    return kernel


def _membership(labels: npt.NDArray[np.int_], count: int) -> Real:
    """Weights (n, days + 1): the mean over each day's rows; the last column is today."""
    own = (labels[:, None] == np.arange(count + 1)[None, :]).astype(np.float64)
    means: Real = own / own.sum(axis=0)
    return means


def _contrasts(labels: npt.NDArray[np.int_], count: int) -> Real:
    """Columns of weights: each day's mean less that of all other ordinary days."""
    own = _membership(labels, count)
    sizes = np.bincount(labels, minlength=count + 1).astype(np.float64)
    rows: Real = own * sizes
    ordinary = rows[:, :count].sum(axis=1)
    columns = []
    for place in range(count + 1):
        rest = ordinary - (rows[:, place] if place < count else 0.0)
        columns.append(own[:, place] - rest / max(rest.sum(), 1.0))
    return np.stack(columns, axis=1)


def _mmd(kernel: Real, labels: npt.NDArray[np.int_], count: int) -> Real:
    """Biased MMD squared of each ordinary day against the others, and last of today."""
    weights = _contrasts(labels, count)
    values: Real = np.einsum("id,id->d", weights, kernel @ weights)
    return np.maximum(values, _NOTHING)


def _lsdd(kernel: Real, labels: npt.NDArray[np.int_], count: int) -> Real:
    """LSDD of each ordinary day against the others, and last of today.

    The integral of products of kernels is a kernel of the distance between their centres, whose
    width is larger by the root of two; its constant cancels in the comparison of days.
    """
    step = max(1, math.ceil(len(kernel) / _CENTRES))
    centres = np.arange(0, len(kernel), step)
    contrast = _contrasts(labels, count).T @ kernel[:, centres]
    gram = np.sqrt(kernel[np.ix_(centres, centres)])
    solved = np.linalg.solve(gram + _RIDGE * np.eye(len(centres)), contrast.T).T
    values: Real = 2 * (solved * contrast).sum(axis=1) - np.einsum(
        "dc,dc->d", solved, solved @ gram
    )
    return np.maximum(values, _NOTHING)
