"""Commands of the review queue. What belongs here: arguments and printing."""

from __future__ import annotations

import click

from fall_assets.commands.exchange import export_tasks
from fall_assets.site import site_from_environment


@click.group()
def review() -> None:
    """What a person should label next."""


@review.command("list")
@click.option("--items", type=click.IntRange(min=1), default=20, show_default=True)
def list_items(items: int) -> None:
    """Print the top of the queue: what, where, when and why."""
    from fall_assets.lake import Lake

    rows = Lake(site_from_environment().lake_root).read("review_queue").sort("rank").head(items)
    if rows.is_empty():
        click.echo("the queue is empty: materialize review_queue")
    for row in rows.iter_rows(named=True):
        says = f" [{row['suggested_label']}]" if row["suggested_label"] else ""
        click.echo(
            f"{row['rank']:4}  {row['start_utc']:%Y-%m-%d %H:%M:%S}  {row['camera_id']}"
            f"{says}  {row['reason']}"
        )


review.add_command(export_tasks, "export")
