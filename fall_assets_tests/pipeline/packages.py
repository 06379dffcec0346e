"""Rows of `edge_package`, for tests that need no package but what the lake says of one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def package_row(version: str, **more: Any) -> dict[str, Any]:
    """A row of `edge_package` of a version; `more` are other values."""
    own = {
        "sequence": int(version),
        "model_version": version,
        "runtime": "test",
        "feature_set": "test",
        "built_utc": datetime.now(UTC),
        "precision": "float32",
        "archive": f"edge/{version}.tar.gz",
        "archive_sha256": "a" * 64,
        "archive_bytes": 1,
        "manifest_sha256": "b" * 64,
        "unpacked_bytes": 1,
        "start_s": 1.0,
        "segments": 0,
        "windows": 0,
        "largest_difference": 0.0,
        "reason": "test",
    }
    return own | more
