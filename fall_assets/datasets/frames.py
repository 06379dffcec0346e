"""Frame sequences become videos: data sets that come as folders or zips of PNG or JPEG pictures.

What belongs here: finding the sequences, their times, and encoding. What does not: which data set
they are of (its own module).

Frames' names tell their order and times. A time in the name (`2018-07-04T12_04_17.738369.png`, as
UP-Fall has them) is kept. A number (`fall-01-cam0-rgb-001.png`) counts frames at
the given rate, from the first one's number; a number that is missing leaves its time empty, so that
labels by frame number stay right. Nothing is unpacked: a zip's members are read one after the other
and their names are used for nothing but order, so that no name can lead anywhere.

The same frames give the same file, byte for byte, so that packing again changes no video's content.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from fall_assets.errors import PermanentFailureError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MAX_FRAMES = 500_000
"""Four hours at 30 per second: the longest sequence that is packed."""

MAX_FRAME_BYTES = 64 * 2**20
"""No picture of MAX_PIXELS is larger, not even one that does not shrink."""

MAX_PIXELS = 4096 * 2304
"""Larger pictures are refused before they are decoded; the encoder keeps some forty of them."""

MAX_MEMBERS = 1_000_000
"""Entries that a zip may list."""

_CODECS = {".png": "png", ".jpg": "mjpeg", ".jpeg": "mjpeg"}
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d[_:.-]\d\d[_:.-]\d\d)(?:[.,_](\d{1,9}))?")
_TICKS_PER_S = 90_000
_REVISION = 1
"""Raise it where the same frames would give another file."""

_OPTIONS = {
    "crf": "16",
    "preset": "medium",
    # Threads change the bits; few frames ahead bound the memory.
    "threads": "1",
    "rc-lookahead": "10",
    "bf": "0",
}
_LEFT_BEHIND_S = 3600.0
"""A half-written file that a killed run left is removed after this long."""


class FramesError(PermanentFailureError):
    """A sequence cannot be packed; the message says which and why."""


@dataclass(frozen=True)
class Packed:
    """One video that was written, or stands already.

    Attributes:
        source: the folder or zip.
        target: the video.
        frames: how many pictures it holds.
        duration_s: from the first picture to the last one.
        is_new: False where it stood already and its frames have not changed.
        repeated: pictures left out, since another has the same time.
    """

    source: Path
    target: Path
    frames: int
    duration_s: float
    is_new: bool
    repeated: int = 0


@dataclass(frozen=True)
class _Frame:
    """One picture of a sequence: its name there, its size and when it changed."""

    name: str
    bytes: int
    changed: str


def pack(source: Path, target: Path, fps: float | None = None) -> Packed:
    """Make one video of one sequence of frames.

    Does nothing where the target was made of the same frames already. The video appears whole or
    not at all; a killed run leaves a hidden file beside it that a later one removes.

    Args:
        source: a folder that holds the frames, or a zip with one sequence in it.
        target: the video, `.mp4`.
        fps: frames per second; None takes the times from the names.

    Raises:
        FramesError: there are no frames, several sequences, names without order or times, pictures
            of different sizes or too large, or a picture that cannot be read.
    """
    if fps is not None and not (math.isfinite(fps) and 0.01 <= fps <= 1000):
        raise FramesError(f"{fps:g} frames per second cannot be; give 0.01 to 1000")
    if target.suffix.lower() != ".mp4":
        raise FramesError(f"{target} must end in .mp4")
    with _open(source) as (frames, read):
        times, repeated = _times(source, frames, fps)
        mark = _mark(times)
        duration_s = (times[-1][1] - times[0][1]) / _TICKS_PER_S
        done = Packed(source, target, len(times), duration_s, False, repeated)
        if _mark_of(target) == mark:
            return done
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(target)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.name}.", suffix=".part", dir=target.parent
        )
        os.close(handle)
        part = Path(name)
        try:
            _encode(source, part, times, read, mark)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.chmod(0o644)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    return Packed(source, target, len(times), duration_s, True, repeated)


def pack_all(
    source: Path,
    target: Path,
    fps: float | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Packed | FramesError]:
    """Make a video of every sequence below a folder.

    Each folder that holds frames, and each zip, gives `<its path below source>.mp4` below `target`.
    A sequence that cannot be packed is yielded as its error, and the others go on.

    Args:
        source: a folder; links in it are not followed.
        target: the folder for the videos.
        fps: as for `pack`.
        progress: called with sequences done and sequences in all.
    """
    found = list(sequences(source))
    for done, sequence in enumerate(found):
        if progress is not None:
            progress(done, len(found))
        below = sequence.relative_to(source)
        name = below.name.removesuffix(".zip") if sequence.is_file() else below.name
        try:
            yield pack(sequence, target / below.parent / f"{name}.mp4", fps)
        except FramesError as error:
            yield error
    if progress is not None and found:
        progress(len(found), len(found))


def sequences(source: Path) -> Iterator[Path]:
    """Folders that hold frames, and zips, below a folder, in the order of their names."""
    for folder, subfolders, files in os.walk(source):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if folder != str(source) and any(_codec(name) for name in files):
            yield Path(folder)
        for name in sorted(files):
            path = Path(folder, name)
            if name.lower().endswith(".zip") and not name.startswith(".") and path.is_file():
                yield path


_Read = Callable[[_Frame], bytes]


@contextmanager
def _open(source: Path) -> Iterator[tuple[list[_Frame], _Read]]:
    """The frames of a folder or a zip, and how one is read."""
    if source.is_dir():
        yield _folder_frames(source), lambda frame: _read_file(source / frame.name)
        return
    try:
        archive = zipfile.ZipFile(source)
    except FileNotFoundError as error:
        raise FramesError(f"there is no folder or zip {source}") from error
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise FramesError(
            f"{source} cannot be opened as a zip ({error}); fetch it again"
        ) from error
    with archive:
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise FramesError(f"{source} lists {len(members)} entries, more than {MAX_MEMBERS}")
        frames = [
            _Frame(member.filename, member.file_size, f"{member.CRC:08x}")
            for member in members
            if not member.is_dir() and _is_shown(member.filename) and _codec(member.filename)
        ]
        yield frames, lambda frame: _read_member(source, archive, frame)


def _folder_frames(folder: Path) -> list[_Frame]:
    frames = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not _is_shown(entry.name) or not _codec(entry.name):
                continue
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                raise FramesError(f"{folder / entry.name} is not a plain file; put the file there")
            frames.append(_Frame(entry.name, status.st_size, str(status.st_mtime_ns)))
    return frames


def _read_file(path: Path) -> bytes:
    try:
        # A link that took the file's place is not followed, a pipe is not waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            return _bounded(str(path), file)
    except OSError as error:
        raise FramesError(f"{path} cannot be read: {error.strerror}") from error


def _read_member(source: Path, archive: zipfile.ZipFile, frame: _Frame) -> bytes:
    where = f"{frame.name} in {source}"
    try:
        with archive.open(frame.name) as file:
            return _bounded(where, file)
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        EOFError,
        RuntimeError,
        NotImplementedError,
        KeyError,
    ) as error:
        raise FramesError(f"{where} cannot be read ({error}); fetch the zip again") from error


def _bounded(where: str, file: IO[bytes]) -> bytes:
    """The content, read no further than a picture may be large whatever its header claims."""
    content = file.read(MAX_FRAME_BYTES + 1)
    if len(content) > MAX_FRAME_BYTES:
        raise FramesError(f"{where} is larger than {MAX_FRAME_BYTES >> 20} MiB; is it a picture?")
    return content


def _codec(name: str) -> str | None:
    """The decoder for a file of this name; None where it is no frame."""
    return _CODECS.get(PurePosixPath(name).suffix.lower())


def _is_shown(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not any(part.startswith((".", "__MACOSX")) and part != ".." for part in parts)


def _times(
    source: Path, frames: Sequence[_Frame], fps: float | None
) -> tuple[list[tuple[_Frame, int]], int]:
    """The frames in order with their times in ticks from the first, and how many were left out."""
    if not frames:
        raise FramesError(f"{source} holds no PNG or JPEG frames")
    if len(frames) > MAX_FRAMES:
        raise FramesError(f"{source} holds {len(frames)} frames, more than {MAX_FRAMES}")
    folders = sorted({str(PurePosixPath(frame.name).parent) for frame in frames})
    if len(folders) > 1:
        raise FramesError(
            f"{source} holds several sequences ({folders[0]}, {folders[1]}, ...); unpack it and "
            "pack the folder"
        )
    moments = [_moment(frame.name) for frame in frames]
    if fps is None:
        timed = [(at, frame) for at, frame in zip(moments, frames, strict=True) if at is not None]
        if len(timed) < len(frames):
            without = next(f.name for f, at in zip(frames, moments, strict=True) if at is None)
            raise FramesError(
                f"the names in {source} tell no times ({without}); give the frames per second"
            )
        timed.sort(key=lambda pair: (pair[0], pair[1].name))
        first = timed[0][0]
        placed = [(frame, _ticks((at - first).total_seconds())) for at, frame in timed]
    elif all(at is not None for at in moments):
        ordered = sorted(frames, key=lambda frame: frame.name)
        placed = [(frame, _ticks(index / fps)) for index, frame in enumerate(ordered)]
    else:
        placed = _by_number(source, frames, fps)
    kept = [placed[0]]
    for frame, at in placed[1:]:
        if at > kept[-1][1]:
            kept.append((frame, at))
    return kept, len(placed) - len(kept)


def _by_number(source: Path, frames: Sequence[_Frame], fps: float) -> list[tuple[_Frame, int]]:
    """Frames at the times that their numbers tell."""
    numbered = []
    for frame in frames:
        numbers = re.findall(r"[0-9]+", PurePosixPath(frame.name).stem)
        if not numbers:
            raise FramesError(f"{frame.name} in {source} has no number, so that it has no place")
        numbered.append((int(numbers[-1][:18]), frame.name, frame))
    numbered.sort(key=lambda entry: entry[:2])
    pairs = list(pairwise(numbered))
    for (number, name, _frame), (following, other, _other) in pairs:
        if number == following:
            raise FramesError(
                f"{name} and {other} in {source} have the same number; keep one sequence there"
            )
    # Every second or every tenth frame is a sequence, too.
    step = math.gcd(*(later[0] - earlier[0] for earlier, later in pairs)) or 1
    for (number, name, _frame), (following, other, _other) in pairs:
        if following - number > step * max(1, round(fps)):
            raise FramesError(
                f"the numbers in {source} jump from {name} to {other}; frames are missing, or two "
                "sequences lie there"
            )
    first = numbered[0][0]
    return [(frame, _ticks((number - first) // step / fps)) for number, _name, frame in numbered]


def _moment(name: str) -> datetime | None:
    """The time that a name tells, without a zone."""
    match = _MOMENT.search(PurePosixPath(name).name)
    if match is None:
        return None
    day, clock = match[1].split("T")
    text = f"{day}T{re.sub('[_.-]', ':', clock)}"
    try:
        return datetime.fromisoformat(f"{text}.{(match[2] or '0')[:6]:0<6}")
    except ValueError:
        return None


def _ticks(seconds: float) -> int:
    return round(seconds * _TICKS_PER_S)


def _mark(times: Sequence[tuple[_Frame, int]]) -> str:
    """What the video is made of: names, sizes and times of its frames, and how they are encoded."""
    told = hashlib.sha256(repr((_REVISION, sorted(_OPTIONS.items()))).encode())
    for frame, at in times:
        name = PurePosixPath(frame.name).name
        told.update(repr((name, frame.bytes, frame.changed, at)).encode())
    return f"frames {told.hexdigest()}"


def _mark_of(target: Path) -> str | None:
    """The mark that a video carries; None where there is none or it is not ours."""
    from av.error import FFmpegError

    from fall_assets.footage.media import open_media

    if not target.is_file():
        return None
    try:
        with open_media(target) as container:
            told = {key.lower(): value for key, value in container.metadata.items()}
    except (FFmpegError, OSError):
        return None
    return told.get("comment")


def _remove_left_behind(target: Path) -> None:
    for path in target.parent.glob(f".{_escaped(target.name)}.*.part"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _LEFT_BEHIND_S:
                path.unlink()


def _escaped(name: str) -> str:
    return re.sub(r"([\[\]?*])", r"[\1]", name)


def _encode(
    source: Path,
    part: Path,
    times: Sequence[tuple[_Frame, int]],
    read: _Read,
    mark: str,
) -> None:
    """Write the video, one picture after the other."""
    import av
    from av.error import FFmpegError
    from av.video.reformatter import ColorRange

    first = _decode(source, times[0][0], read)
    size = (first.width, first.height)
    # Half as many colours as pixels per direction need even sizes.
    pixels = "yuv420p" if size[0] % 2 == 0 and size[1] % 2 == 0 else "yuv444p"
    tick = Fraction(1, _TICKS_PER_S)
    try:
        with av.open(
            str(part), "w", format="mp4", container_options={"fflags": "+bitexact"}
        ) as container:
            container.metadata["comment"] = mark
            # The rate is a hint; every picture has its own time.
            stream = container.add_stream("libx264", rate=30, options=dict(_OPTIONS))
            stream.width, stream.height = size
            stream.pix_fmt = pixels
            stream.codec_context.time_base = stream.time_base = tick
            picture = first
            for index, (frame, at) in enumerate(times):
                if index:
                    picture = _decode(source, frame, read)
                if (picture.width, picture.height) != size:
                    raise FramesError(
                        f"{frame.name} in {source} is {picture.width}x{picture.height} in size, "
                        f"the first frame {size[0]}x{size[1]}; keep one sequence there"
                    )
                # Players take a video for limited range; pictures are not.
                shown = picture.reformat(format=pixels, dst_color_range=ColorRange.MPEG)
                shown.pts, shown.time_base = at, tick
                container.mux(stream.encode(shown))
            container.mux(stream.encode(None))
    except FFmpegError as error:
        raise FramesError(f"{source} cannot be encoded: {error}") from error


def _decode(source: Path, frame: _Frame, read: _Read) -> VideoFrame:
    """One picture of the sequence."""
    import av
    from av.error import FFmpegError

    where = f"{frame.name} in {source}"
    name = _codec(frame.name)
    if name is None:
        raise AssertionError("only frames are decoded")
    content = read(frame)
    # A context of its own: one damaged picture must not spoil the next.
    context = av.CodecContext.create(name, "r")
    if not isinstance(context, av.VideoCodecContext):
        raise AssertionError("decoders of pictures decode video")
    context.options = {"max_pixels": str(MAX_PIXELS), "threads": "1"}
    try:
        pictures = [
            picture for packet in (av.Packet(content), None) for picture in context.decode(packet)
        ]
    except (FFmpegError, ValueError) as error:
        raise FramesError(
            f"{where} cannot be decoded ({error}); it is damaged or has more than "
            f"{MAX_PIXELS} pixels"
        ) from error
    if len(pictures) != 1:
        raise FramesError(f"{where} is not one picture; fetch it again")
    return pictures[0]
