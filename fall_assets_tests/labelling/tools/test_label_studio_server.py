"""A real Label Studio server: our tasks go in, people label, its export comes back.

It is run where the executable is at hand: `make label-studio` sets one up, or FALL_LABEL_STUDIO
names it. With FALL_RECORD_EXPORT=1 the export is kept as the file that `test_label_studio.py`
reads.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fall_assets.labelling.tools.label_studio import export_tasks, labelling_config
from fall_assets_tests.labelling.tools.scenario import EXPORTS, PIECES, check, read, work_through

_REPOSITORY = Path(__file__).parents[3]
EXECUTABLE = Path(
    os.environ.get("FALL_LABEL_STUDIO")
    or _REPOSITORY / ".venv-label-studio" / "bin" / "label-studio"
)
START_S = 300.0

pytestmark = pytest.mark.skipif(
    not EXECUTABLE.is_file(),
    reason="no Label Studio server: run `make label-studio`, or let FALL_LABEL_STUDIO name one",
)


@dataclass(frozen=True)
class Server:
    address: str
    token: str
    root: Path

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return json.loads(self.fetch(method, path, body) or b"null")

    def fetch(self, method: str, path: str, body: Any = None) -> bytes:
        request = urllib.request.Request(
            f"{self.address}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Token {self.token}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()!r}") from error
        assert isinstance(content, bytes)
        return content


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on the loopback address with an empty data folder, telemetry off."""
    root = tmp_path_factory.mktemp("label-studio")
    (root / "export" / "media").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, password = secrets.token_hex(20), secrets.token_urlsafe(16)
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(root),
        "LABEL_STUDIO_BASE_DATA_DIR": str(root / "data"),
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(root / "export"),
        "COLLECT_ANALYTICS": "False",
        "LATEST_VERSION_CHECK": "False",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "DO_NOT_TRACK": "1",
        "DEBUG": "False",
    }
    command = [
        str(EXECUTABLE), "start", "--no-browser", "--internal-host", "127.0.0.1",
        "-p", str(port), "--username", "one@example.org", "--password", password,
        "--user-token", token, "--enable-legacy-api-token", "--log-level", "WARNING",
    ]  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, cwd=root, start_new_session=True
        )
        try:
            deadline = time.monotonic() + START_S
            while not _answers(address):
                assert process.poll() is None, (root / "log").read_text(errors="replace")[-2000:]
                assert time.monotonic() < deadline, "the server did not answer in time"
                time.sleep(0.5)
            yield Server(address, token, root)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_what_goes_out_comes_back_labelled(server: Server, tmp_path: Path) -> None:
    project = server.call(
        "POST", "/api/projects/", {"title": "falls", "label_config": labelling_config()}
    )["id"]
    other = server.call(
        "POST", "/api/users/", {"email": "two@example.org", "username": "two", "password": "x" * 12}
    )["id"]
    me = server.call("GET", "/api/current-user/whoami")["id"]
    imported = server.call(
        "POST", f"/api/projects/{project}/import?return_task_ids=true", export_tasks(PIECES)
    )
    assert imported["task_count"] == len(PIECES)
    tasks = sorted(
        server.call("GET", f"/api/tasks/?project={project}&fields=all")["tasks"],
        key=lambda task: int(task["id"]),
    )
    # The suggestions are there before anybody labels.
    suggested = [[x["result"] for x in task["predictions"]] for task in tasks]
    assert [len(x) for x in suggested] == [1, 1, 0, 0]
    assert [x["value"]["timelinelabels"] for x in suggested[0][0]] == [["fall"], ["other"]]
    work_through(
        [x[0] if x else [] for x in suggested],
        lambda number, annotation: server.call(
            "POST", f"/api/tasks/{tasks[number]['id']}/annotations/", annotation
        ),
        [me, other],
    )
    export = server.fetch("GET", f"/api/projects/{project}/export?exportType=JSON")
    check(read(tmp_path, "label-studio.json", export), [me, other])
    least = server.fetch("GET", f"/api/projects/{project}/export?exportType=JSON_MIN")
    whole = read(tmp_path, "label-studio.json", export).intervals
    assert sorted(read(tmp_path, "least.json", least).intervals) == sorted(whole)
    if os.environ.get("FALL_RECORD_EXPORT"):
        for name, content in (("label_studio.json", export), ("label_studio_min.json", least)):
            text = json.dumps(json.loads(content), indent=1) + "\n"
            (EXPORTS / name).write_text(text, encoding="utf-8")


def test_previews_are_served_from_the_export_folder(server: Server) -> None:
    media = server.root / "export" / "media"
    (media / "shown.mp4").write_bytes(b"not really a film")
    project = server.call(
        "POST", "/api/projects/", {"title": "media", "label_config": labelling_config()}
    )["id"]
    server.call(
        "POST",
        "/api/storages/localfiles/",
        {"project": project, "path": str(media), "title": "previews", "use_blob_urls": False},
    )
    assert server.fetch("GET", PIECES[0].media) == b"not really a film"
