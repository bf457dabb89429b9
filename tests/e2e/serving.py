"""Some parts of Airflow as processes on free loopback ports, with the jobs' DAG file, their API and command line.

The parts and all commands of one home are forks of one warm process (tests/warm_airflow.py). A home is one module's.
"""

from __future__ import annotations

import http.client
import json
import shutil
import sys
import time
import urllib.error
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.airflow_home import free_port, log_ports, migrate
from tests.waiting import eventually
from tests.warm_airflow import WarmAirflow, warm_airflow

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from up import Api, airflow_env, generated_password, server_env  # noqa: E402 - the scripts are no package

JOBS_FILE = ROOT / "dags" / "transient_jobs.py"
PATIENCE = 180.0
#: Seconds. uvicorn ends a connection that nobody has used for five.
KEPT = 2.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


class Server:
    """Airflow's API as its first administrator, on one connection that is kept; not for threads to share."""

    def __init__(self, url: str, token: str, home: Path, airflow: WarmAirflow) -> None:
        self.url, self.token, self.home, self.airflow = url, token, home, airflow
        place = urlsplit(url)
        self._connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=120)
        self._asked = 0.0

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **(headers or {})}
        data = None if body is None else json.dumps(body).encode()
        if time.monotonic() - self._asked > KEPT:
            self._connection.close()
        self._connection.request(method, path, data, sent)
        answer = self._connection.getresponse()
        told = Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        self._asked = time.monotonic()
        return told

    def knows(self, dag_id: str) -> bool:
        """Whether Airflow has parsed the DAG."""
        return self.ask("GET", f"/api/v2/dags/{dag_id}").status == 200


@contextmanager
def serving(
    home: Path, parts: Sequence[str] = ("api-server", "dag-processor"), more: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """
    Until the block ends; a part's output is in `<home>/<part>.log`.

    :param home: an empty folder.
    """
    dags = home / "dags"
    dags.mkdir(parents=True)
    shutil.copy(JOBS_FILE, dags)
    env = {
        **airflow_env(home, {"AWS_EC2_METADATA_DISABLED": "true"}),
        **server_env(free_port()),
        **log_ports(),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        **(more or {}),
    }
    migrate(env)
    with ExitStack() as stack:
        airflow = stack.enter_context(warm_airflow(env))
        for part in parts:
            log = stack.enter_context((home / f"{part}.log").open("wb"))
            airflow.begin(part, out=log, err=log)
        api = Api(env["AIRFLOW__API__BASE_URL"])
        token = eventually(lambda: _token(api, home), within=PATIENCE, every=0.3)
        server = Server(api.url, token, home, airflow)
        if "dag-processor" in parts:
            eventually(lambda: server.knows("transient_jobs"), within=PATIENCE, every=0.3)
        yield server


def _token(api: Api, home: Path) -> str:
    try:
        return api.token("admin", generated_password(home))
    except (OSError, urllib.error.URLError, ValueError):
        return ""
