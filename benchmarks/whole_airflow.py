"""A whole Airflow as a person would start it: each part a process of its own, on free loopback ports, on SQLite."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import ROOT
from tests.airflow_home import free_port, log_ports

sys.path.insert(0, str(ROOT / "scripts"))

from _children import descendants, managed
from up import Api, airflow_env, generated_password, server_env

PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
PATIENCE = 300.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Airflow:
    """One that runs. `keepers`: part -> the process above it."""

    api: Api
    token: str
    home: Path
    keepers: Mapping[str, int]

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.api.url}{path}", method=method)  # noqa: S310  (our own, on loopback)
        request.data = None if body is None else json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
        request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return dict(json.load(answer))

    def knows(self, dag_id: str) -> bool:
        """Whether it has parsed the DAG."""
        try:
            return bool(self.ask("GET", f"/api/v2/dags/{dag_id}"))
        except urllib.error.HTTPError:
            return False

    def rows(self, query: str, *given: Any) -> list[tuple[Any, ...]]:
        """What its database answers."""
        with sqlite3.connect(f"file:{self.home}/airflow.db?mode=ro", uri=True, timeout=60) as database:
            return list(database.execute(query, given))

    def cpu(self, part: str) -> float:
        """CPU seconds of all processes of a part, with what their ended children took."""
        stats = [told.rpartition(")")[2].split() for told in self._told(part, "stat")]
        return sum(sum(int(word) for word in stat[11:15]) for stat in stats) / TICKS

    def memory(self, part: str) -> int:
        """KiB of all processes of a part; what several share counts once (Linux: proportional set size)."""
        lines = (line for told in self._told(part, "smaps_rollup") for line in told.splitlines())
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))

    def _told(self, part: str, file: str) -> Iterator[str]:
        for pid in descendants(self.keepers[part]):
            try:
                yield Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8")
            except OSError:
                continue  # it has ended since: its parent's now


@contextmanager
def whole_airflow(home: Path, dags: Mapping[str, str], more: Mapping[str, str]) -> Iterator[Airflow]:
    """
    Until the block ends; a part's output is in `<home>/<part>.log`.

    :param home: a folder that is not there yet.
    :param dags: file name -> DAG file.
    """
    (home / "dags").mkdir(parents=True)
    for name, text in dags.items():
        (home / "dags" / name).write_text(text, encoding="utf-8")
    env = {**airflow_env(home, more), **server_env(free_port()), **log_ports()}
    env = {**env, "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"), **more}
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=env, check=True, capture_output=True)
    with ExitStack() as stack:
        keepers = {part: stack.enter_context(_part(part, env, home)) for part in PARTS}
        api = Api(env["AIRFLOW__API__BASE_URL"])
        token = str(until(lambda: _token(api, home), "its API answers"))
        yield Airflow(api, token, home, {part: keeper.pid for part, keeper in keepers.items()})


@contextmanager
def _part(part: str, env: Mapping[str, str], home: Path) -> Iterator[subprocess.Popen[Any]]:
    argv = [sys.executable, "-m", "airflow", part]
    with (
        (home / f"{part}.log").open("wb") as log,
        managed(argv, grace=5, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as keeper,
    ):
        yield keeper


def _token(api: Api, home: Path) -> str:
    try:
        return str(api.token("admin", generated_password(home)))
    except (OSError, ValueError):
        return ""


def until(holds: Callable[[], Any], what: str, within: float = PATIENCE, say: Callable[[], Any] | None = None) -> Any:
    """What `holds` answers as soon as it is true. `say`: what is told meanwhile, three times a minute."""
    end, said = time.monotonic() + within, time.monotonic()
    while not (answer := holds()):
        if time.monotonic() > end:
            raise SystemExit(f"not within {within:.0f} s: {what}")
        if say and time.monotonic() - said > 20:
            said = time.monotonic()
            print(f"until {what}: {say()}", flush=True)
        time.sleep(0.5)
    return answer
