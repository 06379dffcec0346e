"""Opening cameras: RTSP, HTTP, files, V4L2 devices; with hardware that decodes where there is any.

What belongs here: FFmpeg's options, which protocols it may use, time limits. What does not: when to
open again (`stream`), what the packets mean (`watcher`). Imports PyAV.

Reading never blocks for ever: every connection gives up after OPEN_S or READ_S without data. A
V4L2 driver that hangs inside the kernel is the exception.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import av
import av.error
from av.codec import Codec
from av.codec.hwaccel import HWAccel, hwdevices_available

from fall_assets.edge.config import CameraSettings
from fall_assets.errors import PassingFailureError
from fall_assets.footage.media import MAX_PIXELS, open_media, video_stream

if TYPE_CHECKING:
    from fractions import Fraction

    from av import Packet, VideoCodecContext, VideoStream
    from av.container import InputContainer

_log = logging.getLogger(__name__)

OPEN_S: Final = 10.0
"""A camera that was not opened in this time is away."""
READ_S: Final = 5.0
"""One that sends nothing for so long is as well."""
PROBE_S: Final = 0.5
"""How much of a stream is read, at most, to find out what it is."""

_PROTOCOLS: Final = {
    # Video travels inside the RTSP connection; no other address may be opened.
    "rtsp": "rtsp,rtp,tcp",
    "rtsps": "rtsp,rtp,tcp,tls",
    "http": "http,tcp",
    "https": "https,http,tls,tcp",
}
_FORMATS: Final = "mpegts,mpjpeg,mjpeg,flv,matroska,webm,mov,mp4,mpeg,mpegvideo,h264,hevc"
_STAMPLESS: Final = frozenset({"mpjpeg", "mjpeg", "h264", "hevc", "mpegvideo"})
_DEVICES: Final = {"v4l2": "video4linux2,v4l2", "lavfi": "lavfi"}


class SourceError(PassingFailureError):
    """A camera could not be opened, or its stream broke off. No message holds a password."""


@dataclass
class Source:
    """An open camera. One thread reads `packets`; another may use `decoder` at the same time.

    Attributes:
        decoder: decodes its packets; with one thread.
        time_base: of its packets, in seconds.
        codec: FFmpeg's name of it.
        stamped: whether packets carry the camera's own times; where they do not, FFmpeg counts
            frames at a rate that it guesses.
        hardware: what decodes; None: the processor.
        rate: frames a second as the stream itself says; None where it does not.
    """

    camera: CameraSettings
    decoder: VideoCodecContext
    time_base: Fraction
    codec: str
    stamped: bool
    hardware: str | None
    rate: float | None
    _container: InputContainer
    _stream: VideoStream

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Packets of the video as they come, each with data; ends with a file.

        Raises SourceError where the connection breaks off or nothing comes for READ_S.
        """
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    yield packet
        except (av.error.FFmpegError, OSError, ValueError, RuntimeError) as error:
            raise SourceError(_in_words(self.camera, error, "broke off")) from None

    @property
    def camera_utc_s(self) -> float | None:
        """When time stamp 0 was by the camera's clock, in Unix seconds, where it says so (RTCP)."""
        started = self._container.start_time_realtime
        if not started:
            return None
        return started / 1e6 - (self._container.start_time or 0) / 1e6

    def close(self) -> None:
        """Close the connection; not while another thread reads packets."""
        self._container.close()


def open_source(camera: CameraSettings, *, hwaccel: str = "none") -> Source:
    """Open a camera. Returns after OPEN_S at the latest, but for hanging device drivers.

    `hwaccel` as in RunnerSettings; what cannot be decoded by it is decoded by the processor.

    Raises SourceError where it cannot be opened or holds no video.
    """
    hardware = usable_hardware(hwaccel)
    try:
        container = _open(camera, None if hardware is None else HWAccel(hardware))
    except (av.error.FFmpegError, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise SourceError(_in_words(camera, error, "cannot be opened")) from None
    try:
        stream = video_stream(container)
        if stream is None or stream.codec_context is None or stream.time_base is None:
            raise SourceError(f"{camera.shown} sends no video that can be decoded")
        stream.codec_context.thread_count = 1
        stream.thread_type = "NONE"
        accelerated = bool(getattr(stream.codec_context, "is_hwaccel", False))
        rate = stream.average_rate or stream.guessed_rate
        return Source(
            camera,
            stream.codec_context,
            stream.time_base,
            stream.codec_context.name,
            container.format.name not in _STAMPLESS or camera.is_file,
            hardware if accelerated else None,
            float(rate) if rate else None,
            container,
            stream,
        )
    except BaseException:
        container.close()
        raise


def file_path(camera: CameraSettings) -> Path:
    """Where a camera that is a file lies."""
    return Path(unquote(camera.url.partition("://")[2]))


@functools.lru_cache(maxsize=8)
def usable_hardware(wanted: str) -> str | None:
    """The hardware that decodes H.264 here; None for the processor. Says so once in the log.

    `wanted` is `none`, `auto` for the first that works, or FFmpeg's name of one.
    """
    if wanted == "none":
        return None
    known = hwdevices_available()
    reasons = []
    for name in known if wanted == "auto" else [wanted]:
        if name not in known:
            reasons.append(f"{name} is not in this FFmpeg, which has {', '.join(known) or 'none'}")
            continue
        try:
            HWAccel(name, allow_software_fallback=False).create(Codec("h264", "r"))
        except (
            av.error.FFmpegError,
            OSError,
            ValueError,
            RuntimeError,
            NotImplementedError,
        ) as why:
            reasons.append(f"{name}: {str(why) or type(why).__name__}")
            continue
        _log.info("pictures are decoded by %s", name)
        return name
    _log.warning("pictures are decoded by the processor (%s)", "; ".join(reasons))
    return None


def _open(camera: CameraSettings, hwaccel: HWAccel | None) -> InputContainer:
    kind = camera.kind
    options = {"max_pixels": str(MAX_PIXELS)}
    if kind == "file":
        path = file_path(camera)
        if hwaccel is None:
            return open_media(path)
        options |= {"protocol_whitelist": "file", "format_whitelist": _FORMATS + ",avi"}
        return av.open(f"file:{path}", "r", options=options, hwaccel=hwaccel)
    if kind in _DEVICES:
        name = camera.url.partition("://")[2] if kind == "v4l2" else camera.url.partition(":")[2]
        return av.open(name, "r", format=_DEVICES[kind], options=options, hwaccel=hwaccel)
    microseconds = str(round(READ_S * 1e6))
    options |= {
        "protocol_whitelist": _PROTOCOLS[kind],
        # What a stream is can be told from its first frames; the default reads 5 s.
        "analyzeduration": str(round(PROBE_S * 1e6)),
        "fpsprobesize": "4",
    }
    if kind in ("rtsp", "rtsps"):
        options |= {
            "rtsp_transport": "tcp",
            "allowed_media_types": "video",
            "timeout": microseconds,
        }
        # Passwords go to the host that was configured, and a reader is never chosen by content.
        reader: str | None = "rtsp"
    else:
        options |= {
            "format_whitelist": _FORMATS,
            "rw_timeout": microseconds,
            "max_redirects": "0",
            "seekable": "0",
        }
        reader = None
    return av.open(
        camera.url,
        "r",
        format=reader,
        options=options,
        timeout=(OPEN_S, READ_S),
        hwaccel=hwaccel,
        metadata_errors="replace",
    )


def _in_words(camera: CameraSettings, error: BaseException, what: str) -> str:
    """What happened, on one line, without the camera's password."""
    if isinstance(error, av.error.ExitError):
        reason = "nothing came in time"
    else:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    line = " ".join(camera.without_secrets(str(reason)).split())
    return f"{camera.shown} {what}: {line[:200]}"
