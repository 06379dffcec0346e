"""Who is asking. What belongs here: from a request to a holder, or 401, 403, 429. What does not:
how tokens are kept (`tokens.py`).
"""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import APIKeyCookie, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from starlette.concurrency import run_in_threadpool

from fall_assets.gateway.limits import Buckets, too_many
from fall_assets.gateway.settings import Settings
from fall_assets.gateway.tokens import Holder, Tokens

COOKIE: Final = "fall_ward"

_bearer = HTTPBearer(
    auto_error=False, scheme_name="token", description="A token of `fall-gateway token add`."
)
_cookie = APIKeyCookie(
    name=COOKIE,
    auto_error=False,
    scheme_name="session",
    description="The session of a ward's page, by POST /v1/session.",
)


class Guard:
    """Knows holders and holds back who guesses or floods.

    Guessing is held back by address. A valid token is never refused for another's guesses: behind
    a proxy all boxes may share one address.
    """

    def __init__(self, settings: Settings, tokens: Tokens) -> None:
        limits = settings.limits
        self._tokens = tokens
        self._failures = Buckets(limits.failures_per_minute / 60, limits.failures_per_minute)
        self._requests = Buckets(limits.rate_per_s, limits.burst)

    async def token(self, request: Request, token: str) -> Holder:
        """The holder of a token."""
        return self._known(request, await run_in_threadpool(self._tokens.holder, token))

    async def session(self, request: Request, secret: str) -> Holder:
        """The holder of a session's cookie."""
        return self._known(request, await run_in_threadpool(self._tokens.session, secret))

    def _known(self, request: Request, holder: Holder | None) -> Holder:
        if holder is None:
            self.failed(request)
            raise HTTPException(401, "not let in", {"WWW-Authenticate": "Bearer"})
        request.state.holder = holder
        # One kind of request must not use up another's: telemetry no alerts.
        wait = self._requests.take((holder.token_id, request.scope["route"].path))
        if wait:
            raise too_many(wait)
        return holder

    def failed(self, request: Request) -> None:
        """Count a failed attempt of this address; 429 where there were too many."""
        wait = self._failures.take(request.client.host if request.client else "")
        if wait:
            raise too_many(wait)


def guard_of(request: Request) -> Guard:
    """The app's guard."""
    guard: Guard = request.app.state.gateway.guard
    return guard


async def _token_holder(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Holder:
    return await guard_of(request).token(request, credentials.credentials if credentials else "")


async def _box(holder: Annotated[Holder, Depends(_token_holder)]) -> Holder:
    return _of(holder, "box")


async def _platform(holder: Annotated[Holder, Depends(_token_holder)]) -> Holder:
    return _of(holder, "platform")


async def _box_or_platform(holder: Annotated[Holder, Depends(_token_holder)]) -> Holder:
    return _of(holder, "box", "platform")


async def _ward(request: Request, secret: Annotated[str | None, Security(_cookie)]) -> Holder:
    if request.method not in ("GET", "HEAD"):
        refuse_other_sites(request)
    return _of(await guard_of(request).session(request, secret or ""), "ward")


def refuse_other_sites(request: Request) -> None:
    """403 where another site's page makes the browser ask."""
    origin = request.headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign or request.headers.get("sec-fetch-site", "same-origin") not in (
        "same-origin",
        "none",
    ):
        raise HTTPException(403, "not from another site")


def _of(holder: Holder, *roles: str) -> Holder:
    if holder.role not in roles:
        raise HTTPException(403, "this token is for something else")
    return holder


Box = Annotated[Holder, Depends(_box)]
Platform = Annotated[Holder, Depends(_platform)]
BoxOrPlatform = Annotated[Holder, Depends(_box_or_platform)]
Ward = Annotated[Holder, Depends(_ward)]


def describe(request: Request) -> str:
    """Who asked, for the log: never a token."""
    holder: Any = getattr(request.state, "holder", None)
    if holder is None:
        return "-"
    return f"{holder.role}:{holder.box or holder.ward or '*'}:{holder.token_id}"
