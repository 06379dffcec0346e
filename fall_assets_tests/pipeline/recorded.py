"""A site with footage that intake took in, made without decoding: files hold a few bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from fall_assets.lake import Lake, Provenance
from fall_assets.lake.registry import table
from fall_assets.pipeline.work import Work
from fall_assets.site import RetentionSettings, Site, SiteSettings

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
OLD = datetime(2026, 3, 1, 8, tzinfo=UTC)
OLD_DAY = OLD.date()
RUN = Provenance("test", None, "test")


@dataclass
class Recorded:
    """A site below `root`; `days` is its retention."""

    root: Path
    days: int = 30
    lines: list[str] = field(default_factory=list)

    @property
    def landing(self) -> Path:
        return self.root / "landing"

    @property
    def lake(self) -> Lake:
        return Lake(self.root / "lake")

    @property
    def work(self) -> Work:
        settings = SiteSettings(retention=RetentionSettings(self.days))
        site = Site(self.root, self.landing, settings)
        return Work(site, self.lake, run_id="run-1", log=self.lines.append)

    def write(self, path: str, content: str | bytes) -> Path:
        file = self.landing / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def take_in(
        self,
        path: str,
        start: datetime = OLD,
        *,
        content: str | bytes | None = None,
        copies: dict[str, datetime] | None = None,
        dataset: str = "site",
    ) -> str:
        """Write a file, and its copies by path and the start that the name tells; its video_id."""
        told = content or f"film of {path}"
        said = told.encode() if isinstance(told, str) else told
        video_id = hashlib.sha256(said).hexdigest()
        camera_id = path.split("/", 1)[0]
        row = {
            "day": start.date(),
            "video_id": video_id,
            "camera_id": camera_id,
            "dataset": dataset,
            "path": path,
            "start_utc": start,
            "duration_s": 60.0,
            "width": 320,
            "height": 180,
            "fps": 25.0,
            "frames": 1500,
            "codec": "h264",
            "bytes": len(said),
            "subject": None,
            "scene": f"{dataset}/{camera_id}",
            "deleted_utc": None,
        }
        camera = {
            "camera_id": camera_id,
            "ward": "w",
            "room": "r",
            "view": "level",
            "dataset": dataset,
            "crop": None,
        }
        self.add("cameras", [camera])
        self.add("videos", [row], start.date())
        for name, moment in {path: start, **(copies or {})}.items():
            status = self.write(name, said).stat()
            seen = {
                "day": moment.date(),
                "path": name,
                "source": "recorders" if dataset == "site" else dataset,
                "camera_id": name.split("/", 1)[0],
                "start_utc": moment,
                "video_id": video_id,
                "bytes": status.st_size,
                "fingerprint": f"{status.st_size}-{status.st_mtime_ns}",
                "first_seen_utc": moment,
                "gone_utc": None,
            }
            self.add("sightings", [seen], moment.date())
        return video_id

    def add(self, name: str, rows: list[dict[str, Any]], day: date | None = None) -> None:
        """Add rows to a table, of one day where it is by day."""
        frame = pl.DataFrame(rows, schema=table(name).schema)
        if day is None:
            self.lake.append(name, frame, RUN, skip_existing=True)
        else:
            standing = self.lake.read(name, days=[day])
            self.lake.replace_partition(name, day, pl.concat([standing, frame]), RUN)

    def label(self, video_id: str, day: date = OLD_DAY, name: str = "labels") -> None:
        text = {column.name: None for column in table(name).columns}
        row = {
            **text,
            "day": day,
            "label_id": f"label of {video_id}",
            "video_id": video_id,
            "camera_id": "cam-01",
            "start_s": 1.0,
            "end_s": 2.0,
            "label": "fall",
            "original_label": "fall",
            "source": "by_eye",
            "taxonomy_version": 1,
            "file": "labels/a.csv",
            "line": 2,
        }
        if name == "annotations":
            row["outcome"] = "outvoted"
        self.add(name, [row], day)

    def alert(self, video_id: str, start: datetime = OLD, still: str | None = None) -> str:
        row = {
            "day": start.date(),
            "alert_id": f"alert-{video_id[:8]}",
            "camera_id": "cam-01",
            "ward": "w",
            "room": "r",
            "video_id": video_id,
            "model_version": "1",
            "start_utc": start,
            "raised_utc": start + timedelta(seconds=1),
            "end_utc": start + timedelta(seconds=2),
            "start_s": 0.0,
            "end_s": 2.0,
            "score": 0.9,
            "still": still,
        }
        self.add("alerts", [row], start.date())
        return str(row["alert_id"])

    def files(self) -> set[str]:
        """Every file in the landing folder."""
        found = (path for path in self.landing.rglob("*") if path.is_file() or path.is_symlink())
        return {path.relative_to(self.landing).as_posix() for path in found}

    def audit(self) -> list[tuple[str, str]]:
        """Path and state of the audit's rows, as they were written."""
        rows = self.lake.read("deletions").sort("at_utc")
        return list(rows.select("path", "state").iter_rows())

    def without_files(self) -> set[str]:
        """video_ids that are marked as deleted."""
        rows = self.lake.read("videos").filter(pl.col("deleted_utc").is_not_null())
        return set(rows["video_id"])

    def names_gone(self) -> set[str]:
        """Paths that are marked as gone."""
        return set(self.lake.read("sightings").filter(pl.col("gone_utc").is_not_null())["path"])
