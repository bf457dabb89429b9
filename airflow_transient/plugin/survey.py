"""Everything that runs, put together for whoever looks: Airflow's half, AWS's half, and what could not be asked.

The same for all who look; what one of them may see is taken out of it later. Either half is shown where the other one
cannot be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TypeVar

from airflow.configuration import conf

from airflow_transient.aws.listing import AT_MOST, NEEDED, look_at, look_up
from airflow_transient.core.launch import Owner
from airflow_transient.core.prices import read_prices
from airflow_transient.core.rows import Row
from airflow_transient.core.running import join, others, to_look_up
from airflow_transient.core.sources import Look, Place, Task
from airflow_transient.errors import SpecError
from airflow_transient.hooks.aws import DEFAULT_CONN_ID
from airflow_transient.hooks.deployment import deployment
from airflow_transient.plugin import airflow_rows
from airflow_transient.plugin.airflow_rows import MOST_TASKS, Waiting
from airflow_transient.plugin.looking import CALLS, HOOKS, Source, each, sentence, utcnow
from airflow_transient.plugin.places import Connection, places, read_documents

T = TypeVar("T")

#: So many places are asked, so many rows are told.
MOST_PLACES, MOST_ROWS = 40, 1000
#: Seconds for which it is good which regions and clusters were launched in lately, and which region a connection has.
RARELY = 60.0


@dataclass(frozen=True)
class Survey:
    """`read`: when its oldest part was, by the cache's clock. `gone`: DAGs of rows that Airflow has no more."""

    rows: tuple[Row, ...]
    sources: tuple[Source, ...]
    deployment: str | None
    now: datetime
    read: float
    truncated: bool = False
    gone: frozenset[str] = frozenset()
    prices: Mapping[str, float] = field(default_factory=dict)


def survey(max_age: float | None = None) -> Survey:
    """
    Raises nothing: what could not be asked is told.

    :param max_age: in seconds, of what AWS said; default the cache's.
    """
    return Surveyor(max_age).survey()


class Surveyor:
    """One look at everything, which keeps what there is to say of those it asks."""

    def __init__(self, max_age: float | None = None) -> None:
        self._max_age = max_age
        self._said: list[Source] = []
        self._read = [CALLS.clock()]
        self._truncated = False

    def survey(self) -> Survey:
        ours = self._ask("Airflow", "deployment", deployment)
        waiting = self._waiting(ours)
        tasks = [w.task for w in waiting or ()]
        looks = self._looks(self._places(waiting or []), ours) if ours else []
        looks += self._looks_by_id(tasks, looks)
        states = None if waiting is None else self._states(others(tasks, looks, ours))
        now = utcnow()
        rows = join(tasks, looks, states, ours, now)
        self._truncated |= len(rows) > MOST_ROWS
        shown, prices = rows[:MOST_ROWS], self._prices()
        gone = self._gone(shown)
        return Survey(shown, tuple(self._said), ours, now, min(self._read), self._truncated, gone, prices)

    # --- Airflow

    def _waiting(self, ours: str | None) -> list[Waiting] | None:
        """What runs or waits, the newest first; None: the database did not say."""
        if ours is None:
            self._said = self._said or [Source("Airflow", note="nothing was ever launched here")]
            return []
        waiting = self._ask("Airflow", ("waiting", ours), partial(airflow_rows.waiting, ours))
        if waiting is not None:
            self._said.append(Source("Airflow"))
            self._truncated |= len(waiting) > MOST_TASKS
        return waiting

    def _states(self, owners: set[Owner]) -> Mapping[Owner, str | None] | None:
        asked = frozenset(owners)
        read = partial(airflow_rows.states, asked)
        return self._ask("Airflow, about those for whom nobody waits", ("states", asked), read) if asked else {}

    def _gone(self, rows: Sequence[Row]) -> frozenset[str]:
        """Where Airflow does not say, no DAG is taken for deleted."""
        ids = frozenset(row.owner.dag_id for row in rows)
        if not ids:
            return ids
        known = self._ask("Airflow, about its DAGs", ("known", ids), partial(airflow_rows.known_dags, ids))
        return ids - known if known is not None else frozenset()

    def _prices(self) -> Mapping[str, float]:
        try:
            return read_prices(conf.get("transient", "prices", fallback=""))
        except SpecError as error:
            self._said.append(Source("Prices", sentence(error)))
            return {}

    # --- AWS

    def _places(self, waiting: Sequence[Waiting]) -> dict[Place, bool]:
        newest = self._ask("Airflow, about earlier launches", "newest", airflow_rows.newest_launches, RARELY)
        documents = self._ask("The jobs' store", "documents", read_documents)
        launches = [(w.task.launch, w.connection) for w in waiting if w.task.launch] + (newest or [])
        found = places(launches, documents or [], self._own_regions({c for _, c in launches} | {DEFAULT_CONN_ID}))
        if len(found) > MOST_PLACES:
            self._truncated = True
            self._said.append(Source("AWS", note=f"{len(found) - MOST_PLACES} more places were not looked at"))
        return dict(list(found.items())[:MOST_PLACES])

    def _own_regions(self, connections: Iterable[Connection]) -> dict[Connection, str]:
        """Without those that have none, or cannot be used: they are said."""
        asked = {("region", name): partial(own_region, name) for name in sorted(connections, key=str)}
        regions = {}
        for (_, name), entry in each(asked, max_age=RARELY).items():
            if entry.error:
                self._said.append(Source(f"AWS ({name})", sentence(entry.error), place=True))
            elif entry.value:
                regions[name] = entry.value
        return regions

    def _looks(self, named: Mapping[Place, bool], ours: str) -> list[Look]:
        asked = {("look", place): partial(look, place, ours) for place in named}
        looks = []
        for (_, place), entry in each(asked, max_age=self._max_age).items():
            self._read.append(entry.at)
            seen = entry.value or Look(place, utcnow(), error=said(entry.error))
            looks.append(seen)
            self._said.append(told(seen, named[place]))
            self._truncated |= seen.truncated
        return looks

    def _looks_by_id(self, tasks: Sequence[Task], looks: Sequence[Look]) -> list[Look]:
        """What AWS says of launches that are in none of its lists any more."""
        wanted = {place: frozenset(ids) for place, ids in to_look_up(tasks, looks).items()}
        asked = {("ids", place, ids): partial(ids_at, place, ids) for place, ids in wanted.items()}
        answers = {place: entry for (_, place, _), entry in each(asked, max_age=self._max_age).items()}
        return [entry.value or Look(place, utcnow(), error=said(entry.error)) for place, entry in answers.items()]

    def _ask(self, name: str, key: Hashable, read: Callable[[], T], max_age: float | None = None) -> T | None:
        """None, with a sentence, where there is no answer."""
        entry = each({key: read}, max_age=max_age)[key]
        if max_age is None:
            self._read.append(entry.at)
        if entry.error:
            self._said.append(Source(name, sentence(entry.error)))
            return None
        return entry.value


# --- questions to AWS


def own_region(connection: Connection) -> str:
    return str(HOOKS.of(connection).client("ec2").meta.region_name)


def look(place: Place, ours: str) -> Look:
    seen = look_at(HOOKS.of(place.connection).client, place, ours, utcnow())
    if seen.error and NEEDED in seen.error:
        HOOKS.drop(place.connection)  # perhaps its credentials have changed
    return seen


def ids_at(place: Place, ids: Iterable[str]) -> Look:
    return look_up(HOOKS.of(place.connection).client, place, ids, utcnow())


def told(seen: Look, named: bool) -> Source:
    """That somewhere nothing may be asked is no trouble where nothing is known to be there."""
    if seen.error and not named:
        return Source(str(seen.place), note=f"not looked at: {seen.error}", place=True)
    note = f"more than {AT_MOST} there: the rest is not shown" if seen.truncated else None
    return Source(str(seen.place), seen.error, note, place=True)


def said(error: BaseException | None) -> str:
    return sentence(error) if error else "no answer"
