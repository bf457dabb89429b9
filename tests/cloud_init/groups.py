"""The control groups of one machine: made before it boots, gone after it ended. Both layouts, v1 (or hybrid) and v2.

They are the one thing a machine has that does not end with its namespaces.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TREE = Path("/sys/fs/cgroup")
PREFIX = "transient-machine-"


def unified() -> bool:
    """cgroup v2 alone, as on today's cloud images: only there does systemd learn of an out-of-memory kill."""
    return (TREE / "cgroup.controllers").exists()


@contextmanager
def groups(name: str, memory: int | None) -> Iterator[list[str]]:
    """The cgroup.procs files to enter. `memory`: bytes, of all the machine's processes and its files in memory."""
    made = [hierarchy / f"{PREFIX}{os.getpid()}-{name}" for hierarchy in hierarchies()]
    try:
        for folder in made:
            folder.mkdir()
            if memory:
                limit(folder, memory)
        yield [str(folder / "cgroup.procs") for folder in made]
    finally:
        for folder in made:
            remove(folder)


def hierarchies() -> list[Path]:
    """v1: systemd's own, memory, and v2's beside them where there is one. v2: all in one."""
    if unified():
        return [TREE]
    return [TREE / name for name in ("systemd", "memory", "unified") if (TREE / name / "cgroup.procs").exists()]


def limit(folder: Path, memory: int) -> None:
    for name, value in (("memory.limit_in_bytes", memory), ("memory.max", memory), ("memory.swap.max", 0)):
        if (folder / name).exists():
            (folder / name).write_text(str(value))


def remove(folder: Path, patience: float = 5.0) -> None:
    """Its processes have been killed, but the kernel may still be burying them."""
    end = time.monotonic() + patience
    while folder.exists():
        for path, _, _ in os.walk(folder, topdown=False):
            with suppress(OSError):
                os.rmdir(path)
        if time.monotonic() > end:
            return
        time.sleep(0.02)


def sweep() -> None:
    """What runs left that were killed themselves: groups, and the small folders with their machines' sockets."""
    for hierarchy in hierarchies():
        for left in orphans(hierarchy):
            remove(left, patience=0.5)
    for left in orphans(Path(tempfile.gettempdir())):
        shutil.rmtree(left, ignore_errors=True)


def orphans(place: Path) -> list[Path]:
    """Each name has the process id of the run that made it."""
    found = [(left, left.name.removeprefix(PREFIX).split("-")[0]) for left in place.glob(f"{PREFIX}*")]
    return [left for left, run in found if run.isdigit() and not Path("/proc", run).exists()]
