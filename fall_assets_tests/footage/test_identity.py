"""One content is one video under however many names, whatever happens to the files."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fall_assets.footage.intake import Intake, Known, inspect_day
from fall_assets.footage.probe import Probe, UnusableFileError
from fall_assets.footage.sandbox import Looked
from fall_assets.footage.sources import SourceSettings
from fall_assets.footage.store import Footage
from fall_assets.lake.registry import table

DAYS = (date(2026, 3, 1), date(2026, 3, 2))
NAMES = [
    f"{camera}/{day}/{time}.mp4"
    for camera in ("cam-01", "cam-02")
    for day in DAYS
    for time in ("08-00-00", "09-00-00")
]
FOREVER = ("day", "camera_id", "start_utc", "dataset", "video_id", "bytes")
"""What is never changed once a content is known."""


def is_good(content: bytes) -> bool:
    return content.startswith(b"good")


def look(files: Iterable[tuple[str, Path]], **_: object) -> Iterator[Looked[str]]:
    """In place of processes: texts that say whether they are good."""
    for key, path in files:
        content = path.read_bytes()
        if not is_good(content):
            yield Looked(key, error=UnusableFileError("not_a_video", "it says so"))
            continue
        video_id = hashlib.sha256(content).hexdigest()
        yield Looked(key, probe=Probe(video_id, 64, 48, 10.0, 20, 2.0, "h264", len(content)))


@pytest.fixture(autouse=True, scope="module")
def no_processes() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fall_assets.footage.intake.probe_all", look)
        yield


class Hospital:
    """A landing folder and what a lake would hold of it."""

    def __init__(self, root: Path) -> None:
        self.landing = root / "landing"
        self.landing.mkdir()
        self.now = datetime(2026, 3, 3, tzinfo=UTC)
        self.tables: dict[str, pl.DataFrame] = {
            name: table(name).empty() for name in ("videos", "sightings", "quarantine")
        }

    def do(self, action: str, name: str, other: str, content: int) -> None:
        path, target = self.landing / name, self.landing / other
        for each in (path, target):
            each.parent.mkdir(parents=True, exist_ok=True)
        if action in ("write", "damage"):
            # The length tells contents apart where the clock is coarse.
            word = "good" if action == "write" else "bad"
            path.write_bytes(f"{word} {content}".encode() + b"." * (content * 7))
        elif path.exists() and action == "delete":
            path.unlink()
        elif path.exists() and action == "rename":
            path.rename(target)
        elif path.exists() and action == "copy" and path != target:
            shutil.copy(path, target)

    def collect(self, day: date) -> Intake:
        self.now += timedelta(hours=1)
        mine = {name: rows.filter(pl.col("day") == day) for name, rows in self.tables.items()}

        def elsewhere(name: str, ids: Collection[str]) -> pl.DataFrame:
            return self.tables[name].filter(
                (pl.col("day") != day) & pl.col("video_id").is_in(list(ids))
            )

        taken = inspect_day(
            Footage(self.landing, self.landing / "cache"),
            [SourceSettings()],
            day,
            cameras=table("cameras").empty(),
            known=Known(
                **mine,
                videos_elsewhere=lambda ids: elsewhere("videos", ids),
                sightings_elsewhere=lambda ids: elsewhere("sightings", ids),
            ),
            settle_s=0,
            now=self.now,
        ).decide()
        for name in self.tables:
            others = self.tables[name].filter(pl.col("day") != day)
            if name == "videos":
                others = others.join(taken.elsewhere, on="video_id", how="anti")
                others = pl.concat([others, taken.elsewhere])
            self.tables[name] = pl.concat([others, getattr(taken, name)])
        return taken

    def rows(self, name: str) -> list[dict[str, Any]]:
        return self.tables[name].sort("day", "path").to_dicts()


STEP = st.tuples(
    st.sampled_from(("write", "write", "damage", "delete", "rename", "copy", "collect")),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.integers(0, 4),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEP, max_size=20), order=st.permutations(DAYS))
def test_whatever_happens_to_files(
    steps: Sequence[tuple[str, str, str, int]], order: Sequence[date]
) -> None:
    with TemporaryDirectory() as folder:
        hospital = Hospital(Path(folder))
        first: dict[str, dict[str, Any]] = {}

        def collect(day: date) -> None:
            hospital.collect(day)
            rows = hospital.rows("videos")
            assert len({row["video_id"] for row in rows}) == len(rows)
            now = {row["video_id"]: {name: row[name] for name in FOREVER} for row in rows}
            # No row ever goes, or is another's.
            assert {video_id: now[video_id] for video_id in first} == first
            first.update(now)

        for action, name, other, content in steps:
            if action == "collect":
                collect(date.fromisoformat(name.split("/")[1]))
            else:
                hospital.do(action, name, other, content)
        for day in order:
            collect(day)
        contents = {
            str(path.relative_to(hospital.landing)): path.read_bytes()
            for path in hospital.landing.rglob("*.mp4")
        }
        good = {
            path: hashlib.sha256(content).hexdigest()
            for path, content in contents.items()
            if is_good(content)
        }
        sightings = hospital.rows("sightings")
        assert {
            row["path"]: row["video_id"] for row in sightings if row["gone_utc"] is None
        } == good
        assert {row["path"] for row in hospital.rows("quarantine")} == contents.keys() - good.keys()
        for row in hospital.rows("videos"):
            names = [path for path, video_id in good.items() if video_id == row["video_id"]]
            assert (row["deleted_utc"] is None) == bool(names)
            assert not names or row["path"] in names
        before = {name: hospital.rows(name) for name in hospital.tables}
        for day in order:
            assert hospital.collect(day).read == 0
        assert {name: hospital.rows(name) for name in hospital.tables} == before
