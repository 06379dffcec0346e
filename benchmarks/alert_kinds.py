"""How often an alert's kind is right, on simulated key points with the bed's outline known.

Each film is a fall of one programme, or somebody who sits or lies down fast on the bed (which a
detector may take for one). The alarm is raised at a random moment from 70 % of the fall to 1.5 s
after its end, or, `--late`, 1.5 to 3.5 s after it, on the half second, as a detector's scores come.
Left out are falls of which the bed is out of sight (they are called `fall`), and those of who is
not in view at that moment (a detector raises nothing then).

    python -m benchmarks.alert_kinds [--films N] [--seed N] [--late]
"""

from __future__ import annotations

import argparse
import math
from collections import Counter, defaultdict

import numpy as np

from fall_assets.delivery.kinds import kind_of
from fall_assets.lake.registry import ALERT_KINDS
from fall_assets.simulation.beds import BedFilm, bed_films
from fall_assets.simulation.motions import Interval
from fall_assets.simulation.poses import Scenery

FALLS = ("forwards", "backwards", "sideways", "faint", "to_knees", "slide_down")
DURATION_S, RATE_HZ = 20.0, 10.0
SOONEST, LATEST_S = 0.7, 1.5
LATE_S = (1.5, 3.5)
IN_VIEW_S = 0.2


def happened(one: BedFilm) -> tuple[str, Interval] | None:
    """What the film shows, and when; None where it is of no use here."""
    for label in one.film.labels:
        if label.label == "fall":
            if one.film.programme == "from_chair":
                what = "off the bed's edge" if label.zone == "bed" else "off a chair"
            else:
                known = {"out_of_bed": "out of bed", "onto_bed": "onto the bed"}
                what = known.get(one.film.programme, "elsewhere")
            return what, label
        if one.film.programme in ("lie_fast", "sit_fast"):
            onto = label.label in ("sitting_down", "other") and label.zone == "bed"
            if onto and label.start_s > 3:
                return "no fall: sits or lies down on the bed", label
    return None


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=200, help="of each sort")
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--late", action="store_true")
    asked = parser.parse_args()
    each = math.ceil(asked.films / len(FALLS))
    programmes = [
        *["out_of_bed", "onto_bed"] * asked.films,
        *FALLS * each,
        # One in seven is off the bed's edge.
        *["from_chair"] * (2 * asked.films),
        *["lie_fast", "sit_fast"] * (asked.films // 4),
    ]
    for where, anywhere in (("where a ward hangs them", 0.0), ("anywhere", 1.0)):
        films = bed_films(
            programmes, asked.seed, duration_s=DURATION_S, rate_hz=RATE_HZ,
            scenery=Scenery(anywhere=anywhere),
        )  # fmt: skip
        rng = np.random.default_rng(asked.seed)
        found: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for one in films:
            seen = happened(one)
            if one.bed is None or seen is None:
                continue
            what, label = seen
            first = label.start_s + SOONEST * (label.end_s - label.start_s)
            first, last = (
                (label.end_s + LATE_S[0], label.end_s + LATE_S[1])
                if asked.late
                else (first, label.end_s + LATEST_S)
            )
            raised_s = math.ceil(2 * float(rng.uniform(first, last))) / 2
            times = np.arange(len(one.film.keypoints)) / RATE_HZ
            in_view = (one.film.keypoints[..., 2] > 0).any(axis=1)
            # A detector raises nothing of who is not in view at that moment.
            if not in_view[(times < raised_s) & (times >= raised_s - IN_VIEW_S)].any():
                continue
            said = kind_of(one.film.keypoints, times, raised_s, [one.bed], aspect=one.film.aspect)
            found[what][said] += 1
        print(f"cameras {where}")
        print(f"  {'':40}{''.join(f'{kind:>18}' for kind in ALERT_KINDS)}")
        for what, counts in sorted(found.items()):
            row = "".join(f"{counts[kind]:>18}" for kind in ALERT_KINDS)
            print(f"  {what:40}{row}  of {counts.total()}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
