"""Sensors: new footage, changed labels, the gateway, the rollout, drift.

Each is cheap however long the history is.

What belongs here: turning what was seen into run requests. The decisions are pure functions of
the domain packages.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import polars as pl

from fall_assets import jobs
from fall_assets.automation.retrainings import registered, retrainings, tags_of
from fall_assets.delivery.gateway import Gateway, Inbox, platform_token
from fall_assets.errors import FallAssetsError
from fall_assets.footage.discovery import new_since
from fall_assets.labelling.files import label_files
from fall_assets.labelling.zones import ZONES_FILE
from fall_assets.lake import Lake
from fall_assets.partitions import DAYS
from fall_assets.pipeline.answers import decide
from fall_assets.pipeline.drift_records import read_rows
from fall_assets.pipeline.rollout import due, newest, to_score_again
from fall_assets.pipeline.work import Work
from fall_assets.resources.site import SiteResource

REASON_TAG = "fall_assets/reason"
_TAG_LENGTH = 255
INBOXES: tuple[Inbox, ...] = ("answers", "alerts", "falls", "reports", "updates")

_SPOKEN_OF: Mapping[Inbox, tuple[str, ...]] = {
    "answers": ("raised_utc",),
    "alerts": ("raised_utc",),
    "falls": ("from_utc", "until_utc"),
}
"""The moments whose days are computed anew."""

_ASK_AGAIN_S = 600
_UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
)
_SCORE_AGAIN_S = 6 * 3600
_FEW_DAYS = 8
"""A tick that finds changes on more days than these looks up what the lake knows of them."""


@dg.sensor(
    job=jobs.collection,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def footage_sensor(
    context: dg.SensorEvaluationContext, site: SiteResource
) -> dg.SensorResult | dg.SkipReason:
    """Ask for an intake of every day for which a source has new footage.

    Late files: their own day is asked for. Where everything is looked at again (the first tick, or
    another place or template), what the lake already knows is passed over. A source that cannot be
    looked at, as a bucket that is away, does not stop the others: the tick fails only where it
    found nothing else. A failed intake is not asked for again by this sensor; the run's retries
    apply.
    """
    place = site.site()
    if not place.landing.is_dir():
        return dg.SkipReason(f"there is no landing folder at {place.landing}")
    settings = place.settings.footage
    problems: list[FallAssetsError] = []
    changed, cursor = new_since(
        place.landing,
        settings.sources,
        context.cursor,
        settle_s=settings.settle_s,
        report=problems.append,
    )
    for problem in problems:
        context.log.error(str(problem))
    many = not context.cursor or len(changed) > _FEW_DAYS
    known = _known_files(site.lake(), list(changed)) if many else {}
    requests = []
    for day, files in changed.items():
        new = {path: state for path, state in files.items() if known.get(path) != state}
        if new and DAYS.has_partition_key(day.isoformat()):
            requests.append(
                dg.RunRequest(
                    partition_key=day.isoformat(),
                    run_key=f"{day}-{_hash(sorted(new.items()))}",
                    tags={REASON_TAG: f"{len(new)} new files"},
                )
            )
    if problems and not requests:
        raise problems[0]
    return dg.SensorResult(run_requests=requests, cursor=cursor)


@dg.sensor(
    job=jobs.labelling,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def label_sensor(
    context: dg.SensorEvaluationContext, site: SiteResource
) -> dg.SensorResult | dg.SkipReason:
    """Read the label files and `zones.csv` again when one of them changed.

    All days with footage are asked for in one run: a label file may speak of any day. The first
    tick passes over files that did not change since the last reading.
    """
    landing = site.site().landing
    files = [path.relative_to(landing).as_posix() for path in label_files(landing)]
    files += [ZONES_FILE] if (landing / ZONES_FILE).is_file() else []
    state = _fingerprint(landing, files)
    if state == context.cursor:
        return dg.SkipReason("no label file changed")
    if not context.cursor and _were_read(site.lake(), [landing / file for file in files]):
        return dg.SensorResult(skip_reason="all label files were read before", cursor=state)
    days = site.lake().days("videos")
    if not days or not files:
        return dg.SkipReason("no footage to label yet" if files else "no label files yet")
    request = dg.RunRequest(
        run_key=f"labels-{state}",
        tags={
            jobs.RANGE_START_TAG: min(days).isoformat(),
            jobs.RANGE_END_TAG: max(days).isoformat(),
            REASON_TAG: "label files changed",
        },
    )
    return dg.SensorResult(run_requests=[request], cursor=state)


@dg.sensor(
    jobs=[jobs.answering, jobs.retraining],
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
)
def drift_sensor(
    context: dg.SensorEvaluationContext, site: SiteResource
) -> dg.SensorResult | dg.SkipReason:
    """Ask for the next answers to drift: one run that writes them down, and a retraining.

    Off until a person turns it on, because learning is expensive. A retraining's run key and tags
    are its episode and attempt, and whether it was started is read from the instance's runs and
    the lake: a restart, a lost cursor or two ticks at once start nothing twice. It is asked for
    only after what comes before it is written down. Of answers that are not written down (the run
    failed) the sensor tells again every ten minutes, and not while a run is under way; to write
    them twice changes nothing.
    """
    now = datetime.now(UTC)
    work = Work(site.site(), site.lake())
    runs = retrainings(context.instance, jobs.retraining.name)
    decision = decide(work, now, runs, registered(context.instance, runs, read_rows(work)))
    requests = []
    if decision.records and not _under_way(context.instance, jobs.answering.name):
        steps = [
            (one.episode.id, one.answer, one.state, one.attempt, one.sentence)
            for one in decision.records
        ]
        requests.append(
            dg.RunRequest(
                job_name=jobs.answering.name,
                run_key=f"answers-{_hash(steps)}-{int(now.timestamp()) // _ASK_AGAIN_S}",
                tags={REASON_TAG: decision.records[0].sentence[:_TAG_LENGTH]},
            )
        )
    step = decision.retraining
    if step is not None:
        requests.append(
            dg.RunRequest(
                job_name=jobs.retraining.name,
                run_key=step.key,
                tags={**tags_of(step, now), REASON_TAG: step.sentence[:_TAG_LENGTH]},
            )
        )
    if not requests:
        return dg.SkipReason("; ".join(decision.waits) or "no drift waits for an answer")
    return dg.SensorResult(run_requests=requests)


@dg.sensor(
    job=jobs.packaging,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def packaging_sensor(
    context: dg.SensorEvaluationContext, site: SiteResource
) -> dg.SensorResult | dg.SkipReason:
    """Pack a version that was registered and is not packaged yet, once.

    A package that differs from its model fails its run and is not asked for again by this sensor:
    somebody must look.
    """
    lake = site.lake()
    registered = lake.read("registered_model", columns=["model_version", "registered_utc"])
    if registered.is_empty():
        return dg.SkipReason("no version is registered yet")
    newest: str = registered.sort("registered_utc")["model_version"][-1]
    packaged = lake.read("edge_package", columns=["model_version"])["model_version"]
    if newest in packaged.to_list():
        return dg.SkipReason(f"version {newest} is packaged")
    request = dg.RunRequest(
        run_key=f"package-{newest}", tags={REASON_TAG: f"version {newest} was registered"}
    )
    return dg.SensorResult(run_requests=[request])


@dg.sensor(
    jobs=[jobs.rolling_out, jobs.nightly],
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def rollout_sensor(
    context: dg.SensorEvaluationContext, site: SiteResource
) -> dg.SensorResult | dg.SkipReason:
    """Ask for a look at the rollout: a day of evidence came in, a guard tripped, or one can begin.

    Which decision follows is the run's matter, and it takes each once, so that a second request for
    the same does nothing. A reason that stands (the run failed) is told again every ten minutes. A
    day that was scored before the decision that holds on it is scored again, and asked for every
    six hours until it is: the rollout waits for it.
    """
    now = datetime.now(UTC)
    work = Work(site.site(), site.lake())
    current = newest(work)
    requests = [
        dg.RunRequest(
            job_name=jobs.nightly.name,
            partition_key=day.isoformat(),
            run_key=(
                f"score-{current.id}-{current.change.number}-{day}"
                f"-{int(now.timestamp()) // _SCORE_AGAIN_S}"
            ),
            tags={REASON_TAG: f"rollout {current.id}: another version watches from this day"},
        )
        for day in to_score_again(work)
        if current is not None
    ]
    reasons = due(work, now)
    if reasons:
        when = int(now.timestamp()) // _ASK_AGAIN_S if any(one.again for one in reasons) else "once"
        requests.append(
            dg.RunRequest(
                job_name=jobs.rolling_out.name,
                run_key=f"rollout-{_hash('; '.join(one.key for one in reasons))}-{when}",
                tags={REASON_TAG: "; ".join(one.text for one in reasons)[:_TAG_LENGTH]},
            )
        )
    if not requests:
        return dg.SkipReason("nothing to decide")
    return dg.SensorResult(run_requests=requests)


@dg.sensor(
    job=jobs.ward,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def gateway_sensor(
    context: dg.SensorEvaluationContext, site: SiteResource
) -> dg.SensorResult | dg.SkipReason:
    """Take in what the ward answered, at once, and the boxes' telemetry now and then.

    Each day that a new alert, answer or reported fall speaks of is asked for, and today where a box
    tells of an update, which may be a package that it went back from; telemetry asks for today,
    every `reports_every_min`. A gateway that is away fails the tick, which says so; what it holds
    waits there. Where a run fails, its retries apply; the next run takes in what it did not, as the
    lake and not this cursor knows what it has, but labels of that day wait for the next reading of
    them.
    """
    place = site.site()
    if not place.settings.gateway.url:
        return dg.SkipReason("the site has no gateway")
    now = datetime.now(UTC)
    seen: dict[str, float] = dict.fromkeys((*INBOXES, "reports_s"), 0)
    seen |= json.loads(context.cursor or "{}")
    with Gateway(place.settings.gateway.url, platform_token(place.root)) as gateway:
        new = {what: gateway.page(what, int(seen[what])) for what in INBOXES}
    days = {
        datetime.fromisoformat(row[moment]).astimezone(UTC).date()
        for what, moments in _SPOKEN_OF.items()
        for row in new[what]
        for moment in moments
    }
    due_s = seen["reports_s"] + 60 * place.settings.gateway.reports_every_min
    if new["reports"] and now.timestamp() >= due_s:
        days.add(now.date())
        seen["reports_s"] = now.timestamp()
    if new["updates"]:
        days.add(now.date())
    for what, rows in new.items():
        seen[what] = max([int(seen[what]), *(int(row["id"]) for row in rows)])
    state = json.dumps(seen)
    said = ", ".join(f"{len(new[what])} {what}" for what in _SPOKEN_OF)
    requests = [
        dg.RunRequest(
            partition_key=day.isoformat(),
            run_key=f"ward-{day}-{_hash(state)}",
            tags={REASON_TAG: said},
        )
        for day in sorted(days)
        if DAYS.has_partition_key(day.isoformat())
    ]
    if not requests:
        return dg.SensorResult(skip_reason="nothing new at the gateway", cursor=state)
    return dg.SensorResult(run_requests=requests, cursor=state)


def _known_files(lake: Lake, days: list[date]) -> dict[str, str | None]:
    """Files that were taken in or set aside for good, with their fingerprints."""
    columns = ["path", "fingerprint"]
    seen = lake.read("sightings", days=days, columns=[*columns, "gone_utc"]).filter(
        pl.col("gone_utc").is_null()
    )
    aside = lake.read("quarantine", days=days, columns=[*columns, "reason"]).filter(
        pl.col("reason") != "still_being_written"
    )
    return dict([*seen.select(columns).iter_rows(), *aside.select(columns).iter_rows()])


def _were_read(lake: Lake, files: list[Path]) -> bool:
    """Whether labels were written after the last change of any of the files."""
    written = lake.history("labels", limit=1)
    if not written:
        return False
    written_s = written[0]["at_utc"].timestamp()
    return all(path.stat().st_ctime < written_s for path in files)


def _fingerprint(root: Path, paths: list[str]) -> str:
    """Changes when a file of the list is added, removed or changed."""
    state = []
    for path in sorted(paths):
        try:
            status = (root / path).lstat()
        except OSError:
            continue
        state.append((path, status.st_size, status.st_mtime_ns))
    return _hash(state)


def _hash(state: object) -> str:
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]


def _under_way(instance: dg.DagsterInstance, job_name: str) -> bool:
    """Whether a run of the job waits or runs."""
    states = dg.RunsFilter(job_name=job_name, statuses=list(_UNFINISHED))
    return bool(instance.get_run_records(states, limit=1))


ALL_SENSORS = [
    footage_sensor,
    label_sensor,
    gateway_sensor,
    packaging_sensor,
    rollout_sensor,
    drift_sensor,
]
