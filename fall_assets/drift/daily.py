"""One day of each camera against its ordinary days: a p-value per camera and figure.

Here: what is expected of a day, how far from it the day is, and how sure that is. Not here: which
figures there are (`days.py`), what the p-values share as a budget and what counts as drift
(`report.py`), slow change (`online.py`).

Days differ from one another (staff, weekends, patients), and all hours of a day share its
difference: a test that exchanges hours calls every day drift. Here the day is the observation.

- Hours. Every hour's value is taken on a scale on which spread hardly depends on size (log, root,
  angle of a share) and centred by what ordinary days have at that hour of day, or in that quarter
  where few of them have the hour. So night is compared with night.
- Days. A day is the mean of its centred hours, its quarters weighted as today's are: a day of
  which only the morning was recorded is compared with mornings.
- Spread between days. The variance of a camera's ordinary days is shrunk towards that of the site's
  cameras for the same figure (moderated t: Smyth 2004, limma's `squeezeVar`), so that two ordinary
  days already say something where many cameras have them.
- Memory. Neighbouring days resemble each other, most of all where a patient stays for weeks: 28
  days of two patients say little of the third. How alike days are by their distance is estimated
  from all cameras (variogram: nugget and exponential, Cressie 1993); from it come the predicted
  variance of today less the ordinary days' mean, and the degrees of freedom of the camera's own
  variance (Satterthwaite 1946).

What is assumed: on its scale a camera's ordinary days and today are of one stationary process,
whose days are normal given the camera's variance; the cameras' variances follow an inverse
chi-squared distribution; all cameras of the site have the same memory for a figure. What changes
over a year, but not within the ordinary days, is not known here: the report asks for a change that
is felt on top of the p-value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from fall_assets.drift.days import PARTS

Real = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

HOURS = 24

_LOG = frozenset(
    {"sharpness", "noise", "motion_mean", "person_height", "person_aspect", "person_speed"}
    | {"stature"}
)
_ANGLE = frozenset(
    {"dark_share", "bright_share", "gate_duty", "lying", "sitting", "rolling", "upright"}
    | {"score", "score_high"}
)
_ROOT = frozenset({"people", "alerts_per_hour"})

_SMALLEST = 1e-4
# Days that differ by less than this, on the scale of the test, are equal: rounding, sensor warmth.
_FLOORS = {"log": 0.02, "angle": 0.02, "root": 0.03, "plain": 0.005}
# What one patient is other than the next, on the same scale. Ordinary days may hold one only.
_BY_PATIENT = {
    "people": 0.1,
    "keypoint_score": 0.015,
    "person_height": 0.06,
    "person_aspect": 0.08,
    "person_speed": 0.15,
    "person_x": 0.02,
    "person_y": 0.015,
    "lying": 0.12,
    "lying_x": 0.02,
    "lying_y": 0.015,
    "sitting": 0.1,
    "sitting_x": 0.03,
    "sitting_y": 0.02,
    "rolling": 0.15,
    "upright": 0.1,
    "stature": 0.05,
}
# One odd day counts as no more than this many standard deviations of the site's days.
_ODD = 6.0

# Lengths of memory that are tried, days.
_MEMORIES = (1.0, 2.0, 4.0, 8.0, 16.0)
# A camera whose variance is a hundredth of the usual one is as good as constant.
_LEAST_VARIANCE = 1e-2

DAILY_SCHEMA = pl.Schema(
    {
        "camera_id": pl.String,
        "figure": pl.String,
        "before": pl.Float64,
        "after": pl.Float64,
        "spread": pl.Float64,
        "z": pl.Float64,
        "p_location": pl.Float64,
        "ks": pl.Float64,
        "p_shape": pl.Float64,
        "p": pl.Float64,
        "ordinary_days": pl.Int64,
        "hours": pl.Int64,
    }
)


@dataclass(frozen=True)
class DailySettings:
    """How days are compared.

    An hour of day is centred by itself where `hour_days` ordinary days have it, by its quarter
    otherwise. An hour of w windows weighs w / (w + `half_windows`). An ordinary day counts where it
    has the quarters that hold at least `coverage` of today's weight. The shape is tested where
    today and at least `shape_days` ordinary days have `shape_hours` hours.

    `memory_share` and `memory_days` is what is believed of the days' memory before looking, worth
    `memory_cameras` cameras: the share of the variance that stays, and for how long. `most_df`
    limits the degrees of freedom: days have heavier tails than a normal distribution.
    """

    hour_days: int = 5
    half_windows: float = 10.0
    coverage: float = 0.5
    shape: bool = True
    shape_days: int = 8
    shape_hours: int = 6
    memory_share: float = 0.5
    memory_days: float = 4.0
    memory_cameras: float = 3.0
    most_df: float = 12.0


def daily_tests(
    ordinary: pl.DataFrame, today: pl.DataFrame, settings: DailySettings | None = None
) -> pl.DataFrame:
    """Each figure of each camera's day against that camera's ordinary days.

    Both are rows of `camera_profile`: `ordinary` of any days (today's is left out), `today` of one
    day. Returns a row per camera and figure that `today` has, sorted (`DAILY_SCHEMA`):

    - before, after: mean of what ordinary days have at today's hours, and today's mean; in the
      figure's unit. `before` is null where no ordinary day has a quarter that today has.
    - spread: standard deviation of the ordinary days' centred means, in the figure's unit.
    - z: the normal score of p_location with the sign of the change; what `online.py` adds up.
    - p_location: two-sided, moderated t. Null ("untested") below 2 ordinary days.
    - ks: Kolmogorov-Smirnov distance (0-1) of today's hours and the ordinary days', both less their
      days' means; p_shape: that distance against those of each ordinary day from the others, as
      Kolmogorov's root of the sample size times D, in logarithms, one-sided moderated t. A
      permutation of 28 days could give no p-value below 1/29.
    - p: twice the smaller of both, or p_location where the shape is not tested. Null if untested.
    - ordinary_days, hours: how many ordinary days, and how many hours of today, were compared.

    The same rows in any order give the same result. Raises ValueError where today's rows are of
    more than one day or rows repeat each other.
    """
    settings = settings or DailySettings()
    if today.is_empty():
        return DAILY_SCHEMA.to_frame()
    days = today["day"].unique()
    if len(days) > 1:
        raise ValueError(f"today's rows are of {len(days)} days: pass one day at a time")
    day: date = days[0]
    before = ordinary.filter(pl.col("day") != day)
    parts = before.partition_by("figure", as_dict=True)
    tested = []
    for (figure,), rows in sorted(today.partition_by("figure", as_dict=True).items()):
        cameras = _Cameras.of(parts.get((figure,), ordinary.clear()), rows, day)
        tested.append(_test(str(figure), cameras, settings))
    return pl.concat(tested).sort("camera_id", "figure")


@dataclass(frozen=True)
class _Cameras:
    """One figure of all cameras; NaN and weight 0 where there is no value.

    values, windows: (cameras, days + 1, hours), today last. offsets: days before today, (days,).
    """

    names: list[str]
    values: Real
    windows: Real
    offsets: Real

    @classmethod
    def of(cls, ordinary: pl.DataFrame, today: pl.DataFrame, day: date) -> _Cameras:
        names = today["camera_id"].unique().sort()
        days = ordinary["day"].unique().sort().to_list()
        place = {each: number for number, each in enumerate([*days, day])}
        rows = pl.concat(
            [
                frame.select("camera_id", "day", "hour", "value", "windows")
                for frame in (ordinary, today)
            ]
        ).filter(pl.col("camera_id").is_in(names.implode()) & pl.col("value").is_finite())
        camera = names.search_sorted(rows["camera_id"]).to_numpy()
        number = rows["day"].replace_strict(place, return_dtype=pl.Int64).to_numpy()
        hour = rows["hour"].cast(pl.Int64).to_numpy()
        shape = (len(names), len(place), HOURS)
        flat = np.ravel_multi_index((camera, number, hour), shape)
        if len(np.unique(flat)) < len(flat):
            raise ValueError("rows of one camera, day, hour and figure repeat each other")
        values, windows = np.full(shape, np.nan), np.zeros(shape)
        values.flat[flat] = rows["value"].to_numpy()
        windows.flat[flat] = rows["windows"].cast(pl.Float64).to_numpy()
        offsets = np.array([(each - day).days for each in days], np.float64)
        return cls(names.to_list(), values, windows, offsets)


@dataclass(frozen=True)
class _Days:
    """Centred means of days. residual, noise: (cameras, days + 1), NaN where a day does not count.

    `noise` is the share of the hours' variance that is in the day's mean, 1 / hours; `within` the
    variance of hours within a day's quarter, (cameras,). centred: (cameras, days + 1, hours), less
    the hour's centre; centres (cameras, hours).
    """

    residual: Real
    noise: Real
    within: Real
    centred: Real
    centres: Real


def _scale(figure: str) -> tuple[str, Callable[[Real], Real]]:
    """The scale on which a figure is tested."""
    if figure in _LOG:
        return "log", lambda values: np.log(np.maximum(values, 0.0) + _SMALLEST)
    if figure in _ANGLE:
        return "angle", lambda values: np.arcsin(np.sqrt(np.clip(values, 0.0, 1.0)))
    if figure in _ROOT:
        return "root", lambda values: np.sqrt(np.maximum(values, 0.0))
    return "plain", lambda values: values


def _test(figure: str, cameras: _Cameras, settings: DailySettings) -> pl.DataFrame:
    """All cameras' rows of one figure."""
    scale, scaled = _scale(figure)
    weights = cameras.windows / (cameras.windows + settings.half_windows)
    days = _days(scaled(cameras.values), weights, settings)
    plain = days if scale == "plain" else _days(cameras.values, weights, settings)

    known = np.isfinite(days.residual[:, :-1])
    count = known.sum(axis=1)
    floor = max(_FLOORS[scale], _BY_PATIENT.get(figure, 0.0)) ** 2
    z, p_location = _predicted(
        days.residual,
        cameras.offsets,
        settings,
        floor=np.full(len(count), floor),
        extra=_fewer_hours(days),
    )
    p_location = 2 * p_location
    distance = np.full(len(count), np.nan)
    p_shape = np.full(len(count), np.nan)
    if settings.shape:
        distance, p_shape = _shape(days, cameras.offsets, floor, settings)
    both = np.minimum(1.0, 2 * np.fmin(p_location, p_shape))
    p = np.where(np.isfinite(p_shape), both, p_location)

    now = np.where(np.isfinite(plain.centred[:, -1]), weights[:, -1], 0.0)
    raw = np.nan_to_num(cameras.values[:, -1])
    total = now.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        before = (now * np.nan_to_num(plain.centres)).sum(axis=1) / total
        compared = (now * raw).sum(axis=1) / total
        all_day = (weights[:, -1] * raw).sum(axis=1) / weights[:, -1].sum(axis=1)
        spread = _variance(plain.residual[:, :-1]) ** 0.5
    frame = pl.DataFrame(
        {
            "camera_id": cameras.names,
            "figure": [figure] * len(cameras.names),
            "before": before,
            "after": np.where(total > 0, compared, all_day),
            "spread": spread,
            "z": z,
            "p_location": p_location,
            "ks": distance,
            "p_shape": p_shape,
            "p": p,
            "ordinary_days": count,
            "hours": (now > 0).sum(axis=1),
        },
        schema=DAILY_SCHEMA,
    )
    return frame.fill_nan(None)


def _days(values: Real, weights: Real, settings: DailySettings) -> _Days:
    """Centre the hours by the ordinary days, and take the means of days as today is made up."""
    weights = np.where(np.isfinite(values), weights, 0.0)
    known = weights > 0
    filled = np.where(known, values, 0.0)
    past, past_weights = filled[:, :-1], weights[:, :-1]

    def by_part(array: Real) -> Real:
        parts: Real = array.reshape(*array.shape[:-1], PARTS, HOURS // PARTS).sum(axis=-1)
        return parts

    with np.errstate(invalid="ignore", divide="ignore"):
        hourly = (past * past_weights).sum(axis=1) / past_weights.sum(axis=1)
        quarterly = by_part((past * past_weights).sum(axis=1)) / by_part(past_weights.sum(axis=1))
    quarterly = np.repeat(quarterly, HOURS // PARTS, axis=-1)
    own = known[:, :-1].sum(axis=1) >= settings.hour_days
    centres = np.where(own, hourly, quarterly)

    centred = np.where(known, values - centres[:, None], np.nan)
    weights = np.where(np.isfinite(centred), weights, 0.0)
    filled = np.nan_to_num(centred)
    mass = by_part(weights)  # cameras, days + 1, parts
    with np.errstate(invalid="ignore", divide="ignore"):
        means = by_part(filled * weights) / mass
        noise = by_part(weights**2) / mass**2
    has = mass > 0
    today = mass[:, -1:, :]
    share = np.where(has, today, 0.0)
    covered = share.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        residual = (share * np.nan_to_num(means)).sum(axis=-1) / covered
        day_noise = (share**2 * np.nan_to_num(noise)).sum(axis=-1) / covered**2
        enough = covered >= settings.coverage * today.sum(axis=-1)
    residual = np.where(enough & (covered > 0), residual, np.nan)

    around = np.where(
        weights > 0, centred - np.repeat(np.nan_to_num(means), HOURS // PARTS, axis=-1), 0.0
    )[:, :-1]
    spare = (weights[:, :-1] > 0).sum(axis=(1, 2)) - has[:, :-1].sum(axis=(1, 2))
    within = (around**2).sum(axis=(1, 2)) / np.maximum(1, spare)
    return _Days(
        residual, np.where(np.isfinite(residual), day_noise, np.nan), within, centred, centres
    )


def _fewer_hours(days: _Days) -> Real:
    """What today's mean varies more than an ordinary day's, for having fewer hours; (cameras,)."""
    past = days.noise[:, :-1]
    known = np.isfinite(past)
    usual = np.where(known, past, 0.0).sum(axis=1) / np.maximum(1, known.sum(axis=1))
    more: Real = days.within * np.maximum(0.0, np.nan_to_num(days.noise[:, -1]) - usual)
    return more


def _variance(values: Real) -> Real:
    """Sample variance of each row, NaN left out; NaN below two values. (rows, n) to (rows,)."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    filled = np.where(known, values, 0.0)
    means = filled.sum(axis=1) / np.maximum(1, count)
    squares = np.where(known, (filled - means[:, None]) ** 2, 0.0).sum(axis=1)
    variance: Real = np.where(count >= 2, squares / np.maximum(1, count - 1), np.nan)
    return variance


@dataclass(frozen=True)
class _Memory:
    """How alike days are: correlation share * exp(-lag / length), lag above 0, days."""

    share: float
    length: float

    def correlation(self, lags: Real) -> Real:
        """Of days so many days apart."""
        return np.where(lags == 0, 1.0, self.share * np.exp(-np.abs(lags) / self.length))


def _predicted(
    residual: Real, offsets: Real, settings: DailySettings, *, floor: Real, extra: Real
) -> tuple[Real, Real]:
    """Where today lies in what the ordinary days predict; both (cameras,), NaN where untested.

    residual (cameras, days + 1), today last; offsets (days,). Returns the normal score, positive
    where today is above, and the one-sided p-value in the direction of the score's sign.
    """
    from scipy.stats import norm, t

    past, now = _without_odd(residual[:, :-1], floor), residual[:, -1]
    known = np.isfinite(past)
    count = known.sum(axis=1)
    variance = _variance(past) + floor
    tested = (count >= 2) & np.isfinite(now)
    z, p = np.full(len(now), np.nan), np.full(len(now), np.nan)
    if not tested.any():
        return z, p
    memory = _memory(past[count >= 2], variance[count >= 2], offsets, settings)
    bias, ahead, df = _weights_of_days(known, offsets, memory)
    own = np.where(count >= 2, variance / bias, np.nan)
    prior, prior_df = _prior(own[count >= 2], df[count >= 2])
    with np.errstate(invalid="ignore"):
        usable = own if prior_df == 0 else (prior_df * prior + df * own) / (prior_df + df)
        # What happened to some cameras can happen to each: a quiet month promises nothing.
        usable = np.maximum(usable, np.nanmean(own))
        predicted = usable * ahead + extra
        mean = np.where(known, past, 0.0).sum(axis=1) / np.maximum(1, count)
        score = (now - mean) / np.sqrt(predicted)
    freedom = np.minimum(df + prior_df, settings.most_df)
    upper = t.sf(np.abs(score[tested]), freedom[tested])
    p[tested] = np.maximum(upper, np.finfo(np.float64).tiny)
    z[tested] = np.sign(score[tested]) * norm.isf(p[tested])
    return z, p


def _without_odd(past: Real, floor: Real) -> Real:
    """One odd day must not set the spread: it is limited by that of the site's days.

    (cameras, days). The limit is wide, and the site's mean variance counts what seldom happens (an
    empty bed): to leave that out would make the next one drift.
    """
    variance = _variance(past)
    if not np.isfinite(variance).any():
        return past
    limit = _ODD * np.sqrt(float(np.nanmean(variance)) + floor)[:, None]
    known = np.isfinite(past)
    middle = np.zeros(len(past))
    some = known.any(axis=1)
    middle[some] = np.nanmedian(past[some], axis=1)
    limited: Real = np.clip(past, middle[:, None] - limit, middle[:, None] + limit)
    return limited


def _memory(past: Real, variance: Real, offsets: Real, settings: DailySettings) -> _Memory:
    """The memory of days that fits the cameras' variogram best, by pairs of days.

    past (cameras, days), variance (cameras,). A camera's share in it grows with its variance, but
    not without limit.
    """
    from scipy.optimize import nnls

    usual = float(np.median(variance))
    trust = 1.0 / (variance + usual)
    first, second = np.triu_indices(len(offsets), 1)
    lags = np.abs(offsets[second] - offsets[first])
    halves = 0.5 * (past[:, first] - past[:, second]) ** 2
    both = np.isfinite(halves)
    seen = (np.where(both, halves, 0.0) * trust[:, None]).sum(axis=0)
    base = (both * (trust * variance)[:, None]).sum(axis=0)
    longest = int(lags.max(initial=1))
    grid = np.arange(1, longest + 1, dtype=np.float64)
    place = lags.astype(np.int_) - 1
    sums = np.bincount(place, seen, longest)
    bases = np.bincount(place, base, longest)
    believed = 1.0 - settings.memory_share * np.exp(-grid / settings.memory_days)
    # Relative to the mean over pairs, as the variogram of each camera is.
    pairs = np.bincount(place, minlength=longest).astype(np.float64)
    believed /= max(1e-9, float((believed * pairs).sum() / max(1.0, pairs.sum())))
    weight = 0.5 * settings.memory_cameras * pairs
    total = bases + weight
    used = total > 0
    relative = (sums[used] + weight[used] * believed[used]) / total[used]
    root = np.sqrt(total[used])
    best, memory = math.inf, _Memory(settings.memory_share, settings.memory_days)
    for length in _MEMORIES:
        rising = 1.0 - np.exp(-grid[used] / length)
        design = np.stack([np.ones(len(rising)), rising], axis=1) * root[:, None]
        (nugget, stays), miss = nnls(design, relative * root)
        if miss < best - 1e-12 and nugget + stays > 0:
            best, memory = float(miss), _Memory(min(0.95, stays / (nugget + stays)), length)
    return memory


def _weights_of_days(known: Flags, offsets: Real, memory: _Memory) -> tuple[Real, Real, Real]:
    """What each camera's days are worth; three arrays of shape (cameras,).

    The sample variance is so much of the days' variance on average; today less the ordinary days'
    mean varies so many times as much as a day does; the sample variance has so many degrees of
    freedom. For days without memory: 1, 1 + 1/n, n - 1.
    """
    bias, ahead, df = (np.full(len(known), np.nan) for _ in range(3))
    found: dict[bytes, tuple[float, float, float]] = {}
    for camera, days in enumerate(known):
        n = int(days.sum())
        if n < 2:
            continue
        key = days.tobytes()
        if key not in found:
            lags = offsets[days]
            alike = memory.correlation(lags[:, None] - lags[None, :])
            share = (alike.sum() - n) / (n * (n - 1))
            centred = alike - alike.mean(axis=0, keepdims=True)
            trace = float(np.trace(centred))
            found[key] = (
                1.0 - share,
                1.0 + float(alike.mean()) - 2.0 * float(memory.correlation(lags).mean()),
                trace**2 / float(np.einsum("ij,ji->", centred, centred)),
            )
        bias[camera], ahead[camera], df[camera] = found[key]
    return bias, ahead, df


def _prior(variance: Real, df: Real) -> tuple[float, float]:
    """The cameras' usual variance and the degrees of freedom that it is worth (Smyth 2004, 6.2).

    variance, df (cameras,). Without three cameras nothing is usual: 0 degrees of freedom.
    """
    from scipy.special import digamma, polygamma

    if len(variance) < 3:
        return 1.0, 0.0
    variance = np.maximum(variance, _LEAST_VARIANCE * np.median(variance))
    logs = np.log(variance) - digamma(df / 2) + np.log(df / 2)
    mean = float(logs.mean())
    spread = float(logs.var(ddof=1) - polygamma(1, df / 2).mean())
    most = float(df.sum())
    prior_df = most if spread <= 0 else min(most, 2 * _trigamma_inverse(spread))
    return float(np.exp(mean + digamma(prior_df / 2) - math.log(prior_df / 2))), prior_df


def _trigamma_inverse(value: float) -> float:
    """x with trigamma(x) = value > 0, by Newton on 1 / trigamma (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    if value > 1e7:
        return float(value**-0.5)
    x = 0.5 + 1.0 / value
    for _ in range(50):
        tri = float(polygamma(1, x))
        step = tri * (1 - tri / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return x


def _shape(days: _Days, offsets: Real, floor: float, settings: DailySettings) -> tuple[Real, Real]:
    """Distance of today's hours from the ordinary days', and its p-value; both (cameras,).

    Where the hours of ordinary days do not differ (variance below `floor`) there is no shape: the
    smallest difference would be the largest distance.
    """
    hours = np.isfinite(days.centred).sum(axis=2)
    counted = hours >= settings.shape_hours
    enough = counted[:, :-1].sum(axis=1) >= settings.shape_days
    tested = counted[:, -1] & enough & (days.within >= floor)
    distance, p = np.full(len(hours), np.nan), np.full(len(hours), np.nan)
    if not tested.any():
        return distance, p
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.nansum(days.centred, axis=2, keepdims=True) / hours[:, :, None]
    around = np.where(counted[:, :, None], days.centred - means, np.nan)[tested]
    distances, sizes = _distances(around)
    with np.errstate(invalid="ignore"):
        score = np.log(np.sqrt(sizes) * distances + 0.1)
    z, one_sided = _predicted(
        score,
        offsets,
        settings,
        floor=np.full(len(score), 0.05**2),
        extra=np.zeros(len(score)),
    )
    distance[tested] = distances[:, -1]
    p[tested] = np.where(z > 0, one_sided, 1.0 - one_sided)
    return distance, p


def _distances(values: Real) -> tuple[Real, Real]:
    """Each ordinary day's distance from the others, and today's from all of them.

    values (cameras, days + 1, hours), NaN where missing. Returns the Kolmogorov-Smirnov distances
    and the sample sizes n m / (n + m), both (cameras, days + 1), NaN for days without values.
    """
    cameras, rows, hours = values.shape
    flat = values.reshape(cameras, rows * hours)
    order = np.argsort(flat, axis=1, kind="stable")
    ordered = np.take_along_axis(flat, order, axis=1)
    of_day = order // hours
    finite = np.isfinite(ordered)
    # Equal values are one step: only the last of them is looked at.
    step = finite & np.append(
        ordered[:, 1:] != ordered[:, :-1], np.ones((cameras, 1), np.bool_), axis=1
    )
    sizes = np.isfinite(values).sum(axis=2).astype(np.float64)
    past = sizes[:, :-1].sum(axis=1)
    ordinary = np.cumsum(finite & (of_day < rows - 1), axis=1).astype(np.float64)
    distances = np.zeros((cameras, rows))
    with np.errstate(invalid="ignore", divide="ignore"):
        for row in range(rows):
            own = np.cumsum(finite & (of_day == row), axis=1).astype(np.float64)
            today = row == rows - 1
            others = ordinary if today else ordinary - own
            rest = past if today else past - sizes[:, row]
            gap = np.abs(own / sizes[:, [row]] - others / rest[:, None])
            distances[:, row] = np.where(step, gap, 0.0).max(axis=1)
        rest = np.append(past[:, None] - sizes[:, :-1], past[:, None], axis=1)
        together = sizes * rest / (sizes + rest)
    missing = (sizes == 0) | (rest == 0)
    return np.where(missing, np.nan, distances), np.where(missing, np.nan, together)
