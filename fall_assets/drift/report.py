"""The day's drift report: what changed, on which cameras, how sure, in words.

Here: which figures are tested and how, what counts as drift, and the verdict. Not here: the tests
themselves (`tests.py`), plots (`plots.py`), or what is done about drift (`retraining.py`).

A camera's day is compared with the champion's reference in four ways:

- `new_camera`: the reference holds nothing of it;
- `exact`: its resolution, or a frame rate off by more than a fifth. No statistics;
- `quality`: Kolmogorov-Smirnov per quality figure, on windows that do not overlap, counted as the
  number of independent ones that they are worth (windows of one segment repeat each other);
- `pose`: maximum mean discrepancy of standardised pose figures, one row per segment with people.

All p-values of a day share one budget: the chance that a day without change is called drift by
them is at most `alpha` (Holm 1979). Statistics alone do not make drift: the change must also be
large against what is ordinary on that camera, since with enough footage every change is
significant.

Known limits: a test counts segments, not windows, so that a day of a handful of segments shows
exact changes but hardly a change of pose or light. Time of day is not stratified: a day
whose footage covers other hours than the reference may differ for that reason.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from fall_assets.drift import tests
from fall_assets.drift.statistics import (
    effective_size,
    holm,
    intraclass_correlation,
    ks_distance,
    non_overlapping,
    robust_spread,
    spread_sample,
)
from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import table

Real = npt.NDArray[np.float64]
Kind = Literal["exact", "quality", "pose", "new_camera"]

QUALITY_FIGURES = ("brightness", "contrast", "sharpness", "noise")
POSE_FIGURES = ("people", "keypoint_score", "person_height", "person_aspect", "person_y")

_WORDS = {
    "people": "the number of people in view",
    "keypoint_score": "the certainty of key points",
    "person_height": "people's height in the picture",
    "person_aspect": "people's height over width",
    "person_y": "the height of people's hips (0 is the top)",
}
# Spreads below these are not felt by the pose network or the eye: shares of the luma range, then
# shares of the reference's median, then units of the pose figures.
_FLOORS = {
    "brightness": 0.02,
    "contrast": 0.01,
    "people": 0.25,
    "keypoint_score": 0.03,
    "person_height": 0.03,
    "person_aspect": 0.15,
    "person_y": 0.03,
}
_RELATIVE_FLOORS = {"sharpness": 0.1, "noise": 0.1}
# One odd segment must not decide the statistic of the whole day.
_POSE_LIMIT = 5.0
# A first, short permutation test is enough where nothing is suspicious (Besag and Clifford 1991).
_SUSPICIOUS = 0.05


@dataclass(frozen=True)
class DriftSettings:
    """What counts as drift.

    `min_effect` is the shift of a quality figure's median in robust standard deviations of the
    reference; `min_pose_effect` the distance of distribution functions (0-1) of the pose figure
    that changed most. Statistics need `min_windows` windows that do not overlap, or `min_segments`
    segments with people, on both sides. At most `max_windows` windows per camera are compared.
    `fps_change` is the share by which the frame rate may be off.
    """

    alpha: float = 0.01
    min_effect: float = 2.0
    min_pose_effect: float = 0.3
    min_windows: int = 8
    min_segments: int = 3
    max_windows: int = 200
    fps_change: float = 0.2
    permutations: int = 199
    max_permutations: int = 20_000
    seed: int = 0


@dataclass(frozen=True)
class DriftJudgement:
    """The day's rows of the tables `drift_signals` (one per test) and `drift_report` (one)."""

    signals: pl.DataFrame
    report: pl.DataFrame

    @property
    def drifted(self) -> bool:
        """Whether anything counts as drift."""
        return bool(self.report["drifted"][0])

    @property
    def verdict(self) -> str:
        """What changed, in words."""
        return str(self.report["verdict"][0])


@dataclass(frozen=True)
class _Signal:
    """One comparison. `before` and `after` are numbers where the signal has them."""

    camera_id: str
    signal: str
    kind: Kind
    reference: str
    today: str
    large: bool
    statistic: float | None = None
    p_value: float | None = None
    before: float = math.nan
    after: float = math.nan
    figure: str = ""
    drifted: bool = False

    @property
    def cause(self) -> str:
        """What happened, without numbers that differ from day to day."""
        if self.kind == "new_camera":
            return "new_camera"
        if self.kind == "exact":
            return f"{self.signal}={self.today}"
        direction = "rose" if self.after > self.before else "fell"
        return f"{self.signal}:{self.figure} {direction}"


def judge(
    reference: pl.DataFrame,
    today: pl.DataFrame,
    day: date,
    model_version: str,
    settings: DriftSettings | None = None,
) -> DriftJudgement:
    """Compare one day with the champion's reference.

    `reference` are rows of `drift_reference`, of which those of `model_version` are used; `today`
    are rows of `features`, of which those of `day` and of the reference's feature set are used. A
    day without footage is no drift. The same input gives the same judgement.

    Raises PermanentFailureError where the model has no reference, or where the day has features of
    other feature sets only.
    """
    settings = settings or DriftSettings()
    # Sorted, because sums of floating point numbers depend on the order of rows.
    known = reference.filter(pl.col("model_version") == model_version).sort("video_id", "window")
    windows = _comparable(known, today.filter(pl.col("day") == day), day, model_version, settings)
    by_camera = {
        name: part for (name,), part in known.partition_by("camera_id", as_dict=True).items()
    }

    signals: list[_Signal] = []
    untested: list[str] = []
    pose: list[tuple[str, Real, Real]] = []
    for camera in windows.partition_by("camera_id", maintain_order=True):
        camera_id = str(camera["camera_id"][0])
        before = by_camera.get(camera_id)
        if before is None:
            signals.append(_new_camera(camera_id, camera))
            continue
        signals += _exact(camera_id, before, camera, settings)
        if min(len(before), len(camera)) < settings.min_windows:
            untested.append(camera_id)
            continue
        signals += _quality(camera_id, before, camera, settings)
        first, second = pose_by_segment(before), pose_by_segment(camera)
        if min(len(first), len(second)) >= settings.min_segments:
            pose.append((camera_id, first, second))
    tested = sum(signal.p_value is not None for signal in signals) + len(pose)
    signals += [_pose(*sample, tests_today=tested, settings=settings) for sample in pose]

    decided, smallest = _decide(signals, settings.alpha)
    report = _report(decided, smallest, untested, windows, day, model_version)
    return DriftJudgement(_signal_frame(decided, day, model_version), report)


def _comparable(
    known: pl.DataFrame,
    today: pl.DataFrame,
    day: date,
    model_version: str,
    settings: DriftSettings,
) -> pl.DataFrame:
    """Today's windows to compare: of the reference's feature set, not overlapping, a sample."""
    if known.is_empty():
        raise PermanentFailureError(
            f"model {model_version} has no drift reference: materialize drift_reference, then "
            f"drift_report for {day}"
        )
    sets = known["feature_set"].unique().sort().to_list()
    usable = today.filter(pl.col("feature_set").is_in(sets))
    if usable.is_empty() and not today.is_empty():
        raise PermanentFailureError(
            f"the features of {day} are of feature set "
            f"{', '.join(today['feature_set'].unique().sort())}, the drift reference of model "
            f"{model_version} is of {', '.join(sets)}: materialize features for {day} with the "
            "settings of that model"
        )
    return spread_sample(non_overlapping(usable), settings.max_windows, settings.seed)


def _new_camera(camera_id: str, camera: pl.DataFrame) -> _Signal:
    return _Signal(
        camera_id, "camera", "new_camera", "not seen", f"{len(camera)} windows", large=True
    )


def _exact(
    camera_id: str, before: pl.DataFrame, camera: pl.DataFrame, settings: DriftSettings
) -> list[_Signal]:
    """Resolution and frame rate of one camera.

    Of a day with several resolutions the one that fills most of it counts, so that a camera that
    was exchanged in the evening is reported the next day.
    """
    sizes, size = _resolutions(before), _resolutions(camera)[0]
    usual, fps = before["fps"].to_numpy(), float(np.median(camera["fps"].to_numpy()))
    low, high = np.quantile(usual, [0.05, 0.95])
    off = fps < low * (1 - settings.fps_change) or fps > high * (1 + settings.fps_change)
    return [
        _Signal(
            camera_id,
            "resolution",
            "exact",
            ", ".join(sizes),
            size,
            large=size not in sizes,
        ),
        _Signal(
            camera_id,
            "fps",
            "exact",
            f"{np.median(usual):.0f}",
            f"{fps:.0f}",
            large=bool(off),
            before=float(np.median(usual)),
            after=fps,
        ),
    ]


def _resolutions(windows: pl.DataFrame) -> list[str]:
    """The resolutions, the most frequent first."""
    counted = (
        windows.group_by("width", "height")
        .len()
        .sort(["len", "width", "height"], descending=[True, False, False])
    )
    return [f"{width}x{height}" for width, height, _ in counted.iter_rows()]


def _quality(
    camera_id: str, before: pl.DataFrame, camera: pl.DataFrame, settings: DriftSettings
) -> list[_Signal]:
    """Every quality figure of one camera."""
    first = before.select(QUALITY_FIGURES).to_numpy().astype(np.float64)
    second = camera.select(QUALITY_FIGURES).to_numpy().astype(np.float64)
    first_segments, second_segments = _segments(before), _segments(camera)
    worth = np.empty((2, len(QUALITY_FIGURES)))
    for place in range(len(QUALITY_FIGURES)):
        alike = intraclass_correlation(
            [(first[:, place], first_segments), (second[:, place], second_segments)]
        )
        worth[:, place] = (
            effective_size(first_segments, alike),
            effective_size(second_segments, alike),
        )
    statistics, p_values = tests.ks(
        first, second, effective=tests.EffectiveSizes(reference=worth[0], today=worth[1])
    )
    signals = []
    for place, figure in enumerate(QUALITY_FIGURES):
        usual, now = float(np.median(first[:, place])), float(np.median(second[:, place]))
        floor = _FLOORS.get(figure, _RELATIVE_FLOORS.get(figure, 0.0) * abs(usual))
        spread = robust_spread(first[:, place], floor)
        signals.append(
            _Signal(
                camera_id,
                figure,
                "quality",
                _number(usual),
                _number(now),
                large=abs(now - usual) > settings.min_effect * spread,
                statistic=float(statistics[place]),
                p_value=float(p_values[place]),
                before=usual,
                after=now,
                figure=figure,
            )
        )
    return signals


def _segments(windows: pl.DataFrame) -> npt.NDArray[np.int_]:
    """The number of the segment of each window."""
    return windows["video_id"].rank("dense").cast(pl.Int64).to_numpy()


def pose_by_segment(windows: pl.DataFrame) -> Real:
    """Median pose figures of each segment with people, shape (segments, 5), by `POSE_FIGURES`."""
    seen = windows.drop_nulls(POSE_FIGURES)
    medians = seen.group_by("video_id").agg(pl.col(POSE_FIGURES).median()).sort("video_id")
    return medians.select(POSE_FIGURES).to_numpy().astype(np.float64)


def pose_change(reference: Real, today: Real) -> tuple[str, float]:
    """The pose figure that changed most, and how far: the distance of its distribution functions.

    Both of shape (segments, 5), as `pose_by_segment` gives them; the distance is 0-1. Medians
    would mislead here: people either lie or stand, and the median flips with the day's mixture.
    """
    distances = [
        ks_distance(reference[:, place], today[:, place]) for place in range(len(POSE_FIGURES))
    ]
    place = int(np.argmax(distances))
    return POSE_FIGURES[place], distances[place]


def _pose_scale(reference: Real) -> tuple[Real, Real]:
    """Median and robust spread of each pose figure."""
    spread = [
        robust_spread(reference[:, place], _FLOORS[figure])
        for place, figure in enumerate(POSE_FIGURES)
    ]
    return np.median(reference, axis=0), np.array(spread)


def _pose(
    camera_id: str, first: Real, second: Real, *, tests_today: int, settings: DriftSettings
) -> _Signal:
    """The pose figures of one camera together."""
    centre, spread = _pose_scale(first)
    before = np.clip((first - centre) / spread, -_POSE_LIMIT, _POSE_LIMIT)
    after = np.clip((second - centre) / spread, -_POSE_LIMIT, _POSE_LIMIT)
    statistic, p_value = tests.mmd(before, after, settings.permutations, settings.seed)
    if p_value <= min(_SUSPICIOUS, 5 * settings.alpha):
        # Enough permutations that the smallest p-value can pass Holm's first step.
        enough = math.ceil(2 * tests_today / settings.alpha)
        permutations = min(max(enough, settings.permutations), settings.max_permutations)
        statistic, p_value = tests.mmd(before, after, permutations, settings.seed + 1)
    figure, distance = pose_change(first, second)
    place = POSE_FIGURES.index(figure)
    usual, now = float(first[:, place].mean()), float(second[:, place].mean())
    return _Signal(
        camera_id,
        "pose",
        "pose",
        f"{figure} {_number(usual)}",
        f"{figure} {_number(now)}",
        large=distance >= settings.min_pose_effect,
        statistic=statistic,
        p_value=p_value,
        before=usual,
        after=now,
        figure=figure,
    )


def _decide(signals: Sequence[_Signal], alpha: float) -> tuple[list[_Signal], float | None]:
    """Which signals drifted, and the smallest adjusted p-value.

    On a camera whose resolution or frame rate changed, drift is a fact: its tests only tell what
    else changed, so that they stand outside the day's budget and are not adjusted.
    """
    certain = {signal.camera_id for signal in signals if signal.kind == "exact" and signal.large}
    places = [
        place
        for place, signal in enumerate(signals)
        if signal.p_value is not None and signal.camera_id not in certain
    ]
    adjusted = holm([signals[place].p_value or 0.0 for place in places])
    by_place = dict(zip(places, adjusted, strict=True))
    decided = []
    for place, signal in enumerate(signals):
        p_value = by_place.get(place, signal.p_value)
        sure = p_value is None or p_value <= alpha
        decided.append(replace(signal, drifted=signal.large and sure))
    return decided, min(adjusted, default=None)


def _signal_frame(signals: Sequence[_Signal], day: date, model_version: str) -> pl.DataFrame:
    rows = [
        {
            "day": day,
            "model_version": model_version,
            "camera_id": signal.camera_id,
            "signal": signal.signal,
            "kind": signal.kind,
            "reference": signal.reference,
            "today": signal.today,
            "statistic": signal.statistic,
            "p_value": signal.p_value,
            "drifted": signal.drifted,
        }
        for signal in signals
    ]
    return pl.DataFrame(rows, schema=table("drift_signals").schema).sort("camera_id", "signal")


def _report(
    signals: Sequence[_Signal],
    smallest: float | None,
    untested: Sequence[str],
    windows: pl.DataFrame,
    day: date,
    model_version: str,
) -> pl.DataFrame:
    drifted = [signal for signal in signals if signal.drifted]
    cameras = sorted({signal.camera_id for signal in drifted})
    if drifted:
        verdict = _drift_in_words(drifted, model_version)
    else:
        verdict = _no_drift_in_words(windows, smallest, untested, model_version)
    row = {
        "day": day,
        "model_version": model_version,
        "drifted": bool(drifted),
        "drift_id": _drift_id(drifted, model_version) if drifted else None,
        "cameras": json.dumps(cameras),
        "verdict": verdict,
        "windows": len(windows),
    }
    return pl.DataFrame([row], schema=table("drift_report").schema)


def _drift_id(drifted: Sequence[_Signal], model_version: str) -> str:
    """Hash of the model and each camera's causes.

    Where a camera's resolution or frame rate changed, that is its cause: the figures that follow
    from it may pass a threshold on one day and miss it on the next.
    """
    causes: dict[str, list[str]] = {}
    for camera_id in sorted({signal.camera_id for signal in drifted}):
        own = [signal for signal in drifted if signal.camera_id == camera_id]
        root = [signal for signal in own if signal.p_value is None] or own
        causes[camera_id] = sorted(signal.cause for signal in root)
    text = json.dumps([model_version, causes], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _drift_in_words(drifted: Sequence[_Signal], model_version: str) -> str:
    """One sentence for each group of cameras to which the same happened.

    Cameras with the same exact change are one group, whatever else each of them shows.
    """
    by_camera: dict[str, dict[str, _Signal]] = {}
    for signal in drifted:
        by_camera.setdefault(signal.camera_id, {})[signal.cause] = signal
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for camera_id in sorted(by_camera):
        own = by_camera[camera_id]
        exact = [(cause, each.reference) for cause, each in own.items() if each.kind == "exact"]
        groups.setdefault(tuple(exact or [(cause, "") for cause in own]), []).append(camera_id)
    sentences = []
    for cameras in groups.values():
        shared = [
            cause
            for cause in by_camera[cameras[0]]
            if all(cause in by_camera[camera_id] for camera_id in cameras)
        ]
        parts = [
            _in_words([by_camera[camera_id][cause] for camera_id in cameras], model_version)
            for cause in shared
        ]
        for camera_id in cameras:
            more = [each for cause, each in by_camera[camera_id].items() if cause not in shared]
            if more:
                words = ", ".join(_in_words([each], model_version) for each in more)
                parts.append(f"on {camera_id} also {words}")
        sentences.append(f"{_cameras(cameras)}: {'; '.join(parts)}")
    return ". ".join(sentences) + "."


def _in_words(same: Sequence[_Signal], model_version: str) -> str:
    """What one signal says, over cameras to which the same happened."""
    signal = same[0]
    if signal.kind == "new_camera":
        return f"not in the reference of model {model_version}"
    if signal.kind == "exact":
        name = "frames per second" if signal.signal == "fps" else signal.signal
        return f"{name} changed from {signal.reference} to {signal.today}"
    before = float(np.mean([each.before for each in same]))
    after = float(np.mean([each.after for each in same]))
    verb = "rose" if after > before else "fell"
    p_value = max(each.p_value for each in same if each.p_value is not None)
    name = _WORDS.get(signal.figure, signal.figure)
    numbers = f"from {_number(before)} to {_number(after)} ({p_in_words(p_value)})"
    if signal.kind == "pose":
        return f"pose changed, most of all {name} {verb} {numbers}"
    return f"{name} {verb} {numbers}"


def _no_drift_in_words(
    windows: pl.DataFrame, smallest: float | None, untested: Sequence[str], model_version: str
) -> str:
    if windows.is_empty():
        return "No drift: no footage on this day."
    cameras = windows["camera_id"].n_unique()
    text = (
        f"No drift: {cameras} {'camera' if cameras == 1 else 'cameras'} with {len(windows)} "
        f"windows agree with the reference of model {model_version}"
    )
    if smallest is not None:
        text += f" (smallest p after Holm's correction {_number(smallest)})"
    if untested:
        text += (
            f"; too few windows for statistics on {_cameras(untested)}, where only resolution and "
            "frames per second were compared"
        )
    return text + "."


def _cameras(names: Sequence[str]) -> str:
    """'camera a', 'cameras a and b', 'cameras a, b and c'."""
    if len(names) == 1:
        return f"camera {names[0]}"
    return f"cameras {', '.join(names[:-1])} and {names[-1]}"


def _number(value: float) -> str:
    """Two decimals, or two digits where the number is small."""
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def p_in_words(value: float) -> str:
    """'p = 0.004'; below one in ten thousand nobody should trust the exponent."""
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.1g}"
