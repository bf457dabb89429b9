"""What goes wrong inside a faulty machine, done by its process 1, which runs this file and starts one of these.

Standard library only, and syntax that Python 3.7 reads, like agent.py. Nothing here may run outside a sandbox.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

# Where guest/boot.sh says which process group is the job.
JOB = "/run/transient/job.pid"
# Long enough for a job to have said something, and for a script that starts none to be under way.
MOMENT = 0.4
PATIENCE = 1.5
FULL = ("/var", "/tmp")


def hang(say: Callable[[str], None]) -> None:
    """Everything stops where it is, timers too, and nothing can be started any more."""
    _job_pid(PATIENCE)
    time.sleep(MOMENT)
    os.kill(-1, signal.SIGSTOP)


def out_of_memory(say: Callable[[str], None]) -> None:
    """The kernel's own words, then its deed: to the whole job, as with memory.oom.group."""
    pid = _job_pid(float("inf"))
    time.sleep(MOMENT)
    name = _name_of(pid)
    stamp = "[%12.6f]" % time.monotonic()
    say(f"{stamp} oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),global_oom,task={name},pid={pid},uid=0")
    sizes = "total-vm:1048576kB, anon-rss:917504kB, file-rss:0kB, shmem-rss:0kB, UID:0"
    say(f"{stamp} Out of memory: Killed process {pid} ({name}) {sizes} pgtables:1852kB oom_score_adj:0")
    with contextlib.suppress(ProcessLookupError):
        os.kill(-pid, signal.SIGKILL)


def disk_full(say: Callable[[str], None]) -> None:
    """Before the user data starts: whatever it wants to keep there does not fit."""
    for folder in FULL:
        with contextlib.suppress(OSError), open(folder + "/.full", "wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)


def _job_pid(patience: float) -> int:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError), open(JOB) as file:
            return int(file.read())
        time.sleep(0.02)
    return 0


def _name_of(pid: int) -> str:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as file:
        return file.read().strip()
    return "job"


def start(kind: str, say: Callable[[str], None]) -> None:
    """Before the user data; what takes its time does so beside it."""
    if os.getpid() != 1:
        raise RuntimeError("troubles are for process 1 of a sandbox only")
    if kind == "disk-full":
        disk_full(say)
    elif kind in ("hang", "out-of-memory"):
        does = {"hang": hang, "out-of-memory": out_of_memory}[kind]
        threading.Thread(target=does, args=(say,), daemon=True).start()
