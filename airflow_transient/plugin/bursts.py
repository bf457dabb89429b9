"""The bursts that a queue sizes: jobs of documents, and tasks of hand-written DAGs as far as they have told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_transient.aws.sizing import live_tasks
from airflow_transient.aws.sqs import read_depth
from airflow_transient.core.depth import RULE_WORDS, Depth, Live
from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.core.launch import Owner
from airflow_transient.errors import SpecError
from airflow_transient.hooks.aws import DEFAULT_CONN_ID
from airflow_transient.jobs.document import JobDocument
from airflow_transient.jobs.operators import WAIT
from airflow_transient.jobs.port import dag_of
from airflow_transient.plugin.airflow_rows import Sized, job_of
from airflow_transient.plugin.looking import HOOKS, utcnow

#: The words of an operator that say how many.
SIZE_WORDS = ("task_definition", "cluster", "queues", *RULE_WORDS)


@dataclass(frozen=True)
class Where:
    """By which connection, and in which region; None: the connection's own."""

    connection: str | None
    region: str | None

    def client(self, service: str, region_name: str | None = None, **config: Any) -> Any:
        return HOOKS.of(self.connection).client(service, region_name or self.region, **config)


@dataclass(frozen=True)
class Burst:
    """One task that launches as many as its queues ask for; `owner` is whose launches count as its own (of any run)."""

    owner: Owner
    where: Where
    spec: EcsSpec
    job_id: str | None = None
    last: Sized | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        return self.owner.dag_id, self.owner.task_id, self.owner.map_index


def bursts(documents: Iterable[JobDocument], sizes: Iterable[Sized], ours: str) -> list[Burst]:
    """Documents first, in their order; then the tasks that were sized last."""
    newest = list(sizes)
    # A document's tasks go by their document, which may say something else by now.
    last = {sized.dag_id: sized for sized in reversed(newest) if job_of(sized.dag_id)}
    made = [_of_document(document, last.get(dag_of(document.id)), ours) for document in documents]
    made += [_of_task(sized, ours) for sized in newest if not job_of(sized.dag_id)]
    return [burst for burst in made if burst and burst.spec.queues]


def _of_document(document: JobDocument, last: Sized | None, ours: str) -> Burst | None:
    if document.kind != "ecs" or document.trigger is None or document.trigger.type != "sqs":
        return None
    words = document.burst_words()
    spec = _spec(words)
    owner = Owner(ours, dag_of(document.id), "", WAIT)
    return Burst(owner, Where(DEFAULT_CONN_ID, words.get("region_name")), spec, document.id, last) if spec else None


def _of_task(sized: Sized, ours: str) -> Burst | None:
    """By the words it was rendered with, which Airflow keeps for its newest runs."""
    connection, region = (_text(sized.words.get(name)) for name in ("aws_conn_id", "region_name"))
    spec = _spec(sized.words)
    owner = Owner(ours, sized.dag_id, "", sized.task_id, sized.map_index)
    return Burst(owner, Where(connection or DEFAULT_CONN_ID, region), spec, None, sized) if spec else None


def _spec(words: Mapping[str, Any]) -> EcsSpec | None:
    try:
        return EcsSpec.of(**{name: words[name] for name in SIZE_WORDS if name in words})
    except SpecError:
        return None


def _text(word: Any) -> str | None:
    return word if isinstance(word, str) and word else None


# --- questions to AWS


def depth_of(where: Where, queue: str) -> Callable[[], Depth]:
    return lambda: read_depth(where.client, queue, utcnow())


def oldest_of(where: Where, queue: str) -> Callable[[], float | None]:
    return lambda: read_depth(where.client, queue, utcnow(), oldest=True).oldest_seconds


def live_of(burst: Burst) -> Callable[[], Live]:
    return lambda: live_tasks(burst.where.client, burst.spec, burst.owner, utcnow())
