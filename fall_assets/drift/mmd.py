"""Maximum mean discrepancy of two samples of vectors, its permutations as matrix products.

Here: the statistic, its permutations of rows or of whole blocks of rows, and the p-value. Not here:
which figures are compared, or what counts as drift (see `report.py`). numpy only: alibi-detect's
MMDDrift gives the same statistic and is the yardstick in the tests.

Which side a row is on is a 0 or 1. With K the kernel matrix of all rows, its diagonal left out, and
z the 0/1 vector of one permutation, the sums of K within and between the sides are z'Kz, z'K1 and
1'K1: B permutations are one product K Z with Z of shape (rows, B), and sums over columns.
alibi-detect copies K twice per permutation in another order instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fall_assets.drift.statistics import two_samples

Real = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]
Kernel = npt.NDArray[np.floating[Any]]
Whole = npt.NDArray[np.int_]
Sides = npt.NDArray[np.bool_]

PANEL = 512
"""Rows of the kernel matrix that are worked on at a time."""
CHUNK = 512
"""Permutations that are drawn and multiplied at a time."""
EXACT_UNITS = 1024
"""Up to so many rows or blocks, permutations are multiplied in double precision: among few
arrangements the observed one is drawn again, and must then count as equal."""
COINCIDE = 4e-6
"""Squared distances below this share of a row's squared norm are rounding in single precision."""
TIE = {np.dtype(np.float32): 1e-8, np.dtype(np.float64): 1e-12}
"""Statistics closer than this are counted as equal (K is at most 1): rounding, by precision."""


@dataclass(frozen=True)
class Labels:
    """A label of each row: `reference` of shape (n,), `today` of shape (m,), of one sortable type.

    As blocks, the same label on both sides still means two blocks: one on each.
    """

    reference: npt.NDArray[Any]
    today: npt.NDArray[Any]


@dataclass(frozen=True)
class MmdTest:
    """What the test gave.

    `statistic` is the unbiased MMD squared, `p_value` is (b + 1) / (B + 1) and at least
    `smallest_p`, which the number of arrangements allows; `bandwidth` is sigma of the kernel
    exp(-d^2 / (2 sigma^2)), 0 where all rows are equal. `units` are the blocks (without blocks: the
    rows) of the reference and of today that were compared.
    """

    statistic: float
    p_value: float
    smallest_p: float
    bandwidth: float
    units: tuple[int, int]


@dataclass(frozen=True)
class Arrangement:
    """What a permutation may exchange. Rows are sorted by unit, the reference's first."""

    order: Whole  # rows of reference and today together, as they are to be sorted; (rows,)
    sizes: Whole  # rows of each unit; (units,)
    today: Sides  # side of each unit; (units,)
    strata: list[tuple[Whole, int]]  # the units of each stratum, and how many of them are today's

    @property
    def units(self) -> tuple[int, int]:
        """How many the reference and today have."""
        return int((~self.today).sum()), int(self.today.sum())

    def smallest_p(self) -> float:
        """One over the number of arrangements; two over it where swapping the sides is one of them.

        The statistic is the same when the sides are swapped.
        """
        log_choices = sum(
            math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
            for n, k in ((len(units), count) for units, count in self.strata)
        )
        swap = all(len(units) == 2 * count for units, count in self.strata)
        return min(1.0, (2 if swap else 1) * math.exp(-log_choices))

    def draw(self, rng: np.random.Generator, permutations: int) -> Sides:
        """Today's units by chance, within each stratum as many as it has; (permutations, units)."""
        keys = rng.random((permutations, len(self.today)))
        sides = np.zeros(keys.shape, np.bool_)
        for units, count in self.strata:
            chosen = np.argpartition(keys[:, units], count - 1, axis=1)[:, :count]
            np.put_along_axis(sides, units[chosen], True, axis=1)
        return sides


def mmd_test(
    reference: npt.NDArray[np.floating[Any]],
    today: npt.NDArray[np.floating[Any]],
    *,
    permutations: int = 100,
    seed: int = 0,
    blocks: Labels | None = None,
    strata: Labels | None = None,
    arrangements: Sides | None = None,
) -> MmdTest:
    """Whether two samples of vectors are of one distribution: permutation test on MMD squared.

    reference (n, f), today (m, f), finite, n and m at least 2; figures standardised, since the
    kernel matrix is in single precision. Gaussian kernel, its width by the median heuristic on the
    reference as alibi-detect has it; unbiased MMD squared (Gretton et al., JMLR 13, 2012);
    p = (b + 1) / (B + 1) (Phipson and Smyth 2010), b of B permutations with a statistic as large.

    `blocks`: rows of one block (a camera-hour) resemble each other; a permutation moves blocks as
    wholes. In the statistic every block counts the same: the kernel of two blocks is its mean over
    their pairs of rows, so that a block of one row is a row. Pairs of rows of one block are left
    out, as a row with itself is. Where the blocks of the reference are smaller than today's or the
    other way round, counting rows would hide nearly every change behind the sizes.
    `strata` (hour of day): units are exchanged within their stratum only. A stratum that only one
    side has cannot be compared, its rows are left out. A block lies in one stratum.

    `arrangements` of shape (B, n + m), True for today's rows, replaces the drawn permutations; only
    without blocks and strata. The same seed gives the same p-value; with blocks, whatever the order
    of rows. Where more than half of the reference's pairs of rows coincide, the width is the median
    of all distances above 0.

    Memory: at most one matrix of (n + m)^2 single-precision numbers, of which the upper half is
    touched, and CHUNK permutations.

    Raises ValueError where samples or labels do not fit, or a side has fewer than 2 units.
    """
    first, second = two_samples(reference, today, 2)
    if arrangements is None and permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    if arrangements is not None and (blocks is not None or strata is not None):
        raise ValueError("arrangements are of rows: leave out blocks and strata")
    design = arrangement_of(len(first), len(second), blocks, strata)
    if arrangements is not None and (
        arrangements.ndim != 2
        or arrangements.shape[1] != len(design.today)
        or not len(arrangements)
        or (arrangements.sum(axis=1) != len(second)).any()
    ):
        raise ValueError(
            f"need arrangements of shape (B, {len(design.today)}) with {len(second)} rows of today "
            f"each, got shape {arrangements.shape}"
        )
    rows = np.concatenate([first, second])[design.order]
    # Distances do not change, and are exact to fewer digits far from 0.
    rows -= first.mean(axis=0)
    of_reference = int(design.sizes[~design.today].sum())
    kernel, bandwidth = _kernel(rows.astype(np.float32), of_reference)
    floor = design.smallest_p()
    if bandwidth == 0.0:
        return MmdTest(0.0, 1.0, floor, 0.0, design.units)
    if blocks is not None:
        kernel = _means_by_unit(kernel, design.sizes)
    elif len(kernel) <= EXACT_UNITS:
        # What lies below was never set.
        kernel = np.triu(kernel, 1).astype(np.float64)

    per_row = _row_sums(kernel)
    statistic = float(_statistics(kernel, per_row, design.today[None])[0])
    rng = np.random.default_rng(seed)
    total = permutations if arrangements is None else len(arrangements)
    as_large = 0
    for start in range(0, total, CHUNK):
        count = min(CHUNK, total - start)
        drawn = (
            design.draw(rng, count) if arrangements is None else arrangements[start : start + count]
        )
        permuted = _statistics(kernel, per_row, drawn)
        as_large += int((permuted >= statistic - TIE[kernel.dtype]).sum())
    p_value = max((as_large + 1) / (total + 1), floor)
    return MmdTest(statistic, p_value, floor, bandwidth, design.units)


def arrangement_of(n: int, m: int, blocks: Labels | None, strata: Labels | None) -> Arrangement:
    """Sort rows into units and units into strata; ValueError where labels do not fit."""
    side = np.arange(n + m) >= n
    block = np.arange(n + m) if blocks is None else _numbers(blocks, n, m, "blocks")
    stratum = np.zeros(n + m, np.int_) if strata is None else _numbers(strata, n, m, "strata")
    # A stratum of one side only has nothing to be exchanged with.
    both = np.intersect1d(stratum[~side], stratum[side])
    kept = np.flatnonzero(np.isin(stratum, both))
    # The two blocks of one label are two units: sorted by side first.
    order = kept[np.lexsort((block[kept], stratum[kept], side[kept]))]
    keys = np.stack([side[order], stratum[order], block[order]])
    starts = np.flatnonzero(np.any(np.diff(keys, axis=1, prepend=-1), axis=0))
    sizes = np.diff(starts, append=len(order))
    today, of_unit = keys[0, starts] == 1, keys[1, starts]
    if len(np.unique(keys[::2, starts], axis=1).T) < len(starts):
        raise ValueError("a block lies in more than one stratum: label blocks by hour as well")
    if min((~today).sum(), today.sum()) < 2:
        raise ValueError(
            f"need at least 2 blocks or rows on each side in strata that both have, got "
            f"{int((~today).sum())} and {int(today.sum())}"
        )
    members = [np.flatnonzero(of_unit == number) for number in both]
    return Arrangement(order, sizes, today, [(each, int(today[each].sum())) for each in members])


def _numbers(labels: Labels, n: int, m: int, name: str) -> Whole:
    """Labels of reference and today as whole numbers from 0, in their order; shape (n + m,)."""
    first, second = np.asarray(labels.reference), np.asarray(labels.today)
    if first.shape != (n,) or second.shape != (m,):
        raise ValueError(
            f"need {name} of shapes ({n},) and ({m},), got {first.shape} and {second.shape}"
        )
    numbers: Whole = np.unique(np.concatenate([first, second]), return_inverse=True)[1]
    return numbers


def _panels(rows: int) -> list[slice]:
    return [slice(start, min(start + PANEL, rows)) for start in range(0, rows, PANEL)]


def _kernel(rows: Single, of_reference: int) -> tuple[Kernel, float]:
    """Kernel matrix of all pairs of rows, and the width sigma; 0.0 where all rows are equal.

    rows (r, f), the first `of_reference` set the width. Only what lies above the diagonal is set;
    the diagonal and what is left of it in the same panel are 0.
    """
    norms = np.einsum("if,if->i", rows, rows)
    ones = np.ones_like(norms)
    # |x|^2 + |y|^2 - 2xy as one product.
    left = np.column_stack([rows * np.float32(-2), norms, ones])
    right = np.column_stack([rows, ones, norms])
    # Pages that are never touched take no memory.
    kernel = np.empty((len(rows), len(rows)), np.float32)
    for panel in _panels(len(rows)):
        np.matmul(left[panel], right[panel.start :].T, out=kernel[panel, panel.start :])
    del left, right

    median = _median_distance(kernel[:of_reference, :of_reference])
    if median <= COINCIDE * float(np.median(norms[:of_reference])):
        median = _median_distance(kernel, COINCIDE * norms)
    scale = np.float32(-1.0 / median) if median > 0 else np.float32(0)
    for panel in _panels(len(rows)):
        part = kernel[panel, panel.start :]
        np.multiply(part, scale, out=part)
        # Rounding can make a distance negative.
        np.minimum(part, 0, out=part)
        np.exp(part, out=part)
        width = panel.stop - panel.start
        part[:, :width] = np.triu(part[:, :width], 1)
    return kernel, math.sqrt(median / 2)


def _median_distance(distances: Kernel, above: Single | None = None) -> float:
    """Median squared distance of all pairs of rows (the lower of two); 0.0 without any.

    distances (r, r), above its diagonal. alibi-detect takes of all r^2 squared distances, r of them
    of a row to itself and the others twice, the one of rank (r^2 + r) / 2: that is of the
    P = r (r - 1) / 2 pairs the one of rank (P + 1) / 2. `above` (r,) leaves out pairs that are not
    farther apart than both rows say.
    """
    parts = [distances[row, row + 1 :] for row in range(len(distances))]
    if above is not None:
        parts = [
            part[part > np.maximum(above[row], above[row + 1 :])] for row, part in enumerate(parts)
        ]
    values = np.concatenate(parts)
    if not len(values):
        return 0.0
    rank = (len(values) - 1) // 2
    values.partition(rank)
    return max(0.0, float(values[rank]))


def _means_by_unit(kernel: Kernel, sizes: Whole) -> Real:
    """Mean of the kernel over the pairs of rows of two different units; (units, units), upper."""
    ends = np.cumsum(sizes)
    starts = ends - sizes
    sums = np.zeros((len(sizes), len(sizes)))
    for panel in _panels(len(kernel)):
        low = int(np.searchsorted(ends, panel.start, side="right"))
        high = int(np.searchsorted(starts, panel.stop))
        part = kernel[panel, panel.start :]
        columns = np.maximum(starts[low:] - panel.start, 0)
        across = np.add.reduceat(part, columns, axis=1)
        down = np.add.reduceat(across, columns[: high - low], axis=0, dtype=np.float64)
        sums[low:high, low:] += down
    # Rows are sorted by unit: a pair of rows never lands below the diagonal.
    np.fill_diagonal(sums, 0.0)
    sums /= sizes[:, None]
    sums /= sizes
    return sums


def _row_sums(kernel: Kernel) -> Real:
    """Sum of each row of the whole symmetric matrix; (units,)."""
    sums = np.zeros(len(kernel))
    for panel in _panels(len(kernel)):
        part = kernel[panel, panel.start :]
        sums[panel] += part.sum(axis=1)
        sums[panel.start :] += part.sum(axis=0)
    return sums


def _statistics(kernel: Kernel, row_sums: Real, sides: Sides) -> Real:
    """Unbiased MMD squared of each arrangement; sides (B, units), the result (B,).

    kernel (units, units) above its diagonal, row_sums (units,).
    """
    weights = sides.T.astype(kernel.dtype)
    second = np.zeros(len(sides))
    for panel in _panels(len(kernel)):
        product = kernel[panel, panel.start :] @ weights[panel.start :]
        product *= weights[panel]
        second += 2 * product.sum(axis=0, dtype=np.float64)
    across = sides @ row_sums - second
    first = row_sums.sum() - 2 * across - second
    m = int(sides[0].sum())
    n = len(kernel) - m
    statistics: Real = first / (n * (n - 1)) + second / (m * (m - 1)) - 2 * across / (n * m)
    return statistics
