"""Opening a file of unknown origin with FFmpeg without letting it open anything else.

What belongs here: which formats and protocols are allowed, how large a picture may be, which
stream is the camera's. What does not: judging what is inside (see `probe.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import av

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

MAX_PIXELS = 36_000_000
"""Of one picture: 8K (8192 x 4320) fits. FFmpeg's own limit is 2^31, some 3 GB a picture."""

_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc"
_DECODER_OPTIONS = {"max_pixels": str(MAX_PIXELS)}


def open_media(path: Path) -> InputContainer:
    """Open a media file for reading; use it as a context manager.

    FFmpeg chooses the reader by content, and some readers (concat, playlists, `image2`) open
    further files or addresses that the file names: a text file named `.mp4` could read the
    machine. Only containers that hold their own pictures are allowed, and no protocol but files.
    Pictures of more than MAX_PIXELS are not decoded while the file is opened.

    Raises the errors of PyAV: `av.error.InvalidDataError` where the content is no known container,
    `av.error.ArgumentError` where it is one that is not allowed.
    """
    # The prefix keeps a relative path with a colon from being read as an address.
    return av.open(
        f"file:{path}",
        mode="r",
        options={
            "format_whitelist": _FORMATS,
            "protocol_whitelist": "file",
            **_DECODER_OPTIONS,
        },
        metadata_errors="replace",
    )


def video_stream(container: InputContainer) -> VideoStream | None:
    """The container's first stream of pictures that is no cover; None where there is none.

    Its decoder refuses pictures of more than MAX_PIXELS, in the middle of the stream, too.
    """
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            stream.codec_context.options = dict(_DECODER_OPTIONS)
            return stream
    return None
