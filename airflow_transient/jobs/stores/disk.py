"""Writing a file so that whoever reads it sees the old one or the new one, whole, whatever happens in between."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

PRIVATE = 0o600


def write_whole(path: Path, data: bytes, like: os.stat_result | None = None, durable: bool = True) -> None:
    """
    In place of what is there: written beside it, then renamed.

    :param like: whose mode and group it gets; None: its owner's alone.
    :param durable: it is on the disk, with its name, when this returns.
    """
    beside = path.with_name(f".{path.name}.{uuid4().hex[:12]}.new")
    try:
        _write(beside, data, like, durable)
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    if durable:
        _sync_folder(path.parent)


def _write(path: Path, data: bytes, like: os.stat_result | None, durable: bool) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    with os.fdopen(handle, "wb") as file:
        if like is not None:
            make_like(handle, like)
        file.write(data)
        file.flush()
        if durable:
            os.fsync(handle)


def make_like(handle: int, like: os.stat_result) -> None:
    """The same group where its owner may give that, and the same mode."""
    with suppress(PermissionError):
        os.fchown(handle, -1, like.st_gid)
    with suppress(PermissionError):
        os.fchmod(handle, stat.S_IMODE(like.st_mode))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
