"""The walk through the ECS Scheduler's README: each of its curl calls, with our prefix and a token added.

What differs is listed here and in docs/jobs.md: the links' prefix, what a `?` became, `estimatedNextRun` (there the
scheduler wrote it, and was not running), the order of the list (that of creation), and the full stop after "already
exists", which the README's version did not have yet.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.serving import Server, serving
from tests.waiting import eventually

pytestmark = [
    *(pytest.mark.slow, pytest.mark.airflow, pytest.mark.e2e, pytest.mark.timeout(480)),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: the walk's calls are its own"),
]

WALK = json.loads((Path(__file__).parents[1] / "data" / "seed_readme_walk.json").read_text(encoding="utf-8"))
PREFIX = "/transient"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("walk") / "airflow") as running:
        yield running


def curl(server: Server, arguments: list[str]) -> tuple[int, dict[str, str], Any]:
    """The call as it is written, but for the host; the answer's status, headers and body."""
    ours = [argument.replace(WALK["host"], f"{server.url}{PREFIX}") for argument in arguments]
    token = ["-H", f"Authorization: Bearer {server.token}"]
    done = subprocess.run(["curl", "-sS", *ours, *token], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.splitlines()
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return int(first.split()[1]), headers, json.loads(body)


def told(body: Any) -> Any:
    """Our answer, as the original would have printed it."""
    text = json.dumps(body).replace(f'"{PREFIX}/', '"/').replace("already exists.", "already exists")
    plain = json.loads(text)
    for job in plain.get("jobs", [plain]):
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", job.pop("estimatedNextRun", "2026-01-01T00:00:00+00:00")
        )
        job.update({"schedule": "drawn"} if _is_drawn(job) else {})
    plain.get("jobs", []).sort(key=lambda job: job["id"])
    return plain


def expected(body: Any) -> Any:
    for job in body.get("jobs", [body]):
        job.update({"schedule": "drawn"} if _is_drawn(job) else {})
    return body


def _is_drawn(job: Any) -> bool:
    """A number in the place of the seconds, where every README schedule had a ? or a *."""
    return re.fullmatch(r"[1-5]?\d \*/\d", job.get("schedule", "")) is not None


def test_each_call_of_the_readme_gives_what_it_prints(server: Server) -> None:
    for call in WALK["calls"]:
        status, headers, body = curl(server, call["curl"])
        assert status == call["status"], call["curl"]
        assert headers["content-type"] == "application/json"
        if "content_length" in call:
            assert int(headers["content-length"]) == call["content_length"] + len(PREFIX)
        if "body" in call:
            assert told(body) == expected(call["body"]), call["curl"]
    status, _, body = curl(server, ["-i", f"{WALK['host']}/jobs/consumer-task"])
    assert (status, body["maxCount"]) == (200, 10)


def test_what_the_readme_posts_becomes_dags(server: Server) -> None:
    for name in ("sleeper-task", "long-sleep-task", "consumer-task"):
        eventually(lambda name=name: server.knows(f"job.{name}"), within=30)
    dag = server.ask("GET", "/api/v2/dags/job.sleeper-task").json()
    assert dag["is_paused"] is False


@pytest.mark.parametrize(("path", "found"), [("/", "resources"), ("/spec", "openapi")])
def test_what_the_readme_says_of_other_urls(server: Server, path: str, found: str) -> None:
    status, _, body = curl(server, ["-i", f"{WALK['host']}{path}"])
    assert (status, found in body) == (200, True)


def test_without_the_token_nothing_of_it_works(server: Server) -> None:
    done = subprocess.run(
        ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"{server.url}{PREFIX}/jobs"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "401"


def test_a_large_body_of_a_stranger_is_not_waited_for(server: Server, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 5_000_000)
    sent = ["-d", f"@{large}", "-H", "Content-Type: application/json", "-H", "Expect: 100-continue"]
    written = "%{http_code} %{size_upload}"
    done = subprocess.run(
        ["curl", "-sS", "-o", "/dev/null", "-w", written, f"{server.url}{PREFIX}/jobs", *sent],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "401 0"
