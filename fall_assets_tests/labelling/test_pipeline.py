"""Labelling on a lake: what is written, what stays, and what midnight does not split."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fall_assets.lake import Lake, Provenance
from fall_assets.lake.registry import table
from fall_assets.pipeline.labelling import agree, cut, label, refresh_zones
from fall_assets.pipeline.work import Work
from fall_assets.site import LabellingSettings, Site, SiteSettings
from fall_assets_tests.labelling.rows import video

DAY, NEXT = date(2026, 3, 1), date(2026, 3, 2)
MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
WHO = Provenance("test", None, "test")
CAMERA = "camera,start_utc,end_utc,label,source,annotator,subject"


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """A site with two segments of 20 s of cam-01, one before midnight and one after it."""
    settings = SiteSettings(labelling=LabellingSettings(resolution="unanimous"))
    (tmp_path / "landing").mkdir()
    lake = Lake(tmp_path / "lake")
    cameras = [
        {"camera_id": "cam-01", "ward": "w", "room": "r", "view": "level", "dataset": "site",
         "crop": None}
    ]  # fmt: skip
    lake.replace("cameras", pl.DataFrame(cameras, schema=table("cameras").schema), WHO)
    for day, at_s in ((DAY, -20), (NEXT, 0)):
        start = MIDNIGHT + timedelta(seconds=at_s)
        film = video(f"cam-01/{day}.mp4", start_utc=start, day=day, scene=f"site/r/{day}")
        lake.replace_partition("videos", day, one("videos", film), WHO)
    return Work(Site(tmp_path, tmp_path / "landing", settings), lake)


def one(name: str, *rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=table(name).schema)


def write(work: Work, *lines: str, path: str = "labels/a.csv") -> None:
    target = work.site.landing / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")


def at(seconds: float) -> str:
    return (MIDNIGHT + timedelta(seconds=seconds)).isoformat()


def test_every_statement_and_difference_is_written(work: Work) -> None:
    write(
        work,
        CAMERA,
        f"cam-01,{at(2)},{at(8)},walking,reviewer,ann,",
        f"cam-01,{at(4)},{at(9)},sitting,reviewer,bob,",
    )
    reading = label(work, [DAY, NEXT])
    lake = work.lake
    assert lake.read("labels").select("start_s", "end_s", "label").sort("start_s").rows() == [
        (2, 4, "walking"), (8, 9, "sitting"),
    ]  # fmt: skip
    assert set(lake.read("annotations")["outcome"]) == {"in_part"}
    assert lake.read("label_conflicts").select("start_s", "end_s", "decided").rows() == [
        (4, 8, None)
    ]
    assert reading.conflicts.height == 1
    assert lake.read("label_problems").is_empty()


def test_what_did_not_change_is_not_written_again(work: Work) -> None:
    write(
        work,
        CAMERA,
        f"cam-01,{at(2)},{at(8)},walking,reviewer,ann,",
        f"cam-01,{at(4)},{at(9)},sitting,reviewer,bob,",
        "cam-01,soon,later,walking,reviewer,ann,",
    )
    write(work, "camera_id,kind,name,polygon,valid_from,valid_until",
          "cam-01,bed,b,,2026-01-01,", "cam-07,bed,b,,2026-01-01,", path="zones.csv")  # fmt: skip
    names = ("annotations", "label_conflicts", "label_problems", "zones", "label_agreement")

    def run() -> dict[str, int | None]:
        label(work, [DAY, NEXT])
        refresh_zones(work)
        agree(work)
        return {name: work.lake.version(name) for name in names}

    first = run()
    assert run() == first
    assert work.lake.read("label_problems").select("file", "line").rows() == [
        ("labels/a.csv", 4), ("zones.csv", 3),
    ]  # fmt: skip
    write(work, CAMERA, f"cam-01,{at(2)},{at(8)},walking,reviewer,ann,")
    label(work, [DAY, NEXT])
    assert work.lake.read("label_problems")["file"].to_list() == ["zones.csv"]
    assert work.lake.read("annotations").height == 1
    assert work.lake.read("label_conflicts").is_empty()
    assert agree(work).rows.is_empty()
    assert work.lake.read("label_agreement").is_empty()


def test_agreement_is_written_with_a_plot(work: Work) -> None:
    write(
        work,
        CAMERA,
        f"cam-01,{at(0)},{at(8)},walking,reviewer,ann,",
        f"cam-01,{at(8)},{at(10)},fall,reviewer,ann,",
        f"cam-01,{at(0)},{at(7)},walking,staff,,",
        f"cam-01,{at(7)},{at(10)},fall,staff,,",
    )
    label(work, [NEXT])
    agreement = agree(work)
    assert agreement.plot is not None
    assert agreement.plot.startswith(b"\x89PNG")
    row = work.lake.read("label_agreement").filter(label="all").row(0, named=True)
    assert (row["annotator"], row["other"], row["seconds"]) == ("ann", "staff", 10)
    # po = 0.9, pe = 0.8 * 0.7 + 0.2 * 0.3 = 0.62
    assert row["kappa"] == pytest.approx((0.9 - 0.62) / 0.38)


def test_midnight_does_not_split_a_fall(work: Work) -> None:
    write(
        work,
        CAMERA,
        f"cam-01,{at(-15)},{at(-1)},walking,reviewer,,patient",
        f"cam-01,{at(-1)},{at(1)},fall,reviewer,,",
        f"cam-01,{at(1)},{at(15)},lying_after_fall,reviewer,,",
    )
    label(work, [DAY, NEXT])
    before, after = cut(work, DAY), cut(work, NEXT)
    falls = work.lake.read("labels").filter(label="fall")
    assert falls["event_id"].n_unique() == 1
    assert falls["interval_id"].n_unique() == 1
    # Each segment sees half of the fall: nobody can say whether an alarm is due.
    assert pl.concat([before, after]).filter(target=1).is_empty()
    assert before.filter(label="fall")["target"].to_list() == [None, None]
    assert set(before["split_group"]) == set(after["split_group"])
    assert set(before["day"]) == {DAY}
    assert set(after["day"]) == {NEXT}
