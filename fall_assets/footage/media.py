"""Opening a file of unknown origin with FFmpeg without letting it open anything else.

What belongs here: which formats and protocols are allowed. What does not: judging what is inside
(see `probe.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import av

if TYPE_CHECKING:
    from av.container import InputContainer

_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc"


def open_media(path: Path) -> InputContainer:
    """Open a media file for reading; use it as a context manager.

    FFmpeg chooses the reader by content, and some readers (concat, playlists, `image2`) open
    further files or addresses that the file names: a text file named `.mp4` could read the
    machine. Only containers that hold their own pictures are allowed, and no protocol but files.

    Raises the errors of PyAV: `av.error.InvalidDataError` where the content is no known container,
    `av.error.ArgumentError` where it is one that is not allowed.
    """
    # The prefix keeps a relative path with a colon from being read as an address.
    return av.open(
        f"file:{path}",
        mode="r",
        options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"},
        metadata_errors="replace",
    )
