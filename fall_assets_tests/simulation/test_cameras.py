"""Simulated cameras: FFmpeg reads them like real ones, and their faults are what they say."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import IO

import av
import numpy as np
import pytest
from av.container import InputContainer

from fall_assets.simulation.cameras import CameraServer, obey
from fall_assets.simulation.films import Film, encode_film, load_film, moved, quiet
from fall_assets_tests.edge.waiting import until

FPS = Fraction(25)
WIDTH, HEIGHT = 160, 120


def _picture(brightness: int, number: int) -> av.VideoFrame:
    """A bright bar that walks to the right over noise."""
    random = np.random.default_rng(number)
    picture = random.integers(0, 40, (HEIGHT, WIDTH, 3), np.uint8) + np.uint8(brightness)
    at = 4 * number % (WIDTH - 16)
    picture[20:100, at : at + 16] = 230
    return av.VideoFrame.from_ndarray(picture, format="rgb24")


@pytest.fixture(scope="module")
def film() -> Film:
    return encode_film((_picture(60, number) for number in range(50)), FPS, gop_s=0.4)


@pytest.fixture(scope="module")
def bright() -> Film:
    return encode_film((_picture(150, number) for number in range(30)), FPS, gop_s=0.4)


@pytest.fixture
def server(film: Film, bright: Film) -> Iterator[CameraServer]:
    with CameraServer({"a": film, "b": bright}) as server:
        yield server


@contextmanager
def opened(url: str) -> Iterator[InputContainer]:
    options = {"analyzeduration": "500000", "fflags": "nobuffer"}
    if url.startswith("rtsp"):
        options["rtsp_transport"] = "tcp"
    with av.open(url, options=options, timeout=(10, 10)) as container:
        yield container


def frames(container: InputContainer, count: int) -> list[av.VideoFrame]:
    """The next decodable frames, at least so many."""
    found: list[av.VideoFrame] = []
    for packet in container.demux(container.streams.video[0]):
        try:
            found += [frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)]
        except av.error.InvalidDataError:
            continue
        if len(found) >= count:
            return found
    return found


def seconds(got: Sequence[av.VideoFrame]) -> list[float]:
    """Times of those that have one: FFmpeg gives none to the first."""
    return [float(one.pts * one.time_base) for one in got if one.pts is not None and one.time_base]


def ended(container: InputContainer) -> bool:
    """Read on; whether there is nothing more."""
    try:
        return not frames(container, 1)
    except av.error.FFmpegError:
        return True


def luma(frame: av.VideoFrame) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return frame.to_ndarray(format="gray").astype(np.float64)


@pytest.mark.parametrize("way", ["rtsp", "http"])
def test_ffmpeg_reads_it(server: CameraServer, way: str) -> None:
    url = server.rtsp_url("a") if way == "rtsp" else server.http_url("a")
    with opened(url) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", WIDTH, HEIGHT)
        got = frames(container, 70)
    # More than one round of the film: time goes on, by one frame's length each.
    times = seconds(got)
    steps = {round(later - earlier, 3) for earlier, later in pairwise(times)}
    assert len(times) >= 69
    assert steps <= {0.04, 0.039, 0.041}
    assert 60 < luma(got[-1]).mean() < 130


def test_many_at_once(server: CameraServer) -> None:
    with (
        opened(server.rtsp_url("a")) as first,
        opened(server.rtsp_url("a")) as second,
        opened(server.rtsp_url("b")) as third,
        opened(server.http_url("b")) as fourth,
    ):
        means = [luma(frames(one, 5)[-1]).mean() for one in (first, second, third, fourth)]
        assert abs(means[0] - means[1]) < 10
        assert means[2] - means[0] > 50
        assert abs(means[3] - means[2]) < 10
    assert server.counts("a").connections == 2


def test_its_time_is_the_days_time(server: CameraServer) -> None:
    with opened(server.rtsp_url("a")) as container:
        frames(container, 3)
        right = container.start_time_realtime
    assert right is not None
    server.set_fault("a", "clock", -86_400)
    with opened(server.rtsp_url("a")) as container:
        frames(container, 3)
        wrong = container.start_time_realtime
    assert wrong is not None
    assert -86_400 - 1 < (wrong - right) / 1e6 < -86_400 + 120


def test_time_stamps_jump_with_the_clock(server: CameraServer) -> None:
    with opened(server.rtsp_url("a")) as container:
        before = frames(container, 10)[-1]
        server.set_fault("a", "clock", 3600)
        stamps = [frame.pts for frame in frames(container, 60) if frame.pts is not None]
        assert before.pts is not None
        assert before.time_base is not None
        jump = (max(stamps) - before.pts) * before.time_base
    assert 3600 <= jump < 3660


def test_pictures_that_are_wrong(server: CameraServer) -> None:
    with opened(server.rtsp_url("a")) as container:
        usual = luma(frames(container, 12)[-1]).mean()

        def seen(fault: str) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
            """Pictures some time after the fault was switched."""
            assert obey(server, f"a {fault}") == "ok"
            return [luma(frame) for frame in frames(container, 40)[-15:]]

        frozen = seen("frozen")
        assert max(abs(later - frozen[0]).mean() for later in frozen) < 3
        assert abs(frozen[0].mean() - usual) < 15
        black = seen("black")
        assert max(picture.mean() for picture in black) < 20
        lit = seen("none")
        assert abs(lit[-1].mean() - usual) < 15
        assert max(abs(later - lit[0]).mean() for later in lit) > 5


def test_a_moved_view_is_the_same_picture_elsewhere(film: Film) -> None:
    before = luma(next(iter(film.pictures(0, 1))))
    after = luma(next(iter(moved(film, right=0.25, down=0.0).pictures(0, 1))))
    shift = WIDTH // 4
    same = abs(after[:, shift:] - before[:, :-shift]).mean()
    assert same < 6
    assert abs(after - before).mean() > 2 * same


def test_a_quiet_room_is_not_a_frozen_one(film: Film) -> None:
    pictures = [luma(picture) for picture in quiet(film, seconds=2).pictures()]
    assert abs(pictures[0] - pictures[-1]).mean() > 0.1
    assert abs(pictures[0].mean() - pictures[-1].mean()) < 2


def test_a_camera_that_falls_silent_and_one_that_is_cut_off(server: CameraServer) -> None:
    with opened(server.rtsp_url("a")) as container:
        frames(container, 3)
        server.set_fault("a", "silent")
        sent = server.counts("a").sent_frames
        given = server.counts("a").frames
        until(lambda: server.counts("a").frames > given + 10, "the sensor goes on")
        assert server.counts("a").sent_frames <= sent + 1
        server.set_fault("a", "none")
        assert frames(container, 3)
        server.drop("a")
        until(lambda: ended(container), "the stream has ended")
    with opened(server.rtsp_url("a")) as container:
        assert frames(container, 3)
        server.set_fault("a", "refused")
        with pytest.raises((OSError, av.error.FFmpegError)), opened(server.rtsp_url("a")):
            pass
        with pytest.raises((OSError, av.error.FFmpegError)), opened(server.http_url("a")):
            pass
    with opened(server.rtsp_url("b")) as container:
        assert frames(container, 3)
    server.set_fault("a", "none")
    with opened(server.rtsp_url("a")) as container:
        assert frames(container, 3)


def test_packets_that_are_lost(server: CameraServer) -> None:
    server.set_fault("b", "loss", 0.1)
    with opened(server.rtsp_url("b")) as container:
        assert len(frames(container, 40)) >= 40
    counts = server.counts("b")
    assert 0.02 < counts.lost_packets / counts.packets < 0.3


def test_key_pictures_only(server: CameraServer) -> None:
    server.set_fault("a", "starved")
    with opened(server.rtsp_url("a")) as container:
        times = seconds(frames(container, 4))
    assert min(later - earlier for earlier, later in pairwise(times)) > 0.3


def test_it_outlives_what_clients_do(server: CameraServer) -> None:
    nonsense = [
        b"",
        b"\x00" * 3000,
        b"$\x00\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
        b"DESCRIBE rtsp://x/nobody RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        b"PLAY rtsp://x/a RTSP/1.0\r\nContent-Length: -7\r\n\r\n",
        b"SETUP rtsp://x/a RTSP/1.0\r\nContent-Length: x\r\n\r\n",
        b"A" * 500_000,
    ]
    for port in (server.rtsp_port, server.http_port):
        for text in nonsense:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(text)
    # One that never reads does not hold up the others.
    with socket.create_connection(("127.0.0.1", server.rtsp_port), timeout=10) as connection:
        connection.sendall(b"PLAY rtsp://127.0.0.1/a RTSP/1.0\r\nCSeq: 1\r\n\r\n")
        with opened(server.rtsp_url("a")) as container:
            assert frames(container, 10)
    with opened(server.http_url("b")) as container:
        assert frames(container, 3)


def test_a_fault_that_does_not_exist(server: CameraServer) -> None:
    assert obey(server, "a broken").startswith("refused: there is no fault")
    assert obey(server, "c black").startswith("refused: there is no camera")
    assert obey(server, "a").startswith("refused: say")
    assert obey(server, "* clock soon").startswith("refused")
    assert obey(server, "* none") == "ok"
    with pytest.raises(ValueError, match="cannot be called"):
        CameraServer({"../a": server._cameras["a"].own})


def test_films_are_taken_as_they_are_or_encoded(tmp_path: Path, film: Film) -> None:
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"bf": "0", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in film.pictures():
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    same = load_film(path)
    assert (len(same.units), float(same.fps), same.width, same.height) == (50, 25, WIDTH, HEIGHT)
    with av.open(str(path)) as container:
        sizes = [packet.size for packet in container.demux(video=0) if packet.size]
    assert len(same.units[3].nals[-1]) + 4 <= sizes[3]
    slower = load_film([path, path], fps=10, gop_s=1)
    assert (float(slower.fps), len(slower.units)) == (10, 40)
    assert [n for n, unit in enumerate(slower.units) if unit.key] == [0, 10, 20, 30]
    with pytest.raises((ValueError, av.error.FFmpegError)):
        load_film(Path(__file__))


def _line(stream: IO[str], limit_s: float = 60) -> str:
    ready, _, _ = select.select([stream], [], [], limit_s)
    assert ready, "the cameras say nothing"
    return stream.readline()


def test_as_a_process(tmp_path: Path, film: Film) -> None:
    path = tmp_path / "film.h264"
    path.write_bytes(b"".join(film.annexb(number) for number in range(len(film.units))))
    command = [sys.executable, "-m", "fall_assets.simulation.cameras", f"bed={path}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        streams = json.loads(_line(process.stdout))
        with opened(streams["bed"]["rtsp"]) as container:
            assert frames(container, 3)
            process.stdin.write("bed black\n")
            process.stdin.flush()
            assert _line(process.stdout) == "ok\n"
            assert luma(frames(container, 40)[-1]).mean() < 20
        with urllib.request.urlopen(streams["bed"]["http"], timeout=20) as answer:
            assert answer.read(188)[0] == 0x47
        process.stdin.close()
        assert process.wait(30) == 0
