"""A copy of the last good reading on the disk of each host: a store that is damaged or out of reach stops no job."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

from airflow_transient.jobs.store import JobStore, Snapshot, StoreError, StoreUnreachable
from airflow_transient.jobs.stores.disk import write_whole

log = logging.getLogger(__name__)

_WRITE = re.compile(rb'"write": "(\w*)"')
#: As far as the write's id is from the beginning, at most.
_HEAD = 300


def read_or_copy(store: JobStore, cache_dir: Path) -> tuple[Snapshot, timedelta | None]:
    copy = cache_dir / f"jobs-{hashlib.sha256(store.url.encode()).hexdigest()[:16]}.json"
    try:
        now = _read(store, copy)
    except StoreError as error:
        return _copied(copy, error)
    _keep(now, copy)
    return now, None


def _read(store: JobStore, copy: Path) -> Snapshot:
    """An empty place that was not empty before is a folder that is not mounted, or worse: not the end of all jobs."""
    now = store.read()
    if now.revision == 0 and (before := _write_in(copy)):
        raise StoreUnreachable(
            f"{store.url}: nothing is there any more (it was write {before[:8]}): bring it back, or remove {copy} to "
            "go on without the jobs"
        )
    return now


def _keep(now: Snapshot, copy: Path) -> None:
    """Its time says when it was last seen to be right. A host that cannot keep one goes on without."""
    try:
        if now.revision and _write_in(copy) == now.write:
            os.utime(copy)
        elif now.revision:
            copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(copy, now.to_json().encode(), durable=False)
    except OSError as error:
        log.warning("no copy of the jobs is kept on this host: %s", error)


def _copied(copy: Path, error: StoreError) -> tuple[Snapshot, timedelta]:
    try:
        seen = datetime.fromtimestamp(copy.stat().st_mtime, timezone.utc)
        snapshot = Snapshot.from_json(copy.read_bytes())
    except (OSError, ValueError):
        raise error from None
    age = max(timedelta(0), datetime.now(timezone.utc) - seen)
    log.warning("going on with the jobs as they were %s ago (revision %d): %s", age, snapshot.revision, error)
    return snapshot, age


def _write_in(copy: Path) -> str:
    """The id of the write that it is a copy of, without reading all of it."""
    with suppress(OSError), copy.open("rb") as file:
        found = _WRITE.search(file.read(_HEAD))
        return found[1].decode() if found else ""
    return ""
