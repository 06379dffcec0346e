"""Whether a box scores a film as the platform does; runs in the packaged program as well.

What belongs here: scoring a file with the box's own way through it, and comparing two such scores.
What does not: where the platform's scores come from, and what is done if they differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import av.error
import numpy as np
from numpy.typing import ArrayLike

from fall_assets.edge.engine import Alarm
from fall_assets.edge.model import EdgeModel, PosePool
from fall_assets.edge.watcher import Watcher, WatchFigures
from fall_assets.features.crop import Crop
from fall_assets.features.gate import Stretch
from fall_assets.features.segment_file import open_segment, unreadable
from fall_assets.learning.events import Event, to_events

TOLERANCE = 1e-4

_SAME_S = 1e-6
_MOST_TOLD = 5


class Comparable(Protocol):
    """Scores and events of one film."""

    @property
    def end_s(self) -> Sequence[float]:
        """Scored moments, seconds."""

    @property
    def score(self) -> Sequence[float]:
        """One per moment."""

    @property
    def events(self) -> Sequence[Event]:
        """What the scores raise."""


@dataclass(frozen=True)
class FileScores:
    """What a detector says of one film; plain values.

    `end_s`, `score` and `track` as `Scores` has them, but that tracks have other numbers than the
    platform's; `events` are those of the scores and `alarms` what was raised while it ran.
    """

    end_s: tuple[float, ...]
    score: tuple[float, ...]
    track: tuple[int | None, ...]
    events: tuple[Event, ...]
    alarms: tuple[Alarm, ...] = ()
    figures: WatchFigures | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` turns it back, but for the alarms and figures."""
        return {
            "end_s": list(self.end_s),
            "score": list(self.score),
            "track": list(self.track),
            "events": [asdict(event) for event in self.events],
            "alarms": [
                {
                    "start_s": alarm.start_s,
                    "raised_s": alarm.raised_s,
                    "known_s": alarm.known_s,
                    "score": alarm.score,
                    "kind": alarm.kind,
                }
                for alarm in self.alarms
            ],
            "figures": None if self.figures is None else asdict(self.figures),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> FileScores:
        """Scores and events from what `as_dict` gave."""
        return cls(
            tuple(content["end_s"]),
            tuple(content["score"]),
            tuple(content["track"]),
            tuple(Event(**event) for event in content["events"]),
        )


def score_file(
    model: EdgeModel,
    path: Path,
    *,
    crop: Crop | None = None,
    beds: Sequence[ArrayLike] = (),
    gate: Literal["open", "live"] | Sequence[Stretch] = "open",
    pool: PosePool | None = None,
) -> FileScores:
    """Score a film from its packets on, as the box does with a camera's.

    `gate`: `open` looks at everything; the stretches that the platform recorded for the file give
    the platform's scores; `live` judges as a box does.

    Raises UnreadableSegmentError where the file cannot be opened or yields no frame.
    """
    pool = pool or PosePool(model, 1)
    alarms: list[Alarm] = []
    with open_segment(path) as file:
        base = file.stream.time_base
        watcher = Watcher(
            model,
            pool,
            file.decoder,
            base,
            crop=crop,
            beds=beds,
            gate=gate,
            keep_scores=True,
            fps=file.fps,
        )
        # As the platform measures a film's length when it takes it in.
        count, first_s, end_s = 0, math.inf, -math.inf
        tick_s = float(base) if base else 1 / file.fps
        try:
            for packet in file.packets():
                if not packet.size:
                    continue
                stamp = packet.pts if packet.pts is not None else packet.dts
                at_s = count / file.fps if stamp is None else stamp * tick_s
                count += 1
                first_s = min(first_s, at_s)
                length_s = packet.duration * tick_s if packet.duration else 1 / file.fps
                end_s = max(end_s, at_s + length_s)
                alarms += watcher.take(packet)
        except av.error.FFmpegError as error:
            raise unreadable(path, f"cannot be read: {error}") from error
        alarms += watcher.finish(max(end_s - first_s, 0.0) if count else 0.0)
    if not watcher.figures.decoded:
        raise unreadable(path, "yields no frame")
    scores = watcher.scores
    end, score = scores.end_s.tolist(), scores.score.tolist()
    events = to_events(end, score, model.info.events, model.info.windows.window_s)
    return FileScores(
        tuple(end), tuple(score), scores.track, tuple(events), tuple(alarms), watcher.figures
    )


def compare(mine: Comparable, theirs: Comparable, *, tolerance: float = TOLERANCE) -> list[str]:
    """How two scores of one film differ, in words; nothing where they are the same.

    The same: scores at the same moments within `tolerance`, and as many events, raised at the same
    moments.
    """
    told: list[str] = []
    my_ends, their_ends = np.asarray(mine.end_s, float), np.asarray(theirs.end_s, float)
    if my_ends.shape != their_ends.shape or not np.allclose(my_ends, their_ends, 0, _SAME_S):
        told.append(f"scored moments: {_moments(my_ends)} here, {_moments(their_ends)} there")
    else:
        off = np.abs(np.asarray(mine.score, float) - np.asarray(theirs.score, float))
        wrong = np.flatnonzero(~(off <= tolerance))
        told += [
            f"score at {my_ends[place]:g} s: {mine.score[place]:.6f} here, "
            f"{theirs.score[place]:.6f} there"
            for place in wrong[:_MOST_TOLD].tolist()
        ]
        if len(wrong) > _MOST_TOLD:
            told.append(f"and {len(wrong) - _MOST_TOLD} more scores, up to {off.max():.6f} apart")
    my_raises = [event.raised_s for event in mine.events]
    their_raises = [event.raised_s for event in theirs.events]
    if len(my_raises) != len(their_raises) or not np.allclose(my_raises, their_raises, 0, _SAME_S):
        told.append(f"events raised at {_seconds(my_raises)} here, {_seconds(their_raises)} there")
    return told


def _moments(ends: np.ndarray[Any, Any]) -> str:
    return f"{len(ends)} up to {ends[-1]:g} s" if len(ends) else "none"


def _seconds(times: Sequence[float]) -> str:
    return ", ".join(f"{time:g} s" for time in times) or "no moment"
