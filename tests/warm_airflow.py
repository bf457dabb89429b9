"""`airflow ...` as often as a test likes, for the price of one start: each command is a fork of a process that is warm.

`airflow dags test` spends ten seconds of a processor before it does anything, on imports and on building the
application of the Execution API; these are the same each time. Here a server has done that for one Airflow home. A
command is a fork of it, in a session of its own, with its own environment, arguments and files, and from
`airflow.__main__.main` on it does what it does in a shell, its end included. Starts from nothing are tested by
tests/e2e/test_demo.py, tests/e2e/test_up.py and the crash matrix.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from _children import managed  # noqa: E402 - the scripts are no package

#: A start on two busy cores.
START_PATIENCE = 180.0


@dataclass(frozen=True)
class Command:
    """One that was begun: the leader of its own process group, as a shell's would be."""

    pid: int
    _line: socket.socket = field(repr=False)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or minus the number of the signal that ended it."""
        self._line.settimeout(timeout)
        with closing(self._line):
            return int(self._line.recv(100))

    def kill(self) -> None:
        """Fine if it has ended."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


@dataclass(frozen=True)
class WarmAirflow:
    """The command line of the Airflow of one environment."""

    env: Mapping[str, str]
    address: str

    def begin(
        self, *argv: str, out: IO[Any], err: IO[Any], said: IO[Any] | None = None, env: Mapping[str, str] | None = None
    ) -> Command:
        """
        :param argv: the words after `airflow`.
        :param said: its standard input, if it has one.
        :param env: its whole environment, if it is another: what Airflow reads of that at its import is read already.
        """
        asked = json.dumps({"argv": argv, "env": dict(env or self.env)}).encode()
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        line.connect(self.address)
        with open(os.devnull, "rb") as nothing:
            files = [(said or nothing).fileno(), out.fileno(), err.fileno()]
            line.sendmsg([asked], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))])
            return Command(int(line.recv(100)), line)

    def run(
        self, *argv: str, said: str = "", timeout: float = 200, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """To its end; what it wrote to either stream is kept apart."""
        with (
            tempfile.TemporaryFile("w+") as given,
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as err,
        ):
            given.write(said)
            given.seek(0)
            command = self.begin(*argv, out=out, err=err, said=given, env=env)
            try:
                code = command.wait(timeout)
            except BaseException:
                command.kill()
                raise
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(["airflow", *argv], code, out.read(), err.read())


@contextmanager
def warm_airflow(env: Mapping[str, str]) -> Iterator[WarmAirflow]:
    """
    :param env: the whole environment of the Airflow; its database need not exist yet.
    """
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        address = f"{folder}/socket"
        argv = [sys.executable, "-m", "tests.warm_server", address]
        log = Path(folder, "log")
        with (
            log.open("wb") as out,
            managed(argv, grace=5, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as server,
        ):
            eventually(lambda: Path(address).exists() or server.poll() is not None, START_PATIENCE)
            assert server.poll() is None, log.read_text()[-3000:]
            yield WarmAirflow(env, address)
