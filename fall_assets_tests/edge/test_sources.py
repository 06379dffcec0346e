"""Cameras are opened within bounded times, and no error tells a password."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from fall_assets.edge import sources
from fall_assets.edge.config import CameraSettings
from fall_assets.edge.sources import Source, SourceError, file_path, open_source, usable_hardware
from fall_assets_tests.footage.films import film


def decoded(source: Source, count: int) -> list[tuple[int, int]]:
    """Sizes of the first pictures."""
    sizes: list[tuple[int, int]] = []
    for packet in source.packets():
        sizes += [(frame.width, frame.height) for frame in source.decoder.decode(packet)]
        if len(sizes) >= count:
            break
    return sizes[:count]


def test_a_file_to_its_end(tmp_path: Path) -> None:
    path = film(tmp_path / "a film.mp4", frames=20, fps=10)
    camera = CameraSettings("a", f"file://{tmp_path}/a%20film.mp4")
    assert file_path(camera) == path
    source = open_source(camera)
    try:
        assert sum(1 for _ in source.packets()) == 20
        assert (source.codec, source.stamped, source.hardware) == ("h264", True, None)
        assert source.rate == pytest.approx(10)
        assert source.decoder.thread_count == 1
    finally:
        source.close()


def test_a_device(tmp_path: Path) -> None:
    source = open_source(CameraSettings("a", "lavfi:testsrc=size=320x240:rate=10"))
    try:
        assert decoded(source, 3) == [(320, 240)] * 3
    finally:
        source.close()
    with pytest.raises(SourceError, match="cannot be opened"):
        open_source(CameraSettings("a", f"v4l2://{tmp_path}/video9"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
        ("empty.mp4", b""),
        ("text.mp4", b"This is no film.\n" * 99),
    ],
)
def test_what_is_no_film(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match="cannot be opened"):
        open_source(CameraSettings("a", f"file://{tmp_path}/{name}"))


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_nobody_there(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    camera = CameraSettings("a", f"{scheme}://ward:geheim-17@127.0.0.1:{port}/x?key=abcdef")
    with pytest.raises(SourceError) as caught:
        open_source(camera)
    assert f"{scheme}://***@127.0.0.1:{port}/x" in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert "abcdef" not in str(caught.value)
    # Nor does what the error was made of.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_somebody_there_who_says_nothing(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "READ_S", 0.3)
    monkeypatch.setattr(sources, "OPEN_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        failed = threading.Event()

        def ask() -> None:
            with pytest.raises(SourceError):
                open_source(CameraSettings("a", f"{scheme}://127.0.0.1:{port}/x"))
            failed.set()

        threading.Thread(target=ask, daemon=True).start()
        assert failed.wait(20), "opening a silent camera blocks for ever"


class Served:
    """What an HTTP camera sends."""

    def __init__(self) -> None:
        self.content = b""
        self.kind = "video/mp2t"
        self.redirect = ""
        self.hold = threading.Event()
        self.asked: list[str] = []


@contextmanager
def http_camera(served: Served) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            self.send_response(302 if served.redirect else 200)
            if served.redirect:
                self.send_header("Location", served.redirect)
            self.send_header("Content-Type", served.kind)
            self.end_headers()
            try:
                self.wfile.write(served.content)
                served.hold.wait(20)
            except OSError:
                pass

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        served.hold.set()
        server.shutdown()
        server.server_close()


def test_http_and_a_stream_that_stops_sending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "READ_S", 0.5)
    served = Served()
    served.content = film(tmp_path / "a.ts", frames=60, fps=20).read_bytes()
    with http_camera(served) as url:
        source = open_source(CameraSettings("a", f"{url}/a.ts"))
        sizes: list[int] = []
        with pytest.raises(SourceError, match=r"127\.0\.0\.1:\d+/a\.ts broke off"):
            sizes.extend(packet.size for packet in source.packets())
        source.close()
    assert source.stamped


def test_mjpeg_has_no_times_of_its_own(tmp_path: Path) -> None:
    served = Served()
    with av.open(str(tmp_path / "a.mpjpeg"), "w", format="mpjpeg") as out:
        stream = out.add_stream("mjpeg", rate=5, options={"strict": "-2"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number in range(20):
            picture = np.full((48, 64, 3), number * 10, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    served.content = (tmp_path / "a.mpjpeg").read_bytes()
    served.kind = "multipart/x-mixed-replace;boundary=ffmpeg"
    served.hold.set()
    with http_camera(served) as url:
        source = open_source(CameraSettings("a", f"{url}/video"))
        assert decoded(source, 5) == [(64, 48)] * 5
        assert not source.stamped
        source.close()


def test_no_redirect_and_no_playlist_is_followed(tmp_path: Path) -> None:
    other, served = Served(), Served()
    other.content = film(tmp_path / "a.ts", frames=20).read_bytes()
    other.hold.set()
    served.hold.set()
    with http_camera(other) as elsewhere, http_camera(served) as url:
        served.redirect = f"{elsewhere}/secret.ts"
        with pytest.raises(SourceError):
            open_source(CameraSettings("a", f"{url}/a.ts"))
        served.redirect = ""
        served.kind = "application/vnd.apple.mpegurl"
        served.content = f"#EXTM3U\n#EXTINF:1,\n{elsewhere}/secret.ts\n".encode()
        with pytest.raises(SourceError):
            open_source(CameraSettings("a", f"{url}/a.m3u8"))
    assert other.asked == []


def test_hardware_that_is_not_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    usable_hardware.cache_clear()
    film(tmp_path / "a.mp4")
    with caplog.at_level(logging.WARNING):
        source = open_source(CameraSettings("a", f"file://{tmp_path}/a.mp4"), hwaccel="nonsense")
    try:
        assert source.hardware is None
        assert len(decoded(source, 3)) == 3
        assert "decoded by the processor (nonsense is not in this FFmpeg" in caplog.text
    finally:
        source.close()
        usable_hardware.cache_clear()


def test_auto_hardware_opens_whatever_there_is(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4")
    source = open_source(CameraSettings("a", f"file://{tmp_path}/a.mp4"), hwaccel="auto")
    try:
        assert len(decoded(source, 3)) == 3
    finally:
        source.close()
        usable_hardware.cache_clear()
