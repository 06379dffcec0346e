"""Retention of footage in a bucket, against a real S3 server process."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from fall_assets.pipeline.retention import apply_retention
from fall_assets_tests.pipeline.recorded import NOW, OLD_DAY, Recorded


class Server:
    """An S3 server of this test, with one bucket."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.url = ""
        for line in self.process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                self.url = found.group()
                break

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    for name, value in {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    request = urllib.request.Request(f"{server.url}/wards", method="PUT")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30).close()
    yield server
    server.end()


def put(key: str, content: bytes) -> None:
    from obstore.store import S3Store

    S3Store("wards", virtual_hosted_style_request=False).put(key, content)


def keys() -> set[str]:
    from obstore.store import S3Store

    pages = S3Store("wards", virtual_hosted_style_request=False).list()
    return {str(item["path"]) for page in pages for item in page}


@pytest.fixture
def site(tmp_path: Path, server: Server) -> Recorded:
    site = Recorded(tmp_path / "site")
    for name in ("a", "b", "c", "d", "e"):
        site.take_in(f"cam-01/{name}.mp4")
        put(f"cam-01/{name}.mp4", f"film of cam-01/{name}.mp4".encode())
    for table in ("videos", "sightings"):
        rows = site.lake.read(table).with_columns(path="s3://wards/" + pl.col("path"))
        if table == "sightings":
            prints = [site.work.footage.state(path) for path in rows["path"]]
            told = [state.fingerprint for state in prints if state is not None]
            rows = rows.with_columns(pl.Series("fingerprint", told))
        site.lake.replace_partition(table, OLD_DAY, rows, site.work.provenance())
    return site


def test_objects_go_with_their_copies_and_the_audit_tells(site: Recorded) -> None:
    copy = site.work.footage.stage("s3://wards/cam-01/a.mp4")
    assert copy.read_bytes() == b"film of cam-01/a.mp4"
    put("cam-01/b.mp4", b"another film")
    done = apply_retention(site.work, now=NOW)
    assert keys() == {"cam-01/b.mp4"}
    assert not copy.exists()
    assert (done.files, done.failed) == (4, 1)
    assert "written again" in done.failures[0]["reason"]
    assert len(site.without_files()) == 4
    assert len(site.files()) == 5, "files of the same names in the landing folder are not touched"


def test_a_bucket_that_is_away_costs_no_footage_and_says_so(site: Recorded, server: Server) -> None:
    server.end()
    done = apply_retention(site.work, now=NOW)
    assert (done.files, done.failed) == (0, 5)
    reasons = [row["reason"] for row in done.failures]
    assert sum("not tried" in reason for reason in reasons) == 2
    assert site.without_files() == set()
