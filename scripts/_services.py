"""Postgres and Redis of our own: on loopback, behind passwords, in a folder that is given.

Debian's packages bring the programs. The servers that these packages start by themselves are left alone.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from _children import managed

POSTGRES_USER = "postgres"
START_PATIENCE = 30.0
GRACE = 8.0
#: What a server would keep through a crash of the machine is thrown away here at the next start.
POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


class ServiceError(Exception):
    """A server cannot run here; the message says whose move is next."""


def missing() -> str:
    """What has to be installed before these servers can run, as a sentence; empty: nothing."""
    packages = [] if _postgres_programs() else ["postgresql"]
    packages += [] if shutil.which("redis-server") else ["redis-server"]
    if not packages:
        return ""
    names = " ".join(packages)
    return f"This needs {' and '.join(packages)}: apt-get install --no-install-recommends {names}"


@contextmanager
def postgres(folder: Path, lock: int) -> Iterator[str]:
    """A new, empty database. What is yielded is its address: user:password@host:port/database."""
    programs = _postgres_programs()
    if not programs:
        raise ServiceError(missing())
    data, password, port = folder / "postgres", secrets.token_hex(16), drawn_port()
    with (folder / "postgres.log").open("wb") as log:
        _initialise(programs, data, password, log.fileno())
        settings = [f"--{name}={value}" for name, value in {**POSTGRES_SETTINGS, "port": str(port)}.items()]
        argv = [*_as_who_may(), str(programs / "postgres"), "-D", str(data), *settings]
        with managed(argv, grace=GRACE, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(lock,)) as server:
            ready = [str(programs / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={port}"]
            _await("Postgres", server, lambda: subprocess.call(ready) == 0, folder / "postgres.log")
            yield f"airflow:{password}@127.0.0.1:{port}/postgres"


@contextmanager
def redis(folder: Path, lock: int) -> Iterator[str]:
    """What is yielded is its URL. Its password is told by stdin: a command line can be read by anybody."""
    program = shutil.which("redis-server")
    if not program:
        raise ServiceError(missing())
    password, port = secrets.token_hex(16), drawn_port()
    with (folder / "redis.log").open("wb") as log, tempfile.TemporaryFile() as words:
        settings = ["bind 127.0.0.1", f"port {port}", f'dir "{folder}"', 'save ""', f"requirepass {password}"]
        words.write("\n".join(settings).encode())
        words.seek(0)
        with managed(
            [program, "-"], grace=GRACE, cwd=folder, stdin=words, stdout=log, stderr=log, pass_fds=(lock,)
        ) as server:
            _await("Redis", server, lambda: _listens(port), folder / "redis.log")
            yield f"redis://:{password}@127.0.0.1:{port}/0"


def drawn_port() -> int:
    """A free one, drawn by the system."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _postgres_programs() -> Path | None:
    """The folder of initdb, postgres and pg_isready: Debian keeps them off PATH, one folder a version."""
    by_version = sorted(Path("/usr/lib/postgresql").glob("[0-9]*/bin"), key=lambda path: float(path.parent.name))
    on_path = shutil.which("initdb")
    folders = [*reversed(by_version), *([Path(on_path).resolve().parent] if on_path else [])]
    wanted = ("initdb", "postgres", "pg_isready")
    return next((folder for folder in folders if all((folder / name).exists() for name in wanted)), None)


def _as_who_may() -> Sequence[str]:
    """Postgres refuses to run as root."""
    return ["runuser", "-u", POSTGRES_USER, "--"] if os.geteuid() == 0 else []


def _initialise(programs: Path, data: Path, password: str, log: int) -> None:
    data.mkdir(mode=0o700)
    said = data.with_suffix(".password")
    said.touch(mode=0o600)
    if os.geteuid() == 0:
        for path in (data, said):
            shutil.chown(path, POSTGRES_USER)
        _demand_a_way_to(data)
    said.write_text(password, encoding="utf-8")
    argv = [str(programs / "initdb"), "--pgdata", str(data), "--username=airflow", f"--pwfile={said}"]
    argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    try:
        if subprocess.call([*_as_who_may(), *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log):
            raise ServiceError(f"initdb could not make a database; the reason is in {data.with_suffix('.log')}")
    finally:
        said.unlink()


def _demand_a_way_to(data: Path) -> None:
    if subprocess.call([*_as_who_may(), "test", "-x", str(data)], stderr=subprocess.DEVNULL):
        raise ServiceError(
            f"Started by root, Postgres runs as the user {POSTGRES_USER}, who may not enter {data.parent}: "
            "let others pass through its parents (chmod o+x), or give another --home."
        )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _await(name: str, server: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> None:
    until = time.monotonic() + START_PATIENCE
    while not ready():
        if server.poll() is not None:
            raise ServiceError(f"{name} ended at its start; the reason is in {log}")
        if time.monotonic() > until:
            raise ServiceError(f"{name} is not ready after {START_PATIENCE:.0f} s; see {log}")
        time.sleep(0.1)
