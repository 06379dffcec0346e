"""The site's figures as Prometheus has them.

What belongs here: names, units and labels. What does not: gathering (`pipeline.health`), HTTP
(`endpoint`). Names follow https://prometheus.io/docs/practices/naming: base units, `_ratio` for
shares from 0 to 1, `_timestamp_seconds` for moments. What is counted over a day is a gauge: it
falls again.

Labels take values from short lists, and from cameras, rooms, boxes and jobs, of which there are at
most MOST_SERIES each: a site that is larger keeps its counts and loses the rest by name.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prometheus_client.core import GaugeMetricFamily

from fall_assets.lake.registry import ROLLOUT_STATES
from fall_assets.monitoring.cameras import STATES, CameraNow
from fall_assets.monitoring.disk import days_until_full
from fall_assets.monitoring.figures import SiteFigures

MOST_SERIES: Final = 2000

Sample = tuple[tuple[str, ...], float]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metric:
    """One metric: a gauge. `read` gives its samples: label values and the value."""

    name: str
    meaning: str
    labels: tuple[str, ...]
    read: Callable[[SiteFigures], Iterable[Sample]]


def families(figures: SiteFigures) -> Iterator[GaugeMetricFamily]:
    """Every metric with its samples."""
    for metric in METRICS:
        family = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        for number, (labels, value) in enumerate(metric.read(figures)):
            if number == MOST_SERIES:
                _log.warning(
                    "%s has more than %d series: the rest is left out", metric.name, number
                )
                break
            family.add_metric(labels, value)
        yield family


def _seconds(moment: datetime) -> float:
    return moment.timestamp()


def _cameras_by_state(figures: SiteFigures) -> Iterator[Sample]:
    counts = Counter((camera.ward, camera.state) for camera in figures.cameras)
    for ward in sorted({camera.ward for camera in figures.cameras}):
        for state in STATES:
            yield (ward, state), counts[ward, state]


def _of_cameras(
    value: Callable[[CameraNow], float | None],
) -> Callable[[SiteFigures], Iterator[Sample]]:
    """A figure per camera, of those that have it."""

    def read(figures: SiteFigures) -> Iterator[Sample]:
        for camera in figures.cameras:
            found = value(camera)
            if found is not None:
                yield (camera.camera_id, camera.ward, camera.room), float(found)

    return read


def _fresh(value: str) -> Callable[[CameraNow], float | None]:
    """A column of the newest report, while the camera is heard of."""
    return lambda camera: camera.report.get(value) if camera.freshness == "fresh" else None


def _boxes(figures: SiteFigures, value: str) -> Iterator[Sample]:
    """The highest of a column over the cameras of each box that is heard of."""
    highest: dict[str, float] = {}
    for camera in figures.cameras:
        found = _fresh(value)(camera)
        if camera.box and found is not None:
            highest[camera.box] = max(highest.get(camera.box, float("-inf")), float(found))
    for box, number in sorted(highest.items()):
        yield (box,), number


def _camera_info(figures: SiteFigures) -> Iterator[Sample]:
    names = ("camera_model", "firmware", "model_version")
    for camera in figures.cameras:
        if camera.report:
            yield (
                (camera.camera_id, camera.box, *(str(camera.report[one] or "") for one in names)),
                1.0,
            )


def _tables(figures: SiteFigures, value: str) -> Iterator[Sample]:
    for name, use in sorted(figures.storage.items()):
        found = getattr(use, value)
        if found is not None:
            yield (name,), float(found)


def _disk_days(figures: SiteFigures) -> Sequence[Sample]:
    days = days_until_full(figures.disk.free, figures.storage_growth)
    return [] if days is None else [((), days * 86400.0)]


def _one(value: float | bool | None) -> Sequence[Sample]:
    return [] if value is None else [((), float(value))]


def _rollout_states(figures: SiteFigures) -> Iterator[Sample]:
    for state in ROLLOUT_STATES:
        holds = figures.rollout is not None and figures.rollout.state == state
        yield (state,), float(holds)


def _falls(figures: SiteFigures) -> dict[tuple[str], int]:
    return {(found,): figures.falls.get(found, 0) for found in ("alerted", "reported")}


def _stuck(figures: SiteFigures) -> Iterator[Sample]:
    if figures.runs is not None:
        counts = Counter(run.state for run in figures.runs.stuck)
        yield from (((state,), counts[state]) for state in ("queued", "started"))


def _runs(figures: SiteFigures) -> Iterator[Sample]:
    if figures.runs is not None:
        yield ("queued",), figures.runs.waiting
        yield ("started",), figures.runs.going


_CAMERA: Final = ("camera", "ward", "room")

METRICS: Final = (
    Metric(
        "fall_assets_cameras",
        "Cameras of the site by their state now.",
        ("ward", "state"),
        _cameras_by_state,
    ),
    Metric(
        "fall_assets_camera_state",
        "1 for the state that each camera is in.",
        (*_CAMERA, "state"),
        lambda figures: (
            ((camera.camera_id, camera.ward, camera.room, camera.state), 1.0)
            for camera in figures.cameras
        ),
    ),
    Metric(
        "fall_assets_camera_state_since_timestamp_seconds",
        "Since when each camera is in its state.",
        _CAMERA,
        _of_cameras(lambda one: None if one.since_utc is None else _seconds(one.since_utc)),
    ),
    Metric(
        "fall_assets_camera_last_report_timestamp_seconds",
        "Time of each camera's newest report, by the report itself.",
        _CAMERA,
        _of_cameras(lambda one: None if one.last_utc is None else _seconds(one.last_utc)),
    ),
    Metric(
        "fall_assets_camera_frames_ratio",
        "Frames that came of those expected, over the newest minutes.",
        _CAMERA,
        _of_cameras(lambda one: one.frames_share if one.freshness == "fresh" else None),
    ),
    Metric(
        "fall_assets_camera_frame_rate_hertz",
        "Frames per second in the newest report.",
        _CAMERA,
        _of_cameras(_fresh("fps_measured")),
    ),
    Metric(
        "fall_assets_camera_info",
        "1 for each camera: its box, its model and firmware, and the detector that watches it.",
        ("camera", "box", "camera_model", "firmware", "model_version"),
        _camera_info,
    ),
    Metric(
        "fall_assets_telemetry_seen",
        "1 where boxes report at all; 0: nothing is known of the cameras.",
        (),
        lambda figures: _one(figures.telemetry),
    ),
    Metric(
        "fall_assets_box_processor_ratio",
        "Processor in use, 0 to 1.",
        ("box",),
        lambda figures: ((box, value / 100) for box, value in _boxes(figures, "cpu_percent")),
    ),
    Metric(
        "fall_assets_box_temperature_celsius",
        "Hottest sensor of each box.",
        ("box",),
        lambda figures: _boxes(figures, "temperature_c"),
    ),
    Metric(
        "fall_assets_box_outbox_alerts",
        "Alerts that wait on each box to be sent.",
        ("box",),
        lambda figures: _boxes(figures, "outbox"),
    ),
    Metric(
        "fall_assets_box_package_info",
        "1 for what each box said last of a package: its hash, and what became of it.",
        ("box", "package", "state"),
        lambda figures: (((one.box, one.package, one.state), 1.0) for one in figures.packages),
    ),
    Metric(
        "fall_assets_disk_size_bytes",
        "Size of the site's disk.",
        (),
        lambda figures: _one(figures.disk.total),
    ),
    Metric(
        "fall_assets_disk_free_bytes",
        "Free on the site's disk.",
        (),
        lambda figures: _one(figures.disk.free),
    ),
    Metric(
        "fall_assets_disk_full_in_seconds",
        "Time until the disk is full if it goes on like this; absent while it does not grow or "
        "nobody knows.",
        (),
        _disk_days,
    ),
    Metric(
        "fall_assets_lake_table_bytes",
        "What each table takes, old versions included; measured once a day.",
        ("table",),
        lambda figures: _tables(figures, "size"),
    ),
    Metric(
        "fall_assets_lake_table_files",
        "Files of each table; measured once a day.",
        ("table",),
        lambda figures: _tables(figures, "files"),
    ),
    Metric(
        "fall_assets_lake_table_growth_bytes_per_day",
        "Bytes that each table gains per day; absent in its first days.",
        ("table",),
        lambda figures: _tables(figures, "growth"),
    ),
    Metric(
        "fall_assets_alerts_24h",
        "Alerts of the last 24 hours.",
        ("ward", "kind", "source"),
        lambda figures: ((key, count) for key, count in sorted(figures.alerts.items())),
    ),
    Metric(
        "fall_assets_alert_answers_24h",
        "Alerts that staff answered in the last 24 hours; no_fall is a false alarm.",
        ("verdict",),
        lambda figures: (
            ((verdict,), figures.answers.get(verdict, 0))
            for verdict in ("fall", "no_fall", "unsure")
        ),
    ),
    Metric(
        "fall_assets_falls_28d",
        "Falls of the last 28 days: alerted and confirmed by staff, or reported without an alert.",
        ("found",),
        lambda figures: ((key, count) for key, count in sorted(_falls(figures).items())),
    ),
    Metric(
        "fall_assets_detection_queue_segments",
        "Segments of the last two days that were taken in and not decoded yet.",
        (),
        lambda figures: _one(figures.queue.segments),
    ),
    Metric(
        "fall_assets_detection_queue_oldest_seconds",
        "How long ago the oldest of them was recorded.",
        (),
        lambda figures: _one(figures.queue.oldest_s),
    ),
    Metric(
        "fall_assets_drift",
        "1 where the newest drift report says that it is drift.",
        (),
        lambda figures: _one(figures.drift.drifted if figures.drift else None),
    ),
    Metric(
        "fall_assets_drift_report_timestamp_seconds",
        "Day of the newest drift report.",
        (),
        lambda figures: _one(_seconds(figures.drift.day) if figures.drift else None),
    ),
    Metric(
        "fall_assets_drift_cameras",
        "Cameras that drifted, by the cause that the newest report names.",
        ("cause",),
        lambda figures: (
            ((cause,), count)
            for cause, count in sorted((figures.drift.cameras if figures.drift else {}).items())
        ),
    ),
    Metric(
        "fall_assets_rollout_state",
        "1 for the state of the newest rollout.",
        ("state",),
        _rollout_states,
    ),
    Metric(
        "fall_assets_rollout_share_ratio",
        "Share of cameras whose alerts the challenger raises.",
        (),
        lambda figures: _one(figures.rollout.share if figures.rollout else None),
    ),
    Metric(
        "fall_assets_gateway_up",
        "1 where the gateway answers; absent where the site has none.",
        (),
        lambda figures: _one(figures.gateway),
    ),
    Metric(
        "fall_assets_dagster_up",
        "1 where Dagster's instance could be asked.",
        (),
        lambda figures: _one(figures.runs is not None),
    ),
    Metric(
        "fall_assets_runs",
        "Runs that wait or go on now.",
        ("state",),
        _runs,
    ),
    Metric(
        "fall_assets_runs_failed",
        "Failed runs of the last hours, by job ([health] failed_hours).",
        ("dagster_job",),
        lambda figures: (
            ((job,), count)
            for job, count in sorted((figures.runs.failed if figures.runs else {}).items())
        ),
    ),
    Metric(
        "fall_assets_runs_stuck",
        "Runs that wait or go on for too long.",
        ("state",),
        _stuck,
    ),
    Metric(
        "fall_assets_partitions_failed",
        "Days that failed and were not made since.",
        ("asset",),
        lambda figures: (
            ((asset,), len(days))
            for asset, days in sorted((figures.runs.partitions if figures.runs else {}).items())
        ),
    ),
    Metric(
        "fall_assets_problems",
        "What is wrong now, by kind.",
        ("kind", "ward"),
        lambda figures: ((key, count) for key, count in sorted(figures.problems.items())),
    ),
)

OWN: Final = (
    Metric("fall_assets_up", "1 where the site could be looked at just now.", (), lambda _: ()),
    Metric(
        "fall_assets_gathered_timestamp_seconds",
        "When the figures were gathered; absent before the first time.",
        (),
        lambda _: (),
    ),
    Metric(
        "fall_assets_gather_duration_seconds",
        "How long it took.",
        (),
        lambda _: (),
    ),
)
"""What the endpoint says of itself."""

NAMES: Final = tuple(metric.name for metric in (*METRICS, *OWN))
