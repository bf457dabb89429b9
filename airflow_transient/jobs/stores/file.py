"""A snapshot in a file, for deployments whose parts see one folder."""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from airflow_transient.jobs.store import Snapshot, StoreConflict, StoreUnreachable
from airflow_transient.jobs.stores import versions
from airflow_transient.jobs.stores.disk import PRIVATE, make_like, write_whole

#: A writer needs milliseconds; who has to wait for longer is told.
LOCK_SECONDS = 10.0
#: What a writer that was killed has left; no write takes this long.
STALE_SECONDS = 3600


class FileStore:
    """
    Readers take no lock: they see the old file or the new one. Writers hold one on a file beside it.

    A file that is there keeps its mode and group, and the lock gets them, so that a group may be let in.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        path = Path(unquote(parts.path))
        if parts.netloc or not path.is_absolute() or parts.path.endswith("/") or parts.query or parts.fragment:
            raise StoreUnreachable(
                f"{url!r} names no file: write file:// and its absolute path, file:///folder/jobs.json"
            )
        self.path = Path(os.path.realpath(path))  # a link stays one: what it points to is replaced

    def read(self) -> Snapshot:
        try:
            return self._read()
        except OSError as error:
            raise self._unreachable(error) from error

    def _read(self) -> Snapshot:
        kept = self._revisions()  # before the file is read: a write in between adds to both
        try:
            found = Snapshot.from_json(self.path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            if kept:
                raise versions.damaged(str(self.path), "it is gone", kept, self._load) from None
            return Snapshot()
        except ValueError as error:
            raise versions.damaged(str(self.path), str(error), kept, self._load) from None
        # An older version was put in its place: no number that was given out stands for something else from now on.
        return replace(found, revision=max([found.revision, *kept]))

    def replace(self, new: Snapshot, expected: int) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._lock():
                self._replace(new, expected)
        except OSError as error:
            raise self._unreachable(error) from error

    def _replace(self, new: Snapshot, expected: int) -> None:
        if (found := self._read().revision) != expected:
            raise StoreConflict(f"{self.path}: revision {found} is there, and not {expected}")
        data, like = new.to_json().encode(), self._stat()
        write_whole(self.path, data, like)
        # From here on the write has happened: what fails now costs a kept version and nothing else.
        with suppress(OSError):
            write_whole(self._version(new.revision), data, like, durable=False)
            self._tidy()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        handle = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, PRIVATE)
        try:
            if like := self._stat():
                make_like(handle, like)
            self._wait_for(handle)
            yield
        finally:
            os.close(handle)

    def _wait_for(self, handle: int) -> None:
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise StoreUnreachable(
                        f"{self.path} is being written by another process for more than {LOCK_SECONDS:g} s: "
                        f"look who holds {self.path}.lock"
                    ) from None
                time.sleep(random.uniform(0.001, 0.02))  # noqa: S311 - it keeps writers apart

    def _stat(self) -> os.stat_result | None:
        try:
            return self.path.stat()
        except FileNotFoundError:
            return None

    def _version(self, revision: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{revision}")

    def _load(self, revision: int) -> bytes:
        return self._version(revision).read_bytes()

    def _revisions(self) -> list[int]:
        try:
            names = os.listdir(self.path.parent)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [found for name in names if (found := versions.revision_in(name, self.path.name)) is not None]

    def _tidy(self) -> None:
        for revision in versions.outdated(self._revisions()):
            self._version(revision).unlink(missing_ok=True)
        for left in self.path.parent.glob(f".{self.path.name}.*.new"):
            if left.stat().st_mtime < time.time() - STALE_SECONDS:
                left.unlink(missing_ok=True)

    def _unreachable(self, error: OSError) -> StoreUnreachable:
        return StoreUnreachable(f"{error.filename or self.path}: {error.strerror or error}")
