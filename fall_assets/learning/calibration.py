"""Whether a score of 0.8 means a fall in 8 of 10 windows. Pure.

What belongs here: reliability by window. What does not: events (`metrics`), drawing (`plots`).

Windows overlap (4 s of footage every 0.5 s), and windows of one scene resemble each other: counts
of windows overstate how much is known. Intervals are therefore over resampled scenes, and a bin
that holds windows of one scene has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from fall_assets.learning.metrics import ScoredVideo

Reals = npt.NDArray[np.float64]

NOTE = (
    "Windows overlap and those of one scene resemble each other, so that far fewer of them are "
    "independent than there are; intervals are over resampled scenes."
)


_AT_MOST_MS = 110
"""How far apart a clip and the window that is taken for it may end."""


@dataclass(frozen=True)
class Bin:
    """Windows with scores from `low` to `high`, and how many of them show a fall.

    `share_low` and `share_high`: 95 % interval of the share; None from one scene only.
    """

    low: float
    high: float
    windows: int
    scenes: int
    mean_score: float
    share: float
    share_low: float | None
    share_high: float | None


@dataclass(frozen=True)
class Calibration:
    """Reliability of scores by window.

    Attributes:
        bins: those that hold windows, by score.
        windows: windows with a certain truth.
        falls: of these, those that show a fall.
        ece: expected calibration error: mean distance of a bin's score from its share, weighted by
            windows (Naeini et al., AAAI 2015); None without windows. It depends on the bins.
        ece_low: its 95 % interval over resampled scenes, from. Resampling adds noise to each bin,
            so that the interval of a well calibrated model lies above its own figure.
        ece_high: to.
        brier: mean squared distance of score and truth; None without windows.
    """

    bins: tuple[Bin, ...]
    windows: int
    falls: int
    ece: float | None
    ece_low: float | None
    ece_high: float | None
    brier: float | None


def certain_windows(
    videos: Sequence[ScoredVideo], clips: pl.DataFrame, scenes: Mapping[str, str] | None = None
) -> pl.DataFrame:
    """Scores beside truths: columns `scene`, `score`, `target` (0 or 1).

    Args:
        videos: segments with their scores.
        clips: rows of `clips` (video_id, end_s, target); those without a target are left out, and
            so are those that no window ends with, give or take 0.1 s.
        scenes: scene of each segment; without, each is its own.
    """
    scored = pl.DataFrame(
        {
            "video_id": [video.video_id for video in videos],
            "scene": [(scenes or {}).get(video.video_id, video.video_id) for video in videos],
            "end_s": [list(video.end_s) for video in videos],
            "score": [list(video.score) for video in videos],
        },
        schema={
            "video_id": pl.String,
            "scene": pl.String,
            "end_s": pl.List(pl.Float64),
            "score": pl.List(pl.Float64),
        },
    ).explode("end_s", "score")
    # Windows are scored more often than clips are cut.
    at = (pl.col("end_s") * 1000).round().cast(pl.Int64).alias("at")
    known = clips.filter(pl.col("target").is_not_null()).select("video_id", at, "target")
    return (
        known.unique(["video_id", "at"], maintain_order=True)
        .sort("at")
        .join_asof(
            scored.drop_nulls("score").with_columns(at).sort("at"),
            on="at",
            by="video_id",
            strategy="nearest",
            tolerance=_AT_MOST_MS,
            check_sortedness=False,
        )
        .drop_nulls("score")
        .sort("scene", "video_id", "at")
        .select("scene", "score", pl.col("target").cast(pl.Int64))
    )


def calibration(
    windows: pl.DataFrame, *, bins: int = 10, resamples: int = 1000, seed: int = 0
) -> Calibration:
    """Reliability of scores, from `certain_windows`, in equally wide bins."""
    if windows.is_empty():
        return Calibration((), 0, 0, None, None, None, None)
    score = windows["score"].to_numpy().astype(np.float64)
    target = windows["target"].to_numpy().astype(np.float64)
    number = np.minimum((score * bins).astype(np.int64), bins - 1)
    scene = windows["scene"].rank("dense").to_numpy().astype(np.int64) - 1
    scenes = int(scene.max()) + 1
    # Sums per scene and bin: windows, scores, falls.
    cell = scene * bins + number
    sums = np.stack(
        [
            np.bincount(cell, weight, scenes * bins).reshape(scenes, bins)
            for weight in (np.ones_like(score), score, target)
        ]
    )
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(scenes, np.full(scenes, 1 / scenes), size=resamples)
    count, scored, falls = (weights @ part for part in sums.astype(np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = falls / count
    errors = np.abs(scored - falls).sum(axis=1) / count.sum(axis=1)
    whole = sums.sum(axis=1)
    found = []
    for place in np.flatnonzero(whole[0]).tolist():
        held_in = int((sums[0, :, place] > 0).sum())
        known = shares[:, place][~np.isnan(shares[:, place])]
        low, high = np.percentile(known, (2.5, 97.5)) if held_in > 1 else (None, None)
        found.append(
            Bin(
                place / bins,
                (place + 1) / bins,
                int(whole[0, place]),
                held_in,
                float(whole[1, place] / whole[0, place]),
                float(whole[2, place] / whole[0, place]),
                None if low is None else float(low),
                None if high is None else float(high),
            )
        )
    several = scenes > 1
    return Calibration(
        tuple(found),
        len(score),
        int(target.sum()),
        float(np.abs(whole[1] - whole[2]).sum() / len(score)),
        float(np.percentile(errors, 2.5)) if several else None,
        float(np.percentile(errors, 97.5)) if several else None,
        float(((score - target) ** 2).mean()),
    )
