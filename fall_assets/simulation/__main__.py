"""`python -m fall_assets.simulation --landing DIR`: make a simulated hospital, with a bar.

`--scenario NAME` makes that scenario of drift, `--scenarios` lists them, and `--truth` says what
changes in a hospital that was made.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, fields
from datetime import date
from pathlib import Path
from typing import Any

from fall_assets.errors import FallAssetsError
from fall_assets.simulation.changes import KINDS
from fall_assets.simulation.hospital import HospitalSpec, generate, truth_of
from fall_assets.simulation.scenarios import ORDINARY, SCENARIOS, SEED, ordinary_hospital

_NOT_OPTIONS = ("changes", "views", "hours")


def _bar(done: int, total: int) -> None:
    width = 32
    filled = width * done // max(1, total)
    sys.stderr.write(f"\r[{'#' * filled}{'.' * (width - filled)}] {done}/{total} segments")
    if done == total:
        sys.stderr.write("\n")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fall_assets.simulation", description=__doc__)
    parser.add_argument("--landing", type=Path, help="folder to write below")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument(
        "--scenario",
        choices=(*ORDINARY, *SCENARIOS),
        metavar="NAME",
        help=f"one of --scenarios, or of {', '.join(ORDINARY)}; then only --seed counts",
    )
    parser.add_argument(
        "--like", type=Path, help="landing folder of another hospital: the same films are linked"
    )
    parser.add_argument("--scenarios", action="store_true", help="list the scenarios")
    parser.add_argument("--truth", action="store_true", help="say what changes in --landing")
    for field in fields(HospitalSpec):
        if field.name in _NOT_OPTIONS:
            continue
        kind = date.fromisoformat if field.name == "first_day" else type(field.default)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kind,
            help=f"default {field.default}",
        )
    return parser


def _spec(scenario: str | None, given: dict[str, Any]) -> HospitalSpec:
    if scenario is None:
        return HospitalSpec(**given)
    if others := sorted(set(given) - {"seed"}):
        raise ValueError(f"--scenario {scenario} decides on {', '.join(others)} itself")
    seed = given.get("seed", SEED)
    if scenario in ORDINARY:
        return ordinary_hospital(seed, scenario)
    return SCENARIOS[scenario].hospital(seed)


def _list() -> None:
    for name, one in SCENARIOS.items():
        named = f"drift, named {one.cause}" if one.is_drift else "no drift"
        since = f"{one.days[0]} to {one.days[-1]}"
        cameras = ", ".join(one.cameras) or "all cameras"
        sys.stdout.write(f"{name:12} {named:28} {since}  {cameras}: {KINDS[name].meaning}\n")


def _tell(landing: Path) -> None:
    for row in truth_of(landing):
        is_drift = "drift" if row["is_drift"] else "no drift"
        grows = f" over {row['days']} days" if row["days"] > 1 else ""
        cause = f", named {row['cause']}" if row["is_drift"] else ""
        sys.stdout.write(
            f"{row['kind']:12} {is_drift:9} from {row['first_day']}{grows}  "
            f"{', '.join(row['cameras'])}  amount {row['amount']:g}{cause}\n"
        )
    sys.stdout.write(json.dumps(truth_of(landing)) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, generate, say what was made; 0, or 2 with the error's text."""
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    landing, workers, scenario = (given.pop(name) for name in ("landing", "workers", "scenario"))
    lists, tells, like = (given.pop(name) for name in ("scenarios", "truth", "like"))
    given = {name: value for name, value in given.items() if value is not None}
    if lists:
        _list()
        return 0
    if landing is None:
        parser.error("--landing says where")
    began = time.monotonic()
    try:
        if tells:
            _tell(landing)
            return 0
        summary = generate(
            _spec(scenario, given),
            landing,
            workers=workers,
            progress=_bar if sys.stderr.isatty() else None,
            like=like,
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
