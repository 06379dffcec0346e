"""A file is either a usable segment or refused with a reason."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import get_args

import pytest

from fall_assets.footage.probe import ADVICE, Reason, UnusableFileError, probe
from fall_assets.lake.registry import QUARANTINE_REASONS
from fall_assets_tests.footage.films import cut, film, sound


def reason_of(path: Path, settle_s: float = 0.0) -> str:
    with pytest.raises(UnusableFileError) as caught:
        probe(path, settle_s=settle_s)
    assert caught.value.detail
    assert caught.value.advice
    return caught.value.reason


def test_reasons_are_the_registrys() -> None:
    assert get_args(Reason) == QUARANTINE_REASONS
    assert set(ADVICE) == set(QUARANTINE_REASONS)


def test_a_video_is_measured(tmp_path: Path) -> None:
    found = probe(film(tmp_path / "a.mp4", frames=25, fps=10, width=96, height=64))
    assert (found.width, found.height, found.frames, found.codec) == (96, 64, 25, "h264")
    assert found.fps == pytest.approx(10)
    assert found.duration_s == pytest.approx(2.5)
    assert found.bytes == (tmp_path / "a.mp4").stat().st_size


def test_the_id_is_of_the_content_alone(tmp_path: Path) -> None:
    first = film(tmp_path / "a.mp4")
    second = tmp_path / "other" / "name.mp4"
    second.parent.mkdir()
    second.write_bytes(first.read_bytes())
    assert probe(first).video_id == probe(second).video_id
    assert probe(film(tmp_path / "b.mp4", seed=1)).video_id != probe(first).video_id


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mkv", "libx264", {}),
        ("a.ts", "libx264", {}),
        ("a.avi", "mpeg4", {}),
        ("a.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.mp4", "libx264", {"movflags": "faststart"}),
    ],
)
def test_recorders_containers_are_usable(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    found = probe(film(tmp_path / name, codec=codec, options=options))
    assert (found.frames, found.width) == (20, 64)
    assert found.duration_s == pytest.approx(2.0, abs=0.15)


def test_one_frame_is_a_video(tmp_path: Path) -> None:
    found = probe(film(tmp_path / "a.mp4", frames=1))
    assert found.frames == 1
    assert found.duration_s > 0


def test_no_content_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert reason_of(tmp_path / "a.mp4") == "empty"


@pytest.mark.parametrize(
    ("name", "options", "share"),
    [
        ("a.mp4", {}, 0.7),
        ("a.mp4", {"movflags": "faststart"}, 0.7),
        ("a.mp4", {"movflags": "faststart"}, 0.99),
        ("a.mp4", {"movflags": "frag_keyframe+empty_moov"}, 0.7),
        ("a.mkv", {}, 0.6),
    ],
)
def test_a_part_of_a_video_is_truncated(
    tmp_path: Path, name: str, options: dict[str, str], share: float
) -> None:
    whole = film(tmp_path / "whole" / name, frames=60, options=options)
    assert reason_of(cut(whole, tmp_path / name, share)) == "truncated"


def test_an_end_of_zeros_is_truncated(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", frames=60, options={"movflags": "faststart"})
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + bytes(len(content) - half))
    assert reason_of(path) == "truncated"


@pytest.mark.parametrize(
    "content",
    [
        "hello",
        "1\n00:00:00,000 --> 00:00:02,000\nhello\n\n2\n00:00:03,000 --> 00:00:04,000\nx\n",
        "\x00\x01\x02" * 100,
    ],
)
def test_something_else_is_not_a_video(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.mp4").write_text(content)
    assert reason_of(tmp_path / "a.mp4") == "not_a_video"


@pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile {}\n", "#EXTM3U\n#EXTINF:9,\n{}\n"])
def test_a_list_of_other_files_is_never_followed(tmp_path: Path, text: str) -> None:
    film(tmp_path / "secret.mp4")
    (tmp_path / "a.mp4").write_text(text.format("secret.mp4"))
    assert reason_of(tmp_path / "a.mp4") == "not_a_video"


def test_sound_only_has_no_video_stream(tmp_path: Path) -> None:
    assert reason_of(sound(tmp_path / "a.mp4")) == "no_video_stream"


def test_a_named_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    assert reason_of(tmp_path / "a.mp4") == "not_a_video"


def test_a_folder_is_not_a_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    assert reason_of(tmp_path / "a.mp4") == "not_a_video"


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        probe(tmp_path / "a.mp4")


def test_an_unfinished_file_is_given_time(tmp_path: Path) -> None:
    path = cut(film(tmp_path / "whole.mp4"), tmp_path / "a.mp4", 0.7)
    assert reason_of(path, settle_s=10) == "still_being_written"
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))
    assert reason_of(path, settle_s=10) == "truncated"


def test_a_finished_file_is_taken_at_once(tmp_path: Path) -> None:
    assert probe(film(tmp_path / "a.mp4"), settle_s=3600).frames == 20


def test_a_file_that_never_ends_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(UnusableFileError) as caught:
        probe(film(tmp_path / "a.mp4"), settle_s=0, limit_s=-1)
    assert caught.value.reason == "took_too_long"
