"""What goes into the package brings nothing that is too large for it, or not allowed in it."""

from __future__ import annotations

import subprocess
import sys

TOO_LARGE = ("polars", "torch", "dagster", "mlflow", "scipy", "pyarrow", "pandas", "sklearn")

SCRIPT = f"""
import importlib, pkgutil, sys
import fall_assets.edge
names = [one.name for one in pkgutil.walk_packages(fall_assets.edge.__path__, "fall_assets.edge.")]
assert "fall_assets.edge.watcher" in names, names
for name in names:
    importlib.import_module(name)
import fall_assets.features.movenet, ai_edge_litert.interpreter, onnxruntime
print(sorted({{one.partition(".")[0] for one in sys.modules}} & set({TOO_LARGE!r})))
"""


def test_the_edge_brings_nothing_large() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "[]"
