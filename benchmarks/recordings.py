"""Recordings for the benchmarks of features: a simulated room as a 720p camera records it.

What belongs here: making files. What does not: measuring. The same seed gives the same pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import numpy as np

from fall_assets.simulation.body import Body
from fall_assets.simulation.camera import place
from fall_assets.simulation.hospital import encode
from fall_assets.simulation.motions import Performance, Performer
from fall_assets.simulation.render import Clothes, Exposure, Picture, Scene, Sensor
from fall_assets.simulation.room import Room

FPS = 25
WIDTH, HEIGHT = 1280, 720
CODING = {"preset": "veryfast", "crf": "20"}
"""About 3 Mbit/s where somebody moves, as cameras of this size write."""
GOP_S = 2
"""Of `encode`, as recorders do it."""
QUIET_MINUTE_S = 60
EMPTIES = 2

Act = Literal["visit", "busy", "fall"]


@dataclass
class Studio:
    """One room and its camera, with noise as a real sensor has it."""

    seed: int = 5

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._room = Room(5.4, 5.6, 2.9, True, 0.35)
        camera = place("corner", self._room, WIDTH, HEIGHT, self._rng)
        self._scene = Scene(self._room, camera, self.seed)
        self._sensor = Exposure(Sensor(0.92, 2.2, 0.0), WIDTH, HEIGHT, self._rng)

    def empty(self, seconds: float) -> Iterator[Picture]:
        """The room with nobody in it; only the noise changes."""
        still = self._scene.frame([])
        for _ in range(round(seconds * FPS)):
            yield self._sensor(still)

    def film(self, act: Act, seconds: float) -> Iterator[Picture]:
        """Somebody in the room, for all of the time ('busy') or coming and going ('visit')."""
        played = self._play(act, seconds)
        clothes = Clothes.draw(self._rng)
        joints = played.joints(np.arange(round(seconds * FPS)) / FPS)
        for moment in joints:
            yield self._sensor(self._scene.frame([(played.body, clothes, moment)]))

    def _play(self, act: Act, seconds: float) -> Performance:
        player = Performer(
            Body(height_m=1.7),
            self._room,
            self._rng,
            start="stand" if act == "busy" else "corridor",
        )
        if act != "busy":
            player.come_in()
        leaves_s = seconds - (0.0 if act == "busy" else 7.0)
        while player.time_s < leaves_s:
            player.walk_to(*self._room.spot(self._rng))
            if self._rng.random() < 0.3:
                player.pick_up()
        if act == "fall":
            player.fall("forwards")
        elif act == "visit":
            player.go_out()
        return player.performance(seconds)


def busy_segments(folder: Path, count: int, seconds: float) -> list[Path]:
    """Segments in which somebody moves all the time."""
    studio = Studio()
    paths = [folder / f"busy-{number}.mp4" for number in range(count)]
    for path in paths:
        _encode(path, studio.film("busy", seconds))
    return paths


def quiet_hour(folder: Path, visits_s: Sequence[int], *, minutes: int = 60) -> Path:
    """A recording of so many minutes of an empty room, in which each visit takes so long.

    The empty minutes are a few, each encoded once and used again and again, as are visits of the
    same length: what a decoder does for them is the same. Visits lie evenly in the hour.
    """
    target = folder / f"quiet-{minutes}-{'-'.join(map(str, visits_s))}.mp4"
    if target.exists():
        return target
    studio = Studio()
    empties = [folder / f"empty-{number}.mp4" for number in range(EMPTIES)]
    for path in empties:
        _encode(path, studio.empty(QUIET_MINUTE_S))
    for seconds in sorted(set(visits_s)):
        _encode(_visit(folder, seconds), studio.film("visit", seconds))
    still = minutes - round(sum(visits_s) / QUIET_MINUTE_S)
    each, rest = divmod(still, len(visits_s) + 1)
    parts: list[Path] = []
    rng = np.random.default_rng(0)
    for number in range(len(visits_s) + 1):
        parts += [empties[rng.integers(EMPTIES)] for _ in range(each + (number < rest))]
        parts += [_visit(folder, seconds) for seconds in visits_s[number : number + 1]]
    join(target, parts)
    return target


def _visit(folder: Path, seconds: int) -> Path:
    return folder / f"visit-{seconds}.mp4"


def _encode(path: Path, pictures: Iterator[Picture]) -> None:
    if not path.exists():
        print(f"making {path.name}", flush=True)
        encode(path, pictures, FPS, **CODING)


def join(target: Path, parts: Iterable[Path]) -> None:
    """Put recordings of one encoder after each other, without encoding them again."""
    part = target.with_suffix(".part")
    with av.open(str(part), "w", format="mp4") as out:
        stream = None
        zero = 0
        for path in parts:
            with av.open(str(path)) as source:
                video = source.streams.video[0]
                if stream is None:
                    stream = out.add_stream_from_template(video)
                end = 0
                for packet in source.demux(video):
                    if packet.dts is None or packet.pts is None or not packet.duration:
                        continue
                    end = max(end, packet.pts + packet.duration)
                    packet.pts += zero
                    packet.dts += zero
                    packet.stream = stream
                    out.mux(packet)
                zero += end
    part.rename(target)
