"""Commands that exchange work with labelling tools. What belongs here: arguments and printing."""

from __future__ import annotations

from pathlib import Path

import click

from fall_assets.site import site_from_environment


@click.command("export-tasks")
@click.option(
    "--tool",
    type=click.Choice(["label-studio"]),
    default="label-studio",
    show_default=True,
    help="The labelling tool.",
)
@click.option(
    "--items",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Items from the top of the queue.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder to write; not in the landing folder.",
)
@click.option(
    "--media-url",
    default=None,
    help="What stands before a preview's name in its address; by default the tool's local files.",
)
def export_tasks(tool: str, items: int, out: Path, media_url: str | None) -> None:
    """Write the top of the review queue as tasks with previews for a labelling tool.

    Heads are hidden in the previews; where they are not known, the whole picture is coarse.
    """
    from fall_assets.lake import Lake
    from fall_assets.pipeline.exchange import CONFIG, LOCAL_FILES, MEDIA, TASKS, export_review
    from fall_assets.pipeline.work import Work

    site = site_from_environment()
    work = Work(site, Lake(site.lake_root), log=lambda line: click.echo(line, err=True))
    made = export_review(work, out, items=items, media_url=media_url or LOCAL_FILES)
    for item, why in made.left_out:
        click.echo(f"left out {item}: {why}", err=True)
    click.echo(
        f"{made.tasks} tasks in {made.folder / TASKS}, {made.suggested} of them with suggestions"
    )
    click.echo(f"labelling configuration of the project: {made.folder / CONFIG}")
    if media_url is None:
        click.echo(
            "start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and\n"
            f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={made.folder},\n"
            f"and give the project a local storage at {made.folder / MEDIA}"
        )
    click.echo(f"then put its JSON export into {site.landing / 'labels'}")
