"""Telling the technician: once when a problem begins, again now and then, once when it ends.

What belongs here: what is due, and sending it. What does not: finding problems (`problems`), the
lake (`pipeline.health`), the webhook itself (`delivery.channels`).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import polars as pl

from fall_assets.delivery.channels import Webhook
from fall_assets.errors import FallAssetsError
from fall_assets.lake.registry import table
from fall_assets.monitoring.problems import URGENT, has_ended
from fall_assets.monitoring.settings import TechnicianSettings

Event = Literal["begin", "again", "end"]

_DETAIL_LENGTH: Final = 200
# A receiver that is away must not hold up a run for a timeout per problem.
_FAILURES_IN_A_ROW: Final = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """One thing to tell one receiver by one channel.

    `number` counts what is told again, from 1; 0 for the beginning and the end.
    """

    problem: Mapping[str, Any]
    event: Event
    number: int
    channel: Literal["log", "webhook"]
    receiver: str

    @property
    def key(self) -> str:
        """The same however often it is sent; receivers get it as `Idempotency-Key`."""
        return f"{self.problem['problem_id']}-{self.event}-{self.number}"

    @property
    def title(self) -> str:
        """What happened, as the technician reads it."""
        sentence: str = self.problem["sentence"]
        before = {"begin": "", "again": "still: ", "end": "over: "}[self.event]
        return before + sentence

    def payload(self) -> dict[str, Any]:
        """What the webhook gets: words, names and times in ISO 8601; no picture."""
        told = {name: self.problem[name] for name in ("problem_id", "subject", "ward", "advice")}
        times = {
            name: self.problem[name].isoformat(timespec="milliseconds")
            for name in ("since_utc", "gone_utc")
            if self.problem[name] is not None
        }
        return {
            "kind": "site_problem",
            "problem": self.problem["kind"],
            "event": self.event,
            "urgent": self.problem["kind"] in URGENT,
            "title": self.title,
            **told,
            **times,
        }


def due(
    problems: pl.DataFrame,
    deliveries: pl.DataFrame,
    urls: Mapping[str, str],
    settings: TechnicianSettings,
    now: datetime,
) -> list[Message]:
    """What is to be told now, in the order in which problems were found.

    Args:
        problems: rows of `site_health`.
        deliveries: all earlier attempts on them, rows of `technician_deliveries`.
        urls: addresses by receiver; '' is the site's, which stands in for one without an address.
        settings: who is told of what.
        now: the moment, in UTC.

    An end is told to whom the beginning was told. A problem that began and ended while a receiver
    was away is not told to it.
    """
    delivered: dict[tuple[str, str, str], list[tuple[str, int, datetime]]] = defaultdict(list)
    for row in deliveries.filter("delivered").iter_rows(named=True):
        key = (row["problem_id"], row["channel"], row["receiver"])
        delivered[key].append((row["event"], row["number"], row["attempt_utc"]))
    found = []
    for problem in problems.sort("found_utc", "problem_id").iter_rows(named=True):
        choice = settings.of(problem["ward"])
        if problem["kind"] not in choice.tell:
            continue
        if settings.is_quiet(now) and problem["kind"] not in URGENT:
            continue
        receiver = choice.receiver if choice.receiver in urls else ""
        places: list[tuple[Literal["log", "webhook"], str]] = [("log", "")]
        places += [("webhook", receiver)] if receiver in urls else []
        for channel, whose in places:
            told = delivered[problem["problem_id"], channel, whose]
            event = _event(problem, told, settings, now)
            if event is not None:
                found.append(Message(problem, *event, channel, whose))
    return found


def _event(
    problem: Mapping[str, Any],
    told: list[tuple[str, int, datetime]],
    settings: TechnicianSettings,
    now: datetime,
) -> tuple[Event, int] | None:
    begun = [at for event, _, at in told if event == "begin"]
    if not begun:
        lasts = now - problem["found_utc"] >= timedelta(minutes=settings.wait_min)
        return ("begin", 0) if lasts and problem["gone_utc"] is None else None
    if has_ended(problem, now, settings.settle_min):
        return None if any(event == "end" for event, _, _ in told) else ("end", 0)
    if problem["gone_utc"] is not None or not settings.repeat_hours:
        return None
    number = int((now - min(begun)) / timedelta(hours=settings.repeat_hours))
    last = max((n for event, n, _ in told if event == "again"), default=0)
    return ("again", number) if number > last else None


def tell(
    messages: list[Message],
    urls: Mapping[str, str],
    now: Callable[[], datetime],
    record: Callable[[pl.DataFrame], object],
) -> Iterator[tuple[Message, bool, str]]:
    """Send messages; each with whether it was taken and what was answered.

    `record` gets each attempt as a row of `technician_deliveries` as soon as it is known. A failure
    is a row, never an exception; after three in a row a receiver is left alone until next time.
    """
    schema = table("technician_deliveries").schema
    failures: dict[tuple[str, str], int] = defaultdict(int)
    for message in messages:
        place = (message.channel, message.receiver)
        if failures[place] == _FAILURES_IN_A_ROW:
            continue
        sent, detail = _attempt(message, urls)
        failures[place] = 0 if sent else failures[place] + 1
        row = (
            message.problem["problem_id"],
            message.event,
            message.number,
            message.channel,
            message.receiver,
            now(),
            sent,
            detail,
        )
        record(pl.DataFrame([row], schema=schema, orient="row"))
        yield message, sent, detail


def _attempt(message: Message, urls: Mapping[str, str]) -> tuple[bool, str]:
    if message.channel == "log":
        _log.warning("technician: %s (%s)", message.title, message.problem["advice"])
        return True, "logged"
    try:
        answer = Webhook(urls[message.receiver]).post(message.payload(), message.key)
    except FallAssetsError as error:
        _log.warning("technician: problem %s: %s", message.problem["problem_id"], error)
        return False, str(error)[:_DETAIL_LENGTH]
    return True, answer[:_DETAIL_LENGTH]
