"""Who is who: detections of single samples joined into people followed through a segment.

What belongs here: association over time, on boxes and key points alone. What does not: detection
(`movenet`) and what a track means (`learning/`).

Association follows ByteTrack (Zhang et al., ECCV 2022): tracks take strong detections first and
may then take weak ones, which is what keeps a person who lies. Identities bridge gaps of up to
`max_gap_s`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from fall_assets.features.people import People, box_overlap, keypoint_similarity
from fall_assets.features.settings import TrackerSettings

_WALKS_ON = 5
"""Samples for which a hidden person is expected to go on as before."""


@dataclass(frozen=True)
class Track:
    """One person from the first to the last sample in which they were seen.

    `first` is the number of the first sample, counted from the segment's start; `keypoints` has
    shape (n, 17, 3) and `boxes` (n, 5) for samples `first` to `first + n - 1`, float32; rows are 0
    where the person was not seen.
    """

    first: int
    keypoints: NDArray[np.float32]
    boxes: NDArray[np.float32]

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Shape (n,): whether the person was seen in each sample."""
        mask: NDArray[np.bool_] = self.boxes[:, 4] > 0
        return mask


@dataclass(frozen=True)
class Followed:
    """A person who is followed at the moment, as far as it is known by now.

    `number` is theirs alone in this tracker; `first` is the sample of their first sight, and
    `counts` says whether `Tracker.finish` would yield them as they are. `keypoints` (17, 3) are
    those of the newest sample; None where they were not seen in it.
    """

    number: int
    first: int
    counts: bool
    keypoints: NDArray[np.float32] | None


@dataclass
class _Growing:
    number: int
    first: int
    last: int
    believed: bool
    seen: int = 0
    box: NDArray[np.float32] = field(default_factory=lambda: np.zeros(5, np.float32))
    newest: NDArray[np.float32] = field(default_factory=lambda: np.zeros((17, 3), np.float32))
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    samples: list[int] = field(default_factory=list)
    keypoints: list[NDArray[np.float32]] = field(default_factory=list)
    boxes: list[NDArray[np.float32]] = field(default_factory=list)

    def take(self, sample: int, people: People, row: int, *, keep: bool) -> None:
        box = people.boxes[row]
        if self.seen:
            moved = (_centre(box) - _centre(self.box)) / (sample - self.last)
            self.velocity = (self.velocity + moved) / 2
        self.last, self.box, self.newest = sample, box, people.keypoints[row]
        self.seen += 1
        if keep:
            self.samples.append(sample)
            self.keypoints.append(self.newest)
            self.boxes.append(box)

    def expected(self, sample: int) -> NDArray[np.float64]:
        """Where the box (x0, y0, x1, y1) should be by now, had the person walked on."""
        shift = self.velocity * min(sample - self.last, _WALKS_ON)
        expected: NDArray[np.float64] = self.box[:4] + np.tile(shift, 2)
        return expected

    def finished(self) -> Track:
        length = self.last - self.first + 1
        keypoints = np.zeros((length, 17, 3), np.float32)
        boxes = np.zeros((length, 5), np.float32)
        at = np.array(self.samples) - self.first
        keypoints[at] = self.keypoints
        boxes[at] = self.boxes
        return Track(self.first, keypoints, boxes)


class Tracker:
    """Follows people sample by sample through one stretch that was watched.

    Memory grows with what was seen of them only. What was not watched is never bridged: a new
    stretch needs a new tracker.
    """

    def __init__(
        self,
        settings: TrackerSettings,
        aspect: float,
        *,
        sample_hz: float,
        first: int = 0,
        keep: bool = True,
    ) -> None:
        """Begin before sample `first`, so that tracks are numbered as the segment's samples are.

        `aspect` is the picture's width over its height: distances are measured in heights. Without
        `keep` memory does not grow, only `followed` tells of people, and `finish` of nobody.
        """
        self._keep = keep
        self._numbers = count()
        self._settings = settings
        self._hz = sample_hz
        self._scale = np.array([aspect, 1.0, aspect, 1.0])
        self._aspect = aspect
        self._sample = first - 1
        self._live: list[_Growing] = []
        self._ended: list[_Growing] = []

    def step(self, people: People) -> None:
        """Take the next sample; `People.nobody()` where there was no picture."""
        self._sample += 1
        self._let_go()
        people = self._distinct(people)
        strong = people.boxes[:, 4] >= self._settings.birth_score
        free = np.ones(len(people), bool)
        believed = [track for track in self._live if track.believed]
        believed = self._match(believed, people, free, strong)
        self._match(believed, people, free, ~strong)
        hopeful = [track for track in self._live if not track.believed]
        self._match(hopeful, people, free, np.ones(len(people), bool))
        for row in np.flatnonzero(free):
            track = _Growing(next(self._numbers), self._sample, self._sample, believed=False)
            track.take(self._sample, people, int(row), keep=self._keep)
            track.believed = bool(strong[row])
            self._live.append(track)

    def finish(self) -> list[Track]:
        """The tracks that were ever believed, in the order of their start (then left to right).

        A track begins at its first weak detection, if it was believed later.
        """
        grown = [*self._ended, *self._live] if self._keep else []
        kept = [track for track in grown if self._counts(track)]
        kept.sort(key=lambda track: (track.first, float(track.boxes[0][0]), track.last))
        return [track.finished() for track in kept]

    def followed(self) -> list[Followed]:
        """Everybody who is followed after the newest sample, believed by now or not."""
        return [
            Followed(
                track.number,
                track.first,
                self._counts(track),
                track.newest if track.last == self._sample else None,
            )
            for track in self._live
        ]

    def _counts(self, track: _Growing) -> bool:
        return track.believed and track.seen >= self._settings.min_seen

    def _let_go(self) -> None:
        oldest = self._sample - 1 - self._settings.max_gap_s * self._hz - 1e-6
        if self._keep:
            self._ended += [t for t in self._live if t.last < oldest and t.believed]
        self._live = [t for t in self._live if t.last >= oldest]

    def _distinct(self, people: People) -> People:
        people = people.at(people.boxes[:, 4] >= self._settings.keep_score)
        if len(people) < 2:
            return people
        people = people.at(np.argsort(-people.boxes[:, 4], kind="stable"))
        alike = keypoint_similarity(people, self._aspect) >= self._settings.duplicate_similarity
        kept: list[int] = []
        for row in range(len(people)):
            if not alike[row, kept].any():
                kept.append(row)
        return people.at(kept)

    def _match(
        self,
        tracks: Sequence[_Growing],
        people: People,
        free: NDArray[np.bool_],
        wanted: NDArray[np.bool_],
    ) -> list[_Growing]:
        """Give free and wanted detections to tracks; return the tracks that got none."""
        rows = np.flatnonzero(free & wanted)
        if not tracks or not len(rows):
            return list(tracks)
        pairs = _best_pairs(self._affinity(tracks, people.boxes[rows]))
        for index, column in pairs:
            row = int(rows[column])
            tracks[index].take(self._sample, people, row, keep=self._keep)
            tracks[index].believed |= bool(people.boxes[row, 4] >= self._settings.birth_score)
            free[row] = False
        matched = {index for index, _ in pairs}
        return [track for index, track in enumerate(tracks) if index not in matched]

    def _affinity(
        self, tracks: Sequence[_Growing], boxes: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Shape (tracks, boxes): overlap plus closeness, 0 where too far to be the same person."""
        now = boxes[:, :4] * self._scale
        last = np.array([track.expected(self._sample) for track in tracks]) * self._scale
        gap_s = np.array([self._sample - track.last - 1 for track in tracks]) / self._hz
        centres = (now[:, :2] + now[:, 2:]) / 2
        last_centres = (last[:, :2] + last[:, 2:]) / 2
        distance = np.linalg.norm(last_centres[:, None] - centres[None], axis=-1)
        size = np.linalg.norm(last[:, 2:] - last[:, :2], axis=-1)[:, None]
        size = np.maximum(size, np.linalg.norm(now[:, 2:] - now[:, :2], axis=-1)[None])
        reach = (self._settings.reach + self._settings.reach_per_s * gap_s)[:, None] * size
        closeness = np.clip(1 - distance / np.maximum(reach, 1e-6), 0, None)
        return np.where(closeness > 0, closeness + box_overlap(last, now), 0.0)


def track(
    samples: Iterable[People],
    settings: TrackerSettings,
    *,
    sample_hz: float,
    aspect: float = 1.0,
    first: int = 0,
) -> list[Track]:
    """Tracks of the people in consecutive samples, from sample `first` on; see `Tracker`."""
    tracker = Tracker(settings, aspect, sample_hz=sample_hz, first=first)
    for people in samples:
        tracker.step(people)
    return tracker.finish()


def _centre(box: NDArray[np.float32]) -> NDArray[np.float64]:
    centre: NDArray[np.float64] = (box[:2].astype(np.float64) + box[2:4]) / 2
    return centre


def _best_pairs(affinity: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs (row, column) of greatest total affinity, none twice, pairs of affinity 0 left out.

    Exact, by dynamic programming over the sets of columns: the network yields at most six.
    """
    rows, columns = affinity.shape
    best: dict[int, tuple[float, tuple[tuple[int, int], ...]]] = {0: (0.0, ())}
    for row in range(rows):
        for used, (total, pairs) in list(best.items()):
            for column in range(columns):
                bit = 1 << column
                if used & bit or affinity[row, column] <= 0:
                    continue
                reached = (total + float(affinity[row, column]), (*pairs, (row, column)))
                if reached[0] > best.get(used | bit, (0.0, ()))[0]:
                    best[used | bit] = reached
    return list(max(best.values(), key=lambda entry: entry[0])[1])
