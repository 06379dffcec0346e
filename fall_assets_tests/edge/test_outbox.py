"""The outbox: nothing that it took is lost, whatever happens to the process or the disk."""

from __future__ import annotations

import logging
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fall_assets.edge import outbox as outbox_module
from fall_assets.edge.outbox import Outbox
from fall_assets_tests.edge.waiting import until

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def ids(outbox: Outbox, now: datetime = NOW, limit: int = 1000) -> list[str]:
    return [alert.alert_id for alert in outbox.due(now, limit)]


def test_an_alert_outlives_the_outbox(tmp_path: Path) -> None:
    path = tmp_path / "state" / "outbox.sqlite"
    payload = {"alert_id": "b", "score": 0.5, "still": "AAAA", "room": "Zürich"}
    with Outbox(path) as outbox:
        assert outbox.put("b", payload, at=NOW)
        assert outbox.put("a", {}, at=NOW)
        assert not outbox.put("b", {"other": 1}, at=NOW)
        assert outbox.on_disk("b")
        assert outbox.state == "ok"
    with Outbox(path) as outbox:
        first, second = outbox.due(NOW, 10)
        assert (first.alert_id, first.payload, first.at, first.attempts) == ("b", payload, NOW, 0)
        assert second.alert_id == "a"
        assert ids(outbox, limit=1) == ["b"]
        assert not outbox.put("a", {}, at=NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_was_delivered_is_not_due_again(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with Outbox(path) as outbox:
        outbox.put("a", {"still": "a secret picture"}, at=NOW)
        outbox.delivered("a")
        outbox.delivered("a")
        outbox.delivered("never heard of")
        assert (outbox.waiting(), ids(outbox)) == (0, [])
    with Outbox(path) as outbox:
        assert ids(outbox) == []
        assert not outbox.put("a", {}, at=NOW)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT payload, state FROM alerts").fetchall() == [
            ("{}", "delivered")
        ]


def test_a_failed_one_waits_and_others_do_not(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        outbox.put("a", {}, at=NOW)
        outbox.put("b", {}, at=NOW)
        outbox.failed("a", "away", NOW + timedelta(seconds=30))
        assert ids(outbox) == ["b"]
        assert outbox.next_due() == NOW
        assert ids(outbox, NOW + timedelta(seconds=31)) == ["b", "a"]
        assert [alert.alert_id for alert in outbox.due(NOW, 9, untried=True)] == ["b"]
        # The clock was an hour ahead, and was put right.
        assert ids(outbox, NOW - timedelta(hours=1)) == ["b", "a"]
        outbox.retry_now()
        assert ids(outbox) == ["a", "b"]


def test_a_refused_one_stays_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with Outbox(path) as outbox:
        outbox.put("a", {"score": 1}, at=NOW)
        outbox.refused("a", "answered 422: score " + "x" * 1000)
        assert (outbox.waiting(), outbox.refused_count()) == (0, 1)
    with Outbox(path) as outbox:
        assert (outbox.waiting(), outbox.refused_count()) == (0, 1)
        (letter,) = outbox.dead_letters()
        assert (letter.alert_id, letter.payload, letter.at) == ("a", {"score": 1}, NOW)
        assert letter.detail.startswith("answered 422: score xxx")
        assert len(letter.detail) <= 200


def test_small_facts_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with Outbox(path) as outbox:
        assert outbox.noted("last cam-1") is None
        outbox.note("last cam-1", "1")
        outbox.put("a", {}, at=NOW, notes={"last cam-1": "2", "last cam-2": "3"})
        outbox.put("a", {}, at=NOW, notes={"last cam-1": "not with a known alert"})
    with Outbox(path) as outbox:
        assert (outbox.noted("last cam-1"), outbox.noted("last cam-2")) == ("2", "3")


def test_what_is_done_with_is_bounded_and_what_waits_is_not(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with Outbox(path, max_rows=20) as outbox:
        for number in range(40):
            outbox.put(f"done-{number:02}", {}, at=NOW)
            outbox.delivered(f"done-{number:02}")
            outbox.put(f"dead-{number:02}", {}, at=NOW)
            outbox.refused(f"dead-{number:02}", "422")
        for number in range(30):
            outbox.put(f"wait-{number:02}", {"n": number, "still": "picture"}, at=NOW)
    with Outbox(path, max_rows=20) as outbox:
        outbox.note("a change", "after which it is tidied up")
        due = outbox.due(NOW, 100)
        assert [alert.payload["n"] for alert in due] == list(range(30))
        assert [alert.payload["still"] for alert in due] == ["picture"] * 20 + [None] * 10
        assert [letter.alert_id for letter in outbox.dead_letters()] == [
            f"dead-{number:02}" for number in range(20, 40)
        ]
        assert outbox.refused_count() == 20
    with sqlite3.connect(path) as database:
        (delivered,) = database.execute(
            "SELECT count(*) FROM alerts WHERE state = 'delivered'"
        ).fetchone()
    assert delivered == 20


def test_threads_may_share_it(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.sqlite") as outbox:

        def work(name: int) -> None:
            for number in range(25):
                outbox.put(f"{name}-{number}", {"n": number}, at=NOW)
                outbox.note(f"last {name}", str(number))
                if number % 2:
                    outbox.delivered(f"{name}-{number}")

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(ids(outbox)) == sorted(f"{n}-{k}" for n in range(4) for k in range(0, 25, 2))
        assert [outbox.noted(f"last {name}") for name in range(4)] == ["24"] * 4


PUTTER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from fall_assets.edge.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]))
for number in range(100000):
    name = f"{sys.argv[2]}-{number}"
    outbox.put(name, {"still": "x" * 5000, "n": number}, at=datetime.now(UTC))
    sys.stdout.write(name + "\\n")
    sys.stdout.flush()
    if number % 3 == 0:
        outbox.delivered(name)
"""


def test_a_kill_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    expected: list[str] = []
    for kill in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", PUTTER, str(path), str(kill)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            names = [process.stdout.readline().strip() for _ in range(3 + 7 * kill)]
            process.send_signal(signal.SIGKILL)
            names += process.stdout.read().split()
            process.wait(30)
        expected += names
        with Outbox(path) as outbox:
            assert outbox.damaged == []
            there = ids(outbox, limit=10**6)
            gone = set(expected) - set(there)
            assert all(int(name.split("-")[1]) % 3 == 0 for name in gone), gone
            assert not any(outbox.put(name, {}, at=NOW) for name in gone)
            # In order; one more may have been taken without its name being said.
            assert [name for name in there if name in set(expected)] == [
                name for name in expected if name not in gone
            ]


def _filled(path: Path, count: int = 60, still: int = 3000) -> list[str]:
    with Outbox(path) as outbox:
        for number in range(count):
            outbox.put(f"a-{number:02}", {"n": number, "still": "x" * still}, at=NOW)
    return [f"a-{number:02}" for number in range(count)]


@pytest.mark.parametrize("how", ["no database", "empty header", "torn page", "cut off"])
def test_a_damaged_file_is_moved_aside_and_kept(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "outbox.sqlite"
    names = _filled(path)
    content = bytearray(path.read_bytes())
    if how == "no database":
        content = bytearray(b"this is a letter, not a database. " * 100)
    elif how == "empty header":
        content[:100] = bytes(100)
    elif how == "torn page":
        content[4096 * 3 : 4096 * 6] = b"\xff" * 4096 * 3
    else:
        del content[len(content) // 2 + 100 :]
    path.write_bytes(content)
    with caplog.at_level(logging.ERROR), Outbox(path) as outbox:
        (aside,) = outbox.damaged
        assert aside.read_bytes() == bytes(content)
        assert aside.name.startswith("outbox.sqlite.damaged-")
        assert aside.name in caplog.text
        # What could be read of the old one goes out, in order, and new ones come behind it.
        saved = ids(outbox)
        assert saved == [name for name in names if name in set(saved)]
        assert outbox.put("new", {}, at=NOW)
        assert ids(outbox) == [*saved, "new"]
        assert outbox.state == "ok"
    with Outbox(path) as outbox:
        assert outbox.damaged == []
        assert ids(outbox) == [*saved, "new"]


def test_damage_that_is_met_while_running(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    # More than SQLite keeps in memory.
    names = _filled(path, still=100_000)
    with Outbox(path) as outbox:
        with path.open("r+b") as file:
            file.seek(4096 * 2)
            file.write(b"\xff" * (path.stat().st_size - 4096 * 3))
        for number in range(30):
            assert outbox.put(f"new-{number:02}", {"still": "y" * 3000}, at=NOW)
        there = ids(outbox)
        assert there[-30:] == [f"new-{number:02}" for number in range(30)]
        assert set(there[:-30]) <= set(names)
        assert len(outbox.damaged) == 1
    with Outbox(path) as outbox:
        assert ids(outbox) == there


def test_another_programs_database_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE alerts (whatever TEXT)")
    database.close()
    with Outbox(path) as outbox:
        assert len(outbox.damaged) == 1
        assert outbox.put("a", {}, at=NOW)
        assert outbox.on_disk("a")


def test_a_later_schema_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    names = _filled(path, 3)
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE alerts ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'")
        database.execute("PRAGMA user_version = 7")
    database.close()
    with Outbox(path) as outbox:
        outbox.put("new", {}, at=NOW)
        assert ids(outbox) == [*names, "new"]
        assert outbox.damaged == []


class Disk:
    """A disk that can be filled: SQLite's own limit on pages gives the error of a full disk."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._connections: list[sqlite3.Connection] = []
        self._pages = 1 << 30
        real = sqlite3.connect

        def connect(*args: object, **options: object) -> sqlite3.Connection:
            made: sqlite3.Connection = real(*args, **options)  # type: ignore[call-overload]
            self._connections.append(made)
            made.execute(f"PRAGMA max_page_count = {self._pages}")
            return made

        monkeypatch.setattr(sqlite3, "connect", connect)

    def limit(self, pages: int) -> None:
        self._pages = pages
        for connection in self._connections:
            try:
                connection.execute(f"PRAGMA max_page_count = {pages}")
            except sqlite3.ProgrammingError:
                continue


def test_a_full_disk_keeps_alerts_in_memory_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(monkeypatch)
    path = tmp_path / "outbox.sqlite"
    with Outbox(path) as outbox:
        outbox.put("early", {"n": 0}, at=NOW)
        disk.limit(1)
        big = {"still": "x" * 50_000}
        for number in range(300):
            assert outbox.put(f"a-{number:03}", {**big, "n": number}, at=NOW)
        assert outbox.state == "disk full"
        assert not outbox.on_disk("a-299")
        assert outbox.on_disk("early")
        assert outbox.unwritten() == 300
        assert caplog.text.count("make room") == 1
        assert not outbox.put("a-000", big, at=NOW)
        outbox.note("fact", "small")
        assert outbox.noted("fact") == "small"
        assert ids(outbox) == ["early"] + [f"a-{number:03}" for number in range(300)]
        outbox.delivered("a-000")
        outbox.refused("a-001", "422")
        outbox.delivered("early")
        assert not outbox.put("a-000", big, at=NOW)
        rest = [f"a-{number:03}" for number in range(2, 300)]
        assert ids(outbox) == rest
        assert outbox.refused_count() == 1
        disk.limit(1 << 30)
        assert outbox.put("late", {}, at=NOW)
        assert (outbox.state, outbox.unwritten()) == ("ok", 0)
        assert outbox.on_disk("a-299")
    with Outbox(path) as outbox:
        due = outbox.due(NOW, 1000)
        assert [alert.alert_id for alert in due] == [*rest, "late"]
        assert [alert.payload["n"] for alert in due[:-1]] == list(range(2, 300))
        # Memory is for alerts: of many, the later ones lose their pictures.
        assert due[0].payload["still"] is not None
        assert due[-2].payload["still"] is None
        assert outbox.noted("fact") == "small"
        assert not outbox.put("a-000", {}, at=NOW)
        assert [letter.alert_id for letter in outbox.dead_letters()] == ["a-001"]


def test_a_full_disk_that_is_emptied_is_noticed_without_a_new_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        disk.limit(1)
        outbox.put("a", {"still": "x" * 50_000}, at=NOW)
        assert not outbox.flush()
        disk.limit(1 << 30)
        assert ids(outbox) == ["a"]
        assert outbox.on_disk("a")


def test_stills_do_not_take_the_last_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        outbox.put("a", {"still": "AAAA"}, at=NOW)
        monkeypatch.setattr(outbox_module, "_STILL_ROOM_BYTES", float("inf"))
        outbox.put("b", {"still": "AAAA", "score": 1}, at=NOW)
        assert [alert.payload for alert in outbox.due(NOW, 9)] == [
            {"still": "AAAA"},
            {"still": None, "score": 1},
        ]


def test_room_is_used_again(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    names = _filled(path, still=100_000)
    assert path.with_name("outbox.sqlite.reserve").stat().st_size > 1_000_000
    large = path.stat().st_size
    with Outbox(path) as outbox:
        for turn in range(3):
            for name in ids(outbox):
                outbox.delivered(name)
            for name in names:
                outbox.put(f"{turn} {name}", {"still": "x" * 100_000}, at=NOW)
    assert path.stat().st_size < large * 1.5


LIMITED = """
import resource, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from fall_assets.edge.outbox import Outbox
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
now = datetime.now(UTC)
before = sys.argv[2] == "before"
if before:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
outbox = Outbox(Path(sys.argv[1]))
if not before:
    outbox.put("early", {}, at=now)
    resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, resource.RLIM_INFINITY))
for number in range(40):
    assert outbox.put(f"a-{number:02}", {"still": "x" * 9000}, at=now)
assert outbox.state.startswith("not writable"), outbox.state
assert len(outbox.due(now, 100)) == 40 + (not before)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert outbox.flush(), outbox.state
assert outbox.state == "ok"
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_writes_that_fail_really(tmp_path: Path, when: str) -> None:
    path = tmp_path / "outbox.sqlite"
    subprocess.run([sys.executable, "-c", LIMITED, str(path), when], check=True, timeout=60)
    with Outbox(path) as outbox:
        early = [] if when == "before" else ["early"]
        assert ids(outbox) == early + [f"a-{number:02}" for number in range(40)]
        assert outbox.damaged == []


def test_a_place_that_cannot_be_opened_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    path.mkdir()
    with Outbox(path) as outbox:
        assert outbox.put("a", {}, at=NOW)
        assert outbox.state.startswith("not writable")
        assert ids(outbox) == ["a"]
        path.rmdir()
        until(outbox.flush, "the outbox is written")
    with Outbox(path) as outbox:
        assert ids(outbox) == ["a"]


def test_what_is_no_json_is_refused_at_once(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        with pytest.raises(ValueError):
            outbox.put("a", {"score": float("nan")}, at=NOW)
        assert ids(outbox) == []
    with pytest.raises(ValueError, match="closed"):
        outbox.put("a", {}, at=NOW)
