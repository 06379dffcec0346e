"""The command line `fall-assets`. What belongs here: arguments and printing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from fall_assets.commands.alerts import alerts
from fall_assets.commands.drift import drift
from fall_assets.commands.edge import edge
from fall_assets.commands.frames import frames
from fall_assets.commands.holds import hold
from fall_assets.commands.labels import labels
from fall_assets.commands.monitor import metrics
from fall_assets.commands.quarantine import quarantine
from fall_assets.commands.reproduce import reproduce
from fall_assets.commands.review import review
from fall_assets.commands.rollouts import rollout
from fall_assets.commands.running import environment, run_job
from fall_assets.errors import FallAssetsError
from fall_assets.site import Site, project_root, site_from_environment

F = TypeVar("F", bound=Callable[..., Any])
BAR_WIDTH = 30


class _Group(click.Group):
    """A group whose commands say what is wrong in one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FallAssetsError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fall-assets")
def main() -> None:
    """Detect patient falls in hospital video, and keep detecting them."""


for group in (
    *(alerts, drift, edge, frames, hold, labels),
    *(metrics, quarantine, reproduce, review, rollout),
):
    main.add_command(group)


@main.command()
@click.option("--seed", default=7, show_default=True, help="Seed of the simulated hospital.")
@click.option("--package/--no-package", default=True, help="Whether to pack what came out of it.")
def run(seed: int, package: bool) -> None:
    """Once around the loop, pack the model for the boxes, then a summary.

    Footage comes from FALL_FOOTAGE; without it a simulated hospital is made below the site's
    folder.
    """
    from fall_assets.footage.discovery import days_with_footage
    from fall_assets.jobs import RANGE_END_TAG, RANGE_START_TAG
    from fall_assets.lake import Lake
    from fall_assets.summary import summary

    site = site_from_environment()
    started = time.monotonic()
    if site.is_simulated:
        _simulate(site, seed)
    elif not site.landing.is_dir():
        raise click.ClickException(f"there is no folder {site.landing}: give FOOTAGE=DIR")
    days = days_with_footage(site.landing, site.settings.footage.sources)
    if not days:
        raise click.ClickException(
            f"no footage found in {site.landing}: neither files as the sources in data/site.toml "
            "tell nor a data set that is known"
        )
    click.echo(f"lifecycle over {days[0]} to {days[-1]}, footage in {site.landing}")
    status = run_job(
        site,
        "lifecycle",
        {RANGE_START_TAG: days[0].isoformat(), RANGE_END_TAG: days[-1].isoformat()},
    )
    if package and not status:
        click.echo("packing the registered version for the boxes beside the cameras")
        status = run_job(site, "packaging", {})
    click.echo()
    for line in summary(site, Lake(site.lake_root), days):
        click.echo(line)
    click.echo(f"took {time.monotonic() - started:.0f} s")
    sys.exit(status)


@main.command()
@click.option("--port", default=3000, show_default=True, help="Port of the Dagster UI.")
@click.option("--mlflow-port", default=5000, show_default=True, help="Port of MLflow's UI.")
def dev(port: int, mlflow_port: int) -> None:
    """Open the Dagster UI with the daemon, and MLflow's UI; both on the loopback address."""
    site = site_from_environment()
    site.mlflow_root.mkdir(parents=True, exist_ok=True)
    (project_root() / "data" / "dagster").mkdir(parents=True, exist_ok=True)
    bin_folder = Path(sys.executable).parent
    commands = {
        f"Dagster: http://127.0.0.1:{port}": [
            bin_folder / "dagster", "dev", "-h", "127.0.0.1", "-p", str(port),
            "-w", str(project_root() / "workspace.yaml"),
        ],
        f"MLflow:  http://127.0.0.1:{mlflow_port}": [
            bin_folder / "mlflow", "server", "--host", "127.0.0.1", "--port", str(mlflow_port),
            "--workers", "1", "--backend-store-uri", site.tracking_uri,
            "--artifacts-destination", str(site.mlflow_root / "artifacts"),
        ],
    }  # fmt: skip
    running = []
    for what, command in commands.items():
        click.echo(what)
        running.append(
            subprocess.Popen(  # noqa: S603
                [str(part) for part in command], env=environment(), start_new_session=True
            )
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while all(process.poll() is None for process in running):
            time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    finally:
        # Each has processes of its own (webserver, daemon, code servers): the whole group ends.
        for process in running:
            os.killpg(process.pid, signal.SIGTERM)
        for process in running:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", help="MLflow run of another model than the champion.")
def detect(files: Sequence[Path], model: str | None) -> None:
    """Print one JSON line per fall found in FILES.

    A file that cannot be used is named on the error stream and the others go on; the exit status
    is 1 then.
    """
    from fall_assets.footage.probe import UnusableFileError
    from fall_assets.pipeline.models import champion, model_of_run
    from fall_assets.pipeline.operation import detect_file

    site = site_from_environment()
    detector, version = model_of_run(site, model) if model else champion(site)
    failed = False
    for file in files:
        try:
            events = detect_file(file, detector, site.settings.features.detector)
        except (UnusableFileError, OSError) as error:
            click.echo(f"{file}: {error}", err=True)
            failed = True
            continue
        for event in events:
            click.echo(
                json.dumps(
                    {
                        "file": str(file),
                        "start_s": round(event.start_s, 2),
                        "end_s": round(event.end_s, 2),
                        "score": round(event.score, 4),
                        "model": version,
                    }
                )
            )
    sys.exit(1 if failed else 0)


@main.command()
@click.argument("query")
@click.option(
    "--at",
    "versions",
    multiple=True,
    metavar="TABLE=VERSION",
    help="Read a table at an older version; may be repeated.",
)
@click.option("--rows", default=40, show_default=True, help="Rows to print at most.")
@click.option("--csv", is_flag=True, help="Print all rows as CSV.")
def sql(query: str, versions: Sequence[str], rows: int, csv: bool) -> None:
    """Ask the lake a question in DuckDB's SQL; every table is a view, nothing can be written."""
    import polars as pl

    from fall_assets.lake.sql import query as ask

    wanted = {}
    for text in versions:
        name, _, number = text.partition("=")
        if not number.isdigit():
            raise click.BadParameter(f"{text!r} is not TABLE=VERSION", param_hint="--at")
        wanted[name] = int(number)
    found = ask(query, versions=wanted)
    if csv:
        click.echo(found.write_csv(), nl=False)
        return
    width = shutil.get_terminal_size((160, 40)).columns
    with pl.Config(
        tbl_rows=rows,
        tbl_cols=-1,
        fmt_str_lengths=200,
        tbl_width_chars=width,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
    ):
        click.echo(str(found))


@main.command()
@click.argument("names", nargs=-1)
def tables(names: Sequence[str]) -> None:
    """List the lake's tables with rows and versions; for named ones, their columns too."""
    from fall_assets.lake import TABLES, Lake
    from fall_assets.lake.dictionary import describe
    from fall_assets.lake.registry import table

    lake = Lake(site_from_environment().lake_root)
    try:
        chosen = [table(name) for name in names] or list(TABLES.values())
    except KeyError as error:
        raise click.ClickException(str(error.args[0])) from error
    click.echo(f"lake: {lake.root}")
    for described in chosen:
        version = lake.version(described.name)
        state = (
            f"{lake.rows(described.name)} rows, version {version}" if version is not None else "-"
        )
        click.echo(f"{described.name:18} {state:26} {described.meaning}")
        if names:
            for column in describe(described.name):
                click.echo("    " + "  ".join(f"{part}" for part in column.values() if part))


@main.command()
@click.argument("version")
def promote(version: str) -> None:
    """Make a registered VERSION the champion, without a rollout."""
    from fall_assets.lake import Lake
    from fall_assets.pipeline import delivery
    from fall_assets.pipeline.work import Work

    site = site_from_environment()
    delivery.promote(Work(site, Lake(site.lake_root)), version)
    click.echo(f"version {version} is the champion")


def _simulate(site: Site, seed: int) -> None:
    from fall_assets.simulation.hospital import HospitalSpec, generate

    site.landing.mkdir(parents=True, exist_ok=True)
    made = generate(
        HospitalSpec(seed=seed),
        site.landing,
        workers=site.settings.features.workers,
        progress=_bar("simulated hospital"),
    )
    click.echo(f"simulated hospital: {made}")


def _bar(what: str) -> Callable[[int, int], None]:
    """A progress bar on a terminal, a line now and then elsewhere."""
    started = time.monotonic()
    shown = [0.0]

    def show(done: int, total: int) -> None:
        elapsed = time.monotonic() - started
        pause = 0.2 if sys.stderr.isatty() else 10.0
        if done < total and elapsed - shown[0] < pause:
            return
        shown[0] = elapsed
        left = elapsed / done * (total - done) if done else 0.0
        filled = BAR_WIDTH * done // max(total, 1)
        text = f"{what} [{'#' * filled:{BAR_WIDTH}}] {done}/{total}, {left:.0f} s left"
        end = "\r" if sys.stderr.isatty() and done < total else "\n"
        click.echo(text + end, nl=False, err=True)

    return show


if __name__ == "__main__":
    main()
