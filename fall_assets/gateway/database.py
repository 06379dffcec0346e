"""The database behind the store: connections and transactions. What does not belong here: rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, insert, make_url, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from fall_assets.errors import PassingFailureError, PermanentFailureError
from fall_assets.gateway import tables

POOL_SIZE = 20
BUSY_MS = 15_000

_COUNTERS = ("alerts", "answers", "falls", "reports", "updates", "revision")


class StoreError(PermanentFailureError):
    """The database cannot be used; the message says why."""


class StoreBusyError(PassingFailureError):
    """The database or the disk is away or full; nothing was stored."""


class Database:
    """Reading and writing transactions; safe in threads and beside other processes.

    When `writing` ends without an exception, what was written is on the disk: SQLite runs with
    write-ahead log and synchronous=FULL, PostgreSQL does so by itself.
    """

    def __init__(self, url: str, folder: Path) -> None:
        place = make_url(url) if url else make_url(f"sqlite:///{folder / 'gateway.sqlite'}")
        self.is_sqlite = place.get_backend_name() == "sqlite"
        # SQLite has one writer at a time; queueing here is fair, its own waiting is not.
        self._turn = threading.Lock() if self.is_sqlite else _NoLock()
        try:
            self._engine = create_engine(
                place,
                pool_size=POOL_SIZE,
                max_overflow=POOL_SIZE,
                pool_pre_ping=not self.is_sqlite,
                hide_parameters=True,
            )
            if self.is_sqlite:
                event.listen(self._engine, "connect", _prepare_sqlite)
                event.listen(self._engine, "begin", _begin_sqlite)
            self._prepare()
        except (SQLAlchemyError, ImportError) as error:
            raise StoreError(f"the database cannot be opened: {_reason(error)}") from None

    def _prepare(self) -> None:
        with self._turn, self._engine.execution_options(writes=True).begin() as connection:
            if not self.is_sqlite:
                # Two gateways may start at the same time.
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7264191)")
            tables.metadata.create_all(connection)
            found = connection.scalar(
                select(tables.meta.c.value).where(tables.meta.c.name == "version")
            )
            if found is None:
                connection.execute(insert(tables.meta).values(name="version", value=tables.VERSION))
            elif found != tables.VERSION:
                raise StoreError(
                    f"the database was made by another version of the gateway ({found}, wanted "
                    f"{tables.VERSION}): start with a new data folder"
                )
            # A database of before a list was added has all but that list.
            counted = set(connection.scalars(select(tables.counters.c.name)))
            for name in _COUNTERS:
                if name not in counted:
                    connection.execute(insert(tables.counters).values(name=name, value=0))

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is on the disk when the block ends."""
        with self._guard(), self._turn, self._engine.connect() as connection:
            connection = connection.execution_options(writes=True)
            with connection.begin():
                yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of all tables."""
        with self._guard(), self._engine.connect() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise StoreBusyError(f"the database is busy or away: {_reason(error)}") from None
        except SQLAlchemyError as error:
            raise StoreBusyError(f"the database failed: {type(error).__name__}") from None
        except OSError as error:
            raise StoreBusyError(f"the disk failed: {error.strerror}") from None

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def raise_counter(connection: Connection, name: str, by: int = 1) -> int:
    """The counter's value after adding `by`; nobody else gets past it before the transaction ends.

    Within one transaction the order is: a list's counter, then "revision"; else two could wait for
    each other.
    """
    value = connection.scalar(
        update(tables.counters)
        .where(tables.counters.c.name == name)
        .values(value=tables.counters.c.value + by)
        .returning(tables.counters.c.value)
    )
    if value is None:
        raise StoreError(f"the database has no counter {name!r}: it was changed by hand")
    return int(value)


class _NoLock:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _prepare_sqlite(connection: Any, _: object) -> None:
    # Transactions are begun below, not by the driver, which would begin them too late.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _reason(error: BaseException) -> str:
    """The driver's words, without the statement and its values."""
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]
