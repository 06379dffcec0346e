"""Alerts that wait for the gateway, on a disk that may fill and a box that may lose power.

What belongs here: keeping alerts and small facts so that neither SIGKILL nor a power cut takes one
that `put` has taken. What does not: sending them (`sender.py`), or what an alert says.

One process owns an outbox. Others may open the file and read it.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

_log = logging.getLogger(__name__)

State = Literal["waiting", "delivered", "refused"]

# A newer schema may add tables and columns with defaults, never take away or change any: after a
# roll-back an older runner goes on with it.
SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE alerts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    alert_id TEXT NOT NULL UNIQUE,
    payload BLOB NOT NULL,
    put_utc TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    settled_utc TEXT,
    detail TEXT NOT NULL DEFAULT ''
);
CREATE INDEX alerts_by_state ON alerts (state, seq);
CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_COLUMNS = {
    "alerts": {"seq", "alert_id", "payload", "put_utc", "state", "settled_utc", "detail"},
    "notes": {"key", "value"},
}

_KEPT = timedelta(days=7)
_TIDY_EVERY = 256
# More than the log has, which must be able to be folded into the database on a full disk.
_RESERVE_BYTES = 2_000_000
# Stills do not take a disk's last room: what is left is for words, and for saying what arrived.
_STILL_ROOM_BYTES = 10_000_000
# In pages of 4 kB: the log is folded into the database early, so that it stays small.
_LOG_PAGES = 250
_DETAIL_LENGTH = 200
# Checking all pages of a file takes seconds from here on; damage then shows when it is met.
_CHECKED_BYTES = 64_000_000
# An appointment further away than any that is ever made: the clock was put back.
_CLOCK_WAS_PUT_BACK = timedelta(minutes=10)
# A still has about 50 kB. Memory is for alerts, not for pictures.
_UNWRITTEN_STILLS = 200
_LITTLE_ROOM_BYTES = 200_000
_UNWRITTEN_SETTLED = 10_000


@dataclass(frozen=True)
class DueAlert:
    """An alert that should be tried now; `attempts` failed since this process started."""

    alert_id: str
    payload: dict[str, Any] = field(repr=False)
    at: datetime
    attempts: int


@dataclass(frozen=True)
class DeadLetter:
    """An alert that the gateway refused for good, and why."""

    alert_id: str
    payload: dict[str, Any] = field(repr=False)
    at: datetime
    detail: str


@dataclass
class _Waiting:
    at: datetime
    attempts: int = 0
    retry_at: datetime | None = None


@dataclass
class _Unwritten:
    """What is in memory only, in the order in which it came."""

    alerts: dict[str, tuple[datetime, bytes]] = field(default_factory=dict)
    settled: dict[str, tuple[State, datetime, str]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.alerts or self.settled or self.notes)


class Outbox:
    """Alerts until they are delivered. Safe in threads.

    `put` has the alert on the disk when it returns (SQLite, write-ahead log, `synchronous=FULL`).
    Where the disk is full or fails, nothing raises: alerts are kept in memory, in order, `state`
    says so, and every later call tries to write them. A reserve of 2 MB beside the database
    (`NAME.reserve`) is given up first.

    A file that is no database, or one that is damaged, is renamed to `NAME.damaged-TIME` beside
    it; what can still be read of its waiting alerts is taken over. It is never deleted.

    Delivered alerts lose their payload at once and their row after a week. Refused ones stay as
    `dead_letters`. Of both, at most `max_rows` are kept. Waiting ones are never thrown away; of
    more than `max_rows`, and of those that come while the disk has less than 10 MB left, the
    `still` is not kept: an outbox does not fill its own disk with pictures.
    """

    def __init__(self, path: Path, *, max_rows: int = 100_000) -> None:
        self.path = path
        self.damaged: list[Path] = []
        """Databases that this object had to move aside."""
        self._max_rows = max_rows
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        self._unwritten = _Unwritten()
        self._waiting: dict[str, _Waiting] = {}
        self._refused = 0
        self._problem = ""
        self._closed = False
        self._checked = False
        self._changes = 0
        with self._lock:
            self._save()

    @property
    def state(self) -> str:
        """`ok`, `disk full`, or `not writable: ` and the reason; if not ok, alerts may be lost."""
        with self._lock:
            return self._problem or "ok"

    def put(
        self,
        alert_id: str,
        payload: Mapping[str, Any],
        *,
        at: datetime,
        notes: Mapping[str, str] | None = None,
    ) -> bool:
        """Take an alert; whether it is new. On the disk when this returns and `state` is ok.

        `payload` is what the gateway gets, as JSON; `at` is when the alert was raised. `notes` are
        written with it: both or neither. An id that is known, delivered ones of the last week
        included, changes nothing. Raises TypeError or ValueError where the payload is not JSON.
        """
        text = _bytes(payload)
        with self._lock:
            self._check_open()
            if self._knows(alert_id):
                return False
            if (
                len(self._waiting) >= self._max_rows
                or len(self._unwritten.alerts) >= _UNWRITTEN_STILLS
                or self._room() < _STILL_ROOM_BYTES
            ):
                text = _bytes({**payload, "still": None}) if payload.get("still") else text
            self._waiting[alert_id] = _Waiting(at)
            self._unwritten.alerts[alert_id] = (at, text)
            self._unwritten.notes.update(notes or {})
            self._save()
            return True

    def on_disk(self, alert_id: str) -> bool:
        """Whether a power cut now would leave what is known of this alert in place."""
        with self._lock:
            return alert_id not in self._unwritten.alerts and self._knows(alert_id)

    def due(self, now: datetime, limit: int, *, untried: bool = False) -> list[DueAlert]:
        """At most `limit` alerts that should be tried now: the least tried, of them the oldest.

        `untried`: only those that were not tried yet since this process started.
        """
        with self._lock:
            self._check_open()
            if self._unwritten:
                self._save()
            found: list[DueAlert] = []
            readable = True
            chosen = [
                (alert_id, waiting)
                for alert_id, waiting in self._waiting.items()
                if not (untried and waiting.attempts)
                and not (waiting.retry_at and now < waiting.retry_at <= now + _CLOCK_WAS_PUT_BACK)
            ]
            for alert_id, waiting in sorted(chosen, key=lambda pair: pair[1].attempts):
                if len(found) == limit:
                    break
                if not readable and alert_id not in self._unwritten.alerts:
                    continue
                if (payload := self._payload(alert_id)) is not None:
                    found.append(DueAlert(alert_id, payload, waiting.at, waiting.attempts))
                elif self._database is None:
                    readable = False
                else:
                    # It was delivered already, while the disk could not be read.
                    self._waiting.pop(alert_id, None)
            return found

    def next_due(self) -> datetime | None:
        """When the next alert should be tried; None without any. In the past: at once."""
        with self._lock:
            times = [waiting.retry_at or waiting.at for waiting in self._waiting.values()]
        return min(times, default=None)

    def delivered(self, alert_id: str) -> None:
        """The gateway has it; its payload is dropped."""
        self._settle(alert_id, "delivered", "")

    def failed(self, alert_id: str, detail: str, retry_at: datetime) -> None:
        """It did not arrive; not due before `retry_at`, which is forgotten by a restart."""
        with self._lock:
            if (waiting := self._waiting.get(alert_id)) is not None:
                waiting.attempts += 1
                waiting.retry_at = retry_at
        _log.info("alert %s waits until %s: %s", alert_id, retry_at.isoformat(), detail)

    def retry_now(self, but: Collection[str] = ()) -> None:
        """Make all alerts as if never tried, but for these ids: the gateway is back."""
        with self._lock:
            for alert_id, waiting in self._waiting.items():
                if alert_id not in but:
                    waiting.attempts, waiting.retry_at = 0, None

    def refused(self, alert_id: str, detail: str) -> None:
        """The gateway will never take it; it stays as a dead letter with the reason."""
        self._settle(alert_id, "refused", detail)

    def waiting(self) -> int:
        """How many alerts are not delivered yet."""
        with self._lock:
            return len(self._waiting)

    def unwritten(self) -> int:
        """How many waiting alerts are in memory only."""
        with self._lock:
            return len(self._unwritten.alerts.keys() & self._waiting.keys())

    def refused_count(self) -> int:
        """How many dead letters are kept."""
        with self._lock:
            return self._refused

    def dead_letters(self) -> list[DeadLetter]:
        """The alerts that were refused for good and are on the disk, oldest first."""
        sql = "SELECT alert_id, payload, put_utc, detail FROM alerts WHERE state = 'refused' "
        with self._lock:
            rows = self._read(sql + "ORDER BY seq")
        return [
            DeadLetter(alert_id, json.loads(payload), datetime.fromisoformat(at), detail)
            for alert_id, payload, at, detail in rows
        ]

    def note(self, key: str, value: str) -> None:
        """Keep a small fact, as durably as an alert; instead of an earlier one of that key."""
        with self._lock:
            self._check_open()
            self._unwritten.notes[key] = value
            self._save()

    def noted(self, key: str) -> str | None:
        """The fact of that key; None where there is none."""
        with self._lock:
            if key in self._unwritten.notes:
                return self._unwritten.notes[key]
            rows = self._read("SELECT value FROM notes WHERE key = ?", (key,))
            return str(rows[0][0]) if rows else None

    def flush(self) -> bool:
        """Try to write what is in memory only; whether all is on the disk."""
        with self._lock:
            return self._save()

    def close(self) -> None:
        """Write what can be written and close the file; a kill does no harm either."""
        with self._lock:
            if self._closed:
                return
            if not self._save():
                _log.error(
                    "the outbox closes with %d alerts that are on no disk: %s",
                    self.unwritten(),
                    self._problem,
                )
            self._closed = True
            self._disconnect()

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the outbox is closed: open another one on the same path")

    def _knows(self, alert_id: str) -> bool:
        return (
            alert_id in self._waiting
            or alert_id in self._unwritten.alerts
            or alert_id in self._unwritten.settled
            or bool(self._read("SELECT 1 FROM alerts WHERE alert_id = ?", (alert_id,)))
        )

    def _payload(self, alert_id: str) -> dict[str, Any] | None:
        if alert_id in self._unwritten.alerts:
            text = self._unwritten.alerts[alert_id][1]
        else:
            rows = self._read(
                "SELECT payload FROM alerts WHERE alert_id = ? AND state = 'waiting'", (alert_id,)
            )
            if not rows:
                return None
            text = rows[0][0]
        payload: dict[str, Any] = json.loads(text)
        return payload

    def _settle(self, alert_id: str, state: State, detail: str) -> None:
        with self._lock:
            self._check_open()
            if self._waiting.pop(alert_id, None) is None:
                return
            if alert_id in self._unwritten.alerts and state == "delivered":
                at, _ = self._unwritten.alerts[alert_id]
                self._unwritten.alerts[alert_id] = (at, b"{}")
            self._unwritten.settled[alert_id] = (state, _now(), detail[:_DETAIL_LENGTH])
            self._refused += state == "refused"
            self._save()
            if len(self._unwritten.settled) > _UNWRITTEN_SETTLED:
                self._forget_oldest_settled()

    def _forget_oldest_settled(self) -> None:
        """Memory stays bounded on a disk that is full for weeks: delivered is delivered."""
        oldest = next(iter(self._unwritten.settled))
        if oldest in self._unwritten.alerts:
            del self._unwritten.settled[oldest]
            del self._unwritten.alerts[oldest]

    def _save(self) -> bool:
        """Write all that is in memory in one transaction; whether it is on the disk."""
        try:
            try:
                self._write(self._unwritten)
            except sqlite3.DatabaseError as error:
                if _is_damage(error):
                    self._replace(str(error))
                    self._write(self._unwritten)
                elif _code(error) == sqlite3.SQLITE_FULL:
                    self._make_room()
                    self._write_in_pieces()
                else:
                    raise
        except (sqlite3.Error, OSError) as error:
            problem = self._failed(error)
            if problem != self._problem:
                _log.error(
                    "the outbox %s cannot be written (%s): alerts are in memory only until it can; "
                    "make room or repair the disk",
                    self.path,
                    problem,
                )
            self._problem = problem
            return False
        if self._problem:
            _log.warning("the outbox %s can be written again", self.path)
            self._problem = ""
        return True

    def _write(self, new: _Unwritten) -> None:
        """Write these in one transaction; they are then no longer in memory only."""
        database = self._connect()
        if not new:
            return
        with _transaction(database):
            database.executemany(
                "INSERT OR IGNORE INTO alerts (alert_id, payload, put_utc) VALUES (?, ?, ?)",
                [(key, text, at.isoformat()) for key, (at, text) in new.alerts.items()],
            )
            for alert_id, (state, at, detail) in new.settled.items():
                database.execute(
                    "UPDATE alerts SET state = ?1, settled_utc = ?2, detail = ?3, "
                    "payload = CASE ?1 WHEN 'delivered' THEN '{}' ELSE payload END "
                    "WHERE alert_id = ?4",
                    (state, at.isoformat(), detail, alert_id),
                )
            database.executemany(
                "INSERT INTO notes (key, value) VALUES (?, ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                list(new.notes.items()),
            )
            if self._changes % _TIDY_EVERY == 0:
                self._prune(database)
        self._keep_reserve()
        self._changes += 1
        if new is self._unwritten:
            self._unwritten = _Unwritten()
            return
        for written, all_of_it in (
            (new.alerts, self._unwritten.alerts),
            (new.settled, self._unwritten.settled),
            (new.notes, self._unwritten.notes),
        ):
            for key in written:
                all_of_it.pop(key, None)

    def _write_in_pieces(self) -> None:
        """Write as much as there is room for, in order: what gives room back before what takes it.

        Raises sqlite3.DatabaseError with the first that does not fit.
        """
        new = self._unwritten
        on_disk = {k: settled for k, settled in new.settled.items() if k not in new.alerts}
        self._write(_Unwritten(settled=on_disk))
        for key, alert in list(new.alerts.items()):
            settled = {key: new.settled[key]} if key in new.settled else {}
            self._write(_Unwritten({key: alert}, settled))
        self._write(new)

    @property
    def _reserve(self) -> Path:
        return self.path.with_name(self.path.name + ".reserve")

    def _make_room(self) -> None:
        """Give the reserve up, and fold the log into the database, which shortens it.

        Without that, a log that took the last room itself could never be shortened.
        """
        with suppress(OSError):
            self._reserve.unlink(missing_ok=True)
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _keep_reserve(self) -> None:
        """Have a file that can be given up when the disk is full, where there is room for one."""
        with suppress(OSError):
            if self._reserve.exists() or self._room() < 3 * _RESERVE_BYTES:
                return
            with self._reserve.open("wb") as file:
                # Written, not only made longer: a hole takes no room.
                file.write(bytes(_RESERVE_BYTES))

    def _prune(self, database: sqlite3.Connection) -> None:
        before = (_now() - _KEPT).isoformat()
        database.execute(
            "DELETE FROM alerts WHERE state = 'delivered' AND settled_utc < ?", (before,)
        )
        for state in ("delivered", "refused"):
            database.execute(
                "DELETE FROM alerts WHERE state = ?1 AND seq <= ("
                "SELECT seq FROM alerts WHERE state = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
                (state, self._max_rows),
            )
        self._refused = _count(database, "refused")

    def _connect(self) -> sqlite3.Connection:
        if self._database is not None:
            return self._database
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(
            self.path, timeout=5.0, isolation_level=None, check_same_thread=False
        )
        try:
            if not self.path.stat().st_size:
                # Alerts hold stills of patients.
                self.path.chmod(0o600)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
            database.execute(f"PRAGMA journal_size_limit = {_LOG_PAGES * 4096}")
            self._prepare(database)
            rows = database.execute(
                "SELECT alert_id, put_utc FROM alerts WHERE state = 'waiting' ORDER BY seq"
            ).fetchall()
            self._refused = _count(database, "refused") + sum(
                state == "refused" for state, _, _ in self._unwritten.settled.values()
            )
        except BaseException:
            database.close()
            raise
        _sync_folder(self.path.parent)
        kept = {
            alert_id: self._waiting.get(alert_id) or _Waiting(datetime.fromisoformat(at))
            for alert_id, at in rows
            if alert_id not in self._unwritten.settled
        }
        # What is only in memory came later than what is on the disk.
        for alert_id, waiting in self._waiting.items():
            if alert_id in self._unwritten.alerts:
                kept.setdefault(alert_id, waiting)
        if gone := len(self._waiting.keys() - kept.keys()):
            _log.error("%d alerts are gone from the outbox %s: who took it away?", gone, self.path)
        self._waiting = kept
        self._database = database
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        """Make the tables in a new database; look over the one that is there."""
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if not self._checked and self.path.stat().st_size < _CHECKED_BYTES:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise _DamagedError(found)
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        if version == 0 and not tables:
            with _transaction(database):
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for name, columns in _COLUMNS.items():
            there = {row[1] for row in database.execute(f"PRAGMA table_info({name})")}
            if not columns <= there:
                raise _DamagedError(f"the table {name} is not that of an outbox")
        self._checked = True

    def _replace(self, reason: str) -> None:
        """Move the damaged database aside, begin a new one, take over what can be read."""
        self._disconnect()
        stamp = _now().strftime("%Y%m%dT%H%M%S%fZ")
        aside = self.path.with_name(f"{self.path.name}.damaged-{stamp}")
        self.path.rename(aside)
        for end in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                self.path.with_name(self.path.name + end).rename(aside.with_name(aside.name + end))
        _sync_folder(self.path.parent)
        self.damaged.append(aside)
        self._checked = False
        settled = self._unwritten.settled
        saved = {key: value for key, value in _salvaged(aside).items() if key not in settled}
        gone = self._waiting.keys() - saved.keys() - self._unwritten.alerts.keys()
        self._unwritten.alerts = {**saved, **self._unwritten.alerts}
        self._waiting = {
            key: self._waiting.get(key) or _Waiting(at)
            for key, (at, _) in self._unwritten.alerts.items()
            if key not in settled
        }
        _log.error(
            "the outbox %s is damaged (%s): it was moved to %s; %d waiting alerts could be read "
            "and are sent, at least %d could not; keep the file and look at it",
            self.path,
            reason,
            aside.name,
            len(saved),
            len(gone),
        )

    def _read(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Rows; none where the database cannot be read now."""
        try:
            return self._connect().execute(sql, values).fetchall()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                self._problem = self._problem or self._failed(error)
                return []
        except OSError as error:
            self._problem = self._problem or self._failed(error)
            return []
        # What was asked for is in the damaged file; what could be saved of it is waiting again.
        self._disconnect()
        self._save()
        return []

    def _failed(self, error: Exception) -> str:
        """What is wrong, in words; the next try begins with a new connection where it must."""
        full = _code(error) == sqlite3.SQLITE_FULL
        if not full:
            self._disconnect()
        full = full or (isinstance(error, OSError) and error.errno == errno.ENOSPC)
        # A full disk has many codes: the shared memory of the log cannot grow, for example.
        full = full or self._room() < _LITTLE_ROOM_BYTES
        return "disk full" if full else f"not writable: {error}"

    def _room(self) -> float:
        """Bytes that can still be written where the outbox is; infinite where nobody knows."""
        try:
            disk = os.statvfs(self.path.parent)
        except OSError:
            return math.inf
        return disk.f_bavail * disk.f_frsize

    def _disconnect(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None


class _DamagedError(sqlite3.DatabaseError):
    """The database can be opened, but is not sound."""


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return isinstance(error, _DamagedError) or _code(error) in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    )


def _code(error: Exception) -> int:
    """SQLite's primary result code; 0 for other errors."""
    # The low byte of the extended one.
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _salvaged(path: Path) -> dict[str, tuple[datetime, bytes]]:
    """Waiting alerts that can be read of a damaged database, oldest first."""
    found: dict[str, tuple[datetime, bytes]] = {}
    # Without the index: it may be what is damaged.
    sql = "SELECT alert_id, payload, put_utc FROM alerts NOT INDEXED WHERE state = 'waiting'"
    with (
        suppress(sqlite3.Error, ValueError, TypeError),
        closing(sqlite3.connect(path.absolute().as_uri() + "?mode=ro", uri=True)) as database,
    ):
        for alert_id, text, at in database.execute(sql):
            json.loads(text)
            found[alert_id] = (datetime.fromisoformat(at), bytes(text))
    return found


def _count(database: sqlite3.Connection, state: State) -> int:
    row = database.execute("SELECT count(*) FROM alerts WHERE state = ?", (state,)).fetchone()
    return int(row[0])


def _sync_folder(folder: Path) -> None:
    """A new file's name is on the disk only when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


def _bytes(payload: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(payload), allow_nan=False, separators=(",", ":")).encode()


def _now() -> datetime:
    return datetime.now(UTC)
