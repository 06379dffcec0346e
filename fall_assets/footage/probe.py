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
from fall_assets.footage.media import open_media

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
    "outside_root",
    "still_being_written",
    "duplicate",
]
"""Why a file is not taken in; the registry's QUARANTINE_REASONS (a test compares them)."""

ADVICE: dict[Reason, str] = {
    "empty": "Look at the recorder: disk full, or the stream was away; then delete the file.",
    "truncated": "Copy the file again from the recorder; delete it where the original is cut, too.",
    "not_a_video": "Remove it from the landing folder, or correct the path template.",
    "no_video_stream": "Look at the recorder's settings: it records no pictures for this camera.",
    "no_frames": "Look at the recorder and the camera: the stream held no picture.",
    "unreadable": "See whether the file can be read and played; copy it again from the recorder.",
    "outside_root": "Put the file itself below the landing folder in place of the link.",
    "still_being_written": "Nothing; it is taken in once the recorder has finished it.",
    "duplicate": "Nothing; delete one of the two where space matters.",
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


class UnusableFileError(PermanentFailureError):
    """A file is not taken in.

    Attributes:
        reason: one of the registry's QUARANTINE_REASONS.
        detail: what was seen.
        advice: what to do about it.
    """

    def __init__(self, reason: Reason, detail: str, advice: str | None = None) -> None:
        self.reason: Reason = reason
        self.detail = detail
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
    path: Path, *, settle_s: float = 10.0, now_s: float | None = None, limit_s: float = 60.0
) -> Probe:
    """Look into one file.

    The file is read once to hash it, its packets are counted without decoding, and its first
    picture and the pictures after its last key frame are decoded.

    Args:
        path: the file; a link is followed (see `intake.confined` for links out of a root).
        settle_s: a file that looks unfinished and changed within this time is still being written.
        now_s: seconds since the epoch; the clock's time where None.
        limit_s: time after which a file that does not end is given up as unreadable.

    Raises:
        UnusableFileError: with the reason.
        FileNotFoundError: the file is gone.
    """
    try:
        before = path.stat()
    except PermissionError as error:
        raise UnusableFileError("unreadable", f"not allowed: {error.strerror}") from error
    if not stat.S_ISREG(before.st_mode):
        # Opening a named pipe would wait for ever.
        raise UnusableFileError("not_a_video", f"it is {_kind(before.st_mode)}, not a file")
    try:
        found = _probe_content(path, before, time.monotonic() + limit_s)
        after = path.stat()
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise UnusableFileError("still_being_written", "it changed while it was read")
    except UnusableFileError as error:
        age_s = (time.time() if now_s is None else now_s) - before.st_mtime
        # A time far in the future is a wrong clock, which time does not heal.
        if error.reason in _LOOKS_UNFINISHED and abs(age_s) < settle_s:
            raise UnusableFileError(
                "still_being_written", f"changed {max(age_s, 0):.0f} s ago; {error.detail}"
            ) from error
        raise
    return found


def _probe_content(path: Path, status: os.stat_result, deadline: float) -> Probe:
    if status.st_size == 0:
        raise UnusableFileError("empty", "the file has no content")
    try:
        with path.open("rb") as file:
            head = file.read(16)
            file.seek(0)
            video_id = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnusableFileError("unreadable", f"reading failed: {error.strerror}") from error
    try:
        container = open_media(path)
    except FFmpegError as error:
        raise _not_opened(head, error) from error
    with container:
        stream = _video_stream(container)
        packets = _count_packets(container, stream, deadline)
        first = _decode_first(container, stream)
        _decode_last(container, stream, packets, deadline)
        turned = first.rotation % 180 != 0
        return Probe(
            video_id=video_id,
            width=first.height if turned else first.width,
            height=first.width if turned else first.height,
            fps=packets.fps,
            frames=max(stream.frames, packets.count),
            duration_s=packets.duration_s,
            codec=stream.codec_context.name,
            bytes=status.st_size,
        )


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
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams}))
    raise UnusableFileError("no_video_stream", f"the container holds {kinds or 'nothing'} only")


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
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            if time.monotonic() > deadline:
                raise UnusableFileError("unreadable", "it took too long to read")
            stamp = packet.pts if packet.pts is not None else packet.dts
            at_s = count / rate if stamp is None else stamp * tick_s
            count += 1
            is_corrupt |= packet.is_corrupt
            first_s, last_s = min(first_s, at_s), max(last_s, at_s)
            end_s = max(end_s, at_s + (packet.duration * tick_s if packet.duration else 1 / rate))
            if packet.is_keyframe:
                last_key_s = max(last_key_s, at_s)
    except FFmpegError as error:
        raise UnusableFileError(
            "truncated", f"reading broke off after {count} frames: {error.strerror}"
        ) from error
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


def _decode_first(container: InputContainer, stream: VideoStream) -> VideoFrame:
    container.seek(0)
    try:
        for frame in container.decode(stream):
            return frame
    except FFmpegError as error:
        raise UnusableFileError(
            "unreadable", f"the first frame does not decode: {error.strerror}"
        ) from error
    raise UnusableFileError("no_frames", "no frame decodes")


def _decode_last(
    container: InputContainer, stream: VideoStream, packets: _Packets, deadline: float
) -> None:
    """Decode from the last key frame to the end; the last picture must come out."""
    # A decoder may keep a frame or two back at the end of a group of pictures.
    wanted_s = packets.last_s - 3 / packets.rate
    reached_s = -math.inf
    if math.isfinite(packets.last_key_s) and stream.time_base:
        container.seek(int(packets.last_key_s / stream.time_base), stream=stream)
        reached_s = _decode_to_end(container, stream, deadline)
    if reached_s < wanted_s:
        # Containers without an index may land behind the key frame.
        container.seek(0)
        reached_s = _decode_to_end(container, stream, deadline)
    if reached_s < wanted_s:
        missing_s = packets.last_s - max(reached_s, packets.first_s)
        raise UnusableFileError("truncated", f"the last {missing_s:.1f} s do not decode")


def _decode_to_end(container: InputContainer, stream: VideoStream, deadline: float) -> float:
    """Time of the last picture that decodes from here on, in seconds; -inf where none does."""
    reached_s = -math.inf
    try:
        for frame in container.decode(stream):
            if time.monotonic() > deadline:
                raise UnusableFileError("unreadable", "it took too long to decode")
            if frame.time is not None and not frame.is_corrupt:
                reached_s = max(reached_s, frame.time)
    except FFmpegError as error:
        raise UnusableFileError(
            "truncated", f"the last frames do not decode: {error.strerror}"
        ) from error
    return reached_s
