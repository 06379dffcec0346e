"""`fall-assets alerts`: what was raised, and what staff found. Here: arguments and printing."""

from __future__ import annotations

from datetime import datetime

import click

from fall_assets.site import site_from_environment


@click.group()
def alerts() -> None:
    """Alerts, and what staff found when they came."""


@alerts.command("list")
@click.option(
    "--days", default=7, show_default=True, type=click.IntRange(1), help="Newest days with alerts."
)
@click.option("--unanswered", is_flag=True, help="Only alerts that nobody answered yet.")
def list_alerts(days: int, unanswered: bool) -> None:
    """List alerts, newest first: id, time, place, kind, score, answer."""
    from fall_assets.delivery.channels import in_words
    from fall_assets.lake import Lake
    from fall_assets.pipeline.feedback import answered_alerts
    from fall_assets.pipeline.work import Work

    site = site_from_environment()
    rows = answered_alerts(Work(site, Lake(site.lake_root)), newest_days=days).to_dicts()
    for row in rows:
        if unanswered and row["verdict"]:
            continue
        answer = f"{row['verdict']} ({row['by']})" if row["verdict"] else "not answered"
        raised = row["raised_utc"].isoformat(sep=" ", timespec="seconds")
        click.echo(
            f"{row['alert_id']}  {raised}  ward {row['ward']}, room {row['room']}, "
            f"camera {row['camera_id']}  {in_words(row)}  score {row['score']:.2f}  {answer}"
        )
    if not rows:
        click.echo("no alerts yet")


@alerts.command()
@click.argument("alert_id")
@click.argument("verdict", type=click.Choice(["fall", "no_fall", "unsure"]))
@click.option("--by", required=True, help="Who answers: a name or a role.")
def answer(alert_id: str, verdict: str, by: str) -> None:
    """Record what staff found; the newest answer to ALERT_ID counts."""
    from fall_assets.lake import Lake
    from fall_assets.pipeline.feedback import VERDICTS, answer_alert
    from fall_assets.pipeline.work import Work

    site = site_from_environment()
    chosen = next(known for known in VERDICTS if known == verdict)
    answer_alert(Work(site, Lake(site.lake_root)), alert_id, chosen, by=by)
    click.echo(f"alert {alert_id}: {verdict}, by {by}")


@alerts.command("report-fall")
@click.argument("camera_id")
@click.argument("found")
@click.option("--by", required=True, help="Who reports it: a name or a role.")
@click.option(
    "--within",
    "within_min",
    default=10.0,
    show_default=True,
    help="It happened at most so many minutes before it was found.",
)
def report(camera_id: str, found: str, by: str, within_min: float) -> None:
    """Record a fall that raised no alert: FOUND before CAMERA_ID, such as 2026-03-01T14:20+01:00.

    Its footage is the next to be labelled, so that the detector learns what it missed.
    """
    from fall_assets.lake import Lake
    from fall_assets.pipeline.feedback import report_fall
    from fall_assets.pipeline.work import Work

    try:
        moment = datetime.fromisoformat(found)
    except ValueError as error:
        raise click.BadParameter(f"{found!r} is no time such as 2026-03-01T14:20+01:00") from error
    site = site_from_environment()
    report_fall(Work(site, Lake(site.lake_root)), camera_id, moment, by=by, within_min=within_min)
    click.echo(f"a fall before {camera_id}, found {moment.isoformat()}, reported by {by}")
