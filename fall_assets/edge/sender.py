"""Sending what the outbox holds, until the gateway has it.

What belongs here: which alert is tried when, and what an answer means for it. What does not: the
request itself (`client.py`), or keeping alerts (`outbox.py`).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from fall_assets.edge.client import GatewayAwayError, GatewayClient, GatewayRefusedError
from fall_assets.edge.outbox import DueAlert, Outbox

_log = logging.getLogger(__name__)

_FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
_SHORTEST_WAIT_S = 0.05
# Also without a nudge, and to write what is in memory only.
_IDLE_S = 1.0
_BATCH = 16
# A gateway that stumbles over one alert may take the others; over so many in a row, it is broken.
_STUMBLES = 3
# A nurse who is told without a picture is better than one who is not told.
_MAY_BE_THE_STILL = (400, 413, 415, 422)


def wait_s(failures: int, draw: Callable[[], float] = random.random) -> float:
    """How long to wait after so many failures in a row (from 1): full jitter, at most 60 s.

    "Exponential Backoff And Jitter", Brooker, AWS Architecture Blog, 2015.
    """
    longest = min(LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(failures - 1, 16))
    return max(_SHORTEST_WAIT_S, longest * draw())


class Sender:
    """A thread that posts due alerts, oldest first.

    A new alert is tried at once (`nudge`). One that fails is tried again after an exponential wait
    with full jitter, 1 to 60 s; others go out meanwhile. While the gateway as a whole is away, one
    request at a time finds out whether it is back, and then everything is due. `Retry-After` is
    honoured up to 60 s.

    Delivered: 2xx. Dead letters: 409 (the gateway has another alert of that id) and every other 4xx
    but 401, 408, 425 and 429; before that, one with a still is tried without it. All else is tried
    again for ever: a token can be replaced, a gateway repaired.

    Args:
        outbox: whose alerts are sent.
        gateway_url, token: as GatewayClient has them, which raises PermanentFailureError.
        client: instead of one of its own.
    """

    def __init__(
        self,
        outbox: Outbox,
        gateway_url: str,
        token: Callable[[], str],
        *,
        client: GatewayClient | None = None,
    ) -> None:
        self._outbox = outbox
        self._client = client or GatewayClient(gateway_url, token)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._away = 0
        self._away_until = 0.0
        self._asked_to_wait_until = 0.0
        self._stumbles = 0
        self._stumbled_over: set[str] = set()
        self._problem = ""

    @property
    def problem(self) -> str:
        """Why the gateway is thought to be away; empty where it is not."""
        return self._problem

    def start(self) -> None:
        """Begin to send, with what waits since the last run."""
        if self._thread is not None:
            raise RuntimeError("the sender was started already")
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """Stop; whether the thread ended in time. A request on the way is cut off at half of it.

        What was not sent stays in the outbox.
        """
        self._stopping.set()
        self._wake.set()
        if self._thread is None:
            return True
        self._thread.join(timeout_s / 2)
        if self._thread.is_alive():
            self._client.abort()
            self._thread.join(timeout_s / 2)
        return not self._thread.is_alive()

    def nudge(self) -> None:
        """There is something new: try it now."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._pass()
                wait = self._until_next_s()
            except Exception:
                # Whatever this is, alerts must not wait for a restart.
                _log.exception("the sender stumbled and goes on")
                wait = _FIRST_WAIT_S
            self._wake.wait(wait)
            self._wake.clear()

    def _pass(self) -> None:
        """Try what is due."""
        while not self._stopping.is_set():
            now = time.monotonic()
            if now < self._asked_to_wait_until:
                return
            # While the gateway is away, only what was never tried may ask sooner.
            untried = now < self._away_until
            due = self._outbox.due(datetime.now(UTC), _BATCH, untried=untried)
            if not due:
                return
            for alert in due:
                if self._stopping.is_set():
                    return
                if not self._try(alert):
                    return

    def _try(self, alert: DueAlert) -> bool:
        """Post one alert; whether the gateway is there."""
        try:
            self._client.post_alert(alert.alert_id, alert.payload)
        except GatewayRefusedError as error:
            self._back(alert.alert_id)
            if error.status in _MAY_BE_THE_STILL and alert.payload.get("still"):
                _log.warning(
                    "alert %s was refused (%s): it is sent without its still", alert.alert_id, error
                )
                return self._try(replace(alert, payload={**alert.payload, "still": None}))
            _log.error(
                "alert %s was refused for good (%s): it stays in the outbox as a dead letter",
                alert.alert_id,
                error,
            )
            self._outbox.refused(alert.alert_id, str(error))
            return True
        except GatewayAwayError as error:
            if self._stopping.is_set():
                return False
            return self._failed(alert, error)
        self._back(alert.alert_id)
        self._outbox.delivered(alert.alert_id)
        return True

    def _failed(self, alert: DueAlert, error: GatewayAwayError) -> bool:
        """Take note; whether the gateway is there for others."""
        if error.status == 500:
            self._stumbles += 1
            self._stumbled_over.add(alert.alert_id)
        wait = wait_s(alert.attempts + 1)
        asked_s = min(LONGEST_WAIT_S, error.retry_after_s or 0.0)
        wait = max(wait, asked_s)
        self._outbox.failed(alert.alert_id, str(error), datetime.now(UTC) + timedelta(seconds=wait))
        if error.status == 500 and self._stumbles < _STUMBLES:
            return True
        now = time.monotonic()
        if now >= self._away_until:
            # New alerts that ask sooner do not make the others wait longer.
            self._away += 1
            self._away_until = now + max(wait_s(self._away), asked_s)
        self._asked_to_wait_until = now + asked_s
        if str(error) != self._problem:
            _log.warning("the gateway takes no alerts (%s): %d wait", error, self._outbox.waiting())
        self._problem = str(error)
        return False

    def _back(self, alert_id: str) -> None:
        """The gateway said something of this alert."""
        self._stumbled_over.discard(alert_id)
        self._stumbles = 0
        if self._away:
            _log.warning("the gateway is back: %d alerts wait", self._outbox.waiting())
            self._outbox.retry_now(but=self._stumbled_over)
        self._away = 0
        self._away_until = self._asked_to_wait_until = 0.0
        self._problem = ""

    def _until_next_s(self) -> float:
        """Seconds until something is due."""
        due = self._outbox.next_due()
        if due is None:
            return _IDLE_S
        wait = (due - datetime.now(UTC)).total_seconds()
        asleep = max(self._away_until, self._asked_to_wait_until) - time.monotonic()
        shortest = _SHORTEST_WAIT_S if self._outbox.state == "ok" else _IDLE_S
        return min(LONGEST_WAIT_S, max(shortest, wait, asleep))
