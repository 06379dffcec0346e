"""What boxes and the platform ask for. What belongs here: HTTP in and out, one call to the store.
What does not: the ward's page (`ward.py`), who may (`access.py`), rules (`store.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, HTTPException, Path, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from starlette.concurrency import run_in_threadpool

from fall_assets.gateway import messages
from fall_assets.gateway.access import Box, BoxOrPlatform, Platform
from fall_assets.gateway.files import publish, temporary_name
from fall_assets.gateway.limits import CLOSE, clean_jpeg, pieces, read_message
from fall_assets.gateway.settings import Limits
from fall_assets.gateway.store import Store

MOST_ROWS: Final = 1000

router = APIRouter()

_REASONS: Final = {
    400: "The request cannot be read.",
    401: "The token is unknown or revoked.",
    403: "The token is for something else, or the camera is another's.",
    404: "There is no such thing.",
    408: "The body came too slowly.",
    409: "Something else is there under that name.",
    413: "The body is too large.",
    415: "The body is of another type.",
    416: "The package has no such range.",
    422: "A value is not allowed.",
    429: "Too many requests; Retry-After says when to come again.",
    503: "The gateway cannot store anything now; Retry-After says when to come again.",
}
_BODY: Final = (400, 408, 413, 415, 422)


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """How an endpoint may refuse, for its description; who asks may always be refused."""
    return {
        code: {"model": messages.Problem, "description": _REASONS[code]}
        for code in sorted({401, 403, 429, 503, *codes})
    }


def body_of(model: Any, limit: str) -> Any:
    """A dependency: the body as a message of that model, at most `Limits.<limit>` bytes."""

    async def read(request: Request) -> Any:
        limits: Limits = request.app.state.gateway.settings.limits
        return await read_message(request, model, getattr(limits, limit), limits.body_s)

    return Depends(read)


def described(model: type[messages.Message], *, listed: bool = False) -> dict[str, Any]:
    """The body in the service's description, which `body_of` reads by itself."""
    schema: dict[str, Any] = {"$ref": f"#/components/schemas/{model.__name__}"}
    if listed:
        schema = {"type": "array", "items": schema, "maxItems": messages.MOST_CAMERAS}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _store(request: Request) -> Store:
    store: Store = request.app.state.gateway.store
    return store


Kept = Annotated[Store, Depends(_store)]
AlertId = Annotated[str, Path(pattern=messages.ID_PATTERN)]
Sha256 = Annotated[str, Path(pattern=messages.SHA256_PATTERN)]
After = Annotated[int, Query(ge=0, le=2**53, description="The last id seen.")]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS)]


@router.post(
    "/v1/alerts",
    status_code=201,
    tags=["box"],
    response_model=messages.AlertTaken,
    responses={
        200: {"model": messages.AlertTaken, "description": "The alert was known already."},
        **refusals(*_BODY, 409),
    },
    openapi_extra=described(messages.AlertIn),
)
async def post_alert(
    request: Request,
    response: Response,
    holder: Box,
    store: Kept,
    alert: Annotated[messages.AlertIn, body_of(messages.AlertIn, "alert_bytes")],
    idempotency_key: Annotated[str | None, Header(description="The alert_id.")] = None,
) -> messages.AlertTaken:
    """Take an alert. Answers 2xx only once it is on the disk; sending it again changes nothing."""
    if idempotency_key is not None and idempotency_key != alert.alert_id:
        raise HTTPException(400, "Idempotency-Key is not the alert_id")
    limits: Limits = request.app.state.gateway.settings.limits
    still = None
    if alert.still is not None:
        still = await run_in_threadpool(
            clean_jpeg, alert.still, limits.alert_bytes, limits.still_pixels
        )
    new = await run_in_threadpool(store.take_alert, holder, alert, still)
    if new:
        request.app.state.gateway.changed()
    else:
        response.status_code = 200
    return messages.AlertTaken(alert_id=alert.alert_id, new=new)


@router.post(
    "/v1/telemetry",
    tags=["box"],
    responses=refusals(*_BODY),
    openapi_extra=described(messages.TelemetryIn),
)
async def post_telemetry(
    request: Request,
    holder: Box,
    store: Kept,
    telemetry: Annotated[messages.TelemetryIn, body_of(messages.TelemetryIn, "telemetry_bytes")],
) -> messages.ReportsTaken:
    """Take reports on cameras; those known already, by camera and time, are taken once."""
    accepted = await run_in_threadpool(store.take_reports, holder, telemetry)
    request.app.state.gateway.changed()
    return messages.ReportsTaken(accepted=accepted)


@router.post(
    "/v1/updates",
    tags=["box"],
    responses=refusals(*_BODY),
    openapi_extra=described(messages.UpdateIn),
)
async def post_update(
    holder: Box,
    store: Kept,
    news: Annotated[messages.UpdateIn, body_of(messages.UpdateIn, "small_bytes")],
) -> messages.Done:
    """Take what became of a package on a box."""
    await run_in_threadpool(store.take_update, holder, news)
    return messages.Done()


@router.get(
    "/v1/assignment",
    tags=["box"],
    response_model=messages.AssignmentOut,
    responses={
        204: {"description": "There is none."},
        304: {"description": "It is the one of If-None-Match."},
        **refusals(422),
    },
)
async def get_assignment(
    holder: Box, store: Kept, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """The box's signed assignment: the very bytes that were signed."""
    asked = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    found = await run_in_threadpool(
        store.assignment_for,
        str(holder.box),
        lambda etag: f'"{etag}"' in asked or "*" in asked,
    )
    if found is None:
        return Response(status_code=204)
    signed, etag = found
    headers = {"ETag": f'"{etag}"', "Cache-Control": "no-cache"}
    if signed is None:
        return Response(status_code=304, headers=headers)
    return JSONResponse(signed.model_dump(), headers=headers)


@router.get(
    "/v1/packages/{archive_sha256}",
    tags=["box", "platform"],
    response_class=FileResponse,
    responses={
        200: {"content": {"application/gzip": {"schema": {"type": "string"}}}},
        206: {
            "description": "The range that was asked for.",
            "content": {"application/gzip": {"schema": {"type": "string"}}},
        },
        416: {"description": _REASONS[416], "content": {"text/plain": {}}},
        **refusals(400, 404, 422),
    },
)
async def get_package(
    holder: BoxOrPlatform,
    store: Kept,
    archive_sha256: Sha256,
    range: Annotated[str | None, Header(description="Bytes, to go on where it broke off.")] = None,
) -> FileResponse:
    """A package, by its hash; Range gives a part of it."""
    path = store.package_file(archive_sha256)
    if not path.is_file():
        raise HTTPException(404, "there is no such package")
    return FileResponse(
        path,
        media_type="application/gzip",
        headers={"ETag": f'"{archive_sha256}"', "Cache-Control": "private, immutable"},
    )


@router.put(
    "/v1/packages/{archive_sha256}",
    status_code=201,
    tags=["platform"],
    response_model=messages.PackageTaken,
    responses={
        200: {"model": messages.PackageTaken, "description": "The package was known already."},
        **refusals(*_BODY),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/gzip": {"schema": {"type": "string", "format": "binary"}},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
)
async def put_package(
    request: Request, response: Response, holder: Platform, store: Kept, archive_sha256: Sha256
) -> messages.PackageTaken:
    """Store a package; refused where its bytes have another hash than the address says."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in ("application/gzip", "application/octet-stream"):
        raise HTTPException(415, "send application/gzip", CLOSE)
    target = store.package_file(archive_sha256)
    temporary = temporary_name(target)
    try:
        digest, size = await _receive(request, temporary)
        if digest != archive_sha256:
            raise HTTPException(422, "the content has another sha256 than the address says")
        new = not target.is_file()
        if new:
            await run_in_threadpool(publish, temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    response.status_code = 201 if new else 200
    return messages.PackageTaken(archive_sha256=archive_sha256, size=size, new=new)


async def _receive(request: Request, path: FilePath) -> tuple[str, int]:
    """Write the body to a file, synced: its sha256 and size. Memory stays small."""
    limits: Limits = request.app.state.gateway.settings.limits
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:

        def write(piece: bytes) -> None:
            digest.update(piece)
            file.write(piece)

        async for piece in pieces(request, limits.package_bytes, piece_s=limits.piece_s):
            await asyncio.to_thread(write, piece)
            size += len(piece)

        def sync() -> None:
            file.flush()
            os.fsync(file.fileno())

        await asyncio.to_thread(sync)
    return digest.hexdigest(), size


@router.put(
    "/v1/cameras",
    tags=["platform"],
    responses=refusals(*_BODY, 409),
    openapi_extra=described(messages.CameraIn, listed=True),
)
async def put_cameras(
    request: Request,
    holder: Platform,
    store: Kept,
    cameras: Annotated[list[messages.CameraIn], body_of(list[messages.CameraIn], "cameras_bytes")],
) -> messages.CamerasTaken:
    """Replace what is known of where cameras hang."""
    if len(cameras) > messages.MOST_CAMERAS:
        raise HTTPException(422, f"more than {messages.MOST_CAMERAS} cameras")
    count = await run_in_threadpool(store.set_cameras, cameras)
    request.app.state.gateway.changed()
    return messages.CamerasTaken(cameras=count)


@router.put(
    "/v1/assignments/{box}",
    tags=["platform"],
    responses=refusals(*_BODY, 409),
    openapi_extra=described(messages.AssignmentIn),
)
async def put_assignment(
    holder: Platform,
    store: Kept,
    box: Annotated[str, Path(pattern=messages.BOX_OR_ALL_PATTERN)],
    signed: Annotated[messages.AssignmentIn, body_of(messages.AssignmentIn, "assignment_bytes")],
) -> messages.Done:
    """Store a box's signed assignment, "*" for all boxes; refused where a newer one is there."""
    await run_in_threadpool(store.set_assignment, box, signed)
    return messages.Done()


async def _page(
    fetch: Callable[[int, int], list[dict[str, Any]]], after: int, limit: int
) -> tuple[list[dict[str, Any]], int]:
    rows = await run_in_threadpool(fetch, after, limit)
    return rows, rows[-1]["id"] if rows else after


_pulled: Callable[[Any], Any] = lambda model: {  # noqa: E731
    "tags": ["platform"],
    "response_model": model,
    "responses": refusals(422),
}


@router.get("/v1/answers", **_pulled(messages.Answers))
async def get_answers(
    holder: Platform, store: Kept, after: After = 0, limit: Limit = 100
) -> dict[str, Any]:
    """What staff answered, in order; ask again with `after` = `next`."""
    rows, last = await _page(store.answers_after, after, limit)
    return {"answers": rows, "next": last}


@router.get("/v1/alerts", **_pulled(messages.Alerts))
async def get_alerts(
    holder: Platform, store: Kept, after: After = 0, limit: Limit = 100
) -> dict[str, Any]:
    """Alerts as posted, without stills, in order; ask again with `after` = `next`."""
    rows, last = await _page(store.alerts_after, after, limit)
    return {"alerts": rows, "next": last}


@router.get("/v1/falls", **_pulled(messages.Falls))
async def get_falls(
    holder: Platform, store: Kept, after: After = 0, limit: Limit = 100
) -> dict[str, Any]:
    """Falls that no alert told of, in order; ask again with `after` = `next`."""
    rows, last = await _page(store.falls_after, after, limit)
    return {"falls": rows, "next": last}


@router.get("/v1/reports", **_pulled(messages.Reports))
async def get_reports(
    holder: Platform, store: Kept, after: After = 0, limit: Limit = 100
) -> dict[str, Any]:
    """Telemetry as posted, in order; ask again with `after` = `next`."""
    rows, last = await _page(store.reports_after, after, limit)
    return {"reports": rows, "next": last}


@router.get("/v1/updates", **_pulled(messages.Updates))
async def get_updates(
    holder: Platform, store: Kept, after: After = 0, limit: Limit = 100
) -> dict[str, Any]:
    """What became of packages, in order; ask again with `after` = `next`."""
    rows, last = await _page(store.updates_after, after, limit)
    return {"updates": rows, "next": last}


@router.get(
    "/v1/alerts/{alert_id}/still",
    tags=["platform"],
    response_class=FileResponse,
    responses={
        200: {"content": {"image/jpeg": {"schema": {"type": "string"}}}},
        206: {
            "description": "The range that was asked for.",
            "content": {"image/jpeg": {"schema": {"type": "string"}}},
        },
        416: {"description": _REASONS[416], "content": {"text/plain": {}}},
        **refusals(400, 404, 422),
    },
)
async def get_still(holder: Platform, store: Kept, alert_id: AlertId) -> FileResponse:
    """The blurred picture beside an alert."""
    return FileResponse(await run_in_threadpool(store.still_of, alert_id), media_type="image/jpeg")
