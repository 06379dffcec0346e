"""What it costs to read a training set, against a bare Parquet reader on the same bytes.

A lake of drawn people (random walks of a skeleton, several days and cameras, appended in batches as
the pipeline does and then compacted) gives 100,000 windows. In one run, in turn:

- bare: `pyarrow.parquet.read_table` of the files and columns that a training set is made of;
- ours: the training set's manifest read and verified, its tables read at their pinned versions and
  joined, and the set of windows made that training draws its batches from.

Both know their files before: which ones they are, `bare` is told, and ours has read from the
tables' logs (`open s`, in no sum; it does not grow with the windows). The figure is the median of
the ratios of each repeat. For information: gathering every window once in batches, the bytes that
an hour of one person takes, and what other layouts of the same key points would take.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fall_assets.features.packing import pack_boxes, pack_keypoints
from fall_assets.labelling.clips import cut_clips
from fall_assets.lake import Lake
from fall_assets.lake.registry import TABLES, one_row
from fall_assets.learning.dataset import CLIP_ORDER, COLUMNS, training_windows
from fall_assets.learning.windows import WindowSet
from fall_assets.pipeline.training_sets import PINNED, OpenedSet, manifest_file, open_training_set
from fall_assets.pipeline.work import Work
from fall_assets.site import Site

GOAL = 1.5
WINDOWS = 100_000
DAYS, CAMERAS, FOLDS = 4, 10, 5
SEGMENT_S, RATE_HZ = 60.0, 10.0
SAMPLES = int(SEGMENT_S * RATE_HZ)
FIRST_DAY = date(2026, 3, 1)
BATCH = 64
"""Segments per commit, as in the pipeline."""
TRAINING_BATCH = 1024
FALLING, TWO_PEOPLE, NOBODY = 0.06, 0.2, 0.1
"""Shares of the segments."""

Floats = npt.NDArray[np.float32]


def main() -> int:
    """Build the lake, measure in turn, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=WINDOWS)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--layouts", action="store_true", help="compare layouts of key points")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="feature-read-") as folder:
        started = time.perf_counter()
        work = Work(Site(Path(folder), Path(folder) / "landing"), Lake(Path(folder) / "lake"))
        build(work, chosen.windows)
        print(f"lake built and compacted in {time.perf_counter() - started:.0f} s")
        describe(work.lake)
        if chosen.layouts:
            compare_layouts(work.lake)
        return measure(work, chosen.repeats)


def measure(work: Work, repeats: int) -> int:
    """Both ways in turn, `repeats` times after one that does not count."""
    reading = files_and_columns(work)
    print(
        f"{'repeat':>6} {'bare s':>8} {'ours s':>8} {'ratio':>6} {'open s':>8} "
        f"{'batches s':>10} {'windows':>8}"
    )
    ratios: list[float] = []
    for repeat in range(repeats + 1):
        bare_s, _ = timed(lambda: [pq.read_table(files, columns=own) for files, own in reading])
        open_s, opened = timed(lambda: open_training_set(work))
        ours_s, windows = timed(partial(read_training_set, opened))
        batches_s, _ = timed(partial(gather_all, windows))
        if repeat:
            ratios.append(ours_s / bare_s)
            row = f"{repeat:>6} {bare_s:>8.3f} {ours_s:>8.3f} {ratios[-1]:>6.2f} {open_s:>8.3f}"
            print(f"{row} {batches_s:>10.3f} {len(windows):>8}", flush=True)
    ratio = statistics.median(ratios)
    print(f"feature_read: {ratio:.3f} (goal at most {GOAL})")
    return 0 if ratio <= GOAL else 1


def timed(do: Callable[[], Any]) -> tuple[float, Any]:
    """Wall seconds of `do`, and what it returned."""
    started = time.perf_counter()
    result = do()
    return time.perf_counter() - started, result


def read_training_set(opened: OpenedSet) -> WindowSet:
    """As training does it."""
    _, learning_set = opened.read()
    return training_windows(learning_set)


def gather_all(windows: WindowSet) -> float:
    """Every window once, shuffled, in batches of float32; their sum, so that all is touched."""
    order = np.random.default_rng(0).permutation(len(windows))
    return sum(
        float(windows.keypoints[order[at : at + TRAINING_BATCH]].sum())
        for at in range(0, len(order), TRAINING_BATCH)
    )


def files_and_columns(work: Work) -> list[tuple[Any, list[str] | None]]:
    """What the bare reader reads: the tables' files with the columns in use, and the manifest."""
    found: list[tuple[Any, list[str] | None]] = []
    for name, columns in COLUMNS.items():
        found.append(([str(file) for file in work.lake.snapshot(name).files], list(columns)))
    manifest = work.lake.resolve(str(work.lake.read("training_set")["manifest"][0]))
    return [*found, (str(manifest), None)]


# The lake -----------------------------------------------------------------------------------------


def build(work: Work, windows: int) -> None:
    """A lake whose training set gives at least so many windows."""
    per_segment = (SEGMENT_S - 1) / 0.5 * (1 - NOBODY + TWO_PEOPLE) * 0.94
    segments = int(np.ceil(windows / per_segment))
    lake, rng = work.lake, np.random.default_rng(4)
    cameras = pl.DataFrame(
        [
            {
                "camera_id": f"ward-{number % 3}-room-{number:03d}-camera-1",
                "ward": f"ward-{number % 3}",
                "room": f"room-{number:03d}",
                "view": "corner",
                "dataset": "site",
                "crop": None,
            }
            for number in range(CAMERAS)
        ],
        schema=TABLES["cameras"].schema,
    )
    lake.replace("cameras", cameras, work.provenance())
    names = cameras["camera_id"].to_list()
    for place in range(DAYS):
        day = FIRST_DAY + timedelta(days=place)
        count = segments * (place + 1) // DAYS - segments * place // DAYS
        videos, labels = drawn_day(rng, day, count, names)
        lake.replace_partition("videos", day, videos, work.provenance(day))
        lake.replace_partition("labels", day, labels, work.provenance(day))
        clips = cut_clips(labels, videos)
        lake.replace_partition("clips", day, clips, work.provenance(day))
        falling = set(labels.filter(pl.col("label") == "fall")["video_id"])
        for batch in videos.iter_slices(BATCH):
            lake.extend_partition(
                "pose_tracks", day, drawn_tracks(rng, batch, falling), work.provenance(day)
            )
    before = len(lake.snapshot("pose_tracks").files)
    lake.maintain(retain_hours=0, exclusive=True)
    print(f"pose_tracks: {before} files became {len(lake.snapshot('pose_tracks').files)}")
    pin(work)


def drawn_day(
    rng: np.random.Generator, day: date, count: int, cameras: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Videos and labels of a day."""
    videos: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    morning = datetime(day.year, day.month, day.day, 6, tzinfo=UTC)
    for number in range(count):
        camera = cameras[number * len(cameras) // count]
        start = morning + timedelta(seconds=number * SEGMENT_S)
        video_id = hashlib.sha256(f"{day} {number}".encode()).hexdigest()
        same = {"day": day, "video_id": video_id, "camera_id": camera}
        videos.append(
            {
                **same,
                "dataset": "site",
                "path": f"{camera}/{start:%Y%m%d-%H%M%S}.mp4",
                "start_utc": start,
                "duration_s": SEGMENT_S,
                "width": 1280,
                "height": 720,
                "fps": 25.0,
                "frames": int(SEGMENT_S * 25),
                "codec": "h264",
                "bytes": 8_000_000,
                "scene": f"{camera} {number // 5}",
            }
        )
        falls = rng.random() < FALLING
        spans = ["walking", "sitting_down", "sitting", "standing"]
        if falls:
            spans = ["walking", "fall", "lying_after_fall", "standing"]
        at = np.sort(rng.uniform(10, SEGMENT_S - 10, 3))
        if falls:
            at[1] = at[0] + 1.5
            at[2] = max(at[2], at[1] + 4)
        times = [0.0, *np.minimum(at, SEGMENT_S).tolist(), SEGMENT_S]
        for line, label in enumerate(spans):
            labels.append(
                {
                    **same,
                    "label_id": hashlib.sha256(f"{video_id} {line}".encode()).hexdigest(),
                    "start_s": times[line],
                    "end_s": times[line + 1],
                    "label": label,
                    "original_label": label,
                    "source": "reviewer",
                    "event_id": f"fall {video_id[:12]}" if "fall" in label else None,
                    "taxonomy_version": 1,
                    "file": f"{camera}/labels.csv",
                    "line": len(labels) + 2,
                }
            )
    return (
        pl.DataFrame(videos, schema=TABLES["videos"].schema),
        pl.DataFrame(labels, schema=TABLES["labels"].schema),
    )


# Head, trunk and limbs of a standing body of height 1 with its feet at 0, in COCO's order.
_BODY = np.array(
    [
        *[(0.02, -0.94), (0.04, -0.96), (0.0, -0.96), (0.06, -0.94), (-0.02, -0.94)],
        *[(0.1, -0.8), (-0.1, -0.8), (0.14, -0.63), (-0.14, -0.63), (0.15, -0.47), (-0.15, -0.47)],
        *[(0.07, -0.5), (-0.07, -0.5), (0.08, -0.26), (-0.08, -0.26), (0.08, 0), (-0.08, 0)],
    ],
    np.float32,
)


def drawn_tracks(rng: np.random.Generator, videos: pl.DataFrame, falling: set[str]) -> pl.DataFrame:
    """Tracks of the people in some segments."""
    rows = []
    for video in videos.select("day", "video_id", "camera_id").iter_rows(named=True):
        falls = video["video_id"] in falling
        drawn = rng.random()
        people = 2 if drawn < TWO_PEOPLE else 0 if drawn > 1 - NOBODY and not falls else 1
        for track in range(people):
            keypoints = walk(rng, lies=falls and track == 0)
            box = np.concatenate(
                [keypoints[..., :2].min(axis=1), keypoints[..., :2].max(axis=1)], axis=1
            )
            boxes = np.concatenate([box, keypoints[..., 2].mean(axis=1)[:, None]], axis=1)
            rows.append(
                {
                    **video,
                    "feature_set": "pose-0123456789",
                    "track": track,
                    "start_s": 0.0,
                    "rate_hz": RATE_HZ,
                    "samples": SAMPLES,
                    "aspect": 16 / 9,
                    "keypoints": pack_keypoints(keypoints),
                    "boxes": pack_boxes(boxes),
                }
            )
    return pl.DataFrame(rows, schema=TABLES["pose_tracks"].schema)


def walk(rng: np.random.Generator, *, lies: bool) -> Floats:
    """A person who wanders, sways, is lost now and then, and may come to lie: (samples, 17, 3)."""
    steps = (
        rng.normal(0, 0.004, (SAMPLES, 2)) * np.repeat(rng.random(SAMPLES // 20) < 0.5, 20)[:, None]
    )
    centre = np.clip(np.array([0.5, 0.8]) + np.cumsum(steps, axis=0), 0.1, 0.95)
    tilt = np.cumsum(rng.normal(0, 0.02, SAMPLES)) * 0.3
    if lies:
        tilt += 1.5 * np.clip((np.arange(SAMPLES) - 150) / 12, 0, 1) ** 2
    cos, sin = np.cos(tilt)[:, None], np.sin(tilt)[:, None]
    sway = _BODY + np.cumsum(rng.normal(0, 0.004, (SAMPLES, 17, 2)), axis=0) * 0.2
    x = sway[..., 0] * cos - sway[..., 1] * sin
    y = sway[..., 0] * sin + sway[..., 1] * cos
    size = rng.uniform(0.3, 0.6)
    keypoints = np.empty((SAMPLES, 17, 3), np.float32)
    keypoints[..., 0] = centre[:, :1] + x * size * 9 / 16
    keypoints[..., 1] = centre[:, 1:] + y * size
    keypoints[..., :2] += rng.normal(0, 0.002, (SAMPLES, 17, 2))
    keypoints[..., 2] = np.clip(0.6 + rng.normal(0, 0.12, (SAMPLES, 17)), 0.05, 0.95)
    lost = np.repeat(rng.random(SAMPLES // 5) < 0.04, 5)
    keypoints[lost] = 0
    return keypoints


def pin(work: Work) -> None:
    """Cut the training set: the manifest's file and its row, as `cut_training_set` writes them."""
    lake = work.lake
    clips = lake.read("clips")
    manifest = clips.with_columns(
        fold=(pl.col("split_group").hash(seed=1) % FOLDS).cast(pl.Int64)
    ).sort(CLIP_ORDER)
    content = manifest_file(manifest)
    row = {
        "training_set_id": "drawn",
        "created_utc": datetime(2026, 4, 1, tzinfo=UTC),
        "pins": json.dumps({name: lake.version(name) for name in PINNED}),
        "first_day": manifest["day"].min(),
        "last_day": manifest["day"].max(),
        "feature_set": "pose-0123456789",
        "taxonomy_version": 1,
        "seed": 0,
        "folds": FOLDS,
        "clips": manifest.height,
        "falls": manifest["event_id"].n_unique() - 1,
        "automatic_clips": 0,
        "manifest": lake.write_file(content, "training_sets", "drawn.parquet"),
        "manifest_sha256": hashlib.sha256(content).hexdigest(),
    }
    lake.append("training_set", one_row("training_set", row), work.provenance())


# Sizes --------------------------------------------------------------------------------------------


def describe(lake: Lake) -> None:
    """Print what an hour of one tracked person takes."""
    rows = lake.read("pose_tracks", columns=["samples"])
    hours = int(rows["samples"].sum()) / RATE_HZ / 3600
    size = sum(file.stat().st_size for file in lake.snapshot("pose_tracks").files)
    print(
        f"pose_tracks: {rows.height} tracks, {hours:.1f} h of people tracked at {RATE_HZ:.0f} Hz, "
        f"{size / 2**20:.1f} MiB, {size / hours / 2**20:.2f} MiB per hour of one person"
    )


def compare_layouts(lake: Lake) -> None:
    """Print what the same key points take in other layouts, each as one column under ZSTD 3."""
    packed = lake.read("pose_tracks", columns=["keypoints"])["keypoints"]
    tracks = [np.frombuffer(row, np.uint16).reshape(-1, 51) for row in packed.to_list()]
    now = len(_parquet([track.tobytes() for track in tracks]))
    print(f"{'layout of key points':<44} {'MiB':>7} {'of now':>7} {'to read':>8}")
    for name, change, back in LAYOUTS:
        values = [change(track) for track in tracks]
        file = _parquet(values)
        read_s = statistics.median(timed(partial(_read, file, back))[0] for _ in range(5))
        print(f"{name:<44} {len(file) / 2**20:>7.1f} {len(file) / now:>7.2f} {read_s:>7.3f}s")


Shorts = npt.NDArray[np.uint16]


def _plane(track: Shorts) -> Shorts:
    return np.ascontiguousarray(track.T)


def _steps(track: Shorts) -> Shorts:
    plane = _plane(track)
    return np.diff(plane, axis=1, prepend=np.uint16(0)).astype(np.uint16)


def _bytes_apart(values: Shorts) -> bytes:
    return np.ascontiguousarray(values).view(np.uint8).reshape(-1, 2).T.tobytes()


def _together(file: bytes) -> Shorts:
    return np.frombuffer(file, np.uint8).reshape(2, -1).T.copy().view(np.uint16).reshape(-1)


LAYOUTS: list[tuple[str, Callable[[Shorts], bytes], Callable[[bytes], Any]]] = [
    ("as it is: sample by sample", lambda t: t.tobytes(), lambda b: np.frombuffer(b, np.uint16)),
    (
        "planes of x, y, score",
        lambda t: _plane(t).tobytes(),
        lambda b: np.ascontiguousarray(np.frombuffer(b, np.uint16).reshape(51, -1).T),
    ),
    (
        "planes, high and low bytes apart",
        lambda t: _bytes_apart(_plane(t)),
        lambda b: np.ascontiguousarray(_together(b).reshape(51, -1).T),
    ),
    (
        "planes of differences in time",
        lambda t: _steps(t).tobytes(),
        lambda b: np.ascontiguousarray(
            np.cumsum(np.frombuffer(b, np.uint16).reshape(51, -1), axis=1, dtype=np.uint16).T
        ),
    ),
    (
        "planes of differences, bytes apart",
        lambda t: _bytes_apart(_steps(t)),
        lambda b: np.ascontiguousarray(
            np.cumsum(_together(b).reshape(51, -1), axis=1, dtype=np.uint16).T
        ),
    ),
]


def _parquet(rows: list[bytes]) -> bytes:
    sink = io.BytesIO()
    column = pa.table({"keypoints": pa.array(rows, pa.binary())})
    pq.write_table(
        column, sink, compression="zstd", compression_level=3, use_dictionary=False,
        row_group_size=128,
    )  # fmt: skip
    return sink.getvalue()


def _read(file: bytes, back: Callable[[bytes], Any]) -> None:
    for row in pq.read_table(io.BytesIO(file))["keypoints"].to_pylist():
        back(row)


if __name__ == "__main__":
    sys.exit(main())
