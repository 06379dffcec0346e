"""The real footage that tests use where it is at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parents[1]

SAMPLES = Path(
    os.environ.get("FALL_FOOTAGE_SAMPLES") or _REPOSITORY / ".." / "shared" / "footage"
).resolve()
"""The folder with `urfd/`, `gmdcsa24/`, `assist_iot/` and `people_walking/`."""

needs_samples = pytest.mark.skipif(
    not (SAMPLES / "urfd").is_dir(),
    reason=f"no real footage at {SAMPLES}; set FALL_FOOTAGE_SAMPLES to its folder",
)
"""Marks a test that reads the real footage."""
