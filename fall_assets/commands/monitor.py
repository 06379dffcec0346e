"""`fall-assets metrics`: the site's figures for Prometheus. Here: arguments and printing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from fall_assets.loopback import is_loopback
from fall_assets.site import Site, project_root, site_from_environment

if TYPE_CHECKING:
    from fall_assets.monitoring.figures import SiteFigures
    from fall_assets.monitoring.runs import RunFigures

_log = logging.getLogger(__name__)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9464, show_default=True, help="Port; 0 takes a free one.")
def metrics(host: str, port: int) -> None:
    """Serve the site's figures on /metrics for Prometheus, until stopped.

    Nobody is asked who he is: on another address than this machine's own, let a proxy do that.
    """
    from fall_assets.monitoring.endpoint import serve

    if not is_loopback(host):
        click.echo(f"{host} can be reached by other machines, and nobody is asked who he is")
    try:
        server, thread = serve(gatherer(site_from_environment()), host, port)
    except OSError as error:
        raise click.ClickException(
            f"{host}:{port} cannot be listened on ({error.strerror}): give --port another one"
        ) from error
    click.echo(f"metrics: http://{host}:{server.server_port}/metrics")
    try:
        thread.join()
    except KeyboardInterrupt:
        server.shutdown()


def gatherer(site: Site) -> Callable[[], SiteFigures]:
    """What gathers the site's figures; Dagster's instance is opened beside it, and kept."""
    from fall_assets.lake import Lake
    from fall_assets.pipeline.health import site_figures
    from fall_assets.pipeline.work import Work

    work = Work(site, Lake(site.lake_root))
    runs = _Runs(site)
    runs.open()

    def gather() -> SiteFigures:
        now = datetime.now(UTC)
        return site_figures(work, runs.figures(now), now)

    return gather


class _Runs:
    """Dagster's runs as `fall-assets dev` and the commands have them.

    Opening the instance takes seconds, and is no reason to keep the cameras' figures back: it is
    done in a thread.
    """

    def __init__(self, site: Site) -> None:
        self._settings = site.settings.health
        self._lock = threading.Lock()
        self._ask: Callable[[datetime], RunFigures] | None = None
        self._opening: threading.Thread | None = None

    def figures(self, now: datetime) -> RunFigures | None:
        """None while Dagster is not opened or cannot be asked: the rest is told without it."""
        if self._ask is None:
            self.open()
            return None
        try:
            return self._ask(now)
        except Exception as error:
            _log.warning("Dagster's instance cannot be asked: %s", error)
            return None

    def open(self) -> threading.Thread:
        """Begin to open it, where nobody does; the thread that does."""
        with self._lock:
            if self._opening is None or not self._opening.is_alive():
                self._opening = threading.Thread(target=self._open, name="Dagster", daemon=True)
                self._opening.start()
            return self._opening

    def _open(self) -> None:
        import os

        try:
            from fall_assets.resources.instance import assets_by_day, open_instance, run_figures

            os.environ.setdefault("DAGSTER_HOME", str(project_root()))
            instance, assets = open_instance(), assets_by_day()
        except Exception as error:
            _log.warning("Dagster's instance cannot be opened: %s", error)
            return
        self._ask = lambda now: run_figures(instance, assets, self._settings, now)
