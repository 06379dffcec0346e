"""Do box and platform see the same? Figures of one camera's day that both compute.

Here: the comparison. Not here: where the figures come from (`pipeline.monitoring`). It needs no
statistics: both watched the same stream, so that what differs is a fault of software or settings.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from fall_assets.drift.settings import DriftSettings
from fall_assets.drift.signals import Signal
from fall_assets.drift.words import FIGURE_WORDS

_FIXED = {"frame_rate": 1.0, "gate_duty": 0.1, "alerts_per_hour": 1.0}
"""Smallest differences that count, in units of the figure: what clocks and edges of hours make."""


def skew_signals(
    platform: pl.DataFrame, boxes: pl.DataFrame, settings: DriftSettings
) -> Iterator[Signal]:
    """A signal for each camera and figure that both sides have.

    Both frames have camera_id, figure and value; `platform` is what was learned from, `boxes` what
    is computed beside the camera. It drifted where they differ by more than the share
    `settings.skew` of the platform's, and by more than what clocks alone make.
    """
    both = platform.join(boxes, on=["camera_id", "figure"], suffix="_box").drop_nulls()
    for row in both.sort("camera_id", "figure").iter_rows(named=True):
        figure, ours, its = row["figure"], row["value"], row["value_box"]
        limit = max(settings.skew * abs(ours), _FIXED.get(figure, 0.0))
        words = FIGURE_WORDS.get(figure)
        yield Signal(
            row["camera_id"],
            f"{figure}:box",
            "skew",
            f"platform {words.shown(ours) if words else format(ours, '.3g')}",
            f"box {words.shown(its) if words else format(its, '.3g')}",
            large=abs(its - ours) > limit,
            before=ours,
            after=its,
            effect=abs(its - ours) / limit if limit else None,
            alone=True,
        )
