"""A simulated hospital on disk: what its recorders, labellers and boxes would have left.

What belongs here: which camera films whom, when, and the files that come of it. What does not:
motion (`motions.py`) and pictures (`render.py`). The command is `python -m fall_assets.simulation`.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from fall_assets.errors import PassingFailureError, PermanentFailureError
from fall_assets.simulation.body import INDEX, Body
from fall_assets.simulation.camera import Camera, View, place
from fall_assets.simulation.motions import FALLS, ORDINARY, VISIT, Performance, perform
from fall_assets.simulation.room import Room
from fall_assets.simulation.zones import seen_zones

if TYPE_CHECKING:
    from fall_assets.simulation.render import Clothes, Picture, Scene, Sensor

MANIFEST: Final = ".simulation.json"
EMPTY: Final = "empty"
LABEL_COLUMNS: Final = (
    "file", "start_s", "end_s", "label", "source", "note", "zone", "event", "subject",
)  # fmt: skip
_FORMAT: Final = 1
_LAYOUTS: Final = {
    "default": "{camera}/{at:%Y-%m-%d}/{at:%H-%M-%S}.mp4",
    "frigate": "recordings/{at:%Y-%m-%d}/{at:%H}/{camera}/{at:%M}.{at:%S}.mp4",
}
_VIEWS: Final[tuple[View, ...]] = ("level", "ceiling", "corner", "level", "corner")
_BAD_KINDS: Final = ("empty", "truncated", "text")

# Streams of randomness, so that a change in one leaves the others as they were.
_ROOMS, _PLAN, _SCENES, _PICTURES, _TELEMETRY, _PEOPLE = range(6)


class LandingInUseError(PermanentFailureError):
    """The landing folder holds something else than this simulated hospital."""


@dataclass(frozen=True)
class HospitalSpec:
    """What to simulate. The same values give the same hospital.

    `segments_per_day` is per camera; two cameras of one room record at the same times. On the last
    of several days `changed_cameras` cameras record at `changed_width` x `changed_height`, darker
    and noisier: the drift. `bad_files` unusable files are spread over the days. `fall_share` of
    the scenes hold a fall, `visit_share` of the others a visit by staff.
    """

    seed: int = 7
    first_day: date = date(2026, 3, 1)
    days: int = 3
    cameras: int = 5
    segments_per_day: int = 4
    segment_s: float = 20.0
    fps: int = 10
    width: int = 640
    height: int = 360
    changed_cameras: int = 2
    changed_width: int = 1280
    changed_height: int = 720
    bad_files: int = 3
    fall_share: float = 0.45
    visit_share: float = 0.25
    layout: Literal["default", "frigate"] = "default"

    def __post_init__(self) -> None:
        problems = [
            (self.days < 1, "days must be at least 1"),
            (self.cameras < 1, "cameras must be at least 1"),
            (self.segments_per_day < 0, "segments_per_day may not be negative"),
            (self.segment_s < 2, "segment_s must be at least 2 s"),
            (not 1 <= self.fps <= 60, "fps must be 1 to 60"),
            (self.layout not in _LAYOUTS, f"layout must be one of {', '.join(_LAYOUTS)}"),
            (not 0 <= self.fall_share <= 1, "fall_share must be 0 to 1"),
            (not 0 <= self.visit_share <= 1, "visit_share must be 0 to 1"),
            (not 0 <= self.changed_cameras <= self.cameras,
             "changed_cameras must be 0 to cameras"),
            (self.bad_files < 0, "bad_files may not be negative"),
            (self.segments_per_day * (self.segment_s + 60) > 22 * 3600,
             "that many segments of that length do not fit into a day"),
            (any(side < 64 or side % 2 for side in
                 (self.width, self.height, self.changed_width, self.changed_height)),
             "width and height must be even and at least 64"),
        ]  # fmt: skip
        for wrong, message in problems:
            if wrong:
                raise ValueError(f"HospitalSpec: {message}")

    def as_json(self) -> dict[str, object]:
        """The fields as JSON values."""
        return asdict(self) | {"first_day": self.first_day.isoformat()}


@dataclass(frozen=True)
class HospitalSummary:
    """What lies in the landing folder after `generate`; `made` of the segments are new."""

    segments: int
    made: int
    fall_segments: int
    falls: int
    labels: int
    bad_files: int
    footage_s: float


@dataclass(frozen=True)
class Happening:
    """One happening in one room, filmed by all of its cameras."""

    room: int
    day: date
    slot: int
    start: datetime
    programme: str
    visit: bool

    @property
    def event(self) -> str:
        """Name of its fall, the same for all cameras of the room."""
        return f"fall-{self.start:%Y%m%d-%H%M%S}-room-{self.room + 1:02d}"


@dataclass(frozen=True)
class _Segment:
    """One file to make: a scene as one camera records it."""

    camera: int
    scene: Happening
    path: str
    changed: bool


def generate(
    spec: HospitalSpec,
    landing: Path,
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> HospitalSummary:
    """Write the hospital's footage, labels, cameras and telemetry below `landing`.

    Segments that are there already are kept, so a run that was cut off goes on where it stopped.
    `progress` gets segments done and segments in all. Files appear under their name only when they
    are complete. Raises LandingInUseError where `landing` holds anything else, PassingFailureError
    where a worker process died.
    """
    landing = Path(landing)
    _claim(spec, landing)
    scenes = plan(spec)
    segments = [segment for scene in scenes for segment in _segments(spec, scene)]
    _write(landing / "cameras.csv", _cameras_csv(spec))
    _write(landing / "zones.csv", _zones_csv(spec))
    labels = 0
    fall_files: set[str] = set()
    for day in _days(spec):
        today = [segment for segment in segments if segment.scene.day == day]
        told = {scene: _told(spec, scene) for scene in scenes if scene.day == day}
        rows = [(one.path, *row) for one in today for row in told[one.scene]]
        labels += len(rows)
        fall_files |= {row[0] for row in rows if row[3] == "fall"}
        _write(landing / "labels" / f"{day}.csv", _csv(LABEL_COLUMNS, rows))
        _write(landing / "telemetry" / f"{day}.csv", _telemetry_csv(spec, today, day))
    for number in range(spec.bad_files):
        _write_bad(spec, landing, number)

    missing = [one for one in segments if not (landing / one.path).is_file()]
    missing.sort(key=lambda one: (one.camera, one.changed, one.path))
    done = len(segments) - len(missing)
    if progress:
        progress(done, len(segments))
    for _ in _render_all(spec, landing, missing, workers):
        done += 1
        if progress:
            progress(done, len(segments))
    return HospitalSummary(
        segments=len(segments),
        made=len(missing),
        fall_segments=len(fall_files),
        falls=sum(scene.programme in FALLS for scene in scenes),
        labels=labels,
        bad_files=spec.bad_files,
        footage_s=len(segments) * spec.segment_s,
    )


# The plan: who, where, when.


def _days(spec: HospitalSpec) -> list[date]:
    return [spec.first_day + timedelta(days=number) for number in range(spec.days)]


def camera_id(camera: int) -> str:
    """Name of camera number `camera`, from 0."""
    return f"cam-{camera + 1:02d}"


def _rooms(spec: HospitalSpec) -> list[int]:
    """The room of each camera: the second of every five shares its neighbour's."""
    rooms: list[int] = []
    for camera in range(spec.cameras):
        shares = camera % len(_VIEWS) == 1
        rooms.append(rooms[-1] if shares else (rooms[-1] + 1 if rooms else 0))
    return rooms


def _changed(spec: HospitalSpec, camera: int, day: date) -> bool:
    if spec.days < 2 or day != _days(spec)[-1]:
        return False
    last = spec.cameras - 1 if spec.cameras > spec.changed_cameras else spec.cameras
    return last - spec.changed_cameras <= camera < last


def plan(spec: HospitalSpec) -> list[Happening]:
    """All scenes: falls spread evenly over days and kinds, starts at distinct whole seconds."""
    rng = np.random.default_rng([spec.seed, _PLAN])
    rooms = sorted(set(_rooms(spec)))
    kinds = _cycle(FALLS, rng)
    ordinary = _cycle((*ORDINARY, EMPTY), rng)
    scenes: list[Happening] = []
    owed = 0.0
    for day in _days(spec):
        slots = [(room, slot) for room in rooms for slot in range(spec.segments_per_day)]
        owed += spec.fall_share * len(slots)
        falls = round(owed)
        owed -= falls
        falling = set(rng.permutation(len(slots))[:falls].tolist())
        for number, (room, slot) in enumerate(slots):
            programme = next(kinds if number in falling else ordinary)
            visited = bool(rng.random() < spec.visit_share)
            visited = visited and programme in ("lie_still", "sit_still", "stand", "leave_bed")
            start = _start(spec, day, slot, float(rng.random()))
            scenes.append(Happening(room, day, slot, start, programme, visited))
    return scenes


def _cycle(names: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    while True:
        yield from (names[number] for number in rng.permutation(len(names)))


def _start(spec: HospitalSpec, day: date, slot: int, share: float) -> datetime:
    """A start inside the slot: from 7 to 21 o'clock, or all day where that is too short."""
    step = 14 * 3600 / max(1, spec.segments_per_day)
    first = 7 * 3600
    if step < spec.segment_s + 60:
        step, first = 22 * 3600 / spec.segments_per_day, 0
    second = first + slot * step + share * (step - spec.segment_s - 30)
    return datetime.combine(day, time(), UTC) + timedelta(seconds=int(second))


def _segments(spec: HospitalSpec, scene: Happening) -> list[_Segment]:
    return [
        _Segment(camera, scene, _path(spec, camera, scene.start), _changed(spec, camera, scene.day))
        for camera, room in enumerate(_rooms(spec))
        if room == scene.room
    ]


def _path(spec: HospitalSpec, camera: int, at: datetime) -> str:
    return _LAYOUTS[spec.layout].format(camera=camera_id(camera), at=at)


def _room(spec: HospitalSpec, room: int) -> Room:
    rng = np.random.default_rng([spec.seed, _ROOMS, room])
    return Room(
        width_m=round(float(rng.uniform(5.1, 5.8)), 2),
        depth_m=round(float(rng.uniform(5.4, 5.9)), 2),
        height_m=round(float(rng.uniform(2.8, 3.1)), 2),
        bed_left=bool(rng.random() < 0.5),
        bed_gap_m=round(float(rng.uniform(0.25, 0.5)), 2),
    )


def _camera(spec: HospitalSpec, camera: int, width: int, height: int) -> Camera:
    rng = np.random.default_rng([spec.seed, _ROOMS, 1000 + camera])
    room = _room(spec, _rooms(spec)[camera])
    return place(_VIEWS[camera % len(_VIEWS)], room, width, height, rng)


@dataclass(frozen=True)
class _Person:
    subject: str
    performance: Performance
    looks: tuple[int, ...]
    staff: bool


def _people(spec: HospitalSpec, scene: Happening) -> list[_Person]:
    """Who is in the scene and what they do; three patients share a room's days."""
    if scene.programme == EMPTY:
        return []
    rng = np.random.default_rng([spec.seed, _SCENES, scene.room, scene.day.toordinal(), scene.slot])
    room = _room(spec, scene.room)
    patient = int(rng.integers(3))
    looks = (spec.seed, _PEOPLE, scene.room, patient)
    body = _body(np.random.default_rng(looks))
    acted = perform(scene.programme, body, room, rng, spec.segment_s)
    people = [_Person(f"patient-{scene.room + 1:02d}{'abc'[patient]}", acted, looks, staff=False)]
    if scene.visit:
        number = int(rng.integers(4))
        looks = (spec.seed, _PEOPLE, 5000, number)
        where = acted.parameters[int(0.6 * len(acted.parameters))]
        towards = (float(where[INDEX["x"]]), float(where[INDEX["y"]]))
        body = Body(height_m=float(np.random.default_rng(looks).uniform(1.58, 1.88)))
        acted = perform(VISIT, body, room, rng, spec.segment_s, towards=towards)
        people.append(_Person(f"staff-{number + 1:02d}", acted, looks, staff=True))
    return people


def _body(rng: np.random.Generator) -> Body:
    if rng.random() < 0.08:
        return Body(height_m=float(rng.uniform(1.15, 1.40)), child=True)
    return Body(
        height_m=float(np.clip(rng.normal(1.68, 0.09), 1.48, 1.92)),
        girth=float(rng.uniform(0.92, 1.22)),
    )


# Text beside the footage.


def _csv(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _cameras_csv(spec: HospitalSpec) -> bytes:
    rows = [
        (camera_id(camera), f"ward-{'ab'[room % 2]}", f"room-{room + 1:02d}",
         _VIEWS[camera % len(_VIEWS)], "")
        for camera, room in enumerate(_rooms(spec))
    ]  # fmt: skip
    return _csv(("camera_id", "ward", "room", "view", "crop"), rows)


def _zones_csv(spec: HospitalSpec) -> bytes:
    """What each camera sees, from the first day on; replaced cameras look the same way."""
    rows = []
    for camera, number in enumerate(_rooms(spec)):
        seen = seen_zones(_room(spec, number), _camera(spec, camera, spec.width, spec.height))
        rows += [
            (camera_id(camera), kind, kind, "; ".join(f"{x:g} {y:g}" for x, y in polygon),
             spec.first_day.isoformat(), "")
            for kind, polygon in seen.items()
        ]  # fmt: skip
        rows.append((camera_id(camera), "room", f"room-{number + 1:02d}", "",
                     spec.first_day.isoformat(), ""))  # fmt: skip
    columns = ("camera_id", "kind", "name", "polygon", "valid_from", "valid_until")
    return _csv(columns, rows)


def _told(spec: HospitalSpec, scene: Happening) -> list[tuple[str, ...]]:
    """The scene's rows of the label file, but for the segment's path."""
    rows: list[tuple[str, ...]] = []
    for person in _people(spec, scene):
        for one in person.performance.intervals:
            rows.append((
                f"{one.start_s:.2f}", f"{one.end_s:.2f}", one.label, "simulated",
                VISIT if person.staff else scene.programme, one.zone or "",
                scene.event if one.label in ("fall", "lying_after_fall") else "", person.subject,
            ))  # fmt: skip
    return rows


def _telemetry_csv(spec: HospitalSpec, segments: Sequence[_Segment], day: date) -> bytes:
    """One row at the start of each recorded segment, each whole minute of it, and its end."""
    rows: list[tuple[object, ...]] = []
    for one in sorted(segments, key=lambda one: (one.camera, one.path)):
        rng = np.random.default_rng(
            [spec.seed, _TELEMETRY, one.camera, day.toordinal(), one.scene.slot]
        )
        busy = 2.6 if one.changed else 1.0
        minutes = np.arange(0.0, spec.segment_s, 60.0)
        for after_s in (*minutes.tolist(), spec.segment_s):
            at = one.scene.start + timedelta(seconds=after_s)
            rows.append((
                camera_id(one.camera),
                at.isoformat(timespec="seconds").replace("+00:00", "Z"),
                f"{min(99.0, 14 * busy + float(rng.gamma(2.0, 2.0))):.1f}",
                f"{min(99.0, 38 + 6 * busy + float(rng.normal(0, 1.5))):.1f}",
                f"{max(0.0, 900 * busy + float(rng.normal(0, 60))):.0f}",
                "battery" if rng.random() < 0.02 else "mains",
            ))  # fmt: skip
    columns = (
        "camera_id", "at_utc", "cpu_percent", "memory_percent", "bandwidth_kbps", "power",
    )  # fmt: skip
    return _csv(columns, rows)


def _write(path: Path, content: bytes) -> None:
    """Write all or nothing, and nothing where the content is there already."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)


def _claim(spec: HospitalSpec, landing: Path) -> None:
    """Mark the landing folder as this hospital's; refuse one that holds anything else."""
    manifest = landing / MANIFEST
    wanted = {"format": _FORMAT, "spec": spec.as_json()}
    if manifest.is_file():
        try:
            found = json.loads(manifest.read_text())
        except ValueError as error:
            raise LandingInUseError(
                f"{manifest} is not readable ({error}). Remove the folder and generate again."
            ) from error
        if found != wanted:
            before = found.get("spec", {}) if isinstance(found, dict) else {}
            changes = ", ".join(
                f"{name}: {before.get(name)!r} there, {value!r} wanted"
                for name, value in spec.as_json().items()
                if before.get(name) != value
            )
            raise LandingInUseError(
                f"{landing} holds another simulated hospital ({changes or 'another format'}). "
                "Choose an empty folder, or remove this one."
            )
        return
    if landing.exists() and (not landing.is_dir() or any(landing.iterdir())):
        raise LandingInUseError(
            f"{landing} is not empty and was not made by the simulation. Choose an empty folder."
        )
    _write(manifest, (json.dumps(wanted, indent=2) + "\n").encode())


# Footage.


def _render_all(
    spec: HospitalSpec, landing: Path, segments: Sequence[_Segment], workers: int
) -> Iterator[str]:
    """Render in `workers` processes (here, if one); yields paths as they are done."""
    if workers <= 1 or len(segments) <= 1:
        for segment in segments:
            yield _render(spec, landing, segment)
        return
    # Spawned, as a fork of a process with threads (Dagster's, Polars') may hang.
    pool = ProcessPoolExecutor(min(workers, len(segments)), mp_context=get_context("spawn"))
    try:
        for future in as_completed(
            [pool.submit(_render, spec, landing, segment) for segment in segments]
        ):
            yield future.result()
    except BrokenProcessPool as error:
        raise PassingFailureError(
            f"A process that rendered into {landing} died (out of memory?). Run it again: finished "
            "segments are kept."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@lru_cache(maxsize=2)
def _scene(spec: HospitalSpec, camera: int, width: int, height: int) -> Scene:
    from fall_assets.simulation.render import Scene

    room = _rooms(spec)[camera]
    return Scene(_room(spec, room), _camera(spec, camera, width, height), spec.seed * 1000 + room)


def _sensor(spec: HospitalSpec, segment: _Segment, rng: np.random.Generator) -> Sensor:
    """The camera's own light and noise, the day's light, and what changed on the last day."""
    from fall_assets.simulation.render import Sensor

    own = np.random.default_rng([spec.seed, _ROOMS, 2000 + segment.camera])
    exposure, noise, warmth = own.uniform(0.84, 1.0), own.uniform(1.5, 3.0), own.uniform(-3, 4)
    exposure *= rng.uniform(0.97, 1.03)
    if segment.changed:
        exposure, noise = exposure * 0.62, noise * 2.0
    return Sensor(float(exposure), float(noise), float(warmth))


def _clothes(person: _Person) -> Clothes:
    from fall_assets.simulation.render import Clothes

    return Clothes.draw(np.random.default_rng((*person.looks, 1)), staff=person.staff)


def _frames(spec: HospitalSpec, segment: _Segment) -> Iterator[Picture]:
    """The segment's frames as I420, one by one."""
    from fall_assets.simulation.render import Exposure

    width = spec.changed_width if segment.changed else spec.width
    height = spec.changed_height if segment.changed else spec.height
    scene = _scene(spec, segment.camera, width, height)
    rng = np.random.default_rng(
        [spec.seed, _PICTURES, segment.camera, segment.scene.day.toordinal(), segment.scene.slot]
    )
    sensor = Exposure(_sensor(spec, segment, rng), width, height, rng)
    times = np.arange(round(spec.segment_s * spec.fps)) / spec.fps
    people = [
        (one.performance.body, _clothes(one), one.performance.joints(times))
        for one in _people(spec, segment.scene)
    ]
    for number in range(len(times)):
        yield sensor(
            scene.frame([(body, clothes, joints[number]) for body, clothes, joints in people])
        )


def _render(spec: HospitalSpec, landing: Path, segment: _Segment) -> str:
    """Make one segment's file; gives its path below `landing`. Runs in a worker process."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        encode(landing / segment.path, _frames(spec, segment), spec.fps)
    finally:
        cv2.setNumThreads(before)
    return segment.path


def encode(path: Path, frames: Iterator[Picture], fps: int, **options: str) -> None:
    """Write I420 frames (height * 3 / 2, width) as H.264 MP4 without B-frames, all or nothing.

    `options` are x264's, in place of quick and coarse ones.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    options = (
        {"preset": "ultrafast", "crf": "28"}
        | options
        | {"bf": "0", "threads": "1", "g": str(2 * fps)}
    )
    try:
        with av.open(str(part), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=fps, options=options)
            stream.pix_fmt = "yuv420p"
            for number, planes in enumerate(frames):
                if number == 0:
                    stream.width, stream.height = planes.shape[1], planes.shape[0] * 2 // 3
                frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write_bad(spec: HospitalSpec, landing: Path, number: int) -> None:
    """One unusable file, at a time of day when nothing else is recorded."""
    kind = _BAD_KINDS[number % len(_BAD_KINDS)]
    day = _days(spec)[number % spec.days]
    second = 22 * 3600 + (number // len(_BAD_KINDS)) * 97 % 7000 + number % len(_BAD_KINDS) * 13
    at = datetime.combine(day, time(), UTC) + timedelta(seconds=second)
    path = landing / _path(spec, (2 * number + 1) % spec.cameras, at)
    if path.is_file():
        return
    if kind == "empty":
        _write(path, b"")
    elif kind == "text":
        _write(path, b"The recorder ran out of space at 22:00.\n" * 40)
    else:
        whole = path.with_suffix(".whole")
        rng = np.random.default_rng([spec.seed, _PICTURES, 9000 + number])
        noise = rng.integers(16, 235, (spec.height * 3 // 2, spec.width), dtype=np.uint8)
        encode(whole, (np.roll(noise, shift, axis=1) for shift in range(spec.fps)), spec.fps)
        content = whole.read_bytes()
        whole.unlink()
        _write(path, content[: len(content) * 6 // 10])
