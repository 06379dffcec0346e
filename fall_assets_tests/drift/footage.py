"""Feature rows of an invented hospital: segments differ, windows of one segment resemble each
other, as in real footage."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import polars as pl

from fall_assets.lake.registry import table

FIRST_DAY = date(2026, 3, 1)
FEATURE_SET = "pose-0123456789"


@dataclass(frozen=True)
class Look:
    """How one camera sees its room on a day; changes are added to the ordinary."""

    width: int = 640
    height: int = 360
    fps: float = 10.0
    brightness: float = 0.42
    noise: float = 0.01
    sharpness: float = 0.03
    person_height: float = 0.6


@dataclass(frozen=True)
class Hospital:
    """Cameras by name; every segment has `windows` windows of 4 s at a stride of 1 s."""

    cameras: dict[str, Look] = field(
        default_factory=lambda: {f"cam-{number:02}": Look() for number in range(1, 6)}
    )
    segments: int = 6
    windows: int = 20

    def day(self, number: int, seed: int = 0) -> pl.DataFrame:
        """Rows of `features` of day `number` from the first."""
        rng = np.random.default_rng([seed, number])
        day = FIRST_DAY + timedelta(days=number)
        rows = []
        for camera_id, look in self.cameras.items():
            for segment in range(self.segments):
                rows += _segment(rng, day, camera_id, segment, look, self.windows)
        return pl.DataFrame(rows, schema=table("features").schema)

    def days(self, numbers: range, seed: int = 0) -> pl.DataFrame:
        return pl.concat([self.day(number, seed) for number in numbers])


def _segment(
    rng: np.random.Generator, day: date, camera_id: str, segment: int, look: Look, windows: int
) -> list[dict[str, object]]:
    occupied = rng.random() < 0.85
    light, grain, edges = rng.normal(0, [0.015, 0.0004, 0.001])
    standing = rng.random() < 0.5
    height = look.person_height * (1.0 if standing else 0.45) * rng.normal(1, 0.1)
    rows: list[dict[str, object]] = []
    for window in range(windows):
        jitter = rng.normal(0, 1, 6)
        rows.append(
            {
                "day": day,
                "video_id": f"{day}-{camera_id}-{segment}",
                "camera_id": camera_id,
                "feature_set": FEATURE_SET,
                "window": window,
                "start_s": float(window),
                "end_s": float(window + 4),
                "width": look.width,
                "height": look.height,
                "fps": look.fps * (1 + 0.002 * jitter[0]),
                "brightness": float(np.clip(look.brightness + light + 0.004 * jitter[1], 0, 1)),
                "contrast": 0.2 + 0.3 * light + 0.002 * jitter[2],
                "sharpness": max(0.0, look.sharpness + edges + 0.0005 * jitter[3]),
                "noise": max(0.0, look.noise + grain + 0.0001 * jitter[4]),
                "motion_mean": 0.01,
                "motion_max": 0.02,
                "people": 1.0 if occupied else 0.0,
                "keypoint_score": 0.5 if occupied else None,
                "person_height": height + 0.02 * jitter[5] if occupied else None,
                "person_aspect": (2.5 if standing else 0.6) if occupied else None,
                "person_y": 0.5 + (0.0 if standing else 0.2) + 0.02 * jitter[0]
                if occupied
                else None,
            }
        )
    return rows
