"""Files are found by day, and new ones are noticed at a cost that history does not raise."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fall_assets.errors import PermanentFailureError
from fall_assets.footage import notices, template
from fall_assets.footage.discovery import days_with_footage, find, new_since
from fall_assets.footage.notices import opened
from fall_assets.footage.sources import SourceSettings
from fall_assets.footage.template import PathTemplate

LATER_S = 60.0
SECOND = timedelta(seconds=1)
DEFAULT = (SourceSettings(),)
FRIGATE = (
    SourceSettings("frigate", template="recordings/{date}/{hour}/{camera}/{minute}.{second}.mp4"),
)
FLAT = (SourceSettings("flat", template="{camera}_{year}{month}{day}_{hour}{minute}{second}.mp4"),)
EPOCH = (SourceSettings("epoch", at="nvr/out", template="{camera}-{epoch}.mp4"),)
LOCAL = (SourceSettings("local", template="{camera}/{date}/{time}.mp4", timezone="Asia/Tokyo"),)
LAYOUTS = (DEFAULT, FRIGATE, FLAT, EPOCH, LOCAL)
Sources = tuple[SourceSettings, ...]
each_layout = pytest.mark.parametrize("sources", LAYOUTS, ids=lambda it: it[0].name)


def put(landing: Path, sources: Sources, camera: str, start: datetime) -> str:
    template = PathTemplate(sources[0].template, sources[0].timezone)
    path = f"{sources[0].at}/{template.format(camera, start)}".lstrip("/")
    (landing / path).parent.mkdir(parents=True, exist_ok=True)
    (landing / path).write_text(path)
    return path


def paths_of(new: dict[date, dict[str, str]]) -> dict[date, list[str]]:
    return {day: list(paths) for day, paths in new.items()}


def at(day: int, hour: int = 8, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return datetime.fromtimestamp(time.time() + seconds, UTC)


@each_layout
def test_a_day_has_its_own_files(tmp_path: Path, sources: Sources) -> None:
    wanted = sorted(put(tmp_path, sources, camera, at(1)) for camera in ("cam-01", "cam-02"))
    put(tmp_path, sources, "cam-01", at(2))
    (tmp_path / (wanted[0] + ".part")).touch()
    found = find(tmp_path, sources, date(2026, 3, 1))
    assert [file.path for file in found] == wanted
    assert {(file.camera_id, file.dataset, file.subject) for file in found} == {
        ("cam-01", "site", None),
        ("cam-02", "site", None),
    }
    assert {file.start_utc for file in found} == {at(1)}
    assert days_with_footage(tmp_path, sources) == [date(2026, 3, 1), date(2026, 3, 2)]


def test_an_empty_landing_folder_has_nothing(tmp_path: Path) -> None:
    assert days_with_footage(tmp_path / "absent", DEFAULT) == []
    assert find(tmp_path, DEFAULT, date(2026, 3, 1)) == []


def touch(landing: Path, *paths: str) -> None:
    for path in paths:
        (landing / path).parent.mkdir(parents=True, exist_ok=True)
        (landing / path).write_text(path)


def test_data_sets_stand_beside_a_sites_footage(tmp_path: Path) -> None:
    put(tmp_path, DEFAULT, "cam-01", at(1))
    touch(tmp_path, "urfd/fall/fall-01-cam0.mp4", "urfd/labels.csv", "gmdcsa24/notes/video.mp4")
    assert days_with_footage(tmp_path, DEFAULT) == [date(2024, 1, 1), date(2026, 3, 1)]
    assert [file.path for file in find(tmp_path, DEFAULT, date(2024, 1, 1))] == [
        "urfd/fall/fall-01-cam0.mp4"
    ]


def test_cameras_of_one_scene_start_together(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"urfd/fall/fall-0{n}-{camera}.mp4" for n in (1, 2) for camera in ("cam0", "cam1")),
        "urfd/adl/adl-01-cam0.mp4",
    )
    found = find(tmp_path, DEFAULT, date(2024, 1, 1))
    starts = {(file.scene, file.camera_id): file.start_utc for file in found}
    assert starts["urfd/fall-01", "urfd-cam0"] == starts["urfd/fall-01", "urfd-cam1"]
    assert starts["urfd/adl-01", "urfd-cam0"] == datetime(2024, 1, 1, tzinfo=UTC)
    by_camera = [start for (_scene, camera), start in starts.items() if camera == "urfd-cam0"]
    assert len(set(by_camera)) == 3


def test_data_set_paths_tell_subject_and_camera(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "gmdcsa24/Subject 3/Fall/01.mp4",
        "assist_iot/adl/11_sitting_laying_down_slowly.mp4",
        "people_walking/walk.mp4",
    )
    fall = find(tmp_path, DEFAULT, date(2024, 1, 3))[0]
    assert (fall.camera_id, fall.subject) == ("gmdcsa24-s3", "s3")
    assert fall.scene == "gmdcsa24/s3-fall-01"
    lying = find(tmp_path, DEFAULT, date(2024, 1, 2))[0]
    assert lying.camera is not None
    assert (lying.camera_id, lying.camera.crop) == ("assist_iot-lab-right", "0.3336,0,1,0.8889")
    assert find(tmp_path, DEFAULT, date(2024, 1, 4))[0].camera_id == "people_walking"


@each_layout
def test_each_file_is_reported_once(tmp_path: Path, sources: Sources) -> None:
    old = put(tmp_path, sources, "cam-01", at(1))
    touch(tmp_path, "urfd/fall/fall-01-cam0.mp4")
    new, cursor = new_since(tmp_path, sources, None, now=after(LATER_S))
    assert {day: list(paths) for day, paths in new.items()} == {
        date(2024, 1, 1): ["urfd/fall/fall-01-cam0.mp4"],
        date(2026, 3, 1): [old],
    }
    new, cursor = new_since(tmp_path, sources, cursor, now=after(LATER_S + 1))
    assert new == {}


def test_a_file_is_reported_once_it_is_quiet(tmp_path: Path) -> None:
    path = put(tmp_path, DEFAULT, "cam-01", at(1))
    new, cursor = new_since(tmp_path, DEFAULT, None, settle_s=30, now=after(10))
    assert new == {}
    new, cursor = new_since(tmp_path, DEFAULT, cursor, settle_s=30, now=after(40))
    assert paths_of(new) == {date(2026, 3, 1): [path]}


def report_between(landing: Path, sources: Sources, change: Callable[[], None]) -> set[str]:
    """What is reported of a change between two calls."""
    _new, cursor = new_since(landing, sources, None, settle_s=0, now=after(0))
    time.sleep(0.02)
    change()
    new, _cursor = new_since(landing, sources, cursor, settle_s=0, now=after(1))
    return {path for paths in new.values() for path in paths}


@each_layout
def test_new_and_changed_files_of_the_last_days_are_noticed(
    tmp_path: Path, sources: Sources
) -> None:
    today = datetime.now(UTC).replace(hour=8, minute=0, second=0, microsecond=0)
    grows = put(tmp_path, sources, "cam-01", today)
    put(tmp_path, sources, "cam-01", today - timedelta(days=1))
    arrived: list[str] = []

    def change() -> None:
        with (tmp_path / grows).open("a") as file:
            file.write("more")
        arrived.append(put(tmp_path, sources, "cam-02", today - timedelta(days=1)))

    assert report_between(tmp_path, sources, change) == {grows, *arrived}


@pytest.mark.parametrize("sources", [DEFAULT, FRIGATE, LOCAL], ids=lambda it: it[0].name)
def test_a_new_folder_of_an_old_day_is_noticed(tmp_path: Path, sources: Sources) -> None:
    put(tmp_path, sources, "cam-01", at(1))
    arrived: list[str] = []
    reported = report_between(
        tmp_path, sources, lambda: arrived.append(put(tmp_path, sources, "cam-01", at(2)))
    )
    assert reported == set(arrived)


def test_a_file_with_an_old_time_is_new_where_it_is_new(tmp_path: Path) -> None:
    put(tmp_path, DEFAULT, "cam-01", at(1))

    def copy_with_times() -> None:
        path = tmp_path / put(tmp_path, DEFAULT, "cam-01", at(2))
        os.utime(path, (0, 0))
        os.utime(path.parent, (0, 0))

    assert report_between(tmp_path, DEFAULT, copy_with_times) == {"cam-01/2026-03-02/08-00-00.mp4"}


@pytest.mark.parametrize("cursor", ["", "not json", "[]", '{"landing": "elsewhere"}'])
def test_a_cursor_that_does_not_fit_starts_over(tmp_path: Path, cursor: str) -> None:
    path = put(tmp_path, DEFAULT, "cam-01", at(1))
    new, _cursor = new_since(tmp_path, DEFAULT, cursor, now=after(LATER_S))
    assert paths_of(new) == {date(2026, 3, 1): [path]}


def test_another_template_starts_over(tmp_path: Path) -> None:
    put(tmp_path, DEFAULT, "cam-01", at(1))
    _new, cursor = new_since(tmp_path, DEFAULT, None, now=after(LATER_S))
    recording = put(tmp_path, FRIGATE, "cam-01", at(1))
    new, _cursor = new_since(tmp_path, FRIGATE, cursor, now=after(LATER_S))
    assert paths_of(new) == {date(2026, 3, 1): [recording]}


class Clock:
    """Ticks of a sensor, half a minute apart on a clock of its own."""

    def __init__(self, landing: Path, sources: Sources) -> None:
        self.landing, self.sources = landing, sources
        self.cursor: str | None = None
        self.now = time.time() + LATER_S
        self.reported: list[str] = []

    def tick(self, seconds: float = 30.0, settle_s: float = 10.0) -> list[str]:
        self.now += seconds
        new, self.cursor = new_since(
            self.landing,
            self.sources,
            self.cursor,
            settle_s=settle_s,
            now=datetime.fromtimestamp(self.now, UTC),
        )
        self.reported += (paths := [path for found in new.values() for path in found])
        return paths


@each_layout
@pytest.mark.parametrize("days_ago", [4, 40, 400, 3000, -20])
def test_every_late_file_is_found_in_the_end_and_once(
    tmp_path: Path, sources: Sources, days_ago: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fall_assets.footage.folders.PATROL_FOLDERS", 3)
    today = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0)
    for back in (0, 1, 4, 5, 40, 41, 400, 3000, -20):
        put(tmp_path, sources, "cam-01", today - timedelta(days=back))
    clock = Clock(tmp_path, sources)
    # The first reading is at the files' own time, so that what comes is later.
    clock.now = time.time()
    clock.tick(0, settle_s=0)
    time.sleep(0.02)
    late = put(tmp_path, sources, "cam-01", today - timedelta(days=days_ago, hours=1))
    clock.reported.clear()
    for _ in range(60):
        clock.tick()
    assert clock.reported == [late]


def test_a_folder_that_was_moved_in_is_noticed(tmp_path: Path) -> None:
    landing, elsewhere = tmp_path / "landing", tmp_path / "elsewhere"
    put(landing, DEFAULT, "cam-01", at(1))
    path = put(elsewhere, DEFAULT, "cam-01", at(2))

    def move() -> None:
        (elsewhere / path).parent.rename((landing / path).parent)

    time.sleep(0.02)
    assert report_between(landing, DEFAULT, move) == {path}


def test_a_pause_of_the_sensor_loses_nothing(tmp_path: Path) -> None:
    today = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0)
    for back in range(12):
        put(tmp_path, DEFAULT, "cam-01", today - timedelta(days=back))
    clock = Clock(tmp_path, DEFAULT)
    clock.now = time.time()
    clock.tick(0, settle_s=0)
    time.sleep(0.02)
    path = put(tmp_path, DEFAULT, "cam-01", today - timedelta(days=1, hours=1))
    clock.reported.clear()
    # Ten days later, its day is one of the old ones.
    assert clock.tick(10 * 86_400.0) == [path]
    for _ in range(5):
        clock.tick()
    assert clock.reported == [path]


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that nobody sets, as the operating system has one; the test moves it on."""
    now = [1000.0]
    monkeypatch.setattr(time, "clock_gettime", lambda _clock: now[0])
    return now


@pytest.mark.parametrize("back_s", [15.0, 25.0, 600.0, 5 * 3600.0, 400 * 86_400.0])
def test_a_clock_that_is_set_back_neither_stalls_nor_loses(
    tmp_path: Path, back_s: float, steady: list[float]
) -> None:
    clock = Clock(tmp_path, DEFAULT)
    # The machine's clock is ahead; then it is set right, and a file comes.
    clock.now = time.time() + back_s - 5
    clock.tick(0)
    path = put(tmp_path, DEFAULT, "cam-01", datetime.now(UTC))
    clock.now = time.time()
    found: list[str] = []
    for seconds in (15, 15, 15):
        steady[0] += seconds
        found += clock.tick(seconds)
    assert path in found
    assert clock.tick(30) == []


def test_a_file_from_before_the_clock_was_set_back_is_not_lost(
    tmp_path: Path, steady: list[float]
) -> None:
    clock = Clock(tmp_path, DEFAULT)
    clock.now = time.time()
    clock.tick(0)
    path = put(tmp_path, DEFAULT, "cam-01", datetime.now(UTC))
    # The file was written while the clock said an hour more than it says now.
    clock.now -= 3600
    steady[0] += 30
    assert clock.tick(30) == [path]


def test_a_clock_that_was_set_back_while_the_machine_was_off_starts_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path, DEFAULT, "cam-01", at(1))
    clock = Clock(tmp_path, DEFAULT)
    assert clock.tick() == [path]
    assert clock.cursor is not None
    clock.cursor = clock.cursor.replace('"boot":"', '"boot":"another')
    clock.now = time.time() + 20
    assert clock.tick(0) == [path]


@each_layout
def test_segments_that_come_out_of_order_land_in_their_own_day(
    tmp_path: Path, sources: Sources
) -> None:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    clock = Clock(tmp_path, sources)
    clock.now = time.time()
    clock.tick(0, settle_s=0)
    time.sleep(0.02)
    starts = [midnight + timedelta(minutes=m) for m in (-30, -1, 0, 1, -1440, 300)]
    paths = {put(tmp_path, sources, "cam-01", start): start.date() for start in starts}
    clock.now = time.time()
    new, _cursor = new_since(
        tmp_path, sources, clock.cursor, now=datetime.fromtimestamp(clock.now + 11, UTC)
    )
    assert {path: day for day, found in new.items() for path in found} == paths
    for day in set(paths.values()):
        found = {file.path for file in find(tmp_path, sources, day)}
        assert found == {path for path, its in paths.items() if its == day}


def test_several_sources_are_read_beside_each_other(tmp_path: Path) -> None:
    sources = (*EPOCH, *FRIGATE, *LOCAL)
    paths = [put(tmp_path, (source,), "cam-01", at(1)) for source in sources]
    found = find(tmp_path, sources, date(2026, 3, 1))
    assert {file.path: file.source for file in found} == dict(
        zip(paths, ("epoch", "frigate", "local"), strict=True)
    )
    assert {file.start_utc for file in found} == {at(1)}
    clock = Clock(tmp_path, sources)
    assert sorted(clock.tick()) == sorted(paths)
    # A source that is added later is read from its beginning, the others go on.
    clock.sources = (*sources, *FLAT)
    new = put(tmp_path, FLAT, "cam-02", at(1))
    assert clock.tick() == [new]


@pytest.mark.parametrize("at_", ["/etc", "../elsewhere", "a/../../b"])
def test_a_source_outside_the_landing_folder_is_refused(tmp_path: Path, at_: str) -> None:
    with pytest.raises(PermanentFailureError, match="landing"):
        find(tmp_path, (SourceSettings(at=at_),), date(2026, 3, 1))


def test_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailureError, match="named recorders"):
        find(tmp_path, (SourceSettings(), SourceSettings(at="x")), date(2026, 3, 1))


def test_names_that_are_no_text_are_shown_escaped(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9/2026-03-01"
    Path(os.fsdecode(folder)).mkdir(parents=True)
    Path(os.fsdecode(folder + b"/08-00-00.mp4")).touch()
    fine = put(tmp_path, DEFAULT, "café\n'\"", at(1))
    found = {file.path: file for file in find(tmp_path, DEFAULT, date(2026, 3, 1))}
    escaped = "caf\\xe9/2026-03-01/08-00-00.mp4"
    assert set(found) == {escaped, fine}
    assert found[escaped].unusable_name
    assert found[escaped].camera_id == "caf\\xe9"
    assert not found[fine].unusable_name
    clock = Clock(tmp_path, DEFAULT)
    assert sorted(clock.tick()) == sorted([escaped, fine])
    assert clock.tick() == []


def test_links_in_a_circle_and_files_in_place_of_folders_stop_nothing(tmp_path: Path) -> None:
    path = put(tmp_path, DEFAULT, "cam-01", at(1))
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "cam-02").touch()
    (tmp_path / "cam-03" / "2026-03-01" / "08-00-00.mp4").mkdir(parents=True)
    clock = Clock(tmp_path, DEFAULT)
    assert path in clock.tick()
    assert clock.tick() == []
    assert path in [file.path for file in find(tmp_path, DEFAULT, date(2026, 3, 1))]


@pytest.mark.parametrize("sources", [DEFAULT, FRIGATE, LOCAL], ids=lambda it: it[0].name)
def test_a_tick_lists_and_looks_at_no_more_however_long_the_history(
    tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [0]

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any, **named: Any) -> Any:
            asked[0] += 1
            return real(*args, **named)

        return count

    def cost(landing: Path, history: int) -> int:
        now = datetime.now(UTC)
        for back in range(history):
            put(landing, sources, "cam-01", now - timedelta(days=back))
        clock = Clock(landing, sources)
        clock.now = time.time()
        clock.tick(0, settle_s=0)
        time.sleep(0.02)
        put(landing, sources, "cam-01", now - timedelta(seconds=70))
        asked[0] = 0
        assert len(clock.tick()) == 1
        return asked[0]

    monkeypatch.setattr("fall_assets.footage.folders.PATROL_FOLDERS", 8)
    short, long = tmp_path / "short", tmp_path / "long"
    monkeypatch.setattr(os, "stat", counting(os.stat))
    monkeypatch.setattr(os, "listdir", counting(os.listdir))
    assert cost(long, 400) <= cost(short, 20) + 4


@pytest.mark.parametrize("sources", [FLAT, EPOCH], ids=lambda it: it[0].name)
def test_a_tick_looks_at_few_files_of_a_flat_folder(
    tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    for number in range(3000):
        put(tmp_path, sources, "cam-01", now - timedelta(hours=3 * number))
    clock = Clock(tmp_path, sources)
    clock.tick()
    real, asked = os.stat, [0]

    def counting(*args: Any, **named: Any) -> os.stat_result:
        asked[0] += 1
        return real(*args, **named)

    monkeypatch.setattr(os, "stat", counting)
    monkeypatch.setattr("fall_assets.footage.folders.PATROL_FILES", 100)
    for _ in range(40):
        asked[0] = 0
        clock.tick()
        assert asked[0] < 300


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small folders are listened to as well."""
    monkeypatch.setattr(notices, "FEWEST_NAMES", 1)
    yield
    for each in notices._open.values():
        each.close()
    notices._open.clear()


class Heard:
    """Real ticks on a flat folder, and how often its names were listed."""

    def __init__(self, landing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.landing, self.listed, self.cursor = landing, 0, ""
        self.today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self.put(0)
        real = template.listing

        def counting(folder: Path) -> list[str]:
            self.listed += 1
            return real(folder)

        monkeypatch.setattr("fall_assets.footage.folders.listing", counting)
        self.tick()
        # Listening begins at once, but a tick must have heard something to rely on it.
        until = time.monotonic() + 30
        second = 1
        while self.listed_in(self.tick)[1] and time.monotonic() < until:
            second += 1
            self.put(second)
            time.sleep(0.3)
        assert self.listed_in(self.tick)[1] == 0

    def put(self, second: int, days: int = 0) -> str:
        return put(
            self.landing, FLAT, "cam-01", self.today - timedelta(days=days) + second * SECOND
        )

    def tick(self) -> list[str]:
        new, self.cursor = new_since(self.landing, FLAT, self.cursor or None, settle_s=0.1)
        return [path for found in new.values() for path in found]

    def until_seen(self, wanted: str) -> None:
        """Ticks until a file is seen; it is seen once."""

        def ticks() -> list[str]:
            seen: list[str] = []
            until = time.monotonic() + 30
            while wanted not in seen and time.monotonic() < until:
                time.sleep(0.1)
                seen += self.tick()
            time.sleep(1.5)
            return seen + self.tick()

        assert ticks() == [wanted]

    def listed_in(self, ticks: Callable[[], list[str]]) -> tuple[list[str], int]:
        before = self.listed
        return ticks(), self.listed - before


@pytest.mark.skipif(sys.platform != "linux", reason="notices are Linux's")
def test_a_large_flat_folder_is_listened_to(
    tmp_path: Path, heard: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing = tmp_path / "landing"
    folder = Heard(landing, monkeypatch)
    # Written in place, of a day long ago, and moved in.
    folder.until_seen(folder.put(1000))
    folder.until_seen(folder.put(1001, days=100))
    other = put(tmp_path, FLAT, "cam-01", folder.today + 1002 * SECOND)
    (tmp_path / other).rename(landing / other)
    folder.until_seen(other)
    # Written on.
    with (landing / other).open("a") as growing:
        growing.write("more")
    folder.until_seen(other)
    # A notice that was lost is made good by the next listing; what was told is not told again.
    ear = notices._open[landing]
    missed, other = folder.put(1003), folder.put(1004)
    time.sleep(1.5)
    del ear._told[missed]
    assert folder.listed_in(folder.tick) == ([other], 0)
    with monkeypatch.context() as now:
        now.setattr(notices, "RELIST_S", 0.0)
        assert folder.listed_in(folder.tick) == ([missed], 1)
    # Another folder in the place of the first one.
    landing.rename(tmp_path / "old")
    shutil.copytree(tmp_path / "old", landing)
    assert opened(landing) is None
    last = folder.put(1005)
    time.sleep(0.2)
    seen, listed = folder.listed_in(folder.tick)
    assert last in seen
    assert listed == 1


@pytest.mark.skipif(sys.platform != "linux", reason="notices are Linux's")
def test_a_file_system_that_tells_nothing_is_listed(
    tmp_path: Path, heard: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_args: Any, stop_event: threading.Event, **_named: Any) -> Iterator[set[Any]]:
        while not stop_event.wait(0.01):
            yield set()

    monkeypatch.setattr(notices, "watch", silent)
    put(tmp_path, FLAT, "cam-01", at(1))
    clock = Clock(tmp_path, FLAT)
    clock.tick()
    for hour in range(3):
        path = put(tmp_path, FLAT, "cam-01", datetime.now(UTC) - timedelta(hours=hour))
        clock.now = time.time()
        assert clock.tick(0, settle_s=0) == [path]
