"""What bad input costs: `python -m benchmarks.bad_input [--only TEXT]`.

Every file of `fall_assets_tests.footage.bad_files` is looked into as intake does, in a process of
its own, so that its peak memory is its own. Prints a Markdown table: file, size, what happened,
seconds, peak memory of the process; then the same for a film as recorders write them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from fall_assets.footage.discovery import find
from fall_assets.footage.probe import UnusableFileError
from fall_assets.footage.sandbox import DEFAULT_LIMITS, Looked, probe_all
from fall_assets.footage.sources import SourceSettings
from fall_assets.footage.store import Footage
from fall_assets_tests.footage.bad_files import BAD_FILES, DAY_FOLDER, TAKEN_IN, BadFile
from fall_assets_tests.footage.films import film

ORDINARY = BadFile(
    "for comparison: 60 s of 1280 x 720",
    lambda landing: os.fsencode(
        film(
            landing / DAY_FOLDER / "08-00-00.mp4", frames=600, width=1280, height=720, gop=20
        ).relative_to(landing)
    ),
    (TAKEN_IN,),
)


def main() -> int:
    """Print the table; the exit status is 1 where a file was not treated as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only files whose name contains this")
    only = parser.parse_args().only
    print("| file | bytes | what happened | seconds | with its process | peak memory, MB |")
    print("|---|---|---|---|---|---|")
    wrong, slowest, largest = [], 0.0, 0
    for bad in (*BAD_FILES, ORDINARY):
        if only not in bad.name:
            continue
        with TemporaryDirectory() as folder:
            landing = Path(folder) / "landing"
            landing.mkdir()
            size = os.lstat(os.fsencode(landing) + b"/" + bad.make(landing)).st_size
            started = time.monotonic()
            looked = _look(landing)
            seconds = time.monotonic() - started
        what = looked.error.reason if looked.error else TAKEN_IN
        detail = f": {looked.error.detail}" if looked.error else ""
        memory = f"{looked.peak_bytes / 1e6:.0f}" if looked.peak_bytes else "no process"
        print(
            f"| {bad.name} | {size} | {what}{_cell(detail)} | {looked.seconds:.3f} "
            f"| {seconds:.2f} | {memory} |",
            flush=True,
        )
        slowest, largest = max(slowest, looked.seconds), max(largest, looked.peak_bytes)
        is_root = os.geteuid() == 0 and bad.name == "no right to read"
        if what not in bad.becomes and not is_root:
            wrong.append(bad.name)
    print()
    print(
        f"slowest {slowest:.2f} s of {DEFAULT_LIMITS.limit_s:.0f} s allowed, largest "
        f"{largest / 1e6:.0f} MB of {DEFAULT_LIMITS.memory_bytes / 1e6:.0f} MB allowed"
    )
    print(f"not treated as they should be: {', '.join(wrong) or 'none'}")
    return 1 if wrong else 0


def _look(landing: Path) -> Looked[str]:
    (found,) = find(landing, [SourceSettings()], date(2026, 3, 1))
    if found.unusable_name:
        return Looked(found.path, error=UnusableFileError("unusable_name", "it is not valid UTF-8"))
    try:
        staged = Footage(landing, landing.parent / "cache").stage(found.path)
    except UnusableFileError as error:
        return Looked(found.path, error=error)
    (looked,) = probe_all([(found.path, staged)], settle_s=0.0, now_s=time.time(), workers=1)
    return looked


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
