"""`fall-edge agent`: runs what is assigned to this box, updates it, goes back if it does not work.

What belongs here: when what is fetched, switched to, judged healthy, given up. What does not:
whether a package is genuine (`package`), what the assignment means (`assignment`), what is kept on
disk (`package_root`), one runner's life (`runner_child`).

Two threads. The updater polls the assignment, fetches, verifies and self-tests packages; this may
take minutes and disturbs nobody. The supervisor, in the main thread, looks after the runners and
switches between setups. What shall run stands in the state file before anything is started or
stopped: whoever is killed at any moment finds the old setup or the new one there, both whole.

A new setup is on probation until all its runners have been healthy for a while. One that ends three
times, or is not healthy in time, is given up for the last good one and not tried again under the
same assignment.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fall_assets.edge.assignment import (
    Assignment,
    AssignmentError,
    Part,
    read_assignment,
)
from fall_assets.edge.client import GatewayAwayError, GatewayClient, GatewayRefusedError
from fall_assets.edge.config import EdgeSettings, load_settings, read_token
from fall_assets.edge.download import WrongArchiveError, fetch
from fall_assets.edge.outbox import Outbox
from fall_assets.edge.package import EXECUTABLE, MODEL_FOLDER, Manifest, unpack, verify_directory
from fall_assets.edge.package_root import PackageRoot, Running, Setup, State
from fall_assets.edge.runner_child import RunnerChild, clean_environment, end_leftovers
from fall_assets.edge.sender import Sender
from fall_assets.edge.signing import load_public_keys
from fall_assets.errors import FallAssetsError, PassingFailureError, PermanentFailureError

MAX_ENDS: Final = 3
"""So often may a runner end in its probation."""
BY_HAND: Final = -1
_TICK_S: Final = 0.2
_AFTER_TROUBLE_S: Final = 5.0
_WRONG_ARCHIVES: Final = 3


@dataclass(frozen=True)
class AgentSettings:
    """How the agent works; times in seconds.

    Attributes:
        config: `edge.toml`.
        root: folder of installed packages.
        trust: files with public keys.
        poll_s: between two looks at the assignment, give or take a fifth.
        probation_s: so long without a break must a new setup be healthy to count as good.
        patience_s: so long it may take until then, `probation_s` included.
        self_test_s: so long may a package's self-test take.
    """

    config: Path
    root: Path
    trust: tuple[Path, ...]
    poll_s: float = 60.0
    probation_s: float = 60.0
    patience_s: float = 600.0
    self_test_s: float = 300.0


def run_agent(settings: AgentSettings, stop: threading.Event | None = None) -> None:
    """Run until SIGTERM or SIGINT, or until `stop` is set; then all runners are stopped.

    Raises:
        PermanentFailureError: the configuration, a key or the folder cannot be used.
        RootInUseError: another agent works in the folder.
    """
    stop = stop or threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    _Agent(settings, stop).run()


def install_by_hand(
    archive: Path,
    root_folder: Path,
    trusted: Sequence[Ed25519PublicKey],
    *,
    allow_older: bool = False,
    self_test_s: float = 300.0,
) -> Manifest:
    """Install an archive for all cameras, as an assignment would, without a gateway.

    Raises:
        SignatureError, PackageError: it is not a package to trust, or it is older.
        RootInUseError: an agent is running there.
    """
    root = PackageRoot(root_folder)
    with root.lock():
        state = root.load()
        # Its name is in it: unpacked to a name of its own first.
        staging = root.packages / ".unpacking-by-hand"
        shutil.rmtree(staging, ignore_errors=True)
        manifest = unpack(archive, staging, trusted)
        running = Running(manifest.sha256, manifest.model_version, manifest.sequence, (), False)
        try:
            _refuse_older(running, state.current, allow_older=allow_older)
            target = root.package(manifest.sha256)
            if not target.exists():
                staging.rename(target)
            else:
                verify_directory(target, trusted)
            _self_test(target, self_test_s)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        bad = {name: at for name, at in state.bad.items() if name != manifest.sha256}
        root.save(replace(state.switched(Setup(BY_HAND, (running,))), bad=bad))
        root.point_to(manifest.sha256)
    return manifest


class _Agent:
    def __init__(self, settings: AgentSettings, stop: threading.Event) -> None:
        self._settings = settings
        self._edge: EdgeSettings = load_settings(settings.config)
        self._trusted = load_public_keys(settings.trust)
        self._root = PackageRoot(settings.root)
        self._client = GatewayClient(self._edge.gateway, self._token)
        self._stop = stop
        # Guards `_state` and `_prepared`, which both threads write.
        self._lock = threading.RLock()
        self._state = State()
        self._prepared: Setup | None = None
        self._children: dict[tuple[str, Running], RunnerChild] = {}
        self._began = time.monotonic()
        # The updater's own.
        self._etag: str | None = None
        self._assignment: Assignment | None = None
        self._wrong_archives: dict[str, int] = {}
        self._tested: set[str] = set()

    def run(self) -> None:
        with self._root.lock():
            end_leftovers(self._root.states)
            self._recover()
            updater = threading.Thread(target=self._update, name="updater", daemon=True)
            updater.start()
            try:
                self._begin()
                while not self._stop.is_set():
                    pause_s = _TICK_S
                    try:
                        self._tick()
                    except (FallAssetsError, OSError) as error:
                        # What runs goes on; a disk may get room again.
                        self._say(f"later again: {error}")
                        pause_s = _AFTER_TROUBLE_S
                    self._stop.wait(pause_s)
            finally:
                self._stop.set()
                self._client.abort()
                self._stop_children(list(self._children))
                updater.join(5)

    # The supervisor.

    def _recover(self) -> None:
        """After a start: what shall run is whole, or the last good one takes its place."""
        with self._lock:
            self._state = self._root.load()
            current = self._state.current
            if current is not None and (wrong := self._broken(current)):
                self._say(f"what was installed is damaged: {wrong}")
                self._change(
                    self._state.gone_back().reporting(
                        min(current.packages), "rolled_back", f"damaged on disk: {wrong}"
                    )
                )
                current = self._state.current
                if current is not None and (wrong := self._broken(current)):
                    self._say(f"and so is the last good one: {wrong}")
                    self._change(replace(self._state, current=None))
            if self._state.on_probation:
                self._change(replace(self._state, starts=self._state.starts + 1))
            self._clear()

    def _broken(self, setup: Setup) -> str | None:
        for name in sorted(setup.packages):
            try:
                found = verify_directory(self._root.package(name), self._trusted).sha256
            except PermanentFailureError as error:
                return str(error)
            if found != name:
                return f"{name[:16]} holds package {found[:16]}"
        return None

    def _begin(self) -> None:
        """Start the runners of the current setup, stop all others."""
        setup = self._state.current
        wanted = dict(self._slots(setup)) if setup is not None else {}
        self._stop_children([key for key in self._children if key not in wanted.items()])
        for slot, part in wanted.items():
            if (slot, part) not in self._children:
                self._children[slot, part] = self._child(slot, part)
        for child in self._children.values():
            child.ends = 0
            child.healthy_since = None
        self._began = time.monotonic()
        self._point()

    @staticmethod
    def _slots(setup: Setup) -> Iterator[tuple[str, Running]]:
        """The folders in which the runners keep their state: they outlive packages."""
        counts = {"live": 0, "shadow": 0}
        for part in setup.parts:
            kind = "shadow" if part.shadow else "live"
            yield f"{kind}-{counts[kind]}", part
            counts[kind] += 1

    def _child(self, slot: str, part: Running) -> RunnerChild:
        package = self._root.package(part.manifest_sha256)
        state = self._root.states / slot
        command = [
            str(package / EXECUTABLE), "run", "--config", str(self._settings.config.absolute()),
            "--model", str(package / MODEL_FOLDER), "--state", str(state),
        ]  # fmt: skip
        if part.cameras:
            command += ["--cameras", ",".join(part.cameras)]
        if part.shadow:
            command.append("--shadow")
        return RunnerChild(command, state, part.model_version, self._say)

    def _stop_children(self, keys: Sequence[tuple[str, Running]]) -> None:
        children = [self._children.pop(key) for key in keys]
        for child in children:
            child.ask_to_stop()
        for child in children:
            child.stop()

    def _tick(self) -> None:
        with self._lock:
            if self._prepared is not None:
                prepared, self._prepared = self._prepared, None
                self._switch(prepared)
            for child in self._children.values():
                child.tick()
            if self._state.on_probation:
                self._judge()

    def _switch(self, setup: Setup) -> None:
        unwatched = self._unwatched(setup)
        detail = f"cameras without a package: {', '.join(unwatched)}" if unwatched else ""
        state = self._state.switched(setup)
        for name in sorted(setup.packages) or [""]:
            state = state.reporting(name, "installed", detail)
        self._change(state, must=True)
        self._say(f"switched to {_named(setup)}")
        self._begin()

    def _unwatched(self, setup: Setup) -> list[str]:
        live = [part for part in setup.parts if not part.shadow]
        if any(not part.cameras for part in live):
            return []
        watched = {camera for part in live for camera in part.cameras}
        return [camera.id for camera in self._edge.cameras if camera.id not in watched]

    def _judge(self) -> None:
        """Whether the setup on probation is good by now, or shall be given up."""
        current = self._state.current
        if current is None:
            self._change(replace(self._state, on_probation=False))
            return
        now = time.monotonic()
        since = [child.healthy_since for child in self._children.values()]
        if all(one is not None and now - one >= self._settings.probation_s for one in since):
            state = replace(self._state, on_probation=False, starts=0)
            for name in sorted(current.packages):
                state = state.reporting(name, "healthy")
            self._change(state)
            self._say(f"{_named(current)} is healthy")
            return
        failed = [
            (key[1], child)
            for key, child in self._children.items()
            if child.ends >= MAX_ENDS or (child.healthy_since is None)
        ]
        too_often = [(part, child) for part, child in failed if child.ends >= MAX_ENDS]
        if too_often:
            self._give_up(too_often[0][0], f"ended {MAX_ENDS} times: {too_often[0][1].detail}")
        elif self._state.starts > MAX_ENDS:
            part = failed[0][0] if failed else current.parts[0]
            self._give_up(part, f"the agent began anew {MAX_ENDS} times before it was healthy")
        elif now - self._began > max(self._settings.patience_s, self._settings.probation_s):
            part, child = (
                failed[0]
                if failed
                else next((key[1], child) for key, child in self._children.items())
            )
            self._give_up(
                part, f"not healthy after {self._settings.patience_s:.0f} s: {child.detail}"
            )

    def _give_up(self, part: Running, why: str) -> None:
        state, bad = self._state, part.manifest_sha256
        serial = state.current.serial if state.current is not None else BY_HAND
        if state.previous is None:
            # Nothing to go back to: better a bad one than none. It goes on being tried.
            self._say(f"{why}; there is no older package to go back to")
            if state.bad.get(bad) != serial:
                state = replace(state, bad={**state.bad, bad: serial}).reporting(
                    bad, "refused", f"{why}; nothing to go back to, so it goes on being tried"
                )
            self._change(replace(state, starts=0))
            for child in self._children.values():
                child.ends = 0
            self._began = time.monotonic()
            return
        self._say(f"{why}; going back to {_named(state.previous)}")
        state = replace(state, bad={**state.bad, bad: serial})
        self._change(state.gone_back().reporting(bad, "rolled_back", why))
        self._begin()

    def _point(self) -> None:
        """Let `current` name what serves."""
        setup = self._state.current
        live = [part for part in setup.parts if not part.shadow] if setup is not None else []
        self._root.point_to(live[0].manifest_sha256 if live else None)

    def _change(self, state: State, *, must: bool = False) -> None:
        """Remember. On a full disk it is kept in memory, unless it `must` be durable."""
        with self._lock:
            try:
                self._root.save(state)
            except PassingFailureError as error:
                if must:
                    raise
                self._say(f"not remembered beyond a restart: {error}")
            self._state = state

    # The updater.

    def _clear(self) -> None:
        """Remove packages that nobody will go back to, and what was left half done.

        Not while something is unpacked: before the updater runs, or by itself.
        """
        with self._lock:
            state, assigned = self._state, self._assignment
            setups = [state.current, state.previous, self._prepared]
            keep = {name for setup in setups if setup is not None for name in setup.packages}
            if assigned is None:
                downloads = {file.name for file in self._root.downloads.iterdir()}
            else:
                wanted = [
                    part
                    for part in assigned.parts
                    if state.bad.get(part.manifest_sha256) != assigned.serial
                ]
                keep |= {part.manifest_sha256 for part in wanted}
                downloads = {part.archive_sha256 for part in wanted}
            self._root.clear(keep, downloads)

    def _update(self) -> None:
        while not self._stop.is_set():
            try:
                self._clear()
                self._poll()
                self._send_reports()
                self._drain()
            except (GatewayAwayError, PassingFailureError) as error:
                self._say(f"later again: {error}")
            except PermanentFailureError as error:
                self._say(str(error))
            except Exception as error:  # the updater must outlive what nobody thought of
                self._say(f"unexpected: {error!r}")
            spread = random.uniform(0.8, 1.2)  # noqa: S311
            self._stop.wait(self._settings.poll_s * spread)

    def _poll(self) -> None:
        answer = self._client.get_assignment(self._etag)
        if answer.state == "new":
            try:
                self._accept(
                    read_assignment(
                        answer.assignment, answer.signature, self._trusted, self._edge.box
                    )
                )
            except PermanentFailureError as error:
                self._report("", "refused", f"assignment: {error}")
            # A refused one is not looked at again until there is another.
            self._etag = answer.etag
        if self._assignment is not None:
            self._follow(self._assignment)

    def _accept(self, assignment: Assignment) -> None:
        with self._lock:
            state = self._state
            if assignment.serial < state.serial:
                raise AssignmentError(
                    f"serial {assignment.serial} is older than {state.serial}, which was here "
                    "already: replayed"
                )
            if assignment.serial == state.serial and assignment.digest != state.digest:
                raise AssignmentError(f"a second assignment of serial {assignment.serial}")
            if assignment.serial > state.serial:
                self._change(replace(state, serial=assignment.serial, digest=assignment.digest))
            self._assignment = assignment

    def _follow(self, assignment: Assignment) -> None:
        """Prepare what is assigned, unless it runs already or failed before."""
        with self._lock:
            state, waiting = self._state, self._prepared is not None
        if waiting or (state.current is not None and state.current.serial == assignment.serial):
            return
        if any(state.bad.get(p.manifest_sha256) == assignment.serial for p in assignment.parts):
            return
        parts = []
        try:
            served = assignment.served([camera.id for camera in self._edge.cameras])
        except AssignmentError as error:
            self._refuse("", assignment, str(error))
            return
        for part, cameras in served:
            running = Running(
                part.manifest_sha256, part.model_version, part.sequence, cameras, part.shadow
            )
            try:
                _refuse_older(running, state.current, allow_older=assignment.allow_older)
                self._prepare(part)
            except PermanentFailureError as error:
                self._refuse(part.manifest_sha256, assignment, str(error))
                return
            parts.append(running)
        with self._lock:
            # Something newer may have been accepted only by this thread, so this is the newest.
            self._prepared = Setup(assignment.serial, tuple(parts))

    def _prepare(self, part: Part) -> None:
        """The package is there, verified, and its self-test passed."""
        target = self._root.package(part.manifest_sha256)
        manifest: Manifest | None = None
        if target.exists():
            try:
                manifest = verify_directory(target, self._trusted)
            except PermanentFailureError as error:
                self._say(f"{target.name[:16]} is damaged and fetched again: {error}")
        if manifest is None or manifest.sha256 != part.manifest_sha256:
            archive = self._root.downloads / part.archive_sha256
            self._fetch(part, archive)
            manifest = unpack(archive, target, self._trusted, manifest_sha256=part.manifest_sha256)
            archive.unlink(missing_ok=True)
        if (manifest.sequence, manifest.model_version) != (part.sequence, part.model_version):
            raise AssignmentError(
                f"the package is number {manifest.sequence} of model {manifest.model_version}, the "
                f"assignment says {part.sequence} of {part.model_version}"
            )
        if manifest.sha256 not in self._tested:
            _self_test(target, self._settings.self_test_s, self._stop)
            self._tested.add(manifest.sha256)

    def _fetch(self, part: Part, archive: Path) -> None:
        """The archive is there and is the assigned one."""
        try:
            fetch(self._client, part.archive_sha256, part.archive_size, archive, self._stop)
        except GatewayRefusedError as error:
            raise PassingFailureError(f"package {part.archive_sha256[:16]}: {error}") from error
        except WrongArchiveError as error:
            # What was signed is right, so what came is wrong; it may come right later.
            wrong = self._wrong_archives.get(part.archive_sha256, 0) + 1
            self._wrong_archives[part.archive_sha256] = wrong
            if wrong >= _WRONG_ARCHIVES:
                raise
            self._report(part.manifest_sha256, "refused", str(error))
            raise PassingFailureError(str(error)) from error

    def _refuse(self, package: str, assignment: Assignment, why: str) -> None:
        self._say(f"refused {package[:16] or 'the assignment'}: {why}")
        with self._lock:
            name = package or (assignment.parts[0].manifest_sha256 if assignment.parts else "")
            bad = {**self._state.bad, name: assignment.serial}
            self._change(replace(self._state, bad=bad).reporting(package, "refused", why))

    def _report(self, package: str, state: str, detail: str) -> None:
        self._say(f"{state}: {detail}")
        with self._lock:
            self._change(self._state.reporting(package, state, detail))

    def _send_reports(self) -> None:
        while self._state.reports and not self._stop.is_set():
            report = self._state.reports[0]
            try:
                self._client.post_update(report.package, report.state, report.detail)
            except GatewayRefusedError as error:
                self._say(f"the gateway does not take a report: {error}")
            with self._lock:
                rest = tuple(one for one in self._state.reports if one is not report)
                self._change(replace(self._state, reports=rest))

    def _drain(self) -> None:
        """Deliver alerts that a runner left in a folder which no runner uses any more."""
        with self._lock:
            used = {slot for slot, _ in self._children}
        for folder in sorted(self._root.states.iterdir()):
            path = folder / "outbox.sqlite"
            if folder.name in used or not path.is_file():
                continue
            with Outbox(path) as outbox:
                if not outbox.waiting():
                    continue
                self._say(f"delivering {outbox.waiting()} alerts that {folder.name} left")
                sender = Sender(outbox, self._edge.gateway, self._token)
                sender.start()
                try:
                    end = time.monotonic() + self._settings.poll_s
                    while outbox.waiting() and time.monotonic() < end and not self._stop.is_set():
                        self._stop.wait(_TICK_S)
                finally:
                    sender.stop()

    def _token(self) -> str:
        return read_token(self._edge.token_file)

    @staticmethod
    def _say(text: str) -> None:
        sys.stderr.write(json.dumps({"agent": text}) + "\n")
        sys.stderr.flush()


def _refuse_older(part: Running, current: Setup | None, *, allow_older: bool) -> None:
    """Raise AssignmentError for a package that is older than what serves and not part of it."""
    if current is None or allow_older or part.manifest_sha256 in current.packages:
        return
    if part.sequence < current.sequence:
        raise AssignmentError(
            f"package number {part.sequence} is older than {current.sequence}, which is installed, "
            "and nothing signed says that older ones are allowed"
        )


def _self_test(package: Path, limit_s: float, stop: threading.Event | None = None) -> None:
    """Let a package test itself, at low priority: the runners need the processor.

    Raises:
        PermanentFailureError: it fails or takes too long.
        PassingFailureError: it was broken off because the agent stops.
    """
    process = subprocess.Popen(  # noqa: S603 (a verified package's program)
        [str(package / EXECUTABLE), "self-test", "--package", str(package)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=clean_environment(),
    )
    with _ended(process):
        with suppress(psutil.Error):
            psutil.Process(process.pid).nice(10)
        end = time.monotonic() + limit_s
        while True:
            try:
                _, said = process.communicate(timeout=_TICK_S)
                break
            except subprocess.TimeoutExpired:
                if stop is not None and stop.is_set():
                    raise PassingFailureError("stopped in a self-test") from None
                if time.monotonic() > end:
                    raise PermanentFailureError(
                        f"the self-test took over {limit_s:.0f} s"
                    ) from None
    if process.returncode:
        text = said.decode("utf-8", "replace").strip()[-500:]
        raise PermanentFailureError(f"the self-test failed ({process.returncode}): {text}")


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def _named(setup: Setup) -> str:
    parts = ", ".join(
        f"model {part.model_version} (number {part.sequence}{', shadow' if part.shadow else ''})"
        for part in setup.parts
    )
    return parts or "nothing"
