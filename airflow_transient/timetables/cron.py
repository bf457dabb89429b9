"""A DAG's schedule with seconds, in the dialect of the ECS Scheduler: when Airflow shall make the next run."""

from __future__ import annotations

import warnings
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.timetables.base import DagRunInfo, DataInterval, Timetable

from airflow_transient.core.localtime import in_utc
from airflow_transient.core.schedule import SECOND, in_words, last_fire, never, next_fire, parse, resolve, seeded
from airflow_transient.errors import SpecError

if TYPE_CHECKING:
    from airflow.models.dag import DagModel
    from airflow.timetables.base import TimeRestriction

#: How late a fire may be and is still run, where nothing else is said.
GRACE = timedelta(seconds=60)
#: What column timetable_description of Airflow's table holds.
DESCRIPTION = 1000


class EightFieldCronTimetable(Timetable):
    """
    Run a DAG at each moment that `second minute hour day_of_week week day month year` names (docs/schedules.md).

    A fire that was missed by less than `grace` is run once, the last one of several. Before the first run of a DAG
    nothing is made up for, unless `not_before` says since when the schedule holds.

    :param schedule: up to eight fields; those left out on the right are `*`. Monday is 0. All of them must match.
    :param timezone: a name of the IANA database.
    :param start: nothing fires before it. Inclusive; without an offset it is UTC.
    :param end: nothing fires after it. Inclusive; without an offset it is UTC.
    :param seed: what a `?` becomes a number by, the same at each parse; the DAG's id is a good one.
    :param not_before: the schedule was made, changed or resumed then: what it missed since is run within `grace`.
    :param grace: how late a fire may be, and still be run.
    :raises SpecError: the schedule cannot be read, or has a `?` and no `seed`.
    """

    def __init__(
        self,
        schedule: str,
        timezone: str = "UTC",
        start: datetime | None = None,
        end: datetime | None = None,
        seed: str | None = None,
        not_before: datetime | None = None,
        grace: timedelta = GRACE,
    ) -> None:
        if grace < timedelta():
            raise SpecError(f"grace is {grace}: it must be 0 or more")
        self._schedule = parse(_resolved(schedule, seed), timezone, start, end)
        self._not_before = not_before and in_utc(not_before)
        self._grace = grace

    @property
    def summary(self) -> str:
        return f"{self._schedule} (never fires)" if self._never() else str(self._schedule)

    @property
    def description(self) -> str:  # type: ignore[override]
        said = in_words(self._schedule)
        return f"never fires: {said}"[:DESCRIPTION] if self._never() else said[:DESCRIPTION]

    def validate(self) -> None:
        """A warning only: a schedule that has come to its end is no reason to hide its DAG and its runs."""
        if self._never():
            warnings.warn(f"The schedule {self._schedule} never fires (any more)", stacklevel=2)

    def infer_manual_data_interval(self, *, run_after: pendulum.DateTime) -> DataInterval:
        return DataInterval.exact(run_after)

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        last = last_automated_data_interval and in_utc(last_automated_data_interval.end) + SECOND
        fire = self._due(last, _utc(restriction.earliest), restriction.catchup)
        if fire is None or (restriction.latest is not None and fire > in_utc(restriction.latest)):
            return None
        return _run(fire)

    def next_run_info_from_dag_model(self, *, dag_model: DagModel) -> DagRunInfo | None:
        """
        The run that is to be made now.

        What Airflow has noted as next may be old when the scheduler comes back. Where `not_before` is given there is no
        catching up, so the last missed fire takes its place: one run, and not one for each of the two.
        """
        noted = super().next_run_info_from_dag_model(dag_model=dag_model)
        if noted is None or self._not_before is None:
            return noted
        now = self._now()
        missed = last_fire(self._schedule, max(in_utc(noted.run_after), now - self._grace), now)
        return noted if missed is None else _run(missed)

    def _due(self, last: datetime | None, earliest: datetime | None, catchup: bool) -> datetime | None:
        """The next fire, or the last one missed within the grace."""
        now = self._now()
        floor = max(filter(None, (last, earliest, self._not_before)), default=now)
        if catchup:
            return next_fire(self._schedule, floor)
        # Airflow asks at each parse. Without a look back, a parse between a fire and its run would lose it.
        if (last or self._not_before) and (missed := last_fire(self._schedule, max(floor, now - self._grace), now)):
            return missed
        return next_fire(self._schedule, max(floor, now))

    def _never(self) -> bool:
        return never(self._schedule, max(filter(None, (self._now(), self._not_before))))

    def _now(self) -> datetime:
        return datetime.now(timezone.utc)

    def names(self, moment: datetime) -> bool:
        """Whether the schedule as it is, since it is, has a fire at this moment."""
        at = in_utc(moment)
        return at == next_fire(self._schedule, at) and (self._not_before is None or at >= self._not_before)

    def serialize(self) -> dict[str, Any]:
        """The `?` are numbers already, so there is no seed to keep."""
        return {
            "schedule": self._schedule.text,
            "timezone": self._schedule.timezone,
            "start": _text(self._schedule.start),
            "end": _text(self._schedule.end),
            "not_before": _text(self._not_before),
            "grace": self._grace.total_seconds(),
        }

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> EightFieldCronTimetable:
        start, end, not_before = (
            text and datetime.fromisoformat(text) for text in (data["start"], data["end"], data["not_before"])
        )
        grace = timedelta(seconds=data["grace"])
        return cls(data["schedule"], data["timezone"], start, end, not_before=not_before, grace=grace)

    def __eq__(self, other: object) -> bool:
        return self.serialize() == other.serialize() if isinstance(other, EightFieldCronTimetable) else NotImplemented

    def __hash__(self) -> int:
        return hash((self._schedule, self._not_before, self._grace))

    def __repr__(self) -> str:
        return f"<EightFieldCronTimetable {self._schedule}>"


def _resolved(schedule: str, seed: str | None) -> str:
    if seed is None and isinstance(schedule, str) and "?" in schedule:
        raise SpecError(
            f'The schedule "{schedule}" has a "?", which needs EightFieldCronTimetable(..., seed="..."):'
            " with the DAG's id as seed it keeps its time from parse to parse"
        )
    return resolve(schedule, seeded(seed or ""))


def _run(fire: datetime) -> DagRunInfo:
    # Only here, in UTC, does pendulum come in: its arithmetic and APScheduler's do not agree.
    return DagRunInfo.exact(pendulum.instance(fire))


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else in_utc(moment)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
