"""Rows of `edge_package`, for tests that need no package but what the lake says of one."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from fall_assets.features.settings import FeatureSettings
from fall_assets.lake.registry import one_row
from fall_assets.pipeline.work import Work


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


def package(work: Work, version: str) -> str:
    """A package of a version, as it stands in the lake; its manifest's hash."""
    content = f"package {version}".encode()
    sha256 = hashlib.sha256(content).hexdigest()
    archive = work.lake.write_file(content, "edge", f"{sha256}.tar.gz")
    row = package_row(
        version,
        feature_set=FeatureSettings().version,
        archive=archive,
        archive_sha256=sha256,
        archive_bytes=len(content),
        manifest_sha256=hashlib.sha256(sha256.encode()).hexdigest(),
    )
    work.lake.append("edge_package", one_row("edge_package", row), work.provenance())
    return str(row["manifest_sha256"])
