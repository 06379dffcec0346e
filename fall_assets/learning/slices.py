"""Slices of the footage, and every figure of each with its interval.

What belongs here: what a segment is (its view, light, hour, how large people are), the rows of an
evaluation by slice, the comparison of two models by slice. What does not: resampling itself
(`bootstrap`), counting (`metrics`), what follows from it (`delivery.gate`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import polars as pl

from fall_assets.lake.registry import EVALUATION_SLICES
from fall_assets.learning.bootstrap import (
    RESAMPLES,
    Difference,
    Piece,
    Spread,
    paired,
    spreads,
)
from fall_assets.learning.metrics import (
    SECONDS_PER_DAY,
    OperatingPoint,
    Row,
    VideoOutcome,
    joined,
    label_at,
    operating_point,
    percentile,
    poisson_interval,
    wilson,
)
from fall_assets.learning.windows import SegmentTracks, seen

UNKNOWN = "unknown"

DARK, BRIGHT = 0.3, 0.5
"""Mean luma (0-1) below which footage counts as dark, and from which on as bright."""

SMALL, LARGE = 0.25, 0.5
"""Shares of the picture's long side: a body's box whose diagonal is below, or from there on."""

_HOURS = 6
_SITE = "site"

Key = tuple[str, str]


@dataclass(frozen=True)
class Traits:
    """What a segment is, in words; `unknown` where nobody can tell.

    Attributes:
        view: how the camera looks at the room.
        light: 'dark', 'medium' or 'bright', by the mean luma of its windows.
        body_size: 'small', 'medium', 'large' or 'nobody', by the median diagonal of people's
            boxes; the diagonal is near a body's height whether it stands or lies.
        hour: six hours of the day in UTC; unknown for data sets, whose times are nominal.
        scene: what is resampled together.
    """

    view: str = UNKNOWN
    light: str = UNKNOWN
    body_size: str = UNKNOWN
    hour: str = UNKNOWN
    scene: str | None = None


def traits_of(
    videos: pl.DataFrame,
    cameras: pl.DataFrame,
    features: pl.DataFrame,
    tracks: Mapping[str, SegmentTracks],
) -> dict[str, Traits]:
    """Traits of every segment in `tracks`.

    Args:
        videos: rows of `videos`: video_id, camera_id, dataset, start_utc, scene.
        cameras: rows of `cameras`: camera_id, view.
        features: rows of `features` of one feature set: video_id, brightness.
        tracks: the people of each segment.
    """
    views = dict(cameras.select("camera_id", "view").iter_rows())
    luma = dict(
        features.group_by("video_id").agg(pl.col("brightness").mean()).iter_rows()
        if features.height
        else ()
    )
    wanted = videos.filter(pl.col("video_id").is_in(list(tracks)))
    return {
        row["video_id"]: Traits(
            views.get(row["camera_id"]) or UNKNOWN,
            light(luma.get(row["video_id"])),
            body_size(tracks[row["video_id"]]),
            _hours(row["start_utc"].hour) if row["dataset"] == _SITE else UNKNOWN,
            row["scene"],
        )
        for row in wanted.iter_rows(named=True)
    }


def light(luma: float | None) -> str:
    """A mean luma (0-1) in words."""
    if luma is None:
        return UNKNOWN
    return "dark" if luma < DARK else "medium" if luma < BRIGHT else "bright"


def body_size(tracks: SegmentTracks) -> str:
    """How large people are in a segment's picture, in words."""
    long_side = max(tracks.aspect, 1.0)
    diagonals: list[float] = []
    for track in tracks.tracks:
        points = track.keypoints[seen(track.keypoints)]
        if len(points):
            wide = np.ptp(points[..., 0], axis=1) * tracks.aspect
            diagonals += np.hypot(wide, np.ptp(points[..., 1], axis=1)).tolist()
    if not diagonals:
        return "nobody"
    share = median(diagonals) / long_side
    return "small" if share < SMALL else "medium" if share < LARGE else "large"


def pieces_of(
    outcomes: Sequence[VideoOutcome], traits: Mapping[str, Traits] | None = None
) -> dict[Key, list[Piece]]:
    """What happened, by slice and scene; segments that follow each other are `joined`.

    A label's slice holds the false alarms raised while it held and the footage under it, and all
    falls under `fall`; alarms outside every label stand under `unlabelled`, which has no footage
    of its own. `changed` holds a camera's segments since it changed. Without traits, or without a
    scene, each segment is a scene.
    """
    traits = traits or {}
    pieces: dict[Key, list[Piece]] = {}
    for item in joined(outcomes):
        own = traits.get(item.video.video_id, Traits())
        unit = own.scene or item.video.video_id
        whole = _piece(item, unit)
        for key in (
            ("all", "all"),
            ("dataset", item.video.dataset),
            ("camera", item.video.camera_id),
            ("view", own.view),
            ("room", item.video.room),
            ("light", own.light),
            ("body_size", own.body_size),
            ("hour", own.hour),
        ):
            pieces.setdefault(key, []).append(whole)
        if item.video.changed:
            pieces.setdefault(("changed", item.video.camera_id), []).append(whole)
        for label, piece in _by_label(item, whole):
            pieces.setdefault(("label", label), []).append(piece)
    order = {name: place for place, name in enumerate(EVALUATION_SLICES)}
    return dict(sorted(pieces.items(), key=lambda entry: (order[entry[0][0]], entry[0][1])))


def sliced_metrics(
    outcomes: Sequence[VideoOutcome],
    traits: Mapping[str, Traits] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Row]:
    """Rows of the table `evaluation`, without what names the model and the moment.

    The same figures as `metrics.event_metrics`, over more slices and each with its 95 % interval:
    Wilson's for sensitivity and precision, Garwood's exact one for false alarms per camera-day,
    resampled scenes for F1 and the delays. `scenes` is how many there were to draw from.
    """
    point = operating_point(joined(outcomes), _threshold(outcomes))
    rows = []
    for (name, value), pieces in pieces_of(outcomes, traits).items():
        by_scene = spreads(pieces, resamples=resamples, seed=seed)
        rows.append(_row(name, value, pieces, by_scene, point.threshold))
    return rows


def compare(
    candidate: Sequence[VideoOutcome],
    champion: Sequence[VideoOutcome],
    traits: Mapping[str, Traits] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Row]:
    """Rows of the table `comparison`: how a candidate differs from the champion, by slice.

    Both must have judged the same segments. `falls` and `camera_days` say on how much; `low` and
    `high` are the 95 % interval of the difference over resampled scenes, the same for both.

    Raises:
        ValueError: where they judged different segments.
    """
    ours, theirs = (
        {item.video.video_id for item in outcomes} for outcomes in (candidate, champion)
    )
    if ours != theirs:
        raise ValueError(
            f"{len(ours ^ theirs)} segments were judged by one of the models only: judge both on "
            "the same"
        )
    one, other = pieces_of(candidate, traits), pieces_of(champion, traits)
    rows: list[Row] = []
    for key in dict.fromkeys([*one, *other]):
        pieces, beside = one.get(key, []), other.get(key, [])
        falls = sum(piece.falls for piece in pieces or beside)
        footage_s = sum(piece.footage_s for piece in pieces or beside)
        for difference in paired(pieces, beside, resamples=resamples, seed=seed):
            if difference.candidate is None and difference.champion is None:
                continue
            rows.append(_compared(key, falls, footage_s, pieces, beside, difference))
    return rows


def _compared(
    key: Key,
    falls: int,
    footage_s: float,
    pieces: Sequence[Piece],
    beside: Sequence[Piece],
    difference: Difference,
) -> Row:
    return {
        "slice": key[0],
        "value": key[1],
        "figure": difference.figure,
        "falls": falls,
        "camera_days": footage_s / SECONDS_PER_DAY,
        "scenes": difference.units,
        "candidate": difference.candidate,
        "champion": difference.champion,
        "candidate_found": sum(piece.found for piece in pieces),
        "champion_found": sum(piece.found for piece in beside),
        "candidate_false_alarms": sum(piece.false_alarms for piece in pieces),
        "champion_false_alarms": sum(piece.false_alarms for piece in beside),
        "difference": difference.difference,
        "low": difference.low,
        "high": difference.high,
        "worse_share": difference.worse_share,
    }


def _row(
    name: str, value: str, pieces: Sequence[Piece], by_scene: Mapping[str, Spread], threshold: float
) -> Row:
    falls = sum(piece.falls for piece in pieces)
    found = sum(piece.found for piece in pieces)
    alarms = sum(piece.false_alarms for piece in pieces)
    footage_s = sum(piece.footage_s for piece in pieces)
    days = footage_s / SECONDS_PER_DAY
    sensitivity, precision = wilson(found, falls), wilson(found, found + alarms)
    rate = poisson_interval(alarms)
    delays = [delay_s for piece in pieces for delay_s in piece.delays_s]
    f1, middle, late = (_bounds(by_scene[n]) for n in ("f1", "delay_median_s", "delay_p95_s"))
    point = OperatingPoint(threshold, falls, found, alarms, footage_s)
    return {
        "slice": name,
        "value": value,
        "falls": falls,
        "found": found,
        "sensitivity": point.sensitivity,
        "sensitivity_low": sensitivity[0] if sensitivity else None,
        "sensitivity_high": sensitivity[1] if sensitivity else None,
        "false_alarms": alarms,
        "camera_days": days,
        "false_alarms_per_camera_day": alarms / days if days else None,
        "false_alarms_per_camera_day_low": rate[0] / days if days else None,
        "false_alarms_per_camera_day_high": rate[1] / days if days else None,
        "false_alarms_per_hour": point.false_alarms_per_hour,
        "precision": point.precision,
        "precision_low": precision[0] if precision else None,
        "precision_high": precision[1] if precision else None,
        "f1": point.f1,
        "f1_low": f1[0],
        "f1_high": f1[1],
        "delay_median_s": percentile(delays, 0.5),
        "delay_median_low_s": middle[0],
        "delay_median_high_s": middle[1],
        "delay_p95_s": percentile(delays, 0.95),
        "delay_p95_low_s": late[0],
        "delay_p95_high_s": late[1],
        "scenes": len({piece.unit for piece in pieces}),
        "threshold": threshold,
    }


def _bounds(spread: Spread) -> tuple[float | None, float | None]:
    return spread.low, spread.high


def _piece(item: VideoOutcome, unit: str) -> Piece:
    matching = item.matching
    return Piece(
        unit,
        len(matching.found) + len(matching.missed),
        len(matching.found),
        len(matching.false_alarms),
        item.video.duration_s,
        tuple(found.delay_s for found in matching.found),
    )


def _by_label(item: VideoOutcome, whole: Piece) -> Iterable[tuple[str, Piece]]:
    footage: dict[str, float] = {}
    alarms: dict[str, int] = {}
    for interval in item.video.labels:
        length_s = interval.end_s - interval.start_s
        footage[interval.label] = footage.get(interval.label, 0.0) + length_s
    for event in item.matching.false_alarms:
        held = label_at(item.video, event.raised_s)
        alarms[held] = alarms.get(held, 0) + 1
    for label in sorted({*footage, *alarms, *(("fall",) if whole.falls else ())}):
        fall = label == "fall"
        yield (
            label,
            Piece(
                whole.unit,
                whole.falls if fall else 0,
                whole.found if fall else 0,
                alarms.get(label, 0),
                footage.get(label, 0.0),
                whole.delays_s if fall else (),
            ),
        )


def _threshold(outcomes: Sequence[VideoOutcome]) -> float:
    return median(item.threshold for item in outcomes) if outcomes else 0.5


def _hours(hour: int) -> str:
    first = hour // _HOURS * _HOURS
    return f"{first:02d}-{first + _HOURS - 1:02d} h"
