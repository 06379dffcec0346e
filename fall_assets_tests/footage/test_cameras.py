"""The cameras that the site configures, and those that are seen besides."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from fall_assets.footage.cameras import CamerasFileError, merge_cameras, read_cameras
from fall_assets.footage.discovery import find
from fall_assets.footage.sources import SourceSettings
from fall_assets.lake.registry import table

DAY = date(2024, 1, 1)


def configure(landing: Path, *lines: str) -> None:
    (landing / "cameras.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_configured_cameras_are_read(tmp_path: Path) -> None:
    configure(
        tmp_path,
        "camera_id,ward,room,view,crop",
        'cam-02,Ward A,12,Ceiling,"0,0,0.5,1"',
        "",
        "cam-01,Ward A,11,,",
        "urfd-cam0,Lab,1,level,",
    )
    cameras = read_cameras(tmp_path)
    assert cameras.schema == table("cameras").schema
    assert cameras.rows() == [
        ("cam-01", "Ward A", "11", "unknown", "site", None),
        ("cam-02", "Ward A", "12", "ceiling", "site", "0,0,0.5,1"),
        ("urfd-cam0", "Lab", "1", "level", "urfd", None),
    ]


def test_without_the_file_there_are_none(tmp_path: Path) -> None:
    assert read_cameras(tmp_path).is_empty()


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("cam-01,A,1,sideways,", "view 'sideways'"),
        ('cam-01,A,1,level,"0,0,2,1"', "crop"),
        ('cam-01,A,1,level,"0,0,nan,1"', "crop"),
        ('cam-01,A,1,level,"0.5,0,0.5,1"', "crop"),
        ("cam-01,A,1,level,0,0,1,1", "quote"),
        (",A,1,level,", "camera_id"),
        ("cam-00,B,1,level,", "twice"),
        ('cam-01,"A,1,level,', "quotes"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, part: str) -> None:
    configure(tmp_path, "camera_id,ward,room,view,crop", "cam-00,A,1,level,", line)
    with pytest.raises(CamerasFileError, match=r"cameras.csv: line 3") as caught:
        read_cameras(tmp_path)
    assert part in str(caught.value)


def test_a_header_without_the_camera_is_named(tmp_path: Path) -> None:
    configure(tmp_path, "camera,ward", "cam-01,A")
    with pytest.raises(CamerasFileError, match="camera_id"):
        read_cameras(tmp_path)


def test_seen_cameras_join_the_known_ones(tmp_path: Path) -> None:
    configure(tmp_path, "camera_id,ward,room", "cam-01,A,11")
    for path in ("cam-01/2024-01-01/08-00-00.mp4", "cam-09/2024-01-01/08-00-00.mp4",
                 "urfd/fall/fall-01-cam1.mp4"):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    known = read_cameras(tmp_path)
    seen = find(tmp_path, (SourceSettings(),), DAY)
    merged = merge_cameras(known, seen)
    assert merged.rows() == [
        ("cam-01", "A", "11", "unknown", "site", None),
        ("cam-09", "unknown", "unknown", "unknown", "site", None),
        ("urfd-cam1", "unknown", "urfd", "ceiling", "urfd", None),
    ]
    assert merge_cameras(merged, seen).equals(merged)
