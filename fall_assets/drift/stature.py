"""How tall people who stand are, for the place where they stand.

Here: what a camera's ordinary days say of the height of people at each place, and how today's
compare with it. Not here: who is upright (`pipeline.profiles`), or whether the difference is
certain (`daily.py`).

A person's height in the picture says little of how tall they are: who stands nearer is larger. In a
camera that looks down on a floor it grows with how low in the picture they stand, and over a room
its logarithm does so nearly in a line. The line is drawn through a camera's ordinary hours; stature
is the height over what the line says there, 1 for those whom the camera usually sees. A child of
1.1 m is 0.65 of an adult of 1.7 m, and a day's mean of adults differs by some 5 %, where the height
in the picture differs by 15 % (`benchmarks.drift_scenarios`).
"""

from __future__ import annotations

import polars as pl

from fall_assets.drift.days import STATURE, UPRIGHT_MEASURES

_LEAST_WINDOWS = 10
"""Windows with upright people that ordinary days must have between them."""

_PLACE_SPREAD = 0.02
"""Where people always stand at one place, no line is drawn from how its measure is rounded."""

_KEYS = ("camera_id", "day", "hour")
_SUMS = ("w", "wx", "wy", "wxx", "wxy")


def with_stature(ordinary: pl.DataFrame, today: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both with a figure `stature` for the two measures that it is made of.

    Both are rows of `camera_profile`. An ordinary day is measured by the other ordinary days, so
    that it is no nearer to the line than today is. A camera that has no line, for it sees nobody
    upright or has a single ordinary day, has no stature.
    """
    measured = pl.col("figure").is_in(list(UPRIGHT_MEASURES))
    old, new = (_hours(frame.filter(measured)) for frame in (ordinary, today))
    sums = old.group_by("camera_id", "day", maintain_order=True).agg(
        w=pl.col("w").sum(),
        wx=(pl.col("w") * pl.col("x")).sum(),
        wy=(pl.col("w") * pl.col("y")).sum(),
        wxx=(pl.col("w") * pl.col("x") ** 2).sum(),
        wxy=(pl.col("w") * pl.col("x") * pl.col("y")).sum(),
    )
    whole = sums.group_by("camera_id", maintain_order=True).agg(pl.col(*_SUMS).sum())
    others = sums.select(
        "camera_id", "day", *(pl.col(name).sum().over("camera_id") - pl.col(name) for name in _SUMS)
    )
    rows = (
        _statures(old, others, ["camera_id", "day"]),
        _statures(new, whole, ["camera_id"]),
    )
    return (
        pl.concat([ordinary.filter(~measured), rows[0].select(ordinary.columns)]),
        pl.concat([today.filter(~measured), rows[1].select(today.columns)]),
    )


def _hours(measures: pl.DataFrame) -> pl.DataFrame:
    """Camera-hours with x, where people stand; y, log of their height; w, windows."""
    height, place = UPRIGHT_MEASURES
    return (
        measures.filter(pl.col("figure") == height, pl.col("value") > 0)
        .select(*_KEYS, y=pl.col("value").log(), w=pl.col("windows").cast(pl.Float64))
        .join(
            measures.filter(pl.col("figure") == place).select(*_KEYS, x="value"),
            on=_KEYS,
            how="inner",
        )
        # Sums in one order, so that the same rows come out of each run.
        .sort(*_KEYS)
    )


def _statures(hours: pl.DataFrame, sums: pl.DataFrame, on: list[str]) -> pl.DataFrame:
    """Rows of `camera_profile` with the hours' stature by the line of their sums."""
    mean_x, mean_y = pl.col("wx") / pl.col("w_of"), pl.col("wy") / pl.col("w_of")
    spread = pl.col("wxx") / pl.col("w_of") - mean_x**2 + _PLACE_SPREAD**2
    slope = (pl.col("wxy") / pl.col("w_of") - mean_x * mean_y) / spread
    return (
        hours.join(sums.rename({"w": "w_of"}), on=on, how="inner")
        .filter(pl.col("w_of") >= _LEAST_WINDOWS)
        .select(
            *_KEYS,
            figure=pl.lit(STATURE),
            value=(pl.col("y") - mean_y - slope * (pl.col("x") - mean_x)).exp(),
            windows=pl.col("w").cast(pl.Int64),
        )
    )
