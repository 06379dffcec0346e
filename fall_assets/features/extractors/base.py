"""The interface of extractors, and the parts that they yield. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fall_assets.features.pictures import Form
from fall_assets.features.tracking import Track

MAX_GAP_S = 1.0
"""Samples without a picture for longer than this end a part of a sequence."""

_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Needs:
    """What an extractor needs: pictures of this form and size, at this rate, and weights.

    `weights` names them with their SHA-256 where it is known; None: it needs none. `device` is
    where it works, in words where that is found out when it is built.
    """

    form: Form
    long_side: int
    sample_hz: float
    weights: str | None
    device: str


@dataclass(frozen=True)
class Yield:
    """One value that an extractor yields per sample (and person, in `pose_tracks`).

    A row of `sequences` holds the values in the order in which they are declared, each flattened.
    `shape` is None for a width that is known when the extractor is built.
    """

    table: str
    name: str
    shape: tuple[int, ...] | None
    unit: str
    dtype: str
    meaning: str


@dataclass(frozen=True)
class Samples:
    """Values of consecutive samples, from sample `first` of the segment on.

    `values` has shape (samples, width), float16; a row of NaN is a sample without a picture. The
    first and the last row are none.
    """

    first: int
    values: NDArray[np.float16]


Part = Track | Samples


class Extractor(Protocol):
    """Makes features of the sampled pictures of stretches, one stretch after another.

    Sample k of a segment is at k / sample_hz seconds; numbers are those of the segment in all
    stretches. Nothing is carried from one stretch into the next.
    """

    @property
    def needs(self) -> Needs:
        """What it needs."""

    @property
    def yields(self) -> tuple[Yield, ...]:
        """What it yields, in order."""

    def begin(self, aspect: float) -> None:
        """A stretch begins; `aspect` is the picture's width over its height.

        What was begun and never ended, because the segment broke off, is forgotten.
        """

    def look(self, picture: NDArray[np.uint8], served: range) -> None:
        """Take one sampled frame, which serves those samples (at least one).

        `picture` has the form that `needs` says. Samples that are passed over had no picture.
        """

    def end(self) -> Sequence[Part]:
        """The stretch ends; yield its parts, in order. A stretch that saw nothing has none."""


class SampleOrder:
    """Holds an extractor's callers to the order begin, look, ..., end with growing samples."""

    def __init__(self) -> None:
        self._next: int | None = None

    def begin(self) -> None:
        """A stretch begins, whatever was before it."""
        self._next = 0

    def look(self, served: range) -> None:
        """Raise ValueError where no stretch has begun or samples do not grow."""
        if self._next is None:
            raise ValueError("begin a stretch before looking at its samples")
        if not served or served.start < self._next or served.step != 1:
            raise ValueError(f"samples must grow: {served} comes after sample {self._next - 1}")
        self._next = served.stop

    def end(self) -> None:
        """Raise ValueError where no stretch has begun."""
        if self._next is None:
            raise ValueError("no stretch has begun that could end")
        self._next = None


class SampleRows:
    """Rows of one stretch on their way to become `Samples`.

    Gaps of up to `MAX_GAP_S` become rows of NaN, longer ones end a part, so that memory grows with
    what was seen only.
    """

    def __init__(self, sample_hz: float) -> None:
        self.max_gap = int(MAX_GAP_S * sample_hz)
        self._parts: list[Samples] = []
        self._first = 0
        self._next = 0
        self._width = 0
        self._bytes = bytearray()

    def clear(self) -> None:
        """Forget all rows."""
        self._parts, self._bytes = [], bytearray()

    def add(self, served: range, row: NDArray[np.floating[Any]]) -> None:
        """The values (width,) of some samples; what half precision cannot hold is its largest."""
        half = np.clip(row, -_LARGEST, _LARGEST).astype(np.float16)
        gap = served.start - self._next
        if self._bytes and gap > self.max_gap:
            self._close()
        if not self._bytes:
            self._first, self._width, gap = served.start, len(half), 0
        if gap:
            self._bytes += np.full(gap * self._width, np.nan, np.float16).tobytes()
        self._bytes += half.tobytes() * len(served)
        self._next = served.stop

    def finish(self) -> list[Samples]:
        """All parts, in order; begins anew."""
        if self._bytes:
            self._close()
        parts, self._parts = self._parts, []
        return parts

    def _close(self) -> None:
        values = np.frombuffer(self._bytes, np.float16).reshape(-1, self._width)
        self._parts.append(Samples(self._first, values))
        self._bytes = bytearray()
