"""Films as small pictures on a clock, and windows of them, for networks that see frames.

What belongs here: decoding once, keeping small pictures, cutting windows, changing them in
training. What does not: networks. numpy and PyAV only.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fall_assets.features.crop import Crop
from fall_assets.features.pictures import PictureMaker
from fall_assets.features.sampling import SampleClock, Segment
from fall_assets.features.settings import PictureSettings
from fall_assets.learning.algorithms.base import MissingInputError
from fall_assets.learning.inputs import SegmentInputs

Pictures = npt.NDArray[np.uint8]

GREY = 110
"""What stands beside a picture that is no square: about the mean of footage."""

DECODED = ".npy"
"""Ending of the files that hold a film's pictures."""

_MAX_WAIT_S = 0.5
_TINY = 1e-6


@dataclass(frozen=True)
class FilmSettings:
    """How a film is looked at: `frames` of each window, in a square as large as the longer side.

    `picture` as for feature sets: size, colour, brightness, contrast, sharpness, crop.
    """

    frames: int
    window_s: float
    picture: PictureSettings

    @property
    def rate_hz(self) -> float:
        """Frames per second of film."""
        return self.frames / self.window_s

    @property
    def side(self) -> int:
        """Side of the square in pixels."""
        return self.picture.long_side


@dataclass(frozen=True)
class Film:
    """A segment's file, its length, and the part that the camera may show (None: all of it)."""

    path: Path
    duration_s: float
    crop: str | None = None


def film_of(segment: SegmentInputs) -> Film:
    """The film of a segment. Raises MissingInputError where it was not read or is gone."""
    if segment.path is None:
        raise MissingInputError(
            f"segment {segment.video_id} was read without its film: read the learning set with "
            "`films`"
        )
    if not segment.path.is_file():
        raise MissingInputError(
            f"the film of segment {segment.video_id} is not at {segment.path}: it was moved or "
            "deleted by retention; put it back, or learn from footage that is kept"
        )
    return Film(segment.path, segment.duration_s, segment.crop)


def samples_of(duration_s: float, settings: FilmSettings) -> tuple[int, ...]:
    """Shape of a film on the clock: (samples, side, side, 3)."""
    count = int(duration_s * settings.rate_hz + _TINY) + 1
    return (count, settings.side, settings.side, 3)


def decode_film(film: Film, settings: FilmSettings, into: Pictures | None = None) -> Pictures:
    """Frames of a film on the clock: (samples, side, side, 3) uint8, upright, all of the crop.

    Where the camera gave no picture the last one stands; before the first, a grey one. The
    pictures stand in `into`, where it is given, else in memory.
    Raises UnreadableSegmentError where it cannot be decoded.
    """
    shape = samples_of(film.duration_s, settings)
    count = shape[0]
    pictures = np.empty(shape, np.uint8) if into is None else into
    pictures[:] = GREY
    clock = SampleClock(settings.rate_hz, _MAX_WAIT_S)
    maker = PictureMaker(Crop.parse(film.crop))
    known = 0
    for time_s, frame in Segment(film.path).decode():
        served = clock.serve(time_s)
        if not served or served.start >= count:
            continue
        if known and served.start > known:
            pictures[known : served.start] = pictures[known - 1]
        shown = _square(maker.picture(frame, settings.picture), settings.side)
        known = min(served.stop, count)
        pictures[served.start : known] = shown
    if 0 < known < count:
        pictures[known:] = pictures[known - 1]
    return pictures


def window_of(pictures: Pictures, end_s: float, settings: FilmSettings, shift: int = 0) -> Pictures:
    """The frames of the window up to, and without, `end_s`: (frames, side, side, 3).

    Grey before the film begins; `shift` samples later.
    """
    # The sample at or after the end is not known yet.
    last = int(np.ceil(end_s * settings.rate_hz - _TINY)) + shift
    number = np.arange(last - settings.frames, last)
    window = pictures[np.clip(number, 0, len(pictures) - 1)]
    window[number < 0] = GREY
    return window


@functools.lru_cache(maxsize=1)
def _once(film: Film, changed_ns: int, size: int, settings: FilmSettings) -> Pictures:
    pictures = decode_film(film, settings)
    pictures.flags.writeable = False
    return pictures


def recent_film(film: Film, settings: FilmSettings) -> Pictures:
    """As `decode_film`; the last film is kept, so that several models decode it once."""
    found = film.path.stat()
    return _once(film, found.st_mtime_ns, found.st_size, settings)


class FilmStore:
    """Films as small pictures in a temporary folder, mapped into memory; gone when closed.

    An hour at 4 frames per second and 112 pixels takes 540 MB of disk, and no memory that the
    system cannot take back.
    """

    def __init__(self, settings: FilmSettings) -> None:
        self.settings = settings
        self._folder = tempfile.TemporaryDirectory(prefix="films-")

    def __enter__(self) -> FilmStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def place(self, number: int) -> Path:
        """Where the pictures of a film are."""
        return Path(self._folder.name) / f"{number}{DECODED}"

    def add(self, number: int, film: Film) -> Pictures:
        """Decode a film under a number; one that another store holds is only opened."""
        if film.path.suffix == DECODED:
            held: Pictures = np.load(film.path, mmap_mode="r", allow_pickle=False)
            return held
        shape = samples_of(film.duration_s, self.settings)
        place = self.place(number)
        mapped: Any = np.lib.format.open_memmap
        pictures: Pictures = mapped(place, "w+", np.dtype(np.uint8), shape)
        decode_film(film, self.settings, pictures)
        return pictures


@dataclass(frozen=True)
class FilmAugmentation:
    """Changes that a camera could have made; probabilities and strengths are per window.

    `mirror`: left and right change places. `zoom`: up to so much is cut off the sides, at a place
    drawn. `brightness`, `contrast`: shares of the range and of one. `shift`: samples by which a
    window may end earlier or later.
    """

    mirror: float = 0.5
    zoom: float = 0.15
    brightness: float = 0.1
    contrast: float = 0.2
    shift: int = 0


def changed(window: Pictures, settings: FilmAugmentation, rng: np.random.Generator) -> Pictures:
    """A changed copy of a window (frames, side, side, 3); all its frames change alike."""
    side = window.shape[1]
    cut = rng.uniform(0, settings.zoom)
    used = max(1, round(side * (1 - cut)))
    top, left = rng.integers(0, side - used + 1, 2)
    # Nearest neighbours: the pictures are small and the change is slight.
    steps = np.arange(side) * used // side
    shown = window[:, top + steps][:, :, left + steps]
    if rng.random() < settings.mirror:
        shown = shown[:, :, ::-1]
    contrast = 1 + rng.uniform(-settings.contrast, settings.contrast)
    brightness = 255 * rng.uniform(-settings.brightness, settings.brightness)
    table = np.clip((np.arange(256) - 127.5) * contrast + 127.5 + brightness, 0, 255)
    made: Pictures = table.astype(np.uint8)[shown]
    return made


def batch_of_films(
    films: Mapping[int, Pictures] | Sequence[Pictures],
    where: Sequence[tuple[int, float]],
    settings: FilmSettings,
    augmentation: FilmAugmentation | None = None,
    seeds: Sequence[tuple[int, ...]] = (),
) -> Pictures:
    """Windows (n, frames, side, side, 3) at (film, end_s), each changed under a seed of its own."""
    windows = []
    for place, (film, end_s) in enumerate(where):
        if augmentation is None:
            windows.append(window_of(films[film], end_s, settings))
            continue
        rng = np.random.default_rng(seeds[place])
        shift = int(rng.integers(-augmentation.shift, augmentation.shift + 1))
        window = window_of(films[film], end_s, settings, shift)
        windows.append(changed(window, augmentation, rng))
    return np.stack(windows)


def _square(picture: Pictures, side: int) -> Pictures:
    """A picture in the middle of a grey square; a single channel three times."""
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=-1)
    picture = picture[:side, :side]
    height, width = picture.shape[:2]
    square = np.full((side, side, 3), GREY, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = picture
    return square
