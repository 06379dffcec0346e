"""Previews show the piece, and nobody who could be recognised."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from fall_assets.delivery.stills import still
from fall_assets.features.packing import pack_boxes, pack_keypoints
from fall_assets.labelling.previews import MAX_S, Preview, PreviewError, preview
from fall_assets.lake.registry import table
from fall_assets_tests.delivery.test_stills import HEAD, detail, person, seen
from fall_assets_tests.features.clips import write_clip

WIDTH, HEIGHT, FPS, LENGTH_S = 320, 180, 10, 12
RATE_HZ = 5.0
POSTER = (0.15, 0.6)


def picture(time_s: float) -> NDArray[np.uint8]:
    """Grey that brightens with time, and a finely chequered head and poster."""
    shown = np.full((HEIGHT, WIDTH, 3), 20 + 18 * (time_s % 12), np.uint8)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    chequered = ((rows // 4 + columns // 4) % 2 * 255).astype(np.uint8)
    for x, y in (HEAD, POSTER):
        near = np.hypot(columns - x * WIDTH, rows - y * HEIGHT) < 16
        shown[near] = chequered[near, None]
    return shown


def film(path: Path, times_s: list[float], rotation: int = 0) -> Path:
    """A film with a frame at each time; with a rotation it is stored turned and shown upright."""
    shown = [np.ascontiguousarray(np.rot90(picture(x), -rotation // 90)) for x in times_s]
    return write_clip(path, shown, fps=FPS, times_s=times_s, quality="12", rotation=rotation)


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(
        tmp_path_factory.mktemp("previews") / "segment.mp4",
        [k / FPS for k in range(LENGTH_S * FPS)],
    )


def tracks(*people: tuple[float, NDArray[np.float64]]) -> pl.DataFrame:
    """Rows of `pose_tracks`: start in seconds and key points (samples, 17, 3)."""
    rows: list[dict[str, Any]] = [
        {
            "day": None,
            "video_id": "v",
            "camera_id": "c",
            "feature_set": "f",
            "track": number,
            "start_s": start_s,
            "rate_hz": RATE_HZ,
            "samples": len(points),
            "aspect": WIDTH / HEIGHT,
            "keypoints": pack_keypoints(points),
            "boxes": pack_boxes(np.zeros((len(points), 5))),
        }
        for number, (start_s, points) in enumerate(people)
    ]
    return pl.DataFrame(rows, schema=table("pose_tracks").schema)


def standing(samples: int, score: float = 0.8) -> NDArray[np.float64]:
    points = np.repeat(person(), samples, axis=0)
    points[:, :17, 2] *= score / 0.8
    return points


def pictures(made: Preview) -> list[NDArray[np.uint8]]:
    with av.open(BytesIO(made.content), "r") as container:
        return [
            np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            for frame in container.decode(video=0)
        ]


ALWAYS = tracks((0.0, standing(int(LENGTH_S * RATE_HZ))))


@pytest.mark.parametrize("start_s", [0.0, 2.5, 7.1])
def test_it_shows_the_stretch_frame_by_frame(segment: Path, start_s: float) -> None:
    made = preview(segment, start_s, start_s + 4, fps=FPS, tracks=ALWAYS)
    shown = pictures(made)
    assert (made.start_s, made.fps, made.frames) == (start_s, FPS, 40)
    assert len(shown) == 40
    for number in (0, 1, 17, 39):
        expected = 20 + 18 * (start_s + number / FPS)
        assert shown[number][20:60, -60:-20].mean() == pytest.approx(expected, abs=3)


def test_an_uneven_frame_rate_becomes_even(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.2, 1.0, 1.05, 1.1, 2.0, 3.0]
    path = film(tmp_path / "uneven.mp4", times)
    made = preview(path, 0.0, 3.0, fps=2.7, tracks=None)
    assert made.frames == int(3.0 * made.fps)
    for number, shown in enumerate(pictures(made)):
        latest = max(x for x in times if x <= number / made.fps + 1e-3)
        assert shown[20:60, -60:-20].mean() == pytest.approx(20 + 18 * latest, abs=3)


def test_heads_are_hidden_in_every_frame_and_the_room_is_not(segment: Path) -> None:
    made = preview(segment, 1.0, 5.0, fps=FPS, tracks=ALWAYS)
    original = picture(3.0)
    assert made.coarse_frames == 0
    for shown in pictures(made):
        assert detail(shown, *HEAD) < 0.1 * detail(original, *HEAD)
        assert detail(shown, *POSTER) > 0.2 * detail(original, *POSTER)


@pytest.mark.parametrize(
    "doubtful",
    [
        None,
        tracks(),
        tracks((0.0, standing(60, score=0.2))),
        tracks((0.0, standing(60)), (0.0, standing(60, score=0.0))),
    ],
    ids=["ceiling", "nobody", "unsure", "one of two"],
)
def test_where_a_head_is_not_known_all_is_coarse(
    segment: Path, doubtful: pl.DataFrame | None
) -> None:
    made = preview(segment, 1.0, 5.0, fps=FPS, tracks=doubtful)
    assert made.coarse_frames == made.frames
    for shown in pictures(made):
        for place in (HEAD, POSTER):
            assert detail(shown, *place) < 0.15 * detail(picture(3.0), *place)


def test_around_a_moment_of_doubt_all_is_coarse(segment: Path) -> None:
    points = standing(60)
    points[15, :, 2] = 0.0  # at 3 s
    shown = pictures(preview(segment, 2.0, 4.0, fps=FPS, tracks=tracks((0.0, points))))
    sharp = [detail(x, *POSTER) > 0.2 * detail(picture(3.0), *POSTER) for x in shown]
    assert sharp[:6] == [True] * 6
    assert not any(sharp[8:13])
    assert sharp[15:] == [True] * 5


def test_between_samples_a_moving_head_is_hidden_where_it_was_and_will_be(segment: Path) -> None:
    points = standing(60)
    points[::2, :, 0] += 0.2  # every other sample, the head is elsewhere
    for shown in pictures(preview(segment, 2.0, 4.0, fps=FPS, tracks=tracks((0.0, points))))[1::2]:
        assert detail(shown, *HEAD) < 0.1 * detail(picture(3.0), *HEAD)


def test_key_points_are_shares_of_the_part_that_is_used(segment: Path) -> None:
    points = standing(60)
    points[..., 0] = (points[..., 0] - 0.1) / 0.8
    people = tracks((0.0, points))
    for shown in pictures(preview(segment, 1.0, 2.0, fps=FPS, tracks=people, crop="0.1,0,0.9,1")):
        assert shown.shape == (448, 640, 3)
        assert detail(shown, *HEAD) < 0.1 * detail(picture(1.5), *HEAD)
        poster = ((POSTER[0] - 0.1) / 0.8, POSTER[1])
        assert detail(shown, *poster) > 0.2 * detail(picture(1.5), *POSTER)


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_a_turned_recording_hides_the_heads_where_they_are(tmp_path: Path, rotation: int) -> None:
    """Key points are of the upright picture; so are previews and stills."""
    path = film(tmp_path / "turned.mp4", [k / FPS for k in range(20)], rotation)
    made = preview(path, 0.0, 2.0, fps=FPS, tracks=ALWAYS)
    for shown in (pictures(made)[5], seen(still(path, 0.5, keypoints=person()))):
        assert shown.shape == (360, 640, 3)
        assert detail(shown, *HEAD) < 0.1 * detail(picture(0.5), *HEAD)
        assert detail(shown, *POSTER) > 0.2 * detail(picture(0.5), *POSTER)


def test_it_ends_with_the_segment(segment: Path) -> None:
    made = preview(segment, 9.0, 30.0, fps=FPS, tracks=ALWAYS)
    assert made.frames == len(pictures(made)) == 30
    assert preview(segment, -5.0, 1.0, fps=FPS, tracks=ALWAYS).start_s == 0.0


def test_it_is_bounded(tmp_path: Path) -> None:
    path = film(tmp_path / "long.mp4", [float(k) for k in range(80)])
    made = preview(path, 0.0, 10_000.0, fps=1.0, tracks=None)
    assert made.frames == MAX_S


def test_it_carries_no_sound_and_no_metadata(segment: Path) -> None:
    made = preview(segment, 0.0, 2.0, fps=FPS, tracks=ALWAYS)
    with av.open(BytesIO(made.content)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        told = {k: v for k, v in container.metadata.items() if k not in ("encoder",)}
        assert set(told) <= {"major_brand", "minor_version", "compatible_brands"}
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].average_rate == FPS
    assert made.content.index(b"moov") < made.content.index(b"mdat")
    assert made.content == preview(segment, 0.0, 2.0, fps=FPS, tracks=ALWAYS).content


def test_what_cannot_be_shown_says_so(segment: Path, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("no film")
    for path, start_s, end_s, part in (
        (text, 0.0, 2.0, "cannot be decoded"),
        (tmp_path / "gone.mp4", 0.0, 2.0, "cannot be decoded"),
        (segment, 90.0, 94.0, "nothing is shown"),
        (segment, 4.0, 4.0, "no stretch"),
    ):
        with pytest.raises(PreviewError, match=part):
            preview(path, start_s, end_s, fps=FPS)
