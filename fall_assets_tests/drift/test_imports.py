"""Definitions import these packages: they must not bring torch and its like."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "alibi_detect", "mlflow", "sklearn", "scipy", "cv2", "matplotlib", "dagster")


def test_importing_drift_and_delivery_brings_nothing_heavy() -> None:
    code = (
        "import sys, fall_assets.drift.plots, fall_assets.delivery, fall_assets.delivery.stills\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
