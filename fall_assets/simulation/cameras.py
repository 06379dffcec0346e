"""Simulated cameras on loopback: films in a loop at real pace by RTSP and HTTP, with faults.

    python -m fall_assets.simulation.cameras [--rtsp PORT] [--http PORT] [NAME=]FILE...

What belongs here: the servers, their protocols, and what can go wrong with a camera. What does not:
films (`films.py`), the network between box and gateway (`network.py`).

RTSP (RFC 2326) over TCP with interleaved RTP (RFC 6184: single NAL units and FU-A) and sender
reports of RTCP; HTTP with MPEG-TS at `/NAME.ts`. As a process it says on its standard output, in
one line of JSON, where its streams are, and then takes orders on its standard input, one a line:
`NAME FAULT [AMOUNT]` (`*` for all cameras), `NAME drop`; each is answered by `ok` or what is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import random
import re
import struct
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args

import av

from fall_assets.simulation.films import Film, black, frozen, load_film, moved

_T = TypeVar("_T")

CameraFault = Literal[
    "none", "frozen", "black", "moved", "silent", "refused", "starved", "loss", "clock"
]
CAMERA_FAULTS: tuple[CameraFault, ...] = get_args(CameraFault)

_AMOUNTS: dict[CameraFault, float] = {"loss": 0.1, "clock": 3600.0}
_CLOCK_HZ = 90_000
_PAYLOAD_BYTES = 1400
# A client that does not read is sent nothing more until the next key picture.
_BACKLOG_BYTES = 4_000_000
_REPORT_S = 2.0
_CALL_S = 30.0
_BEHIND_S = 1.0
_REQUEST_BYTES = 16_384
_NTP_EPOCH_S = 2_208_988_800
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass
class CameraCounts:
    """What one camera did so far."""

    frames: int = 0
    """Frames that its sensor gave, sent or not."""
    sent_frames: int = 0
    packets: int = 0
    lost_packets: int = 0
    connections: int = 0


@dataclass(eq=False)
class _Client:
    writer: asyncio.StreamWriter
    send: Callable[[Film, int, int, bytes], None]
    waits_for_key: bool = True


class _Camera:
    """One camera; all methods are of the loop's thread but where they say otherwise."""

    def __init__(self, name: str, film: Film, seed: int) -> None:
        self.name = name
        self.own = film
        self.film = film
        self.at = 0
        self.fault: CameraFault = "none"
        self.amount = 0.0
        self.counts = CameraCounts()
        self.clients: set[_Client] = set()
        self.writers: set[asyncio.StreamWriter] = set()
        self._random = random.Random(f"{seed} {name}")  # noqa: S311 - not for secrets
        self.ssrc = self._random.getrandbits(32)
        self.sequence = self._random.getrandbits(16)
        self._first_stamp = self._random.getrandbits(31)
        self._number = 0
        self._octets = 0
        self._reported = 0.0

    @property
    def refuses(self) -> bool:
        return self.fault == "refused"

    @property
    def clock_offset_s(self) -> float:
        return self.amount if self.fault == "clock" else 0.0

    def ticks(self) -> int:
        """The next frame's time, not yet cut to 32 bits."""
        passed = Fraction(self._number) * _CLOCK_HZ / self.own.fps
        return round(passed + Fraction(self.clock_offset_s) * _CLOCK_HZ)

    def stamp(self) -> int:
        return (self._first_stamp + self.ticks()) & 0xFFFFFFFF

    async def play(self) -> None:
        """Give frames at the film's pace, for ever."""
        loop = asyncio.get_running_loop()
        began, given = loop.time(), 0
        while True:
            due = began + given / float(self.own.fps)
            if (late := loop.time() - due) > _BEHIND_S:
                # The machine was busy or asleep: a camera does not send the past.
                began += late
            elif late < 0:
                await asyncio.sleep(-late)
            self._frame()
            given += 1

    def change(self, fault: CameraFault, amount: float, film: Film) -> None:
        """Switch the fault; the picture changes with a key picture."""
        if film is not self.film:
            # A view that was pushed goes on where it was; other pictures have no time of their own.
            same_time = len(film.units) == len(self.film.units)
            self.film, self.at = film, film.key_from(self.at) if same_time else 0
            for client in self.clients:
                client.waits_for_key = True
        self.fault, self.amount = fault, amount
        if fault == "refused":
            self.drop()

    def drop(self) -> None:
        """Cut all connections."""
        for writer in list(self.writers):
            with suppress(Exception):
                writer.transport.abort()

    def report(self) -> bytes:
        """A sender report: which time stamp is which time by the camera's clock."""
        now = time.time() + self.clock_offset_s + _NTP_EPOCH_S
        words = struct.pack(
            ">BBHIIIIII",
            0x80,
            200,
            6,
            self.ssrc,
            int(now) & 0xFFFFFFFF,
            int(now % 1 * 2**32),
            self.stamp(),
            self.counts.packets & 0xFFFFFFFF,
            self._octets & 0xFFFFFFFF,
        )
        return _interleaved(1, words)

    def _frame(self) -> None:
        film, at = self.film, self.at
        unit = film.units[at]
        self.at = (at + 1) % len(film.units)
        self.counts.frames += 1
        withheld = self.fault == "silent" or (self.fault == "starved" and not unit.key)
        if self.clients and not withheld:
            packets = self._rtp(film, at)
            for client in list(self.clients):
                if client.writer.transport.get_write_buffer_size() > _BACKLOG_BYTES:
                    client.waits_for_key = True
                if client.waits_for_key and not unit.key:
                    continue
                client.waits_for_key = False
                with suppress(Exception):
                    client.send(film, at, self.ticks(), packets)
            self.counts.sent_frames += 1
        self._number += 1

    def _rtp(self, film: Film, at: int) -> bytes:
        """The frame's packets, interleaved; some of them missing where that is the fault."""
        unit = film.units[at]
        nals = (film.sps, film.pps, *unit.nals) if unit.key else unit.nals
        stamp = self.stamp()
        payloads = [payload for nal in nals for payload in _payloads(nal)]
        parts = []
        now = time.monotonic()
        if now - self._reported > _REPORT_S:
            self._reported = now
            parts.append(self.report())
        for number, payload in enumerate(payloads, start=1):
            marker = 0x80 if number == len(payloads) else 0
            head = struct.pack(">BBHII", 0x80, 96 | marker, self.sequence, stamp, self.ssrc)
            self.sequence = (self.sequence + 1) & 0xFFFF
            self.counts.packets += 1
            self._octets += len(payload)
            if self.fault == "loss" and self._random.random() < self.amount:
                self.counts.lost_packets += 1
            else:
                parts.append(_interleaved(0, head + payload))
        return b"".join(parts)


class CameraServer:
    """Plays films as cameras do, in a thread of its own, until it is closed.

    Args:
        films: film of each camera by name (letters, digits, `.`, `_`, `-`).
        rtsp_port, http_port: 0 for any that is free.
        seed: of what is lost when packets are.

    Faults (`set_fault`): frozen: the picture of that moment again and again; black: no light;
    moved: the view is shifted; silent: connections stay, nothing is sent; refused: connections are
    cut, and new ones at once; starved: key pictures only; loss: a share of RTP packets is missing
    (amount, default 0.1; over HTTP nothing is lost); clock: the camera's clock, its time stamps
    and reports, are wrong by `amount` seconds (default 3600); none.
    """

    def __init__(
        self, films: Mapping[str, Film], *, rtsp_port: int = 0, http_port: int = 0, seed: int = 0
    ) -> None:
        for name in films:
            if not _NAME.fullmatch(name):
                raise ValueError(f"a camera cannot be called {name!r}: letters, digits, . _ -")
        self._cameras = {name: _Camera(name, film, seed) for name, film in films.items()}
        self._wanted = (rtsp_port, http_port)
        self._loop = asyncio.new_event_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._sessions: set[asyncio.Task[Any]] = set()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="cameras", daemon=True)
        self._thread.start()
        self._closed = False
        try:
            self.rtsp_port, self.http_port = self._call(self._start())
        except BaseException:
            self.close()
            raise

    @property
    def names(self) -> tuple[str, ...]:
        """The cameras' names."""
        return tuple(self._cameras)

    def rtsp_url(self, name: str) -> str:
        """Where a camera is by RTSP."""
        return f"rtsp://127.0.0.1:{self.rtsp_port}/{self._camera(name).name}"

    def http_url(self, name: str) -> str:
        """Where a camera is by HTTP, as MPEG-TS."""
        return f"http://127.0.0.1:{self.http_port}/{self._camera(name).name}.ts"

    def counts(self, name: str) -> CameraCounts:
        """What a camera did so far."""
        return self._camera(name).counts

    def set_fault(self, name: str, fault: CameraFault, amount: float | None = None) -> None:
        """Switch a camera's fault, instead of the one that it has; returns when it is in force.

        Raises ValueError for a camera or a fault that is not there.
        """
        camera = self._camera(name)
        if fault not in CAMERA_FAULTS:
            raise ValueError(f"there is no fault {fault!r}; there are: {', '.join(CAMERA_FAULTS)}")
        # Encoding takes a while: not in the thread that sends.
        if fault == "frozen":
            film = camera.film if camera.fault == "frozen" else frozen(camera.film, camera.at)
        elif fault == "black":
            film = black(camera.own)
        elif fault == "moved":
            film = moved(camera.own)
        else:
            film = camera.own
        size = _AMOUNTS.get(fault, 0.0) if amount is None else amount

        async def change() -> None:
            camera.change(fault, size, film)

        self._call(change())

    def drop(self, name: str) -> None:
        """Cut a camera's connections once; new ones are taken."""
        camera = self._camera(name)

        async def drop() -> None:
            camera.drop()

        self._call(drop())

    def close(self) -> None:
        """Cut everything off and end the thread."""
        if self._closed:
            return
        self._closed = True
        with suppress(Exception):
            self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        if not self._thread.is_alive():
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _camera(self, name: str) -> _Camera:
        try:
            return self._cameras[name]
        except KeyError:
            raise ValueError(
                f"there is no camera {name!r}; there are: {', '.join(self._cameras)}"
            ) from None

    def _call(self, what: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(_CALL_S)

    async def _start(self) -> tuple[int, int]:
        ports = []
        for port, serve in zip(self._wanted, (self._rtsp, self._http), strict=True):
            server = await asyncio.start_server(
                self._guarded(serve), "127.0.0.1", port, limit=1 << 18
            )
            self._servers.append(server)
            ports.append(int(server.sockets[0].getsockname()[1]))
        for camera in self._cameras.values():
            self._tasks.append(asyncio.ensure_future(camera.play()))
        return ports[0], ports[1]

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        for camera in self._cameras.values():
            camera.drop()
        ending = [*self._tasks, *self._sessions]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def _guarded(
        self,
        serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
        """Whatever a client does ends its own connection only."""

        async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            if task is not None:
                self._sessions.add(task)
                task.add_done_callback(self._sessions.discard)
            try:
                await serve(reader, writer)
            except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
                pass
            finally:
                for camera in self._cameras.values():
                    camera.writers.discard(writer)
                    camera.clients = {one for one in camera.clients if one.writer is not writer}
                writer.close()

        return guarded

    async def _rtsp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = f"{random.getrandbits(48):012x}"
        while True:
            first = await reader.readexactly(1)
            if first == b"$":
                head = await reader.readexactly(3)
                await reader.readexactly(int.from_bytes(head[1:], "big"))
                continue
            text = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lstrip()
            if len(text) > _REQUEST_BYTES:
                raise ValueError("a request without end")
            line, *rest = text.strip().split("\r\n")
            method, url, _ = line.split(" ", 2)
            headers = {
                key.strip().lower(): value.strip()
                for key, _, value in (r.partition(":") for r in rest)
            }
            if length := int(headers.get("content-length", "0")):
                await reader.readexactly(length)
            camera = self._cameras.get(_name_in(url))
            if camera is not None:
                camera.writers.add(writer)
                if camera.refuses:
                    writer.transport.abort()
                    return
            answer = _Answer(headers.get("cseq", "0"))
            if method == "OPTIONS":
                answer.headers["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN"
            elif method == "GET_PARAMETER":
                answer.headers["Session"] = session
            elif camera is None:
                answer.status = "404 Not Found"
            elif method == "DESCRIBE":
                answer.headers["Content-Base"] = url.rstrip("/") + "/"
                answer.headers["Content-Type"] = "application/sdp"
                answer.body = _sdp(camera).encode()
            elif method == "SETUP":
                transport = headers.get("transport", "")
                if "TCP" not in transport:
                    answer.status = "461 Unsupported Transport"
                else:
                    answer.headers["Transport"] = (
                        f"RTP/AVP/TCP;unicast;interleaved=0-1;ssrc={camera.ssrc:08X}"
                    )
                    answer.headers["Session"] = f"{session};timeout=60"
            elif method == "PLAY":
                answer.headers["Session"] = session
                answer.headers["Range"] = "npt=now-"
                writer.write(answer.encoded() + camera.report())
                camera.counts.connections += 1
                camera.clients.add(_Client(writer, lambda _f, _a, _t, rtp: writer.write(rtp)))
                continue
            elif method == "TEARDOWN":
                writer.write(answer.encoded())
                await writer.drain()
                return
            else:
                answer.status = "405 Method Not Allowed"
            writer.write(answer.encoded())
            await writer.drain()

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, _ = text.split("\r\n")[0].split(" ", 2)
        camera = self._cameras.get(path.lstrip("/").removesuffix(".ts"))
        if camera is not None and camera.refuses:
            writer.transport.abort()
            return
        if camera is None or method != "GET":
            writer.write(
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            await writer.drain()
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nCache-Control: no-store\r\n"
            b"Connection: close\r\n\r\n"
        )
        camera.writers.add(writer)
        camera.counts.connections += 1
        muxer = _Muxer(camera.own)

        def send(film: Film, at: int, ticks: int, _: bytes) -> None:
            writer.write(muxer.packed(film, at, ticks))

        camera.clients.add(_Client(writer, send))
        # Ends when the client hangs up.
        while await reader.read(1024):
            pass


class _Muxer:
    """Packs frames into MPEG-TS, for one client."""

    def __init__(self, film: Film) -> None:
        self._file = io.BytesIO()
        self._container = av.open(
            self._file,
            "w",
            format="mpegts",
            options={"mpegts_flags": "resend_headers+pat_pmt_at_frames", "flush_packets": "1"},
        )
        self._stream = self._container.add_mux_stream(
            "h264", rate=film.fps, width=film.width, height=film.height
        )

    def packed(self, film: Film, at: int, ticks: int) -> bytes:
        packet = av.Packet(film.annexb(at))
        packet.time_base = Fraction(1, _CLOCK_HZ)
        packet.pts = packet.dts = ticks
        packet.is_keyframe = film.units[at].key
        packet.stream = self._stream
        self._container.mux(packet)
        packed = self._file.getvalue()
        self._file.seek(0)
        self._file.truncate()
        return packed


@dataclass
class _Answer:
    cseq: str
    status: str = "200 OK"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def encoded(self) -> bytes:
        lines = [f"RTSP/1.0 {self.status}", f"CSeq: {self.cseq}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.body:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


def _name_in(url: str) -> str:
    """The camera's name in `rtsp://host:port/NAME[/track1]`."""
    parts = url.split("://", 1)[-1].split("/")
    return parts[1].split("?")[0] if len(parts) > 1 else ""


def _sdp(camera: _Camera) -> str:
    film = camera.own
    sets = ",".join(base64.b64encode(one).decode() for one in (film.sps, film.pps))
    return "\r\n".join(
        [
            "v=0",
            "o=- 0 0 IN IP4 127.0.0.1",
            f"s={camera.name}",
            "c=IN IP4 0.0.0.0",
            "t=0 0",
            "a=control:*",
            "m=video 0 RTP/AVP 96",
            f"a=rtpmap:96 H264/{_CLOCK_HZ}",
            f"a=fmtp:96 packetization-mode=1;profile-level-id={film.sps[1:4].hex().upper()};"
            f"sprop-parameter-sets={sets}",
            f"a=framerate:{float(film.fps):.3f}",
            "a=control:track1",
            "",
        ]
    )


def _payloads(nal: bytes) -> list[bytes]:
    """A NAL unit as RTP payloads: as it is, or in fragments (FU-A; RFC 6184, 5.8)."""
    if len(nal) <= _PAYLOAD_BYTES:
        return [nal]
    indicator, kind = nal[0] & 0xE0 | 28, nal[0] & 0x1F
    pieces = [nal[at : at + _PAYLOAD_BYTES] for at in range(1, len(nal), _PAYLOAD_BYTES)]
    last = len(pieces) - 1
    return [
        bytes((indicator, kind | (0x80 if n == 0 else 0) | (0x40 if n == last else 0))) + piece
        for n, piece in enumerate(pieces)
    ]


def _interleaved(channel: int, packet: bytes) -> bytes:
    return struct.pack(">cBH", b"$", channel, len(packet)) + packet


def obey(server: CameraServer, order: str) -> str:
    """Carry out one line of orders; what to answer."""
    words = order.split()
    try:
        if len(words) not in (2, 3):
            raise ValueError("say NAME FAULT [AMOUNT] or NAME drop")
        for name in server.names if words[0] == "*" else words[:1]:
            if words[1] == "drop":
                server.drop(name)
            else:
                fault: Any = words[1]
                server.set_fault(name, fault, float(words[2]) if len(words) == 3 else None)
    except ValueError as error:
        return f"refused: {error}"
    return "ok"


def main(arguments: Sequence[str] | None = None) -> int:
    """Play films until the standard input ends."""
    parser = argparse.ArgumentParser(
        prog="python -m fall_assets.simulation.cameras",
        description="Plays films on loopback as cameras do; orders on standard input.",
    )
    parser.add_argument("films", nargs="+", metavar="[NAME=]FILE[+FILE...]")
    parser.add_argument("--rtsp", type=int, default=0, metavar="PORT", help="0: any")
    parser.add_argument("--http", type=int, default=0, metavar="PORT", help="0: any")
    parser.add_argument("--fps", type=float, help="encode with that many frames a second")
    parser.add_argument("--seed", type=int, default=0, help="of what is lost")
    asked = parser.parse_args(arguments)
    films = {}
    for number, text in enumerate(asked.films, start=1):
        name, _, files = text.rpartition("=")
        paths = [Path(file) for file in files.split("+")]
        films[name or f"cam-{number}"] = load_film(
            paths[0] if len(paths) == 1 else paths, fps=asked.fps
        )
    with CameraServer(films, rtsp_port=asked.rtsp, http_port=asked.http, seed=asked.seed) as server:
        streams = {
            name: {"rtsp": server.rtsp_url(name), "http": server.http_url(name)}
            for name in server.names
        }
        print(json.dumps(streams), flush=True)  # noqa: T201 - it is what a caller waits for
        for line in sys.stdin:
            if line.strip():
                print(obey(server, line), flush=True)  # noqa: T201 - the order's answer
    return 0


if __name__ == "__main__":
    sys.exit(main())
