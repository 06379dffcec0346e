"""Small statistics that several tests of drift share. scipy is imported where it is needed.

Here: thinning, what samples are worth, and p-values that are corrected or pooled. Not here: tests
of two samples (`tests.py`, `mmd.py`), or what a day is compared with (`daily.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Real = npt.NDArray[np.float64]

MAD_TO_SD = 1.4826
"""Median absolute deviation times this estimates a normal standard deviation (Hampel 1974)."""


POOLED_DAYS = 20.0
"""What is known of the site's other cameras is worth at most so many days of one's own."""


def two_samples(
    reference: npt.NDArray[Any], today: npt.NDArray[Any], minimum: int
) -> tuple[Real, Real]:
    """Both as float64 of shapes (n, f) and (m, f); ValueError where they do not fit."""
    first, second = np.asarray(reference, np.float64), np.asarray(today, np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"need two samples of the same figures, got shapes {first.shape} and {second.shape}"
        )
    if min(len(first), len(second)) < minimum:
        raise ValueError(
            f"need at least {minimum} values on each side, got {len(first)} and {len(second)}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a sample holds NaN or infinity; leave such rows out")
    return first, second


def non_overlapping(features: pl.DataFrame) -> pl.DataFrame:
    """The windows of `features` that do not overlap: every 4th at 4 s windows and 1 s stride.

    Takes any frame with video_id, window, start_s and end_s; the first window of each segment is
    kept, then every k-th by its number, k from the window's length and the stride.
    """
    if features.is_empty():
        return features
    ordered = features.sort("video_id", "window")
    strides = (
        ordered.select(
            (pl.col("start_s").diff() / pl.col("window").diff()).over("video_id").alias("stride_s")
        )
        .to_series()
        .drop_nulls()
    )
    stride_s = strides.median()
    if not isinstance(stride_s, float) or stride_s <= 0:
        return ordered
    length_s = ordered.select((pl.col("end_s") - pl.col("start_s")).max()).item()
    step = max(1, math.ceil(length_s / stride_s - 1e-6))
    return ordered.filter(pl.col("window") % step == 0)


def intraclass_correlation(samples: Sequence[tuple[Real, npt.NDArray[np.int_]]]) -> float:
    """How much values of one segment resemble each other, 0-1: ICC(1) of Shrout and Fleiss 1979.

    Each sample is (values (n,), segment number of each value (n,)); every sample has its own mean,
    the correlation is pooled. 1 where values never differ within a segment, or where no segment
    gave two values, so that each segment counts once.
    """
    between = within = 0.0
    between_df = within_df = 0
    squares = total = 0
    for values, segments in samples:
        if not len(values):
            continue
        _, index, counts = np.unique(segments, return_inverse=True, return_counts=True)
        means = np.bincount(index, weights=values) / counts
        between += float((counts * (means - values.mean()) ** 2).sum())
        within += float(((values - means[index]) ** 2).sum())
        between_df += len(counts) - 1
        within_df += len(values) - len(counts)
        squares += int((counts**2).sum())
        total += len(values)
    if within_df == 0 or between_df == 0 or within <= 0.0:
        return 1.0
    size = squares / total
    between_mean, within_mean = between / between_df, within / within_df
    correlation = (between_mean - within_mean) / (between_mean + (size - 1) * within_mean)
    return float(np.clip(correlation, 0.0, 1.0))


def effective_size(segments: npt.NDArray[np.int_], correlation: float) -> float:
    """How many independent values these are worth: n / (1 + (m - 1) r), Kish 1965.

    `segments` (n,) tells the segment of each value, `correlation` r is the one within segments;
    m is the mean segment size as a value sees it.
    """
    counts = np.unique(segments, return_counts=True)[1]
    n = int(counts.sum())
    if n == 0:
        return 0.0
    size = float((counts**2).sum() / n)
    return n / (1.0 + (size - 1.0) * correlation)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given: Holm 1979, steps down, any dependence allowed.

    Rejecting those at most alpha keeps the chance of one false rejection or more below alpha.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, place in enumerate(order):
        running = max(running, (len(p_values) - rank) * p_values[place])
        adjusted[place] = min(1.0, running)
    return adjusted


def pooled_tail(value: float, own: Real, others: Sequence[Real], least_spread: float) -> float:
    """How far above a camera's own ordinary values one more value lies: a one-sided p-value.

    `own` (n,), n at least 2, and the `others` are values of ordinary days of this and of the other
    cameras, about normal on their scale. A prediction interval whose variance is shrunk towards
    that of all cameras (Smyth 2004), worth at most `POOLED_DAYS` days, and is never below
    `least_spread` squared: a quiet month promises nothing.
    """
    from scipy.stats import t

    squares = sum(float(((one - one.mean()) ** 2).sum()) for one in others if len(one) > 1)
    prior = float(sum(max(0, len(one) - 1) for one in others))
    site = squares / prior if prior else 0.0
    prior = min(prior, POOLED_DAYS)
    freedom = prior + len(own) - 1
    variance = (prior * site + float(((own - own.mean()) ** 2).sum())) / freedom
    spread = math.sqrt(max(variance, least_spread**2) * (1 + 1 / len(own)))
    return float(t.sf((value - float(own.mean())) / spread, freedom))
