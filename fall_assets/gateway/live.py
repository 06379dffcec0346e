"""Telling open pages that something has changed. What belongs here: the stream of events and who
waits for it. What does not: what a page shows (`wards.py`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fall_assets.errors import PassingFailureError
from fall_assets.gateway.messages import WardView

POLL_S: Final = 2.0
"""How often the database is asked, for changes by other processes."""
WHOLE_S: Final = 60.0
"""How often a page gets all anew, for what changes by time alone (a camera that fell silent)."""
SEND_S: Final = 20.0
"""A page that takes nothing for so long is let go; it comes back by itself."""
RETRY_MS: Final = 2000

_log = logging.getLogger(__name__)


class Live:
    """The revision of what wards see, and those who wait for the next one."""

    def __init__(self, revision: Callable[[], int]) -> None:
        self._read = revision
        self._poke = asyncio.Event()
        self._news = asyncio.Event()
        self.revision = -1
        self.stopping = asyncio.Event()
        self.streams: Counter[str] = Counter()

    def changed(self) -> None:
        """Something was stored: look now. To be called in the loop's thread."""
        self._poke.set()

    def stop(self) -> None:
        """Let all streams end."""
        self.stopping.set()
        self._wake()

    async def watch(self) -> None:
        """Look for changes until cancelled."""
        while True:
            try:
                revision = await run_in_threadpool(self._read)
            except PassingFailureError as error:
                _log.warning("cannot look for changes: %s", error)
            else:
                if revision != self.revision:
                    self.revision = revision
                    self._wake()
            try:
                await asyncio.wait_for(self._poke.wait(), POLL_S)
            except TimeoutError:
                continue
            self._poke.clear()

    async def wait(self, seen: int, seconds: float) -> bool:
        """Whether the revision is another than `seen`, or the service stops, within the time."""
        deadline = time.monotonic() + seconds
        while self.revision in (seen, -1) and not self.stopping.is_set():
            news = self._news
            try:
                await asyncio.wait_for(news.wait(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                return False
        return True

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class EventStream(Response):
    """Server-sent events: `view` with all that the page shows, whose id is the revision, and
    `tick` with the time now, as a sign of life.

    A page that comes back with the last revision as Last-Event-ID gets no view until there is a
    newer one. Ends where the page is gone, takes nothing, is not let in any more (`still_in`), or
    the service stops.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        live: Live,
        view: Callable[[], WardView],
        *,
        who: str,
        seen: int,
        heartbeat_s: float,
        now: Callable[[], datetime],
        still_in: Callable[[], Awaitable[bool]],
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._live = live
        self._view = view
        self._who = who
        self._seen = seen
        self._heartbeat_s = heartbeat_s
        self._now = now
        self._still_in = still_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the stream to its end."""
        headers = [pair for pair in self.raw_headers if pair[0] != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        self._live.streams[self._who] += 1
        gone = asyncio.create_task(_disconnected(receive))
        flow = asyncio.create_task(self._flow(send))
        try:
            await asyncio.wait((gone, flow), return_when=asyncio.FIRST_COMPLETED)
            if flow.done() and not gone.done():
                flow.result()
        except TimeoutError:
            pass
        finally:
            self._live.streams[self._who] -= 1
            for task in (gone, flow):
                task.cancel()
            await asyncio.gather(gone, flow, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _flow(self, send: Send) -> None:
        async def say(text: str) -> None:
            body = {"type": "http.response.body", "body": text.encode(), "more_body": True}
            await asyncio.wait_for(send(body), SEND_S)

        await say(f"retry: {RETRY_MS}\n\n" + self._tick())
        seen, whole = self._seen, time.monotonic()
        while not self._live.stopping.is_set():
            news = await self._live.wait(seen, self._heartbeat_s)
            if self._live.stopping.is_set() or not await self._still_in():
                return
            if news or time.monotonic() - whole > WHOLE_S:
                try:
                    view = await run_in_threadpool(self._view)
                except PassingFailureError as error:
                    _log.warning("a page gets no news: %s", error)
                    return
                seen, whole = view.revision, time.monotonic()
                await say(f"id: {seen}\nevent: view\ndata: {view.model_dump_json()}\n\n")
            else:
                await say(self._tick())

    def _tick(self) -> str:
        return f"event: tick\ndata: {json.dumps({'now_utc': self._now().isoformat()})}\n\n"


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
