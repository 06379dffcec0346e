"""`fall-assets drift`: what drifted, what was done about it, and a person's word. Printing only."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import click

from fall_assets.drift.plans import ASKABLE, PLANS
from fall_assets.drift.progress import Row, by_episode, fold, is_settled
from fall_assets.lake import Lake
from fall_assets.pipeline.work import Work
from fall_assets.site import site_from_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fall_assets.drift.plans import Answer

_BY = click.option("--by", default=getpass.getuser, help="Who says so; default: you.")
_WHY = click.option("--why", default="", help="In your words; it is kept with the answer.")
_ANSWER = click.argument("answer", type=click.Choice(ASKABLE))


@click.group()
def drift() -> None:
    """What changed in the hospital, and what is done about it."""


@drift.command("list")
@click.option("--all", "everything", is_flag=True, help="Also what is over.")
def list_episodes(everything: bool) -> None:
    """List drift that lasts, newest first, with the newest answer to each."""
    from fall_assets.pipeline.drift_records import read_rows

    known = by_episode(read_rows(_work()))
    shown = 0
    for episode_id, rows in reversed(known.items()):
        note = fold(rows).note
        if note is None or (note.evidence.get("until") and not everything):
            continue
        shown += 1
        last = rows[-1]
        click.echo(
            f"{episode_id}  {note.cause}  {note.since} to {note.evidence.get('until') or 'now'}  "
            f"{', '.join(note.cameras)}  {_state(rows)}  {last.answer} {last.state}: "
            f"{last.sentence}"
        )
    if not shown:
        click.echo(
            "no drift" if everything or not known else "no drift lasts; --all shows the past"
        )


@drift.command("show")
@click.argument("episode_id")
def show(episode_id: str) -> None:
    """Show everything that was done about one drift, oldest first, and what is waited for."""
    from fall_assets.pipeline.answers import decide
    from fall_assets.pipeline.drift_records import read_rows

    work = _work()
    rows = by_episode(read_rows(work)).get(episode_id)
    if rows is None:
        raise click.ClickException(f"no drift {episode_id!r}: `fall-assets drift list --all`")
    for row in rows:
        click.echo(f"{row.at_utc:%Y-%m-%d %H:%M}  {row.answer:<9} {row.state:<8}  {row.sentence}")
    # Without Dagster's runs: a retraining under way is told of by its row above.
    for text in decide(work, datetime.now(UTC)).waits:
        if episode_id in text:
            click.echo(f"waits: {text}")


@drift.command("explain")
@click.argument("camera_id")
@click.argument("day", type=click.DateTime(["%Y-%m-%d"]))
def explain(camera_id: str, day: datetime) -> None:
    """Say which figures tell a camera's day from its ordinary days.

    A figure's share is what a classifier and spot-the-difference owe to it, its shift in robust
    standard deviations; beside it the p-values of two plain tests of it alone. The report asks
    other tests, within one budget: these explain, and decide nothing.
    """
    from fall_assets.pipeline.monitoring import explain_day

    told = explain_day(_work(), camera_id, day.date())
    click.echo("share  figure            shift     p (KS)    p (CvM)")
    for one in told.moved:
        click.echo(
            f"{one.share:>5.0%}  {one.figure:<16} {one.shift:>+6.1f} {one.p_ks:>10.2g} "
            f"{one.p_cvm:>10.2g}"
        )
    click.echo(
        f"all together, hours exchanged within quarters of the day: p {told.p_mmd:.2g} (MMD), "
        f"{told.p_lsdd:.2g} (LSDD)"
    )


@drift.command("approve")
@click.argument("episode_id")
@_ANSWER
@_BY
@_WHY
def approve(episode_id: str, answer: str, by: str, why: str) -> None:
    """Let an answer go on that waits for a person, or that failed."""
    from fall_assets.pipeline.answers import approve as say

    click.echo(say(_work(), episode_id, cast("Answer", answer), by, why).sentence)
    click.echo("the drift_sensor goes on with it at its next tick, if it is turned on")


@drift.command("refuse")
@click.argument("episode_id")
@_ANSWER
@_BY
@_WHY
def refuse(episode_id: str, answer: str, by: str, why: str) -> None:
    """Say that an answer is not wanted; what drifted then counts as ordinary."""
    from fall_assets.pipeline.answers import refuse as say

    click.echo(say(_work(), episode_id, cast("Answer", answer), by, why).sentence)


def _state(rows: Sequence[Row]) -> str:
    progress = fold(rows)
    if progress.note is None:
        return "new"
    if any(row.state == "asked" for row in progress.states.values()):
        return "asks a person"
    return "settled" if is_settled(progress, PLANS[progress.note.cause]) else "under way"


def _work() -> Work:
    site = site_from_environment()
    return Work(site, Lake(site.lake_root))
