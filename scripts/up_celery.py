"""`make up-celery`: as `make up`, in the shape of a deployment: Celery on Redis, Postgres, two triggerers, two workers.

Every part is a process of its own, as docker-compose.yaml has them; there is no Docker, and nothing listens off
loopback. Whoever needs this Airflow without a person in front of it uses `deployed`.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from _furniture import events, example_job, furnish, local_cloud
from _services import ServiceError, missing, postgres, redis
from up import (
    CLOUD_PORT,
    ROOT,
    Api,
    CannotStart,
    Place,
    Progress,
    airflow_env,
    alone_in,
    end_when_asked,
    free_port,
    generated_password,
    parse_arguments,
    run,
    say,
    server_env,
    tail,
    tell,
    unhealthy,
    wait_for_dags,
)

from airflow_transient.localcloud import LocalCloudError

TRIGGERERS = WORKERS = ("1", "2")
HEALTH_PATIENCE = 240.0
#: name -> the words after `airflow`. Log servers would listen on all addresses, and all parts share one folder here.
PARTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler"],
    "dag-processor": ["dag-processor"],
    **{f"triggerer-{n}": ["triggerer", "--skip-serve-logs"] for n in TRIGGERERS},
    **{f"worker-{n}": ["celery", "worker", "--skip-serve-logs", "--celery-hostname", f"worker-{n}"] for n in WORKERS},
}
#: For a machine of two cores.
SIZE = {"AIRFLOW__CORE__PARALLELISM": "16", "AIRFLOW__CELERY__WORKER_CONCURRENCY": "4"}
#: As in docker-compose.yaml; docs/deployment.md tells why.
SETTINGS = {
    "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
    "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "10",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "3600",
    "AIRFLOW__TRIGGERER__CAPACITY": "5000",
}

#: The parts that run, by name; what stands for each is its keeper.
Parts = Mapping[str, "subprocess.Popen[bytes]"]


def main() -> int:
    wishes = parse_arguments("The local cloud and Airflow as a deployment, till Ctrl-C.", ROOT / ".airflow" / "celery")
    if sentence := missing():
        print(sentence, file=sys.stderr)
        return 1
    end_when_asked()
    try:
        up(Place(wishes.home.resolve()), wishes.port)
    except (CannotStart, LocalCloudError, ServiceError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def up(place: Place, port: int) -> None:
    with alone_in(place) as lock, local_cloud(free_port(CLOUD_PORT)) as (cloud, no_workers):
        say(f"The local cloud answers at {cloud.url}; jobs run in {cloud.sandbox}.")
        if no_workers:
            say(no_workers)
        furniture = furnish(cloud)
        env = airflow_env(place.home, cloud.env) | furniture | events(cloud) | server_env(free_port(port))
        with deployed(place.home, env | SIZE | SETTINGS, lock) as parts:
            api = Api(env["AIRFLOW__API__BASE_URL"])
            password = generated_password(place.home)
            token = api.token("admin", password)
            dags, broken = wait_for_dags(api, token)
            api.post("/transient/jobs", example_job(furniture["AIRFLOW_VAR_SUBNETS"].split(",")), token)
            tell(place, api, password, dags, broken)
            say(f"\nIt runs as {len(parts)} parts on Postgres and Redis: {', '.join(parts)}.")
            say(f"Their output is in {place.home}, a file each.")
            say("\nCtrl-C ends everything, jobs included.")
            while True:
                demand_all(place.home, parts)
                time.sleep(0.5)


@contextmanager
def deployed(home: Path, env: Mapping[str, str], lock: int) -> Iterator[Parts]:
    """Airflow in all its parts on Postgres and Redis of its own, in a home that is wiped first; healthy."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    with ExitStack() as stack:
        database, broker = (stack.enter_context(service(home, lock)) for service in (postgres, redis))
        env = {**env, **addresses(database, broker), **drawn_secrets()}
        migrate(home, env, lock)
        parts = {
            name: stack.enter_context(run([*AIRFLOW, *words, *own(home, name)], env, home / f"{name}.log", lock))
            for name, words in PARTS.items()
        }
        stack.callback(end_at_once, parts)
        say(f"Airflow starts in {len(parts)} parts; their output goes to {home}.")
        wait_until_ready(Api(env["AIRFLOW__API__BASE_URL"]), home, parts)
        yield parts


def end_at_once(parts: Parts) -> None:
    """Ask them all; then each is waited for in turn, and Postgres and Redis end after them."""
    for part in parts.values():
        part.terminate()


AIRFLOW = (sys.executable, "-m", "airflow")


def own(home: Path, name: str) -> list[str]:
    """What parts of one kind may not share."""
    return ["--pid", str(home / f"{name}.pid")] if name.startswith("worker") else []


def addresses(database: str, broker: str) -> dict[str, str]:
    return {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{database}",
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2://{database}",
        "AIRFLOW__CELERY__BROKER_URL": broker,
    }


def drawn_secrets() -> dict[str, str]:
    """One of each for all parts, which would draw their own and distrust each other."""
    return {
        "AIRFLOW__CORE__FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
    }


def migrate(home: Path, env: Mapping[str, str], lock: int) -> None:
    log = home / "migrate.log"
    with run([*AIRFLOW, "db", "migrate"], env, log, lock) as migration, Progress("Making Airflow's tables") as progress:
        while migration.poll() is None:
            progress.show("in Postgres")
            time.sleep(0.2)
    if migration.returncode:
        raise CannotStart(f"Airflow could not make its tables. The end of {log}:\n{tail(log)}")


def wait_until_ready(api: Api, home: Path, parts: Parts) -> None:
    started = time.monotonic()
    with Progress("Waiting for Airflow") as progress:
        while waiting := ", ".join(filter(None, (unhealthy(api), *not_ready(home)))):
            demand_all(home, parts)
            if time.monotonic() - started > HEALTH_PATIENCE:
                raise CannotStart(f"Not healthy after {HEALTH_PATIENCE:.0f} s: {waiting}. The logs are in {home}.")
            progress.show(waiting)
            time.sleep(0.5)
    say(f"Airflow is healthy after {time.monotonic() - started:.0f} s.")


def not_ready(home: Path) -> list[str]:
    """Airflow's health speaks of one triggerer, and of no worker; what they say at their start does of each."""
    words = {"worker": b" ready.", "triggerer": b"Starting the triggerer"}
    return [
        name
        for name in PARTS
        if (said := words.get(name.partition("-")[0])) and said not in (home / f"{name}.log").read_bytes()
    ]


def demand_all(home: Path, parts: Parts) -> None:
    for name, part in parts.items():
        if part.poll() is not None:
            log = home / f"{name}.log"
            raise CannotStart(f"{name} ended with exit code {part.returncode}. The end of {log}:\n{tail(log)}")


if __name__ == "__main__":
    sys.exit(main())
