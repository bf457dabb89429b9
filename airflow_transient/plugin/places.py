"""Where AWS is asked what runs: where launches are, where job documents say, and around the API server's own region."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from airflow.configuration import conf

from airflow_transient.aws.found import region_of
from airflow_transient.aws.listing import DEFAULT_CLUSTER
from airflow_transient.core.launch import Launch
from airflow_transient.core.sources import Place
from airflow_transient.hooks.aws import DEFAULT_CONN_ID
from airflow_transient.jobs.document import InvalidDocument, JobDocument
from airflow_transient.jobs.store import JobStore, Snapshot, StoredJob, open_store

#: A connection's name; None: boto3's own chain.
Connection = str | None


def places(
    launches: Iterable[tuple[Launch, Connection]],
    documents: Iterable[JobDocument],
    own: Mapping[Connection, str],
) -> dict[Place, bool]:
    """
    place -> whether something names it; those that a launch names come first.

    :param own: connection -> the region it has of itself.
    """
    found = dict.fromkeys([*_of_launches(launches), *_of_documents(documents, own)], True)
    for connection, region in own.items():
        for place in _around(connection, region):
            found.setdefault(place, False)
    return found


def _around(connection: Connection, region: str) -> tuple[Place, Place]:
    return Place("ec2", region, None, connection), Place("ecs", region, DEFAULT_CLUSTER, connection)


def _of_launches(launches: Iterable[tuple[Launch, Connection]]) -> Iterator[Place]:
    for launch, connection in launches:
        yield Place(launch.made_of, launch.region, launch.ecs.cluster if launch.ecs else None, connection)


def _of_documents(documents: Iterable[JobDocument], own: Mapping[Connection, str]) -> Iterator[Place]:
    """A job asks by the default connection, in its own region or that of its cluster's ARN."""
    for document in documents:
        cluster = (document.cluster or DEFAULT_CLUSTER) if document.kind == "ecs" else None
        region = (cluster and region_of(cluster)) or document.region or own.get(DEFAULT_CONN_ID)
        if region:
            yield Place(document.kind, region, cluster, DEFAULT_CONN_ID)


def read_documents() -> tuple[JobDocument, ...]:
    """Those that can be read. Raises StoreError."""
    store = _store(str(conf.get("transient", "jobs_store", fallback="") or ""))
    return _KEPT.of(store.url, store.read())


@lru_cache(maxsize=1)
def _store(url: str) -> JobStore:
    """A store may hold a client, and making that takes longer than a request."""
    return open_store(url or None)


class _Kept:
    """To read a thousand documents takes a second, and they change rarely."""

    def __init__(self) -> None:
        self._last: tuple[tuple[str, int, str], tuple[JobDocument, ...]] = ("", -1, ""), ()

    def of(self, url: str, snapshot: Snapshot) -> tuple[JobDocument, ...]:
        now = url, snapshot.revision, snapshot.write
        if self._last[0] != now:
            self._last = now, tuple(document for job in snapshot.jobs.values() if (document := _document(job)))
        return self._last[1]


_KEPT = _Kept()


def _document(job: StoredJob) -> JobDocument | None:
    try:
        return job.document()
    except InvalidDocument:
        return None
