"""A whole deployment for the rig: what is started, asked and killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from _children import descendants  # noqa: E402 - the scripts are no package
from _services import ServiceError  # noqa: E402
from up import Api, CannotStart, Place, airflow_env, alone_in, generated_password, server_env, tail  # noqa: E402
from up_celery import SETTINGS, SIZE, Parts, deployed  # noqa: E402

from airflow_transient.localcloud import LocalCloud  # noqa: E402
from tests.airflow_home import free_port  # noqa: E402

HERE = Path(__file__).parent
DAGS = ("machines", "tasks")
PAGE = 100
#: So that what was lost comes back soon; docs/deployment.md tells which is which. A message is given out a second
#: time after so short a while on purpose: it must start nothing.
IMPATIENT = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "30",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_RESTORE_THROTTLE": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    # one triggerer would take all the waits of a short run, and the other's death would prove nothing
    "AIRFLOW__TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP": "1",
}


class GaveUp(Exception):
    """What did not come, in words."""


class Airflow:
    """The REST API, with what the rig wants to know."""

    def __init__(self, api: Api, home: Path) -> None:
        self._api, self._home = api, home
        self._token = api.token("admin", generated_password(home))

    def trigger(self, dag: str) -> None:
        self._api.post(f"/api/v2/dags/{dag}/dagRuns", {"dag_run_id": dag, "logical_date": None}, self._token)

    def dags(self) -> set[str]:
        return {dag["dag_id"] for dag in self._get("/dags")["dags"]}

    def over(self, dag: str) -> bool:
        return self._get(f"/dags/{dag}/dagRuns/{dag}")["state"] in ("success", "failed")

    def tasks(self, dag: str, state: str = "") -> list[dict[str, Any]]:
        """The mapped task's instances, in this state or in any."""
        wanted = f"&state={state}" if state else ""
        found: list[dict[str, Any]] = []
        while True:
            at = f"/dags/{dag}/dagRuns/{dag}/taskInstances?limit={PAGE}&offset={len(found)}&order_by=map_index{wanted}"
            page = self._get(at)
            found += page["task_instances"]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                return found

    def waits(self) -> Counter[int | None]:
        """triggerer -> how many tasks wait with it; None: with nobody yet."""
        deferred = [task for dag in DAGS for task in self.tasks(dag, "deferred")]
        return Counter((task["triggerer_job"] or {}).get("id") for task in deferred)

    def triggerers(self) -> set[int]:
        """Those that live, as Airflow knows."""
        return {job["id"] for job in self._get("/jobs?job_type=TriggererJob&is_alive=true")["jobs"]}

    def refused(self) -> int:
        """How often a worker was told that it is not to begin: it had been given a message for the second time."""
        said = (self._home / "api-server.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return sum("method=PATCH" in line and "/run " in line and "status_code=4" in line for line in said)

    def _get(self, path: str) -> dict[str, Any]:
        return self._api.get(f"/api/v2{path}", self._token)


@contextmanager
def place() -> Iterator[Place]:
    """
    A folder that Postgres, which root runs as another user, may enter: a checkout can be where only root may.

    It stays where somebody gave up: the logs are in it.
    """
    root = Path(tempfile.mkdtemp(prefix="airflow-transient-scale-out-"))
    root.chmod(0o711)
    stays = False
    try:
        yield Place(root)
    except GaveUp:
        stays = True
        raise
    finally:
        if not stays:
            shutil.rmtree(root, ignore_errors=True)


@contextmanager
def started(cloud: LocalCloud, held: Path, each: int) -> Iterator[tuple[Airflow, Parts]]:
    with place() as where:
        try:
            with _started(where, cloud, held, each) as running:
                yield running
        except (GaveUp, CannotStart, ServiceError) as error:
            raise GaveUp(f"{ends_of_logs(where.home)}\n{error}\nThe logs are in {where.home}.") from None


@contextmanager
def _started(where: Place, cloud: LocalCloud, held: Path, each: int) -> Iterator[tuple[Airflow, Parts]]:
    env = {
        **airflow_env(where.home, cloud.env),
        **server_env(free_port()),
        **SIZE,
        **SETTINGS,
        **IMPATIENT,
        "AIRFLOW__CORE__DAGS_FOLDER": str(HERE / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(HERE / "plugins"),
        "AIRFLOW__CORE__LAZY_LOAD_PLUGINS": "False",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        "AIRFLOW__TRANSIENT__DEPLOYMENT_ID": "scale-out",
        "SCALE_OUT_EACH": str(each),
        "SCALE_OUT_HELD": str(held),
    }
    with alone_in(where) as lock, deployed(where.home, env, lock) as parts:
        airflow = Airflow(Api(env["AIRFLOW__API__BASE_URL"]), where.home)
        wait_for(lambda: airflow.dags() >= set(DAGS), "the DAGs", 60)
        yield airflow, parts


def processes(part: subprocess.Popen[bytes]) -> int:
    """Of this part; a worker has one more for each task in its hands."""
    return len(descendants(part.pid))


def kill(part: subprocess.Popen[bytes]) -> int:
    """SIGKILL for the part and all that it started; how many processes that were."""
    killed: set[int] = set()
    while below := descendants(part.pid):
        for pid in below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= below
        time.sleep(0.01)
    return len(killed)


def ends_of_logs(home: Path) -> str:
    """What the parts said last: whoever gives up wants to know which of them stood still."""
    return "\n".join(f"--- {path.name}\n{tail(path, 8)}" for path in sorted(home.glob("*.log")))


def wait_for(holds: Callable[[], Any], what: str, patience: float, give_up: bool = True) -> float:
    """Till then, or till patience ends; the seconds that it took."""
    began = time.monotonic()
    while True:
        try:
            if holds():
                return time.monotonic() - began
        except OSError:  # the API server was busy
            pass
        if time.monotonic() - began > patience:
            if not give_up:
                return patience
            raise GaveUp(f"Gave up waiting for {what}.")
        time.sleep(1)
