"""A film scores on the box as it does on the platform, from its packets on."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import av
import numpy as np
import pytest

from fall_assets.edge.model import EdgeModel, PosePool
from fall_assets.edge.parity import FileScores, compare, score_file
from fall_assets.features.crop import Crop
from fall_assets.features.extract import Team, extract
from fall_assets.features.gate import Stretch
from fall_assets.features.segment_file import UnreadableSegmentError
from fall_assets.features.segments import VideoRef
from fall_assets.footage.probe import probe
from fall_assets.learning.detector import Detector
from fall_assets.learning.events import Event, to_events
from fall_assets.learning.windows import segment_tracks
from fall_assets_tests.edge.films import BASE, Packet, encoded, room
from fall_assets_tests.edge.models import FEATURES
from fall_assets_tests.footage_samples import SAMPLES, needs_samples


@pytest.fixture(scope="module")
def team() -> Team:
    return Team.of([FEATURES])


def platform(
    path: Path, detector: Detector, team: Team, crop: str | None = None
) -> tuple[FileScores, list[Stretch]]:
    """Scores, events and the motion gate's stretches, as they go through the lake."""
    found = extract(VideoRef(path, "ab" * 32, "cam-1", date(2026, 3, 1), crop), team)
    probed = probe(path)
    scores = detector.scores(segment_tracks("ab" * 32, probed.duration_s, found.pose_tracks))
    (gate,) = found.tables["motion_gate"].to_dicts()
    end_s, score = scores.end_s.tolist(), scores.score.tolist()
    events = to_events(end_s, score, detector.events, detector.windows.window_s)
    theirs = FileScores(tuple(end_s), tuple(score), scores.track, tuple(events))
    return theirs, [Stretch(*one) for one in json.loads(gate["stretches"])]


def film(path: Path, packets: list[Packet]) -> Path:
    """A file of packets of the size that `room` has."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        stream.time_base = BASE
        for packet in packets:
            packet.stream = stream
            container.mux(packet)
    return path


@needs_samples
@pytest.mark.parametrize(
    "name",
    [
        "urfd/fall/fall-01-cam0.mp4",
        "urfd/fall/fall-02-cam1.mp4",
        "urfd/adl/adl-27-cam0.mp4",
        "gmdcsa24/Subject 1/Fall/13.mp4",
    ],
)
def test_real_films_score_as_on_the_platform(
    edge_model: EdgeModel, detector: Detector, team: Team, name: str
) -> None:
    path = SAMPLES / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    theirs, stretches = platform(path, detector, team)
    mine = score_file(edge_model, path, gate=stretches)
    assert compare(mine, theirs) == []
    assert max(mine.score) > 0


@needs_samples
def test_a_part_of_the_picture_scores_as_on_the_platform(
    edge_model: EdgeModel, detector: Detector, team: Team
) -> None:
    path = SAMPLES / "urfd/fall/fall-01-cam0.mp4"
    theirs, stretches = platform(path, detector, team, "0.1,0,0.9,1")
    crop = Crop.parse("0.1,0,0.9,1")
    assert compare(score_file(edge_model, path, crop=crop, gate=stretches), theirs) == []


@needs_samples
def test_a_gated_film_scores_as_on_the_platform(
    edge_model: EdgeModel, detector: Detector, team: Team, tmp_path: Path
) -> None:
    """A person stands and falls, and the picture then stands still for a minute."""
    path = tmp_path / "a.mp4"
    with av.open(str(SAMPLES / "urfd/fall/fall-01-cam0.mp4")) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    rng = np.random.default_rng(0)

    def pictures() -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
        numbers = [0] * 400 + list(range(0, len(shown), 3)) + [len(shown) - 1] * 400
        noisy = []
        for number in numbers:
            small = av.VideoFrame.from_ndarray(shown[number], "rgb24").reformat(320, 192)
            picture = small.to_ndarray(format="rgb24") + rng.normal(0, 2, (192, 320, 3))
            noisy.append(np.clip(picture, 0, 255).astype(np.uint8))
        return noisy

    film(path, encoded(pictures()))
    theirs, stretches = platform(path, detector, team)
    assert sum(one.end_s - one.start_s for one in stretches) < 60
    mine = score_file(edge_model, path, gate=stretches)
    assert compare(mine, theirs) == []
    assert any(who is not None for who in mine.track)
    assert mine.figures is not None
    assert mine.figures.decoded < 0.8 * mine.figures.frames


def test_a_film_of_nobody_scores_as_on_the_platform(
    edge_model: EdgeModel, detector: Detector, team: Team, tmp_path: Path
) -> None:
    path = film(tmp_path / "a.mp4", encoded(room(300, moving=(200, 230))))
    theirs, stretches = platform(path, detector, team)
    mine = score_file(edge_model, path, gate=stretches, pool=PosePool(edge_model, 1))
    assert compare(mine, theirs) == []
    assert len(mine.end_s) == 146


def test_differences_are_told_in_words() -> None:
    event = Event(0.0, 2.0, 3.0, 0.9)
    scores = FileScores((1.0, 1.2), (0.1, 0.9), (None, 0), (event,))
    assert compare(scores, scores) == []
    assert compare(scores, replace(scores, score=(0.10009, 0.9))) == []
    assert compare(scores, replace(scores, score=(0.1002, 0.9))) == [
        "score at 1 s: 0.100000 here, 0.100200 there"
    ]
    assert compare(scores, replace(scores, score=(float("nan"), 0.9)))
    assert compare(scores, replace(scores, end_s=(1.0, 1.4))) == [
        "scored moments: 2 up to 1.2 s here, 2 up to 1.4 s there"
    ]
    assert compare(scores, replace(scores, end_s=(), score=())) == [
        "scored moments: 2 up to 1.2 s here, none there"
    ]
    assert compare(scores, replace(scores, events=())) == [
        "events raised at 2 s here, no moment there"
    ]
    assert compare(replace(scores, events=(replace(event, raised_s=2.2),)), scores) == [
        "events raised at 2.2 s here, 2 s there"
    ]
    many = replace(scores, end_s=tuple(range(9)), score=(0.5,) * 9)
    told = compare(many, replace(many, score=(0.6,) * 9))
    assert len(told) == 6
    assert told[-1] == "and 4 more scores, up to 0.100000 apart"


def test_scores_go_through_json(edge_model: EdgeModel, tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", encoded(room(60, moving=(0, 60))))
    scores = score_file(edge_model, path)
    again = FileScores.from_dict(json.loads(json.dumps(scores.as_dict())))
    assert (again.end_s, again.score, again.track, again.events) == (
        scores.end_s,
        scores.score,
        scores.track,
        scores.events,
    )


def test_a_file_without_pictures_is_refused(edge_model: EdgeModel, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no film")
    with pytest.raises(UnreadableSegmentError):
        score_file(edge_model, tmp_path / "a.mp4")
