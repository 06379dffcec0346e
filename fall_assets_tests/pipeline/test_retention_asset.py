"""The asset `deletions`, its job and its schedule."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from fall_assets.automation.schedules import retention_schedule
from fall_assets.jobs import RETENTION, retention
from fall_assets_tests.pipeline.recorded import OLD, Recorded
from fall_assets_tests.site import SETTINGS, TestSite, new_site


@pytest.fixture
def kept_for_30_days(tmp_path: Path) -> TestSite:
    site = new_site(tmp_path / "site")
    (site.root / "site.toml").write_text(f"{SETTINGS}\n[retention]\ndays = 30\n")
    return site


def test_the_asset_says_what_went_and_what_keeps_the_rest(kept_for_30_days: TestSite) -> None:
    site = kept_for_30_days
    recorded = Recorded(site.root)
    gone = recorded.take_in("cam-01/old.mp4")
    recorded.label(recorded.take_in("cam-01/labelled.mp4", OLD.replace(hour=9)))
    result = site.execute("retention")
    (event,) = result.get_asset_materialization_events()
    metadata = event.materialization.metadata
    assert metadata["files deleted"].value == 1
    assert metadata["bytes deleted"].value == len("film of cam-01/old.mp4")
    assert metadata["retention"].value == "30 days"
    assert "| somebody labelled it | 1 |" in str(metadata["old segments kept"].value)
    assert metadata["dagster/row_count"].value == 2
    assert recorded.files() == {"cam-01/labelled.mp4"}
    assert recorded.without_files() == {gone}
    assert site.lake.read("deletions")["run_id"].unique().to_list() == [result.run_id]
    (check,) = result.get_asset_check_evaluations()
    assert check.passed
    site.instance.dispose()


def test_a_file_that_cannot_be_deleted_is_said_by_a_check(kept_for_30_days: TestSite) -> None:
    site = kept_for_30_days
    recorded = Recorded(site.root)
    recorded.take_in("cam-01/old.mp4")
    recorded.write("cam-01/old.mp4", "another film")
    result = site.execute("retention")
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert "written again" in str(check.metadata["why"].value)
    site.instance.dispose()


def test_the_schedule_is_off_and_asks_once_a_night() -> None:
    assert retention_schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    assert retention_schedule.job_name == retention.name
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2026, 3, 4, 3, tzinfo=UTC)
    )
    (request,) = retention_schedule.evaluate_tick(context).run_requests or []
    assert request.run_key == "2026-03-04"


def test_once_around_the_loop_deletes_nothing(empty_site: TestSite) -> None:
    graph = empty_site.definitions.resolve_asset_graph()
    assert RETENTION.resolve(graph) == {dg.AssetKey("deletions")}
    lifecycle = empty_site.definitions.resolve_job_def("lifecycle")
    assert dg.AssetKey("deletions") not in lifecycle.asset_layer.executable_asset_keys
