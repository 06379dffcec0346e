"""Counts of a site with two versions of the model, day by day, without footage.

What belongs here: how often versions alarm, find falls and are answered, and the evidence that a
rollout would count of it. What does not: who gets which version (`rollout.assignment`), what the
evidence says (`rollout.rates`), and anything that real counts need too.

Both versions are simulated at every camera on every day, whoever serves it; a rollout's places only
say which of the counts are seen. A rollout that decides otherwise sees the same site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fall_assets.rollout.assignment import CameraTraits, Place
from fall_assets.rollout.evidence import EVIDENCE_SCHEMA, Role

Mask = NDArray[np.bool_]
Whole = NDArray[np.int64]
Real = NDArray[np.float64]
Shadows = Literal["none", "groups", "all"]

LATEST_ANSWER_D: Final = 3
"""No answer comes later than so many days after its alert."""

_ROLES: Final[tuple[Role, Role]] = ("champion", "challenger")
_NIGHT: Final = 1 / 3
"""Share of the day that is night (22 to 6 h)."""
_DELAY_SPREAD: Final = 0.4
"""Standard deviation of the logarithm of delays."""
_LISTS: Final = EVIDENCE_SCHEMA["delays_s"]
_RESOLUTIONS: Final = ("1280x720", "1920x1080")


@dataclass(frozen=True)
class SiteSpec:
    """What a site is like; the defaults are a quiet one where all cameras are alike.

    Attributes:
        cameras: number of cameras.
        wards: number of wards, which share the cameras evenly.
        false_alarms: of the champion per camera-day: the mean of an ordinary camera that watches
            the whole of a weekday.
        spread: how cameras differ for ever: 'none', or a factor of mean 1 from a 'gamma' or
            'lognormal' distribution.
        spread_cv: standard deviation of that factor.
        loud_ward: factor of the first ward's rates.
        night: rate at night over that of the day.
        night_cameras: share of the cameras that watch at night only.
        outages: share of camera-days of which a part is not watched.
        weekend: rate on Saturdays and Sundays over that of weekdays.
        ward_shock: standard deviation of a factor of mean 1 that a ward's cameras share for a day.
        site_shock: the same for the whole site.
        burst: mean size of the clusters (geometric) in which a camera-day's false alarms come.
        camera_effect: standard deviation of a factor of mean 1 by which the challenger's ratio
            differs from camera to camera, for ever.
        concordance: share of the quieter version's false alarms (of their causes) at a camera that
            the other version raises as well.
        falls: real ones per camera-day.
        fall_concordance: share of falls at which the versions err together: the better one finds
            all that the other finds. At the rest they err independently.
        answered: share of alerts that staff answer, rightly.
        answer_days: mean days from alert to answer (rounded down, at most `LATEST_ANSWER_D`).
        reported: share of falls that staff report of themselves, a day later.
        abstained_h: mean hours per camera-day in which a version could not judge.
    """

    cameras: int = 1000
    wards: int = 20
    false_alarms: float = 0.01
    spread: Literal["none", "gamma", "lognormal"] = "none"
    spread_cv: float = 1.0
    loud_ward: float = 1.0
    night: float = 1.0
    night_cameras: float = 0.0
    outages: float = 0.0
    weekend: float = 1.0
    ward_shock: float = 0.0
    site_shock: float = 0.0
    burst: float = 1.0
    camera_effect: float = 0.0
    concordance: float = 0.5
    falls: float = 0.0
    fall_concordance: float = 0.8
    answered: float = 0.0
    answer_days: float = 0.5
    reported: float = 0.0
    abstained_h: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.wards <= self.cameras:
            raise ValueError(f"{self.wards} wards for {self.cameras} cameras: wanted 1 to all")
        if self.burst < 1:
            raise ValueError(f"burst is {self.burst}, wanted 1 (each alarm alone) or more")
        shares = {
            name: getattr(self, name)
            for name in (
                *("night_cameras", "outages", "concordance", "fall_concordance"),
                *("answered", "reported"),
            )
        }
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}, wanted a share, 0 to 1")
        for name in (
            *("false_alarms", "spread_cv", "loud_ward", "night", "weekend", "ward_shock"),
            *("site_shock", "camera_effect", "falls", "answer_days", "abstained_h"),
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted 0 or more")


@dataclass(frozen=True)
class Version:
    """How a version does.

    Attributes:
        ratio: its false alarms over those of the site's rate.
        sensitivity: probability that it finds a fall.
        delay_s: median seconds from a fall's start to its alert.
        abstained: its hours of abstention over those of the site.
    """

    ratio: float = 1.0
    sensitivity: float = 0.95
    delay_s: float = 10.0
    abstained: float = 1.0


@dataclass(frozen=True)
class SiteDay:
    """What both versions do at all cameras on a day; champion first where there are two columns.

    Attributes:
        day: the day.
        camera_days: how long each camera watched, in days, (cameras,).
        alarm_camera: camera of each false alarm, (alarms,).
        alarm_by: who raises it, (alarms, 2).
        alarm_answer: days until staff would answer it, -1 for never, (alarms,).
        fall_camera: camera of each real fall, (falls,).
        fall_by: who finds it, (falls, 2).
        fall_delay_s: until the version's alert, (falls, 2).
        fall_answer: as `alarm_answer`, (falls,).
        fall_reported: whether staff report it of themselves, (falls,).
        abstained_h: hours of each version, (2, cameras).
    """

    day: date
    camera_days: Real
    alarm_camera: Whole
    alarm_by: Mask
    alarm_answer: Whole
    fall_camera: Whole
    fall_by: Mask
    fall_delay_s: Real
    fall_answer: Whole
    fall_reported: Mask
    abstained_h: Real

    def false_alarms(self, role: Role) -> Whole:
        """Of a version at each camera, were it to watch there, (cameras,)."""
        mine = self.alarm_camera[self.alarm_by[:, _ROLES.index(role)]]
        return np.bincount(mine, minlength=len(self.camera_days))

    def dismissed(self, role: Role, live: Mask, as_of: date) -> Whole:
        """False alarms of a version that also the live version raised and staff answered.

        Args:
            role: the version.
            live: where the challenger raises the alerts, (cameras,).
            as_of: day at whose end the answers are counted.
        """
        answered = self._answered(self.alarm_answer, self.alarm_by, self.alarm_camera, live, as_of)
        mine = self.alarm_camera[answered & self.alarm_by[:, _ROLES.index(role)]]
        return np.bincount(mine, minlength=len(self.camera_days))

    def known_falls(self, live: Mask, as_of: date) -> Mask:
        """Which falls staff know of by the end of `as_of`, (falls,)."""
        answered = self._answered(self.fall_answer, self.fall_by, self.fall_camera, live, as_of)
        known: Mask = answered | (self.fall_reported & (self.day < as_of))
        return known

    def missed(self, live: Mask, shadow: Mask, as_of: date) -> int:
        """Known falls that the challenger missed and the champion, in its shadow, found."""
        where = live[self.fall_camera] & shadow[self.fall_camera]
        found = self.fall_by[:, 0] & ~self.fall_by[:, 1]
        return int((where & found & self.known_falls(live, as_of)).sum())

    def live_alerts(self, live: Mask) -> int:
        """Alerts that the wards hear, real falls included."""
        column = live.astype(np.int64)
        alarms = self.alarm_by[np.arange(len(self.alarm_by)), column[self.alarm_camera]]
        falls = self.fall_by[np.arange(len(self.fall_by)), column[self.fall_camera]]
        return int(alarms.sum() + falls.sum())

    def _answered(self, answer: Whole, by: Mask, camera: Whole, live: Mask, as_of: date) -> Mask:
        heard = by[np.arange(len(by)), live[camera].astype(np.int64)]
        within: Mask = heard & (answer >= 0) & (answer <= (as_of - self.day).days)
        return within


class Site:
    """A site that can be asked for any day; the same arguments give the same counts."""

    def __init__(
        self,
        spec: SiteSpec,
        challenger: Version,
        champion: Version | None = None,
        *,
        seed: int | Sequence[int],
    ) -> None:
        self.spec = spec
        self.versions = (champion or Version(), challenger)
        self._seed = [seed] if isinstance(seed, int) else list(seed)
        rng = np.random.default_rng([*self._seed, 0])
        n = spec.cameras
        self.ward: Whole = np.arange(n) * spec.wards // n
        self._resolution = (rng.random(n) < 0.25).astype(np.int64)
        rates = np.full(n, spec.false_alarms)
        if spec.spread == "gamma":
            rates *= _gamma(rng, spec.spread_cv, n)
        elif spec.spread == "lognormal":
            rates *= _lognormal(rng, spec.spread_cv, n)
        rates[self.ward == 0] *= spec.loud_ward
        effect = _lognormal(rng, spec.camera_effect, n)
        self.rates: Real = np.stack(
            [rates * self.versions[0].ratio, rates * self.versions[1].ratio * effect]
        )
        """False alarms per day of each version at each camera, (2, cameras)."""
        self._night_only: Mask = rng.random(n) < spec.night_cameras
        day_rate = 1 / (1 - _NIGHT + _NIGHT * spec.night)
        self._shift_rates = (day_rate, day_rate * spec.night)

    @cached_property
    def traits(self) -> list[CameraTraits]:
        """The cameras, as an assignment wants them."""
        return [
            CameraTraits(f"cam-{i:04}", f"ward-{ward:02}", _RESOLUTIONS[resolution], "features-1")
            for i, (ward, resolution) in enumerate(zip(self.ward, self._resolution, strict=True))
        ]

    @cached_property
    def camera_ids(self) -> list[str]:
        """Names of the cameras, in the order of all arrays."""
        return [camera.camera_id for camera in self.traits]

    @cached_property
    def strata(self) -> Whole:
        """Number of each camera's stratum, from 0 without gaps, (cameras,)."""
        names = [camera.stratum for camera in self.traits]
        return np.unique(names, return_inverse=True)[1].astype(np.int64)

    def day(self, day: date) -> SiteDay:
        """What both versions do on a day, whatever days were asked for before."""
        spec = self.spec
        rng = np.random.default_rng([*self._seed, 1, day.toordinal()])
        camera_days, load = self._watched(rng)
        if day.weekday() >= 5:
            load = load * spec.weekend
        if spec.ward_shock:
            load = load * _gamma(rng, spec.ward_shock, spec.wards)[self.ward]
        if spec.site_shock:
            load = load * _gamma(rng, spec.site_shock, 1)[0]
        camera, by = self._alarms(rng, self.rates * load)
        fall_camera, fall_by = self._falls(rng, camera_days)
        falls = len(fall_camera)
        delays = np.exp(_DELAY_SPREAD * rng.standard_normal((falls, 2)))
        abstained = np.zeros((2, spec.cameras))
        if spec.abstained_h:
            mean = np.array([version.abstained for version in self.versions]) * spec.abstained_h
            drawn = rng.standard_exponential((2, spec.cameras)) * mean[:, None]
            abstained = np.minimum(drawn, 24.0) * camera_days
        return SiteDay(
            day=day,
            camera_days=camera_days,
            alarm_camera=camera,
            alarm_by=by,
            alarm_answer=self._answers(rng, len(camera)),
            fall_camera=fall_camera,
            fall_by=fall_by,
            fall_delay_s=delays * [version.delay_s for version in self.versions],
            fall_answer=self._answers(rng, falls),
            fall_reported=rng.random(falls) < spec.reported,
            abstained_h=abstained,
        )

    def live(self, places: Mapping[str, Place]) -> Mask:
        """Where the challenger raises the alerts, (cameras,)."""
        return np.array([places.get(name) == "challenger" for name in self.camera_ids])

    def shadow(self, places: Mapping[str, Place], shadows: Shadows) -> Mask:
        """Where the version that raises nothing watches too, (cameras,).

        'groups' are the cameras of the challenger and of the control group.
        """
        if shadows == "groups":
            return np.array([places.get(name, "rest") != "rest" for name in self.camera_ids])
        return np.full(self.spec.cameras, shadows == "all")

    def evidence(self, day: SiteDay, live: Mask, shadow: Mask, as_of: date) -> pl.DataFrame:
        """A day's evidence as staff's answers stand at the end of `as_of`.

        Args:
            day: of this site.
            live: where the challenger raises the alerts, (cameras,).
            shadow: where the other version watches too, (cameras,).
            as_of: the day itself or a later one.

        Returns:
            `EVIDENCE_SCHEMA`, a row per camera and version that watched.
        """
        cameras = self.spec.cameras
        known = day.known_falls(live, as_of)
        frames = []
        for column, role in enumerate(_ROLES):
            raises = live if column else ~live
            rows = np.flatnonzero((raises | shadow) & (day.camera_days > 0))
            found = day.fall_by[:, column]
            confirmed = day.fall_camera[found & known]
            alerts = day.false_alarms(role) + np.bincount(day.fall_camera[found], minlength=cameras)
            numbers = pl.DataFrame(
                {
                    "shadow": ~raises[rows],
                    "camera_days": day.camera_days[rows],
                    "alerts": alerts[rows],
                    "confirmed": np.bincount(confirmed, minlength=cameras)[rows],
                    "dismissed": day.dismissed(role, live, as_of)[rows],
                    "abstained_h": day.abstained_h[column, rows],
                    "delays_s": _lists(confirmed, day.fall_delay_s[found & known, column], rows),
                }
            )
            frames.append(
                self._names[rows]
                .hstack(numbers)
                .with_columns(day=pl.lit(day.day), role=pl.lit(role))
                .select(list(EVIDENCE_SCHEMA))
            )
        return pl.concat(frames)

    @cached_property
    def _names(self) -> pl.DataFrame:
        strata = [camera.stratum for camera in self.traits]
        return pl.DataFrame({"camera_id": self.camera_ids, "stratum": strata})

    def _watched(self, rng: np.random.Generator) -> tuple[Real, Real]:
        """Days that each camera watches, and the same weighted by how loud its hours are."""
        spec = self.spec
        if not spec.night_cameras and not spec.outages:
            return np.ones(spec.cameras), np.ones(spec.cameras)
        shifts = np.ones((2, spec.cameras))
        shifts[0, self._night_only] = 0.0
        if spec.outages:
            out = rng.random(spec.cameras) < spec.outages
            shifts[:, out] *= rng.random((2, int(out.sum())))
        lengths = np.array([1 - _NIGHT, _NIGHT])
        watched: Real = lengths @ shifts
        load: Real = (lengths * self._shift_rates) @ shifts
        return watched, load

    def _alarms(self, rng: np.random.Generator, rates: Real) -> tuple[Whole, Mask]:
        """Cameras of the false alarms, and who raises each."""
        shared = self.spec.concordance * rates.min(axis=0)
        # Causes come as a Poisson process of which some are seen by both, some by one version only.
        causes = np.stack([shared, rates[0] - shared, rates[1] - shared]) / self.spec.burst
        counts = rng.poisson(causes)
        kind, camera = np.divmod(np.repeat(np.arange(counts.size), counts.ravel()), len(shared))
        if self.spec.burst > 1:
            sizes = rng.geometric(1 / self.spec.burst, len(kind))
            kind, camera = np.repeat(kind, sizes), np.repeat(camera, sizes)
        return camera, np.stack([kind != 2, kind != 1], axis=1)

    def _falls(self, rng: np.random.Generator, camera_days: Real) -> tuple[Whole, Mask]:
        camera = np.repeat(np.arange(self.spec.cameras), rng.poisson(self.spec.falls * camera_days))
        hard = rng.random((len(camera), 2))
        together = rng.random(len(camera)) < self.spec.fall_concordance
        hard[together, 1] = hard[together, 0]
        return camera, hard < [version.sensitivity for version in self.versions]

    def _answers(self, rng: np.random.Generator, alerts: int) -> Whole:
        after = np.floor(rng.standard_exponential(alerts) * self.spec.answer_days)
        answered = rng.random(alerts) < self.spec.answered
        return np.where(answered, np.minimum(after, LATEST_ANSWER_D), -1).astype(np.int64)


def _lists(keys: Whole, values: Real, wanted: Whole) -> pl.Series:
    """The values of each wanted key, as a list."""
    # Polars takes milliseconds for a thousand empty lists of Python.
    some = {int(key): values[keys == key].tolist() for key in np.unique(keys)}
    where = [place for place, key in enumerate(wanted.tolist()) if key in some]
    kept = pl.Series([[], *(some[int(wanted[place])] for place in where)], dtype=_LISTS)
    index = np.zeros(len(wanted), np.int64)
    index[where] = np.arange(1, len(where) + 1)
    return kept.gather(index)


def _gamma(rng: np.random.Generator, cv: float, size: int) -> Real:
    """Factors of mean 1 and standard deviation `cv`."""
    return rng.gamma(cv**-2, cv**2, size) if cv else np.ones(size)


def _lognormal(rng: np.random.Generator, cv: float, size: int) -> Real:
    """Factors of mean 1 and standard deviation `cv`."""
    sigma = np.sqrt(np.log1p(cv**2))
    factors: Real = np.exp(sigma * rng.standard_normal(size) - sigma**2 / 2)
    return factors
