"""The timetable in a real scheduler: a tick is a run, whatever happens to the DAG file and to the scheduler."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest

from tests.airflow_home import migrate
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from _children import descendants, managed  # noqa: E402 - the scripts are no package

pytestmark = [pytest.mark.slow, pytest.mark.airflow, pytest.mark.e2e, pytest.mark.timeout(400)]

UTC = timezone.utc
PERIOD = 5
ONE_PERIOD = {timedelta(seconds=PERIOD)}
# An EmptyOperator is the scheduler's own work: no worker and no API server is needed.
DAG_FILE = """
from datetime import datetime
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from airflow_transient.timetables.cron import EightFieldCronTimetable

with DAG("plain", schedule=EightFieldCronTimetable("*/5")):
    EmptyOperator(task_id="nothing")

with DAG("document", schedule=EightFieldCronTimetable("*/5", not_before=datetime.fromisoformat("{now}"))):
    EmptyOperator(task_id="nothing")
"""
DAGS = ("plain", "document")


class Ticks:
    """An Airflow with a file of two DAGs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.file = home / "dags" / "ticks.py"
        self.file.parent.mkdir()
        self.made = datetime.now(UTC)
        self.file.write_text(DAG_FILE.format(now=self.made.isoformat()), encoding="utf-8")
        self.env: Mapping[str, str] = {
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.file.parent),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
            "AIRFLOW__CORE__PARALLELISM": "2",
            # A writer waits for one that is stopped.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=60",
        }

    def runs(self, dag: str) -> list[datetime]:
        return self._moments("SELECT logical_date FROM dag_run WHERE dag_id = ? ORDER BY logical_date", dag)

    def runs_after(self, moment: datetime, dag: str) -> list[datetime]:
        return [run for run in self.runs(dag) if run > moment]

    def parsed_at(self) -> list[datetime]:
        return self._moments("SELECT last_parsed_time FROM dag WHERE dag_id = ?", "plain")

    def settle(self) -> None:
        """Till nothing that was touched is still to be parsed."""
        eventually(lambda: datetime.now(UTC) - self.parsed_at()[0] > timedelta(seconds=2), within=60)
        self.file.touch()
        touched = datetime.fromtimestamp(self.file.stat().st_mtime, UTC)
        eventually(lambda: self.parsed_at()[0] >= touched, within=60)

    def has_run(self, moment: datetime) -> bool:
        return all(moment in self.runs(dag) for dag in DAGS)

    def _moments(self, query: str, dag: str) -> list[datetime]:
        with sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True, timeout=60) as database:
            return [datetime.fromisoformat(text).replace(tzinfo=UTC) for (text,) in database.execute(query, (dag,))]

    @contextmanager
    def component(self, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
        log = self.home / f"{argv[0]}.log"
        command = [sys.executable, "-m", "airflow", *argv]
        try:
            with (
                log.open("wb") as out,
                managed(command, env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as child,
            ):
                yield child
        finally:
            print(log.read_text(errors="replace")[-3000:])

    @contextmanager
    def touched(self) -> Iterator[None]:
        done = threading.Event()

        def touch() -> None:
            while not done.wait(0.3):
                self.file.touch()

        thread = threading.Thread(target=touch)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def test_each_tick_is_one_run_and_a_stopped_scheduler_makes_up_for_the_last(tmp_path: Path) -> None:
    ticks = Ticks(tmp_path)
    migrate(ticks.env)
    with ExitStack() as stack:
        stack.enter_context(ticks.component("dag-processor"))
        scheduler = stack.enter_context(ticks.component("scheduler", "--skip-serve-logs"))
        # Without not_before there is no look back before the first run: parsed all the time, it might never come.
        eventually(lambda: all(map(ticks.runs, DAGS)), within=120)
        assert ticks.runs("document")[0] > ticks.made

        with ticks.touched():
            parses: set[datetime] = set()
            eventually(lambda: parses.update(ticks.parsed_at()) or len(ticks.runs("plain")) > 8, within=120, every=0.3)
            assert len(parses) >= 8, "the file was not parsed again and again"
            assert [gaps(ticks.runs(dag)) for dag in DAGS] == [ONE_PERIOD] * 2

            # Three or four ticks are gone, one is made up for, and then they come as before.
            stopped, back = stop(ticks, scheduler.pid)
            assert [ticks.runs_after(stopped, dag)[0] for dag in DAGS] == [back] * 2
            assert [gaps(ticks.runs_after(stopped, dag)) for dag in DAGS] == [ONE_PERIOD] * 2

        ticks.settle()
        # The same with nobody to parse: what Airflow had noted as next is old, which a document's timetable mends.
        stopped, back = stop(ticks, scheduler.pid)
        assert ticks.runs_after(stopped, "document")[0] == back
        assert ticks.runs_after(stopped, "plain")[:2] == [stopped + timedelta(seconds=PERIOD), back]
        assert [gaps(ticks.runs_after(back, dag)) for dag in DAGS] == [ONE_PERIOD] * 2


def stop(ticks: Ticks, pid: int) -> tuple[datetime, datetime]:
    """The scheduler stands still for some twenty seconds: the last ticks before that and within."""
    eventually(lambda: ticks.has_run(tick()), within=60)
    stopped = tick()
    with halted(pid):
        time.sleep(20)
        eventually(lambda: 2 <= time.time() % PERIOD <= 3, within=PERIOD + 1)
    back = tick()
    assert back - stopped >= timedelta(seconds=4 * PERIOD)
    eventually(lambda: ticks.has_run(back + timedelta(seconds=2 * PERIOD)), within=60)
    return stopped, back


def tick() -> datetime:
    """The last one that was."""
    return datetime.fromtimestamp(time.time() // PERIOD * PERIOD, UTC)


def gaps(moments: list[datetime]) -> set[timedelta]:
    return {then - one for one, then in pairwise(moments)}


@contextmanager
def halted(pid: int) -> Iterator[None]:
    """All that a process started stands still."""
    halted = descendants(pid)
    for one in halted:
        os.kill(one, signal.SIGSTOP)
    try:
        yield
    finally:
        for one in halted:
            os.kill(one, signal.SIGCONT)
