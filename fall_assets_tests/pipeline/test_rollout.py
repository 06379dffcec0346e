"""A rollout on a lake, day by day, through the platform's own predictions."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from fall_assets.commands import rollouts as commands
from fall_assets.delivery.gateway import TOKEN_FILE, Gateway, GatewayAwayError, GatewaySettings
from fall_assets.edge.assignment import read_assignment
from fall_assets.edge.client import GatewayClient
from fall_assets.errors import PermanentFailureError
from fall_assets.lake import Lake
from fall_assets.lake.registry import table
from fall_assets.learning.detector import Detector
from fall_assets.learning.tracking import Tracking
from fall_assets.pipeline import rollout as rollout_module
from fall_assets.pipeline.edge import assign, newest_package, signing_key
from fall_assets.pipeline.gateway import receive
from fall_assets.pipeline.locks import BusyError, locked
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.operation import predict, raise_alerts
from fall_assets.pipeline.rollout import (
    Rollout,
    advance,
    begin,
    counts_of,
    due,
    newest,
    paths_of,
    replay,
    rollouts,
    to_score_again,
)
from fall_assets.pipeline.serving import places_as_of
from fall_assets.pipeline.work import Work
from fall_assets.rollout.machine import Order
from fall_assets_tests.gateway.receivers import WebReceiver, serving
from fall_assets_tests.gateway.running import GatewayProcess, running
from fall_assets_tests.pipeline import rolled_site
from fall_assets_tests.pipeline.packages import package
from fall_assets_tests.pipeline.rolled_site import FIRST, after, live, register

DAYS = [FIRST + timedelta(days=number) for number in range(20)]


@pytest.fixture(scope="module")
def versions() -> dict[str, Detector]:
    return rolled_site.detectors()


@pytest.fixture(scope="module")
def settled(versions: dict[str, Detector], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("settled") / "site"
    rolled_site.settle(root, versions["champion"])
    return root


@pytest.fixture
def work(settled: Path, tmp_path: Path) -> Work:
    shutil.copytree(settled, tmp_path / "site")
    return rolled_site.new_work(tmp_path / "site")


def asked(work: Work, now: datetime | None = None) -> str | None:
    """Why a look is due, in words."""
    return "; ".join(one.text for one in due(work, now)) or None


def begun(work: Work, challenger: Detector, state: str = "shadow") -> Rollout:
    register(work, challenger, "challenger")
    assert asked(work, after(FIRST - timedelta(days=1))) == "version 2 waits for its rollout"
    done = advance(work, now=after(FIRST - timedelta(days=1)))
    assert done.rollout is not None
    assert (done.rollout.last.state, done.rollout.first_day) == (state, FIRST)
    assert asked(work, after(FIRST - timedelta(days=1))) is None
    return done.rollout


def replays(work: Work) -> int:
    """Replay the newest rollout; how many decisions came out the same."""
    current = newest(work)
    assert current is not None
    found = replay(work, current.id)
    assert [one.recorded.sentence for one in found if one.outcome != "equal"] == []
    return len(found)


def names(work: Work) -> list[str | None]:
    """Who is champion, challenger and previous in the registry."""
    store = tracking(work.site)
    holders = (store.champion(), store.challenger(), store.previous())
    return [None if one is None else one.version for one in holders]


class _Killed(BaseException):
    """The process is gone: nothing that it would do on an error is done."""


@contextmanager
def dying(
    monkeypatch: pytest.MonkeyPatch, owner: type, methods: Sequence[str], calls: int
) -> Iterator[list[int]]:
    """After so many calls of these methods the process is gone; what is left of them."""
    left = [calls]

    def wrapped(real: Callable[..., object]) -> Callable[..., object]:
        def call_or_die(*args: object, **kwargs: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise _Killed
            return real(*args, **kwargs)

        return call_or_die

    with monkeypatch.context() as patch:
        for name in methods:
            patch.setattr(owner, name, wrapped(getattr(owner, name)))
        yield left


@contextmanager
def killed(
    monkeypatch: pytest.MonkeyPatch, owner: type, methods: Sequence[str], calls: int
) -> Iterator[None]:
    """What is done here is killed after so many calls of these methods."""
    with dying(monkeypatch, owner, methods, calls), pytest.raises(_Killed):
        yield


def test_a_worse_version_is_rolled_back_in_shadow_and_no_ward_hears_of_it(
    work: Work, versions: dict[str, Detector]
) -> None:
    rollout = begun(work, versions["worse"])
    for day in DAYS[:8]:
        done = live(work, day)
        assert done.rollout is not None
        if done.rollout.here.ended:
            break
    assert done.rollout is not None
    assert done.rollout.last.state == "rolled_back"
    assert "it is worse" in done.rollout.last.sentence
    raised = work.lake.read("alerts").filter(pl.col("day") >= FIRST)
    assert raised["model_version"].unique().to_list() == ["1"]
    store = tracking(work.site)
    champion = store.champion()
    assert champion is not None
    assert champion.version == "1"
    assert store.challenger() is None
    assert replays(work) == len(done.rollout.history) > 1
    counts = {row["version"]: row["alarms"] for row in counts_of(done.rollout)}
    assert counts[f"challenger {rollout.challenger}"] > counts["champion 1"]
    assert (paths_of(done.rollout) or b"").startswith(b"\x89PNG")
    assert asked(work, after(DAYS[10])) is None, "a version that had its rollout gets no second one"


def test_a_better_version_reaches_all_cameras_and_the_old_one_is_retired(
    work: Work, versions: dict[str, Detector]
) -> None:
    begun(work, versions["better"])
    seen, shares = [], {}
    for day in DAYS:
        done = live(work, day)
        assert done.rollout is not None
        seen.append(done.rollout.last.state)
        shares[day + timedelta(days=1)] = done.rollout.last.share
        if seen[-1] == "full":
            previous = tracking(work.site).previous()
            assert previous is not None
            assert previous.version == "1"
        if done.rollout.here.ended:
            break
    assert [*dict.fromkeys(seen)] == ["step", "full", "retired"]
    assert [*dict.fromkeys(shares.values())] == [0.25, 0.5, 1.0]
    store = tracking(work.site)
    champion = store.champion()
    assert champion is not None
    assert champion.version == "2"
    assert store.previous() is None
    assert store.challenger() is None
    # On every day the alerts came from the version that was live on the camera.
    alerts = work.lake.read("alerts").filter(pl.col("day") >= FIRST)
    current = newest(work)
    assert current is not None
    for decision in current.history:
        if decision.state != "step":
            continue
        places = places_as_of(work, current.id, decision.number)
        assert list(places.values()).count("challenger") == round(8 * decision.share)
        on_day = alerts.filter(pl.col("day") == decision.effective_day)
        for camera, version in on_day.select("camera_id", "model_version").iter_rows():
            assert (version == "2") == (places[camera] == "challenger")
    assert replays(work) == len(current.history)


def test_orders_and_their_end(work: Work, versions: dict[str, Detector]) -> None:
    with pytest.raises(PermanentFailureError, match="no rollout yet"):
        advance(work, Order("abort", "somebody"))
    begun(work, versions["better"])
    now = after(FIRST - timedelta(days=1))
    held = advance(work, Order("hold", "Ada", "moving beds"), now)
    assert held.rollout is not None
    assert held.rollout.last.state == "held"
    assert "Ada" in held.rollout.last.sentence
    approved = advance(work, Order("approve", "Ada"), now)
    assert approved.rollout is not None
    assert (approved.rollout.last.state, approved.rollout.last.share) == ("step", 0.25)
    places = places_as_of(work, approved.rollout.id, approved.rollout.last.number)
    assert sorted(set(places.values())) == ["challenger", "control", "rest"]
    live(work, DAYS[0])
    shadows = work.lake.read("rollout_evidence").filter("shadow", footage_day=DAYS[0])
    tried = {camera for camera, place in places.items() if place == "challenger"}
    control = {camera for camera, place in places.items() if place == "control"}
    assert set(shadows.filter(role="champion")["camera_id"]) == tried
    assert set(shadows.filter(role="challenger")["camera_id"]) == control
    back = advance(work, Order("roll_back", "Ada", "wards complain"), after(DAYS[0]))
    assert back.rollout is not None
    assert back.rollout.last.state == "rolled_back"
    with pytest.raises(PermanentFailureError, match="rolled"):
        advance(work, Order("approve", "Ada"), now)
    live(work, DAYS[1])
    alerts = work.lake.read("alerts", days=[DAYS[1]])
    assert set(alerts["model_version"]) <= {"1"}
    assert replays(work) >= 5


def test_one_order_brings_the_old_version_back_from_all_cameras(
    work: Work, versions: dict[str, Detector]
) -> None:
    begun(work, versions["better"])
    now = after(FIRST - timedelta(days=1))
    assert names(work) == ["1", "2", None]
    for _ in range(3):
        done = advance(work, Order("approve", "Ada"), now)
    assert done.rollout is not None
    assert (done.rollout.last.state, names(work)) == ("full", ["2", None, "1"])
    back = advance(work, Order("roll_back", "Ada"), now)
    assert back.rollout is not None
    assert (back.rollout.last.state, names(work)) == ("rolled_back", ["1", None, None])
    assert replays(work) == 5


@pytest.mark.parametrize("calls", [0, 1])
def test_a_run_killed_while_it_names_who_serves_is_finished_by_the_next(
    work: Work, versions: dict[str, Detector], monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    begun(work, versions["better"])
    now = after(FIRST - timedelta(days=1))
    for _ in range(2):
        advance(work, Order("approve", "Ada"), now)
    third = Order("approve", "Ada", id="the third")
    with killed(monkeypatch, Tracking, ("promote", "move_alias"), calls):
        advance(work, third, now)
    assert names(work) == [["1", "2", None], ["2", None, None]][calls]
    # Dagster starts the run again, with the same order.
    again = advance(work, third, now)
    assert again.rollout is not None
    assert (again.rollout.last.state, names(work)) == ("full", ["2", None, "1"])
    back = Order("roll_back", "Ada", id="back")
    with killed(monkeypatch, Tracking, ("promote", "move_alias"), calls):
        advance(work, back, now)
    again = advance(work, back, now)
    assert again.rollout is not None
    assert (again.rollout.last.state, names(work)) == ("rolled_back", ["1", None, None])
    assert (replays(work), asked(work, now)) == (5, None)


def test_an_order_is_followed_once_however_often_its_run_is_started(
    work: Work, versions: dict[str, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(work, versions["better"])
    now = after(FIRST - timedelta(days=1))
    order = Order("approve", "Ada", id="run 1")
    with killed(monkeypatch, Lake, ("write_file",), 0):
        advance(work, order, now)
    again = advance(work, order, now)
    assert again.rollout is not None
    assert again.decisions == ()
    assert again.reason.startswith("this order was followed already: Ada approves the next step")
    assert (again.rollout.last.share, asked(work, now)) == (0.25, None)
    other = advance(work, Order("approve", "Ada", id="run 2"), now)
    assert other.rollout is not None
    assert other.rollout.last.share == 0.5
    unnamed = [advance(work, Order(action, "Ada"), now) for action in ("hold", "resume", "hold")]
    assert [len(one.decisions) for one in unnamed] == [1, 1, 1]
    assert replays(work) == 6


def test_a_begin_is_followed_once_however_often_its_run_is_started(
    work: Work, versions: dict[str, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(work, versions["better"], "challenger")
    with killed(monkeypatch, Lake, ("write_file",), 0):
        begin(work, "2", by="Ada", order_id="run 1")
    again = begin(work, "2", by="Ada", order_id="run 1")
    assert again is not None
    assert (len(again.history), again.last.by) == (1, "Ada")
    assert asked(work) is None
    for order_id in ("run 2", ""):
        with pytest.raises(PermanentFailureError, match=f"rollout {again.id} runs"):
            begin(work, "2", by="Ada", order_id=order_id)
    assert replays(work) == 1


def test_what_a_killed_run_left_under_a_number_is_nobodys(
    work: Work, versions: dict[str, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(work, versions["better"])
    now = after(FIRST - timedelta(days=1))
    # Places are written, the decision is not.
    with killed(monkeypatch, Lake, ("append",), 1):
        advance(work, Order("approve", "Ada"), now)
    of_it = pl.col("number") == 1
    left = work.lake.read("rollout_cameras", where=of_it)
    assert set(left["place"]) == {"challenger", "control", "rest"}
    held = advance(work, Order("hold", "Bea"), now)
    assert held.rollout is not None
    assert set(places_as_of(work, held.rollout.id, 1).values()) == {"rest"}
    # Evidence is written, the decision is not; the order that comes instead knew nothing of it.
    advance(work, Order("resume", "Bea"), now)
    rolled_site.bring(work, DAYS[0])
    rolled_site.score(work, DAYS[0])
    with killed(monkeypatch, Lake, ("append",), 1):
        advance(work, now=after(DAYS[0]))
    of_it = pl.col("number") == 3
    assert work.lake.read("rollout_evidence", where=of_it).height
    ended = advance(work, Order("abort", "Bea"), now)
    assert ended.rollout is not None
    assert ended.rollout.last.number == 3
    assert work.lake.read("rollout_evidence", where=of_it).is_empty()
    assert replays(work) == 4


def test_an_order_waits_for_a_look_that_is_under_way(
    work: Work, versions: dict[str, Detector]
) -> None:
    begun(work, versions["better"])
    now, looking = after(FIRST - timedelta(days=1)), threading.Event()

    def look() -> None:
        with locked(work, "rollout"):
            looking.set()
            time.sleep(0.5)

    thread = threading.Thread(target=look)
    thread.start()
    looking.wait()
    with pytest.raises(BusyError):
        advance(work, now=now)
    done = advance(work, Order("roll_back", "Ada"), now)
    thread.join()
    assert done.rollout is not None
    assert done.rollout.last.state == "rolled_back"


def test_who_wants_it_back_waits_for_no_evidence(
    work: Work, versions: dict[str, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(work, versions["better"])
    live(work, DAYS[0])
    rolled_site.bring(work, DAYS[1])
    rolled_site.score(work, DAYS[1])

    def asked(*_: object) -> None:
        raise AssertionError("nobody asks for evidence")

    with monkeypatch.context() as patch:
        for name in ("collect", "facts", "judge"):
            patch.setattr(rollout_module, name, asked)
        back = advance(work, Order("roll_back", "Ada"), after(DAYS[1]))
    assert back.rollout is not None
    assert back.rollout.last.state == "rolled_back"
    assert "after 0 days at 25 % of the cameras, false alarms" in back.rollout.last.sentence
    assert set(places_as_of(work, back.rollout.id, 2).values()) == {"rest"}
    assert replays(work) == 3


def test_cameras_that_are_excluded_keep_the_champion_until_it_is_retired(
    work: Work, versions: dict[str, Detector]
) -> None:
    work = rolled_site.new_work(work.site.root, replace(rolled_site.ROLLOUT, exclude=("cam-3",)))
    begun(work, versions["better"])
    for _ in range(3):
        done = advance(work, Order("approve", "Ada"), after(FIRST - timedelta(days=1)))
    assert done.rollout is not None
    assert "all cameras but the excluded ones (cam-3)" in done.rollout.last.sentence
    live(work, DAYS[0])
    alerts = work.lake.read("alerts", days=[DAYS[0]])
    for camera, version in alerts.select("camera_id", "model_version").iter_rows():
        assert version == ("1" if camera == "cam-3" else "2")
    assert "cam-3" in alerts["camera_id"]
    counted = work.lake.read("rollout_evidence").filter(footage_day=DAYS[0], camera_id="cam-3")
    assert dict(counted.select("role", "shadow").iter_rows()) == {
        "champion": False,
        "challenger": True,
    }
    done = live(work, DAYS[1])
    assert done.rollout is not None
    assert done.rollout.last.state == "retired"
    assert "the excluded cameras (cam-3) have version 2 then" in done.rollout.last.sentence
    live(work, DAYS[2])
    assert set(work.lake.read("alerts", days=[DAYS[2]])["model_version"]) == {"2"}
    assert replays(work) == 6


def test_a_day_scored_before_its_decision_is_scored_again(
    work: Work, versions: dict[str, Detector]
) -> None:
    register(work, versions["better"], "challenger")
    advance(work)
    assert to_score_again(work) == []
    rolled_site.bring(work, FIRST)
    rolled_site.score(work, FIRST)
    approved = advance(work, Order("approve", "Ada"))
    assert approved.rollout is not None
    assert approved.rollout.last.effective_day == FIRST
    assert to_score_again(work) == [FIRST]
    rolled_site.score(work, FIRST)
    assert to_score_again(work) == []
    live_now = work.lake.read("alerts", days=[FIRST])
    places = places_as_of(work, approved.rollout.id, approved.rollout.last.number)
    for camera, version in live_now.select("camera_id", "model_version").iter_rows():
        assert (version == "2") == (places[camera] == "challenger")


def test_days_that_come_in_together_are_judged_as_they_were_watched(
    work: Work, versions: dict[str, Detector]
) -> None:
    register(work, versions["better"], "challenger")
    advance(work)
    for day in DAYS[:2]:
        rolled_site.bring(work, day)
        rolled_site.score(work, day)
    # The first day moves it to some cameras, and on the second it had raised nothing there.
    done = advance(work)
    assert done.rollout is not None
    assert [(one.day, one.share) for one in done.decisions] == [(DAYS[0], 0.25)]
    assert (asked(work), advance(work).decisions) == (None, ())
    assert to_score_again(work) == [DAYS[1]]
    rolled_site.score(work, DAYS[1])
    assert to_score_again(work) == []
    assert asked(work) == f"1 new days of evidence, up to {DAYS[1]}"
    done = advance(work)
    assert done.rollout is not None
    assert [(one.day, one.share) for one in done.decisions] == [(DAYS[1], 0.5)]
    alerts = work.lake.read("rollout_evidence").filter(
        footage_day=DAYS[1], role="challenger", shadow=False
    )
    assert alerts["alerts"].sum() > 0
    assert replays(work) == 3


def test_a_fall_that_is_labelled_late_is_looked_at_once(
    work: Work, versions: dict[str, Detector]
) -> None:
    begun(work, versions["better"])
    advance(work, Order("approve", "Ada"), after(FIRST - timedelta(days=1)))
    done = live(work, FIRST)
    assert done.rollout is not None
    assert (done.rollout.last.day, done.rollout.here.share > 0) == (FIRST, True)
    now = after(FIRST)
    assert asked(work, now) is None
    labels = work.lake.read("labels", days=[FIRST])
    late = labels.filter(label="fall").head(1).with_columns(label_id=pl.lit("late"))
    work.lake.replace_partition("labels", FIRST, pl.concat([labels, late]), work.provenance(FIRST))
    (reason,) = due(work, now)
    assert reason.text == "1 falls of days that were looked at were told of since"
    assert not reason.again, "a fall that was not missed leaves no decision, and stays told of"
    assert (advance(work, now=now).decisions, due(work, now)) == ((), [reason])


def test_looks_hide_no_day_that_was_scored_too_early(
    work: Work, versions: dict[str, Detector]
) -> None:
    # Nothing is evidence enough here: every look is only a look.
    work = rolled_site.new_work(work.site.root, replace(rolled_site.ROLLOUT, evidence=1e9))
    register(work, versions["better"], "challenger")
    advance(work)
    for day in DAYS[:3]:
        rolled_site.bring(work, day)
        rolled_site.score(work, day)
    advance(work, Order("approve", "Ada"))
    assert to_score_again(work) == DAYS[:3]
    for day in DAYS[:2]:
        rolled_site.score(work, day)
    looked = advance(work)
    assert [(one.day, one.action) for one in looked.decisions] == [
        (DAYS[0], "look"),
        (DAYS[1], "look"),
    ]
    assert to_score_again(work) == [DAYS[2]]
    predict(work, DAYS[2])
    assert to_score_again(work) == []
    assert advance(work).decisions == (), "its alerts are not made anew yet"
    raise_alerts(work, DAYS[2], channels=[])
    assert [one.day for one in advance(work).decisions] == [DAYS[2]]


def test_a_version_that_finds_fewer_falls_is_not_put_beside_the_champion(
    work: Work, versions: dict[str, Detector]
) -> None:
    settings = replace(rolled_site.ROLLOUT, mode="ab", ab_days=1)
    work = rolled_site.new_work(work.site.root, settings)
    deaf = replace(versions["better"].events, threshold=0.9999999)
    register(work, replace(versions["better"], events=deaf), "challenger")
    now = after(FIRST - timedelta(days=1))
    assert asked(work, now) == "version 2 waits for its rollout"
    with pytest.raises(PermanentFailureError, match=r"finds fewer falls.*train another one"):
        advance(work, now=now)
    assert (newest(work), asked(work, now)) == (None, None), "it is not tried again by itself"
    with pytest.raises(PermanentFailureError, match="finds fewer falls"):
        begin(work, "2", by="Ada", now=now)
    shadow = begin(work, "2", mode="canary", by="Ada", now=now)
    assert shadow is not None
    assert shadow.last.state == "shadow"


def test_a_library_that_cannot_be_asked_holds_up_neither_days_nor_guards(
    work: Work, versions: dict[str, Detector]
) -> None:
    begun(work, versions["better"])
    known = work.lake.read("registered_model")
    lost = known.filter(pl.col("model_version") != "2")
    work.lake.replace("registered_model", lost, work.provenance())
    done = live(work, DAYS[0])
    assert done.rollout is not None
    assert done.rollout.last.action == "look"
    missing = "(version 2 is not in the table registered_model) yet, and waits for that"
    assert missing in done.rollout.last.sentence
    work.lake.replace("registered_model", known, work.provenance())
    done = live(work, DAYS[1])
    assert done.rollout is not None
    assert done.rollout.last.share == 0.25
    assert replays(work) == 3


@pytest.fixture
def receiver() -> Iterator[WebReceiver]:
    with serving(WebReceiver()) as server:
        yield server


def test_the_owner_hears_of_it_as_soon_as_his_receiver_is_back(
    work: Work, versions: dict[str, Detector], receiver: WebReceiver
) -> None:
    begun(work, versions["better"])
    said: list[str] = []
    work = replace(work, site=replace(work.site, owner_webhook_url=receiver.url), log=said.append)
    now, receiver.status = after(FIRST - timedelta(days=1)), 500
    advance(work, Order("hold", "Ada"), now)
    current = newest(work)
    assert current is not None
    untold = f"the owner does not know of decision 1 of rollout {current.id}"
    assert asked(work, now) == untold
    # He is away for days, while the rollout goes on.
    advance(work, Order("resume", "Ada"), now)
    live(work, DAYS[0])
    assert len(receiver.got) >= 3
    assert asked(work, after(DAYS[0])) == untold
    receiver.status = 200
    advance(work, now=after(DAYS[0]))
    *_, (_, headers, body) = receiver.got
    assert headers["Idempotency-Key"] == f"{current.id}-1"
    assert json.loads(body)["title"] == current.last.sentence
    assert asked(work, after(DAYS[0])) is None
    told = len(receiver.got)
    advance(work, now=after(DAYS[0]))
    assert len(receiver.got) == told
    # For ever is too long.
    receiver.status = 500
    advance(work, Order("hold", "Ada"), after(DAYS[0]))
    advance(work, now=after(DAYS[2]))
    assert asked(work, after(DAYS[4])) is not None
    advance(work, now=after(DAYS[4]))
    assert asked(work, after(DAYS[4])) is None
    assert any("that is given up" in line for line in said)


def test_two_versions_side_by_side_end_in_a_report(
    work: Work, versions: dict[str, Detector]
) -> None:
    settings = replace(rolled_site.ROLLOUT, mode="ab", ab_days=1)
    work = rolled_site.new_work(work.site.root, settings)
    rollout = begun(work, versions["better"], state="comparing")
    places = places_as_of(work, rollout.id, 0)
    assert list(places.values()).count("challenger") == 4
    done = live(work, DAYS[0])
    assert done.rollout is not None
    assert done.rollout.last.state == "reported"
    by_camera = work.lake.read("alerts", days=[DAYS[0]]).select("camera_id", "model_version")
    for camera, version in by_camera.iter_rows():
        assert (version == "2") == (places[camera] == "challenger")
    champion = tracking(work.site).champion()
    assert champion is not None
    assert champion.version == "1", "a report promotes nobody"
    assert replays(work) == 2


@pytest.fixture(scope="module")
def midway(
    settled: Path, versions: dict[str, Detector], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A rollout at its second step, with another day that nobody has looked at."""
    root = tmp_path_factory.mktemp("midway") / "site"
    shutil.copytree(settled, root)
    work = rolled_site.new_work(root)
    begun(work, versions["better"])
    live(work, DAYS[0])
    rolled_site.bring(work, DAYS[1])
    rolled_site.score(work, DAYS[1])
    return root


def test_a_run_killed_in_the_middle_ends_in_the_same_decisions(
    midway: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = after(DAYS[1])

    def site(name: str) -> Work:
        shutil.copytree(midway, tmp_path / name)
        return rolled_site.new_work(tmp_path / name)

    def told(work: Work) -> list[tuple[str, str, float, str]]:
        current = newest(work)
        assert current is not None
        return [(one.action, one.state, one.share, one.sentence) for one in current.history]

    twin = site("twin")
    advance(twin, now=now)
    assert [action for action, *_ in told(twin)] == ["start", "next", "next"]
    kills = 0
    writes = ("append", "upsert", "replace", "write_file")
    for write in range(20):
        work = site(f"site-{write}")
        with dying(monkeypatch, Lake, writes, write) as left:
            try:
                advance(work, now=now)
            except _Killed:
                kills += 1
        if left[0] >= 0:
            break
        advance(work, now=now)
        assert told(work) == told(twin), f"killed before write {write}"
        assert tracking(work.site).champion() == tracking(twin.site).champion()
        for name in ("rollout", "rollout_cameras", "rollout_evidence"):
            assert work.lake.rows(name) == twin.lake.rows(name), name
        assert asked(work, now) is None
    assert kills == 4, "evidence, places, the decision, that it was carried out"
    assert replays(work) == 3


# With boxes.


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with running(tmp_path / "gateway") as process:
        yield process


@dataclass
class Box:
    """A box at the gateway of a site, and the site."""

    work: Work
    client: GatewayClient

    def assigned(self) -> list[tuple[str, bool]]:
        """The versions that it is to run, and whether in shadow."""
        answer = self.client.get_assignment()
        trusted = [signing_key(self.work).public_key()]
        read = read_assignment(answer.assignment, answer.signature, trusted, "box-1")
        return [(part.model_version, part.shadow) for part in read.parts]

    def crashes(self, manifest: str) -> None:
        """It goes back from a package, and the platform hears of it."""
        detail = "ended 3 times: killed by signal 11"
        self.client.post_update(manifest, "rolled_back", detail)
        receive(self.work)


def at_gateway(work: Work, url: str) -> Work:
    """The site with a gateway at that address."""
    settings = replace(work.site.settings, gateway=GatewaySettings(url=url))
    return replace(work, site=replace(work.site, settings=settings))


def let_in(work: Work, token: str) -> None:
    path = work.site.root / TOKEN_FILE
    path.write_text(token)
    path.chmod(0o600)


@pytest.fixture
def box(work: Work, gateway: GatewayProcess) -> Box:
    let_in(work, gateway.token("platform"))
    token = gateway.token("box", box="box-1")
    return Box(at_gateway(work, gateway.url), GatewayClient(gateway.url, lambda: token))


def test_a_version_that_crashes_on_a_box_is_taken_from_all_boxes_at_once(
    box: Box, versions: dict[str, Detector]
) -> None:
    work = box.work
    package(work, "1")
    register(work, versions["better"], "challenger")
    assert asked(work) is None, "it waits for its package"
    manifest = package(work, "2")
    began = advance(work).rollout
    assert began is not None
    assert box.assigned() == [("1", False), ("2", True)]
    box.client.post_update(manifest, "installed", "")
    receive(work)
    assert asked(work) is None
    box.crashes(manifest)
    reason = asked(work)
    assert reason is not None
    assert reason.startswith("guard crash")
    told: list[str] = []
    done = advance(replace(work, log=told.append)).rollout
    assert done is not None
    assert done.last.state == "rolled_back"
    assert "box-1" in done.last.sentence
    assert any(line.startswith("owner: rollout") for line in told)
    assert box.assigned() == [("1", False)]
    assert replays(work) == 2


def test_a_decision_that_cannot_be_carried_out_holds_up_neither_guards_nor_orders(
    box: Box, versions: dict[str, Detector]
) -> None:
    work = box.work
    package(work, "1")
    register(work, versions["better"], "challenger")
    manifest = package(work, "2")
    advance(work)
    archive = work.lake.read("edge_package").filter(model_version="2")["archive"][0]
    work.lake.resolve(archive).unlink()
    with pytest.raises(PermanentFailureError, match="is gone"):
        advance(work, Order("approve", "Ada"))
    current = newest(work)
    assert current is not None
    assert current.last.share == 0.25, "the decision stands"
    assert asked(work) == f"decision 1 of rollout {current.id} is not carried out"
    with pytest.raises(PermanentFailureError, match="is gone"):
        advance(work)
    with pytest.raises(PermanentFailureError, match="is gone"):
        advance(work, Order("hold", "Ada"))
    assert len(rollouts(work)[-1].history) == 3
    assert box.assigned() == [("1", False), ("2", True)]
    box.crashes(manifest)
    done = advance(work).rollout
    assert done is not None
    assert done.last.state == "rolled_back"
    assert box.assigned() == [("1", False)]
    assert asked(work) is None


def test_an_assignment_by_hand_does_not_stop_a_rollout(
    box: Box, versions: dict[str, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = box.work
    package(work, "1")
    register(work, versions["better"], "challenger")
    package(work, "2")
    advance(work)
    order = Order("approve", "Ada", id="run 1")
    with killed(monkeypatch, Gateway, ("put_assignment",), 0):
        advance(work, order)
    # Later, and so with a newer serial.
    assign(work, "*", newest_package(work, "1"))
    assert box.assigned() == [("1", False)]
    advance(work, order)
    assert box.assigned() == [("1", False), ("2", False), ("1", True), ("2", True)]
    assert asked(work) is None


def test_the_owner_hears_of_it_although_the_gateway_is_away(
    work: Work, versions: dict[str, Detector], receiver: WebReceiver
) -> None:
    begun(work, versions["better"])
    package(work, "1")
    let_in(work, "nobody asks for it")
    work = at_gateway(work, "http://127.0.0.1:9")
    work = replace(work, site=replace(work.site, owner_webhook_url=receiver.url))
    now = after(FIRST - timedelta(days=1))
    with pytest.raises(GatewayAwayError):
        advance(work, Order("roll_back", "Ada"), now)
    assert names(work) == ["1", None, None]
    assert len(receiver.got) == 1
    with pytest.raises(GatewayAwayError):
        advance(work, now=now)
    assert len(receiver.got) == 1, "once"
    current = newest(work)
    assert current is not None
    assert asked(work, now) == f"decision 1 of rollout {current.id} is not carried out"


# Replay, as a person asks for it.


def _forge(work: Work, number: int, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a decision's row by hand."""
    rows = work.lake.read("rollout").to_dicts()
    change(rows[number])
    work.lake.replace(
        "rollout", pl.DataFrame(rows, schema=table("rollout").schema), work.provenance()
    )


def test_a_replay_says_what_kind_of_difference_there_is(
    work: Work, versions: dict[str, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = begun(work, versions["better"])
    live(work, DAYS[0])
    advance(work, Order("hold", "Ada"), after(DAYS[0]))
    monkeypatch.setenv("FALL_SITE", str(work.site.root))
    monkeypatch.setenv("FALL_CONFIG", str(work.site.root / "none.toml"))

    def replayed() -> tuple[int, str]:
        done = CliRunner().invoke(commands.rollout, ["replay", rollout.id])
        return done.exit_code, done.output

    assert replayed()[0] == 0

    def reword(row: dict[str, Any]) -> None:
        row["sentence"] = row["sentence"].replace("e-values ", "e-values 1")

    _forge(work, 1, reword)
    code, said = replayed()
    assert code == 0
    assert "other numbers     1" in said
    assert "all decisions come out the same, 1 of them on other numbers" in said
    _forge(work, 2, lambda row: row.update(numbers=row["numbers"].replace('"hold"', '"launch"')))
    code, said = replayed()
    assert code == 1
    assert "DIFFERS           2" in said
    assert "now: no decision" in said
    assert "1 decisions come out otherwise" in said
