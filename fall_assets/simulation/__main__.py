"""`python -m fall_assets.simulation --landing DIR`: make a simulated hospital, with a bar."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, fields
from datetime import date
from pathlib import Path

from fall_assets.errors import FallAssetsError
from fall_assets.simulation.hospital import HospitalSpec, generate


def _bar(done: int, total: int) -> None:
    width = 32
    filled = width * done // max(1, total)
    sys.stderr.write(f"\r[{'#' * filled}{'.' * (width - filled)}] {done}/{total} segments")
    if done == total:
        sys.stderr.write("\n")
    sys.stderr.flush()


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, generate, say what was made; 0, or 2 with the error's text."""
    parser = argparse.ArgumentParser(prog="python -m fall_assets.simulation", description=__doc__)
    parser.add_argument("--landing", type=Path, required=True, help="folder to write below")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    for field in fields(HospitalSpec):
        kind = date.fromisoformat if field.name == "first_day" else type(field.default)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kind,
            default=field.default,
            help=f"default {field.default}",
        )
    given = vars(parser.parse_args(arguments))
    landing, workers = given.pop("landing"), given.pop("workers")
    began = time.monotonic()
    try:
        summary = generate(
            HospitalSpec(**given),
            landing,
            workers=workers,
            progress=_bar if sys.stderr.isatty() else None,
        )
    except (FallAssetsError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for name, value in asdict(summary).items():
        sys.stdout.write(f"{name.replace('_', ' ')}: {value}\n")
    sys.stdout.write(f"took: {time.monotonic() - began:.1f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
