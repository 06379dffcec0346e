"""Whether a person who lies still is reported as lying though the motion gate stays shut.

Of each real fall a recording is made of its film's last frame alone, with noise as in
`gate_falls`: somebody lies there from the beginning, and nothing moves. It goes through the whole
pass with the gate and without it. A person counts as reported where a window of `features` has
somebody who lies. The peer is half a minute without a gate: who it does not see lying (the pose
network misses some) cannot be asked of the gate, which has a minute of the same.

    python -m benchmarks.gate_lying [--footage ../shared/footage] [--falls N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl

from benchmarks.gate_falls import REPOSITORY, Coding, Film, falls_of, load, record
from fall_assets.features.extract import Team, extract
from fall_assets.features.segments import VideoRef
from fall_assets.features.settings import FeatureSettings

FPS, PEER_S, GATED_S = 10.0, 30.0, 60.0
CODING = Coding("vbr", 2.0)


def lies(path: Path, team: Team) -> tuple[bool, float]:
    """Whether somebody is reported as lying, and the share of frames that were decoded."""
    found = extract(VideoRef(path, "0" * 64, "cam-01", date(2026, 3, 1)), team)
    figures = found.figures
    return found.features.select((pl.col("lying") > 0).any()).item() or False, (
        figures.decoded / figures.frames
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--footage", type=Path, default=REPOSITORY.parent / "shared" / "footage")
    parser.add_argument("--falls", type=int)
    asked = parser.parse_args()
    if not asked.footage.is_dir():
        print(f"skipped: there is no footage at {asked.footage}")
        return 0
    gated = Team.of([FeatureSettings()])
    whole = Team.of([replace(FeatureSettings(), gate=None)])
    seen = reported = 0
    shares = []
    missed = []
    falls = falls_of(asked.footage)[: asked.falls]
    with tempfile.TemporaryDirectory(prefix="lying-") as folder:
        for number, fall in enumerate(falls, start=1):
            film = load(fall.path)
            still = Film(film.frames[-1:], FPS, film.noise)
            path = Path(folder) / "still.mp4"
            record(still, path, CODING, PEER_S / 2, number)
            peer, _ = lies(path, whole)
            record(still, path, CODING, GATED_S / 2, number)
            ours, share = lies(path, gated)
            shares.append(share)
            seen += peer
            reported += peer and ours
            if peer and not ours:
                missed.append(fall.name)
            print(
                f"{fall.name:<42} without a gate {'lying' if peer else '-':<6} with it "
                f"{'lying' if ours else '-':<6} decoded {share:.1%}",
                flush=True,
            )
    print(f"\n{seen} of {len(falls)} people are seen lying without a gate")
    print(f"missed: {missed or 'none'}")
    print(
        f"gate_lying: {reported} of {seen} reported with it, at {sum(shares) / len(shares):.1%} of "
        "the frames (goal: all)"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
