"""The ward's page and what it asks for. What belongs here: HTTP in and out. What does not: which
alerts are whose (`wards.py`), the stream's workings (`live.py`).
"""

from __future__ import annotations

from importlib import resources
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, HTTPException, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from fall_assets.gateway import messages
from fall_assets.gateway.access import COOKIE, Ward, guard_of, refuse_other_sites
from fall_assets.gateway.limits import too_many
from fall_assets.gateway.live import EventStream
from fall_assets.gateway.routes import AlertId, body_of, described, refusals
from fall_assets.gateway.tokens import SESSION_DAYS
from fall_assets.gateway.wards import Wards

router = APIRouter(tags=["ward"])

_PAGE: Final = resources.files("fall_assets.gateway") / "page"
_FILES: Final = {
    "ward.css": "text/css; charset=utf-8",
    "ward.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def _wards(request: Request) -> Wards:
    wards: Wards = request.app.state.gateway.wards
    return wards


Shown = Annotated[Wards, Depends(_wards)]


def _file(name: str, kind: str) -> Response:
    return Response(
        (_PAGE / name).read_bytes(), media_type=kind, headers={"Cache-Control": "no-cache"}
    )


@router.get("/", include_in_schema=False)
def start() -> RedirectResponse:
    """Who comes without an address wants the page."""
    return RedirectResponse("/ward")


@router.get("/ward", include_in_schema=False)
def page() -> Response:
    """The page; it asks for what it shows."""
    return _file("index.html", "text/html; charset=utf-8")


@router.get("/ward/{name}", include_in_schema=False)
def page_file(name: str) -> Response:
    """What the page is made of."""
    if name not in _FILES:
        raise HTTPException(404, "there is no such file")
    return _file(name, _FILES[name])


@router.get("/favicon.ico", include_in_schema=False)
def favicon() -> Response:
    """What browsers ask for unasked."""
    return _file("icon.svg", _FILES["icon.svg"])


@router.post(
    "/v1/session",
    responses=refusals(400, 408, 413, 415, 422),
    openapi_extra=described(messages.SessionIn),
)
async def open_session(
    request: Request,
    response: Response,
    asked: Annotated[messages.SessionIn, body_of(messages.SessionIn, "small_bytes")],
) -> messages.SessionOut:
    """Open a session with a ward's token: sets the cookie."""
    refuse_other_sites(request)
    gateway = request.app.state.gateway
    holder = await guard_of(request).token(request, asked.token)
    if holder.role != "ward":
        raise HTTPException(403, "this token is for something else")
    response.set_cookie(
        COOKIE,
        await run_in_threadpool(gateway.tokens.open_session, holder),
        max_age=SESSION_DAYS * 24 * 3600,
        httponly=True,
        samesite="strict",
        secure=gateway.settings.tls_proxy,
    )
    return messages.SessionOut(ward=holder.ward)


@router.delete("/v1/session", responses=refusals())
async def close_session(request: Request, response: Response, holder: Ward) -> messages.Done:
    """End the session."""
    tokens = request.app.state.gateway.tokens
    await run_in_threadpool(tokens.close_session, request.cookies[COOKIE])
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return messages.Done()


@router.get("/v1/ward/alerts", responses=refusals())
async def ward_alerts(holder: Ward, wards: Shown) -> messages.WardView:
    """All that the page shows now."""
    return await run_in_threadpool(wards.view, holder.ward)


@router.get(
    "/v1/ward/stream",
    response_class=Response,
    responses={
        200: {
            "description": "Events `view` (as /v1/ward/alerts) and `tick` ({now_utc}).",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **refusals(422),
    },
)
async def ward_stream(
    request: Request,
    holder: Ward,
    wards: Shown,
    last_event_id: Annotated[str | None, Header(max_length=40)] = None,
) -> EventStream:
    """The same whenever it changes, until the page is closed."""
    gateway = request.app.state.gateway
    live, limits = gateway.live, gateway.settings.limits
    if (
        live.streams[holder.token_id] >= limits.streams_per_token
        or live.streams.total() >= limits.streams
    ):
        raise too_many(10.0)
    secret = request.cookies[COOKIE]

    async def still_in() -> bool:
        return await run_in_threadpool(gateway.tokens.session, secret) is not None

    seen = last_event_id or ""
    return EventStream(
        live,
        lambda: wards.view(holder.ward),
        who=holder.token_id,
        seen=int(seen) if seen.isascii() and seen.isdecimal() else -2,
        heartbeat_s=gateway.settings.heartbeat_s,
        now=gateway.now,
        still_in=still_in,
    )


@router.post(
    "/v1/ward/alerts/{alert_id}/answers",
    status_code=201,
    response_model=messages.Done,
    responses={
        200: {"model": messages.Done, "description": "The answer was known already."},
        **refusals(400, 404, 408, 409, 413, 415, 422),
    },
    openapi_extra=described(messages.AnswerIn),
)
async def post_answer(
    request: Request,
    response: Response,
    holder: Ward,
    wards: Shown,
    alert_id: AlertId,
    given: Annotated[messages.AnswerIn, body_of(messages.AnswerIn, "small_bytes")],
) -> messages.Done:
    """Answer an alert. Answers are kept, all of them; the last one counts."""
    new = await run_in_threadpool(wards.answer, holder.ward, alert_id, given, holder.token_id)
    if new:
        request.app.state.gateway.changed()
    else:
        response.status_code = 200
    return messages.Done()


@router.get("/v1/ward/cameras", responses=refusals())
async def ward_cameras(holder: Ward, wards: Shown) -> messages.WardCameras:
    """The ward's cameras, room by room: of what a fall can be reported."""
    return messages.WardCameras(cameras=await run_in_threadpool(wards.cameras, holder.ward))


@router.post(
    "/v1/ward/falls",
    status_code=201,
    response_model=messages.Done,
    responses={
        200: {"model": messages.Done, "description": "The report was known already."},
        **refusals(400, 404, 408, 409, 413, 415, 422),
    },
    openapi_extra=described(messages.FallIn),
)
async def post_fall(
    request: Request,
    response: Response,
    holder: Ward,
    wards: Shown,
    given: Annotated[messages.FallIn, body_of(messages.FallIn, "small_bytes")],
) -> messages.Done:
    """Report a fall that no alert told of."""
    new = await run_in_threadpool(wards.report_fall, holder.ward, given, holder.token_id)
    if new:
        request.app.state.gateway.changed()
    else:
        response.status_code = 200
    return messages.Done()


@router.get(
    "/v1/ward/alerts/{alert_id}/still",
    response_class=FileResponse,
    responses={
        200: {"content": {"image/jpeg": {"schema": {"type": "string"}}}},
        206: {
            "description": "The range that was asked for.",
            "content": {"image/jpeg": {"schema": {"type": "string"}}},
        },
        416: {"description": "The still has no such range.", "content": {"text/plain": {}}},
        **refusals(400, 404, 422),
    },
)
async def ward_still(holder: Ward, wards: Shown, alert_id: AlertId) -> FileResponse:
    """The blurred picture beside one of the ward's alerts."""
    path = await run_in_threadpool(wards.still, holder.ward, alert_id)
    return FileResponse(path, media_type="image/jpeg")
