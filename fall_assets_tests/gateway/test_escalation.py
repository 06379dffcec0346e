"""Nobody answers: the next contact is told, once, across failures and restarts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest

from fall_assets.gateway.settings import Contact, Email, Escalation, Mqtt, load_settings
from fall_assets_tests.gateway.conftest import Service
from fall_assets_tests.gateway.receivers import Broker, MailReceiver, WebReceiver, serving
from fall_assets_tests.gateway.running import alert, bearer, eventually, running
from fall_assets_tests.gateway.test_wards import say, send

SOON = Escalation(after_s=60.0, retry_first_s=0.05, retry_most_s=0.1)


@pytest.fixture
def web() -> Iterator[WebReceiver]:
    """A webhook's receiver."""
    with serving(WebReceiver()) as receiver:
        yield receiver


@pytest.fixture
def mail() -> Iterator[MailReceiver]:
    """A mail server."""
    with serving(MailReceiver()) as receiver:
        yield receiver


def told(web: WebReceiver) -> list[tuple[str, str]]:
    """Which contact was told why, in order; contacts have a path each."""
    return [(path.strip("/"), json.loads(body)["reason"]) for path, _, body in list(web.got)]


def contacts(web: WebReceiver) -> tuple[Contact, ...]:
    """One for each level, and one for help."""
    return (
        Contact("at once", level=0, webhook=f"{web.url}/0"),
        Contact("sister", level=1, webhook=f"{web.url}/1"),
        Contact("doctor", level=2, webhook=f"{web.url}/2", help=True),
        Contact("other ward", level=0, webhook=f"{web.url}/other", wards=("East",), help=True),
    )


def settle(service: Service, seconds: float = 0.0, *, step: float = 0.0) -> None:
    """Let time pass and wait until nothing is left to do.

    Where a try fails, the next is due some time after the failure is noted, which the receiver
    does not see: `step` lets more time pass while it waits.
    """
    service.later(seconds)
    view = service.ward()

    def quiet() -> bool:
        service.later(step)
        alerts = view.get("/v1/ward/alerts").json()["open"]
        now = service.time.isoformat()
        return all(
            (one["next_level_utc"] or "9") > now
            and all(each["state"] != "waiting" for each in one["told"])
            for one in alerts
        )

    eventually(quiet, why="all that is due is told")


def tried(service: Service, receiver: WebReceiver, times: int) -> None:
    """Let time pass until a receiver was asked so often."""

    def asked() -> bool:
        service.later(0.1)
        return len(receiver.got) >= times

    eventually(asked, why=f"asked {times} times")


WEST = {"camera_id": "cam-1", "ward": "West", "room": "4", "bed": "1"}


def test_level_after_level_is_told_once_until_somebody_answers(
    make_service: Callable[..., Service], web: WebReceiver
) -> None:
    service = make_service(contacts=contacts(web), escalation=SOON)
    service.cameras(WEST)
    send(service, "a1")
    settle(service)
    assert told(web) == [("0", "alert")]
    settle(service, 59)
    assert told(web) == [("0", "alert")]
    settle(service, 2)
    assert told(web) == [("0", "alert"), ("1", "unanswered")]
    assert say(service.ward("West"), "a1", "going") == 201
    settle(service, 500)
    assert told(web) == [("0", "alert"), ("1", "unanswered")]


def test_all_levels_are_told_where_nobody_answers_and_then_no_more(
    make_service: Callable[..., Service], web: WebReceiver
) -> None:
    service = make_service(contacts=contacts(web), escalation=SOON)
    service.cameras(WEST)
    send(service, "a1")
    send(service, "quiet", shadow=True)
    for _ in range(5):
        settle(service, 61)
    assert told(web) == [("0", "alert"), ("1", "unanswered"), ("2", "unanswered")]
    _, headers, body = web.got[2]
    content = json.loads(body)
    assert headers["Idempotency-Key"] == content["key"]
    assert (content["alert_id"], content["room"], content["bed"]) == ("a1", "4", "1")
    assert "still" not in content
    [shown] = service.ward("West").get("/v1/ward/alerts").json()["open"]
    assert [(one["contact"], one["state"]) for one in shown["told"]] == [
        ("at once", "sent"),
        ("sister", "sent"),
        ("doctor", "sent"),
    ]
    assert shown["next_level_utc"] is None


def test_help_is_asked_for_at_once(make_service: Callable[..., Service], web: WebReceiver) -> None:
    service = make_service(contacts=contacts(web), escalation=SOON)
    service.cameras(WEST)
    send(service, "a1")
    settle(service)
    browser = service.ward("West")
    assert say(browser, "a1", "help") == 201
    assert say(browser, "a1", "help") == 201
    settle(service)
    assert told(web) == [("0", "alert"), ("2", "help")]


def test_an_alert_of_no_ward_is_told_to_all(
    make_service: Callable[..., Service], web: WebReceiver
) -> None:
    service = make_service(contacts=contacts(web), escalation=SOON)
    send(service, "a1")
    settle(service)
    assert sorted(told(web)) == [("0", "alert"), ("other", "alert")]


def test_who_is_away_is_told_later_under_the_same_key_and_holds_up_nobody(
    make_service: Callable[..., Service], web: WebReceiver
) -> None:
    with serving(WebReceiver()) as other:
        other.status = 503
        both = (
            Contact("away", level=0, webhook=f"{other.url}/away"),
            Contact("there", level=0, webhook=f"{web.url}/there"),
        )
        service = make_service(contacts=both, escalation=SOON)
        send(service, "a1")
        eventually(lambda: web.got, why="who is there is told")
        for tries in range(1, 4):
            tried(service, other, tries)
        other.status = 200
        settle(service, step=0.1)
        assert len({headers["Idempotency-Key"] for _, headers, _ in other.got}) == 1
        assert len(web.got) == 1


def test_a_redirect_is_not_followed(make_service: Callable[..., Service], web: WebReceiver) -> None:
    web.status = 302
    service = make_service(
        contacts=(Contact("x", level=0, webhook=f"{web.url}/x"),), escalation=SOON
    )
    send(service, "a1")
    tried(service, web, 1)
    tried(service, web, 2)
    assert {path for path, _, _ in web.got} == {"/x"}


def test_a_mail_says_what_and_where_and_is_tried_again(
    make_service: Callable[..., Service], mail: MailReceiver
) -> None:
    mail.refuse = 1
    service = make_service(
        contacts=(Contact("night", level=0, email="night@example.org"),),
        email=Email(host="127.0.0.1", port=mail.port, sender="gateway@example.org"),
        escalation=SOON,
        public_url="https://falls.example.org",
    )
    service.cameras({"camera_id": "cam-1", "ward": "West", "room": "4", "bed": "Zoë: \u202e"})
    send(service, "a1", kind="fall_out_of_bed")
    eventually(lambda: not mail.refuse, why="the first try is refused")
    settle(service, step=0.1)
    [text] = mail.got
    message = message_from_string(text)
    assert message["To"] == "night@example.org"
    assert "fall-gateway" in message["Message-ID"]
    content = message.get_payload(decode=True)
    assert isinstance(content, bytes)
    assert "fall out of bed, room 4" in content.decode()
    assert "https://falls.example.org/ward" in content.decode()


def test_escalation_goes_on_after_a_kill(tmp_path: Path, web: WebReceiver) -> None:
    config = f"""
[escalation]
after_s = 2.0
retry_first_s = 0.1
[[contacts]]
name = "first"
level = 1
webhook = "{web.url}/first"
[[contacts]]
name = "second"
level = 2
webhook = "{web.url}/second"
"""
    with running(tmp_path, config) as gateway:
        box = gateway.token("box", box="box-1")
        content = alert("a1")
        assert gateway.post(box, "/v1/alerts", content).status_code == 201
        gateway.kill()
        assert web.got == []
        gateway.start()
        eventually(lambda: len(web.got) >= 2, why="both levels are told")
        # Killed before it has noted what it sent, it sends it again: with the same key.
        gateway.kill()
        gateway.start()
        assert gateway.post(box, "/v1/alerts", content).status_code == 200
        assert gateway.stop() == 0
    keys = {(path, headers["Idempotency-Key"]) for path, headers, _ in web.got}
    assert sorted(path for path, _ in keys) == ["/first", "/second"]


def test_what_is_noted_as_told_at_a_kill_is_not_told_again(
    tmp_path: Path, web: WebReceiver
) -> None:
    config = f"""
[escalation]
after_s = 500.0
[[contacts]]
name = "first"
level = 0
webhook = "{web.url}/first"
"""
    with running(tmp_path, config) as gateway:
        box = gateway.token("box", box="box-1")
        assert gateway.post(box, "/v1/alerts", alert("a1")).status_code == 201
        eventually(lambda: "first was told of alert a1" in gateway.log(), why="it is told")
        gateway.kill()
        gateway.start()
        assert gateway.post(box, "/v1/alerts", alert("a2")).status_code == 201
        eventually(lambda: "first was told of alert a2" in gateway.log(), why="it is told")
        assert gateway.stop() == 0
    assert [json.loads(body)["alert_id"] for _, _, body in web.got] == ["a1", "a2"]


def test_alerts_in_a_row_are_told_once_each(
    make_service: Callable[..., Service], web: WebReceiver
) -> None:
    service = make_service(contacts=contacts(web)[:1], escalation=SOON)
    service.cameras(WEST)
    ids = [f"a{number}" for number in range(60)]
    for one in ids:  # Each arrives while those before are being told.
        send(service, one)
    settle(service)
    assert [json.loads(body)["alert_id"] for _, _, body in list(web.got)] == ids


def test_home_assistant_finds_rooms_and_events(
    make_service: Callable[..., Service], tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text("geheim\n")
    with serving(Broker()) as broker:
        settings = Mqtt(host="127.0.0.1", port=broker.port, user="fall", password_file=str(secret))
        service = make_service(mqtt=settings, escalation=SOON)
        service.cameras(WEST, {"camera_id": "cam-2", "ward": "West", "room": "a/+#"})

        def entity(kind: str) -> Any:
            found = [
                json.loads(text)
                for topic, text in broker.retained().items()
                if topic.startswith(f"homeassistant/{kind}/") and "room 4" in text
            ]
            return found[0] if found else None

        sensor = eventually(lambda: entity("binary_sensor"), why="the room is announced")
        event = eventually(lambda: entity("event"), why="its events are announced")
        state, happened = sensor["state_topic"], event["state_topic"]
        assert sensor["device_class"] == "safety"
        eventually(lambda: broker.retained().get(state) == "OFF", why="the room is quiet")
        assert broker.retained()[sensor["availability_topic"]] == "online"
        assert broker.wills == [(sensor["availability_topic"], "offline")]
        assert broker.users == [("fall", "geheim")]
        assert not any("+" in topic or "#" in topic for topic, _, _ in broker.got)

        send(service, "a1", kind="fall_onto_bed")
        eventually(lambda: broker.retained().get(state) == "ON", why="the room has an alert")
        events = eventually(
            lambda: [text for topic, text, _ in broker.got if topic == happened], why="an event"
        )
        assert [json.loads(text)["event_type"] for text in events] == ["fall_onto_bed"]
        say(service.ward(), "a1", "false_alarm")
        eventually(lambda: broker.retained().get(state) == "OFF", why="the room is quiet again")


def test_secrets_are_in_files_and_appear_nowhere(tmp_path: Path, web: WebReceiver) -> None:
    (tmp_path / "hook").write_text(f"{web.url}/SECRET-path\n")
    (tmp_path / "header").write_text("Authorization: Bearer SECRET-token\n")
    config = """
[[contacts]]
name = "hook"
level = 0
webhook_file = "hook"
header_file = "header"
[escalation]
retry_first_s = 0.1
retry_most_s = 0.1
"""
    web.status = 500
    with running(tmp_path, config) as gateway:
        box = gateway.token("box", box="box-1")
        assert gateway.post(box, "/v1/alerts", alert("a1")).status_code == 201
        eventually(lambda: len(web.got) > 1, why="it is tried again")
        web.status = 200
        eventually(lambda: "was told" in gateway.log(), why="it is told")
        assert gateway.stop() == 0
    assert web.got[-1][0] == "/SECRET-path"
    assert web.got[-1][1]["Authorization"] == "Bearer SECRET-token"
    assert "SECRET" not in gateway.log()
    assert box not in gateway.log()
    settings = load_settings(tmp_path / "gateway.toml")
    assert "SECRET" not in repr(settings)
    assert bearer(box)["Authorization"] not in repr(settings)
