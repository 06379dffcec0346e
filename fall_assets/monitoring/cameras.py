"""How each camera is now, judged by the time of its own newest report.

What belongs here: pure judgement of telemetry. What does not: reading it, and what a box says of a
stream it watches (`edge.condition`), which is believed.

When a day's rows were written says nothing: a day that is filled in later holds old reports, and a
camera that was silent stays silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import polars as pl

from fall_assets.monitoring.settings import HealthSettings

Freshness = Literal["fresh", "stale", "never_seen"]
CameraState = Literal[
    "ok", "never_seen", "stale", "off", "dead", "blind", "frozen", "moved", "starved"
]

STATES: Final[tuple[CameraState, ...]] = (
    "ok",
    "starved",
    "moved",
    "frozen",
    "blind",
    "dead",
    "off",
    "stale",
    "never_seen",
)

REPORT_COLUMNS: Final = (
    "camera_id",
    "at_utc",
    "bandwidth_kbps",
    "power",
    "box",
    "cpu_percent",
    "temperature_c",
    "frames_expected",
    "frames_decoded",
    "fps_expected",
    "fps_measured",
    "model_version",
    "state",
    "since_utc",
    "outbox",
    "camera_model",
    "firmware",
)
"""What is read of `camera_health`."""

AHEAD_S: Final = 300.0
"""A report of a later time is of a box whose clock is wrong, and says nothing of now."""

_OF_STREAM: Final[Mapping[str, CameraState]] = {
    "lost": "dead",
    "black": "blind",
    "frozen": "frozen",
    "moved": "moved",
    "starved": "starved",
}

ADVICE: Final[Mapping[CameraState, str]] = {
    "ok": "",
    "starved": "look at the network between camera and box, and at the camera's frame rate",
    "moved": "look at the camera's picture and turn the camera back, or draw its zones anew",
    "frozen": "restart the camera",
    "blind": "look whether the camera is covered and its infrared lamp works",
    "dead": "look whether the camera has power and network, and restart it",
    "off": "switch the camera or its box on, or name it in [health] off of site.toml",
    "stale": "look whether the box runs and reaches the gateway",
    "never_seen": "connect it to a box, or name it in [health] off of site.toml",
}


@dataclass(frozen=True)
class CameraNow:
    """One camera at one moment.

    Attributes:
        state: what holds now; of a camera that is not heard of, that.
        since_utc: since when; of a stale one its last report. None where it never reported.
        freshness: whether it is heard of at all, whatever its state.
        last_utc: the time of its newest report.
        detail: what tells it, in words.
        expected: False where it is switched off on purpose: nothing is wrong then.
        report: its newest report, as columns of `camera_health`; empty without one.
        frames_share: frames that came of those expected, over the judged time; None: not known.
    """

    camera_id: str
    ward: str
    room: str
    state: CameraState
    since_utc: datetime | None
    freshness: Freshness
    last_utc: datetime | None
    detail: str
    expected: bool
    report: Mapping[str, Any]
    frames_share: float | None

    @property
    def advice(self) -> str:
        """What to do about it; nothing where all is well or meant."""
        return ADVICE[self.state] if self.expected else ""

    @property
    def box(self) -> str:
        """The box that told of it last; empty where none did."""
        return str(self.report.get("box") or "")


def cameras_now(
    reports: pl.DataFrame,
    cameras: Iterable[tuple[str, str, str]],
    now: datetime,
    settings: HealthSettings,
) -> list[CameraNow]:
    """How each camera is at `now`, sorted by camera.

    Args:
        reports: rows of `camera_health` (REPORT_COLUMNS), in any order, of any days; rows of
            cameras that are not named are left out.
        cameras: (camera_id, ward, room) of those that should report.
        now: the moment, in UTC. Reports that are more than AHEAD_S later are not counted.
        settings: thresholds.
    """
    believed = reports.filter(pl.col("at_utc") <= now + timedelta(seconds=AHEAD_S))
    wrong = set(reports["camera_id"]) - set(believed["camera_id"])
    believed = believed.select(REPORT_COLUMNS).sort("camera_id", "at_utc")
    of_camera = {
        str(name): rows for (name,), rows in believed.group_by("camera_id", maintain_order=True)
    }
    return [
        _judged(camera, ward, room, of_camera.get(camera), camera in wrong, now, settings)
        for camera, ward, room in sorted(cameras)
    ]


def _judged(
    camera_id: str,
    ward: str,
    room: str,
    rows: pl.DataFrame | None,
    clock_wrong: bool,
    now: datetime,
    settings: HealthSettings,
) -> CameraNow:
    meant = camera_id in settings.off
    place = (camera_id, ward, room)
    if rows is None:
        if meant:
            return CameraNow(
                *place, "off", None, "never_seen", None, "switched off in the settings", False,
                {}, None,
            )  # fmt: skip
        detail = "no report that was looked at"
        if clock_wrong:
            detail = "its box's clock is ahead: all its reports are of a time to come"
        return CameraNow(*place, "never_seen", None, "never_seen", None, detail, True, {}, None)
    newest = rows.row(-1, named=True)
    last: datetime = newest["at_utc"]
    fresh: Freshness = "fresh" if now - last <= timedelta(minutes=settings.stale_min) else "stale"
    share = _frames_share(_newest(rows, settings))
    if meant:
        return CameraNow(
            *place, "off", last, fresh, last, "switched off in the settings", False, newest, share
        )
    if fresh == "stale":
        detail = f"nothing heard since {last:%Y-%m-%d %H:%M} UTC"
        return CameraNow(*place, "stale", last, fresh, last, detail, True, newest, share)
    state, detail = _condition(rows, settings)
    since = _since(rows, state, settings)
    return CameraNow(*place, state, since, fresh, last, detail, True, newest, share)


def _newest(rows: pl.DataFrame, settings: HealthSettings) -> pl.DataFrame:
    """The judged stretch: what was reported up to the newest report."""
    begin = rows["at_utc"][-1] - timedelta(minutes=settings.judged_min)
    return rows.filter(pl.col("at_utc") > begin)


def _frames_share(rows: pl.DataFrame) -> float | None:
    known = rows.drop_nulls(["frames_expected", "frames_decoded"])
    expected = int(known["frames_expected"].sum())
    return float(known["frames_decoded"].sum()) / expected if expected else None


def _condition(rows: pl.DataFrame, settings: HealthSettings) -> tuple[CameraState, str]:
    """What the newest reports say, and in which words."""
    newest = rows.row(-1, named=True)
    if newest["power"] == "off":
        return "off", "its power is off"
    told = _OF_STREAM.get(newest["state"] or "")
    if told is not None and told != "starved":
        return told, f"its box says: {newest['state']}"
    judged = _newest(rows, settings)
    share = _frames_share(judged)
    if newest["state"] is None and newest["bandwidth_kbps"] <= 0:
        return "dead", "no stream: 0 kbit/s"
    if share is not None and share == 0 and judged.height > 1:
        return "dead", f"no frame in {judged.height} reports"
    if told == "starved":
        return "starved", _of_rate(newest)
    if share is not None and share < settings.starved_share and judged.height > 1:
        return "starved", f"{share:.0%} of the frames that were expected"
    rates = judged.filter(pl.col("fps_expected") > 0).drop_nulls("fps_measured")
    if rates.height > 1:
        ratio = (rates["fps_measured"] / rates["fps_expected"]).median()
        if isinstance(ratio, float) and ratio < settings.starved_share:
            return "starved", f"{ratio:.0%} of the frame rate that was expected"
    return "ok", ""


def _of_rate(report: Mapping[str, Any]) -> str:
    measured, expected = report["fps_measured"], report["fps_expected"]
    wanted = f" of {expected:g}" if expected else ""
    return "its box says: starved" + (
        f", {measured:.1f}{wanted} frames/s" if measured is not None else ""
    )


def _since(rows: pl.DataFrame, state: CameraState, settings: HealthSettings) -> datetime:
    """Since when: by the box's own word, else the first of the reports in a row that say so."""
    newest = rows.row(-1, named=True)
    last: datetime = newest["at_utc"]
    told: datetime | None = newest["since_utc"]
    by_box = _OF_STREAM.get(newest["state"] or "", "ok") == state and newest["state"] is not None
    if by_box and told is not None:
        return min(told, last)
    like = {
        "off": pl.col("power") == "off",
        "dead": (pl.col("bandwidth_kbps") <= 0) | (pl.col("frames_decoded") == 0),
        "starved": _too_few(settings),
    }.get(state, pl.col("power") != "off")
    differ = rows.filter(~like.fill_null(value=False))
    begun = rows if differ.is_empty() else rows.filter(pl.col("at_utc") > differ["at_utc"][-1])
    return begun["at_utc"][0] if begun.height else last


def _too_few(settings: HealthSettings) -> pl.Expr:
    frames = pl.col("frames_decoded") < settings.starved_share * pl.col("frames_expected")
    rate = pl.col("fps_measured") < settings.starved_share * pl.col("fps_expected")
    return frames.fill_null(value=False) | rate.fill_null(value=False)
