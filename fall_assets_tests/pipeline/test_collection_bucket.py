"""Footage of a bucket comes into the lake; the server is a real process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from fall_assets.footage.buckets import BucketAwayError
from fall_assets.footage.sources import SourceSettings
from fall_assets.footage.store import Footage
from fall_assets.pipeline.collection import collect
from fall_assets.pipeline.work import Work
from fall_assets.site import FootageSettings, SiteSettings
from fall_assets_tests.footage.films import cut, film
from fall_assets_tests.footage.s3_server import S3Server, s3_server
from fall_assets_tests.pipeline.killed_collection import site_at

DAY = date(2026, 3, 1)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with s3_server(tmp_path) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        running.create("ward")
        yield running


def test_objects_are_taken_in_quarantined_marked_gone_and_asked_for_once(
    tmp_path: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = site_at(tmp_path / "site")
    sources = (SourceSettings(), SourceSettings("nvr", "s3://ward/out"))
    settings = SiteSettings(footage=FootageSettings(settle_s=0.0, sources=sources))
    work = Work(replace(plain.site, settings=settings), plain.lake)
    whole = film(tmp_path / "whole.mp4")
    server.put("ward", "out/cam-01/2026-03-01/08-00-00.mp4", whole.read_bytes())
    cut(whole, tmp_path / "cut.mp4", 0.7)
    server.put("ward", "out/cam-01/2026-03-01/09-00-00.mp4", (tmp_path / "cut.mp4").read_bytes())
    # The same content lies in the landing folder, too.
    film(work.site.landing / "cam-02/2026-03-01/08-00-00.mp4")
    first = collect(work, DAY)
    good = "s3://ward/out/cam-01/2026-03-01/08-00-00.mp4"
    assert first.videos.height == 1
    assert first.sightings.select("path", "source").rows() == [
        ("cam-02/2026-03-01/08-00-00.mp4", "recorders"),
        (good, "nvr"),
    ]
    assert first.quarantine.select("path", "reason").rows() == [
        ("s3://ward/out/cam-01/2026-03-01/09-00-00.mp4", "truncated")
    ]

    def no_staging(footage: Footage, path: str) -> Path:
        raise AssertionError(f"{path} was read again")

    with monkeypatch.context() as patch:
        patch.setattr(Footage, "stage", no_staging)
        again = collect(work, DAY)
    assert again.sightings.equals(first.sightings)
    assert again.quarantine.equals(first.quarantine)
    assert work.footage.delete(good)
    gone = collect(work, DAY).sightings
    assert dict(gone.select("path", "gone_utc").rows())[good] is not None
    assert collect(work, DAY).videos["deleted_utc"].to_list() == [None]


def test_a_bucket_that_is_away_marks_nothing(tmp_path: Path, server: S3Server) -> None:
    plain = site_at(tmp_path / "site")
    footage = FootageSettings(settle_s=0.0, sources=(SourceSettings("nvr", "s3://ward"),))
    work = Work(replace(plain.site, settings=SiteSettings(footage=footage)), plain.lake)
    server.put("ward", "cam-01/2026-03-01/08-00-00.mp4", film(tmp_path / "a.mp4").read_bytes())
    first = collect(work, DAY)
    server.kill()
    with pytest.raises(BucketAwayError):
        collect(work, DAY)
    assert work.lake.read("sightings").equals(first.sightings)
    assert work.lake.read("videos")["deleted_utc"].to_list() == [None]
