"""A simulated hospital on disk: what its recorders, labellers and boxes would have left.

What belongs here: which camera films whom, when, and the files that come of it. What does not:
motion (`motions.py`) and pictures (`render.py`). The command is `python -m fall_assets.simulation`.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from fall_assets.errors import PassingFailureError, PermanentFailureError
from fall_assets.simulation.body import INDEX, Body
from fall_assets.simulation.camera import Camera, View, place, turned
from fall_assets.simulation.changes import (
    KINDS,
    Change,
    Now,
    filmed_by,
    is_night,
    lit_by,
    now,
    staff_share,
    truth,
    visitors,
)
from fall_assets.simulation.motions import (
    FALL_FROM_WHEELCHAIR,
    FALLS,
    ORDINARY,
    ROLL,
    VISIT,
    Performance,
    Style,
    perform,
)
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
_ROOMS, _PLAN, _SCENES, _PICTURES, _TELEMETRY, _PEOPLE, _CHANGES, _WEATHER = range(8)

# Fields that came later: a hospital that was made before them has their usual values.
_LATER: Final = ("changes", "views", "hours", "drawn_width")


class LandingInUseError(PermanentFailureError):
    """The landing folder holds something else than this simulated hospital."""


@dataclass(frozen=True)
class HospitalSpec:
    """What to simulate. The same values give the same hospital.

    `segments_per_day` is per camera; two cameras of one room record at the same times. On the last
    of several days `changed_cameras` cameras record at `changed_width` x `changed_height`, darker
    and noisier: the drift. `bad_files` unusable files are spread over the days. `fall_share` of
    the scenes hold a fall, `visit_share` of the others a visit by staff.

    `changes` are what else changes, for whom and when (`changes.py`). Scenes lie between the
    `hours`, UTC. `views` are of the first cameras, and again of the next; the second of each round
    shares its neighbour's room. Pictures wider than `drawn_width` are drawn that wide and scaled
    up; 0 draws them as they are.
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
    changes: tuple[Change, ...] = ()
    hours: tuple[int, int] = (7, 21)
    views: tuple[View, ...] = _VIEWS
    drawn_width: int = 0

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
            (not 0 <= self.hours[0] < self.hours[1] <= 24, "hours must be two of 0 to 24"),
            (not self.views, "views must name a view"),
            (self.drawn_width % 16 != 0 or self.drawn_width < 0,
             "drawn_width must be a multiple of 16, or 0"),
        ]  # fmt: skip
        for wrong, message in problems:
            if wrong:
                raise ValueError(f"HospitalSpec: {message}")
        self._check_changes()

    def _check_changes(self) -> None:
        """Refuse changes of cameras that are not there, or that see only half of a room."""
        rooms = _rooms(self)
        for change in self.changes:
            known = [camera_id(camera) for camera in range(self.cameras)]
            if unknown := sorted(set(change.cameras) - set(known)):
                raise ValueError(
                    f"HospitalSpec: {change.kind} changes {', '.join(unknown)}; there are "
                    f"{', '.join(known)}"
                )
            for camera, room in enumerate(rooms):
                beside = [known[other] for other in range(self.cameras) if rooms[other] == room]
                if KINDS[change.kind].of_room and change.sees(known[camera]) != change.sees(
                    beside[0]
                ):
                    raise ValueError(
                        f"HospitalSpec: {change.kind} happens in a room: name all of its cameras, "
                        f"{', '.join(beside)}"
                    )

    def as_json(self) -> dict[str, object]:
        """The fields as JSON values; later ones only where they are not as usual."""
        usual = {field.name: field.default for field in fields(self)}
        kept = {
            name: value
            for name, value in asdict(self).items()
            if name not in _LATER or getattr(self, name) != usual[name]
        }
        if "changes" in kept:
            kept["changes"] = [change.as_json() for change in self.changes]
        for name in ("hours", "views"):
            if name in kept:
                kept[name] = list(kept[name])
        return kept | {"first_day": self.first_day.isoformat()}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> HospitalSpec:
        """What `as_json` gave; raises ValueError, TypeError or KeyError for anything else."""
        given = dict(row) | {"first_day": date.fromisoformat(row["first_day"])}
        if "changes" in given:
            given["changes"] = tuple(Change.from_json(one) for one in given["changes"])
        for name in ("hours", "views"):
            if name in given:
                given[name] = tuple(given[name])
        return cls(**given)


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
    visitors: int = 0

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
    like: Path | None = None,
) -> HospitalSummary:
    """Write the hospital's footage, labels, cameras and telemetry below `landing`.

    Segments that are there already are kept, so a run that was cut off goes on where it stopped.
    `like` is the landing folder of another simulated hospital: films of it in which nothing differs
    are linked, not drawn again.
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

    if like is not None:
        _link_alike(spec, landing, Path(like), segments)
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
        falls=sum(scene.programme in (*FALLS, FALL_FROM_WHEELCHAIR) for scene in scenes),
        labels=labels,
        bad_files=spec.bad_files,
        footage_s=len(segments) * spec.segment_s,
    )


def truth_of(landing: Path) -> list[dict[str, Any]]:
    """What changes in the hospital of a landing folder, as `changes.truth` tells it.

    Raises PermanentFailureError where there is no simulated hospital.
    """
    try:
        found = json.loads((landing / MANIFEST).read_text())
        spec = HospitalSpec.from_json(found["spec"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PermanentFailureError(f"{landing} holds no simulated hospital ({error})") from error
    return truth(spec.changes, spec.first_day, [camera_id(n) for n in range(spec.cameras)])


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
        shares = camera % len(spec.views) == 1
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
            scene = Happening(room, day, slot, start, programme, visited)
            scenes.append(_otherwise(spec, scene) if spec.changes else scene)
    return scenes


def _otherwise(spec: HospitalSpec, scene: Happening) -> Happening:
    """The scene under the changes of its room: who does what, and who visits."""
    present = _of_room(spec, scene.room, scene.day)
    draws = np.random.default_rng(
        [spec.seed, _CHANGES, scene.room, scene.day.toordinal(), scene.slot]
    ).random(8)
    programme, visited = scene.programme, scene.visit
    lively = programme in ("lie_still", "sit_still", "stand")
    if "night" in present and is_night(scene.start) and draws[0] < 0.6 * present.size("night"):
        if programme in ORDINARY:
            programme = "leave_bed" if draws[1] < 0.25 else "lie_still"
    elif "children" in present and lively and draws[2] < 0.6 * present.grown("children"):
        programme = "stroll"
    in_bed = programme in ("lie_still", "leave_bed", "out_of_bed", "lie_down", "lie_fast", EMPTY)
    wheeled = draws[3] < present.size("wheelchairs") * present.grown("wheelchairs")
    if wheeled and not in_bed:
        programme = FALL_FROM_WHEELCHAIR if programme in FALLS else ROLL
    if programme not in (scene.programme, ROLL):
        visited = visited and programme in ("lie_still", "leave_bed")
    visited = visited and bool(draws[4] < staff_share(present, scene.start))
    guests = 0 if programme == EMPTY else visitors(present, scene.start, draws[5:7].tolist())
    return replace(scene, programme=programme, visit=visited, visitors=guests)


def _of_room(spec: HospitalSpec, room: int, day: date) -> Now:
    """The changes that happen in a room."""
    cameras = [camera_id(number) for number, one in enumerate(_rooms(spec)) if one == room]
    return now([one for one in spec.changes if KINDS[one.kind].of_room], cameras, day)


def _of_camera(spec: HospitalSpec, camera: int, day: date) -> Now:
    """All changes that a camera sees."""
    return now(spec.changes, [camera_id(camera)], day)


def _cycle(names: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    while True:
        yield from (names[number] for number in rng.permutation(len(names)))


def _start(spec: HospitalSpec, day: date, slot: int, share: float) -> datetime:
    """A start inside the slot, in the hospital's hours, or all day where they are too short."""
    begin, end = spec.hours
    step = (end - begin) * 3600 / max(1, spec.segments_per_day)
    first = begin * 3600
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


def _room(spec: HospitalSpec, room: int, present: Now | None = None) -> Room:
    """A room, as it was built or as it is under the changes."""
    rng = np.random.default_rng([spec.seed, _ROOMS, room])
    built = Room(
        width_m=round(float(rng.uniform(5.1, 5.8)), 2),
        depth_m=round(float(rng.uniform(5.4, 5.9)), 2),
        height_m=round(float(rng.uniform(2.8, 3.1)), 2),
        bed_left=bool(rng.random() < 0.5),
        bed_gap_m=round(float(rng.uniform(0.25, 0.5)), 2),
    )
    if present is None:
        return built
    if "furniture" in present:
        # The door stays where it is.
        built = replace(
            built, bed_left=not built.bed_left, door_left=not built.bed_left, paint=room
        )
    return replace(built, curtains_drawn="curtains" in present)


def _camera(spec: HospitalSpec, camera: int, width: int, height: int) -> Camera:
    rng = np.random.default_rng([spec.seed, _ROOMS, 1000 + camera])
    room = _room(spec, _rooms(spec)[camera])
    return place(spec.views[camera % len(spec.views)], room, width, height, rng)


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
    present = _of_room(spec, scene.room, scene.day) if spec.changes else Now()
    room = _room(spec, scene.room, present)
    patient = int(rng.integers(3))
    looks = (spec.seed, _PEOPLE, scene.room, patient)
    body = _body(np.random.default_rng(looks))
    style = None
    child = np.random.default_rng((*looks, _CHANGES)).random(3)
    if child[0] < present.size("children") * present.grown("children"):
        body = Body(height_m=1.0 + 0.4 * float(child[1]), child=True)
        style = Style(pace=0.9 + 0.5 * float(child[2]), stoop=0.0, swing=1.2, sway=1.8, tempo=0.75)
    acted = perform(scene.programme, body, room, rng, spec.segment_s, style=style)
    people = [_Person(f"patient-{scene.room + 1:02d}{'abc'[patient]}", acted, looks, staff=False)]
    if scene.visit:
        number = int(rng.integers(4))
        looks = (spec.seed, _PEOPLE, 5000, number)
        where = acted.parameters[int(0.6 * len(acted.parameters))]
        towards = (float(where[INDEX["x"]]), float(where[INDEX["y"]]))
        body = Body(height_m=float(np.random.default_rng(looks).uniform(1.58, 1.88)))
        acted = perform(VISIT, body, room, rng, spec.segment_s, towards=towards)
        people.append(_Person(f"staff-{number + 1:02d}", acted, looks, staff=True))
    for guest in range(scene.visitors):
        looks = (spec.seed, _PEOPLE, 6000, scene.day.toordinal() * 3 + guest)
        body = Body(height_m=float(np.random.default_rng(looks).uniform(1.55, 1.90)))
        style = Style(pace=0.9, stoop=3.0, swing=0.9, sway=1.0)
        acted = perform(
            "stand" if rng.random() < 0.7 else "stroll",
            body,
            room,
            rng,
            spec.segment_s,
            style=style,
        )
        people.append(_Person(f"visitor-{guest + 1:02d}", acted, looks, staff=False))
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
         spec.views[camera % len(spec.views)], "")
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
    wanted: dict[str, object] = {"format": _FORMAT, "spec": spec.as_json()}
    if spec.changes:
        cameras = [camera_id(camera) for camera in range(spec.cameras)]
        wanted["truth"] = truth(spec.changes, spec.first_day, cameras)
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


@dataclass(frozen=True)
class _Setting:
    """In which size and at what rate a segment is recorded; and in which size it is drawn."""

    width: int
    height: int
    fps: int
    drawn: tuple[int, int]


def _setting(spec: HospitalSpec, segment: _Segment, present: Now) -> _Setting:
    width = spec.changed_width if segment.changed else spec.width
    height = spec.changed_height if segment.changed else spec.height
    if "resolution" in present:
        # 16 to 9, in even numbers.
        height = int(present.size("resolution")) // 2 * 2
        width = round(height * 8 / 9) * 2
    fps = int(present.size("frame_rate", spec.fps))
    drawn = width, height
    if 0 < spec.drawn_width < width:
        drawn = spec.drawn_width, round(spec.drawn_width * height / width / 2) * 2
    return _Setting(width, height, fps, drawn)


@lru_cache(maxsize=2)
def _scene(spec: HospitalSpec, camera: int, width: int, height: int, present: Now) -> Scene:
    from fall_assets.simulation.render import Scene

    room = _rooms(spec)[camera]
    seen = _camera(spec, camera, width, height)
    if "knock" in present:
        degrees = present.size("knock") * present.grown("knock")
        seen = turned(seen, degrees, degrees / 3)
    return Scene(_room(spec, room, present), seen, spec.seed * 1000 + room)


def _shaping(present: Now) -> Now:
    """Those changes that make another scene of an empty room."""
    kinds = ("knock", "furniture", "curtains")
    return Now(tuple(one for one in present.sizes if one[0] in kinds))


def _link_alike(
    spec: HospitalSpec, landing: Path, like: Path, segments: Sequence[_Segment]
) -> None:
    """Link the other hospital's films of the same scenes under the same changes."""
    try:
        other = HospitalSpec.from_json(json.loads((like / MANIFEST).read_text())["spec"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PermanentFailureError(
            f"{like} holds no simulated hospital whose films could be used ({error})"
        ) from error
    if replace(spec, changes=other.changes, days=other.days) != other:
        raise PermanentFailureError(
            f"{like} holds a hospital that differs in more than its days and changes: its films "
            "cannot be used"
        )
    scenes = {(scene.room, scene.day, scene.slot): scene for scene in plan(other)}
    for segment in segments:
        scene = segment.scene
        path = landing / segment.path
        alike = (
            scenes.get((scene.room, scene.day, scene.slot)) == scene
            and segment.changed == _changed(other, segment.camera, scene.day)
            and _of_camera(spec, segment.camera, scene.day)
            == _of_camera(other, segment.camera, scene.day)
            and (like / segment.path).is_file()
        )
        if alike and not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(like / segment.path, path)
            except OSError:
                # Another file system, or one without links.
                _write(path, (like / segment.path).read_bytes())


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

    present = _of_camera(spec, segment.camera, segment.scene.day) if spec.changes else Now()
    setting = _setting(spec, segment, present)
    scene = _scene(spec, segment.camera, *setting.drawn, _shaping(present))
    rng = np.random.default_rng(
        [spec.seed, _PICTURES, segment.camera, segment.scene.day.toordinal(), segment.scene.slot]
    )
    sensor = filmed_by(present, _sensor(spec, segment, rng))
    weather = np.random.default_rng([spec.seed, _WEATHER, segment.scene.day.toordinal()]).random()
    light = lit_by(present, segment.scene.start, float(weather))
    lit = None
    if light is not None:
        scene, lit = scene.lit(light)
    exposed = Exposure(sensor, setting.width, setting.height, rng, lit)
    times = np.arange(round(spec.segment_s * setting.fps)) / setting.fps
    people = [
        (one.performance.body, _clothes(one), one.performance.joints(times))
        for one in _people(spec, segment.scene)
    ]
    wheels = [
        places
        for one in _people(spec, segment.scene)
        if (places := one.performance.wheelchair_at(times)) is not None
    ]
    for number in range(len(times)):
        yield exposed(
            scene.frame(
                [(body, clothes, joints[number]) for body, clothes, joints in people],
                [places[number] for places in wheels],
            )
        )


def _render(spec: HospitalSpec, landing: Path, segment: _Segment) -> str:
    """Make one segment's file; gives its path below `landing`. Runs in a worker process."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        present = _of_camera(spec, segment.camera, segment.scene.day)
        fps = _setting(spec, segment, present).fps
        encode(landing / segment.path, _frames(spec, segment), fps)
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
