"""A whole Airflow for the matrix, and its REST API: what is asked of it and done to its runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from _children import descendants, managed  # noqa: E402 - the scripts are no package
from up import Api, airflow_env, generated_password, server_env, unhealthy  # noqa: E402

from airflow_transient.localcloud import LocalCloud  # noqa: E402
from tests.airflow_home import free_port, log_ports, migrate  # noqa: E402
from tests.crash.points import DAGS, Point  # noqa: E402

HOME = ROOT / ".airflow" / "crash"
FOLDER = Path(__file__).parent / "dags"
PATIENCE = 200.0
#: The API server refuses a write now and then while so many write to SQLite.
TIMES = 10


class Airflow:
    """The REST API, with what the matrix does to runs."""

    def __init__(self, api: Api, token: str, triggerer: Triggerer, held: Path) -> None:
        self.api, self.token, self.triggerer, self.held = api, token, triggerer, held

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.api.url}/api/v2{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        request.add_header("Authorization", f"Bearer {self.token}")
        for left in reversed(range(TIMES)):
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    return dict(json.loads(answer.read() or b"{}"))
            except urllib.error.HTTPError as error:
                if error.code < 500 or not left:
                    raise
            time.sleep(0.5)
        raise AssertionError("the last one returns or raises")

    def trigger(self, name: str, point: Point) -> None:
        if point.met:
            (self.held / f"{name}-1").touch()
        conf = {"at": point.step}
        self.ask("POST", f"/dags/{point.dag}/dagRuns", {"dag_run_id": name, "logical_date": None, "conf": conf})

    def release(self, name: str) -> None:
        """Let its first try's job end."""
        (self.held / f"{name}-1").unlink()

    def state(self, name: str, point: Point) -> str | None:
        said: str | None = self.ask("GET", f"/dags/{point.dag}/dagRuns/{name}/taskInstances/job")["state"]
        return said

    def waits(self, name: str, point: Point) -> bool:
        """Whether it is deferred and its trigger has looked: one that a mark comes before is never told of it."""
        looked = any((HOME / "logs" / f"dag_id={point.dag}" / f"run_id={name}").rglob("*.trigger.*.log"))
        return looked and self.state(name, point) == "deferred"

    def over(self, name: str, point: Point) -> bool:
        return self.ask("GET", f"/dags/{point.dag}/dagRuns/{name}")["state"] in ("success", "failed")

    def verdict(self, name: str, point: Point) -> str:
        path = f"/dags/{point.dag}/dagRuns/{name}/taskInstances/job/xcomEntries/return_value"
        try:
            said = self.ask("GET", path)["value"]
        except urllib.error.HTTPError:
            return str(self.state(name, point))
        said = json.loads(said) if isinstance(said, str) else said
        return str(said["outcome"]) if isinstance(said, dict) and "outcome" in said else str(self.state(name, point))

    def act(self, name: str, point: Point) -> None:
        if point.at == "cleared":
            wish = {"dry_run": False, "task_ids": ["job"], "dag_run_id": name, "only_failed": False}
            self.ask("POST", f"/dags/{point.dag}/clearTaskInstances", wish)
        else:
            state = {"new_state": point.at.removeprefix("marked ")}
            self.ask("PATCH", f"/dags/{point.dag}/dagRuns/{name}/taskInstances/job", state)


@contextmanager
def started(cloud: LocalCloud, held: Path) -> Iterator[Airflow]:
    """Airflow with all its parts, in a home that is wiped first; a job goes on as long as its file is there."""
    shutil.rmtree(HOME, ignore_errors=True)
    (HOME / "marks").mkdir(parents=True)
    preload()
    env = {**environment(cloud), "CRASH_HELD": str(held)}
    migrate(env)
    with ExitStack() as stack:
        # Its write of who asked for what stops its event loop, and so the writer that it waits for: give up soon.
        stack.enter_context(component("api-server", {**env, **database(1)}))
        for part in ("scheduler", "dag-processor"):
            stack.enter_context(component(part, env))
        with Triggerer(env) as triggerer:
            api = Api(env["AIRFLOW__API__BASE_URL"])
            wait_for(lambda: not unhealthy(api), "Airflow")
            airflow = Airflow(api, api.token("admin", generated_password(HOME)), triggerer, held)
            wait_for(lambda: len(airflow.ask("GET", "/dags")["dags"]) >= len(DAGS), "the DAGs")
            yield airflow


def environment(cloud: LocalCloud) -> dict[str, str]:
    image = cloud.client("ssm").get_parameter(
        Name="/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
    )
    return {
        **airflow_env(HOME, cloud.env),
        **server_env(free_port()),
        **log_ports(),
        **database(60),
        "AIRFLOW__CORE__DAGS_FOLDER": str(FOLDER),
        "AIRFLOW_VAR_CRASH_IMAGE": image["Parameter"]["Value"],
        "AIRFLOW__TRANSIENT__DEPLOYMENT_ID": "crash-matrix",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        "AIRFLOW__CORE__LAZY_LOAD_PLUGINS": "False",
        "CRASH_MARKS": str(HOME / "marks"),
        # A killed supervisor is noticed after 300 s and a killed triggerer after 30 s otherwise.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    }


def preload() -> None:
    """A plugin by which the scheduler imports what its tasks' processes, forks of it, then need not."""
    (HOME / "plugins").mkdir()
    (HOME / "plugins" / "preload.py").write_text(
        "from airflow.providers.amazon.aws.operators import ec2, ecs\n"
        "from airflow_transient.operators.ec2 import TransientEc2Operator\n"
        "from airflow_transient.operators.ecs import EcsBurstOperator\n",
        encoding="utf-8",
    )


def database(patience: float) -> dict[str, str]:
    """SQLite, whose writers wait so many seconds for one another; a scheduler that gives up ends."""
    return {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db?timeout={patience}"}


@contextmanager
def component(part: str, env: Mapping[str, str], name: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with (HOME / f"{name or part}.log").open("wb") as log:
        argv = [sys.executable, "-m", "airflow", part]
        with managed(argv, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as child:
            yield child


class Triggerer(ExitStack):
    """One that can be killed, with all its processes, and is followed by another."""

    def __init__(self, env: Mapping[str, str]) -> None:
        super().__init__()
        self._names = (f"triggerer-{number}" for number in count(1))
        self._start = lambda: self.enter_context(component("triggerer", env, next(self._names)))
        self._process = self._start()

    def kill(self) -> None:
        for pid in descendants(self._process.pid):
            os.kill(pid, signal.SIGKILL)
        self._process = self._start()


def ends_of_logs() -> str:
    """What Airflow's parts said last: whoever gives up wants to know which of them stood still."""
    return "\n".join(
        f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:])
        for path in sorted(HOME.glob("*.log"))
    )


def wait_for(holds: Callable[[], Any], what: str, give_up: bool = True) -> None:
    """Till then, or till patience ends."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if holds():
                return
        except OSError:
            pass
        if time.monotonic() > end:
            if give_up:
                raise SystemExit(f"{ends_of_logs()}\nGave up waiting for {what}; the logs are in {HOME}.")
            return
        time.sleep(1)
