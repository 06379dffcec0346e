"""A ward sees its alerts and those of nobody, and what it says reaches the platform, once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from httpx import Client
from sqlalchemy import delete

from fall_assets.gateway import tables
from fall_assets.gateway.database import Database
from fall_assets_tests.gateway.conftest import Service
from fall_assets_tests.gateway.running import NOW, alert, bearer, jpeg, report, telemetry


def send(service: Service, alert_id: str, camera_id: str = "cam-1", **more: Any) -> None:
    """An alert that is raised and posted now, by the service's clock."""
    now = service.time.isoformat()
    content = alert(alert_id, service.time, camera_id=camera_id, **({"sent_utc": now} | more))
    assert service.post("/v1/alerts", content).status_code == 201


def say(browser: Client, alert_id: str, answer: str, **more: Any) -> int:
    """Answer an alert."""
    content = {"answer": answer, "by": "Anna", **more}
    return browser.post(f"/v1/ward/alerts/{alert_id}/answers", json=content).status_code


def shown(browser: Client) -> dict[str, str]:
    """Each alert's state, as the page has it."""
    view = browser.get("/v1/ward/alerts").json()
    return {one["alert_id"]: one["state"] for one in (*view["open"], *view["older"])}


WARDS = (
    {"camera_id": "cam-1", "ward": "West", "room": "4", "bed": "2"},
    {"camera_id": "cam-2", "ward": "East", "room": "9"},
    {"camera_id": "cam-3", "ward": "", "room": "store"},
)


def test_a_ward_sees_its_own_alerts_and_those_of_no_ward(service: Service) -> None:
    service.cameras(*WARDS)
    for number in (1, 2, 3, 4):
        send(service, f"of-{number}", f"cam-{number}", still=jpeg())
    west, east, everyone = service.ward("West"), service.ward("East"), service.ward()
    assert set(shown(west)) == {"of-1", "of-3", "of-4"}
    assert set(shown(east)) == {"of-2", "of-3", "of-4"}
    assert set(shown(everyone)) == {"of-1", "of-2", "of-3", "of-4"}
    [first] = [a for a in west.get("/v1/ward/alerts").json()["open"] if a["alert_id"] == "of-1"]
    assert (first["ward"], first["room"], first["bed"]) == ("West", "4", "2")
    # What is not shown cannot be had or answered either.
    assert west.get("/v1/ward/alerts/of-1/still").status_code == 200
    assert west.get("/v1/ward/alerts/of-2/still").status_code == 404
    assert say(west, "of-2", "fall") == 404
    assert say(west, "of-4", "fall") == 201


def test_shadow_alerts_are_stored_and_never_shown(service: Service) -> None:
    send(service, "quiet", shadow=True, still=jpeg())
    browser = service.ward()
    assert shown(browser) == {}
    assert browser.get("/v1/ward/alerts/quiet/still").status_code == 404
    assert say(browser, "quiet", "fall") == 404
    assert [row["shadow"] for row in service.get("/v1/alerts").json()["alerts"]] == [True]


def test_the_last_answer_given_counts_and_all_reach_the_platform(service: Service) -> None:
    send(service, "a1")
    browser = service.ward()
    for answer, state in (
        ("going", "going"),
        ("help", "help"),
        ("false_alarm", "closed"),
        ("fall", "closed"),
    ):
        service.later(10)
        assert say(browser, "a1", answer) == 201
        assert shown(browser) == {"a1": state}
    # Given before all these, in a page that was offline.
    assert say(browser, "a1", "going", at_utc=(NOW + timedelta(seconds=5)).isoformat()) == 201
    assert shown(browser) == {"a1": "closed"}
    rows = service.get("/v1/answers").json()["answers"]
    assert [row["answer"] for row in rows] == ["going", "help", "false_alarm", "fall", "going"]
    assert {row["by"] for row in rows} == {"Anna"}
    assert rows[0]["camera_id"] == "cam-1"
    assert rows[0]["model_version"] == "fall-detector/3"
    assert datetime.fromisoformat(rows[0]["raised_utc"]) == NOW
    assert datetime.fromisoformat(rows[4]["at_utc"]) == NOW + timedelta(seconds=5)


def test_an_answer_that_is_sent_again_counts_once(service: Service) -> None:
    send(service, "a1")
    browser = service.ward()
    assert say(browser, "a1", "fall", key="k1") == 201
    assert say(browser, "a1", "fall", key="k1") == 200
    assert say(browser, "a1", "help", key="k1") == 409
    assert len(service.get("/v1/answers").json()["answers"]) == 1


def test_an_answers_time_is_never_before_the_alert_or_in_the_future(service: Service) -> None:
    send(service, "a1")
    service.later(60)
    browser = service.ward()
    say(browser, "a1", "going", at_utc="1970-01-02T00:00:00Z")
    say(browser, "a1", "fall", at_utc="2150-01-01T00:00:00Z")
    times = [row["at_utc"] for row in service.get("/v1/answers").json()["answers"]]
    assert [datetime.fromisoformat(time) for time in times] == [NOW, NOW + timedelta(seconds=60)]


def report_fall(browser: Client, camera_id: str, **more: Any) -> int:
    """Report a fall that no alert told of."""
    content = {"camera_id": camera_id, "until_utc": NOW.isoformat(), "by": "Anna", **more}
    return browser.post("/v1/ward/falls", json=content).status_code


def test_a_fall_that_no_alert_told_of_is_reported_for_the_ward_s_own_rooms(
    service: Service,
) -> None:
    service.cameras(*WARDS)
    west, east = service.ward("West"), service.ward("East")
    offered = west.get("/v1/ward/cameras").json()["cameras"]
    assert {(one["camera_id"], one["room"], one["bed"]) for one in offered} == {
        ("cam-1", "4", "2"),
        ("cam-3", "store", None),
    }
    assert report_fall(west, "cam-1", within_min=30, key="k1") == 201
    assert report_fall(west, "cam-1", within_min=30, key="k1") == 200
    assert report_fall(west, "cam-1", by="Marek", key="k1") == 409
    assert report_fall(east, "cam-1") == 404
    assert report_fall(west, "no-camera") == 404
    assert report_fall(west, "cam-1", within_min=0) == 422
    assert report_fall(west, "cam-1", until_utc="2026-03-04 02:10") == 422
    # Found in an hour: that is a clock that is wrong.
    assert report_fall(east, "cam-2", until_utc=(NOW + timedelta(hours=1)).isoformat()) == 201
    first, second = service.get("/v1/falls").json()["falls"]
    assert (first["camera_id"], first["by"]) == ("cam-1", "Anna")
    assert datetime.fromisoformat(first["from_utc"]) == NOW - timedelta(minutes=30)
    assert datetime.fromisoformat(first["until_utc"]) == NOW
    assert (second["camera_id"], datetime.fromisoformat(second["until_utc"])) == ("cam-2", NOW)
    [shown_again] = west.get("/v1/ward/alerts").json()["falls"]
    assert (shown_again["room"], shown_again["bed"], shown_again["by"]) == ("4", "2", "Anna")
    service.later(25 * 3600)
    assert west.get("/v1/ward/alerts").json()["falls"] == []
    service.later(30 * 24 * 3600)
    service.gateway.store.forget()
    assert service.get("/v1/falls").json()["falls"] == []


def test_a_database_of_before_falls_could_be_reported_takes_them(
    make_service: Callable[..., Service],
) -> None:
    service = make_service()
    with service.gateway.database.writing() as connection:
        tables.falls.drop(connection)
        connection.execute(delete(tables.counters).where(tables.counters.c.name == "falls"))
    Database("", service.gateway.settings.data).close()
    service.cameras(*WARDS)
    assert report_fall(service.ward("West"), "cam-1") == 201


def test_cameras_that_do_not_watch_are_named_with_their_reason(service: Service) -> None:
    service.cameras(*WARDS)
    lost = (NOW - timedelta(minutes=7)).isoformat()
    reports = [report("cam-1", NOW, state="lost", since_utc=lost), report("cam-2", NOW)]
    service.post("/v1/telemetry", telemetry(*reports, at=NOW))
    west, east = service.ward("West"), service.ward("East")
    [blind] = west.get("/v1/ward/alerts").json()["blind"]
    assert (blind["room"], blind["state"]) == ("4", "lost")
    assert datetime.fromisoformat(blind["since_utc"]) == NOW - timedelta(minutes=7)
    assert east.get("/v1/ward/alerts").json()["blind"] == []
    service.later(400)
    [silent] = east.get("/v1/ward/alerts").json()["blind"]
    assert (silent["room"], silent["state"]) == ("9", "silent")


def test_what_a_shadow_sees_says_nothing_of_whether_the_camera_is_watched(
    service: Service,
) -> None:
    service.cameras(*WARDS)
    west = service.ward("West")

    def tell(*states: tuple[str, bool]) -> list[str]:
        """Reports of one moment: state and shadow; what is blind then."""
        now = service.time
        reports = [report("cam-1", now, state=state, shadow=hidden) for state, hidden in states]
        service.post("/v1/telemetry", telemetry(*reports, at=now))
        view = west.get("/v1/ward/alerts").json()
        service.later(60)
        return [one["state"] for one in view["blind"]]

    assert tell(("ok", False), ("lost", True)) == []
    assert tell(("lost", False), ("ok", True)) == ["lost"]
    assert tell(("ok", False)) == []
    # The live version's runner died, its shadow goes on.
    for _ in range(6):
        blind = tell(("ok", True))
    assert blind == ["silent"]


def test_alerts_leave_the_page_after_a_day_and_the_gateway_after_a_month(service: Service) -> None:
    send(service, "a1", still=jpeg())
    service.later(25 * 3600)
    browser = service.ward()
    assert shown(browser) == {}
    assert len(service.get("/v1/alerts").json()["alerts"]) == 1
    service.later(30 * 24 * 3600)
    assert service.gateway.store.forget() == 1
    assert service.stored() == [[], [], [], []]
    # Ids are not given again: who pulls after the last one sees what comes now.
    send(service, "a2")
    assert service.get("/v1/alerts?after=1").json()["next"] == 2


def test_a_session_ends(service: Service) -> None:
    browser = service.ward()
    assert browser.delete("/v1/session").status_code == 200
    assert browser.get("/v1/ward/alerts").status_code == 401
    other = service.ward()
    service.later(31 * 24 * 3600)
    assert other.get("/v1/ward/alerts").status_code == 401


def test_who_pulls_while_many_write_misses_nothing_and_gets_nothing_twice(
    make_service: Callable[..., Service],
) -> None:
    service = make_service()
    count, writers = 12, 4
    failures: list[str] = []

    def write(writer: int) -> None:
        for number in range(count):
            content = alert(f"w{writer}-{number}", service.time)
            answer = service.client.post("/v1/alerts", json=content, headers=bearer(service.box))
            if answer.status_code != 201:
                failures.append(answer.text)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    seen: list[str] = []
    after = 0
    while any(thread.is_alive() for thread in threads) or len(seen) < count * writers:
        page = service.get(f"/v1/alerts?after={after}&limit=5").json()
        ids = [row["id"] for row in page["alerts"]]
        assert ids == sorted(ids)
        assert all(number > after for number in ids)
        seen += [row["alert_id"] for row in page["alerts"]]
        after = page["next"]
        if not ids and not any(thread.is_alive() for thread in threads):
            break
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert len(seen) == len(set(seen)) == count * writers
