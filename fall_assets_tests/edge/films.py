"""Streams of packets for tests, encoded by PyAV, without a container."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from numpy.typing import NDArray

from fall_assets.edge.engine import Alarm
from fall_assets.edge.watcher import Watcher

Picture = NDArray[np.uint8]
if TYPE_CHECKING:
    Packet = av.Packet[Any]
else:
    Packet = av.Packet
BASE = Fraction(1, 90_000)
FPS = 10


def room(
    count: int,
    *,
    moving: tuple[int, int] = (0, 0),
    width: int = 320,
    height: int = 192,
    seed: int = 0,
    noise: float = 2.0,
) -> Iterator[Picture]:
    """A textured room with noise; a light box crosses it in the frames `moving`."""
    rng = np.random.default_rng(seed)
    still = rng.integers(60, 120, (height // 8, width // 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    for number in range(count):
        picture = still.astype(np.float32)
        if moving[0] <= number < moving[1]:
            left = 10 + 4 * (number - moving[0]) % (width - 50)
            picture[height // 3 :, left : left + 30] = 230
        picture = picture + rng.normal(0, noise, picture.shape).astype(np.float32)
        yield np.clip(picture, 0, 255).astype(np.uint8)


def encoded(
    pictures: Iterable[Picture],
    *,
    fps: int = FPS,
    group: int = 20,
    codec: str = "libx264",
    first: int = 0,
) -> list[Packet]:
    """Packets whose time stamps begin with frame number `first`, parameters within the stream."""
    options = {"preset": "ultrafast", "bf": "0", "crf": "20", "sc_threshold": "0"}
    options |= {"g": str(group), "keyint_min": str(group)}
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    if codec == "libx264":
        encoder.options = options
    packets: list[Packet] = []
    for number, picture in enumerate(pictures):
        if not number:
            encoder.height, encoder.width = picture.shape[:2]
            encoder.pix_fmt = "yuv420p" if codec == "libx264" else "yuvj420p"
            encoder.time_base, encoder.framerate = Fraction(1, fps), Fraction(fps)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(format=encoder.pix_fmt)
        frame.pts, frame.time_base = number, Fraction(1, fps)
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    step = round(1 / fps / BASE)
    return [stamped(packet, step * (number + first), step) for number, packet in enumerate(packets)]


def stamped(packet: Packet, pts: int | None, step: int = 9000) -> Packet:
    """The same packet with another time stamp."""
    packet.time_base = BASE
    packet.pts = packet.dts = pts
    packet.duration = step
    return packet


def changed(packet: Packet, content: bytes) -> Packet:
    """A packet with other content and the same time stamps."""
    other = av.Packet(content)
    other.is_keyframe = packet.is_keyframe
    return stamped(other, packet.pts)


def decoder(codec: str = "h264") -> av.VideoCodecContext:
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, av.VideoCodecContext)
    return context


def watched(watcher: Watcher, packets: Iterable[Packet]) -> list[Alarm]:
    """All alarms of a stream, to its end."""
    alarms = [alarm for packet in packets for alarm in watcher.take(packet)]
    return alarms + watcher.finish()
