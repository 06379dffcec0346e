"""A real scrape: what is told, what it costs, and what a broken site does to it."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fall_assets.monitoring.cameras import cameras_now
from fall_assets.monitoring.disk import Disk
from fall_assets.monitoring.endpoint import SiteCollector, serve
from fall_assets.monitoring.figures import (
    BoxPackage,
    DriftNow,
    Queue,
    RolloutNow,
    SiteFigures,
    TableUse,
)
from fall_assets.monitoring.metrics import METRICS, MOST_SERIES, NAMES, OWN
from fall_assets.monitoring.runs import RunFigures, StuckRun
from fall_assets.monitoring.settings import HealthSettings
from fall_assets_tests.monitoring.telemetry import NOW, frame, report

DOCS = Path(__file__).parents[2] / "docs"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def figures(**other: object) -> SiteFigures:
    rows = [
        report("cam-1", 1, camera_model='ACME "Dome"', firmware="9\\80", temperature_c=61.0),
        report("cam-2", 90),
    ]
    cameras = [("cam-1", "Ward A", "12"), ("cam-2", "Ward A", "13"), ("cam-3", "Ward B", "1")]
    told: dict[str, object] = {
        "at_utc": NOW,
        "telemetry": True,
        "cameras": cameras_now(frame(*rows), cameras, NOW, HealthSettings()),
        "disk": Disk(1000, 400),
        "storage": {"videos": TableUse(5000, 7, 50.0), "clips": TableUse(10, 1, None)},
        "storage_growth": 10.0,
        "problems": {("camera_silent", "Ward A"): 1},
        "alerts": {("Ward A", "fall", "box"): 3},
        "answers": {"no_fall": 2},
        "falls": {"alerted": 9, "reported": 1},
        "queue": Queue(4, 90.0),
        "drift": DriftNow(NOW, True, "resolution", {"resolution": 2}),
        "rollout": RolloutNow("step", 0.5),
        "gateway": True,
        "packages": [BoxPackage("box-1", "abc", "healthy")],
        "runs": RunFigures(
            {"nightly": 1}, [StuckRun("r", "ward", "queued", NOW)], 2, 1, {"features": ["d"]}
        ),
    }
    return SiteFigures(**(told | other))  # type: ignore[arg-type]


@contextmanager
def serving(gather: Callable[[], SiteFigures]) -> Iterator[str]:
    server, thread = serve(gather, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def scrape(url: str) -> Samples:
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain")
        return parsed(answer.read().decode())


def parsed(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def test_a_scrape_tells_the_site() -> None:
    with serving(figures) as url:
        samples = scrape(url)
    assert value(samples, "fall_assets_up") == 1
    assert value(samples, "fall_assets_cameras", ward="Ward A", state="ok") == 1
    assert value(samples, "fall_assets_cameras", ward="Ward A", state="stale") == 1
    assert value(samples, "fall_assets_cameras", ward="Ward A", state="dead") == 0
    assert value(samples, "fall_assets_cameras", ward="Ward B", state="never_seen") == 1
    place = {"camera": "cam-2", "ward": "Ward A", "room": "13"}
    last = value(samples, "fall_assets_camera_last_report_timestamp_seconds", **place)
    assert last == (NOW - timedelta(minutes=90)).timestamp()
    assert value(samples, "fall_assets_camera_frame_rate_hertz", **place) is None, "it is old"
    info = {"camera": "cam-1", "box": "box-1", "model_version": "3"}
    made = {"camera_model": 'ACME "Dome"', "firmware": "9\\80"}
    assert value(samples, "fall_assets_camera_info", **info, **made) == 1
    assert value(samples, "fall_assets_disk_full_in_seconds") == 40 * 86400
    assert value(samples, "fall_assets_lake_table_growth_bytes_per_day", table="clips") is None
    assert value(samples, "fall_assets_alert_answers_24h", verdict="no_fall") == 2
    assert value(samples, "fall_assets_falls_28d", found="reported") == 1
    assert value(samples, "fall_assets_rollout_state", state="step") == 1
    assert value(samples, "fall_assets_runs_failed", dagster_job="nightly") == 1
    assert value(samples, "fall_assets_runs_stuck", state="queued") == 1
    assert value(samples, "fall_assets_partitions_failed", asset="features") == 1
    assert {name for name, _ in samples} == set(NAMES), "this site has a value of every metric"


def test_what_a_site_does_not_have_is_absent() -> None:
    bare = figures(
        gateway=None, drift=None, rollout=None, runs=None, storage_growth=None, storage={}
    )
    with serving(lambda: bare) as url:
        samples = scrape(url)
    assert value(samples, "fall_assets_up") == 1
    assert value(samples, "fall_assets_dagster_up") == 0
    for name in ("gateway_up", "drift", "rollout_share_ratio", "disk_full_in_seconds"):
        assert value(samples, f"fall_assets_{name}") is None


def test_a_broken_site_is_told_as_such_and_comes_back() -> None:
    broken = [True]

    def gather() -> SiteFigures:
        if broken[0]:
            raise OSError("the lake's disk is away")
        return figures()

    with serving(gather) as url:
        first = scrape(url)
        broken[0] = False
        second = scrape(url)
    assert first == {("fall_assets_up", frozenset()): 0.0}
    assert value(second, "fall_assets_up") == 1


def told(collector: SiteCollector) -> Samples:
    registry = CollectorRegistry()
    registry.register(collector)
    return parsed(generate_latest(registry).decode())


def test_many_scrapes_gather_once() -> None:
    count = []

    def gather() -> SiteFigures:
        count.append(1)
        return figures()

    collector = SiteCollector(gather, kept_s=600)
    scrapes = [threading.Thread(target=told, args=(collector,)) for _ in range(8)]
    for one in scrapes:
        one.start()
    for one in scrapes:
        one.join()
    told(collector)
    assert len(count) == 1


def test_a_site_that_hangs_does_not_hang_the_scrape() -> None:
    hold, calls = threading.Event(), []

    def gather() -> SiteFigures:
        calls.append(1)
        if len(calls) > 1:
            hold.wait(60)
        return figures()

    collector = SiteCollector(gather, kept_s=0, patience_s=0.05)
    try:
        while value(told(collector), "fall_assets_up") == 0:
            pass
        assert value(told(collector), "fall_assets_up") == 1, "the last figures stand in"
        assert len(calls) == 2
        told(collector)
        assert len(calls) == 2, "nothing piles up behind it"
        old = SiteCollector(gather, kept_s=0, patience_s=0.05, old_s=0)
        assert value(told(old), "fall_assets_up") == 0
    finally:
        hold.set()


def test_a_site_of_many_cameras_keeps_its_counts() -> None:
    many = MOST_SERIES + 500
    rows = frame(*(report(f"cam-{n:05}", 1) for n in range(many)))
    cameras = cameras_now(
        rows, [(f"cam-{n:05}", "Ward A", "1") for n in range(many)], NOW, HealthSettings()
    )
    samples = told(SiteCollector(lambda: figures(cameras=cameras), patience_s=60))
    assert value(samples, "fall_assets_cameras", ward="Ward A", state="ok") == many
    named = [name for name, _ in samples if name == "fall_assets_camera_state"]
    assert len(named) == MOST_SERIES


def test_names_are_as_prometheus_wants_them() -> None:
    for metric in (*METRICS, *OWN):
        assert re.fullmatch(r"fall_assets_[a-z0-9_]+", metric.name)
        assert not metric.name.endswith(("_total", "_count", "_sum", "_bucket")), "all are gauges"
        assert metric.meaning.endswith(".")
    assert len(set(NAMES)) == len(NAMES)


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    board = json.loads((DOCS / "grafana" / "fall_assets.json").read_text(encoding="utf-8"))
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    asked: set[str] = set()
    for panel in panels:
        assert panel["title"]
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            names = set(re.findall(r"fall_assets_[a-z0-9_]+", target["expr"]))
            assert names, target
            assert names <= set(NAMES), names - set(NAMES)
            asked |= names
    for variable in board["templating"]["list"]:
        names = set(re.findall(r"fall_assets_[a-z0-9_]+", str(variable.get("query", ""))))
        assert names <= set(NAMES)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    # What is told of boxes' versions, of moments and of the endpoint itself needs no panel.
    unseen = {name for name in NAMES if not name.endswith(("_info", "_timestamp_seconds"))} - asked
    assert unseen <= {"fall_assets_gather_duration_seconds"}


def test_every_metric_is_documented_and_no_other() -> None:
    text = (DOCS / "monitoring.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(fall_assets_[a-z0-9_]+)` \| ([^|]*) \|", text, re.MULTILINE)
    labels = {name: tuple(re.findall(r"`(\w+)`", cell)) for name, cell in rows}
    assert labels == {metric.name: metric.labels for metric in (*METRICS, *OWN)}
    mentioned = set(re.findall(r"\bfall_assets_[a-z0-9_]+", text.split("## The metrics")[1]))
    assert mentioned <= set(NAMES)


@pytest.mark.parametrize("name", ["camera_state", "runs_failed", "drift_cameras"])
def test_what_people_name_is_escaped(name: str) -> None:
    """A name with quotes or line ends is a value, and breaks no scrape."""
    odd = 'a"b\\c\nd'
    rows = frame(report(odd, 1, box=odd))
    samples = told(
        SiteCollector(
            lambda: figures(
                cameras=cameras_now(rows, [(odd, odd, odd)], NOW, HealthSettings()),
                runs=RunFigures({odd: 1}),
                drift=DriftNow(NOW, True, odd, {odd: 1}),
            ),
            patience_s=60,
        )
    )
    found = [dict(labels) for metric, labels in samples if metric == f"fall_assets_{name}"]
    assert found
    assert odd in found[0].values()
