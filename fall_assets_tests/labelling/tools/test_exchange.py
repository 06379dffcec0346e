"""The review queue goes out as tasks, and what people label comes back into the lake's words."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import polars as pl
import pytest
from click.testing import CliRunner

from fall_assets.commands.exchange import export_tasks
from fall_assets.errors import PermanentFailureError
from fall_assets.labelling.tools import Films
from fall_assets.lake import Lake, Provenance
from fall_assets.lake.registry import table
from fall_assets.pipeline.exchange import export_review
from fall_assets.pipeline.labelling import label
from fall_assets.pipeline.work import Work
from fall_assets.site import Site
from fall_assets_tests.labelling.tools.scenario import read
from fall_assets_tests.labelling.tools.test_previews import ALWAYS, FPS, LENGTH_S, film

DAY = date(2026, 3, 1)
START = datetime(2026, 3, 1, 8, 15, tzinfo=UTC)
BY = Provenance("test", None, "test")
SEEN, ABOVE, GONE = (f"cam-0{n}/2026-03-01/08-15-00.mp4" for n in (1, 2, 3))


def video(path: str) -> dict[str, Any]:
    row = dict.fromkeys(table("videos").schema)
    return row | {
        "day": DAY,
        "video_id": path,
        "camera_id": path.split("/")[0],
        "dataset": "site",
        "path": path,
        "start_utc": START,
        "duration_s": float(LENGTH_S),
        "width": 320,
        "height": 180,
        "fps": float(FPS),
        "frames": LENGTH_S * FPS,
        "codec": "h264",
        "bytes": 1,
        "scene": path,
    }


def item(rank: int, path: str, start_s: float, word: str | None = None) -> dict[str, Any]:
    return {
        "item_id": f"item{rank}",
        "rank": rank,
        "recorded_day": DAY,
        "video_id": path,
        "camera_id": path.split("/")[0],
        "room": "7",
        "start_s": start_s,
        "end_s": start_s + 4,
        "start_utc": START + timedelta(seconds=start_s),
        "priority": 1.0 / rank,
        "reason": "two versions differ",
        "reasons": "{}",
        "suggested_label": word,
        "confidence": None if word is None else 0.6,
    }


def frame(name: str, *rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=table(name).schema)


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(
        tmp_path_factory.mktemp("exchange") / "segment.mp4",
        [k / FPS for k in range(LENGTH_S * FPS)],
    )


@pytest.fixture
def work(tmp_path: Path, segment: Path) -> Work:
    """A site with three segments, one of which is gone, and a queue over them."""
    site = Site(tmp_path / "site", tmp_path / "landing")
    for path in (SEEN, ABOVE):
        (site.landing / path).parent.mkdir(parents=True)
        shutil.copyfile(segment, site.landing / path)
    lake = Lake(site.lake_root)
    views = {SEEN: "corner", ABOVE: "ceiling", GONE: "corner"}
    cameras = [
        {"camera_id": path.split("/")[0], "ward": "3", "room": "7", "view": view, "dataset": "site"}
        for path, view in views.items()
    ]
    lake.replace("cameras", frame("cameras", *cameras), BY)
    lake.replace_partition("videos", DAY, frame("videos", *map(video, views)), BY)
    people = ALWAYS.with_columns(day=pl.lit(DAY))
    tracks = [people.with_columns(video_id=pl.lit(path)) for path in (SEEN, ABOVE)]
    lake.replace_partition("pose_tracks", DAY, pl.concat(tracks), BY)
    queue = (item(1, SEEN, 7.0), item(2, ABOVE, 1.0, "fall"), item(3, GONE, 0.0))
    lake.replace("review_queue", frame("review_queue", *queue), BY)
    said = [("fall", 8.0, 9.2, "10"), ("other", 9.2, 12.0, "10"), ("other", 0.0, 12.0, "9")]
    automatic = [
        {
            "day": DAY,
            "label_id": f"{word}{start_s}",
            "video_id": SEEN,
            "camera_id": "cam-01",
            "model_version": version,
            "feature_set": "f",
            "start_s": start_s,
            "end_s": end_s,
            "label": word,
            "confidence": 0.9,
            "taxonomy_version": 1,
        }
        for word, start_s, end_s, version in said
    ]
    lake.replace_partition("automatic_labels", DAY, frame("automatic_labels", *automatic), BY)
    return Work(site, lake)


def tasks(out: Path) -> list[dict[str, Any]]:
    found = json.loads((out / "tasks.json").read_text())
    assert isinstance(found, list)
    return found


def test_the_queue_goes_out_with_previews_and_suggestions(work: Work, tmp_path: Path) -> None:
    made = export_review(work, tmp_path / "out")
    first, second = tasks(made.folder)
    assert (made.tasks, made.suggested) == (2, 2)
    assert [x["data"]["item_id"] for x in (first, second)] == ["item1", "item2"]
    assert first["data"]["video"] == "/data/local-files/?d=media/item1.mp4"
    assert (first["data"]["start_s"], first["data"]["path"]) == (1.0, SEEN)
    # Only the newest model's words; the queue's where there are none.
    suggested = first["predictions"][0]
    assert suggested["model_version"] == "10"
    assert [x["value"]["timelinelabels"] for x in suggested["result"]] == [["fall"], ["other"]]
    assert second["predictions"][0]["result"][0]["value"]["timelinelabels"] == ["fall"]
    with av.open(made.folder / "media" / "item1.mp4") as container:
        assert container.streams.video[0].frames == first["data"]["frames"] == 110
    # What cannot be shown is named, and the rest goes on.
    ((name, why),) = made.left_out
    assert name == "item3"
    assert GONE in why or "gone" in why or "no" in why


def test_accepted_suggestions_come_back_as_they_went_out(work: Work, tmp_path: Path) -> None:
    made = export_review(work, tmp_path / "out")
    labelled = [
        {
            **task,
            "id": number,
            "annotations": [
                {"id": number, "completed_by": 1, "result": task["predictions"][0]["result"]}
            ],
        }
        for number, task in enumerate(tasks(made.folder), start=1)
    ]
    films = Films(work.lake.read("videos"))
    told = read(work.site.landing, "back.json", json.dumps(labelled), films)
    assert not told.problems
    assert [(path, word) for path, _start, _end, word in told.intervals] == [
        (SEEN, "fall"),
        (SEEN, "other"),
        (ABOVE, "fall"),
    ]
    expected = [(8.0, 9.2), (9.2, 12.0), (1.0, 5.0)]
    for (_path, start_s, end_s, _word), (begin_s, finish_s) in zip(
        told.intervals, expected, strict=True
    ):
        assert abs(start_s - begin_s) <= 1 / FPS
        assert abs(end_s - finish_s) <= 1 / FPS


def test_an_export_becomes_labels_of_the_lake(work: Work, tmp_path: Path) -> None:
    """Two people label the same piece; both are kept, and the labels say what holds."""
    task = tasks(export_review(work, tmp_path / "out", items=1).folder)[0]
    results = task["predictions"][0]["result"]
    corrected = json.loads(json.dumps(results[:1]))
    corrected[0]["value"]["ranges"] = [{"start": 75, "end": 84}]
    annotations = [
        {"id": 1, "completed_by": 1, "result": results},
        {"id": 2, "completed_by": {"email": "two@example.org"}, "result": corrected},
    ]
    path = work.site.landing / "labels" / "export.json"
    path.parent.mkdir()
    path.write_text(json.dumps([{**task, "id": 1, "annotations": annotations}]))
    label(work, [DAY])
    assert work.lake.read("label_problems").is_empty()
    said = work.lake.read("annotations")
    assert set(said["annotator"]) == {"label-studio/1", "two@example.org"}
    assert set(said["file"]) == {"labels/export.json"}
    falls = said.filter(pl.col("label") == "fall").sort("annotator")
    assert falls["start_s"].to_list() == pytest.approx([8.0, 8.4])
    assert "fall" in set(work.lake.read("labels")["label"])


def test_exporting_again_gives_the_same(work: Work, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_review(work, out, items=2, media_url="https://previews/")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    export_review(work, out, items=2, media_url="https://previews/")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert tasks(out)[0]["data"]["video"] == "https://previews/item1.mp4"


def test_footage_that_was_deleted_is_left_out(work: Work, tmp_path: Path) -> None:
    videos = work.lake.read("videos").with_columns(
        deleted_utc=pl.when(pl.col("path") == SEEN).then(pl.lit(START)).otherwise(None)
    )
    work.lake.replace_partition("videos", DAY, videos, BY)
    made = export_review(work, tmp_path / "out")
    assert [x["data"]["item_id"] for x in tasks(made.folder)] == ["item2"]
    assert "deleted" in dict(made.left_out)["item1"]


def test_previews_do_not_become_footage(work: Work) -> None:
    with pytest.raises(PermanentFailureError, match="landing folder"):
        export_review(work, work.site.landing / "out")
    assert not (work.site.landing / "out").exists()


def test_an_empty_queue_says_what_to_do(work: Work, tmp_path: Path) -> None:
    work.lake.replace("review_queue", frame("review_queue"), BY)
    with pytest.raises(PermanentFailureError, match="review_queue"):
        export_review(work, tmp_path / "out")


def test_the_command_says_what_to_do_next(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FALL_SITE", str(work.site.root))
    monkeypatch.setenv("FALL_FOOTAGE", str(work.site.landing))
    result = CliRunner().invoke(export_tasks, ["--items", "2", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "2 tasks" in result.output
    assert f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={tmp_path / 'out'}" in result.output
    assert str(work.site.landing / "labels") in result.output
