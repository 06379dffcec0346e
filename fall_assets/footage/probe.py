"""Whether one file is a usable segment, and what it holds.

What belongs here: hashing, reading the container and decoding its first and last pictures. What
does not: where the file came from and what becomes of it (see `intake.py`).
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import av
from av.error import FFmpegError

from fall_assets.errors import PermanentFailureError
from fall_assets.footage.media import MAX_PIXELS, open_media, video_stream

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Reason = Literal[
    "empty",
    "truncated",
    "not_a_video",
    "no_video_stream",
    "no_frames",
    "unreadable",
    "too_large",
    "too_small",
    "clock_runs_backwards",
    "took_too_long",
    "crashed_the_decoder",
    "unusable_name",
    "outside_root",
    "still_being_written",
]
"""Why a file is not taken in; the registry's QUARANTINE_REASONS (a test compares them)."""

ADVICE: dict[Reason, str] = {
    "empty": "Look at the recorder: disk full, or the stream was away; then delete the file.",
    "truncated": "Copy the file again from the recorder; delete it where the original is cut, too.",
    "not_a_video": "Remove it from the landing folder, or correct the path template.",
    "no_video_stream": "Look at the recorder's settings: it records no pictures for this camera.",
    "no_frames": "Look at the recorder and the camera: the stream held no picture.",
    "unreadable": "See whether the file can be read and played; copy it again from the recorder.",
    "too_large": "See whether the file is what the recorder wrote; record at 8K or less.",
    "too_small": "Look at the camera's settings: nobody can be seen in so small a picture.",
    "clock_runs_backwards": "Look at the camera's clock and stream; write the file again with "
    "time stamps that grow (a recorder's export does so).",
    "took_too_long": "See whether the file plays; keep it away from other players if it does not. "
    "Where the machine was busy: fall-assets quarantine retry.",
    "crashed_the_decoder": "Keep the file away from other players and tell us its codec; where the "
    "machine was out of memory: fall-assets quarantine retry.",
    "unusable_name": "Rename the file: names and folders must be valid UTF-8.",
    "outside_root": "Put the file itself below the landing folder in place of the link.",
    "still_being_written": "Nothing; it is taken in once the recorder has finished it.",
}
"""What to do about each reason."""

_LOOKS_UNFINISHED: tuple[Reason, ...] = (
    "empty",
    "truncated",
    "not_a_video",
    "no_frames",
    "unreadable",
)
_CONTAINER_MAGIC = (
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (0, b"\x1aE\xdf\xa3"),
    (0, b"RIFF"),
    (0, b"FLV"),
)
_MISSING_TAIL_S = 1.0
"""A container without frame counts is cut where its packets end this long before its end."""

MIN_SIDE = 16
"""In pixels; a macroblock of H.264. In less, nobody can be told from noise."""

MAX_SIDE = 16_384
"""In pixels; the longest that H.265's and AV1's highest levels permit, rounded down."""

LIMIT_S = 60.0
"""For looking into a file, without reading it; an hour of 1080p takes some 5 s."""

_BACKWARDS_S = 1.0
_REORDERED_FRAMES = 17
"""H.264 and H.265 may show a picture at most 16 pictures after its turn."""

_MAX_JUMP_S = 3600.0
"""A segment lasts an hour at most; `features.sampling` gives such files up, too."""


class UnusableFileError(PermanentFailureError):
    """A file is not taken in.

    Attributes:
        reason: one of the registry's QUARANTINE_REASONS.
        detail: what was seen.
        advice: what to do about it.
        is_inside: whether it is the content that is wrong, which only changes with it; else it
            is the name, the place or the rights.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str,
        advice: str | None = None,
        *,
        is_inside: bool = True,
    ) -> None:
        self.reason: Reason = reason
        self.detail = detail
        self.is_inside = is_inside
        self.advice = ADVICE[reason] if advice is None else advice
        super().__init__(f"{reason}: {detail}. {self.advice}")


@dataclass(frozen=True)
class Probe:
    """What a usable file holds.

    Attributes:
        video_id: SHA-256 of the content, in hex.
        width, height: of the upright picture, in pixels.
        fps: mean frames per second, from the frames' time stamps.
        frames: frames that the container announces.
        duration_s: from the first frame to the end of the last one.
        codec: as FFmpeg names it.
        bytes: size of the file.
    """

    video_id: str
    width: int
    height: int
    fps: float
    frames: int
    duration_s: float
    codec: str
    bytes: int


def probe(
    path: Path, *, settle_s: float = 0.0, now_s: float | None = None, limit_s: float = LIMIT_S
) -> Probe:
    """Look into one file, in this process (`sandbox` does so in others).

    Its packets are counted without decoding, its first picture and the pictures after its last
    key frame are decoded, and it is read once to hash it.

    Args:
        path: the file; a link is followed (see `store.Footage` for links out of a root).
        settle_s: a file that changed within this time and looks unfinished, or whose format lets
            it grow at any time, is still being written.
        now_s: seconds since the epoch; the clock's time where None.
        limit_s: time after which a file that does not end is given up; hashing comes on top.

    Raises:
        UnusableFileError: with the reason.
        FileNotFoundError: the file is gone.
    """
    try:
        before = path.stat()
    except PermissionError as error:
        raise UnusableFileError(
            "unreadable", f"not allowed: {error.strerror}", is_inside=False
        ) from error
    if not stat.S_ISREG(before.st_mode):
        # Opening a named pipe would wait for ever.
        raise UnusableFileError(
            "not_a_video", f"it is {_kind(before.st_mode)}, not a file", is_inside=False
        )
    age_s = (time.time() if now_s is None else now_s) - before.st_mtime
    try:
        found, can_grow = _probe_content(path, before, time.monotonic() + limit_s)
        if can_grow and abs(age_s) < settle_s:
            # Any part of such a file plays, so that it may look whole while it is written.
            raise UnusableFileError("still_being_written", f"changed {max(age_s, 0):.0f} s ago")
        after = path.stat()
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise UnusableFileError("still_being_written", "it changed while it was read")
    except UnusableFileError as error:
        # A time far in the future is a wrong clock, which time does not heal.
        if error.reason in _LOOKS_UNFINISHED and abs(age_s) < settle_s:
            raise UnusableFileError(
                "still_being_written", f"changed {max(age_s, 0):.0f} s ago; {error.detail}"
            ) from error
        raise
    return found


def _probe_content(path: Path, status: os.stat_result, deadline: float) -> tuple[Probe, bool]:
    """What the file holds, and whether it could grow and be as whole as it is now."""
    if status.st_size == 0:
        raise UnusableFileError("empty", "the file has no content")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _not_readable(error) from error
    try:
        container = open_media(path)
    except FFmpegError as error:
        raise _not_opened(head, error) from error
    try:
        with container:
            return _probe_media(path, status.st_size, container, deadline)
    except FFmpegError as error:
        raise _failed("unreadable", "reading failed", error) from error


def _probe_media(
    path: Path, size: int, container: InputContainer, deadline: float
) -> tuple[Probe, bool]:
    stream = _video_stream(container)
    packets = _count_packets(container, stream, deadline)
    first = _decode_first(path)
    _require_size(first.width, first.height)
    _decode_last(path, container, stream, packets, deadline)
    turned = first.rotation % 180 != 0
    found = Probe(
        video_id=_hash(path),
        width=first.height if turned else first.width,
        height=first.width if turned else first.height,
        fps=packets.fps,
        frames=max(stream.frames, packets.count),
        duration_s=packets.duration_s,
        codec=stream.codec_context.codec.canonical_name,
        bytes=size,
    )
    return found, stream.frames == 0


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _not_readable(error) from error


def _not_readable(error: OSError) -> UnusableFileError:
    return UnusableFileError("unreadable", f"reading failed: {error.strerror}", is_inside=False)


def _require_size(width: int, height: int) -> None:
    """Raise UnusableFileError for a picture that is too large to decode or too small to use.

    Nothing is known of a size of 0: the container leaves it to the stream.
    """
    text = f"the picture has {width} x {height} pixels"
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise UnusableFileError(
            "too_large", f"{text}; at most {MAX_PIXELS} and {MAX_SIDE} a side are decoded"
        )
    if 0 < min(width, height) < MIN_SIDE:
        raise UnusableFileError("too_small", f"{text}; a side has {MIN_SIDE} at least")


def _failed(reason: Reason, what: str, error: FFmpegError) -> UnusableFileError:
    if isinstance(error, MemoryError):
        return UnusableFileError("too_large", f"{what}: it needs more memory than is allowed")
    return UnusableFileError(reason, f"{what}: {error.strerror}")


def _kind(mode: int) -> str:
    kinds: tuple[tuple[Callable[[int], bool], str], ...] = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((name for test, name in kinds if test(mode)), "something else")


def _not_opened(head: bytes, error: FFmpegError) -> UnusableFileError:
    for offset, magic in _CONTAINER_MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return UnusableFileError(
                "truncated", "it starts as a video, but the index that players need is missing"
            )
    return UnusableFileError("not_a_video", f"no video container: {error.strerror}")


def _video_stream(container: InputContainer) -> VideoStream:
    stream = video_stream(container)
    if stream is None:
        kinds = ", ".join(sorted({stream.type for stream in container.streams}))
        raise UnusableFileError("no_video_stream", f"the container holds {kinds or 'nothing'} only")
    _require_size(stream.width, stream.height)
    # One thread is as fast for the few pictures that are decoded, and needs the least memory.
    stream.codec_context.thread_count = 1
    stream.thread_type = "NONE"
    return stream


@dataclass(frozen=True)
class _Packets:
    """Times in seconds on the stream's own clock."""

    count: int
    first_s: float
    last_s: float
    end_s: float
    last_key_s: float
    rate: float

    @property
    def duration_s(self) -> float:
        return self.end_s - self.first_s

    @property
    def fps(self) -> float:
        span = self.last_s - self.first_s
        return (self.count - 1) / span if self.count > 1 and span > 0 else self.rate


def _count_packets(container: InputContainer, stream: VideoStream, deadline: float) -> _Packets:
    """Read every packet of the stream.

    Raises UnusableFileError where there are none, or fewer than the container announces.
    """
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    tick_s = float(stream.time_base) if stream.time_base else 1 / rate
    count, last_key_s, end_s = 0, -math.inf, -math.inf
    first_s, last_s = math.inf, -math.inf
    is_corrupt = False
    # How late a picture may come in order: more is a clock that was set back.
    late_s = max(_BACKWARDS_S, _REORDERED_FRAMES / rate)
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            if time.monotonic() > deadline:
                raise UnusableFileError("took_too_long", f"{count} frames were read in time")
            stamp = packet.pts if packet.pts is not None else packet.dts
            at_s = count / rate if stamp is None else stamp * tick_s
            if at_s < last_s - late_s:
                raise UnusableFileError(
                    "clock_runs_backwards",
                    f"its time stamps go back from {last_s - first_s:.1f} s "
                    f"to {at_s - first_s:.1f} s",
                )
            if count and at_s > last_s + _MAX_JUMP_S:
                raise UnusableFileError(
                    "unreadable",
                    f"its time stamps jump from {last_s - first_s:.1f} s to {at_s - first_s:.1f} s",
                )
            count += 1
            is_corrupt |= packet.is_corrupt
            first_s, last_s = min(first_s, at_s), max(last_s, at_s)
            end_s = max(end_s, at_s + (packet.duration * tick_s if packet.duration else 1 / rate))
            if packet.is_keyframe:
                last_key_s = max(last_key_s, at_s)
    except FFmpegError as error:
        raise _failed("truncated", f"reading broke off after {count} frames", error) from error
    if count == 0:
        raise UnusableFileError("no_frames", "the video stream holds no frames")
    if count < stream.frames:
        raise UnusableFileError(
            "truncated", f"the container announces {stream.frames} frames and holds {count}"
        )
    if is_corrupt:
        raise UnusableFileError("truncated", f"a packet among {count} is cut short")
    if stream.frames == 0 and container.duration is not None:
        missing_s = container.duration / av.time_base - (end_s - min(first_s, 0.0))
        if missing_s > _MISSING_TAIL_S:
            raise UnusableFileError(
                "truncated",
                f"the container announces {container.duration / av.time_base:.1f} s "
                f"and ends {missing_s:.1f} s earlier",
            )
    return _Packets(count, first_s, last_s, end_s, last_key_s, rate)


def _decode_first(path: Path) -> VideoFrame:
    # Opened anew: not every container can be wound back.
    with open_media(path) as container:
        stream = _video_stream(container)
        try:
            for frame in container.decode(stream):
                return frame
        except FFmpegError as error:
            raise _failed("unreadable", "the first frame does not decode", error) from error
    raise UnusableFileError("no_frames", "no frame decodes")


def _decode_last(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    packets: _Packets,
    deadline: float,
) -> None:
    """Decode from the last key frame to the end; the last picture must come out."""
    # A decoder may keep a frame or two back at the end of a group of pictures.
    wanted_s = packets.last_s - 3 / packets.rate
    reached_s = -math.inf
    if math.isfinite(packets.last_key_s) and stream.time_base:
        try:
            container.seek(int(packets.last_key_s / stream.time_base), stream=stream)
        except FFmpegError:
            # Elementary streams have nothing to look a time up in; they are decoded whole.
            reached_s = -math.inf
        else:
            reached_s = _decode_to_end(container, stream, packets.rate, deadline)
    if reached_s < wanted_s:
        # Containers without an index may land behind the key frame.
        with open_media(path) as again:
            reached_s = _decode_to_end(again, _video_stream(again), packets.rate, deadline)
    if reached_s < wanted_s:
        missing_s = packets.last_s - max(reached_s, packets.first_s)
        raise UnusableFileError("truncated", f"the last {missing_s:.1f} s do not decode")


def _decode_to_end(
    container: InputContainer, stream: VideoStream, rate: float, deadline: float
) -> float:
    """Time of the last picture that decodes from here on, in seconds; -inf where none does."""
    reached_s = -math.inf
    try:
        for number, frame in enumerate(container.decode(stream)):
            if time.monotonic() > deadline:
                raise UnusableFileError("took_too_long", "its end was not decoded in time")
            if not frame.is_corrupt:
                at_s = number / rate if frame.time is None else frame.time
                reached_s = max(reached_s, at_s)
    except FFmpegError as error:
        raise _failed("truncated", "the last frames do not decode", error) from error
    return reached_s
