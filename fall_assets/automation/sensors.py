"""Sensors: new footage, changed labels, drift. A tick is cheap however long the history is.

What belongs here: turning what was seen into run requests. The decisions are pure functions of
the domain packages.
"""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import polars as pl

from fall_assets import jobs
from fall_assets.drift.retraining import DriftDay, Retraining, decide
from fall_assets.footage.discovery import new_since
from fall_assets.footage.template import PathTemplate
from fall_assets.labelling.files import label_files
from fall_assets.lake import Lake
from fall_assets.partitions import DAYS
from fall_assets.resources.site import SiteResource

DRIFT_ID_TAG = "fall_assets/drift_id"
REASON_TAG = "fall_assets/reason"
_TAG_LENGTH = 255


@dg.sensor(
    job=jobs.collection,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def footage_sensor(
    context: dg.SensorEvaluationContext, site: SiteResource
) -> dg.SensorResult | dg.SkipReason:
    """Ask for an intake of every day for which new footage lies in the landing folder.

    Late files: their own day is asked for. The first tick passes over files that the lake already
    knows. A failed intake is not asked for again by this sensor; the run's retries apply.
    """
    place = site.site()
    if not place.landing.is_dir():
        return dg.SkipReason(f"there is no landing folder at {place.landing}")
    settings = place.settings.footage
    changed, cursor = new_since(
        place.landing,
        PathTemplate(settings.template),
        context.cursor,
        settle_s=settings.settle_s,
    )
    known = _known_paths(site.lake(), list(changed)) if not context.cursor else set()
    requests = []
    for day, paths in changed.items():
        new = [path for path in paths if path not in known]
        if new and DAYS.has_partition_key(day.isoformat()):
            requests.append(
                dg.RunRequest(
                    partition_key=day.isoformat(),
                    run_key=f"{day}-{_fingerprint(place.landing, new)}",
                    tags={REASON_TAG: f"{len(new)} new files"},
                )
            )
    return dg.SensorResult(run_requests=requests, cursor=cursor)


@dg.sensor(
    job=jobs.labelling,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def label_sensor(
    context: dg.SensorEvaluationContext, site: SiteResource
) -> dg.SensorResult | dg.SkipReason:
    """Read the label files again when one of them changed.

    All days with footage are asked for in one run: a label file may speak of any day. The first
    tick passes over files that did not change since the last reading.
    """
    landing = site.site().landing
    files = [path.relative_to(landing).as_posix() for path in label_files(landing)]
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
    job=jobs.retraining,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
)
def drift_sensor(
    context: dg.SensorEvaluationContext, site: SiteResource
) -> dg.SensorResult | dg.SkipReason:
    """Start a retraining, exactly once per drift, with the reason in the run's tags.

    Off until a person turns it on, because learning is expensive. What was started is read from
    the instance's runs, and each request's run key is the drift's id: a restart, a lost cursor or
    two ticks at once start nothing twice.
    """
    decision = decide(
        list(_reports(site.lake())),
        _retrainings(context.instance),
        site.site().settings.retraining,
        datetime.now(UTC),
    )
    if not decision.start or decision.drift_id is None:
        return dg.SkipReason(decision.reason)
    request = dg.RunRequest(
        run_key=decision.drift_id,
        tags={DRIFT_ID_TAG: decision.drift_id, REASON_TAG: decision.reason[:_TAG_LENGTH]},
    )
    return dg.SensorResult(run_requests=[request])


def _known_paths(lake: Lake, days: list[date]) -> set[str]:
    """Files that were taken in or set aside for good."""
    videos = lake.read("videos", days=days, columns=["path"])
    aside = lake.read("quarantine", days=days, columns=["path", "reason"]).filter(
        pl.col("reason") != "still_being_written"
    )
    return {*videos["path"], *aside["path"]}


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
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]


def _reports(lake: Lake) -> Iterator[DriftDay]:
    """The last fortnight of drift reports."""
    days = lake.days("drift_report")[-14:]
    for row in lake.read("drift_report", days=days).iter_rows(named=True) if days else ():
        yield DriftDay(
            row["day"], row["model_version"], row["drifted"], row["drift_id"], row["verdict"]
        )


def _retrainings(instance: dg.DagsterInstance) -> list[Retraining]:
    """Every retraining that drift started, from the instance's runs."""
    records = instance.get_run_records(dg.RunsFilter(job_name=jobs.retraining.name))
    return [
        Retraining(record.dagster_run.tags[DRIFT_ID_TAG], record.create_timestamp)
        for record in records
        if DRIFT_ID_TAG in record.dagster_run.tags
    ]


ALL_SENSORS = [footage_sensor, label_sensor, drift_sensor]
