"""What EC2 says of images where moto says yes at once: names, time, and failures. One small rule each, no moto."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from airflow_transient.localcloud.errors import Refused

# CreateImage, API reference.
_NAME = re.compile(r"[A-Za-z0-9()\[\] ./'@_-]{3,128}\Z")
# What an instance may be in to be made an image of.
WHOLE = ("running", "stopped", "stopping", "pending")
LIMIT = 512 * 1024 * 1024


@dataclass(frozen=True)
class Making:
    """One image on its way: since when, for how long, and what becomes of it (None: it is available then)."""

    begun: float
    seconds: float
    failure: tuple[str, str] | None = None

    def state(self, now: float) -> str:
        if now < self.begun + self.seconds:
            return "pending"
        return "failed" if self.failure else "available"


@dataclass
class Images:
    """
    How images are made here.

    :param delay: seconds that one stays pending.
    """

    delay: float = 0.0
    clock: Callable[[], float] = time.monotonic
    _failures: list[tuple[str, str]] = field(default_factory=list)
    _newest: datetime = datetime.min

    def created(self, now: datetime) -> datetime:
        """When the next one is told to be made: EC2 tells whole seconds, and takes longer than one for each."""
        self._newest = max(now.replace(microsecond=0), self._newest + timedelta(seconds=1))
        return self._newest

    def fail_next(self, code: str = "Server.InternalError", words: str = "Internal error on image creation") -> None:
        """The next one that is asked for comes to nothing, after its delay."""
        self._failures.append((code, f"{code}: {words}"))

    def begin(self) -> Making:
        return Making(self.clock(), self.delay, self._failures.pop(0) if self._failures else None)

    def forget(self) -> None:
        """No delay and no failures to come."""
        self.delay = 0.0
        self._failures.clear()


def check_name(name: str | None, taken: Mapping[str, str]) -> None:
    """:param taken: the account's names in this region -> image id; a failed image keeps its name."""
    if not name:
        raise Refused("MissingParameter", "The request must contain the parameter Name")
    if not _NAME.match(name):
        words = "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', '.'"
        raise Refused("InvalidAMIName.Malformed", f"{words}, '-', '/' and '_'")
    if name in taken:
        raise Refused("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {taken[name]}")


def check_instance(name: str, state: str) -> None:
    if state not in WHOLE:
        raise Refused("IncorrectInstanceState", f"Instance '{name}' is not in state 'running' or 'stopped'")


@dataclass(frozen=True)
class Disks:
    """Where the host keeps what stopped machines and images have on their disks: one archive each."""

    folder: Path

    def of(self, name: str) -> Path:
        return self.folder / "disks" / f"{name}.tar"

    def known(self, name: str | None) -> Path | None:
        path = self.of(name) if name else None
        return path if path and path.exists() else None

    def share(self, source: str, target: str) -> None:
        """What an image holds does not change when its machine goes on: the archive is replaced, never written to."""
        if path := self.known(source):
            os.link(path, self.of(target))


class Saved:
    """A guest's disk as it comes out of the pipe; bounded, and nothing until it is whole."""

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_suffix(".part")
        path.parent.mkdir(exist_ok=True)
        self._file = self._part.open("wb")
        self._size = 0

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= LIMIT:
            self._file.write(data)

    def close(self, whole: bool) -> None:
        """Twice is fine."""
        self._file.close()
        if whole and 0 < self._size <= LIMIT and self._part.exists():
            self._part.replace(self._path)
        self._part.unlink(missing_ok=True)
