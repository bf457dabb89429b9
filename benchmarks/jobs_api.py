"""`python -m benchmarks.jobs_api`: how long the jobs API takes with few and with many jobs, and until a DAG is there.

A real API server and a real DAG processor on one machine, asked by one client on one connection. The table goes into
docs/jobs.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from itertools import count
from pathlib import Path

from airflow_transient.jobs.editing import begun, made
from airflow_transient.jobs.store import open_store, update
from benchmarks import figures
from tests.e2e.serving import Answer, Server, serving

SIZES = (1, 100, 1000)
TIMES = 100
FEWER = 15
PATIENCE = 120.0
#: Seconds: SQLite has one writer at a time, and after many new jobs a parse holds it for as long as it writes.
LOCK_PATIENCE = 60
JOBS = "/transient/jobs"
NUMBERS = count()

Times = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of jobs")
    found = {size: measured(size) for size in parser.parse_args().sizes}
    rows = [[what, *(told(times[what]) for times in found.values())] for what in next(iter(found.values()))]
    head = ["p50 / p95", *(f"{size:,} job{'s' if size > 1 else ''}" for size in found)]
    block = figures.table(head, rows)
    figures.write("jobs-api", f"{block}\n\n{figures.measured_by('python -m benchmarks.jobs_api')}")


def told(seconds: list[float]) -> str:
    return f"{_told(figures.share(seconds, 0.5))} / {_told(figures.share(seconds, 0.95))}"


def _told(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def measured(size: int) -> Times:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "airflow"
        database = f"sqlite:///{home}/airflow.db?timeout={LOCK_PATIENCE}"
        more = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database, **filled(home.parent / "jobs.json", size)}
        with serving(home, more=more) as server:
            until(lambda: server.knows(f"job.job-{size - 1}"))
            return {what: said(size, what, [timed(act) for act in acts]) for what, acts in calls(server)}


def said(size: int, what: str, seconds: list[float]) -> list[float]:
    print(f"{size:5} jobs  {what:45} {told(seconds)}", flush=True)
    return seconds


def filled(path: Path, size: int) -> dict[str, str]:
    """A store with so many jobs, and the setting that leads to it."""
    url, now = f"file://{path}", datetime.now(timezone.utc)
    documents = [made({"id": f"job-{number}", "schedule": "0 0 4"}, lambda low, _: low) for number in range(size)]
    update(open_store(url), lambda snapshot: snapshot.with_jobs(*(begun(one, now, 1) for one in documents)))
    return {"AIRFLOW__TRANSIENT__JOBS_STORE": url}


def calls(server: Server) -> Iterator[tuple[str, Iterator[Callable[[], object]]]]:
    """What is measured, in this order: each act is made ready before its time is taken."""
    yield "`GET /jobs`, a page of 10", (lambda: get(server, JOBS) for _ in range(TIMES))
    yield "`GET /jobs?count=1000`", (lambda: get(server, f"{JOBS}?count=1000") for _ in range(FEWER))
    yield "`GET /jobs/{id}`", (lambda: get(server, f"{JOBS}/job-0") for _ in range(TIMES))
    yield "`PUT /jobs/{id}`", (change(server, number) for number in range(FEWER))
    yield "`POST /jobs`", (lambda: create(server) for _ in range(FEWER))
    yield "`DELETE /jobs/{id}`", (removal(server) for _ in range(FEWER))
    yield "`POST /jobs` until Airflow has the DAG", (lambda: create_and_see(server) for _ in range(FEWER))


def timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def get(server: Server, path: str) -> None:
    must(server.ask("GET", path), 200)


def change(server: Server, number: int) -> Callable[[], object]:
    return lambda: must(server.ask("PUT", f"{JOBS}/job-0", {"taskCount": 1 + number % 50}), 200)


def create(server: Server) -> str:
    return str(must(server.ask("POST", JOBS, {"id": f"new-{next(NUMBERS)}", "schedule": "0 0 4"}), 201).json()["id"])


def removal(server: Server) -> Callable[[], object]:
    id = create(server)
    return lambda: must(server.ask("DELETE", f"{JOBS}/{id}"), 200)


def create_and_see(server: Server) -> None:
    id = create(server)
    until(lambda: server.knows(f"job.{id}"))


def must(answer: Answer, status: int) -> Answer:
    if answer.status != status:
        raise SystemExit(f"{answer.status} instead of {status}: {answer.content.decode()}")
    return answer


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"not within {PATIENCE:.0f} s")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
