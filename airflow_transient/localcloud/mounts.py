"""What a guest's file system looks like: the host's, read-only, with everything personal covered.

Law: of the host's folders a guest can write none. What is a person's (home folders, run-time sockets,
temporary files, other disks, password hashes) it cannot even read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

MiB = 1024 * 1024
# Where a guest finds what its host gives it.
ROOM = "/run/localcloud"
# Covered by an empty folder in memory, bounded in size.
COVERED = {
    "/root": 256 * MiB,
    "/home": 64 * MiB,
    "/run": 128 * MiB,
    "/var": 512 * MiB,
    "/tmp": 512 * MiB,
    "/mnt": MiB,
    "/media": MiB,
}
SECRET_FILES = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers")
SECRET_FOLDERS = ("/etc/ssh", "/etc/ssl/private", "/etc/sudoers.d")
# As root in a user namespace these still belong to the real root: `echo o >/proc/sysrq-trigger` would switch
# off the person's machine. bubblewrap 0.8 covers some of them, and as root not /proc/sys (seen on Debian 12).
DANGEROUS = ("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "asound", "mtrr", "driver", "tty")
SYSTEM = {"/", "/usr", "/etc", "/bin", "/sbin", "/lib"}


@dataclass(frozen=True)
class Mount:
    kind: str  # tmpfs | ro | rw | dev | proc
    target: str
    source: str = ""
    size: int = 0


def read_only(source: str | Path, target: str | Path | None = None) -> Mount:
    return Mount("ro", str(target or source), str(source))


def covers(home: str | None) -> list[Mount]:
    """The covers every guest has; home, when it is elsewhere than usual, is covered too."""
    sizes = {folder: size for folder, size in COVERED.items() if os.path.isdir(folder) and not os.path.islink(folder)}
    place = os.path.realpath(home) if home else "/"
    if os.path.isdir(place) and place not in SYSTEM and not _below(place, sizes):
        sizes[place] = MiB
    sizes.update({folder: MiB for folder in SECRET_FOLDERS if os.path.isdir(folder)})
    hidden = [read_only("/dev/null", path) for path in SECRET_FILES if os.path.isfile(path)]
    return [Mount("tmpfs", folder, size=size) for folder, size in sizes.items()] + hidden


def resized(mounts: Iterable[Mount], sizes: Mapping[str, int]) -> list[Mount]:
    """The same, with these folders in memory of these sizes."""
    return [replace(mount, size=sizes.get(mount.target, mount.size)) for mount in mounts]


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def guest_mounts(room: Sequence[Mount], tools: Sequence[Mount], home: str | None) -> list[Mount]:
    """Covers first, then what shows through them."""
    closed = [read_only(path) for name in DANGEROUS if os.path.exists(path := f"/proc/{name}")]
    return [*covers(home), Mount("dev", "/dev"), Mount("proc", "/proc"), *closed, *tools, *room]
