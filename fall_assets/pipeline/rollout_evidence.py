"""The rollout's evidence, from what the lake holds of a day: alarms, answers, labels, telemetry.

What belongs here: which tables say what either version did. What does not: counting (`rollout`),
deciding (`pipeline.rollout`).

With a gateway the boxes' tables speak, without one the platform's own predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.pipeline.operation import shadow_events
from fall_assets.pipeline.serving import Part, serving_on, watched
from fall_assets.pipeline.work import Work
from fall_assets.rollout.assignment import CameraTraits
from fall_assets.rollout.counting import ALARM_SCHEMA, FALL_SCHEMA, WATCH_SCHEMA, count_day
from fall_assets.rollout.guards import Crash, Facts, MemoryUse, Missed, Silence
from fall_assets.rollout.settings import GuardSettings, RolloutSettings

_HOUR = timedelta(hours=1)
_SECONDS_PER_DAY = 86_400.0
_MINUTES_PER_DAY = 1440.0
_WATCHING = ("ok",)
_LATE_MIN = 5.0


@dataclass(frozen=True)
class Pair:
    """The two versions of a rollout."""

    champion: str
    challenger: str

    def role(self) -> pl.Expr:
        """The role of `model_version`; null for other versions."""
        return pl.col("model_version").replace_strict(
            {self.champion: "champion", self.challenger: "challenger"},
            default=None,
            return_dtype=pl.String,
        )


def traits(work: Work) -> list[CameraTraits]:
    """What cameras are told apart by: ward, newest resolution, feature set."""
    cameras = work.lake.read("cameras", columns=["camera_id", "ward"]).sort("camera_id")
    sizes = (
        work.lake.scan("videos")
        .filter(pl.col("deleted_utc").is_null())
        .group_by("camera_id")
        .agg(pl.col("width", "height").sort_by("start_utc").last())
        .collect()
    )
    known = {row["camera_id"]: f"{row['width']}x{row['height']}" for row in sizes.to_dicts()}
    version = work.site.settings.features.detector.version
    return [
        CameraTraits(camera_id, ward, known.get(camera_id, "unknown"), version)
        for camera_id, ward in cameras.iter_rows()
    ]


def complete_days(work: Work, first: date, now: datetime) -> list[date]:
    """Days from `first` on that are over and of which there is evidence."""
    today = now.astimezone(UTC).date()
    if work.site.settings.gateway.url:
        last = (now.astimezone(UTC) - _HOUR).date()
        return [day for day in work.lake.days("edge_reports") if first <= day < last]
    return [day for day in work.lake.days("predictions") if first <= day < today]


def collect(
    work: Work,
    days: Sequence[date],
    pair: Pair,
    strata: Mapping[str, str],
    settings: RolloutSettings,
) -> tuple[pl.DataFrame, list[Missed]]:
    """Evidence of some days, in rows as `EVIDENCE_SCHEMA` says, and falls that were missed."""
    frames, missed = [], []
    for day in days:
        if work.site.settings.gateway.url:
            alarms, watching = _boxes(work, day, pair)
        else:
            alarms, watching = _platform(work, day, pair)
        counted, own = count_day(
            day, alarms, _falls(work, day), watching, strata, settings.episode_min
        )
        frames.append(counted)
        missed += own
    if not frames:
        raise PermanentFailureError("evidence of no day was asked for")
    return pl.concat(frames), missed


def facts(
    work: Work, pair: Pair, since: datetime, missed: Sequence[Missed], now: datetime
) -> Facts:
    """What the guards look at, since a moment; without a gateway that is missed falls alone."""
    if not work.site.settings.gateway.url:
        return Facts(challenger=pair.challenger, missed=tuple(missed))
    guards = work.site.settings.rollout.guards
    reports = work.lake.read(
        "edge_reports",
        days=[day for day in work.lake.days("edge_reports") if day >= since.date()][-2:],
        where=pl.col("at_utc") >= since,
    ).sort("at_utc")
    live = reports.filter(~pl.col("shadow").fill_null(value=False))
    boxes = live.group_by("box", maintain_order=True).agg(
        pl.col("at_utc").max(),
        (pl.col("model_version") == pair.challenger).last().alias("challengers"),
    )
    late = timedelta(minutes=work.site.settings.gateway.reports_every_min + _LATE_MIN)
    newest = max([now - late, *boxes["at_utc"].to_list()])
    silent = boxes.with_columns(minutes=(pl.lit(newest) - pl.col("at_utc")).dt.total_seconds() / 60)
    is_silent = pl.col("minutes") >= guards.heartbeat_min
    champions = silent.filter(~pl.col("challengers"))
    latency_s, alerts = _latency(work, pair, since, guards)
    crashes = _crashes(work, pair, since)
    # A box compares the package's scores of its bundled clip before it runs it.
    parity = next((one.detail for one in crashes if "self-test failed" in one.detail), None)
    return Facts(
        challenger=pair.challenger,
        crashes=tuple(crashes),
        parity_failure=parity,
        silent=tuple(
            Silence(box, minutes)
            for box, minutes in silent.filter("challengers", is_silent)
            .select("box", "minutes")
            .sort("box")
            .iter_rows()
        ),
        champion_boxes=champions.height,
        champion_silent=champions.filter(is_silent).height,
        latency_p95_s=latency_s,
        latency_alerts=alerts,
        memory=tuple(_memory(live, pair, guards)),
        missed=tuple(missed),
    )


def _platform(work: Work, day: date, pair: Pair) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Alarms and watching by the platform's own predictions."""
    live = _with_verdicts(
        work, work.lake.read("alerts", days=[day]).with_columns(shadow=pl.lit(value=False))
    )
    shadow = shadow_events(work, day).with_columns(
        shadow=pl.lit(value=True), verdict=pl.lit(None, pl.String)
    )
    columns = ["camera_id", "role", "shadow", "start_utc", "raised_utc", "verdict"]
    alarms = pl.concat(
        [frame.with_columns(role=pair.role()).select(columns) for frame in (live, shadow)]
    ).drop_nulls("role")
    videos = work.lake.read("videos", days=[day], columns=["video_id", "camera_id", "duration_s"])
    scored = (
        work.lake.scan("predictions", days=[day])
        .select("video_id", "model_version")
        .unique()
        .collect()
        .join(videos, on="video_id")
        .group_by("camera_id", "model_version")
        .agg(pl.col("duration_s").sum().alias("scored_s"))
        .with_columns(role=pair.role())
        .drop_nulls("role")
    )
    footage = videos.group_by("camera_id").agg(pl.col("duration_s").sum().alias("footage_s"))
    watching = (
        _watching(serving_on(work, day), footage["camera_id"].to_list())
        .with_columns(role=pair.role())
        .drop_nulls("role")
        .join(footage, on="camera_id")
        .join(scored.select("camera_id", "role", "scored_s"), on=["camera_id", "role"], how="left")
        .with_columns(pl.col("scored_s").fill_null(0.0))
        .select(
            "camera_id",
            "role",
            "shadow",
            camera_days=(pl.col("scored_s") / _SECONDS_PER_DAY).clip(0, 1),
            abstained_h=((pl.col("footage_s") - pl.col("scored_s")) / 3600).clip(0, 24),
        )
    )
    return alarms.cast(dict(ALARM_SCHEMA)), watching.cast(dict(WATCH_SCHEMA))  # type: ignore[arg-type]


def _watching(parts: Sequence[Part], cameras: Sequence[str]) -> pl.DataFrame:
    """Which version watches which camera, and whether as a shadow."""
    rows = [
        (camera, part.model_version, part.shadow)
        for part, own in watched(parts, cameras)
        for camera in own
    ]
    schema = {"camera_id": pl.String, "model_version": pl.String, "shadow": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _boxes(work: Work, day: date, pair: Pair) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Alarms and watching by what boxes told the gateway."""
    alarms = (
        _with_verdicts(work, work.lake.read("edge_alerts", days=[day]))
        .with_columns(role=pair.role())
        .drop_nulls("role")
        .select(list(ALARM_SCHEMA))
    )
    minutes = (
        work.lake.read(
            "edge_reports", days=[day], columns=["camera_id", "model_version", "shadow", "state"]
        )
        .with_columns(role=pair.role(), shadow=pl.col("shadow").fill_null(value=False))
        .drop_nulls("role")
        .group_by("camera_id", "role", "shadow")
        .agg(
            pl.col("state").is_in(_WATCHING).sum().alias("watching"),
            pl.len().alias("reports"),
        )
    )
    watching = minutes.select(
        "camera_id",
        "role",
        "shadow",
        camera_days=(pl.col("watching") / _MINUTES_PER_DAY).clip(0, 1),
        abstained_h=((pl.col("reports") - pl.col("watching")) / 60).clip(0, 24),
    )
    return alarms.cast(dict(ALARM_SCHEMA)), watching.cast(dict(WATCH_SCHEMA))  # type: ignore[arg-type]


def _with_verdicts(work: Work, alarms: pl.DataFrame) -> pl.DataFrame:
    """The alarms with the newest answer of staff to each."""
    newest = (
        work.lake.read("alert_feedback")
        .sort("at_utc")
        .group_by("alert_id")
        .agg(pl.col("verdict").last())
    )
    return alarms.join(newest, on="alert_id", how="left")


def _falls(work: Work, day: date) -> pl.DataFrame:
    """Falls that people labelled on the day's footage; the champion's own labels do not count."""
    videos = work.lake.read("videos", days=[day], columns=["video_id", "camera_id", "start_utc"])
    labels = work.lake.read(
        "labels",
        days=[day],
        columns=["video_id", "start_s", "end_s"],
        where=(pl.col("label") == "fall") & (pl.col("source") != "auto"),
    )
    return (
        labels.join(videos, on="video_id")
        .select(
            "camera_id",
            end_utc=pl.col("start_utc") + pl.duration(microseconds=(pl.col("end_s") * 1e6).round()),
            start_utc=pl.col("start_utc")
            + pl.duration(microseconds=(pl.col("start_s") * 1e6).round()),
        )
        .select(list(FALL_SCHEMA))
        .cast(dict(FALL_SCHEMA))  # type: ignore[arg-type]
        .unique(maintain_order=True)
    )


def _crashes(work: Work, pair: Pair, since: datetime) -> list[Crash]:
    packages = work.lake.read("edge_package").filter(pl.col("model_version") == pair.challenger)
    manifests = packages["manifest_sha256"].to_list()
    said = work.lake.read("edge_updates").filter(
        pl.col("package").is_in(manifests),
        pl.col("state").is_in(["rolled_back", "refused"]),
        pl.col("at_utc") >= since,
    )
    return [
        Crash(row["box"], row["at_utc"].isoformat(), row["state"], row["detail"])
        for row in said.sort("number").iter_rows(named=True)
    ]


def _latency(
    work: Work, pair: Pair, since: datetime, guards: GuardSettings
) -> tuple[float | None, int]:
    """The challenger's 95th percentile and its alerts; none where the champion is as late.

    A network that is away delays both.
    """
    alerts = (
        work.lake.read(
            "edge_alerts",
            days=[day for day in work.lake.days("edge_alerts") if day >= since.date()],
            where=(pl.col("raised_utc") >= since) & ~pl.col("shadow"),
        )
        .with_columns(
            role=pair.role(),
            took_s=(pl.col("received_utc") - pl.col("raised_utc")).dt.total_milliseconds() / 1000,
        )
        .group_by("role")
        .agg(pl.col("took_s").quantile(0.95).alias("p95"), pl.len().alias("alerts"))
    )
    by_role = {row["role"]: row for row in alerts.iter_rows(named=True)}
    own, usual = by_role.get("challenger"), by_role.get("champion")
    if own is None or (usual is not None and usual["p95"] >= guards.latency_p95_s):
        return None, 0
    return float(own["p95"]), int(own["alerts"])


def _memory(live: pl.DataFrame, pair: Pair, guards: GuardSettings) -> list[MemoryUse]:
    """Boxes under the challenger, with the lowest of their newest reports' memory."""
    newest = (
        live.group_by("box", "at_utc", maintain_order=True)
        .agg(
            pl.col("memory_percent").max(),
            (pl.col("model_version") == pair.challenger).any().alias("challengers"),
        )
        .sort("at_utc")
        .group_by("box", maintain_order=True)
        .agg(
            pl.col("memory_percent").tail(guards.memory_reports).min(),
            pl.col("challengers").last(),
            pl.len().alias("reports"),
        )
        .filter("challengers", pl.col("reports") >= guards.memory_reports)
        .sort("box")
    )
    return [
        MemoryUse(box, percent)
        for box, percent in newest.select("box", "memory_percent").iter_rows()
        if percent >= guards.memory_percent
    ]
