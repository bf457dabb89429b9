"""GET /jobs, page by page."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.plugin.conftest import Asker

pytestmark = pytest.mark.airflow

CASES = json.loads((Path(__file__).parents[1] / "data" / "ecs_scheduler_pagination.json").read_text())["pagination"]


def fill(service: Any, total: int) -> None:
    service.import_documents([{"id": f"job-{number}", "schedule": "0 0 4"} for number in range(total)])


def params(url: str | None) -> dict[str, int] | None:
    return None if url is None else {name: int(value) for name, value in parse_qsl(urlsplit(url).query)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: "skip {skip}, {count} of {total}".format(**case))
def test_a_page_has_the_original_s_links(ask: Asker, service: Any, case: dict[str, Any]) -> None:
    fill(service, case["total"])
    page = ask.get(f"/jobs?skip={case['skip']}&count={case['count']}").json()
    assert len(page["jobs"]) == case["returned"]
    assert params(page.get("prev")) == case["prev_params"]
    assert params(page.get("next")) == case["next_params"]


@pytest.mark.parametrize(
    ("query", "ids", "prev", "next_"),
    [
        pytest.param("", range(10), None, "?skip=10", id="the first page"),
        pytest.param("?skip=10", range(10, 12), "", None, id="the second has the link that the original lost"),
        pytest.param("?skip=-5&count=-1", [], None, None, id="negative numbers are 0"),
        pytest.param("?skip=3&count=0", [], None, None, id="a page of nothing has no neighbours"),
        pytest.param("?skip=99&count=5", [], "?skip=94&count=5", None, id="beyond the end there is a way back"),
        pytest.param("?count=99999999999999999", range(12), None, None, id="more than there are"),
        pytest.param("?skip=1&skip=7&count=1", [1], "?count=1", "?skip=2&count=1", id="the first of a name counts"),
    ],
)
def test_pages_of_twelve_jobs(
    ask: Asker, service: Any, query: str, ids: Any, prev: str | None, next_: str | None
) -> None:
    fill(service, 12)
    page = ask.get(f"/jobs{query}").json()
    assert [job["id"] for job in page["jobs"]] == [f"job-{number}" for number in ids]
    assert page.get("prev") == (None if prev is None else f"/transient/jobs{prev}")
    assert page.get("next") == (None if next_ is None else f"/transient/jobs{next_}")


def test_following_next_shows_each_of_a_thousand_jobs_once(ask: Asker, service: Any) -> None:
    fill(service, 1000)
    began, seen, url = time.monotonic(), [], "/jobs?count=100"
    while url:
        page = ask.get(url).json()
        seen += [job["id"] for job in page["jobs"]]
        url = page.get("next", "").removeprefix("/transient")
    assert seen == [f"job-{number}" for number in range(1000)]
    assert len(ask.get("/jobs?count=5000").json()["jobs"]) == 1000
    assert time.monotonic() - began < 20
