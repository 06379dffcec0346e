"""All definitions load, cheaply, and every asset says what it is."""

from __future__ import annotations

import json
import subprocess
import sys

import dagster as dg

from fall_assets.definitions import defs
from fall_assets.lake import TABLES

HEAVY = ("torch", "torchvision", "mlflow", "alibi_detect", "sklearn", "scipy", "cv2", "matplotlib")

# A short reviewed list: a new asset is a decision.
ASSETS = {
    "cameras": "collection",
    "videos": "collection",
    "quarantine": "collection",
    "deletions": "collection",
    "zones": "labelling",
    "labels": "labelling",
    "label_agreement": "labelling",
    "clips": "labelling",
    "automatic_labels": "labelling",
    "review_queue": "labelling",
    "features": "learning",
    "pose_tracks": "learning",
    "sequences": "learning",
    "motion_gate": "learning",
    "gate_duty": "learning",
    "training_set": "learning",
    "experiments": "learning",
    "tuning_study": "learning",
    "candidate_model": "learning",
    "evaluation": "learning",
    "registered_model": "delivery",
    "edge_package": "delivery",
    "rollout": "delivery",
    "predictions": "operation",
    "alerts": "operation",
    "edge_alerts": "operation",
    "camera_health": "operation",
    "camera_profile": "monitoring",
    "drift_reference": "monitoring",
    "drift_report": "monitoring",
    "drift_answers": "monitoring",
    "upkeep": "monitoring",
    "site_health": "monitoring",
}

# Checks that judge what holds now, whatever day is made; they may block nothing.
OF_NOW = {"every_camera_reports_now"}


def test_the_assets_are_the_reviewed_ones_by_stage() -> None:
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    assert {name: spec.group_name for name, spec in specs.items()} == ASSETS


def test_every_asset_says_what_it_is() -> None:
    for spec in defs.resolve_all_asset_specs():
        name = spec.key.to_user_string()
        assert spec.description, name
        assert len(spec.description.splitlines()) == 1, name
        assert spec.owners == ["team:fall-detection"], name
        assert "deltalake" in spec.kinds, name
        own = [table for table in TABLES.values() if table.asset == name]
        main = next((table for table in own if table.name == name), own[0])
        schema = spec.metadata["dagster/column_schema"]
        assert [column.name for column in schema.columns] == list(main.schema), name


def test_every_table_is_written_by_an_asset() -> None:
    assert {table.asset for table in TABLES.values()} == set(ASSETS)


def test_checks_on_assets_by_day_are_by_day() -> None:
    specs = defs.resolve_all_asset_specs()
    by_day = {spec.key.to_user_string() for spec in specs if spec.partitions_def is not None}
    checks = {
        key: check for check in defs.resolve_asset_graph().asset_check_keys for key in [check]
    }
    graph = defs.resolve_asset_graph()
    for key in checks:
        partitions = graph.get(key).partitions_def
        if key.name in OF_NOW:
            assert not graph.get(key).blocking, key
            continue
        assert (partitions is not None) == (key.asset_key.to_user_string() in by_day), key


def test_the_gate_blocks() -> None:
    graph = defs.resolve_asset_graph()
    blocking = {key.name for key in graph.asset_check_keys if graph.get(key).blocking}
    assert "candidate_may_be_registered" in blocking


def test_jobs_run_in_one_process_and_expensive_automation_is_off() -> None:
    for job in defs.resolve_all_job_defs():
        if not job.name.startswith("__"):
            assert job.executor_def.name == "in_process", job.name
    off = {
        sensor.name
        for sensor in (*(defs.sensors or ()), *(defs.schedules or ()))
        if isinstance(sensor, dg.SensorDefinition)
        and sensor.default_status is dg.DefaultSensorStatus.STOPPED
    }
    assert off == {"drift_sensor", "learning_automation"}


def test_loading_definitions_imports_nothing_heavy() -> None:
    program = (
        "import sys, json, fall_assets.definitions;"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert json.loads(out.stdout) == []
