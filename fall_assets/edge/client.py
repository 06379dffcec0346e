"""Speaking with the gateway: one request, one answer, within a bounded time.

What belongs here: addresses, tokens, limits, and what an answer means. What does not: trying again
(`sender.py` for alerts; telemetry and updates are tried again by whoever posts them).
"""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import re
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal

from fall_assets.errors import FallAssetsError, PassingFailureError, PermanentFailureError
from fall_assets.loopback import is_loopback

MOST_ASSIGNMENT_BYTES: Final = 1_500_000
"""What is signed of an assignment is no larger: room for 10,000 cameras with ids of 64 characters,
each named twice (live in one part, in shadow in another)."""
MOST_ASSIGNMENT_BASE64: Final = 4 * -(-MOST_ASSIGNMENT_BYTES // 3)
"""The same as it is sent."""

_ANSWER_BYTES = 1_000_000
_ASSIGNMENT_ANSWER_BYTES = MOST_ASSIGNMENT_BASE64 + 10_000
_DETAIL_LENGTH = 200
_TOKEN = re.compile(r"[\x21-\x7e]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TO_BE_TRIED_AGAIN = (401, 408, 425, 429)


class GatewayAwayError(PassingFailureError):
    """Not reached, no whole answer, or an answer that asks to come again.

    Attributes:
        status: of the answer; None without one.
        retry_after_s: seconds that the gateway asks to wait; None where it does not say.
    """

    def __init__(
        self, message: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class GatewayRefusedError(PermanentFailureError):
    """The gateway refuses this request for good; `status` is that of its answer."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """What the gateway said to a request that it took; the body's size is bounded."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; GatewayAwayError where it is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise GatewayAwayError(
                f"answered {self.status} with something that is no JSON object: is the address "
                "that of the gateway?",
                status=self.status,
            )
        return value


@dataclass(frozen=True)
class AssignmentAnswer:
    """What the gateway has for this box; bytes as they were signed, not verified here."""

    state: Literal["new", "unchanged", "none"]
    assignment: bytes = b""
    signature: bytes = b""
    etag: str | None = None


class PackageDownload:
    """A package's bytes from `offset` on. `size` is that of the whole archive; None: not said.

    `offset` is 0 where the gateway does not know ranges: begin the file anew.
    """

    def __init__(
        self, response: http.client.HTTPResponse, offset: int, size: int | None, rearm: _Deadline
    ) -> None:
        self.offset = offset
        self.size = size
        self._response = response
        self._deadline = rearm

    def read(self, length: int = 1 << 16) -> bytes:
        """At most `length` further bytes; b"" at the end. GatewayAwayError where it breaks off."""
        self._deadline.again()
        try:
            piece = self._response.read1(length)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise _not_reached(error) from None
        left = self._response.length
        if not piece and left:
            raise GatewayAwayError(f"the package broke off, {left} bytes are missing")
        return piece


class GatewayClient:
    """The gateway as seen from a box. Safe in threads: every request has its own connection.

    Args:
        url: `https://host[:port][/path]`; `http://` for loopback addresses only.
        token: gives the box's token; asked for every request, so that it may be replaced.
        timeout_s: for a whole request with its answer, and for each piece of a package.
        context: of TLS; default: the system's authorities, host name verified.

    Redirects are refused and proxies are not used: what a box says goes to the configured gateway
    or nowhere. The token appears in no message. Requests raise GatewayAwayError or
    GatewayRefusedError.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        *,
        timeout_s: float = 10.0,
        context: ssl.SSLContext | None = None,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise PermanentFailureError(
                "gateway must be an address like https://gateway.example or http://127.0.0.1:8600"
            )
        if parts.username is not None or parts.query or parts.fragment:
            raise PermanentFailureError(
                "gateway may hold no user, password, ? or #: the token has a file of its own"
            )
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise PermanentFailureError(
                f"gateway is at {parts.hostname} by http, and the token would be readable on the "
                "way: use https"
            )
        if timeout_s <= 0:
            raise PermanentFailureError(f"timeout_s must be over 0, got {timeout_s}")
        self._host, self._port = parts.hostname, port
        self._path = parts.path.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._context = None
        if parts.scheme == "https":
            self._context = context or ssl.create_default_context()
        self._lock = threading.Lock()
        self._open: set[_Deadline] = set()

    def post_alert(self, alert_id: str, payload: Mapping[str, Any]) -> Answer:
        """Post one alert, with the time of sending; the same id twice counts once there.

        A 2xx that does not say that this alert was accepted (the login page of a guest network,
        say) raises GatewayAwayError.
        """
        answer = self._ask(
            "POST",
            "/v1/alerts",
            body={**payload, "sent_utc": _now()},
            headers={"Idempotency-Key": alert_id},
        )
        said = answer.json()
        if said.get("accepted") is not True or said.get("alert_id") != alert_id:
            raise GatewayAwayError(
                f"answered {answer.status} without accepting alert {alert_id}: is the address "
                "that of the gateway?",
                status=answer.status,
            )
        return answer

    def post_telemetry(self, reports: Sequence[Mapping[str, Any]]) -> int:
        """Post reports of cameras; how many the gateway took."""
        body = {"sent_utc": _now(), "reports": [dict(report) for report in reports]}
        accepted = self._ask("POST", "/v1/telemetry", body=body).json().get("accepted")
        return accepted if isinstance(accepted, int) else 0

    def post_update(self, package: str, state: str, detail: str) -> None:
        """Say what became of a package, named by its manifest's SHA-256 (or "")."""
        body = {"at_utc": _now(), "package": package, "state": state, "detail": detail}
        self._ask("POST", "/v1/updates", body=body)

    def get_assignment(self, etag: str | None = None) -> AssignmentAnswer:
        """What this box should run; `etag` is of the last answer."""
        headers = {"If-None-Match": etag} if etag else {}
        answer = self._ask("GET", "/v1/assignment", headers=headers, most=_ASSIGNMENT_ANSWER_BYTES)
        if answer.status == 304:
            return AssignmentAnswer("unchanged", etag=etag)
        if answer.status == 204:
            return AssignmentAnswer("none")
        body = answer.json()
        try:
            assignment, signature = (
                base64.b64decode(body[name], validate=True) for name in ("assignment", "signature")
            )
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise GatewayAwayError(
                "the assignment's answer lacks assignment and signature in base64",
                status=answer.status,
            ) from None
        return AssignmentAnswer("new", assignment, signature, answer.headers.get("etag"))

    @contextmanager
    def open_package(self, sha256: str, offset: int = 0) -> Iterator[PackageDownload]:
        """The archive with this SHA-256 from `offset` on; the hash is not verified here."""
        if not _SHA256.fullmatch(sha256):
            raise PermanentFailureError("a package is named by 64 hexadecimal digits of SHA-256")
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._request("GET", f"/v1/packages/{sha256}", None, headers) as (response, deadline):
            start, size = 0, response.length
            if response.status == 206:
                match = re.fullmatch(
                    r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
                )
                if match is None or int(match[1]) != offset:
                    raise GatewayAwayError("answered 206 with another range than was asked for")
                start, size = offset, None if match[2] == "*" else int(match[2])
            yield PackageDownload(response, start, size, deadline)

    def abort(self) -> None:
        """Cut off all requests that are on the way: they fail at once, in their threads."""
        with self._lock:
            deadlines = list(self._open)
        for deadline in deadlines:
            deadline.cut()

    def _ask(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        most: int = _ANSWER_BYTES,
    ) -> Answer:
        sent = dict(headers or {})
        data = None
        if body is not None:
            data = json.dumps(body, allow_nan=False).encode()
            sent["Content-Type"] = "application/json"
        with self._request(method, path, data, sent) as (response, deadline):
            try:
                text = _read(response, most)
                if deadline.passed:
                    raise TimeoutError
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise _not_reached(error, late=deadline.passed) from None
            return Answer(
                response.status,
                {name.lower(): value for name, value in response.headers.items()},
                text,
            )

    @contextmanager
    def _request(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]
    ) -> Iterator[tuple[http.client.HTTPResponse, _Deadline]]:
        """The open answer; raises for all answers but 2xx and 304."""
        sent = {
            "Authorization": f"Bearer {self._checked_token()}",
            "User-Agent": "fall-edge",
            "Connection": "close",
            **headers,
        }
        connection = self._connection()
        deadline = _Deadline(connection, self._timeout_s)
        with self._lock:
            self._open.add(deadline)
        try:
            try:
                deadline.again()
                connection.connect()
                if deadline.passed:
                    raise TimeoutError
                connection.request(method, self._path + path, body=data, headers=sent)
            except (BrokenPipeError, ConnectionResetError):
                # It may have answered (413, 401) without reading the request to its end.
                if connection.sock is None:
                    raise GatewayAwayError("not reached: the connection was cut") from None
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise _not_reached(error, late=deadline.passed) from None
            try:
                response = connection.getresponse()
                if deadline.passed:
                    # Headers that break off look like headers that end.
                    raise TimeoutError
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise _not_reached(error, late=deadline.passed) from None
            _check(response)
            yield response, deadline
        finally:
            with self._lock:
                self._open.discard(deadline)
            deadline.done()
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port or 80, timeout=self._timeout_s)
        return http.client.HTTPSConnection(
            self._host, self._port or 443, timeout=self._timeout_s, context=self._context
        )

    def _checked_token(self) -> str:
        try:
            token = self._token().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise GatewayAwayError(
                f"the token cannot be read ({type(error).__name__}): look at token_file"
            ) from None
        except FallAssetsError as error:
            raise GatewayAwayError(str(error)) from None
        if not _TOKEN.fullmatch(token):
            # http.client would name the token in its complaint.
            raise GatewayAwayError("the token holds nothing or blanks: look at token_file")
        return token


class _Deadline:
    """Cuts the connection when its time is up: a timeout of a socket begins anew with each byte."""

    def __init__(self, connection: http.client.HTTPConnection, limit_s: float) -> None:
        self.passed = False
        self._connection = connection
        self._limit_s = limit_s
        self._timer: threading.Timer | None = None

    def again(self) -> None:
        """Begin the time anew."""
        self.done()
        self._timer = threading.Timer(self._limit_s, self.cut)
        self._timer.daemon = True
        self._timer.start()

    def cut(self) -> None:
        """Break the connection; whoever reads or writes it gets an error."""
        self.passed = True
        sock = self._connection.sock
        if isinstance(sock, socket.socket):
            with suppress(OSError):
                # TLS' own method waits for the other side; that of the class beneath does not.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def done(self) -> None:
        """No longer needed."""
        if self._timer is not None:
            self._timer.cancel()


def _read(response: http.client.HTTPResponse, limit: int) -> bytes:
    text = response.read(limit + 1)
    if len(text) > limit:
        raise GatewayAwayError(
            f"answered with more than {limit} bytes: is the address that of the gateway?",
            status=response.status,
        )
    if response.length:
        raise GatewayAwayError(f"the answer broke off, {response.length} bytes are missing")
    return text


def _check(response: http.client.HTTPResponse) -> None:
    status = response.status
    if 200 <= status < 300 or status == 304:
        return
    said = _said(response)
    if 300 <= status < 400:
        place = urllib.parse.urlsplit(response.headers.get("Location", "")).hostname
        raise GatewayAwayError(
            f"answered {status}, a redirect{f' to {place}' if place else ''}: configure the "
            "address that it leads to",
            status=status,
        )
    if 400 <= status < 500 and status not in _TO_BE_TRIED_AGAIN:
        raise GatewayRefusedError(f"answered {status}{said}", status=status)
    raise GatewayAwayError(
        f"answered {status}{said}",
        status=status,
        retry_after_s=_retry_after(response.headers.get("Retry-After")),
    )


def _said(response: http.client.HTTPResponse) -> str:
    """The answer's own reason, on one line, or its reason phrase."""
    try:
        text = response.read(_DETAIL_LENGTH * 4).decode(errors="replace")
    except (OSError, ValueError, http.client.HTTPException):
        text = ""
    with suppress(ValueError):
        value = json.loads(text)
        if isinstance(value, dict) and "detail" in value:
            detail = value["detail"]
            text = detail if isinstance(detail, str) else json.dumps(detail)
    line = " ".join("".join(c if c.isprintable() else " " for c in text or response.reason).split())
    return f": {line[:_DETAIL_LENGTH]}" if line else ""


def _retry_after(value: str | None) -> float | None:
    """Seconds, or an HTTP date; None where it is neither."""
    if not value:
        return None
    if re.fullmatch(r"\d{1,9}", value.strip()):
        return float(value)
    with suppress(ValueError, TypeError):
        at = parsedate_to_datetime(value)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return max(0.0, (at - datetime.now(UTC)).total_seconds())
    return None


def _not_reached(error: Exception, *, late: bool = False) -> GatewayAwayError:
    if isinstance(error, GatewayAwayError):
        return error
    if late or isinstance(error, TimeoutError):
        return GatewayAwayError("no whole answer in time")
    if isinstance(error, ssl.SSLCertVerificationError):
        return GatewayAwayError(
            f"its certificate is not trusted ({error.verify_message}): correct it, or the clock"
        )
    text = error.strerror if isinstance(error, OSError) and error.strerror else ""
    return GatewayAwayError(f"not reached: {text or type(error).__name__}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
