"""`fall-assets rollout`: how a challenger fares, and orders. Here: arguments and printing."""

from __future__ import annotations

import getpass
import uuid
from collections import Counter
from typing import TYPE_CHECKING

import click

from fall_assets.lake import Lake
from fall_assets.pipeline.work import Work
from fall_assets.site import site_from_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fall_assets.rollout.machine import Outcome

_BY = click.option("--by", default=getpass.getuser, help="Who says so; default: you.")
_WHY = click.option("--why", default="", help="In your words; it is kept with the decision.")

_OUTCOMES: Mapping[Outcome, str] = {
    "equal": "same",
    "same decision, other numbers": "other numbers",
    "differs": "DIFFERS",
}


@click.group()
def rollout() -> None:
    """Rollouts: a new version against the one that serves, camera by camera."""


@rollout.command("list")
def list_rollouts() -> None:
    """List rollouts, newest first, with the newest decision of each."""
    from fall_assets.pipeline.rollout import rollouts

    known = rollouts(_work())
    for one in reversed(known):
        click.echo(
            f"{one.id}  version {one.champion} -> {one.challenger}  {one.last.state}  "
            f"{one.last.day}  {one.last.sentence}"
        )
    if not known:
        click.echo("no rollout yet; one begins when a challenger is registered")


@rollout.command("show")
@click.argument("rollout_id", required=False)
def show(rollout_id: str | None) -> None:
    """Show every decision of a rollout (default: the newest), oldest first."""
    from fall_assets.pipeline.rollout import newest

    current = newest(_work(), rollout_id)
    if current is None:
        raise click.ClickException("no rollout yet")
    for decision in current.history:
        click.echo(
            f"{decision.number:>4}  {decision.day}  {decision.action:<9} {decision.state:<11} "
            f"{decision.share:>5.0%}  {decision.by}: {decision.sentence}"
        )


@rollout.command("begin")
@click.option("--version", default="", help="Model version; default: the registry's challenger.")
@click.option(
    "--mode", type=click.Choice(["canary", "ab"]), default=None, help="Default: the site's."
)
@_BY
def begin(version: str, mode: str | None, by: str) -> None:
    """Begin a rollout; with --mode ab two versions side by side, and a report at the end."""
    _order({"order": "begin", "challenger": version, "mode": mode or "", "by": by})


def _command(name: str, order: str, text: str) -> Callable[..., None]:
    @rollout.command(name, help=text)
    @click.argument("rollout_id", required=False)
    @_BY
    @_WHY
    def command(rollout_id: str | None, by: str, why: str) -> None:
        _is_newest(rollout_id)
        _order({"order": order, "by": by, "why": why})

    return command


_command("approve", "approve", "Go to the next step, whatever the evidence.")
_command("resume", "resume", "Leave a hold; the step's days are counted anew.")
_command("hold", "hold", "Stay at this step until a person decides.")
_command("roll-back", "roll_back", "Give every camera back to the version from before.")
_command("abort", "abort", "End the rollout without a judgement; the champion serves.")


@rollout.command("replay")
@click.argument("rollout_id")
def replay(rollout_id: str) -> None:
    """Take every decision of a rollout once more from the lake, and compare.

    Ends with 1 where one of them comes out otherwise; other numbers in its words are told and do
    not count: another version of a library may compute a little differently.
    """
    from fall_assets.pipeline.rollout import replay as replayed

    outcomes: Counter[Outcome] = Counter()
    for one in replayed(_work(), rollout_id):
        recorded, again = one.recorded, one.recomputed
        outcomes[one.outcome] += 1
        click.echo(
            f"{_OUTCOMES[one.outcome]:<13}  {recorded.number:>4}  {recorded.day}  "
            f"{recorded.action}: {recorded.sentence}"
        )
        if one.outcome != "equal":
            told = f"{again.action}: {again.sentence}" if again else "no decision"
            click.echo(f"{'now':>13}: {told}")
    if differing := outcomes["differs"]:
        raise click.ClickException(
            f"{differing} decisions come out otherwise: rows of the tables rollout or "
            "rollout_evidence were changed, or the code decides otherwise since"
        )
    other = outcomes["same decision, other numbers"]
    also = f", {other} of them on other numbers" if other else ""
    click.echo(f"all decisions come out the same{also}")


def _is_newest(rollout_id: str | None) -> None:
    """Refuse an order for a rollout that is over."""
    from fall_assets.pipeline.rollout import newest

    work = _work()
    asked, current = newest(work, rollout_id), newest(work)
    if asked is None or current is None or asked.id != current.id:
        raise click.ClickException(
            f"orders go to the newest rollout, which is {current.id if current else 'not there'}"
        )


def _order(config: dict[str, str]) -> None:
    from fall_assets.commands.running import run_job

    ops = {"ops": {"rollout": {"config": {**config, "order_id": str(uuid.uuid4())}}}}
    raise SystemExit(run_job(site_from_environment(), "rolling_out", {}, ops))


def _work() -> Work:
    site = site_from_environment()
    return Work(site, Lake(site.lake_root))
