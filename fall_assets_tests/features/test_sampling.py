"""Which frames are looked at, and what becomes of files that are not footage."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.features.sampling import SampleClock, Segment, UnreadableSegmentError
from fall_assets_tests.features.clips import every, moving_box, plain, write_clip

HZ, WAIT_S = 10.0, 0.25


def samples(times_s: list[float]) -> dict[int, float]:
    """Sample number to the time of the frame that serves it; no sample is served twice."""
    clock = SampleClock(HZ, WAIT_S)
    served: dict[int, float] = {}
    for time_s in times_s:
        for number in clock.serve(time_s):
            assert number not in served
            served[number] = time_s
    return served


@given(st.lists(st.floats(0, 20, allow_nan=False), min_size=1, max_size=200, unique=True))
def test_a_sample_is_the_first_frame_at_or_after_its_moment(times_s: list[float]) -> None:
    times_s = [0.0, *sorted(time for time in times_s if time > 1e-3)]
    served = samples(times_s)
    for number in range(int(times_s[-1] * HZ) + 1):
        moment = number / HZ
        # Times within the clock's tick of a border may fall on either side.
        if any(abs(time - moment) < 1e-3 or abs(time - moment - WAIT_S) < 1e-3 for time in times_s):
            continue
        due = [time for time in times_s if moment <= time <= moment + WAIT_S]
        assert served.get(number) == (due[0] if due else None)


@pytest.mark.parametrize("fps", [10.0, 12.5, 15.0, 25.0, 29.97, 30.0, 60.0])
def test_usual_frame_rates_serve_every_sample(fps: float) -> None:
    served = samples([n / fps for n in range(round(20 * fps))])
    assert sorted(served) == list(range(len(served)))
    assert len(served) in (199, 200)
    assert all(0 <= at - number / HZ + 1e-3 <= 1 / fps + 2e-3 for number, at in served.items())


def test_a_slow_camera_serves_several_samples_with_one_frame() -> None:
    assert samples([0.0, 0.2, 0.4]) == {0: 0.0, 1: 0.2, 2: 0.2, 3: 0.4, 4: 0.4}


def test_a_gap_in_the_recording_leaves_samples_without_a_picture() -> None:
    served = samples([0.0, 0.1, 3.0, 3.1])
    assert sorted(served) == [0, 1, 28, 29, 30, 31]


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    times_s = [5.0, 5.1, 5.3, 5.35, 6.0]
    path = write_clip(tmp_path / "a.mp4", every(5, lambda n: plain(20 * n)), times_s=times_s)
    seen = [time_s for time_s, _ in Segment(path).decode()]
    assert seen == pytest.approx([0, 0.1, 0.3, 0.35, 1.0], abs=1e-3)


@pytest.mark.parametrize("threads", [1, 2])
def test_all_frames_are_decoded_with_any_number_of_threads(tmp_path: Path, threads: int) -> None:
    path = write_clip(tmp_path / "a.mp4", moving_box(23))
    assert len(list(Segment(path, threads=threads).decode())) == 23


def test_a_truncated_stream_gives_what_is_there(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "a.mkv", moving_box(40)).read_bytes()
    broken = tmp_path / "b.mkv"
    broken.write_bytes(whole[: len(whole) * 2 // 3])
    assert 5 < len(list(Segment(broken).decode())) < 40


@pytest.mark.parametrize("content", [b"", b"not a film at all\n" * 50])
def test_what_is_not_footage_is_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(UnreadableSegmentError, match=r"a\.mp4 cannot be opened"):
        list(Segment(path).decode())


def test_an_absent_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSegmentError, match="cannot be opened"):
        list(Segment(tmp_path / "gone.mp4").decode())


def test_a_playlist_cannot_open_other_files(tmp_path: Path) -> None:
    secret = write_clip(tmp_path / "secret.ts", moving_box(20))
    playlist = tmp_path / "a.mp4"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n")
    with pytest.raises(UnreadableSegmentError):
        list(Segment(playlist).decode())


def test_time_stamps_that_jump_by_hours_are_refused(tmp_path: Path) -> None:
    times_s = [0.0, 0.1, 9000.0]
    path = write_clip(tmp_path / "a.mkv", every(3, lambda n: plain(30 * n)), times_s=times_s)
    with pytest.raises(UnreadableSegmentError, match=r"jump from 0\.1 to 9000\.0 s"):
        list(Segment(path).decode())
