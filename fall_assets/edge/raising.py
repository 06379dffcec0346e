"""From an alarm to an alert that waits in the outbox.

What belongs here: an alert's id, which alarms are one event, its still, how long that took. What
does not: finding alarms (`engine`), sending alerts (`sender`).

**One event, one alert.** Within one connection the detector itself merges what belongs together.
A connection that breaks, or a box that is killed, forgets that; a person who still lies on the
floor may then raise a second alarm. So the camera's newest event is kept in the outbox, in the same
transaction as its alert, and while it lasts its end is noted every few seconds. An alarm on a new
connection is the same event where it comes within the detector's `merge_gap_s` of that event's end,
time in which the box could not see left out: from that end until the new connection has seen one
window, but `BLIND_S` at most. What that costs: a second person who falls in the same room within
the gap after a break is not told a second time; staff were called to that room less than a minute
before. Where the clock was set back, or what was noted cannot be read, the alarm counts as new:
one alert too many, never one too few.

A file's alarms are named by the file and their place in it: a run that was killed and begins again
at its start tells each of them once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fall_assets.delivery.stills import jpeg, unrecognisable
from fall_assets.edge.client import Answer, GatewayClient
from fall_assets.edge.outbox import Outbox
from fall_assets.edge.stream import Raised

_log = logging.getLogger(__name__)

BLIND_S: Final = 30.0
STILL_BYTES: Final = 150_000
"""A still's JPEG is no larger."""
_SIDES: Final = (640, 480, 320)
_NOTED_EVERY_S: Final = 2.0
_KEPT_DELAYS: Final = 10_000


@dataclass(frozen=True)
class LastEvent:
    """A camera's newest event: it was raised, and is known to have lasted until, these moments."""

    alert_id: str
    connected_utc: str
    raised_utc: str
    until_utc: str

    def to_note(self) -> str:
        """As it is kept in the outbox."""
        return json.dumps(asdict(self))

    @classmethod
    def from_note(cls, text: str | None) -> LastEvent | None:
        """From what `to_note` gave; None from anything else."""
        try:
            last = cls(**json.loads(text or ""))
            for one in (last.connected_utc, last.raised_utc, last.until_utc):
                datetime.fromisoformat(one).astimezone(UTC)
        except (ValueError, TypeError):
            return None
        return last


def is_same_event(
    last: LastEvent,
    raised_utc: datetime,
    connected_utc: datetime,
    *,
    merge_gap_s: float,
    window_s: float,
) -> bool:
    """Whether an alarm on a connection is the event that was told of on an earlier one."""
    if connected_utc <= datetime.fromisoformat(last.connected_utc):
        return False
    until = datetime.fromisoformat(last.until_utc)
    after_s = (raised_utc - until).total_seconds()
    blind_s = min(BLIND_S, max(0.0, (connected_utc - until).total_seconds() + window_s))
    if after_s < 0:
        return raised_utc >= datetime.fromisoformat(last.raised_utc)
    return after_s <= merge_gap_s + blind_s


class Delays:
    """How long something took, in seconds: the newest ten thousand. Safe in threads."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_KEPT_DELAYS)
        self._lock = threading.Lock()
        self._count = 0

    def add(self, seconds: float) -> None:
        """It took so long once more."""
        with self._lock:
            self._seconds.append(seconds)
            self._count += 1

    def summary(self) -> dict[str, float | int]:
        """Count, p50, p95 and the longest; no quantiles where nothing was measured."""
        with self._lock:
            seconds, count = np.array(self._seconds), self._count
        if not len(seconds):
            return {"count": 0}
        p50, p95 = np.percentile(seconds, [50, 95])
        return {
            "count": count,
            "p50_s": round(float(p50), 4),
            "p95_s": round(float(p95), 4),
            "max_s": round(float(seconds.max()), 4),
        }


@dataclass
class AlertDelays:
    """An alert's way in pieces, and `all`: from the frame's arrival to the gateway's answer."""

    seen_to_known: Delays
    known_to_outbox: Delays
    outbox_to_accepted: Delays
    all: Delays

    @classmethod
    def new(cls) -> AlertDelays:
        """Nothing measured yet."""
        return cls(Delays(), Delays(), Delays(), Delays())

    def summary(self) -> dict[str, dict[str, float | int]]:
        """Each piece's summary, by its name."""
        return {name: delays.summary() for name, delays in vars(self).items()}


class TimedClient(GatewayClient):
    """A gateway's client that measures how long alerts took to be accepted."""

    def __init__(self, url: str, token: Callable[[], str], delays: AlertDelays) -> None:
        super().__init__(url, token)
        self._delays = delays
        self._under_way: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def expect(self, alert_id: str, arrived_s: float, handed_s: float) -> None:
        """An alert was handed to the outbox."""
        self._under_way[alert_id] = arrived_s, handed_s
        while len(self._under_way) > _KEPT_DELAYS:
            self._under_way.popitem(last=False)

    def post_alert(self, alert_id: str, payload: Mapping[str, Any]) -> Answer:
        """As GatewayClient has it."""
        answer = super().post_alert(alert_id, payload)
        accepted_s = time.monotonic()
        arrived_s, handed_s = self._under_way.pop(alert_id, (None, None))
        if arrived_s is not None and handed_s is not None:
            self._delays.outbox_to_accepted.add(accepted_s - handed_s)
            self._delays.all.add(accepted_s - arrived_s)
        return answer


class Raiser:
    """Turns alarms into alerts. Called in the cameras' threads.

    Args:
        outbox: where alerts are put.
        client: measures their way to the gateway.
        nudge: called after each.
        model_version, merge_gap_s, window_s: of the model that watches.
        shadow: alerts are kept and counted by the gateway but shown to nobody.
    """

    def __init__(
        self,
        outbox: Outbox,
        client: TimedClient,
        nudge: Callable[[], None],
        delays: AlertDelays,
        *,
        model_version: str,
        merge_gap_s: float,
        window_s: float,
        shadow: bool = False,
    ) -> None:
        self.alerts = 0
        self.repeated = 0
        """Alarms that told of an event a second time."""
        self._outbox, self._client, self._nudge, self._delays = outbox, client, nudge, delays
        self._model_version, self._shadow = model_version, shadow
        self._merge_gap_s, self._window_s = merge_gap_s, window_s
        self._last: dict[str, LastEvent | None] = {}
        self._noted: dict[str, float] = {}
        self._lock = threading.Lock()

    def alert(self, raised: Raised) -> str | None:
        """Put an alarm into the outbox; its alert's id, None where it was told already."""
        alarm = raised.alarm
        # Of a file, both versions would give an alarm of the same moment the same id.
        alert_id = _alert_id(raised, f"shadow {self._model_version}" if self._shadow else None)
        with self._lock:
            last = self._last_event(raised.camera_id)
            is_repeated = (
                raised.file is None
                and last is not None
                and is_same_event(
                    last,
                    raised.raised_utc,
                    raised.connected_utc,
                    merge_gap_s=self._merge_gap_s,
                    window_s=self._window_s,
                )
            )
            now_last = LastEvent(
                last.alert_id if is_repeated and last is not None else alert_id,
                _iso(raised.connected_utc),
                _iso(raised.raised_utc),
                _iso(raised.raised_utc),
            )
            self._last[raised.camera_id] = now_last
        if is_repeated:
            self._outbox.note(_key(raised.camera_id), now_last.to_note())
            self.repeated += 1
            _log.info("%s: the fall of alert %s lasts", raised.camera_id, now_last.alert_id)
            return None
        payload = {
            "alert_id": alert_id,
            "camera_id": raised.camera_id,
            "start_utc": _iso(raised.start_utc),
            "raised_utc": _iso(raised.raised_utc),
            "score": round(min(1.0, max(0.0, float(alarm.score))), 6),
            "kind": alarm.kind,
            "model_version": self._model_version,
            "shadow": self._shadow,
            "still": _still(raised),
        }
        is_new = self._outbox.put(
            alert_id,
            payload,
            at=raised.raised_utc,
            notes={_key(raised.camera_id): now_last.to_note()},
        )
        handed_s = time.monotonic()
        if not is_new:
            self.repeated += 1
            return None
        self.alerts += 1
        self._delays.seen_to_known.add(raised.known_s - raised.arrived_s)
        self._delays.known_to_outbox.add(handed_s - raised.known_s)
        self._client.expect(alert_id, raised.arrived_s, handed_s)
        self._nudge()
        _log.warning(
            "%s: %s at %s, score %.2f, alert %s%s",
            raised.camera_id,
            alarm.kind.replace("_", " "),
            f"{raised.raised_utc:%H:%M:%S} UTC",
            alarm.score,
            alert_id,
            " (shadow)" if self._shadow else "",
        )
        return alert_id

    def lasting(self, camera_id: str, until_utc: datetime) -> None:
        """The camera's newest event still lasted at that moment; call it as often as you like."""
        with self._lock:
            last = self._last_event(camera_id)
            at = time.monotonic()
            if last is None or at - self._noted.get(camera_id, -1e9) < _NOTED_EVERY_S:
                return
            if _iso(until_utc) <= last.until_utc:
                return
            self._noted[camera_id] = at
            last = LastEvent(last.alert_id, last.connected_utc, last.raised_utc, _iso(until_utc))
            self._last[camera_id] = last
        self._outbox.note(_key(camera_id), last.to_note())

    def _last_event(self, camera_id: str) -> LastEvent | None:
        if camera_id not in self._last:
            self._last[camera_id] = LastEvent.from_note(self._outbox.noted(_key(camera_id)))
        return self._last[camera_id]


def still_of(
    picture: npt.NDArray[np.uint8], keypoints: npt.NDArray[np.floating[Any]] | None
) -> bytes | None:
    """JPEG of at most STILL_BYTES with nobody to recognise; None where none is so small.

    `picture` (height, width, 3) RGB, `keypoints` (people, 17, 3) in its shares, None: nobody known.
    """
    people = np.zeros((0, 17, 3)) if keypoints is None else np.asarray(keypoints, np.float64)
    for side in _SIDES:
        content = jpeg(unrecognisable(picture, people, side))
        if len(content) <= STILL_BYTES:
            return content
    return None


def _still(raised: Raised) -> str | None:
    """In base64; a still that fails must not cost the alert."""
    if raised.picture is None:
        return None
    try:
        content = still_of(raised.picture, raised.alarm.keypoints)
    except Exception:
        _log.exception("%s: no still could be made; the alert goes without", raised.camera_id)
        return None
    return None if content is None else base64.b64encode(content).decode("ascii")


def _alert_id(raised: Raised, whose: str | None = None) -> str:
    parts: Sequence[str] = (
        (raised.file, f"{raised.alarm.raised_s:.1f}")
        if raised.file is not None
        else (raised.raised_utc.isoformat(timespec="seconds"), _iso(raised.connected_utc))
    )
    text = "|".join((raised.camera_id, *parts, *((whose,) if whose else ())))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _key(camera_id: str) -> str:
    return f"last-event/{camera_id}"


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds")
