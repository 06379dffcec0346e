"""An evaluation of drawn people with films beside them: report, card, sheets, and the gate."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest
from PIL import Image

from fall_assets.delivery.stills import StillError
from fall_assets.features.crop import Crop
from fall_assets.lake import Lake, Provenance
from fall_assets.lake.registry import table
from fall_assets.learning.contact_sheets import moments, take
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.events import EventSettings
from fall_assets.learning.metrics import VideoOutcome, outcome
from fall_assets.learning.model_card import model_card, weak_slices
from fall_assets.learning.report import Evaluation, html_report
from fall_assets.pipeline.evaluation import Assessment, Judgement, assess, check_leakage
from fall_assets.pipeline.training_sets import TrainingSet, manifest_file
from fall_assets.pipeline.work import Work
from fall_assets.site import Site
from fall_assets_tests.learning.people import DAY, FALL_AT_S, SEGMENT_S, kind_of, tables

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
RUN = Provenance("test", None, "test")
MISSED = 3
LOUD = 4
GONE = 7


def film(path: Path) -> Path:
    """Ten seconds of noise, ten frames per second."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        for _ in range(100):
            pixels = rng.integers(0, 255, (128, 192, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@dataclass(frozen=True)
class Scene:
    work: Work
    training_set: TrainingSet
    learning_set: LearningSet
    candidate: list[VideoOutcome]
    champion: list[VideoOutcome]


def judged(learning_set: LearningSet, missed: set[int], loud: set[int]) -> list[VideoOutcome]:
    """A model that finds every fall but some, and raises an alarm in some segments."""
    outcomes = []
    for truth in learning_set.reviewed:
        number = int(truth.video_id, 16)
        raised = (kind_of(number) == "fall" and number not in missed) or number in loud
        ends = [1.0 + 0.5 * step for step in range(19)]
        scores = [0.95 if raised and end == FALL_AT_S + 2 else 0.02 for end in ends]
        outcomes.append(outcome(truth.scored(ends, scores), EventSettings(0.5)))
    return outcomes


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    root = tmp_path_factory.mktemp("site")
    lake = Lake(root / "lake")
    frames = tables()
    # One camera's name holds what HTML and Markdown would take for their own.
    rooms = frames["cameras"].with_columns(room=pl.format("<b>{}|", "room"))
    frames["cameras"] = rooms
    lake.append("cameras", rooms, RUN)
    for name in ("videos", "labels", "pose_tracks"):
        day = frames[name].select(list(table(name).schema))
        lake.replace_partition(name, DAY, day, RUN)
    landing = root / "landing"
    landing.mkdir()
    for number in range(24):
        if number != GONE:
            path = landing / f"{number}.mp4"
            film(path) if number < 8 else path.write_bytes(b"broken")
    clips = frames["clips"].sort("video_id", "end_s", "clip_id")
    row: dict[str, object] = {
        "training_set_id": "t1",
        "pins": json.dumps({name: lake.version(name) for name in ("cameras", "videos")}),
    }
    learning_set = LearningSet.from_tables(**frames)
    return Scene(
        Work(Site(root, landing), lake),
        TrainingSet(row, manifest_file(clips)),
        learning_set,
        judged(learning_set, {MISSED}, {LOUD, GONE}),
        judged(learning_set, set(), {LOUD}),
    )


@pytest.fixture(scope="module")
def assessment(scene: Scene) -> Assessment:
    return assess(
        scene.work,
        scene.training_set,
        scene.learning_set,
        Judgement("run-1", scene.candidate),
        Judgement("run-0", scene.champion),
        evaluated_utc=NOW,
        about={"algorithm": "pose-tcn"},
        resamples=200,
    )


class _Page(HTMLParser):
    """Counts tags, and fails where a page loads anything or does not close what it opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, int] = {}
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1
        for name, value in attrs:
            assert name != "href"
            assert name != "src" or (value or "").startswith("data:image/png;base64,")
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(content: str) -> _Page:
    page = _Page()
    page.feed(content)
    assert not page.open
    return page


def test_the_report_stands_in_the_lake_and_needs_nothing_else(
    scene: Scene, assessment: Assessment
) -> None:
    content = scene.work.lake.resolve(assessment.report).read_text(encoding="utf-8")
    page = page_of(content)
    assert "script" not in page.seen
    assert "b" not in page.seen
    assert "<b>room-cam-1|" in page.text
    assert "7 of 8 falls found" in page.text
    # Six plots, and the sheets of one missed fall and one false alarm; the third film is gone.
    assert page.seen["img"] == 6 + 2
    assert "Missed falls (1)" in page.text
    assert "False alarms (2)" in page.text
    assert "No pictures" in page.text
    assert "Candidate against champion" in page.text
    assert len(content) < 3_000_000


def test_rows_of_both_models_and_their_comparison_come_back(assessment: Assessment) -> None:
    headline = {row["role"]: row for row in assessment.rows if row["slice"] == "all"}
    assert headline["candidate"]["found"] == 7
    assert headline["champion"]["found"] == 8
    assert headline["champion"]["run_id"] == "run-0"
    assert {row["slice"] for row in assessment.rows} == {
        "all", "dataset", "camera", "view", "room", "light", "body_size", "hour", "label",
    }  # fmt: skip
    assert {row["value"] for row in assessment.rows if row["slice"] == "view"} == {"level"}
    assert {row["scenes"] for row in assessment.rows if row["slice"] == "all"} == {24}
    (difference,) = [
        row
        for row in assessment.comparisons
        if (row["slice"], row["figure"]) == ("all", "sensitivity")
    ]
    assert difference["difference"] == pytest.approx(-1 / 8)
    assert difference["champion_run_id"] == "run-0"
    assert (assessment.missed, assessment.false_alarms) == (1, 2)
    assert not assessment.verdict.passed
    assert set(assessment.plots) >= {"calibration", "sensitivity by slice"}


def test_a_first_candidate_is_judged_alone(scene: Scene) -> None:
    alone = assess(
        scene.work,
        scene.training_set,
        scene.learning_set,
        Judgement("run-2", scene.champion),
        evaluated_utc=NOW,
        resamples=50,
        sheets=0,
    )
    assert alone.comparisons == []
    assert alone.verdict.reasons[-1] == "there is no champion to compare with"
    text = scene.work.lake.resolve(alone.report).read_text(encoding="utf-8")
    assert "Candidate against champion" not in page_of(text).text
    assert "1 of these have no pictures" in text


def test_the_card_says_what_is_known_and_what_is_not(scene: Scene, assessment: Assessment) -> None:
    card = scene.work.lake.resolve(assessment.card).read_text(encoding="utf-8")
    assert card.startswith("# Model card: run-1\n")
    assert "7 of 8 falls found" in card
    assert "**Little footage**: 0.07 hours" in card
    assert "Missed fall at 5.0 to 6.2 s" in card
    assert "&lt;b&gt;room-cam-2\\|" in card
    assert "<b>" not in card
    assert "fall-assets reproduce run-1" in card


def test_a_slice_is_weak_where_its_interval_lies_under_the_whole(scene: Scene) -> None:
    row = {
        "slice": "all", "value": "all", "falls": 100, "found": 90,
        "sensitivity": 0.9, "sensitivity_low": 0.82, "sensitivity_high": 0.94,
    }  # fmt: skip
    weak = {**row, "slice": "room", "value": "4", "falls": 10, "found": 4, "sensitivity": 0.4}
    weak |= {"sensitivity_low": 0.17, "sensitivity_high": 0.69}
    few = {**weak, "falls": 4}
    assert weak_slices([row, weak, few]) == [  # type: ignore[list-item]
        "room 4: 4 of 10 falls found, sensitivity 0.400 (0.170 to 0.690)"
    ]


def test_a_sentence_tells_what_is_known_of_a_moment(scene: Scene) -> None:
    found = moments(scene.candidate, scene.learning_set.tracks)
    assert [moment.kind for moment in found] == ["missed fall", "false alarm", "false alarm"]
    missed = found[0].facts
    assert missed.startswith("Missed fall at 5.0 to 6.2 s, camera cam-2 in room <b>room-cam-2|")
    assert "highest score 0.02" in missed
    assert "one person was tracked, in 100% of the samples" in missed
    assert "while the label was 'bending'" in found[1].facts or "walking" in found[1].facts
    assert found[0].times_s[0] == 4.0
    assert len(found[0].times_s) == 6
    assert all(0 <= at_s < SEGMENT_S for moment in found for at_s in moment.times_s)


def test_a_fall_missed_although_a_score_was_high_enough_says_why(scene: Scene) -> None:
    missed = next(item for item in scene.candidate if item.matching.missed)
    scores = tuple(0.6 if end == FALL_AT_S + 2 else 0.02 for end in missed.video.end_s)
    again = outcome(replace(missed.video, score=scores), EventSettings(0.5))
    (moment,) = moments([again], scene.learning_set.tracks)
    assert "highest score 0.60 at 7.0 s, threshold 0.50, but no alarm of its own" in moment.facts


def test_pictures_are_those_of_alert_stills(scene: Scene) -> None:
    """Noise of one pixel does not survive: what is shown is as coarse as privacy asks."""
    moment = moments(scene.candidate, scene.learning_set.tracks)[0]
    people = scene.learning_set.tracks[moment.video_id]
    path = scene.work.site.landing / f"{MISSED}.mp4"
    sheet = take(moment, path, people, crop=Crop(), coarse=True)
    assert sheet.png is not None
    with Image.open(io.BytesIO(sheet.png)) as picture:
        assert picture.size == (6 * 240, 160 + 14)
        grey = np.asarray(picture.convert("L"), np.float64)[20:148, 4:232]
    assert grey.std() < 25  # of the film's own: 74
    with pytest.raises(StillError):
        take(moment, scene.work.site.landing / "9.mp4", people, coarse=True)


def test_the_leakage_check_stands_alone(scene: Scene) -> None:
    leaks = check_leakage(scene.work, scene.training_set, scene.learning_set)
    assert leaks.shared == ()
    # All drawn people fall alike: what stands in several folds nearly the same is found.
    assert leaks.duplicated > 0


def test_an_empty_evaluation_is_a_page_all_the_same() -> None:
    row = {
        "slice": "all", "value": "all", "falls": 0, "found": 0, "sensitivity": None,
        "false_alarms": 0, "camera_days": 0.0,
    }  # fmt: skip
    empty = Evaluation("r", "t", NOW, [row])  # type: ignore[list-item]
    assert "unknown" in page_of(html_report(empty)).text
    assert "None on this footage" in model_card(replace(empty, about={"a": None}))


@pytest.fixture(autouse=True)
def _unchanged(scene: Scene) -> Iterator[None]:
    before = {name: scene.work.lake.version(name) for name in ("evaluation", "videos")}
    yield
    assert before == {name: scene.work.lake.version(name) for name in ("evaluation", "videos")}
