"""What is done about drift, on a lake: written once, whoever is killed, with numbers."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from fall_assets.cli import main
from fall_assets.drift.answers import AnswerSettings, Run
from fall_assets.errors import PermanentFailureError
from fall_assets.lake import Lake
from fall_assets.pipeline import answers
from fall_assets.pipeline.answers import (
    WINDOW_DAYS,
    accepted_changes,
    answer_drift,
    approve,
    decide,
    read_standing,
    refuse,
)
from fall_assets.pipeline.drift_records import changed_cameras, read_rows, wanted_cameras
from fall_assets.pipeline.work import Work
from fall_assets.rollout.settings import RolloutSettings
from fall_assets.site import SettingsError, SiteSettings, read_settings
from fall_assets_tests.pipeline.drifted_site import (
    compare,
    day,
    evening,
    film,
    new_work,
    register,
    report,
    roll_out,
)

ROOT = Path(__file__).parents[2]
DARK = {"cam-1": "exposure"}


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """Two ordinary days, then one on which a camera sees less."""
    work = new_work(tmp_path / "site")
    for number in range(2):
        report(work, number)
    report(work, 2, DARK)
    return work


def told(work: Work) -> list[tuple[str, str]]:
    return [(row.answer, row.state) for row in read_rows(work)]


def test_labels_are_asked_for_and_written_down_once(work: Work) -> None:
    done = answer_drift(work, evening(2))
    assert [(row.answer, row.state) for row in done.rows] == [
        ("annotate", "done"),
        ("normalise", "skipped"),
        ("labels", "started"),
    ]
    assert answer_drift(work, evening(2)).rows == ()
    report(work, 3, DARK, since=2)
    assert answer_drift(work, evening(3)).rows == ()
    assert wanted_cameras(work) == {"cam-1": day(2)}
    rows = work.lake.read("drift_answers")
    assert rows["episode_id"].n_unique() == 1
    assert rows["sentence"][0].startswith("Since 2026-03-03, camera cam-1: cam-1: exposure")
    assert set(rows["run_id"]) == {"by-hand"}


def test_from_labels_to_the_new_champion(work: Work) -> None:
    answer_drift(work, evening(2))
    report(work, 3, DARK, since=2)
    # Labels of other cameras, and of days before, do not count.
    film(work, 1, "cam-1", labels=60)
    film(work, 2, "cam-2", labels=60)
    assert decide(work, evening(3)).retraining is None
    film(work, 3, "cam-1", labels=55)
    done = answer_drift(work, evening(3))
    step = done.decision.retraining
    assert step is not None
    assert wanted_cameras(work) == {}
    run = Run("run-1", evening(3), "going", step.episode.id, step.attempt)
    answer_drift(work, evening(3), [run])
    assert told(work)[-2:] == [("labels", "done"), ("retrain", "started")]
    register(work, "2", new=40, old=900)
    judged = {"cam-1": (5, 1, 2, 30), "cam-2": (4, 3, 4, 3), "cam-3": (5, 0, 5, 1)}
    # cam-2 changed at an earlier drift.
    compare(work, "2", judged, changed=("cam-1", "cam-2"))
    ended = [Run("run-1", evening(3), "succeeded", step.episode.id, step.attempt)]
    answer_drift(work, evening(4), ended, {"run-1": "2"})
    rows = {row.answer: row for row in read_rows(work)}
    assert (
        "from 40 clips of camera cam-1 since 2026-03-03, and from 900" in rows["retrain"].sentence
    )
    assert rows["evaluate"].evidence["new"]["candidate_found"] == 5
    assert rows["evaluate"].evidence["new"]["cameras"] == 1
    assert rows["evaluate"].evidence["old"]["candidate_false_alarms"] == 3
    assert rows["evaluate"].evidence["old"]["camera_days"] == 1.0
    assert "2 others: 3 false alarms in 1 camera-days (champion 4)" in rows["evaluate"].sentence
    roll_out(work, "2", ["shadow"])
    answer_drift(work, evening(11), ended)
    assert told(work)[-1] == ("rollout", "started")
    roll_out(work, "2", ["shadow", "full"])
    for number in (12, 13):
        report(work, number, version="2")
    answer_drift(work, evening(13), ended)
    assert sorted(told(work)[-2:]) == [("annotate", "done"), ("rollout", "done")]
    assert not any(one.open for one in read_standing(work).episodes)
    # It was learned, so that it is what the camera sees from now on.
    assert changed_cameras(work) == {"cam-1": day(2)}
    assert answer_drift(work, evening(14), ended).rows == ()
    assert Counter(told(work))[("retrain", "started")] == 1


@pytest.mark.parametrize(
    ("cause", "size", "fps", "drifted", "suffices", "says"),
    [
        ("resolution", (3840, 2160), 25.0, (), True, "3840 px and more are scaled to 256 px"),
        ("resolution", (3840, 2160), 25.0, ("pose",), False, "16 of 32 tests"),
        ("resolution", (160, 90), 25.0, (), False, "160 px hold less than the 256 px"),
        ("frame_rate", (640, 360), 5.0, (), False, "5 frames a second are fewer than the 10"),
        ("frame_rate", (640, 360), 12.0, (), True, "12 and more frames a second"),
    ],
)
def test_whether_normalising_suffices_is_shown(
    work: Work,
    cause: str,
    size: tuple[int, int],
    fps: float,
    drifted: tuple[str, ...],
    suffices: bool,
    says: str,
) -> None:
    for number in (2, 3):
        report(work, number, {"cam-1": cause}, since=2, drifted=drifted)
        film(work, number, "cam-1", size=size, fps=fps)
    answer_drift(work, evening(3))
    row = next(row for row in read_rows(work) if row.answer == "normalise")
    assert row.evidence["suffices"] is suffices
    assert says in row.sentence
    assert (told(work)[-1] == ("labels", "started")) is not suffices
    # What suffices is ordinary from now on, and asks for nothing.
    wanted = [("cam-1", day(2), day(3))]
    assert accepted_changes(work, "1") == (wanted if suffices else [])
    assert accepted_changes(work, "7") == []
    assert bool(wanted_cameras(work)) is not suffices


def test_what_is_ordinary_is_not_taken_from_a_camera_with_another_drift(work: Work) -> None:
    report(work, 2, {"cam-1": "codec", "cam-2": "clock", "cam-3": "firmware"})
    answer_drift(work, evening(2))
    assert accepted_changes(work, "1") == [
        ("cam-1", day(2), day(2)),
        ("cam-3", day(2), day(2)),
    ]
    report(work, 3, {"cam-1": "exposure", "cam-3": "firmware"}, since=2)
    answer_drift(work, evening(3))
    assert accepted_changes(work, "1") == [("cam-3", day(2), day(3))]


def test_a_killed_run_is_finished_by_the_next(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    report(work, 2, {"cam-1": "exposure", "cam-2": "wheelchairs"})
    write = answers._write

    def killed(*args: Any) -> None:
        write(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(answers, "_write", killed)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            answer_drift(work, evening(2))
    monkeypatch.undo()
    assert answer_drift(work, evening(2)).rows == ()
    counted = Counter((row.episode_id, row.answer) for row in read_rows(work))
    assert len(counted) == 6
    assert set(counted.values()) == {1}


def test_a_tick_costs_the_same_however_long_the_history(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3, 3 + WINDOW_DAYS + 8):
        report(work, number, DARK if number > 45 else None, since=46, tests=1)
    answer_drift(work, evening(60))
    read: dict[str, int] = {}
    whole = Lake.read

    def counting(lake: Lake, name: str, **options: Any) -> pl.DataFrame:
        read[name] = max(read.get(name, 0), len(options.get("days") or ()))
        return whole(lake, name, **options)

    monkeypatch.setattr(Lake, "read", counting)
    decide(work, evening(60))
    assert max(read.values()) == WINDOW_DAYS
    by_day = {"drift_report", "drift_causes", "drift_signals"}
    assert set(read) <= by_day | {"drift_answers", "labels", "rollout", "registered_model"}
    assert all(read[name] for name in by_day)


def test_a_person_approves_or_refuses(tmp_path: Path) -> None:
    settings = SiteSettings(retraining=AnswerSettings(approval=("labels", "retrain")))
    work = new_work(tmp_path / "site", settings)
    report(work, 0, DARK)
    film(work, 0, "cam-1", labels=60)
    answer_drift(work, evening(0))
    episode = read_rows(work)[0].episode_id
    assert told(work)[-1] == ("labels", "asked")
    with pytest.raises(PermanentFailureError, match=r"retrain of .* is not begun"):
        approve(work, episode, "retrain", "Ada")
    with pytest.raises(PermanentFailureError, match="no episode 'nobody'; there are: " + episode):
        approve(work, "nobody", "labels", "Ada")
    with pytest.raises(PermanentFailureError, match="annotate asks nobody"):
        approve(work, episode, "annotate", "Ada")
    row = approve(work, episode, "labels", "Ada", "it is the new lamp", evening(1))
    assert row.sentence == "Ada lets it go on: it is the new lamp"
    assert answer_drift(work, evening(1)).decision.retraining is None
    assert told(work)[-1] == ("retrain", "asked")
    assert changed_cameras(work) == {"cam-1": day(0)}
    refuse(work, episode, "retrain", "Ada", now=evening(1))
    assert changed_cameras(work) == {}
    assert answer_drift(work, evening(1)).decision.retraining is None
    # Looked at, and not to be learned: ordinary.
    assert accepted_changes(work, "1") == [("cam-1", day(0), day(0))]
    approve(work, episode, "retrain", "Bob", now=evening(1))
    assert answer_drift(work, evening(1)).decision.retraining is not None
    with pytest.raises(PermanentFailureError, match=r"labels of .* is done"):
        refuse(work, episode, "labels", "Ada")


def test_the_command_line_lists_shows_and_takes_a_person_s_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "site"
    settings = tmp_path / "site.toml"
    settings.write_text('[retraining]\napproval = ["labels"]\n')
    monkeypatch.setenv("FALL_SITE", str(root))
    monkeypatch.setenv("FALL_CONFIG", str(settings))
    work = new_work(root, read_settings(settings))

    def say(*words: str, fails: bool = False) -> str:
        result = CliRunner().invoke(main, ["drift", *words])
        assert (result.exit_code != 0) is fails, result.output
        return result.output

    assert say("list") == "no drift\n"
    report(work, 0, DARK)
    answer_drift(work, datetime.now(UTC))
    episode = read_rows(work)[0].episode_id
    assert "asks a person" in say("list")
    assert f"fall-assets drift approve {episode} labels" in say("show", episode)
    assert "Ada lets it go on: a lamp" in say(
        "approve", episode, "labels", "--by", "Ada", "--why", "a lamp"
    )
    assert told(work)[-1] == ("labels", "approved")
    assert "nothing to be approved" in say("approve", episode, "labels", fails=True)
    assert "does not want it" in say("refuse", episode, "retrain", "--by", "Ada")
    assert "no drift 'nobody'" in say("show", "nobody", fails=True)


def test_a_rollout_waits_for_a_person_only_where_none_begins_by_itself(tmp_path: Path) -> None:
    asking = AnswerSettings(approval=("rollout",))
    with pytest.raises(SettingsError, match="set automatic = false in"):
        SiteSettings(retraining=asking)
    SiteSettings(retraining=asking, rollout=RolloutSettings(automatic=False))


def test_a_retraining_waits_for_the_rollout_on_its_way(work: Work) -> None:
    film(work, 2, "cam-1", labels=60)
    register(work, "2", new=1, old=1)
    answer_drift(work, evening(2))
    waits = decide(work, evening(2)).waits
    assert "version 2 waits for its rollout" in waits[0]
    roll_out(work, "2", ["shadow"])
    assert "rollout r-2 of version 2 is in state shadow" in decide(work, evening(2)).waits[0]
    roll_out(work, "2", ["shadow", "rolled_back"])
    assert decide(work, evening(2)).retraining is not None


def test_the_settings_file_names_every_setting() -> None:
    text = (ROOT / "data" / "site.toml").read_text()
    section = text[text.index("[retraining]") :].split("\n[")[0]
    for name in vars(AnswerSettings()):
        assert f"\n{name} = " in section, name
    assert read_settings(ROOT / "data" / "site.toml").retraining == AnswerSettings()


def test_days_that_are_reported_again_change_nothing_that_was_written(work: Work) -> None:
    answer_drift(work, evening(2))
    report(work, 3, DARK, since=2)
    answer_drift(work, evening(3))
    before = read_rows(work)
    report(work, 1, DARK)
    report(work, 2, DARK, since=1)
    assert answer_drift(work, evening(3) + timedelta(hours=1)).rows == ()
    assert read_rows(work) == before
