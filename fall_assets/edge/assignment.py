"""What a box shall run: the signed assignment, read and checked.

What belongs here: its form, who signed it, for which box, which part serves which camera. What does
not: whether it is newer than the last (`agent.py` remembers that), fetching what it names.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fall_assets.edge.client import MOST_ASSIGNMENT_BYTES
from fall_assets.edge.package import MAX_ARCHIVE_BYTES
from fall_assets.edge.signing import verify
from fall_assets.errors import PermanentFailureError

FORMAT: Final = 1
ALL: Final = "*"
"""As a box: every box. As a camera: all that no other live part names."""
MAX_PARTS: Final = 16
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class AssignmentError(PermanentFailureError):
    """An assignment that this box does not follow; the message says why."""


@dataclass(frozen=True)
class Part:
    """One package and the cameras that it watches; `shadow`: scored, no alert is shown."""

    archive_sha256: str
    archive_size: int
    manifest_sha256: str
    model_version: str
    sequence: int
    cameras: tuple[str, ...]
    shadow: bool


@dataclass(frozen=True)
class Assignment:
    """What this box shall run. `serial` grows; `digest` is the SHA-256 of the signed bytes."""

    serial: int
    allow_older: bool
    parts: tuple[Part, ...]
    digest: str

    def served(self, cameras: Sequence[str]) -> list[tuple[Part, tuple[str, ...]]]:
        """Each part with the cameras of this box that it watches, in order; at least one each.

        A camera has one live part: the one that names it, else the one of all (`*`). A shadow
        watches what it names, or all.

        Raises:
            AssignmentError: two live parts want the same camera.
        """
        named: dict[str, Part] = {}
        for part in self.parts:
            for camera in part.cameras if not part.shadow else ():
                if named.setdefault(camera, part) is not part:
                    raise AssignmentError(f"two packages shall raise the alerts of {camera}")
        found = []
        for part in self.parts:
            if part.shadow:
                own = [one for one in cameras if one in part.cameras or ALL in part.cameras]
            else:
                own = [one for one in cameras if named.get(one, named.get(ALL)) is part]
            if own:
                found.append((part, tuple(own)))
        return found


def read_assignment(
    content: bytes, signature: bytes, trusted: Sequence[Ed25519PublicKey], box: str
) -> Assignment:
    """Verify and read an assignment.

    Raises:
        SignatureError: no trusted key signed these bytes.
        AssignmentError: it is for another box or of another form.
    """
    if len(content) > MOST_ASSIGNMENT_BYTES:
        raise AssignmentError(f"{len(content)} bytes, over {MOST_ASSIGNMENT_BYTES}")
    verify(content, signature, trusted)
    try:
        value = json.loads(content)
        if value["format"] != FORMAT:
            raise AssignmentError(f"format {value['format']!r}, this box reads {FORMAT}")
        if value["box"] not in (box, ALL):
            raise AssignmentError(f"made for box {value['box']!r}, and this is {box!r}")
        parts = tuple(_part(one) for one in value["parts"])
        serial, allow_older = _whole(value["serial"]), _flag(value["allow_older"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AssignmentError(f"signed, but not to be understood: {error!r}") from error
    if len(parts) > MAX_PARTS:
        raise AssignmentError(f"{len(parts)} parts, at most {MAX_PARTS} run on one box")
    return Assignment(serial, allow_older, parts, hashlib.sha256(content).hexdigest())


def _part(value: Any) -> Part:
    cameras = value["cameras"]
    if not isinstance(cameras, list) or not cameras:
        raise ValueError(f"cameras are {cameras!r}")
    return Part(
        archive_sha256=_sha256(value["archive_sha256"]),
        archive_size=_whole(value["archive_size"], MAX_ARCHIVE_BYTES),
        manifest_sha256=_sha256(value["manifest_sha256"]),
        model_version=_text(value["model_version"]),
        sequence=_whole(value["sequence"]),
        cameras=tuple(one if one == ALL else _id(one) for one in cameras),
        shadow=_flag(value["shadow"]),
    )


def _whole(value: Any, most: int = 2**53) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{value!r} is no whole number from 0 to {most}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 200 or not value.isprintable():
        raise ValueError(f"{value!r} is no short text")
    return value


def _id(value: Any) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(f"{value!r} is no camera's id")
    return value


def _sha256(value: Any) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError(f"{value!r} is no SHA-256 in hex")
    return value
