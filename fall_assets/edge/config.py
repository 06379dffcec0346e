"""`edge.toml`: what a box watches, with which settings, and whom it tells.

What belongs here: reading it strictly, and keeping a camera's password out of every message. What
does not: opening a camera (`sources`), the model's own settings (`model.json`).
"""

from __future__ import annotations

import math
import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from fall_assets.errors import PermanentFailureError
from fall_assets.features.crop import Crop
from fall_assets.loopback import is_loopback

ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What ids of boxes and cameras look like: they become parts of addresses and file names."""
SCHEMES: Final = ("rtsp", "rtsps", "http", "https", "file", "v4l2", "lavfi")
"""Kinds of cameras. `lavfi` draws a test picture; it is there for tests."""
HARDWARE: Final = re.compile(r"[a-z0-9_]+")
MAX_CAMERAS: Final = 256
MAX_FPS: Final = 240.0
MOST_LETTERS: Final = 80
"""Of a camera's model and firmware: the gateway takes no longer ones."""

Pace = Literal["real", "fast"]
Bed = tuple[tuple[float, float], ...]
_T = TypeVar("_T")


class EdgeConfigError(PermanentFailureError):
    """The configuration cannot be used; the message says which setting, where and what to write."""


@dataclass(frozen=True)
class CameraSettings:
    """One camera.

    Attributes:
        id: its name, as the platform knows it.
        url: where its stream is; may hold a password, so it is never printed: print `shown`.
        fps: frames per second it should send; 0 where that is not known.
        crop: the part of the upright picture that is used.
        beds: outlines of beds, corners as shares of that part.
        loop: a file starts again when it ends.
        pace: a file is read as fast as it was filmed (`real`) or as fast as it can be (`fast`).
        camera_model: maker and model, told with its telemetry; empty where nobody said.
        firmware: the version of its firmware, likewise.
    """

    id: str
    url: str = field(repr=False)
    fps: float = 0.0
    crop: Crop = field(default_factory=Crop)
    beds: tuple[Bed, ...] = ()
    loop: bool = False
    pace: Pace = "real"
    camera_model: str = ""
    firmware: str = ""

    @property
    def kind(self) -> str:
        """The address's scheme, one of SCHEMES."""
        return self.url.partition(":")[0].lower()

    @property
    def is_file(self) -> bool:
        """Whether it is a file, which ends, and not a live camera."""
        return self.kind == "file"

    @property
    def shown(self) -> str:
        """The address without user, password and what follows a question mark."""
        return shown_url(self.url)

    def without_secrets(self, text: str) -> str:
        """The text without the camera's address, user's password and query, however they got in."""
        for secret, instead in _secrets(self.url):
            text = text.replace(secret, instead)
        return text


@dataclass(frozen=True)
class RunnerSettings:
    """How the box works.

    Attributes:
        hwaccel: FFmpeg's name of the hardware that decodes (`vaapi`, `cuda`, `qsv` ...), `auto` for
            the first one that works, `none` for the processor.
        pose_threads: pose networks side by side, 40 MB each; 0: one per core, three at most.
        telemetry_s: seconds between two reports.
        gate: whether quiet rooms are left out by the motion gate.
    """

    hwaccel: str = "none"
    pose_threads: int = 0
    telemetry_s: float = 60.0
    gate: bool = True


@dataclass(frozen=True)
class EdgeSettings:
    """All of `edge.toml`; paths are absolute."""

    path: Path
    box: str
    gateway: str
    token_file: Path
    state: Path
    cameras: tuple[CameraSettings, ...]
    runner: RunnerSettings = field(default_factory=RunnerSettings)

    def without_secrets(self, text: str) -> str:
        """The text without what any camera's address keeps secret."""
        for camera in self.cameras:
            text = camera.without_secrets(text)
        return text

    def token(self) -> str:
        """The box's token, read anew each time, so that it can be changed while the box runs.

        Raises EdgeConfigError where the file is missing, empty, or readable by everybody.
        """
        return read_token(self.token_file)


def load_settings(path: Path) -> EdgeSettings:
    """Read `edge.toml`.

    Raises EdgeConfigError where it cannot be read, a setting is unknown, missing or of a wrong
    type. No message holds a camera's password.
    """
    path = Path(path).absolute()
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise EdgeConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise EdgeConfigError(f"{path} is not UTF-8 text; save it as that") from None
    except tomllib.TOMLDecodeError as error:
        # The decoder's message quotes single characters only, never a whole value.
        raise EdgeConfigError(f"{path} is no TOML: {error}") from None
    top = _Table(content, path.name, "")
    box = top.take("box", _id)
    gateway = top.take("gateway", _gateway)
    token_file = path.parent / top.take("token_file", _text, "token")
    state = path.parent / top.take("state", _text, "state")
    cameras = top.tables("cameras")
    runner = _runner(top.table("runner"))
    top.done()
    if not cameras:
        raise EdgeConfigError(f"{path.name} names no camera; write at least one [[cameras]]")
    if len(cameras) > MAX_CAMERAS:
        raise EdgeConfigError(
            f"{path.name} names {len(cameras)} cameras; {MAX_CAMERAS} is the most"
        )
    read = tuple(_camera(table, path.parent) for table in cameras)
    seen: set[str] = set()
    for number, camera in enumerate(read):
        if camera.id in seen:
            raise EdgeConfigError(
                f"{path.name}, cameras[{number}].id: {camera.id!r} is there twice; "
                "every camera needs an id of its own"
            )
        seen.add(camera.id)
    return EdgeSettings(path, box, gateway, token_file, state, read, runner)


def read_token(path: Path) -> str:
    """The token in a file that only its owner (and group) can read.

    Raises EdgeConfigError where it is missing, empty, more than one line, or open to all.
    """
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(4096)
    except OSError as error:
        raise EdgeConfigError(
            f"the token file {path} cannot be read: {error.strerror}; put the box's token there"
        ) from None
    if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        raise EdgeConfigError(
            f"the token file {path} is open to other users (mode {stat.S_IMODE(mode):04o}); "
            f"run: chmod 600 {path}"
        )
    token = content.decode("utf-8", "replace").strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise EdgeConfigError(f"the token file {path} must hold one line with the box's token")
    return token


def shown_url(url: str) -> str:
    """An address as it may be shown: without user, password and query."""
    scheme, separator, _rest = url.partition(":")
    if scheme.lower() in ("file", "v4l2", "lavfi"):
        return url
    parts = _split(url)
    if parts is None:
        return f"{scheme}{separator}***" if separator else "***"
    host = parts.netloc.rpartition("@")[2]
    hidden = "***@" if "@" in parts.netloc else ""
    return f"{parts.scheme}://{hidden}{host}{parts.path}" + ("?***" if parts.query else "")


def _secrets(url: str) -> list[tuple[str, str]]:
    """What to replace by what in a message; longest first."""
    if url.partition(":")[0].lower() in ("file", "v4l2", "lavfi"):
        return []
    parts = _split(url)
    if parts is None:
        # It is refused when it is read; still nothing of it is told.
        password = url.rpartition("@")[0].rpartition(":")[2]
        return [(url, "***"), *([(password, "***")] if len(password) > 2 else [])]
    found = {url: shown_url(url)}
    user_info = parts.netloc.rpartition("@")[0]
    password = user_info.partition(":")[2]
    for secret in (user_info, password, parts.query):
        for form in (secret, unquote(secret)):
            # One or two letters would be replaced all over a message; FFmpeg never quotes them
            # but within the address.
            if len(form) > 2:
                found[form] = "***"
    return sorted(found.items(), key=lambda pair: -len(pair[0]))


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _has_port(parts: SplitResult) -> bool:
    """Whether the port, if there is one, is a number that ports have."""
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


class _Table:
    """A table of the file, of which every setting is taken once; what is left is unknown."""

    def __init__(self, content: Mapping[str, Any], file: str, place: str) -> None:
        self._left = dict(content)
        self._names: list[str] = []
        self._file, self._place = file, place

    def take(self, name: str, read: Callable[[Any], _T], default: _T | None = None) -> _T:
        """The setting `name` as `read` understands it; without a default it must be there."""
        self._names.append(name)
        if name not in self._left:
            if default is None:
                raise EdgeConfigError(f"{self._file} lacks {self._place}{name}; write it")
            return default
        try:
            return read(self._left.pop(name))
        except (ValueError, PermanentFailureError) as error:
            raise EdgeConfigError(f"{self._file}, {self._place}{name}: {error}") from None

    def table(self, name: str) -> _Table:
        """A table inside this one; an empty one where it is not there."""
        self._names.append(name)
        content = self._left.pop(name, {})
        if not isinstance(content, dict):
            raise EdgeConfigError(f"{self._file}, {self._place}{name}: must be a table [{name}]")
        return _Table(content, self._file, f"{self._place}{name}.")

    def tables(self, name: str) -> list[_Table]:
        """An array of tables."""
        self._names.append(name)
        content = self._left.pop(name, [])
        if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
            raise EdgeConfigError(f"{self._file}, {self._place}{name}: must be tables [[{name}]]")
        return [
            _Table(one, self._file, f"{self._place}{name}[{number}].")
            for number, one in enumerate(content)
        ]

    def done(self) -> None:
        """Raise EdgeConfigError where a setting was not taken."""
        for name in self._left:
            raise EdgeConfigError(
                f"{self._file}, {self._place}{name}: there is no such setting; "
                f"there are {', '.join(self._names)}"
            )


def _camera(table: _Table, folder: Path) -> CameraSettings:
    camera = CameraSettings(
        id=table.take("id", _id),
        url=table.take("url", lambda value: _url(value, folder)),
        fps=table.take("fps", lambda value: _number(value, 0, MAX_FPS), 0.0),
        crop=table.take("crop", lambda value: Crop.parse(_text(value)), Crop()),
        beds=table.take("beds", _beds, ()),
        loop=table.take("loop", _flag, False),
        pace=table.take("pace", _pace, "real"),
        camera_model=table.take("camera_model", _name, ""),
        firmware=table.take("firmware", _name, ""),
    )
    table.done()
    return camera


def _runner(table: _Table) -> RunnerSettings:
    usual = RunnerSettings()
    runner = RunnerSettings(
        hwaccel=table.take("hwaccel", _hardware, usual.hwaccel),
        pose_threads=table.take("pose_threads", _threads, usual.pose_threads),
        telemetry_s=table.take(
            "telemetry_s", lambda value: _number(value, 0.1, 3600), usual.telemetry_s
        ),
        gate=table.take("gate", _flag, usual.gate),
    )
    table.done()
    return runner


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError("must be a text in quotation marks, on one line and not empty")
    return value


def _name(value: Any) -> str:
    text = _text(value)
    if len(text) > MOST_LETTERS:
        raise ValueError(f"must have {MOST_LETTERS} letters at most, not {len(text)}")
    return text


def _id(value: Any) -> str:
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise ValueError(
            f"{value!r} is no id; write 1 to 64 letters, digits, dots, hyphens and underscores, "
            "the first a letter or digit"
        )
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {value!r}")
    return value


def _number(value: Any, low: float, high: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"must be a number from {low:g} to {high:g}, not {value!r}")
    return float(value)


def _threads(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 256:
        raise ValueError(f"must be a whole number from 0 to 256, not {value!r}")
    return value


def _pace(value: Any) -> Pace:
    if value == "real":
        return "real"
    if value == "fast":
        return "fast"
    raise ValueError(f'must be "real" or "fast", not {value!r}')


def _hardware(value: Any) -> str:
    if not isinstance(value, str) or not HARDWARE.fullmatch(value):
        raise ValueError(f'must be "none", "auto" or FFmpeg\'s name of hardware, not {value!r}')
    return value


def _beds(value: Any) -> tuple[Bed, ...]:
    wanted = "must be outlines of 3 or more corners [x, y], shares from 0 to 1"
    if not isinstance(value, list):
        raise ValueError(wanted)
    beds = []
    for outline in value:
        if not isinstance(outline, list) or len(outline) < 3:
            raise ValueError(wanted)
        corners = []
        for corner in outline:
            if not isinstance(corner, list) or len(corner) != 2:
                raise ValueError(wanted)
            corners.append((_number(corner[0], 0, 1), _number(corner[1], 0, 1)))
        beds.append(tuple(corners))
    return tuple(beds)


def _url(value: Any, folder: Path) -> str:
    """A camera's address. Messages never quote it: it may hold a password."""
    url = _text(value)
    scheme, separator, rest = url.partition(":")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        raise ValueError(f"must start with {'://, '.join(SCHEMES[:-1])}://")
    if scheme == "lavfi":
        if not rest:
            raise ValueError("must say what is drawn: lavfi:testsrc=size=320x240:rate=10")
        return url
    if not rest.startswith("//"):
        raise ValueError(f"must start with {scheme}://")
    if scheme in ("file", "v4l2"):
        place = rest[2:]
        if not place:
            raise ValueError(f"lacks the path: {scheme}:///path")
        # `file://clips/a.mp4` is read as a path beside the configuration, as people mean it.
        return url if place.startswith("/") else f"{scheme}://{folder / place}"
    parts = _split(url)
    if parts is None or not parts.hostname or not _has_port(parts):
        raise ValueError(f"has no usable host and port: {scheme}://host:port/path")
    return url


def _gateway(value: Any) -> str:
    url = _text(value).rstrip("/")
    parts = _split(url)
    if (
        parts is None
        or parts.scheme not in ("http", "https")
        or not parts.hostname
        or not _has_port(parts)
    ):
        raise ValueError("must be https://host or, on this machine only, http://127.0.0.1:8600")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("must hold no user, password or query; the token stands in token_file")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError(
            f"{parts.hostname} is another machine: alerts and the token would travel in the clear; "
            "write https://"
        )
    return url
