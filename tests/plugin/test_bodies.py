"""How much of a body is read: at the ASGI door of Airflow's API server, where that can be seen."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_transient.plugin import guard
from tests.plugin.conftest import Asker, token

pytestmark = pytest.mark.airflow

JSON = {"Content-Type": "application/json"}


class Door:
    """One request, handed to Airflow's app piece by piece; `read` counts what was taken."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.read = 0
        self.sent: list[dict[str, Any]] = []

    def ask(self, method: str, path: str, headers: dict[str, str], pieces: Iterator[bytes]) -> int:
        async def receive() -> dict[str, Any]:
            piece = next(pieces, None)
            if piece is None:
                return {"type": "http.disconnect"}
            self.read += len(piece)
            return {"type": "http.request", "body": piece, "more_body": True}

        async def send(message: dict[str, Any]) -> None:
            self.sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "root_path": "",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("airflow.test", 80),
            "state": {},
        }
        asyncio.run(self.app(scope, receive, send))
        return next((message["status"] for message in self.sent if message["type"] == "http.response.start"), 0)


PIECES = 5 * 1024 * 1024 // 8192


@pytest.mark.parametrize(
    ("headers", "status", "read"),
    [
        pytest.param({}, 401, 0, id="anonymous"),
        pytest.param({"Authorization": "Bearer broken"}, 401, 0, id="a broken token"),
        pytest.param({"role": "admin", **JSON, "Content-Length": str(5 << 20)}, 413, 0, id="said to be large"),
        pytest.param({"role": "admin", **JSON, "Content-Length": "9" * 400}, 413, 0, id="said to be huge"),
        pytest.param({"role": "admin", **JSON, "Transfer-Encoding": "chunked"}, 413, 9 * 8192, id="without a length"),
        pytest.param({"role": "admin", **JSON, "Content-Length": "2"}, 413, 9 * 8192, id="said to be small"),
        pytest.param({"role": "admin", "Transfer-Encoding": "chunked"}, 415, 0, id="of no type"),
    ],
)
def test_no_more_is_read_than_is_needed(
    server: Any, service: Any, headers: dict[str, str], status: int, read: int
) -> None:
    door = Door(server.app)
    if role := headers.get("role"):
        headers = {**headers, "Authorization": f"Bearer {token(role)}"}
    assert door.ask("POST", "/transient/jobs", headers, (b"x" * 8192 for _ in range(PIECES))) == status
    assert door.read <= read + 8192  # Airflow's own middleware may listen for a disconnect meanwhile


def test_of_who_leaves_in_the_middle_nothing_is_kept(server: Any, service: Any) -> None:
    door = Door(server.app)
    headers = {"Authorization": f"Bearer {token('admin')}", **JSON}
    door.ask("POST", "/transient/jobs", headers, iter([b'{"taskDefinition": "m']))
    assert service.list().total == 0


@pytest.mark.parametrize(("size", "status"), [(64 * 1024, 400), (64 * 1024 + 1, 413)])
def test_the_limit_is_64_kib(ask: Asker, size: int, status: int) -> None:
    body = b'{"x": "' + b"a" * (size - 9) + b'"}'
    assert len(body) == size
    answer = ask.post("/jobs", content=body, headers=JSON)
    assert answer.status_code == status
    chunked = ask.post("/jobs", content=(body[at : at + 999] for at in range(0, size, 999)), headers=JSON)
    assert chunked.status_code == status


def test_a_store_that_hangs_leaves_threads_to_airflow(
    ask: Asker, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, most, release = [0], [0], threading.Event()
    lock = threading.Lock()

    def hang(*_: Any, **__: Any) -> Any:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        release.wait(20)
        with lock:
            inside[0] -= 1
        raise RuntimeError("gave up")

    monkeypatch.setattr(service, "get", hang)
    askers = [threading.Thread(target=ask.get, args=("/jobs/x",)) for _ in range(guard.AT_A_TIME + 8)]
    for asker in askers:
        asker.start()
    until = time.monotonic() + 10
    while most[0] < guard.AT_A_TIME and time.monotonic() < until:
        time.sleep(0.01)
    elsewhere = ask.client.get("/api/v2/dags", headers={"Authorization": f"Bearer {ask.token}"})
    release.set()
    for asker in askers:
        asker.join()
    assert elsewhere.status_code == 200
    assert most[0] == guard.AT_A_TIME
