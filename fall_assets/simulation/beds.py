"""Films of key points with the outline of the bed, to judge what is said of falls and beds.

What belongs here: `poses.pose_films` through cameras whose view of the bed is known. What does not:
the motions, the pose network's errors (`poses`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fall_assets.simulation.poses import PoseFilm, PoseNoise, Scenery, pose_films
from fall_assets.simulation.zones import Point, seen_zones


@dataclass(frozen=True)
class BedFilm:
    """A film, and the mattress as its camera sees it.

    `bed` is a polygon in shares of the picture, None where the bed is out of sight. `elevation_deg`
    is how steeply the camera looks down at the bed: 90 from straight above.
    """

    film: PoseFilm
    bed: tuple[Point, ...] | None
    elevation_deg: float


def bed_films(
    programmes: Sequence[str],
    seed: int,
    *,
    duration_s: float = 60.0,
    rate_hz: float = 10.0,
    noise: PoseNoise | None = None,
    scenery: Scenery | None = None,
) -> list[BedFilm]:
    """As `pose_films`, with the bed's outline; the same arguments give the same films.

    Furniture hides nobody: who lies on the floor behind the bed is seen through it.
    """
    films = pose_films(
        programmes, seed, duration_s=duration_s, rate_hz=rate_hz, noise=noise, scenery=scenery
    )
    return [_with_bed(film) for film in films]


def _with_bed(film: PoseFilm) -> BedFilm:
    room, camera, height = film.room, film.camera, film.mattress_m
    bed = seen_zones(room, camera, mattress_m=height).get("bed")
    foot, head = room.bed_y
    away = np.subtract(camera.position, (room.bed_x, (foot + head) / 2, height))
    steep = np.rad2deg(np.arctan2(away[2], np.hypot(away[0], away[1])))
    return BedFilm(film, None if bed is None else tuple(bed), float(steep))
