"""`/metrics` over HTTP: a scrape costs little, never hangs and never fails.

What belongs here: serving, and remembering figures for a while. What does not: gathering them, or
what the metrics are (`metrics`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fall_assets.monitoring.figures import SiteFigures
from fall_assets.monitoring.metrics import OWN, families

KEPT_S: Final = 15.0
"""Figures are this old at most, where gathering them goes well."""
PATIENCE_S: Final = 5.0
"""So long a scrape waits for new figures; Prometheus gives up after 10 s by default."""
OLD_S: Final = 120.0
"""So old may figures be that stand in for newer ones that take long."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Gathered:
    figures: SiteFigures
    at_s: float
    took_s: float


class _Round:
    """One time of gathering; `found` stays None where it fails."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.found: _Gathered | None = None


class SiteCollector(Collector):
    """Asks for figures when scraped, at most every `kept_s`, in a thread of its own.

    Where that takes longer than `patience_s`, the last figures stand in while they are younger than
    `old_s`. Where it fails, or they are older, `fall_assets_up` is 0 and there are no others.
    """

    def __init__(
        self,
        gather: Callable[[], SiteFigures],
        *,
        kept_s: float = KEPT_S,
        patience_s: float = PATIENCE_S,
        old_s: float = OLD_S,
    ) -> None:
        self._gather = gather
        self._kept_s, self._patience_s, self._old_s = kept_s, patience_s, old_s
        self._lock = threading.Lock()
        self._last: _Gathered | None = None
        self._round: _Round | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All families; never raises."""
        last = self._current()
        if last is not None:
            try:
                yield from list(families(last.figures))
            except Exception:
                _log.exception("the figures could not be told")
                last = None
        values = {
            "fall_assets_up": float(last is not None),
            "fall_assets_gathered_timestamp_seconds": (
                None if last is None else last.figures.at_utc.timestamp()
            ),
            "fall_assets_gather_duration_seconds": None if last is None else last.took_s,
        }
        for metric in OWN:
            family = GaugeMetricFamily(metric.name, metric.meaning)
            value = values[metric.name]
            if value is not None:
                family.add_metric([], value)
            yield family

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: registering must not gather."""
        return []

    def _current(self) -> _Gathered | None:
        with self._lock:
            if self._younger(self._kept_s):
                return self._last
            current = self._begun()
        if current.done.wait(self._patience_s):
            return current.found
        with self._lock:
            return self._last if self._younger(self._old_s) else None

    def warm(self) -> None:
        """Begin to gather, so that the first scrape finds figures."""
        with self._lock:
            self._begun()

    def _begun(self) -> _Round:
        """The round that goes on, or a new one. The lock is held."""
        if self._round is None:
            self._round = _Round()
            threading.Thread(
                target=self._run, args=(self._round,), name="gather figures", daemon=True
            ).start()
        return self._round

    def _younger(self, than_s: float) -> bool:
        return self._last is not None and time.monotonic() - self._last.at_s <= than_s

    def _run(self, current: _Round) -> None:
        began_s = time.monotonic()
        try:
            figures = self._gather()
            now_s = time.monotonic()
            current.found = _Gathered(figures, now_s, now_s - began_s)
        except Exception:
            _log.exception("the site cannot be looked at")
        with self._lock:
            self._last, self._round = current.found, None
        current.done.set()


def serve(
    gather: Callable[[], SiteFigures], host: str, port: int
) -> tuple[WSGIServer, threading.Thread]:
    """Serve `/metrics` in a thread; port 0 takes a free one. Raises OSError where it is taken."""
    registry = CollectorRegistry()
    collector = SiteCollector(gather)
    registry.register(collector)
    served = start_http_server(port, host, registry)
    collector.warm()
    return served
