"""The gateway's tables. What belongs here: columns and keys, in SQL that any database speaks.

Times are whole microseconds since 1970 in UTC: exact, in order, and the same everywhere.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

VERSION: Final = "1"
"""Of the tables; another one is refused at the start."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

metadata = MetaData()


class UtcTime(TypeDecorator[datetime]):
    """A moment, as microseconds since 1970 in UTC."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """To the database."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        return None if value is None else _EPOCH + value * _MICROSECOND


# SQLite counts rows by an INTEGER key only.
_Number = BigInteger().with_variant(Integer, "sqlite")

meta = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
# One row per list that others pull, and one for what the wards see. Raising a number locks its row
# until the end of the transaction, so that ids become visible in their order.
counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
tokens = Table(
    "tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("prefix", Text, nullable=False, index=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("role", Text, nullable=False),
    Column("box", Text),
    Column("cameras", Text),
    Column("ward", Text),
    Column("note", Text, nullable=False),
    Column("created_utc", UtcTime, nullable=False),
    Column("revoked_utc", UtcTime),
)
sessions = Table(
    "sessions",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("token_id", Text, nullable=False),
    Column("created_utc", UtcTime, nullable=False),
    Column("expires_utc", UtcTime, nullable=False),
)
cameras = Table(
    "cameras",
    metadata,
    Column("camera_id", Text, primary_key=True),
    Column("ward", Text),
    Column("room", Text),
    Column("bed", Text),
    Column("box", Text),
)
alerts = Table(
    "alerts",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),
    Column("received_utc", UtcTime, nullable=False),
    Column("box", Text, nullable=False),
    Column("alert_id", Text, nullable=False, unique=True),
    Column("camera_id", Text, nullable=False),
    Column("start_utc", UtcTime, nullable=False),
    Column("raised_utc", UtcTime, nullable=False),
    Column("score", Float(53), nullable=False),
    Column("kind", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("shadow", Boolean, nullable=False),
    Column("sent_utc", UtcTime, nullable=False),
    Column("clock_offset_s", Float(53), nullable=False),
    Column("content", Text, nullable=False),
    Column("still", Text),
    # What the ward sees: when it happened by our clock, what was answered, who is told when.
    Column("happened_utc", UtcTime, nullable=False),
    Column("clock_wrong", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("level", Integer, nullable=False),
    Column("next_level_utc", UtcTime),
    Index("alerts_next_level", "next_level_utc"),
    Index("alerts_received", "received_utc"),
)
answers = Table(
    "answers",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),
    Column("alert_id", Text, nullable=False, index=True),
    Column("answer", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at_utc", UtcTime, nullable=False),
    Column("received_utc", UtcTime, nullable=False),
    Column("key", Text, unique=True),
    Column("token_id", Text, nullable=False),
)
# Falls that staff found and no alert told of.
falls = Table(
    "falls",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),
    Column("camera_id", Text, nullable=False),
    Column("from_utc", UtcTime, nullable=False),
    Column("until_utc", UtcTime, nullable=False),
    Column("by", Text, nullable=False),
    Column("received_utc", UtcTime, nullable=False, index=True),
    Column("key", Text, unique=True),
    Column("token_id", Text, nullable=False),
)
reports = Table(
    "reports",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),
    Column("received_utc", UtcTime, nullable=False, index=True),
    Column("box", Text, nullable=False),
    Column("camera_id", Text, nullable=False),
    Column("at_utc", UtcTime, nullable=False),
    Column("content", Text, nullable=False),
    UniqueConstraint("camera_id", "at_utc"),
)
camera_states = Table(
    "camera_states",
    metadata,
    Column("camera_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("since_utc", UtcTime, nullable=False),
    Column("received_utc", UtcTime, nullable=False),
    Column("at_utc", UtcTime, nullable=False),
)
updates = Table(
    "updates",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),
    Column("received_utc", UtcTime, nullable=False),
    Column("box", Text, nullable=False),
    Column("content", Text, nullable=False),
)
assignments = Table(
    "assignments",
    metadata,
    Column("box", Text, primary_key=True),
    Column("serial", BigInteger, nullable=False),
    Column("assignment", Text, nullable=False),
    Column("signature", Text, nullable=False),
    Column("etag", Text, nullable=False),
)
notifications = Table(
    "notifications",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("alert_id", Text, nullable=False, index=True),
    Column("contact", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
    Column("due_utc", UtcTime, nullable=False),
    Column("at_utc", UtcTime, nullable=False),
    Column("detail", Text, nullable=False),
    UniqueConstraint("alert_id", "contact", "reason"),
)
