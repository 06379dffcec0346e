"""What a ward sees and says. What belongs here: which alerts are whose, their state, answers.
What does not: HTTP, and telling contacts (`escalation.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, insert, or_, select, update

from fall_assets.delivery.kinds import IN_WORDS
from fall_assets.gateway import tables
from fall_assets.gateway.database import Database, raise_counter
from fall_assets.gateway.messages import (
    AnswerIn,
    Blind,
    FallIn,
    GivenAnswer,
    Told,
    WardAlert,
    WardCamera,
    WardFall,
    WardView,
)
from fall_assets.gateway.settings import Settings
from fall_assets.gateway.store import ConflictError, Store, UnknownError

MOST_OPEN: Final = 200
MOST_OLDER: Final = 30
WATCHING: Final = ("ok", "starting")
STATE_OF: Final = {"going": "going", "help": "help", "fall": "closed", "false_alarm": "closed"}
"""What an alert is after an answer; the last one given counts."""


@dataclass(frozen=True)
class Room:
    """One room, or a camera of which no room is known, and how many alerts nobody has closed."""

    ward: str | None
    room: str | None
    camera_id: str
    open: int
    unanswered: int
    last_utc: datetime | None


class Wards:
    """The wards' side of the store. A camera that no ward has is on the pages of all."""

    def __init__(
        self, settings: Settings, database: Database, store: Store, now: Callable[[], datetime]
    ) -> None:
        self._settings = settings
        self._database = database
        self._store = store
        self._now = now

    def view(self, ward: str | None) -> WardView:
        """All that the page of a ward shows; None: of all wards. Shadow alerts are not in it."""
        alerts = tables.alerts.c
        with self._database.reading() as connection:
            revision = connection.scalar(
                select(tables.counters.c.value).where(tables.counters.c.name == "revision")
            )
            # After the revision is read: a page then sees by the time which view is newer.
            now = self._now()
            since = now - timedelta(hours=self._settings.show_hours)
            shown = and_(alerts.received_utc >= since, _sees(ward))
            unfinished = connection.execute(
                _alerts()
                .where(shown, alerts.state != "closed")
                .order_by(alerts.happened_utc.desc(), alerts.id.desc())
                .limit(MOST_OPEN)
            ).all()
            older = connection.execute(
                _alerts()
                .where(shown, alerts.state == "closed")
                .order_by(alerts.happened_utc.desc(), alerts.id.desc())
                .limit(MOST_OLDER)
            ).all()
            names = [row.alert_id for row in (*unfinished, *older)]
            answers = _by_alert(connection, tables.answers, names, "at_utc")
            told = _by_alert(connection, tables.notifications, names, "id")
            states = connection.execute(
                select(
                    tables.camera_states,
                    tables.cameras.c.ward,
                    tables.cameras.c.room,
                    tables.cameras.c.bed,
                )
                .outerjoin(
                    tables.cameras, tables.cameras.c.camera_id == tables.camera_states.c.camera_id
                )
                .where(_of_ward(ward))
                .order_by(tables.camera_states.c.camera_id)
            ).all()
            falls = connection.execute(
                select(
                    tables.falls,
                    tables.cameras.c.ward,
                    tables.cameras.c.room,
                    tables.cameras.c.bed,
                )
                .join(tables.cameras, tables.cameras.c.camera_id == tables.falls.c.camera_id)
                .where(tables.falls.c.received_utc >= since, _of_ward(ward))
                .order_by(tables.falls.c.id.desc())
                .limit(MOST_OLDER)
            ).all()
        silent = now - timedelta(seconds=self._settings.silent_s)
        return WardView(
            now_utc=now,
            revision=int(revision or 0),
            ward=ward,
            open=[_shown(row, answers[row.alert_id], told[row.alert_id]) for row in unfinished],
            older=[_shown(row, answers[row.alert_id], told[row.alert_id]) for row in older],
            blind=[
                Blind(
                    camera_id=row.camera_id,
                    ward=row.ward,
                    room=row.room,
                    bed=row.bed,
                    state="silent" if row.received_utc < silent else row.state,
                    since_utc=row.received_utc if row.received_utc < silent else row.since_utc,
                )
                for row in states
                if row.state not in WATCHING or row.received_utc < silent
            ],
            falls=[
                WardFall(
                    camera_id=row.camera_id,
                    ward=row.ward,
                    room=row.room,
                    bed=row.bed,
                    from_utc=row.from_utc,
                    until_utc=row.until_utc,
                    by=row.by,
                    key=row.key,
                )
                for row in falls
            ],
            help_contacts=sum(
                contact.help and contact.concerns(ward) for contact in self._settings.contacts
            ),
        )

    def rooms(self) -> list[Room]:
        """All rooms with a camera, in order, and cameras without a room that have an alert."""
        alerts = tables.alerts.c
        since = self._now() - timedelta(hours=self._settings.show_hours)
        with self._database.reading() as connection:
            cameras = connection.execute(select(tables.cameras)).all()
            shown = connection.execute(
                select(alerts.camera_id, alerts.state, alerts.happened_utc).where(
                    alerts.received_utc >= since, alerts.shadow.is_(False)
                )
            ).all()
        places = {row.camera_id: (row.ward, row.room) for row in cameras}
        rooms: defaultdict[tuple[str | None, str | None, str], list[Any]] = defaultdict(list)
        for camera_id, (ward, room) in places.items():
            rooms[ward, room, "" if room else camera_id] = []
        for row in shown:
            ward, room = places.get(row.camera_id, (None, None))
            rooms[ward, room, "" if room else row.camera_id].append(row)
        return [
            Room(
                *place,
                open=sum(row.state != "closed" for row in rows),
                unanswered=sum(row.state == "open" for row in rows),
                last_utc=max((row.happened_utc for row in rows), default=None),
            )
            for place, rows in sorted(rooms.items(), key=lambda item: str(item[0]))
        ]

    def answer(self, ward: str | None, alert_id: str, given: AnswerIn, token_id: str) -> bool:
        """Store an answer; False where it was there already (same `key`).

        Raises UnknownError where the ward has no such alert, ConflictError where the key was used
        for another answer.
        """
        now = self._now()
        with self._database.writing() as connection:
            raise_counter(connection, "answers", 0)
            alert = connection.execute(
                _alerts().where(tables.alerts.c.alert_id == alert_id, _sees(ward))
            ).first()
            if alert is None:
                raise UnknownError("this ward has no such alert")
            key = f"{alert_id}:{given.key}" if given.key else None
            if key is not None:
                known = connection.execute(
                    select(tables.answers).where(tables.answers.c.key == key)
                ).first()
                if known is not None:
                    if (known.answer, known.by) != (given.answer, given.by):
                        raise ConflictError("this key was used for another answer")
                    return False
            at = min(max(given.at_utc or now, alert.received_utc), now)
            connection.execute(
                insert(tables.answers).values(
                    id=raise_counter(connection, "answers"),
                    alert_id=alert_id,
                    answer=given.answer,
                    by=given.by,
                    at_utc=at,
                    received_utc=now,
                    key=key,
                    token_id=token_id,
                )
            )
            # An answer that waited in a page that was offline may be older than the last one.
            last = connection.scalar(
                select(tables.answers.c.answer)
                .where(tables.answers.c.alert_id == alert_id)
                .order_by(tables.answers.c.at_utc.desc(), tables.answers.c.id.desc())
                .limit(1)
            )
            connection.execute(
                update(tables.alerts)
                .where(tables.alerts.c.alert_id == alert_id)
                .values(state=STATE_OF[str(last)], next_level_utc=None)
            )
            if given.answer == "help":
                _ask_for_help(connection, self._settings, alert_id, alert.ward, now)
            raise_counter(connection, "revision")
        return True

    def cameras(self, ward: str | None) -> list[WardCamera]:
        """The ward's cameras, room by room."""
        cameras = tables.cameras.c
        with self._database.reading() as connection:
            rows = connection.execute(
                select(tables.cameras)
                .where(_of_ward(ward))
                .order_by(cameras.ward, cameras.room, cameras.bed, cameras.camera_id)
            ).all()
        return [
            WardCamera(camera_id=row.camera_id, ward=row.ward, room=row.room, bed=row.bed)
            for row in rows
        ]

    def report_fall(self, ward: str | None, given: FallIn, token_id: str) -> bool:
        """Store a fall that no alert told of; False where it was there already (same `key`).

        Raises UnknownError where the ward has no such camera, ConflictError where the key was used
        for another report.
        """
        now = self._now()
        until = min(given.until_utc, now)
        with self._database.writing() as connection:
            raise_counter(connection, "falls", 0)
            there = connection.scalar(
                select(tables.cameras.c.camera_id).where(
                    tables.cameras.c.camera_id == given.camera_id, _of_ward(ward)
                )
            )
            if there is None:
                raise UnknownError("this ward has no such camera")
            if given.key is not None:
                known = connection.execute(
                    select(tables.falls).where(tables.falls.c.key == given.key)
                ).first()
                if known is not None:
                    if (known.camera_id, known.by) != (given.camera_id, given.by):
                        raise ConflictError("this key was used for another report")
                    return False
            connection.execute(
                insert(tables.falls).values(
                    id=raise_counter(connection, "falls"),
                    camera_id=given.camera_id,
                    from_utc=until - timedelta(minutes=given.within_min),
                    until_utc=until,
                    by=given.by,
                    received_utc=now,
                    key=given.key,
                    token_id=token_id,
                )
            )
            raise_counter(connection, "revision")
        return True

    def still(self, ward: str | None, alert_id: str) -> Path:
        """The still of one of the ward's alerts; UnknownError where there is none."""
        with self._database.reading() as connection:
            row = connection.execute(
                _alerts().where(tables.alerts.c.alert_id == alert_id, _sees(ward))
            ).first()
        return self._store.still_file(None if row is None else row.still)


def _alerts() -> Select[Any]:
    return select(
        tables.alerts, tables.cameras.c.ward, tables.cameras.c.room, tables.cameras.c.bed
    ).outerjoin(tables.cameras, tables.cameras.c.camera_id == tables.alerts.c.camera_id)


def _sees(ward: str | None) -> ColumnElement[bool]:
    """Which alerts are for a ward's eyes."""
    return and_(tables.alerts.c.shadow.is_(False), _of_ward(ward))


def _of_ward(ward: str | None) -> ColumnElement[bool]:
    return or_(
        tables.cameras.c.ward.is_(None),
        tables.cameras.c.ward.is_not(None) if ward is None else tables.cameras.c.ward == ward,
    )


def _by_alert(
    connection: Connection, table: Any, names: list[str], order: str
) -> defaultdict[str, list[Any]]:
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(
        select(table).where(table.c.alert_id.in_(names)).order_by(table.c[order], table.c.id)
    ):
        found[row.alert_id].append(row)
    return found


def _ask_for_help(
    connection: Connection, settings: Settings, alert_id: str, ward: str | None, now: datetime
) -> None:
    names = [one.name for one in settings.contacts if one.help and one.concerns(ward)]
    notify(connection, alert_id, names, "help", now)


def notify(
    connection: Connection, alert_id: str, contacts: list[str], reason: str, now: datetime
) -> None:
    """Put notifications into the outbox, each once for its alert, contact and reason."""
    known = set(
        connection.scalars(
            select(tables.notifications.c.contact).where(
                tables.notifications.c.alert_id == alert_id,
                tables.notifications.c.reason == reason,
            )
        )
    )
    for contact in contacts:
        if contact not in known:
            connection.execute(
                insert(tables.notifications).values(
                    alert_id=alert_id,
                    contact=contact,
                    reason=reason,
                    state="waiting",
                    attempts=0,
                    due_utc=now,
                    at_utc=now,
                    detail="",
                )
            )


def _shown(row: Any, answers: list[Any], told: list[Any]) -> WardAlert:
    return WardAlert(
        alert_id=row.alert_id,
        camera_id=row.camera_id,
        ward=row.ward,
        room=row.room,
        bed=row.bed,
        kind=row.kind,
        title=IN_WORDS[row.kind].capitalize(),
        raised_utc=row.happened_utc,
        received_utc=row.received_utc,
        clock_wrong=row.clock_wrong,
        still=row.still is not None,
        state=row.state,
        answers=[GivenAnswer(answer=one.answer, by=one.by, at_utc=one.at_utc) for one in answers],
        level=row.level,
        next_level_utc=row.next_level_utc,
        told=[
            Told(contact=one.contact, reason=one.reason, state=one.state, at_utc=one.at_utc)
            for one in told
            if not one.contact.startswith("mqtt:")
        ],
    )
