"""Reproduction: a recorded run is made again from its record, and both are compared.

What belongs here: reading a record, learning again from it, comparing. What does not: what is
recorded (`pipeline.experiments`, `pipeline.learning`), the tracking store (`learning.tracking`).

A record holds the settings with the seed, the training set, and the versions of the tables that
were read; the lake keeps those versions. Current settings of the site play no part.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.learning.algorithms.base import Model
from fall_assets.learning.attempts import AttemptSettings, environment
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.metrics import ScoredVideo
from fall_assets.learning.windows import WindowSet
from fall_assets.lineage import git_commit, lock_sha256
from fall_assets.pipeline.experiments import read_set, simulated_for
from fall_assets.pipeline.learning import ordinary_films
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.records import scores_frame
from fall_assets.pipeline.training_sets import load_training_set
from fall_assets.pipeline.work import Work

if TYPE_CHECKING:
    from fall_assets.learning.evaluate import LearningSettings
    from fall_assets.learning.tracking import RunRecord

TOLERANCE = 1e-4
"""Scores that differ by no more than this count as the same on other machines and versions."""

_WINDOW = ["video_id", "end_s"]


@dataclass(frozen=True)
class Compared:
    """Two scores of the same windows.

    Attributes:
        windows: that both scored.
        only_one: that only one of them scored.
        largest: the largest difference; None without windows.
        equal: windows with the same score to the last bit.
    """

    windows: int
    only_one: int
    largest: float | None
    equal: int

    @property
    def is_exact(self) -> bool:
        """Whether all windows are the same ones with the same scores."""
        return not self.only_one and self.equal == self.windows > 0

    def agrees(self, tolerance: float) -> bool:
        """Whether all windows are the same ones and no score differs by more."""
        return not self.only_one and self.largest is not None and self.largest <= tolerance


@dataclass(frozen=True)
class Reproduction:
    """What came of making a run again.

    Attributes:
        run_id: the run.
        kind: 'candidate', 'attempt' or 'trial'.
        training_set_id: what it learned from.
        versions_behind: table name to how many versions the lake has moved on since.
        validation: out-of-fold scores, recorded against now; None where none were recorded.
        model: scores of the recorded model and the new one over the training set's segments; None
            where the run keeps no model.
        digests: of the model's files, recorded and now; None where the run keeps no model.
        differs: what of the environment, the commit and the lock is another now: name to both.
        tolerance: what was allowed.
    """

    run_id: str
    kind: str
    training_set_id: str
    versions_behind: Mapping[str, int]
    validation: Compared | None
    model: Compared | None
    digests: tuple[str, str] | None
    differs: Mapping[str, tuple[str, str]]
    tolerance: float = TOLERANCE

    @property
    def is_exact(self) -> bool:
        """Whether every score and the model's files are the same bit for bit."""
        same_files = self.digests is None or self.digests[0] == self.digests[1]
        return same_files and all(one.is_exact for one in self._compared)

    @property
    def agrees(self) -> bool:
        """Whether no score differs by more than the tolerance."""
        return bool(self._compared) and all(one.agrees(self.tolerance) for one in self._compared)

    @property
    def _compared(self) -> list[Compared]:
        return [one for one in (self.validation, self.model) if one is not None]

    def lines(self) -> list[str]:
        """For a person who reads."""
        moved = sum(self.versions_behind.values())
        lines = [
            f"{self.kind} {self.run_id}, training set {self.training_set_id}",
            f"  its tables have moved on by {moved} versions since"
            + (f": {_listed(self.versions_behind)}" if moved else ""),
        ]
        for what, found in (("cross-validation", self.validation), ("model", self.model)):
            lines.append(f"  {what}: {_said(found)}")
        if self.digests is not None:
            before, now = self.digests
            same = before == now
            lines.append(f"  model's files: {'the same' if same else f'{before} is now {now}'}")
        lines += [f"  {name}: {was} then, {now} now" for name, (was, now) in self.differs.items()]
        if self.is_exact:
            lines.append("  bit for bit")
        elif self.agrees:
            lines.append(f"  agrees within {self.tolerance:g}, not bit for bit")
        else:
            lines.append(f"  DOES NOT AGREE within {self.tolerance:g}")
        return lines


def reproduce(work: Work, run_id: str, *, tolerance: float = TOLERANCE) -> Reproduction:
    """Make a run again from its record alone, and compare what it scores.

    `run_id` may be an alias or the number of a registered version.

    Raises:
        UnknownModelError: there is no such run, or it does not say what it was made of.
        ManifestChangedError: the training set's list of clips is another now.
        PermanentFailureError: tables of the recorded versions are gone, or the record's settings
            are unknown to this version of the code.
    """
    store = tracking(work.site)
    with tempfile.TemporaryDirectory(prefix="fall-assets-") as folder:
        record = store.read_run(store.run_of(run_id), Path(folder))
        training_set = load_training_set(work, str(record.pins["training_set_id"]))
        pins = {
            name: int(version) for name, version in record.pins.items() if name != "training_set_id"
        }
        attempt, simulated = _recorded(record)
        learning_set = read_set(work, training_set, attempt, pins).learning_set
        again = _Again(work, record, attempt.learning, learning_set, simulated)
        validation = again.validation(_recorded_scores(work, record))
        model, digests = again.model() if record.model is not None else (None, None)
    return Reproduction(
        record.run_id,
        record.kind,
        training_set.id,
        _versions_behind(work, pins),
        validation,
        model,
        digests,
        _differs(record),
        tolerance,
    )


def compare(before: pl.DataFrame, now: pl.DataFrame) -> Compared:
    """Compare scores (columns video_id, end_s, score) of the same windows."""
    both = before.select(*_WINDOW, "score").join(
        now.select(*_WINDOW, other="score"), on=_WINDOW, how="full", coalesce=True
    )
    common = both.drop_nulls()
    was, is_now = common["score"].to_numpy(), common["other"].to_numpy()
    largest = float(np.abs(was - is_now).max()) if common.height else None
    return Compared(common.height, both.height - common.height, largest, int((was == is_now).sum()))


@dataclass(frozen=True)
class _Again:
    """A run on its way to be made again."""

    work: Work
    record: RunRecord
    settings: LearningSettings
    learning_set: LearningSet
    simulated: WindowSet | None

    def validation(self, before: pl.DataFrame | None) -> Compared | None:
        """Out-of-fold scores then and now; None where none were recorded."""
        from fall_assets.learning.evaluate import cross_validate
        from fall_assets.learning.tuning import validate_by_fold

        if before is None:
            return None
        folds = {truth.video_id: truth.fold for truth in self.learning_set.truths.values()}
        if self.record.kind == "trial":
            judged = set(before["fold"])
            videos: list[ScoredVideo] = []
            for part in validate_by_fold(self.learning_set, self.settings, self.simulated):
                videos += part.videos if part.fold in judged else ()
                if judged <= {folds[video.video_id] for video in videos}:
                    break
            return compare(before, scores_frame(videos, folds, {}))
        found = cross_validate(
            self.learning_set,
            self.settings,
            simulated=self.simulated,
            ordinary=ordinary_films(self.settings),
            progress=self.work.progress("cross-validation: steps"),
        )
        return compare(before, scores_frame(found.videos, folds, found.thresholds))

    def model(self) -> tuple[Compared, tuple[str, str]]:
        """Scores of the recorded and the new model, and the digests of their files."""
        from fall_assets.learning.detector import digest as detector_digest
        from fall_assets.learning.evaluate import fit_final, train_final
        from fall_assets.learning.tracking import folder_digest

        record = self.record
        is_candidate = record.kind == "candidate"
        digest = detector_digest if is_candidate else folder_digest
        if record.model is None or record.digest is None:
            raise PermanentFailureError(f"run {record.run_id} keeps no model and its digest")
        kept = digest(record.model)
        if kept != record.digest:
            raise PermanentFailureError(
                f"the model's files of run {record.run_id} have the digest {kept}, recorded was "
                f"{record.digest}: they were changed; restore them from a backup"
            )
        progress = self.work.progress("final model: steps")
        model: Model
        with tempfile.TemporaryDirectory(prefix="fall-assets-") as folder:
            if is_candidate:
                from fall_assets.learning.algorithms.pose_tcn import PoseModel
                from fall_assets.learning.detector import Detector

                threshold = Detector.load(record.model).threshold
                detector = train_final(
                    self.learning_set,
                    self.settings,
                    threshold,
                    simulated=self.simulated,
                    progress=progress,
                )
                model = PoseModel(detector)
            else:
                model = fit_final(
                    self.learning_set, self.settings, simulated=self.simulated, progress=progress
                )
            model.save(Path(folder))
            digests = (record.digest, digest(Path(folder)))
        recorded = self.settings.build().load(record.model)
        return compare(self._scores(recorded), self._scores(model)), digests

    def _scores(self, model: Model) -> pl.DataFrame:
        from fall_assets.learning.evaluate import score_videos

        truths = self.learning_set.reviewed
        videos = score_videos(model, self.learning_set, truths, self.settings.windows.window_s)
        return scores_frame(videos, {truth.video_id: truth.fold for truth in truths}, {})


def _recorded(record: RunRecord) -> tuple[AttemptSettings, WindowSet | None]:
    """The settings of a record, and its simulated windows.

    A candidate's record holds no feature set: it learns from its training set's own.
    """
    values = dict(record.settings)
    if record.kind == "candidate":
        values.setdefault("algorithm", "pose-tcn")
    attempt = AttemptSettings.from_values(values)
    return attempt, simulated_for(attempt)


def _recorded_scores(work: Work, record: RunRecord) -> pl.DataFrame | None:
    """The run's own file of scores, or else the lake's rows of that run."""
    if record.scores is not None:
        return record.scores
    rows = work.lake.read("fold_scores", where=pl.col("run_id") == record.run_id)
    return None if rows.is_empty() else rows


def _versions_behind(work: Work, pins: Mapping[str, int]) -> dict[str, int]:
    newest = {name: work.lake.version(name) for name in pins}
    return {name: (newest[name] or 0) - version for name, version in sorted(pins.items())}


def _differs(record: RunRecord) -> dict[str, tuple[str, str]]:
    """What is another now. Records of before the environment was kept name the code only."""
    then: dict[str, Any] = {
        **record.environment,
        "git_commit": record.tags.get("git_commit", "unknown"),
        "lock_sha256": record.tags.get("lock_sha256", "unknown"),
    }
    now = {**environment(), "git_commit": git_commit(), "lock_sha256": lock_sha256()}
    return {
        name: (str(was), now.get(name, "none"))
        for name, was in then.items()
        if str(was) != now.get(name, "none")
    }


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)


def _said(found: Compared | None) -> str:
    if found is None:
        return "not recorded"
    if found.largest is None:
        return "no window in common"
    text = (
        f"{found.equal} of {found.windows} scores the same bit for bit, largest difference "
        f"{found.largest:.3g}"
    )
    return text + (f", {found.only_one} windows on one side only" if found.only_one else "")


def reproduce_all(
    work: Work, run_ids: Sequence[str], *, tolerance: float = TOLERANCE
) -> list[Reproduction]:
    """The same for several runs, one after the other."""
    return [reproduce(work, run_id, tolerance=tolerance) for run_id in run_ids]
