"""The service as an ASGI app. What belongs here: putting the parts together, what holds for all
answers (headers, log lines, errors). What does not: endpoints (`routes.py`, `ward.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic.json_schema import models_json_schema
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fall_assets.errors import PassingFailureError
from fall_assets.gateway import messages, routes, ward
from fall_assets.gateway.access import Guard, describe
from fall_assets.gateway.database import Database, StoreBusyError
from fall_assets.gateway.escalation import Escalator
from fall_assets.gateway.limits import in_words
from fall_assets.gateway.live import Live
from fall_assets.gateway.outputs import outputs_of
from fall_assets.gateway.settings import Settings
from fall_assets.gateway.store import (
    ConflictError,
    ForbiddenError,
    RefusedError,
    Store,
    UnknownError,
)
from fall_assets.gateway.tokens import Tokens
from fall_assets.gateway.wards import Wards

HOUR_S: Final = 3600.0
AGAIN_S: Final = 1.0
BUSY_S: Final = "5"
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}
_CODES: Final[dict[type[RefusedError], int]] = {
    ForbiddenError: 403,
    UnknownError: 404,
    ConflictError: 409,
}

_log = logging.getLogger(__name__)
access_log = logging.getLogger("fall_assets.gateway.access_log")


class Gateway:
    """All parts of a running gateway; `app.state.gateway`."""

    def __init__(self, settings: Settings, now: Callable[[], datetime]) -> None:
        self.settings = settings
        self.now = now
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.database = Database(settings.database, settings.data)
        self.tokens = Tokens(self.database, now)
        self.store = Store(settings, self.database, now)
        self.wards = Wards(settings, self.database, self.store, now)
        self.guard = Guard(settings, self.tokens)
        self.live = Live(self.store.revision)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.escalator = Escalator(
            settings, self.database, outputs_of(settings, self.wards, now), now, self.live.changed
        )

    def changed(self) -> None:
        """What wards see has changed: tell pages, and see who is to be told. From any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.live.changed)
            self._loop.call_soon_threadsafe(self.escalator.nudge)

    def stop(self) -> None:
        """Let streams end, so that the server can."""
        self.live.stop()

    def leave(self) -> None:
        """Nobody looks for changes any more."""
        self._loop = None

    async def run(self) -> None:
        """What goes on beside requests, until cancelled."""
        self._loop = asyncio.get_running_loop()
        await asyncio.gather(
            _for_ever(self.live.watch), _for_ever(self.escalator.run), _for_ever(self._forget)
        )

    async def _forget(self) -> None:
        while True:
            try:
                forgotten = await run_in_threadpool(self.store.forget)
                if forgotten:
                    _log.info("%d alerts were older than keep_days and are forgotten", forgotten)
            except (PassingFailureError, OSError) as error:
                _log.warning("cannot forget what is old: %s", error)
            await asyncio.sleep(HOUR_S)


def create_app(
    settings: Settings, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> FastAPI:
    """The service. `now` gives the time in UTC, with a zone.

    Raises StoreError where the database cannot be opened.
    """
    gateway = Gateway(settings, now)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(gateway.run())
        try:
            yield
        finally:
            gateway.stop()
            gateway.leave()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await run_in_threadpool(gateway.escalator.close)
            gateway.database.close()

    app = FastAPI(
        title="fall-gateway",
        version="1",
        description="Between boxes, wards and the platform of fall-assets.",
        lifespan=lifespan,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.gateway = gateway
    app.include_router(routes.router)
    app.include_router(ward.router)

    @app.get("/healthz", tags=["service"])
    async def healthz() -> messages.Health:
        """The process runs."""
        return messages.Health()

    @app.get("/readyz", tags=["service"], responses={503: routes.refusals()[503]})
    async def readyz() -> messages.Health:
        """The process can store what it is sent."""
        await run_in_threadpool(gateway.store.ready)
        return messages.Health()

    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RefusedError, _refused_by_store)
    app.add_exception_handler(StoreBusyError, _busy)
    app.add_exception_handler(OSError, _disk)
    app.add_middleware(_Outermost, gateway=gateway)
    _describe(app)
    return app


async def _for_ever(work: Callable[[], Awaitable[None]]) -> None:
    """Nobody would notice that alerts are not escalated any more: whatever happens, go on."""
    while True:
        try:
            await work()
        except Exception as error:
            _log.error("%s failed: %s at %s", work.__qualname__, *_where(error))
        await asyncio.sleep(AGAIN_S)


def _problem(
    request: Request, status: int, detail: str, headers: dict[str, str] | None = None
) -> Response:
    request.state.refusal = detail
    return JSONResponse({"detail": detail}, status, headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - told by the registration
    return _problem(request, 422, in_words(error.errors()))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - told by the registration
    return _problem(request, error.status_code, str(error.detail), dict(error.headers or {}))


async def _refused_by_store(request: Request, error: Exception) -> Response:
    return _problem(request, _CODES.get(type(error), 422), str(error))  # type: ignore[arg-type]


async def _busy(request: Request, error: Exception) -> Response:
    return _problem(request, 503, str(error), {"Retry-After": BUSY_S})


async def _disk(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)  # noqa: S101 - told by the registration
    detail = f"the disk failed: {error.strerror or type(error).__name__}"
    return _problem(request, 503, detail, {"Retry-After": BUSY_S})


class _Outermost:
    """Headers of all answers, one log line for each request, and no traceback to anybody."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        request = Request(scope)
        began = time.perf_counter()
        status = 0

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                names = {name.lower() for name, _ in message["headers"]}
                message = {
                    **message,
                    "headers": [
                        *message["headers"],
                        *((k.lower().encode(), v.encode()) for k, v in HEADERS.items()),
                        *([] if b"cache-control" in names else [(b"cache-control", b"no-store")]),
                    ],
                }
            await send(message)

        try:
            await self._app(scope, receive, with_headers)
        except Exception as error:
            # The words of an unknown error may hold what was sent.
            where = _where(error)
            _log.error("%s %s failed: %s at %s", request.method, _path(scope), *where)
            request.state.refusal = where[0]
            if not status:
                await JSONResponse({"detail": "the gateway failed"}, 500)(
                    scope, receive, with_headers
                )
        finally:
            level = logging.WARNING if status >= 400 or not status else logging.INFO
            access_log.log(
                level,
                "%s %s %s %d %.0f ms%s",
                request.client.host if request.client else "-",
                describe(request),
                f"{request.method} {_path(scope)}",
                status,
                1000 * (time.perf_counter() - began),
                f" refused: {refusal}"
                if (refusal := getattr(request.state, "refusal", None))
                else "",
            )


def _path(scope: Scope) -> str:
    """The path for a log line: without the query, one line, not long."""
    raw = bytes(scope.get("raw_path") or scope["path"].encode("utf-8", "replace"))
    text = raw.split(b"?")[0].decode("ascii", "backslashreplace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:200]


def _where(error: BaseException) -> tuple[str, str]:
    trace = error.__traceback__
    place = "?"
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return type(error).__name__, place


def _describe(app: FastAPI) -> None:
    """Add to the description the bodies that endpoints read by themselves."""
    plain = app.openapi
    bodies = (
        messages.AlertIn,
        messages.TelemetryIn,
        messages.UpdateIn,
        messages.CameraIn,
        messages.AssignmentIn,
        messages.SessionIn,
        messages.AnswerIn,
    )

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = plain()
            _, more = models_json_schema(
                [(model, "validation") for model in bodies],
                ref_template="#/components/schemas/{model}",
            )
            schema["components"].setdefault("schemas", {}).update(more["$defs"])
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
