"""`make up`: the local cloud and Airflow on this machine, reset together at each start and ended together.

Airflow would remember launches of a cloud that is gone (the local cloud lives in memory), so its home is
wiped first. Everything is on loopback, except Airflow's own log servers, which `airflow standalone` cannot
be told to leave out; they answer signed requests only.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

from _children import end_with_parent, managed
from _furniture import BUCKET, QUEUES, events, example_job, furnish, local_cloud

from airflow_transient.localcloud import LocalCloudError

ROOT = Path(__file__).resolve().parents[1]
DAGS = ROOT / "dags"
BIN = Path(sys.executable).parent
CLOUD_PORT, AIRFLOW_PORT, LOG_PORT = 5055, 8080, 18793
COMPONENTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
HEALTH_PATIENCE = 180.0
DAGS_PATIENCE = 60.0
LOCK_PATIENCE = 20.0
BRIEF = 10.0
PAGE = "/plugin/transient"
GRACE = 5.0  # the API server takes three seconds to end; nobody waits longer for a demonstration


class CannotStart(Exception):
    """`make up` cannot go on; the message says why."""


@dataclass(frozen=True)
class Place:
    """The folders of one `make up`."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "up"

    @property
    def log(self) -> Path:
        return self.home / "airflow.log"

    @property
    def test_home(self) -> Path:
        return self.root / "test"

    @property
    def test_log(self) -> Path:
        return self.test_home / "prepare.log"

    @property
    def test_env(self) -> Path:
        return self.root / "test-env.sh"


@dataclass(frozen=True)
class Api:
    """The REST API of the Airflow that was started."""

    url: str

    def get(self, path: str, token: str | None = None) -> dict[str, Any]:
        return self._ask(urllib.request.Request(self.url + path), token)

    def post(self, path: str, document: Mapping[str, Any], token: str | None = None) -> dict[str, Any]:
        body = json.dumps(document).encode()
        return self._ask(urllib.request.Request(self.url + path, data=body, method="POST"), token)

    def token(self, username: str, password: str) -> str:
        return str(self.post("/auth/token", {"username": username, "password": password})["access_token"])

    def _ask(self, request: urllib.request.Request, token: str | None = None) -> dict[str, Any]:
        request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=BRIEF) as answer:
            return dict(json.load(answer))


def main() -> int:
    wishes = parse_arguments("The local cloud and Airflow on this machine, till Ctrl-C.", ROOT / ".airflow")
    end_when_asked()
    try:
        up(Place(wishes.home.resolve()), wishes.port)
    except (CannotStart, LocalCloudError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def parse_arguments(description: str, home: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--home",
        type=Path,
        default=home,
        help="folder to keep things in; up/ is wiped, and test/ by `make up` (%(default)s)",
    )
    parser.add_argument(
        "--port", type=int, default=AIRFLOW_PORT, help="of Airflow; if taken, the next free one (%(default)s)"
    )
    return parser.parse_args()


def end_when_asked() -> None:
    """Ctrl-C, SIGTERM, a closed terminal and the death of make all end the journey the same way, once."""
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(_number: int, _frame: FrameType | None) -> None:
        for number in wanted:
            signal.signal(number, signal.SIG_IGN)
        print("\nEnding Airflow and the local cloud …", flush=True)
        raise SystemExit(0)

    for number in wanted:
        signal.signal(number, end)
    if "MAKELEVEL" in os.environ:
        end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))


def up(place: Place, port: int) -> None:
    with alone_in(place) as lock, local_cloud(free_port(CLOUD_PORT)) as (cloud, no_workers):
        say(f"The local cloud answers at {cloud.url}; jobs run in {cloud.sandbox}.")
        if no_workers:
            say(no_workers)
        furniture = furnish(cloud)
        wipe(place)
        env = airflow_env(place.home, cloud.env) | furniture | events(cloud) | server_env(free_port(port))
        test_env = airflow_env(place.test_home, cloud.env) | furniture
        write_env_file(place.test_env, test_env)
        with (
            run([sys.executable, "-m", "airflow", "standalone"], env, place.log, lock) as airflow,
            run_test_home(test_env, place.test_log, lock) as test_home,
        ):
            job = example_job(furniture["AIRFLOW_VAR_SUBNETS"].split(","))
            journey(place, Api(env["AIRFLOW__API__BASE_URL"]), job, airflow, test_home)


def journey(
    place: Place,
    api: Api,
    job: Mapping[str, Any],
    airflow: subprocess.Popen[bytes],
    test_home: subprocess.Popen[bytes],
) -> None:
    """From "started" to Ctrl-C."""
    say(f"Airflow starts; its output goes to {place.log}.")
    wait_until_healthy(api, airflow, place.log)
    password = generated_password(place.home)
    token = api.token("admin", password)
    dags, broken = wait_for_dags(api, token)
    api.post("/transient/jobs", job, token)
    tell(place, api, password, dags, broken)
    wait_for_test_home(test_home, place)
    say("\nCtrl-C ends everything, jobs included.")
    code = airflow.wait()
    raise CannotStart(f"Airflow ended by itself with exit code {code}. The end of {place.log}:\n{tail(place.log)}")


@contextmanager
def alone_in(place: Place) -> Iterator[int]:
    """Hold the folder, as long as anything started from here runs: a second start would wipe it."""
    place.root.mkdir(parents=True, exist_ok=True)
    with (place.root / "up.lock").open("w") as lock:
        until = time.monotonic() + LOCK_PATIENCE
        while not locked(lock):
            if time.monotonic() > until:
                raise CannotStart(f"Another `make up` runs in {place.root}: end that one first.")
            time.sleep(0.5)
        yield lock.fileno()


def locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wipe(place: Place) -> None:
    for home in (place.home, place.test_home):
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)


def airflow_env(home: Path, cloud_env: Mapping[str, str]) -> dict[str, str]:
    """Of an Airflow that knows the local cloud and no other: the person's AWS and Airflow stay outside."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "AWS_"))}
    return {
        **inherited,
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
        **cloud_env,
        "AIRFLOW_HOME": str(home),
        # `airflow standalone` starts its parts as `airflow`, found on PATH.
        "PATH": os.pathsep.join((str(BIN), os.environ.get("PATH", os.defpath))),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }


def server_env(port: int) -> dict[str, str]:
    """What an Airflow with all its parts needs on top."""
    url = f"http://127.0.0.1:{port}"
    return {
        "AIRFLOW__CORE__PARALLELISM": "8",
        # A manual run of a paused DAG would stay queued; the examples cost nothing to let run.
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        # Airflow's is 300 s. Its scheduler fails a try now and then whose trigger fires within a second of the deferral
        # ("state mismatch"), and a person waits.
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "5",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        # Its first answers take ten seconds on two busy cores; by default a task gives up after five times five.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
        "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "10",
        # The default is 300 s: a DAG file that was just written would not show up.
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port(LOG_PORT)),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port(LOG_PORT + 1000)),
    }


def write_env_file(path: Path, env: Mapping[str, str]) -> None:
    """For a person's shell: an Airflow home of its own beside ours, and the same local cloud.

    `airflow tasks test` runs triggers itself; in our home the triggerer would run them a second time.
    """
    ours = {name: value for name, value in env.items() if name.startswith(("AIRFLOW_", "AWS_"))}
    # A profile would win over the keys below.
    lines = ["unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(ours.items())]
    lines += [f'export PATH={shlex.quote(str(BIN))}:"$PATH"']
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def free_port(first: int) -> int:
    """`first`, or the next one that nobody listens on."""
    for port in range(first, first + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise CannotStart(f"No free port between {first} and {first + 99}.")


@contextmanager
def run(argv: Sequence[str], env: Mapping[str, str], log: Path, lock: int) -> Iterator[subprocess.Popen[bytes]]:
    with (
        log.open("wb") as output,
        managed(
            argv,
            grace=GRACE,
            env=env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(lock,),
        ) as child,
    ):
        yield child


def wait_until_healthy(api: Api, airflow: subprocess.Popen[bytes], log: Path) -> None:
    started = time.monotonic()
    with Progress("Waiting for Airflow") as progress:
        while waiting := unhealthy(api):
            if airflow.poll() is not None:
                raise CannotStart(f"Airflow ended at its start. The end of {log}:\n{tail(log)}")
            if time.monotonic() - started > HEALTH_PATIENCE:
                raise CannotStart(f"Not healthy after {HEALTH_PATIENCE:.0f} s: {waiting}. See {log}:\n{tail(log)}")
            progress.show(waiting)
            time.sleep(0.5)
    say(f"Airflow is healthy after {time.monotonic() - started:.0f} s.")


def unhealthy(api: Api) -> str:
    """The parts that are not healthy yet, in words; empty when all are."""
    try:
        health = api.get("/api/v2/monitor/health")
    except (OSError, ValueError):
        return "api_server"
    return ", ".join(part for part in COMPONENTS if (health.get(part) or {}).get("status") != "healthy")


def generated_password(home: Path) -> str:
    path = home / "simple_auth_manager_passwords.json.generated"
    return str(json.loads(path.read_text(encoding="utf-8"))["admin"])


def wait_for_dags(api: Api, token: str) -> tuple[list[str], list[str]]:
    """The DAGs of the dags folder, and in words what could not be read there."""
    files = len(list(DAGS.glob("*.py")))
    until = time.monotonic() + DAGS_PATIENCE
    with Progress("Waiting for the DAGs") as progress:
        while True:
            dags = [dag["dag_id"] for dag in api.get("/api/v2/dags", token)["dags"]]
            errors = api.get("/api/v2/importErrors", token)["import_errors"]
            if len(dags) + len(errors) >= files or time.monotonic() > until:
                return sorted(dags), [f"{error['filename']}: {error['stack_trace']}" for error in errors]
            progress.show(f"{len(dags)} of {files} files")
            time.sleep(0.5)


def tell(place: Place, api: Api, password: str, dags: Sequence[str], broken: Sequence[str]) -> None:
    say("")
    say(f"  Airflow      {api.url}")
    say(f"  login        admin / {password}")
    say(f"  DAGs         {', '.join(dags) or 'none in ' + str(DAGS)}")
    for error in broken:
        say(f"  broken DAG   {error}")
    say(f"  results      s3://{BUCKET} in the local cloud")
    say(f"  queues       {', '.join(QUEUES)}")
    say("")
    say("Open the URL, log in, pick a DAG, press Trigger.")
    say(f"Jobs without a DAG file, what runs now, and queues: Transient in the menu, or {api.url}{PAGE}")


def run_test_home(env: Mapping[str, str], log: Path, lock: int) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """In the background, what `airflow tasks test` wants to find: the tables, and the DAGs in them."""
    both = '"$0" -m airflow db migrate && "$0" -m airflow dags reserialize'
    return run(["sh", "-c", both, sys.executable], env, log, lock)


def wait_for_test_home(test_home: subprocess.Popen[bytes], place: Place) -> None:
    say("\nOne task by hand, against the same local cloud, in another shell:")
    with Progress("  (its Airflow home is being made ready") as progress:
        while test_home.poll() is None:
            progress.show(")")
            time.sleep(0.5)
    if test_home.returncode:
        say(f"  not possible now: its home could not be made ready. The end of {place.test_log}:")
        say(tail(place.test_log))
        return
    say(f"  . {shlex.quote(os.path.relpath(place.test_env))}")
    say("  airflow tasks test nightly_report report 2026-01-01")
    say("  python scripts/send_jobs.py orders 12      # and on_queue_depth runs")
    say("  python scripts/send_jobs.py letters 30     # and the job of that name has work within a minute")


def tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def say(text: str) -> None:
    print(text, flush=True)


class Progress:
    """One line that tells what is waited for: rewritten on a terminal, elsewhere a line every ten seconds."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.started = self.said = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)

    def show(self, detail: str) -> None:
        now = time.monotonic()
        line = f"{self.what}: {detail} ({now - self.started:.0f} s)"
        if sys.stdout.isatty():
            print(f"\r\033[K{line}", end="", flush=True)
        elif now - self.said > 10:
            self.said = now
            say(line)


if __name__ == "__main__":
    sys.exit(main())
