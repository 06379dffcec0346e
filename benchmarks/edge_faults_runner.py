"""The parts of `edge_faults` with a whole `fall-edge run`: killed at random, and blinded."""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.edge_processes import Gateway, Process, free_port, waiting_in
from fall_assets.simulation.cameras import CameraFault, CameraServer
from fall_assets.simulation.films import load_film, quiet
from fall_assets.simulation.network import NETWORK_FAULTS, Relay


def chance_model(folder: Path) -> Path:
    """A model that nobody trained: what it says is chance, and often an alarm."""
    from fall_assets.delivery.onnx_export import write_model
    from fall_assets.features.movenet import pose_network_path
    from fall_assets_tests.edge.models import FEATURES, untrained

    write_model(untrained(), "faults-1", FEATURES, pose_network_path(), folder)
    return folder


def films(footage: Path, count: int) -> list[Path]:
    """Real falls; as many as asked for."""
    found = sorted((footage / "urfd").rglob("fall-*-cam0.mp4"))
    if len(found) < count:
        raise SystemExit(
            f"there are no {count} films of falls in {footage / 'urfd'}: name --footage"
        )
    return found[:: max(1, len(found) // count)][:count]


class Edge(Process):
    """A real `fall-edge run`."""

    def __init__(
        self,
        folder: Path,
        gateway: Gateway,
        url: str,
        cameras: dict[str, tuple[str, float]],
        model: Path,
        telemetry_s: float,
    ) -> None:
        folder.mkdir(parents=True)
        token = folder / "token"
        token.write_text(gateway.token("--role", "box", "--box", "box-1"))
        token.chmod(0o600)
        lines = ['box = "box-1"', f'gateway = "{url}"', 'token_file = "token"', 'state = "state"']
        for name, (stream, fps) in cameras.items():
            lines += ["[[cameras]]", f'id = "{name}"', f'url = "{stream}"', f"fps = {fps}"]
        lines += ["[runner]", f"telemetry_s = {telemetry_s}"]
        config = folder / "edge.toml"
        config.write_text("\n".join(lines) + "\n")
        self.outbox = folder / "state" / "outbox.sqlite"
        self.health = folder / "state" / "health.json"
        module = [sys.executable, "-m", "fall_assets.edge", "run"]
        command = [*module, "--config", str(config), "--model", str(model.absolute())]
        super().__init__("edge", command, folder / "log")


# --- killed at random ----------------------------------------------------------------------------


@dataclass
class RunnerResult:
    """What came of it."""

    kills: Counter[str] = field(default_factory=Counter)
    in_outbox: int = 0
    arrived: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    refused: int = 0
    waiting: int = 0
    damaged: int = 0
    close_pairs: int = 0
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether nothing was lost or doubled, there was something to lose, and all arrived."""
        bad = self.lost or self.doubled or self.unknown or self.refused or self.waiting
        return bool(self.in_outbox) and not bad and not self.damaged


def main_runner(folder: Path, model: Path, footage: Path, kills: int, seed: int) -> bool:
    """Run, print, and say whether it holds."""
    result = killed(folder, model, films(footage, 3), kills, seed)
    what = ", ".join(f"{name} {count}" for name, count in sorted(result.kills.items()))
    print("\n| whole runner | |\n|---|---|")
    for name, value in (
        ("killed by SIGKILL and started again", f"{sum(result.kills.values())} ({what})"),
        ("seconds", f"{result.seconds:.0f}"),
        ("alerts that the runner's outbox took", result.in_outbox),
        ("arrived at the gateway, by id", result.arrived),
        ("**lost**", len(result.lost)),
        ("**doubled**", len(result.doubled)),
        ("at the gateway and not in the outbox", len(result.unknown)),
        ("dead letters", result.refused),
        ("left in the outbox", result.waiting),
        ("outboxes found damaged", result.damaged),
        ("alerts of one camera within 2 s of each other", result.close_pairs),
    ):
        print(f"| {name} | {value} |")
    print(
        f"edge_faults runner: {len(result.lost)} lost, {len(result.doubled)} doubled of "
        f"{result.in_outbox} alerts over {sum(result.kills.values())} kills (goal: none)",
        flush=True,
    )
    return result.holds


def killed(
    folder: Path,
    model: Path,
    falls: Sequence[Path],
    kills: int,
    seed: int,
    *,
    pause_s: tuple[float, float] = (1.0, 16.0),
    quiet_s: float = 240.0,
) -> RunnerResult:
    """Kill the runner, the cameras and the gateway in turn, then let it be quiet and count."""
    choose = random.Random(seed)
    result = RunnerResult()
    began = time.monotonic()
    with ExitStack() as stack:
        gateway = Gateway(folder / "gateway")
        stack.callback(gateway.end)
        gateway.start()
        gateway.wait()
        relay = stack.enter_context(Relay(gateway.port, seed=seed))
        port = free_port()
        names = [f"cam-{number + 1}" for number in range(len(falls))]
        cameras = Process(
            "cameras",
            [
                *(sys.executable, "-m", "fall_assets.simulation.cameras", "--rtsp", str(port)),
                *(f"{name}={path}" for name, path in zip(names, falls, strict=True)),
            ],
            folder / "cameras.log",
        )
        stack.callback(cameras.end)
        cameras.start()
        streams = {name: (f"rtsp://127.0.0.1:{port}/{name}", 0.0) for name in names}
        url = f"http://127.0.0.1:{relay.port}"
        edge = Edge(folder / "edge", gateway, url, streams, model, 10.0)
        stack.callback(edge.end)
        edge.start()
        time.sleep(10.0)
        for done in range(kills):
            time.sleep(choose.uniform(*pause_s))
            relay.fault = "none" if choose.random() < 0.5 else choose.choice(NETWORK_FAULTS)
            draw = choose.random()
            victims = [edge] if draw < 0.5 else [gateway] if draw < 0.75 else [cameras]
            if draw > 0.95:
                victims = [edge, gateway, cameras]
            for victim in victims:
                victim.kill()
                result.kills[victim.name] += 1
            for victim in victims:
                victim.start()
            if (done + 1) % 10 == 0:
                print(f"{done + 1} of {kills}", file=sys.stderr, flush=True)
        relay.fault = "none"
        gateway.wait()
        # So that everything has been seen working again after the last kill.
        time.sleep(15.0)
        cameras.end()
        end = time.monotonic() + quiet_s
        still = 0
        while time.monotonic() < end and still < 5:
            still = 0 if waiting_in(edge.outbox) else still + 1
            time.sleep(1.0)
        edge.end()
        _count(result, gateway.rows("alerts"), edge.outbox)
    result.seconds = time.monotonic() - began
    return result


def _count(result: RunnerResult, rows: Sequence[dict[str, Any]], outbox: Path) -> None:
    with closing(sqlite3.connect(outbox)) as database:
        states = dict(database.execute("SELECT alert_id, state FROM alerts").fetchall())
    there = Counter(str(row["alert_id"]) for row in rows)
    result.in_outbox, result.arrived = len(states), len(there)
    result.lost = sorted(states.keys() - there.keys())
    result.unknown = sorted(there.keys() - states.keys())
    result.doubled = [alert_id for alert_id, count in there.items() if count > 1]
    result.refused = list(states.values()).count("refused")
    result.waiting = list(states.values()).count("waiting")
    result.damaged = len(list(outbox.parent.glob("*.damaged-*")))
    moments: dict[str, list[datetime]] = {}
    for row in rows:
        moments.setdefault(row["camera_id"], []).append(datetime.fromisoformat(row["raised_utc"]))
    result.close_pairs = sum(
        (second - first).total_seconds() < 2
        for times in moments.values()
        for first, second in pairwise(sorted(times))
    )


# --- blinded -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One camera, what happens to it, and what telemetry must call that; seconds from the start."""

    name: str
    fault: CameraFault
    expected: str
    on_s: float = 45.0
    off_s: float = 150.0


CASES = (
    Case("lost", "refused", "lost"),
    Case("silent", "silent", "lost"),
    Case("frozen", "frozen", "frozen"),
    Case("black", "black", "black"),
    Case("starved", "starved", "starved"),
    # Both are survived: the camera keeps being watched.
    Case("wrong-clock", "clock", "ok"),
    Case("loss-10", "loss", "ok"),
    # A view is learned for ten minutes before a move can be told.
    Case("moved", "moved", "moved", 700.0, 820.0),
)
_AFTER_S = 110.0
_NONE: CameraFault = "none"


def main_conditions(folder: Path, model: Path, footage: Path, *, moved: bool = True) -> bool:
    """Run, print a row for each case, and say whether all were named and all came back."""
    cases = [case for case in CASES if moved or case.fault != "moved"]
    rows = blinded(folder, model, films(footage, 1)[0], cases)
    print(
        "\n| camera | fault | telemetry says | noticed after, s | since, s from the fault | "
        "ok again after, s | frames decoded during it | also said during it |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    good = 0
    for row in rows:
        good += row["named"] and row["recovered_s"] is not None
        said = row["expected"] if row["named"] else "NOT NAMED"
        print(
            f"| {row['name']} | {row['fault']} | {said} "
            f"| {_number(row['noticed_s'])} | {_number(row['since_s'])} "
            f"| {_number(row['recovered_s'])} | {row['decoded']} | {row['others'] or '-'} |"
        )
    print(
        f"edge_faults conditions: {good} of {len(rows)} named and over by themselves (goal: all)",
        flush=True,
    )
    return good == len(rows)


def blinded(
    folder: Path, model: Path, film: Path, cases: Sequence[Case], telemetry_s: float = 5.0
) -> list[dict[str, Any]]:
    """Watch one camera for each case; what the gateway was told."""
    fps = 12.0
    room = load_film(film, fps=fps)
    with ExitStack() as stack:
        gateway = Gateway(folder / "gateway")
        stack.callback(gateway.end)
        gateway.start()
        gateway.wait()
        rooms = {case.name: quiet(room, seed=number) for number, case in enumerate(cases)}
        server = stack.enter_context(CameraServer(rooms, seed=1))
        streams = {case.name: (server.rtsp_url(case.name), fps) for case in cases}
        url = f"http://127.0.0.1:{gateway.port}"
        edge = Edge(folder / "edge", gateway, url, streams, model, telemetry_s)
        stack.callback(edge.end)
        edge.start()
        began = time.monotonic()
        moments: dict[str, list[datetime]] = {case.name: [] for case in cases}
        orders = sorted(
            [(case.on_s, case, case.fault) for case in cases]
            + [(case.off_s, case, _NONE) for case in cases],
            key=lambda order: order[0],
        )
        for at_s, case, fault in orders:
            time.sleep(max(0.0, began + at_s - time.monotonic()))
            if not edge.runs:
                raise SystemExit(f"fall-edge ended by itself:\n{edge.tail()}")
            server.set_fault(case.name, fault)
            moments[case.name].append(datetime.now(UTC))
        time.sleep(_AFTER_S)
        health = json.loads(edge.health.read_text())["streams"]
        edge.end()
        reports = gateway.rows("reports")
    for name, told in health.items():
        print(f"{name}: {told}", file=sys.stderr)
    return [_judged(case, moments[case.name], reports) for case in cases]


def _judged(
    case: Case, switched: Sequence[datetime], reports: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    on, off = switched
    own = sorted(
        (
            (datetime.fromisoformat(row["at_utc"]), row)
            for row in reports
            if row["camera_id"] == case.name
        ),
        key=lambda pair: pair[0],
    )
    during = [(at, row) for at, row in own if on < at <= off]
    after = [(at, row) for at, row in own if at > off]
    named = [(at, row) for at, row in during if row["state"] == case.expected]
    noticed = named[0] if named else None
    again = next((at for at, row in after if row["state"] == "ok"), None)
    if case.expected == "ok":
        # Nothing to be noticed, but it must have been watched all the time.
        others = {row["state"] for _, row in during} - {"ok"}
    else:
        others = {row["state"] for _, row in during} - {case.expected, "ok"}
    decoded = [row["frames_decoded"] for _, row in during]
    return {
        "name": case.name,
        "fault": case.fault,
        "expected": case.expected,
        "named": noticed is not None,
        "noticed_s": (noticed[0] - on).total_seconds() if noticed else None,
        "since_s": (
            (datetime.fromisoformat(noticed[1]["since_utc"]) - on).total_seconds()
            if noticed
            else None
        ),
        "recovered_s": (again - off).total_seconds() if again else None,
        "decoded": sum(decoded),
        "others": ", ".join(sorted(others)),
    }


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f}"
