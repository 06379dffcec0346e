"""Recorded runs are made again from their records, after the lake has moved on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from mlflow.tracking import MlflowClient

from fall_assets.commands.reproduce import reproduce as command
from fall_assets.errors import PermanentFailureError
from fall_assets.learning.tracking import UnknownModelError
from fall_assets.pipeline.experiments import run_experiments
from fall_assets.pipeline.learning import train_candidate
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.reproduction import Compared, compare, reproduce
from fall_assets.pipeline.training_sets import cut_training_set
from fall_assets.pipeline.work import Work
from fall_assets_tests.learning.people import DAY
from fall_assets_tests.pipeline.drawn_site import GRID, draw_site, work_on


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Work, str, str, str]:
    """A site, an attempt, a candidate and a study; the lake has moved on since."""
    work = draw_site(tmp_path_factory.mktemp("runs") / "site")
    cut_training_set(work)
    found = run_experiments(work, GRID)
    candidate = train_candidate(work)
    for name in ("labels", "clips", "pose_tracks"):
        rows = work.lake.read(name, days=[DAY])
        fewer = rows.filter(pl.col("video_id") != rows["video_id"][0])
        work.lake.replace_partition(name, DAY, fewer, work.provenance(DAY))
    # A newer set, that nothing was learned from.
    cut_training_set(work)
    return work, found.rows[0]["run_id"], candidate.run_id, found.study_run_id


def test_an_attempt_comes_out_bit_for_bit(runs: tuple[Work, str, str, str]) -> None:
    work, attempt, _, _ = runs
    found = reproduce(work, attempt)
    assert found.is_exact
    assert found.agrees
    assert found.kind == "attempt"
    assert found.validation is not None
    assert found.validation.windows == found.validation.equal > 400
    assert found.digests is not None
    assert found.digests[0] == found.digests[1]
    assert found.versions_behind["labels"] == 1
    assert found.versions_behind["videos"] == 0
    assert "  bit for bit" in found.lines()


def test_a_candidate_comes_out_bit_for_bit_by_the_command(
    runs: tuple[Work, str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work, _, candidate, _ = runs
    monkeypatch.setenv("FALL_SITE", str(work.site.root))
    result = CliRunner().invoke(command, [candidate])
    assert result.exit_code == 0, result.output
    assert f"candidate {candidate}" in result.output
    assert "  bit for bit" in result.output


def _copy(work: Work, tmp_path: Path, run_id: str) -> tuple[Work, Path]:
    """A copy of the site whose run has its files there, so that they can be changed."""
    shutil.copytree(work.site.root, tmp_path / "site")
    copied = work_on(tmp_path / "site")
    database = copied.site.mlflow_root / "mlflow.db"
    content = database.read_bytes()
    # The database names the folder of files; both names are of one length.
    old, new = str(work.site.root).encode(), str(tmp_path / "site").encode()
    assert old in content
    import sqlite3

    with sqlite3.connect(database) as opened:
        for name, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            opened.execute(
                f"UPDATE {name} SET {column} = replace({column}, ?, ?)",
                (old.decode(), new.decode()),
            )
    (folder,) = copied.site.mlflow_root.glob(f"artifacts/**/{run_id}/artifacts")
    return copied, folder


def test_other_scores_than_recorded_do_not_agree(
    runs: tuple[Work, str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, folder = _copy(runs[0], tmp_path, runs[1])
    file = folder / "scores.parquet"
    scores = pl.read_parquet(file)
    first = pl.int_range(pl.len()) == 0
    changed = scores.with_columns(
        score=pl.when(first).then(pl.col("score") * 0.5 + 0.25).otherwise("score")
    )
    changed.write_parquet(file)
    environment = json.loads((folder / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps({**environment, "torch": "1.0"}))
    found = reproduce(work, runs[1])
    assert not found.is_exact
    assert found.validation is not None
    assert found.validation.equal == found.validation.windows - 1
    expected = abs(changed["score"][0] - scores["score"][0])
    assert found.validation.largest == pytest.approx(expected)
    assert found.agrees is (expected <= 1e-4)
    assert found.differs["torch"] == ("1.0", environment["torch"])
    assert any("DOES NOT AGREE" in line for line in found.lines())
    monkeypatch.setenv("FALL_SITE", str(work.site.root))
    assert CliRunner().invoke(command, [runs[1]]).exit_code == 1
    assert CliRunner().invoke(command, [runs[1], "--tolerance", "1"]).exit_code == 0


def test_changed_model_files_are_said_so(runs: tuple[Work, str, str, str], tmp_path: Path) -> None:
    work, folder = _copy(runs[0], tmp_path, runs[1])
    (file,) = (folder / "model").glob("detector.json")
    file.write_text(file.read_text().replace('"merge_gap_s": 10.0', '"merge_gap_s": 99.0'))
    with pytest.raises(PermanentFailureError, match="were changed"):
        reproduce(work, runs[1])


def test_what_cannot_be_rebuilt_is_said_so(runs: tuple[Work, str, str, str]) -> None:
    work, _, _, study = runs
    with pytest.raises(UnknownModelError, match="neither a candidate nor an attempt"):
        reproduce(work, study)
    with pytest.raises(UnknownModelError, match="no run"):
        reproduce(work, "0123abcd" * 4)
    client = MlflowClient(tracking(work.site).uri)
    experiment = client.get_experiment_by_name("fall-detection")
    assert experiment is not None
    bare = client.create_run(experiment.experiment_id, tags={"kind": "attempt"})
    client.log_text(bare.info.run_id, "nothing", "note.txt")
    with pytest.raises(UnknownModelError, match="does not say what it was made of"):
        reproduce(work, bare.info.run_id)


def test_scores_are_compared_window_by_window() -> None:
    def scores(values: dict[float, float]) -> pl.DataFrame:
        return pl.DataFrame(
            [("a", end_s, score) for end_s, score in values.items()],
            schema=["video_id", "end_s", "score"],
            orient="row",
        )

    found = compare(scores({1.0: 0.5, 1.5: 0.25, 2.0: 0.1}), scores({1.0: 0.5, 1.5: 0.5, 3.0: 0.1}))
    assert found == Compared(windows=2, only_one=2, largest=0.25, equal=1)
    assert not found.agrees(1.0)
    same = compare(scores({1.0: 0.5}), scores({1.0: 0.5}))
    assert same.is_exact
    assert same.agrees(0.0)
    close = compare(scores({1.0: 0.5}), scores({1.0: 0.50001}))
    assert close.agrees(1e-4)
    assert not close.is_exact
    assert not compare(scores({}), scores({})).is_exact
