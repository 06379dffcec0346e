"""Command that makes a recorded run again. What belongs here: arguments and printing."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from fall_assets.site import site_from_environment


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN_ID…")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Largest difference of a score that still counts as the same.  [default: 0.0001]",
)
def reproduce(runs: Sequence[str], tolerance: float | None) -> None:
    """Train recorded runs again from their records and compare what they score.

    RUN_ID is a run of the tracking store (a candidate, an attempt or a trial), a registered
    version, 'champion' or 'challenger'. The exit status is 1 where one does not agree.
    """
    from fall_assets.lake import Lake
    from fall_assets.pipeline.reproduction import TOLERANCE
    from fall_assets.pipeline.reproduction import reproduce as make_again
    from fall_assets.pipeline.work import Work

    site = site_from_environment()
    work = Work(site, Lake(site.lake_root), log=lambda line: click.echo(line, err=True))
    allowed = TOLERANCE if tolerance is None else tolerance
    agree = True
    for run_id in runs:
        found = make_again(work, run_id, tolerance=allowed)
        agree &= found.agrees
        for line in found.lines():
            click.echo(line)
    sys.exit(0 if agree else 1)
