"""A rollout on a lake, day by day, through the platform's own predictions."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from fall_assets.delivery.gateway import TOKEN_FILE, GatewaySettings
from fall_assets.edge.assignment import read_assignment
from fall_assets.edge.client import GatewayClient
from fall_assets.errors import PermanentFailureError
from fall_assets.lake import Lake
from fall_assets.lake.registry import one_row
from fall_assets.learning.detector import Detector
from fall_assets.pipeline.edge import signing_key
from fall_assets.pipeline.gateway import receive
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.rollout import (
    Rollout,
    advance,
    counts_of,
    due,
    newest,
    paths_of,
    places_as_of,
    replay,
    to_score_again,
)
from fall_assets.pipeline.work import Work
from fall_assets.rollout.machine import Order
from fall_assets_tests.gateway.running import GatewayProcess, running
from fall_assets_tests.pipeline import rolled_site
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


def begun(work: Work, challenger: Detector, state: str = "shadow") -> Rollout:
    register(work, challenger, "challenger")
    assert due(work, after(FIRST - timedelta(days=1))) == "version 2 waits for its rollout"
    done = advance(work, now=after(FIRST - timedelta(days=1)))
    assert done.rollout is not None
    assert (done.rollout.last.state, done.rollout.first_day) == (state, FIRST)
    assert due(work, after(FIRST - timedelta(days=1))) is None
    return done.rollout


def replays(work: Work) -> int:
    """Replay the newest rollout; how many decisions came out the same."""
    current = newest(work)
    assert current is not None
    pairs = replay(work, current.id)
    assert [recorded.sentence for recorded, _, same in pairs if not same] == []
    return len(pairs)


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
    assert due(work, after(DAYS[10])) is None, "a version that had its rollout gets no second one"


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
    order = list(dict.fromkeys(seen))
    assert order == ["shadow", "step", "full", "retired"][-len(order) :]
    assert [*dict.fromkeys(shares.values())] == [0.0, 0.25, 0.5, 1.0] or 0.25 in shares.values()
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
    store = tracking(work.site)

    def names() -> list[str | None]:
        holders = (store.champion(), store.challenger(), store.previous())
        return [None if one is None else one.version for one in holders]

    assert names() == ["1", "2", None]
    for _ in range(3):
        done = advance(work, Order("approve", "Ada"), now)
    assert done.rollout is not None
    assert (done.rollout.last.state, names()) == ("full", ["2", None, "1"])
    back = advance(work, Order("roll_back", "Ada"), now)
    assert back.rollout is not None
    assert (back.rollout.last.state, names()) == ("rolled_back", ["1", None, None])
    assert replays(work) == 5


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


class _Killed(BaseException):
    """The process is gone: nothing that it would do on an error is done."""


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
    for write in range(20):
        work, left = site(f"site-{write}"), write

        def dying(real: Callable[..., object]) -> Callable[..., object]:
            def write_or_die(*args: object, **kwargs: object) -> object:
                nonlocal left
                left -= 1
                if left < 0:
                    raise _Killed
                return real(*args, **kwargs)

            return write_or_die

        with monkeypatch.context() as patch:
            for name in ("append", "upsert", "write_file"):
                patch.setattr(Lake, name, dying(getattr(Lake, name)))
            try:
                advance(work, now=now)
            except _Killed:
                kills += 1
        if left >= 0:
            break
        advance(work, now=now)
        assert told(work) == told(twin), f"killed before write {write}"
        assert tracking(work.site).champion() == tracking(twin.site).champion()
        for name in ("rollout", "rollout_cameras", "rollout_evidence"):
            assert work.lake.rows(name) == twin.lake.rows(name), name
        assert due(work, now) is None
    assert kills == 4, "evidence, places, the decision, and that it was carried out"
    assert replays(work) == 3


# With boxes.


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with running(tmp_path / "gateway") as process:
        yield process


def package(work: Work, version: str) -> str:
    """A package of a version, as it stands in the lake; its manifest's hash."""
    content = f"package {version}".encode()
    sha256 = hashlib.sha256(content).hexdigest()
    archive = work.lake.write_file(content, "edge", f"{sha256}.tar.gz")
    row = {
        "sequence": int(version),
        "model_version": version,
        "runtime": "test",
        "feature_set": rolled_site.FEATURE_SET,
        "built_utc": datetime.now(UTC),
        "precision": "float32",
        "archive": archive,
        "archive_sha256": sha256,
        "archive_bytes": len(content),
        "manifest_sha256": hashlib.sha256(sha256.encode()).hexdigest(),
        "unpacked_bytes": 1,
        "start_s": 1.0,
        "segments": 0,
        "windows": 0,
        "largest_difference": 0.0,
        "reason": "test",
    }
    work.lake.append("edge_package", one_row("edge_package", row), work.provenance())
    return str(row["manifest_sha256"])


def test_a_version_that_crashes_on_a_box_is_taken_from_all_boxes_at_once(
    work: Work, versions: dict[str, Detector], gateway: GatewayProcess
) -> None:
    settings = replace(work.site.settings, gateway=GatewaySettings(url=gateway.url))
    work = replace(work, site=replace(work.site, settings=settings))
    token = work.site.root / TOKEN_FILE
    token.write_text(gateway.token("platform"))
    token.chmod(0o600)
    package(work, "1")
    register(work, versions["better"], "challenger")
    assert due(work) is None, "it waits for its package"
    manifest = package(work, "2")
    began = advance(work).rollout
    assert began is not None
    box = gateway.token("box", box="box-1")
    client = GatewayClient(gateway.url, lambda: box)
    trusted = [signing_key(work).public_key()]

    def assigned() -> list[tuple[str, bool]]:
        answer = client.get_assignment()
        read = read_assignment(answer.assignment, answer.signature, trusted, "box-1")
        return [(part.model_version, part.shadow) for part in read.parts]

    assert assigned() == [("1", False), ("2", True)]
    client.post_update(manifest, "installed", "")
    receive(work)
    assert due(work) is None
    client.post_update(manifest, "rolled_back", "ended 3 times: killed by signal 11")
    receive(work)
    reason = due(work)
    assert reason is not None
    assert reason.startswith("guard crash")
    told: list[str] = []
    done = advance(replace(work, log=told.append)).rollout
    assert done is not None
    assert done.last.state == "rolled_back"
    assert "box-1" in done.last.sentence
    assert any(line.startswith("owner: rollout") for line in told)
    assert assigned() == [("1", False)]
    assert replays(work) == 2
