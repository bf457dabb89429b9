"""What a local cloud borrows from this machine, and gives back: a folder, and leave to open enough files."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILES = 16384


@contextmanager
def files_allowed() -> Iterator[None]:
    """Every guest and task takes four open files, and 1,024 is what a shell allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < FILES:
        most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def made_folder() -> Iterator[Path]:
    """Short: a socket's path may have 107 bytes only. What a killed local cloud left is cleared away."""
    base = Path(tempfile.gettempdir())
    base = base if len(str(base)) < 40 else Path("/tmp")
    for left in base.glob("localcloud-[0-9]*-*"):
        pid = left.name.split("-")[1]
        if left.stat().st_uid == os.getuid() and not Path("/proc", pid).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"localcloud-{os.getpid()}-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
