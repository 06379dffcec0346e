"""What the gateway keeps of boxes and for the platform. What belongs here: taking in and handing
out rows, stills and packages. What does not: HTTP (`routes`), the ward's side (`wards.py`), who is
told when (`escalation.py`).

Each list that the platform pulls has ids of its own, which become visible in their order: who asks
for what comes after the last id seen misses nothing and gets nothing twice.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, insert, select, update

from fall_assets.errors import FallAssetsError
from fall_assets.gateway import tables
from fall_assets.gateway.database import Database, raise_counter
from fall_assets.gateway.files import clean, sync_folder, write_durably
from fall_assets.gateway.messages import (
    AlertIn,
    AssignmentIn,
    AssignmentOut,
    CameraIn,
    Report,
    TelemetryIn,
    UpdateIn,
)
from fall_assets.gateway.settings import Settings
from fall_assets.gateway.tokens import Holder

CLOCK_WRONG_S: Final = 60.0
"""A box's clock that is off by more is not believed; usual clocks keep within a second by NTP."""

_log = logging.getLogger(__name__)


class RefusedError(FallAssetsError):
    """What was asked for is refused for good; nothing was stored."""


class ForbiddenError(RefusedError):
    """It is not the asker's to do."""


class ConflictError(RefusedError):
    """Something else is there under that name."""


class UnknownError(RefusedError):
    """There is no such thing, or not for the asker."""


class Store:
    """Rows in the database, stills and packages as files. Safe in threads."""

    def __init__(self, settings: Settings, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._settings = settings
        self._now = now
        self.stills = settings.data / "stills"
        self.packages = settings.data / "packages"
        for folder in (self.stills, self.packages):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            clean(folder)
        sync_folder(settings.data)

    # From boxes.

    def take_alert(self, holder: Holder, alert: AlertIn, still: bytes | None) -> bool:
        """Store an alert; on return it is on the disk. False where it was there already.

        `still` is the cleaned JPEG. Raises ForbiddenError where the camera is not the box's,
        ConflictError where another alert has that id, StoreBusyError.
        """
        now = self._now()
        content = _digest(alert.model_dump(mode="json", exclude={"sent_utc"}))
        offset = alert.sent_utc - now
        wrong = abs(offset.total_seconds()) > CLOCK_WRONG_S
        happened = alert.raised_utc
        if wrong:
            # Both are of the box's clock, so that their distance is right.
            happened = now - max(timedelta(), alert.sent_utc - alert.raised_utc)
        row = alert.model_dump(exclude={"still"}) | {
            "received_utc": now,
            "box": holder.box,
            "clock_offset_s": offset.total_seconds(),
            "content": content,
            "still": None,
            "happened_utc": min(happened, now),
            "clock_wrong": wrong,
            "state": "open",
            "level": -1,
            "next_level_utc": None if alert.shadow else now,
        }
        written: Path | None = None
        try:
            with self._database.writing() as connection:
                raise_counter(connection, "alerts", 0)
                self._check_cameras(connection, holder, [alert.camera_id])
                known = connection.execute(
                    select(tables.alerts.c.content, tables.alerts.c.box).where(
                        tables.alerts.c.alert_id == alert.alert_id
                    )
                ).first()
                if known is not None:
                    if (known.content, known.box) != (content, holder.box):
                        raise ConflictError("another alert has this alert_id: make a new one")
                    return False
                if still is not None:
                    # No text of the box's in a path.
                    row["still"] = f"{_digest([alert.alert_id, content])}.jpg"
                    written = self.stills / row["still"]
                    write_durably(written, still)
                row["id"] = raise_counter(connection, "alerts")
                connection.execute(insert(tables.alerts).values(row))
                raise_counter(connection, "revision")
        except BaseException:
            if written is not None:
                written.unlink(missing_ok=True)
            raise
        if wrong:
            _log.warning(
                "alert %s: the clock of box %s is off by %.0f s",
                alert.alert_id,
                holder.box,
                offset.total_seconds(),
            )
        return True

    def take_reports(self, holder: Holder, telemetry: TelemetryIn) -> int:
        """Store what is new of these reports; how many are stored now, known ones included.

        What a shadow sees of a camera is kept and says nothing of whether the ward's version
        watches it.

        Raises ForbiddenError where one of the cameras is not the box's; then none is stored.
        """
        now = self._now()
        offset = telemetry.sent_utc - now
        if abs(offset.total_seconds()) <= CLOCK_WRONG_S:
            offset = timedelta()
        names = sorted({report.camera_id for report in telemetry.reports})
        with self._database.writing() as connection:
            raise_counter(connection, "reports", 0)
            self._check_cameras(connection, holder, names)
            states = {
                row.camera_id: row.state
                for row in connection.execute(
                    select(tables.camera_states).where(tables.camera_states.c.camera_id.in_(names))
                )
            }
            changed = False
            for report in sorted(map(_placed, telemetry.reports), key=lambda one: one.at_utc):
                key = {"camera_id": report.camera_id, "at_utc": report.at_utc}
                found = connection.scalar(
                    select(tables.reports.c.id).where(
                        *(tables.reports.c[name] == value for name, value in key.items())
                    )
                )
                if found is not None:
                    continue
                row = key | {
                    "id": raise_counter(connection, "reports"),
                    "received_utc": now,
                    "box": holder.box,
                    "content": report.model_dump_json(),
                }
                connection.execute(insert(tables.reports).values(row))
                if report.shadow:
                    continue
                state = key | {
                    "state": report.state,
                    "since_utc": min(report.since_utc - offset, now),
                    "received_utc": now,
                }
                changed |= states.get(report.camera_id) != report.state
                if report.camera_id in states:
                    connection.execute(
                        update(tables.camera_states)
                        .where(tables.camera_states.c.camera_id == report.camera_id)
                        .values(state)
                    )
                else:
                    connection.execute(insert(tables.camera_states).values(state))
                states[report.camera_id] = report.state
            if changed:
                raise_counter(connection, "revision")
        return len(telemetry.reports)

    def take_update(self, holder: Holder, news: UpdateIn) -> None:
        """Store what became of a package on a box."""
        with self._database.writing() as connection:
            connection.execute(
                insert(tables.updates).values(
                    id=raise_counter(connection, "updates"),
                    received_utc=self._now(),
                    box=holder.box,
                    content=news.model_dump_json(),
                )
            )

    def assignment_for(
        self, box: str, known: Callable[[str], bool] = lambda _: False
    ) -> tuple[AssignmentOut | None, str] | None:
        """The box's assignment, or that for all boxes where it is newer; and its etag.

        Where the etag is `known`, the assignment is not read: it may be large, and every box asks
        once a minute.
        """
        assignments = tables.assignments.c
        with self._database.reading() as connection:
            rows = connection.execute(
                select(assignments.box, assignments.serial, assignments.etag).where(
                    assignments.box.in_([box, "*"])
                )
            ).all()
            if not rows:
                return None
            newest = max(rows, key=lambda row: (row.serial, row.box == box))
            if known(newest.etag):
                return None, newest.etag
            row = connection.execute(
                select(assignments.assignment, assignments.signature).where(
                    assignments.box == newest.box
                )
            ).one()
        return AssignmentOut(assignment=row.assignment, signature=row.signature), newest.etag

    # From the platform.

    def set_cameras(self, cameras: Sequence[CameraIn]) -> int:
        """Replace what is known of all cameras; ConflictError where one is named twice."""
        names = [camera.camera_id for camera in cameras]
        twice = sorted({name for name in names if names.count(name) > 1}) if names else []
        if twice:
            raise ConflictError(f"cameras that are named more than once: {', '.join(twice[:5])}")
        rows = [
            camera.model_dump() | {"ward": camera.ward or None, "room": camera.room or None}
            for camera in cameras
        ]
        with self._database.writing() as connection:
            raise_counter(connection, "revision")
            connection.execute(delete(tables.cameras))
            if rows:
                connection.execute(insert(tables.cameras), rows)
        return len(rows)

    def set_assignment(self, box: str, signed: AssignmentIn) -> None:
        """Store a box's assignment ("*": that of all boxes).

        The signature is the box's to check; here only what would never work is refused. Raises
        ConflictError where a newer one is there, RefusedError where it is none for that box.
        """
        try:
            content = json.loads(base64.b64decode(signed.assignment))
            serial, whose = content["serial"], content["box"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RefusedError("the assignment is no JSON object with a box and a serial") from None
        if type(serial) is not int or not 0 <= serial < 2**53:
            raise RefusedError("the assignment's serial is no whole number of 0 or more")
        if whose != box:
            raise RefusedError("the assignment is for another box than the address says")
        row = {
            "box": box,
            "serial": serial,
            "assignment": signed.assignment,
            "signature": signed.signature,
            "etag": _digest([signed.assignment, signed.signature])[:32],
        }
        with self._database.writing() as connection:
            raise_counter(connection, "revision")
            known = connection.execute(
                select(tables.assignments).where(tables.assignments.c.box == box)
            ).first()
            if known is not None and (
                known.serial > serial or (known.serial == serial and known.etag != row["etag"])
            ):
                raise ConflictError(
                    f"an assignment with serial {known.serial} is there: give a higher one"
                )
            connection.execute(delete(tables.assignments).where(tables.assignments.c.box == box))
            connection.execute(insert(tables.assignments).values(row))

    def alerts_after(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Alerts with an id over `after`, at most `limit`, in order."""
        rows = self._after(tables.alerts, after, limit)
        return [row | {"has_still": row["still"] is not None} for row in rows]

    def answers_after(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Answers with an id over `after`, with what they are about."""
        about = ("camera_id", "raised_utc", "start_utc", "model_version")
        with self._database.reading() as connection:
            rows = connection.execute(
                select(tables.answers, *(tables.alerts.c[name] for name in about))
                .join(tables.alerts, tables.alerts.c.alert_id == tables.answers.c.alert_id)
                .where(tables.answers.c.id > after)
                .order_by(tables.answers.c.id)
                .limit(limit)
            )
            return [dict(row) for row in rows.mappings()]

    def falls_after(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Reported falls with an id over `after`, in order."""
        return self._after(tables.falls, after, limit)

    def reports_after(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Reports with an id over `after`, in order."""
        return [_opened(row) for row in self._after(tables.reports, after, limit)]

    def updates_after(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Updates with an id over `after`, in order."""
        return [_opened(row) for row in self._after(tables.updates, after, limit)]

    def still_of(self, alert_id: str) -> Path:
        """The still's file; UnknownError where there is none."""
        with self._database.reading() as connection:
            name = connection.scalar(
                select(tables.alerts.c.still).where(tables.alerts.c.alert_id == alert_id)
            )
        return self.still_file(name)

    def still_file(self, name: str | None) -> Path:
        """The file of that name, as the table has it; UnknownError where it is gone."""
        path = self.stills / name if name else None
        if path is None or not path.is_file():
            raise UnknownError("there is no still")
        return path

    def package_file(self, sha256: str) -> Path:
        """Where a package lies, or would lie; the hash was checked against its pattern."""
        return self.packages / f"{sha256}.tar.gz"

    # Housekeeping.

    def ready(self) -> None:
        """StoreBusyError where the database cannot be written to."""
        with self._database.writing() as connection:
            raise_counter(connection, "revision", 0)

    def revision(self) -> int:
        """A number that grows whenever what wards see has changed."""
        with self._database.reading() as connection:
            value = connection.scalar(
                select(tables.counters.c.value).where(tables.counters.c.name == "revision")
            )
        return int(value or 0)

    def forget(self) -> int:
        """Remove what is older than `keep_days`, but for what boxes are to run; how many alerts."""
        before = self._now() - timedelta(days=self._settings.keep_days)
        alerts, answers = tables.alerts.c, tables.answers.c
        with self._database.writing() as connection:
            old = connection.execute(
                select(alerts.alert_id, alerts.still).where(alerts.received_utc < before)
            ).all()
            names = [row.alert_id for row in old]
            for start in range(0, len(names), 500):
                some = names[start : start + 500]
                connection.execute(
                    delete(tables.notifications).where(tables.notifications.c.alert_id.in_(some))
                )
                connection.execute(delete(tables.answers).where(answers.alert_id.in_(some)))
                connection.execute(delete(tables.alerts).where(alerts.alert_id.in_(some)))
            for table in (tables.falls, tables.reports, tables.updates):
                connection.execute(delete(table).where(table.c.received_utc < before))
        for row in old:
            if row.still:
                (self.stills / row.still).unlink(missing_ok=True)
        return len(old)

    def _check_cameras(self, connection: Connection, holder: Holder, names: Sequence[str]) -> None:
        """ForbiddenError where the box may not speak of one of these cameras."""
        if holder.cameras is not None:
            allowed = holder.cameras.issuperset(names)
        else:
            others = connection.scalars(
                select(tables.cameras.c.camera_id).where(
                    tables.cameras.c.camera_id.in_(names),
                    tables.cameras.c.box.is_not(None),
                    tables.cameras.c.box != holder.box,
                )
            ).all()
            allowed = not others
        if not allowed:
            raise ForbiddenError("this token may not speak of that camera")

    def _after(self, table: Table, after: int, limit: int) -> list[dict[str, Any]]:
        with self._database.reading() as connection:
            rows = connection.execute(
                select(table).where(table.c.id > after).order_by(table.c.id).limit(limit)
            )
            return [dict(row) for row in rows.mappings()]


def _placed(report: Report) -> Report:
    """The report; a shadow's a microsecond later.

    Camera and time are the key of reports, here and in the lake, boxes say milliseconds, and two
    versions may watch one camera.
    """
    if not report.shadow:
        return report
    return report.model_copy(update={"at_utc": report.at_utc + timedelta(microseconds=1)})


def _opened(row: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(row["content"])
    return content | {name: row[name] for name in ("id", "received_utc", "box")}


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
