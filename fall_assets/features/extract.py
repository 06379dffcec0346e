"""One pass over one segment for any number of feature sets: rows of the lake's tables.

What belongs here: the pass itself. What does not: what each extractor computes (`extractors`),
where it is worth looking (`gate`), and how segments are spread over processes (`pool`).
"""

from __future__ import annotations

import json
import math
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fall_assets.features.compressed import read_compressed
from fall_assets.features.crop import Crop
from fall_assets.features.extractors import Extractor, Part, build
from fall_assets.features.extractors.base import Samples
from fall_assets.features.gate import (
    CompressedFacts,
    MotionGateSettings,
    Stretch,
    gate_version,
    open_stretches,
)
from fall_assets.features.motion import changed_share
from fall_assets.features.packing import pack_boxes, pack_keypoints, pack_sequence
from fall_assets.features.people import People
from fall_assets.features.pictures import PictureMaker
from fall_assets.features.quality import COLOUR_SIDE, quality
from fall_assets.features.sampling import Plan, SampleClock, Segment
from fall_assets.features.segments import PassFigures, SegmentFeatures, VideoRef
from fall_assets.features.settings import FeatureSettings, PoseSettings
from fall_assets.features.tracking import Track
from fall_assets.features.windows import Measurements, window_rows
from fall_assets.lake.registry import table
from fall_assets.memory import peak_bytes

if TYPE_CHECKING:
    from av import VideoFrame

T = TypeVar("T")
Span = tuple[float, float]
Row = dict[str, object]

_SIGHTINGS = 3
_HALF_MS = 5e-4


@dataclass(frozen=True)
class Team:
    """Feature sets and their extractors, which are loaded once and serve segment after segment."""

    members: Sequence[tuple[FeatureSettings, Extractor]]

    @classmethod
    def of(
        cls, sets: Sequence[FeatureSettings], weights: Mapping[str, Path | None] | None = None
    ) -> Team:
        """Load the extractors; `weights` are their files by the sets' versions, where known."""
        files = weights or {}
        return cls([(one, build(one, files.get(one.version))) for one in sets])


def extract(video: VideoRef, team: Team, *, decoder_threads: int = 1) -> SegmentFeatures:
    """Decode a segment once and compute everything of all feature sets of the team.

    Where a set has a motion gate, the compressed stream is read first, and only what the gate lets
    through is decoded, but for a glance now and then. Memory holds some frames and the numbers, so
    that it hardly grows with the segment's length (some 20 MB an hour and person). Raises
    UnreadableSegmentError where nothing can be decoded, and PermanentFailureError where the crop is
    wrong.
    """
    return _Pass(video, team).run(decoder_threads)


class _Stopwatch:
    """Where the time of a pass goes."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("gate", "picture", "extract"), 0.0)

    def time(self, what: str, work: Callable[[], T]) -> T:
        """Do it, and add what it took to `what`."""
        started = time.perf_counter()
        done = work()
        self.seconds[what] += time.perf_counter() - started
        return done


@dataclass
class _Gate:
    """What one gate says about the segment."""

    settings: MotionGateSettings
    facts: CompressedFacts
    stretches: list[Stretch]
    glances: int = 0
    somebody_s: float = -math.inf
    tries: int = 0
    next_s: float | None = None

    @property
    def spans(self) -> list[Span]:
        return [(stretch.start_s, stretch.end_s) for stretch in self.stretches]

    @property
    def is_wide_open(self) -> bool:
        first, last = self.stretches[:1], self.stretches[-1:]
        return (
            len(self.stretches) == 1
            and first[0].start_s <= _HALF_MS
            and last[0].end_s >= self.facts.duration_s - _HALF_MS
        )

    def key_after(self, time_s: float) -> float | None:
        """The first key frame after a moment."""
        keys = self.facts.times_s[self.facts.is_key]
        place = int(np.searchsorted(keys, time_s + _HALF_MS))
        return float(keys[place]) if place < len(keys) else None

    def glance_times(self) -> list[float]:
        """Key frames in closed time, `glance_s` and more apart, beginning with the first."""
        keys = self.facts.times_s[self.facts.is_key]
        times: list[float] = []
        for start_s, end_s in _gaps(self.spans, self.facts.duration_s):
            next_s = start_s if start_s == 0 else start_s + self.settings.glance_s
            for key_s in keys[np.searchsorted(keys, start_s) : np.searchsorted(keys, end_s)]:
                if key_s >= next_s - _HALF_MS:
                    times.append(float(key_s))
                    next_s = key_s + self.settings.glance_s
        return times


class _Pass:
    """One pass over one segment."""

    def __init__(self, video: VideoRef, team: Team) -> None:
        self._video = video
        self._watch = _Stopwatch()
        self._pictures = PictureMaker(Crop.parse(video.crop))
        self._members = [
            _Member(settings, extractor, self._pictures, self._watch)
            for settings, extractor in team.members
        ]

    def run(self, decoder_threads: int) -> SegmentFeatures:
        started = time.perf_counter()
        segment = Segment(self._video.path, threads=decoder_threads)
        gates = self._watch.time("gate", self._read_gates)
        is_all = len(gates) < len({member.settings.gate for member in self._members}) or any(
            gate.is_wide_open for gate in gates.values()
        )
        for member in self._members:
            gate = gates.get(member.settings.gate)
            member.spans = [(0.0, math.inf)] if gate is None else gate.spans
        frame_s = array("d")
        times_s: NDArray[np.float64]
        if is_all:
            for time_s, frame in segment.decode():
                frame_s.append(time_s)
                self._look(time_s, frame)
            times_s = np.frombuffer(frame_s, np.float64)
        else:
            self._decode_gated(segment, list(gates.values()))
            times_s = next(iter(gates.values())).facts.times_s
        duration_s = _duration_s(times_s, self._members[0].settings.sample_hz)
        for member in self._members:
            member.finish(times_s, duration_s)
        seconds = self._watch.seconds
        figures = PassFigures(
            frames=len(times_s),
            decoded=segment.frames,
            glances=max((gate.glances for gate in gates.values()), default=0),
            samples=sum(member.samples for member in self._members),
            gate_s=seconds["gate"],
            decode_s=segment.decode_s,
            picture_s=seconds["picture"],
            extract_s=seconds["extract"],
            wall_s=time.perf_counter() - started,
            peak_bytes=peak_bytes(),
        )
        return SegmentFeatures(
            self._tables(gates, duration_s, figures), duration_s, segment.lost, figures
        )

    def _read_gates(self) -> dict[MotionGateSettings | None, _Gate]:
        gates: dict[MotionGateSettings | None, _Gate] = {}
        for settings in {member.settings.gate: None for member in self._members}:
            if settings is not None:
                facts = read_compressed(self._video.path, settings)
                gates[settings] = _Gate(settings, facts, open_stretches(facts, settings))
        return gates

    def _decode_gated(self, segment: Segment, gates: Sequence[_Gate]) -> None:
        spans = _joined(span for gate in gates for span in gate.spans)
        glances = sorted({at for gate in gates for at in gate.glance_times()})
        plan = Plan(
            gates[0].facts.first_pts, spans, [at for at in glances if not _holds(spans, at)]
        )
        for time_s, frame, is_single in segment.decode_planned(plan):
            if not is_single:
                self._look(time_s, frame)
                continue
            for gate in gates:
                opened_s = self._glance(gate, time_s, frame)
                if opened_s is not None:
                    plan.open(opened_s)
                    # Right after it one sees whether somebody is believed by now.
                    gate.next_s = gate.key_after(opened_s)
                    if gate.next_s is not None and not _holds(spans, gate.next_s):
                        plan.look_at(gate.next_s)

    def _glance(self, gate: _Gate, time_s: float, frame: VideoFrame) -> float | None:
        """Look at one picture of closed time; until when to look on, if somebody is seen."""
        gate.glances += 1
        members = [member for member in self._members if member.settings.gate == gate.settings]
        seen = [member.glance(time_s, frame) for member in members]
        seen += [member.sighted() for member in members if gate.tries and time_s == gate.next_s]
        if time_s >= gate.somebody_s + gate.settings.somebody_every_s:
            gate.somebody_s, gate.tries = time_s, 0
        # Who lies scores high now and then only: one look may not be enough to believe it.
        believed = any(member.followed_since(gate.somebody_s) for member in members)
        if believed or gate.tries >= gate.settings.somebody_tries or not any(seen):
            return None
        gate.tries += 1
        until_s = time_s + gate.settings.somebody_s
        for member in members:
            member.open(time_s, until_s)
        gate.stretches.append(Stretch(time_s, min(until_s, gate.facts.duration_s), "somebody"))
        gate.stretches.sort(key=lambda stretch: stretch.start_s)
        return until_s

    def _look(self, time_s: float, frame: VideoFrame) -> None:
        for member in self._members:
            member.look(time_s, frame)

    def _tables(
        self,
        gates: Mapping[MotionGateSettings | None, _Gate],
        duration_s: float,
        figures: PassFigures,
    ) -> dict[str, pl.DataFrame]:
        rows: dict[str, list[Row]] = {
            "motion_gate": [
                {
                    "gate": gate_version(gate.settings),
                    "duration_s": duration_s,
                    "open_s": sum(end - start for start, end in _joined(gate.spans)),
                    "frames": figures.frames,
                    "decoded": figures.decoded,
                    "glances": gate.glances,
                    "stretches": json.dumps(
                        [
                            [round(one.start_s, 3), round(one.end_s, 3), one.why]
                            for one in gate.stretches
                        ]
                    ),
                }
                for gate in gates.values()
            ],
            "sequences": [],
            "pose_tracks": [],
            "features": [],
        }
        for member in self._members:
            for name, found in member.rows.items():
                rows[name] += [{"feature_set": member.settings.version, **row} for row in found]
        return {name: self._frame(name, found) for name, found in rows.items()}

    def _frame(self, name: str, rows: Sequence[Row]) -> pl.DataFrame:
        whose = {
            "day": self._video.day,
            "video_id": self._video.video_id,
            "camera_id": self._video.camera_id,
        }
        return pl.DataFrame([{**whose, **row} for row in rows], schema=table(name).schema)


@dataclass
class _Member:
    """One feature set in a pass."""

    settings: FeatureSettings
    extractor: Extractor
    pictures: PictureMaker
    watch: _Stopwatch
    spans: Sequence[Span] = ()
    samples: int = 0
    rows: dict[str, list[Row]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._clock = SampleClock(self.settings.sample_hz, self.settings.max_wait_s)
        self._measured = Measurements()
        self._parts: list[Part] = []
        self._span: Span | None = None
        self._before: NDArray[np.uint8] | None = None
        self._looks = 0
        self._aspect = 0.0

    def look(self, time_s: float, frame: VideoFrame) -> None:
        """Take a frame; it counts where the gate is open and a sample is due."""
        if self._span is not None and time_s > self._span[1] + _HALF_MS:
            self._end()
        if self._span is None:
            span = _holds(self.spans, time_s)
            if span is None:
                return
            self._begin(span, frame)
        served = self._clock.serve(time_s)
        if not served:
            return
        settings = self.settings
        small = self.pictures.luma(frame, settings.motion_long_side)
        if self._before is not None:
            share = changed_share(self._before, small, settings.motion_threshold)
            self._measured.changed.append((time_s, share))
        self._before = small
        if self._looks % settings.quality_every == 0:
            self._judge(time_s, frame, small)
        self._looks += 1
        self.samples += 1
        picture = self._picture(frame)
        self.watch.time("extract", lambda: self.extractor.look(picture, served))

    def open(self, start_s: float, end_s: float) -> None:
        """Look from a moment on, at which nobody was to look, to another."""
        self.spans = _joined([*self.spans, (start_s, end_s)])
        # The glance that said so is the first of the samples that follow.
        self._measured.glances = [one for one in self._measured.glances if one[0] != start_s]

    def followed_since(self, time_s: float) -> bool:
        """Whether somebody was followed in a stretch that began at that moment or later."""
        first = math.ceil((time_s - _HALF_MS) * self.settings.sample_hz)
        if self._span is not None:
            self._end()
        return any(isinstance(part, Track) and part.first >= first for part in self._parts)

    def sighted(self) -> bool:
        """Whether somebody may have been in the last stretch, if only weakly, now and then."""
        return getattr(self.extractor, "sightings", 0) >= _SIGHTINGS

    def glance(self, time_s: float, frame: VideoFrame) -> bool:
        """Look at a single picture; whether somebody may be in it."""
        small = self.pictures.luma(frame, self.settings.motion_long_side)
        self._aspect = self._aspect or self.pictures.aspect(frame, self.settings.picture.crop)
        self._judge(time_s, frame, small)
        pose = self.settings.extractor
        glance = getattr(self.extractor, "people", None)
        if not isinstance(pose, PoseSettings) or glance is None:
            return False
        picture = self._picture(frame)
        people: People = self.watch.time("extract", lambda: glance(picture))
        self.samples += 1
        # Nobody follows them, so that only those count who would be believed at first sight.
        believed = people.at(people.boxes[:, 4] >= pose.tracker.birth_score)
        self._measured.glances.append((time_s, believed))
        return len(people) > 0

    def finish(self, frame_s: NDArray[np.float64], duration_s: float) -> None:
        """Make the rows of the tables."""
        self._end()
        self._measured.frame_s = frame_s
        self._measured.watched = [
            (start, min(end, duration_s)) for start, end in self.spans if start < duration_s
        ]
        tracks = [part for part in self._parts if isinstance(part, Track)]
        samples = [part for part in self._parts if isinstance(part, Samples)]
        looks_for_people = isinstance(self.settings.extractor, PoseSettings)
        figures = window_rows(self._measured, tracks, self._aspect, duration_s, self.settings)
        nobody_looked = {} if looks_for_people else {"people": None}
        self.rows = {
            "features": [{**row, **nobody_looked} for row in figures],
            "pose_tracks": list(self._track_rows(tracks)),
            "sequences": list(self._sequence_rows(samples)),
        }

    def _begin(self, span: Span, frame: VideoFrame) -> None:
        self._span = span
        self._before = None
        self._clock.skip_to(span[0])
        self._aspect = self._aspect or self.pictures.aspect(frame, self.settings.picture.crop)
        self.extractor.begin(self._aspect)

    def _end(self) -> None:
        if self._span is not None:
            self._parts += self.watch.time("extract", self.extractor.end)
            self._span = None

    def _judge(self, time_s: float, frame: VideoFrame, small: NDArray[np.uint8]) -> None:
        detail = self.pictures.luma_detail(frame, self.settings.quality_side)
        # The detector's picture of this frame has the same size: it is scaled once for both.
        figures = quality(small, detail, self.pictures.rgb(frame, COLOUR_SIDE))
        self._measured.looks.append((time_s, *self.pictures.size(frame), figures))

    def _picture(self, frame: VideoFrame) -> NDArray[np.uint8]:
        form = self.extractor.needs.form
        return self.watch.time(
            "picture", lambda: self.pictures.picture(frame, self.settings.picture, form)
        )

    def _track_rows(self, tracks: Sequence[Track]) -> Iterator[Row]:
        for number, track in enumerate(tracks):
            yield {
                "track": number,
                "start_s": track.first / self.settings.sample_hz,
                "rate_hz": self.settings.sample_hz,
                "samples": len(track.boxes),
                "aspect": self._aspect,
                "keypoints": pack_keypoints(track.keypoints),
                "boxes": pack_boxes(track.boxes),
            }

    def _sequence_rows(self, samples: Sequence[Samples]) -> Iterator[Row]:
        for number, part in enumerate(samples):
            yield {
                "part": number,
                "start_s": part.first / self.settings.sample_hz,
                "rate_hz": self.settings.sample_hz,
                "samples": len(part.values),
                "width": part.values.shape[1],
                "values": pack_sequence(part.values),
            }


def _duration_s(times_s: NDArray[np.float64], sample_hz: float) -> float:
    """The last frame is shown as long as its predecessors were."""
    step = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1 / sample_hz
    return float(times_s[-1]) + step


def _joined(spans: Iterator[Span] | Sequence[Span]) -> list[Span]:
    """Spans, in order and apart."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1] + _HALF_MS:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _gaps(spans: Sequence[Span], duration_s: float) -> list[Span]:
    """What lies between spans that are in order and apart."""
    edges = [(-math.inf, 0.0), *spans, (duration_s, math.inf)]
    return [(a[1], b[0]) for a, b in pairwise(edges) if b[0] > a[1] + _HALF_MS]


def _holds(spans: Sequence[Span], time_s: float) -> Span | None:
    """The span that holds a moment."""
    for span in spans:
        if span[0] - _HALF_MS <= time_s <= span[1] + _HALF_MS:
            return span
    return None
