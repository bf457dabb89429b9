"""What a container's `python3` is: 3.10 or later, and with boto3, as a worker's image would bring it.

Of this process's packages only those that boto3 needs are shown, as a folder of links on PYTHONPATH.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from airflow_transient.localcloud.mounts import ROOM, Mount, read_only

PACKAGES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
LEAST = (3, 10)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class ContainerPython:
    """The mounts that show it, and the variables that make it be found (where the user sets none)."""

    mounts: tuple[Mount, ...]
    environment: dict[str, str]

    @property
    def of_machine(self) -> bool:
        """Is it the machine's own interpreter, which is found without our PATH?"""
        return self.environment["PATH"] == PATH


def furnish(folder: Path) -> ContainerPython:
    """Prepare the folder of links, once for all tasks."""
    links = folder / "python"
    links.mkdir()
    shown: dict[Path, str] = {}
    for found in filter(None, map(_place, PACKAGES)):
        inside = shown.setdefault(found.parent, f"{ROOM}/packages{len(shown)}")
        os.symlink(f"{inside}/{found.name}", links / found.name)
    mounts = [read_only(place, inside) for place, inside in shown.items()]
    mounts.append(read_only(links, f"{ROOM}/python"))
    more, path = _interpreter()
    return ContainerPython((*mounts, *more), {"PATH": path, "PYTHONPATH": f"{ROOM}/python"})


def _place(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    return origin.parent if spec.submodule_search_locations else origin


def _interpreter() -> tuple[list[Mount], str]:
    """The machine's own, when it is new enough; else the one this process was made from."""
    found = re.search(r"python(\d+)\.(\d+)$", os.path.realpath("/usr/bin/python3"))
    if found and (int(found[1]), int(found[2])) >= LEAST:
        return [], PATH
    return [read_only(sys.base_prefix)], f"{sys.base_prefix}/bin:{PATH}"
