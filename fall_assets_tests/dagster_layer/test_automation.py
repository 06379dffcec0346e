"""From new footage to a new challenger, driven by Dagster's own ticks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fall_assets.automation.retrainings import EPISODE_TAG
from fall_assets.automation.schedules import nightly_schedule
from fall_assets.automation.sensors import (
    REASON_TAG,
    drift_sensor,
    footage_sensor,
    label_sensor,
)
from fall_assets.jobs import RANGE_START_TAG
from fall_assets.pipeline.delivery import promote
from fall_assets.pipeline.models import tracking
from fall_assets_tests.dagster_layer.ticks import run, tick
from fall_assets_tests.site import (
    CHANGED_DAY,
    DAYS,
    TestSite,
    bring_day_back,
    new_site,
    take_day_away,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, hospital: Path) -> Iterator[TestSite]:
    """A site that lived through all days but the one on which a camera was replaced."""
    folder = tmp_path_factory.mktemp("automation")
    site = new_site(folder / "site")
    with (site.root / "site.toml").open("a") as file:
        # One day must do here, and the footage comes with its labels.
        file.write("\n[retraining]\nnormalise_wait_days = 0\nlabels_wanted = 1\n")
    shutil.copytree(hospital, site.landing, dirs_exist_ok=True)
    take_day_away(site.landing, CHANGED_DAY, folder / "tomorrow")
    everything = {"ops": {"training_set": {"config": {"days_held_back": 0}}}}
    site.execute("lifecycle", DAYS[:-1], run_config=everything)
    yield site
    site.instance.dispose()


def automate(site: TestSite, cursor: Any = None) -> tuple[set[tuple[str, str]], Any]:
    """Ticks of the data automation until nothing is asked for; what was computed, by day."""
    selection = dg.AssetSelection.assets(
        *("labels", "clips", "motion_gate", "sequences", "pose_tracks", "features"),
        *("predictions", "alerts", "camera_profile", "drift_report"),
    )
    computed: set[tuple[str, str]] = set()
    for _ in range(10):
        result = dg.evaluate_automation_conditions(
            site.definitions, site.instance, asset_selection=selection, cursor=cursor
        )
        cursor = result.cursor
        asked: dict[str, list[dg.AssetKey]] = {}
        for key in (dg.AssetKey(name) for name in result_names(selection, site)):
            for partition in result.get_requested_partitions(key):
                if partition:
                    asked.setdefault(partition, []).append(key)
        if not asked:
            return computed, cursor
        for partition, keys in asked.items():
            computed |= {(key.to_user_string(), partition) for key in keys}
            dg.materialize(
                [
                    asset
                    for asset in site.definitions.assets or ()
                    if isinstance(asset, dg.AssetsDefinition)
                ],
                selection=dg.AssetSelection.assets(*keys),
                partition_key=partition,
                instance=site.instance,
                resources={"site": site.resource},
            )
    raise AssertionError("automation does not come to rest")


def result_names(selection: dg.AssetSelection, site: TestSite) -> list[str]:
    graph = site.definitions.resolve_asset_graph()
    return sorted(key.to_user_string() for key in selection.resolve(graph))


def test_from_new_footage_to_a_new_challenger(site: TestSite) -> None:
    # A quiet site: what the lake knows is not asked for again.
    requests, cursor = tick(site, footage_sensor)
    assert requests == []
    rested, automation = automate(site)
    assert rested == set()
    requests, _ = tick(site, drift_sensor)
    assert requests == []

    # A camera was replaced overnight, and its footage comes in.
    bring_day_back(site.landing, site.root.parent / "tomorrow")
    requests, cursor = tick(site, footage_sensor, cursor)
    assert [request.partition_key for request in requests] == [CHANGED_DAY.isoformat()]
    run(site, requests[0], "collection")

    # Conditions carry it to the drift report, for that day alone.
    computed, automation = automate(site, automation)
    assert {day for _, day in computed} == {CHANGED_DAY.isoformat()}
    assert {"clips", "features", "predictions", "alerts", "drift_report"} <= {
        name for name, _ in computed
    }
    assert automate(site, automation)[0] == set()

    # Drift is written down first, with the reason, and what can be done without learning.
    requests, _ = tick(site, drift_sensor)
    assert [request.job_name for request in requests] == ["answering"]
    assert CHANGED_DAY.isoformat() in requests[0].tags[REASON_TAG]
    run(site, requests[0], "answering")
    answers = site.lake.read("drift_answers").filter(cause="resolution").sort("at_utc")
    assert answers.filter(state="done")["answer"].to_list() == ["annotate", "normalise", "labels"]
    page = site.lake.file("drift", f"{CHANGED_DAY}.html").read_text()
    assert "Ask for labels" in page, "the day's page tells what was done since"
    # Then one retraining is asked for; a second tick asks for the same key.
    requests, _ = tick(site, drift_sensor)
    assert [request.job_name for request in requests] == ["retraining"]
    request = requests[0]
    assert request.run_key == f"drift-{request.tags[EPISODE_TAG]}-retrain-1"
    again, _ = tick(site, drift_sensor)
    assert [other.run_key for other in again] == [request.run_key]

    run(site, request, "retraining")
    registered = site.lake.read("registered_model").sort("registered_utc")
    assert registered["alias"].to_list() == ["champion", "challenger"]
    challenger = tracking(site.work.site).challenger()
    assert challenger is not None
    assert challenger.version == registered["model_version"][-1]
    last_day = site.lake.read("training_set").sort("created_utc")["last_day"][-1]
    assert last_day == CHANGED_DAY
    # The champion was judged on the same clips beside the challenger.
    judged = site.lake.read("evaluation").filter(slice="all", run_id=registered["run_id"][0])
    assert sorted(judged["role"]) == ["candidate", "champion"]

    # What became of it is written down; however often the sensor looks, and without any cursor,
    # nothing is started again.
    requests, _ = tick(site, drift_sensor)
    assert [request.job_name for request in requests] == ["answering"]
    run(site, requests[0], "answering")
    answers = site.lake.read("drift_answers").filter(answer="retrain", state="done")
    assert set(answers["cause"]) >= {"resolution"}
    assert tick(site, drift_sensor)[0] == []


def test_changed_labels_ask_for_labelling_once(site: TestSite) -> None:
    # What the lifecycle read is not read again.
    requests, cursor = tick(site, label_sensor)
    assert requests == []
    assert tick(site, label_sensor, cursor)[0] == []
    file = site.landing / "labels" / f"{DAYS[0]}.csv"
    file.write_text(file.read_text() + "cam-01/nowhere.mp4,0,1,fall,simulated,\n")
    requests, cursor = tick(site, label_sensor, cursor)
    assert len(requests) == 1
    assert requests[0].tags[RANGE_START_TAG] == DAYS[0].isoformat()
    assert tick(site, label_sensor, cursor)[0] == []
    run(site, requests[0], "labelling")
    problems = site.lake.read("label_problems")
    assert problems["file"].to_list() == [f"labels/{DAYS[0]}.csv"]
    assert problems["line"][0] == len(file.read_text().splitlines())


def test_the_nightly_schedule_is_for_the_day_before(site: TestSite) -> None:
    context = dg.build_schedule_context(
        instance=site.instance,
        scheduled_execution_time=datetime(2026, 3, 4, 2, tzinfo=UTC),
        repository_def=site.definitions.get_repository_def(),
    )
    data = nightly_schedule.evaluate_tick(context)
    assert [request.partition_key for request in data.run_requests or []] == ["2026-03-03"]


def test_the_night_after_a_new_champion_is_judged_by_what_that_one_learned(site: TestSite) -> None:
    challenger = tracking(site.work.site).challenger()
    assert challenger is not None
    promote(site.work, challenger.version)
    site.execute("nightly", [CHANGED_DAY])
    report = site.lake.read("drift_report", days=[CHANGED_DAY])
    assert set(report["model_version"]) == {challenger.version}
    assert not report["drifted"].any(), "it has learned from that day"


def test_a_site_without_a_landing_folder_is_skipped(empty_site: TestSite) -> None:
    empty_site.landing.rmdir()
    assert tick(empty_site, footage_sensor)[0] == []
    assert tick(empty_site, drift_sensor)[0] == []
