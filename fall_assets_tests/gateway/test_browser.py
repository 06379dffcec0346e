"""The ward's page in a real browser: what a nurse sees, presses and hears of.

With FALL_SCREENSHOTS=FOLDER the pictures for the docs are written there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete

from fall_assets.gateway import tables
from fall_assets.gateway.database import Database
from fall_assets_tests.gateway.browser import (
    AXE,
    SIZES,
    By,
    Driver,
    Keys,
    Select,
    StaleElementReferenceException,
    needs_chromium,
    opened,
    resize,
)
from fall_assets_tests.gateway.receivers import WebReceiver, serving
from fall_assets_tests.gateway.running import (
    GatewayProcess,
    alert,
    bearer,
    eventually,
    report,
    room_picture,
    running,
    telemetry,
)

pytestmark = needs_chromium

WARD = "Ward 3 West"
MARKUP = '<img src=x onerror="document.title=1"><b>4</b>'


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """A browser that knows nothing yet."""
    with opened(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


class Ward:
    """A gateway, its box, and a browser on the ward's page."""

    def __init__(self, gateway: GatewayProcess, browser: Driver) -> None:
        self.gateway = gateway
        self.browser = browser
        self.box = gateway.token("box", box="box-1")
        self.platform = gateway.token("platform")
        places = [(f"cam-{n}", str(10 + n), str(1 + n % 2)) for n in range(1, 8)]
        cameras = [
            {"camera_id": camera, "ward": WARD, "room": room, "bed": bed}
            for camera, room, bed in places
        ]
        gateway.set_cameras([*cameras, {"camera_id": "markup", "ward": WARD, "room": MARKUP}])

    def open(self) -> None:
        """Come by the link, as on a device that was never here."""
        self.browser.get("about:blank")
        self.browser.get(f"{self.gateway.url}/ward")
        self.browser.execute_script("localStorage.clear()")
        self.browser.get("about:blank")
        self.browser.get(f"{self.gateway.url}/ward#token={self.gateway.token('ward', ward=WARD)}")
        eventually(lambda: "Connected" in self.text("#connection"), why="the page is connected")

    def alert(self, alert_id: str, camera: str = "cam-1", ago_s: float = 5, **more: Any) -> None:
        """An alert of a box."""
        at = datetime.now(UTC) - timedelta(seconds=ago_s)
        content = alert(alert_id, at, camera_id=camera, still=room_picture(), **more)
        answer = self.gateway.post(self.box, "/v1/alerts", content)
        assert answer.status_code == 201, answer.text

    def text(self, selector: str) -> str:
        """What is seen there; nothing where it is not there, or not seen."""
        try:
            return " ".join(e.text for e in self.browser.find_elements(By.CSS_SELECTOR, selector))
        except StaleElementReferenceException:
            return ""

    def sees(self, selector: str, text: str) -> None:
        """Wait until that text is seen there."""
        eventually(lambda: text in self.text(selector), why=f"{text!r} is seen in {selector}")

    def press(self, alert_id: str, answer: str, *, key: bool = False) -> None:
        """Press one of an alert's buttons, by mouse or by the keyboard alone."""
        selector = f"[data-id='{alert_id}'] [data-answer={answer}]"
        button = self.browser.find_element(By.CSS_SELECTOR, selector)
        if not key:
            self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
            button.click()
            return
        self.browser.execute_script("document.querySelector('#open-heading').focus()")
        for _ in range(60):
            active = self.browser.switch_to.active_element
            if active == button:
                active.send_keys(Keys.ENTER)
                return
            active.send_keys(Keys.TAB)
        raise AssertionError(f"{selector} cannot be reached by the keyboard")

    def answers(self) -> list[tuple[str, str, str]]:
        """What has come to the platform."""
        rows = self.gateway_get("/v1/answers?limit=1000")["answers"]
        return [(row["alert_id"], row["answer"], row["by"]) for row in rows]

    def open_report(self) -> None:
        """Open the form, and wait for its rooms."""
        summary = self.browser.find_element(By.CSS_SELECTOR, "#report summary")
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", summary)
        summary.click()
        self.sees("#report-camera", "Room 11")

    def send_report(self, place: str, within: str) -> None:
        """Fill in the open form, and send it."""
        for name, text in (("report-camera", place), ("report-within", within)):
            Select(self.browser.find_element(By.ID, name)).select_by_visible_text(text)
        button = self.browser.find_element(By.CSS_SELECTOR, "#report-form button")
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()

    def report_fall(self, place: str, within: str, *, picture: bool = False) -> None:
        """Report a fall that no alert told of."""
        self.open_report()
        if picture:
            self.looks_well("report", "#report-form")
        self.send_report(place, within)

    def falls(self) -> list[dict[str, Any]]:
        """Reports that have come to the platform."""
        rows: list[dict[str, Any]] = self.gateway_get("/v1/falls")["falls"]
        return rows

    def gateway_get(self, path: str) -> Any:
        """Ask as the platform."""
        headers = bearer(self.platform)
        return httpx.get(f"{self.gateway.url}{path}", headers=headers, timeout=20).json()

    def looks_well(self, name: str, shows: str = "#ward") -> None:
        """Nothing serious found by axe, at both sizes; keeps pictures where asked to."""
        for size in SIZES:
            resize(self.browser, size)
            self.browser.execute_script(AXE.read_text())
            found = self.browser.execute_async_script(
                "axe.run(document).then(arguments[arguments.length - 1])"
            )
            serious = [
                (one["id"], one["impact"], [node["html"][:120] for node in one["nodes"]])
                for one in found["violations"]
                if one["impact"] in ("serious", "critical")
            ]
            assert serious == [], f"{name}, {size}"
            assert found["passes"], "axe has looked at nothing"
            wide = self.browser.execute_script(
                "return document.documentElement.scrollWidth - window.innerWidth"
            )
            assert wide <= 0, f"{name}, {size}: the page is wider than the screen"
            if folder := os.environ.get("FALL_SCREENSHOTS"):
                Path(folder).mkdir(parents=True, exist_ok=True)
                self.browser.execute_script(
                    "window.scrollTo(0, 0);"
                    "document.querySelector(arguments[0]).scrollIntoView({block: 'center'})",
                    shows,
                )
                self.browser.save_screenshot(str(Path(folder) / f"ward-{name}-{size}.png"))
        resize(self.browser, "desktop")


CONFIG = """
heartbeat_s = 1.0
[escalation]
after_s = 3.0
[[contacts]]
name = "Night sister"
level = 1
help = true
wards = ["elsewhere", "Ward 3 West"]
webhook = "{url}/sister"
[[contacts]]
name = "Doctor on call"
level = 3
webhook = "{url}/doctor"
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway whose contacts can be told."""
    folder = tmp_path_factory.mktemp("gateway")
    with serving(WebReceiver()) as web, running(folder, CONFIG.format(url=web.url)) as process:
        yield process


@pytest.fixture
def ward(gateway: GatewayProcess, browser: Driver) -> Ward:
    """A ward's page; nothing has happened yet."""
    database = Database("", gateway.data)
    with database.writing() as connection:
        for table in (
            tables.alerts,
            tables.answers,
            tables.falls,
            tables.notifications,
            tables.camera_states,
        ):
            connection.execute(delete(table))
    database.close()
    ward = Ward(gateway, browser)
    ward.open()
    return ward


def test_an_alert_shows_and_is_answered_in_each_way(ward: Ward) -> None:
    ward.sees("#empty", "No open alerts")
    assert "token" not in ward.browser.current_url
    ward.looks_well("empty")
    ward.browser.find_element(By.ID, "name").send_keys("Anna")

    ward.alert("first", kind="fall_out_of_bed", ago_s=20)
    ward.sees("#open .card", "Room 11 · Bed 2")
    ward.sees("#open .card", "Fall out of bed")
    ward.sees("#open .card .status", "Nobody has answered")
    assert "Room 11" in ward.browser.execute_script(
        "return document.querySelector('#called').textContent"
    )
    assert ward.browser.title.startswith("(1)")
    age = ward.text(".age")
    eventually(lambda: ward.text(".age") != age, why="the age counts up")
    loaded = "return [...document.images].every((one) => one.naturalWidth === 640)"
    eventually(lambda: ward.browser.execute_script(loaded), why="the still is loaded")
    ward.looks_well("alert")
    # Unanswered: the next contact is told, and the page says so.
    ward.sees("#open .card .lines", "Night sister was told at")

    ward.press("first", "going")
    ward.sees("#open .card .status", "Anna is going")
    ward.press("first", "help", key=True)
    ward.sees("#open .card .status", "Anna asks for help")
    ward.sees("#open .card .lines", "Night sister (help) was told")
    ward.press("first", "fall")
    ward.sees("#older", "Anna says: was a fall")
    ward.sees("#empty", "No open alerts")
    for way, key in (
        ("going", True),
        ("fall", True),
        ("false_alarm", True),
        ("false_alarm", False),
    ):
        name = f"{way}-{key}"
        ward.alert(name, "cam-2")
        ward.sees(f"[data-id='{name}']", "Nobody has answered")
        ward.press(name, way, key=key)
        eventually(lambda n=name, w=way: (n, w, "Anna") in ward.answers(), why=name)  # type: ignore[misc]
    assert [one for one in ward.answers() if one[0] == "first"] == [
        ("first", "going", "Anna"),
        ("first", "help", "Anna"),
        ("first", "fall", "Anna"),
    ]
    # Everything was by the page's own means: no reload, nothing refused.
    said = ward.browser.get_log("browser")  # type: ignore[no-untyped-call]
    assert [one for one in said if "Security Policy" in str(one)] == []


def test_focus_stays_with_the_work(ward: Ward) -> None:
    for number in (1, 2):
        ward.alert(f"a{number}", f"cam-{number}", ago_s=10 * number)
    ward.sees("#open-heading", "(2)")
    focused = "const at = document.activeElement; return (at.closest('[data-id]') || at).dataset.id"
    ward.press("a1", "going", key=True)
    ward.sees("[data-id=a1]", "is going")
    # The card has moved down, and another alert has come: the focus has gone with the card.
    ward.alert("a3", "cam-3")
    ward.sees("#open-heading", "(3)")
    assert ward.browser.execute_script(focused) == "a1"
    # What was closed is gone: the focus is on an alert that is left, not lost.
    ward.press("a1", "false_alarm", key=True)
    ward.sees("#open-heading", "(2)")
    assert ward.browser.execute_script(focused) in ("a2", "a3")


def test_markup_is_shown_as_text(ward: Ward) -> None:
    ward.alert("bad", "markup")
    ward.sees("#open .place", MARKUP)
    ward.browser.find_element(By.ID, "name").send_keys("<i>Eve</i>")
    ward.press("bad", "false_alarm")
    ward.sees("#older", "<i>Eve</i> says: false alarm")
    assert "Fall alerts" in ward.browser.title
    assert ward.browser.find_elements(By.CSS_SELECTOR, "main b, main i, main img[src=x]") == []


def test_a_busy_ward(ward: Ward) -> None:
    for number in range(1, 5):
        ward.alert(f"a{number}", f"cam-{number}", ago_s=35 * number)
    ward.alert("nowhere", "cam-of-nobody", ago_s=100)
    ward.alert("done", "cam-5", ago_s=1900)
    lost = report("cam-7", state="lost", since_utc="2026-03-04T02:10:00Z")
    ward.gateway.post(ward.box, "/v1/telemetry", telemetry(lost))
    ward.browser.find_element(By.ID, "name").send_keys("Marek")
    ward.sees("#open-heading", "(6)")
    ward.press("done", "false_alarm")
    ward.sees("#older", "Marek says: false alarm")
    ward.press("a2", "going")
    ward.sees("[data-id=a2]", "Marek is going")
    ward.press("a3", "help")
    ward.sees("[data-id=nowhere]", "Camera has no ward")
    ward.sees("#blind", "Room 17 · Bed 2: no picture since")
    ward.sees("[data-id=a3]", "Marek asks for help")
    # Who needs somebody stands before where somebody goes.
    ids = "return [...document.querySelectorAll('#open > li')].map((one) => one.dataset.id)"
    order = ward.browser.execute_script(ids)
    assert order == ["a1", "nowhere", "a3", "a4", "a2"]
    colour = "return getComputedStyle(document.querySelector(arguments[0])).backgroundColor"
    bands = [ward.browser.execute_script(colour, f"[data-id={i}] .band") for i in order]
    assert bands[0] == bands[1] == bands[3]
    assert len({bands[0], bands[2], bands[4]}) == 3
    ward.looks_well("busy")


def test_without_a_connection_it_says_so_and_keeps_answers(ward: Ward) -> None:
    ward.browser.find_element(By.ID, "name").send_keys("Anna")
    ward.alert("a1", ago_s=30)
    ward.sees("[data-id=a1]", "Nobody has answered")
    ward.gateway.kill()
    ward.sees("#offline", "No connection since")
    age = ward.text(".age")
    eventually(lambda: ward.text(".age") != age, why="ages go on")
    ward.press("a1", "going")
    ward.press("a1", "fall")
    ward.sees("[data-id=a1]", "not sent yet")
    ward.sees("#offline", "2 answers wait to be sent")
    ward.looks_well("offline")
    ward.gateway.start()
    eventually(lambda: not ward.text("#offline"), why="the banner goes")
    ward.sees("#older", "Anna says: was a fall")
    assert ward.answers() == [("a1", "going", "Anna"), ("a1", "fall", "Anna")]
    # Alerts come again without a reload.
    ward.alert("a2", "cam-2")
    ward.sees("[data-id=a2]", "Nobody has answered")


def test_a_fall_without_an_alert_is_reported_also_without_a_connection(ward: Ward) -> None:
    ward.browser.find_element(By.ID, "name").send_keys("Anna")
    ward.report_fall("Room 13 · Bed 2", "within half an hour before", picture=True)
    ward.sees("#falls", "Anna reported it")
    eventually(lambda: len(ward.falls()) == 1, why="the report arrives")
    assert ward.text("#falls h3") == "Room 13 · Bed 2"
    [fall] = ward.falls()
    assert (fall["camera_id"], fall["by"]) == ("cam-3", "Anna")
    until, since = (datetime.fromisoformat(fall[f"{side}_utc"]) for side in ("until", "from"))
    assert until - since == timedelta(minutes=30)
    # The form says the time of now.
    assert timedelta() <= datetime.now(UTC) - until < timedelta(minutes=2)
    ward.looks_well("falls", "#falls")

    ward.open_report()
    ward.gateway.kill()
    ward.sees("#offline", "No connection since")
    ward.send_report("Room 14 · Bed 1", "within 2 minutes before")
    ward.sees("#falls", "not sent yet")
    ward.sees("#offline", "1 message waits to be sent")
    ward.gateway.start()
    eventually(lambda: not ward.text("#offline"), why="the banner goes")
    eventually(lambda: len(ward.falls()) == 2, why="the report arrives")
    eventually(lambda: "not sent" not in ward.text("#falls"), why="the page knows")
    assert [fall["camera_id"] for fall in ward.falls()] == ["cam-3", "cam-4"]
    assert ward.answers() == []


def test_sound_is_asked_for_and_can_be_muted(ward: Ward) -> None:
    ward.sees("#silent", "Sound is off until you press once")
    ward.browser.find_element(By.ID, "sound-on").click()
    eventually(lambda: not ward.text("#silent"), why="sound is on")
    ward.sees("#sound", "Mute sound")
    ward.browser.find_element(By.ID, "sound").click()
    ward.sees("#sound", "Sound is muted")


def test_who_is_not_let_in_sees_how_to_come_in(ward: Ward) -> None:
    ward.looks_well("empty")
    ward.browser.find_element(By.ID, "leave").click()
    ward.sees("#login", "Ward’s key")
    ward.looks_well("login")
    field = ward.browser.find_element(By.ID, "key")
    field.send_keys("fa_ward_" + "x" * 43, Keys.ENTER)
    ward.sees("#login-problem", "does not open")
    field.send_keys(ward.gateway.token("ward", ward=WARD), Keys.ENTER)
    ward.sees("#ward", WARD)
    ward.sees("#empty", "No open alerts")
