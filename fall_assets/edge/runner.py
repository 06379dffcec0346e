"""The box at work: all cameras, the outbox, telemetry, and a file that says how it goes.

What belongs here: putting the parts together, starting and ending. What does not: any of the parts.

A box that is killed at any moment loses no alert that was raised: it is on the disk before anything
else is done with it. One that is asked to end (SIGTERM) does so within STOP_S.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from fall_assets.edge.condition import BoxClock, Moment
from fall_assets.edge.config import CameraSettings, EdgeConfigError, EdgeSettings
from fall_assets.edge.model import EdgeModel, PosePool
from fall_assets.edge.outbox import Outbox
from fall_assets.edge.raising import AlertDelays, Raiser, TimedClient
from fall_assets.edge.sender import Sender
from fall_assets.edge.sources import Source
from fall_assets.edge.stream import CameraStream, Counts, OnPicture, WatcherLike, now
from fall_assets.edge.telemetry import Box, ReportQueue, camera_report
from fall_assets.edge.watcher import Watcher
from fall_assets.errors import PassingFailureError

_log = logging.getLogger(__name__)

STOP_S: Final = 4.0
HEALTH_S: Final = 2.0
GIVE_UP_S: Final = 15.0
"""With `once`, how long is waited at the end for a gateway that takes no alerts."""
OUTBOX_FILE: Final = "outbox.sqlite"
HEALTH_FILE: Final = "health.json"
LOCK_FILE: Final = "lock"

_LOCK_S: Final = 10.0
_LEFT_FOR_SENDING_S: Final = 1.5
_STUMBLED_S: Final = 120.0
_TICK_S: Final = 0.25
# Each takes 40 MB; with more of them eight streams would not fit into 400 MB.
_POSE_NETWORKS: Final = 3


class StateInUseError(PassingFailureError):
    """Another runner works with the same state folder."""


@dataclass(frozen=True)
class RunSettings:
    """What the command line says.

    Attributes:
        cameras: watch only these; None: all.
        shadow: alerts are marked as not for the ward.
        once: end when all files have ended and the outbox is empty, or the gateway stays away.
    """

    cameras: Sequence[str] | None = None
    shadow: bool = False
    once: bool = False


class Runner:
    """One box. Build it, then `run` until `stop` is set.

    Raises EdgeConfigError where the settings do not fit together, EdgeModelError where the model
    folder cannot be used, StateInUseError where another runner has the same state folder.
    """

    def __init__(self, settings: EdgeSettings, model: Path, how: RunSettings) -> None:
        self._settings, self._how = settings, how
        self._cameras = _chosen(settings, how)
        settings.token()  # a missing token is told at the start, not with the first alert
        self._model = EdgeModel.load(model)
        networks = settings.runner.pose_threads or min(_POSE_NETWORKS, len(os.sched_getaffinity(0)))
        self._pool = PosePool(self._model, networks)
        self._delays = AlertDelays.new()
        self._client = TimedClient(settings.gateway, self._token, self._delays)
        self._reports = ReportQueue()
        self._clock = BoxClock(now())
        self._detail = "starting"

    def run(self, stop: threading.Event) -> int:
        """Work until `stop` is set; 0, or 1 where something was left undone."""
        settings = self._settings
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (
            _only_runner(settings.state / LOCK_FILE, stop),
            Outbox(settings.state / OUTBOX_FILE) as outbox,
        ):
            return self._run(outbox, stop)

    def summary(self, streams: Sequence[CameraStream]) -> dict[str, Any]:
        """How it goes, as `health.json` has it."""
        at = now()
        told: dict[str, Any] = {}
        for stream in streams:
            condition = stream.condition(at)
            counts = stream.figures()
            fps = stream.fps(at)
            told[stream.camera.id] = {
                "state": condition.state,
                "since_utc": condition.since_utc.isoformat(timespec="milliseconds"),
                "detail": stream.problem or condition.detail,
                "frames": counts.received,
                "decoded": counts.decoded,
                "scored": counts.scored,
                "shed": counts.shed,
                "damaged": counts.damaged,
                "connections": counts.connections,
                "clock_jumps": counts.clock_jumps,
                "worst_lag_s": round(counts.worst_lag_s, 3),
                "fps": None if fps is None else round(fps, 2),
            }
        return {
            "at_utc": at.utc.isoformat(timespec="milliseconds"),
            "pid": os.getpid(),
            "box": self._settings.box,
            "model_version": self._model.info.model_version,
            "ok": self._is_well(streams, at),
            "detail": self._detail,
            "streams": told,
            "delays": self._delays.summary(),
        }

    def _run(self, outbox: Outbox, stop: threading.Event) -> int:
        settings, how = self._settings, self._how
        info = self._model.info
        sender = Sender(outbox, settings.gateway, self._token, client=self._client)
        raiser = Raiser(
            outbox,
            self._client,
            sender.nudge,
            self._delays,
            model_version=info.model_version,
            merge_gap_s=info.events.merge_gap_s,
            window_s=info.windows.window_s,
            shadow=how.shadow,
        )
        streams = [
            CameraStream(
                camera,
                self._watch,
                raiser.alert,
                hwaccel=settings.runner.hwaccel,
                endless=not how.once,
            )
            for camera in self._cameras
        ]
        telemetry_stop = threading.Event()
        telemetry = threading.Thread(
            target=self._telemetry, args=(streams, outbox, telemetry_stop), name="telemetry",
            daemon=True,
        )  # fmt: skip
        _log.info(
            "box %s watches %d cameras with model %s%s",
            settings.box, len(streams), info.model_version, ", in shadow" if how.shadow else "",
        )  # fmt: skip
        for stream in streams:
            stream.start()
        sender.start()
        telemetry.start()
        try:
            self._watch_over(streams, outbox, sender, raiser, stop)
        finally:
            end = time.monotonic() + STOP_S
            telemetry_stop.set()
            for stream in streams:
                stream.stop()
            for stream in streams:
                # The rest is for the alerts that the last moments raised.
                stream.join(max(0.0, end - _LEFT_FOR_SENDING_S - time.monotonic()))
            sender.stop(max(0.2, end - time.monotonic()))
            left = outbox.waiting()
            self._detail = f"stopped; {left} alerts wait" if left else "stopped"
            self._write_health(streams)
        summary = self.summary(streams)
        if how.once:
            summary |= {
                "alerts": raiser.alerts,
                "repeated": raiser.repeated,
                "waiting": left,
                "refused": outbox.refused_count(),
                "figures": {one.camera.id: vars(one.figures()) for one in streams},
            }
            print(json.dumps(summary), flush=True)  # noqa: T201
        _log.info("%s", self._detail)
        failed = [one.camera.id for one in streams if one.problem]
        return 1 if how.once and (left or failed) else 0

    def _watch_over(
        self,
        streams: Sequence[CameraStream],
        outbox: Outbox,
        sender: Sender,
        raiser: Raiser,
        stop: threading.Event,
    ) -> None:
        """Look after everything until it ends."""
        states: dict[str, str] = {}
        health_s = ended_s = -1e9
        while not stop.wait(_TICK_S):
            at = now()
            for stream in streams:
                until = stream.event_until()
                if until is not None:
                    raiser.lasting(stream.camera.id, until)
                self._tell(stream, states, at)
            if at.mono_s - health_s >= HEALTH_S:
                health_s = at.mono_s
                jump = self._clock.check(at)
                if jump:
                    _log.warning("the box's clock was set by %+.1f s", jump)
                self._detail = self._in_words(outbox, sender)
                self._write_health(streams)
            if self._how.once and not any(stream.alive for stream in streams):
                if ended_s < 0:
                    ended_s = at.mono_s
                if not outbox.waiting() or at.mono_s - ended_s > GIVE_UP_S:
                    return

    def _tell(self, stream: CameraStream, states: dict[str, str], at: Moment) -> None:
        """Log a camera's state where it changed."""
        condition = stream.condition(at)
        before = states.get(stream.camera.id, "starting")
        states[stream.camera.id] = condition.state
        if condition.state == before:
            return
        level = logging.INFO if condition.state == "ok" else logging.WARNING
        detail = f" ({condition.detail})" if condition.detail else ""
        _log.log(
            level,
            "%s: %s since %s UTC, was %s%s",
            stream.camera.id,
            condition.state,
            f"{condition.since_utc:%Y-%m-%d %H:%M:%S}",
            before,
            detail,
        )

    def _watch(self, source: Source, on_picture: OnPicture) -> WatcherLike:
        """The watcher of one connection."""
        camera = source.camera
        return Watcher(
            self._model,
            self._pool,
            source.decoder,
            source.time_base,
            crop=camera.crop,
            beds=camera.beds,
            gate="live" if self._settings.runner.gate else "open",
            on_picture=on_picture,
            fps=source.rate or camera.fps or None,
        )

    def _telemetry(
        self, streams: Sequence[CameraStream], outbox: Outbox, stop: threading.Event
    ) -> None:
        """A thread: a report of each camera every minute."""
        before = {stream.camera.id: Counts() for stream in streams}
        box = Box()
        last_s = time.monotonic()
        while not stop.wait(self._settings.runner.telemetry_s):
            try:
                at = now()
                facts = box.facts()
                reports = []
                for stream in streams:
                    camera, after = stream.camera, stream.figures()
                    reports.append(
                        camera_report(
                            camera.id,
                            at_utc=at.utc,
                            seconds=at.mono_s - last_s,
                            box=facts,
                            before=before[camera.id],
                            after=after,
                            fps_expected=camera.fps or None,
                            fps_stream=stream.rate,
                            model_version=self._model.info.model_version,
                            condition=stream.condition(at),
                            clock_offset_s=stream.clock_offset_s(),
                            outbox=outbox.waiting(),
                            shadow=self._how.shadow,
                            camera_model=camera.camera_model,
                            firmware=camera.firmware,
                        )
                    )
                    before[camera.id] = after
                last_s = at.mono_s
                self._reports.add(reports)
                self._reports.send(self._client)
            except Exception:
                # The next minute has its own report.
                _log.exception("telemetry stumbled and goes on")

    def _token(self) -> str:
        try:
            return self._settings.token()
        except EdgeConfigError as error:
            # The client takes it for a gateway that is away: alerts wait.
            raise PermissionError(str(error)) from None

    def _is_well(self, streams: Sequence[CameraStream], at: Moment) -> bool:
        """Whether this program does its work; cameras and gateways that are away do not matter."""
        for stream in streams:
            if not stream.alive and not self._how.once:
                return False
            if stream.stumbled_s is not None and at.mono_s - stream.stumbled_s < _STUMBLED_S:
                return False
        return True

    def _in_words(self, outbox: Outbox, sender: Sender) -> str:
        parts = []
        if outbox.state != "ok":
            parts.append(f"outbox: {outbox.state}")
        if sender.problem:
            parts.append(f"gateway: {sender.problem}")
        if outbox.waiting():
            parts.append(f"{outbox.waiting()} alerts wait")
        if outbox.refused_count():
            parts.append(f"{outbox.refused_count()} alerts were refused")
        if self._clock.jumps:
            parts.append(f"the clock was set {self._clock.jumps} times")
        return "; ".join(parts) or "running"

    def _write_health(self, streams: Sequence[CameraStream]) -> None:
        path = self._settings.state / HEALTH_FILE
        content = self._settings.without_secrets(json.dumps(self.summary(streams)))
        part = path.with_suffix(".part")
        try:
            part.write_text(content, "utf-8")
            part.replace(path)
        except OSError as error:
            # A full disk: who reads the file sees by its time that it is old.
            _log.debug("%s cannot be written: %s", path, error)


def _chosen(settings: EdgeSettings, how: RunSettings) -> list[CameraSettings]:
    """The cameras to watch; raises EdgeConfigError."""
    known = {camera.id: camera for camera in settings.cameras}
    if how.cameras is None:
        chosen = list(known.values())
    else:
        unknown = [name for name in how.cameras if name not in known]
        if unknown or not how.cameras:
            raise EdgeConfigError(
                f"{settings.path.name} has no camera {', '.join(unknown) or '(none was named)'}; "
                f"it has {', '.join(known)}"
            )
        chosen = [known[name] for name in dict.fromkeys(how.cameras)]
    if how.once:
        for camera in chosen:
            if not camera.is_file:
                raise EdgeConfigError(
                    f"camera {camera.id} never ends; --once is for files that do not loop"
                )
        chosen = [replace(camera, loop=False) for camera in chosen]
    return chosen


@contextmanager
def _only_runner(path: Path, stop: threading.Event) -> Iterator[None]:
    """Hold the state folder's lock; the kernel lets go of it whatever ends this process.

    Waits some seconds for a runner that is about to end. Raises StateInUseError.
    """
    end = time.monotonic() + _LOCK_S
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > end or stop.is_set():
                    raise StateInUseError(
                        f"another fall-edge works with {path.parent}; end it, or give this one "
                        "another folder with --state"
                    ) from None
                stop.wait(_TICK_S)
        yield
