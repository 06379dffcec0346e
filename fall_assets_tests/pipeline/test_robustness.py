"""Films that are made worse go through the same features and the same detector."""

from __future__ import annotations

from pathlib import Path

from fall_assets.features.settings import FeatureSettings
from fall_assets.learning.dataset import VideoTruth
from fall_assets.learning.events import EventSettings
from fall_assets.learning.metrics import VideoOutcome, outcome
from fall_assets.learning.robustness import DEGRADATIONS
from fall_assets.learning.windows import SegmentTracks
from fall_assets.pipeline.robustness import Film, judge_worse
from fall_assets_tests.footage.films import film


def test_films_are_judged_in_order_and_nothing_is_left_behind(tmp_path: Path) -> None:
    good = film(tmp_path / "good.mp4", frames=30, fps=10, width=96, height=64)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    seen: list[SegmentTracks] = []

    def judge(truth: VideoTruth, people: SegmentTracks) -> VideoOutcome:
        seen.append(people)
        return outcome(truth.scored([1.0], [0.0]), EventSettings(0.5))

    films = [
        Film(path, VideoTruth(name, "cam-1", "site", "room", 3.0, 0, (), ()))
        for name, path in (("a" * 64, broken), ("b" * 64, good))
    ]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    worse = judge_worse(films, DEGRADATIONS[1], judge, FeatureSettings(), workers=1, folder=scratch)
    assert [item.video.video_id for item in worse.outcomes] == ["a" * 64, "b" * 64]
    assert [people.video_id for people in seen] == ["a" * 64, "b" * 64]
    assert [people.duration_s for people in seen] == [3.0, 3.0]
    assert list(worse.failed) == ["a" * 64]
    assert "broken.mp4" in worse.failed["a" * 64]
    assert list(scratch.iterdir()) == []
