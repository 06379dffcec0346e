"""Footage in a bucket: a real S3 server process, found, staged, deleted, and away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from fall_assets.errors import FallAssetsError
from fall_assets.footage.buckets import Bucket, BucketAwayError, BucketError
from fall_assets.footage.discovery import days_with_footage, find, new_since
from fall_assets.footage.sources import SourceSettings
from fall_assets.footage.store import Footage
from fall_assets.footage.template import PathTemplate
from fall_assets_tests.footage.s3_server import S3Server, s3_server

LAYOUTS = {
    "default": "{camera}/{date}/{time}.mp4",
    "frigate": "recordings/{date}/{hour}/{camera}/{minute}.{second}.mp4",
    "flat": "{camera}_{year}{month}{day}_{hour}{minute}{second}.mp4",
    "epoch": "{camera}-{epoch}.mp4",
    "day-first": "{day}-{month}-{year}/{camera}_{time}.mp4",
}
each_layout = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def bucket(
    server: S3Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A bucket of the test's own, and the environment that finds it."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    name = f"footage-{time.time_ns()}"
    server.create(name)
    return name


def put(server: S3Server, source: SourceSettings, camera: str, start: datetime) -> str:
    bucket, _, prefix = source.at.removeprefix("s3://").partition("/")
    template = PathTemplate(source.template, source.timezone)
    key = f"{prefix}/{template.format(camera, start)}".lstrip("/")
    server.put(bucket, key, key.encode())
    return f"s3://{bucket}/{key}"


def ticks(
    source: SourceSettings, landing: Path, count: int, cursor: str | None
) -> tuple[list[str], str]:
    reported: list[str] = []
    for number in range(count):
        now = datetime.fromtimestamp(time.time() + 11 + 30 * number, UTC)
        new, cursor = new_since(landing, (source,), cursor, now=now)
        reported += [path for found in new.values() for path in found]
    assert cursor is not None
    return reported, cursor


@each_layout
@pytest.mark.parametrize("prefix", ["", "/ward 3/out"])
def test_a_days_objects_are_found_and_no_others(
    tmp_path: Path, server: S3Server, bucket: str, layout: str, prefix: str
) -> None:
    source = SourceSettings("nvr", f"s3://{bucket}{prefix}", LAYOUTS[layout], "Europe/Berlin")
    start = datetime(2026, 3, 1, 23, 15, tzinfo=UTC)
    starts = [start + timedelta(days=n, hours=h) for n in (-40, -1, 0, 1, 40) for h in (0, -23)]
    paths = {
        put(server, source, camera, when): (camera, when)
        for camera in ("cam-01", "cam-02", "cam-1")
        for when in starts
    }
    server.put(bucket, "other/cam-01/2026-03-01/08-00-00.mp4", b"not below the prefix")
    found = find(tmp_path, (source,), start.date())
    assert {file.path: (file.camera_id, file.start_utc) for file in found} == {
        path: told for path, told in paths.items() if told[1].date() == start.date()
    }
    assert {file.source for file in found} == {"nvr"}
    assert days_with_footage(tmp_path, (source,)) == sorted({when.date() for when in starts})


@each_layout
def test_new_and_late_objects_are_reported_once(
    tmp_path: Path, server: S3Server, bucket: str, layout: str
) -> None:
    source = SourceSettings("nvr", f"s3://{bucket}/out", LAYOUTS[layout])
    now = datetime.now(UTC)
    old = [put(server, source, "cam-01", now - timedelta(days=back)) for back in (0, 1, 30, 400)]
    reported, cursor = ticks(source, tmp_path, 1, None)
    assert sorted(reported) == sorted(old)
    time.sleep(1.1)
    came = [
        put(server, source, "cam-00", now - timedelta(minutes=2)),
        put(server, source, "cam-02", now),
        put(server, source, "cam-01", now - timedelta(days=200)),
    ]
    reported, cursor = ticks(source, tmp_path, 5, cursor)
    assert sorted(reported) == sorted(came)
    # Written again.
    bucket_name, key = came[0].removeprefix("s3://").split("/", 1)
    server.put(bucket_name, key, b"repaired")
    reported, cursor = ticks(source, tmp_path, 3, cursor)
    assert reported == [came[0]]


def test_an_object_that_shows_late_is_not_lost(
    tmp_path: Path, server: S3Server, bucket: str
) -> None:
    # An upload in parts shows when it is complete, with the time at which it began.
    source = SourceSettings("nvr", f"s3://{bucket}")
    now = datetime.now(UTC)
    path = put(server, source, "cam-01", now)
    _reported, cursor = ticks(SourceSettings("nvr", f"s3://{bucket}/nothing"), tmp_path, 1, None)
    cursor = cursor.replace("/nothing", "")
    new, _cursor = new_since(tmp_path, (source,), cursor, now=now + timedelta(seconds=300))
    assert [name for found in new.values() for name in found] == [path]


def test_more_objects_than_a_page_holds(
    tmp_path: Path, server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fall_assets.footage.buckets._PAGE", 7)
    source = SourceSettings("nvr", f"s3://{bucket}", LAYOUTS["flat"])
    start = datetime(2026, 3, 1, tzinfo=UTC)
    import obstore
    from obstore.store import S3Store

    store = S3Store(bucket, client_options={"allow_http": True})
    for number in range(1100):
        key = PathTemplate(source.template).format("a", start + timedelta(seconds=10 * number))
        obstore.put(store, key, b"x")
    assert len(find(tmp_path, (source,), start.date())) == 1100


def test_a_copy_is_made_once_and_again_when_the_object_changes(
    tmp_path: Path, server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    footage = Footage(tmp_path / "landing", tmp_path / "cache")
    path = f"s3://{bucket}/cam-01/a.mp4"
    server.put(bucket, "cam-01/a.mp4", b"one")
    copy = footage.stage(path)
    assert (copy.read_bytes(), copy.suffix) == (b"one", ".mp4")
    state = footage.state(path)
    assert state is not None
    assert state.bytes == 3
    assert abs(state.modified_s - time.time()) < 60
    downloads: list[str] = []
    real = Bucket.download

    def counting(self: Bucket, key: str, target: Path) -> None:
        downloads.append(key)
        real(self, key, target)

    monkeypatch.setattr(Bucket, "download", counting)
    assert footage.stage(path) == copy
    assert downloads == []
    server.put(bucket, "cam-01/a.mp4", b"another")
    assert footage.stage(path).read_bytes() == b"another"
    changed = footage.state(path)
    assert changed is not None
    assert changed.fingerprint != state.fingerprint


def test_the_cache_keeps_to_its_size_and_loses_the_longest_unused(
    tmp_path: Path, server: S3Server, bucket: str
) -> None:
    import os

    footage = Footage(tmp_path / "landing", tmp_path / "cache", cache_bytes=250)
    copies = []
    for number in range(4):
        server.put(bucket, f"{number}.mp4", bytes([number]) * 100)
        copies.append(footage.stage(f"s3://{bucket}/{number}.mp4"))
        # As if it was used so many hours ago.
        hours_ago = time.time() - 3600 * (10 - number)
        os.utime(copies[-1], (hours_ago, hours_ago))
    assert [copy.exists() for copy in copies] == [False, False, True, True]


def test_deleting_removes_the_named_object_only(
    tmp_path: Path, server: S3Server, bucket: str
) -> None:
    footage = Footage(tmp_path / "landing", tmp_path / "cache")
    for key in ("cam/a.mp4", "cam/a.mp4.txt", "cam/b.mp4"):
        server.put(bucket, key, b"x")
    assert footage.delete(f"s3://{bucket}/cam/a.mp4") is True
    assert footage.delete(f"s3://{bucket}/cam/a.mp4") is False
    assert footage.delete(f"s3://{bucket}/cam") is False
    assert server.keys(bucket) == ["cam/a.mp4.txt", "cam/b.mp4"]
    assert footage.state(f"s3://{bucket}/cam/a.mp4") is None
    with pytest.raises(FileNotFoundError):
        footage.stage(f"s3://{bucket}/cam/a.mp4")
    with pytest.raises(FallAssetsError, match="bucket"):
        footage.delete(f"s3://{bucket}")


def test_a_bucket_that_is_not_there_says_what_to_do(tmp_path: Path, bucket: str) -> None:
    source = SourceSettings("nvr", "s3://no-such-bucket")
    with pytest.raises(BucketError, match="no such bucket; correct 'at'"):
        find(tmp_path, (source,), date(2026, 3, 1))


def test_plain_http_must_be_meant(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(BucketError, match="AWS_ALLOW_HTTP=true"):
        find(tmp_path, (SourceSettings("nvr", f"s3://{bucket}"),), date(2026, 3, 1))


@pytest.mark.parametrize("at", ["s3://", "s3:///key"])
def test_an_address_without_a_bucket_is_refused(tmp_path: Path, at: str) -> None:
    with pytest.raises(BucketError, match="address"):
        find(tmp_path, (SourceSettings("nvr", at),), date(2026, 3, 1))


def test_a_server_that_was_killed_stops_no_other_source_and_is_read_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.create("footage")
        away = SourceSettings("nvr", "s3://footage")
        put(server, away, "cam-01", datetime(2026, 3, 1, tzinfo=UTC))
        footage = Footage(tmp_path, tmp_path / "cache")
        _reported, cursor = ticks(away, tmp_path, 1, None)
        server.kill()
        with pytest.raises(BucketAwayError, match="see whether the store at http://127"):
            find(tmp_path, (away,), date(2026, 3, 1))
        with pytest.raises(BucketAwayError):
            footage.stage("s3://footage/cam-01/2026-03-01/00-00-00.mp4")
        assert list((tmp_path / "cache").glob("*")) == []
        local = tmp_path / "cam-09" / "2026-03-01" / "08-00-00.mp4"
        local.parent.mkdir(parents=True)
        local.touch()
        problems: list[FallAssetsError] = []
        new, later = new_since(
            tmp_path,
            (away, SourceSettings()),
            cursor,
            now=datetime.fromtimestamp(time.time() + 60, UTC),
            report=problems.append,
        )
        assert [path for found in new.values() for path in found] == [
            "cam-09/2026-03-01/08-00-00.mp4"
        ]
        assert [type(problem) for problem in problems] == [BucketAwayError]
    with s3_server(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.create("footage")
        path = put(server, away, "cam-01", datetime.now(UTC))
        reported, _cursor = ticks(away, tmp_path, 1, later)
        assert reported == [path]
