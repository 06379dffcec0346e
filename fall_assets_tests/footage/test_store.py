"""Footage by its path: nothing outside of the landing folder is read or deleted."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fall_assets.footage.probe import UnusableFileError
from fall_assets.footage.store import Footage, ForbiddenPathError


@pytest.fixture
def footage(tmp_path: Path) -> Footage:
    landing = tmp_path / "landing"
    (landing / "cam").mkdir(parents=True)
    (landing / "cam" / "a.mp4").write_bytes(b"content")
    (tmp_path / "secret").write_bytes(b"secret")
    return Footage(landing, tmp_path / "cache")


def test_a_file_is_staged_where_it_lies(footage: Footage) -> None:
    staged = footage.stage("cam/a.mp4")
    assert staged == (footage.landing / "cam" / "a.mp4").resolve()
    assert not footage.cache.exists()


@pytest.mark.parametrize("path", ["../secret", "cam/../../secret", "link"])
def test_what_lies_outside_is_not_staged(footage: Footage, path: str) -> None:
    (footage.landing / "link").symlink_to("../secret")
    with pytest.raises(UnusableFileError, match="outside_root"):
        footage.stage(path)


def test_links_that_lead_nowhere_are_told_from_files_that_are_gone(footage: Footage) -> None:
    (footage.landing / "dangling").symlink_to("nowhere")
    (footage.landing / "loop").symlink_to("loop")
    for path in ("dangling", "loop"):
        with pytest.raises(UnusableFileError, match="unreadable"):
            footage.stage(path)
        assert footage.state(path) is None
    with pytest.raises(FileNotFoundError):
        footage.stage("cam/b.mp4")
    assert footage.state("cam/b.mp4") is None


def test_the_fingerprint_changes_when_a_file_is_written_again(footage: Footage) -> None:
    before = footage.state("cam/a.mp4")
    assert before is not None
    assert before.bytes == 7
    assert abs(before.modified_s - time.time()) < 60
    assert footage.state("cam/a.mp4") == before
    time.sleep(0.02)
    (footage.landing / "cam" / "a.mp4").write_bytes(b"CONTENT")
    after = footage.state("cam/a.mp4")
    assert after is not None
    assert after.fingerprint != before.fingerprint


def test_only_the_named_file_is_deleted(footage: Footage) -> None:
    other = footage.landing / "cam" / "b.mp4"
    other.touch()
    assert footage.delete("cam/a.mp4") is True
    assert footage.delete("cam/a.mp4") is False
    assert footage.delete("cam/gone/a.mp4") is False
    assert other.exists()


def test_of_a_link_the_link_is_deleted(footage: Footage) -> None:
    for name, target in (("out", "../secret"), ("in", "cam/a.mp4"), ("loop", "loop")):
        (footage.landing / name).symlink_to(target)
        assert footage.delete(name) is True
        assert not (footage.landing / name).is_symlink()
    assert (footage.landing.parent / "secret").read_bytes() == b"secret"
    assert (footage.landing / "cam" / "a.mp4").exists()


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/hostname", "", "cam", "cam/../../secret", "linked/secret", "."]
)
def test_nothing_else_is_deleted(footage: Footage, path: str) -> None:
    (footage.landing / "linked").symlink_to("..")
    with pytest.raises(ForbiddenPathError):
        footage.delete(path)
    assert (footage.landing.parent / "secret").exists()
    assert (footage.landing / "cam" / "a.mp4").exists()


def test_a_landing_folder_may_be_a_link_itself(footage: Footage, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(footage.landing)
    linked = Footage(tmp_path / "link", tmp_path / "cache")
    assert linked.stage("cam/a.mp4").read_bytes() == b"content"
    assert linked.delete("cam/a.mp4") is True


def test_a_file_that_cannot_be_deleted_raises(
    footage: Footage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "refused")

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(PermissionError):
        footage.delete("cam/a.mp4")
