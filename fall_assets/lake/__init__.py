"""The lakehouse: Delta tables over Parquet, one schema registry, and SQL over both.

What belongs here: describing, checking, writing and reading tables. What does not: what the rows
mean to footage, labels or models, and Dagster. `Lake` and `connect` are imported on first use, so
that importing the registry alone stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fall_assets.lake.registry import TABLES

if TYPE_CHECKING:
    from fall_assets.lake.lake import Lake, Provenance
    from fall_assets.lake.sql import connect

__all__ = ["TABLES", "Lake", "Provenance", "connect"]


def __getattr__(name: str) -> object:
    if name in {"Lake", "Provenance"}:
        from fall_assets.lake import lake

        return getattr(lake, name)
    if name == "connect":
        from fall_assets.lake.sql import connect

        return connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
