"""To stop one launch, because a person wants it.

Nothing is marked in Airflow: what AWS shows is ended with a person's mark, and whoever waits sees that at its next
look, says so, and fails without another try (retry.py). To mark the task failed would end it as well, and say less: of
what was "killed" a next try launches another one, and where nobody waits there is nothing to mark. What is ended comes
from our own look at AWS, by its tags; a request only names it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from airflow_transient.aws.listing import DEFAULT_CLUSTER
from airflow_transient.core.ecs.terms import Terms
from airflow_transient.core.launch import BY_PERSON, Launch, Owner
from airflow_transient.core.rows import IDS_TOLD, Row
from airflow_transient.core.sources import Place, Resource
from airflow_transient.core.words import in_short
from airflow_transient.plugin import airflow_rows
from airflow_transient.plugin.access import Forbidden, Who
from airflow_transient.plugin.answers import Refused
from airflow_transient.plugin.looking import CALLS, HOOKS, PAGES, utcnow
from airflow_transient.plugin.survey import survey
from airflow_transient.plugin.telling import may_stop, visible

log = logging.getLogger(__name__)

EVENT = "transient_stop"
NOUNS = {"ec2": "EC2 instance", "ecs": "ECS task"}
#: What a person is told that will become of the task, by whether there is one that waits.
WAITED = "the task that waits for this ends as stopped at its next look, and is not tried again unless its DAG says so"
UNWAITED = "no task waits for it"
FIELDS = {"dag_id": str, "run_id": str, "task_id": str, "map_index": int, "token": (str, type(None))}


def wanted(said: dict[str, Any]) -> tuple[Owner, str | None]:
    """Which row a request names. Its deployment is ours. Raises Refused."""
    messages = {name: ["Unknown field."] for name in said if name not in FIELDS}
    for name, kinds in FIELDS.items():
        if name not in said and name != "map_index":
            messages[name] = ["Missing data for required field."]
        elif not isinstance(said.get(name, -1), kinds) or isinstance(said.get(name), bool):  # type: ignore[arg-type]
            messages[name] = ["Not a valid value: copy the row's."]
    if messages:
        raise Refused(400, {"messages": messages})
    return Owner("", said["dag_id"], said["run_id"], said["task_id"], said.get("map_index", -1)), said["token"]


def stop(owner: Owner, token: str | None, who: Who) -> dict[str, Any]:
    """The answer. Raises Forbidden, Refused, or what AWS makes of it."""
    if not who.may_task("PUT", owner.dag_id):
        raise Forbidden("You may not stop launches of this DAG: that takes the right to change its task instances.")
    found = survey(max_age=0)
    row = next((row for row in visible(found, who) if _is(row, owner, token)), None)
    if row is None or not row.members:
        raise Refused(404, "AWS shows nothing of this launch, or it could not be asked: look at what runs again.")
    if not may_stop(who, row.owner.dag_id, row.owner.dag_id in found.gone):
        raise Forbidden("Its DAG is deleted: to stop what it left takes the right to change task instances of any DAG.")
    alive = [m for m in row.members if not m.ending]
    if not alive:
        raise Refused(409, "All of it is on its way out already.")
    for place, members in _by_place(alive).items():
        HOOKS.of(place.connection).launcher(place.kind).stop(_handle(row, place, members), BY_PERSON)
    PAGES.forget("running")
    CALLS.forget(*(("look", member.place) for member in alive))
    _write_down(row, alive, who)
    return answer(row, alive)


def answer(row: Row, stopped: list[Resource]) -> dict[str, Any]:
    noun = NOUNS[stopped[0].found.kind] + ("s" if len(stopped) > 1 else "")
    words = f"stopping {len(stopped)} {noun}; {WAITED if row.task else UNWAITED}"
    return {"stopped": len(stopped), "ids": [m.found.id for m in stopped[:IDS_TOLD]], "words": words}


def _is(row: Row, owner: Owner, token: str | None) -> bool:
    named = (row.owner.dag_id, row.owner.run_id, row.owner.task_id, row.owner.map_index)
    return named == (owner.dag_id, owner.run_id, owner.task_id, owner.map_index) and row.token == token


def _by_place(members: Iterable[Resource]) -> dict[Place, list[Resource]]:
    groups: dict[Place, list[Resource]] = defaultdict(list)
    for member in members:
        groups[member.place].append(member)
    return groups


def _handle(row: Row, place: Place, members: list[Resource]) -> Launch:
    """As much of a launch as its end takes: of what is not waited for nothing else is known."""
    now, ids = utcnow(), tuple(m.found.id for m in members)
    terms = Terms(place.cluster or DEFAULT_CLUSTER, (), 0, 0, 0, len(ids)) if place.kind == "ecs" else None
    token, until = row.token or "", row.deadline or now + timedelta(hours=1)
    return Launch(place.kind, token, "", ids, str(place.region), row.since or now, now, until, ecs=terms)


def _write_down(row: Row, stopped: list[Resource], who: Who) -> None:
    """It is done: that it could not be written into the audit log is no reason to say that it is not."""
    words = f"launch {row.token or ''}: {in_short([m.found.id for m in stopped])}"
    log.info("%s stops %s of %s", who.name, words, row.key)
    try:
        airflow_rows.write_down(EVENT, who.name, row.owner, words)
    except Exception:
        log.exception("not in the audit log: %s stopped %s", who.name, words)
