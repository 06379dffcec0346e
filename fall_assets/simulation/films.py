"""Films as a camera's encoder would give them: H.264 access units in memory, to play in a loop.

What belongs here: reading or encoding a film, and making its frozen, black or moved picture. What
does not: sending it (`cameras.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.uint8]

_IDR, _SPS, _PPS, _DELIMITER = 5, 7, 8, 9
_MOST_FPS = 120


@dataclass(frozen=True)
class AccessUnit:
    """One frame: its NAL units without start codes, and without parameter sets."""

    nals: tuple[bytes, ...] = field(repr=False)
    key: bool


@dataclass(frozen=True)
class Film:
    """A film without B-frames that begins with a key picture.

    Attributes:
        units: its frames, in order.
        sps, pps: parameter sets of the decoder.
        fps: frames per second, constant.
        width, height: in pixels.
    """

    units: tuple[AccessUnit, ...] = field(repr=False)
    sps: bytes = field(repr=False)
    pps: bytes = field(repr=False)
    fps: Fraction
    width: int
    height: int

    @property
    def duration_s(self) -> float:
        """Seconds of one round."""
        return float(len(self.units) / self.fps)

    def annexb(self, at: int) -> bytes:
        """Frame number `at` with start codes; key pictures with their parameter sets."""
        unit = self.units[at]
        nals = (self.sps, self.pps, *unit.nals) if unit.key else unit.nals
        return b"".join(b"\x00\x00\x00\x01" + nal for nal in nals)

    def key_from(self, at: int) -> int:
        """The number of the next key picture at or after `at`, from the start again at the end."""
        for number in range(at, len(self.units)):
            if self.units[number].key:
                return number
        return 0

    def pictures(self, first: int = 0, end: int | None = None) -> Iterator[av.VideoFrame]:
        """Decoded frames (yuv420p) from number `first`, a key picture, up to `end`."""
        decoder = av.CodecContext.create("h264", "r")
        decoder.thread_count = 1
        for number in range(first, len(self.units) if end is None else end):
            yield from _decoded(decoder.decode(av.Packet(self.annexb(number))))
        yield from _decoded(decoder.decode(None))


def load_film(
    path: Path | Sequence[Path], *, gop_s: float = 2.0, fps: float | None = None, crf: int = 23
) -> Film:
    """A film, or several one after the other in the size and pace of the first.

    An H.264 film without B-frames and with a key picture at least every 2 x `gop_s` seconds is
    taken as it is; others are encoded by x264 with a key picture every `gop_s` seconds. `fps`
    encodes it with that many frames a second, at the film's own speed.

    Raises ValueError where there is no video, av.FFmpegError where it cannot be read.
    """
    paths = [path] if isinstance(path, Path) else list(path)
    if fps is None and len(paths) == 1 and (film := _copied(paths[0], 2 * gop_s)) is not None:
        return film
    frames: list[av.VideoFrame] = []
    rate: Fraction | None = None
    for one in paths:
        own, pictures = _read(one)
        rate = rate or (Fraction(fps).limit_denominator(1000) if fps else own)
        size = (frames[0].width, frames[0].height) if frames else None
        frames += _paced(pictures, own, rate, size)
    if rate is None or not frames:
        raise ValueError(f"{', '.join(map(str, paths)) or 'nothing'}: there is no picture in it")
    return encode_film(frames, rate, gop_s=gop_s, crf=crf)


def encode_film(
    frames: Iterable[av.VideoFrame], fps: Fraction, *, gop_s: float = 2.0, crf: int = 23
) -> Film:
    """Encode frames of one size by x264, without B-frames, as cameras do."""
    encoder: av.VideoCodecContext | None = None
    units: list[AccessUnit] = []
    sets: dict[int, bytes] = {}
    for number, frame in enumerate(frames):
        if encoder is None:
            encoder = av.CodecContext.create("libx264", "w")
            encoder.width, encoder.height = frame.width // 2 * 2, frame.height // 2 * 2
            encoder.pix_fmt = "yuv420p"
            encoder.framerate, encoder.time_base = fps, 1 / fps
            encoder.thread_count = 1
            gop = str(max(1, round(gop_s * fps)))
            encoder.options = {
                "preset": "veryfast",
                "tune": "zerolatency",
                "crf": str(crf),
                "g": gop,
                "keyint_min": gop,
                "sc_threshold": "0",
            }
        plain = frame.reformat(encoder.width, encoder.height, "yuv420p")
        plain.pts, plain.time_base = number, 1 / fps
        # The encoder chooses; what the source had does not count.
        plain.pict_type = 0
        for packet in encoder.encode(plain):
            _add(bytes(packet), units, sets)
    if encoder is None:
        raise ValueError("there is no frame to encode")
    for packet in encoder.encode(None):
        _add(bytes(packet), units, sets)
    return Film(tuple(units), sets[_SPS], sets[_PPS], fps, encoder.width, encoder.height)


def frozen(film: Film, at: int, *, seconds: float = 10.0) -> Film:
    """The picture number `at` of a film, again and again, encoded anew."""
    first = max(number for number in range(at + 1) if film.units[number].key)
    picture = list(film.pictures(first, at + 1))[-1]
    whole = encode_film([picture] * max(1, round(seconds * film.fps)), film.fps)
    # An encoder improves a picture that stays for some seconds; a loop would begin that anew.
    settled = max(number for number, unit in enumerate(whole.units) if unit.key)
    return replace(whole, units=whole.units[settled:])


def black(film: Film, *, seconds: float = 4.0, noise: float = 0.8, seed: int = 0) -> Film:
    """No light: a sensor's noise (standard deviation in levels) on luma 16."""
    random = np.random.default_rng(seed)
    frames = []
    for _ in range(max(1, round(seconds * film.fps))):
        luma = 16 + random.normal(0, noise, (film.height, film.width))
        planes = np.full((film.height * 3 // 2, film.width), 128, np.uint8)
        planes[: film.height] = np.clip(np.rint(luma), 0, 255).astype(np.uint8)
        frames.append(av.VideoFrame.from_ndarray(planes, format="yuv420p"))
    return encode_film(frames, film.fps)


def quiet(film: Film, *, seconds: float = 20.0, noise: float = 2.0, seed: int = 0) -> Film:
    """The film's first picture with a sensor's noise (standard deviation in levels), moving on."""
    random = np.random.default_rng(seed)
    first = next(film.pictures()).to_ndarray(format="yuv420p").astype(np.float32)

    def noisy() -> av.VideoFrame:
        levels = first + random.normal(0, noise, first.shape).astype(np.float32)
        planes = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        return av.VideoFrame.from_ndarray(planes, format="yuv420p")

    return encode_film((noisy() for _ in range(max(1, round(seconds * film.fps)))), film.fps)


def moved(film: Film, *, right: float = 0.2, down: float = 0.15) -> Film:
    """The view of a camera that was pushed: the picture shifted by shares of its size."""
    return encode_film((_shifted(picture, right, down) for picture in film.pictures()), film.fps)


def _shifted(frame: av.VideoFrame, right: float, down: float) -> av.VideoFrame:
    picture = frame.to_ndarray(format="rgb24")
    height, width = picture.shape[:2]
    # What comes into view repeats what was at the border.
    rows = np.clip(np.arange(height) - round(down * height), 0, height - 1)
    columns = np.clip(np.arange(width) - round(right * width), 0, width - 1)
    return av.VideoFrame.from_ndarray(
        np.ascontiguousarray(picture[rows][:, columns]), format="rgb24"
    )


def _copied(path: Path, longest_gap_s: float) -> Film | None:
    """The film as it is; None where it has to be encoded."""
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError(f"{path}: there is no video in it")
        stream = container.streams.video[0]
        fps = _rate(stream.average_rate)
        if stream.codec_context.name != "h264" or fps is None:
            return None
        if stream.codec_context.pix_fmt not in ("yuv420p", "yuvj420p"):
            return None
        annexb = av.BitStreamFilterContext("h264_mp4toannexb", stream)
        units: list[AccessUnit] = []
        sets: dict[int, bytes] = {}
        for packet in container.demux(stream):
            if packet.size and packet.pts != packet.dts:
                return None
            for plain in annexb.filter(packet if packet.size else None):
                _add(bytes(plain), units, sets)
        width, height = stream.codec_context.width, stream.codec_context.height
    keys = [number for number, unit in enumerate(units) if unit.key] + [len(units)]
    gaps = [end - start for start, end in pairwise(keys)]
    if keys[0] != 0 or len(sets) < 2 or max(gaps, default=0) > longest_gap_s * fps:
        return None
    return Film(tuple(units), sets[_SPS], sets[_PPS], fps, width, height)


def _rate(rate: Fraction | None) -> Fraction | None:
    if not rate or rate > _MOST_FPS:
        return None
    return rate.limit_denominator(1001)


def _read(path: Path) -> tuple[Fraction, list[av.VideoFrame]]:
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError(f"{path}: there is no video in it")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return _rate(stream.average_rate) or Fraction(25), list(container.decode(stream))


def _paced(
    frames: Sequence[av.VideoFrame],
    own: Fraction,
    fps: Fraction,
    size: tuple[int, int] | None,
) -> list[av.VideoFrame]:
    count = max(1, round(len(frames) * fps / own)) if frames else 0
    chosen = [frames[min(len(frames) - 1, int(number * own / fps))] for number in range(count)]
    if size is None:
        return chosen
    return [frame.reformat(*size) for frame in chosen]


def _add(text: bytes, units: list[AccessUnit], sets: dict[int, bytes]) -> None:
    """Append an access unit in Annex B form; parameter sets are kept apart."""
    nals = []
    key = False
    for nal in split_annexb(text):
        kind = nal[0] & 0x1F
        if kind in (_SPS, _PPS):
            sets.setdefault(kind, nal)
        elif kind != _DELIMITER:
            key = key or kind == _IDR
            nals.append(nal)
    if nals:
        units.append(AccessUnit(tuple(nals), key))


def split_annexb(text: bytes) -> list[bytes]:
    """NAL units between start codes (H.264, annex B)."""
    found = []
    start = text.find(b"\x00\x00\x01")
    while start >= 0:
        end = text.find(b"\x00\x00\x01", start + 3)
        nal = text[start + 3 : end if end >= 0 else None]
        # A start code may have one zero more, which belongs to no NAL unit.
        if nal := nal.rstrip(b"\x00"):
            found.append(nal)
        start = end
    return found


def _decoded(frames: Iterable[object]) -> Iterator[av.VideoFrame]:
    for frame in frames:
        if isinstance(frame, av.VideoFrame):
            yield frame
