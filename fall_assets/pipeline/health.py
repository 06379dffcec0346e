"""The infrastructure's health: the lake's telemetry, disk and history, looked at as of now.

What belongs here: reading and writing the lake for `fall_assets.monitoring`, and asking the gateway
whether it is there. What does not: judging, wording, metrics.

Nothing here costs more with a longer history: telemetry is read of the newest days, storage of the
newest month, problems of those that are open or ended within a week.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

import polars as pl

from fall_assets.lake.registry import TABLES, table
from fall_assets.monitoring.cameras import REPORT_COLUMNS, CameraNow, cameras_now
from fall_assets.monitoring.disk import (
    DISK,
    FILES,
    Disk,
    disk_of,
    folder_size,
    growth_per_day,
)
from fall_assets.monitoring.figures import (
    BoxPackage,
    DriftNow,
    Queue,
    RolloutNow,
    SiteFigures,
    TableUse,
)
from fall_assets.monitoring.problems import (
    CAMERA_KINDS,
    DISK_KINDS,
    RUN_KINDS,
    Problem,
    camera_problems,
    disk_problems,
    follow,
    has_ended,
    run_problems,
)
from fall_assets.monitoring.runs import RunFigures
from fall_assets.monitoring.technician import due, tell
from fall_assets.pipeline.locks import locked
from fall_assets.pipeline.work import Work

LOOK_BACK_DAYS: Final = 30
"""A camera's newest report is looked for so far back."""
_NEWEST: Final = timedelta(hours=3)
_MEASURED_EVERY: Final = timedelta(hours=20)
_GROWTH_OVER: Final = timedelta(days=30)
_ENDS_TOLD_WITHIN: Final = timedelta(days=7)
_ONE_DAY: Final = timedelta(days=1)
_FALL_DAYS: Final = 28
"""Falls are few: a day of them says nothing."""
_GATEWAY_S: Final = 2.0
_OTHER_RUN_S: Final = 60.0


def has_telemetry(work: Work) -> bool:
    """Whether any camera ever reported; else nothing is known of them."""
    return bool(work.lake.days("camera_health"))


def look_at_cameras(work: Work, now: datetime) -> list[CameraNow]:
    """How each camera of the site is at `now`, from its newest telemetry by the telemetry's time.

    Cameras of data sets send none and are left out. Of a camera that is silent, the newest report
    of the last LOOK_BACK_DAYS days that have any counts.
    """
    cameras = (
        work.lake.read("cameras", columns=["camera_id", "ward", "room", "dataset"])
        .filter(pl.col("dataset") == "site")
        .select("camera_id", "ward", "room")
    )
    settings, places = work.site.settings.health, list(cameras.iter_rows())
    names = cameras["camera_id"].to_list()
    days = work.lake.days("camera_health")
    today = now.date()
    # A box whose clock is ahead writes days to come; one of them tells of it.
    newest = [day for day in days if day >= today - _ONE_DAY][:4]
    older = [day for day in days if day < today - _ONE_DAY][-LOOK_BACK_DAYS:]
    rows = _reports(work, newest, names, since=now - _NEWEST)
    judged = cameras_now(rows, places, now, settings)
    # The others need more: since when, or when they were heard of last.
    unwell = [one.camera_id for one in judged if one.state != "ok"]
    rows = pl.concat(
        [
            rows.filter(~pl.col("camera_id").is_in(unwell)),
            _reports(work, newest, unwell),
        ]
    )
    missing = sorted(set(unwell) - set(rows["camera_id"]))
    while older and missing:
        found = _reports(work, [older.pop()], missing)
        rows = pl.concat([rows, found])
        missing = sorted(set(missing) - set(found["camera_id"]))
    return cameras_now(rows, places, now, settings)


def _reports(
    work: Work, days: Sequence[date], cameras: Sequence[str], since: datetime | None = None
) -> pl.DataFrame:
    if not days or not cameras:
        return table("camera_health").empty().select(REPORT_COLUMNS)
    rows = work.lake.scan("camera_health", days=days).filter(pl.col("camera_id").is_in(cameras))
    if since is not None:
        rows = rows.filter(pl.col("at_utc") > since)
    return rows.select(REPORT_COLUMNS).collect()


def measure_storage(work: Work, now: datetime) -> bool:
    """Add what disk and lake take to `storage_use`, about once a day; whether it was time."""
    last = work.lake.scan("storage_use").select(pl.col("at_utc").max()).collect().item()
    if last is not None and now - last < _MEASURED_EVERY:
        return False
    disk = disk_of(work.site.root)
    rows: list[tuple[datetime, str, int, int | None, int | None]] = [
        (now, DISK, disk.total - disk.free, None, disk.free)
    ]
    folders = {name: work.lake.root / "tables" / name for name in TABLES}
    for what, folder in {**folders, FILES: work.lake.files_root}.items():
        if folder.is_dir():
            rows.append((now, what, *folder_size(folder), None))
    frame = pl.DataFrame(rows, schema=table("storage_use").schema, orient="row")
    work.lake.append("storage_use", frame, work.provenance())
    return True


def storage(work: Work, disk: Disk, now: datetime) -> tuple[dict[str, TableUse], float | None]:
    """What each table takes and gains, and bytes a day by which the disk fills (None: unknown)."""
    rows = work.lake.read("storage_use", where=pl.col("at_utc") > now - _GROWTH_OVER)
    uses: dict[str, TableUse] = {}
    filling = None
    for (what,), part in rows.group_by("what"):
        points = list(part.select("at_utc", "bytes").iter_rows())
        if what == DISK:
            filling = growth_per_day([*points, (now, disk.total - disk.free)])
            continue
        newest = part.sort("at_utc").row(-1, named=True)
        uses[str(what)] = TableUse(newest["bytes"], newest["files"] or 0, growth_per_day(points))
    return uses, filling


def gateway_answers(work: Work) -> bool | None:
    """Whether the gateway says that it is well; None where the site has none."""
    url = work.site.settings.gateway.url
    if not url:
        return None
    import httpx

    try:
        answer = httpx.get(f"{url.rstrip('/')}/healthz", timeout=_GATEWAY_S, follow_redirects=False)
    except httpx.HTTPError:
        return False
    return answer.is_success


def newest_drift(work: Work) -> DriftNow | None:
    """The newest day's drift report; None without any."""
    days = work.lake.days("drift_report")[-1:]
    if not days:
        return None
    reports = work.lake.read("drift_report", days=days).sort("model_version")
    causes = work.lake.read("drift_causes", days=days).filter("confirmed")
    counts = causes.group_by("cause").agg(pl.col("camera_id").n_unique())
    return DriftNow(
        datetime.combine(days[0], time(), UTC),
        bool(reports["drifted"].any()),
        "; ".join(reports["verdict"]),
        dict(counts.iter_rows()),
    )


@dataclass(frozen=True)
class Kept:
    """What a look at the site found and did.

    Attributes:
        cameras: how they are.
        open: rows of `site_health` that have not ended.
        changed: problems that began, changed or ended.
        told: messages that were taken, and the answers.
        failed: messages that were not.
        disk, filling: the disk, and bytes a day by which it fills.
        storage: what tables take.
    """

    cameras: Sequence[CameraNow]
    open: pl.DataFrame
    changed: int
    told: Sequence[tuple[str, str]]
    failed: Sequence[tuple[str, str]]
    disk: Disk
    filling: float | None
    storage: Mapping[str, TableUse]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def keep_health(
    work: Work, runs: RunFigures | None, clock: Callable[[], datetime] = _utc_now
) -> Kept:
    """Look at the site, follow its problems in `site_health`, and tell the technician.

    `runs` is None where Dagster could not be asked: its problems stay as they were. What was sent
    is noted before the next is sent, so that a run that is killed tells nothing twice but the one
    message that it was sending, whose key stays the same.

    Raises:
        BusyError: another run is looking, and takes over a minute.
    """
    with locked(work, "health", wait_s=_OTHER_RUN_S):
        now = clock()
        measure_storage(work, now)
        disk = disk_of(work.site.root)
        uses, filling = storage(work, disk, now)
        cameras = look_at_cameras(work, now)
        found, looked_at = _problems(work, cameras, disk, filling, runs, now)
        settle_min = work.site.settings.technician.settle_min
        lately = pl.col("gone_utc").is_null() | (
            pl.col("gone_utc") > now - _ENDS_TOLD_WITHIN - timedelta(minutes=settle_min)
        )
        before = work.lake.read("site_health", where=lately)
        changed = follow(before, found, looked_at, now, settle_min=settle_min)
        if changed.height:
            work.lake.upsert("site_health", changed, work.provenance())
        after = work.lake.read("site_health", where=lately)
        told, failed = _tell(work, after, now, clock)
    is_open = [not has_ended(row, now, settle_min) for row in after.iter_rows(named=True)]
    return Kept(
        cameras,
        after.filter(pl.Series(is_open, dtype=pl.Boolean)).sort("found_utc", "problem_id"),
        changed.height,
        told,
        failed,
        disk,
        filling,
        uses,
    )


def _problems(
    work: Work,
    cameras: Sequence[CameraNow],
    disk: Disk,
    filling: float | None,
    runs: RunFigures | None,
    now: datetime,
) -> tuple[list[Problem], set[str]]:
    """What is wrong, and the kinds that were looked at."""
    settings = work.site.settings.health
    found = disk_problems(disk, filling, now, settings)
    looked_at = {*DISK_KINDS, *CAMERA_KINDS, "gateway_away", "drift"}
    if has_telemetry(work):
        found += camera_problems(cameras, now)
    if gateway_answers(work) is False:
        found.append(
            Problem(
                "gateway_away",
                "gateway",
                "",
                now,
                "the gateway does not answer: boxes keep their alerts, wards see none",
                "look whether `fall-gateway serve` runs and the network is there",
            )
        )
    drift = newest_drift(work)
    if drift is not None and drift.drifted:
        found.append(
            Problem(
                "drift",
                "drift",
                "",
                drift.day,
                drift.verdict,
                "open the day's drift_report in the Dagster UI: it says what is done or asked for",
            )
        )
    if runs is not None:
        found += run_problems(runs, now, settings)
        looked_at |= RUN_KINDS
    return found, looked_at


def _tell(
    work: Work, problems: pl.DataFrame, now: datetime, clock: Callable[[], datetime]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Tell what is due: (title, answer) of what was taken, and of what was not."""
    ids = problems["problem_id"].to_list()
    deliveries = work.lake.read("technician_deliveries", where=pl.col("problem_id").is_in(ids))
    settings, urls = work.site.settings.technician, work.site.technician_urls
    for one in settings.wards:
        if one.receiver and one.receiver not in urls:
            work.log(
                f"no address for the technician {one.receiver!r} of ward {one.ward!r}: the site's "
                f"is told instead; set FALL_TECHNICIAN_WEBHOOK_URL_{one.receiver.upper()}"
            )
    told: list[tuple[str, str]] = []
    failed: list[tuple[str, str]] = []

    def record(row: pl.DataFrame) -> None:
        work.lake.append("technician_deliveries", row, work.provenance(), skip_existing=True)

    messages = due(problems, deliveries, urls, settings, now)
    for message, sent, detail in tell(messages, urls, clock, record):
        if message.channel == "log":
            work.log(f"technician: {message.title}")
        (told if sent else failed).append((message.title, detail))
    return told, failed


def site_figures(work: Work, runs: RunFigures | None, now: datetime) -> SiteFigures:
    """All that is measured of the site, at `now`. Nothing is written."""
    disk = disk_of(work.site.root)
    uses, filling = storage(work, disk, now)
    settle_min = work.site.settings.technician.settle_min
    standing = work.lake.read("site_health", where=_not_long_gone(now, settle_min))
    wrong = standing.group_by("kind", "ward").len()
    return SiteFigures(
        at_utc=now,
        telemetry=has_telemetry(work),
        cameras=look_at_cameras(work, now),
        disk=disk,
        storage=uses,
        storage_growth=filling,
        problems={(kind, ward): count for kind, ward, count in wrong.iter_rows()},
        alerts=_alerts(work, now),
        answers=_answers(work, now - _ONE_DAY, now),
        falls=_falls(work, now),
        queue=_queue(work, now),
        drift=newest_drift(work),
        rollout=_rollout(work),
        gateway=gateway_answers(work),
        packages=_packages(work),
        runs=runs,
    )


def _not_long_gone(now: datetime, settle_min: float) -> pl.Expr:
    gone = pl.col("gone_utc")
    return gone.is_null() | (gone > now - timedelta(minutes=settle_min))


def _two_days(now: datetime) -> list[date]:
    return [now.date() - _ONE_DAY, now.date()]


def _alerts(work: Work, now: datetime) -> dict[tuple[str, str, str], int]:
    """Alerts of the last 24 h by ward, kind and source."""
    wards = work.lake.scan("cameras").select("camera_id", "ward")
    lately = pl.col("raised_utc").is_between(now - _ONE_DAY, now)
    from_footage = (
        work.lake.scan("alerts", days=_two_days(now))
        .filter(lately)
        .select("ward", pl.col("kind").fill_null("fall"), source=pl.lit("footage"))
    )
    from_boxes = (
        work.lake.scan("edge_alerts", days=_two_days(now))
        .filter(lately, ~pl.col("shadow"))
        .join(wards, on="camera_id", how="left")
        .select(pl.col("ward").fill_null("unknown"), "kind", source=pl.lit("box"))
    )
    counts = pl.concat([from_footage, from_boxes]).group_by("ward", "kind", "source").len()
    return {
        (ward, kind, source): count for ward, kind, source, count in counts.collect().iter_rows()
    }


def _falls(work: Work, now: datetime) -> dict[str, int]:
    """Falls of the last four weeks that staff know of, by how."""
    since = now - timedelta(days=_FALL_DAYS)
    reported = work.lake.read("reported_falls", where=pl.col("until_utc").is_between(since, now))
    return {"alerted": _answers(work, since, now).get("fall", 0), "reported": reported.height}


def _answers(work: Work, since: datetime, now: datetime) -> dict[str, int]:
    """Alerts answered since then, by their newest answer."""
    newest = (
        work.lake.scan("alert_feedback")
        .filter(pl.col("at_utc").is_between(since, now))
        .sort("at_utc")
        .group_by("alert_id")
        .agg(pl.col("verdict").last())
    )
    return dict(newest.group_by("verdict").len().collect().iter_rows())


def _queue(work: Work, now: datetime) -> Queue:
    """Segments of the last two days that were not decoded yet."""
    days = _two_days(now)
    done = work.lake.scan("motion_gate", days=days).select("video_id").unique()
    waiting = (
        work.lake.scan("videos", days=days)
        .filter(pl.col("deleted_utc").is_null())
        .join(done, on="video_id", how="anti")
        .select(pl.len().alias("segments"), pl.col("start_utc").min().alias("oldest"))
        .collect()
        .row(0, named=True)
    )
    if waiting["oldest"] is None:
        return Queue()
    return Queue(waiting["segments"], max(0.0, (now - waiting["oldest"]).total_seconds()))


def _rollout(work: Work) -> RolloutNow | None:
    rows = work.lake.read("rollout", columns=["at_utc", "number", "state", "share"])
    if rows.is_empty():
        return None
    newest = rows.sort("at_utc", "number").row(-1, named=True)
    return RolloutNow(newest["state"], newest["share"])


def _packages(work: Work) -> list[BoxPackage]:
    rows = work.lake.scan("edge_updates").sort("number").group_by("box").last()
    newest = rows.select("box", "package", "state").sort("box").collect()
    return [BoxPackage(box, package[:16], state) for box, package, state in newest.iter_rows()]
