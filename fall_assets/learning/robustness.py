"""What a detector loses when the picture gets worse.

What belongs here: making footage worse, and the table of what is lost. What does not: extracting
features from it and judging it (`pipeline.robustness`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from fall_assets.errors import PermanentFailureError
from fall_assets.footage.media import open_media, video_stream
from fall_assets.learning.bootstrap import RESAMPLES, paired
from fall_assets.learning.metrics import Row, VideoOutcome
from fall_assets.learning.slices import Traits, pieces_of, sliced_metrics

Picture = npt.NDArray[np.uint8]

GROUP_S = 2.0
"""A key picture this often, as recorders have it."""

_FINE_CRF = 18.0


class DegradeError(PermanentFailureError):
    """A film cannot be made worse, because it cannot be read."""


@dataclass(frozen=True)
class Degradation:
    """How a film is made worse; encoded as H.264 in any case.

    Attributes:
        name: in tables.
        scale: of both sides of the picture.
        fps: frames are dropped down to this many per second; None keeps them all.
        light: factor on every value, as with less light and no gain.
        noise: standard deviation of Gaussian noise on every value, as a share of the full range.
        bits_per_pixel: mean bits of a pixel and frame; None encodes without visible loss.
    """

    name: str
    scale: float = 1.0
    fps: float | None = None
    light: float = 1.0
    noise: float = 0.0
    bits_per_pixel: float | None = None


DEGRADATIONS = (
    Degradation("encoded again"),
    Degradation("half resolution", scale=0.5),
    Degradation("10 frames per second", fps=10.0),
    Degradation("darker (a third of the light)", light=1 / 3),
    Degradation("noise (8 % of the range)", noise=0.08),
    Degradation("low bit rate (0.02 bits per pixel)", bits_per_pixel=0.02),
)
"""The first is the control: what encoding once more costs by itself."""


def degrade(source: Path, target: Path, how: Degradation, *, seed: int = 0) -> None:
    """Write a film again, made worse; times and the upright picture stay.

    The same film, settings and seed give the same pictures.

    Args:
        source: any film.
        target: a path that ends in .mp4.
        how: what to do to it.
        seed: of the noise.

    Raises:
        DegradeError: the film cannot be read, or holds no picture.
    """
    rng = np.random.default_rng(seed)
    try:
        with open_media(source) as container:
            stream = video_stream(container)
            if stream is None:
                raise DegradeError(f"{source.name}: it holds no pictures")
            rate = Fraction(stream.average_rate or 25).limit_denominator(1000)
            kept = _thinned(container.decode(stream), how.fps)
            _write(kept, target, how, Fraction(how.fps or rate).limit_denominator(1000), rng)
    except (av.FFmpegError, OSError) as error:
        raise DegradeError(f"{source.name}: cannot be written again ({error})") from error


def losses(
    before: Sequence[VideoOutcome],
    after: Mapping[str, Sequence[VideoOutcome]],
    traits: Mapping[str, Traits] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Row]:
    """A row per degradation: what is found, and the difference to the footage as it is.

    `sensitivity_change` and `alarms_change` (false alarms per camera-day) come with their 95 %
    intervals over resampled scenes, the same scenes before and after.

    Args:
        before: outcomes on the footage as it is.
        after: by degradation, outcomes of the same segments.
        traits: for the scenes; without, each segment is one.
        resamples: of scenes.
        seed: of the resamples.

    Raises:
        ValueError: where segments differ.
    """
    rows = [_row("as recorded", before, traits, None, resamples, seed)]
    names = {item.video.video_id for item in before}
    for name, outcomes in after.items():
        if {item.video.video_id for item in outcomes} != names:
            raise ValueError(f"{name}: judged on other segments than the footage as it is")
        rows.append(_row(name, outcomes, traits, before, resamples, seed))
    return rows


def _row(
    name: str,
    outcomes: Sequence[VideoOutcome],
    traits: Mapping[str, Traits] | None,
    before: Sequence[VideoOutcome] | None,
    resamples: int,
    seed: int,
) -> Row:
    whole = sliced_metrics(outcomes, traits, resamples=resamples, seed=seed)[0]
    row: Row = {"footage": name}
    row |= {
        figure: whole[figure]
        for figure in (
            "falls", "found", "sensitivity", "sensitivity_low", "sensitivity_high",
            "false_alarms", "false_alarms_per_camera_day", "f1", "delay_median_s",
        )
    }  # fmt: skip
    changes: dict[str, tuple[float | None, float | None, float | None]] = {}
    if before is not None:
        key = ("all", "all")
        found = paired(
            pieces_of(outcomes, traits)[key],
            pieces_of(before, traits)[key],
            resamples=resamples,
            seed=seed,
        )
        changes = {one.figure: (one.difference, one.low, one.high) for one in found}
    for figure, short in (
        ("sensitivity", "sensitivity_change"),
        ("false_alarms_per_camera_day", "alarms_change"),
    ):
        change = changes.get(figure, (None, None, None))
        row |= dict(zip((short, f"{short}_low", f"{short}_high"), change, strict=True))
    return row


def _thinned(
    frames: Iterator[av.VideoFrame], fps: float | None
) -> Iterator[tuple[float, av.VideoFrame]]:
    """Frames with their time in seconds from the first one, at most so many per second."""
    first_s: float | None = None
    due_s = 0.0
    for frame in frames:
        if frame.pts is None:
            continue
        first_s = frame.time if first_s is None else first_s
        at_s = frame.time - first_s
        # The slack keeps every frame of footage that has that rate already.
        if fps is not None and at_s < due_s - 0.25 / fps:
            continue
        if fps is not None:
            due_s = max(due_s + 1 / fps, at_s)
        yield at_s, frame


def _write(
    frames: Iterator[tuple[float, av.VideoFrame]],
    target: Path,
    how: Degradation,
    rate: Fraction,
    rng: np.random.Generator,
) -> None:
    with av.open(str(target), "w") as container:
        stream: av.VideoStream | None = None
        for at_s, frame in frames:
            pixels = _worse(frame, how, rng)
            if stream is None:
                stream = _stream(container, pixels.shape[1], pixels.shape[0], rate, how)
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.time_base = Fraction(1, 1000)
            picture.pts = round(at_s * 1000)
            container.mux(stream.encode(picture.reformat(format="yuv420p")))
        if stream is None:
            raise DegradeError(f"{target.name}: the film holds no picture")
        container.mux(stream.encode(None))


def _stream(
    container: av.container.OutputContainer,
    width: int,
    height: int,
    rate: Fraction,
    how: Degradation,
) -> av.VideoStream:
    options = {"preset": "veryfast", "crf": f"{_FINE_CRF:g}", "threads": "1"}
    if how.bits_per_pixel is not None:
        del options["crf"]
    stream = container.add_stream("libx264", rate=rate, options=options)
    if not isinstance(stream, av.VideoStream):
        raise TypeError("libx264 made no video stream")
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = Fraction(1, 1000)
    stream.gop_size = max(1, round(float(rate) * GROUP_S))
    if how.bits_per_pixel is not None:
        stream.bit_rate = round(width * height * float(rate) * how.bits_per_pixel)
    return stream


def _worse(frame: av.VideoFrame, how: Degradation, rng: np.random.Generator) -> Picture:
    """The upright frame, made worse: (height, width, 3), both even."""
    width, height = (
        max(16, round(side * how.scale / 2) * 2) for side in (frame.width, frame.height)
    )
    flat = frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray()
    pixels: Picture = np.array(np.rot90(flat, frame.rotation // 90 % 4), np.uint8)
    if how.light == 1.0 and not how.noise:
        return pixels
    values = pixels.astype(np.float32) * how.light
    if how.noise:
        values += rng.standard_normal(values.shape, np.float32) * (255 * how.noise)
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
