"""A machine's disk across its end: process 1 runs this file, and packs or unpacks what a guest can write.

Standard library only, and syntax that Python 3.7 reads, like agent.py. Nothing here may run outside a sandbox.

Law: only what lies on a disk of a real machine. /run and /tmp are gone when the power is.
"""

from __future__ import annotations

import os
import stat
import tarfile

# The rest of a guest's files is its host's, which it cannot write.
ON_DISK = ("/root", "/home", "/var")
# Ours, which every boot lays out anew.
NOT_ON_DISK = ("/var/run", "/var/lock")


def save(pipe: str) -> None:
    """Into a pipe that the host reads, within its limit."""
    with open(pipe, "wb") as out, tarfile.open(fileobj=out, mode="w|") as tar:
        for folder in ON_DISK:
            if os.path.isdir(folder):
                tar.add(folder, filter=_kept)


def _kept(found: tarfile.TarInfo) -> tarfile.TarInfo | None:
    path = "/" + found.name
    mode = os.lstat(path).st_mode
    if path in NOT_ON_DISK or stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode):
        return None
    return found


def restore(file: str) -> None:
    with tarfile.open(file) as tar:
        # Python 3.12 warns without a filter, and 3.14's own refuses links to full paths; it is our own archive.
        trusted = {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
        tar.extractall("/", **trusted)  # type: ignore[arg-type]  # noqa: S202  (in a sandbox)
