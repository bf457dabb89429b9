"""A script started as a person's shell would, and all that it started, however far down."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
MARK = "AIRFLOW_TRANSIENT_TEST_MARK"

descendants: Callable[[int], set[int]] = runpy.run_path(str(SCRIPTS / "_children.py"))["descendants"]


@dataclass(frozen=True)
class Started:
    """A process and what it started, however far down and whoever adopted it since."""

    process: subprocess.Popen[bytes]
    mark: str
    output: Path
    known: set[int] = field(default_factory=set)

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def processes(self) -> set[int]:
        """Those seen below it at any look that still live, and those with its mark in their environment.

        Neither is enough alone: orphans leave the tree, and Airflow's title writes over the environment.
        """
        self.known.update(descendants(self.process.pid))
        return set(filter(alive, self.known)) | with_word_in("environ", f"{MARK}={self.mark}")


def begin(folder: Path, *argv: object) -> Started:
    """A Python script with its arguments; its output is a file in the folder."""
    mark = uuid.uuid4().hex
    output = folder / f"{mark}.out"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, *map(str, argv)],
            env=os.environ | {MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    return Started(process, mark, output)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def with_word_in(file: str, word: str) -> set[int]:
    """The processes with this word in /proc/<pid>/<file>, ourselves and the dead ones aside."""
    found = set()
    for path in Path("/proc").glob(f"[0-9]*/{file}"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if word.encode() in words and path.parent.name != str(os.getpid()):
            found.add(int(path.parent.name))
    return found


def command_line(pid: int) -> bytes:
    """Empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
