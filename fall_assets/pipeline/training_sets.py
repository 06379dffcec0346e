"""Training sets: clips and their folds, pinned to versions of tables, and read back as they were.

What belongs here: cutting a set, its manifest, opening it. What does not: learning from it
(`learning`, `experiments`, `tuning`).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.labelling.automatic import SOURCE as AUTOMATIC
from fall_assets.labelling.automatic import automatic_clips, choose_automatic
from fall_assets.labelling.splits import assign_folds
from fall_assets.labelling.taxonomy import TAXONOMY_VERSION
from fall_assets.lake.lake import PinnedTables
from fall_assets.lake.registry import one_row
from fall_assets.learning.dataset import (
    CLIP_COLUMNS,
    CLIP_ORDER,
    COLUMNS,
    REPLAY_COLUMNS,
    LearningSet,
)
from fall_assets.learning.replay import clip_weights
from fall_assets.pipeline.drift_records import changed_cameras
from fall_assets.pipeline.work import Work

PINNED = ("cameras", "videos", "labels", "clips", "pose_tracks")
"""Tables that a training set is made of."""


class ManifestChangedError(PermanentFailureError):
    """A training set's manifest is not the one that was cut."""


@dataclass(frozen=True)
class TrainingSet:
    """A pinned training set: its row of the table and its manifest's file, verified."""

    row: dict[str, object]
    content: bytes

    @cached_property
    def manifest(self) -> pl.DataFrame:
        """A row per clip: the columns of `clips`, `fold`, and those of `learning.replay`."""
        return self.columns(None)

    def columns(self, names: Sequence[str] | None) -> pl.DataFrame:
        """Some of the manifest's columns; to leave out the ids of clips is quicker."""
        return pl.read_parquet(
            io.BytesIO(self.content), columns=None if names is None else list(names)
        )

    def learning_clips(self) -> pl.DataFrame:
        """What learning uses of the manifest; one of before drifts were weighed tells of none."""
        known = pl.read_parquet_schema(io.BytesIO(self.content))
        return self.columns(["day", *CLIP_COLUMNS, *(n for n in REPLAY_COLUMNS if n in known)])

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.row["training_set_id"])

    @property
    def pins(self) -> dict[str, int]:
        """Version of every table that it was cut from."""
        pins: dict[str, int] = json.loads(str(self.row["pins"]))
        return pins


def cut_training_set(
    work: Work, *, last_day: date | None = None, days_held_back: int = 0
) -> TrainingSet:
    """Pin what is to be learned from: versions, folds and the list of clips.

    Where the site allows a share of automatic labels, confident ones of footage that nobody
    labelled are in the list too, with `label_source` 'auto'. Where cameras drifted, the list says
    which clips are since, and how much they weigh (`learning.replay`).

    Args:
        work: the site and its lake.
        last_day: newest day to learn from; None takes all.
        days_held_back: of the days with footage, so many of the newest are left out, but never
            all.

    Raises:
        PermanentFailureError: there are no clips with pose tracks, or too few groups to split.
    """
    lake, choices = work.lake, work.site.settings.learning
    pins = {name: version for name in PINNED if (version := lake.version(name)) is not None}
    # What a label file calls automatic was reviewed by nobody.
    reviewed = pl.col("label_source").ne_missing(AUTOMATIC)
    clips = lake.read("clips", version=pins.get("clips"), where=reviewed)
    days = sorted(set(clips["day"]))
    if last_day is not None:
        days = [day for day in days if day <= last_day]
    held_back = days[max(1, len(days) - days_held_back) :] if days_held_back else []
    days = days[: len(days) - len(held_back)]
    feature_set = work.site.settings.features.detector.version
    with_features = (
        lake.read("features", columns=["video_id", "feature_set"])
        .filter(pl.col("feature_set") == feature_set)["video_id"]
        .unique()
    )
    clips = clips.filter(
        pl.col("day").is_in(days), pl.col("video_id").is_in(with_features.to_list())
    )
    if clips.filter(pl.col("target") == 1).is_empty():
        raise PermanentFailureError(
            f"no clip of a fall among the {len(clips)} clips of {len(days)} days: "
            "label falls first (put label files beside the footage), then materialize "
            "labels, clips and features"
        )
    folds = assign_folds(clips, folds=choices.folds, seed=choices.seed)
    manifest = clips.join(folds, on="split_group", how="left")
    automatic = _automatic_clips(
        work, manifest, pins, min(held_back) - timedelta(days=1) if held_back else last_day
    )
    if not automatic.is_empty():
        manifest = pl.concat([manifest, automatic.select(manifest.columns)])
    manifest = clip_weights(manifest.sort(CLIP_ORDER), changed_cameras(work))
    content = manifest_file(manifest)
    about: dict[str, object] = {
        "pins": json.dumps(pins, sort_keys=True),
        "first_day": min(manifest["day"]),
        "last_day": max(manifest["day"]),
        "feature_set": feature_set,
        "taxonomy_version": TAXONOMY_VERSION,
        "seed": choices.seed,
        "folds": folds["fold"].n_unique(),
        "clips": len(manifest),
        "falls": clips.filter(pl.col("target") == 1)["event_id"].n_unique(),
        "manifest_sha256": hashlib.sha256(content).hexdigest(),
    }
    identity = json.dumps({k: str(v) for k, v in about.items()}, sort_keys=True)
    set_id = hashlib.sha256(identity.encode()).hexdigest()[:16]
    row = {
        "training_set_id": set_id,
        "created_utc": datetime.now(UTC),
        **about,
        "automatic_clips": len(automatic),
        "manifest": lake.write_file(content, "training_sets", f"{set_id}.parquet"),
    }
    lake.append("training_set", one_row("training_set", row), work.provenance(), skip_existing=True)
    return TrainingSet(row, content)


def manifest_file(manifest: pl.DataFrame) -> bytes:
    """A training set's clips as the file that is hashed, in parts that are read at once."""
    buffer = io.BytesIO()
    manifest.write_parquet(buffer, compression="zstd", statistics=False, row_group_size=16_384)
    return buffer.getvalue()


def load_training_set(work: Work, training_set_id: str | None = None) -> TrainingSet:
    """Read a training set back and verify its manifest; None takes the newest.

    Raises:
        PermanentFailureError: there is no such set.
        ManifestChangedError: the manifest's hash is not the recorded one.
    """
    row = _row(work, training_set_id)
    return TrainingSet(row, _content(work, row))


@dataclass(frozen=True)
class OpenedSet:
    """A training set whose tables are open at their pinned versions, so that it can be read."""

    work: Work
    row: dict[str, object]
    tables: PinnedTables

    def read(self) -> tuple[TrainingSet, LearningSet]:
        """The set and everything that it names.

        Raises:
            ManifestChangedError: the manifest's hash is not the recorded one.
            PermanentFailureError: files of a pinned version are gone.
        """
        training_set = TrainingSet(self.row, _content(self.work, self.row))
        clips = training_set.learning_clips()
        # Segments without clips are left out where tables are joined.
        frames = self.tables.read(COLUMNS, days=clips["day"].unique().sort().to_list())
        of_the_set = pl.col("feature_set") == self.row["feature_set"]
        frames["pose_tracks"] = frames["pose_tracks"].filter(of_the_set)
        return training_set, LearningSet.from_tables(clips=clips, **frames)


def open_training_set(work: Work, training_set_id: str | None = None) -> OpenedSet:
    """Find a training set and open what it is made of; None takes the newest.

    Raises:
        PermanentFailureError: there is no such set, or a pinned version is gone.
    """
    row = _row(work, training_set_id)
    pins = json.loads(str(row["pins"]))
    return OpenedSet(work, row, work.lake.at({name: pins[name] for name in COLUMNS}))


def _row(work: Work, training_set_id: str | None) -> dict[str, object]:
    rows = work.lake.read("training_set").sort("created_utc")
    if training_set_id is not None:
        rows = rows.filter(pl.col("training_set_id") == training_set_id)
    if rows.is_empty():
        raise PermanentFailureError(
            f"no training set {training_set_id or ''} in the lake: materialize training_set"
        )
    return rows.row(-1, named=True)


def _content(work: Work, row: Mapping[str, object]) -> bytes:
    path = work.lake.resolve(str(row["manifest"]))
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != row["manifest_sha256"]:
        raise ManifestChangedError(
            f"{path} is not the manifest that training set {row['training_set_id']} was cut with; "
            "restore it from a backup, or cut a new training set"
        )
    return content


def _automatic_clips(
    work: Work, reviewed: pl.DataFrame, pins: dict[str, int], until: date | None
) -> pl.DataFrame:
    """The automatic clips of a set, with their fold; pins what they come from where there are any.

    Only footage up to the day `until`, with pose tracks, and of which people labelled nothing.
    """
    lake, choices = work.lake, work.site.settings.labelling
    empty = reviewed.clear()
    version = lake.version("automatic_labels")
    if not choices.automatic_share or version is None:
        return empty
    feature_set = work.site.settings.features.detector.version
    wanted = pl.col("confidence") >= choices.automatic_confidence
    if until is not None:
        wanted = wanted & (pl.col("day") <= until)
    sure = lake.read("automatic_labels", version=version, where=wanted)
    days = sorted(set(sure["day"]) | set(reviewed["day"]))
    videos = lake.read("videos", days=days, version=pins["videos"])
    labelled = lake.read(
        "labels",
        days=days,
        columns=["video_id"],
        where=pl.col("source") != AUTOMATIC,
        version=pins["labels"],
    )
    tracked = lake.read(
        "pose_tracks",
        days=days,
        columns=["video_id"],
        where=pl.col("feature_set") == feature_set,
        version=pins["pose_tracks"],
    )
    sure = sure.join(labelled, on="video_id", how="anti").join(tracked, on="video_id", how="semi")
    chosen = choose_automatic(
        reviewed,
        automatic_clips(sure, videos, choices.automatic_confidence),
        videos,
        share=choices.automatic_share,
        seed=work.site.settings.learning.seed,
    )
    if chosen.is_empty():
        return empty
    pins["automatic_labels"] = version
    work.log(f"{len(chosen)} of {len(reviewed) + len(chosen)} clips are automatic")
    return chosen
