"""Who is told when nobody answers. What belongs here: levels, the outbox of notifications, trying
again. What does not: how to send (`outputs.py`).

All state is in the database: a gateway that was killed goes on where it was. What is told stands
in the outbox before it is sent, once for each alert, contact and level, so that it is sent at least
once; the notice's key is the same each time.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import select, update

from fall_assets.errors import PassingFailureError
from fall_assets.gateway import tables
from fall_assets.gateway.database import Database, raise_counter
from fall_assets.gateway.outputs import MQTT_EVENTS, Notice, NotSentError, Outputs
from fall_assets.gateway.settings import Settings
from fall_assets.gateway.wards import notify

TICK_S: Final = 1.0
THREADS: Final = 8
MOST_DUE: Final = 200
SYNC_TICKS: Final = 5

_log = logging.getLogger(__name__)


class Escalator:
    """Raises levels and sends what is in the outbox, beside the requests.

    `changed` is called in the loop's thread whenever what wards see has changed.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        outputs: Outputs,
        now: Callable[[], datetime],
        changed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._database = database
        self._outputs = outputs
        self._now = now
        self._changed = changed
        self._wake = asyncio.Event()
        self._threads = ThreadPoolExecutor(THREADS, "notify")
        self._busy: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def nudge(self) -> None:
        """Something was stored: look now. To be called in the loop's thread."""
        self._wake.set()

    def close(self) -> None:
        """Leave the broker; what is being sent may end."""
        if self._outputs.mqtt is not None:
            self._outputs.mqtt.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self) -> None:
        """Look every second until cancelled."""
        tick = 0
        try:
            while True:
                nudged = self._wake.is_set()
                self._wake.clear()
                try:
                    await self._look(sync=nudged or tick % SYNC_TICKS == 0)
                except PassingFailureError as error:
                    _log.warning("cannot look who is to be told: %s", error)
                tick += 1
                try:
                    await asyncio.wait_for(self._wake.wait(), TICK_S)
                except TimeoutError:
                    continue
        finally:
            for task in self._tasks:
                task.cancel()

    async def _look(self, *, sync: bool) -> None:
        loop = asyncio.get_running_loop()
        if await loop.run_in_executor(self._threads, self.raise_levels):
            self._changed()
        # Who is being told now may have been told by the time these rows are here, which then
        # still say waiting: only who was free before the reading is told of them.
        busy = frozenset(self._busy)
        by_contact = defaultdict(list)
        for row in await loop.run_in_executor(self._threads, self._due):
            by_contact[row.contact].append(row)
        for contact, rows in by_contact.items():
            # One at a time and contact: who is away holds up nobody else.
            if contact not in busy:
                self._busy.add(contact)
                task = asyncio.create_task(self._send_all(contact, rows))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        if sync and self._outputs.mqtt is not None:
            mqtt = self._outputs.mqtt
            await loop.run_in_executor(self._threads, lambda: mqtt.sync(self._outputs.rooms()))

    async def _send_all(self, contact: str, rows: Sequence[Any]) -> None:
        loop = asyncio.get_running_loop()
        try:
            for row in rows:
                sent = await loop.run_in_executor(self._threads, self._send, row)
                self._changed()
                if not sent:
                    break
        except PassingFailureError as error:
            _log.warning("cannot note what %r was told: %s", contact, error)
        finally:
            self._busy.discard(contact)

    def raise_levels(self) -> int:
        """Raise the level of each alert whose time is over, and put its notifications into the
        outbox; how many alerts.
        """
        now = self._now()
        alerts = tables.alerts.c
        due = (
            select(tables.alerts, tables.cameras.c.ward)
            .outerjoin(tables.cameras, tables.cameras.c.camera_id == alerts.camera_id)
            .where(alerts.next_level_utc <= now, alerts.state == "open", alerts.shadow.is_(False))
            .order_by(alerts.id)
        )
        with self._database.reading() as connection:
            if connection.execute(due.limit(1)).first() is None:
                return 0
        raised = 0
        with self._database.writing() as connection:
            for row in connection.execute(due).all():
                level = row.level + 1
                contacts = [one for one in self._settings.contacts if one.concerns(row.ward)]
                old = row.received_utc < now - timedelta(seconds=self._settings.escalation.within_s)
                more = not old and any(one.level > level for one in contacts)
                wait = timedelta(seconds=self._settings.escalation.after_s)
                # Another process, or an answer, may have been faster.
                taken = connection.execute(
                    update(tables.alerts)
                    .where(
                        alerts.alert_id == row.alert_id,
                        alerts.level == row.level,
                        alerts.state == "open",
                    )
                    .values(level=level, next_level_utc=now + wait if more else None)
                ).rowcount
                if not taken:
                    continue
                raised += 1
                names = [] if old else [one.name for one in contacts if one.level == level]
                if level == 0 and not old and MQTT_EVENTS in self._outputs.send:
                    names.append(MQTT_EVENTS)
                notify(connection, row.alert_id, names, f"level-{level}", now)
            if raised:
                raise_counter(connection, "revision")
        return raised

    def _due(self) -> Sequence[Any]:
        notes = tables.notifications.c
        with self._database.reading() as connection:
            return connection.execute(
                select(
                    tables.notifications,
                    tables.alerts.c.camera_id,
                    tables.alerts.c.kind,
                    tables.alerts.c.happened_utc,
                    tables.alerts.c.received_utc,
                    tables.alerts.c.state.label("alert_state"),
                    tables.cameras.c.ward,
                    tables.cameras.c.room,
                    tables.cameras.c.bed,
                )
                .join(tables.alerts, tables.alerts.c.alert_id == notes.alert_id)
                .outerjoin(tables.cameras, tables.cameras.c.camera_id == tables.alerts.c.camera_id)
                .where(notes.state == "waiting", notes.due_utc <= self._now())
                .order_by(notes.id)
                .limit(MOST_DUE)
            ).all()

    def _send(self, row: Any) -> bool:
        """Send one notification and note what became of it; whether to go on with this contact."""
        send = self._outputs.send.get(row.contact)
        if send is None or not _needed(row):
            self._note(row, state="not_needed", detail="")
            return True
        rules = self._settings.escalation
        try:
            detail = send(self._notice(row))
        except NotSentError as error:
            old = row.received_utc < self._now() - timedelta(seconds=rules.within_s)
            wait = min(rules.retry_most_s, rules.retry_first_s * 2 ** min(row.attempts, 30))
            wait *= random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
            self._note(
                row,
                state="given_up" if old else "waiting",
                detail=str(error)[:200],
                due_utc=self._now() + timedelta(seconds=wait),
            )
            _log.warning("%s was not told of alert %s: %s", row.contact, row.alert_id, error)
            return False
        self._note(row, state="sent", detail=detail[:200])
        _log.info("%s was told of alert %s (%s)", row.contact, row.alert_id, row.reason)
        return True

    def _note(self, row: Any, **values: Any) -> None:
        with self._database.writing() as connection:
            connection.execute(
                update(tables.notifications)
                .where(tables.notifications.c.id == row.id)
                .values(attempts=row.attempts + 1, at_utc=self._now(), **values)
            )
            raise_counter(connection, "revision")

    def _notice(self, row: Any) -> Notice:
        level = None if row.reason == "help" else int(row.reason.removeprefix("level-"))
        key = f"{row.alert_id}|{row.contact}|{row.reason}"
        url = self._settings.public_url.rstrip("/")
        return Notice(
            key=hashlib.sha256(key.encode()).hexdigest()[:32],
            reason="help" if level is None else "unanswered" if level else "alert",
            level=level,
            alert_id=row.alert_id,
            camera_id=row.camera_id,
            ward=row.ward,
            room=row.room,
            bed=row.bed,
            kind=row.kind,
            raised_utc=row.happened_utc,
            link=f"{url}/ward" if url else "",
        )


def _needed(row: Any) -> bool:
    """Whether a contact still needs to know: not once somebody goes, or the alert is closed."""
    if row.contact == MQTT_EVENTS:
        return True
    if row.reason == "help":
        return bool(row.alert_state != "closed")
    return bool(row.alert_state == "open")
