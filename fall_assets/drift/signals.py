"""A day's signals: each comparison of a camera's day with its ordinary days, one by one.

Here: which frames go into which test, and what comes out as a `Signal`. Not here: the statistics
(`daily.py`, `vectors.py`, `scenes.py`, `online.py`), what counts as drift of all signals together
(`report.py`), or their names (`causes.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from fall_assets.drift.causes import Turn, group_of
from fall_assets.drift.daily import daily_tests
from fall_assets.drift.days import FACTS, SLOWLY, WARD, CameraDays, part_of
from fall_assets.drift.effects import FELT, effect
from fall_assets.drift.mmd import Labels
from fall_assets.drift.online import cusum
from fall_assets.drift.precision import precision_evidence, usual_precision
from fall_assets.drift.scene_tests import scene_tests
from fall_assets.drift.settings import DAYS_PER_MONTH, DriftSettings
from fall_assets.drift.stature import with_stature
from fall_assets.drift.vectors import Vectors, vector_tests
from fall_assets.drift.words import FIGURE_WORDS, figure_of
from fall_assets.lake.registry import DriftSignal

TOGETHER = "people_together"
"""The signal of all figures of people as one vector; it explains, and makes no drift."""

SITE = "(all cameras)"
"""Stands for the whole site where a signal is of no single camera."""

_ALIKE, _STAY = 0.2, 0.5
_LIKELY = 0.05
_SELDOM = 0.02
_FEW_ANSWERS = 10
_NUMBERS = ("frame_rate", "clock")
_VECTOR_FIGURES = (
    "keypoint_score",
    "person_height",
    "person_aspect",
    "person_speed",
    "person_x",
    "person_y",
    "sitting",
)


@dataclass(frozen=True)
class Signal:
    """One comparison of one camera; `before` and `after` are nan where they are no numbers.

    `alone` marks one that has a budget of its own and takes no part in the day's; those of one
    `shared` name are one test, which several cameras' signals tell of. `since` is the first of the
    days that it speaks of, where these are as many as a change must stand.
    """

    camera_id: str
    signal: str
    kind: DriftSignal
    reference: str
    today: str
    large: bool
    statistic: float | None = None
    p_value: float | None = None
    before: float = math.nan
    after: float = math.nan
    effect: float | None = None
    alone: bool = False
    shared: str = ""
    since: date | None = None
    drifted: bool = False
    adjusted: float | None = None

    @property
    def figure(self) -> str:
        """What it speaks of: a daily stream, or a ward, speaks of its figure."""
        return figure_of(self.signal)


def exact_signals(
    days: CameraDays, known: pl.DataFrame, today: CameraDays, settings: DriftSettings
) -> Iterator[Signal]:
    """Facts. Of a day with several values the one that most of it has counts.

    So a camera that was exchanged in the evening is reported the next day.
    """
    own = known.select("camera_id", day="recorded_day").unique()
    usual = days.facts.join(own, on=["camera_id", "day"], how="semi").filter(
        pl.col("share") >= _SELDOM
    )
    before = {
        (camera_id, fact): values
        for camera_id, fact, values in usual.group_by("camera_id", "fact")
        .agg(pl.col("value").unique().sort())
        .iter_rows()
    }
    main = (
        today.facts.sort("share", "value", descending=[True, False])
        .group_by("camera_id", "fact", maintain_order=True)
        .first()
        .sort("camera_id", "fact")
    )
    for camera_id, fact, value in main.select("camera_id", "fact", "value").iter_rows():
        values = before.get((camera_id, fact))
        if values is None or fact not in FACTS:
            continue
        first, second = (
            (_median(values), _float(value)) if fact in _NUMBERS else (math.nan, math.nan)
        )
        large = value not in values
        if fact == "frame_rate":
            numbers = [_float(one) for one in values]
            low, high = min(numbers), max(numbers)
            large = second < low * (1 - settings.fps_change) or second > high * (
                1 + settings.fps_change
            )
        elif fact == "clock":
            far = min(abs(second - _float(one)) for one in values)
            large = abs(second) > settings.clock_s and far > settings.clock_s
        yield Signal(
            camera_id,
            fact,
            "exact",
            ", ".join(values),
            value,
            large=large,
            before=first,
            after=second,
            effect=None,
        )


@dataclass(frozen=True)
class Chosen:
    """Signals of figures, and the ordinary camera-days that each camera was compared with."""

    signals: list[Signal]
    days: pl.DataFrame


def figure_signals(
    days: CameraDays, known: pl.DataFrame, today: CameraDays, settings: DriftSettings
) -> Chosen:
    """Every figure of every camera, against the one of its regimes that today is most like."""
    newest = (
        known.filter(~pl.col("recorded_day").is_in(today.profile["day"].unique().implode()))
        .sort("recorded_day", descending=True)
        .group_by("camera_id", "regime", maintain_order=True)
        .head(settings.ordinary_days)
        .select("camera_id", "regime", day="recorded_day")
    )
    tested: list[pl.DataFrame] = []
    for number in sorted(newest["regime"].unique().to_list()):
        own = newest.filter(pl.col("regime") == number)
        ordinary = days.profile.join(own, on=["camera_id", "day"], how="semi")
        new = today.profile.join(own.select("camera_id").unique(), on="camera_id", how="semi")
        if ordinary.is_empty() or new.is_empty():
            continue
        found = daily_tests(*with_stature(ordinary, new))
        tested.append(found.with_columns(pl.lit(number, pl.Int64).alias("regime")))
    if not tested:
        return Chosen([], newest.clear())
    every = pl.concat(tested)
    felt = pl.col("figure").is_in(list(FELT))
    nearest = (
        every.filter(felt)
        .group_by("camera_id", "regime")
        .agg((pl.col("z") ** 2).clip(upper_bound=100).mean().alias("far"))
        .sort("camera_id", "far", "regime", nulls_last=True)
        .group_by("camera_id", maintain_order=True)
        .first()
        .select("camera_id", "regime")
    )
    rows = every.join(nearest, on=["camera_id", "regime"], how="semi").sort("camera_id", "figure")
    signals = []
    for row in rows.drop_nulls(["before", "after"]).iter_rows(named=True):
        before, after = row["before"], row["after"]
        words = FIGURE_WORDS.get(row["figure"])
        size = effect(row["figure"], before, after)
        signals.append(
            Signal(
                row["camera_id"],
                row["figure"],
                group_of(row["figure"]),
                words.shown(before) if words else f"{before:.3g}",
                words.shown(after) if words else f"{after:.3g}",
                large=size is not None and size >= settings.felt,
                statistic=row["z"],
                p_value=row["p"],
                before=before,
                after=after,
                effect=size,
                # What nothing is felt of takes nothing of the budget.
                alone=size is None,
            )
        )
    return Chosen(signals, newest.join(nearest, on=["camera_id", "regime"], how="semi"))


def ward_signals(
    figures: Sequence[Signal],
    past: pl.DataFrame,
    wards: Mapping[str, str],
    settings: DriftSettings,
) -> Iterator[Signal]:
    """Each figure of people over all cameras of a ward: another patient changes one, not all.

    Scores of the last `confirm_days` reported days are added up, for a change must stand so long
    anyway; `past` are rows of `drift_signals` of the days before. Cameras without a ward are one.
    Where the sum is certain, and the ward differed likewise on each of these days, each camera
    tells of it whose own figure changed likewise today, by as much as is felt.
    """
    from scipy.stats import norm

    groups: dict[tuple[str, str], list[Signal]] = {}
    for one in figures:
        if one.kind == "pose" and one.effect is not None and one.p_value is not None:
            groups.setdefault((wards.get(one.camera_id, ""), one.signal), []).append(one)
    before = past.filter(pl.col("kind") == "pose").drop_nulls("statistic")
    by_figure = before.select("signal", "day", "camera_id", "statistic").partition_by(
        "signal", as_dict=True, include_key=False
    )
    for (ward, figure), own in sorted(groups.items()):
        if len(own) < 2:
            continue
        cameras = [one.camera_id for one in own]
        days = [[one.statistic or 0.0 for one in own]]
        since: date | None = None
        if settings.confirm_days > 1 and (rows := by_figure.get((figure,))) is not None:
            rows = rows.filter(pl.col("camera_id").is_in(cameras))
            known = rows.partition_by("day", as_dict=True)
            newest = sorted(known)[1 - settings.confirm_days :]
            days += [known[day]["statistic"].to_list() for day in newest]
            since = newest[0][0] if len(days) == settings.confirm_days else None
        score = _added_up(days)
        each = [_added_up([day]) for day in days]
        stood = all(one * score > 0 and norm.sf(abs(one)) <= _LIKELY for one in each)
        for one in own:
            likewise = (one.statistic or 0.0) * score > 0 and (one.p_value or 1.0) <= _LIKELY
            yield replace(
                one,
                signal=f"{figure}:{WARD}",
                statistic=score,
                p_value=float(2 * norm.sf(abs(score))),
                large=one.large and likewise and stood,
                shared=f"{ward}:{figure}",
                since=since,
            )


def _added_up(days: Sequence[Sequence[float]]) -> float:
    """One standard normal score of the scores of a ward's cameras on some days (Stouffer 1949).

    What they share is taken to be more than what was seen: cameras of one day correlate by 0.2 (the
    ward's staff and weekends are the same), days of one camera by 0.5 (so are most patients, and
    the ordinary days that both are compared with), anything else by their product.
    """
    cameras = max(map(len, days))
    pairs = sum(len(day) * (len(day) - 1) for day in days)
    count = sum(map(len, days))
    # Each score, and those of the same camera on other days; a camera that was off has fewer.
    same_camera = cameras * len(days) * (len(days) - 1)
    others = max(0, count**2 - count - pairs - same_camera)
    spread = count + _ALIKE * pairs + _STAY * same_camera + _ALIKE * _STAY * others
    return sum(map(sum, days)) / math.sqrt(spread)


def vector_signals(
    days: CameraDays, chosen: pl.DataFrame, today: CameraDays, settings: DriftSettings
) -> Iterator[Signal]:
    """All figures of people as one vector per camera-hour; embeddings likewise, where there are."""
    compared = chosen.select("camera_id", "day")
    figures = pl.col("figure").is_in(list(_VECTOR_FIGURES))
    wide = [
        frame.filter(figures)
        .pivot("figure", index=["camera_id", "day", "hour"], values="value")
        .sort("camera_id", "day", "hour")
        for frame in (
            days.profile.join(compared, on=["camera_id", "day"], how="semi"),
            today.profile,
        )
    ]
    columns = [name for name in _VECTOR_FIGURES if all(name in frame.columns for frame in wide)]
    if len(columns) >= 2:
        yield from _vectors("pose", TOGETHER, wide[0], wide[1], columns, settings)
    old = days.embeddings.join(compared, on=["camera_id", "day"], how="semi")
    sets = set(old["feature_set"]) & set(today.embeddings["feature_set"])
    for name in sorted(sets):
        frames = [
            _unpacked(frame.filter(pl.col("feature_set") == name))
            for frame in (old, today.embeddings)
        ]
        columns = [column for column in frames[0].columns if column.startswith("v")]
        if columns and columns == [c for c in frames[1].columns if c.startswith("v")]:
            yield from _vectors(
                "embedding", f"embedding:{name}", frames[0], frames[1], columns, settings
            )


def _unpacked(embeddings: pl.DataFrame) -> pl.DataFrame:
    """One column for each number of the vectors; rows in order."""
    rows = embeddings.sort("camera_id", "day", "hour")
    if rows.is_empty():
        return rows.select("camera_id", "day", "hour")
    values = np.stack([np.frombuffer(packed, "<f4") for packed in rows["values"]])
    named = {f"v{place}": values[:, place].astype(np.float64) for place in range(values.shape[1])}
    return rows.select("camera_id", "day", "hour").with_columns(
        pl.Series(name, column) for name, column in named.items()
    )


def _vectors(
    kind: DriftSignal,
    name: str,
    ordinary: pl.DataFrame,
    today: pl.DataFrame,
    columns: Sequence[str],
    settings: DriftSettings,
) -> Iterator[Signal]:
    """One signal for each camera that has vectors on both sides, and days enough to be tested."""
    first, second = ordinary.drop_nulls(columns), today.drop_nulls(columns)
    old = first.partition_by("camera_id", as_dict=True)
    cameras: dict[str, Vectors] = {}
    known_days: dict[str, int] = {}
    for (camera,), new in sorted(second.partition_by("camera_id", as_dict=True).items()):
        before = old.get((camera,))
        if before is None:
            continue
        # Each hour is seen as it differs from that quarter of the day, or night would be drift.
        sides, parts = _centred(before, new, columns)
        if len(sides[1]):
            numbers = before["day"].rank("dense").cast(pl.Int64).to_numpy()
            cameras[str(camera)] = Vectors(sides[0], numbers, sides[1], parts)
            known_days[str(camera)] = before["day"].n_unique()
    felt = FELT["pose" if kind == "pose" else "embedding"].of(0.0)
    for camera_id, found in vector_tests(cameras).items():
        if found.p_value is None:
            continue
        yield Signal(
            camera_id,
            name,
            kind,
            f"{known_days[camera_id]} ordinary days",
            f"{len(cameras[camera_id].today)} hours",
            # Another patient looks different as a whole, too: people are told of by their figures.
            large=kind == "embedding" and found.mmd >= felt * settings.felt,
            statistic=found.mmd,
            p_value=found.p_value,
            effect=found.mmd / felt,
            alone=kind == "pose",
        )


def _centred(
    before: pl.DataFrame, new: pl.DataFrame, columns: Sequence[str]
) -> tuple[list[npt.NDArray[np.float64]], Labels]:
    """Both less the ordinary mean of that quarter of the day, and the quarter of each row.

    Quarters without an ordinary hour are left out.
    """
    part = part_of(pl.col("hour")).alias("part")
    means = before.group_by(part).agg(pl.col(name).mean().alias(f"{name}_") for name in columns)
    joined = [
        frame.with_columns(part).join(means, on="part", how="inner", maintain_order="left")
        for frame in (before, new)
    ]
    values = [
        frame.select(pl.col(name) - pl.col(f"{name}_") for name in columns).to_numpy()
        for frame in joined
    ]
    return values, Labels(joined[0]["part"].to_numpy(), joined[1]["part"].to_numpy())


def scene_signals(
    days: CameraDays, chosen: pl.DataFrame, today: CameraDays, settings: DriftSettings
) -> dict[str, tuple[Signal, Turn | None]]:
    """What stands behind the people, by camera, and how today's picture lies over the usual one."""
    compared = chosen.select("camera_id", "day")
    ordinary = days.scenes.join(compared, on=["camera_id", "day"], how="semi")
    felt = FELT["scene"].of(0.0)
    found: dict[str, tuple[Signal, Turn | None]] = {}
    for camera_id, test in scene_tests(ordinary, today.scenes).items():
        signal = Signal(
            camera_id,
            "scene",
            "scene",
            "unknown" if math.isnan(test.usual) else f"{test.usual:.0%} differs between days",
            f"{test.changed:.0%} differs",
            large=test.changed >= felt * settings.felt,
            statistic=test.changed,
            p_value=test.p_value,
            before=test.usual,
            after=test.changed,
            effect=test.changed / felt,
        )
        found[camera_id] = (signal, test.turn)
    return found


def slow_signals(
    figures: Sequence[Signal], past: pl.DataFrame, cameras: int, settings: DriftSettings
) -> Iterator[Signal]:
    """Sums over days of how far each figure of the picture lay from ordinary days.

    People are left out: a patient who stays for weeks differs slowly from all before.
    `figures` are today's, `past` rows of `drift_signals` of the days before. All streams together
    give one false drift in the time that `online_share` of the budget leaves.
    """
    tested = [one for one in figures if one.kind == "quality" and one.effect is not None]
    if not tested or not settings.online_share:
        return
    before: dict[tuple[str, str], list[float]] = {}
    rows = (
        past.filter(pl.col("statistic").is_not_null())
        .sort("day")
        .select("camera_id", "signal", "statistic")
    )
    for camera_id, signal, statistic in rows.iter_rows():
        before.setdefault((camera_id, signal), []).append(statistic)
    run_days = len(tested) / (settings.false_drifts_a_day(cameras) * settings.online_share)
    for one in tested:
        stream = [*before.get((one.camera_id, one.signal), ()), one.statistic or 0.0]
        found = cusum(np.array(stream[-settings.memory_days :]), run_days)
        yield replace(
            one,
            signal=f"{one.signal}:{SLOWLY}",
            kind="online",
            statistic=found.statistic,
            p_value=min(1.0, 1 / run_days) if found.alarm else None,
            large=found.alarm and (one.effect or 0.0) >= settings.felt,
            alone=True,
        )


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _median(values: Sequence[str]) -> float:
    return float(np.median([_float(one) for one in values]))


def precision_signals(
    answers: pl.DataFrame, learned: date, cameras: int, settings: DriftSettings
) -> Iterator[Signal]:
    """Whether staff confirm fewer alerts than before, for each camera and for all together.

    `answers` are alerts that staff judged, in order: camera_id, day and fall (true or false). Those
    up to `learned`, the champion's newest ordinary day, say what is usual; the later ones are bet
    against it. Half of `precision_share` is the site's stream's, the other half all cameras'.
    A stream may err once in the life of a champion, which is taken as a month.
    """
    share = settings.false_drifts_a_day(cameras) * DAYS_PER_MONTH * settings.precision_share / 2
    streams = [(SITE, answers, min(0.5, share))]
    for (camera_id,), own in sorted(answers.partition_by("camera_id", as_dict=True).items()):
        streams.append((str(camera_id), own, min(0.5, share / max(1, cameras))))
    for name, own, alpha in streams:
        before = own.filter(pl.col("day") <= learned)["fall"].to_list()
        after = own.filter(pl.col("day") > learned)["fall"].to_list()
        if len(before) < _FEW_ANSWERS or not after:
            continue
        usual = usual_precision(sum(before), len(before) - sum(before)) - settings.precision_drop
        if not 0 < usual < 1:
            continue
        found = precision_evidence(after, usual, alpha)
        was, now = sum(before) / len(before), sum(after[found.since or 0 :])
        newest = now / max(1, len(after) - (found.since or 0))
        yield Signal(
            name,
            "precision",
            "precision",
            f"{was:.0%} of {len(before)} alerts were falls",
            f"{newest:.0%} of {len(after) - (found.since or 0)}",
            large=found.alarm is not None,
            statistic=found.peak,
            p_value=found.p_value,
            before=was,
            after=newest,
            effect=max(0.0, was - newest) / settings.precision_drop
            if settings.precision_drop
            else None,
            alone=True,
        )
