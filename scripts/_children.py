"""Children that cannot outlive us, whatever they start and however we die, SIGKILL included.

Airflow gives its task processes groups and sessions of their own, so ending one process group leaves some
of them running. Therefore a small keeper (this file, run as a script) stands between us and the command. It
adopts every orphan below it (Linux: PR_SET_CHILD_SUBREAPER), and when the command ends, when it is asked to
end, or when we are gone, it ends all that is below it. Elsewhere than on Linux orphans can escape.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
LOOK_EVERY = 0.2
KILL_PATIENCE = 5.0


@contextmanager
def managed(argv: Sequence[str | Path], *, grace: float = 10.0, **popen: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run argv for the length of the block; afterwards it and everything it started is gone.

    :param argv: the command and its arguments.
    :param grace: seconds between SIGTERM and SIGKILL.
    :param popen: as for subprocess.Popen. Files in `pass_fds` stay open until the last process is gone (and
        are not handed to the command): a lock in there is held until then.

    What is yielded is the keeper: its returncode is the command's (128 + n after signal n), its `terminate()`
    ends everything, its `pid` is not the command's.
    """
    keeper = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(grace), *map(str, argv)]
    child = subprocess.Popen(keeper, start_new_session=True, **popen)
    try:
        yield child
    finally:
        child.terminate()
        child.wait()


def end_with_parent(end: Callable[[], None]) -> None:
    """Call `end` once the process that started us is gone: make does not pass on a SIGKILL."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_EVERY)
        end()

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def keep(owner: int, grace: float, argv: Sequence[str]) -> int:
    """Run argv until it ends, is asked to end or `owner` is gone; leave nothing below us; return its code."""
    asked: list[int] = []
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sign, lambda number, _frame: asked.append(number))
    adopt_orphans()
    try:
        command = subprocess.Popen(argv, start_new_session=True)
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr)
        return 127
    while command.returncode is None and not asked and os.getppid() == owner:
        time.sleep(LOOK_EVERY)
        reap(command)
    end_all(grace, command)
    code = command.wait()
    return code if code >= 0 else 128 - code


def adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_all(grace: float, command: subprocess.Popen[Any]) -> None:
    """Ask all that is below us to end, processes that appear meanwhile too; then kill."""
    for sign, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, KILL_PATIENCE)):
        told: set[int] = set()
        until = time.monotonic() + patience
        while time.monotonic() < until:
            reap(command)
            below = descendants(os.getpid())
            if not below:
                return
            for pid in below - told:
                with suppress(ProcessLookupError):
                    os.kill(pid, sign)
            told |= below
            time.sleep(LOOK_EVERY / 4)


def reap(command: subprocess.Popen[Any]) -> None:
    """Take leave of what has ended. The command's own end belongs to its Popen, so look before waiting."""
    if sys.platform != "linux":
        command.poll()
        return
    with suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid == command.pid:
                command.poll()
            else:
                os.waitpid(ended.si_pid, 0)


def descendants(pid: int) -> set[int]:
    table = process_table()
    found: set[int] = set()
    new = {pid}
    while new:
        new = {child for parent in new for child in children_of(table, parent)} - found
        found |= new
    return found


def children_of(table: dict[int, int], parent: int) -> set[int]:
    return {pid for pid, its_parent in table.items() if its_parent == parent}


def process_table() -> dict[int, int]:
    """The parent of every process."""
    if sys.platform == "linux":
        return dict(found for stat in Path("/proc").glob("[0-9]*/stat") if (found := pid_and_parent(stat)))
    # ps lists itself as well, which would be a child of ours that never ends.
    ps = subprocess.Popen(["ps", "-A", "-o", "pid=", "-o", "ppid="], stdout=subprocess.PIPE, text=True)
    lines, _ = ps.communicate()
    table = {int(pid): int(parent) for pid, parent in map(str.split, lines.splitlines())}
    table.pop(ps.pid, None)
    return table


def pid_and_parent(stat: Path) -> tuple[int, int] | None:
    """From /proc/<pid>/stat: the name in brackets may hold anything, the fields after it do not."""
    try:
        text = stat.read_text(errors="replace")
    except OSError:
        return None
    return int(stat.parent.name), int(text.rpartition(")")[2].split()[1])


if __name__ == "__main__":
    sys.exit(keep(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
