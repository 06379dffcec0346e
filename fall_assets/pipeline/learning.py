"""Learning: a pinned training set, a candidate, and how well it finds falls.

Importing this module is cheap; torch and MLflow are imported when something is learned.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.labelling.automatic import SOURCE as AUTOMATIC
from fall_assets.labelling.automatic import automatic_clips, choose_automatic
from fall_assets.labelling.splits import assign_folds
from fall_assets.labelling.taxonomy import TAXONOMY_VERSION
from fall_assets.lake.lake import PinnedTables
from fall_assets.lake.registry import one_row, table
from fall_assets.learning.algorithms.registry import settings_of
from fall_assets.learning.attempts import environment
from fall_assets.learning.dataset import CLIP_COLUMNS, CLIP_ORDER, COLUMNS, LearningSet
from fall_assets.learning.detector import ALGORITHM
from fall_assets.learning.events import EventSettings
from fall_assets.learning.metrics import VideoOutcome, outcome
from fall_assets.learning.windows import SegmentTracks, WindowSet, person_tracks
from fall_assets.lineage import git_commit, lock_sha256
from fall_assets.pipeline.evaluation import Assessment, Judgement, assess
from fall_assets.pipeline.models import champion, tracking
from fall_assets.pipeline.records import dataset_pins, scores_frame
from fall_assets.pipeline.work import Work
from fall_assets.simulation.motions import MORE_ORDINARY, ORDINARY
from fall_assets.simulation.poses import pose_films, pose_windows

if TYPE_CHECKING:
    from fall_assets.learning.evaluate import LearningSettings

PINNED = ("cameras", "videos", "labels", "clips", "pose_tracks")
"""Tables that a training set is made of."""

_FILMS_EACH, _FILM_S, _FILMS_SEED = 2, 60.0, 1_000_003
"""Films of each ordinary programme that thresholds are raised by; no window is of this seed."""


class ManifestChangedError(PermanentFailureError):
    """A training set's manifest is not the one that was cut."""


@dataclass(frozen=True)
class TrainingSet:
    """A pinned training set: its row of the table and its manifest's file, verified."""

    row: dict[str, object]
    content: bytes

    @cached_property
    def manifest(self) -> pl.DataFrame:
        """A row per clip: the columns of `clips` and `fold`."""
        return self.columns(None)

    def columns(self, names: Sequence[str] | None) -> pl.DataFrame:
        """Some of the manifest's columns; to leave out the ids of clips is quicker."""
        return pl.read_parquet(
            io.BytesIO(self.content), columns=None if names is None else list(names)
        )

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
    labelled are in the list too, with `label_source` 'auto'.

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
    manifest = manifest.sort(CLIP_ORDER)
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
        clips = training_set.columns(("day", *CLIP_COLUMNS))
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


@dataclass(frozen=True)
class Trained:
    """A candidate as it stands in the tracking store and in the lake."""

    run_id: str
    training_set_id: str
    threshold: float
    parameters: int
    settings: dict[str, Any]


def train_candidate(work: Work, training_set_id: str | None = None) -> Trained:
    """Cross-validate, then learn from everything, and record both; None takes the newest set."""
    from fall_assets.learning.evaluate import cross_validate, train_final
    from fall_assets.learning.metrics import event_metrics

    training_set, learning_set = open_training_set(work, training_set_id).read()
    settings = learning_settings(work)
    simulated = simulated_windows(work, training_set)
    validation = cross_validate(
        learning_set,
        settings,
        simulated=simulated,
        ordinary=ordinary_films(settings),
        progress=work.progress("cross-validation: steps"),
    )
    detector = train_final(
        learning_set,
        settings,
        validation.threshold,
        simulated=simulated,
        progress=work.progress("final model: steps"),
    )
    record = {
        **settings.record(),
        "simulated_windows": 0 if simulated is None else len(simulated),
    }
    folds = {truth.video_id: truth.fold for truth in learning_set.truths.values()}
    scores = scores_frame(validation.videos, folds, validation.thresholds)
    run_id = tracking(work.site).log_candidate(
        detector,
        settings=record,
        pins={"training_set_id": training_set.id, **training_set.pins},
        metrics=event_metrics(validation.outcomes)[0],
        plots=plots_of(validation.outcomes),
        git_commit=git_commit(),
        lock_sha256=lock_sha256(),
        inputs=dataset_pins(work, training_set.row, training_set.pins),
        scores=scores,
        environment=environment(),
    )
    work.lake.append(
        "candidate_model",
        one_row(
            "candidate_model",
            {
                "run_id": run_id,
                "created_utc": datetime.now(UTC),
                "training_set_id": training_set.id,
                "algorithm": ALGORITHM,
                "feature_set": detector.feature_set,
                "settings": json.dumps(record, sort_keys=True),
                "threshold": detector.threshold,
                "parameters": detector.parameters,
                "git_commit": git_commit(),
                "lock_sha256": lock_sha256(),
            },
        ),
        work.provenance(),
    )
    of_the_run = scores.select(pl.lit(run_id).alias("run_id"), pl.all())
    work.lake.append("fold_scores", of_the_run, work.provenance())
    return Trained(run_id, training_set.id, detector.threshold, detector.parameters, record)


def evaluate_candidate(work: Work) -> Assessment:
    """Judge the newest candidate, and the champion on the same segments beside it.

    Both are judged by what networks made of segments that they had not seen: segments that the
    champion learned from count by its own cross-validation, all others by the champion itself.
    Rows go into `evaluation` and `comparison`, a report and a model card into the lake's files.
    """
    from fall_assets.learning.evaluate import judge

    candidate = newest_candidate(work)
    training_set, learning_set = open_training_set(work, candidate["training_set_id"]).read()
    found = _out_of_fold(work, candidate["run_id"], learning_set)
    beside: Judgement | None = None
    serving = tracking(work.site).champion()
    if serving is not None and serving.run_id == candidate["run_id"]:
        work.log("the newest candidate is the champion itself: there is nothing to compare it with")
    elif serving is not None:
        detector, _ = champion(work.site)
        if detector.feature_set == learning_set.feature_set:
            own = _out_of_fold(work, serving.run_id, learning_set)
            seen = judge(detector, learning_set)
            beside = Judgement(serving.run_id, [own.get(one.video.video_id, one) for one in seen])
        else:
            work.log(
                f"champion {serving.version} uses feature set {detector.feature_set}, which this "
                "training set does not hold: it is not judged beside the candidate"
            )
    assessment = assess(
        work,
        training_set,
        learning_set,
        Judgement(candidate["run_id"], list(found.values())),
        beside,
        evaluated_utc=datetime.now(UTC),
        about={
            "algorithm": candidate["algorithm"],
            "feature set": candidate["feature_set"],
            "parameters": candidate["parameters"],
            "threshold": candidate["threshold"],
            "commit": candidate["git_commit"],
            **{f"version of {name}": version for name, version in training_set.pins.items()},
        },
    )
    for name, rows in (("evaluation", assessment.rows), ("comparison", assessment.comparisons)):
        if rows:
            frame = pl.DataFrame(rows, schema=table(name).schema)
            work.lake.upsert(name, frame, work.provenance())
    return assessment


def newest_candidate(work: Work) -> dict[str, Any]:
    """The newest row of `candidate_model`.

    Raises:
        PermanentFailureError: there is none.
    """
    rows = work.lake.read("candidate_model").sort("created_utc")
    if rows.is_empty():
        raise PermanentFailureError("no model was trained yet: materialize candidate_model")
    return rows.row(-1, named=True)


def learning_settings(work: Work) -> LearningSettings:
    """The settings that a candidate is learned with on this site. Loads torch."""
    from fall_assets.learning.evaluate import LearningSettings

    choices = work.site.settings.learning
    training = settings_of(ALGORITHM, {"seed": choices.seed, "steps": choices.training_steps})
    limit = choices.max_ordinary_alarms_per_hour
    return LearningSettings(training, max_ordinary_alarms_per_hour=limit or None)


def ordinary_films(settings: LearningSettings) -> list[SegmentTracks]:
    """Simulated people who do not fall, to raise thresholds by; none where nothing asks for it."""
    if settings.max_ordinary_alarms_per_hour is None:
        return []
    programmes = [name for name in (*ORDINARY, *MORE_ORDINARY) for _ in range(_FILMS_EACH)]
    rate_hz = settings.windows.rate_hz
    return [
        person_tracks(film.programme, film.keypoints, rate_hz=rate_hz, aspect=film.aspect)
        for film in pose_films(programmes, _FILMS_SEED, duration_s=_FILM_S, rate_hz=rate_hz)
    ]


def simulated_windows(work: Work, training_set: TrainingSet) -> WindowSet | None:
    """Simulated motion to mix in, as the site chose; None where there are falls enough."""
    choices = work.site.settings.learning
    falls = int(str(training_set.row["falls"]))
    if not choices.simulated_windows or falls >= choices.simulated_below_falls:
        return None
    work.log(f"{falls} labelled falls: {choices.simulated_windows} simulated windows are mixed in")
    return WindowSet(*pose_windows(choices.simulated_windows, choices.seed))


def plots_of(outcomes: Sequence[VideoOutcome]) -> dict[str, bytes]:
    """The plots of an evaluation by title, as PNG."""
    from fall_assets.learning import plots

    return {
        "sensitivity against false alarms": plots.sensitivity_curve(outcomes),
        "precision and recall": plots.precision_recall(outcomes),
        "confusion": plots.confusion(outcomes),
        "detection delay": plots.delays(outcomes),
    }


def _out_of_fold(work: Work, run_id: str, learning_set: LearningSet) -> dict[str, VideoOutcome]:
    """What cross-validation made of the set's segments, by segment, from the scores in the lake.

    A segment that the run's cross-validation did not hold is not in it.
    """
    scores = work.lake.read("fold_scores").filter(
        pl.col("run_id") == run_id, pl.col("video_id").is_in(list(learning_set.truths))
    )
    events = _events_of(work, run_id)
    outcomes = {}
    for (video_id,), rows in scores.sort("video_id", "end_s").group_by(
        ["video_id"], maintain_order=True
    ):
        truth = learning_set.truths[str(video_id)]
        video = truth.scored(rows["end_s"], rows["score"])
        outcomes[truth.video_id] = outcome(video, replace(events, threshold=rows["threshold"][0]))
    return outcomes


def _events_of(work: Work, run_id: str) -> EventSettings:
    """When scores of that run's model are an alarm."""
    settings = work.lake.read(
        "candidate_model", columns=["settings"], where=pl.col("run_id") == run_id
    )["settings"]
    return EventSettings(**json.loads(settings[0])["events"]) if len(settings) else EventSettings()


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
