"""The lake: named tables on disk, replaced by day or whole, read at any version.

What belongs here: writing and reading tables, atomically and by the schema registry. What does
not: the rules for rows (`validation.py`), SQL (`sql.py`), and what the rows mean.

Layout below the root: `tables/NAME` holds one Delta table each, `files/` what is too large or too
odd for a row (pictures, manifests).

Every write reads the table's latest version, prepares its files beside the old ones and commits by
creating the next entry of the table's log, which only one writer can do. A process that dies before
that leaves files that no version names; `maintain` removes them.

Delta lets two appends pass each other unseen. So whoever writes rows of a day, or the whole of a
table without days, names it in the commit as an application's transaction: of two commits that name
the same one Delta refuses the later, which then looks again.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Literal, cast

import polars as pl
from deltalake import (
    CommitProperties,
    DeltaTable,
    Field,
    PostCommitHookProperties,
    Schema,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import PrimitiveType
from deltalake.transaction import AddAction, RemoveAction, Transaction

from fall_assets.errors import InvalidRowsError, PassingFailureError, PermanentFailureError
from fall_assets.lake.compaction import Joined, join_files, rows_per_group, worth_joining
from fall_assets.lake.dictionary import comment
from fall_assets.lake.registry import PACKED, TABLES, Column, Reference, Table
from fall_assets.lake.registry import table as describe_table
from fall_assets.lake.validation import validate

DEFAULT_RETENTION_HOURS = 7 * 24
_SHORTEST_RETENTION_HOURS = 1

_ATTEMPTS = 12
_FIRST_WAIT_S = 0.02
_PINNING = ("training_set", "experiments", "tuning_study")
"""Tables with a column `pins`: JSON, table name to the version that must stay."""
_LONGEST_WAIT_S = 2.0

_TABLE_PROPERTIES: dict[str, str | None] = {
    # A pinned version needs its log entry: entries never expire by themselves.
    "delta.enableExpiredLogCleanup": "false",
    # Opening reads the log since the last checkpoint, so this bounds its cost.
    "delta.checkpointInterval": "20",
    # Only commits that pass each other matter: names of days written long ago need not be kept.
    "delta.setTransactionRetentionDuration": "interval 7 days",
}
_COLUMNS_WERE_ADDED = "fallAssets.columnsWereAdded"

_AFTER_COMMIT = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)

_DELTA_TYPES: Mapping[pl.DataType, str] = {
    pl.String(): "string",
    pl.Int64(): "long",
    pl.Float64(): "double",
    pl.Boolean(): "boolean",
    pl.Date(): "date",
    pl.Datetime("us", "UTC"): "timestamp",
    pl.Binary(): "binary",
}

_READER_VERSION = 1

_IMPOSSIBLE_IN_ROOT = "[]^|\\%="
"""Delta's library panics at some of these or reads them as escapes; `=` looks like a partition."""

_STAGED = re.compile(r".+\.parquet#\d+")
_jitter = random.SystemRandom()


@dataclass(frozen=True)
class Provenance:
    """Who wrote a version: it is recorded in the commit and comes back with `Lake.history`.

    `partition` is the day or range of days that the run worked on, None for a whole table.
    """

    run_id: str
    partition: str | None
    code_version: str

    def as_metadata(self) -> dict[str, str]:
        """As the commit holds it: texts only, without what is not there."""
        found = {
            "run_id": self.run_id,
            "partition": self.partition,
            "code_version": self.code_version,
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Snapshot:
    """What one version of a table consists of.

    Attributes:
        table: its description.
        version: None where the table was never written.
        files: its Parquet files, sorted. The day is no column of theirs: it stands in the name of
            their folder, `day=YYYY-MM-DD`.
        columns: the columns that the version has; the registry may have more by now.
        columns_were_added: whether older files among them lack some of these columns.
    """

    table: Table
    version: int | None
    files: tuple[Path, ...]
    columns: frozenset[str]
    columns_were_added: bool


@dataclass(frozen=True)
class Maintenance:
    """What `Lake.maintain` did to one table.

    Attributes:
        table: its name.
        files_compacted: files that were joined into fewer.
        files_removed: files of old versions and of killed writers that are gone.
        kept_versions: versions that keep their files because a training set pins them.
        files_before, files_after: files of the latest version.
        bytes_before, bytes_after: their size.
        rows: rows of the latest version, at the end.
        days_left: days with small files that others wrote at the same time; the next time will do.
    """

    table: str
    files_compacted: int
    files_removed: int
    kept_versions: tuple[int, ...]
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    rows: int
    days_left: int


class Lake:
    """Tables of the schema registry below one root folder.

    An object holds nothing but the root: it may be shared between threads and sent to other
    processes. Unknown table names raise PermanentFailureError everywhere.
    """

    def __init__(self, root: Path | str) -> None:
        if "://" in str(root):
            raise PermanentFailureError(
                f"the lake's root must be a folder, not the address {root}; mount the store, or "
                "copy the tables to a folder"
            )
        self.root = Path(root).absolute()
        impossible = [letter for letter in _IMPOSSIBLE_IN_ROOT if letter in str(self.root)]
        if impossible:
            raise PermanentFailureError(
                f"the lake's root {self.root} holds {' '.join(impossible)}, which Delta tables "
                "cannot stand below; choose another folder"
            )

    def __repr__(self) -> str:
        return f"Lake({str(self.root)!r})"

    # Writing ------------------------------------------------------------------------------------

    def replace_partition(
        self, table: str, day: date, frame: pl.DataFrame, provenance: Provenance
    ) -> int:
        """Put `frame` in the place of the rows of `day`; return the table's version after it.

        Readers see all of the old rows or all of the new. An empty frame removes the day's rows;
        where there were none, nothing is committed. Writers of other days do not disturb each
        other; of two writers of one day the later wins whole.

        Raises InvalidRowsError for rows that the registry does not permit, rows of another day
        among them, and for references that do not stand (in tables by day: on the same day);
        PassingFailureError where the commit was lost to others again and again.
        """
        described = _table(table)
        _require(described, by_day=True)
        day = _plain_day(day)
        rows = self._audited(described, frame, day)

        def attempt(delta: DeltaTable) -> int:
            if rows.is_empty() and day not in _days(delta):
                return delta.version()
            return self._write(
                delta,
                described,
                rows,
                provenance,
                predicate=f"day = '{day.isoformat()}'",
                claim=_rows_of(day),
            )

        return self._committed(described, attempt)

    def extend_partition(
        self, table: str, day: date, frame: pl.DataFrame, provenance: Provenance
    ) -> int:
        """Add rows to `day` of a table by day in one commit; return the table's version after it.

        Rows whose key stands on that day already are left out (those that stand are kept as they
        are), so that a batch that is committed twice changes nothing. With nothing to add, nothing
        is committed. Of what stands only the day's keys are read. Several may extend one day at
        the same time, and writers of other days do not disturb each other.

        Raises as `replace_partition` does.
        """
        described = _table(table)
        _require(described, by_day=True)
        day = _plain_day(day)
        rows = self._audited(described, frame, day)
        key = list(described.key)

        def attempt(delta: DeltaTable) -> int:
            if rows.is_empty():
                return delta.version()
            standing = self._scan(delta, described, [day]).select(key)
            double = standing.join(
                rows.lazy().select(key), on=key, how="semi", nulls_equal=True
            ).collect()
            new = rows.join(double, on=key, how="anti", nulls_equal=True)
            if new.is_empty():
                return delta.version()
            return self._write(
                delta,
                described,
                _ordered(new, described),
                provenance,
                "append",
                claim=_rows_of(day),
            )

        return self._committed(described, attempt)

    def replace(self, table: str, frame: pl.DataFrame, provenance: Provenance) -> int:
        """Put `frame` in the place of all rows of a table without days; return its version.

        Raises as `replace_partition` does.
        """
        described = _table(table)
        _require(described, by_day=False)
        rows = self._audited(described, frame)

        def attempt(delta: DeltaTable) -> int:
            if rows.is_empty() and not self._files(delta, described):
                return delta.version()
            return self._write(delta, described, rows, provenance)

        return self._committed(described, attempt)

    def append(
        self,
        table: str,
        frame: pl.DataFrame,
        provenance: Provenance,
        *,
        skip_existing: bool = False,
    ) -> int:
        """Add rows to a table without days; return its version.

        A row whose key stands in the table already raises InvalidRowsError, or is left out where
        `skip_existing` is true (the row that stands is kept as it is). With nothing to add,
        nothing is committed. Otherwise raises as `replace_partition` does.
        """
        described = _table(table)
        _require(described, by_day=False)
        rows = self._audited(described, frame)
        key = list(described.key)

        def attempt(delta: DeltaTable) -> int:
            standing = self._scan(delta, described).select(key).collect()
            new = rows.join(standing, on=key, how="anti", nulls_equal=True)
            if new.height < rows.height and not skip_existing:
                double = rows.join(standing, on=key, how="semi", nulls_equal=True)
                raise InvalidRowsError(
                    f"table {table}: {double.height} of {rows.height} rows have a key "
                    f"({', '.join(key)}) that stands in the table already, nothing was written. "
                    f"First: {double.select(key).row(0, named=True)}. Leave them out, or use "
                    "skip_existing or upsert."
                )
            if new.is_empty():
                return delta.version()
            return self._write(delta, described, _ordered(new, described), provenance, "append")

        return self._committed(described, attempt)

    def upsert(self, table: str, frame: pl.DataFrame, provenance: Provenance) -> int:
        """Add rows to a table without days, or replace those of the same key; return its version.

        Where every row stands there already as it is, nothing is committed. Raises as
        `replace_partition` does.
        """
        described = _table(table)
        _require(described, by_day=False)
        rows = self._audited(described, frame)
        key = list(described.key)

        def attempt(delta: DeltaTable) -> int:
            before = _ordered(self._scan(delta, described).collect(), described)
            kept = before.join(rows, on=key, how="anti", nulls_equal=True)
            after = _ordered(pl.concat([kept, rows]), described)
            if after.equals(before):
                return delta.version()
            return self._write(delta, described, after, provenance)

        return self._committed(described, attempt)

    # Reading ------------------------------------------------------------------------------------

    def scan(
        self,
        table: str,
        *,
        days: Sequence[date] | None = None,
        version: int | None = None,
    ) -> pl.LazyFrame:
        """The table as a lazy frame, rows in no order; filters reach down to the files.

        Arguments and errors as for `read`.
        """
        described = _table(table)
        if days is not None:
            _require(described, by_day=True)
        delta = self._open(described, version)
        if delta is None:
            return described.empty().lazy()
        return self._scan(delta, described, days)

    def read(
        self,
        table: str,
        *,
        days: Sequence[date] | None = None,
        columns: Sequence[str] | None = None,
        where: pl.Expr | None = None,
        version: int | None = None,
    ) -> pl.DataFrame:
        """Rows of a table, ordered by day, camera and key (whichever it has), never by files.

        `days` reads those partitions only; `columns` those columns, in that order; `where` keeps
        rows (it may use columns that are not returned); `version` reads the table as it was then.
        A table that was never written is empty, with the registry's columns.

        Raises PermanentFailureError for unknown tables, columns or versions, and for a version
        whose files `maintain` has removed.
        """
        described = _table(table)
        if days is not None:
            _require(described, by_day=True)
        _refuse_unknown(described, columns)
        delta = self._open(described, version)
        return self._collected([(described, delta, columns)], days, where)[0]

    def at(self, versions: Mapping[str, int]) -> PinnedTables:
        """Some tables as they were at these versions, opened together.

        Raises PermanentFailureError for unknown tables and versions.
        """

        def opened(name: str) -> DeltaTable | None:
            return self._open(_table(name), versions[name])

        # To open a table is to read its log, a few milliseconds each.
        with ThreadPoolExecutor(max(1, len(versions))) as opening:
            return PinnedTables(
                self, dict(zip(versions, opening.map(opened, versions), strict=True))
            )

    def snapshot(self, table: str, *, version: int | None = None) -> Snapshot:
        """What one version of a table consists of, for engines that read Parquet themselves.

        Raises PermanentFailureError for unknown tables and versions.
        """
        described = _table(table)
        delta = self._open(described, version)
        if delta is None:
            return Snapshot(described, None, (), frozenset(), columns_were_added=False)
        return Snapshot(
            described,
            delta.version(),
            tuple(self._files(delta, described)),
            frozenset(field.name for field in delta.schema().fields),
            delta.metadata().configuration.get(_COLUMNS_WERE_ADDED) == "true",
        )

    def days(self, table: str) -> list[date]:
        """The days that have rows, in order; from the table's log alone."""
        described = _table(table)
        _require(described, by_day=True)
        delta = self._open(described)
        return [] if delta is None else sorted(_days(delta))

    def written(self, table: str, days: Iterable[date]) -> dict[date, datetime]:
        """When rows of days were last written, to the millisecond; from the table's log alone.

        A day of which there was never a row has none; joining files is not writing.
        """
        described = _table(table)
        _require(described, by_day=True)
        delta = self._open(described)
        if delta is None:
            return {}
        claimed = {day: delta.transaction_version(_rows_of(day)) for day in days}
        return {
            day: datetime.fromtimestamp(at_ms / 1000, UTC)
            for day, at_ms in claimed.items()
            if at_ms is not None
        }

    def rows(self, table: str, *, version: int | None = None) -> int:
        """How many rows a table has; from its log alone."""
        delta = self._open(_table(table), version)
        if delta is None:
            return 0
        return int(_contents(delta)["rows"].sum())

    def version(self, table: str) -> int | None:
        """The table's latest version; None where it was never written."""
        delta = self._open(_table(table))
        return None if delta is None else delta.version()

    def versions(self) -> dict[str, int]:
        """Latest version of each table that was ever written."""
        found = {name: self.version(name) for name in TABLES}
        return {name: version for name, version in found.items() if version is not None}

    def history(self, table: str, *, limit: int | None = None) -> list[dict[str, Any]]:
        """Commits of a table, newest first (at most `limit`).

        Each has version, at_utc, operation, rows_written (None where Delta does not say) and the
        provenance: run_id, partition, code_version (None for commits made by maintenance or by
        other tools).
        """
        delta = self._open(_table(table))
        if delta is None:
            return []
        return [
            {
                "version": commit["version"],
                "at_utc": datetime.fromtimestamp(commit["timestamp"] / 1000, UTC),
                "operation": commit["operation"],
                "rows_written": commit.get("operationMetrics", {}).get("num_added_rows"),
                **{name: commit.get(name) for name in ("run_id", "partition", "code_version")},
            }
            for commit in delta.history(limit)
        ]

    # Maintenance --------------------------------------------------------------------------------

    def maintain(
        self,
        table: str | None = None,
        *,
        retain_hours: int = DEFAULT_RETENTION_HOURS,
        exclusive: bool = False,
    ) -> list[Maintenance]:
        """Join small files and remove those that no version younger than `retain_hours` names.

        Versions that a row of `training_set` pins keep their files for ever. Other versions older
        than that can no longer be read. Files of writers at work are younger than the retention
        and so are left alone; `exclusive` says that nobody else uses the lake and permits less
        than an hour. `table` None maintains every table.

        Raises PermanentFailureError for a shorter retention and for pins that cannot be read:
        then nothing is removed.
        """
        if retain_hours < _SHORTEST_RETENTION_HOURS and not exclusive:
            raise PermanentFailureError(
                f"retain_hours is {retain_hours}: files of writers at work would be removed. Keep "
                f"at least {_SHORTEST_RETENTION_HOURS} h, or pass exclusive=True when nothing else "
                "uses the lake"
            )
        pins = self._pins()
        chosen = [_table(table)] if table is not None else list(TABLES.values())
        done = []
        for described in chosen:
            delta = self._open(described)
            if delta is not None:
                done.append(self._maintain(described, retain_hours, pins.get(described.name, ())))
        return done

    def _maintain(self, described: Table, retain_hours: int, pinned: Sequence[int]) -> Maintenance:
        def vacuum(delta: DeltaTable) -> int:
            def remove(*, dry_run: bool) -> list[str]:
                return delta.vacuum(
                    retention_hours=retain_hours,
                    dry_run=dry_run,
                    enforce_retention_duration=False,
                    full=True,
                    keep_versions=list(pinned) or None,
                    post_commithook_properties=_AFTER_COMMIT,
                )

            # Vacuum commits even where there is nothing to remove; versions should mean something.
            return len(remove(dry_run=False)) if remove(dry_run=True) else 0

        before = _contents(DeltaTable(self._location(described)))
        compacted, left = 0, 0
        for day in before["day"].unique().sort():
            joined = self._compact(described, day)
            compacted += joined or 0
            left += joined is None
        removed = self._committed(described, vacuum)
        removed += _remove_staged(self._location(described), retain_hours)
        after = _contents(DeltaTable(self._location(described)))
        return Maintenance(
            described.name,
            compacted,
            removed,
            tuple(pinned),
            before.height,
            after.height,
            int(before["bytes"].sum()),
            int(after["bytes"].sum()),
            int(after["rows"].sum()),
            left,
        )

    def _compact(self, described: Table, day: date | None) -> int | None:
        """Join the small files of a day (None: of a table without days); how many were joined.

        None where others wrote the day meanwhile, so that nothing was done.
        """
        location = self._location(described)

        def standing(delta: DeltaTable) -> dict[Path, int]:
            files = _contents(delta, None if day is None else [day])
            return {location / path: size for path, size in files["path", "bytes"].iter_rows()}

        sizes = standing(DeltaTable(location))
        small = worth_joining(sizes)
        if not small:
            return 0
        folder = location if day is None else location / f"day={day.isoformat()}"
        written = join_files(_lazy(small, described), described, small, folder, _order(described))

        def attempt(delta: DeltaTable) -> int:
            if not set(small) <= set(standing(delta)):
                return 0
            self._exchange(delta, described, day, {path: sizes[path] for path in small}, written)
            return len(small)

        joined = 0
        try:
            joined = self._committed(described, attempt)
        except PassingFailureError:
            pass
        finally:
            if not joined:
                for file in written:
                    file.path.unlink(missing_ok=True)
        return joined or None

    def _exchange(
        self,
        delta: DeltaTable,
        described: Table,
        day: date | None,
        old: Mapping[Path, int],
        new: Iterable[Joined],
    ) -> None:
        """Commit that the files `new` hold the rows of the files `old`, which no version loses."""
        location = self._location(described)
        now_ms = int(time.time() * 1000)
        partition: dict[str, str | None] = {} if day is None else {"day": day.isoformat()}
        added = [
            AddAction(
                file.path.relative_to(location).as_posix(),
                file.size,
                partition,
                now_ms,
                data_change=False,
                stats=json.dumps({"numRecords": file.rows}),
            )
            for file in new
        ]
        removed = [
            RemoveAction(
                path.relative_to(location).as_posix(),
                data_change=False,
                deletion_timestamp=now_ms,
                size=size,
                partition_values=partition,
            )
            for path, size in old.items()
        ]
        delta.create_write_transaction(
            [*added, *removed],
            "append",
            delta.schema(),
            list(partition),
            commit_properties=CommitProperties(
                custom_metadata={"userMetadata": "small files joined"},
                # Appends may pass, two that join the same files may not.
                app_transactions=[_claimed(_files_of(day))],
            ),
            post_commithook_properties=_AFTER_COMMIT,
        )

    def _pins(self) -> dict[str, tuple[int, ...]]:
        """The versions of each table that something is to be rebuilt from."""
        found: dict[str, set[int]] = {}
        for table in _PINNING:
            for (text,) in self.read(table, columns=["pins"]).unique().iter_rows():
                try:
                    for name, version in json.loads(text).items():
                        found.setdefault(name, set()).add(int(version))
                except (ValueError, AttributeError, TypeError) as error:
                    raise PermanentFailureError(
                        f"table {table}: pins that cannot be read ({error}): {text!r}. Nothing was "
                        "removed; correct the row or delete it"
                    ) from error
        return {name: tuple(sorted(versions)) for name, versions in found.items()}

    # Files --------------------------------------------------------------------------------------

    @property
    def files_root(self) -> Path:
        """The folder of pictures and manifests."""
        return self.root / "files"

    def file(self, *parts: str) -> Path:
        """A path below `files_root`; PermanentFailureError where it would lie outside."""
        path = self.files_root.joinpath(*parts)
        inside, top = path.resolve(), self.files_root.resolve()
        if inside == top or not inside.is_relative_to(top):
            raise PermanentFailureError(
                f"{'/'.join(parts)!r} does not name a file below {self.files_root}; "
                "correct the path"
            )
        return path

    def write_file(self, content: bytes, *parts: str) -> str:
        """Write a file whole or not at all; return its path as tables hold it (`files/…`)."""
        path = self.file(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".part", delete=False) as part:
            try:
                part.write(content)
                part.flush()
                Path(part.name).chmod(0o644)
                Path(part.name).replace(path)
            except BaseException:
                Path(part.name).unlink(missing_ok=True)
                raise
        return path.relative_to(self.root).as_posix()

    def resolve(self, path: str) -> Path:
        """The file that a table's text (`files/…`, below the lake's root) names.

        Raises PermanentFailureError where it would lie outside `files_root`.
        """
        first, _, rest = path.partition("/")
        if first != self.files_root.name:
            raise PermanentFailureError(
                f"{path!r} does not name a file below {self.files_root}; correct the path"
            )
        return self.file(rest)

    # How ----------------------------------------------------------------------------------------

    def _location(self, described: Table) -> Path:
        return self.root / "tables" / described.name

    def _open(self, described: Table, version: int | None = None) -> DeltaTable | None:
        location = self._location(described)
        try:
            delta = DeltaTable(location, version=version)
        except DeltaError as error:
            if version is None:
                if isinstance(error, TableNotFoundError):
                    return None
                raise
            latest = self.version(described.name)
            if latest is not None and 0 <= version <= latest:
                raise
            stands = "was never written" if latest is None else f"has versions 0 to {latest}"
            raise PermanentFailureError(
                f"table {described.name} has no version {version}: it {stands}"
            ) from None
        if delta.protocol().min_reader_version > _READER_VERSION:
            # Deleted rows may still stand in the files, or columns have other names there.
            raise PermanentFailureError(
                f"table {described.name} in {self.root} was changed by another tool to reader "
                f"version {delta.protocol().min_reader_version}, this lake reads up to "
                f"{_READER_VERSION}. Turn the feature off with that tool, or make the rows again"
            )
        return delta

    def _files(
        self, delta: DeltaTable, described: Table, days: Sequence[date] | None = None
    ) -> list[Path]:
        # Not delta.file_uris(): it escapes letters of the root.
        location = self._location(described)
        return sorted(location / path for path in _contents(delta, days)["path"])

    def _collected(
        self,
        wanted: Sequence[tuple[Table, DeltaTable | None, Sequence[str] | None]],
        days: Sequence[date] | None,
        where: pl.Expr | None = None,
    ) -> list[pl.DataFrame]:
        """The columns asked of each opened table (None: all), in the table's order of rows."""
        lazies = []
        for described, delta, columns in wanted:
            own = days if described.by_day else None
            rows = described.empty().lazy() if delta is None else self._scan(delta, described, own)
            if where is not None:
                rows = rows.filter(where)
            names = described.schema if columns is None else columns
            lazies.append(rows.select(list(dict.fromkeys([*names, *_order(described)]))))
        try:
            frames = pl.collect_all(lazies)
        except FileNotFoundError as error:
            versions = " or ".join(
                f"version {delta.version()} of table {described.name}"
                for described, delta, _ in wanted
                if delta is not None
            )
            raise PermanentFailureError(
                f"files of {versions} are gone ({error}). Read a newer version; versions that a "
                "training set pins are kept by maintain"
            ) from error
        return [
            _in_table_order(rows, described, list(described.schema if columns is None else columns))
            for rows, (described, _, columns) in zip(frames, wanted, strict=True)
        ]

    def _scan(
        self, delta: DeltaTable, described: Table, days: Sequence[date] | None = None
    ) -> pl.LazyFrame:
        """A version of the table by the registry's columns; those it does not have yet are null."""
        if days is not None:
            days = [_plain_day(day) for day in days]
        return _lazy(self._files(delta, described, days), described)

    def _open_for_writing(self, described: Table) -> DeltaTable:
        """The table's latest version, created or given its new columns where needed."""
        delta = self._open(described)
        if delta is None:
            return DeltaTable.create(
                self._location(described),
                schema=Schema([_field(column) for column in described.columns]),
                mode="ignore",
                partition_by=["day"] if described.by_day else None,
                name=described.name,
                description=described.meaning,
                configuration=_TABLE_PROPERTIES,
            )
        return self._with_new_columns(delta, described)

    def _with_new_columns(self, delta: DeltaTable, described: Table) -> DeltaTable:
        standing = {field.name: field for field in delta.schema().fields}
        wanted = {column.name: _field(column) for column in described.columns}
        gone = [name for name in standing if name not in wanted]
        new = [field for name, field in wanted.items() if name not in standing]
        changed = [
            name
            for name, field in standing.items()
            if name in wanted
            and (field.type, field.nullable) != (wanted[name].type, wanted[name].nullable)
        ]
        unfit = gone + changed + [field.name for field in new if not field.nullable]
        if unfit:
            raise PermanentFailureError(
                f"table {described.name} in {self.root} was made by another schema; columns that "
                f"differ: {', '.join(unfit)}. Only columns that may be null can be added to a "
                "table: write to a new lake, or move this table away and make its rows again"
            )
        if not new:
            return delta
        delta.alter.set_table_properties({_COLUMNS_WERE_ADDED: "true"}, raise_if_not_exists=False)
        delta.alter.add_columns(new)
        return DeltaTable(self._location(described))

    def _audited(
        self, described: Table, frame: pl.DataFrame, day: date | None = None
    ) -> pl.DataFrame:
        def exists(reference: Reference, values: pl.DataFrame) -> pl.DataFrame:
            columns = list(reference.columns)
            days = [day] if day is not None and _table(reference.table).by_day else None
            standing = self.scan(reference.table, days=days).select(columns)
            return standing.join(values.lazy(), on=columns, how="semi").unique().collect()

        return _ordered(validate(frame, described, day=day, exists=exists), described)

    def _write(
        self,
        delta: DeltaTable,
        described: Table,
        rows: pl.DataFrame,
        provenance: Provenance,
        mode: Literal["append", "overwrite"] = "overwrite",
        predicate: str | None = None,
        claim: str | None = None,
    ) -> int:
        # Without a claim the rows were worked out from all of this version: a commit by another
        # writer in between must fail, so that the work is done again on what it left. With one,
        # Delta fails where the other writer claimed the same or removed rows.
        commit = CommitProperties(
            custom_metadata=provenance.as_metadata(),
            max_commit_retries=0 if claim is None else None,
            app_transactions=None if claim is None else [_claimed(claim)],
        )
        write_deltalake(
            delta,
            rows,
            mode=cast('Literal["overwrite"]', mode),  # The stubs know no mode that is a variable.
            predicate=predicate,
            writer_properties=_writer_properties(described, rows),
            commit_properties=commit,
            post_commithook_properties=_AFTER_COMMIT,
        )
        return delta.version()

    def _committed(self, described: Table, attempt: Callable[[DeltaTable], int]) -> int:
        """What `attempt` returns on the latest version; tried again where a commit is lost."""
        for number in range(_ATTEMPTS):
            try:
                return attempt(self._open_for_writing(described))
            except CommitFailedError as error:
                lost = error
                longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**number)
                time.sleep(_jitter.uniform(0, longest))
        raise PassingFailureError(
            f"table {described.name}: the commit was lost to other writers {_ATTEMPTS} times "
            f"({lost}). Nothing was written; try again when fewer runs write this table"
        ) from lost


class PinnedTables:
    """Some tables of a lake at fixed versions, to be read as often as needed."""

    def __init__(self, lake: Lake, opened: Mapping[str, DeltaTable | None]) -> None:
        """Use `Lake.at`."""
        self._lake, self._opened = lake, opened

    def read(
        self, columns: Mapping[str, Sequence[str] | None], *, days: Sequence[date] | None = None
    ) -> dict[str, pl.DataFrame]:
        """Several tables, decoded at once, each as `Lake.read` gives it.

        Args:
            columns: of each table the columns, or None for all.
            days: reads those partitions only of the tables that have days.

        Raises:
            PermanentFailureError: unknown columns, or files of the version are gone.
        """
        described = {name: _table(name) for name in columns}
        for name, table in described.items():
            _refuse_unknown(table, columns[name])
        wanted = [(described[name], self._opened[name], columns[name]) for name in columns]
        return dict(zip(columns, self._lake._collected(wanted, days), strict=True))


def _remove_staged(folder: Path, older_than_hours: int) -> int:
    """Remove files that a writer was killed in the middle of; how many there were.

    The object store writes `NAME.parquet#1` and renames it. Vacuum does not see such files.
    """
    latest = time.time() - older_than_hours * 3600
    staged = [
        path
        for path in folder.rglob("*.parquet#*")
        if _STAGED.fullmatch(path.name) and path.stat().st_mtime <= latest
    ]
    for path in staged:
        path.unlink(missing_ok=True)
    return len(staged)


def _table(name: str) -> Table:
    try:
        return describe_table(name)
    except KeyError as error:
        raise PermanentFailureError(str(error.args[0])) from None


def _require(described: Table, *, by_day: bool) -> None:
    if described.by_day != by_day:
        kind, way = (
            ("partitioned by day", "write it with replace_partition or extend_partition")
            if described.by_day
            else ("not partitioned by day", "write it with replace, append or upsert")
        )
        raise PermanentFailureError(f"table {described.name} is {kind}: {way}")


def _plain_day(day: date) -> date:
    if isinstance(day, datetime):
        raise PermanentFailureError(f"{day!r} is a moment, not a day: pass its .date() in UTC")
    return day


def _order(described: Table) -> list[str]:
    """What rows are sorted by: rows of one camera lie together, and the order is total."""
    first = [name for name in ("day", "camera_id") if name in described.schema]
    return list(dict.fromkeys([*first, *described.key]))


def _ordered(frame: pl.DataFrame, described: Table) -> pl.DataFrame:
    return frame.sort(_order(described))


def _field(column: Column) -> Field:
    return Field(
        column.name,
        PrimitiveType(_DELTA_TYPES[column.dtype]),
        nullable=column.nullable,
        metadata={"comment": comment(column)},
    )


def _refuse_unknown(described: Table, columns: Sequence[str] | None) -> None:
    unknown = [name for name in columns or () if name not in described.schema]
    if unknown:
        raise PermanentFailureError(
            f"table {described.name} has no columns {', '.join(unknown)}; "
            f"there are: {', '.join(described.schema)}"
        )


def _in_table_order(rows: pl.DataFrame, described: Table, columns: list[str]) -> pl.DataFrame:
    order = _order(described)
    # To sort arrays is to copy them; joined files bring them in order.
    large = any(described.schema[name] == PACKED for name in columns)
    return (rows if large and _in_order(rows, order) else rows.sort(order)).select(columns)


def _in_order(rows: pl.DataFrame, order: Sequence[str]) -> bool:
    """Whether rows stand in order already, as those of one joined file per day do."""
    if rows.height < 2:
        return True
    rises = pl.repeat(False, rows.height - 1, eager=True)
    same = ~rises
    for name in order:
        value, before = rows[name].slice(1), rows[name].head(rows.height - 1)
        if rows[name].null_count():
            return False
        rises |= same & (value > before)
        same &= value == before
    return bool((rises | same).all())


def _writer_properties(described: Table, rows: pl.DataFrame) -> WriterProperties:
    # Small row groups let a reader of one camera skip the others; rows with arrays are large.
    group = rows_per_group(described, rows.estimated_size() / max(rows.height, 1))
    return WriterProperties(compression="ZSTD", compression_level=3, max_row_group_size=group)


def _lazy(files: list[Path], described: Table) -> pl.LazyFrame:
    """Rows of some files of a table by the registry's columns."""
    if not files:
        return described.empty().lazy()
    by_day = described.by_day
    return pl.scan_parquet(
        files,
        glob=False,
        hive_partitioning=by_day,
        hive_schema={"day": described.schema["day"]} if by_day else None,
        schema=described.schema,
        missing_columns="insert",
        extra_columns="ignore",
    ).select(list(described.schema))


def _contents(delta: DeltaTable, days: Sequence[date] | None = None) -> pl.DataFrame:
    """Files of a version, of some days or all: path below the table, bytes, rows, day (or null)."""
    actions = pl.DataFrame(delta.get_add_actions(flatten=True))
    day = pl.col("partition.day") if "partition.day" in actions.columns else pl.lit(None, pl.Date)
    contents = actions.select("path", bytes="size_bytes", rows="num_records", day=day)
    return contents if days is None else contents.filter(pl.col("day").is_in(list(days)))


def _rows_of(day: date) -> str:
    """What a writer of rows of a day claims."""
    return f"rows of {day.isoformat()}"


def _files_of(day: date | None) -> str:
    """What one claims who joins files of a day, or of a table without days."""
    return f"files of {day.isoformat() if day else 'the table'}"


def _claimed(name: str) -> Transaction:
    now_ms = int(time.time() * 1000)
    return Transaction(name, now_ms, now_ms)


def _days(delta: DeltaTable) -> set[date]:
    return {date.fromisoformat(partition["day"]) for partition in delta.partitions()}
