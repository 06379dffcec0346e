"""Event metrics, their intervals and the choice of a threshold. Pure.

What belongs here: counting and rates over matched events, also over segments that follow each
other. What does not: the rule of matching (`events`), slices and resampling (`slices`,
`bootstrap`), training and folds (`evaluate`).

A fall counts once for every camera that recorded it, because every camera's box raises alarms on
its own; also where the recorder began a new file while somebody fell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from fall_assets.learning.events import (
    Event,
    EventSettings,
    Fall,
    Found,
    Matching,
    match,
    to_events,
)

SECONDS_PER_DAY = 86_400.0
SECONDS_PER_HOUR = 3_600.0
JOIN_GAP_S = 2.0
"""Segments of a camera closer than this follow each other, as alerts have it."""
ENOUGH_FALLS = 20
"""With fewer falls a threshold would be chosen by a handful."""
_JOINED_S = 1.0
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
    """A segment with its truth and its scores: all that a threshold is judged on.

    `start_s`: its start in seconds since 1970; where it is None, no other segment follows it.
    `changed`: recorded since its camera changed. `weight`: as how many it counts where a threshold
    is chosen; wherever a model is judged it is one.
    """

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
    start_s: float | None = None
    changed: bool = False
    weight: int = 1


@dataclass(frozen=True)
class VideoOutcome:
    """What an alarm threshold makes of one segment.

    `events` are its alarms as if it stood alone, `matching` what became of them and of its falls,
    which `joined` may have decided together with the segments around it.
    """

    video: ScoredVideo
    threshold: float
    matching: Matching
    events: tuple[Event, ...] = ()
    merge_gap_s: float = 10.0


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
        """Harmonic mean of precision and sensitivity; none without falls."""
        return self.f(1.0)

    def f(self, missed_cost: float) -> float | None:
        """The same with a missed fall that weighs as much as so many false alarms.

        F of beta, with beta squared the cost; none without falls. Source: van Rijsbergen,
        Information Retrieval, 1979, chapter 7.
        """
        missed = self.falls - self.found
        found = (1 + missed_cost) * self.found
        total = found + missed_cost * missed + self.false_alarms
        return found / total if self.falls else None

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


def poisson_interval(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a Poisson mean of which `count` was seen.

    Source: Garwood, Biometrika 28(3/4), 1936. Over an exposure it becomes that of a rate. It
    takes events as independent; alarms that one patient or one room raises again and again make
    the truth less certain than it says.
    """
    if count < 0 or not 0 < confidence < 1:
        raise ValueError(f"a count of {count} at a confidence of {confidence}")
    tail = (1 - confidence) / 2
    low = _poisson_mean(count - 1, 1 - tail) if count else 0.0
    return low, _poisson_mean(count, tail)


def outcome(video: ScoredVideo, settings: EventSettings) -> VideoOutcome:
    """The alarms of one segment by itself, matched with its falls."""
    events: tuple[Event, ...] = ()
    if video.score and max(video.score) >= settings.threshold:
        events = tuple(to_events(video.end_s, video.score, settings, video.window_s))
    matching = match(events, video.falls)
    return VideoOutcome(video, settings.threshold, matching, events, settings.merge_gap_s)


def joined(outcomes: Sequence[VideoOutcome]) -> list[VideoOutcome]:
    """The same segments, those of a camera that follow each other judged as one stretch.

    Parts of one fall on both sides of a border are one fall, found by an alarm in either; an
    alarm that goes on into the next segment is one alarm; who is known to lie there still is no
    false alarm. A fall stands with the segment that it starts in, so that both of two models
    have it in the same slice; the alarm that found it may then be raised after that segment's
    end. A false alarm stands with the segment that it was raised in. To join twice changes
    nothing.
    """
    result = list(outcomes)
    for chain in _chains([item.video for item in outcomes]):
        matchings = _match_stretch([outcomes[place] for place in chain])
        for place, matching in zip(chain, matchings, strict=True):
            result[place] = replace(outcomes[place], matching=matching)
    return result


def operating_point(outcomes: Sequence[VideoOutcome], threshold: float) -> OperatingPoint:
    """Counts over all segments, as they were matched (see `joined`)."""
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
    *,
    weighed: bool = False,
) -> list[OperatingPoint]:
    """Counts at every threshold, in order of the thresholds, over segments that are `joined`.

    Where they are `weighed`, a segment counts as many as its weight says.
    """
    curve = []
    for threshold in thresholds if thresholds is not None else threshold_grid():
        at = replace(settings, threshold=threshold)
        outcomes = joined([outcome(video, at) for video in videos])
        if weighed:
            outcomes = [one for one in outcomes for _ in range(one.video.weight)]
        curve.append(operating_point(outcomes, threshold))
    return curve


def choose_threshold(
    videos: Sequence[ScoredVideo],
    settings: EventSettings,
    *,
    max_false_alarms_per_hour: float | None = None,
    missed_cost: float = 1.0,
    default: float = 0.5,
) -> float:
    """The threshold with the best event F, in the middle of where it is best.

    F and not a false-alarm rate by default: with some tens of falls and minutes of footage a
    rate per hour rests on one or two alarms, and a limit set on it would decide at random.
    Whole ranges of thresholds tie on so few events; the middle (in log odds) of the widest range
    keeps the farthest from the scores that decide, so it carries over best to new footage.
    Segments count by their `weight`; those that show what their camera sees no longer do not (see
    `seen_now`).

    Args:
        videos: segments that no judged model learned from, and that it is not judged on.
        settings: events; their own threshold is not used.
        max_false_alarms_per_hour: where given, only thresholds that keep to it are looked at,
            or else those with the fewest false alarms.
        missed_cost: as many false alarms are as bad as a missed fall; 1 is F1.
        default: returned where there is no fall to choose by.
    """
    curve = operating_curve(seen_now(videos), settings, weighed=True)
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
    worth = [
        (p.f(missed_cost) or 0.0) if ok else -1.0 for p, ok in zip(curve, allowed, strict=True)
    ]
    alarms = [point.false_alarms for point in curve]
    best = max(zip(worth, (-count for count in alarms), strict=True))
    ties = [pair == best for pair in zip(worth, (-count for count in alarms), strict=True)]
    start, stop = _widest_run(ties)
    return _middle(curve[start].threshold, curve[stop - 1].threshold)


def seen_now(videos: Sequence[ScoredVideo]) -> Sequence[ScoredVideo]:
    """The segments that show what cameras see now: of one that changed, those since.

    A detector serves today's cameras. False alarms of a view that is gone, of which months are
    labelled, would raise the threshold until falls of the new view are missed. Where fewer than
    `ENOUGH_FALLS` are left to choose by, all segments are given.
    """
    changed = {video.camera_id for video in videos if video.changed}
    now = [video for video in videos if video.changed or video.camera_id not in changed]
    enough = sum(len(video.falls) for video in now) >= ENOUGH_FALLS
    return now if enough else videos


def event_metrics(outcomes: Sequence[VideoOutcome]) -> list[Row]:
    """Rows of the table `evaluation`, without what names the model and the moment.

    Slices: `all`, `dataset`, `camera` and `room`, and `label`, where a label's row counts the
    false alarms raised while it held and the footage under it (and the falls under `fall`);
    alarms outside every label stand under `unlabelled`. Undefined figures are none, never 0.
    Segments that follow each other are `joined`.
    """
    outcomes = joined(outcomes)
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


def _chains(videos: Sequence[ScoredVideo]) -> list[list[int]]:
    """Places of the segments that follow each other, in order of time; only chains of several."""
    known = [
        (video.camera_id, video.start_s, place)
        for place, video in enumerate(videos)
        if video.start_s is not None
    ]
    chains: list[list[int]] = []
    end_s, camera_id = -math.inf, ""
    for camera, start_s, place in sorted(known):
        if camera == camera_id and abs(start_s - end_s) <= JOIN_GAP_S:
            chains[-1].append(place)
        else:
            chains.append([place])
        camera_id, end_s = camera, start_s + videos[place].duration_s
    return [chain for chain in chains if len(chain) > 1]


def _match_stretch(outcomes: Sequence[VideoOutcome]) -> list[Matching]:
    """The alarms and falls of segments that follow each other, matched on one timeline."""
    first_s = outcomes[0].video.start_s or 0.0
    offsets = [(item.video.start_s or 0.0) - first_s for item in outcomes]
    falls, starts_in = _falls_of_stretch(outcomes, offsets)
    events: list[Event] = []
    raised_in: dict[Event, int] = {}
    for place, (item, offset) in enumerate(zip(outcomes, offsets, strict=True)):
        for event in (_moved_event(event, offset) for event in item.events):
            last = events[-1] if events else None
            if last is None or event.raised_s - last.end_s > item.merge_gap_s:
                events.append(event)
                raised_in[event] = place
                continue
            at = raised_in.pop(last)
            both = Event(
                last.start_s,
                last.raised_s,
                max(last.end_s, event.end_s),
                max(last.score, event.score),
            )
            events[-1] = both
            raised_in[both] = at
    matching = match(events, falls)
    return [
        Matching(
            tuple(
                Found(_moved_fall(found.fall, -offset), _moved_event(found.event, -offset))
                for found in matching.found
                if starts_in[found.fall] == place
            ),
            tuple(_moved_fall(f, -offset) for f in matching.missed if starts_in[f] == place),
            tuple(_moved_event(e, -offset) for e in matching.repeated if raised_in[e] == place),
            tuple(_moved_event(e, -offset) for e in matching.false_alarms if raised_in[e] == place),
        )
        for place, offset in enumerate(offsets)
    ]


def _falls_of_stretch(
    outcomes: Sequence[VideoOutcome], offsets: Sequence[float]
) -> tuple[list[Fall], dict[Fall, int]]:
    """The falls of a stretch, parts of one as one, and the segment that each starts in."""
    falls: list[Fall] = []
    starts_in: dict[Fall, int] = {}
    reach_s = _JOINED_S + JOIN_GAP_S
    for place, (item, offset) in enumerate(zip(outcomes, offsets, strict=True)):
        lying = [
            (label.start_s + offset, label.end_s + offset)
            for label in item.video.labels
            if label.label == "lying_after_fall"
        ]
        if place:
            for number, fall in enumerate(falls):
                until_s = fall.until_s
                for start_s, end_s in lying:
                    if start_s <= until_s + reach_s:
                        until_s = max(until_s, end_s)
                falls[number] = replace(fall, until_s=until_s)
                starts_in[falls[number]] = starts_in.pop(fall)
        for fall in (_moved_fall(fall, offset) for fall in item.video.falls):
            before = next((f for f in reversed(falls) if f.event_id == fall.event_id), None)
            if (
                before is None
                or starts_in[before] == place
                or fall.start_s > before.end_s + reach_s
            ):
                falls.append(fall)
                starts_in[fall] = place
                continue
            whole = replace(
                before,
                end_s=max(before.end_s, fall.end_s),
                until_s=max(before.until_s, fall.until_s),
            )
            falls[falls.index(before)] = whole
            starts_in[whole] = starts_in.pop(before)
    return falls, starts_in


def _moved_event(event: Event, by_s: float) -> Event:
    return Event(event.start_s + by_s, event.raised_s + by_s, event.end_s + by_s, event.score)


def _moved_fall(fall: Fall, by_s: float) -> Fall:
    return Fall(fall.event_id, fall.start_s + by_s, fall.end_s + by_s, fall.until_s + by_s)


def _poisson_mean(count: int, at_most: float) -> float:
    """The mean under which `count` or fewer are seen with the probability `at_most`."""
    low, high = 0.0, count + 10.0 * math.sqrt(count + 1) + 10.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _poisson_share(count, middle) > at_most else (low, middle)
    return (low + high) / 2


def _poisson_share(count: int, mean: float) -> float:
    """Probability of `count` or fewer at a mean."""
    if mean <= 0:
        return 1.0
    logs = (k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(count + 1))
    return min(1.0, math.fsum(math.exp(log) for log in logs))


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
