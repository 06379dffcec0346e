"""A whole box: alerts arrive once, whatever happens to it."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.edge import raising
from fall_assets.edge.engine import Alarm
from fall_assets.edge.outbox import Outbox
from fall_assets.edge.raising import (
    BLIND_S,
    STILL_BYTES,
    AlertDelays,
    Delays,
    LastEvent,
    Raiser,
    TimedClient,
    is_same_event,
    still_of,
)
from fall_assets.edge.runner import StateInUseError, _only_runner
from fall_assets.edge.stream import Raised
from fall_assets_tests.edge.boxes import Box, answer, kill, new_box
from fall_assets_tests.edge.receiver import Receiver
from fall_assets_tests.edge.waiting import until
from fall_assets_tests.footage.films import film

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def gateway() -> Iterator[Receiver]:
    with Receiver(answer) as receiver:
        yield receiver


@pytest.fixture
def box(tmp_path: Path, model_folder: Path, gateway: Receiver) -> Box:
    return new_box(tmp_path, model_folder, gateway)


def test_a_film_becomes_one_alert(box: Box, gateway: Receiver) -> None:
    path = film(box.folder / "a.mp4", frames=40, fps=10, width=320, height=240)
    box.runner = "telemetry_s = 0.3\n"
    box.camera("cam-1", f"file://{path}", fps=10)
    done = box.once("--shadow")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["alerts"], summary["waiting"]) == (1, 0)
    assert summary["streams"]["cam-1"]["frames"] == 40
    for piece in ("seen_to_known", "known_to_outbox", "outbox_to_accepted", "all"):
        assert summary["delays"][piece]["count"] == 1
    assert summary["delays"]["all"]["p95_s"] > 0

    (alert,) = [asked for asked in gateway.asked if asked.path == "/v1/alerts"]
    body = alert.body
    assert alert.headers["idempotency-key"] == body["alert_id"]
    assert len(body["alert_id"]) == 16
    assert int(body["alert_id"], 16) >= 0
    assert (body["camera_id"], body["kind"], body["shadow"]) == ("cam-1", "fall", True)
    assert (body["model_version"], 0 <= body["score"] <= 1) == ("7", True)
    start, raised = (datetime.fromisoformat(body[name]) for name in ("start_utc", "raised_utc"))
    assert start <= raised <= datetime.now(UTC)
    still = base64.b64decode(body["still"], validate=True)
    assert still[:3] == b"\xff\xd8\xff"
    assert len(still) <= STILL_BYTES

    reports = [
        report
        for asked in gateway.asked
        if asked.path == "/v1/telemetry"
        for report in asked.body["reports"]
    ]
    assert {report["camera_id"] for report in reports} == {"cam-1"}
    assert reports[0]["fps_expected"] == 10.0
    assert sum(report["frames_decoded"] for report in reports) <= 40
    assert {report["shadow"] for report in reports} == {True}
    health = box.health()
    assert health["model_version"] == "7"
    assert health["detail"] == "stopped"
    assert health["streams"]["cam-1"]["scored"] > 0

    # The same film again is the same fall; told to the ward it is another alert than in shadow.
    for how, repeated, stored in ((["--shadow"], 1, 1), ([], 0, 2), ([], 1, 2)):
        again = box.once(*how)
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["repeated"] == repeated
        assert sum(gateway.stored.values()) == stored


def test_no_alert_is_lost_with_the_power(
    tmp_path: Path, model_folder: Path, gateway: Receiver
) -> None:
    port = gateway.port
    box = new_box(tmp_path, model_folder, f"http://127.0.0.1:{port}")
    path = film(tmp_path / "a.mp4", frames=30, fps=10)
    box.camera("cam-1", f"file://{path}", loop=True)
    gateway.close()
    with box.running() as process:
        until(lambda: "1 alerts wait" in box.health().get("detail", ""), "the alert to wait")
        kill(process)
    with Receiver(answer, port=port) as back, box.running() as process:
        until(lambda: back.stored, "the alert to arrive after the power cut")
        until(lambda: box.health().get("pid") == process.pid, "the new process's health")
        # The event lasts: the new process sees it as well, and it is the same one.
        until(lambda: f"the fall of alert {next(iter(back.stored))} lasts" in box.log(), "it")
        assert list(back.stored.values()) == [1]
        process.terminate()
        assert process.wait(30) == 0
    assert box.health()["detail"] == "stopped"


def test_one_bad_camera_and_its_password(box: Box, gateway: Receiver) -> None:
    path = film(box.folder / "a.mp4", frames=30, fps=10)
    box.runner = "telemetry_s = 0.3\n"
    box.camera("good", f"file://{path}", loop=True)
    box.camera("bad", "rtsp://ward:geheim-17@127.0.0.1:1/x?key=abcdef")
    with box.running("--verbose") as process:
        until(lambda: gateway.stored, "the good camera's alert")
        until(lambda: box.health().get("streams", {}).get("bad", {}).get("detail"), "the bad one")
        until(lambda: any(a.path == "/v1/telemetry" for a in gateway.asked), "telemetry")
        assert box.health()["ok"]
        process.terminate()
        assert process.wait(30) == 0
    told = box.log() + json.dumps(box.health()) + repr([a.body for a in gateway.asked])
    assert "127.0.0.1:1/x" in told
    assert "geheim" not in told
    assert "abcdef" not in told


def test_a_gateway_that_is_away_fails_a_run_that_ends(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fall_assets.edge.runner.GIVE_UP_S", 0.5)
    from fall_assets.edge.config import load_settings
    from fall_assets.edge.runner import Runner, RunSettings

    box = new_box(tmp_path, model_folder, "http://127.0.0.1:1")
    path = film(tmp_path / "a.mp4", frames=30, fps=10)
    box.camera("cam-1", f"file://{path}", pace="fast")
    runner = Runner(load_settings(box.write()), box.model, RunSettings(once=True))
    assert runner.run(threading.Event()) == 1
    with Outbox(box.state / "outbox.sqlite") as outbox:
        assert outbox.waiting() == 1


def test_two_runners_do_not_share_a_state(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    lock = tmp_path / "lock"
    with (
        _only_runner(lock, stop),
        pytest.raises(StateInUseError, match="--state"),
        _only_runner(lock, stop),
    ):
        pass
    with _only_runner(tmp_path / "lock", stop):
        pass


def raised_at(
    seconds: float,
    *,
    connected: float = 0.0,
    file: str | None = None,
    picture: bool = True,
    camera: str = "cam-1",
) -> Raised:
    at = NOON + timedelta(seconds=seconds)
    return Raised(
        camera,
        Alarm(max(0.0, seconds - 4), seconds, seconds, 0.9, "fall", None),
        NOON + timedelta(seconds=connected),
        at - timedelta(seconds=4),
        at,
        10.0,
        10.2,
        np.full((48, 64, 3), 90, np.uint8) if picture else None,
        file,
    )


class Alerts:
    """A raiser on an outbox; made anew it is the box after a restart."""

    def __init__(self, path: Path, *, shadow: bool = False) -> None:
        self.path, self.delays, self.shadow = path, AlertDelays.new(), shadow
        self.restart()

    def restart(self) -> None:
        self.outbox = Outbox(self.path)
        client = TimedClient("http://127.0.0.1:1", lambda: "x", self.delays)
        self.raiser = Raiser(
            self.outbox, client, lambda: None, self.delays,
            model_version="7", merge_gap_s=10.0, window_s=4.0, shadow=self.shadow,
        )  # fmt: skip

    def waiting(self) -> int:
        return self.outbox.waiting()


@pytest.fixture
def alerts(tmp_path: Path) -> Alerts:
    return Alerts(tmp_path / "outbox.sqlite")


def test_what_the_detector_tells_apart_stays_apart(alerts: Alerts) -> None:
    for seconds in (10.0, 21.0, 32.0):
        assert alerts.raiser.alert(raised_at(seconds)) is not None
    assert alerts.raiser.alert(raised_at(32.0, camera="cam-2")) is not None
    assert alerts.waiting() == 4


@pytest.mark.parametrize("restarted", [False, True])
def test_an_event_that_lasts_over_a_break_is_one(alerts: Alerts, restarted: bool) -> None:
    first = alerts.raiser.alert(raised_at(10.0))
    assert first is not None
    alerts.raiser.lasting("cam-1", NOON + timedelta(seconds=100))
    if restarted:
        alerts.restart()
    assert alerts.raiser.alert(raised_at(108.0, connected=103.0)) is None
    assert alerts.waiting() == 1
    # And it goes on to last.
    alerts.restart()
    assert alerts.raiser.alert(raised_at(120.0, connected=112.0)) is None
    # A fall long after it is another.
    assert alerts.raiser.alert(raised_at(300.0, connected=200.0)) is not None


def test_a_clock_that_was_set_back_costs_no_alert(alerts: Alerts) -> None:
    alerts.raiser.alert(raised_at(1000.0))
    alerts.restart()
    assert alerts.raiser.alert(raised_at(20.0, connected=5.0)) is not None


def test_a_note_that_cannot_be_read_costs_no_alert(alerts: Alerts) -> None:
    for number, text in enumerate(["", "{", "[]", '{"alert_id": 1}', json.dumps(
        {"alert_id": "a", "connected_utc": "x", "raised_utc": "y", "until_utc": "z"}
    )]):  # fmt: skip
        alerts.outbox.note("last-event/cam-1", text)
        alerts.restart()
        assert alerts.raiser.alert(raised_at(10.0 + number, connected=float(number))) is not None


def test_a_file_is_known_again(alerts: Alerts) -> None:
    name = "/a.mp4|100|5"
    first = alerts.raiser.alert(raised_at(12.0, file=name))
    alerts.restart()
    assert alerts.raiser.alert(raised_at(12.0, connected=60.0, file=name)) is None
    assert alerts.raiser.alert(raised_at(40.0, connected=60.0, file=name)) not in (None, first)
    assert alerts.raiser.alert(raised_at(12.0, file="/a.mp4|100|6")) is not None
    assert alerts.waiting() == 3


def test_an_alarm_of_a_file_has_another_id_in_shadow(alerts: Alerts, tmp_path: Path) -> None:
    hidden = Alerts(tmp_path / "shadow.sqlite", shadow=True)
    ids = {one.raiser.alert(raised_at(12.0, file="/a.mp4|100|5")) for one in (alerts, hidden)}
    assert len(ids - {None}) == 2
    assert [one.waiting() for one in (alerts, hidden)] == [1, 1]


def test_a_still_that_fails_costs_no_alert(alerts: Alerts, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise ValueError("no encoder")

    monkeypatch.setattr(raising, "jpeg", fail)
    assert alerts.raiser.alert(raised_at(10.0)) is not None
    assert alerts.raiser.alert(raised_at(50.0, picture=False)) is not None
    due = alerts.outbox.due(datetime.now(UTC), 10)
    assert [one.payload["still"] for one in due] == [None, None]


def test_stills_are_small_and_unrecognisable() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    content = still_of(noise, None)
    assert content is not None
    assert len(content) <= STILL_BYTES
    with av.open(io.BytesIO(content), "r") as container:
        shown = next(container.decode(video=0)).to_ndarray(format="gray").astype(float)
    # Nobody was found: a face may be anywhere, so nothing finer than 64 cells is left.
    assert np.abs(np.diff(shown, axis=1)).mean() < 12


@given(st.floats(0, 3600), st.floats(0, 3600), st.floats(0, 120), st.floats(0, 120))
def test_when_two_alarms_are_one_event(
    raised_s: float, lasted_s: float, away_s: float, after_s: float
) -> None:
    raised = NOON + timedelta(seconds=raised_s)
    until_utc = raised + timedelta(seconds=lasted_s)
    connected = until_utc + timedelta(seconds=away_s)
    again = connected + timedelta(seconds=after_s)
    last = LastEvent("a", NOON.isoformat(), raised.isoformat(), until_utc.isoformat())

    def same(connected_utc: datetime) -> bool:
        return is_same_event(last, again, connected_utc, merge_gap_s=10.0, window_s=4.0)

    if connected > NOON:
        gap_s = away_s + after_s
        if gap_s <= 10:
            assert same(connected)
        if gap_s > 10 + BLIND_S + 1e-3:
            assert not same(connected)
    # On the connection that told it the detector has merged what belongs together.
    assert not same(NOON)


def test_delays_are_bounded_and_summed_up() -> None:
    delays = Delays()
    assert delays.summary() == {"count": 0}
    for number in range(30_000):
        delays.add(number % 101 / 100)
    told = delays.summary()
    assert told["count"] == 30_000
    assert told["p50_s"] == pytest.approx(0.5, abs=0.02)
    assert told["p95_s"] == pytest.approx(0.95, abs=0.02)
    assert told["max_s"] == 1.0
