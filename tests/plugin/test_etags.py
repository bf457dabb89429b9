"""Entity tags: not to send again what is known, and not to overwrite what was not seen."""

from __future__ import annotations

import threading
from datetime import datetime, timezone

import pytest

from airflow_transient.jobs.port import LastStart
from tests.plugin.conftest import Asker
from tests.plugin.fakes import QuickAirflow

pytestmark = pytest.mark.airflow

PATH = "/jobs/sleeper"
STARTED = LastStart("a", datetime(2026, 11, 21, 12, 5, tzinfo=timezone.utc))


@pytest.fixture
def etag(ask: Asker) -> str:
    ask.post("/jobs", json={"taskDefinition": "sleeper", "schedule": "0 0 4"})
    return str(ask.get(PATH).headers["ETag"])


@pytest.mark.parametrize(
    ("written", "status"),
    [
        pytest.param("{etag}", 304, id="the tag"),
        pytest.param("W/{etag}", 304, id="weakened by a proxy"),
        pytest.param('"a", "b,c" , {etag}', 304, id="one of several"),
        pytest.param("*", 304, id="any"),
        pytest.param('"1-0"', 200, id="another"),
        pytest.param("", 200, id="empty"),
        pytest.param("nonsense", 200, id="no tag"),
    ],
)
def test_what_is_known_is_not_sent_again(ask: Asker, etag: str, written: str, status: int) -> None:
    answer = ask.get(PATH, headers={"If-None-Match": written.format(etag=etag)})
    assert answer.status_code == status
    assert answer.headers["ETag"] == etag
    assert bool(answer.content) == (status == 200)


@pytest.mark.parametrize("path", ["/", "/spec", "/jobs", "/jobs?count=5"])
def test_every_reading_has_a_tag(ask: Asker, etag: str, path: str) -> None:
    tag = ask.get(path).headers["ETag"]
    assert ask.get(path, headers={"If-None-Match": tag}).status_code == 304


def test_a_run_changes_the_tag_and_not_the_revision(ask: Asker, etag: str, airflow: QuickAirflow) -> None:
    airflow.starts["job.sleeper"] = STARTED
    after = ask.get(PATH).headers["ETag"]
    assert after != etag
    assert after.split("-")[0] == etag.split("-")[0]
    assert ask.put(PATH, json={"taskCount": 2}, headers={"If-Match": etag}).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    ("written", "fits"),
    [
        pytest.param("{etag}", True, id="the tag"),
        pytest.param("W/{etag}", True, id="weakened by a proxy: the revision in it is exact"),
        pytest.param('"999-a", {etag}', True, id="one of several"),
        pytest.param("*", True, id="any"),
        pytest.param('"999-a"', False, id="another revision"),
        pytest.param('"998-a", "999-a"', False, id="none of several"),
        pytest.param("nonsense", False, id="no tag"),
        pytest.param("", False, id="empty"),
    ],
)
def test_a_change_may_depend_on_the_tag(ask: Asker, etag: str, method: str, written: str, fits: bool) -> None:
    answer = ask(method, PATH, json={"taskCount": 2}, headers={"If-Match": written.format(etag=etag)})
    assert answer.status_code == (200 if fits else 412)
    if not fits:
        assert answer.json() == {"message": "Job sleeper has changed since it was read: read it again."}


def test_if_none_match_forbids_a_change(ask: Asker, etag: str) -> None:
    assert ask.put(PATH, json={"taskCount": 2}, headers={"If-None-Match": "*"}).status_code == 412
    assert ask.delete(PATH, headers={"If-None-Match": etag}).status_code == 412
    assert ask.delete(PATH, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_what_is_not_there_is_not_found_before_it_is_compared(ask: Asker, method: str) -> None:
    assert ask(method, "/jobs/nowhere", json={}, headers={"If-Match": '"1-a"'}).status_code == 404


def test_the_answer_to_a_change_has_the_tag_for_the_next(ask: Asker) -> None:
    tag = ask.post("/jobs", json={"taskDefinition": "sleeper", "schedule": "0 0 4"}).headers["ETag"]
    for count in range(2, 5):
        answer = ask.put(PATH, json={"taskCount": count}, headers={"If-Match": tag})
        assert answer.status_code == 200
        tag = answer.headers["ETag"]
    assert ask.put(PATH, json={"taskCount": 9}, headers={"If-Match": '"1-"'}).status_code == 412


def test_a_job_that_came_back_is_another(ask: Asker, etag: str) -> None:
    ask.delete(PATH)
    ask.post("/jobs", json={"taskDefinition": "sleeper", "schedule": "0 0 4"})
    assert ask.put(PATH, json={"taskCount": 2}, headers={"If-Match": etag}).status_code == 412


def test_of_writers_who_saw_the_same_one_wins(ask: Asker, etag: str) -> None:
    statuses: list[int] = []

    def write(count: int) -> None:
        statuses.append(ask.put(PATH, json={"taskCount": count}, headers={"If-Match": etag}).status_code)

    writers = [threading.Thread(target=write, args=(count,)) for count in range(2, 10)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(statuses) == [200] + [412] * 7


def test_writers_without_a_condition_all_get_through(ask: Asker, etag: str) -> None:
    def write(name: str) -> None:
        assert ask.post("/jobs", json={"taskDefinition": name, "schedule": "0 0 4"}).status_code == 201

    writers = [threading.Thread(target=write, args=(f"job-{number}",)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(ask.get("/jobs").json()["jobs"]) == 9
