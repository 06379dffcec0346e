"""The picture shows the moment and nobody's face."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from fall_assets.delivery.stills import StillError, head_box, still

WIDTH, HEIGHT, FPS, FRAMES = 320, 180, 10, 30
HEAD = (0.5, 0.3)

Picture = npt.NDArray[np.uint8]


def scene(frame: int) -> Picture:
    """Grey that brightens with time, and a finely chequered head and poster."""
    picture = np.full((HEIGHT, WIDTH, 3), 20 + 6 * frame, np.uint8)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    chequered = ((rows // 4 + columns // 4) % 2 * 255).astype(np.uint8)
    for x, y in (HEAD, (0.15, 0.6)):
        near = np.hypot(columns - x * WIDTH, rows - y * HEIGHT) < 16
        picture[near] = chequered[near, None]
    return picture


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stills") / "segment.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"g": "12", "crf": "12"}
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(scene(number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def person() -> npt.NDArray[np.float64]:
    """Someone who stands upright with the head at `HEAD`."""
    x, y = HEAD
    points = np.zeros((1, 17, 3))
    places = {0: (0, 0), 1: (0.01, -0.01), 2: (-0.01, -0.01), 3: (0.025, 0), 4: (-0.025, 0)}
    places |= {5: (0.05, 0.13), 6: (-0.05, 0.13), 11: (0.03, 0.4), 12: (-0.03, 0.4)}
    for joint, (dx, dy) in places.items():
        points[0, joint] = (x + dx, y + dy, 0.8)
    return points


def seen(picture: bytes) -> Picture:
    """The JPEG's pixels, decoded by another library than the one that wrote it."""
    from PIL import Image

    return np.asarray(Image.open(BytesIO(picture)).convert("RGB"))


def detail(picture: Picture, x: float, y: float) -> float:
    """Contrast within the disc around a place, by its shares."""
    height, width = picture.shape[:2]
    radius = int(12 / WIDTH * width)
    row, column = int(y * height), int(x * width)
    part = picture[row - radius : row + radius, column - radius : column + radius]
    return float(np.abs(np.diff(part.astype(float).mean(axis=2), axis=1)).mean())


@pytest.mark.parametrize("at_s", [0.0, 0.5, 1.24, 2.3, -3.0, 99.0])
def test_it_is_the_frame_of_that_moment(video: Path, at_s: float) -> None:
    frame = int(np.clip(np.floor(at_s * FPS + 1e-6), 0, FRAMES - 1))
    picture = seen(still(video, at_s))
    assert picture.shape == (360, 640, 3)
    corner = picture[:20, -40:].mean()
    assert corner == pytest.approx(20 + 6 * frame, abs=2.5)


def test_a_head_is_hidden_and_the_room_is_not(video: Path) -> None:
    picture = seen(still(video, 0.5, keypoints=person()))
    original = detail(scene(5), *HEAD)
    assert detail(picture, *HEAD) < 0.05 * original
    assert detail(picture, 0.15, 0.6) > 0.2 * original


@pytest.mark.parametrize("keypoints", [None, np.zeros((0, 17, 3)), np.zeros((1, 17, 3))])
def test_without_a_known_head_the_whole_picture_is_coarse(
    video: Path, keypoints: npt.NDArray[np.float64] | None
) -> None:
    picture = seen(still(video, 0.5, keypoints=keypoints))
    assert detail(picture, *HEAD) < 0.1 * detail(scene(5), *HEAD)
    assert detail(picture, 0.15, 0.6) < 0.1 * detail(scene(5), 0.15, 0.6)


@pytest.mark.parametrize("score", [0.0, 0.1, 0.25])
def test_one_face_that_is_not_sure_makes_all_coarse(video: Path, score: float) -> None:
    both = np.concatenate([person(), person()])
    both[1, :, 2] = score
    picture = seen(still(video, 0.5, keypoints=both))
    assert detail(picture, 0.15, 0.6) < 0.1 * detail(scene(5), 0.15, 0.6)


def test_the_crop_is_cut_and_key_points_are_shares_of_it(video: Path) -> None:
    crop = (0.25, 0.0, 0.75, 1.0)
    inside = person()
    inside[..., 0] = (inside[..., 0] - 0.25) / 0.5
    picture = seen(still(video, 0.5, keypoints=inside, crop=crop, long_side=180))
    assert picture.shape == (180, 160, 3)
    assert detail(picture, *HEAD) < 0.2 * detail(scene(5), *HEAD)


def test_the_same_moment_gives_the_same_bytes_without_metadata(video: Path) -> None:
    from PIL import Image

    picture = still(video, 1.0, keypoints=person())
    assert picture == still(video, 1.0, keypoints=person())
    assert not Image.open(BytesIO(picture)).getexif()
    assert len(picture) < 60_000


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("hidden", [(), range(5), (1, 2, 3, 4), (5, 6), (5, 6, 11, 12)])
def test_the_head_is_found_in_any_posture(turn: int, hidden: Any) -> None:
    points = person()[0]
    points[list(hidden), 2] = 0
    angle = np.deg2rad(turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points[:, :2] = (points[:, :2] - 0.5) @ rotation.T + 0.5
    head = (np.array(HEAD) - 0.5) @ rotation.T + 0.5
    box = head_box(points, 1.0)
    assert box is not None
    half_head = 0.025
    assert box[0] <= head[0] - half_head
    assert head[0] + half_head <= box[2]
    assert box[1] <= head[1] - half_head
    assert head[1] + half_head <= box[3]
    # Not half the picture either.
    assert box[2] - box[0] < 0.45


def test_nobody_in_the_key_points_has_no_head() -> None:
    assert head_box(np.zeros((17, 3)), 1.0) is None


def test_what_cannot_be_shown_says_so(video: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("no video")
    with pytest.raises(StillError, match=r"notes\.mp4: cannot be decoded"):
        still(text, 0)
    with pytest.raises(StillError, match=r"gone\.mp4"):
        still(tmp_path / "gone.mp4", 0)
    with pytest.raises(StillError, match="leaves nothing"):
        still(video, 0, crop=(0.5, 0, 0.5, 1))
    with pytest.raises(ValueError, match="shape"):
        still(video, 0, keypoints=np.zeros((17, 3)))
