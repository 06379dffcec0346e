"""Files that a landing folder may hold besides good footage, by named makers.

`BAD_FILES` lists each with what must become of it; the tests and `benchmarks.bad_input` use the
same list. Nothing of it lies in the repository: every file is made when it is asked for.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image

from fall_assets_tests.footage.films import cut, film, sound

DAY_FOLDER = "cam-01/2026-03-01"
TAKEN_IN = "taken in"


@dataclass(frozen=True)
class BadFile:
    """One kind of file.

    Attributes:
        name: what it is.
        make: writes it below a landing folder and returns its path below that.
        becomes: the reasons that are right, or TAKEN_IN.
    """

    name: str
    make: Callable[[Path], bytes]
    becomes: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether it is footage after all."""
        return self.becomes == (TAKEN_IN,)


def _at(landing: Path, name: str = "08-00-00.mp4") -> Path:
    path = landing / DAY_FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _named(make: Callable[[Path], object], name: str = "08-00-00.mp4") -> Callable[[Path], bytes]:
    def made(landing: Path) -> bytes:
        path = _at(landing, name)
        make(path)
        return os.fsencode(path.relative_to(landing))

    return made


# Content that is no video ---------------------------------------------------------------------


def _jpeg(path: Path) -> None:
    Image.new("RGB", (64, 48), "gray").save(path, "JPEG")


def _damaged_header(path: Path) -> None:
    """The boxes' names in the index are overwritten; the pictures are whole."""
    film(path, options={"movflags": "faststart"})
    content = bytearray(path.read_bytes())
    start = content.index(b"moov") + 4
    content[start : start + 200] = b"\xa5" * 200
    path.write_bytes(bytes(content))


def _damaged_pictures(path: Path) -> None:
    """The index is whole, the pictures are noise."""
    film(path, frames=40, options={"movflags": "faststart"})
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    noise = np.random.default_rng(0).integers(0, 256, len(content) - start, dtype=np.uint8)
    content[start:] = noise.tobytes()
    path.write_bytes(bytes(content))


def _truncated(share: float, *, faststart: bool) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        whole = film(
            path.with_suffix(".whole"),
            frames=60,
            container="mp4",
            options={"movflags": "faststart"} if faststart else {},
        )
        cut(whole, path, share)
        whole.unlink()

    return make


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(1 << 20))


# Videos that are unusual ----------------------------------------------------------------------


def _turned(path: Path) -> None:
    """Pictures of 64 x 48 that are to be shown turned by a quarter."""
    plain = film(path.with_suffix(".plain"), container="mp4")
    with av.open(str(plain)) as source, av.open(str(path), "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    plain.unlink()
    content = bytearray(path.read_bytes())
    # The matrix of the track's header (ISO/IEC 14496-12, 8.3.2) is 40 bytes after the box's name.
    start = content.index(b"tkhd") + 4 + 40
    content[start : start + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(content))


def _uneven(path: Path) -> None:
    """Frames that come after 20 ms to 400 ms."""
    steps = np.random.default_rng(1).integers(20, 400, 40)
    film(path, stamps_ms=[int(x) for x in np.cumsum(steps)])


def _lossless(width: int, height: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        film(path, width=width, height=height, pixels="yuv444p", frames=5)

    return make


def _endless_film(path: Path) -> None:
    """Two hours between two frames."""
    film(path, stamps_ms=[0, 100, 200, 7_200_000, 7_200_100])


def _twice_the_same_hour(path: Path) -> None:
    """A transport stream whose clock starts anew in the middle."""
    part = film(path.with_suffix(".part"), container="mpegts", frames=60, gop=10)
    path.write_bytes(part.read_bytes() * 2)
    part.unlink()


def _backwards(path: Path) -> None:
    """Matroska whose every time stamp is smaller than the one before."""
    picture = _picture(64, 48)
    path.write_bytes(matroska(64, 48, [(9000 - 100 * n, picture) for n in range(60)]))


# Bombs ----------------------------------------------------------------------------------------


def _picture(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(2).integers(0, 256, (height, width), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


def _claims(side: int) -> Callable[[Path], None]:
    """A header that claims `side` x `side` pixels, raw, over some hundred bytes."""

    def make(path: Path) -> None:
        path.write_bytes(matroska(side, side, [(100 * n, b"\x80" * 64) for n in range(5)], b"I420"))

    return make


def _claims_over_jpegs(path: Path) -> None:
    """A header that claims 100,000 x 100,000 over pictures that know to be 64 x 48."""
    pictures = [(100 * n, _picture(64, 48)) for n in range(5)]
    path.write_bytes(matroska(100_000, 100_000, pictures))


def _claims_in_jpeg(path: Path) -> None:
    """Small in the container's header, 65,500 x 65,500 in the pictures' own."""
    content = bytearray(_picture(64, 48))
    start = content.index(b"\xff\xc0") + 5
    content[start : start + 4] = struct.pack(">HH", 65_500, 65_500)
    path.write_bytes(matroska(64, 48, [(100 * n, bytes(content)) for n in range(5)]))


def large_picture(side: int) -> bytes:
    """A PNG of `side` x `side` black pixels, in a thousandth of their bytes."""
    packer = zlib.compressobj(9)
    line = bytes(1 + side)
    packed = b"".join(packer.compress(line) for _ in range(side)) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def _really_large(told: int) -> Callable[[Path], None]:
    """Pictures of 16,000 x 16,000; the container tells `told` pixels a side."""

    def make(path: Path) -> None:
        picture = large_picture(16_000)
        path.write_bytes(matroska(told, told, [(100 * n, picture) for n in range(3)], b"MPNG"))

    return make


def _turns_large(path: Path) -> None:
    """Two small pictures, then one of 16,000 x 16,000."""
    small = large_picture(64)
    path.write_bytes(
        matroska(64, 64, [(0, small), (100, small), (200, large_picture(16_000))], b"MPNG")
    )


def _claims_in_h264(path: Path) -> None:
    """H.264 whose sequence header claims 100,000 x 100,000 pixels."""
    small = film(path.with_suffix(".h264"), container="h264", frames=10)
    content = small.read_bytes()
    small.unlink()
    units = content.split(b"\x00\x00\x01")
    # Profile, constraints and level stay; the rest is written anew by ITU-T H.264, 7.3.2.1.1.
    for number, unit in enumerate(units):
        if unit and unit[0] & 31 == 7:
            bits = "".join(
                _golomb(value)
                for value in (0, 0, 2, 1)  # id, frame number's bits, order type, references
            )
            bits += "0" + _golomb(100_000 // 16 - 1) * 2 + "1" + "1" + "0" + "0" + "1"
            bits += "0" * (-len(bits) % 8)
            body = (
                int(bits, 2)
                .to_bytes(len(bits) // 8, "big")
                .replace(b"\x00\x00\x01", b"\x00\x00\x03\x01")
            )
            # Baseline (66): in the high profiles more stands before the size.
            units[number] = bytes([unit[0], 66, 0, 52]) + body + b"\x00"
    path.write_bytes(b"\x00\x00\x01".join(units))


def _golomb(value: int) -> str:
    code = f"{value + 1:b}"
    return "0" * (len(code) - 1) + code


def matroska(
    width: int, height: int, frames: Sequence[tuple[int, bytes]], fourcc: bytes = b"MJPG"
) -> bytes:
    """A Matroska file written by hand (RFC 9559), as no muxer would: (milliseconds, picture)."""

    def element(identity: str, content: bytes) -> bytes:
        return bytes.fromhex(identity) + struct.pack(">Q", len(content) | 1 << 56) + content

    def number(identity: str, value: int) -> bytes:
        return element(identity, value.to_bytes(8, "big"))

    # BITMAPINFOHEADER, for V_MS/VFW/FOURCC.
    private = struct.pack("<IiiHH4sIiiII", 40, 64, 48, 1, 24, fourcc, 0, 0, 0, 0, 0)
    head = element("1A45DFA3", element("4282", b"matroska") + number("4287", 4))
    info = element("1549A966", number("2AD7B1", 1_000_000) + element("4D80", b"x"))
    video = element("E0", number("B0", width) + number("BA", height))
    track = element(
        "AE",
        number("D7", 1)
        + number("73C5", 1)
        + number("83", 1)
        + element("86", b"V_MS/VFW/FOURCC")
        + element("63A2", private)
        + video,
    )
    clusters = b"".join(
        element("1F43B675", number("E7", at_ms) + element("A3", b"\x81\x00\x00\x80" + picture))
        for at_ms, picture in frames
    )
    return head + element("18538067", info + element("1654AE6B", track) + clusters)


# Names and places -----------------------------------------------------------------------------


def _link_out(landing: Path) -> bytes:
    outside = film(landing.parent / "outside.mp4")
    path = _at(landing)
    path.symlink_to(outside)
    return os.fsencode(path.relative_to(landing))


def _link_loop(landing: Path) -> bytes:
    path = _at(landing)
    path.symlink_to(path.name)
    return os.fsencode(path.relative_to(landing))


def _dangling(landing: Path) -> bytes:
    path = _at(landing)
    path.symlink_to("nowhere.mp4")
    return os.fsencode(path.relative_to(landing))


def _odd_name(landing: Path) -> bytes:
    path = landing / "cam \n'\"; DROP" / "2026-03-01" / "08-00-00.mp4"
    film(path)
    return os.fsencode(path.relative_to(landing))


def _not_utf8(landing: Path) -> bytes:
    name = b"cam-\xff\xfe/2026-03-01/08-00-00.mp4"
    source = film(landing.parent / "plain.mp4")
    target = os.fsencode(landing) + b"/" + name
    os.makedirs(os.path.dirname(target))  # noqa: PTH103, PTH120 - bytes
    os.rename(source, target)  # noqa: PTH104
    return name


def _no_rights(path: Path) -> None:
    film(path)
    path.chmod(0)


_SHARES = (0.001, 0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.99)

BAD_FILES: tuple[BadFile, ...] = (
    BadFile("zero bytes", _named(Path.touch), ("empty",)),
    *(
        BadFile(
            f"truncated at {share:.1%}",
            _named(_truncated(share, faststart=False)),
            ("truncated",) if share > 0.01 else ("truncated", "not_a_video"),
        )
        for share in _SHARES
    ),
    *(
        BadFile(
            f"index first, truncated at {share:.1%}",
            _named(_truncated(share, faststart=True)),
            ("truncated",) if share > 0.01 else ("truncated", "not_a_video"),
        )
        for share in _SHARES
    ),
    BadFile(
        "header damaged", _named(_damaged_header), ("truncated", "no_video_stream", "unreadable")
    ),
    BadFile("pictures damaged", _named(_damaged_pictures), ("truncated", "unreadable")),
    BadFile("a million zeros", _named(_zeros), ("not_a_video",)),
    BadFile("audio only", _named(sound), ("no_video_stream",)),
    BadFile("a JPEG", _named(_jpeg), ("not_a_video",)),
    BadFile("a text", _named(lambda path: path.write_text("hello\n" * 100)), ("not_a_video",)),
    BadFile(
        "wrong suffix, AVI inside",
        _named(lambda path: film(path, codec="mpeg4", container="avi")),
        (TAKEN_IN,),
    ),
    BadFile("one frame", _named(lambda path: film(path, frames=1)), (TAKEN_IN,)),
    BadFile("variable frame rate", _named(_uneven), (TAKEN_IN,)),
    BadFile("turned by metadata", _named(_turned), (TAKEN_IN,)),
    BadFile("1 x 1", _named(_lossless(1, 1)), ("too_small",)),
    BadFile("8191 x 17", _named(_lossless(8191, 17)), (TAKEN_IN,)),
    BadFile(
        "10 bit",
        _named(lambda path: film(path, codec="libx265", pixels="yuv420p10le")),
        (TAKEN_IN,),
    ),
    BadFile("4:4:4", _named(lambda path: film(path, pixels="yuv444p")), (TAKEN_IN,)),
    BadFile("H.265", _named(lambda path: film(path, codec="libx265")), (TAKEN_IN,)),
    BadFile("VP9", _named(lambda path: film(path, codec="libvpx-vp9")), (TAKEN_IN,)),
    BadFile("AV1", _named(lambda path: film(path, codec="libsvtav1")), (TAKEN_IN,)),
    BadFile("time stamps backwards", _named(_backwards), ("clock_runs_backwards",)),
    BadFile("clock set back", _named(_twice_the_same_hour), ("clock_runs_backwards",)),
    BadFile("two hours between frames", _named(_endless_film), ("unreadable",)),
    BadFile("newline and quotes in the name", _odd_name, (TAKEN_IN,)),
    BadFile("a name that is not UTF-8", _not_utf8, ("unusable_name",)),
    BadFile("a link out of the landing folder", _link_out, ("outside_root",)),
    BadFile("a link to itself", _link_loop, ("unreadable",)),
    BadFile("a link to nothing", _dangling, ("unreadable",)),
    BadFile("claims 100,000 x 100,000", _named(_claims(100_000)), ("too_large",)),
    BadFile("claims 16,000 x 16,000", _named(_claims(16_000)), ("too_large",)),
    BadFile("claims 100,000 x 100,000, is 64 x 48", _named(_claims_over_jpegs), (TAKEN_IN,)),
    BadFile("claims 65,500 x 65,500 inside", _named(_claims_in_jpeg), ("too_large",)),
    BadFile(
        "H.264 that claims 100,000 x 100,000",
        _named(_claims_in_h264),
        ("too_large",),
    ),
    BadFile("is 16,000 x 16,000", _named(_really_large(16_000)), ("too_large",)),
    BadFile(
        "is 16,000 x 16,000, says 64 x 64",
        _named(_really_large(64)),
        ("too_large",),
    ),
    BadFile(
        "becomes 16,000 x 16,000 on the way",
        _named(_turns_large),
        ("truncated",),
    ),
    BadFile("a named pipe", _named(lambda path: os.mkfifo(path)), ("not_a_video",)),
    BadFile("a folder", _named(Path.mkdir), ("not_a_video",)),
    BadFile("no right to read", _named(_no_rights), ("unreadable",)),
)
"""Every kind. Root may read everything: `no right to read` is footage to root."""
