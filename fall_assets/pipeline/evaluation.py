"""An evaluation as a whole: slices, comparison, calibration, leakage, and the report in the lake.

What belongs here: reading what describes the footage, putting the parts together, writing the
report's files. What does not: what models make of the footage (`learning`), the figures
themselves (`fall_assets.learning`), the registry (`delivery`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from fall_assets.delivery.gate import Verdict, judge_candidate
from fall_assets.errors import FallAssetsError
from fall_assets.learning.bootstrap import RESAMPLES
from fall_assets.learning.calibration import Calibration, calibration, certain_windows
from fall_assets.learning.leakage import Leakage, LeakageSettings, find_leaks
from fall_assets.learning.metrics import Row, VideoOutcome
from fall_assets.learning.slices import Traits, compare, sliced_metrics, traits_of
from fall_assets.pipeline.files import files_of
from fall_assets.pipeline.work import Work

if TYPE_CHECKING:
    from fall_assets.learning.contact_sheets import Moment, Sheet
    from fall_assets.learning.dataset import LearningSet
    from fall_assets.learning.evaluate import CrossValidation
    from fall_assets.learning.report import Evaluation
    from fall_assets.pipeline.training_sets import TrainingSet

FOLDER = "evaluations"
"""Where reports and cards lie among the lake's files."""

SHEETS = 40
"""So many missed falls and false alarms get pictures; all of them get their sentence."""

SHEETS_OF_AN_ATTEMPT = 8
"""And so many in the tracking store, of each attempt."""


@dataclass(frozen=True)
class Judgement:
    """What one model made of all segments: its run in MLflow, and the outcomes."""

    run_id: str
    outcomes: Sequence[VideoOutcome]


@dataclass(frozen=True)
class Assessment:
    """All that an evaluation yields.

    Attributes:
        rows: of the table `evaluation`, of candidate and champion.
        comparisons: of the table `comparison`; none without a champion.
        verdict: of the gate, under the site's rules.
        calibration: of the candidate.
        leakage: what the folds share.
        plots: PNGs by title.
        report: the HTML page's path in the lake.
        card: the model card's.
        missed: falls that the candidate missed.
        false_alarms: its false alarms.
    """

    rows: list[Row]
    comparisons: list[Row]
    verdict: Verdict
    calibration: Calibration
    leakage: Leakage
    plots: dict[str, bytes]
    report: str
    card: str
    missed: int
    false_alarms: int


@dataclass(frozen=True)
class Footage:
    """What is known of the segments of a training set beside their labels and tracks."""

    videos: pl.DataFrame
    cameras: pl.DataFrame
    traits: Mapping[str, Traits] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)


def assess(
    work: Work,
    training_set: TrainingSet,
    learning_set: LearningSet,
    candidate: Judgement,
    champion: Judgement | None = None,
    *,
    evaluated_utc: datetime,
    about: Mapping[str, Any] | None = None,
    robustness: Sequence[Row] = (),
    resamples: int = RESAMPLES,
    sheets: int = SHEETS,
) -> Assessment:
    """Everything about a candidate, beside the champion; writes report and card into the lake.

    Nothing is written into tables: `rows` and `comparisons` are theirs.

    Args:
        work: the site and its lake.
        training_set: what it learned from.
        learning_set: the same, read.
        candidate: outcomes of all reviewed segments, by models that had not seen them.
        champion: of the same segments.
        evaluated_utc: when.
        about: plain facts for the report, in order.
        robustness: rows of `learning.robustness.losses`, where they were measured.
        resamples: of scenes, for intervals.
        sheets: how many contact sheets to take.
    """
    from fall_assets.learning.contact_sheets import moments as all_moments
    from fall_assets.learning.report import Evaluation

    footage = read_footage(work, training_set, learning_set)
    rows = sliced_metrics(candidate.outcomes, footage.traits, resamples=resamples)
    beside: list[Row] = []
    comparisons: list[Row] = []
    if champion is not None:
        beside = sliced_metrics(champion.outcomes, footage.traits, resamples=resamples)
        comparisons = compare(
            candidate.outcomes, champion.outcomes, footage.traits, resamples=resamples
        )
    named = {"training_set_id": training_set.id, "evaluated_utc": evaluated_utc}
    verdict = judge_candidate(
        {**named, **rows[0]},
        {**named, **beside[0]} if beside else None,
        work.site.settings.gate,
        comparisons,
    )
    scenes = {video_id: own.scene or video_id for video_id, own in footage.traits.items()}
    videos = [item.video for item in candidate.outcomes]
    found = calibration(certain_windows(videos, learning_set.clips, scenes))
    leakage = find_leaks(
        learning_set,
        footage.videos,
        footage.groups,
        LeakageSettings(),
    )
    plots = plots_of(candidate.outcomes, rows, found)
    moments = all_moments(candidate.outcomes, learning_set.tracks, footage.traits)
    evaluation = Evaluation(
        candidate.run_id,
        training_set.id,
        evaluated_utc,
        rows,
        about=about or {},
        champion=beside,
        champion_run=None if champion is None else champion.run_id,
        comparisons=comparisons,
        calibration=found,
        leakage=leakage,
        verdict="passed" if verdict.passed else "refused",
        reasons=verdict.reasons,
        plots=plots,
        sheets=take_sheets(work, footage, learning_set, moments, sheets),
        left_out=max(0, len(moments) - sheets),
        robustness=robustness,
    )
    report, card = write_report(work, evaluation)
    of_both = [(candidate.run_id, "candidate", rows)]
    if champion is not None:
        of_both.append((champion.run_id, "champion", beside))
    return Assessment(
        [
            {"run_id": run_id, "role": role, **named, **row}  # type: ignore[dict-item]
            for run_id, role, own in of_both
            for row in own
        ],
        [
            {
                "run_id": candidate.run_id,
                "champion_run_id": champion.run_id,
                **named,  # type: ignore[dict-item]
                **row,
            }
            for row in comparisons
            if champion is not None
        ],
        verdict,
        found,
        leakage,
        plots,
        report,
        card,
        sum(moment.kind == "missed fall" for moment in moments),
        sum(moment.kind == "false alarm" for moment in moments),
    )


def read_footage(work: Work, training_set: TrainingSet, learning_set: LearningSet) -> Footage:
    """Videos and cameras as they were pinned, and what each segment is.

    Light comes from the newest rows of `features`, which no training set pins; a segment without
    any there counts as `unknown`.
    """
    manifest = training_set.columns(("day", "video_id", "split_group")).unique("video_id")
    days = manifest["day"].unique().sort().to_list()
    ids = list(learning_set.truths)
    mine = pl.col("video_id").is_in(ids)
    pins = training_set.pins
    videos = work.lake.read("videos", days=days, version=pins.get("videos"), where=mine)
    cameras = work.lake.read("cameras", version=pins.get("cameras"))
    features = work.lake.read(
        "features",
        days=days,
        columns=["video_id", "brightness"],
        where=mine & (pl.col("feature_set") == learning_set.feature_set),
    )
    traits = traits_of(videos, cameras, features, learning_set.tracks)
    groups = dict(manifest.select("video_id", "split_group").iter_rows())
    return Footage(videos, cameras, traits, groups)


def check_leakage(
    work: Work,
    training_set: TrainingSet,
    learning_set: LearningSet,
    settings: LeakageSettings | None = None,
) -> Leakage:
    """What the folds of a training set share; for a check that asks for nothing else."""
    footage = read_footage(work, training_set, learning_set)
    return find_leaks(learning_set, footage.videos, footage.groups, settings)


def plots_of(
    outcomes: Sequence[VideoOutcome], rows: Sequence[Row], found: Calibration
) -> dict[str, bytes]:
    """The plots of an evaluation by title, as PNG."""
    from fall_assets.learning import plots

    return {
        "sensitivity against false alarms": plots.sensitivity_curve(outcomes),
        "sensitivity by slice": plots.slice_intervals(rows),
        "precision and recall": plots.precision_recall(outcomes),
        "calibration": plots.reliability(found),
        "confusion": plots.confusion(outcomes),
        "detection delay": plots.delays(outcomes),
    }


def take_sheets(
    work: Work,
    footage: Footage,
    learning_set: LearningSet,
    moments: Sequence[Moment],
    limit: int = SHEETS,
) -> list[Sheet]:
    """A contact sheet of each moment, in order; after `limit` of them without pictures.

    Missed falls and false alarms share the limit evenly, as far as there are both.
    """
    from fall_assets.learning.contact_sheets import Sheet, take

    missed = [moment for moment in moments if moment.kind == "missed fall"]
    others = [moment for moment in moments if moment.kind != "missed fall"]
    of_missed = max(limit - limit // 2, limit - len(others))
    chosen = [*missed[:of_missed], *others[: limit - min(of_missed, len(missed))]]
    wanted = [moment.video_id for moment in chosen]
    # Deletions after the set was cut are known to the newest rows only.
    days = footage.videos.filter(pl.col("video_id").is_in(wanted))["day"].unique().to_list()
    rows = work.lake.read("videos", days=days, where=pl.col("video_id").is_in(wanted))
    films = files_of(work, rows)
    cameras = {row["camera_id"]: row for row in footage.cameras.iter_rows(named=True)}
    store = work.footage
    ours = work.site.settings.features.detector.version
    taken = []
    for moment in moments:
        if moment not in chosen:
            taken.append(Sheet(moment, None))
            continue
        camera = cameras.get(moment.camera_id, {})
        try:
            sheet = take(
                moment,
                store.stage(films[moment.video_id]),
                learning_set.tracks[moment.video_id],
                crop=work.looked_at(camera.get("crop")),
                # From above the network takes other things for heads, and key points of other sets
                # may be those of another part of the picture.
                coarse=camera.get("view") == "ceiling" or learning_set.feature_set != ours,
            )
        except (FallAssetsError, OSError, KeyError) as error:
            why = "its footage is gone" if isinstance(error, KeyError) else error
            work.log(f"no pictures of segment {moment.video_id[:12]}: {why}")
            sheet = Sheet(moment, None)
        taken.append(sheet)
    return taken


def sheets_of(
    work: Work, training_set: TrainingSet, limit: int = SHEETS_OF_AN_ATTEMPT
) -> Callable[[CrossValidation, LearningSet], dict[str, bytes]]:
    """What takes contact sheets of what a cross-validation missed and of its false alarms."""

    def taken(validation: CrossValidation, learning_set: LearningSet) -> dict[str, bytes]:
        from fall_assets.learning.contact_sheets import moments

        footage = read_footage(work, training_set, learning_set)
        found = moments(validation.outcomes, learning_set.tracks, footage.traits)
        sheets = take_sheets(work, footage, learning_set, found, limit)
        return {
            f"{sheet.moment.kind} {number:02d}": sheet.png
            for number, sheet in enumerate(sheets)
            if sheet.png is not None
        }

    return taken


def write_report(work: Work, evaluation: Evaluation) -> tuple[str, str]:
    """Write report and model card; their paths in the lake."""
    from fall_assets.learning.model_card import model_card
    from fall_assets.learning.report import html_report

    name = f"{evaluation.run_id}-{evaluation.evaluated_utc:%Y%m%dT%H%M%S}"
    page = html_report(evaluation).encode()
    report = work.lake.write_file(page, FOLDER, f"{name}.html")
    card = work.lake.write_file(model_card(evaluation).encode(), FOLDER, f"{name}.md")
    return report, card
