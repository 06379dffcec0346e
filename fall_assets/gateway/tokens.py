"""Who may do what: tokens of boxes, wards and the platform. What belongs here: making and knowing
tokens and the ward's sessions. What does not: HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, cast, get_args

from sqlalchemy import Connection, delete, insert, select, update

from fall_assets.errors import PermanentFailureError
from fall_assets.gateway import tables
from fall_assets.gateway.database import Database
from fall_assets.gateway.messages import ID_PATTERN

Role = Literal["box", "ward", "platform"]
ROLES: Final = get_args(Role)
SESSION_DAYS: Final = 30
_PREFIX: Final = 8
_TOKEN = re.compile(r"fa_(box|ward|platform)_[A-Za-z0-9_-]{43}")


class TokenError(PermanentFailureError):
    """A token cannot be made or found; the message says why."""


@dataclass(frozen=True)
class Holder:
    """Whom a token belongs to.

    Attributes:
        cameras: of which cameras a box may speak; None: of those that are not another box's.
        ward: whose alerts a ward sees; None: all.
    """

    token_id: str
    role: Role
    box: str | None = None
    cameras: frozenset[str] | None = None
    ward: str | None = None


@dataclass(frozen=True)
class TokenRow:
    """A token as it is listed: never the token itself."""

    id: str
    role: str
    box: str | None
    cameras: tuple[str, ...] | None
    ward: str | None
    note: str
    created_utc: datetime
    revoked_utc: datetime | None


class Tokens:
    """The tokens in the database: 256 random bits each, of which only the sha256 is kept."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    def add(
        self,
        role: Role,
        *,
        box: str | None = None,
        cameras: Sequence[str] | None = None,
        ward: str | None = None,
        note: str = "",
    ) -> tuple[str, str]:
        """A new token, which cannot be had again, and its id; TokenError where it makes no sense.

        Without a ward a ward's token sees all wards.
        """
        if role not in ROLES:
            raise TokenError(f"role {role!r}: give one of {', '.join(ROLES)}")
        if role == "box" and not box:
            raise TokenError("a box's token needs --box")
        if role != "box" and (box or cameras):
            raise TokenError(f"--box and --cameras are for boxes, not for {role}")
        if role != "ward" and ward:
            raise TokenError(f"--ward is for wards, not for {role}")
        for name in (*([box] if box else []), *(cameras or ())):
            if not re.fullmatch(ID_PATTERN, name):
                raise TokenError(f"{name!r} is no id: letters, digits, '.', '_', '-', at most 64")
        if cameras is not None and not cameras:
            raise TokenError("--cameras names none; leave it out for all cameras of the box")
        token = f"fa_{role}_{secrets.token_urlsafe(32)}"
        digest = digest_of(token)
        token_id = secrets.token_hex(4)
        with self._database.writing() as connection:
            connection.execute(
                insert(tables.tokens).values(
                    id=token_id,
                    prefix=digest[:_PREFIX],
                    digest=digest,
                    role=role,
                    box=box,
                    cameras=None if cameras is None else json.dumps(sorted(set(cameras))),
                    ward=ward or None,
                    note=note,
                    created_utc=self._now(),
                )
            )
        return token, token_id

    def list(self) -> list[TokenRow]:
        """All tokens ever made, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(tables.tokens).order_by(tables.tokens.c.created_utc))
            return [
                TokenRow(
                    row.id,
                    row.role,
                    row.box,
                    None if row.cameras is None else tuple(json.loads(row.cameras)),
                    row.ward,
                    row.note,
                    row.created_utc,
                    row.revoked_utc,
                )
                for row in rows
            ]

    def revoke(self, token_id: str) -> None:
        """Make a token worthless from now on, its sessions included; TokenError where unknown."""
        with self._database.writing() as connection:
            found = connection.execute(
                update(tables.tokens)
                .where(tables.tokens.c.id == token_id, tables.tokens.c.revoked_utc.is_(None))
                .values(revoked_utc=self._now())
            ).rowcount
            connection.execute(
                delete(tables.sessions).where(tables.sessions.c.token_id == token_id)
            )
        if not found:
            raise TokenError(f"there is no valid token {token_id!r}: see 'fall-gateway token list'")

    def holder(self, token: str) -> Holder | None:
        """Whose token this is; None where it is unknown or revoked."""
        if not _TOKEN.fullmatch(token):
            return None
        digest = digest_of(token)
        with self._database.reading() as connection:
            # Looked up by a part and compared in constant time: how long it takes tells nothing.
            rows = connection.execute(
                select(tables.tokens).where(
                    tables.tokens.c.prefix == digest[:_PREFIX],
                    tables.tokens.c.revoked_utc.is_(None),
                )
            ).all()
        for row in rows:
            if hmac.compare_digest(row.digest, digest):
                return _holder(row)
        return None

    def open_session(self, holder: Holder) -> str:
        """A new session of a ward: what its cookie holds."""
        secret = secrets.token_urlsafe(32)
        now = self._now()
        with self._database.writing() as connection:
            connection.execute(delete(tables.sessions).where(tables.sessions.c.expires_utc <= now))
            connection.execute(
                insert(tables.sessions).values(
                    digest=digest_of(secret),
                    token_id=holder.token_id,
                    created_utc=now,
                    expires_utc=now + timedelta(days=SESSION_DAYS),
                )
            )
        return secret

    def session(self, secret: str) -> Holder | None:
        """Whose session this is; None where it is unknown, over, or its token revoked."""
        with self._database.reading() as connection:
            row = _session_row(connection, digest_of(secret), self._now())
        return None if row is None else _holder(row)

    def close_session(self, secret: str) -> None:
        """End a session; nothing where there is none."""
        with self._database.writing() as connection:
            connection.execute(
                delete(tables.sessions).where(tables.sessions.c.digest == digest_of(secret))
            )


def digest_of(secret: str) -> str:
    """What is kept of a secret of 256 random bits: nothing slower is needed for those."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _session_row(connection: Connection, digest: str, now: datetime) -> Any:
    return connection.execute(
        select(tables.tokens)
        .join(tables.sessions, tables.sessions.c.token_id == tables.tokens.c.id)
        .where(
            tables.sessions.c.digest == digest,
            tables.sessions.c.expires_utc > now,
            tables.tokens.c.revoked_utc.is_(None),
        )
    ).first()


def _holder(row: Any) -> Holder:
    return Holder(
        row.id,
        cast(Role, row.role),
        row.box,
        None if row.cameras is None else frozenset(json.loads(row.cameras)),
        row.ward,
    )
