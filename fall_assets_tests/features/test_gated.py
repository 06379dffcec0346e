"""What the motion gate lets through is decoded once, and what it keeps out costs a glance."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from polars.testing import assert_frame_equal

from fall_assets.features import extract as extraction
from fall_assets.features.compressed import read_compressed
from fall_assets.features.extract import Team, extract
from fall_assets.features.gate import CompressedFacts, MotionGateSettings, Stretch
from fall_assets.features.people import People
from fall_assets.features.segments import TABLES, VideoRef
from fall_assets.features.settings import (
    FeatureSettings,
    MotionSettings,
    PictureSettings,
    PoseSettings,
)
from fall_assets.lake.registry import table
from fall_assets.lake.validation import validate
from fall_assets_tests.features.clips import moving_box

DAY = date(2026, 3, 1)
GATE = MotionGateSettings(glance_s=12.0, somebody_s=4.0, somebody_every_s=300.0)
POSE = FeatureSettings(gate=GATE)
MOTION = FeatureSettings(
    gate=GATE,
    extractor=MotionSettings(),
    picture=PictureSettings(long_side=160, colour=False),
    sample_hz=5.0,
)
STILL_S, MOVING_S = 60, 6
SPAN = (20.0, 32.0)


def ref(path: Path) -> VideoRef:
    return VideoRef(path, "ab" * 32, "cam-01", DAY)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute with noise and a key frame every 2 s, in which something moves from 22 to 28 s."""
    path = tmp_path_factory.mktemp("gated") / "a.mp4"
    pictures = moving_box(MOVING_S * 10, step=4)
    rng = np.random.default_rng(0)
    coding = {"g": "20", "keyint_min": "20", "sc_threshold": "0", "bf": "0", "preset": "ultrafast"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options=coding)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for number in range(STILL_S * 10):
            picture = pictures[min(max(number - 220, 0), len(pictures) - 1)]
            noisy = picture + rng.normal(0, 2, picture.shape)
            frame = av.VideoFrame.from_ndarray(np.clip(noisy, 0, 255).astype(np.uint8), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


class Seer:
    """A pose network that sees somebody of a score; it remembers how often it was asked."""

    def __init__(self, score: float) -> None:
        self.asked, self._score = 0, score

    def people(self, picture: NDArray[np.uint8]) -> People:
        self.asked += 1
        if not self._score:
            return People.nobody()
        keypoints = np.full((1, 17, 3), self._score, np.float32)
        # Wider than tall.
        boxes = np.array([[0.2, 0.7, 0.8, 0.9, self._score]], np.float32)
        return People(keypoints, boxes)


def team_of(*sets: FeatureSettings, sees: float = 0.0) -> tuple[Team, Seer]:
    team, seer = Team.of(sets), Seer(sees)
    for settings, extractor in team.members:
        if isinstance(settings.extractor, PoseSettings):
            extractor.network = seer  # type: ignore[attr-defined]
    return team, seer


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate lets SPAN through."""
    stretch = [Stretch(*SPAN, "packets")]
    monkeypatch.setattr(extraction, "open_stretches", lambda _facts, _settings: list(stretch))


@pytest.mark.usefixtures("opened")
def test_only_what_the_gate_lets_through_is_decoded(recording: Path) -> None:
    team, seer = team_of(POSE)
    found = extract(ref(recording), team)
    for name in TABLES:
        validate(found.tables[name], table(name), day=DAY)
    figures = found.figures
    assert figures.frames == STILL_S * 10
    # 121 frames of the span; a glance at 0, 12, 44 and 56 s.
    assert (figures.decoded, figures.glances) == (121 + 4, 4)
    assert seer.asked == figures.samples == 121 + 4
    (gate,) = found.tables["motion_gate"].to_dicts()
    assert gate["open_s"] == pytest.approx(12)
    assert json.loads(gate["stretches"]) == [[*SPAN, "packets"]]
    rows = found.features
    assert rows["window"].to_list() == list(range(57))
    assert rows.filter(pl.col("start_s").is_between(20, 28))["watched"].to_list() == [1.0] * 9
    assert rows.filter(pl.col("start_s").is_between(32, 56))["watched"].to_list() == [0.0] * 25
    # Nobody looked at the windows from 1 to 12 s, apart from 9 to 12, which hold the glance.
    looked = rows.filter(pl.col("people").is_not_null())["window"].to_list()
    assert looked == [0, *range(9, 13), *range(17, 32), *range(41, 45), *range(53, 57)]
    assert rows["fps"].to_list() == pytest.approx([10.0] * 57, rel=0.01)
    assert rows["brightness"].is_not_null().all()
    moved = rows.filter(pl.col("motion_max") > 0.008)["window"].to_list()
    assert moved == list(range(19, 28))


@pytest.mark.usefixtures("opened")
def test_what_is_let_through_has_the_rows_of_a_whole_pass(recording: Path) -> None:
    whole = extract(ref(recording), team_of(replace(MOTION, gate=None))[0])
    gated = extract(ref(recording), team_of(MOTION)[0])
    inside = pl.col("start_s").is_between(20, 28)
    same = ["window", "fps", "width", "people", "watched"]
    assert_frame_equal(gated.features.filter(inside)[same], whole.features.filter(inside)[same])
    (part,) = gated.tables["sequences"].to_dicts()
    (all_of_it,) = whole.tables["sequences"].to_dicts()
    width, hz = part["width"], part["rate_hz"]
    assert part["start_s"] == pytest.approx(SPAN[0] + 1 / hz)
    assert part["samples"] == round((SPAN[1] - SPAN[0]) * hz)
    values = np.frombuffer(part["values"], "<f2").reshape(-1, width)
    first = round((part["start_s"] - all_of_it["start_s"]) * hz)
    others = np.frombuffer(all_of_it["values"], "<f2").reshape(-1, width)
    np.testing.assert_array_equal(values, others[first : first + len(values)])


@pytest.mark.usefixtures("opened")
def test_somebody_who_lies_there_is_followed_for_a_while(recording: Path) -> None:
    often = replace(GATE, somebody_every_s=30.0)
    team, _ = team_of(replace(POSE, gate=often), sees=0.3)
    found = extract(ref(recording), team)
    stretches = json.loads(found.tables["motion_gate"]["stretches"].item())
    # Believed at once: the next look is due after half a minute.
    assert stretches == [[0, 4, "somebody"], [*SPAN, "packets"], [44, 48, "somebody"]]
    tracks = found.pose_tracks.sort("start_s")
    assert tracks["start_s"].to_list() == pytest.approx([0, 20, 44])
    assert tracks["samples"].to_list() == [41, 121, 41]
    rows = found.features
    seen = rows.filter(pl.col("people") > 0)
    assert seen["lying"].to_list() == [1.0] * seen.height
    # Also where a glance saw them and nobody followed.
    assert {0, 12, 20, 44, 56} <= set(seen["window"])


@pytest.mark.usefixtures("opened")
def test_a_doubtful_sight_opens_the_gate_and_is_nobody(recording: Path) -> None:
    twice = replace(GATE, somebody_tries=2)
    team, _ = team_of(replace(POSE, gate=twice), sees=0.1)
    found = extract(ref(recording), team)
    reasons = [why for _, _, why in json.loads(found.tables["motion_gate"]["stretches"].item())]
    assert reasons == ["somebody", "somebody", "packets"]
    # No track is believed at that score, and neither is a glance: it is tried once more only.
    assert found.pose_tracks.is_empty()
    assert not (found.features["people"] > 0).any()


@pytest.mark.usefixtures("opened")
def test_several_sets_share_one_decode(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grey = replace(POSE, picture=PictureSettings(colour=False, brightness=0.1))
    reads = []

    def counting(path: Path, settings: MotionGateSettings) -> CompressedFacts:
        reads.append(path)
        return read_compressed(path, settings)

    monkeypatch.setattr(extraction, "read_compressed", counting)
    alone = [extract(ref(recording), team_of(one)[0]) for one in (POSE, grey, MOTION)]
    reads.clear()
    found = extract(ref(recording), team_of(POSE, grey, MOTION)[0])
    assert found.figures.decoded == alone[0].figures.decoded
    assert len(reads) == 1
    for name in ("features", "pose_tracks", "sequences"):
        rows = pl.concat([one.tables[name] for one in alone])
        assert found.tables[name].equals(rows), name


def test_a_set_without_a_gate_sees_everything(
    recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        extraction, "open_stretches", lambda _facts, _settings: [Stretch(*SPAN, "packets")]
    )
    whole = replace(MOTION, gate=None)
    found = extract(ref(recording), team_of(whole, MOTION)[0])
    assert found.figures.decoded == STILL_S * 10
    rows = found.features
    assert rows.filter(feature_set=whole.version)["watched"].to_list() == [1.0] * 57
    gated = rows.filter(feature_set=MOTION.version)
    alone = extract(ref(recording), team_of(MOTION)[0])
    assert gated["watched"].to_list() == alone.features["watched"].to_list()
    parts = found.tables["sequences"].filter(feature_set=MOTION.version)
    assert parts.equals(alone.tables["sequences"])
