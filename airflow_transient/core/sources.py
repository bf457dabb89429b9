"""What the two sources of "running now" say: the places AWS is asked at, and Airflow's task instances."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from airflow_transient.core.launch import Launch, Owner
from airflow_transient.core.prices import Rates
from airflow_transient.core.reaping import ENDING, Found

#: EC2's states, then ECS's (in capitals), of what has ended.
OVER = frozenset({"terminated", "STOPPED", "DELETED"})


def short(cluster: str | None) -> str | None:
    """A cluster's name, of its name or ARN."""
    return cluster.rpartition("/")[2] if cluster else None


@dataclass(frozen=True)
class Place:
    """Where AWS is asked: a region's instances, or a cluster's tasks. Region None: the connection's own."""

    kind: str
    region: str | None
    cluster: str | None = None
    connection: str | None = None

    def __str__(self) -> str:
        what = f"ECS cluster {short(self.cluster)}" if self.cluster else "EC2"
        by = f" ({self.connection})" if self.connection else ""
        return f"{what} in {self.region or 'the region of its connection'}{by}"


@dataclass(frozen=True)
class Resource:
    """
    One instance or ECS task of ours. `attempt` is the token it was asked for with, `job` ECS's startedBy: they outlive
    its tags, which StopTask takes away. `billed_from` None: not billed yet, or nobody can say since when; `ended` None:
    not ended, or nobody can say when.
    """

    found: Found
    place: Place
    attempt: str | None = None
    job: str | None = None
    words: str = ""
    rates: Rates = ()
    billed_from: datetime | None = None
    ended: datetime | None = None

    @property
    def token(self) -> str | None:
        """Of the launch: all its attempts share it."""
        return self.attempt.rpartition("-")[0] if self.attempt else None

    @property
    def ending(self) -> bool:
        """On its way out, or gone."""
        return self.found.state in ENDING

    @property
    def over(self) -> bool:
        return self.found.state in OVER


@dataclass(frozen=True)
class Look:
    """What one place showed. With an error, or cut short, it says nothing about what it does not show."""

    place: Place
    at: datetime
    resources: tuple[Resource, ...] = ()
    error: str | None = None
    truncated: bool = False

    @property
    def complete(self) -> bool:
        return self.error is None and not self.truncated

    def covers(self, launch: Launch) -> bool:
        """Whether this is where the launch is, if it is in this connection's account."""
        if (self.place.kind, self.place.region) != (launch.made_of, launch.region):
            return False
        return launch.ecs is None or short(launch.ecs.cluster) == short(self.place.cluster)


@dataclass(frozen=True)
class Task:
    """What Airflow says of one task instance that launches, or waits for what was launched."""

    owner: Owner
    state: str | None
    launch: Launch | None = None
    since: datetime | None = None
