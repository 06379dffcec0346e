"""Old and new footage side by side: how much each clip weighs. Pure.

What belongs here: the weights. What does not: which cameras changed (`pipeline.drift_records`),
where weights are used (`dataset`, `metrics.choose_threshold`).

A camera that changed has months of labels from before and days of labels since. Counted one by one,
what it sees today would be lost among what it used to see: the network would hardly learn it, and
the threshold would be chosen for a hospital that is gone. So new footage weighs as much as what is
replayed, half and half as in Rolnick et al., "Experience Replay for Continual Learning" (NeurIPS
2019). What a camera saw before may come back, and other cameras see it still: it keeps its weight
where networks learn. Thresholds are chosen by what cameras see now alone (`metrics.seen_now`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final

import polars as pl

HEAVIEST: Final = 10
"""No clip counts as more than so many: a handful of labels must not decide alone."""


def clip_weights(clips: pl.DataFrame, changed: Mapping[str, date]) -> pl.DataFrame:
    """The clips with the columns `changed` and `weight` (a whole number from 1).

    A clip is `changed` where it was recorded since its camera changed. A camera's changed clips
    weigh alike and together as much as those before, but for `HEAVIEST`; where they are the more
    anyway, all weigh 1.

    Args:
        clips: at least `camera_id` and `day`.
        changed: since which day a camera sees what it sees now; others did not change.
    """
    since = pl.DataFrame(
        {"camera_id": list(changed), "since": list(changed.values())},
        schema={"camera_id": pl.String, "since": pl.Date},
    )
    changed_now = (pl.col("day") >= pl.col("since")).fill_null(value=False)
    new = pl.col("changed").sum().over("camera_id")
    old = pl.len().over("camera_id") - new
    balanced = (old / new).round().clip(1, HEAVIEST)
    return (
        clips.join(since, on="camera_id", how="left", maintain_order="left")
        .with_columns(changed=changed_now)
        .with_columns(weight=pl.when("changed").then(balanced).otherwise(1).cast(pl.Int32))
        .drop("since")
    )
