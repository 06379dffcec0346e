"""What a segment tells before it is decoded is what decoding it shows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from fall_assets.features.compressed import read_compressed
from fall_assets.features.gate import MotionGateSettings, duty, open_stretches
from fall_assets.features.sampling import Segment
from fall_assets.features.segment_file import UnreadableSegmentError

SETTINGS = MotionGateSettings()
CODINGS = {
    "plain": ("libx264", {"bf": "0", "sc_threshold": "0"}),
    "B-frames": ("libx264", {"bf": "3", "sc_threshold": "0"}),
    "open groups": ("libx264", {"bf": "3", "sc_threshold": "0", "x264-params": "open-gop=1"}),
    "all key": ("mjpeg", {}),
    "MPEG-4": ("mpeg4", {}),
}


def recording(
    path: Path,
    coding: str = "plain",
    *,
    seconds: float = 40,
    gop_s: float = 2,
    moves_s: tuple[float, float] | None = None,
    size: tuple[int, int] = (320, 192),
    late: int = 0,
) -> Path:
    """A noisy room at 10 frames/s; something large stands elsewhere after `moves_s`."""
    codec, options = CODINGS[coding]
    rng = np.random.default_rng(0)
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={**options, "g": str(gop_s * 10)})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(round(seconds * 10)):
            picture = 110 + rng.normal(0, 2, (height, width, 3))
            share = 0.0
            if moves_s is not None:
                start, end = moves_s
                share = float(np.clip((number / 10 - start) / (end - start), 0, 1))
            left = round(0.1 * width + share * 0.6 * width)
            picture[height // 3 :, left : left + width // 6] += 90
            frame = av.VideoFrame.from_ndarray(np.clip(picture, 0, 255).astype(np.uint8), "rgb24")
            frame.pts, frame.time_base = number + late, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("late", [0, 70])
def test_times_and_pictures_are_those_of_the_decoder(
    tmp_path: Path, coding: str, late: int
) -> None:
    path = recording(tmp_path / "a.mkv", coding, seconds=20, late=late)
    facts = read_compressed(path, SETTINGS)
    decoded = {round(at, 3): frame for at, frame in Segment(path).decode()}
    np.testing.assert_allclose(facts.times_s, sorted(decoded), atol=2e-3)
    assert facts.duration_s == pytest.approx(20, abs=0.01)
    assert facts.sizes.sum() <= path.stat().st_size
    assert facts.is_key[0]
    assert facts.lost == 0
    assert facts.cells.shape == (len(facts.key_s), SETTINGS.rows, SETTINGS.columns)
    gaps = np.diff(facts.key_s)
    assert (gaps[:-2] >= SETTINGS.key_every_s - 0.01).all()
    # The first frame and the last one are among the pictures.
    assert facts.key_s[0] == 0
    assert facts.key_s[-1] >= facts.times_s[-1] - 1.0
    for at, cells in zip(facts.key_s, facts.cells, strict=True):
        frame = min(decoded.items(), key=lambda item: abs(item[0] - at))[1]
        assert cells.mean() == pytest.approx(frame.to_ndarray(format="gray").mean(), abs=1.5)


@pytest.mark.parametrize("size", [(98, 180), (642, 34), (64, 48), (1280, 720)])
def test_pictures_of_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    facts = read_compressed(recording(tmp_path / "a.mp4", seconds=6, size=size), SETTINGS)
    assert facts.cells.shape[1:] == (SETTINGS.rows, SETTINGS.columns)
    assert facts.cells.mean() == pytest.approx(120, abs=15)


@pytest.mark.parametrize("coding", ["plain", "all key"])
def test_a_still_room_is_kept_out_and_a_move_is_not(tmp_path: Path, coding: str) -> None:
    still = read_compressed(recording(tmp_path / "still.mkv", coding), SETTINGS)
    assert open_stretches(still, SETTINGS) == []
    moving = recording(tmp_path / "moving.mkv", coding, moves_s=(20, 22))
    facts = read_compressed(moving, SETTINGS)
    (stretch,) = open_stretches(facts, SETTINGS)
    assert stretch.start_s <= 19
    assert stretch.end_s >= 32
    assert duty([stretch], facts.duration_s) < 0.7


@pytest.mark.parametrize("gop_s", [2, 10])
def test_a_fall_at_the_very_end_is_let_through(tmp_path: Path, gop_s: int) -> None:
    path = recording(tmp_path / "a.mp4", seconds=39, gop_s=gop_s, moves_s=(37, 38.5))
    facts = read_compressed(path, SETTINGS)
    # As if a constant bit rate hid it.
    flat = np.full_like(facts.sizes, 1000)
    hidden = type(facts)(**{**vars(facts), "sizes": flat})
    (*_, stretch) = open_stretches(hidden, SETTINGS)
    assert stretch.start_s <= 36
    assert stretch.end_s == facts.duration_s


def test_a_file_that_breaks_off_tells_what_it_holds(tmp_path: Path) -> None:
    whole = recording(tmp_path / "a.mkv", seconds=20).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: len(whole) // 2])
    facts = read_compressed(cut, SETTINGS)
    assert 3 < facts.duration_s < 17
    assert facts.key_s[-1] <= facts.duration_s


def test_what_is_no_footage_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no film")
    with pytest.raises(UnreadableSegmentError, match="cannot be opened"):
        read_compressed(tmp_path / "a.mp4", SETTINGS)
