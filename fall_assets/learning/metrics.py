"""Event metrics, their intervals and the choice of a threshold. Pure.

What belongs here: counting and rates over matched events. What does not: the rule of matching
(`events`), training and folds (`evaluate`).

A fall counts once for every camera that recorded it, because every camera's box raises alarms on
its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from fall_assets.learning.events import EventSettings, Fall, Matching, match, to_events

SECONDS_PER_DAY = 86_400.0
SECONDS_PER_HOUR = 3_600.0
_Z_95 = 1.959963984540054

Row = dict[str, str | int | float | None]


@dataclass(frozen=True)
class Interval:
    """A labelled stretch of a segment, in seconds."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True)
class ScoredVideo:
    """A segment with its truth and its scores: all that a threshold is judged on."""

    video_id: str
    camera_id: str
    dataset: str
    room: str
    duration_s: float
    window_s: float
    falls: tuple[Fall, ...]
    labels: tuple[Interval, ...]
    end_s: tuple[float, ...]
    score: tuple[float, ...]


@dataclass(frozen=True)
class VideoOutcome:
    """What an alarm threshold makes of one segment."""

    video: ScoredVideo
    threshold: float
    matching: Matching


@dataclass(frozen=True)
class OperatingPoint:
    """Counts over some footage at one threshold."""

    threshold: float
    falls: int
    found: int
    false_alarms: int
    footage_s: float

    @property
    def sensitivity(self) -> float | None:
        """Found over falls; none without falls."""
        return self.found / self.falls if self.falls else None

    @property
    def precision(self) -> float | None:
        """Right alarms over all alarms; none without alarms."""
        alarms = self.found + self.false_alarms
        return self.found / alarms if alarms else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and sensitivity; none without falls and alarms."""
        total = self.falls + self.found + self.false_alarms
        return 2 * self.found / total if total else None

    @property
    def false_alarms_per_hour(self) -> float | None:
        """False alarms over hours of footage; none without footage."""
        return self.false_alarms * SECONDS_PER_HOUR / self.footage_s if self.footage_s else None


def wilson(successes: int, trials: int, z: float = _Z_95) -> tuple[float, float] | None:
    """Score interval of a share, 95 % by default; none without trials.

    Source: Wilson, Journal of the American Statistical Association 22(158), 1927. Unlike the
    textbook interval it stays inside 0 to 1 and says something at 0 or all successes.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if not trials:
        return None
    share = successes / trials
    spread = z * z / trials
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / trials + spread / (4 * trials))
    # Rounding must not put the share itself outside.
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


def outcome(video: ScoredVideo, settings: EventSettings) -> VideoOutcome:
    """The alarms of one segment, matched with its falls."""
    if not video.score or max(video.score) < settings.threshold:
        return VideoOutcome(video, settings.threshold, match((), video.falls))
    events = to_events(video.end_s, video.score, settings, video.window_s)
    return VideoOutcome(video, settings.threshold, match(events, video.falls))


def operating_point(outcomes: Sequence[VideoOutcome], threshold: float) -> OperatingPoint:
    """Counts over all segments."""
    return OperatingPoint(
        threshold,
        falls=sum(len(o.matching.found) + len(o.matching.missed) for o in outcomes),
        found=sum(len(o.matching.found) for o in outcomes),
        false_alarms=sum(len(o.matching.false_alarms) for o in outcomes),
        footage_s=sum(o.video.duration_s for o in outcomes),
    )


def threshold_grid(points: int = 81) -> list[float]:
    """Thresholds from 0.01 to 0.99, evenly spaced in log odds.

    Even in log odds, because a network's scores crowd at both ends.
    """
    low, high = -math.log(99.0), math.log(99.0)
    steps = (low + (high - low) * i / (points - 1) for i in range(points))
    return [1 / (1 + math.exp(-step)) for step in steps]


def operating_curve(
    videos: Sequence[ScoredVideo],
    settings: EventSettings,
    thresholds: Sequence[float] | None = None,
) -> list[OperatingPoint]:
    """Counts at every threshold, in order of the thresholds."""
    curve = []
    for threshold in thresholds if thresholds is not None else threshold_grid():
        at = replace(settings, threshold=threshold)
        curve.append(operating_point([outcome(video, at) for video in videos], threshold))
    return curve


def choose_threshold(
    videos: Sequence[ScoredVideo],
    settings: EventSettings,
    *,
    max_false_alarms_per_hour: float | None = None,
    default: float = 0.5,
) -> float:
    """The threshold with the best event F1, in the middle of where it is best.

    F1 and not a false-alarm rate by default: with some tens of falls and minutes of footage a
    rate per hour rests on one or two alarms, and a limit set on it would decide at random.
    Whole ranges of thresholds tie on so few events; the middle (in log odds) of the widest range
    keeps the farthest from the scores that decide, so it carries over best to new footage.

    Args:
        videos: segments that no judged model learned from, and that it is not judged on.
        settings: events; their own threshold is not used.
        max_false_alarms_per_hour: where given, only thresholds that keep to it are looked at,
            or else those with the fewest false alarms.
        default: returned where there is no fall to choose by.
    """
    curve = operating_curve(videos, settings)
    if not any(point.falls for point in curve):
        return default
    allowed = [
        max_false_alarms_per_hour is None
        or (point.false_alarms_per_hour or 0.0) <= max_false_alarms_per_hour
        for point in curve
    ]
    if not any(allowed):
        fewest = min(point.false_alarms for point in curve)
        allowed = [point.false_alarms == fewest for point in curve]
    f1 = [(p.f1 or 0.0) if ok else -1.0 for p, ok in zip(curve, allowed, strict=True)]
    alarms = [point.false_alarms for point in curve]
    best = max(zip(f1, (-count for count in alarms), strict=True))
    ties = [pair == best for pair in zip(f1, (-count for count in alarms), strict=True)]
    start, stop = _widest_run(ties)
    return _middle(curve[start].threshold, curve[stop - 1].threshold)


def event_metrics(outcomes: Sequence[VideoOutcome]) -> list[Row]:
    """Rows of the table `evaluation`, without what names the model and the moment.

    Slices: `all`, `dataset`, `camera` and `room`, and `label`, where a label's row counts the
    false alarms raised while it held and the footage under it (and the falls under `fall`);
    alarms outside every label stand under `unlabelled`. Undefined figures are none, never 0.
    """
    rows = [_row("all", "all", outcomes)]
    for name, value_of in _SLICES:
        groups: dict[str, list[VideoOutcome]] = {}
        for item in outcomes:
            groups.setdefault(value_of(item.video), []).append(item)
        rows += [_row(name, value, groups[value]) for value in sorted(groups)]
    return rows + list(_label_rows(outcomes))


def percentile(values: Iterable[float], share: float) -> float | None:
    """Percentile by linear interpolation; none without values."""
    ordered = sorted(values)
    if not ordered:
        return None
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def label_at(video: ScoredVideo, at_s: float) -> str:
    """The label that holds at a moment, or `unlabelled`; the latest to start, of several."""
    holding = [label for label in video.labels if label.start_s <= at_s <= label.end_s]
    return max(holding, key=lambda label: label.start_s).label if holding else "unlabelled"


def _by_dataset(video: ScoredVideo) -> str:
    return video.dataset


def _by_camera(video: ScoredVideo) -> str:
    return video.camera_id


def _by_room(video: ScoredVideo) -> str:
    return video.room


_SLICES: tuple[tuple[str, Callable[[ScoredVideo], str]], ...] = (
    ("dataset", _by_dataset),
    ("camera", _by_camera),
    ("room", _by_room),
)


def _row(name: str, value: str, outcomes: Sequence[VideoOutcome]) -> Row:
    point = operating_point(outcomes, _typical_threshold(outcomes))
    return _figures(name, value, point, _delays(outcomes))


def _label_rows(outcomes: Sequence[VideoOutcome]) -> Iterator[Row]:
    footage: dict[str, float] = {}
    alarms: dict[str, int] = {}
    for item in outcomes:
        for interval in item.video.labels:
            length_s = interval.end_s - interval.start_s
            footage[interval.label] = footage.get(interval.label, 0.0) + length_s
        for event in item.matching.false_alarms:
            held = label_at(item.video, event.raised_s)
            alarms[held] = alarms.get(held, 0) + 1
    everything = operating_point(outcomes, _typical_threshold(outcomes))
    for label in sorted(footage.keys() | alarms.keys()):
        fall = label == "fall"
        point = OperatingPoint(
            everything.threshold,
            everything.falls if fall else 0,
            everything.found if fall else 0,
            alarms.get(label, 0),
            footage.get(label, 0.0),
        )
        yield _figures("label", label, point, _delays(outcomes) if fall else [])


def _delays(outcomes: Sequence[VideoOutcome]) -> list[float]:
    return [found.delay_s for item in outcomes for found in item.matching.found]


def _typical_threshold(outcomes: Sequence[VideoOutcome]) -> float:
    return median(item.threshold for item in outcomes) if outcomes else 0.5


def _figures(name: str, value: str, point: OperatingPoint, delays: Sequence[float]) -> Row:
    interval = wilson(point.found, point.falls)
    days = point.footage_s / SECONDS_PER_DAY
    return {
        "slice": name,
        "value": value,
        "falls": point.falls,
        "found": point.found,
        "sensitivity": point.sensitivity,
        "sensitivity_low": interval[0] if interval else None,
        "sensitivity_high": interval[1] if interval else None,
        "false_alarms": point.false_alarms,
        "camera_days": days,
        "false_alarms_per_camera_day": point.false_alarms / days if days else None,
        "false_alarms_per_hour": point.false_alarms_per_hour,
        "precision": point.precision,
        "f1": point.f1,
        "delay_median_s": percentile(delays, 0.5),
        "delay_p95_s": percentile(delays, 0.95),
        "threshold": point.threshold,
    }


def _widest_run(flags: Sequence[bool]) -> tuple[int, int]:
    """Start and stop of the longest run of true; the first of equals."""
    best, start = (0, 0), 0
    for place, flag in enumerate([*flags, False]):
        if not flag:
            if place - start > best[1] - best[0]:
                best = (start, place)
            start = place + 1
    return best


def _middle(low: float, high: float) -> float:
    odds = (math.log(low / (1 - low)) + math.log(high / (1 - high))) / 2
    return 1 / (1 + math.exp(-odds))
