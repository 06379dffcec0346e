"""How large a change of a figure must be before anybody could feel it.

Here: one table of thresholds, in units of the figures. Not here: whether a change is certain
(`daily.py`), or what it is called (`causes.py`). With enough footage every change is significant;
these say which ones matter to the pose network, to the eye, or to the ward. They are choices, made
on simulated wards (`benchmarks.drift_scenarios`, `benchmarks.drift_budget`), not facts of nature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Felt:
    """The smallest change that is felt: the larger of a fixed one and a share of what was usual."""

    fixed: float
    share: float = 0.0

    def of(self, usual: float) -> float:
        """In units of the figure."""
        return max(self.fixed, self.share * abs(usual))


FELT: Mapping[str, Felt] = {
    "brightness": Felt(0.08),
    "contrast": Felt(0.04),
    "sharpness": Felt(0.002, 0.25),
    "noise": Felt(0.001, 0.6),
    "warmth": Felt(0.04),
    "colour": Felt(0.025, 0.4),
    "dark_share": Felt(0.12),
    "bright_share": Felt(0.12),
    "keypoint_score": Felt(0.06),
    "person_height": Felt(0.04, 0.18),
    "person_aspect": Felt(0.3, 0.18),
    "person_speed": Felt(0.15, 0.8),
    "person_x": Felt(0.15),
    "person_y": Felt(0.12),
    "lying": Felt(0.3),
    "lying_x": Felt(0.15),
    "lying_y": Felt(0.12),
    "sitting": Felt(0.3),
    "sitting_x": Felt(0.15),
    "sitting_y": Felt(0.12),
    "rolling": Felt(0.15),
    "upright": Felt(0.25),
    "stature": Felt(0.15),
    "score": Felt(0.1),
    "score_high": Felt(0.1),
    "alerts_per_hour": Felt(2.0, 1.0),
    "scene": Felt(0.25),
    "pose": Felt(0.15),
    "embedding": Felt(0.15),
}
"""By figure; a figure that is not here is told of and never makes drift by itself.

`people`, `motion_mean` and `gate_duty` are not: visitors, a busy day or a quiet one are no drift.
`scene` is the share of the picture whose structure changed; `pose` and `embedding` are MMD squared
(0-2).
"""


def effect(figure: str, before: float, after: float) -> float | None:
    """The change over what is just felt: 1 and more is large. None where nothing is felt of it."""
    felt = FELT.get(figure)
    if felt is None or not (math.isfinite(before) and math.isfinite(after)):
        return None
    return abs(after - before) / felt.of(before)
