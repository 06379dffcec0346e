"""What went wrong, as pictures with a sentence: every missed fall and every false alarm.

What belongs here: which moments, what is known of each, six pictures around it. What does not:
how a person is made unrecognisable (`delivery.stills`), where sheets are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fall_assets.delivery.stills import still
from fall_assets.features.crop import Crop
from fall_assets.learning.metrics import ScoredVideo, VideoOutcome, joined, label_at
from fall_assets.learning.plots import contact_sheet
from fall_assets.learning.slices import UNKNOWN, Traits
from fall_assets.learning.windows import Floats, SegmentTracks, seen

Kind = Literal["missed fall", "false alarm"]

PICTURES = 6
_AROUND_FALL_S = (1.0, 3.0)
_AROUND_ALARM_S = (3.5, 1.5)
_WIDTH = 240


@dataclass(frozen=True)
class Moment:
    """One missed fall or false alarm.

    Attributes:
        kind: which of both.
        video_id: the segment.
        camera_id: its camera.
        from_s: pictures are taken from here on, in seconds from the segment's start.
        until_s: to here.
        at_s: the fall's start, or when the alarm went off.
        facts: what is known of it, in a sentence.
    """

    kind: Kind
    video_id: str
    camera_id: str
    from_s: float
    until_s: float
    at_s: float
    facts: str

    @property
    def times_s(self) -> list[float]:
        """When pictures are taken, evenly."""
        step = (self.until_s - self.from_s) / (PICTURES - 1)
        return [self.from_s + step * number for number in range(PICTURES)]


@dataclass(frozen=True)
class Sheet:
    """A moment with its pictures as PNG; none where the footage is gone."""

    moment: Moment
    png: bytes | None


def moments(
    outcomes: Sequence[VideoOutcome],
    tracks: Mapping[str, SegmentTracks],
    traits: Mapping[str, Traits] | None = None,
) -> list[Moment]:
    """Every missed fall, then every false alarm, by camera and time. Segments are `joined`."""
    found: list[Moment] = []
    for item in joined(outcomes):
        video = item.video
        own = (traits or {}).get(video.video_id, Traits())
        people = tracks[video.video_id]
        for fall in item.matching.missed:
            before, after = _AROUND_FALL_S
            facts = (
                f"Missed fall at {fall.start_s:.1f} to {fall.end_s:.1f} s, {_where(video, own)}: "
                f"{_highest(video, fall.opens_s, fall.closes_s, item.threshold)}; "
                f"{_sight(people, fall.start_s, fall.end_s + 2.0)}."
            )
            span = _inside(video, fall.start_s - before, fall.end_s + after)
            found.append(
                Moment("missed fall", video.video_id, video.camera_id, *span, fall.start_s, facts)
            )
        for event in item.matching.false_alarms:
            before, after = _AROUND_ALARM_S
            raised_s = event.raised_s
            facts = (
                f"False alarm at {raised_s:.1f} s, {_where(video, own)}, while the label was "
                f"'{label_at(video, raised_s)}': score up to {event.score:.2f}, threshold "
                f"{item.threshold:.2f}, for {event.end_s - raised_s:.1f} s; "
                f"{_sight(people, raised_s - video.window_s, raised_s)}."
            )
            span = _inside(video, raised_s - before, raised_s + after)
            found.append(
                Moment("false alarm", video.video_id, video.camera_id, *span, raised_s, facts)
            )
    return sorted(found, key=lambda m: (m.kind != "missed fall", m.camera_id, m.video_id, m.at_s))


def take(
    moment: Moment, film: Path, people: SegmentTracks, *, crop: Crop | None = None, coarse: bool
) -> Sheet:
    """Six pictures around a moment, with nobody to recognise, by the rules of alert stills.

    Args:
        moment: which.
        film: the segment's file.
        people: who was tracked in it; their heads are hidden.
        crop: the camera's.
        coarse: hide as where nobody was found; for cameras at the ceiling, as alerts do it.

    Raises:
        StillError: the file gives no picture.
    """
    crop = crop or Crop()
    pictures = [
        still(
            film,
            at_s,
            keypoints=None if coarse else people_at(people, at_s),
            crop=(crop.x0, crop.y0, crop.x1, crop.y1),
            long_side=_WIDTH,
        )
        for at_s in moment.times_s
    ]
    # Adding zero makes -0.0 of what is rounded to none a 0.0.
    titles = [f"{round(at_s - moment.at_s, 1) + 0.0:+.1f} s" for at_s in moment.times_s]
    return Sheet(moment, contact_sheet(pictures, titles, columns=PICTURES, width=_WIDTH))


def people_at(people: SegmentTracks, at_s: float) -> Floats | None:
    """Key points (people, 17, 3) of everybody tracked at a moment; None where nobody is."""
    shown = []
    for track in people.tracks:
        place = round(at_s * people.rate_hz) - track.start
        if 0 <= place < len(track.keypoints) and seen(track.keypoints[place]):
            shown.append(track.keypoints[place])
    return np.stack(shown) if shown else None


def _where(video: ScoredVideo, own: Traits) -> str:
    known = [
        f"{name} {value}"
        for name, value in (
            ("view", own.view),
            ("light", own.light),
            ("people", own.body_size),
        )
        if value != UNKNOWN
    ]
    told = f" ({', '.join(known)})" if known else ""
    return f"camera {video.camera_id} in room {video.room}{told}, segment {video.video_id[:12]}"


def _highest(video: ScoredVideo, from_s: float, until_s: float, threshold: float) -> str:
    scores = [
        (score, end_s)
        for end_s, score in zip(video.end_s, video.score, strict=True)
        if from_s <= end_s <= until_s
    ]
    if not scores:
        return f"no window was scored while it could have been found, threshold {threshold:.2f}"
    score, end_s = max(scores)
    text = f"highest score {score:.2f} at {end_s:.1f} s, threshold {threshold:.2f}"
    if score < threshold:
        return text
    return f"{text}, but no alarm of its own: it was too brief, or part of an earlier one"


def _sight(people: SegmentTracks, from_s: float, until_s: float) -> str:
    """How well anybody was seen in a stretch, in words."""
    first, last = round(max(from_s, 0.0) * people.rate_hz), round(until_s * people.rate_hz)
    best, sizes, trusts, crowd = 0.0, [], [], 0
    for track in people.tracks:
        begin = max(first - track.start, 0)
        points = track.keypoints[begin : max(last - track.start, 0)]
        visible = points[seen(points)] if len(points) else points
        if not len(visible):
            continue
        crowd += 1
        best = max(best, len(visible) / max(last - first, 1))
        wide = np.ptp(visible[..., 0], axis=1) * people.aspect
        sizes += np.hypot(wide, np.ptp(visible[..., 1], axis=1)).tolist()
        trusts += visible[..., 2].mean(axis=1).tolist()
    if not crowd:
        return "nobody was tracked"
    who = "one person was tracked" if crowd == 1 else f"{crowd} people were tracked"
    return (
        f"{who}, in {min(best, 1.0):.0%} of the samples, {np.median(sizes):.2f} picture heights "
        f"large, mean key-point score {np.mean(trusts):.2f}"
    )


def _inside(video: ScoredVideo, from_s: float, until_s: float) -> tuple[float, float]:
    last_s = max(video.duration_s - 0.05, 0.0)
    return min(max(from_s, 0.0), last_s), min(max(until_s, 0.0), last_s)
