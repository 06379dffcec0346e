"""Answers of staff to alerts, and the commands for alerts and holds."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fall_assets.commands.alerts import alerts
from fall_assets.commands.holds import hold
from fall_assets.errors import FallAssetsError
from fall_assets.pipeline.feedback import FeedbackError, answer_alert, answered_alerts
from fall_assets.pipeline.retention import apply_retention
from fall_assets_tests.pipeline.recorded import NOW, OLD, Recorded


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    site = Recorded(tmp_path / "site")
    monkeypatch.setenv("FALL_SITE", str(site.root))
    return site


def call(group: object, *arguments: str) -> Result:
    return CliRunner().invoke(group, arguments)  # type: ignore[arg-type]


def test_the_newest_answer_counts(site: Recorded) -> None:
    alert = site.alert(site.take_in("cam-01/a.mp4"))
    answer_alert(site.work, alert, "fall", by="nurse", now=NOW)
    answer_alert(site.work, alert, "no_fall", by="doctor", now=NOW + timedelta(minutes=1))
    rows = answered_alerts(site.work, newest_days=7)
    assert rows.select("alert_id", "verdict", "by").rows() == [(alert, "no_fall", "doctor")]
    assert site.lake.rows("alert_feedback") == 2


def test_answers_that_cannot_be_are_refused(site: Recorded) -> None:
    alert = site.alert(site.take_in("cam-01/a.mp4"))
    with pytest.raises(FeedbackError, match="no alert 'x'"):
        answer_alert(site.work, "x", "fall", by="nurse")
    with pytest.raises(FeedbackError, match="fall, no_fall, unsure"):
        answer_alert(site.work, alert, "perhaps", by="nurse")  # type: ignore[arg-type]
    with pytest.raises(FeedbackError, match="who"):
        answer_alert(site.work, alert, "fall", by=" ")
    assert site.lake.rows("alert_feedback") == 0


def test_alerts_on_the_command_line(site: Recorded) -> None:
    assert "no alerts yet" in call(alerts, "list").output
    alert = site.alert(site.take_in("cam-01/a.mp4"))
    listed = call(alerts, "list").output
    assert f"{alert}  2026-03-01 08:00:01+00:00  ward w, room r" in listed
    assert "camera cam-01  fall  score 0.90" in listed
    done = call(alerts, "answer", alert, "no_fall", "--by", "nurse")
    assert done.exit_code == 0, done.output
    assert "no_fall (nurse)" in call(alerts, "list").output
    assert alert not in call(alerts, "list", "--unanswered").output
    assert call(alerts, "answer", alert, "perhaps", "--by", "nurse").exit_code == 2
    assert isinstance(call(alerts, "answer", "x", "fall", "--by", "n").exception, FallAssetsError)


def test_holds_on_the_command_line(site: Recorded) -> None:
    site.take_in("cam-01/a.mp4")
    site.take_in("cam-01/b.mp4", OLD + timedelta(days=1))
    assert "no holds stand" in call(hold, "list").output
    case = ("--reason", "case 7", "--by", "counsel")
    assert call(hold, "add", *case).exit_code == 2, "all footage is held on purpose only"
    assert call(hold, "add", "--camera", "cam-01", "--everything", *case).exit_code == 2
    added = call(hold, "add", "--camera", "cam-01", "--until", str(OLD.date()), *case)
    assert added.exit_code == 0, added.output
    assert added.output.endswith("1 segments are held\n")
    hold_id = added.output.split()[1].rstrip(":")
    listed = call(hold, "list").output
    assert f"{hold_id}  camera cam-01, until 2026-03-01 23:59:59+00:00: case 7" in listed
    apply_retention(site.work, now=NOW)
    assert site.files() == {"cam-01/a.mp4"}
    assert call(hold, "release", hold_id, "--by", "counsel").exit_code == 0
    assert "no holds stand" in call(hold, "list").output
    assert "released by counsel" in call(hold, "list", "--all").output
    later = call(hold, "add", "--everything", *case).output
    assert "1 segments of that time have no file any more" in later
    assert call(hold, "add", "--from", "yesterday", *case).exit_code == 2
