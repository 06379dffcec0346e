"""From a file in a bucket or folder to a row of the lake, by Dagster's own ticks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from fall_assets.automation.sensors import footage_sensor
from fall_assets.footage.template import DEFAULT, FRIGATE, PathTemplate
from fall_assets_tests.footage.films import film
from fall_assets_tests.footage.s3_server import S3Server, s3_server
from fall_assets_tests.site import TestSite, new_site

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        running.create("footage")
        yield running


@pytest.fixture
def site(tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestSite]:
    """A site with a bucket, a folder of a Frigate and one in local time."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    made = new_site(tmp_path / "site")
    (made.root / "site.toml").write_text(
        f"""
[footage]
settle_s = 0.0

[[footage.sources]]
name = "bucket"
at = "s3://footage/ward"
template = "{DEFAULT.text}"

[[footage.sources]]
name = "frigate"
at = "nvr"
template = "{FRIGATE.text}"

[[footage.sources]]
name = "local"
at = "local"
timezone = "Europe/Berlin"
"""
    )
    yield made
    made.instance.dispose()


def tick(site: TestSite, cursor: str | None) -> tuple[list[dg.RunRequest], str | None]:
    with dg.build_sensor_context(
        instance=site.instance,
        cursor=cursor,
        repository_def=site.definitions.get_repository_def(),
        resources={"site": site.resource},
    ) as context:
        data = footage_sensor.evaluate_tick(context)
    return list(data.run_requests or []), data.cursor


def collect(site: TestSite, requests: list[dg.RunRequest]) -> None:
    for request in requests:
        result = site.definitions.resolve_job_def("collection").execute_in_process(
            instance=site.instance, tags=dict(request.tags), partition_key=request.partition_key
        )
        assert result.success


def test_footage_of_every_source_is_taken_in_once_into_its_own_day(
    site: TestSite, server: S3Server, tmp_path: Path
) -> None:
    made = film(tmp_path / "made.mp4", frames=5)
    late = NOW - timedelta(days=30)
    contents = iter(range(100))

    def content() -> bytes:
        # Bytes after the end of an MP4 are no part of it; each file is its own.
        return made.read_bytes() + b"\0\0\0\x09free" + bytes([next(contents)])

    server.put("footage", f"ward/{DEFAULT.format('cam-01', NOW)}", content())
    server.put("footage", f"ward/{DEFAULT.format('cam-01', late)}", content())
    for at, template in (("nvr", FRIGATE), ("local", PathTemplate(DEFAULT.text, "Europe/Berlin"))):
        path = site.landing / at / template.format(f"cam-{at}", NOW)
        path.parent.mkdir(parents=True)
        path.write_bytes(content())
    requests, cursor = tick(site, None)
    assert [request.partition_key for request in requests] == sorted(
        {late.date().isoformat(), NOW.date().isoformat()}
    )
    collect(site, requests)
    videos = site.lake.read("videos").sort("start_utc", "camera_id")
    assert videos.select("camera_id", "start_utc", "day").rows() == [
        ("cam-01", late, late.date()),
        ("cam-01", NOW, NOW.date()),
        ("cam-local", NOW, NOW.date()),
        ("cam-nvr", NOW, NOW.date()),
    ]
    assert sorted(set(site.lake.read("sightings")["source"])) == ["bucket", "frigate", "local"]
    # Known is known, with the cursor and without it.
    assert tick(site, cursor)[0] == []
    assert tick(site, None)[0] == []
    rows = site.rows()
    collect(site, requests)
    assert site.rows() == rows


def test_a_bucket_that_is_away_fails_the_tick_only_where_nothing_else_came(
    site: TestSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Exception, match=r"see whether the store at http://127\.0\.0\.1:9 runs"):
        tick(site, None)
    path = site.landing / "nvr" / FRIGATE.format("cam-01", NOW)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    requests, _cursor = tick(site, None)
    assert [request.partition_key for request in requests] == [NOW.date().isoformat()]
