"""The cameras: what the site configures, and what was seen besides.

What belongs here: `cameras.csv` and rows of the table `cameras`. What does not: telemetry (see
`telemetry.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from fall_assets.datasets import dataset_of_camera
from fall_assets.errors import PermanentFailureError
from fall_assets.footage.lines import Line, read_lines
from fall_assets.footage.watching import Found
from fall_assets.lake.registry import VIEWS, table

CAMERAS_FILE = "cameras.csv"
UNKNOWN = "unknown"


class CamerasFileError(PermanentFailureError):
    """`cameras.csv` cannot be used; the message names every line that is wrong."""


def read_cameras(landing: Path) -> pl.DataFrame:
    """Read `cameras.csv` of the landing folder.

    Columns `camera_id`, and `ward`, `room`, `view`, `crop` where known; `crop` is 'x0,y0,x1,y1' in
    shares of the picture. A camera of a data set may be listed to give it another room or crop.

    Returns:
        Rows of the table `cameras`, sorted; none where there is no such file.

    Raises:
        CamerasFileError: a line is wrong. A camera with a wrong room would send nurses to it.
    """
    path = landing / CAMERAS_FILE
    if not path.is_file():
        return table("cameras").empty()
    rows: dict[str, dict[str, str | None]] = {}
    problems: list[str] = []
    for line in read_lines(path, required=("camera_id",)):
        problem = line.problem or _problem(line)
        camera_id = line.cells.get("camera_id", "")
        if problem is None and camera_id in rows:
            problem = f"camera {camera_id!r} is listed twice; keep one line"
        if problem is not None:
            problems.append(f"line {line.number}: {problem}")
            continue
        rows[camera_id] = {
            "camera_id": camera_id,
            "ward": line.cells.get("ward", UNKNOWN),
            "room": line.cells.get("room", UNKNOWN),
            "view": line.cells.get("view", UNKNOWN).lower(),
            "dataset": dataset_of_camera(camera_id),
            "crop": line.cells.get("crop"),
        }
    if problems:
        raise CamerasFileError(f"{path}: {'; '.join(problems)}")
    return pl.DataFrame([rows[key] for key in sorted(rows)], schema=table("cameras").schema)


def merge_cameras(known: pl.DataFrame, found: Iterable[Found]) -> pl.DataFrame:
    """The known cameras, and those that were seen and are not among them.

    Args:
        known: rows of the table `cameras`.
        found: files, as discovery finds them.

    Returns:
        Rows of the table `cameras`, sorted by `camera_id`. Known ones stay as they are; a seen one
        is described by its data set, or as 'unknown' where it is the site's.
    """
    rows = {row["camera_id"]: row for row in known.iter_rows(named=True)}
    for file in found:
        if file.camera_id not in rows:
            seen = file.camera
            rows[file.camera_id] = {
                "camera_id": file.camera_id,
                "ward": UNKNOWN,
                "room": seen.room if seen else UNKNOWN,
                "view": seen.view if seen else UNKNOWN,
                "dataset": file.dataset,
                "crop": seen.crop if seen else None,
            }
    return pl.DataFrame([rows[key] for key in sorted(rows)], schema=table("cameras").schema)


def _problem(line: Line) -> str | None:
    if "camera_id" not in line.cells:
        return "no camera_id; name the camera as the path template finds it"
    view = line.cells.get("view", UNKNOWN).lower()
    if view not in VIEWS:
        return f"view {view!r} is not known; write one of {', '.join(VIEWS)}"
    crop = line.cells.get("crop")
    if crop is not None and not _is_crop(crop):
        return (
            f"crop {crop!r} is not 'x0,y0,x1,y1' with 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 "
            "(shares of the picture, in quotes)"
        )
    return None


def _is_crop(text: str) -> bool:
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError:
        return False
    return 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1
