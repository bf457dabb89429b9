"""/queues: how deep the queues in use are, and how many each job would launch for that now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from airflow_transient.core.depth import Depth, Live, Unread, size
from airflow_transient.hooks.deployment import deployment
from airflow_transient.jobs.airflow_db import AirflowDatabase
from airflow_transient.plugin import airflow_rows, orders
from airflow_transient.plugin.access import Who, who
from airflow_transient.plugin.bursts import Burst, Where, bursts, depth_of, live_of, oldest_of
from airflow_transient.plugin.cache import HURRY, Entry
from airflow_transient.plugin.looking import CALLS, PAGES, PATIENCE, Source, each, sentence
from airflow_transient.plugin.places import read_documents
from airflow_transient.plugin.running_api import answered
from airflow_transient.plugin.telling import ages, fresh, iso, plain, sources

router = APIRouter(tags=["what runs"])

Asking = Annotated[Who, Depends(who)]
Place = tuple[Where, str]

#: So many queues, and so many jobs of them, are asked for.
QUEUES, MOST_QUEUES, MOST_JOBS = 50, 100, 200
#: Seconds for which the age of the oldest message is good: CloudWatch has one value a minute, and each costs money.
A_MINUTE = 60.0


NEEDED = (
    "The API server's own AWS credentials need sqs:GetQueueUrl and sqs:GetQueueAttributes to show how deep queues are, "
    "ecs:ListTasks and ecs:DescribeTasks to say what runs for them, and cloudwatch:GetMetricStatistics for the age of "
    "the oldest message."
)


@dataclass(frozen=True)
class Known:
    """What there is, before AWS is asked, whoever asks."""

    bursts: tuple[Burst, ...]
    sources: tuple[Source, ...]
    read: float


@router.get("/queues", summary="How deep the queues in use are, and what that asks for")
async def queues(request: Request, who: Asking) -> Response:
    """In the query: `limit` (default 50, at most 100)."""
    limit = min(max(orders.integer(request, "limit", QUEUES), 1), MOST_QUEUES)
    known = answered(await PAGES.wait("bursts", known_bursts, PATIENCE.page))
    mine = await run_in_threadpool(readable, known.bursts, who)
    # Whoever may see the same is shown the same.
    seen = ("queues", frozenset(burst.key for burst in mine), limit)
    return fresh(answered(await PAGES.wait(seen, partial(look, known, mine, limit), PATIENCE.page)))


def readable(found: Sequence[Burst], who: Who) -> tuple[Burst, ...]:
    may = who.readable({burst.owner.dag_id for burst in found})
    return tuple(burst for burst in found if burst.owner.dag_id in may)


def known_bursts() -> Known:
    """Raises nothing: what could not be asked is told."""
    questions: dict[str, Any] = {
        "deployment": deployment,
        "documents": read_documents,
        "sizes": airflow_rows.newest_sizes,
    }
    said: Mapping[str, Entry[Any]] = each(questions)
    names = {"deployment": "Airflow", "documents": "The jobs' store", "sizes": "Airflow, about earlier bursts"}
    told = [Source(names[key], sentence(entry.error)) for key, entry in said.items() if entry.error]
    found = bursts(said["documents"].value or [], said["sizes"].value or [], said["deployment"].value or "")
    read = min(entry.at for entry in said.values())
    return Known(tuple(found), tuple(told) or (Source("Airflow"), Source("The jobs' store")), read)


# --- one look


def look(known: Known, mine: Sequence[Burst], limit: int) -> dict[str, Any]:
    """The answer to whoever may see these."""
    of_place: dict[Place, list[Burst]] = defaultdict(list)
    for burst in mine[:MOST_JOBS]:
        for queue in burst.spec.queues:
            of_place[burst.where, queue].append(burst)
    shown = dict(list(of_place.items())[:limit])
    seen = Seen.of(shown)
    return {
        **ages(min(known.read, seen.read)),
        "truncated": len(of_place) > limit or len(mine) > MOST_JOBS,
        "total": len(of_place),
        "sources": sources(known.sources),
        "queues": [queue_told(place, of_it, seen) for place, of_it in shown.items()],
    }


@dataclass(frozen=True)
class Seen:
    """What was read of some queues and of the bursts that they size, each with its error where there is one."""

    depths: Mapping[Place, Depth | Unread]
    oldest: Mapping[Place, float | None]
    live: Mapping[tuple[Any, ...], Entry[Live]]
    paused: Mapping[str, bool]
    read: float

    @classmethod
    def of(cls, places: Mapping[Place, Sequence[Burst]]) -> Seen:
        every = {burst.key: burst for of_it in places.values() for burst in of_it}
        # A job may add up queues of which some are not shown.
        wanted = dict.fromkeys([*places, *((b.where, queue) for b in every.values() for queue in b.spec.queues)])
        answers = {key[1]: entry for key, entry in each({("depth", p): depth_of(*p) for p in wanted}).items()}
        depths = {place: depth_in(place, entry) for place, entry in answers.items()}
        deep = [place for place, depth in depths.items() if isinstance(depth, Depth) and not depth.drained]
        oldest = each({("oldest", place): oldest_of(*place) for place in deep}, HURRY, A_MINUTE)
        asking = [burst for burst in every.values() if size(read_by(burst, depths), burst.spec.rule, Live()).count]
        live = each({("live", burst.key): live_of(burst) for burst in asking}, PATIENCE.part / 2)
        return cls(
            depths,
            {place: entry.value for (_, place), entry in oldest.items()},
            {key: entry for (_, key), entry in live.items()},
            paused(frozenset(burst.owner.dag_id for burst in every.values())),
            min((entry.at for entry in answers.values()), default=CALLS.clock()),
        )


def read_by(burst: Burst, depths: Mapping[Place, Depth | Unread]) -> list[Depth | Unread]:
    return [depths[burst.where, queue] for queue in burst.spec.queues]


def depth_in(place: Place, entry: Entry[Depth]) -> Depth | Unread:
    """What could not be read is said so, and is never 0."""
    if entry.value is None or entry.error:
        return Unread(place[1], sentence(entry.error, NEEDED) if entry.error else "no answer")
    return entry.value


def paused(dag_ids: frozenset[str]) -> Mapping[str, bool]:
    return each({("paused", dag_ids): partial(AirflowDatabase().paused, dag_ids)})["paused", dag_ids].value or {}


# --- in words


def queue_told(place: Place, of_it: Sequence[Burst], seen: Seen) -> dict[str, Any]:
    (where, queue), read = place, seen.depths[place]
    depth, unread = (read, None) if isinstance(read, Depth) else (None, read)
    return {
        "key": f"{where.connection}/{where.region or ''}/{queue}",
        "queue": queue,
        "region": where.region,
        "at": iso(depth.at) if depth else None,
        "depth": depth_told(depth, seen.oldest.get(place)) if depth else None,
        "error": plain(unread.why) if unread else None,
        "jobs": [burst_told(burst, seen) for burst in of_it],
    }


def depth_told(depth: Depth, oldest: float | None) -> dict[str, Any]:
    counts = {name: getattr(depth, name) for name in ("visible", "in_flight", "delayed")}
    return {**counts, "oldest_seconds": oldest}


def burst_told(burst: Burst, seen: Seen) -> dict[str, Any]:
    rule, readings = burst.spec.rule, read_by(burst, seen.depths)
    counted = seen.live.get(burst.key)
    unread = [f"{reading}" for reading in readings if isinstance(reading, Unread)]
    error = "; ".join(unread) or (sentence(counted.error, NEEDED) if counted and counted.error else None)
    live = counted.value if counted and not counted.error else None
    asked = None if error else size(readings, rule, live or Live())
    last = burst.last
    return {
        "job_id": burst.job_id,
        "dag_id": burst.owner.dag_id,
        "task_id": burst.owner.task_id,
        "suspended": seen.paused.get(burst.owner.dag_id),
        "queues": list(burst.spec.queues),
        "would_launch": asked.count if asked else None,
        "reason": plain(asked.reason) if asked else None,
        "live": live.tasks if live else None,
        "limit": rule.limit,
        "last": {**{n: last.size.get(n) for n in ("count", "reason")}, "run_id": last.run_id} if last else None,
        "error": plain(error),
    }
