"""Simulated camera-days: rows of `camera_profile` and `camera_facts` of a site, without pixels.

What belongs here: what an ordinary hospital does to the figures of a camera's hour, and changes to
be found. What does not: pictures and films (`hospital.py`, `films.py`), tests of drift.

What is ordinary here: daylight by hour, cloud and season, through a window that some cameras see
more of; lamps in the evening and dim or infrared light at night; weekends with visitors and fewer
staff; two teams that take turns by the week; patients who stay for days to weeks, each with a
height, a way of lying and sitting, and a place where they do; days that resemble the day before;
hours that are odd for no reason; hours and half days that are missing.

Values lie where the quality figures of URFD, GMDCSA24 and people_walking lie (brightness 0.29 to
0.55, contrast 0.14 to 0.28, sharpness 0.009 to 0.05, noise 0.0009 to 0.003, warmth -0.2 to 0.14,
colour 0.04 to 0.24, single frames of 25 films). How much days differ from one another is a choice,
made on the large side: no public footage shows one ward for months.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fall_assets.drift.days import (
    POSE_FIGURES,
    QUALITY_FIGURES,
    SCORE_FIGURES,
    STATURE,
    UPRIGHT_MEASURES,
    CameraDays,
)
from fall_assets.lake.registry import table

Real = npt.NDArray[np.float64]

FIGURES = tuple(
    # Stature is made of the two measures by who judges.
    name
    for name in (*QUALITY_FIGURES, *POSE_FIGURES, *UPRIGHT_MEASURES, *SCORE_FIGURES)
    if name != STATURE
)
HOURS = 24

_LATITUDE = math.radians(50)
_TILT = math.radians(23.4)
_WEEK = 7
_WINDOWS = 900
"""Windows of 4 s that do not overlap, in an hour."""

_NEARER = 2.0
"""How fast people's height grows with how low in the picture they stand, of its logarithm."""

_DAYS_ALIKE = 0.3
_NIGHT_FROM, _NIGHT_UNTIL = 22, 6

# Standard deviations: of a camera's day, of an hour within it. Of logarithms for _RATIO.
_NOISE = {
    "brightness": (0.008, 0.012),
    "contrast": (0.005, 0.008),
    "sharpness": (0.03, 0.05),
    "noise": (0.05, 0.08),
    "warmth": (0.005, 0.008),
    "colour": (0.05, 0.07),
    "dark_share": (0.1, 0.25),
    "bright_share": (0.2, 0.4),
    "keypoint_score": (0.01, 0.02),
    "person_height": (0.02, 0.07),
    "person_aspect": (0.03, 0.1),
    "person_speed": (0.07, 0.25),
    "person_x": (0.015, 0.05),
    "person_y": (0.01, 0.03),
    "lying_x": (0.01, 0.03),
    "lying_y": (0.007, 0.02),
    "sitting_x": (0.015, 0.05),
    "sitting_y": (0.01, 0.03),
    "upright_height": (0.02, 0.06),
    "upright_y": (0.01, 0.04),
}
_RATIO = frozenset(
    {"sharpness", "noise", "colour", "dark_share", "bright_share", "person_height"}
    | {"person_aspect", "person_speed", "upright_height"}
)
_SHARES = frozenset(
    {"dark_share", "bright_share", "motion_mean", "gate_duty", "keypoint_score", "lying"}
    | {"sitting", "rolling", "score", "score_high", "brightness", "contrast", "colour"}
    | {"upright", "upright_y"}
    | {f"{what}_{axis}" for what in ("person", "lying", "sitting") for axis in "xy"}
)


@dataclass(frozen=True)
class WardSpec:
    """A site: so many cameras, so many days from `first` on, all from one seed.

    `stay_days` is how long patients stay on average; `missing` the share of hours that are missing;
    `odd` the share of hours that are odd.
    """

    cameras: int = 10
    days: int = 58
    seed: int = 0
    first: date = date(2026, 1, 5)
    stay_days: float = 9.0
    missing: float = 0.03
    odd: float = 0.01

    def __post_init__(self) -> None:
        if self.cameras < 1 or self.days < 1 or self.stay_days < 1:
            raise ValueError("a site needs at least 1 camera, 1 day, and stays of 1 day")
        if not (0 <= self.missing < 1 and 0 <= self.odd < 1):
            raise ValueError("missing and odd must be shares below 1")


@dataclass(frozen=True)
class Change:
    """A real change of one camera's figure from the day number `from_day` on (0 is the first).

    With `times` the values are multiplied by `amount`, otherwise `amount` is added; over
    `ramp_days` days it grows to that, in equal steps. Values stay in the range of the figure.
    """

    camera: int
    figure: str
    amount: float
    from_day: int
    ramp_days: int = 0
    times: bool = False

    def __post_init__(self) -> None:
        if self.figure not in FIGURES:
            raise ValueError(f"no figure {self.figure!r}; there are: {', '.join(FIGURES)}")

    def share(self, day: int) -> float:
        """How much of the change there is on a day, 0-1."""
        if day < self.from_day:
            return 0.0
        return min(1.0, (day - self.from_day + 1) / max(1, self.ramp_days))


def camera_name(camera: int) -> str:
    """The camera_id of a camera's number."""
    return f"ward-{camera:03d}"


def simulate_days(spec: WardSpec, changes: Sequence[Change] = ()) -> CameraDays:
    """The camera-days of a site; the same spec gives the same rows, changes touch only their own.

    `profile` has a row for every camera, day, hour and figure that was seen, `facts` the same facts
    for every day; `scenes` and `embeddings` are empty.
    """
    for change in changes:
        if not 0 <= change.camera < spec.cameras:
            raise ValueError(f"no camera {change.camera}: the site has {spec.cameras}")
    site = _Site.of(spec)
    cameras = [_camera(spec, site, camera, changes) for camera in range(spec.cameras)]
    profile = pl.concat(cameras).sort("camera_id", "day", "hour", "figure")
    empty = CameraDays.empty()
    return CameraDays(profile, _facts(profile), empty.scenes, empty.embeddings)


@dataclass(frozen=True)
class _Site:
    """What all cameras share. days: the dates; arrays (days, hours) but where told otherwise."""

    days: list[date]
    daylight: Real
    weekend: Real  # (days,)
    team: Real  # (days,), -1 or 1
    staff: Real
    visitors: Real

    @classmethod
    def of(cls, spec: WardSpec) -> _Site:
        rng = np.random.default_rng([spec.seed, 0])
        days = [spec.first + timedelta(days=number) for number in range(spec.days)]
        hour = np.arange(HOURS) + 0.5
        height = np.array([_sun(day, hour) for day in days])
        cloud = np.clip(0.55 + 0.2 * _alike(rng, spec.days, 0.5), 0.15, 1.0)
        passing = np.clip(1 + 0.15 * rng.standard_normal((spec.days, HOURS)), 0.4, 1.4)
        weekend = np.array([day.weekday() >= 5 for day in days], np.float64)
        team = np.array([1.0 if day.isocalendar().week % 2 else -1.0 for day in days])
        rounds = np.exp(-0.5 * ((hour[None, :] - np.array([[8.0], [13.0], [19.0]])) / 1.5) ** 2)
        staff = (0.25 + rounds.sum(axis=0))[None, :] * (1 - 0.3 * weekend)[:, None]
        staff = staff * (1 + 0.08 * team)[:, None]
        afternoon = np.exp(-0.5 * ((hour - 15.5) / 1.8) ** 2)
        visitors = afternoon[None, :] * (0.25 + 0.75 * weekend)[:, None]
        return cls(days, height * cloud[:, None] * passing, weekend, team, staff, visitors)


def _sun(day: date, hour: Real) -> Real:
    """Sine of the sun's height above the horizon (0 below it), at 50 degrees north."""
    turn = 2 * math.pi * (day.timetuple().tm_yday - 81) / 365.25
    declination = math.asin(math.sin(_TILT) * math.sin(turn))
    angle = 2 * math.pi * (hour - 12) / HOURS
    height = math.sin(_LATITUDE) * math.sin(declination) + math.cos(_LATITUDE) * math.cos(
        declination
    ) * np.cos(angle)
    above: Real = np.maximum(0.0, height)
    return above


def _alike(rng: np.random.Generator, days: int, correlation: float) -> Real:
    """Standard normal days, each like the one before; (days,)."""
    drawn = rng.standard_normal(days)
    for day in range(1, days):
        drawn[day] = correlation * drawn[day - 1] + math.sqrt(1 - correlation**2) * drawn[day]
    return drawn


@dataclass(frozen=True)
class _Patients:
    """Traits of who is in the room on each day; all (days,)."""

    there: Real
    height: Real
    lying: Real
    sitting: Real
    speed: Real
    lying_x: Real
    lying_y: Real
    sitting_x: Real
    sitting_y: Real
    wheels: Real

    @classmethod
    def of(cls, rng: np.random.Generator, days: int, stay_days: float) -> _Patients:
        """One after the other, sometimes with an empty bed between."""
        rows = np.zeros((10, days))
        # The first may have been there for long.
        day = -int(rng.integers(0, max(1, int(stay_days))))
        while day < days:
            stay = 1 + int(rng.gamma(1.5, stay_days / 1.5))
            traits = [
                1.0,
                float(np.clip(rng.normal(1.0, 0.05), 0.86, 1.14)),
                float(rng.beta(5, 4)),
                float(rng.beta(3, 6)),
                float(np.exp(rng.normal(0, 0.2))),
                float(rng.normal(0, 0.02)),
                float(rng.normal(0, 0.015)),
                float(rng.normal(0, 0.04)),
                float(rng.normal(0, 0.02)),
                float(rng.random() < 0.08),
            ]
            rows[:, max(0, day) : max(0, day + stay)] = np.array(traits)[:, None]
            day += stay
            if rng.random() < 0.3:
                empty = int(rng.integers(1, 3))
                rows[:, max(0, day) : max(0, day + empty)] = np.array(
                    [0.0, 1.0, 0.05, 0.1, 1.0, 0, 0, 0, 0, 0]
                )[:, None]
                day += empty
        return cls(*rows)


def _camera(spec: WardSpec, site: _Site, camera: int, changes: Sequence[Change]) -> pl.DataFrame:
    """Rows of one camera. It has a generator of its own: one more camera changes no other."""
    rng = np.random.default_rng([spec.seed, 1, camera])
    patients = _Patients.of(rng, spec.days, spec.stay_days)
    values = _picture(rng, site)
    people, windows = _people(rng, site, patients)
    values |= people
    _add_noise(rng, spec, values)
    # An alert is rare and counted: noise is in the count already.
    hour_rate = 0.02 + 0.03 * patients.there[:, None] * np.ones((1, HOURS))
    values["alerts_per_hour"] = rng.poisson(hour_rate).astype(np.float64)
    seen = _recorded(rng, spec)
    own = [change for change in changes if change.camera == camera]
    for change in own:
        _apply(change, values[change.figure])
    frames = []
    hours = np.tile(np.arange(HOURS), spec.days)
    days = np.repeat(np.arange(spec.days), HOURS)
    for figure in FIGURES:
        if figure in _SHARES:
            values[figure] = np.clip(values[figure], 0.0, 1.0)
        count = windows.get(figure, windows["all"])
        kept = (seen & (count > 0)).ravel()
        frames.append(
            pl.DataFrame(
                {
                    "day": pl.Series([site.days[day] for day in days[kept]], dtype=pl.Date),
                    "camera_id": pl.Series([camera_name(camera)]).new_from_index(0, kept.sum()),
                    "hour": hours[kept],
                    "figure": pl.Series([figure]).new_from_index(0, kept.sum()),
                    "value": values[figure].ravel()[kept],
                    "windows": count.ravel()[kept],
                }
            )
        )
    schema: Any = table("camera_profile").schema
    return pl.concat(frames).select(pl.col(name).cast(kind) for name, kind in schema.items())


def _picture(rng: np.random.Generator, site: _Site) -> dict[str, Real]:
    """Quality figures without noise; (days, hours) each."""
    hour = np.arange(HOURS)
    night = ((hour >= _NIGHT_FROM) | (hour < _NIGHT_UNTIL)).astype(np.float64)[None, :]
    lamp = (1 - night) * np.clip(1 - 2 * site.daylight, 0, 1)
    window, infrared = float(rng.beta(2, 3)), bool(rng.random() < 0.3)
    base = rng.uniform(0.36, 0.5)
    sun = window * site.daylight
    dim = rng.uniform(0.08, 0.18)
    brightness = base + 0.12 * sun - dim * night - 0.02 * lamp
    contrast = rng.uniform(0.15, 0.23) + 0.05 * sun - 0.02 * night
    sharpness = rng.uniform(0.011, 0.02) * (1 + 0.1 * sun - 0.15 * night)
    noise = rng.uniform(0.001, 0.002) * (1 + 0.8 * night)
    warmth = rng.uniform(-0.03, 0.08) - 0.03 * sun + 0.03 * lamp
    colour = rng.uniform(0.05, 0.14) * (1 + 0.2 * sun)
    if infrared:
        warmth, colour = warmth * (1 - night), colour * (1 - night) + 0.004 * night
    return {
        "brightness": brightness,
        "contrast": contrast,
        "sharpness": sharpness,
        "noise": noise,
        "warmth": warmth,
        "colour": colour,
        "dark_share": rng.uniform(0.005, 0.03) * (1 + 4 * night),
        "bright_share": rng.uniform(0.002, 0.02) * (0.3 + 3 * sun),
    }


def _people(
    rng: np.random.Generator, site: _Site, patients: _Patients
) -> tuple[dict[str, Real], dict[str, npt.NDArray[np.int64]]]:
    """Figures of people without noise, and the windows that each rests on; (days, hours) each."""
    shape = (len(site.days), HOURS)
    hour = np.arange(HOURS)
    asleep = ((hour >= _NIGHT_FROM) | (hour < _NIGHT_UNTIL)).astype(np.float64)[None, :]

    def of_day(values: Real) -> Real:
        return np.broadcast_to(values[:, None], shape)

    there = of_day(patients.there)
    busy = rng.gamma(6.0, 1 / 6.0, shape)
    others = (site.staff * 0.35 + site.visitors * 0.5 * there) * busy
    people = there + others
    from_patient = there / np.maximum(people, 0.05)
    lying_patient = np.clip(of_day(patients.lying) * (1 - asleep) + 0.95 * asleep, 0, 1)
    sitting_patient = of_day(patients.sitting) * (1 - lying_patient)
    tilt = rng.normal(0, 0.12, shape)
    lying = np.clip(from_patient * (lying_patient + tilt * (1 - asleep)), 0, 1)
    sitting = np.clip(from_patient * (sitting_patient - tilt / 2 * (1 - asleep)), 0, 1 - lying)
    wheels = of_day(patients.wheels) * from_patient
    size, middle = rng.uniform(0.3, 0.55), rng.uniform(0.35, 0.65)
    bed, chair = rng.uniform([0.2, 0.5], [0.8, 0.75]), rng.uniform([0.2, 0.45], [0.8, 0.7])
    tall = 1 + from_patient * (of_day(patients.height) - 1)
    height = size * tall * (1 - 0.45 * lying - 0.2 * sitting)
    speed = (0.12 + 0.5 * (1 - lying - sitting)) * (1 + from_patient * (of_day(patients.speed) - 1))
    at_bed = (1 - lying) * middle + lying * bed[0]
    # Who stands nearer is lower in the picture, and larger.
    place = rng.uniform(0.42, 0.58) + 0.06 * rng.standard_normal(shape)
    figures = {
        "people": people,
        "motion_mean": 0.002 + 0.02 * others + 0.004 * there * (1 - asleep),
        "gate_duty": 0.03 + 0.3 * np.minimum(1.5, others) + 0.15 * there * (1 - asleep),
        "keypoint_score": 0.62 - 0.12 * lying - 0.05 * asleep + np.zeros(shape),
        "person_height": height,
        "person_aspect": 2.3 - 1.5 * lying - 0.7 * sitting,
        "person_speed": speed * (1 + 0.05 * site.team)[:, None],
        "person_x": at_bed,
        "person_y": 0.5 + 0.12 * lying + 0.06 * sitting,
        "lying": lying,
        "lying_x": bed[0] + of_day(patients.lying_x),
        "lying_y": bed[1] + of_day(patients.lying_y),
        "sitting": sitting,
        "sitting_x": chair[0] + of_day(patients.sitting_x),
        "sitting_y": chair[1] + of_day(patients.sitting_y),
        "rolling": np.clip(0.3 * wheels, 0, 1),
        "upright": (1 - lying - sitting) / np.maximum(1 - lying, 0.05),
        "upright_height": 1.3 * size * tall * np.exp(_NEARER * (place - 0.5)),
        "upright_y": place,
        "score": 0.03 + 0.05 * lying * (1 - asleep) * rng.gamma(3, 1 / 3, shape),
        "score_high": 0.01 + 0.01 * others * rng.gamma(2, 1 / 2, shape),
    }
    with_people = rng.binomial(_WINDOWS, np.clip(0.9 * there + 0.5 * others, 0, 0.97))
    lies = rng.binomial(with_people, lying)
    sits = rng.binomial(with_people, sitting)
    # A few windows of a nurse who bends over say nothing of where people lie.
    few = 3
    windows = {"all": np.full(shape, _WINDOWS, np.int64)}
    for figure in POSE_FIGURES[1:]:
        windows[figure] = with_people
    windows["upright"] = with_people - lies
    for figure in UPRIGHT_MEASURES:
        windows[figure] = np.maximum(0, with_people - lies - sits)
    for figure, count in (("lying", lies), ("sitting", sits)):
        for axis in "xy":
            windows[f"{figure}_{axis}"] = np.where(count >= few, count, 0)
    windows["rolling"] = np.where(sits >= few, sits, 0)
    return figures, windows


def _add_noise(rng: np.random.Generator, spec: WardSpec, values: dict[str, Real]) -> None:
    """Days that resemble the day before, and hours, some of them odd: heavy tails."""
    for figure, base in values.items():
        shape = base.shape
        of_day, of_hour = _NOISE.get(figure, (0.0, 0.0))
        day = _alike(rng, spec.days, _DAYS_ALIKE)
        # Student's t with 4 degrees of freedom, standard deviation 1.
        hour = rng.standard_t(4, shape) / math.sqrt(2)
        hour *= np.where(rng.random(shape) < spec.odd, 5.0, 1.0)
        noise = of_day * day[:, None] + of_hour * hour
        values[figure] = base * np.exp(np.clip(noise, -2, 2)) if figure in _RATIO else base + noise


def _recorded(rng: np.random.Generator, spec: WardSpec) -> npt.NDArray[np.bool_]:
    """Which hours there are; (days, hours). One day in a hundred loses half of them."""
    seen = rng.random((spec.days, HOURS)) >= spec.missing
    for day in np.flatnonzero(rng.random(spec.days) < 0.01):
        start = int(rng.integers(0, HOURS // 2))
        seen[day, start : start + HOURS // 2] = False
    return seen


def _apply(change: Change, values: Real) -> None:
    for day in range(change.from_day, len(values)):
        share = change.share(day)
        if change.times:
            values[day] *= 1 + share * (change.amount - 1)
        else:
            values[day] += share * change.amount


def _facts(profile: pl.DataFrame) -> pl.DataFrame:
    """The same facts on every day."""
    facts = pl.DataFrame(
        {
            "fact": ["resolution", "codec", "frame_rate", "camera_model", "firmware", "clock"],
            "value": ["1280x720", "h264", "25", "simulated", "1.0", "0"],
        }
    )
    days = profile.select("day", "camera_id").unique()
    schema: Any = table("camera_facts").schema
    return (
        days.join(facts, how="cross")
        .with_columns(share=pl.lit(1.0))
        .select(pl.col(name).cast(kind) for name, kind in schema.items())
        .sort("camera_id", "day", "fact")
    )
