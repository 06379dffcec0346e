"""Drawn people for these tests: stick figures that stand, walk, bend, sit down and fall."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from fall_assets.features.packing import pack_boxes, pack_keypoints
from fall_assets.lake.registry import table
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.evaluate import LearningSettings
from fall_assets.learning.network import NetworkSettings
from fall_assets.learning.training import TrainingSettings
from fall_assets.learning.windows import Floats, SegmentTracks, Track

FEATURE_SET = "pose-test"
RATE_HZ = 10.0
DAY = date(2026, 3, 1)
FALL_AT_S = 5.0
FALL_S = 1.2
SEGMENT_S = 10.0

# A standing figure of height 1 with its feet at 0, x to the right and y down, in COCO's order.
_FIGURE = np.array(
    [
        *[(0.02, -0.94), (0.04, -0.96), (0.0, -0.96), (0.06, -0.94), (-0.02, -0.94)],
        *[(0.1, -0.8), (-0.1, -0.8), (0.14, -0.63), (-0.14, -0.63), (0.15, -0.47), (-0.15, -0.47)],
        *[(0.07, -0.5), (-0.07, -0.5), (0.08, -0.26), (-0.08, -0.26), (0.08, -0.02)],
        (-0.08, -0.02),
    ],
    np.float32,
)


def figure(
    tilt: Floats, crouch: Floats, x: Floats, *, y: float = 0.85, size: float = 0.5
) -> Floats:
    """Key points of a figure per sample: tilted about its feet (radians) and crouched (0 to 1)."""
    points = np.repeat(_FIGURE[None], len(tilt), axis=0)
    points[..., 1] *= 1 - 0.45 * crouch[:, None]
    cos, sin = np.cos(tilt)[:, None], np.sin(tilt)[:, None]
    turned = np.stack(
        [points[..., 0] * cos - points[..., 1] * sin, points[..., 0] * sin + points[..., 1] * cos],
        axis=-1,
    )
    keypoints = np.ones((len(tilt), 17, 3), np.float32)
    keypoints[..., 0] = x[:, None] + turned[..., 0] * size / 1.5
    keypoints[..., 1] = y + turned[..., 1] * size
    keypoints[..., 2] = 0.6
    return keypoints


def segment(number: int, kind: str, seed: int, duration_s: float = SEGMENT_S) -> SegmentTracks:
    """One person through a segment; `kind` is 'fall', 'bend' or 'walk'."""
    rng = np.random.default_rng((seed, number))
    time_s = np.arange(int(duration_s * RATE_HZ)) / RATE_HZ
    x = 0.3 + 0.05 * rng.random() + 0.02 * time_s
    tilt = np.zeros_like(time_s)
    crouch = np.zeros_like(time_s)
    if kind == "fall":
        tilt = np.clip((time_s - FALL_AT_S) / FALL_S, 0, 1) ** 2 * rng.choice([-1.5, 1.5])
        x = np.where(time_s < FALL_AT_S, x, 0.5)
    elif kind == "bend":
        crouch = np.exp(-((time_s - FALL_AT_S) ** 2))
    keypoints = figure(
        tilt.astype(np.float32),
        crouch.astype(np.float32),
        x.astype(np.float32),
        size=float(rng.uniform(0.35, 0.6)),
    )
    keypoints[..., :2] += rng.normal(0, 0.004, keypoints[..., :2].shape).astype(np.float32)
    track = Track(0, 0, keypoints)
    return SegmentTracks(video_id(number), duration_s, RATE_HZ, 1.5, (track,))


def video_id(number: int) -> str:
    return f"{number:064x}"


def kind_of(number: int) -> str:
    return ("fall", "bend", "walk")[number % 3]


def tables(videos: int = 24, folds: int = 4, seed: int = 0) -> dict[str, pl.DataFrame]:
    """Rows of the lake for some segments, a third of them falls, with clips in folds."""
    rows: dict[str, list[dict[str, object]]] = {
        name: [] for name in ("videos", "labels", "clips", "pose_tracks", "cameras")
    }
    for number in range(videos):
        kind = kind_of(number)
        camera = f"cam-{number % 2 + 1}"
        tracks = segment(number, kind, seed)
        common = {"day": DAY, "video_id": video_id(number), "camera_id": camera}
        rows["videos"].append(
            {
                **common,
                "dataset": "site" if number % 4 else "other",
                "path": f"{number}.mp4",
                "start_utc": datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=number),
                "duration_s": SEGMENT_S,
                "width": 640,
                "height": 426,
                "fps": 10.0,
                "frames": 100,
                "codec": "h264",
                "bytes": 1,
                "subject": None,
                "scene": f"scene-{number}",
            }
        )
        keypoints = tracks.tracks[0].keypoints
        rows["pose_tracks"].append(
            {
                **common,
                "feature_set": FEATURE_SET,
                "track": 0,
                "start_s": 0.0,
                "rate_hz": RATE_HZ,
                "samples": len(keypoints),
                "aspect": 1.5,
                "keypoints": pack_keypoints(keypoints),
                "boxes": pack_boxes(np.zeros((len(keypoints), 5), np.float32)),
            }
        )
        fall_end = FALL_AT_S + FALL_S
        event = f"event-{number}" if kind == "fall" else None
        middle = "fall" if kind == "fall" else "bending" if kind == "bend" else "walking"
        after = "lying_after_fall" if kind == "fall" else "walking"
        spans = [(0.0, FALL_AT_S, "walking"), (FALL_AT_S, fall_end, middle)]
        spans.append((fall_end, SEGMENT_S, after))
        for line, (start_s, end_s, label) in enumerate(spans):
            rows["labels"].append(
                {
                    **common,
                    "label_id": f"{number}-{line}",
                    "start_s": start_s,
                    "end_s": end_s,
                    "label": label,
                    "original_label": label,
                    "zone": None,
                    "source": "simulated",
                    "event_id": event if label in ("fall", "lying_after_fall") else None,
                    "taxonomy_version": 1,
                    "file": "labels.csv",
                    "line": number * 3 + line + 2,
                }
            )
        for end_s in np.arange(1.0, SEGMENT_S + 0.01, 0.5).tolist():
            target: int | None = 0
            if kind == "fall" and end_s > FALL_AT_S:
                target = 1 if FALL_AT_S + 0.8 <= end_s <= fall_end + 2.5 else None
            label = next(name for start, stop, name in spans if start <= end_s <= stop)
            rows["clips"].append(
                {
                    **common,
                    "clip_id": f"{number}-{end_s}",
                    "dataset": rows["videos"][-1]["dataset"],
                    "start_s": end_s - 4.0,
                    "end_s": end_s,
                    "label": label,
                    "target": target,
                    "event_id": event if target != 0 else None,
                    "split_group": f"scene-{number}",
                }
            )
    for camera in ("cam-1", "cam-2"):
        rows["cameras"].append(
            {
                "camera_id": camera,
                "ward": "A",
                "room": f"room-{camera}",
                "view": "level",
                "dataset": "site",
                "crop": None,
            }
        )
    frames = {
        name: pl.DataFrame(content, schema=table(name).schema) for name, content in rows.items()
    }
    # A fold holds whole scenes, and a like share of each kind of segment.
    fold_of = {f"scene-{number}": (number // 3) % folds for number in range(videos)}
    frames["clips"] = frames["clips"].with_columns(
        fold=pl.col("split_group").replace_strict(fold_of, return_dtype=pl.Int64)
    )
    return frames


def learning_set(videos: int = 24, folds: int = 4, seed: int = 0) -> LearningSet:
    """The same tables as a set to learn from."""
    return LearningSet.from_tables(**tables(videos, folds, seed))


def small_training(seed: int = 0) -> TrainingSettings:
    """Settings that learn these drawn people within a second or two."""
    network = NetworkSettings(width=16, dilations=(1, 1))
    return TrainingSettings(
        seed=seed, steps=60, batch=32, examples=1500, average=0.9, threads=1, network=network
    )


def small_settings(seed: int = 0) -> LearningSettings:
    """The same with everything else."""
    return LearningSettings(small_training(seed))
