"""What it means to run something: values and two small interfaces, for EC2 machines and what comes later.

A `Runner` starts and stops boots; a `Watcher` is told what became of them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from airflow_transient.localcloud.container_python import ContainerPython
from airflow_transient.localcloud.imds import Metadata
from airflow_transient.localcloud.mounts import Mount
from airflow_transient.localcloud.sandbox import Sandbox
from airflow_transient.localcloud.toolbox import Toolbox


class End(enum.Enum):
    """Why a guest is gone."""

    ITSELF = "it shut itself down"
    ASKED = "we were asked to stop it"
    CRASHED = "its sandbox died, or never came up"


@dataclass(frozen=True)
class Boot:
    """One boot: who, what to run (None idles), what the console says instead, and the metadata it sees.

    trouble: what goes wrong inside, one of fault_rules.GUESTS. base: an archive of what is on its disk at first; saves:
    where what is there at its end is kept; None: it goes with the machine.
    """

    name: str
    script: bytes | None
    words: str
    metadata: Callable[[], Metadata]
    trouble: str = ""
    base: Path | None = None
    saves: Path | None = None


@dataclass(frozen=True)
class Host:
    """What every guest is given: a way in, its commands, the cloud's door, and where its files may lie.

    boto3: what makes a machine's python3 find boto3; None where its image has none.
    """

    sandbox: Sandbox
    toolbox: Toolbox
    folder: Path
    door: Path
    port: int
    share: tuple[Mount, ...] = ()
    boot_delay: float = 0.0
    boto3: ContainerPython | None = None


class Watcher(Protocol):
    """Who wants to know; called from the guest's own thread, in this order."""

    def up(self, name: str) -> None: ...

    def going(self, name: str) -> None: ...

    def down(self, name: str, end: End) -> None: ...


class Runner(Protocol):
    """Starting returns at once. Stopping asks, and twice is fine. Killing does not ask."""

    def start(self, boot: Boot, watcher: Watcher) -> None: ...

    def stop(self, name: str) -> None: ...

    def kill(self, name: str) -> None: ...
