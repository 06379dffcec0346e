"""Previews: short films around a piece of footage for a labelling tool, with nobody to recognise.

What belongs here: cutting, hiding and encoding. What does not: which pieces are shown
(`pipeline/exchange.py`) and how heads are hidden in one picture (`delivery/stills.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import polars as pl
from numpy.typing import NDArray

from fall_assets.delivery.stills import faces_are_known, unrecognisable
from fall_assets.errors import PermanentFailureError
from fall_assets.features.crop import Crop
from fall_assets.features.packing import unpack_keypoints
from fall_assets.features.pictures import PictureMaker
from fall_assets.footage.media import open_media, video_stream

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer, OutputContainer
    from av.video.stream import VideoStream

MAX_FPS = 12.5
"""Frames per second of a preview at most: enough to place a fall's start within 0.1 s."""

MAX_S = 60.0
"""The longest preview: more is no longer a piece."""

_LONG_SIDE = 640
# As sharp as a picture with known heads gets; see `stills`.
_WORKING_SIDE = 320
# A head that is not found at one moment was, and will be, about there: around such a moment all is
# coarse, or the picture would flicker and show between two samples what it hides at them.
_DOUBT_S = 0.3
# Seeking back this far is dearer than decoding from the start.
_NEAR_S = 3.0

_NOBODY = np.zeros((0, 17, 3))


class PreviewError(PermanentFailureError):
    """No preview can be made of this piece."""


@dataclass(frozen=True)
class Preview:
    """A preview and how its frames lie in the segment.

    Attributes:
        content: an MP4 file (H.264, constant frame rate, no sound, no metadata).
        start_s: time of its first frame, from the segment's start.
        fps: its frame rate; frame k, from 0, shows `start_s + k / fps`.
        frames: how many.
        coarse_frames: how many of them are coarse all over.
    """

    content: bytes
    start_s: float
    fps: float
    frames: int
    coarse_frames: int


def preview(
    path: Path,
    start_s: float,
    end_s: float,
    *,
    fps: float,
    tracks: pl.DataFrame | None = None,
    crop: str | None = None,
) -> Preview:
    """A film of `start_s` to `end_s` (seconds of the segment) with nobody to recognise.

    Each frame is the one that was shown at its moment, whatever the segment's own frame rate. Heads
    are hidden where the pose tracks know them, and around; where one is not known for sure within
    0.3 s, the whole picture is coarse.

    Args:
        path: the segment.
        start_s, end_s: cut to the segment, and to MAX_S.
        fps: the segment's frame rate; the preview's is that or MAX_FPS.
        tracks: the segment's rows of `pose_tracks`; None where heads cannot be trusted (a camera
            at the ceiling), which makes all frames coarse.
        crop: as the table `cameras` has it; key points are shares of that part.

    Raises PreviewError where nothing can be decoded there.
    """
    start_s = max(0.0, start_s)
    rate = Fraction(min(fps, MAX_FPS) if fps > 0 else MAX_FPS).limit_denominator(1000)
    wanted = int(min(end_s - start_s, MAX_S) * rate)
    if wanted < 1:
        raise PreviewError(f"{path.name}: {start_s:g} to {end_s:g} s is no stretch to show")
    people = _People(tracks) if tracks is not None else None
    times = [start_s + float(k / rate) for k in range(wanted)]
    # MP4's index can be moved to the front of a file only, not of a stream.
    with TemporaryDirectory(prefix="fall-preview-") as folder:
        target = Path(folder) / "preview.mp4"
        try:
            made, coarse = _make(path, times, rate, target, PictureMaker(Crop.parse(crop)), people)
        except (av.FFmpegError, IndexError, OSError) as error:
            raise PreviewError(
                f"{path.name}: cannot be decoded at {start_s:g} s ({error}); leave the piece out"
            ) from error
        if not made:
            raise PreviewError(
                f"{path.name}: nothing is shown at {start_s:g} s; the file may be cut off"
            )
        return Preview(target.read_bytes(), start_s, float(rate), made, coarse)


def _make(
    path: Path,
    times: list[float],
    rate: Fraction,
    target: Path,
    maker: PictureMaker,
    people: _People | None,
) -> tuple[int, int]:
    """Write the film; return how many frames it has and how many of them are coarse."""
    made = coarse = 0
    stream: VideoStream | None = None
    with av.open(target, "w", format="mp4", options={"movflags": "faststart"}) as output:
        for time_s, frame in _shown(path, times):
            heads = people.heads_at(time_s) if people is not None else _NOBODY
            coarse += not faces_are_known(heads)
            picture = unrecognisable(maker.rgb(frame, _WORKING_SIDE), heads, _LONG_SIDE)
            stream = stream or _stream(output, rate, picture)
            shown = av.VideoFrame.from_ndarray(picture, format="rgb24")
            shown.pts, shown.time_base = made, 1 / rate
            output.mux(stream.encode(shown))
            made += 1
        if stream is not None:
            output.mux(stream.encode(None))
    return made, coarse


def _stream(output: OutputContainer, rate: Fraction, picture: NDArray[np.uint8]) -> VideoStream:
    stream = output.add_stream("libx264", rate=rate)
    stream.height, stream.width = picture.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.time_base = 1 / rate
    # A key frame a second: reviewers go back and forth.
    stream.options = {"crf": "26", "preset": "veryfast", "g": str(max(1, round(rate)))}
    stream.codec_context.thread_count = 1
    return stream


def _shown(path: Path, times: list[float]) -> Iterator[tuple[float, VideoFrame]]:
    """The frame that is shown at each of the growing times; ends where the segment does."""
    with open_media(path) as container:
        stream = _pictures(container, path)
        rate = float(stream.average_rate or 25)
        origin_s = float((stream.start_time or 0) * (stream.time_base or 0))
        seek = times[0] > _NEAR_S and stream.time_base is not None
        if seek and stream.time_base is not None:
            container.seek(
                round((origin_s + times[0]) / float(stream.time_base)), stream=stream, backward=True
            )
        frames = _frames(container, stream, origin_s, rate)
        first = next(frames, None)
        if seek and (first is None or first[0] > times[0]):
            # The file's index led behind the moment, or nowhere.
            container.seek(0, backward=True)
            frames = _frames(container, stream, origin_s, rate)
            first = next(frames, None)
        if first is None:
            return
        current, last_s = first[1], first[0]
        upcoming = next(frames, None)
        for time_s in times:
            while upcoming is not None and upcoming[0] <= time_s + 1e-4:
                last_s, current = upcoming
                upcoming = next(frames, None)
            if upcoming is None and time_s >= last_s + 1 / rate - 1e-4:
                return
            yield time_s, current


def _pictures(container: InputContainer, path: Path) -> VideoStream:
    stream = video_stream(container)
    if stream is None:
        raise PreviewError(f"{path.name}: it holds no pictures")
    return stream


def _frames(
    container: InputContainer, stream: VideoStream, origin_s: float, rate: float
) -> Iterator[tuple[float, VideoFrame]]:
    """Frames with growing times from the segment's start; what cannot be decoded is passed by."""
    last_s: float | None = None
    for packet in container.demux(stream):
        try:
            decoded = packet.decode()
        except av.FFmpegError:
            continue
        for frame in decoded:
            if frame.pts is None or frame.time_base is None:
                time_s = 0.0 if last_s is None else last_s + 1 / rate
            else:
                time_s = float(frame.pts * frame.time_base) - origin_s
            if last_s is None or time_s > last_s:
                last_s = time_s
                yield time_s, frame


class _People:
    """Where everybody is, at any time of a segment."""

    def __init__(self, tracks: pl.DataFrame) -> None:
        self._tracks: list[tuple[float, float, NDArray[np.float32]]] = [
            (row["start_s"], row["rate_hz"], unpack_keypoints(row["keypoints"]))
            for row in tracks.iter_rows(named=True)
        ]

    def heads_at(self, time_s: float) -> NDArray[np.floating[Any]]:
        """Key points (people, 17, 3) of the samples around a time; none where one is in doubt.

        Two samples per person, before and after, hide a head also while it moves between them.
        """
        around: list[NDArray[np.float32]] = []
        for start_s, rate_hz, points in self._tracks:
            place = (time_s - start_s) * rate_hz
            reach = _DOUBT_S * rate_hz
            first, last = np.floor(place - reach), np.ceil(place + reach)
            near = points[max(0, int(first)) : max(0, int(last) + 1)]
            if not len(near):
                continue
            if not faces_are_known(near):
                return _NOBODY
            low = int(np.clip(np.floor(place), 0, len(points) - 1))
            high = int(np.clip(np.ceil(place), 0, len(points) - 1))
            around += [points[low], points[high]]
        return np.stack(around) if around else _NOBODY
