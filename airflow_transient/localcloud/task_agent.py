"""Process 1 of a task's sandbox: starts and signals containers as it is told, and says how they ended.

Standard library only, and syntax that Python 3.7 reads. Orders come as JSON lines on stdin, news leave as JSON lines
on stdout. It decides nothing: which container starts or stops when is for its host (ecs_containers.py).

Law: a container is a session of its own; when its first process ends, the rest of its process group does too.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import runpy
import select
import signal
import sys
from typing import Any, Dict

NETWORK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sandbox_network.py")


class Crew:
    """The containers that run: process number -> name, and back."""

    def __init__(self) -> None:
        self.names: Dict[int, str] = {}
        self.pids: Dict[str, int] = {}

    def obey(self, order: Dict[str, Any]) -> None:
        kind = order["do"]
        if kind == "start":
            self._start(order)
        elif kind == "echo":
            tell({"echo": True})
        elif order["name"] in self.pids:
            pid = self.pids[order["name"]]
            if kind == "term":
                os.kill(pid, signal.SIGTERM)
            else:
                end_group(pid)

    def _start(self, order: Dict[str, Any]) -> None:
        told, tells = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if not pid:
            try:
                os.close(told)
                become(order)
            except BaseException as problem:  # whatever it is, the forked copy of process 1 must not live on
                os.write(tells, str(problem).encode()[:500])
            os._exit(127)
        os.close(tells)
        with open(told, "rb") as pipe:
            why = pipe.read().decode("utf-8", "replace")  # ends when the command has taken over
        if why:
            os.waitpid(pid, 0)
            tell({"failed": order["name"], "why": why})
            return
        self.names[pid], self.pids[order["name"]] = order["name"], pid
        tell({"started": order["name"]})

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            name = self.names.pop(pid, None)
            if name is not None:
                del self.pids[name]
                end_group(pid)
                code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                tell({"ended": name, "code": code})


def end_group(pid: int) -> None:
    if os.getpid() != 1:
        raise RuntimeError("signals to groups are for process 1 of a sandbox only")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def become(order: Dict[str, Any]) -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    output = os.open(order["output"], os.O_WRONLY)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(order["folder"])
    os.execvpe(order["command"][0], order["command"], order["environment"])


def tell(news: Dict[str, Any]) -> None:
    try:
        os.write(1, (json.dumps(news) + "\n").encode())
    except OSError:
        os._exit(1)


def serve() -> None:
    """Until the host closes our stdin: then nothing is left behind, because we are process 1."""
    crew = Crew()
    wake, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    rest = b""
    while True:
        ready, _, _ = select.select([0, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            crew.reap()
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                crew.obey(json.loads(line.decode()))
            crew.reap()


def main() -> None:
    os.chdir("/")
    os.umask(0o022)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    runpy.run_path(NETWORK)["raise_network"](json.loads(sys.argv[1]))
    serve()
    os._exit(0)


if __name__ == "__main__":
    main()
