"""The motion gate and the whole features step on an hour in which something happens for 4 minutes.

Compared, in one process each and in one run, with decoding every frame, and with decoding every
frame and pose on every sampled one (`bare_loop`). The hour is made of a few minutes that are used
again and again, so that the peers are measured on each of these once and added up as often as they
occur. Goals: gate and what it lets through at most 1/8 of decoding, the features step at most 1/10
of decoding with pose.

    python -m benchmarks.features_quiet [--repeats 3]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from benchmarks.bare_loop import bare
from benchmarks.recordings import EMPTIES, quiet_hour
from fall_assets.features.compressed import read_compressed
from fall_assets.features.extract import Team, extract
from fall_assets.features.gate import MotionGateSettings, open_stretches
from fall_assets.features.movenet import MoveNet
from fall_assets.features.sampling import Plan, Segment
from fall_assets.features.segments import VideoRef
from fall_assets.features.settings import FeatureSettings

GATE_GOAL, WHOLE_GOAL = 1 / 8, 1 / 10
MINUTES = 60
VISITS_S = (60, 120, 60)


def peers_s(folder: Path, network: MoveNet) -> tuple[float, float]:
    """Seconds to decode every frame of the hour, and to do so with pose."""
    plain_s = posed_s = 0.0
    still = MINUTES - sum(VISITS_S) // 60
    parts = [(folder / f"empty-{number}.mp4", still / EMPTIES) for number in range(EMPTIES)]
    parts += [
        (folder / f"visit-{seconds}.mp4", VISITS_S.count(seconds)) for seconds in set(VISITS_S)
    ]
    for path, times in parts:
        plain_s += times * bare(path, None)["seconds"]
        posed_s += times * bare(path, network)["seconds"]
    return plain_s, posed_s


def gate_s(path: Path) -> tuple[float, float, float]:
    """Seconds for the gate, for decoding what it lets through, and the share that it lets through.

    Key frames that the whole step glances at are left out here: they are a part of its time.
    """
    settings = MotionGateSettings()
    started = time.perf_counter()
    facts = read_compressed(path, settings)
    stretches = open_stretches(facts, settings)
    read = time.perf_counter()
    spans = [(one.start_s, one.end_s) for one in stretches]
    for _frame in Segment(path).decode_planned(Plan(facts.first_pts, spans)):
        pass
    decoded = time.perf_counter()
    share = sum(end - start for start, end in spans) / facts.duration_s
    return read - started, decoded - read, share


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder of recordings to make or use again")
    asked = parser.parse_args()
    gate_ratios, whole_ratios = [], []
    with tempfile.TemporaryDirectory(prefix="quiet-") as folder:
        keep = asked.keep or Path(folder)
        keep.mkdir(parents=True, exist_ok=True)
        path = quiet_hour(keep, VISITS_S, minutes=MINUTES)
        network, team = MoveNet(min_score=0.08), Team.of([FeatureSettings()])
        video = VideoRef(path, "0" * 64, "cam-01", date(2026, 3, 1))
        print(
            f"{'run':>3} {'decode all s':>12} {'+ pose s':>9} {'gate s':>7} {'let through s':>13} "
            f"{'open':>6} {'ratio':>6} {'features s':>10} {'ratio':>6}"
        )
        for run in range(asked.repeats):
            plain, posed = peers_s(keep, network)
            gate, through, share = gate_s(path)
            started = time.perf_counter()
            found = extract(video, team)
            whole = time.perf_counter() - started
            gate_ratios.append((gate + through) / plain)
            whole_ratios.append(whole / posed)
            print(
                f"{run:>3} {plain:>12.1f} {posed:>9.1f} {gate:>7.1f} {through:>13.1f} "
                f"{share:>6.1%} {gate_ratios[-1]:>6.3f} {whole:>10.1f} {whole_ratios[-1]:>6.3f}",
                flush=True,
            )
        figures = found.figures
        print(f"decoded {figures.decoded} of {figures.frames} frames, {figures.glances} glances")
        print(f"let through: {found.tables['motion_gate']['stretches'].item()}")
        print(f"largest memory of this process: {figures.peak_bytes / 1e6:.0f} MB")
    gate_ratio, whole_ratio = statistics.median(gate_ratios), statistics.median(whole_ratios)
    print(f"gate and what it lets through: {gate_ratio:.3f} of decoding (goal {GATE_GOAL:.3f})")
    print(f"features step: {whole_ratio:.3f} of decoding with pose (goal {WHOLE_GOAL:.3f})")
    return 0 if gate_ratio <= GATE_GOAL and whole_ratio <= WHOLE_GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
