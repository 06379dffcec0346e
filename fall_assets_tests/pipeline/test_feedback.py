"""Answers of staff to alerts, and the commands for alerts and holds."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fall_assets.commands.alerts import alerts
from fall_assets.commands.holds import hold
from fall_assets.errors import FallAssetsError
from fall_assets.pipeline.feedback import (
    FeedbackError,
    answer_alert,
    answered_alerts,
    report_fall,
    reported_falls,
)
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


def test_a_fall_that_raised_no_alert_is_reported_once(site: Recorded) -> None:
    site.take_in("cam-01/a.mp4")
    told = {report_fall(site.work, "cam-01", OLD, by="nurse", now=NOW) for _ in range(2)}
    row = site.lake.read("reported_falls").row(0, named=True)
    assert told == {row["report_id"]}
    assert (row["until_utc"] - row["from_utc"]) == timedelta(minutes=10)
    assert site.lake.rows("reported_falls") == 1
    on = [reported_falls(site.work, [OLD.date() + timedelta(days=n)]).height for n in (-1, 0, 1)]
    assert on == [0, 1, 0]
    # One around midnight may be of either day.
    midnight = OLD.replace(hour=0, minute=5)
    report_fall(site.work, "cam-01", midnight, by="nurse", now=NOW)
    before = reported_falls(site.work, [OLD.date() - timedelta(days=1)])
    assert before["until_utc"].to_list() == [midnight]


def test_reports_that_cannot_be_are_refused(site: Recorded) -> None:
    site.take_in("cam-01/a.mp4")
    good = {"camera_id": "cam-01", "found": OLD, "by": "nurse", "now": NOW}
    for wrong, why in (
        ({"camera_id": "cam-1"}, r"no camera 'cam-1'; there are: cam-01"),
        ({"found": OLD.replace(tzinfo=None)}, "has no zone: give one, such as 2026-"),
        ({"found": NOW + timedelta(hours=1)}, "in the future"),
        ({"within_min": 0.0}, "give 1 to 1440"),
        ({"by": " "}, "name who reports"),
    ):
        with pytest.raises(FeedbackError, match=why):
            report_fall(site.work, **{**good, **wrong})  # type: ignore[arg-type]
    assert site.lake.rows("reported_falls") == 0


def test_reports_on_the_command_line(site: Recorded) -> None:
    site.take_in("cam-01/a.mp4")
    done = call(alerts, "report-fall", "cam-01", "2026-03-01T09:30+01:00", "--by", "nurse")
    assert done.exit_code == 0, done.output
    assert "a fall before cam-01, found 2026-03-01T09:30:00+01:00" in done.output
    assert site.lake.read("reported_falls")["until_utc"][0].hour == 8
    assert call(alerts, "report-fall", "cam-01", "noon", "--by", "nurse").exit_code == 2


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
