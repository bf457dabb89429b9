"""One task's launch: what it has told Airflow, how AWS shows it now, and the end of its log.

What an XCom names is looked at only as far as AWS says that it is of this task, or has forgotten it: of an instance
that is somebody else's the console is not shown, whoever wrote its id there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from airflow_transient.aws.listing import NAMED, look_up
from airflow_transient.core.judging import RULES, wait_in_words
from airflow_transient.core.launch import Launch, Owner
from airflow_transient.core.running import belongs
from airflow_transient.core.sources import Look, Place, Task
from airflow_transient.core.verdict import Phase, Sighting
from airflow_transient.errors import TransientError
from airflow_transient.hooks.deployment import deployment
from airflow_transient.plugin import airflow_rows
from airflow_transient.plugin.airflow_rows import ALIVE, LAUNCHING, SIZE_KEY, Instance
from airflow_transient.plugin.cache import Entry
from airflow_transient.plugin.handles import words_of
from airflow_transient.plugin.looking import HOOKS, PATIENCE, Source, each, sentence, utcnow

T = TypeVar("T")

#: Of an instance each look reads its bucket as well; of ECS tasks a hundred are one call.
LOOKED_AT = {"ec2": 20, "ecs": NAMED}
#: Seconds for which the end of a log is good.
LOG_AGE = 10.0
#: The first of these that any member is in, for a colour.
PHASES = {Phase.RUNNING: "running", Phase.STARTING: "starting", Phase.UNKNOWN: "unknown", Phase.ENDED: "ended"}


class NoSuchTask(TransientError):
    """Airflow has no such task instance."""


@dataclass(frozen=True)
class Log:
    """The end of one member's log; `note`: why there is none."""

    member: str | None = None
    lines: tuple[str, ...] = ()
    note: str | None = None


@dataclass(frozen=True)
class OneLaunch:
    """`read`: when its oldest part was, by the cache's clock. `words`: member -> how it is."""

    task: Instance
    phase: str
    state: str
    log: Log
    sources: tuple[Source, ...]
    read: float
    sightings: tuple[Sighting, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)


def one_launch(owner: Owner) -> OneLaunch:
    """
    What AWS does not say is told. Raises NoSuchTask, or what Airflow's database raises.

    :param owner: its deployment is ours, and need not be told.
    """
    entry = each({("instance", owner): partial(airflow_rows.instance, owner)})["instance", owner]
    task = entry.get()
    if task is None:
        raise NoSuchTask("There is no such task instance.")
    ours = each({"deployment": deployment})["deployment"].value or ""
    return _Looker(task, replace(owner, deployment=ours), entry).look()


class _Looker:
    """One look at one task's launch, which keeps what there is to say of those it asks."""

    def __init__(self, task: Instance, owner: Owner, entry: Entry[Any]) -> None:
        self._task, self._owner = task, owner
        self._read = [entry.at]
        self._said = [Source("Airflow")]

    def look(self) -> OneLaunch:
        launch, verdict = self._task.launch, self._task.verdict
        if launch is None or not launch.ids:
            phase, state = without_launch(self._task)
            return self._told(phase, state, Log(note="Nothing was launched, so nothing was logged."))
        ours = self._ours(launch)
        log = self._log(launch, ours, verdict)
        if verdict:
            counts = ", ".join(f"{count} {outcome}" for outcome, count in dict(verdict["counts"]).items())
            return self._told(f"{verdict['outcome']} ({counts})", "ended", log)
        if ours is None:
            return self._told("not seen: AWS could not be asked", "unknown", log)
        return self._observed(launch.with_ids(ours[: LOOKED_AT[launch.made_of]]), len(ours), log)

    def _told(self, phase: str, state: str, log: Log, **more: Any) -> OneLaunch:
        return OneLaunch(self._task, phase, state, log, tuple(self._said), min(self._read), **more)

    def _ours(self, launch: Launch) -> tuple[str, ...] | None:
        """Without what AWS shows as somebody else's; None: it did not say."""
        cluster = launch.ecs.cluster if launch.ecs else None
        place = Place(launch.made_of, launch.region, cluster, self._task.connection)
        asked = frozenset(launch.ids[:NAMED])
        seen = self._ask(str(place), ("ids", place, asked), partial(ids_at, place, asked))
        if seen and seen.error:
            self._said.append(Source(str(place), seen.error))
        if seen is None or seen.error:
            return None
        task = Task(self._owner, self._task.state, launch)
        others = {r.found.id for r in seen.resources if not belongs(r, r.found.owner_in(self._owner.deployment), task)}
        return tuple(id for id in launch.ids[:NAMED] if id not in others)

    def _observed(self, launch: Launch, count: int, log: Log) -> OneLaunch:
        if not launch.ids:
            return self._told("what its XCom names was not launched by this task", "unknown", log)
        observe = partial(sightings_of, self._task.connection, launch)
        seen = self._ask(f"The launch in {launch.region}", ("observe", launch), observe)
        if seen is None:
            return self._told("not seen: AWS could not be asked", "unknown", log)
        now = utcnow()
        words = {s.member: RULES[launch.kind].in_words(launch, s, now) for s in seen}
        rest = f", and {count - len(launch.ids)} that were not looked at" if count > len(launch.ids) else ""
        phase = wait_in_words(launch, seen, now) + rest
        return self._told(phase, state_of(seen), log, sightings=seen, words=words)

    # --- its log

    def _log(self, launch: Launch, ours: tuple[str, ...] | None, verdict: Mapping[str, Any]) -> Log:
        """Of the worst that failed, else of the first."""
        failed = [said for said in verdict.get("failed") or () if isinstance(said, Mapping)]
        member = str(failed[0].get("id")) if failed else launch.ids[0]
        if failed and (tail := failed[0].get("log_tail")):
            return Log(member, tuple(map(str, tail)))
        if ours is None:
            return Log(member, note="Not read: AWS could not be asked whether this is the task's own.")
        if member not in ours:
            return Log(member, note="Not read: this is not the task's own.")
        explain = partial(log_of, self._task.connection, launch, member)
        lines = self._ask("The log", ("log", launch, member), explain, LOG_AGE)
        return Log(member, lines or (), None if lines else why_no_log(launch))

    def _ask(self, name: str, key: Hashable, read: Callable[[], T], max_age: float | None = None) -> T | None:
        """None, with a sentence, where there is no answer."""
        entry = each({key: read}, PATIENCE.part / 2, max_age)[key]
        self._read.append(entry.at)
        if entry.error:
            self._said.append(Source(name, sentence(entry.error)))
            return None
        return entry.value


def sightings_of(connection: str | None, launch: Launch) -> tuple[Sighting, ...]:
    return HOOKS.of(connection).launcher(launch.kind).observe(launch, utcnow())


def log_of(connection: str | None, launch: Launch, member: str) -> tuple[str, ...]:
    return HOOKS.of(connection).launcher(launch.kind).explain(launch, member)


def ids_at(place: Place, ids: frozenset[str]) -> Look:
    return look_up(HOOKS.of(place.connection).client, place, ids, utcnow())


def without_launch(task: Instance) -> tuple[str, str]:
    """(in words, for a colour) of a task that has told of no launch."""
    reason = words_of(task.xcoms.get(SIZE_KEY)).get("reason")
    if reason and task.state == "skipped":
        return f"nothing was launched: {reason}", "ended"
    if task.state in ALIVE and task.operator in LAUNCHING:
        return "being launched", "launching"
    return "this task has launched nothing", "ended"


def state_of(seen: tuple[Sighting, ...]) -> str:
    phases = {sighting.phase for sighting in seen}
    return next((words for phase, words in PHASES.items() if phase in phases), "unknown")


def why_no_log(launch: Launch) -> str:
    if launch.kind == "ecs" and not (launch.ecs and launch.ecs.logs):
        return "Its containers write to no log that can be read here: awslogs with a stream prefix is."
    if launch.made_of == "ec2" and not launch.receipts:
        return "It has no `results`, so the console is all there is, and it says nothing yet."
    return "Nothing was written yet, or it cannot be read."
