"""Joining small files of a table into few, with the rows in the table's order.

What belongs here: which files are worth joining, and writing their rows anew. What does not:
committing what was written (`lake.py`).

Delta's own compaction is not used: it sets one file's rows behind another's, its z-order knows
texts by their first 16 bytes only, and two of them at the same time double the rows (deltalake
1.6.6). Here rows come out by camera, so that a reader of one camera skips most row groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl

from fall_assets.lake.registry import PACKED, Table

TARGET_BYTES = 100 * 2**20
"""A file is closed when it has grown to this; one of at least half of it is left as it is."""

GROUP_BYTES = 8 * 2**20
"""Size of a row group before compression, in tables with arrays."""

_GROUP_ROWS = 131_072
_CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Joined:
    """A file that was written: where, how large, how many rows."""

    path: Path
    size: int
    rows: int


def worth_joining(sizes: Mapping[Path, int], target: int = TARGET_BYTES) -> list[Path]:
    """The files among those of one day, by size in bytes, that should become one or few.

    Those below half the target, where there are several. What is joined is full but for the last
    file, so doing it again finds nothing to do, and each byte is written a few times at most.
    """
    small = sorted(path for path, size in sizes.items() if size < target // 2)
    return small if len(small) > 1 else []


def rows_per_group(table: Table, bytes_per_row: float) -> int:
    """How many rows a row group should have: few where rows hold arrays."""
    packed = any(column.dtype == PACKED for column in table.columns)
    if not packed:
        return _GROUP_ROWS
    return min(_GROUP_ROWS, max(1, int(GROUP_BYTES / max(bytes_per_row, 1.0))))


def join_files(
    rows: pl.LazyFrame,
    table: Table,
    inputs: Sequence[Path],
    folder: Path,
    order: Sequence[str],
    target: int = TARGET_BYTES,
) -> list[Joined]:
    """Write `rows`, which are those of the files `inputs`, in order as few files in `folder`.

    Memory holds one camera's rows, or several cameras' up to 64 MiB, at a time.

    Raises RuntimeError where other than all rows were written; then, as after any other error,
    nothing of it is left.
    """
    import pyarrow.parquet as pq

    counted = [pq.ParquetFile(path).metadata for path in inputs]
    total = sum(found.num_rows for found in counted)
    size = sum(
        found.row_group(group).total_byte_size
        for found in counted
        for group in range(found.num_row_groups)
    )
    bytes_per_row = size / max(total, 1)
    folder.mkdir(parents=True, exist_ok=True)
    writer = _Writer(table, folder, rows_per_group(table, bytes_per_row), target)
    try:
        for part in _parts(rows, table, bytes_per_row):
            writer.add(part.sort(order))
        writer.close()
        written = sum(file.rows for file in writer.files)
        if written != total:
            raise RuntimeError(
                f"table {table.name}: {written} rows were written of {total} in {len(inputs)} "
                "files; nothing was changed"
            )
    except BaseException:
        writer.discard()
        raise
    return writer.files


def _parts(rows: pl.LazyFrame, table: Table, bytes_per_row: float) -> Iterator[pl.DataFrame]:
    """All rows, some cameras at a time, by camera."""
    if "camera_id" not in table.schema or table.column("camera_id").nullable:
        yield rows.collect()
        return
    camera = pl.col("camera_id")
    counts = rows.group_by(camera).len().sort(camera).collect()
    first, held = None, 0
    for name, count in counts.iter_rows():
        if first is not None and (held + count) * bytes_per_row > _CHUNK_BYTES:
            yield rows.filter(camera >= first, camera < name).collect()
            first, held = None, 0
        first = name if first is None else first
        held += count
    if first is not None:
        yield rows.filter(camera >= first).collect()


class _Writer:
    """Writes ordered rows into files of about `target` bytes; `files` are those that are done."""

    def __init__(self, table: Table, folder: Path, group: int, target: int) -> None:
        import pyarrow as pa

        from fall_assets.lake.dictionary import arrow_schema

        self.files: list[Joined] = []
        self._folder = folder
        self._group = group
        self._target = target
        # The day stands in the folder's name; meanings stand in the table's log.
        self._schema = pa.schema(
            [field.remove_metadata() for field in arrow_schema(table.name) if field.name != "day"]
            if table.by_day
            else [field.remove_metadata() for field in arrow_schema(table.name)]
        )
        # A dictionary of arrays is all work and no gain, and nobody asks for their extremes.
        self._plain = [
            column.name
            for column in table.columns
            if column.dtype != PACKED and not (table.by_day and column.name == "day")
        ]
        self._path = folder
        self._rows = 0
        self._open: Any = None

    def add(self, rows: pl.DataFrame) -> None:
        names = self._schema.names
        for start in range(0, rows.height, self._group):
            group = rows.slice(start, self._group).select(names).to_arrow().cast(self._schema)
            writer = self._open or self._new()
            writer.write_table(group, row_group_size=self._group)
            self._rows += group.num_rows
            if self._path.stat().st_size >= self._target:
                self.close()

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self.files.append(Joined(self._path, self._path.stat().st_size, self._rows))
            self._open = None

    def discard(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None
            self._path.unlink(missing_ok=True)
        for file in self.files:
            file.path.unlink(missing_ok=True)

    def _new(self) -> Any:
        import pyarrow.parquet as pq

        self._path = self._folder / f"part-00000-{uuid4()}-c000.zstd.parquet"
        self._rows = 0
        self._open = pq.ParquetWriter(
            self._path,
            self._schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=self._plain,
            write_statistics=self._plain,
        )
        return self._open
