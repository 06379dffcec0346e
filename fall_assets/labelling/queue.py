"""The review queue: what a person should look at next.

What belongs here: cutting footage into pieces, what is known of each, and the ranking, as pure
functions over frames. What does not: reading the lake (`pipeline/review.py`).

A piece is worth looking at for two reasons: a model may be wrong about it (versions disagree, the
score is near the threshold or calls it a fall, the camera drifted, staff said otherwise), or
nothing like it was labelled yet. Either alone is a poor order. A model that has seen nothing of a
hospital is unsure of the wrong things, so the second weighs most; `benchmarks.label_efficiency`
measures it. The second is the greedy k-centre rule (Sener and Savarese, Active Learning for
Convolutional Neural Networks: A Core-Set Approach, arXiv 1708.00489), on figures of the picture
and the people in it instead of a network's features, so that it works before there is a network.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.lake.registry import table

Reals = npt.NDArray[np.float64]

FIGURES: Final = (
    "motion_mean",
    "motion_max",
    "people",
    "keypoint_score",
    "person_height",
    "person_aspect",
    "person_y",
)
"""Window figures that tell how alike two pieces are: what moves, how many people, how they stand.

The picture's own figures (brightness, noise) are left out: they tell rooms from each other, and
rooms have their own part in the ranking.
"""

UNLIKE: Final = 3.0
"""Distance, in standard deviations over `FIGURES`, from which two pieces have nothing in common."""

ALIKE: Final = 0.1
"""Novelty of a piece that is like a labelled one: it may be misjudged all the same."""

NOBODY: Final = 0.2
"""What a piece counts in which nobody is seen: there is little to label, but somebody may have been
overlooked."""

PARTS_OF_DAY: Final = ("night", "morning", "afternoon", "evening")
"""Six hours each, from midnight, UTC."""

REPORT_PIECES: Final = 5
"""Pieces of a reported fall's stretch that are asked for at a time."""

REPORTED: Final = "reported"
"""The word for a stretch in which staff say that a fall raised no alert."""

VERDICTS: Final[Mapping[str, tuple[float, str]]] = {
    REPORTED: (1.0, "staff found a fall here that raised no alert"),
    "no_fall": (0.8, "staff found no fall after an alert"),
    "unsure": (0.6, "staff were not sure after an alert"),
    "fall": (0.15, "staff confirmed a fall whose moments nobody marked"),
}
"""Weight of what staff said, and how it is said.

A confirmed fall teaches already, by staff's own word. One that raised no alert is what a detector
knows least of, and nothing else would ever label it: with as much weight confirmed falls take all
the time of who labels, and no fall is labelled but those that the detector sees anyway.
"""


@dataclass(frozen=True)
class ReviewSettings:
    """How the queue is ranked.

    Attributes:
        days: footage of so many of the newest days is considered.
        items: length of the queue.
        piece_s: length of one piece.
        novelty: weight of being unlike everything that was labelled.
        disagreement: weight of the largest difference between two model versions.
        doubt: weight of a score near the threshold.
        alarm: weight of the newest version's score: falls are rare, and a wrong alarm costs most.
        coverage: weight of a room and time of day of which little is labelled.
        feedback: weight of what staff answered to an alert.
        drift: weight of a camera of which labels are asked for: like staff's, so that neither
            waits until the other is done.
    """

    days: int = 14
    items: int = 200
    piece_s: float = 4.0
    novelty: float = 1.0
    disagreement: float = 0.25
    doubt: float = 0.25
    alarm: float = 0.5
    coverage: float = 0.1
    feedback: float = 3.0
    drift: float = 2.5

    def __post_init__(self) -> None:
        if self.days < 1 or self.items < 1 or self.piece_s <= 0:
            raise PermanentFailureError("[review] days, items and piece_s must be above 0")
        if min(_weights(self).values()) < 0:
            raise PermanentFailureError("[review] weights must be 0 or more")


def cut_pieces(
    videos: pl.DataFrame, features: pl.DataFrame, settings: ReviewSettings | None = None
) -> pl.DataFrame:
    """Cut segments into pieces, each with the means of its windows' figures.

    Pieces follow one another from the segment's start; what is left at its end joins the last
    piece where it is shorter than half of one. A window belongs to the piece in which it ends.

    Args:
        videos: rows of `videos`.
        features: rows of `features` of one feature set; a segment without any gets no pieces.
        settings: the length of a piece.

    Returns:
        Columns day, video_id, camera_id, scene, piece (from 0), start_s, end_s, start_utc and
        FIGURES (0 where nobody is seen), sorted by day, camera, start and piece.
    """
    settings = settings or ReviewSettings()
    length = settings.piece_s
    known = videos.select(
        "day",
        "video_id",
        "camera_id",
        "scene",
        "duration_s",
        pl.col("start_utc").alias("segment_utc"),
        pieces=(pl.col("duration_s") / length + 0.5).floor().clip(lower_bound=1).cast(pl.Int64),
    )
    pieces = known.with_columns(piece=pl.int_ranges(0, "pieces")).explode("piece")
    last = pl.col("piece") == pl.col("pieces") - 1
    pieces = pieces.with_columns(
        start_s=pl.col("piece") * length,
        end_s=pl.when(last).then("duration_s").otherwise((pl.col("piece") + 1) * length),
    ).with_columns(
        start_utc=pl.col("segment_utc")
        + pl.duration(microseconds=(pl.col("start_s") * 1e6).round().cast(pl.Int64))
    )
    figures = (
        with_piece(features, known, length)
        .group_by("video_id", "piece")
        .agg(pl.col(name).mean() for name in FIGURES)
    )
    featured = pieces.join(features.select("video_id").unique(), on="video_id", how="semi")
    return (
        featured.join(figures, on=["video_id", "piece"], how="left")
        .with_columns(pl.col(name).cast(pl.Float64).fill_null(0.0) for name in FIGURES)
        .select(
            *("day", "video_id", "camera_id", "scene", "piece", "start_s", "end_s", "start_utc"),
            *FIGURES,
        )
        .sort("day", "camera_id", "start_utc", "video_id", "piece")
    )


def with_piece(rows: pl.DataFrame, videos: pl.DataFrame, piece_s: float) -> pl.DataFrame:
    """Rows with `video_id` and `end_s`, with the number of the piece in which each ends.

    `videos` has video_id and duration_s; rows of other segments are left out.
    """
    lengths = videos.select(
        "video_id",
        last=(pl.col("duration_s") / piece_s + 0.5).floor().clip(lower_bound=1).cast(pl.Int64) - 1,
    )
    number = ((pl.col("end_s") / piece_s - 1e-6).ceil() - 1).clip(lower_bound=0).cast(pl.Int64)
    return (
        rows.join(lengths, on="video_id")
        .with_columns(piece=pl.min_horizontal(number, "last"))
        .drop("last")
    )


def judge_pieces(
    pieces: pl.DataFrame,
    predictions: pl.DataFrame,
    videos: pl.DataFrame,
    *,
    newest: str | None,
    other: str | None = None,
    threshold: float = 0.5,
    settings: ReviewSettings | None = None,
) -> pl.DataFrame:
    """Pieces with what model versions make of them.

    `score` is the highest of the newest version's (null where it scored nothing), `doubt` is 1 at
    the threshold and falls to 0 at either end of the scale, `disagreement` is the largest
    difference between the two versions at one moment (0 where one of them is missing).

    Args:
        pieces: of `cut_pieces`.
        predictions: rows of `predictions` of both versions.
        videos: rows of `videos`.
        newest: the version whose word counts.
        other: the version that it is compared with.
        threshold: of the newest version.
        settings: the length of a piece.
    """
    settings = settings or ReviewSettings()
    placed = with_piece(predictions, videos, settings.piece_s)
    keys = ["video_id", "piece"]
    own = placed.filter(pl.col("model_version") == pl.lit(newest))
    beside = placed.filter(pl.col("model_version") == pl.lit(other))
    scores = own.group_by(keys).agg(pl.col("score").max())
    apart = (
        own.join(beside.select(*keys, "end_s", second="score"), on=[*keys, "end_s"])
        .group_by(keys)
        .agg(disagreement=(pl.col("score") - pl.col("second")).abs().max())
    )
    below = pl.col("score") / max(threshold, 1e-6)
    above = (1 - pl.col("score")) / max(1 - threshold, 1e-6)
    return (
        pieces.join(scores, on=keys, how="left")
        .join(apart, on=keys, how="left")
        .with_columns(
            pl.col("disagreement").fill_null(0.0),
            doubt=pl.min_horizontal(below, above).clip(0, 1).fill_null(0.0),
        )
        .sort("day", "camera_id", "start_utc", "video_id", "piece")
    )


def labelled_share(pieces: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """Pieces with `labelled`: the share of each, 0 to 1, that people labelled.

    `labels` has video_id, start_s and end_s; intervals may overlap.
    """
    overlap = pl.min_horizontal("end_s", "until_s") - pl.max_horizontal("start_s", "from_s")
    spans = _merged(labels)
    held = (
        pieces.select("video_id", "piece", "start_s", "end_s")
        .join(spans, on="video_id")
        .with_columns(held=overlap.clip(lower_bound=0))
        .group_by("video_id", "piece")
        .agg(pl.col("held").sum())
    )
    share = pl.col("held") / (pl.col("end_s") - pl.col("start_s"))
    return (
        pieces.join(held, on=["video_id", "piece"], how="left", maintain_order="left")
        .with_columns(labelled=share.clip(0, 1).fill_null(0.0).fill_nan(0.0))
        .drop("held")
    )


def part_of_day(moment: pl.Expr) -> pl.Expr:
    """Which of PARTS_OF_DAY a moment lies in, as its number."""
    return moment.dt.hour().cast(pl.Int64) // 6


def rank(
    pieces: pl.DataFrame,
    settings: ReviewSettings | None = None,
    *,
    covered: pl.DataFrame | None = None,
    rooms: Mapping[str, str] | None = None,
    drifted: Mapping[str, date] | None = None,
    feedback: pl.DataFrame | None = None,
    labelled: Mapping[tuple[str, int], float] | None = None,
    threshold: float = 0.5,
) -> pl.DataFrame:
    """Rank the pieces that nobody labelled.

    One piece is chosen after the other, each time the one with the highest

        novelty * (sum of the weighted reasons) / (1 + pieces of its scene) + feedback + drift,

    where novelty is the distance to the nearest piece that is labelled or was chosen before, as a
    share of `UNLIKE` (at least `ALIKE`; less where nobody is seen), and pieces of its scene are
    those labelled or chosen before; so the top of the queue is spread over scenes and over what
    happens in them. Pieces beside one that was chosen wait until all others are used up, save
    where staff spoke of them. The priorities fall from rank to rank. Nothing is random: equal
    ones keep the order of day, camera and time.

    Args:
        pieces: of `judge_pieces`, with `labelled` (`labelled_share`); a piece of which at least
            half is labelled is not ranked, and counts as covered.
        settings: weights and the queue's length.
        covered: further rows with FIGURES that the champion learned from, of other days.
        rooms: room of each camera; 'unknown' where it is not in it.
        drifted: cameras of which labels are asked for, each with the first day of its drift;
            pieces from before it are as ordinary as any.
        feedback: columns video_id, start_s, end_s, verdict, report_id: alerts that staff answered
            to, and stretches in which a fall raised none (`REPORTED`), where the last is not null:
            a report's stretch may lie in many videos.
        labelled: time that is labelled by room and part of the day, in pieces.
        threshold: of the newest version, for the suggested label.

    Returns:
        Rows of the table `review_queue`, rank 1 first.
    """
    settings = settings or ReviewSettings()
    rooms = rooms or {}
    pieces = pieces.sort("day", "camera_id", "start_utc", "video_id", "piece")
    done = pieces.filter(pl.col("labelled") >= 0.5)
    waiting = pieces.filter(pl.col("labelled") < 0.5)
    if waiting.is_empty():
        return table("review_queue").empty()
    rows = waiting.to_dicts()
    at, near_to = _figures(waiting, [done, covered])
    parts = waiting.select(part=part_of_day(pl.col("start_utc")))["part"].to_list()
    for row, part in zip(rows, parts, strict=True):
        row["room"] = rooms.get(row["camera_id"], "unknown")
        row["part"] = part
    verdicts = _verdicts(rows, feedback)
    weights = _reasons(rows, settings, labelled or {})
    asked = {
        "feedback": np.array([settings.feedback * weight for weight, _ in verdicts]),
        "drift": settings.drift * _changed(rows, drifted or {}),
    }
    chosen = _choose(rows, at, near_to, weights, asked, Counter(done["scene"]), settings)
    return _queue(rows, chosen, verdicts, threshold)


@dataclass(frozen=True)
class _Chosen:
    """One chosen piece: its place in the list, its priority and what each reason added to it."""

    place: int
    priority: float
    adds: dict[str, float]


def _choose(
    rows: Sequence[Mapping[str, Any]],
    at: Reals,
    near_to: Reals,
    weights: Mapping[str, Reals],
    asked: Mapping[str, Reals],
    scenes: Counter[str],
    settings: ReviewSettings,
) -> list[_Chosen]:
    """The greedy choice; each step costs one pass over the pieces."""
    count = len(rows)
    scene_of, numbers = np.unique([row["scene"] for row in rows], return_inverse=True)
    in_scene = np.array([scenes[str(scene)] for scene in scene_of], np.float64)
    distance = np.full(count, UNLIKE)
    for place in near_to:
        distance = np.minimum(distance, np.linalg.norm(at - place, axis=1))
    beside = _neighbours(rows)
    seen = np.array([1.0 if row["people"] > 0 else NOBODY for row in rows])
    total = np.sum(list(weights.values()), axis=0)
    first, spoken = np.sum(list(asked.values()), axis=0), asked["feedback"] > 0
    free = np.ones(count, bool)
    waits = np.zeros(count, bool)
    chosen: list[_Chosen] = []
    last = np.inf
    while len(chosen) < min(settings.items, count):
        share = seen * np.clip(distance / UNLIKE, ALIKE, 1) / (1 + in_scene[numbers])
        value = share * total + first
        allowed = free & (~waits | spoken)
        if not allowed.any():
            waits[:] = False
            continue
        place = int(np.argmax(np.where(allowed, value, -1.0)))
        adds = {name: float(share[place] * weight[place]) for name, weight in weights.items()}
        adds |= {name: float(weight[place]) for name, weight in asked.items()}
        # A neighbour that waited may be worth more than the one before it.
        worth = float(value[place])
        scale = min(1.0, last / worth) if worth > 0 else 1.0
        last = min(last, worth)
        chosen.append(_Chosen(place, last, {name: add * scale for name, add in adds.items()}))
        free[place] = False
        waits[beside[place]] = True
        in_scene[numbers[place]] += 1
        distance = np.minimum(distance, np.linalg.norm(at - at[place], axis=1))
    return chosen


def _neighbours(rows: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """For each piece, those of its camera that begin where it ends or end where it begins."""
    close: list[list[int]] = [[] for _ in rows]
    # Sorted by camera and time within a day; what lies beside a piece stands beside it.
    for second in range(1, len(rows)):
        first = second - 1
        one, two = rows[first], rows[second]
        if one["camera_id"] != two["camera_id"]:
            continue
        length_s = one["end_s"] - one["start_s"]
        gap_s = (two["start_utc"] - one["start_utc"]).total_seconds() - length_s
        if abs(gap_s) < 1.0:
            close[first].append(second)
            close[second].append(first)
    return close


def _figures(waiting: pl.DataFrame, others: Sequence[pl.DataFrame | None]) -> tuple[Reals, Reals]:
    """FIGURES of the waiting pieces and of what is covered, in standard deviations of both."""
    frames = [
        frame.select(pl.col(name).cast(pl.Float64).fill_null(0.0) for name in FIGURES)
        for frame in (waiting, *others)
        if frame is not None
    ]
    everything = pl.concat(frames).with_columns(
        # The share of the picture that moves spans orders of magnitude.
        (pl.col(name) * 50).log1p()
        for name in ("motion_mean", "motion_max")
    )
    values = everything.to_numpy().astype(np.float64)
    values = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    return values[: waiting.height], values[waiting.height :]


def _reasons(
    rows: Sequence[Mapping[str, Any]],
    settings: ReviewSettings,
    labelled: Mapping[tuple[str, int], float],
) -> dict[str, Reals]:
    """What each reason is worth for each piece, before novelty and scenes."""
    return {
        "novelty": np.full(len(rows), settings.novelty),
        "disagreement": settings.disagreement * np.array([row["disagreement"] for row in rows]),
        "doubt": settings.doubt * np.array([row["doubt"] for row in rows]),
        "alarm": settings.alarm * np.array([row["score"] or 0.0 for row in rows]),
        "coverage": settings.coverage
        * np.array([(1 + labelled.get((row["room"], row["part"]), 0.0)) ** -0.5 for row in rows]),
    }


def _changed(rows: Sequence[Mapping[str, Any]], drifted: Mapping[str, date]) -> Reals:
    """1 for what a camera saw since it drifted, else 0."""
    seen = (row["camera_id"] in drifted and row["day"] >= drifted[row["camera_id"]] for row in rows)
    return np.array(list(seen), np.float64)


def _verdicts(
    rows: Sequence[Mapping[str, Any]], feedback: pl.DataFrame | None
) -> list[tuple[float, str]]:
    """Per piece the weightiest verdict on an alert that overlaps it most; (0, '') without.

    Of a stretch in which a fall raised no alert, it is the piece with the highest score, and of a
    report the `REPORT_PIECES` such: who found somebody in the morning cannot say which minute it
    was. Where they are labelled and no fall was among them, the next come.
    """
    found: list[tuple[float, str]] = [(0.0, "")] * len(rows)
    if feedback is None or feedback.is_empty():
        return found
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row["video_id"], []).append(place)
    reports: dict[str, list[tuple[float, int]]] = {}
    for alert in feedback.iter_rows(named=True):
        held = [
            (seconds, place)
            for place in places.get(alert["video_id"], ())
            if (seconds := _shared_s(rows[place], alert)) > 0
        ]
        if alert["verdict"] == REPORTED:
            held = [(rows[place]["score"] or 0.0, place) for _, place in held]
        if held:
            # One piece per alert: the queue is no list of everything around it.
            best = max(held, key=_score_then_first)
            if alert["verdict"] == REPORTED:
                reports.setdefault(alert["report_id"], []).append(best)
            else:
                found[best[1]] = max(found[best[1]], VERDICTS[alert["verdict"]])
    for pieces in reports.values():
        for _, place in sorted(pieces, key=_score_then_first, reverse=True)[:REPORT_PIECES]:
            found[place] = max(found[place], VERDICTS[REPORTED])
    return found


def _score_then_first(piece: tuple[float, int]) -> tuple[float, int]:
    return piece[0], -piece[1]


def _shared_s(piece: Mapping[str, Any], alert: Mapping[str, Any]) -> float:
    end_s: float = min(piece["end_s"], alert["end_s"])
    return end_s - float(max(piece["start_s"], alert["start_s"]))


def _queue(
    rows: Sequence[Mapping[str, Any]],
    chosen: Sequence[_Chosen],
    verdicts: Sequence[tuple[float, str]],
    threshold: float,
) -> pl.DataFrame:
    items = []
    for number, piece in enumerate(chosen, start=1):
        row = rows[piece.place]
        ordered = sorted(piece.adds.items(), key=lambda pair: -pair[1])
        adds = {name: round(value, 4) for name, value in ordered if value > 0}
        score = row["score"]
        fall = score is not None and score >= threshold
        named = f"{row['video_id']} {row['start_s']:.3f} {row['end_s']:.3f}"
        items.append(
            {
                "item_id": hashlib.sha256(named.encode()).hexdigest()[:32],
                "rank": number,
                "recorded_day": row["day"],
                **{name: row[name] for name in ("video_id", "camera_id", "room")},
                **{name: row[name] for name in ("start_s", "end_s", "start_utc")},
                "priority": piece.priority,
                "reason": _in_words(row, adds, verdicts[piece.place][1]),
                "reasons": json.dumps(adds),
                "suggested_label": None if score is None else "fall" if fall else "other",
                "confidence": None if score is None else score if fall else 1 - score,
            }
        )
    return pl.DataFrame(items, schema=table("review_queue").schema)


def _in_words(row: Mapping[str, Any], adds: Mapping[str, float], verdict: str) -> str:
    """The reasons that make up most of a priority, the weightiest first."""
    said = {
        "feedback": verdict,
        "novelty": "unlike what is labelled",
        "disagreement": f"model versions differ by {row['disagreement']:.2f}",
        "doubt": f"a score of {row['score'] or 0:.2f}, near the threshold",
        "alarm": f"a score of {row['score'] or 0:.2f} for a fall",
        "drift": "the camera drifted",
        "coverage": f"little labelled of {row['room']} in the {PARTS_OF_DAY[row['part']]}"
        if row["part"]
        else f"little labelled of {row['room']} at night",
    }
    total = sum(adds.values())
    told = [said[name] for name, value in adds.items() if value >= 0.05 * total]
    return "; ".join(told) or "nothing else is left"


def _merged(labels: pl.DataFrame) -> pl.DataFrame:
    """Intervals of each segment without overlaps: columns video_id, from_s, until_s."""
    spans: list[tuple[str, float, float]] = []
    ordered = labels.select("video_id", "start_s", "end_s").sort("video_id", "start_s", "end_s")
    for video_id, start_s, end_s in ordered.iter_rows():
        if spans and spans[-1][0] == video_id and start_s <= spans[-1][2]:
            spans[-1] = (video_id, spans[-1][1], max(spans[-1][2], end_s))
        else:
            spans.append((video_id, start_s, end_s))
    schema = {"video_id": pl.String(), "from_s": pl.Float64(), "until_s": pl.Float64()}
    return pl.DataFrame(spans, schema=schema, orient="row")


def _weights(settings: ReviewSettings) -> dict[str, float]:
    names = ("novelty", "disagreement", "doubt", "alarm", "drift", "feedback", "coverage")
    return {name: getattr(settings, name) for name in names}
