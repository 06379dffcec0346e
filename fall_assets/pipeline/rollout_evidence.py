"""The rollout's evidence, from what the lake holds of a day: alarms, answers, labels, telemetry.

What belongs here: which tables say what either version did. What does not: counting (`rollout`),
deciding (`pipeline.rollout`).

With a gateway the boxes' tables speak, without one the platform's own predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.pipeline.feedback import reported_falls
from fall_assets.pipeline.operation import alerts_are_made, shadow_events
from fall_assets.pipeline.serving import Part, serving_on, watched
from fall_assets.pipeline.work import Work
from fall_assets.rollout.assignment import CameraTraits
from fall_assets.rollout.counting import (
    ALARM_SCHEMA,
    FALL_SCHEMA,
    SAME_S,
    WATCH_SCHEMA,
    count_day,
)
from fall_assets.rollout.guards import Crash, Facts, MemoryUse, Missed, Silence
from fall_assets.rollout.settings import GuardSettings, RolloutSettings

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_SECONDS_PER_DAY = 86_400.0
_REPORT_S = 60.0
"""Seconds between two reports of a box, unless it is set otherwise."""
_WATCHING = ("ok",)
_LOOKED_BACK = 8
"""So many `heartbeat_min` before the newest report the guards look at reports."""
_COMMITS = 64
"""So many of a table's newest commits are looked at for falls that came late."""
_LABELLED = (pl.col("label") == "fall") & (pl.col("source") != "auto")
_TOLD_S = 1800.0
"""A reported fall counts for alarms where it is known within so many seconds when it happened."""
_CONFIRMED = pl.col("verdict") == "fall"


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
    """Days from `first` on that are over and of which there is evidence, up to one that waits.

    Without a gateway the alerts must have been made of the newest scores: a look in between would
    find a version that raises none. And a day waits for staff (`answer_hours`): nearly all alerts
    of the days before it are answered, so that what is not answered yet would count as many times
    the usual false alarms.
    """
    today = now.astimezone(UTC).date()
    if work.site.settings.gateway.url:
        last = (now.astimezone(UTC) - _HOUR).date()
        days = [day for day in work.lake.days("edge_reports") if first <= day < last]
    else:
        days = [day for day in work.lake.days("predictions") if first <= day < today]
        days = alerts_are_made(work, days)
    wait = timedelta(hours=work.site.settings.rollout.answer_hours)
    waits = (
        day
        for day in days
        if now < datetime.combine(day, time.min, UTC) + _DAY + wait and not _is_answered(work, day)
    )
    until = next(waits, None)
    return days if until is None else [day for day in days if day < until]


def _is_answered(work: Work, day: date) -> bool:
    """Whether staff have answered every alert of a day that they were shown."""
    if work.site.settings.gateway.url:
        live = ~pl.col("shadow").fill_null(value=False)
        shown = work.lake.read("edge_alerts", days=[day], columns=["alert_id"], where=live)
    else:
        shown = work.lake.read("alerts", days=[day], columns=["alert_id"])
    answered = work.lake.read("alert_feedback", columns=["alert_id"])
    return shown.join(answered, on="alert_id", how="anti").is_empty()


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
            day,
            _with_reports(work, day, alarms),
            _falls(work, day),
            watching,
            strata,
            settings.episode_min,
            told=_told_falls(work, day),
        )
        frames.append(counted)
        missed += own
    if not frames:
        raise PermanentFailureError("evidence of no day was asked for")
    return pl.concat(frames), missed


def facts(
    work: Work,
    pair: Pair,
    since: datetime,
    missed: Sequence[Missed],
    now: datetime,
    guards: GuardSettings,
) -> Facts:
    """What the guards look at, since a moment; without a gateway that is missed falls alone.

    `guards` are the rollout's own limits: those of site.toml may have changed since it began.
    """
    if not work.site.settings.gateway.url:
        return Facts(challenger=pair.challenger, missed=tuple(missed))
    reports = _newest_reports(work, since, now, guards)
    cameras = _by_camera(reports, pair)
    boxes = _by_box(reports, cameras, guards)
    champions = boxes.filter(~pl.col("challengers"))
    latency_s, alerts = _latency(work, pair, since, now, guards)
    crashes = _crashes(work, pair, since)
    # A box compares the package's scores of its bundled clip before it runs it.
    parity = next((one.detail for one in crashes if "self-test failed" in one.detail), None)
    return Facts(
        challenger=pair.challenger,
        crashes=tuple(crashes),
        parity_failure=parity,
        silent=tuple(_silences(work, pair, cameras, boxes, since, guards)),
        champion_boxes=champions.height,
        champion_silent=champions.filter("silent").height,
        boxes=boxes.height,
        boxes_silent=boxes.filter("silent").height,
        latency_p95_s=latency_s,
        latency_alerts=alerts,
        memory=tuple(_memory(reports, pair, cameras, guards)),
        missed=tuple(missed),
    )


def late_falls(work: Work, days: Sequence[date]) -> int:
    """Falls of some days that people told of after the rollout's newest decision was written.

    Cheap: where nobody told anything since, the tables' newest commits say so. What counts is when
    it was written into the lake; a box or a nurse may have told long before.
    """
    decided = next(
        (one["at_utc"] for one in work.lake.history("rollout", limit=_COMMITS) if one["run_id"]),
        None,
    )
    if decided is None or not days:
        return 0
    falls = _told_after(work, "labels", decided, ["label_id"], days=days, where=_LABELLED)
    if not work.site.settings.gateway.url:
        return falls.height
    # Without footage there is no label; with it the answer would count twice.
    answers = _told_after(work, "alert_feedback", decided, ["alert_id"], where=_CONFIRMED)
    if answers.is_empty():
        return falls.height
    alerts = pl.concat([_confirmed_alerts(work, day) for day in days])
    return falls.height + alerts.join(answers, on="alert_id", how="semi").height


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
        [frame.with_columns(role=_whose(pair)).select(columns) for frame in (live, shadow)]
    )
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
        .with_columns(role=_whose(pair))
        .select(list(ALARM_SCHEMA))
    )
    columns = ["camera_id", "model_version", "shadow", "state", "at_utc"]
    reports = (
        work.lake.read("edge_reports", days=[day], columns=columns)
        .with_columns(role=pair.role(), shadow=pl.col("shadow").fill_null(value=False))
        .drop_nulls("role")
        .sort("at_utc")
    )
    of = ["camera_id", "role", "shadow"]
    # A box reports as often as it is set to: a report stands for the time since the one before it,
    # and after a silence for as long as between two of them as a rule.
    since_s = pl.col("at_utc").diff().dt.total_microseconds() / 1e6
    watching = (
        reports.with_columns(since_s=since_s.over(of))
        .with_columns(usual_s=pl.col("since_s").median().over(of).fill_null(_REPORT_S))
        .with_columns(
            stands_s=pl.min_horizontal(
                pl.col("since_s").fill_null(pl.col("usual_s")),
                pl.max_horizontal("usual_s", pl.lit(_REPORT_S)),
            ),
            watches=pl.col("state").is_in(_WATCHING),
        )
        .group_by(of)
        .agg(
            pl.col("stands_s").filter("watches").sum().alias("watched_s"),
            pl.col("stands_s").filter(~pl.col("watches")).sum().alias("abstained_s"),
        )
        .select(
            *of,
            camera_days=(pl.col("watched_s") / _SECONDS_PER_DAY).clip(0, 1),
            abstained_h=(pl.col("abstained_s") / 3600).clip(0, 24),
        )
    )
    return alarms.cast(dict(ALARM_SCHEMA)), watching.cast(dict(WATCH_SCHEMA))  # type: ignore[arg-type]


def _whose(pair: Pair) -> pl.Expr:
    """The role of an alarm's version; 'other' where it is of neither.

    Before the rollout another version may have raised the alerts, which staff answered: its answers
    hold for the champion's in shadow.
    """
    return pair.role().fill_null("other")


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
        where=_LABELLED,
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


def _with_reports(work: Work, day: date, alarms: pl.DataFrame) -> pl.DataFrame:
    """An alarm that nobody answered is right where staff say that a fall raised no alert.

    A version that finds what the live one misses would else be taken back for it: what it raises
    in shadow is shown to nobody. A report tells of one fall: the first such alarm of each version
    is right by it and no other, so that no flood of alarms is. A stretch of more than `_TOLD_S`
    says too little of when it was.
    """
    stretch = pl.col("until_utc") - pl.col("from_utc")
    reports = reported_falls(work, [day]).filter(stretch <= timedelta(seconds=_TOLD_S))
    numbered = alarms.with_row_index("number")
    right = (
        numbered.filter(pl.col("verdict").is_null())
        .join(reports.select("report_id", "camera_id", "from_utc", "until_utc"), on="camera_id")
        .filter(
            pl.col("raised_utc").is_between(
                pl.col("from_utc"), pl.col("until_utc") + timedelta(seconds=SAME_S)
            )
        )
        .sort("raised_utc", "number")
        .unique(["report_id", "role", "shadow"], keep="first", maintain_order=True)
    )
    found = pl.col("number").is_in(right["number"].to_list())
    return numbered.with_columns(
        verdict=pl.when(found).then(pl.lit("fall")).otherwise("verdict")
    ).drop("number")


def _told_falls(work: Work, day: date) -> pl.DataFrame:
    """Falls that staff confirmed on the ward's page, of which there is no footage to be labelled.

    By the camera whose alert it was and the others of its room: their versions may have seen it as
    well, or not.
    """
    alerts = _confirmed_alerts(work, day)
    if alerts.is_empty():
        return pl.DataFrame(schema=dict(FALL_SCHEMA))
    place = ["ward", "room"]
    cameras = work.lake.read("cameras", columns=["camera_id", *place])
    known = cameras.filter(pl.col("room") != "unknown")
    beside = (
        alerts.join(known, on="camera_id")
        .drop("camera_id")
        .join(known, on=place, how="inner")
        .select(alerts.columns)
    )
    return (
        pl.concat([alerts, beside])
        .unique(["alert_id", "camera_id"], maintain_order=True)
        .select("camera_id", "start_utc", pl.col("raised_utc").alias("end_utc"))
        .cast(dict(FALL_SCHEMA))  # type: ignore[arg-type]
    )


def _confirmed_alerts(work: Work, day: date) -> pl.DataFrame:
    """Boxes' alerts of a day that staff called a fall, of which there is no footage."""
    columns = ["alert_id", "camera_id", "start_utc", "raised_utc"]
    if not work.site.settings.gateway.url:
        return work.lake.read("edge_alerts", days=[], columns=columns)
    shown = work.lake.read(
        "videos",
        days=[day - timedelta(days=1), day],
        columns=["camera_id", "start_utc", "duration_s"],
        where=pl.col("deleted_utc").is_null(),
    ).select("camera_id", from_utc="start_utc", for_s="duration_s")
    alerts = _with_verdicts(work, work.lake.read("edge_alerts", days=[day], columns=columns))
    confirmed = alerts.filter(_CONFIRMED).select(columns)
    filmed = confirmed.join(shown, on="camera_id").filter(
        pl.col("raised_utc").is_between(
            pl.col("from_utc"), pl.col("from_utc") + pl.duration(seconds=pl.col("for_s"))
        )
    )
    return confirmed.join(filmed, on="alert_id", how="anti")


def _told_after(
    work: Work,
    name: str,
    moment: datetime,
    key: list[str],
    *,
    where: pl.Expr,
    days: Sequence[date] | None = None,
) -> pl.DataFrame:
    """Keys of a table's rows that were written after a moment."""
    commits = work.lake.history(name, limit=_COMMITS)
    newer = [one for one in commits if one["at_utc"] > moment]
    if days is not None and len(newer) < _COMMITS:
        touched = {one["partition"] for one in newer if one["run_id"]}
        days = [day for day in days if day.isoformat() in touched]
    if not newer or days == []:
        return work.lake.scan(name).select(key).head(0).collect()
    rows = work.lake.read(name, days=days, columns=key, where=where)
    if len(newer) == _COMMITS:
        # How it stood before is not known: better look once too often.
        return rows
    before = max(0, min(one["version"] for one in newer) - 1)
    try:
        known = work.lake.read(name, days=days, columns=key, where=where, version=before)
    except PermanentFailureError:
        # Maintenance has removed that version.
        return rows
    return rows.join(known, on=key, how="anti")


def _crashes(work: Work, pair: Pair, since: datetime) -> list[Crash]:
    packages = work.lake.read(
        "edge_package",
        columns=["manifest_sha256"],
        where=pl.col("model_version") == pair.challenger,
    )
    said = work.lake.read(
        "edge_updates",
        where=pl.col("package").is_in(packages["manifest_sha256"].to_list())
        & pl.col("state").is_in(["rolled_back", "refused"])
        & (pl.col("at_utc") >= since),
    )
    return [
        Crash(row["box"], row["at_utc"].isoformat(), row["state"], row["detail"])
        for row in said.sort("number").iter_rows(named=True)
    ]


def _newest_reports(
    work: Work, since: datetime, now: datetime, guards: GuardSettings
) -> pl.DataFrame:
    """Reports of the last hours, in the order in which the gateway had them.

    `heard_utc` is when it had them, by the boxes' own clocks: the newest moment that any box had
    told of until then. So silence is never judged from a moment at which nobody had asked the
    gateway, and a box whose clock is behind is not silent.
    """
    today = now.astimezone(UTC).date()
    days = [day for day in work.lake.days("edge_reports") if since.date() <= day <= today]
    told = pl.col("at_utc").is_between(since, now)
    columns = ["number", "camera_id", "at_utc", "memory_percent", "box", "model_version", "shadow"]
    # After midnight the only reports of the day may be of a box whose clock is ahead.
    newest_of = (
        work.lake.scan("edge_reports", days=[day])
        .filter(told)
        .select(pl.col("at_utc").max())
        .collect()
        .item()
        for day in reversed(days[-2:])
    )
    newest = next((moment for moment in newest_of if moment is not None), None)
    if newest is None:
        return (
            work.lake.scan("edge_reports", days=[]).select(*columns, heard_utc="at_utc").collect()
        )
    begin = newest - timedelta(minutes=_LOOKED_BACK * guards.heartbeat_min)
    return (
        work.lake.scan("edge_reports", days=[day for day in days if day >= begin.date()])
        .filter(told & (pl.col("at_utc") >= begin) & pl.col("box").is_not_null())
        .select(columns)
        .sort("number")
        .with_columns(pl.col("shadow").fill_null(value=False), heard_utc=pl.col("at_utc").cum_max())
        .collect()
    )


def _by_camera(reports: pl.DataFrame, pair: Pair) -> pl.DataFrame:
    """Cameras of which the challenger raises the alerts: what was heard of each, by whom and when.

    These are the ones that it told of last, and those that the champion watches in shadow by now:
    of these nobody raises alerts if the challenger has never told of them.
    """
    live = ~pl.col("shadow")
    champion = pl.col("model_version") == pair.champion
    in_shadow = champion & pl.col("shadow")
    return (
        reports.group_by("camera_id")
        .agg(
            pl.coalesce(pl.col("box").filter(live).last(), pl.col("box").last()),
            pl.col("model_version").filter(live).last().alias("version"),
            pl.col("shadow").filter(champion).last().alias("champion_in_shadow"),
            pl.coalesce(
                pl.col("heard_utc").filter(live).last(),
                pl.col("heard_utc").filter(in_shadow).first(),
            ).alias("live_utc"),
            pl.col("heard_utc").filter(in_shadow).last().alias("shadow_utc"),
            pl.col("at_utc").filter(live).diff().median().alias("every"),
        )
        .filter(
            (pl.col("version") == pair.challenger).fill_null(value=False)
            | pl.col("champion_in_shadow").fill_null(value=False)
        )
        .sort("camera_id")
    )


def _by_box(reports: pl.DataFrame, cameras: pl.DataFrame, guards: GuardSettings) -> pl.DataFrame:
    """Each box: for how long nothing was heard of it, and whether a camera is the challenger's."""
    return (
        reports.group_by("box")
        .agg(pl.col("heard_utc").last())
        .with_columns(
            minutes=_minutes(reports["heard_utc"].max(), "heard_utc"),
            challengers=pl.col("box").is_in(cameras["box"].implode()),
        )
        .with_columns(silent=pl.col("minutes") >= guards.heartbeat_min)
        .sort("box")
    )


def _minutes(end: object, begin: str) -> pl.Expr:
    return (pl.lit(end, pl.Datetime("us", "UTC")) - pl.col(begin)).dt.total_seconds(
        fractional=True
    ) / 60


def _silences(
    work: Work,
    pair: Pair,
    cameras: pl.DataFrame,
    boxes: pl.DataFrame,
    since: datetime,
    guards: GuardSettings,
) -> list[Silence]:
    """Cameras under the challenger that are silent: for the limit, and longer than as a rule."""
    newest = boxes["heard_utc"].max()
    silent = (
        cameras.with_columns(
            minutes=_minutes(newest, "live_utc"), shadow_minutes=_minutes(newest, "shadow_utc")
        )
        .filter(
            pl.col("minutes") >= guards.heartbeat_min,
            # A box may be set to report once an hour.
            pl.col("minutes") >= 2 * pl.col("every").dt.total_seconds().fill_null(0) / 60,
        )
        .join(boxes.select("box", box_minutes="minutes"), on="box")
    )
    lived = _lived(work, pair, silent, since)
    return [
        Silence(box, camera_id, minutes, shadow_minutes, box_minutes, lived.get(box, 0.0))
        for box, camera_id, minutes, shadow_minutes, box_minutes in silent.select(
            "box", "camera_id", "minutes", "shadow_minutes", "box_minutes"
        )
        .sort("box", "camera_id")
        .iter_rows()
    ]


def _lived(work: Work, pair: Pair, silent: pl.DataFrame, since: datetime) -> dict[str, float]:
    """Minutes from a box's newest change to the challenger to its last report under it.

    Looked up only where a box is silent. Older than two days is old enough.
    """
    newest = silent["live_utc"].max()
    if not isinstance(newest, datetime):
        return {}
    days = [day for day in work.lake.days("edge_reports") if since.date() <= day <= newest.date()]
    own = (
        (pl.col("model_version") == pair.challenger)
        & ~pl.col("shadow").fill_null(value=False)
        & pl.col("box").is_in(silent["box"].to_list())
        & (pl.col("at_utc") >= since)
    )
    rows = (
        work.lake.scan("edge_reports", days=days[-2:])
        .filter(own)
        .group_by("box", "camera_id")
        .agg(pl.col("at_utc").min().alias("came_utc"), pl.col("at_utc").max())
        .group_by("box")
        .agg(pl.col("came_utc").max(), pl.col("at_utc").max())
        .with_columns(lived=(pl.col("at_utc") - pl.col("came_utc")).dt.total_seconds() / 60)
        .collect()
    )
    return dict(rows.select("box", "lived").iter_rows())


def _latency(
    work: Work, pair: Pair, since: datetime, now: datetime, guards: GuardSettings
) -> tuple[float | None, int]:
    """The challenger's 95th percentile and its alerts; none where the champion is as late.

    Both versions' alerts of the last hours, live and in shadow. A network that is away delays both:
    a late alert that waited while one of the champion's waited too says nothing, and where the
    champion is late by the same limits, the challenger's lateness says nothing at all. Of two
    values between which the percentile lies it is the lower: one late alert alone never counts.
    """
    begin = max(since, now - timedelta(hours=guards.latency_hours)).astimezone(UTC)
    last = now.astimezone(UTC).date()
    days = [day for day in work.lake.days("edge_alerts") if begin.date() <= day <= last]
    alerts = (
        work.lake.scan("edge_alerts", days=days)
        .filter(pl.col("raised_utc") >= begin)
        .select("model_version", "raised_utc", "received_utc")
        .with_columns(
            role=pair.role(),
            took_s=(pl.col("received_utc") - pl.col("raised_utc")).dt.total_milliseconds() / 1000,
        )
        .drop_nulls("role")
        .with_row_index("place")
        .collect()
    )
    is_late = pl.col("took_s") > guards.latency_p95_s
    usual, own = (alerts.filter(role=role) for role in ("champion", "challenger"))
    usual_p95 = usual["took_s"].quantile(0.95, "lower")
    if (
        usual_p95 is not None
        and usual_p95 > guards.latency_p95_s
        and usual.height >= guards.latency_alerts
    ):
        return None, 0
    waited = usual.filter(is_late).select(from_utc="raised_utc", until_utc="received_utc")
    excused = own.filter(is_late).join_where(
        waited,
        pl.col("raised_utc") <= pl.col("until_utc"),
        pl.col("from_utc") <= pl.col("received_utc"),
    )
    judged = own.join(excused, on="place", how="anti")
    p95 = judged["took_s"].quantile(0.95, "lower")
    return (None, 0) if p95 is None else (max(0.0, p95), judged.height)


def _memory(
    reports: pl.DataFrame, pair: Pair, cameras: pl.DataFrame, guards: GuardSettings
) -> list[MemoryUse]:
    """Boxes whose last reports under the challenger are all over the limit, with the lowest.

    The memory is the box's, whichever of its cameras a report is about.
    """
    newest = (
        reports.filter(
            pl.col("model_version") == pair.challenger,
            ~pl.col("shadow"),
            pl.col("box").is_in(cameras["box"].implode()),
        )
        .group_by("box", "at_utc")
        .agg(pl.col("memory_percent").max())
        .sort("box", "at_utc")
        .group_by("box", maintain_order=True)
        .agg(pl.col("memory_percent").tail(guards.memory_reports).min(), pl.len().alias("reports"))
        .filter(pl.col("reports") >= guards.memory_reports)
    )
    return [
        MemoryUse(box, percent)
        for box, percent in newest.select("box", "memory_percent").iter_rows()
        if percent >= guards.memory_percent
    ]
