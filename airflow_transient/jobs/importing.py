"""Many documents at once: what each of them becomes, and the jobs that are to be written for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from airflow_transient.jobs.document import InvalidDocument, JobDocument
from airflow_transient.jobs.editing import Draw, begun, made, resumed, rewritten
from airflow_transient.jobs.store import Snapshot, StoredJob
from airflow_transient.jobs.view import Imported

CREATED, REPLACED, UNCHANGED, REFUSED, LEFT = "created", "replaced", "unchanged", "refused", "left"


@dataclass(frozen=True)
class Plan:
    """
    :param answers: one for each document, in their order.
    :param jobs: those to be written.
    """

    answers: tuple[Imported, ...]
    jobs: tuple[StoredJob, ...]


def planned(
    raws: Sequence[Any], snapshot: Snapshot, draw: Draw, now: datetime, *, replace: bool, all_or_nothing: bool
) -> Plan:
    answers: list[Imported] = []
    jobs: dict[str, StoredJob] = {}
    seen: set[str] = set()
    for raw in raws:
        try:
            document = made(raw, draw)
            before = _before(document, snapshot, seen, replace)
        except InvalidDocument as error:
            answers.append(Imported(_id(raw), REFUSED, error.messages))
            continue
        seen.add(document.id)
        job, outcome = _written(document, before, now, snapshot.next_revision)
        answers.append(Imported(document.id, outcome, warnings=document.warnings(now)))
        if outcome != UNCHANGED:
            jobs[job.id] = job
    if all_or_nothing and any(answer.outcome == REFUSED for answer in answers):
        return Plan(tuple(map(_left, answers)), ())
    return Plan(tuple(answers), tuple(jobs.values()))


def _before(document: JobDocument, snapshot: Snapshot, seen: set[str], replace: bool) -> StoredJob | None:
    """The job that it replaces. Raises InvalidDocument where it may not."""
    if document.id in seen:
        raise InvalidDocument({"id": [f"Job {document.id} is here twice: the first one counts."]})
    before = snapshot.jobs.get(document.id)
    if before is None:
        return None
    if not replace:
        raise InvalidDocument({"id": [f"Job {document.id} already exists."]})
    if before.raw.get("kind", "ecs") != document.kind:
        raise InvalidDocument({"kind": ["kind cannot be changed"]})
    return before


def _written(document: JobDocument, before: StoredJob | None, now: datetime, revision: int) -> tuple[StoredJob, str]:
    if before is None:
        return begun(document, now, revision), CREATED
    job = rewritten(before, document, now, revision)
    return (before, UNCHANGED) if job is before else (resumed(job, now, revision), REPLACED)


def _left(answer: Imported) -> Imported:
    return answer if answer.outcome == REFUSED else replace(answer, outcome=LEFT)


def _id(raw: Any) -> str | None:
    said = (raw.get("id") or raw.get("taskDefinition")) if isinstance(raw, Mapping) else None
    return said if isinstance(said, str) else None
