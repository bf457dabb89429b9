"""What each Airflow that a test starts needs of its own: ports, and a database with its tables."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

#: The folder of this run of the tests, which all of its processes share (tests/conftest.py).
RUN = "TRANSIENT_TESTS_RUN"
#: Parts that start at once each draw secrets of their own where there is no such file yet, and distrust each other.
SECRETS = "[core]\nfernet_key = {}\n[api]\nsecret_key = {}\n[api_auth]\njwt_secret = {}\n"
MIGRATE = [sys.executable, "-m", "airflow", "db", "migrate"]


def free_port() -> int:
    """One that the system draws: who counts up from a number finds the same as its neighbour, before either listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def log_ports() -> dict[str, str]:
    return {f"AIRFLOW__LOGGING__{part}_LOG_SERVER_PORT": str(free_port()) for part in ("WORKER", "TRIGGER")}


def migrate(env: Mapping[str, str]) -> None:
    """
    As `airflow db migrate`, which takes seconds: done once in a run, and copied from then on.

    :param env: of the Airflow that wants its database, in SQLite and in its home.
    """
    if RUN not in os.environ:
        return _make(env)
    home = Path(env["AIRFLOW_HOME"])
    shutil.copyfile(_template(), home / "airflow.db")
    (home / "airflow.cfg").write_text(SECRETS.format(*(urlsafe_b64encode(os.urandom(32)).decode() for _ in range(3))))


def _template() -> Path:
    home = Path(os.environ[RUN]) / "migrated"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "ready").exists():
            _make({**os.environ, "AIRFLOW_HOME": str(home)})
            (home / "ready").touch()
    return home / "airflow.db"


def _make(env: Mapping[str, str]) -> None:
    done = subprocess.run(MIGRATE, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
