"""Which frames are looked at, and what becomes of files that are not footage."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.features.sampling import Plan, SampleClock, Segment
from fall_assets.features.segment_file import UnreadableSegmentError
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


def shown(frame: av.VideoFrame) -> float:
    return float(frame.to_ndarray(format="gray").mean())


@pytest.fixture(scope="module", params=["no B-frames", "B-frames", "open groups", "late start"])
def long_clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 s at 10 frames/s with a key frame every second; each picture has its own shade."""
    path = tmp_path_factory.mktemp("long") / f"{request.param}.mp4"
    coding = {"g": "10", "keyint_min": "10", "sc_threshold": "0", "bf": "0", "preset": "ultrafast"}
    if request.param in ("B-frames", "open groups"):
        coding |= {"bf": "3", "preset": "fast"}
    if request.param == "open groups":
        coding["x264-params"] = "open-gop=1"
    offset = 90 if request.param == "late start" else 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options=coding)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(120):
            frame = av.VideoFrame.from_ndarray(plain(20 + 40 * (number % 5)), format="rgb24")
            frame.pts, frame.time_base = number + offset, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def zero_of(path: Path) -> int:
    with av.open(str(path)) as container:
        first = next(container.decode(video=0))
        assert first.pts is not None
        return first.pts


def decoded(path: Path, plan: Plan) -> tuple[dict[float, float], list[float]]:
    """Shades of the frames by their times, and the times of single frames."""
    frames, singles = {}, []
    for time_s, frame, is_single in Segment(path).decode_planned(plan):
        if is_single:
            singles.append(round(time_s, 3))
        else:
            frames[round(time_s, 3)] = shown(frame)
    return frames, singles


@settings(max_examples=25)
@given(
    spans=st.lists(st.tuples(st.integers(0, 11), st.integers(1, 80)), max_size=4),
    singles=st.sets(st.integers(0, 11), max_size=5),
)
def test_a_plan_decodes_what_it_names_and_nothing_else(
    long_clip: Path, spans: list[tuple[int, int]], singles: set[int]
) -> None:
    whole = {round(at, 3): shown(frame) for at, frame in Segment(long_clip).decode()}
    apart: list[tuple[float, float]] = []
    for start, length in sorted(spans):
        if not apart or start > apart[-1][1]:
            apart.append((float(start), start + length / 20))
    inside = [any(start <= key <= end for start, end in apart) for key in range(12)]
    wanted = sorted(float(key) for key in singles if not inside[key])
    frames, seen = decoded(long_clip, Plan(zero_of(long_clip), apart, wanted))
    expected = {
        at: shade
        for at, shade in whole.items()
        if any(start - 1e-6 <= at <= end + 1e-4 for start, end in apart)
    }
    assert seen == wanted
    missing, more = expected.keys() - frames.keys(), frames.keys() - expected.keys()
    # What a decoder still holds when the next span begins is shown as well.
    assert all(any(0 < key - at < 0.35 for key, _ in apart) for at in more)
    # In open groups the last three frames before a key frame hang on it.
    assert all(any(0 < key - at < 0.35 for key in range(12)) for at in missing)
    assert not missing or "open" in long_clip.name
    for at, shade in frames.items():
        assert shade == pytest.approx(whole[at], abs=1)


def test_a_plan_can_be_opened_at_a_single_frame(long_clip: Path) -> None:
    plan = Plan(zero_of(long_clip), [(9.0, 10.0)], [2.0, 5.0])
    segment = Segment(long_clip)
    times: list[float] = []
    singles: list[float] = []
    for time_s, _frame, is_single in segment.decode_planned(plan):
        (singles if is_single else times).append(round(time_s, 3))
        if is_single and time_s == pytest.approx(5.0):
            plan.open(6.55)
    assert singles == [2.0, 5.0]
    assert times == [round(n / 10, 3) for n in (*range(50, 66), *range(90, 101))]
    assert segment.lost == 0
