"""A snapshot in an S3 object, for deployments whose parts share no disk. Encryption is left to the bucket."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_transient.errors import AccessError, LaunchError, SpecError
from airflow_transient.hooks.aws import TransientHook
from airflow_transient.jobs.store import Snapshot, StoreConflict, StoreDamaged, StoreUnreachable
from airflow_transient.jobs.stores import versions

if TYPE_CHECKING:
    from airflow_transient.aws.objects import Found, Place

log = logging.getLogger(__name__)

_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(\S*[^\s/])\Z")
#: How often a write without a clear answer is repeated, each time after another look.
TRIES = 3


class S3Store:
    """Writers compare and set by the object's ETag."""

    def __init__(self, url: str, conn_id: str | None = None) -> None:
        match = _URL.match(url)
        if match is None:
            raise StoreUnreachable(
                f"{url!r} names no S3 object: write s3:// with bucket and key, s3://bucket/jobs.json"
            )
        self.url = url
        self._bucket, self._key = match[1], match[2]
        self._hook = TransientHook(conn_id)
        self._made: Place | None = None

    def read(self) -> Snapshot:
        with self._reached() as place:
            return self._read(place)[0]

    def replace(self, new: Snapshot, expected: int) -> None:
        with self._reached() as place:
            self._replace(place, new, expected)
            self._keep(place, new)

    def _replace(self, place: Place, new: Snapshot, expected: int) -> None:
        from airflow_transient.aws.objects import Written

        data, told = new.to_json().encode(), Written.BUSY
        for _ in range(TRIES):
            there, found = self._read(place)
            if there.follows(new.write):  # ours, whose answer was lost
                return
            if there.revision != expected:
                raise StoreConflict(f"{self.url}: revision {there.revision} is there, and not {expected}")
            told = place.write(data, found.etag if found else None)
            if told is Written.DONE:
                return
        if told is Written.UNTOLD:
            if self._read(place)[0].follows(new.write):
                return
            raise StoreUnreachable(f"{self.url}: {TRIES} writes got no clear answer; look whether it was saved")
        raise StoreConflict(f"{self.url}: {told.value}")

    def _read(self, place: Place) -> tuple[Snapshot, Found | None]:
        found = place.read()
        if found is None:
            if revisions := self._revisions(place):
                raise self._damaged(place, "it is gone", revisions)
            return Snapshot(), None
        try:
            return Snapshot.from_json(found.data), found
        except ValueError as error:
            raise self._damaged(place, str(error), self._revisions(place)) from None

    def _damaged(self, place: Place, why: str, revisions: list[int]) -> StoreDamaged:
        def load(revision: int) -> bytes:
            kept = place.read(f".{revision}")
            return kept.data if kept else b""

        return versions.damaged(self.url, why, revisions, load)

    def _revisions(self, place: Place) -> list[int]:
        """Those that are kept; none where nobody may list them."""
        try:
            found = (versions.revision_in(suffix, "") for suffix in place.suffixes())
            return [revision for revision in found if revision is not None]
        except AccessError:
            return []

    def _keep(self, place: Place, new: Snapshot) -> None:
        """The write has happened: what fails now costs a kept version and nothing else."""
        try:
            place.keep(new.to_json().encode(), f".{new.revision}")
            place.forget(f".{revision}" for revision in versions.outdated(self._revisions(place)))
        except (AccessError, LaunchError, SpecError) as error:
            log.warning("revision %d of %s is saved, and its version is not kept: %s", new.revision, self.url, error)

    @contextmanager
    def _reached(self) -> Iterator[Place]:
        """botocore is loaded by the first look, and not by importing this."""
        from airflow_transient.aws.launcher import said_plainly
        from airflow_transient.aws.objects import PATIENCE, Place

        try:
            if self._made is None:
                with said_plainly("s3"):
                    self._made = Place(self._hook.client("s3", **PATIENCE), self._bucket, self._key)
            yield self._made
        except (AccessError, LaunchError, SpecError) as error:
            raise StoreUnreachable(f"{self.url}: {error}") from error
