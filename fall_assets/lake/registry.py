"""The one registry of tables: column, type, unit, meaning, range.

From it come the Arrow schema, the validation before a commit, the column metadata in the UI and
the data dictionary in the docs. What belongs here: descriptions of tables. What does not: reading
or writing them (see `lake.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import polars as pl

TEXT = pl.String()
WHOLE = pl.Int64()
REAL = pl.Float64()
FLAG = pl.Boolean()
DAY = pl.Date()
MOMENT = pl.Datetime("us", "UTC")
PACKED = pl.Binary()

Stage = Literal["collection", "labelling", "learning", "delivery", "operation", "monitoring"]


@dataclass(frozen=True)
class Column:
    """One column: its type, what it means, its unit and what values it may hold.

    `minimum` and `maximum` are inclusive; `allowed` lists the permitted texts. Floating point
    columns may never hold NaN or infinity: a missing value is null, where `nullable` says so.
    """

    name: str
    dtype: pl.DataType
    meaning: str
    unit: str | None = None
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Reference:
    """The values of `columns` must stand in `table` (columns of the same names)."""

    columns: tuple[str, ...]
    table: str


@dataclass(frozen=True)
class Table:
    """One table of the lake: who writes it, its key, and whether it is partitioned by day."""

    name: str
    asset: str
    stage: Stage
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    by_day: bool = False
    references: tuple[Reference, ...] = ()

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """Column names and Polars types, in order."""
        return {column.name: column.dtype for column in self.columns}

    def column(self, name: str) -> Column:
        """The column of that name; KeyError where there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"table {self.name} has no column {name}")

    def empty(self) -> pl.DataFrame:
        """A frame of this table's schema without rows."""
        return pl.DataFrame(schema=self.schema)


_DAY = Column("day", DAY, "Day of the segment's start, UTC; the partition.")
_VIDEO = Column("video_id", TEXT, "SHA-256 of the file's content, in hex.")
_CAMERA = Column("camera_id", TEXT, "The camera that recorded it.")
_FEATURE_SET = Column("feature_set", TEXT, "Version of the feature set: a hash of its settings.")
_MODEL = Column("model_version", TEXT, "Version in the model registry.")
_HOUR = Column("hour", WHOLE, "Hour of the day, UTC.", minimum=0, maximum=23)

EVALUATION_SLICES = (
    "all",
    "dataset",
    "camera",
    "changed",
    "view",
    "room",
    "light",
    "body_size",
    "hour",
    "label",
)
"""What an evaluation is cut by."""

QUARANTINE_REASONS = (
    "empty",
    "truncated",
    "not_a_video",
    "no_video_stream",
    "no_frames",
    "unreadable",
    "too_large",
    "too_small",
    "clock_runs_backwards",
    "took_too_long",
    "crashed_the_decoder",
    "unusable_name",
    "outside_root",
    "still_being_written",
)

LABELS = (
    "fall",
    "lying_after_fall",
    "lying",
    "sitting_down",
    "sitting",
    "standing",
    "walking",
    "bending",
    "other",
)
"""The taxonomy, version 1. `labelling.taxonomy` maps the data sets' words onto it."""

LABEL_SOURCES = ("dataset", "by_eye", "simulated", "reviewer", "staff", "auto")

RESOLUTION_RULES = ("priority", "majority", "unanimous")
"""How disagreement between annotators may be resolved."""

ZONE_KINDS = ("room", "bed", "chair", "door", "floor")

ALERT_KINDS = ("fall", "fall_onto_bed", "fall_out_of_bed")
"""What `delivery.kinds` tells apart."""

WARD_ANSWERS = ("going", "fall", "false_alarm", "help")
"""What the ward's page lets staff say of an alert."""

STREAM_STATES = ("starting", "ok", "lost", "frozen", "black", "moved", "starved")
"""What a box says of a camera's stream."""

PRECISIONS: tuple[Literal["float32", "int8"], ...] = ("float32", "int8")
"""Number formats of a packaged network."""

VIEWS = ("level", "corner", "ceiling", "unknown")

DriftSignal = Literal[
    "exact",
    "quality",
    "pose",
    "score",
    "scene",
    "embedding",
    "online",
    "precision",
    "skew",
    "new_camera",
]
DRIFT_SIGNALS: tuple[DriftSignal, ...] = get_args(DriftSignal)
"""Kinds of drift signals; `drift.figures` says which figures each holds."""

DRIFT_CAUSES = (
    "new_camera",
    "resolution",
    "codec",
    "frame_rate",
    "camera_model",
    "firmware",
    "clock",
    "view_moved",
    "room_changed",
    "lens_blurred",
    "exposure",
    "night_mode",
    "smaller_people",
    "wheelchairs",
    "pose",
    "picture",
    "embedding",
    "scores",
    "precision",
    "skew",
)
"""What the drift report can name; `drift.causes` says how each is told from the others."""

DRIFT_ANSWERS = ("annotate", "normalise", "labels", "retrain", "evaluate", "rollout")
"""What the platform does about drift, in this order; `drift.answers` decides when."""

DRIFT_ANSWER_STATES = ("asked", "approved", "refused", "started", "done", "failed", "skipped")

_LABEL_DETAILS = (
    Column("zone", TEXT, "Bed, chair, door or floor, where told.", nullable=True),
    Column("source", TEXT, "Where the times come from.", allowed=LABEL_SOURCES),
    Column("subject", TEXT, "Whom it is about, where told.", nullable=True),
    Column("event_id", TEXT, "The fall that it belongs to, over all cameras.", nullable=True),
    Column("taxonomy_version", WHOLE, "Version of the taxonomy.", minimum=1),
    Column("file", TEXT, "The label file, below the landing folder."),
    Column("line", WHOLE, "Line in the label file.", minimum=1),
    Column("annotator", TEXT, "Who said so.", nullable=True),
    Column("track", WHOLE, "The person's track in the labelling tool.", nullable=True, minimum=0),
    Column(
        "interval_id",
        TEXT,
        "The interval on the camera's timeline; the same for its part in each segment.",
        nullable=True,
    ),
    Column("start_utc", MOMENT, "Start of this part.", "UTC", nullable=True),
    Column("end_utc", MOMENT, "End of this part.", "UTC", nullable=True),
)
"""What is known of a label besides its place; `labels` and `annotations` share it."""

_WINDOW_FIGURES = (
    Column("width", WHOLE, "Width of the picture.", "px", minimum=1),
    Column("height", WHOLE, "Height of the picture.", "px", minimum=1),
    Column("fps", REAL, "Frames per second, measured from time stamps.", "1/s", minimum=0),
    Column("brightness", REAL, "Mean luma.", "0-1", minimum=0, maximum=1),
    Column("contrast", REAL, "Standard deviation of luma.", "0-1", minimum=0, maximum=1),
    Column("sharpness", REAL, "Mean absolute Laplacian of luma.", "0-1", minimum=0),
    Column("noise", REAL, "Standard deviation of luma noise.", "0-1", minimum=0),
    Column(
        "motion_mean",
        REAL,
        "Mean share of the picture that changed between samples.",
        "0-1",
        minimum=0,
        maximum=1,
    ),
    Column(
        "motion_max",
        REAL,
        "Largest share that changed between two samples.",
        "0-1",
        minimum=0,
        maximum=1,
    ),
    Column(
        "people",
        REAL,
        "Mean number of people tracked; null where nobody looked.",
        nullable=True,
        minimum=0,
    ),
    Column(
        "keypoint_score",
        REAL,
        "Mean key-point score of all people.",
        "0-1",
        nullable=True,
        minimum=0,
        maximum=1,
    ),
    Column(
        "person_height",
        REAL,
        "Median height of a person's box, share of the picture's.",
        "0-1",
        nullable=True,
        minimum=0,
    ),
    Column(
        "person_aspect",
        REAL,
        "Median height of a person's box over its width, in pixels.",
        nullable=True,
        minimum=0,
    ),
    Column(
        "person_y",
        REAL,
        "Median height of the hips in the picture, 0 is the top.",
        "0-1",
        nullable=True,
    ),
)
"""Figures of one window; `features` and `drift_reference` share them."""


def _later(
    name: str,
    meaning: str,
    unit: str | None = "0-1",
    minimum: float | None = None,
    maximum: float | None = None,
) -> Column:
    """A figure that came later: null in rows that were computed before."""
    return Column(name, REAL, meaning, unit, True, minimum, maximum)


_LATER_FIGURES = (
    _later("warmth", "Mean of red less blue; above 0 is warm.", "-1-1", minimum=-1, maximum=1),
    _later("colour", "Mean distance of pixels from grey.", minimum=0, maximum=1),
    _later("dark_share", "Share of pixels that are black, below 16 of 255.", minimum=0, maximum=1),
    _later(
        "bright_share", "Share of pixels that are white, above 239 of 255.", minimum=0, maximum=1
    ),
    _later("person_x", "Median place of the hips across the picture, 0 is the left."),
    _later("person_speed", "Median speed of the hips, in heights of the person's box.", "1/s"),
    _later("sitting", "Share of people's samples in which they sit.", minimum=0, maximum=1),
    _later(
        "rolling",
        "Of the samples in which people sit, the share in which they move along.",
        minimum=0,
        maximum=1,
    ),
    _later("lying_x", "Median place of those who lie, across, 0 is the left."),
    _later("lying_y", "Median place of those who lie, down, 0 is the top."),
    _later("sitting_x", "Median place of those who sit, across, 0 is the left."),
    _later("sitting_y", "Median place of those who sit, down, 0 is the top."),
)

WINDOW_FIGURES = tuple(column.name for column in _WINDOW_FIGURES)

ROLLOUT_STATES = (
    "shadow",
    "step",
    "full",
    "retired",
    "held",
    "rolled_back",
    "aborted",
    "comparing",
    "reported",
)
"""States of a rollout; `fall_assets.rollout.machine` says what each is."""

ROLLOUT_PLACES = ("challenger", "control", "rest")
"""Places of a camera in a rollout."""

_ROLLOUT = Column("rollout_id", TEXT, "The rollout.")

_BOX = Column("box", TEXT, "The box beside the cameras.")

_STREAM_HEALTH = (
    Column("box", TEXT, "The box that tells; null in telemetry files.", nullable=True),
    Column("temperature_c", REAL, "Hottest sensor of the box.", "°C", nullable=True),
    Column("frames_expected", WHOLE, "Frames since the report before.", nullable=True, minimum=0),
    Column("frames_decoded", WHOLE, "Of them, those that came.", nullable=True, minimum=0),
    Column("fps_expected", REAL, "What the camera is set to.", "1/s", nullable=True, minimum=0),
    Column("fps_measured", REAL, "What came.", "1/s", nullable=True, minimum=0),
    Column(
        "gate_duty",
        REAL,
        "Share of the time in which the motion gate was open.",
        "0-1",
        nullable=True,
        minimum=0,
        maximum=1,
    ),
    Column("model_version", TEXT, "What judges the stream.", nullable=True),
    Column("state", TEXT, "Of the stream.", nullable=True, allowed=STREAM_STATES),
    Column("since_utc", MOMENT, "Since when it is in that state.", "UTC", nullable=True),
    Column("clock_offset_s", REAL, "The camera's clock less the box's.", "s", nullable=True),
    Column("outbox", WHOLE, "Alerts that wait to be sent.", nullable=True, minimum=0),
    Column("camera_model", TEXT, "Maker and model, where the camera tells.", nullable=True),
    Column("firmware", TEXT, "Version of the camera's firmware, where it tells.", nullable=True),
)

_TABLES = (
    Table(
        "cameras",
        "cameras",
        "collection",
        "Every camera that the site configures or whose footage was seen.",
        (
            _CAMERA,
            Column("ward", TEXT, "The ward it belongs to; 'unknown' where not configured."),
            Column("room", TEXT, "The room it looks into; 'unknown' where not configured."),
            Column("view", TEXT, "How it looks at the room.", allowed=VIEWS),
            Column("dataset", TEXT, "The data set, or 'site' for the hospital's own cameras."),
            Column(
                "crop", TEXT, "Part of the picture to use: 'x0,y0,x1,y1' as shares.", nullable=True
            ),
        ),
        key=("camera_id",),
    ),
    Table(
        "videos",
        "videos",
        "collection",
        "Segments taken in: one row per file as the recorder wrote it.",
        (
            _DAY,
            _VIDEO,
            _CAMERA,
            Column("dataset", TEXT, "The data set, or 'site'."),
            Column(
                "path",
                TEXT,
                "Where it lies, or lay last: below the landing folder, or a bucket's address.",
            ),
            Column("start_utc", MOMENT, "When the segment starts.", "UTC"),
            Column("duration_s", REAL, "Length of the video stream.", "s", minimum=0),
            Column("width", WHOLE, "Width of the picture.", "px", minimum=1),
            Column("height", WHOLE, "Height of the picture.", "px", minimum=1),
            Column("fps", REAL, "Mean frames per second.", "1/s", minimum=0),
            Column("frames", WHOLE, "Frames that the container announces.", minimum=1),
            Column("codec", TEXT, "Codec of the video stream, as FFmpeg names it."),
            Column("bytes", WHOLE, "Size of the file.", "B", minimum=1),
            Column("subject", TEXT, "Who is seen, where the source tells.", nullable=True),
            Column(
                "scene", TEXT, "What must stay together in a split: all cameras of one happening."
            ),
            Column(
                "deleted_utc",
                MOMENT,
                "When its last file was deleted or found gone; null while there is one.",
                "UTC",
                nullable=True,
            ),
        ),
        key=("video_id",),
        by_day=True,
        references=(Reference(("camera_id",), "cameras"),),
    ),
    Table(
        "sightings",
        "videos",
        "collection",
        "Every name under which a segment was seen: one video may have several.",
        (
            Column("day", DAY, "Day that the name tells, UTC; the partition."),
            Column("path", TEXT, "Below the landing folder, or a bucket's address."),
            Column("source", TEXT, "The configured source, or the data set."),
            Column("camera_id", TEXT, "The camera that the name tells."),
            Column("start_utc", MOMENT, "The start that the name tells.", "UTC"),
            _VIDEO,
            Column("bytes", WHOLE, "Size of the file.", "B", minimum=0),
            Column("fingerprint", TEXT, "Changes when the file is written again."),
            Column("first_seen_utc", MOMENT, "When it was first seen.", "UTC"),
            Column(
                "gone_utc", MOMENT, "When the file was deleted or found gone.", "UTC", nullable=True
            ),
        ),
        key=("path",),
        by_day=True,
    ),
    Table(
        "deletions",
        "deletions",
        "collection",
        "The audit of deleted footage: every file that retention removed, and why.",
        (
            Column("deletion_id", TEXT, "Hash of the file's path and content."),
            Column(
                "state",
                TEXT,
                "'planned' before the file is touched; then what came of it.",
                allowed=("planned", "deleted", "already_gone", "failed"),
            ),
            Column("at_utc", MOMENT, "When.", "UTC"),
            _DAY,
            _VIDEO,
            _CAMERA,
            Column("path", TEXT, "Below the landing folder, or a bucket's address."),
            Column("bytes", WHOLE, "Size of the file.", "B", minimum=0),
            Column("reason", TEXT, "The rule under which it was deleted, or the error."),
            Column("run_id", TEXT, "The run that deleted it."),
        ),
        key=("deletion_id", "state", "at_utc"),
        by_day=True,
    ),
    Table(
        "legal_holds",
        "deletions",
        "collection",
        "Footage that must be kept, by whose word, until released.",
        (
            Column("hold_id", TEXT, "The hold."),
            Column("camera_id", TEXT, "The camera; null holds all cameras.", nullable=True),
            Column("video_id", TEXT, "One segment; null holds all of the time.", nullable=True),
            Column("from_utc", MOMENT, "Start of the footage held.", "UTC", nullable=True),
            Column("until_utc", MOMENT, "End of the footage held.", "UTC", nullable=True),
            Column("reason", TEXT, "Why."),
            Column("placed_by", TEXT, "Who placed it."),
            Column("placed_utc", MOMENT, "When it was placed.", "UTC"),
            Column("released_by", TEXT, "Who released it.", nullable=True),
            Column("released_utc", MOMENT, "When it was released.", "UTC", nullable=True),
        ),
        key=("hold_id",),
    ),
    Table(
        "quarantine",
        "quarantine",
        "collection",
        "Files that were not taken in, why, and what to do about each.",
        (
            _DAY,
            Column("path", TEXT, "Path below the landing folder."),
            Column("reason", TEXT, "Why.", allowed=QUARANTINE_REASONS),
            Column(
                "action",
                TEXT,
                "'quarantined' needs a person, 'skipped' does not.",
                allowed=("quarantined", "skipped"),
            ),
            Column("detail", TEXT, "What was seen."),
            Column("advice", TEXT, "What to do about it."),
            Column("bytes", WHOLE, "Size of the file when last seen.", "B", minimum=0),
            Column("first_seen_utc", MOMENT, "When it was first seen.", "UTC"),
            Column("tried_utc", MOMENT, "When it was last looked into.", "UTC", nullable=True),
            Column("fingerprint", TEXT, "Changes when the file is written again.", nullable=True),
        ),
        key=("path",),
        by_day=True,
    ),
    Table(
        "labels",
        "labels",
        "labelling",
        "Labelled intervals under one taxonomy.",
        (
            _DAY,
            Column("label_id", TEXT, "Hash of the label's place and content."),
            _VIDEO,
            _CAMERA,
            Column("start_s", REAL, "Start, from the segment's start.", "s", minimum=0),
            Column("end_s", REAL, "End, from the segment's start.", "s", minimum=0),
            Column("label", TEXT, "The label.", allowed=LABELS),
            Column("original_label", TEXT, "The source's own word."),
            *_LABEL_DETAILS,
            Column(
                "resolution",
                TEXT,
                "How it came about: 'only' one annotator spoke, all 'agreed', or by which rule.",
                nullable=True,
                allowed=("only", "agreed", *RESOLUTION_RULES),
            ),
        ),
        key=("label_id",),
        by_day=True,
        references=(Reference(("video_id",), "videos"),),
    ),
    Table(
        "annotations",
        "labels",
        "labelling",
        "What every annotator said, before disagreement is resolved, and what became of it.",
        (
            _DAY,
            Column("label_id", TEXT, "Hash of the statement's place and content."),
            _VIDEO,
            _CAMERA,
            Column("start_s", REAL, "Start, from the segment's start.", "s", minimum=0),
            Column("end_s", REAL, "End, from the segment's start.", "s", minimum=0),
            Column("label", TEXT, "The label.", allowed=LABELS),
            Column("original_label", TEXT, "The source's own word."),
            *_LABEL_DETAILS,
            Column(
                "outcome",
                TEXT,
                "'used' whole, 'in_part', 'outvoted' or 'undecided'.",
                allowed=("used", "in_part", "outvoted", "undecided"),
            ),
        ),
        key=("label_id",),
        by_day=True,
        references=(Reference(("video_id",), "videos"),),
    ),
    Table(
        "label_conflicts",
        "labels",
        "labelling",
        "Stretches on which annotators differ, who said what, and what was decided.",
        (
            _DAY,
            Column("conflict_id", TEXT, "Hash of the stretch."),
            _VIDEO,
            _CAMERA,
            Column("start_s", REAL, "Start, from the segment's start.", "s", minimum=0),
            Column("end_s", REAL, "End, from the segment's start.", "s", minimum=0),
            Column("subject", TEXT, "Whom it is about, where told.", nullable=True),
            Column("said", TEXT, "JSON: annotator to label; null where one said nothing."),
            Column(
                "decided",
                TEXT,
                "The label that holds; null: none does.",
                nullable=True,
                allowed=LABELS,
            ),
        ),
        key=("conflict_id",),
        by_day=True,
        references=(Reference(("video_id",), "videos"),),
    ),
    Table(
        "label_agreement",
        "label_agreement",
        "labelling",
        "How far each two annotators agree where both spoke.",
        (
            Column("annotator", TEXT, "One of the two, first by name."),
            Column("other", TEXT, "The other."),
            Column("label", TEXT, "The label, or 'all'.", allowed=("all", *LABELS)),
            Column("seconds", REAL, "Time that both labelled.", "s", minimum=0),
            Column(
                "kappa",
                REAL,
                "Cohen's kappa by time; null where chance alone explains all.",
                nullable=True,
                minimum=-1,
                maximum=1,
            ),
            Column(
                "temporal_iou",
                REAL,
                "Time of both over time of either with the label.",
                "0-1",
                nullable=True,
                minimum=0,
                maximum=1,
            ),
            Column("intervals", WHOLE, "Intervals of both with the label.", minimum=0),
        ),
        key=("annotator", "other", "label"),
    ),
    Table(
        "zones",
        "zones",
        "labelling",
        "Rooms and zones that a camera sees, each for a period: a renovation starts a new one.",
        (
            Column("zone_id", TEXT, "Hash of camera, kind, name and start of the period."),
            _CAMERA,
            Column("kind", TEXT, "What it is.", allowed=ZONE_KINDS),
            Column("name", TEXT, "Its name in the room, or the room's."),
            Column(
                "polygon",
                TEXT,
                "JSON list of [x, y] as shares of the picture; null is the whole picture.",
                nullable=True,
            ),
            Column("valid_from_utc", MOMENT, "Start of the period.", "UTC"),
            Column(
                "valid_until_utc",
                MOMENT,
                "End of the period; null: still valid.",
                "UTC",
                nullable=True,
            ),
            Column("file", TEXT, "Where it was read, below the landing folder."),
            Column("line", WHOLE, "Line in that file.", minimum=1),
        ),
        key=("zone_id",),
    ),
    Table(
        "automatic_labels",
        "automatic_labels",
        "labelling",
        "What the champion says of new footage; never a truth to judge by.",
        (
            _DAY,
            Column("label_id", TEXT, "Hash of segment, model and interval."),
            _VIDEO,
            _CAMERA,
            _MODEL,
            _FEATURE_SET,
            Column("start_s", REAL, "Start, from the segment's start.", "s", minimum=0),
            Column("end_s", REAL, "End, from the segment's start.", "s", minimum=0),
            Column("label", TEXT, "The label.", allowed=LABELS),
            Column("confidence", REAL, "How sure the model is of it.", "0-1", minimum=0, maximum=1),
            Column("taxonomy_version", WHOLE, "Version of the taxonomy.", minimum=1),
        ),
        key=("label_id",),
        by_day=True,
        references=(Reference(("video_id",), "videos"),),
    ),
    Table(
        "review_queue",
        "review_queue",
        "labelling",
        "What a person should look at next, and why; rank 1 first.",
        (
            Column("item_id", TEXT, "Hash of the segment and the piece."),
            Column("rank", WHOLE, "Place in the queue.", minimum=1),
            Column("recorded_day", DAY, "Day of the segment's start, UTC."),
            _VIDEO,
            _CAMERA,
            Column("room", TEXT, "The room."),
            Column("start_s", REAL, "Start, from the segment's start.", "s", minimum=0),
            Column("end_s", REAL, "End, from the segment's start.", "s", minimum=0),
            Column("start_utc", MOMENT, "When the piece starts.", "UTC"),
            Column("priority", REAL, "What it is ranked by.", minimum=0),
            Column("reason", TEXT, "Why, in words; the weightiest first."),
            Column("reasons", TEXT, "JSON: each reason and what it adds."),
            Column(
                "suggested_label", TEXT, "What the champion says.", nullable=True, allowed=LABELS
            ),
            Column(
                "confidence", REAL, "How sure it is.", "0-1", nullable=True, minimum=0, maximum=1
            ),
        ),
        key=("item_id",),
    ),
    Table(
        "label_problems",
        "labels",
        "labelling",
        "Lines of label files that were left out, and why.",
        (
            Column("file", TEXT, "The label file, below the landing folder."),
            Column("line", WHOLE, "Line in the label file.", minimum=1),
            Column("part", WHOLE, "Which interval of the line, from 0.", minimum=0),
            Column("text", TEXT, "The line."),
            Column("reason", TEXT, "What is wrong and what to do."),
        ),
        key=("file", "line", "part"),
    ),
    Table(
        "clips",
        "clips",
        "labelling",
        "Labelled windows: what a model is trained and evaluated on.",
        (
            _DAY,
            Column("clip_id", TEXT, "Hash of the segment and the window's end."),
            _VIDEO,
            _CAMERA,
            Column("dataset", TEXT, "The data set, or 'site'."),
            Column(
                "start_s",
                REAL,
                "Start of the window; negative where it reaches before the segment.",
                "s",
            ),
            Column("end_s", REAL, "End of the window.", "s", minimum=0),
            Column("label", TEXT, "The label that the window ends in.", allowed=LABELS),
            Column(
                "target",
                WHOLE,
                "1 holds a fall, 0 does not, null is uncertain.",
                nullable=True,
                minimum=0,
                maximum=1,
            ),
            Column("event_id", TEXT, "The fall that it holds or touches.", nullable=True),
            Column("split_group", TEXT, "What must stay in one fold: subject or scene."),
            Column(
                "label_source",
                TEXT,
                "Source of the label that it ends in.",
                nullable=True,
                allowed=LABEL_SOURCES,
            ),
        ),
        key=("clip_id",),
        by_day=True,
        references=(Reference(("video_id",), "videos"),),
    ),
    Table(
        "features",
        "features",
        "learning",
        "Quality, motion and pose figures per window.",
        (
            _DAY,
            _VIDEO,
            _CAMERA,
            _FEATURE_SET,
            Column("window", WHOLE, "Number of the window in the segment, from 0.", minimum=0),
            Column("start_s", REAL, "Start of the window.", "s", minimum=0),
            Column("end_s", REAL, "End of the window.", "s", minimum=0),
            Column(
                "watched",
                REAL,
                "Share of the window that was decoded; in the rest the motion gate was shut.",
                "0-1",
                minimum=0,
                maximum=1,
            ),
            *_WINDOW_FIGURES,
            Column(
                "lying",
                REAL,
                "Share of people's samples in which they lie.",
                "0-1",
                nullable=True,
                minimum=0,
                maximum=1,
            ),
            *_LATER_FIGURES,
        ),
        key=("video_id", "feature_set", "window"),
        by_day=True,
        references=(Reference(("video_id",), "videos"),),
    ),
    Table(
        "pose_tracks",
        "pose_tracks",
        "learning",
        "One person's key points through one segment, at the sampling rate.",
        (
            _DAY,
            _VIDEO,
            _CAMERA,
            _FEATURE_SET,
            Column("track", WHOLE, "Number of the person in the segment, from 0.", minimum=0),
            Column("start_s", REAL, "Time of the first sample.", "s", minimum=0),
            Column("rate_hz", REAL, "Samples per second.", "1/s", minimum=0),
            Column("samples", WHOLE, "Number of samples.", minimum=1),
            Column("aspect", REAL, "Width of the picture used over its height.", minimum=0),
            Column(
                "keypoints",
                PACKED,
                "float16, shape (samples, 17, 3): x, y (shares of the picture), score; "
                "score 0 where the person was not seen. Order of COCO.",
            ),
            Column("boxes", PACKED, "float16, shape (samples, 5): x0, y0, x1, y1 (shares), score."),
        ),
        key=("video_id", "feature_set", "track"),
        by_day=True,
        references=(Reference(("video_id",), "videos"),),
    ),
    Table(
        "sequences",
        "sequences",
        "learning",
        "What an extractor yields per sample but people: embeddings, motion. One row per stretch.",
        (
            _DAY,
            _VIDEO,
            _CAMERA,
            _FEATURE_SET,
            Column("part", WHOLE, "Number of the stretch in the segment, from 0.", minimum=0),
            Column("start_s", REAL, "Time of the first sample.", "s", minimum=0),
            Column("rate_hz", REAL, "Samples per second.", "1/s", minimum=0),
            Column("samples", WHOLE, "Number of samples.", minimum=1),
            Column("width", WHOLE, "Values per sample.", minimum=1),
            Column("values", PACKED, "float16, shape (samples, width)."),
        ),
        key=("video_id", "feature_set", "part"),
        by_day=True,
        references=(Reference(("video_id",), "videos"),),
    ),
    Table(
        "motion_gate",
        "motion_gate",
        "learning",
        "What the motion gate let through of each segment, and why.",
        (
            _DAY,
            _VIDEO,
            _CAMERA,
            Column("gate", TEXT, "Version of the gate: a hash of its settings."),
            Column("duration_s", REAL, "Length of the segment.", "s", minimum=0),
            Column("open_s", REAL, "Time that was let through.", "s", minimum=0),
            Column("frames", WHOLE, "Frames in the segment.", minimum=0),
            Column("decoded", WHOLE, "Frames that were decoded.", minimum=0),
            Column("glances", WHOLE, "Single frames that were looked at while shut.", minimum=0),
            Column("stretches", TEXT, "JSON: [start_s, end_s, why] of each stretch let through."),
        ),
        key=("video_id", "gate"),
        by_day=True,
        references=(Reference(("video_id",), "videos"),),
    ),
    Table(
        "gate_duty",
        "gate_duty",
        "learning",
        "How long the motion gate stood open, by camera and day.",
        (
            _DAY,
            _CAMERA,
            Column("gate", TEXT, "Version of the gate."),
            Column("footage_s", REAL, "Footage of the camera.", "s", minimum=0),
            Column("open_s", REAL, "Time that was let through.", "s", minimum=0),
            Column("duty", REAL, "Share that was let through.", "0-1", minimum=0, maximum=1),
            Column(
                "decoded",
                REAL,
                "Share of the frames that were decoded.",
                "0-1",
                minimum=0,
                maximum=1,
            ),
            Column(
                "longest_open_s",
                REAL,
                "Longest stretch let through without a break.",
                "s",
                minimum=0,
            ),
            Column(
                "by_hour",
                TEXT,
                "JSON: share that was let through in each hour of the day (UTC), null without "
                "footage.",
            ),
        ),
        key=("camera_id", "gate"),
        by_day=True,
    ),
    Table(
        "training_set",
        "training_set",
        "learning",
        "Pinned training sets: table versions, seed, and the hash of the manifest of clips.",
        (
            Column("training_set_id", TEXT, "Hash of everything below but the time."),
            Column("created_utc", MOMENT, "When it was cut.", "UTC"),
            Column("pins", TEXT, "JSON: table name to version."),
            Column("first_day", DAY, "First day of footage in it."),
            Column("last_day", DAY, "Last day of footage in it."),
            _FEATURE_SET,
            Column("taxonomy_version", WHOLE, "Version of the taxonomy.", minimum=1),
            Column("seed", WHOLE, "Seed of the split into folds.", minimum=0),
            Column("folds", WHOLE, "Number of folds.", minimum=2),
            Column("clips", WHOLE, "Clips in it.", minimum=1),
            Column("falls", WHOLE, "Distinct falls in it.", minimum=0),
            Column(
                "automatic_clips",
                WHOLE,
                "Clips among them that the champion labelled.",
                nullable=True,
                minimum=0,
            ),
            Column("manifest", TEXT, "Path of the manifest below the lake's root."),
            Column("manifest_sha256", TEXT, "SHA-256 of the manifest file."),
        ),
        key=("training_set_id",),
    ),
    Table(
        "candidate_model",
        "candidate_model",
        "learning",
        "Every model that was trained, with what is needed to rebuild it.",
        (
            Column("run_id", TEXT, "MLflow run."),
            Column("created_utc", MOMENT, "When training ended.", "UTC"),
            Column("training_set_id", TEXT, "The training set."),
            Column("algorithm", TEXT, "Name of the algorithm."),
            _FEATURE_SET,
            Column("settings", TEXT, "JSON: all settings, the seed among them."),
            Column(
                "threshold", REAL, "Threshold chosen on training folds only.", minimum=0, maximum=1
            ),
            Column("parameters", WHOLE, "Trainable parameters.", minimum=1),
            Column("git_commit", TEXT, "Commit of the code; 'unknown' outside a checkout."),
            Column("lock_sha256", TEXT, "SHA-256 of the lock file; 'unknown' where absent."),
        ),
        key=("run_id",),
        references=(Reference(("training_set_id",), "training_set"),),
    ),
    Table(
        "fold_scores",
        "candidate_model",
        "learning",
        "What networks that had not seen a segment made of it, in cross-validation.",
        (
            Column("run_id", TEXT, "MLflow run of the model."),
            _VIDEO,
            Column("fold", WHOLE, "The fold that the segment lies in.", minimum=0),
            Column(
                "threshold", REAL, "The fold's threshold, chosen without it.", minimum=0, maximum=1
            ),
            Column("end_s", REAL, "End of the window, from the segment's start.", "s", minimum=0),
            Column(
                "score", REAL, "Probability of a fall in the window.", "0-1", minimum=0, maximum=1
            ),
        ),
        key=("run_id", "video_id", "end_s"),
    ),
    Table(
        "evaluation",
        "evaluation",
        "learning",
        "How well a model finds falls, in events, over all footage and by slice.",
        (
            Column("run_id", TEXT, "MLflow run of the model."),
            Column("training_set_id", TEXT, "The set whose clips it was judged on."),
            Column(
                "role", TEXT, "What the model was when judged.", allowed=("candidate", "champion")
            ),
            Column(
                "slice",
                TEXT,
                "What the slice is made by.",
                allowed=EVALUATION_SLICES,
            ),
            Column("value", TEXT, "The slice's value; 'all' for everything."),
            Column("evaluated_utc", MOMENT, "When.", "UTC"),
            Column("falls", WHOLE, "Falls that happened.", minimum=0),
            Column("found", WHOLE, "Falls that were found.", minimum=0),
            Column("sensitivity", REAL, "Found over falls.", "0-1", True, 0, 1),
            Column("sensitivity_low", REAL, "Its 95 % interval (Wilson), from.", "0-1", True, 0, 1),
            Column("sensitivity_high", REAL, "Its 95 % interval (Wilson), to.", "0-1", True, 0, 1),
            Column("false_alarms", WHOLE, "Alarms that were no fall.", minimum=0),
            Column("camera_days", REAL, "Footage judged.", "d", minimum=0),
            Column(
                "false_alarms_per_camera_day",
                REAL,
                "False alarms over camera-days.",
                "1/d",
                True,
                0,
            ),
            Column("false_alarms_per_hour", REAL, "False alarms over hours.", "1/h", True, 0),
            Column(
                "precision", REAL, "Alarms that were a fall over all alarms.", "0-1", True, 0, 1
            ),
            Column("f1", REAL, "Harmonic mean of precision and sensitivity.", "0-1", True, 0, 1),
            Column(
                "delay_median_s", REAL, "Median time from a fall's start to its alarm.", "s", True
            ),
            Column("delay_p95_s", REAL, "95th percentile of the same.", "s", True),
            Column("threshold", REAL, "Threshold used.", minimum=0, maximum=1),
            Column(
                "false_alarms_per_camera_day_low",
                REAL,
                "Its exact 95 % interval (Poisson), from.",
                "1/d",
                True,
                0,
            ),
            Column(
                "false_alarms_per_camera_day_high",
                REAL,
                "Its exact 95 % interval (Poisson), to.",
                "1/d",
                True,
                0,
            ),
            Column("precision_low", REAL, "Its 95 % interval (Wilson), from.", "0-1", True, 0, 1),
            Column("precision_high", REAL, "Its 95 % interval (Wilson), to.", "0-1", True, 0, 1),
            Column(
                "f1_low", REAL, "Its 95 % interval (resampled scenes), from.", "0-1", True, 0, 1
            ),
            Column("f1_high", REAL, "Its 95 % interval (resampled scenes), to.", "0-1", True, 0, 1),
            Column(
                "delay_median_low_s", REAL, "Its 95 % interval (resampled scenes), from.", "s", True
            ),
            Column(
                "delay_median_high_s", REAL, "Its 95 % interval (resampled scenes), to.", "s", True
            ),
            Column(
                "delay_p95_low_s", REAL, "Its 95 % interval (resampled scenes), from.", "s", True
            ),
            Column(
                "delay_p95_high_s", REAL, "Its 95 % interval (resampled scenes), to.", "s", True
            ),
            Column("scenes", WHOLE, "Scenes that it rests on.", nullable=True, minimum=0),
        ),
        key=("run_id", "training_set_id", "role", "slice", "value"),
        references=(Reference(("training_set_id",), "training_set"),),
    ),
    Table(
        "comparison",
        "evaluation",
        "learning",
        "How a candidate differs from the champion on the same footage, by slice and figure.",
        (
            Column("run_id", TEXT, "MLflow run of the candidate."),
            Column("champion_run_id", TEXT, "MLflow run of the champion."),
            Column("training_set_id", TEXT, "The set whose clips both were judged on."),
            Column("evaluated_utc", MOMENT, "When.", "UTC"),
            Column("slice", TEXT, "What the slice is made by.", allowed=EVALUATION_SLICES),
            Column("value", TEXT, "The slice's value; 'all' for everything."),
            Column(
                "figure",
                TEXT,
                "The figure that is compared, a column of `evaluation`.",
                allowed=(
                    "sensitivity",
                    "precision",
                    "f1",
                    "false_alarms_per_camera_day",
                    "delay_median_s",
                    "delay_p95_s",
                ),
            ),
            Column("falls", WHOLE, "Falls in the slice.", minimum=0),
            Column("camera_days", REAL, "Footage in the slice.", "d", minimum=0),
            Column("scenes", WHOLE, "Scenes that are resampled.", minimum=0),
            Column("candidate", REAL, "The candidate's figure.", nullable=True),
            Column("champion", REAL, "The champion's figure.", nullable=True),
            Column("candidate_found", WHOLE, "Falls that the candidate found.", minimum=0),
            Column("champion_found", WHOLE, "Falls that the champion found.", minimum=0),
            Column("candidate_false_alarms", WHOLE, "The candidate's false alarms.", minimum=0),
            Column("champion_false_alarms", WHOLE, "The champion's false alarms.", minimum=0),
            Column("difference", REAL, "Candidate less champion.", nullable=True),
            Column(
                "low",
                REAL,
                "95 % interval of the difference (paired resamples), from.",
                nullable=True,
            ),
            Column("high", REAL, "95 % interval of the difference, to.", nullable=True),
            Column(
                "worse_share",
                REAL,
                "Share of resamples in which the candidate is worse.",
                "0-1",
                True,
                0,
                1,
            ),
        ),
        key=("run_id", "champion_run_id", "training_set_id", "slice", "value", "figure"),
        references=(Reference(("training_set_id",), "training_set"),),
    ),
    Table(
        "experiments",
        "experiments",
        "learning",
        "Every attempt at a detector: what it costs and what it brings, cross-validated.",
        (
            Column("attempt_id", TEXT, "Hash of all settings, feature sets and the training set."),
            Column("study", TEXT, "The study that first tried it."),
            Column("title", TEXT, "What tells it from the default settings."),
            Column("state", TEXT, "'failed' ones are tried again.", allowed=("finished", "failed")),
            Column("error", TEXT, "Why it failed.", nullable=True),
            Column("run_id", TEXT, "MLflow run; null where it failed before.", nullable=True),
            Column("created_utc", MOMENT, "When it ended.", "UTC"),
            Column("training_set_id", TEXT, "The training set."),
            Column("algorithm", TEXT, "Name of the algorithm."),
            Column("feature_sets", TEXT, "JSON: versions of the feature sets that it looks at."),
            Column("settings", TEXT, "JSON: all settings, the seed among them."),
            Column("pins", TEXT, "JSON: table name to the version that was read."),
            Column("seed", WHOLE, "Seed of training.", minimum=0),
            Column("segments", WHOLE, "Reviewed segments that it was judged on.", minimum=0),
            Column(
                "left_out",
                WHOLE,
                "Segments of the training set without those features, their files gone.",
                minimum=0,
            ),
            Column("falls", WHOLE, "Falls that happened.", nullable=True, minimum=0),
            Column("found", WHOLE, "Falls that were found.", nullable=True, minimum=0),
            Column("sensitivity", REAL, "Found over falls.", "0-1", True, 0, 1),
            Column("sensitivity_low", REAL, "Its 95 % interval (Wilson), from.", "0-1", True, 0, 1),
            Column("sensitivity_high", REAL, "Its 95 % interval (Wilson), to.", "0-1", True, 0, 1),
            Column("false_alarms", WHOLE, "Alarms that were no fall.", nullable=True, minimum=0),
            Column("camera_days", REAL, "Footage judged.", "d", nullable=True, minimum=0),
            Column(
                "false_alarms_per_camera_day",
                REAL,
                "False alarms over footage.",
                "1/d",
                nullable=True,
                minimum=0,
            ),
            Column("precision", REAL, "Right alarms over all alarms.", "0-1", True, 0, 1),
            Column("f1", REAL, "Harmonic mean of precision and sensitivity.", "0-1", True, 0, 1),
            Column("delay_median_s", REAL, "Fall's start to alarm, median.", "s", nullable=True),
            Column("delay_p95_s", REAL, "Fall's start to alarm, 95 %.", "s", nullable=True),
            Column(
                "smooth_sensitivity",
                REAL,
                "Sensitivity near a stated rate of false alarms, smoothed; see `learning.tuning`.",
                "0-1",
                True,
                0,
                1,
            ),
            Column(
                "threshold",
                REAL,
                "Threshold of a model that learned from all folds.",
                "0-1",
                True,
                0,
                1,
            ),
            Column("parameters", WHOLE, "Trained numbers of the model.", nullable=True, minimum=0),
            Column(
                "extract_s_per_hour",
                REAL,
                "One process's time for an hour of footage, its sets alone; more if busy.",
                "s",
                nullable=True,
                minimum=0,
            ),
            Column(
                "train_s",
                REAL,
                "Seconds to learn one model from everything.",
                "s",
                nullable=True,
                minimum=0,
            ),
            Column(
                "score_ms_per_window",
                REAL,
                "Time on one core to score a window, behind the feature sets.",
                "ms",
                nullable=True,
                minimum=0,
            ),
            Column("model_digest", TEXT, "SHA-256 over the model's files.", nullable=True),
            Column("git_commit", TEXT, "Commit of the code; 'unknown' outside a checkout."),
            Column("lock_sha256", TEXT, "SHA-256 of the lock file; 'unknown' where absent."),
        ),
        key=("attempt_id",),
        references=(Reference(("training_set_id",), "training_set"),),
    ),
    Table(
        "tuning_study",
        "tuning_study",
        "learning",
        "Every trial of a study that searches for the best settings.",
        (
            Column("study", TEXT, "Name of the study."),
            Column("trial", WHOLE, "Number of the trial in the study, from 0.", minimum=0),
            Column(
                "state",
                TEXT,
                "'pruned' ones were given up after some folds; 'failed' ones raised an error or "
                "were broken off.",
                allowed=("complete", "pruned", "failed"),
            ),
            Column("created_utc", MOMENT, "When it began.", "UTC"),
            Column("ended_utc", MOMENT, "When it ended.", "UTC"),
            Column("training_set_id", TEXT, "The training set."),
            Column("algorithm", TEXT, "Name of the algorithm."),
            Column("params", TEXT, "JSON: the settings that were searched."),
            Column("settings", TEXT, "JSON: all settings of the attempt."),
            Column("pins", TEXT, "JSON: table name to the version that was read."),
            Column("folds", WHOLE, "Folds that were judged.", minimum=0),
            Column(
                "value",
                REAL,
                "Smoothed sensitivity at the study's false-alarm rate, over the folds judged.",
                "0-1",
                True,
                0,
                1,
            ),
            Column(
                "sensitivity",
                REAL,
                "Falls found at the lowest threshold that keeps to the rate.",
                "0-1",
                True,
                0,
                1,
            ),
            Column("error", TEXT, "Why it failed or was given up.", nullable=True),
            Column("run_id", TEXT, "MLflow run.", nullable=True),
        ),
        key=("study", "trial"),
        references=(Reference(("training_set_id",), "training_set"),),
    ),
    Table(
        "registered_model",
        "registered_model",
        "delivery",
        "Every version that entered the registry, and as what.",
        (
            _MODEL,
            Column("run_id", TEXT, "MLflow run of the model."),
            Column("alias", TEXT, "The alias it was given.", allowed=("champion", "challenger")),
            Column("registered_utc", MOMENT, "When.", "UTC"),
            Column("training_set_id", TEXT, "The training set."),
            Column("reason", TEXT, "Why it was registered."),
        ),
        key=("model_version", "alias"),
    ),
    Table(
        "predictions",
        "predictions",
        "operation",
        "One score per scored window of a segment.",
        (
            _DAY,
            _VIDEO,
            _CAMERA,
            _MODEL,
            _FEATURE_SET,
            Column("end_s", REAL, "End of the window, from the segment's start.", "s", minimum=0),
            Column(
                "track",
                WHOLE,
                "The person with the highest score; null where nobody is seen.",
                nullable=True,
                minimum=0,
            ),
            Column(
                "score", REAL, "Probability of a fall in the window.", "0-1", minimum=0, maximum=1
            ),
        ),
        key=("video_id", "model_version", "end_s"),
        by_day=True,
        references=(Reference(("video_id",), "videos"),),
    ),
    Table(
        "alerts",
        "alerts",
        "operation",
        "Events that look like a fall; a site chooses which kinds a nurse is told of.",
        (
            _DAY,
            Column("alert_id", TEXT, "Stays the same however often the day is recomputed."),
            _CAMERA,
            Column("ward", TEXT, "The ward."),
            Column("room", TEXT, "The room."),
            _VIDEO,
            _MODEL,
            Column("start_utc", MOMENT, "When the event starts.", "UTC"),
            Column("raised_utc", MOMENT, "When the score crossed the threshold.", "UTC"),
            Column("end_utc", MOMENT, "When the event ends.", "UTC"),
            Column("start_s", REAL, "Start, from the segment's start.", "s"),
            Column("end_s", REAL, "End, from the segment's start.", "s"),
            Column("score", REAL, "Highest score of the event.", "0-1", minimum=0, maximum=1),
            Column("still", TEXT, "Picture of the moment, below the lake's root.", nullable=True),
            Column(
                "kind",
                TEXT,
                "Onto a bed, out of one, or another fall (also where that cannot be told); null in "
                "alerts that were raised before kinds were told apart.",
                nullable=True,
                allowed=ALERT_KINDS,
            ),
        ),
        key=("alert_id",),
        by_day=True,
        references=(Reference(("video_id",), "videos"),),
    ),
    Table(
        "alert_deliveries",
        "alerts",
        "operation",
        "Every attempt to deliver an alert.",
        (
            Column("alert_id", TEXT, "The alert; also the idempotency key that receivers get."),
            Column("channel", TEXT, "How it was sent.", allowed=("log", "webhook")),
            Column("attempt_utc", MOMENT, "When.", "UTC"),
            Column("delivered", FLAG, "Whether the receiver took it."),
            Column("detail", TEXT, "The receiver's answer or the error."),
        ),
        key=("alert_id", "channel", "attempt_utc"),
    ),
    Table(
        "alert_feedback",
        "alerts",
        "operation",
        "What staff answered to alerts; the newest answer counts.",
        (
            Column("alert_id", TEXT, "The alert."),
            Column("at_utc", MOMENT, "When it was answered.", "UTC"),
            Column("by", TEXT, "Who answered."),
            Column(
                "verdict",
                TEXT,
                "What staff found.",
                allowed=("fall", "no_fall", "unsure"),
            ),
        ),
        key=("alert_id", "at_utc"),
    ),
    Table(
        "reported_falls",
        "alerts",
        "operation",
        "Falls that staff found though no alert was raised.",
        (
            Column("report_id", TEXT, "A hash of camera and time."),
            _CAMERA,
            Column("from_utc", MOMENT, "When it happened at the earliest.", "UTC"),
            Column("until_utc", MOMENT, "When it happened at the latest: it was found.", "UTC"),
            Column("by", TEXT, "Who reported it."),
            Column("reported_utc", MOMENT, "When it was reported.", "UTC"),
            Column(
                "number",
                WHOLE,
                "The gateway's running number; null where the command line told it.",
                nullable=True,
                minimum=1,
            ),
        ),
        key=("report_id",),
    ),
    Table(
        "camera_health",
        "camera_health",
        "operation",
        "Telemetry that the cameras' boxes report.",
        (
            _DAY,
            _CAMERA,
            Column("at_utc", MOMENT, "When it was measured.", "UTC"),
            Column("cpu_percent", REAL, "Processor in use.", "%", minimum=0, maximum=100),
            Column("memory_percent", REAL, "Memory in use.", "%", minimum=0, maximum=100),
            Column("bandwidth_kbps", REAL, "Stream's bandwidth.", "kbit/s", minimum=0),
            Column("power", TEXT, "Power state.", allowed=("mains", "battery", "off", "unknown")),
            *_STREAM_HEALTH,
        ),
        key=("camera_id", "at_utc"),
        by_day=True,
    ),
    Table(
        "edge_alerts",
        "edge_alerts",
        "operation",
        "Alerts that boxes raised on live streams, as the gateway took them.",
        (
            _DAY,
            Column("alert_id", TEXT, "Made by the box; the gateway counts it once."),
            Column("number", WHOLE, "The gateway's running number.", minimum=1),
            _BOX,
            _CAMERA,
            _MODEL,
            Column("start_utc", MOMENT, "When the event starts.", "UTC"),
            Column("raised_utc", MOMENT, "When the score crossed the threshold.", "UTC"),
            Column("received_utc", MOMENT, "When the gateway had it.", "UTC"),
            Column("score", REAL, "Score at that moment.", "0-1", minimum=0, maximum=1),
            Column("kind", TEXT, "What kind of fall.", allowed=ALERT_KINDS),
            Column("shadow", FLAG, "Raised by a version that nobody is told of."),
        ),
        key=("alert_id",),
        by_day=True,
    ),
    Table(
        "ward_answers",
        "edge_alerts",
        "operation",
        "What the ward said of the boxes' alerts; all of it, in the order it was said.",
        (
            _DAY,
            Column("alert_id", TEXT, "The alert."),
            Column("number", WHOLE, "The gateway's running number.", minimum=1),
            _CAMERA,
            Column("answer", TEXT, "What was said.", allowed=WARD_ANSWERS),
            Column("by", TEXT, "Who said it."),
            Column("at_utc", MOMENT, "When.", "UTC"),
        ),
        key=("alert_id", "number"),
        by_day=True,
    ),
    Table(
        "edge_reports",
        "edge_alerts",
        "operation",
        "Telemetry that boxes sent to the gateway, a row per camera, minute and watching version.",
        (
            _DAY,
            Column("number", WHOLE, "The gateway's running number.", minimum=1),
            _CAMERA,
            Column("at_utc", MOMENT, "When it was measured.", "UTC"),
            Column("cpu_percent", REAL, "Processor in use.", "%", minimum=0, maximum=100),
            Column("memory_percent", REAL, "Memory in use.", "%", minimum=0, maximum=100),
            Column("bandwidth_kbps", REAL, "Stream's bandwidth.", "kbit/s", minimum=0),
            Column("power", TEXT, "Power state.", allowed=("mains", "battery", "off", "unknown")),
            *_STREAM_HEALTH,
            Column(
                "shadow",
                FLAG,
                "Told by a version of whose alerts nobody is told; null: an older gateway's.",
                nullable=True,
            ),
        ),
        key=("camera_id", "at_utc"),
        by_day=True,
    ),
    Table(
        "edge_updates",
        "edge_alerts",
        "operation",
        "What boxes said of the packages that they were given.",
        (
            Column("number", WHOLE, "The gateway's running number.", minimum=1),
            _BOX,
            Column("at_utc", MOMENT, "When.", "UTC"),
            Column(
                "package", TEXT, "SHA-256 of the package's manifest; empty where none is meant."
            ),
            Column(
                "state",
                TEXT,
                "What became of it.",
                allowed=("installed", "refused", "rolled_back", "healthy"),
            ),
            Column("detail", TEXT, "Why, in words."),
        ),
        key=("box", "number"),
    ),
    Table(
        "rollout",
        "rollout",
        "delivery",
        "Every decision of every rollout, with the numbers that it was taken on.",
        (
            _ROLLOUT,
            Column("number", WHOLE, "Number of the decision, from 0.", minimum=0),
            Column("at_utc", MOMENT, "When it was taken.", "UTC"),
            Column("evidence_day", DAY, "Newest day of evidence."),
            Column("effective_day", DAY, "First day of footage for which it holds."),
            Column("champion", TEXT, "Version that is to be replaced."),
            Column("challenger", TEXT, "Version that is being proved."),
            Column("action", TEXT, "What was decided."),
            Column("state", TEXT, "State of the rollout from then on.", allowed=ROLLOUT_STATES),
            Column("step", WHOLE, "Number of the step from then on, from 0.", minimum=0),
            Column(
                "share",
                REAL,
                "Cameras whose alerts the challenger raises from then on.",
                "0-1",
                minimum=0,
                maximum=1,
            ),
            Column("by", TEXT, "The rule, or who gave the order."),
            Column("sentence", TEXT, "The decision in one sentence."),
            Column("numbers", TEXT, "JSON: e-values, counts per arm, guards, library, order."),
            Column("settings", TEXT, "JSON: the settings that it was taken under."),
        ),
        key=("rollout_id", "number"),
    ),
    Table(
        "rollout_cameras",
        "rollout",
        "delivery",
        "Which camera has which place, from which decision on.",
        (
            _ROLLOUT,
            Column("number", WHOLE, "The decision from which it holds.", minimum=0),
            _CAMERA,
            Column("stratum", TEXT, "Ward, resolution and feature set in one."),
            Column("place", TEXT, "Its place.", allowed=ROLLOUT_PLACES),
        ),
        key=("rollout_id", "number", "camera_id"),
    ),
    Table(
        "rollout_evidence",
        "rollout",
        "delivery",
        "What each version did on each camera and day. Rows are only added: as of a decision, the "
        "row with the highest number up to its own counts.",
        (
            _ROLLOUT,
            Column("number", WHOLE, "The decision for which it was counted.", minimum=0),
            Column("footage_day", DAY, "Day of the footage, UTC."),
            _CAMERA,
            Column("stratum", TEXT, "Ward, resolution and feature set in one."),
            Column("role", TEXT, "Whose counts they are.", allowed=("champion", "challenger")),
            Column("shadow", FLAG, "Whether its alerts were shown to nobody."),
            Column("camera_days", REAL, "How long it watched.", "d", minimum=0, maximum=1),
            Column("alerts", WHOLE, "Episodes of alarms, confirmed ones included.", minimum=0),
            Column("confirmed", WHOLE, "Of them, those that were a fall.", minimum=0),
            Column("dismissed", WHOLE, "Of them, those that staff dismissed.", minimum=0),
            Column(
                "abstained_h", REAL, "Time in which it could not judge.", "h", minimum=0, maximum=24
            ),
            Column("delays_s", TEXT, "JSON: seconds from a confirmed fall's start to its alarm."),
        ),
        key=("rollout_id", "number", "footage_day", "camera_id", "role", "shadow"),
    ),
    Table(
        "edge_package",
        "edge_package",
        "delivery",
        "Packages for the boxes; each was compared with its model before it stood here.",
        (
            Column("sequence", WHOLE, "Grows with every package.", minimum=1),
            _MODEL,
            Column("runtime", TEXT, "Hash of the program in it: our code and its libraries."),
            _FEATURE_SET,
            Column("built_utc", MOMENT, "When it was built.", "UTC"),
            Column("precision", TEXT, "Number format of its network.", allowed=PRECISIONS),
            Column("archive", TEXT, "The archive, below the lake's root."),
            Column("archive_sha256", TEXT, "Hash of the archive."),
            Column("archive_bytes", WHOLE, "Size of the archive.", "B", minimum=1),
            Column("manifest_sha256", TEXT, "Hash of its signed manifest."),
            Column("unpacked_bytes", WHOLE, "Size on the box.", "B", minimum=1),
            Column("start_s", REAL, "From its start to the end of its self-test.", "s", minimum=0),
            Column("segments", WHOLE, "Segments on which it was compared.", minimum=0),
            Column("windows", WHOLE, "Windows on which it was compared.", minimum=0),
            Column("largest_difference", REAL, "Of two scores of one window.", "0-1", minimum=0),
            Column("reason", TEXT, "Why this number format."),
        ),
        key=("sequence",),
    ),
    Table(
        "edge_variants",
        "edge_package",
        "delivery",
        "Number formats that were tried for a package, judged on the same footage.",
        (
            Column("sequence", WHOLE, "The package.", minimum=1),
            Column("precision", TEXT, "Number format.", allowed=PRECISIONS),
            Column("falls", WHOLE, "Labelled falls.", minimum=0),
            Column("found", WHOLE, "Falls that were found.", minimum=0),
            Column("false_alarms", WHOLE, "Alarms without a fall.", minimum=0),
            Column("largest_difference", REAL, "To the framework's scores.", "0-1", minimum=0),
            Column("window_ms", REAL, "Median time per window, one at a time.", "ms", minimum=0),
            Column("head_bytes", WHOLE, "Size of the network's file.", "B", minimum=1),
            Column("chosen", FLAG, "Whether the package holds it."),
        ),
        key=("sequence", "precision"),
    ),
    Table(
        "edge_parity",
        "edge_package",
        "delivery",
        "The package's own run over each segment of the evaluation, beside the framework's.",
        (
            Column("sequence", WHOLE, "The package.", minimum=1),
            _VIDEO,
            _CAMERA,
            Column("windows", WHOLE, "Scored moments.", minimum=0),
            Column("largest_difference", REAL, "Of two scores of one moment.", "0-1", minimum=0),
            Column("events", WHOLE, "Events, the same in both.", minimum=0),
            Column(
                "known_late_s",
                REAL,
                "How long after its moment an alarm could be known live, at most; null without.",
                "s",
                nullable=True,
                minimum=0,
            ),
        ),
        key=("sequence", "video_id"),
    ),
    Table(
        "upkeep",
        "upkeep",
        "monitoring",
        "What maintenance did to each table of the lake, and what the table takes.",
        (
            Column("at_utc", MOMENT, "When it was done.", "UTC"),
            Column("table", TEXT, "Name of the table."),
            Column("files_before", WHOLE, "Files of its latest version before it.", minimum=0),
            Column("files_after", WHOLE, "And after it.", minimum=0),
            Column("bytes_before", WHOLE, "Size of the files before it.", "B", minimum=0),
            Column("bytes_after", WHOLE, "And after it.", "B", minimum=0),
            Column("rows", WHOLE, "Rows of the table.", minimum=0),
            Column(
                "files_removed",
                WHOLE,
                "Files of old versions and of killed writers that were removed.",
                minimum=0,
            ),
            Column(
                "days_left",
                WHOLE,
                "Days whose small files were left because others wrote beside.",
                minimum=0,
            ),
            Column(
                "footage_hours",
                REAL,
                "Hours of footage on the days of a feature table, summed over cameras.",
                "h",
                nullable=True,
                minimum=0,
            ),
            Column(
                "bytes_per_camera_hour",
                REAL,
                "What an hour of footage takes in a feature table.",
                "B/h",
                nullable=True,
                minimum=0,
            ),
        ),
        key=("at_utc", "table"),
    ),
    Table(
        "site_health",
        "site_health",
        "monitoring",
        "What was and is wrong with cameras, disk, runs and gateway, and since when.",
        (
            Column("problem_id", TEXT, "One problem from its beginning to its end."),
            Column("kind", TEXT, "What sort; `monitoring.settings` names all."),
            Column("subject", TEXT, "The camera, box, job, run or asset."),
            Column("ward", TEXT, "The ward concerned; empty: none in particular."),
            Column("since_utc", MOMENT, "Since when, as far as was known when found.", "UTC"),
            Column("found_utc", MOMENT, "When it was found.", "UTC"),
            Column(
                "gone_utc",
                MOMENT,
                "Since when it is not found any more; null while it lasts.",
                "UTC",
                nullable=True,
            ),
            Column("sentence", TEXT, "What is wrong."),
            Column("advice", TEXT, "What to do."),
        ),
        key=("problem_id",),
    ),
    Table(
        "storage_use",
        "site_health",
        "monitoring",
        "What the disk and each table of the lake take, about once a day.",
        (
            Column("at_utc", MOMENT, "When it was measured.", "UTC"),
            Column("what", TEXT, "A table, '(disk)', or '(files)': the lake's pictures."),
            Column("bytes", WHOLE, "What it takes, old versions included.", "B", minimum=0),
            Column("files", WHOLE, "Number of files; null for the disk.", nullable=True, minimum=0),
            Column(
                "free_bytes", WHOLE, "Free on the disk; null else.", "B", nullable=True, minimum=0
            ),
        ),
        key=("at_utc", "what"),
    ),
    Table(
        "technician_deliveries",
        "site_health",
        "monitoring",
        "Every attempt to tell the technician of a problem.",
        (
            Column("problem_id", TEXT, "The problem."),
            Column("event", TEXT, "What is told.", allowed=("begin", "again", "end")),
            Column("number", WHOLE, "Of what is told again, from 1; else 0.", minimum=0),
            Column("channel", TEXT, "How it was sent.", allowed=("log", "webhook")),
            Column("receiver", TEXT, "Whose webhook; empty: the site's."),
            Column("attempt_utc", MOMENT, "When.", "UTC"),
            Column("delivered", FLAG, "Whether the receiver took it."),
            Column("detail", TEXT, "The receiver's answer or the error."),
        ),
        key=("problem_id", "event", "number", "channel", "receiver", "attempt_utc"),
    ),
    Table(
        "camera_profile",
        "camera_profile",
        "monitoring",
        "What a camera's hour was like: the mean of each figure over its windows.",
        (
            _DAY,
            _CAMERA,
            _HOUR,
            Column("figure", TEXT, "Name of the figure; a column of `features`, or of its own."),
            Column("value", REAL, "Mean over the hour's windows that have it."),
            Column("windows", WHOLE, "So many windows that do not overlap.", minimum=1),
        ),
        key=("camera_id", "day", "hour", "figure"),
        by_day=True,
    ),
    Table(
        "camera_facts",
        "camera_profile",
        "monitoring",
        "What is exactly known of a camera's day: resolution, codec, frame rate, firmware, clock.",
        (
            _DAY,
            _CAMERA,
            Column("fact", TEXT, "Name of the fact."),
            Column("value", TEXT, "What it is."),
            Column(
                "share", REAL, "Share of the day's footage or reports.", "0-1", minimum=0, maximum=1
            ),
        ),
        key=("camera_id", "day", "fact", "value"),
        by_day=True,
    ),
    Table(
        "scenes",
        "camera_profile",
        "monitoring",
        "What a camera sees behind the people, by quarter of the day: coarse and blurred.",
        (
            _DAY,
            _CAMERA,
            Column("part", WHOLE, "Quarter of the day, UTC, from 0.", minimum=0, maximum=3),
            Column("picture", TEXT, "Blurred picture, below the lake's root."),
            Column("cells", PACKED, "Coarse luma of the empty scene, as `drift.scenes` packs it."),
            Column("looks", WHOLE, "Pictures that it is the median of.", minimum=1),
        ),
        key=("camera_id", "day", "part"),
        by_day=True,
    ),
    Table(
        "camera_embeddings",
        "camera_profile",
        "monitoring",
        "Mean embedding of each camera's hour, where the site computes embeddings.",
        (
            _DAY,
            _CAMERA,
            _HOUR,
            _FEATURE_SET,
            Column("samples", WHOLE, "Samples that it is the mean of.", minimum=1),
            Column("values", PACKED, "The vector, float32, little endian."),
        ),
        key=("camera_id", "day", "hour", "feature_set"),
        by_day=True,
    ),
    Table(
        "ordinary_days",
        "drift_reference",
        "monitoring",
        "The camera-days that are ordinary to a model, up to the newest that it learned from.",
        (
            _MODEL,
            _CAMERA,
            Column("recorded_day", DAY, "The day of `camera_profile`."),
            _FEATURE_SET,
            Column(
                "regime",
                WHOLE,
                "Which of the camera's ordinary lives it belongs to, from 0; a change that was "
                "learned or accepted begins another.",
                minimum=0,
            ),
        ),
        key=("model_version", "camera_id", "recorded_day"),
    ),
    Table(
        "drift_signals",
        "drift_report",
        "monitoring",
        "Each test of each camera and day against the champion's ordinary days.",
        (
            _DAY,
            _MODEL,
            _CAMERA,
            Column("signal", TEXT, "The figure that was tested."),
            Column("kind", TEXT, "What sort of test.", allowed=DRIFT_SIGNALS),
            Column("reference", TEXT, "What it was."),
            Column("today", TEXT, "What it is."),
            Column("statistic", REAL, "The test's statistic.", nullable=True),
            Column("p_value", REAL, "The test's p-value.", nullable=True, minimum=0, maximum=1),
            Column("drifted", FLAG, "Whether it counts as drift."),
            Column("before", REAL, "What it was, where it is a number.", nullable=True),
            Column("after", REAL, "What it is, where it is a number.", nullable=True),
            Column(
                "effect",
                REAL,
                "The change over what is just felt of this figure; 1 and more is large.",
                nullable=True,
                minimum=0,
            ),
        ),
        key=("day", "model_version", "camera_id", "signal"),
        by_day=True,
    ),
    Table(
        "drift_causes",
        "drift_report",
        "monitoring",
        "What happened to each camera that drifted, by its most likely name.",
        (
            _DAY,
            _MODEL,
            _CAMERA,
            Column("cause", TEXT, "What happened.", allowed=DRIFT_CAUSES),
            Column("since", DAY, "First day of the stretch in which it was seen."),
            Column("confirmed", FLAG, "Exact, or seen on enough days: it counts as drift."),
            Column(
                "p_value",
                REAL,
                "The smallest of its signals, adjusted; null where it is exact.",
                nullable=True,
                minimum=0,
                maximum=1,
            ),
            Column("words", TEXT, "What changed, in words."),
            Column("evidence", TEXT, "JSON list of its signals."),
        ),
        key=("day", "model_version", "camera_id", "cause"),
        by_day=True,
    ),
    Table(
        "drift_report",
        "drift_report",
        "monitoring",
        "The day's verdict in words.",
        (
            _DAY,
            _MODEL,
            Column("drifted", FLAG, "Whether the day differs from what the champion learned."),
            Column(
                "drift_id",
                TEXT,
                "Hash of model, cameras and causes: the same drift has the same id each day.",
                nullable=True,
            ),
            Column("cameras", TEXT, "JSON list of the cameras that drifted."),
            Column("verdict", TEXT, "What changed, in words."),
            Column("windows", WHOLE, "Windows compared.", minimum=0),
        ),
        key=("day", "model_version"),
        by_day=True,
    ),
    Table(
        "drift_answers",
        "drift_answers",
        "monitoring",
        "What was done about each drift, step by step, and what is asked of people.",
        (
            Column("at_utc", MOMENT, "When.", "UTC"),
            Column("episode_id", TEXT, "The drift: one cause on some cameras since some day."),
            _MODEL,
            Column("cause", TEXT, "What happened.", allowed=DRIFT_CAUSES),
            Column("cameras", TEXT, "JSON list of the cameras."),
            Column("since", DAY, "The drift's first day."),
            Column("answer", TEXT, "What is done about it.", allowed=DRIFT_ANSWERS),
            Column("state", TEXT, "How far it is.", allowed=DRIFT_ANSWER_STATES),
            Column("sentence", TEXT, "What was done or is asked, with the numbers."),
            Column("evidence", TEXT, "JSON: the numbers behind the sentence."),
            Column("run_id", TEXT, "The run that wrote it."),
        ),
        key=("episode_id", "answer", "at_utc"),
    ),
)

TABLES: Mapping[str, Table] = {table.name: table for table in _TABLES}
"""All tables by name."""


def table(name: str) -> Table:
    """The table of that name; KeyError names the ones there are."""
    try:
        return TABLES[name]
    except KeyError:
        raise KeyError(f"no table {name!r}; there are: {', '.join(TABLES)}") from None


def one_row(name: str, row: Mapping[str, object]) -> pl.DataFrame:
    """A frame of one row of the table `name`."""
    return pl.DataFrame([row], schema=table(name).schema)
