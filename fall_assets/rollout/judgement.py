"""What the evidence says so far: a pair of e-values, and what they are made of.

What belongs here: the numbers and their form in JSON. What does not: how they come about (`rates`,
`ranks`), what follows from them (`machine`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

LARGEST: Final = 1e300
"""JSON has no infinity: larger numbers are written as this one, which decides the same."""


@dataclass(frozen=True)
class Judgement:
    """E-values on all days of evidence up to one.

    Attributes:
        e_worse: against "the challenger is no worse", over all measures: the mean of that on all
            days and `e_worse_step`; 0 to infinity.
        e_not_worse: against "it raises `margin` times the champion's false alarms or more", and
            `acceptable_rate` or more where there is one.
        by_measure: e-values against "no worse" of each: alarms, dismissed, delay, abstained.
        ratio: estimated ratio of the rates of false alarms, challenger's over champion's; none
            where it cannot be told.
        margin: see `e_not_worse`.
        acceptable_rate: false alarms per camera-day; 0 where none is acceptable.
        e_worse_step: against "no worse" on the days of the present step alone.

    Raises:
        ValueError: an e-value is negative or not a number.
    """

    e_worse: float
    e_not_worse: float
    by_measure: Mapping[str, float]
    ratio: float | None
    margin: float
    e_worse_step: float = 1.0
    acceptable_rate: float = 0.0

    def __post_init__(self) -> None:
        named = {
            "e_worse": self.e_worse,
            "e_not_worse": self.e_not_worse,
            "e_worse_step": self.e_worse_step,
            **self.by_measure,
        }
        for name, value in named.items():
            # A comparison with NaN is false, so a broken e-value would never roll back.
            if math.isnan(value) or value < 0:
                raise ValueError(f"e-value {name} is {value}, wanted 0 or more")

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; infinite values are written as `LARGEST`."""
        return {
            "e_worse": min(self.e_worse, LARGEST),
            "e_not_worse": min(self.e_not_worse, LARGEST),
            "by_measure": {name: min(value, LARGEST) for name, value in self.by_measure.items()},
            "ratio": None if self.ratio is None else min(self.ratio, LARGEST),
            "margin": self.margin,
            "e_worse_step": min(self.e_worse_step, LARGEST),
            "acceptable_rate": self.acceptable_rate,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Judgement:
        """What `as_dict` gave."""
        return cls(
            float(content["e_worse"]),
            float(content["e_not_worse"]),
            {str(name): float(value) for name, value in content["by_measure"].items()},
            None if content["ratio"] is None else float(content["ratio"]),
            float(content["margin"]),
            float(content.get("e_worse_step", 1.0)),
            float(content.get("acceptable_rate", 0.0)),
        )
