"""The platform's side of the gateway: reading what boxes and wards said, publishing packages.

What belongs here: requests with the platform's token. What does not: the service itself
(`fall_assets.gateway`), the box's side (`fall_assets.edge.client`), the lake (`pipeline`).
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from fall_assets.errors import PassingFailureError, PermanentFailureError

if TYPE_CHECKING:
    import httpx

Inbox = Literal["alerts", "answers", "falls", "reports", "updates"]
Row = dict[str, Any]

TOKEN_VARIABLE = "FALL_GATEWAY_TOKEN"  # noqa: S105 - the variable's name
TOKEN_FILE = "gateway-token"  # noqa: S105 - the file's name
PAGE = 500
"""Rows that are asked for at a time."""

_TIMEOUT_S = 30.0
_PIECE = 1 << 20
_REFUSED = range(400, 500)
_LATER = (408, 425, 429)


class GatewayAwayError(PassingFailureError):
    """The gateway cannot be reached or is in trouble; the next run asks again."""


class GatewayRefusedError(PermanentFailureError):
    """The gateway refuses: the token or what was sent is wrong."""


@dataclass(frozen=True)
class GatewaySettings:
    """Where the gateway is.

    Attributes:
        url: its address, as http://127.0.0.1:8600; empty: the site has none.
        reports_every_min: boxes' telemetry is taken into the lake so often.
    """

    url: str = ""
    reports_every_min: float = 15.0

    def __post_init__(self) -> None:
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url {self.url!r} must start with http:// or https://")
        if self.reports_every_min <= 0:
            raise ValueError(f"reports_every_min is {self.reports_every_min}, wanted over 0")


def platform_token(site_root: Path) -> str:
    """The platform's token: FALL_GATEWAY_TOKEN, or the file `gateway-token` in the site's folder.

    Raises PermanentFailureError where there is none, or where others may read the file.
    """
    if told := os.environ.get(TOKEN_VARIABLE):
        return told.strip()
    path = site_root / TOKEN_FILE
    try:
        if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            raise PermanentFailureError(f"others may read {path}: chmod 600 it")
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise PermanentFailureError(
            f"no token for the gateway: set {TOKEN_VARIABLE} or write it into {path} "
            "(`fall-gateway token add --role platform` makes one)"
        ) from None


class Gateway:
    """A connection to the gateway; use it in a `with` statement."""

    def __init__(
        self, url: str, token: str, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        import httpx

        self._client = httpx.Client(
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {token}"},
            timeout=_TIMEOUT_S,
            follow_redirects=False,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def page(self, what: Inbox, after: int) -> list[Row]:
        """The first rows with numbers (`id`) above `after`, in order, `PAGE` at most.

        None where the gateway is older than this list.
        """
        path = f"/v1/{what}"
        answer = self._client_call("GET", path, params={"after": after, "limit": PAGE})
        if answer.status_code == 404:
            # A gateway of before there was such a list: it must not keep alerts from coming in.
            return []
        self._check(answer, "GET", path)
        rows: list[Row] = answer.json()[what]
        return rows

    def inbox(self, what: Inbox, after: int) -> Iterator[Row]:
        """Rows with numbers above `after`, in order, page by page."""
        rows = self.page(what, after)
        while rows:
            yield from rows
            rows = self.page(what, int(rows[-1]["id"])) if len(rows) == PAGE else []

    def put_cameras(self, cameras: Sequence[Mapping[str, Any]]) -> None:
        """Tell which camera is in which ward and room."""
        self._ask("PUT", "/v1/cameras", json=list(cameras))

    def put_package(self, archive: Path, sha256: str) -> None:
        """Send an archive, in pieces; one that is there already is not sent again."""

        def pieces() -> Iterator[bytes]:
            with archive.open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece

        there = self._client_call("HEAD", f"/v1/packages/{sha256}")
        if there.status_code == 200:
            return
        self._ask(
            "PUT",
            f"/v1/packages/{sha256}",
            content=pieces(),
            headers={
                "Content-Length": str(archive.stat().st_size),
                "Content-Type": "application/gzip",
            },
        )

    def put_assignment(self, box: str, assignment: bytes, signature: bytes) -> None:
        """Say what a box (or '*': all others) is to run; the bytes stay as they were signed."""
        body = {
            "assignment": base64.b64encode(assignment).decode(),
            "signature": base64.b64encode(signature).decode(),
        }
        self._ask("PUT", f"/v1/assignments/{box}", json=body)

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        answer = self._client_call(method, path, **more)
        self._check(answer, method, path)
        return answer

    @staticmethod
    def _check(answer: httpx.Response, method: str, path: str) -> None:
        if answer.is_success:
            return
        text = answer.text[:200]
        if answer.status_code in _REFUSED and answer.status_code not in _LATER:
            raise GatewayRefusedError(
                f"the gateway refuses {method} {path} with {answer.status_code}: {text}"
            )
        raise GatewayAwayError(f"the gateway answers {method} {path} with {answer.status_code}")

    def _client_call(self, method: str, path: str, **more: Any) -> httpx.Response:
        import httpx

        try:
            return self._client.request(method, path, **more)
        except httpx.HTTPError as error:
            raise GatewayAwayError(
                f"the gateway at {self._client.base_url.host} does not answer "
                f"({type(error).__name__}): is `fall-gateway serve` running?"
            ) from error
