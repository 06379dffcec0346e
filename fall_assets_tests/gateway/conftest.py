"""A gateway in this process, with a clock that stands still until it is moved."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import Response
from sqlalchemy import create_engine

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette would rather have httpx2.
    from starlette.testclient import TestClient

from fall_assets.gateway import tables
from fall_assets.gateway.app import Gateway, create_app
from fall_assets.gateway.settings import Settings
from fall_assets.gateway.tokens import Role
from fall_assets_tests.gateway.running import NOW, bearer

ELSEWHERE = os.environ.get("FALL_GATEWAY_TEST_DATABASE", "")
"""The URL of a database that these tests may empty, to run them on another one than SQLite."""


def _empty(url: str) -> None:
    if url:
        engine = create_engine(url)
        tables.metadata.drop_all(engine)
        engine.dispose()


class Service:
    """A gateway, its clock and ways to ask it."""

    def __init__(self, folder: Path, stack: ExitStack, **settings: Any) -> None:
        self.time = NOW
        _empty(ELSEWHERE)
        self.settings = Settings(data=folder, database=ELSEWHERE, **settings).checked()
        self.app: FastAPI = create_app(self.settings, now=self.now)
        self.gateway: Gateway = self.app.state.gateway
        # A failure of ours is to be seen as clients see it.
        self.client = TestClient(self.app, raise_server_exceptions=False)
        stack.enter_context(self.client)
        self.box = self.token("box", box="box-1")
        self.platform = self.token("platform")

    def now(self) -> datetime:
        """The gateway's time."""
        return self.time

    def later(self, seconds: float) -> None:
        """Move the clock."""
        self.time += timedelta(seconds=seconds)

    def token(self, role: Role, **whose: Any) -> str:
        """A new token."""
        return self.gateway.tokens.add(role, **whose)[0]

    def post(self, path: str, content: Any, token: str | None = None, **more: Any) -> Response:
        """Post JSON as a box."""
        headers = bearer(token or self.box) | more.pop("headers", {})
        answer: Response = self.client.post(path, json=content, headers=headers, **more)
        return answer

    def get(self, path: str, token: str | None = None, **more: Any) -> Response:
        """Get as the platform."""
        headers = bearer(token or self.platform) | more.pop("headers", {})
        answer: Response = self.client.get(path, headers=headers, **more)
        return answer

    def put(self, path: str, content: Any, token: str | None = None) -> Response:
        """Put JSON as the platform."""
        headers = bearer(token or self.platform)
        answer: Response = self.client.put(path, json=content, headers=headers)
        return answer

    def cameras(self, *cameras: Mapping[str, Any]) -> None:
        """Tell where cameras hang."""
        rows = [{"ward": None, "room": None, **camera} for camera in cameras]
        answer = self.put("/v1/cameras", rows)
        assert answer.status_code == 200, answer.text

    def ward(self, ward: str | None = None) -> TestClient:
        """A browser that has opened a ward's page."""
        browser = TestClient(self.app, raise_server_exceptions=False)
        answer = browser.post("/v1/session", json={"token": self.token("ward", ward=ward)})
        assert answer.status_code == 200, answer.text
        return browser

    def stored(self) -> Sequence[Any]:
        """All that is stored of boxes, and the files."""
        lists = [self.get(f"/v1/{name}").json()[name] for name in ("alerts", "reports", "updates")]
        files = sorted(
            str(path) for path in self.settings.data.rglob("*") if path.suffix in (".jpg", ".gz")
        )
        return [*lists, files]


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Makes gateways with settings."""
    with ExitStack() as stack:
        yield lambda **settings: Service(tmp_path / "data", stack, **settings)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A gateway for tests that leave nothing behind, and say so."""
    with ExitStack() as stack:
        yield Service(tmp_path_factory.mktemp("gateway") / "data", stack)


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    """A gateway with default settings."""
    return make_service()
