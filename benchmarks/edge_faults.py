"""Whether alerts are lost or doubled when everything breaks: edge, gateway, network, cameras, disk.

    python -m benchmarks.edge_faults [--kills 200] [--runner-kills 40] [--seed 1]
        [--model DIR] [--only storm|runner|conditions]

**storm**: processes that put alerts at a high rate through the edge's own outbox and sender, and a
real gateway, are killed with SIGKILL at random moments and started again, while the network between
them refuses, breaks in the middle, answers 500 to what was stored, is slow or silent, and one of
the disks is full from time to time. Each alert's id is written and synced to a ledger of its own
before `put` (raised) and after it (kept). At the end all is left in peace until the outboxes are
empty. Lost: kept, and not at the gateway. Doubled: there more than once. Invented: there, and never
raised, or with another content than was raised.

**runner**: the same with `fall-edge run` on simulated cameras that show falls again and again.
There, what its outbox holds at the end is compared with the gateway.

**conditions**: one camera for each thing that goes wrong with cameras; when the gateway's telemetry
names the state, and when it says that all is well again.

The last two run `fall-edge run` with a model of chance, which raises alarms often, unless `--model`
names a folder. They need the footage.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np

from benchmarks.edge_processes import REPOSITORY, Gateway, Process, waiting_in
from fall_assets.delivery.stills import jpeg
from fall_assets.edge.client import GatewayClient
from fall_assets.edge.outbox import Outbox
from fall_assets.edge.sender import Sender
from fall_assets.simulation.network import NETWORK_FAULTS, NetworkFault, Relay

MODEL_VERSION = "faults-1"


class Ledger:
    """Ids in a file of its own, each on the disk when `add` returns."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, text: str) -> None:
        """Write one line."""
        os.write(self._handle, f"{text}\n".encode())
        os.fsync(self._handle)

    @staticmethod
    def read(path: Path) -> list[str]:
        """All whole lines."""
        text = path.read_text() if path.exists() else ""
        return text[: text.rfind("\n") + 1].split()


@dataclass(frozen=True)
class Driver:
    """What an alarm's way out is tried with: the runner's outbox and sender, at a high rate."""

    box: str
    state: Path
    ledgers: Path
    url: str
    token_file: Path
    per_s: float
    stop_file: Path

    def run(self) -> None:
        """Put alerts until it is killed, or until the stop file is there; then only send."""
        token = self.token_file.read_text().strip()
        outbox = Outbox(self.state / "outbox.sqlite")
        client = GatewayClient(self.url, lambda: token, timeout_s=1.5)
        sender = Sender(outbox, self.url, lambda: token, client=client)
        sender.start()
        raised = Ledger(self.ledgers / "raised")
        kept = Ledger(self.ledgers / "kept")
        said_full = Ledger(self.ledgers / "full")
        still = base64.b64encode(picture()).decode()
        began = f"{time.time_ns():x}"
        number = 0
        in_memory: list[str] = []
        while True:
            if not self.stop_file.exists():
                # In bursts: a kill then often falls into a put.
                for _ in range(5):
                    alert_id = f"{self.box}.{began}.{number}"
                    number += 1
                    raised.add(alert_id)
                    outbox.put(alert_id, self._payload(alert_id, still), at=datetime.now(UTC))
                    if outbox.on_disk(alert_id):
                        kept.add(alert_id)
                    else:
                        said_full.add(f"{alert_id}:{outbox.state.replace(' ', '_')}")
                        in_memory.append(alert_id)
                    sender.nudge()
            written = [alert_id for alert_id in in_memory if outbox.on_disk(alert_id)]
            for alert_id in written:
                kept.add(alert_id)
                in_memory.remove(alert_id)
            time.sleep(5 / self.per_s)

    def _payload(self, alert_id: str, still: str) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return {
            "alert_id": alert_id,
            "camera_id": f"{self.box}-cam",
            "start_utc": now,
            "raised_utc": now,
            "score": score_of(alert_id),
            "kind": "fall",
            "model_version": MODEL_VERSION,
            "shadow": False,
            "still": still,
        }


def score_of(alert_id: str) -> float:
    """A number that belongs to the id, so that mixed up contents show."""
    return random.Random(alert_id).random()


def picture() -> bytes:
    """A JPEG of about the size of a still."""
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    return jpeg(noise.repeat(4, 0).repeat(4, 1))


@dataclass
class StormResult:
    """What came of a storm."""

    kills: Counter[str] = field(default_factory=Counter)
    raised: int = 0
    kept: int = 0
    arrived: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    dead_letters: int = 0
    inside_put: int = 0
    while_full: int = 0
    lost_in_memory: int = 0
    damaged: int = 0
    still_waiting: int = 0
    network: Counter[str] = field(default_factory=Counter)
    posted: int = 0
    seconds: float = 0.0
    disk: str = "not filled"

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, doubled or invented, and all is delivered."""
        bad = self.lost or self.doubled or self.invented
        return not (bad or self.dead_letters or self.still_waiting or self.damaged)


def storm(
    folder: Path,
    kills: int,
    seed: int,
    *,
    per_s: float = 25.0,
    pause_s: tuple[float, float] = (0.25, 1.5),
    boxes: int = 2,
    quiet_s: float = 300.0,
    say: bool = True,
) -> StormResult:
    """Break everything `kills` times, then let it be quiet and count."""
    choose = random.Random(seed)
    result = StormResult()
    began = time.monotonic()
    with ExitStack() as stack:
        gateway = Gateway(folder / "gateway")
        stack.callback(gateway.end)
        gateway.start()
        gateway.wait()
        relay = stack.enter_context(Relay(gateway.port, seed=seed))
        url = f"http://127.0.0.1:{relay.port}"
        stop = folder / "stop"
        drivers: list[Process] = []
        states: list[Path] = []
        ledgers: list[Path] = []
        small: SmallDisk | None = None
        for number in range(boxes):
            box = f"box-{number + 1}"
            own = folder / box
            state = own / "state"
            state.mkdir(parents=True)
            if number == 1 and (small := SmallDisk.mounted(state, stack)) is not None:
                result.disk = "filled again and again (tmpfs of 24 MB, box 2)"
            token_file = own / "token"
            token_file.write_text(gateway.token("--role", "box", "--box", box))
            settings = [state, own, url, token_file, per_s, stop]
            command = [sys.executable, "-m", "benchmarks.edge_faults", "--drive", box, *settings]
            driver = Process(box, [str(word) for word in command], own / "log")
            stack.callback(driver.end)
            driver.start()
            drivers.append(driver)
            states.append(state)
            ledgers.append(own)
        for done in range(kills):
            time.sleep(choose.uniform(*pause_s))
            relay.fault = _next_fault(choose)
            if small is not None and choose.random() < 0.3:
                small.fill() if choose.random() < 0.5 else small.free()
            draw = choose.random()
            victims = [gateway] if draw < 0.3 else [choose.choice(drivers)]
            if draw > 0.95:
                victims = [gateway, *drivers]
            for victim in victims:
                victim.kill()
                result.kills[victim.name] += 1
            # The power may stay away for a while.
            if choose.random() < 0.2:
                time.sleep(choose.uniform(0, 1))
            for victim in victims:
                victim.start()
            if say and (done + 1) % 20 == 0:
                print(f"{done + 1} of {kills}", file=sys.stderr, flush=True)
            if sum(result.kills.values()) >= kills:
                break
        if small is not None:
            small.free()
        relay.fault = "none"
        stop.touch()
        gateway.wait()
        _until_empty([state / "outbox.sqlite" for state in states], ledgers, quiet_s)
        rows = gateway.rows("alerts")
        result.network.update({name: count for name, count in relay.counts.items() if count})
        for driver in drivers:
            driver.end()
        _count(result, rows, states, ledgers)
    result.seconds = time.monotonic() - began
    return result


def _next_fault(choose: random.Random) -> NetworkFault:
    return "none" if choose.random() < 0.4 else choose.choice(NETWORK_FAULTS)


def _count(
    result: StormResult,
    rows: Sequence[dict[str, Any]],
    states: Sequence[Path],
    ledgers: Sequence[Path],
) -> None:
    there = Counter(str(row["alert_id"]) for row in rows)
    scores = {row["alert_id"]: row["score"] for row in rows}
    result.arrived = len(there)
    result.doubled = [alert_id for alert_id, count in there.items() if count > 1]
    everything: set[str] = set()
    for state, ledger in zip(states, ledgers, strict=True):
        raised, kept = (Ledger.read(ledger / name) for name in ("raised", "kept"))
        full = {line.partition(":")[0] for line in Ledger.read(ledger / "full")}
        everything |= set(raised)
        result.raised += len(set(raised))
        result.kept += len(set(kept))
        result.lost += sorted(set(kept) - set(there))
        unsaid = set(raised) - set(kept)
        result.inside_put += len(unsaid - full)
        result.while_full += len(full)
        result.lost_in_memory += len(full & unsaid - set(there))
        with Outbox(state / "outbox.sqlite") as outbox:
            result.dead_letters += outbox.refused_count()
            result.still_waiting += outbox.waiting()
        result.damaged += len(list(state.glob("*.damaged-*")))
    result.invented = sorted(
        alert_id
        for alert_id in there
        if alert_id not in everything or abs(scores[alert_id] - score_of(alert_id)) > 1e-9
    )


def _until_empty(paths: Sequence[Path], ledgers: Sequence[Path], limit_s: float) -> None:
    """Wait until nothing waits in any outbox and no ledger grows, or the time is up."""
    end = time.monotonic() + limit_s
    before: list[int] = []
    while time.monotonic() < end:
        sizes = [
            (ledger / "kept").stat().st_size for ledger in ledgers if (ledger / "kept").exists()
        ]
        if sizes == before and not any(waiting_in(path) for path in paths):
            return
        before = sizes
        time.sleep(1.0)


@dataclass(frozen=True)
class SmallDisk:
    """A file system of 24 MB that can be filled."""

    folder: Path

    @classmethod
    def mounted(cls, folder: Path, stack: ExitStack) -> Self | None:
        """Mount it; None where that is not allowed."""
        command = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=20)
        except (OSError, subprocess.SubprocessError):
            return None
        stack.callback(
            subprocess.run, ["umount", "-l", str(folder)], capture_output=True, timeout=20
        )
        return cls(folder)

    def fill(self) -> None:
        """Leave no room."""
        with suppress(OSError), (self.folder / "ballast").open("ab") as file:
            while True:
                file.write(bytes(4096))
                file.flush()

    def free(self) -> None:
        """Give the room back."""
        (self.folder / "ballast").unlink(missing_ok=True)


def print_storm(result: StormResult) -> None:
    """The table."""
    kills = ", ".join(f"{name} {count}" for name, count in sorted(result.kills.items()))
    network = ", ".join(f"{name} {count}" for name, count in result.network.items())
    print("\n| storm | |\n|---|---|")
    for name, value in (
        ("killed by SIGKILL and started again", f"{sum(result.kills.values())} ({kills})"),
        ("seconds", f"{result.seconds:.0f}"),
        ("alerts raised", result.raised),
        ("of them durable when `put` returned, or later", result.kept),
        ("raised, but killed before that was noted", result.inside_put),
        ("taken into memory while the disk was full", result.while_full),
        ("of them killed before there was room (declared)", result.lost_in_memory),
        ("disk", result.disk),
        ("connections by what the network did", network),
        ("arrived at the gateway, by id", result.arrived),
        ("**lost**", len(result.lost)),
        ("**doubled**", len(result.doubled)),
        ("**invented or changed**", len(result.invented)),
        ("dead letters", result.dead_letters),
        ("left in outboxes", result.still_waiting),
        ("outboxes found damaged", result.damaged),
    ):
        print(f"| {name} | {value} |")
    print(flush=True)


def main() -> int:
    """Break things, count, print; the status is 0 where nothing was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drive", nargs=7, help=argparse.SUPPRESS)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--runner-kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=Path, help="folder with model.json; for the runner")
    parser.add_argument("--footage", type=Path, default=REPOSITORY.parent / "shared" / "footage")
    parser.add_argument("--only", choices=("storm", "runner", "conditions"))
    parser.add_argument("--quick", action="store_true", help="leave out the camera that is moved")
    asked = parser.parse_args()
    if asked.drive:
        box, state, ledgers, url, token_file, per_s, stop = asked.drive
        Driver(
            box, Path(state), Path(ledgers), url, Path(token_file), float(per_s), Path(stop)
        ).run()
    # So that a benchmark that is ended ends what it started, and gives its disk back.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    holds = True
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        if asked.only in (None, "storm"):
            result = storm(folder / "storm", asked.kills, asked.seed)
            print_storm(result)
            holds = holds and result.holds
            print(
                f"edge_faults: {len(result.lost)} lost, {len(result.doubled)} doubled of "
                f"{result.kept} alerts over {sum(result.kills.values())} kills (goal: none)",
                flush=True,
            )
        if asked.only != "storm":
            from benchmarks import edge_faults_runner as runner

            model = asked.model or runner.chance_model(folder / "model")
            if asked.only in (None, "runner"):
                holds = (
                    runner.main_runner(
                        folder / "runner", model, asked.footage, asked.runner_kills, asked.seed
                    )
                    and holds
                )
            if asked.only in (None, "conditions"):
                holds = (
                    runner.main_conditions(
                        folder / "cameras", model, asked.footage, moved=not asked.quick
                    )
                    and holds
                )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
