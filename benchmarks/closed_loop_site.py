"""The world of `closed_loop`: a hospital of drawn people, its recorders, labellers and nurses.

What belongs here: what is there without the platform (rooms, cameras, people, what changes and
when), the files that it leaves, what people do who are asked, time, and the stand-in for the pose
network. What does not: the platform's sensors, schedules and runs (`closed_loop_daily`), what must
come of it (`closed_loop`).

What is drawn and what is real. The recorders write real videos, tiny ones that show a room's
background; nobody is painted into them. The pose network is replaced: of a frame it "finds" the key
points that simulated motion gives at that moment, seen by that camera with the errors that were
measured of MoveNet (`simulation.drawn`). All else is the platform's own: decoding, picture figures,
tracking, windows, labels, clips, training, evaluation, gate, registry, predictions, alerts, drift,
answers, rollout. Time is compressed: the platform reads the clock of this world.
"""

from __future__ import annotations

import csv
import functools
import io
import shutil
import struct
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from deltalake import Transaction
from numpy.typing import NDArray

from fall_assets.features.extract import Team, extract
from fall_assets.features.extractors.pose import PoseExtractor
from fall_assets.features.people import People
from fall_assets.features.segments import SegmentResult, VideoRef
from fall_assets.features.settings import FeatureSettings
from fall_assets.lake import lake
from fall_assets.learning.dataset import VideoTruth
from fall_assets.learning.detector import Detector
from fall_assets.learning.events import Fall
from fall_assets.learning.metrics import Interval, ScoredVideo
from fall_assets.learning.windows import SegmentTracks, Track
from fall_assets.pipeline.feedback import answer_alert, report_fall
from fall_assets.pipeline.work import Work
from fall_assets.simulation.camera import Camera, place
from fall_assets.simulation.drawn import FALLS, LIFE, DrawnFilm, Hung, draw_film
from fall_assets.simulation.poses import PoseNoise
from fall_assets.simulation.room import Room

RATE_HZ: Final = 10.0
FILM_S: Final = 15.0
WIDTH, HEIGHT = 96, 72
"""Of the recorded pictures, px."""
_DRAWN_WIDTH, _DRAWN_HEIGHT = 640, 480
_BACKGROUNDS: Final = 6
"""So many different films of each camera's empty room are recorded again and again."""
REPORTED_SHARE: Final = 0.75
"""Of the falls that no alert told of: Hill et al. 2010 (see `pipeline/feedback.py`)."""

_USUAL: Final = PoseNoise(jitter_spread=0.5)
"""Films of one camera differ less than those of many do."""
_INFRARED: Final = PoseNoise(
    jitter=0.012, jitter_spread=0.5, bias_upright=0.025, bias_lying=0.06, lost=0.04, swapped=0.06
)
"""What stuck night mode does to key points: twice to three times the usual errors.

In 4 of 100 films of a fall nobody is then found well enough to be followed at all.
"""
_NEW_CAMERAS: Final = ("ceiling", "steep")
_HEADS: Final = ("file", "start_s", "end_s", "label", "source", "zone", "event", "subject")


class Clock:
    """The world's time. Each look is a millisecond later, so that what happens has an order."""

    def __init__(self, moment: datetime) -> None:
        self._moment = moment

    def set(self, moment: datetime) -> None:
        """It is that time now, unless it is later already."""
        self._moment = max(moment, self._moment)

    def now(self, zone: Any = None) -> datetime:
        """The time, as `datetime.now` tells it."""
        self._moment += timedelta(milliseconds=1)
        return self._moment.astimezone(zone or UTC)

    def rule(self) -> None:
        """Let the platform read this clock: at `datetime.now` and in the lake's claims."""
        clock = self

        class Simulated(datetime):
            """`datetime` with another `now`; whatever it makes is a plain one."""

            def __new__(cls, *args: Any, **named: Any) -> datetime:  # type: ignore[misc]
                return datetime(*args, **named)

            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
                return clock.now(tz)

        for name, module in list(sys.modules.items()):
            ours = name.startswith("fall_assets.")
            if ours and getattr(module, "datetime", None) is datetime:
                vars(module)["datetime"] = Simulated
        # What is written is compared with what was decided: both by this clock. The lake's engine
        # forgets old claims by its own.
        vars(lake)["_claimed"] = lambda name: Transaction(
            name, int(clock.now().timestamp() * 1000), int(time.time() * 1000)
        )


@dataclass(frozen=True)
class Drift:
    """Something that changes for good.

    `name` is one of 'children', 'wheelchairs' (who lives in the ward), 'infrared' (night mode stays
    on), 'ceiling' and 'steep' (new cameras hang in the middle of the ceiling and look straight
    down, or beside it and look down steeply); `cause` is what the drift report should call it.
    """

    name: str
    cause: str
    cameras: tuple[str, ...]
    first_day: date


@dataclass(frozen=True)
class Film:
    """One film of the world: where it is recorded, what happens in it."""

    path: str
    camera_id: str
    start_utc: datetime
    seed: tuple[int, ...]
    programme: str
    hung: Hung
    falls: bool

    @functools.cached_property
    def drawn(self) -> DrawnFilm:
        """What a pose network would find in it."""
        rng = np.random.default_rng(self.seed)
        return draw_film(self.hung, self.programme, rng, duration_s=FILM_S, rate_hz=RATE_HZ)

    @property
    def event(self) -> str:
        """The name of its fall."""
        return f"{self.camera_id} {self.start_utc:%Y-%m-%d %H:%M:%S}"


class World:
    """Cameras in rooms, what they see on each day, and the truth of it."""

    def __init__(
        self,
        landing: Path,
        drifts: Sequence[Drift],
        *,
        cameras: int = 6,
        films: int = 8,
        fall_share: float = 0.35,
        seed: int = 1,
    ) -> None:
        self.landing, self.drifts, self.seed = landing, tuple(drifts), seed
        self.films_a_day, self.fall_share = films, fall_share
        self.cameras = tuple(f"cam-{number + 1}" for number in range(cameras))
        self.wards = {name: "ab"[2 * n // cameras] for n, name in enumerate(self.cameras)}
        self._films: dict[str, Film] = {}
        self._backgrounds: dict[tuple[str, str, bool, int], bytes] = {}
        self._labelled: set[str] = set()
        self._pool: ProcessPoolExecutor | None = None

    # What is there.

    def hung(self, camera_id: str, day: date) -> Hung:
        """The camera and whom it sees on that day."""
        number = self.cameras.index(camera_id)
        rng = np.random.default_rng((self.seed, number))
        room = Room(
            width_m=float(rng.uniform(4.8, 6.2)),
            depth_m=float(rng.uniform(5.2, 6.2)),
            height_m=3.0,
            bed_left=bool(rng.random() < 0.5),
        )
        view = ("level", "corner")[number % 2]
        hung = Hung(
            room,
            place(view, room, _DRAWN_WIDTH, _DRAWN_HEIGHT, rng),  # type: ignore[arg-type]
            noise=_USUAL,
        )
        for drift in self._seen(camera_id, day):
            if drift.name == "children":
                hung = replace(hung, people="children")
            elif drift.name == "wheelchairs":
                hung = replace(hung, people="wheelchairs")
            elif drift.name == "infrared":
                hung = replace(hung, noise=_INFRARED)
            elif drift.name in _NEW_CAMERAS:
                # New cameras: what was wrong with the old ones is gone with them.
                again = np.random.default_rng((self.seed, number, 1))
                camera = (
                    place("ceiling", room, _DRAWN_WIDTH, _DRAWN_HEIGHT, again)
                    if drift.name == "ceiling"
                    else _steep(room, again)
                )
                hung = replace(hung, camera=camera, noise=_USUAL)
            else:
                raise ValueError(f"no drift {drift.name!r} is known here")
        return hung

    def state(self, camera_id: str, day: date) -> int:
        """Number of the camera's state: equal where nothing that it sees differs."""
        return sum(1 << self.drifts.index(one) for one in self._seen(camera_id, day))

    def _seen(self, camera_id: str, day: date) -> list[Drift]:
        return [one for one in self.drifts if one.first_day <= day and camera_id in one.cameras]

    def films(self, day: date) -> list[Film]:
        """What is recorded on a day."""
        found = []
        step = timedelta(days=1) / self.films_a_day
        for number, camera_id in enumerate(self.cameras):
            seed = (self.seed, day.toordinal(), number)
            rng = np.random.default_rng(seed)
            hung = self.hung(camera_id, day)
            names = self._played(hung, day, rng)
            for place_of, programme in enumerate(names):
                at = datetime.combine(day, datetime.min.time(), UTC) + step * (
                    place_of + 0.8 * rng.random()
                )
                at = at.replace(microsecond=0)
                falls = programme in FALLS[hung.people]
                path = f"{camera_id}/{day}/{at:%H-%M-%S}.mp4"
                found.append(Film(path, camera_id, at, (*seed, place_of), programme, hung, falls))
        return found

    def _played(self, hung: Hung, day: date, rng: np.random.Generator) -> list[str]:
        """What happens in a camera's films of a day, in any order: much the same on all days."""
        count = round(self.films_a_day * self.fall_share)
        names = []
        for kinds, some in ((FALLS, count), (LIFE, self.films_a_day - count)):
            own = kinds[hung.people]
            names += [own[(day.toordinal() * some + n) % len(own)] for n in range(some)]
        return [str(name) for name in rng.permutation(np.array(names))]

    def held_out(self, camera_id: str, day: date, falls: int, life: int) -> list[Film]:
        """Films of the same world in that day's state, which no recorder writes."""
        hung, state = self.hung(camera_id, day), self.state(camera_id, day)
        number = self.cameras.index(camera_id)
        names = [FALLS[hung.people][n % len(FALLS[hung.people])] for n in range(falls)]
        names += [LIFE[hung.people][n % len(LIFE[hung.people])] for n in range(life)]
        return [
            Film(
                f"{camera_id}-{state}-{place_of}", camera_id, datetime(2020, 1, 1, tzinfo=UTC),
                (self.seed, 0, number, state, place_of), name, hung, place_of < falls,
            )
            for place_of, name in enumerate(names)
        ]  # fmt: skip

    # What the recorders do.

    def install(self) -> None:
        """The list of cameras."""
        rows = [
            (name, f"ward-{self.wards[name]}", f"room-{name}", ("level", "corner")[number % 2], "")
            for number, name in enumerate(self.cameras)
        ]
        heads = ("camera_id", "ward", "room", "view", "crop")
        _write(self.landing / "cameras.csv", _csv(heads, rows))

    def record(self, day: date) -> list[Film]:
        """The day's films and telemetry are written."""
        films = self.films(day)
        telemetry = []
        for number, film in enumerate(films):
            self._films[film.path] = film
            content = self._video(film, number % _BACKGROUNDS)
            # An empty box at the end makes every film a file of its own.
            name = film.path.encode()
            _write(
                self.landing / film.path,
                content + struct.pack(">I4s", 8 + len(name), b"free") + name,
            )
            for after_s in (0.0, FILM_S):
                at = film.start_utc + timedelta(seconds=after_s)
                telemetry.append((film.camera_id, at.isoformat(), 15.0, 40.0, 900.0, "mains"))
        heads = (
            "camera_id", "at_utc", "cpu_percent", "memory_percent", "bandwidth_kbps", "power",
        )  # fmt: skip
        _write(self.landing / "telemetry" / f"{day}.csv", _csv(heads, telemetry))
        return films

    def _video(self, film: Film, variant: int) -> bytes:
        names = [one.name for one in self._seen(film.camera_id, film.start_utc.date())]
        hangs = next((name for name in reversed(names) if name in _NEW_CAMERAS), "")
        grey = "infrared" in names and not hangs
        key = (film.camera_id, hangs, grey, variant)
        if key not in self._backgrounds:
            room = zlib.crc32(f"{film.camera_id} {hangs} {self.seed}".encode())
            self._backgrounds[key] = _background(room, variant, grey=grey)
        return self._backgrounds[key]

    # What people do who are asked.

    def review(self, work: Work, day: date, most: int) -> int:
        """Reviewers take the first films of the queue and say all that happens in them."""
        queue = work.lake.read("review_queue").sort("rank")
        ids = queue["video_id"].unique(maintain_order=True).to_list()
        videos = work.lake.read("videos", where=pl.col("video_id").is_in(ids))
        paths = dict(videos.select("video_id", "path").iter_rows())
        told = [self._films[paths[one]] for one in ids if paths.get(one) not in self._labelled][
            :most
        ]
        return self._say(told, day)

    def label_all(self, day: date) -> int:
        """Everything of a day is labelled: how a site begins."""
        return self._say([one for one in self._films.values() if one.start_utc.date() == day], day)

    def _say(self, films: Sequence[Film], day: date) -> int:
        rows = []
        for film in films:
            self._labelled.add(film.path)
            for one in film.drawn.labels:
                fall = one.label in ("fall", "lying_after_fall")
                rows.append((
                    film.path, f"{one.start_s:.2f}", f"{one.end_s:.2f}", one.label, "reviewer",
                    one.zone or "", film.event if fall else "", "",
                ))  # fmt: skip
        if rows:
            _write(self.landing / "labels" / f"{day}.csv", _csv(_HEADS, rows))
        return len(films)

    def answer(self, work: Work, day: date, now: datetime) -> int:
        """Nurses say what they found when they came to the day's alerts."""
        videos = dict(work.lake.read("videos", days=[day]).select("video_id", "path").iter_rows())
        known = set(work.lake.read("alert_feedback", columns=["alert_id"])["alert_id"])
        count = 0
        for alert in work.lake.read("alerts", days=[day]).sort("raised_utc").iter_rows(named=True):
            if alert["alert_id"] in known:
                continue
            film = self._films[videos[alert["video_id"]]]
            verdict = "fall" if film.falls else "no_fall"
            answer_alert(work, alert["alert_id"], verdict, by="a nurse", now=now)  # type: ignore[arg-type]
            count += 1
        return count

    def report(self, work: Work, day: date, now: datetime) -> int:
        """Nurses report falls of a day that no alert told of, as many as hospitals do."""
        videos = work.lake.read("videos", days=[day]).sort("start_utc", "camera_id")
        alerted = set(work.lake.read("alerts", days=[day], columns=["video_id"])["video_id"])
        count = 0
        for video_id, path, camera_id, start in videos.select(
            "video_id", "path", "camera_id", "start_utc"
        ).iter_rows():
            film = self._films[path]
            chance = zlib.crc32(f"{film.path} {self.seed} reported".encode()) / 2**32
            if not film.falls or video_id in alerted or chance >= REPORTED_SHARE:
                continue
            found = start + timedelta(seconds=FILM_S)
            report_fall(work, camera_id, found, by="a nurse", within_min=10, now=now)
            count += 1
        return count

    # What stands in for the pose network.

    def extract_all(
        self, videos: Iterable[VideoRef], sets: Sequence[FeatureSettings], **_: object
    ) -> Iterator[SegmentResult]:
        """In the place of `features.pool.extract_all`: the same pass with the drawn network."""
        films = self._films
        jobs = [
            (video, tuple(sets), films[video.path.relative_to(self.landing).as_posix()])
            for video in videos
        ]
        yield from self._processes.map(_extracted, jobs, chunksize=6)

    def held_all(self, films: Sequence[Film], settings: FeatureSettings) -> list[Held]:
        """Held-out films as a detector sees them."""
        return list(
            self._processes.map(functools.partial(held, settings=settings), films, chunksize=20)
        )

    @property
    def _processes(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
        return self._pool

    def close(self) -> None:
        """End the processes that extract."""
        if self._pool is not None:
            self._pool.shutdown()


def _steep(room: Room, rng: np.random.Generator) -> Camera:
    """A wide camera under the ceiling, a step from the middle, that looks down at it."""
    jitter = rng.uniform(-1.0, 1.0, 5)
    middle = (room.width_m / 2, room.depth_m * 0.60)
    return Camera(
        (middle[0] + 0.3 * jitter[0], middle[1] - 1.2 + 0.1 * jitter[1], room.height_m - 0.1),
        (middle[0] + 0.2 * jitter[2], middle[1] + 0.2, 0.3),
        85.0 + 3.0 * jitter[3], _DRAWN_WIDTH, _DRAWN_HEIGHT, 2.0 * jitter[4],
    )  # fmt: skip


def _extracted(job: tuple[VideoRef, tuple[FeatureSettings, ...], Film]) -> SegmentResult:
    """One film's pass, in a process of its own."""
    video, sets, film = job
    network = DrawnNetwork()
    network.show(film.drawn)
    team = Team([(one, PoseExtractor(one, network)) for one in sets])  # type: ignore[arg-type]
    return SegmentResult(video, frames=extract(video, team))


class DrawnNetwork:
    """In the place of `MoveNet`: finds what was drawn, picture after picture of a film."""

    def __init__(self) -> None:
        self._keypoints: NDArray[np.float32] = np.zeros((0, 17, 3), np.float32)
        self._next = 0

    def show(self, film: DrawnFilm) -> None:
        """The next pictures are of that film, one for each sample."""
        self._keypoints, self._next = film.keypoints, 0

    def people(self, picture: NDArray[np.uint8]) -> People:
        """Who is seen in the next picture."""
        number = min(self._next, len(self._keypoints) - 1)
        self._next += 1
        points = self._keypoints[number]
        if not points[:, 2].any():
            return People.nobody()
        (x0, y0), (x1, y1) = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        score = float(points[:, 2].mean())
        return People(points[None], np.array([[x0, y0, x1, y1, score]], np.float32))


# Held-out films -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """A held-out film as a detector sees it, with its truth."""

    tracks: SegmentTracks
    truth: VideoTruth

    def scored(self, detector: Detector) -> ScoredVideo:
        """What the detector makes of it."""
        found = detector.scores(self.tracks)
        return self.truth.scored(found.end_s.tolist(), found.score.tolist())


def held(film: Film, settings: FeatureSettings) -> Held:
    """A film after the same tracker that footage goes through."""
    network = DrawnNetwork()
    network.show(film.drawn)
    follower = PoseExtractor(settings, network)  # type: ignore[arg-type]
    follower.begin(film.drawn.aspect)
    for sample in range(len(film.drawn.keypoints)):
        follower.look(np.zeros((2, 2, 3), np.uint8), range(sample, sample + 1))
    tracks = tuple(
        Track(number, one.first, one.keypoints) for number, one in enumerate(follower.end())
    )
    labels = film.drawn.labels
    fall = next((one for one in labels if one.label == "fall"), None)
    until_s = max((one.end_s for one in labels if one.label == "lying_after_fall"), default=0.0)
    falls = (Fall(film.event, fall.start_s, fall.end_s, max(fall.end_s, until_s)),) if fall else ()
    truth = VideoTruth(
        film.path, film.camera_id, "site", film.camera_id, FILM_S, 0, falls,
        tuple(Interval(one.start_s, one.end_s, one.label) for one in labels),
    )  # fmt: skip
    return Held(SegmentTracks(film.path, FILM_S, RATE_HZ, film.drawn.aspect, tracks), truth)


# Files --------------------------------------------------------------------------------------------


def _background(seed: int, variant: int, *, grey: bool) -> bytes:
    """A tiny film of an empty room, as MP4: coarse patches that stand still, and grain.

    In infrared light it is grey and flat, with more grain.
    """
    import av

    rng = np.random.default_rng(seed)
    coarse = rng.uniform(60, 190, (6, 8, 1)) + rng.uniform(-25, 25, (6, 8, 3))
    room = np.kron(coarse, np.ones((HEIGHT // 6, WIDTH // 8, 1)))
    grain = np.random.default_rng((seed, variant))
    room = room * grain.uniform(0.96, 1.04)
    if grey:
        room = 90 + 0.55 * (room.mean(axis=-1, keepdims=True) - room.mean()) + np.zeros(3)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=round(RATE_HZ))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "30", "g": "50"}
        for _ in range(round(FILM_S * RATE_HZ)):
            noise = (
                grain.normal(0, 5.0, (*room.shape[:2], 1))
                if grey
                else grain.normal(0, 2.0, room.shape)
            )
            picture = np.clip(room + noise, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _csv(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return text.getvalue().encode()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def forget(root: Path) -> None:
    """Remove a site's folder."""
    shutil.rmtree(root, ignore_errors=True)
