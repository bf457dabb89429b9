"""Everything of this deployment that runs, joined both ways: what Airflow's tasks wait for, and what AWS shows.

Law: what could not be looked at is no mismatch. A resource belongs to a launch by what it was launched with, never by
the ids in an XCom, which whoever may edit XComs can write.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from airflow_transient.core.ecs.requests import started_by
from airflow_transient.core.launch import Launch, Owner
from airflow_transient.core.reaping import (
    GONE,
    ORPHAN_SINCE,
    UNANSWERED,
    YOUNG,
    Act,
    Answer,
    Case,
    Decision,
    Standing,
    decide,
)
from airflow_transient.core.rows import Mismatch, Row
from airflow_transient.core.sources import Look, Place, Resource, Task

NOBODY_WAITS, NOTHING_THERE = "resource without task", "task without resource"

#: What the reaper will do about what nobody waits for, the gravest first.
NEXT: dict[Act, str] = {
    Act.TERMINATE: "; the reaper's next pass ends it",
    Act.STOP: "; the reaper's next pass ends it",
    Act.MARK: "; the reaper's next pass marks it, and one five minutes later ends it",
}
FORGOTTEN = "AWS knows nothing of it any more, and its task still waits: is a triggerer running?"
UNJUDGED = "it ended minutes ago, and its task still waits: is a triggerer running?"
ANOTHER = "its task waits for another launch and nobody for this one: its deadline ends it"
#: So long a task may take to tell how its launch has ended: EC2's console is posted late, a worker has to start.
TO_JUDGE = timedelta(minutes=5)
#: Of a launch that is in no list, so many ids are asked for.
LOOKED_UP = 10


def join(
    tasks: Sequence[Task],
    looks: Sequence[Look],
    states: Mapping[Owner, str | None] | None,
    deployment: str | None,
    now: datetime,
) -> tuple[Row, ...]:
    """
    One row a launch: mismatches first, then the newest.

    :param tasks: those that run, or wait.
    :param states: those of the tasks of `others`, without those that are gone; None: Airflow did not say.
    """
    shown = _Shown(looks, deployment)
    # A task that has not told yet what it launched takes what is left of its owner's.
    rows = [_waited_for(t, shown.take(t), looks, now) for t in sorted(tasks, key=lambda t: t.launch is None)]
    waiting = {task.owner: task for task in tasks}
    for owner, members in shown.left():
        state, answer = _said_of(owner, waiting, states)
        case = Case(members[0].found, now, deployment, answer)
        rows.append(_unwaited(Row(owner, state, members=members), case, owner in waiting))
    return tuple(sorted(rows, key=_order))


def others(tasks: Sequence[Task], looks: Sequence[Look], deployment: str | None) -> set[Owner]:
    """The owners of what AWS shows of which `tasks` say nothing; Airflow is asked for them after AWS was."""
    owners = {r.found.owner_in(deployment) for look in looks for r in look.resources}
    return {owner for owner in owners if owner} - {task.owner for task in tasks}


def to_look_up(tasks: Sequence[Task], looks: Sequence[Look]) -> dict[Place, set[str]]:
    """Where AWS is asked about ids: of launches that are in no list, which it may still know the end of."""
    shown = {r.found.id for look in looks for r in look.resources}
    wanted: dict[Place, set[str]] = defaultdict(set)
    for launch in (task.launch for task in tasks if task.launch):
        if not shown & set(launch.ids) and _is_seen(launch, looks):
            for place in (look.place for look in looks if look.covers(launch)):
                wanted[place] |= set(launch.ids[:LOOKED_UP])
    return dict(wanted)


def _is_seen(launch: Launch, looks: Iterable[Look]) -> bool:
    """Whether all was said wherever it may be: of two connections one may look into another account."""
    there = [look for look in looks if look.covers(launch)]
    return bool(there) and all(look.complete for look in there)


def belongs(resource: Resource, owner: Owner | None, task: Task) -> bool:
    """
    By owner and token; by the token alone within one run (a job's tasks), or where StopTask took the tags.

    :param owner: the one that the resource's tags tell.
    """
    token = task.launch and task.launch.token
    if owner == task.owner:
        return token is None or resource.token in (None, token)
    if token is None or resource.token != token:
        return False
    if owner is None:
        return resource.job == started_by(task.owner)
    return (owner.dag_id, owner.run_id) == (task.owner.dag_id, task.owner.run_id)


class _Shown:
    """What AWS shows, each thing once: two connections may show the same account."""

    def __init__(self, looks: Sequence[Look], deployment: str | None) -> None:
        self._resources = {r.found.id: r for look in looks for r in look.resources}
        self._owners = {id: r.found.owner_in(deployment) for id, r in self._resources.items()}
        self._of: dict[Owner | str | None, list[str]] = defaultdict(list)
        for id, resource in self._resources.items():
            self._of[self._owners[id]].append(id)
            self._of[resource.token].append(id)

    def take(self, task: Task) -> tuple[Resource, ...]:
        """What belongs to this task's launch, and to none that took it before."""
        near = dict.fromkeys([*self._of[task.owner], *(self._of[task.launch.token] if task.launch else ())])
        there = [(id, self._resources[id]) for id in near if id in self._resources]
        mine = [id for id, resource in there if belongs(resource, self._owners[id], task)]
        return tuple(self._resources.pop(id) for id in mine)

    def left(self) -> Iterator[tuple[Owner, tuple[Resource, ...]]]:
        """What nobody took, launch by launch; what tells no owner is nobody's business here, but the reaper's."""
        groups: dict[tuple[Owner, str | None], list[Resource]] = defaultdict(list)
        for id, resource in self._resources.items():
            if (owner := self._owners[id]) and not resource.over:
                groups[owner, resource.token].append(resource)
        yield from ((owner, tuple(members)) for (owner, _), members in groups.items())


def _waited_for(task: Task, members: tuple[Resource, ...], looks: Iterable[Look], now: datetime) -> Row:
    launch = task.launch
    young = launch is not None and now - launch.asked_at < YOUNG
    seen = launch is None or _is_seen(launch, looks)
    row = Row(task.owner, task.state, task, members, seen=seen, young=young)
    if row.state != "ended":
        return row
    ends = [m.ended for m in members]
    if not members:
        return replace(row, mismatch=Mismatch(NOTHING_THERE, FORGOTTEN))
    if all(at and now - at >= TO_JUDGE for at in ends):
        return replace(row, mismatch=Mismatch(NOTHING_THERE, UNJUDGED))
    return replace(row, note="its task says how it ended at its next look")


def _said_of(
    owner: Owner, waiting: Mapping[Owner, Task], states: Mapping[Owner, str | None] | None
) -> tuple[str | None, Answer]:
    """(the state of its task in words, what that is to the reaper)."""
    if owner in waiting:
        return waiting[owner].state, Answer.of_state(waiting[owner].state)
    if states is None:
        return None, UNANSWERED
    return (states[owner], Answer.of_state(states[owner])) if owner in states else ("gone", GONE)


def _unwaited(row: Row, case: Case, waits_for_another: bool) -> Row:
    """What the reaper makes of its members says whether anybody should worry, and what happens next."""
    decisions = {m.found.id: decide(replace(case, found=m.found)) for m in row.members if not m.ending}
    for act, what_next in NEXT.items():
        if reasons := [d.reason for d in decisions.values() if d.act is act]:
            return replace(row, mismatch=Mismatch(NOBODY_WAITS, reasons[0] + what_next))
    left = next((d.reason for d in decisions.values()), None)
    if waits_for_another and left == case.answer.words:  # its owner is alive: that is all the reaper looks at
        return replace(row, mismatch=Mismatch(NOBODY_WAITS, ANOTHER))
    if left and _marked(row, decisions) and case.answer.standing is Standing.OVER:
        return replace(row, mismatch=Mismatch(NOBODY_WAITS, left))
    return replace(row, note=left)


def _marked(row: Row, decisions: Mapping[str, Decision]) -> bool:
    """Whether a pass of the reaper has found it before, and nobody speaks for it now."""
    marked = (m.found.id for m in row.members if ORPHAN_SINCE in m.found.tags)
    return any(id in decisions and decisions[id].act is Act.LEAVE for id in marked)


def _order(row: Row) -> tuple[bool, float]:
    return row.mismatch is None, -(row.since.timestamp() if row.since else 0.0)
