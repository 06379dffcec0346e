"""Whether the motion gate lets every real fall through.

Each fall of the real footage becomes a recording as a camera writes it: still minutes of its own
scene, the film, still minutes again. The still minutes show the film's first frame before it and
its last one after it. So that the change from one to the other is no trigger by itself, all of it
is treated alike: blocks of the film that differ from what the block showed before by no more than
its noise go on showing that (so that neither the film's own noise nor what its first coding did to
it is seen as motion), and every frame gets fresh noise, as strong as measured in the film. Chroma
is left out, which only takes bytes from people.

Recordings are encoded at the film's own size and rate, in two ways: `vbr` is constant quality with
a key frame every 2 s; `cbr` is a low constant bit rate, filled up to the byte, with a key frame
every 10 s, so that packets tell nothing and pictures are far apart (with half the still time).

Each recording is judged again cut where its film ends (`vbr cut`, `cbr cut`), so that the fall
stands at the end of the file and no later picture tells of it.

A fall is LOST where no single stretch that is let through begins 1 s before its start or earlier
and reaches 10 s past its end, or the end of the file. False openings are stretches that touch
nothing of the film.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import polars as pl
from numpy.typing import NDArray

from fall_assets.features.compressed import read_compressed
from fall_assets.features.gate import MotionGateSettings, Stretch, duty, open_stretches
from fall_assets.lake import Lake

REPOSITORY = Path(__file__).resolve().parents[1]
BEFORE_S, AFTER_S = 1.0, 10.0
FRAME_S = 0.05
BLOCK = 16
NOISES = 24
"""Noisy versions of a still picture; an encoder looks back one or two frames."""
LEAST_NOISE = 1.0
"""Levels; of the sensor of an indoor camera in good light."""

Luma = NDArray[np.uint8]


@dataclass(frozen=True)
class Coding:
    """One way to encode: seconds between key frames, bits, and which part of the still time."""

    name: str
    gop_s: float
    bits_per_pixel: float | None = None
    still: float = 1.0

    def options(self, width: int, height: int, fps: float) -> dict[str, str]:
        """For libx264; no B-frames, no key frame where the scene changes, as recorders do it."""
        options = {"preset": "ultrafast", "bf": "0", "sc_threshold": "0", "threads": "1"}
        options["g"] = str(round(self.gop_s * fps))
        if self.bits_per_pixel is None:
            return options | {"crf": "23"}
        rate = str(round(self.bits_per_pixel * width * height * fps))
        return options | {
            "b": rate,
            "minrate": rate,
            "maxrate": rate,
            "bufsize": rate,
            "x264-params": "nal-hrd=cbr",
        }


CODINGS = (Coding("vbr", 2.0), Coding("cbr", 10.0, 0.05, still=0.5))


@dataclass(frozen=True)
class Fall:
    """A labelled fall: where its film is, and its times in the film in seconds."""

    path: Path
    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Film:
    """Luma of all frames, (n, height, width), and the noise of single pixels in levels."""

    frames: Luma
    fps: float
    noise: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.frames) / self.fps


@dataclass(frozen=True)
class Outcome:
    """What the gate made of one recording; times in seconds, shares of 1."""

    fall: Fall
    coding: str
    noise: float
    before_s: float
    after_s: float
    share: float
    ideal: float
    false_s: float
    still_s: float
    left_s: float
    why: str

    @property
    def wanted_s(self) -> float:
        """How long it must stay open after the fall's end: to the end of the file at most."""
        return min(AFTER_S, self.left_s - FRAME_S)

    @property
    def is_lost(self) -> bool:
        """Whether the gate breaks its promise."""
        return self.before_s < BEFORE_S or self.after_s < self.wanted_s


def falls_of(footage: Path) -> list[Fall]:
    """All labelled falls, as the platform reads the labels."""
    from fall_assets.pipeline import collection, labelling
    from fall_assets.pipeline.work import Work
    from fall_assets.site import Site

    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder) / "lake")
        work = Work(Site(Path(folder), footage), lake, log=lambda line: print(line, flush=True))
        collection.refresh_cameras(work)
        days = collection.footage_days(work)
        for day in days:
            collection.collect(work, day)
        labelling.label(work, days)
        videos = lake.read("videos").select("video_id", "path")
        rows = (
            lake.read("labels")
            .filter(pl.col("label") == "fall")
            .join(videos, on="video_id")
            .select("path", "start_s", "end_s")
            .sort("path", "start_s")
        )
    return [Fall(footage / path, path, start, end) for path, start, end in rows.iter_rows()]


def load(path: Path) -> Film:
    """Decode a film; sides are cut to even numbers."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        fps = float(stream.average_rate or 25)
        frames = np.stack([f.to_ndarray(format="gray") for f in container.decode(stream)])
    height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2
    frames = frames[:, :height, :width]
    luma = frames.astype(np.uint8, copy=False)
    return Film(luma, fps, _noise(luma))


def _noise(frames: Luma) -> float:
    """Standard deviation in time of a pixel, in levels, where nothing moves.

    The root mean square of the change from frame to frame in each block, over the film; of the
    blocks that are neither black nor white (bars, overexposed windows) the first quartile. It is at
    least LEAST_NOISE, because the films were coded before, which takes noise away, and a recorder
    codes what the sensor gives.
    """
    squares = np.zeros(_blocks(frames[0].astype(np.float32)).shape[::2])
    for before, after in pairwise(frames):
        squares += _blocks(np.square(after.astype(np.float32) - before)).mean(axis=(1, 3))
    light = _blocks(frames[0].astype(np.float32)).mean(axis=(1, 3))
    lit = (light > 24) & (light < 232)
    changes = squares[lit] if lit.any() else squares.ravel()
    found = np.sqrt(np.quantile(changes, 0.25) / max(1, len(frames) - 1) / 2)
    return max(LEAST_NOISE, float(found))


def _blocks(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = picture.shape[0] // BLOCK * BLOCK, picture.shape[1] // BLOCK * BLOCK
    cut = picture[:height, :width]
    return cut.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK)


def settled(film: Film) -> Iterator[Luma]:
    """The film's frames with blocks held where they change by no more than noise."""
    threshold = 2.0 + 2.0 * film.noise
    held = film.frames[0].copy()
    height, width = held.shape[0] // BLOCK * BLOCK, held.shape[1] // BLOCK * BLOCK
    for frame in film.frames:
        change = np.abs(frame.astype(np.float32) - held)
        moved = _blocks(change).mean(axis=(1, 3)) > threshold
        where = moved.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)
        part = held[:height, :width]
        part[where] = frame[:height, :width][where]
        yield held.copy()


def record(film: Film, target: Path, coding: Coding, still_s: float, seed: int) -> None:
    """Encode still seconds, the film, and still seconds."""
    rng = np.random.default_rng(seed)
    height, width = film.frames.shape[1:]
    noises = rng.normal(0, film.noise, (NOISES, height, width)).astype(np.float32)
    grey = np.full((height // 2, width), 128, np.uint8)

    def noisy(picture: Luma, number: int) -> av.VideoFrame:
        luma = np.clip(np.rint(picture + noises[number]), 0, 255).astype(np.uint8)
        return av.VideoFrame.from_ndarray(np.concatenate((luma, grey)), format="yuv420p")

    def still(picture: Luma) -> Iterator[av.VideoFrame]:
        versions = [noisy(picture, number) for number in range(NOISES)]
        number = 0
        for _ in range(round(still_s * film.fps)):
            number = (number + int(rng.integers(1, NOISES))) % NOISES
            yield versions[number]

    def pictures() -> Iterator[av.VideoFrame]:
        yield from still(film.frames[0])
        picture = film.frames[0]
        for picture in settled(film):
            yield noisy(picture, int(rng.integers(NOISES)))
        yield from still(picture)

    with av.open(str(target), "w") as container:
        options = coding.options(width, height, film.fps)
        stream = container.add_stream("libx264", rate=round(film.fps), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, frame in enumerate(pictures()):
            frame.pts = number
            # Versions of the still picture come again; what the encoder made of them goes.
            frame.pict_type = 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def judge(fall: Fall, film: Film, recording: Path, coding: str, still_s: float) -> Outcome:
    """Read the recording as a worker does and compare what is let through with the label."""
    settings = MotionGateSettings()
    facts = read_compressed(recording, settings)
    stretches = open_stretches(facts, settings)
    # The recording's rate is rounded; its own times count.
    scale = round(film.fps) / film.fps
    zero_s = round(still_s * film.fps) / round(film.fps)
    start_s, end_s = zero_s + fall.start_s / scale, zero_s + fall.end_s / scale
    film_end_s = zero_s + len(film.frames) / round(film.fps)
    holding = [one for one in stretches if one.start_s <= start_s <= one.end_s]
    apart = [one for one in stretches if one.end_s < zero_s or one.start_s > film_end_s]
    one = holding[0] if holding else Stretch(start_s, start_s, "shut")
    return Outcome(
        fall=fall,
        coding=coding,
        noise=film.noise,
        before_s=start_s - one.start_s if holding else -1.0,
        after_s=one.end_s - end_s,
        share=duty(stretches, facts.duration_s),
        ideal=(min(end_s + AFTER_S, facts.duration_s) - start_s + BEFORE_S) / facts.duration_s,
        false_s=sum(one.end_s - one.start_s for one in apart),
        still_s=facts.duration_s - (film_end_s - zero_s),
        left_s=facts.duration_s - end_s,
        why="+".join(sorted({one.why for one in holding})) or "shut",
    )


def cut(recording: Path, target: Path, end_s: float) -> None:
    """The same packets up to that moment."""
    with av.open(str(recording)) as source, av.open(str(target), "w") as container:
        stream = source.streams.video[0]
        copy = container.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.pts is not None and packet.pts * packet.time_base < end_s:
                packet.stream = copy
                container.mux(packet)


@contextmanager
def recordings(keep: Path | None) -> Iterator[Path]:
    """A folder for the recordings: a passing one, or the one that is given."""
    if keep is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep


def run(
    falls: list[Fall], codings: list[Coding], still_s: float, keep: Path | None
) -> list[Outcome]:
    """Make and judge all recordings, one after the other."""
    outcomes: list[Outcome] = []
    started = time.monotonic()
    print(f"{'fall':<42}{'coding':<9}{'noise':>6}{'before':>8}{'after':>8}{'open':>7}  why")
    with recordings(keep) as folder:
        for number, fall in enumerate(falls):
            film: Film | None = None
            for coding in codings:
                stem = fall.name.replace("/", "_").replace(" ", "_")
                padding_s = still_s * coding.still
                target = folder / f"{stem}-{coding.name}-{padding_s:.0f}.mp4"
                film = film or load(fall.path)
                if not target.exists():
                    part = target.with_name(f"part-{target.name}")
                    record(film, part, coding, padding_s, seed=number)
                    part.rename(target)
                end_s = (round(padding_s * film.fps) + len(film.frames)) / round(film.fps)
                shorter = folder / "cut.mp4"
                cut(target, shorter, end_s)
                for name, path in ((coding.name, target), (f"{coding.name} cut", shorter)):
                    outcome = judge(fall, film, path, name, padding_s)
                    outcomes.append(outcome)
                    print(_line(outcome), flush=True)
                if keep is None:
                    target.unlink()
            if number % 10 == 9:
                spent = time.monotonic() - started
                left = spent / (number + 1) * (len(falls) - number - 1)
                print(f"-- {number + 1} of {len(falls)} falls, {left:.0f} s left", flush=True)
    return outcomes


def _line(outcome: Outcome) -> str:
    return (
        f"{outcome.fall.name:<42}{outcome.coding:<9}{outcome.noise:>6.2f}"
        f"{outcome.before_s:>7.1f}s{outcome.after_s:>7.1f}s{outcome.share:>7.1%}  {outcome.why}"
        + ("  LOST" if outcome.is_lost else "")
    )


def report(outcomes: list[Outcome]) -> int:
    """Print the worst cases and the sums; returns how many falls are lost."""
    print("\nmargins (opened before the start, open after the end), seconds")
    for coding in dict.fromkeys(outcome.coding for outcome in outcomes):
        of = [outcome for outcome in outcomes if outcome.coding == coding]
        before = np.array([outcome.before_s for outcome in of])
        after = np.array([outcome.after_s for outcome in of])
        share = np.array([outcome.share for outcome in of])
        false = sum(outcome.false_s for outcome in of) / sum(outcome.still_s for outcome in of)
        print(
            f"  {coding}: {len(of)} falls, before {before.min():.1f} / {np.median(before):.1f} / "
            f"{before.max():.1f} (least / median / most), after {after.min():.1f} / "
            f"{np.median(after):.1f} / {after.max():.1f}; open {share.mean():.1%} of the time "
            f"(the promise alone: {np.mean([outcome.ideal for outcome in of]):.1%}); false "
            f"openings {false:.2%} of the still time"
        )
    print("worst cases:")
    by_margin = sorted(outcomes, key=lambda o: min(o.before_s - BEFORE_S, o.after_s - o.wanted_s))
    for outcome in by_margin[:5]:
        print("  " + _line(outcome))
    return sum(outcome.is_lost for outcome in outcomes)


def draw(path: Path, outcomes: list[Outcome]) -> None:
    """Each fall as a bar: what is let through, around the fall itself."""
    from matplotlib.figure import Figure

    codings = [coding.name for coding in CODINGS if any(o.coding == coding.name for o in outcomes)]
    figure = Figure(figsize=(4.2 * len(codings), 5.2), dpi=80, layout="constrained")
    for number, coding in enumerate(codings):
        axes = figure.add_subplot(1, len(codings), number + 1)
        of = sorted((o for o in outcomes if o.coding == coding), key=lambda o: -o.before_s)
        for row, outcome in enumerate(of):
            length = outcome.fall.end_s - outcome.fall.start_s
            axes.plot([-outcome.before_s, length + outcome.after_s], [row, row], color="#9dbfdc")
            axes.plot([0, length], [row, row], color="#c0392b")
        axes.axvline(-BEFORE_S, color="black", lw=0.8, ls=":")
        axes.axvline(AFTER_S + 1, color="black", lw=0.8, ls=":")
        axes.set(
            xlabel="seconds from the fall's start", yticks=[], title=f"{coding}, {len(of)} falls"
        )
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
    figure.savefig(path)


def main() -> int:
    """Judge the gate on all falls; 1 where one is lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--footage", type=Path, default=REPOSITORY.parent / "shared" / "footage")
    parser.add_argument("--falls", type=int, help="only so many, spread over all of them")
    parser.add_argument("--still-s", type=float, default=120.0, help="before, and after, the film")
    parser.add_argument("--codings", default="vbr,cbr", help="of vbr and cbr")
    parser.add_argument("--keep", type=Path, help="keep recordings there and use them again")
    parser.add_argument("--plot", type=Path, help="draw what is let through there, as PNG")
    options = parser.parse_args()
    if not (options.footage / "urfd").is_dir():
        print(f"skipped: no real footage at {options.footage}; give its folder with --footage")
        return 0
    falls = falls_of(options.footage)
    if options.falls and options.falls < len(falls):
        chosen = np.linspace(0, len(falls) - 1, options.falls).round().astype(int)
        falls = [falls[number] for number in chosen]
    codings = [coding for coding in CODINGS if coding.name in options.codings.split(",")]
    outcomes = run(falls, codings, options.still_s, options.keep)
    lost = report(outcomes)
    if options.plot:
        draw(options.plot, outcomes)
    print(f"\ngate_falls: {lost} of {len(outcomes)} lost (goal 0)")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
