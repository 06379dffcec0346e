"""How much, how fast and how slowly a client may send. What belongs here: the limits' mechanics.
What does not: their values (`settings.py`), who the client is (`access.py`).
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NoReturn, TypeVar

from fastapi import HTTPException, Request
from PIL import Image, UnidentifiedImageError
from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect

MOST_DEPTH: Final = 8
"""The deepest message has 3 levels."""
MOST_KEPT: Final = 10_000
MOST_SCANS: Final = 16
"""A progressive JPEG has about 10; thousands of them in a small file take minutes to decode."""
JPEG_QUALITY: Final = 88
CLOSE: Final = {"Connection": "close"}

M = TypeVar("M")


class Buckets:
    """Token buckets by key: `rate` a second, at most `burst` at once. The oldest are forgotten."""

    def __init__(
        self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._levels: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def take(self, key: object) -> float:
        """Take one; 0 where there was one, else in how many seconds there will be."""
        now = self._clock()
        level, at = self._levels.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        taken = level >= 1
        self._levels[key] = (level - 1 if taken else level, now)
        while len(self._levels) > MOST_KEPT:
            self._levels.popitem(last=False)
        return 0.0 if taken else (1 - level) / self._rate


def too_many(wait_s: float) -> HTTPException:
    """429 with the time to wait."""
    return HTTPException(
        429, "too many requests: wait", {"Retry-After": str(max(1, math.ceil(wait_s)))}
    )


async def pieces(
    request: Request, limit: int, *, all_s: float | None = None, piece_s: float | None = None
) -> AsyncIterator[bytes]:
    """The body in pieces; 413 as soon as it is over `limit` bytes, 408 where it is too slow.

    What is refused is not read to its end: the connection is closed.
    """
    declared = request.headers.get("content-length")
    if declared is not None and (not declared.isdecimal() or int(declared) > limit):
        raise HTTPException(413, f"the body is over {limit} bytes", CLOSE)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "send the body without a content encoding", CLOSE)
    deadline = None if all_s is None else time.monotonic() + all_s
    size = 0
    stream = request.stream().__aiter__()
    while True:
        waits = [wait for wait in (piece_s, deadline and deadline - time.monotonic()) if wait]
        try:
            piece = await asyncio.wait_for(stream.__anext__(), min(waits) if waits else None)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise HTTPException(408, "the body came too slowly", CLOSE) from None
        except ClientDisconnect:
            raise HTTPException(400, "the body ended too early", CLOSE) from None
        size += len(piece)
        if size > limit:
            raise HTTPException(413, f"the body is over {limit} bytes", CLOSE)
        yield piece


async def read_message(request: Request, model: Any, limit: int, seconds: float) -> Any:
    """The body as a message of that model; 400, 408, 413, 415 or 422 where it is none."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "send application/json", CLOSE)
    content = b"".join([piece async for piece in pieces(request, limit, all_s=seconds)])
    try:
        tree = json.loads(
            content.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_doubles
        )
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is no JSON in UTF-8") from None
    if _depth(tree) > MOST_DEPTH:
        raise HTTPException(400, f"the JSON is nested deeper than {MOST_DEPTH}")
    try:
        return TypeAdapter(model).validate_json(content)
    except ValidationError as error:
        raise HTTPException(422, in_words(error.errors(include_input=False))) from None


def in_words(errors: Any) -> str:
    """What is wrong where, without what was sent."""
    words = []
    for error in errors[:5]:
        # A key that we do not know is the sender's text.
        extra = error["type"] == "extra_forbidden"
        parts = [str(part) for part in (error["loc"][:-1] if extra else error["loc"])]
        what = "has a field that is not known" if extra else error["msg"]
        words.append(f"{'.'.join(parts) or 'body'}: {what}")
    return "; ".join(words)


def clean_jpeg(text: str, limit: int, most_pixels: int) -> bytes:
    """The still of an alert, decoded and encoded anew: no metadata, nothing hidden behind it.

    `limit` bytes, `most_pixels` a side. 422 where it is no whole JPEG within these.
    """
    content = base64.b64decode(text)
    if len(content) > limit or not content.startswith(b"\xff\xd8"):
        raise HTTPException(422, "still: is no JPEG")
    if content.count(b"\xff\xda") > MOST_SCANS:
        raise HTTPException(422, f"still: has more than {MOST_SCANS} scans")
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as picture:
            if max(picture.size) > most_pixels:
                raise HTTPException(422, f"still: is larger than {most_pixels} pixels a side")
            plain = picture.convert("RGB")
        # A new picture, so that nothing of the old one's info can be written.
        bare = Image.new("RGB", plain.size)
        bare.paste(plain)
        out = io.BytesIO()
        bare.save(out, "JPEG", quality=JPEG_QUALITY)
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        ValueError,
        SyntaxError,
        OverflowError,
        MemoryError,
    ):
        raise HTTPException(422, "still: is a JPEG that cannot be decoded") from None
    return out.getvalue()


def _no_constant(_: str) -> NoReturn:
    raise ValueError("not a number of JSON")


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands there twice")
    return content


def _depth(tree: Any) -> int:
    level = [tree]
    depth = 0
    while level:
        depth += 1
        if depth > MOST_DEPTH:
            return depth
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list):
                below += item
        level = below
    return depth
