"""Where in a segment somebody may be in motion, judged from what it tells before it is decoded.

What belongs here: the judgement, on numbers alone. What does not: reading them (`compressed`) and
decoding what is let through (`sampling`, `extract`).

Two signs, independent of each other, open the gate. **Packets**: where something moves, a camera
spends more bytes on the frames between key frames. How many it spends on a still room, it says
itself. **Pictures**: cells of two key pictures that follow each other differ. A camera with a
constant bit rate tells by pictures only, one whose key frames are far apart mostly by packets. What
a camera shows all the time (noise, flicker, rain on a window, a fan) raises the threshold of the
cells and packets that show it, up to a cap, so that it neither holds the gate open nor shuts it for
good. Where a segment is too short to say what is ordinary in it, the gate stays open.

Each segment is judged by itself: the same file gives the same stretches, in any order of work.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fall_assets.errors import PermanentFailureError

REVISION = 1
"""Counts changes of this code that change what is let through; part of every gate's version."""

_MAD = 1.4826
"""Standard deviations in a median absolute deviation, for normal noise."""

_FEWEST_QUIET = 8
"""With fewer quiet bins nothing is known of what is usual."""

_FEWEST_PICTURES = 3
_LOUD = 3.0
_CELLS = 2
_ROUNDING_S = 1e-6


@dataclass(frozen=True)
class MotionGateSettings:
    """When the gate opens, and for how long. Levels are of luma, 0 to 255.

    Chosen on recordings made of the 70 falls of the real footage and on simulated cameras
    (`benchmarks.gate_falls`, docs/motion-gate.md).

    Attributes:
        key_every_s: key pictures are at least so far apart.
        columns, rows: cells of a key picture.
        bin_s: packets are added up over so long.
        packet_sigmas: bytes so many (robust) standard deviations above the quiet median open,
        packet_share: if they are also above the median by this share of it,
        packet_floor: and by this share of a key frame.
        cell_level: two cells (or one twice) have changed by so much, at least, and by `cell_times`
            what they change by from picture to picture otherwise,
        cell_times: of which
        cell_cap: no more than this counts in a segment shorter than `learned_s`, where a person who
            never rests might be taken for a fan,
        cell_cap_learned: and no more than this in longer ones.
        learned_s: see above.
        before_s: looked back so far from the first sign of motion.
        after_s: kept open so long after the last one.
        shortest_s: shorter segments are let through whole.
        glance_s: while shut, single pictures so far apart are looked at.
        somebody_s: where a glance may see somebody, it opens for so long,
        somebody_tries: so many times in a row, until somebody is believed to be there,
        somebody_every_s: and all of this no more often than once in this time.
    """

    key_every_s: float = 4.0
    columns: int = 20
    rows: int = 12
    bin_s: float = 0.5
    packet_sigmas: float = 8.0
    packet_share: float = 0.6
    packet_floor: float = 0.005
    cell_level: float = 6.0
    cell_times: float = 5.0
    cell_cap: float = 4.0
    cell_cap_learned: float = 12.0
    learned_s: float = 600.0
    before_s: float = 2.0
    after_s: float = 11.0
    shortest_s: float = 16.0
    glance_s: float = 15.0
    somebody_s: float = 4.0
    somebody_tries: int = 8
    somebody_every_s: float = 300.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
                raise PermanentFailureError(
                    f"{name} of the motion gate must be a number above 0, not {value!r}"
                )
        for name in ("columns", "rows", "somebody_tries"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) > 64:
                raise PermanentFailureError(
                    f"{name} of the motion gate must be a whole number up to 64, not "
                    f"{getattr(self, name)!r}"
                )


@dataclass(frozen=True)
class CompressedFacts:
    """What a segment tells before it is decoded. Times in seconds from the first frame.

    Attributes:
        times_s: shape (n,), of all frames, growing.
        sizes: shape (n,), bytes of their packets.
        is_key: shape (n,).
        key_s: shape (k,), times of the key pictures; none where times cannot be told.
        cells: shape (k, rows, columns), their cells' mean luma, 0 to 255.
        duration_s: length of the segment.
        first_pts: time stamp of the first frame, in the stream's time base.
        lost: packets and frames that were unusable.
    """

    times_s: NDArray[np.float64]
    sizes: NDArray[np.int64]
    is_key: NDArray[np.bool_]
    key_s: NDArray[np.float64]
    cells: NDArray[np.float32]
    duration_s: float
    first_pts: int
    lost: int = 0


@dataclass(frozen=True)
class Stretch:
    """A part of a segment that is let through, seconds, and why.

    'packets' and 'picture': what moved; 'short', 'unknown': nothing can be told; 'somebody': a
    glance saw somebody who does not move.
    """

    start_s: float
    end_s: float
    why: str


def gate_version(settings: MotionGateSettings) -> str:
    """`gate-` and ten hex digits of a hash over the settings and the code's `REVISION`."""
    content = json.dumps({"revision": REVISION, **asdict(settings)}, sort_keys=True)
    return "gate-" + hashlib.sha256(content.encode()).hexdigest()[:10]


def open_stretches(facts: CompressedFacts, settings: MotionGateSettings) -> list[Stretch]:
    """What is let through: in order, apart, each from a key frame's time (or 0) on."""
    if facts.duration_s < settings.shortest_s:
        return [Stretch(0.0, facts.duration_s, "short")]
    if len(facts.key_s) < _FEWEST_PICTURES:
        return [Stretch(0.0, facts.duration_s, "unknown")]
    changed = changed_pairs(facts, settings)
    bins = active_bins(facts, changed, settings)
    if bins is None:
        return [Stretch(0.0, facts.duration_s, "unknown")]
    active, loud = bins
    signs = [(start, end, "packets") for start, end in _runs(active, settings.bin_s)]
    for start, end in _pair_spans(facts, changed):
        # Packets say more precisely when it was, where they speak up.
        inside = loud[int(start / settings.bin_s) : int(end / settings.bin_s) + 1]
        if not inside.any():
            signs.append((start, end, "picture"))
    keys = facts.times_s[facts.is_key]
    return _joined(
        Stretch(
            _key_before(keys, start - settings.before_s),
            min(end + settings.after_s, facts.duration_s),
            why,
        )
        for start, end, why in signs
    )


def changed_pairs(facts: CompressedFacts, settings: MotionGateSettings) -> NDArray[np.bool_]:
    """Shape (k - 1,): whether something is elsewhere in a key picture than in the one before it.

    A change that most cells share (a lamp, the exposure) is taken off first.
    """
    cells = facts.cells.astype(np.float64).reshape(len(facts.cells), -1)
    moved = np.diff(cells, axis=0)
    moved = np.abs(moved - np.median(moved, axis=1, keepdims=True))
    is_long = facts.duration_s >= settings.learned_s
    cap = settings.cell_cap_learned if is_long else settings.cell_cap
    own = np.median(moved, axis=0)
    # What most cells do (flicker) is told better by all of them than by one in a few pictures.
    ordinary = np.minimum(np.maximum(own, np.median(own)), cap)
    threshold = np.maximum(settings.cell_level, settings.cell_times * ordinary)
    # One cell alone must be sure of it: noise has hundreds of cells to try.
    several = (moved > threshold).sum(axis=1) >= _CELLS
    changed: NDArray[np.bool_] = several | (moved > 2 * threshold).any(axis=1)
    return changed


def active_bins(
    facts: CompressedFacts, changed: NDArray[np.bool_], settings: MotionGateSettings
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Where frames between key frames take more bytes than in a still room, and much more.

    Both have shape (bins,). What is usual is told by bins between key pictures that are alike. None
    where there are too few of them.
    """
    between = ~facts.is_key
    if not between.any():
        # Every frame is a key frame, as in MJPEG: pictures alone tell.
        nothing = np.zeros(int(facts.duration_s / settings.bin_s) + 1, np.bool_)
        return nothing, nothing
    number = (facts.times_s[between] / settings.bin_s).astype(np.int64)
    count = int(facts.duration_s / settings.bin_s) + 1
    frames = np.bincount(number, minlength=count)
    bytes_ = np.bincount(number, facts.sizes[between].astype(np.float64), minlength=count)
    level = np.divide(bytes_, frames, out=np.zeros(count), where=frames > 0)
    is_quiet = np.zeros(count, np.bool_)
    for start, end in _pair_spans(facts, ~changed):
        is_quiet[int(start / settings.bin_s) + 1 : int(end / settings.bin_s)] = True
    quiet = level[is_quiet & (frames > 0)]
    if len(quiet) < _FEWEST_QUIET:
        return None
    usual = float(np.median(quiet))
    sigma = _MAD * float(np.median(np.abs(quiet - usual)))
    key_bytes = float(np.median(facts.sizes[facts.is_key]))
    margin = max(
        settings.packet_sigmas * sigma,
        settings.packet_share * usual,
        settings.packet_floor * key_bytes,
    )
    above = level > usual + margin
    # One bin alone is a hiccup of the encoder, unless it is far above.
    near = np.convolve(above, np.ones(3), mode="same") >= 2
    loud: NDArray[np.bool_] = level > usual + _LOUD * margin
    return (above & near) | loud, loud


def duty(stretches: Sequence[Stretch], duration_s: float) -> float:
    """Share of the time that is let through."""
    return sum(one.end_s - one.start_s for one in stretches) / duration_s if duration_s else 0.0


def without(stretches: Sequence[Stretch], duration_s: float) -> list[tuple[float, float]]:
    """Start and end of what is kept out, in order."""
    edges = [(0.0, 0.0), *((s.start_s, s.end_s) for s in stretches), (duration_s, duration_s)]
    return [(a[1], b[0]) for a, b in pairwise(edges) if b[0] > a[1] + _ROUNDING_S]


def _pair_spans(facts: CompressedFacts, which: NDArray[np.bool_]) -> Iterable[tuple[float, float]]:
    for place in np.flatnonzero(which):
        yield float(facts.key_s[place]), float(facts.key_s[place + 1])


def _runs(active: NDArray[np.bool_], bin_s: float) -> list[tuple[float, float]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], active, [False])).astype(np.int8)))
    return [
        (start * bin_s, end * bin_s) for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]


def _key_before(keys: NDArray[np.float64], time_s: float) -> float:
    place = int(np.searchsorted(keys, time_s + _ROUNDING_S, side="right")) - 1
    return float(keys[place]) if place >= 0 else 0.0


def _joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    joined: list[Stretch] = []
    for one in sorted(stretches, key=lambda stretch: (stretch.start_s, stretch.end_s)):
        last = joined[-1] if joined else None
        if last is not None and one.start_s <= last.end_s + _ROUNDING_S:
            joined[-1] = Stretch(last.start_s, max(last.end_s, one.end_s), last.why)
        else:
            joined.append(one)
    return joined
