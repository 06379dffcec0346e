"""`fall-assets hold`: legal holds. Here: arguments and printing."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from fall_assets.site import site_from_environment


class _Moment(click.ParamType[datetime]):
    """A day or a moment with its zone; a day, and a moment without a zone, are UTC."""

    name = "TIME"

    def __init__(self, *, last: bool = False) -> None:
        self._last = last

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The moment; of a day alone its first moment, or its last."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not like 2026-03-01 or 2026-03-01T08:15:00+01:00", param, ctx)
        if len(value) <= len("2026-03-01") and self._last:
            moment = moment.replace(hour=23, minute=59, second=59, microsecond=999_999)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@click.group()
def hold() -> None:
    """Legal holds: footage that retention must not delete."""


@hold.command()
@click.option("--camera", help="Hold this camera's footage only.")
@click.option("--video", help="Hold this segment only (its video_id).")
@click.option("--from", "from_utc", type=_Moment(), help="Hold footage from then on only.")
@click.option("--until", "until_utc", type=_Moment(last=True), help="Hold footage up to then only.")
@click.option("--everything", is_flag=True, help="Hold all footage: nothing is deleted any more.")
@click.option("--reason", required=True, help="Why, such as the case's number.")
@click.option("--by", required=True, help="Who places it.")
def add(
    camera: str | None,
    video: str | None,
    from_utc: datetime | None,
    until_utc: datetime | None,
    everything: bool,
    reason: str,
    by: str,
) -> None:
    """Place a hold. When this returns, nothing that it covers is deleted any more."""
    from fall_assets.lake import Lake
    from fall_assets.pipeline.retention import held_footage, place_hold
    from fall_assets.pipeline.work import Work

    narrowed = any(part is not None for part in (camera, video, from_utc, until_utc))
    if narrowed is everything:
        raise click.UsageError(
            "say what to hold with --camera, --video, --from, --until, or all with --everything"
        )
    site = site_from_environment()
    work = Work(site, Lake(site.lake_root))
    hold_id = place_hold(
        work,
        reason=reason,
        placed_by=by,
        camera_id=camera,
        video_id=video,
        from_utc=from_utc,
        until_utc=until_utc,
    )
    there, gone = held_footage(work, hold_id)
    click.echo(f"hold {hold_id}: {there} segments are held")
    if gone:
        click.echo(f"{gone} segments of that time have no file any more (tables videos, deletions)")


@hold.command()
@click.argument("hold_id")
@click.option("--by", required=True, help="Who releases it.")
def release(hold_id: str, by: str) -> None:
    """Release a hold; it stays in the list of all."""
    from fall_assets.lake import Lake
    from fall_assets.pipeline.retention import release_hold
    from fall_assets.pipeline.work import Work

    site = site_from_environment()
    release_hold(Work(site, Lake(site.lake_root)), hold_id, released_by=by)
    click.echo(f"hold {hold_id} is released")


@hold.command("list")
@click.option("--all", "everything", is_flag=True, help="Released ones, too.")
def list_holds(everything: bool) -> None:
    """List the holds."""
    from fall_assets.lake import Lake

    rows = Lake(site_from_environment().lake_root).read("legal_holds").sort("placed_utc").to_dicts()
    shown = [row for row in rows if everything or row["released_utc"] is None]
    for row in shown:
        what = [
            f"camera {row['camera_id']}" if row["camera_id"] else "",
            f"segment {row['video_id']}" if row["video_id"] else "",
            f"from {_text(row['from_utc'])}" if row["from_utc"] else "",
            f"until {_text(row['until_utc'])}" if row["until_utc"] else "",
        ]
        held = ", ".join(part for part in what if part) or "all footage"
        end = (
            f"; released by {row['released_by']} {_text(row['released_utc'])}"
            if row["released_utc"]
            else ""
        )
        click.echo(
            f"{row['hold_id']}  {held}: {row['reason']} "
            f"(placed by {row['placed_by']} {_text(row['placed_utc'])}{end})"
        )
    if not shown:
        click.echo("no holds stand")


def _text(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds")
