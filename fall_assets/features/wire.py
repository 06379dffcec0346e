"""How the pool and its workers talk: length-prefixed chunks of JSON and Arrow over pipes.

What belongs here: bytes. What does not: processes (`pool`, `worker`). No pickle, so that a worker
that went wrong can only say something wrong, not run something in the parent.
"""

from __future__ import annotations

import io
import json
import struct
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from fall_assets.features.segments import SegmentFeatures, VideoRef

_LENGTH = struct.Struct("<Q")


class BrokenWireError(Exception):
    """The other side is gone, in the middle of a chunk or before one."""


class Readable(Protocol):
    """The reading end of a pipe."""

    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes; nothing at the end."""


class Writable(Protocol):
    """The writing end of a pipe."""

    def write(self, content: bytes, /) -> int | None:
        """Write some of the bytes and say how many."""


def send(pipe: Writable, content: bytes) -> None:
    """Write one chunk."""
    rest = memoryview(_LENGTH.pack(len(content)) + content)
    try:
        while rest:
            rest = rest[pipe.write(bytes(rest)) or 0 :]
    except BrokenPipeError as error:
        raise BrokenWireError from error


def receive(pipe: Readable) -> bytes:
    """Read one chunk. Raises BrokenWireError where the pipe ends first."""
    return _exactly(pipe, _LENGTH.unpack(_exactly(pipe, _LENGTH.size))[0])


def send_json(pipe: Writable, content: dict[str, Any]) -> None:
    """Write a JSON object as one chunk."""
    send(pipe, json.dumps(content).encode())


def receive_json(pipe: Readable) -> dict[str, Any]:
    """Read a JSON object."""
    content: dict[str, Any] = json.loads(receive(pipe))
    return content


def send_features(pipe: Writable, features: SegmentFeatures) -> None:
    """Write what a segment yielded, as three chunks."""
    header = {"duration_s": features.duration_s, "lost": features.lost}
    send_json(pipe, header)
    send(pipe, _to_arrow(features.features))
    send(pipe, _to_arrow(features.pose_tracks))


def receive_features(pipe: Readable, header: dict[str, Any]) -> SegmentFeatures:
    """Read what `send_features` wrote after its header."""
    tables = [pl.read_ipc_stream(io.BytesIO(receive(pipe))) for _ in range(2)]
    return SegmentFeatures(tables[0], tables[1], header["duration_s"], header["lost"])


def job(video: VideoRef) -> dict[str, Any]:
    """A segment as JSON."""
    return {
        "path": str(video.path),
        "video_id": video.video_id,
        "camera_id": video.camera_id,
        "day": video.day.isoformat(),
        "crop": video.crop,
    }


def video_of(content: dict[str, Any]) -> VideoRef:
    """The segment that `job` described."""
    return VideoRef(
        path=Path(content["path"]),
        video_id=content["video_id"],
        camera_id=content["camera_id"],
        day=date.fromisoformat(content["day"]),
        crop=content["crop"],
    )


def _exactly(pipe: Readable, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = pipe.read(min(size, 1 << 20))
        if not part:
            raise BrokenWireError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _to_arrow(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return buffer.getvalue()
