"""Tiny packages for tests, a shell script in place of the program, and who hands them out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fall_assets.edge.package import (
    EXECUTABLE,
    MANIFEST,
    SIGNATURE,
    Licence,
    Manifest,
    PackageFile,
    this_platform,
    verify_directory,
    write_archive,
)
from fall_assets.edge.signing import sign

PROGRAM = """#!/bin/sh
# A stand-in for the packaged program.
command=$1; shift
case $command in
self-test) exit {self_test} ;;
run)
  while [ $# -gt 0 ]; do
    case $1 in --state) state=$2; shift ;; esac
    shift
  done
  {before}
  number=0
  trap 'exit 0' TERM
  while :; do
    number=$((number + 1))
    printf '{{"at_utc": "%s", "pid": %s, "model_version": "{model}", "ok": {ok}}}' \\
      $number $$ > "$state/health.part"
    mv "$state/health.part" "$state/health.json"
    sleep 0.05
  done ;;
esac
"""


@dataclass(frozen=True)
class Made:
    """A package's directory, archive, and what an assignment says of it."""

    folder: Path
    archive: Path
    manifest: Manifest
    archive_sha256: str

    def part(self, cameras: Sequence[str] = ("*",), *, shadow: bool = False) -> dict[str, Any]:
        return {
            "archive_sha256": self.archive_sha256,
            "archive_size": self.archive.stat().st_size,
            "manifest_sha256": self.manifest.sha256,
            "model_version": self.manifest.model_version,
            "sequence": self.manifest.sequence,
            "cameras": list(cameras),
            "shadow": shadow,
        }


def make_package(
    folder: Path,
    key: Ed25519PrivateKey,
    *,
    sequence: int = 1,
    model: str = "1",
    self_test: int = 0,
    ok: bool = True,
    before: str = ":",
    platform: str | None = None,
    padding: int = 1000,
) -> Made:
    """`before` is a shell command that the runner does first; `padding` bytes do not compress."""
    inside = {
        "model/model.json": b"{}",
        "self-test/expected.json": b"{}",
        "licences/python.txt": b"text",
        "model/head.onnx": _noise(sequence, padding),
        EXECUTABLE: PROGRAM.format(
            self_test=self_test, ok=str(ok).lower(), before=before, model=model
        ).encode(),
    }
    place = folder / f"package-{sequence}-{model}"
    files = []
    for path, content in inside.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(content)
        (place / path).chmod(0o755 if path == EXECUTABLE else 0o644)
        files.append(
            PackageFile(path, len(content), hashlib.sha256(content).hexdigest(), path == EXECUTABLE)
        )
    manifest = Manifest(
        sequence=sequence,
        model_version=model,
        feature_set_version="abc",
        code_version="0",
        platform=platform or this_platform(),
        created_utc="2026-03-01T00:00:00+00:00",
        files=tuple(files),
        licences=(Licence("python", "3", "PSF-2.0", "licences/python.txt"),),
    )
    (place / MANIFEST).write_bytes(manifest.to_bytes())
    (place / SIGNATURE).write_bytes(sign(manifest.to_bytes(), key))
    archive = folder / f"{place.name}.tar.gz"
    sha256 = write_archive(place, archive)
    read = verify_directory(place, [key.public_key()], for_platform=manifest.platform)
    return Made(place, archive, read, sha256)


def _noise(seed: int, size: int) -> bytes:
    block = b"".join(hashlib.sha256(b"%d-%d" % (seed, n)).digest() for n in range(size // 32 + 1))
    return block[:size]


@dataclass
class Platform:
    """A small gateway: one assignment, some archives; it takes note of what it is told."""

    key: Ed25519PrivateKey
    url: str = ""
    assignment: tuple[bytes, bytes] | None = None
    archives: dict[str, bytes] = field(default_factory=dict)
    updates: list[dict[str, Any]] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    """After so many bytes each of the next answers breaks off."""
    knows_ranges: bool = True
    away: bool = False
    polls: int = 0

    def assign(
        self,
        serial: int,
        parts: Sequence[dict[str, Any]],
        *,
        box: str = "box-1",
        allow_older: bool = False,
        key: Ed25519PrivateKey | None = None,
    ) -> None:
        content = json.dumps(
            {
                "format": 1,
                "box": box,
                "serial": serial,
                "issued_utc": "2026-03-01T00:00:00+00:00",
                "allow_older": allow_older,
                "parts": list(parts),
            }
        ).encode()
        self.assignment = (content, sign(content, key or self.key))

    def offer(self, *packages: Made) -> None:
        for package in packages:
            self.archives[package.archive_sha256] = package.archive.read_bytes()

    def told(self, state: str, package: Made | None = None) -> list[str]:
        """Details of what was told of a package."""
        name = package.manifest.sha256 if package is not None else None
        return [
            str(update["detail"])
            for update in list(self.updates)
            if update["state"] == state and (name is None or update["package"] == name)
        ]


@contextmanager
def serving(platform: Platform) -> Iterator[Platform]:
    """The platform at `platform.url` while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if platform.away:
                return self._answer(503, b"")
            if self.path == "/v1/assignment":
                platform.polls += 1
                return self._assignment()
            archive = platform.archives.get(self.path.removeprefix("/v1/packages/"))
            if archive is None:
                return self._answer(404, b"{}")
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            platform.ranges.append(self.headers.get("Range", ""))
            start = int(wanted[1]) if wanted and platform.knows_ranges else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(archive) - 1}/{len(archive)}"
                )
            self.send_header("Content-Length", str(len(archive) - start))
            self.end_headers()
            content = archive[start:]
            self.wfile.write(content[: platform.cuts.pop(0)] if platform.cuts else content)
            return None

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if platform.away:
                return self._answer(503, b"")
            platform.updates.append(body)
            return self._answer(200, b"{}")

        def _assignment(self) -> None:
            if platform.assignment is None:
                return self._answer(204, b"")
            content, signature = platform.assignment
            tag = f'"{hashlib.sha256(content + signature).hexdigest()[:16]}"'
            if self.headers.get("If-None-Match") == tag:
                return self._answer(304, b"", tag)
            text = {
                "assignment": base64.b64encode(content).decode(),
                "signature": base64.b64encode(signature).decode(),
            }
            return self._answer(200, json.dumps(text).encode(), tag)

        def _answer(self, status: int, content: bytes, tag: str | None = None) -> None:
            self.send_response(status)
            if tag:
                self.send_header("ETag", tag)
            if status not in (204, 304):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
    thread.start()
    platform.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield platform
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
