"""URFD: postures per frame become intervals on both cameras."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from fall_assets.labelling.readers import LabelReading, read_labels
from fall_assets_tests.datasets.trees import intervals, lay, problems, read, write
from fall_assets_tests.labelling.rows import video, videos

URFD = "Sequence Name,Frame #,Label,HWRatio"


def urfd(*paths: str) -> pl.DataFrame:
    return videos(
        *(
            video(path, 10.0, dataset="urfd", scene=f"urfd/{Path(path).stem[:-5]}",
                  camera_id=f"urfd-{Path(path).stem[-4:]}")
            for path in paths
        )
    )  # fmt: skip


def times(reading: LabelReading) -> list[tuple[float, float, str]]:
    return reading.labels.sort("start_s", "end_s").select("start_s", "end_s", "label").rows()


def test_urfds_postures_become_intervals_on_both_cameras(tmp_path: Path) -> None:
    postures = [-1] * 60 + [0] * 30 + [1] * 30
    write(
        tmp_path,
        "urfd/urfall-cam0-falls.csv",
        URFD,
        *(f"fall-01,{frame},{posture},1.0" for frame, posture in enumerate(postures, start=1)),
    )
    both = urfd("urfd/fall/fall-01-cam0.mp4", "urfd/fall/fall-01-cam1.mp4")
    reading = read_labels(tmp_path, both)
    for path in both["path"]:
        of_camera = reading.labels.filter(video_id=path)
        assert of_camera.select("start_s", "end_s", "label", "line").rows() == [
            (0.0, 2.0, "other", 2),
            (2.0, 3.0, "fall", 62),
            (3.0, 4.0, "lying_after_fall", 92),
        ]
    events = reading.labels["event_id"].drop_nulls().unique().to_list()
    assert events == ["urfd/fall-01#1"]


def test_urfds_daily_life_holds_no_fall(tmp_path: Path) -> None:
    frames = [*range(6, 60), *range(61, 121)]
    write(
        tmp_path,
        "urfd/urfall-cam0-adls.csv",
        URFD,
        *(f"adl-01,{n},{-1 if n < 31 else 0 if n < 61 else 1},1.0" for n in frames),
        "adl-01,121,2,1.0",
        "adl-01,121,0,1.0",
        "adl-01,240,-1,1.0",
    )
    reading = read_labels(tmp_path, urfd("urfd/adl/adl-01-cam0.mp4"))
    expected = [
        (5 / 30, 1.0, "other"),
        (1.0, 2.0, "other"),
        (2.0, 4.0, "lying"),
        (4.0, 121 / 30, "other"),
        (239 / 30, 8.0, "other"),
    ]
    for told, wanted in zip(times(reading), expected, strict=True):
        assert told == pytest.approx(wanted, abs=1e-5)
    assert [problem[:2] for problem in problems(reading)] == [("urfd/urfall-cam0-adls.csv", 116)]


def test_packed_frames_are_known_by_their_archives_name(tmp_path: Path) -> None:
    path = "urfd/fall-01-cam0-rgb.mp4"
    lay(tmp_path, path)
    write(tmp_path, "urfd/urfall-cam0-falls.csv", URFD, "fall-01,1,0,1.0", "fall-01,30,0,1.0")
    write(
        tmp_path,
        "urfd/labels.csv",
        "file,start_s,end_s,label,source",
        "fall-01-cam0-rgb.mp4,3,4,adl_lying,dataset",
    )
    reading = read(tmp_path)
    assert intervals(reading, path) == [(0, 1, "fall")]
    assert problems(reading) == []
