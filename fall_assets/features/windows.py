"""Figures of the windows of one segment, from what was measured at its frames and samples.

What belongs here: where windows lie and how measurements become one row. What does not: the
measurements. (The windows that models score are another matter: `learning/`.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fall_assets.features.packing import LEFT_HIP, RIGHT_HIP
from fall_assets.features.people import People, lying, sitting
from fall_assets.features.quality import Quality
from fall_assets.features.settings import FeatureSettings
from fall_assets.features.tracking import Track

_ROUNDING_S = 0.05
_HALF_STEP_S = 0.5
_LEAST_STEP_S = 0.3
_ROLLING_SPEED = 0.2
Row = dict[str, float | int | None]
Look = tuple[float, int, int, Quality]


@dataclass
class Measurements:
    """What one pass wrote down; times in seconds from the first frame, growing.

    Attributes:
        frame_s: every frame's time, decoded or not.
        changed: (time, share of the picture that changed).
        looks: (time, width, height, quality figures).
        watched: (start, end) of the spans whose samples were looked at; apart and in order.
        glances: (time, people seen) of the single pictures that were looked at elsewhere.
    """

    frame_s: Sequence[float] | NDArray[np.float64] = ()
    changed: list[tuple[float, float]] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    watched: list[tuple[float, float]] = field(default_factory=list)
    glances: list[tuple[float, People]] = field(default_factory=list)


def window_spans(duration_s: float, settings: FeatureSettings) -> list[tuple[float, float]]:
    """(start, end) of each window of a segment, in seconds.

    Windows of `window_s` start every `stride_s`. What the last of them leaves over is covered by
    one shorter window, if that is at least `min_window_s` long; a segment shorter than a window is
    one window, however short it is, so that every segment has one.
    """
    spans: list[tuple[float, float]] = []
    count = int((duration_s - settings.window_s + 1e-6) // settings.stride_s) + 1
    for number in range(max(count, 0)):
        start = number * settings.stride_s
        spans.append((start, start + settings.window_s))
    start = len(spans) * settings.stride_s
    covered = spans[-1][1] if spans else 0.0
    left_over = duration_s - covered > _ROUNDING_S
    if not spans or (left_over and duration_s - start >= settings.min_window_s):
        spans.append((start, duration_s))
    return spans


def window_rows(
    measured: Measurements,
    tracks: Sequence[Track],
    aspect: float,
    duration_s: float,
    settings: FeatureSettings,
) -> list[Row]:
    """One row per window: the columns of `features` from `window` on.

    `measured.looks` needs at least one entry. `aspect` is the picture's width over its height.
    """
    frame_s = np.asarray(measured.frame_s, np.float64)
    look_s = np.array([look[0] for look in measured.looks])
    changed = np.array(measured.changed, np.float64).reshape(-1, 2)
    glance_s = np.array([time_s for time_s, _ in measured.glances])
    seen = _seen_people(tracks, measured.glances, aspect, settings.sample_hz)
    rows: list[Row] = []
    for number, (start, end) in enumerate(window_spans(duration_s, settings)):
        moved = changed[_within(changed[:, 0], start, end), 1]
        open_s = sum(max(0.0, min(end, b) - max(start, a)) for a, b in measured.watched)
        glances = _within(glance_s, start, end)
        row: Row = {"window": number, "start_s": start, "end_s": end}
        row["watched"] = min(1.0, open_s / (end - start))
        row |= _picture_figures(measured.looks, _within(look_s, start, end))
        row["fps"] = _rate(frame_s, start, end)
        row["motion_mean"] = float(moved.mean()) if len(moved) else 0.0
        row["motion_max"] = float(moved.max(initial=0.0))
        looked = round(open_s * settings.sample_hz) + glances.stop - glances.start
        row |= _people_figures(seen, start, end, settings.sample_hz, looked)
        rows.append(row)
    return rows


def _within(times_s: NDArray[np.float64], start: float, end: float) -> slice:
    """The part of growing times that lies in [start, end)."""
    first, last = np.searchsorted(times_s, (start, end))
    return slice(int(first), int(last))


def _picture_figures(looks: Sequence[Look], part: slice) -> Row:
    # A gap in the recording may leave a window without a look: what was seen last still holds.
    within = looks[part] or looks[max(part.stop - 1, 0) : max(part.stop, 1)]
    _, width, height, _ = within[-1]
    figures = [look[3] for look in within]

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    return {
        "width": width,
        "height": height,
        "brightness": float(np.mean([figure.brightness for figure in figures])),
        "contrast": float(np.mean([figure.contrast for figure in figures])),
        "sharpness": float(np.mean([figure.sharpness for figure in figures])),
        "noise": float(np.mean([figure.noise for figure in figures])),
        "warmth": mean([figure.warmth for figure in figures]),
        "colour": mean([figure.colour for figure in figures]),
        "dark_share": mean([figure.dark_share for figure in figures]),
        "bright_share": mean([figure.bright_share for figure in figures]),
    }


def _rate(frame_s: NDArray[np.float64], start: float, end: float) -> float:
    """Frames per second of the frames in the window; of the whole segment where too few are."""
    for times_s in (frame_s[_within(frame_s, start, end)], frame_s):
        if len(times_s) > 1:
            return float((len(times_s) - 1) / (times_s[-1] - times_s[0]))
    return 0.0


class _Seen:
    """Columns of `_seen_people`."""

    TIME, SCORE, HEIGHT, SHAPE, Y, LIES, X, SITS, SPEED, ROLLS = range(10)


def _seen_people(
    tracks: Sequence[Track],
    glances: Sequence[tuple[float, People]],
    aspect: float,
    hz: float,
) -> NDArray[np.float64]:
    """Shape (n, 10), one row per person and sample, in the order of time.

    Time, score, height, aspect, height of hips, whether they lie (1, 0), hips across, whether they
    sit (1, 0), speed in sizes per second, whether they sit and move along (1, 0; NaN where they do
    not sit). NaN is what is not known.
    """
    parts = [np.zeros((0, 10))]
    for track in tracks:
        seen = np.flatnonzero(track.seen)
        times_s = (track.first + seen) / hz
        found = _figures(times_s, track.keypoints[seen], track.boxes[seen], aspect)
        parts.append(np.hstack([found, _moving(found, track.boxes[seen], aspect)]))
    for time_s, people in glances:
        times_s = np.full(len(people), time_s)
        found = _figures(times_s, people.keypoints, people.boxes, aspect)
        # Nobody moves in a single picture.
        parts.append(np.hstack([found, np.full((len(people), 2), np.nan)]))
    rows = np.concatenate(parts)
    return rows[np.argsort(rows[:, 0], kind="stable")]


def _figures(
    times_s: NDArray[np.float64],
    keypoints: NDArray[np.float32],
    boxes: NDArray[np.float32],
    aspect: float,
) -> NDArray[np.float64]:
    points, box = keypoints.astype(np.float64), boxes.astype(np.float64)
    width, height = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    shape = np.divide(height, width * aspect, out=np.full(len(box), np.nan), where=width > 1e-3)
    hips = points[:, (LEFT_HIP, RIGHT_HIP)]
    columns = (
        times_s,
        points[..., 2].mean(axis=1),
        height,
        shape,
        hips[..., 1].mean(axis=1),
        lying(keypoints, boxes, aspect).astype(np.float64),
        hips[..., 0].mean(axis=1),
        sitting(keypoints, boxes, aspect),
    )
    return np.stack(columns, axis=1)


def _moving(
    figures: NDArray[np.float64], boxes: NDArray[np.float32], aspect: float
) -> NDArray[np.float64]:
    """Speed, and whether one who sits moves along, of one track's seen samples, shape (n, 2).

    The hips' way from half a second before to half a second after, which is ten times as long as
    between samples, so that the key points' jitter hardly counts. One size is the longer side of
    the person's box in pixels, so that who lies does not seem to race. Moving along takes 0.2 sizes
    a second (some 0.25 m/s; wheelchairs in wards go at 0.5 to 1) and to sit at both ends of that
    way: who sits down moves, too.
    """
    times_s = figures[:, _Seen.TIME]
    first = np.searchsorted(times_s, times_s - _HALF_STEP_S - 1e-6)
    last = np.searchsorted(times_s, times_s + _HALF_STEP_S + 1e-6) - 1
    passed_s = times_s[last] - times_s[first]
    places = figures[:, (_Seen.X, _Seen.Y)] * [aspect, 1.0]
    way = np.linalg.norm(places[last] - places[first], axis=1)
    box = boxes.astype(np.float64)
    size = np.maximum((box[:, 2] - box[:, 0]) * aspect, box[:, 3] - box[:, 1])
    far = (passed_s >= _LEAST_STEP_S) & (size > 1e-3)
    speed = np.divide(way, size * passed_s, out=np.full(len(box), np.nan), where=far)
    sits = figures[:, _Seen.SITS]
    stays = (sits == 1) & (sits[first] == 1) & (sits[last] == 1)
    rolls = np.where(stays, speed >= _ROLLING_SPEED, 0.0)
    rolls[(sits != 1) | np.isnan(speed)] = np.nan
    return np.stack([speed, rolls], axis=1)


_NOBODY = (
    *("keypoint_score", "person_height", "person_aspect", "person_y", "lying", "person_x"),
    *("person_speed", "sitting", "rolling", "lying_x", "lying_y", "sitting_x", "sitting_y"),
)


def _people_figures(
    seen: NDArray[np.float64], start: float, end: float, hz: float, looked: int
) -> Row:
    """`looked` is how many samples and glances of the window were looked at."""
    # Samples are at k / hz; half a sample of tolerance keeps rounding out of the count.
    tolerance = 0.5 / hz
    within = seen[_within(seen[:, _Seen.TIME], start - tolerance, end - tolerance)]
    if not len(within):
        return {"people": 0.0 if looked else None, **dict.fromkeys(_NOBODY)}
    lies, sits = within[within[:, _Seen.LIES] == 1], within[within[:, _Seen.SITS] == 1]
    return {
        "people": len(within) / max(1, looked),
        "keypoint_score": float(within[:, _Seen.SCORE].mean()),
        "person_height": float(np.median(within[:, _Seen.HEIGHT])),
        "person_aspect": _of(np.median, within[:, _Seen.SHAPE]),
        "person_y": float(np.median(within[:, _Seen.Y])),
        "lying": float(within[:, _Seen.LIES].mean()),
        "person_x": float(np.median(within[:, _Seen.X])),
        "person_speed": _of(np.median, within[:, _Seen.SPEED]),
        "sitting": _of(np.mean, within[:, _Seen.SITS]),
        "rolling": _of(np.mean, within[:, _Seen.ROLLS]),
        "lying_x": _of(np.median, lies[:, _Seen.X]),
        "lying_y": _of(np.median, lies[:, _Seen.Y]),
        "sitting_x": _of(np.median, sits[:, _Seen.X]),
        "sitting_y": _of(np.median, sits[:, _Seen.Y]),
    }


def _of(
    statistic: Callable[[NDArray[np.float64]], np.floating[Any]], values: NDArray[np.float64]
) -> float | None:
    """A statistic of the values that are known; None where none is."""
    known = values[np.isfinite(values)]
    return float(statistic(known)) if len(known) else None
