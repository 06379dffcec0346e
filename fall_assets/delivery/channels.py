"""Sending alerts: once per event and channel, whoever fails.

Here: the channels and the rule of who is sent what. Not here: reading or writing the lake, or
which events are alerts (`alerts.py`).
"""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPException
from typing import IO, Any, Literal, NoReturn, Protocol

import polars as pl

from fall_assets.delivery.kinds import IN_WORDS
from fall_assets.errors import PassingFailureError, PermanentFailureError
from fall_assets.lake.registry import ALERT_KINDS, table

ChannelName = Literal["log", "webhook"]
Alert = Mapping[str, Any]
"""A row of the table `alerts`."""

_log = logging.getLogger(__name__)

_DETAIL_LENGTH = 200
# A receiver that is away must not hold up a run for a timeout per alert.
_FAILURES_IN_A_ROW = 3


@dataclass(frozen=True)
class WardChoice:
    """Which kinds of alert one ward is told of, by its name as `cameras` has it."""

    ward: str = ""
    deliver: tuple[str, ...] = ALERT_KINDS

    def __post_init__(self) -> None:
        _check(self.deliver)


@dataclass(frozen=True)
class AlertSettings:
    """Who is told of which alerts.

    A kind that is not delivered still stands in `alerts`, and nothing is said or recorded of it in
    `alert_deliveries`. An empty list delivers nothing.

    Attributes:
        deliver: kinds that are delivered where a ward has no choice of its own.
        wards: choices of wards, each instead of `deliver`.
    """

    deliver: tuple[str, ...] = ALERT_KINDS
    wards: tuple[WardChoice, ...] = ()

    def __post_init__(self) -> None:
        _check(self.deliver)
        names = [choice.ward for choice in self.wards]
        if "" in names:
            raise ValueError(
                f"[[wards]] {names.index('') + 1} names no ward: add ward = 'NAME', as cameras.csv "
                "has it"
            )
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"[[wards]] names {', '.join(map(repr, twice))} more than once: keep one choice"
            )

    def delivers(self, ward: str, kind: str | None) -> bool:
        """Whether that ward is told of that kind; what has no kind yet is a fall."""
        own = next((choice.deliver for choice in self.wards if choice.ward == ward), self.deliver)
        return (kind or "fall") in own


def _check(kinds: Sequence[str]) -> None:
    unknown = [repr(kind) for kind in kinds if kind not in ALERT_KINDS]
    if unknown:
        raise ValueError(
            f"deliver names {', '.join(unknown)}, which is no kind of alert; correct it or take "
            f"it out; there are: {', '.join(ALERT_KINDS)}"
        )


class DeliveryFailedError(PassingFailureError):
    """A receiver was away or refused; the alert is sent again next time."""


class Channel(Protocol):
    """One way to tell people of an alert."""

    @property
    def name(self) -> ChannelName:
        """As the table `alert_deliveries` names it."""
        ...

    def send(self, alert: Alert) -> str:
        """Send one alert and return the receiver's answer; DeliveryFailedError where it fails."""
        ...


@dataclass(frozen=True)
class LogChannel:
    """Writes alerts to the log; what a site without a webhook gets."""

    name: ChannelName = "log"

    def send(self, alert: Alert) -> str:
        """Log one line."""
        _log.warning(
            "fall alert %s: %s, ward %s, room %s, camera %s at %s, score %.2f",
            alert["alert_id"],
            in_words(alert),
            alert["ward"],
            alert["room"],
            alert["camera_id"],
            alert["raised_utc"].isoformat(timespec="seconds"),
            alert["score"],
        )
        return "logged"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: an alert goes to the configured receiver or nowhere."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,
        newurl: str,
    ) -> NoReturn:
        raise DeliveryFailedError(
            f"answered {code}, a redirect to {urllib.parse.urlsplit(newurl).hostname}: "
            "configure the address that it leads to"
        )


@dataclass(frozen=True)
class Webhook:
    """Posts alerts as JSON.

    The header `Idempotency-Key` carries the alert's id, so that a receiver can drop what it gets
    twice (a run that was killed between sending and taking note sends again). Answers of 2xx count
    as delivered. Redirects are refused. Only words and numbers are sent, no picture. The address
    and `headers` may hold secrets: they appear in no message, log line or `repr`.
    """

    url: str = field(repr=False)
    timeout_s: float = 5.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    name: ChannelName = "webhook"

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise PermanentFailureError(
                "the webhook's address must start with http:// or https:// and name a host; "
                f"its scheme is {parts.scheme!r}"
            )
        if parts.username is not None:
            raise PermanentFailureError(
                "the webhook's address may not hold a user or password: give an Authorization "
                "header instead"
            )
        if self.timeout_s <= 0:
            raise PermanentFailureError(f"timeout_s must be over 0, got {self.timeout_s}")

    def send(self, alert: Alert) -> str:
        """Post one alert and return the status line; DeliveryFailedError where it fails."""
        return self.post(payload(alert), str(alert["alert_id"]))

    def post(self, content: Mapping[str, Any], key: str) -> str:
        """Post JSON under an idempotency key, as `send` does."""
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self.url,
            data=json.dumps(content).encode(),
            method="POST",
            headers={
                **self.headers,
                "Content-Type": "application/json",
                "Idempotency-Key": key,
                "User-Agent": "fall-assets",
            },
        )
        opener = urllib.request.build_opener(_NoRedirect)
        try:
            with opener.open(request, timeout=self.timeout_s) as response:
                return f"{response.status} {response.reason}"
        except urllib.error.HTTPError as error:
            with error:
                raise DeliveryFailedError(f"answered {error.code} {error.reason}") from None
        except urllib.error.URLError as error:
            raise DeliveryFailedError(f"not reached: {error.reason}") from None
        except (OSError, HTTPException, ValueError) as error:
            raise DeliveryFailedError(f"not reached: {type(error).__name__}") from None


def in_words(alert: Alert) -> str:
    """What happened, as a nurse reads it."""
    return IN_WORDS[alert["kind"] or "fall"]


def payload(alert: Alert) -> dict[str, Any]:
    """What receivers get of an alert: what, where, when, how sure, by which model.

    `kind` is for machines, `title` for people; times are in ISO 8601.
    """
    texts = ("alert_id", "ward", "room", "camera_id", "model_version")
    times = ("start_utc", "raised_utc", "end_utc")
    return {
        "kind": alert["kind"] or "fall",
        "title": in_words(alert).capitalize(),
        **{name: alert[name] for name in texts},
        **{name: alert[name].isoformat(timespec="milliseconds") for name in times},
        "score": alert["score"],
    }


def deliver(
    alerts: pl.DataFrame,
    deliveries: pl.DataFrame,
    channels: Sequence[Channel],
    now: Callable[[], datetime],
    *,
    settings: AlertSettings | None = None,
    record: Callable[[pl.DataFrame], object] | None = None,
) -> pl.DataFrame:
    """Send what was not delivered yet; the new rows for `alert_deliveries`, one per attempt.

    `deliveries` are all earlier attempts on these alerts. What a channel once delivered is never
    sent again; what failed is tried again; alerts go out in the order in which they were raised.
    A failure is a row, never an exception, and after three in a row a channel is left alone: the
    rest has no row and is sent next time. `now` gives the time of each attempt, in UTC. Of kinds
    that a ward is not told of by `settings` (default: told of all) there is no row either.

    `record`, where given, gets each row as soon as it is known, so that a run killed in the middle
    has taken note of what it sent.
    """
    schema = table("alert_deliveries").schema
    choice = settings or AlertSettings()
    wanted = [
        alert
        for alert in alerts.sort("raised_utc", "alert_id").iter_rows(named=True)
        if choice.delivers(alert["ward"], alert["kind"])
    ]
    delivered = set(deliveries.filter("delivered").select("alert_id", "channel").iter_rows())
    rows = []
    for channel in channels:
        failures = 0
        for alert in wanted:
            if (alert["alert_id"], channel.name) in delivered:
                continue
            if failures == _FAILURES_IN_A_ROW:
                _log.warning(
                    "channel %s failed %d times in a row: the rest waits for the next run",
                    channel.name,
                    failures,
                )
                break
            sent, detail = _attempt(channel, alert)
            failures = 0 if sent else failures + 1
            rows.append((alert["alert_id"], channel.name, now(), sent, detail))
            if sent:
                delivered.add((alert["alert_id"], channel.name))
            if record is not None:
                record(pl.DataFrame(rows[-1:], schema=schema, orient="row"))
    return pl.DataFrame(rows, schema=schema, orient="row")


def _attempt(channel: Channel, alert: Alert) -> tuple[bool, str]:
    """Whether the channel took the alert, and what it said."""
    try:
        return True, channel.send(alert)[:_DETAIL_LENGTH]
    except DeliveryFailedError as error:
        _log.warning("alert %s by %s: %s", alert["alert_id"], channel.name, error)
        return False, str(error)[:_DETAIL_LENGTH]
    except Exception as error:
        # A fault in one channel must not keep the ward from hearing by the others.
        _log.exception("alert %s: channel %s broke", alert["alert_id"], channel.name)
        return False, f"the channel broke: {type(error).__name__}"
