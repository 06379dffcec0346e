"""A segment's file, opened to be read packet by packet.

What belongs here: opening it, and what to do where it is damaged. What does not: which packets are
decoded (`compressed`, `sampling`). Imports PyAV.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import av.error

from fall_assets.errors import PermanentFailureError
from fall_assets.footage.media import open_media, video_stream

if TYPE_CHECKING:
    from av import Packet, VideoCodecContext, VideoFrame, VideoStream
    from av.container import InputContainer

MAX_JUMP_S = 3600.0
"""Time stamps that jump by more make a segment unreadable."""

_USUAL_FPS = 25.0


class UnreadableSegmentError(PermanentFailureError):
    """Nothing can be decoded from the file."""


def unreadable(path: Path, what: str) -> UnreadableSegmentError:
    """The error to raise of a file that `what` is wrong with."""
    return UnreadableSegmentError(
        f"{path} {what}; quarantine it or have the recorder write it again"
    )


class SegmentFile:
    """An open segment: its packets, and its decoder.

    `lost` counts what could not be read or decoded.
    """

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream) -> None:
        """Use `open_segment`."""
        self.path = path
        self.stream = stream
        self.lost = 0
        self._container = container

    @property
    def decoder(self) -> VideoCodecContext:
        """The decoder of the camera's stream."""
        return self.stream.codec_context

    @property
    def fps(self) -> float:
        """Frames per second as the container says; 25 where it does not."""
        return float(self.stream.average_rate or self.stream.guessed_rate or _USUAL_FPS)

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """All packets in the order of the file; the last is empty. It may break off early."""
        packets = self._container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError:
                # The container breaks off here; what was read so far stands.
                self.lost += 1
                return
            yield packet

    def decoded(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """The frames that the decoder gives for a packet; None asks for what it holds back."""
        try:
            return self.decoder.decode(packet)
        except av.error.EOFError:
            return []
        except av.error.FFmpegError:
            self.lost += 1
            return []


@contextmanager
def open_segment(path: Path, *, threads: int = 1) -> Iterator[SegmentFile]:
    """Open a segment, to be decoded with so many threads.

    Raises UnreadableSegmentError where it cannot be opened or holds no video.
    """
    try:
        container = open_media(path)
    except (av.error.FFmpegError, OSError) as error:
        raise unreadable(path, f"cannot be opened: {error}") from error
    with container:
        stream = video_stream(container)
        if stream is None:
            raise unreadable(path, "holds no video stream")
        stream.codec_context.thread_count = threads
        stream.thread_type = "AUTO" if threads != 1 else "NONE"
        yield SegmentFile(path, container, stream)
