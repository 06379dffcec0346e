"""What drift is judged on: camera-days, and the names of their figures.

Here: the frames that every test reads, and which figures there are. Not here: computing them
(`pipeline.profiles`), testing them (`report.py`).

The unit of all statistics is the camera-hour. Neighbouring windows repeat each other, so that a
window is no observation; an hour is cut out of one day and one time of day, so that days can be
told from hours and night is compared with night.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date

import polars as pl

from fall_assets.lake.registry import table

QUALITY_FIGURES = (
    "brightness",
    "contrast",
    "sharpness",
    "noise",
    "warmth",
    "colour",
    "dark_share",
    "bright_share",
    "motion_mean",
    "gate_duty",
)
"""What the picture is like, whoever is in it."""

POSE_FIGURES = (
    "people",
    "keypoint_score",
    "person_height",
    "person_aspect",
    "person_speed",
    "person_x",
    "person_y",
    "lying",
    "lying_x",
    "lying_y",
    "sitting",
    "sitting_x",
    "sitting_y",
    "rolling",
    "upright",
    "stature",
)
"""What people look like and where they are."""

STATURE = "stature"
UPRIGHT_MEASURES = ("upright_height", "upright_y")
"""What stature is made of (`stature.py`), and no figures by themselves: how high people are who
are upright, as a geometric mean, and how low in the picture their hips are."""

UPRIGHT_ASPECT = 2.2
"""People are upright whose box is so many times as high as wide, and who do not lie."""

SCORE_FIGURES = ("score", "score_high", "alerts_per_hour")
"""What the champion makes of it: mean and high scores of its windows, alerts of the hour."""

FACTS = ("resolution", "codec", "frame_rate", "camera_model", "firmware", "clock")
"""What is exactly known. `frame_rate` is 1/s, `clock` the offset in s: both texts of numbers."""

SLOWLY, WARD = "slowly", "ward"
"""What follows a figure's name, after a colon, where its daily stream is asked, and where all
cameras of the ward are asked together."""

PARTS = 4
"""Quarters of the day, UTC: within one, hours are alike enough to be compared."""


def part_of(hour: pl.Expr) -> pl.Expr:
    """The quarter of the day of an hour (0-23)."""
    return hour // (24 // PARTS)


@dataclass(frozen=True)
class CameraDays:
    """What is known of some cameras' days: rows of the tables of the same names.

    profile: `camera_profile`; facts: `camera_facts`; scenes: `scenes`; embeddings:
    `camera_embeddings`. Any of them may be empty.
    """

    profile: pl.DataFrame
    facts: pl.DataFrame
    scenes: pl.DataFrame
    embeddings: pl.DataFrame

    @classmethod
    def empty(cls) -> CameraDays:
        """Of no camera."""
        return cls(
            table("camera_profile").empty(),
            table("camera_facts").empty(),
            table("scenes").empty(),
            table("camera_embeddings").empty(),
        )

    def of(self, days: list[date] | None = None, camera_id: str | None = None) -> CameraDays:
        """Those of some days, or of one camera, or both."""
        kept = pl.lit(True)
        if days is not None:
            kept &= pl.col("day").is_in(days)
        if camera_id is not None:
            kept &= pl.col("camera_id") == camera_id
        return CameraDays(*(getattr(self, field.name).filter(kept) for field in fields(self)))
