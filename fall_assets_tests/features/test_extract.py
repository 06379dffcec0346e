"""One pass over a segment yields true figures, in rows that the lake takes."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from polars.testing import assert_frame_equal

from fall_assets.errors import PermanentFailureError
from fall_assets.features.crop import Crop
from fall_assets.features.extract import Team, extract
from fall_assets.features.packing import unpack_boxes, unpack_keypoints
from fall_assets.features.pictures import PictureMaker
from fall_assets.features.segment_file import UnreadableSegmentError
from fall_assets.features.segments import SegmentFeatures, VideoRef
from fall_assets.features.settings import FeatureSettings
from fall_assets.lake.registry import table
from fall_assets.lake.validation import validate
from fall_assets_tests.features.clips import every, moving_box, plain, write_clip
from fall_assets_tests.footage_samples import SAMPLES, needs_samples

DAY = date(2026, 3, 1)
SETTINGS = replace(FeatureSettings(), gate=None)


def ref(path: Path, crop: str | None = None) -> VideoRef:
    return VideoRef(path, "ab" * 32, "cam-01", DAY, crop)


def first_frame(path: Path) -> av.VideoFrame:
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


def check_rows(found: SegmentFeatures) -> None:
    validate(found.features, table("features"), day=DAY)
    validate(found.pose_tracks, table("pose_tracks"), day=DAY)
    assert set(found.features["feature_set"]) == {SETTINGS.version}


def test_figures_of_a_plain_picture(tmp_path: Path, team: Team) -> None:
    path = write_clip(tmp_path / "a.mp4", every(50, lambda _: plain(128)), fps=10)
    found = extract(ref(path), team)
    check_rows(found)
    assert found.duration_s == pytest.approx(5.0, abs=0.01)
    assert found.lost == 0
    assert found.features["window"].to_list() == [0, 1]
    assert found.features["width"].to_list() == [160, 160]
    assert found.features["height"].to_list() == [96, 96]
    assert found.features["fps"].to_list() == pytest.approx([10, 10], rel=0.01)
    assert found.features["brightness"].to_list() == pytest.approx([0.5, 0.5], abs=0.02)
    assert found.features["contrast"].max() == pytest.approx(0, abs=0.01)
    assert found.features["motion_max"].max() == 0
    assert found.features["people"].to_list() == [0, 0]
    assert found.pose_tracks.is_empty()


def test_colours_come_from_the_picture(tmp_path: Path, team: Team) -> None:
    warm = np.zeros((96, 160, 3), np.uint8)
    warm[:] = (200, 140, 80)
    for name, picture, warmth, colour in (("a", warm, 0.47, 0.47), ("b", plain(8), 0, 0)):
        path = write_clip(tmp_path / f"{name}.mp4", [picture] * 20, fps=10)
        row = extract(ref(path), team).features.row(0, named=True)
        assert row["warmth"] == pytest.approx(warmth, abs=0.03)
        assert row["colour"] == pytest.approx(colour, abs=0.03)
        assert (row["dark_share"], row["bright_share"]) == (float(name == "b"), 0.0)


def test_motion_is_seen_where_it_is(tmp_path: Path, team: Team) -> None:
    still, moving = moving_box(1)[0], moving_box(40)
    path = write_clip(tmp_path / "a.mp4", [still] * 80 + moving, fps=10)
    rows = extract(ref(path), team).features
    quiet = rows.filter(pl.col("end_s") <= 8)
    busy = rows.filter(pl.col("start_s") >= 8)
    assert quiet["motion_max"].max() == pytest.approx(0, abs=0.002)
    assert busy["motion_mean"].to_list()[0] > 0.01


def test_frame_rate_comes_from_time_stamps(tmp_path: Path, team: Team) -> None:
    times_s = [*(n / 20 for n in range(80)), *(4 + n / 5 for n in range(20))]
    path = write_clip(tmp_path / "a.mp4", every(100, lambda _: plain(90)), times_s=times_s)
    rows = extract(ref(path), team).features
    assert rows["fps"][0] == pytest.approx(20, rel=0.03)
    assert rows.filter(pl.col("start_s") == 4)["fps"].item() == pytest.approx(5, rel=0.03)


def test_the_crop_is_the_picture(tmp_path: Path, team: Team) -> None:
    halves = plain(40)
    halves[:, 80:] = 200
    path = write_clip(tmp_path / "a.mp4", [halves] * 20, fps=10)
    whole, left, right = (
        extract(ref(path, crop), team).features["brightness"].item()
        for crop in (None, "0,0,0.5,1", "0.5,0,1,1")
    )
    assert left == pytest.approx(40 / 255, abs=0.02)
    assert right == pytest.approx(200 / 255, abs=0.02)
    assert whole == pytest.approx((left + right) / 2, abs=0.01)


@pytest.mark.parametrize("crop", ["0,0,1", "a,b,c,d", "0.5,0,0.5,1", "0,0,1.5,1", "-0.1,0,1,1"])
def test_an_impossible_crop_is_refused(tmp_path: Path, team: Team, crop: str) -> None:
    path = write_clip(tmp_path / "a.mp4", [plain(40)] * 3)
    with pytest.raises(PermanentFailureError, match=r"cameras\.csv"):
        extract(ref(path, crop), team)


def test_a_single_frame_is_a_segment(tmp_path: Path, team: Team) -> None:
    path = write_clip(tmp_path / "a.mp4", [plain(40)])
    found = extract(ref(path), team)
    check_rows(found)
    assert len(found.features) == 1


def test_what_is_no_footage_says_so(tmp_path: Path, team: Team) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no film")
    with pytest.raises(UnreadableSegmentError):
        extract(ref(tmp_path / "a.mp4"), team)


def test_the_same_segment_gives_the_same_rows(tmp_path: Path, team: Team) -> None:
    path = write_clip(tmp_path / "a.mp4", moving_box(30))
    first = extract(ref(path), team)
    again = extract(ref(path), team, decoder_threads=2)
    assert_frame_equal(first.features, again.features)
    assert_frame_equal(first.pose_tracks, again.pose_tracks)


def test_figures_do_not_hang_on_the_resolution(tmp_path: Path, team: Team) -> None:
    small = moving_box(30)
    large = [picture.repeat(2, axis=0).repeat(2, axis=1) for picture in small]
    one, two = (
        extract(ref(write_clip(tmp_path / f"{n}.mp4", pictures)), team)
        for n, pictures in enumerate((small, large))
    )
    for name in ("brightness", "contrast", "motion_mean"):
        assert one.features[name][0] == pytest.approx(two.features[name][0], abs=0.005), name


@pytest.mark.parametrize("crop", [Crop(), Crop(0, 0, 0.5, 1), Crop(0.25, 0.1, 0.9, 0.4)])
@pytest.mark.parametrize("size", [(320, 240), (1280, 720), (98, 180)])
def test_pictures_have_the_size_that_was_asked_for(
    tmp_path: Path, size: tuple[int, int], crop: Crop
) -> None:
    frame = first_frame(write_clip(tmp_path / "a.mp4", [plain(77, *size)]))
    maker = PictureMaker(crop)
    picture = maker.rgb(frame, 256)
    height, width = picture.shape[:2]
    assert max(height, width) == pytest.approx(256, abs=1)
    assert max(height, width) <= 256
    assert math.log(width / height) == pytest.approx(math.log(maker.aspect(frame)), abs=0.02)
    assert maker.luma(frame, 160).ndim == 2
    assert picture.mean() == pytest.approx(77, abs=3)


@pytest.mark.parametrize(("rotation", "side"), [(90, "left"), (-90, "right"), (180, "bottom")])
def test_a_turned_recording_is_set_upright(tmp_path: Path, rotation: int, side: str) -> None:
    bright_top = plain(30, 160, 96)
    bright_top[:48] = 220
    frame = first_frame(write_clip(tmp_path / "a.mp4", [bright_top], rotation=rotation))
    maker = PictureMaker(Crop())
    luma = maker.luma(frame, 80)
    expected = (96, 160) if rotation % 180 else (160, 96)
    assert maker.size(frame) == expected
    assert luma.shape == ((80, 48) if rotation % 180 else (48, 80))
    bright = {"left": luma[:, :10], "right": luma[:, -10:], "bottom": luma[-10:]}[side]
    assert bright.mean() > 200
    assert luma.mean() == pytest.approx(125, abs=5)


def person_rows(found: SegmentFeatures) -> dict[str, NDArray[np.float32]]:
    row = found.pose_tracks.sort("samples", descending=True).row(0, named=True)
    return {"keypoints": unpack_keypoints(row["keypoints"]), "boxes": unpack_boxes(row["boxes"])}


@needs_samples
def test_a_real_fall_is_one_person_going_down(team: Team) -> None:
    path = SAMPLES / "urfd" / "fall" / "fall-10-cam0.mp4"
    found = extract(ref(path), team)
    check_rows(found)
    person = person_rows(found)
    seen = person["boxes"][:, 4] > 0
    assert len(found.pose_tracks) == 1
    assert seen.mean() > 0.9
    assert person["boxes"][:10, 4].min() > 0.35
    # The person falls off a chair: the box turns from tall to wide.
    height = person["boxes"][:, 3] - person["boxes"][:, 1]
    width = person["boxes"][:, 2] - person["boxes"][:, 0]
    assert (height / width)[:10].min() > 1.3
    assert (height / width)[-5:].max() < 1
    assert found.features["person_y"][0] < found.features["person_y"][-1]
