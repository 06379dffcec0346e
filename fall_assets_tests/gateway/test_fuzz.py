"""Whatever is asked, the service answers as it says it does, and never with a failure of its own.

Made from its own description (/openapi.json), with real tokens, the same requests in every run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis.errors import Unsatisfiable  # noqa: E402
from schemathesis.checks import CHECKS, load_all_checks  # noqa: E402
from schemathesis.generation import GenerationMode  # noqa: E402

from fall_assets.gateway.settings import Limits  # noqa: E402
from fall_assets_tests.gateway.conftest import Service  # noqa: E402
from fall_assets_tests.gateway.running import alert, bearer, jpeg  # noqa: E402

EXAMPLES = 12
# Not that what is wrong is refused: unknown query parameters are passed over. For bodies see
# `test_hostile`.
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
UNENDING = "/v1/ward/stream"
"""Streams have no end to wait for; `test_server` asks for it."""


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A gateway that lets one client ask as often as it likes, with one alert in it."""
    patient = Limits(rate_per_s=1e6, burst=1_000_000, failures_per_minute=1e9)
    with ExitStack() as stack:
        service = Service(tmp_path_factory.mktemp("fuzzed") / "data", stack, limits=patient)
        assert service.post("/v1/alerts", alert("0", still=jpeg())).status_code == 201
        yield service


async def _app_of(service: Service, scope: Any, receive: Any, send: Any) -> None:
    """The app without its start and end, which are the fixture's."""
    if scope["type"] == "http":
        await service.app(scope, receive, send)
        return
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


def ask(service: Service, operation: Any, mode: GenerationMode, checks: list[Any]) -> int:
    """Ask one operation many things; how many."""
    asked = 0
    # The session may have been closed by the operation before.
    cookie = f"fall_ward={service.ward().cookies['fall_ward']}"
    tags = operation.definition.raw.get("tags", [])
    headers = bearer(service.box if "box" in tags else service.platform)
    if "ward" in tags:
        headers = {"Cookie": cookie}

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def each(case: Any) -> None:
        nonlocal asked
        asked += 1
        case.validate_response(case.call(headers=headers), checks=checks)

    try:
        each()
    except Unsatisfiable:
        # Nothing can be wrong about what takes nothing.
        assert mode is GenerationMode.NEGATIVE, operation.label
    return asked


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_answer_is_as_described(fuzzed: Service, mode: GenerationMode) -> None:
    load_all_checks()
    checks = [CHECKS.get_one(name) for name in CHECKED]
    described = schemathesis.openapi.from_asgi("/openapi.json", partial(_app_of, fuzzed))
    operations = [found.ok() for found in described.get_all_operations()]
    asked = [ask(fuzzed, one, mode, checks) for one in operations if one.path != UNENDING]
    assert sum(asked) > 100


def test_everything_is_described(fuzzed: Service) -> None:
    description = fuzzed.client.get("/openapi.json").json()
    assert set(description["components"]["securitySchemes"]) == {"token", "session"}
    for path, methods in description["paths"].items():
        for method, one in methods.items():
            where = f"{method} {path}"
            assert one["description"], where
            if path not in ("/healthz", "/readyz", "/v1/session") or method == "delete":
                assert one["security"], where
                assert {"401", "403", "429"} <= set(one["responses"]), where
            if method in ("post", "put"):
                assert one["requestBody"]["content"], where
                assert {"413", "415", "422"} <= set(one["responses"]), where
