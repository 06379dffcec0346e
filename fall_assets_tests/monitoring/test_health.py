"""The site is looked at as it is now: through the lake, real runs, a real webhook, real scrapes."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fall_assets.commands.monitor import gatherer
from fall_assets.delivery.gateway import GatewaySettings
from fall_assets.lake.registry import table
from fall_assets.monitoring.endpoint import serve
from fall_assets.monitoring.runs import RunFigures
from fall_assets.monitoring.settings import HealthSettings, TechnicianSettings
from fall_assets.pipeline.feedback import keep_reports
from fall_assets.pipeline.health import (
    Kept,
    keep_health,
    look_at_cameras,
    measure_storage,
    newest_drift,
    site_figures,
    storage,
)
from fall_assets.pipeline.work import Work
from fall_assets.site import SettingsError, SiteSettings, build_settings, technician_urls
from fall_assets_tests.delivery.test_channels import Receiver
from fall_assets_tests.monitoring.telemetry import NOW, report
from fall_assets_tests.pipeline.recorded import RUN, Recorded
from fall_assets_tests.site import TestSite, new_site

HEADER = "camera_id,at_utc,cpu_percent,memory_percent,bandwidth_kbps,power\n"


@pytest.fixture
def site(tmp_path: Path) -> Recorded:
    recorded = Recorded(tmp_path / "site")
    recorded.add(
        "cameras",
        [
            {
                "camera_id": f"cam-{number}",
                "ward": "Ward A",
                "room": str(number),
                "view": "level",
                "dataset": "site" if number < 3 else "urfd",
                "crop": None,
            }
            for number in (1, 2, 3)
        ],
    )
    return recorded


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


def tell(site: Recorded, *rows: dict[str, object]) -> None:
    """Put telemetry into the lake."""
    for row in rows:
        site.add("camera_health", [row], row["day"])  # type: ignore[arg-type]


def work_of(site: Recorded, urls: dict[str, str] | None = None, **settings: object) -> Work:
    chosen = replace(
        site.work.site.settings,
        health=HealthSettings(disk_warn_share=0.0, disk_full_share=0.0),
        technician=TechnicianSettings(wait_min=0.0),
        **settings,  # type: ignore[arg-type]
    )
    place = replace(site.work.site, settings=chosen, technician_urls=urls or {})
    return replace(site.work, site=place)


def keep(work: Work, minute: float = 0, runs: RunFigures | None = None) -> Kept:
    return keep_health(work, runs, lambda: NOW + timedelta(minutes=minute))


def states(work: Work, now: datetime = NOW) -> dict[str, str]:
    return {one.camera_id: one.state for one in look_at_cameras(work, now)}


def test_an_old_day_that_is_filled_in_makes_no_camera_green(site: Recorded) -> None:
    tell(site, report("cam-1", 1), report("cam-2", 3 * 24 * 60))
    assert states(site.work) == {"cam-1": "ok", "cam-2": "stale"}
    # Written last, told of days ago: of cam-2, and of cam-1 as if it were lost.
    tell(site, report("cam-2", 2 * 24 * 60), report("cam-1", 5 * 24 * 60, state="lost"))
    found = {one.camera_id: one for one in look_at_cameras(site.work, NOW)}
    assert (found["cam-1"].state, found["cam-2"].state) == ("ok", "stale")
    assert found["cam-2"].last_utc == NOW - timedelta(days=2)


def test_a_camera_that_is_silent_for_weeks_is_found_where_it_was_heard_last(
    site: Recorded,
) -> None:
    tell(site, report("cam-1", 20 * 24 * 60), *(report("cam-2", n * 24 * 60) for n in range(25)))
    found = {one.camera_id: one for one in look_at_cameras(site.work, NOW)}
    assert found["cam-1"].last_utc == NOW - timedelta(days=20)
    assert states(site.work, NOW + timedelta(days=60)) == {"cam-1": "stale", "cam-2": "stale"}


def test_a_state_is_traced_back_beyond_the_newest_hours(site: Recorded) -> None:
    off = {"power": "off", "box": None, "state": None, "since_utc": None}
    tell(site, report("cam-1", 700), *(report("cam-1", n, **off) for n in (10, 300, 600)))
    camera = look_at_cameras(site.work, NOW)[0]
    assert (camera.state, camera.since_utc) == ("off", NOW - timedelta(minutes=600))


def test_a_problem_is_followed_and_told_once_through_restarts(
    site: Recorded, receiver: Receiver
) -> None:
    tell(site, report("cam-1", 1), report("cam-2", 1, state="black"))
    first = keep(work_of(site, {"": receiver.url}))
    assert first.open.select("kind", "subject", "ward").rows() == [
        ("camera_blind", "cam-2", "Ward A")
    ]
    versions = site.lake.versions()
    # Every look is by a new process' objects.
    for minute in (1, 2, 3):
        again = keep(work_of(site, {"": receiver.url}), minute)
        assert (again.changed, list(again.told)) == (0, [])
    assert site.lake.versions() == versions, "nothing is written while nothing changes"
    tell(site, report("cam-2", -4))
    keep(work_of(site, {"": receiver.url}), 4)
    last = keep(work_of(site, {"": receiver.url}), 15)
    assert last.open.is_empty()
    assert [body["event"] for _, body in receiver.requests] == ["begin", "end"]
    keys = [headers["idempotency-key"] for headers, _ in receiver.requests]
    assert len(set(keys)) == 2


def test_a_site_without_telemetry_is_not_told_of_its_cameras(site: Recorded) -> None:
    kept = keep(work_of(site))
    assert kept.open.is_empty()
    assert {one.state for one in kept.cameras} == {"never_seen"}


def test_gateway_drift_and_runs_are_problems_too(site: Recorded) -> None:
    day = NOW.date()
    drift = dict.fromkeys(table("drift_report").schema) | {
        "day": day,
        "model_version": "3",
        "drifted": True,
        "verdict": "two cameras have another resolution",
    }
    for name, kind in table("drift_report").schema.items():
        if drift[name] is None and not table("drift_report").column(name).nullable:
            drift[name] = "" if kind == pl.String else False if kind == pl.Boolean else 0
    site.add("drift_report", [drift], day)
    away = GatewaySettings("http://127.0.0.1:9")
    runs = RunFigures({"nightly": 1}, (), 0, 0, {"features": ["2026-03-01"]})
    work = work_of(site, gateway=away)
    found = newest_drift(work)
    assert found is not None
    assert found.drifted
    kept = keep(work, runs=runs)
    kinds = set(kept.open["kind"])
    assert kinds == {"gateway_away", "drift", "runs_failed", "partitions_failed"}
    # Where Dagster cannot be asked, what was known of its runs stands.
    assert set(keep(work, 60).open["kind"]) == kinds
    assert set(keep(work_of(site), 120, RunFigures()).open["kind"]) == kinds, "gone, not over yet"
    assert set(keep(work_of(site), 140, RunFigures()).open["kind"]) == {"drift"}


def test_storage_is_measured_once_a_day_and_its_growth_follows(site: Recorded) -> None:
    work = work_of(site)
    for day in range(4):
        at = NOW + timedelta(days=day)
        assert measure_storage(work, at)
        assert not measure_storage(work, at + timedelta(hours=19))
        # Something grows.
        filler = site.lake.root / "tables" / "cameras" / f"filler-{day}"
        filler.write_bytes(b"x" * 10_000)
    kept = keep(work, 4 * 24 * 60)
    use = kept.storage["cameras"]
    files = [one for one in (site.lake.root / "tables" / "cameras").rglob("*") if one.is_file()]
    assert use.size == sum(one.stat().st_size for one in files)
    assert use.files == len(files)
    assert use.growth == pytest.approx(10_000)
    rows = site.lake.read("storage_use").filter(what="(disk)")
    assert rows.height == 5
    assert rows["free_bytes"].min() > 0  # type: ignore[operator]
    assert storage(work, kept.disk, NOW + timedelta(days=100)) == ({}, None)


def test_falls_that_staff_know_of_are_counted_for_four_weeks(site: Recorded) -> None:
    tell(site, report("cam-1", 1))
    work, day = work_of(site), timedelta(days=1)
    keep_reports(
        work,
        [
            {
                "camera_id": "cam-1",
                "from_utc": NOW - age - timedelta(minutes=5),
                "until_utc": NOW - age,
                "by": "nurse",
                "reported_utc": NOW - age,
                "number": None,
            }
            for age in (day, 40 * day)
        ],
    )
    said = [("a", 2, "no_fall"), ("a", 1, "fall"), ("b", 3, "fall"), ("c", 3, "no_fall")]
    rows = [
        {"alert_id": alert, "at_utc": NOW - age * day, "by": "nurse", "verdict": verdict}
        for alert, age, verdict in [*said, ("old", 40, "fall")]
    ]
    schema = table("alert_feedback").schema
    work.lake.append("alert_feedback", pl.DataFrame(rows, schema=schema), work.provenance())
    figures = site_figures(work, None, NOW)
    assert figures.falls == {"alerted": 2, "reported": 1}
    assert figures.answers == {"fall": 1}


def test_a_broken_lake_is_told_in_a_scrape(site: Recorded) -> None:
    tell(site, report("cam-1", 1))
    now = datetime.now(UTC)
    figures = site_figures(work_of(site), None, now)
    assert {one.state for one in figures.cameras} == {"never_seen", "stale"}

    def gather() -> object:
        return site_figures(work_of(site), None, now)

    def scraped(url: str) -> dict[str, float]:
        with urllib.request.urlopen(url, timeout=60) as answer:
            text = answer.read().decode()
        return {
            family.name: family.samples[0].value
            for family in text_string_to_metric_families(text)
            if family.samples
        }

    for broken in (False, True):
        if broken:
            for log in (site.lake.root / "tables" / "cameras" / "_delta_log").iterdir():
                log.write_bytes(b"{ torn")
        server, thread = serve(gather, "127.0.0.1", 0)  # type: ignore[arg-type]
        try:
            samples = scraped(f"http://127.0.0.1:{server.server_port}/metrics")
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
        assert samples["fall_assets_up"] == (0 if broken else 1)
        assert len(samples) == 1 or not broken


def test_receivers_come_from_the_environment() -> None:
    found = technician_urls(
        {
            "FALL_TECHNICIAN_WEBHOOK_URL": "http://a",
            "FALL_TECHNICIAN_WEBHOOK_URL_GERIATRICS": "http://b",
            "FALL_TECHNICIAN_WEBHOOK_URL_EMPTY": "",
            "FALL_WEBHOOK_URL": "http://c",
        }
    )
    assert found == {"": "http://a", "geriatrics": "http://b"}
    wrong = {"technician": {"wards": [{"ward": "A", "receiver": "Not This"}]}}
    with pytest.raises(SettingsError, match="small letters"):
        build_settings(SiteSettings, wrong, "site.toml: ")


# Dagster.


@pytest.fixture
def dagster_site(tmp_path: Path) -> TestSite:
    made = new_site(tmp_path / "site")
    with (made.root / "site.toml").open("a") as settings:
        settings.write("\n[health]\ndisk_warn_share = 0.0\ndisk_full_share = 0.0\n")
    made.lake.append(
        "cameras",
        pl.DataFrame(
            [("cam-1", "Ward A", "12", "level", "site", None)],
            schema=table("cameras").schema,
            orient="row",
        ),
        RUN,
    )
    return made


def leave(site: TestSite, at: datetime, day: str | None = None) -> str:
    """Telemetry beside the footage; the day."""
    day = day or at.date().isoformat()
    path = site.landing / "telemetry" / f"{day}.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{HEADER}cam-1,{at.isoformat()},10,20,900,mains\n")
    return day


def made(site: TestSite, day: str) -> dict[str, dg.AssetCheckEvaluation]:
    """Materialize a day of `camera_health`; its checks by name."""
    result = site.definitions.resolve_job_def("ward").execute_in_process(
        instance=site.instance, partition_key=day, asset_selection=[dg.AssetKey("camera_health")]
    )
    assert result.success
    return {one.check_name: one for one in result.get_asset_check_evaluations()}


def looked(site: TestSite) -> dict[str, dg.AssetCheckEvaluation]:
    result = site.execute("health")
    assert result.asset_materializations_for_node("site_health")
    return {one.check_name: one for one in result.get_asset_check_evaluations()}


def test_the_check_is_of_now_however_a_day_is_made(dagster_site: TestSite) -> None:
    now = datetime.now(UTC)
    old = leave(dagster_site, now - timedelta(days=9))
    checks = made(dagster_site, old)
    assert not checks["every_camera_reports_now"].passed, "an old day makes nothing green"
    assert checks["every_camera_reports_now"].severity is dg.AssetCheckSeverity.ERROR
    assert "cam-1: stale" in (checks["every_camera_reports_now"].description or "")
    today = leave(dagster_site, now - timedelta(minutes=1))
    if today == (now - timedelta(minutes=1)).date().isoformat():
        assert made(dagster_site, today)["every_camera_reports_now"].passed
    # The day before is made again, and says nothing of now.
    shutil.rmtree(dagster_site.landing / "telemetry")
    leave(dagster_site, now - timedelta(days=9))
    assert made(dagster_site, old)["every_camera_reports_now"].passed


def test_the_health_job_finds_and_tells(
    dagster_site: TestSite, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FALL_TECHNICIAN_WEBHOOK_URL", receiver.url)
    settings = dagster_site.root / "site.toml"
    settings.write_text(settings.read_text() + "[technician]\nwait_min = 0\n")
    day = leave(dagster_site, datetime.now(UTC) - timedelta(days=3))
    # A day fails: its telemetry cannot be read.
    path = dagster_site.landing / "telemetry" / f"{day}.csv"
    content = path.read_bytes()
    path.unlink()
    path.mkdir()
    path.with_suffix("").mkdir(exist_ok=True)
    dagster_site.lake.root.joinpath("tables", "edge_reports", "_delta_log").mkdir(parents=True)
    torn = dagster_site.lake.root / "tables" / "edge_reports" / "_delta_log" / f"{0:020}.json"
    torn.write_text("{ torn")
    failed = dagster_site.definitions.resolve_job_def("ward").execute_in_process(
        instance=dagster_site.instance,
        partition_key=day,
        asset_selection=[dg.AssetKey("camera_health")],
        raise_on_error=False,
    )
    assert not failed.success
    checks = looked(dagster_site)
    assert not checks["nothing_is_wrong"].passed
    problems = dagster_site.lake.read("site_health").sort("kind")
    assert problems["kind"].to_list() == ["partitions_failed", "runs_failed"]
    assert day in problems["sentence"][0]
    assert problems["subject"].to_list() == ["camera_health", "ward"]
    # It is mended, and the camera turns out to be silent.
    path.rmdir()
    path.write_bytes(content)
    shutil.rmtree(torn.parents[1])
    made(dagster_site, day)
    checks = looked(dagster_site)
    assert not checks["every_camera_reports_now"].passed
    lasting = dagster_site.lake.read("site_health").filter(pl.col("gone_utc").is_null())
    assert sorted(lasting["kind"]) == ["camera_silent", "runs_failed"]
    told = [(body["problem"], body["event"]) for _, body in receiver.requests]
    assert sorted(told) == [
        ("camera_silent", "begin"),
        ("partitions_failed", "begin"),
        ("runs_failed", "begin"),
    ]


def test_the_schedule_asks_for_a_look(dagster_site: TestSite) -> None:
    from fall_assets.automation.schedules import health_schedule

    context = dg.build_schedule_context(
        instance=dagster_site.instance,
        scheduled_execution_time=datetime(2026, 3, 1, 8, 10, tzinfo=UTC),
    )
    [request] = health_schedule.evaluate_tick(context).run_requests or []
    assert request.run_key == "2026-03-01T08:10:00+00:00"
    assert dagster_site.execute("health").success


def test_the_command_gathers_with_the_instance_that_there_is(
    dagster_site: TestSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_site.root / "home"))
    gather = gatherer(dagster_site.resource.site())
    assert gather().runs is None, "there is no such folder; the rest is told"
    (dagster_site.root / "home").mkdir()
    while (runs := gather().runs) is None:
        pass
    assert runs == RunFigures()
