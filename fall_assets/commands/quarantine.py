"""`fall-assets quarantine`: files that were not taken in. Here: arguments and printing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import click

from fall_assets.site import site_from_environment


@click.group()
def quarantine() -> None:
    """Files that were not taken in, why, and what to do about each."""


@quarantine.command("list")
@click.option("--all", "everything", is_flag=True, help="Files still being written, too.")
@click.option("--csv", is_flag=True, help="Print rows as CSV, names as they are.")
def list_files(everything: bool, csv: bool) -> None:
    """List files in quarantine: path, reason, since when, size, what to do."""
    import polars as pl

    from fall_assets.lake import Lake

    rows = Lake(site_from_environment().lake_root).read("quarantine")
    if not everything:
        rows = rows.filter(pl.col("action") == "quarantined")
    if csv:
        click.echo(rows.write_csv(), nl=False)
        return
    for row in rows.iter_rows(named=True):
        seen = row["first_seen_utc"].isoformat(sep=" ", timespec="minutes")
        click.echo(f"{shown(row['path'])}  {row['reason']}  since {seen}  {row['bytes']} B")
        click.echo(f"    {shown(row['detail'])}")
        click.echo(f"    {row['advice']}")
    if rows.is_empty():
        click.echo("nothing waits in quarantine")


@quarantine.command()
@click.argument("paths", nargs=-1)
def retry(paths: Sequence[str]) -> None:
    """Look again into files that wait in quarantine, or into PATHS of them.

    Their days are taken in again by the job `collection`, so that what comes after is made anew.
    The exit status is 1 where a file still waits.
    """
    from fall_assets.commands.running import run_job
    from fall_assets.jobs import RANGE_END_TAG, RANGE_START_TAG
    from fall_assets.lake import Lake
    from fall_assets.pipeline.collection import RETRY_TAG, became, waiting
    from fall_assets.pipeline.work import Work

    site = site_from_environment()
    work = Work(site, Lake(site.lake_root))
    rows = waiting(work, list(paths) or None)
    if rows.is_empty():
        click.echo("nothing waits in quarantine")
        return
    for first, last in stretches(rows["day"].unique().sort().to_list()):
        tags = {
            RANGE_START_TAG: first.isoformat(),
            RANGE_END_TAG: last.isoformat(),
            RETRY_TAG: "true",
        }
        if status := run_job(site, "collection", tags):
            sys.exit(status)
    still = 0
    for file in became(work, rows):
        still += bool(file.detail)
        why = f": {shown(file.detail)}" if file.detail else ""
        click.echo(f"{shown(file.path)}  was {file.was}, now {file.now}{why}")
    sys.exit(1 if still else 0)


def shown(text: str) -> str:
    """A name or a text of a file in one line, without what a terminal would act upon."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def stretches(days: Sequence[date]) -> Iterator[tuple[date, date]]:
    """First and last day of each run of consecutive days; `days` are sorted."""
    start = 0
    for place, day in enumerate(days):
        if place + 1 == len(days) or days[place + 1] != day + timedelta(days=1):
            yield days[start], day
            start = place + 1
