"""Each alert reaches each receiver once, and a broken receiver breaks nothing."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import polars as pl
import pytest

from fall_assets.delivery.alerts import merge
from fall_assets.delivery.channels import (
    Alert,
    AlertSettings,
    ChannelName,
    DeliveryFailedError,
    LogChannel,
    WardChoice,
    Webhook,
    deliver,
)
from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import table
from fall_assets.learning.events import EventSettings
from fall_assets_tests.delivery.scenes import at, cameras, scores, segments

NEVER = table("alert_deliveries").empty()


class Receiver:
    """A real HTTP server on the loopback address that answers as told and remembers what came."""

    def __init__(self) -> None:
        self.status = 200
        self.location = ""
        self.requests: list[tuple[dict[str, str], dict[str, object]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = json.loads(self.rfile.read(length) or "{}")
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((headers, body))
                self.send_response(receiver.status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?key=secret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


@pytest.fixture(scope="module")
def alerts() -> pl.DataFrame:
    videos = segments(*((f"cam-{number:02}", at(number), 20.0) for number in range(6)))
    high = {f"cam-{number:02}": [(at(number + 8), at(number + 11))] for number in range(6)}
    return merge(
        scores(videos, high),
        videos,
        cameras(*high),
        settings=EventSettings(),
        previous=table("alerts").empty(),
    )


def clock() -> Callable[[], datetime]:
    ticks = count()
    return lambda: datetime(2026, 3, 2, tzinfo=UTC) + timedelta(seconds=next(ticks))


def test_a_webhook_gets_each_alert_once_with_its_key(
    receiver: Receiver, alerts: pl.DataFrame
) -> None:
    now = clock()
    hook = Webhook(receiver.url, headers={"Authorization": "Bearer token"})
    first = deliver(alerts, NEVER, [hook], now)
    assert dict(first.schema) == table("alert_deliveries").schema
    assert first["delivered"].all()
    assert first["detail"].unique().to_list() == ["200 OK"]
    again = deliver(alerts, first, [hook], now)
    assert again.is_empty()
    assert len(receiver.requests) == len(alerts) == 6
    headers, body = receiver.requests[0]
    assert headers["idempotency-key"] == alerts["alert_id"][0] == body["alert_id"]
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == "Bearer token"
    assert body == {
        "kind": "fall",
        "title": "Fall",
        "alert_id": alerts["alert_id"][0],
        "ward": "Geriatrics",
        "room": "room of cam-00",
        "camera_id": "cam-00",
        "model_version": "3",
        "start_utc": "2026-03-01T08:00:04.000+00:00",
        "raised_utc": "2026-03-01T08:00:08.000+00:00",
        "end_utc": "2026-03-01T08:00:11.000+00:00",
        "score": 0.9,
    }


def of_kinds(alerts: pl.DataFrame, *kinds: str) -> pl.DataFrame:
    return alerts.head(len(kinds)).with_columns(kind=pl.Series(kinds))


def test_receivers_are_told_the_kind_in_words(
    receiver: Receiver, alerts: pl.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    three = of_kinds(alerts, "fall", "fall_onto_bed", "fall_out_of_bed")
    deliver(three, NEVER, [Webhook(receiver.url), LogChannel()], clock())
    assert [(body["kind"], body["title"]) for _, body in receiver.requests] == [
        ("fall", "Fall"),
        ("fall_onto_bed", "Fall onto the bed"),
        ("fall_out_of_bed", "Fall out of bed"),
    ]
    assert ": fall out of bed, ward Geriatrics, room room of cam-02" in caplog.text


def test_a_kind_that_is_not_chosen_is_neither_sent_nor_recorded(alerts: pl.DataFrame) -> None:
    three = of_kinds(alerts, "fall", "fall_onto_bed", "fall_out_of_bed")
    ids = three["alert_id"].to_list()

    def sent(*wards: WardChoice, deliver_kinds: tuple[str, ...]) -> list[str]:
        settings = AlertSettings(deliver_kinds, wards)
        taken: list[pl.DataFrame] = []
        rows = deliver(three, NEVER, [LogChannel()], clock(), settings=settings,
                       record=taken.append)  # fmt: skip
        assert len(taken) == len(rows)
        return rows["alert_id"].to_list()

    assert sent(deliver_kinds=("fall", "fall_out_of_bed")) == [ids[0], ids[2]]
    assert sent(deliver_kinds=()) == []
    ours, others = WardChoice("Geriatrics", ("fall_onto_bed",)), WardChoice("Surgery", ())
    assert sent(ours, others, deliver_kinds=("fall",)) == [ids[1]]
    assert sent(others, deliver_kinds=("fall",)) == [ids[0]]
    # What was not wanted at first is told once it is.
    first = deliver(three, NEVER, [LogChannel()], clock(), settings=AlertSettings(("fall",)))
    later = deliver(three, first, [LogChannel()], clock())
    assert later["alert_id"].to_list() == ids[1:]


def test_an_alert_without_a_kind_is_a_fall(alerts: pl.DataFrame) -> None:
    assert alerts["kind"].null_count() == len(alerts)
    settings = AlertSettings(("fall",))
    assert len(deliver(alerts, NEVER, [LogChannel()], clock(), settings=settings)) == len(alerts)


def test_what_failed_is_sent_again_and_what_arrived_is_not(
    receiver: Receiver, alerts: pl.DataFrame
) -> None:
    now, hook = clock(), Webhook(receiver.url)
    two = alerts.head(2)
    first = deliver(two.head(1), NEVER, [hook], now)
    receiver.status = 503
    failed = deliver(two, first, [hook], now)
    assert failed["delivered"].to_list() == [False]
    assert failed["detail"][0] == "answered 503 Service Unavailable"
    receiver.status = 200
    third = deliver(two, pl.concat([first, failed]), [hook], now)
    assert third["alert_id"].to_list() == [two["alert_id"][1]]
    assert third["delivered"].all()
    attempts = pl.concat([first, failed, third])
    assert attempts.select(table("alert_deliveries").key).is_unique().all()


def test_channels_do_not_depend_on_each_other(receiver: Receiver, alerts: pl.DataFrame) -> None:
    receiver.status = 500
    rows = deliver(alerts.head(1), NEVER, [Webhook(receiver.url), LogChannel()], clock())
    assert rows.select("channel", "delivered").rows() == [("webhook", False), ("log", True)]


def test_a_receiver_that_is_away_is_left_alone_until_next_time(alerts: pl.DataFrame) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    rows = deliver(alerts, NEVER, [Webhook(f"http://127.0.0.1:{port}/")], clock())
    assert len(rows) == 3
    assert not rows["delivered"].any()
    assert rows["detail"].str.contains("not reached: .*refused").all()


def test_a_receiver_that_never_answers_is_given_up(alerts: pl.DataFrame) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hook = Webhook(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.1)
        rows = deliver(alerts.head(1), NEVER, [hook], clock())
    assert rows["delivered"].to_list() == [False]
    assert "timed out" in rows["detail"][0].lower() or "TimeoutError" in rows["detail"][0]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_refused(receiver: Receiver, alerts: pl.DataFrame, status: int) -> None:
    elsewhere = Receiver()
    receiver.status, receiver.location = status, elsewhere.url
    try:
        rows = deliver(alerts.head(1), NEVER, [Webhook(receiver.url)], clock())
    finally:
        elsewhere.close()
    assert rows["delivered"].to_list() == [False]
    assert f"answered {status}" in rows["detail"][0]
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/x", "host/x", "http://", "", "http://a:b@host/"]
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(PermanentFailureError):
        Webhook(url)


def test_secrets_of_the_address_appear_nowhere(
    receiver: Receiver, alerts: pl.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 500
    hook = Webhook(receiver.url, headers={"X-Key": "secret"})
    with caplog.at_level(logging.DEBUG):
        rows = deliver(alerts.head(1), NEVER, [hook], clock())
    assert "secret" not in repr(hook) + caplog.text + "".join(rows["detail"])


class Broken:
    """A channel with a fault in it."""

    name: ChannelName = "webhook"

    def send(self, alert: Alert) -> str:
        raise KeyError("a mistake")


class Flaky:
    """Fails every other time."""

    name: ChannelName = "webhook"

    def __init__(self) -> None:
        self.calls = 0

    def send(self, alert: Alert) -> str:
        self.calls += 1
        if self.calls % 2:
            raise DeliveryFailedError("busy")
        return "fine"


def test_a_fault_in_a_channel_is_a_row_and_is_logged(
    alerts: pl.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    rows = deliver(alerts.head(1), NEVER, [Broken(), LogChannel()], clock())
    assert rows["delivered"].to_list() == [False, True]
    assert rows["detail"][0] == "the channel broke: KeyError"
    assert "a mistake" in caplog.text


def test_only_failures_in_a_row_stop_a_channel(alerts: pl.DataFrame) -> None:
    rows = deliver(alerts, NEVER, [Flaky()], clock())
    assert rows["delivered"].to_list() == [False, True] * 3


def test_each_attempt_is_recorded_as_soon_as_it_is_made(alerts: pl.DataFrame) -> None:
    taken: list[pl.DataFrame] = []
    rows = deliver(alerts, NEVER, [LogChannel()], clock(), record=taken.append)
    assert [len(frame) for frame in taken] == [1] * 6
    assert pl.concat(taken).equals(rows)


def test_the_log_says_where(alerts: pl.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    deliver(alerts.head(1), NEVER, [LogChannel()], clock())
    assert "ward Geriatrics, room room of cam-00, camera cam-00 at 2026-03-01T08:00:08" in (
        caplog.text
    )
