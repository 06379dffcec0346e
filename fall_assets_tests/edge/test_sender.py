"""The sender: every alert arrives once, whatever the gateway and the network do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fall_assets.edge import sender as sender_module
from fall_assets.edge.client import GatewayClient
from fall_assets.edge.outbox import Outbox
from fall_assets.edge.sender import Sender, wait_s
from fall_assets.simulation.network import NETWORK_FAULTS, Relay
from fall_assets_tests.edge.receiver import TOKEN, Asked, Receiver, Say, accept
from fall_assets_tests.edge.waiting import until

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        yield outbox


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is a minute on a ward is half a second here."""
    monkeypatch.setattr(sender_module, "LONGEST_WAIT_S", 0.5)


def put(outbox: Outbox, *names: str, still: str | None = None) -> None:
    for name in names:
        assert outbox.put(name, {"alert_id": name, "still": still}, at=NOW)


class Running:
    """A sender that is stopped at the end, with short timeouts."""

    def __init__(self, outbox: Outbox, url: str, token: str = TOKEN, timeout_s: float = 5) -> None:
        self.token = token
        client = GatewayClient(url, lambda: self.token, timeout_s=timeout_s)
        self.sender = Sender(outbox, url, lambda: self.token, client=client)

    def __enter__(self) -> Running:
        self.sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.sender.stop(10)


def test_what_waits_goes_out_oldest_first_and_new_ones_at_once(outbox: Outbox) -> None:
    put(outbox, *(f"old-{number:02}" for number in range(40)))
    with Receiver() as gateway, Running(outbox, gateway.url) as running:
        until(lambda: outbox.waiting() == 0, "the old ones are delivered")
        put(outbox, "new")
        running.sender.nudge()
        until(lambda: outbox.waiting() == 0, "the new one is delivered")
        assert gateway.order() == [f"old-{number:02}" for number in range(40)] + ["new"]
        asked = gateway.asked[-1]
        assert (asked.method, asked.path) == ("POST", "/v1/alerts")
        assert asked.headers["idempotency-key"] == "new"
        assert asked.headers["authorization"] == f"Bearer {TOKEN}"
        assert datetime.fromisoformat(asked.body["sent_utc"]).tzinfo is not None


def test_a_gateway_that_is_away_is_waited_for(outbox: Outbox) -> None:
    with Receiver() as gateway:
        port = gateway.port
    names = [f"a-{number}" for number in range(30)]
    put(outbox, *names)
    with Running(outbox, f"http://127.0.0.1:{port}") as running:
        until(lambda: running.sender.problem, "the sender sees that nobody is there")
        assert "not reached" in running.sender.problem
        with Receiver(port=port) as gateway:
            until(lambda: outbox.waiting() == 0, "all are delivered")
            assert sorted(gateway.order()) == sorted(names)
        assert running.sender.problem == ""


def test_one_that_fails_does_not_block_the_others(outbox: Outbox) -> None:
    poison = {"a-00", "a-01", "a-02", "a-03", "a-04"}

    def stumble(asked: Asked) -> Say:
        return Say(500, {"detail": "oops"}) if asked.body["alert_id"] in poison else accept(asked)

    put(outbox, *(f"a-{number:02}" for number in range(40)))
    with Receiver(stumble) as gateway, Running(outbox, gateway.url):
        until(lambda: outbox.waiting() == len(poison), "all others are delivered")
        assert not poison & set(gateway.stored)
        gateway.answer = accept
        until(lambda: outbox.waiting() == 0, "they are tried again")
    assert outbox.refused_count() == 0


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 415, 422])
def test_what_is_refused_for_good_is_a_dead_letter(
    outbox: Outbox, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    put(outbox, "bad", "good")

    def refuse(asked: Asked) -> Say:
        bad = asked.body["alert_id"] == "bad"
        return Say(status, {"detail": "not\nthis"}) if bad else accept(asked)

    with Receiver(refuse) as gateway, Running(outbox, gateway.url):
        until(lambda: outbox.waiting() == 0, "both are done with")
        assert gateway.order().count("bad") == 1
    (letter,) = outbox.dead_letters()
    assert (letter.alert_id, letter.detail) == ("bad", f"answered {status}: not this")
    assert any("bad" in r.message and r.levelno == logging.ERROR for r in caplog.records)


def test_a_still_that_is_refused_does_not_take_the_alert_with_it(outbox: Outbox) -> None:
    put(outbox, "a", still="AAAA")

    def refuse_stills(asked: Asked) -> Say:
        return Say(422, {"detail": "no JPEG"}) if asked.body["still"] else accept(asked)

    with Receiver(refuse_stills) as gateway, Running(outbox, gateway.url):
        until(lambda: outbox.waiting() == 0, "it is delivered")
        assert gateway.stored == {"a": 1}
    assert outbox.refused_count() == 0


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 301, 307])
def test_what_may_pass_is_tried_again(outbox: Outbox, status: int) -> None:
    left = [3]

    def answer(asked: Asked) -> Say:
        left[0] -= 1
        return Say(status, {}) if left[0] >= 0 else accept(asked)

    put(outbox, "a", "b")
    with Receiver(answer) as gateway, Running(outbox, gateway.url):
        until(lambda: outbox.waiting() == 0, "both are delivered")
        assert gateway.stored == {"a": 1, "b": 1}
    assert outbox.refused_count() == 0


def test_a_token_may_be_replaced(outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    def check(asked: Asked) -> Say:
        right = asked.headers["authorization"] == f"Bearer {TOKEN}"
        return accept(asked) if right else Say(401, {"detail": "unknown token"})

    put(outbox, "a")
    wrong = "fa_box_" + "wrong" * 8
    caplog.set_level(logging.DEBUG)
    with Receiver(check) as gateway, Running(outbox, gateway.url, token=wrong) as running:
        until(lambda: "401" in running.sender.problem, "it is refused")
        running.token = f"two words\n{wrong}"
        until(lambda: "token_file" in running.sender.problem, "it is no token")
        running.token = f"{TOKEN}\n"
        until(lambda: outbox.waiting() == 0, "it is delivered")
    assert wrong not in caplog.text
    assert TOKEN not in caplog.text


def test_redirects_are_not_followed(outbox: Outbox) -> None:
    with Receiver() as other:
        elsewhere = Say(307, {}, {"Location": f"{other.url}/v1/alerts"})
        with Receiver(lambda _: elsewhere) as gateway:
            put(outbox, "a")
            with Running(outbox, gateway.url) as running:
                until(lambda: "redirect to 127.0.0.1" in running.sender.problem, "it is refused")
        assert other.asked == []
    assert outbox.waiting() == 1


def test_retry_after_is_honoured_up_to_a_limit(outbox: Outbox) -> None:
    busy = [Say(429, {}, {"Retry-After": "86400"})]

    def answer(asked: Asked) -> Say:
        return busy.pop() if busy else accept(asked)

    put(outbox, "a")
    with Receiver(answer) as gateway, Running(outbox, gateway.url) as running:
        until(lambda: running.sender.problem or not outbox.waiting(), "it was asked to wait")
        put(outbox, "b")
        running.sender.nudge()
        until(lambda: outbox.waiting() == 0, "both are delivered")
        assert gateway.order()[0] == "a"
        assert len(gateway.asked) == 3


@pytest.mark.parametrize(
    "said",
    [
        Say(200, text=b"<html>Welcome to the guest network</html>"),
        Say(200, {"alert_id": "another", "accepted": True}),
        Say(200, {"alert_id": "a", "accepted": False}),
        Say(204),
        Say(201, {"alert_id": "a", "accepted": True}, cut=20),
        Say(201, text=b"{" + b" " * 2_000_000 + b"}"),
    ],
    ids=["login page", "another id", "not accepted", "empty", "cut", "endless"],
)
def test_an_answer_that_does_not_accept_the_alert_does_not_count(outbox: Outbox, said: Say) -> None:
    put(outbox, "a")
    with Receiver(lambda _: said) as gateway, Running(outbox, gateway.url) as running:
        until(lambda: running.sender.problem, "the sender does not believe it")
        assert outbox.waiting() == 1
        gateway.answer = accept
        until(lambda: outbox.waiting() == 0, "it is delivered")


@pytest.mark.parametrize("fault", [f for f in NETWORK_FAULTS if f != "none"])
def test_the_network_breaks(outbox: Outbox, fault: str) -> None:
    with Receiver() as gateway, Relay(gateway.port) as relay:
        relay.fault = fault  # type: ignore[assignment]
        put(outbox, "a", "b", "c")
        with Running(outbox, f"http://127.0.0.1:{relay.port}", timeout_s=0.7):
            until(lambda: relay.counts[relay.fault] >= 3, "it was tried three times")
            relay.fault = "none"
            until(lambda: outbox.waiting() == 0, "all are delivered")
        assert set(gateway.stored) == {"a", "b", "c"}


def test_it_stops_though_the_gateway_hangs(outbox: Outbox) -> None:
    hold = threading.Event()
    reached = threading.Event()

    def hang(asked: Asked) -> Say:
        reached.set()
        hold.wait(60)
        return accept(asked)

    put(outbox, "a")
    with Receiver(hang) as gateway:
        sender = Sender(outbox, gateway.url, lambda: TOKEN)
        sender.start()
        assert reached.wait(20)
        assert sender.stop(2)
        hold.set()
    assert outbox.waiting() == 1


def test_waits_grow_and_are_spread() -> None:
    assert [wait_s(n, lambda: 1.0) for n in (1, 2, 3)] == [0.5, 0.5, 0.5]


def test_waits_grow_up_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert [wait_s(n, lambda: 1.0) for n in (1, 2, 3, 6, 7, 1000)] == [1, 2, 4, 32, 60, 60]
    draws = [wait_s(7) for _ in range(500)]
    assert min(draws) < 15
    assert max(draws) > 45
