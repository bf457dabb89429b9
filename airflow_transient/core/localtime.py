"""What a local time means in UTC, where clocks are put forward and back.

A local time that the clock skips is read with the offset before the change: 02:30 in New York on 8 March 2026 is 07:30
UTC, when the clock there shows 03:30. One that the clock shows twice is two moments, and for a named hour the second
of them: a job for 01:30 runs once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from airflow_transient.errors import SpecError

UTC = timezone.utc
#: The largest change of any clock: Samoa left out 30 December 2011.
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)

#: The first matching local time at a local time or later.
Walls = Callable[[datetime], "datetime | None"]


@dataclass(frozen=True)
class Hours:
    """
    How a schedule's hours go through a change of the clock.

    `running`: the hours that `*` or `/n` stands for. They are as far apart as the time that passes, so they run through
    the repeated hour twice. All others were named, alone or in a list or range, by who wants them once a day.
    `every`: a plain `*`; each hour that there is fires by itself, so none that is skipped has to be made up for.
    """

    running: frozenset[int] = frozenset()
    every: bool = False


def in_utc(moment: datetime) -> datetime:
    """A plain datetime in UTC; what has no offset is UTC. (pendulum's own, handed to APScheduler, gives wrong days.)"""
    plain = datetime(
        *(moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, moment.microsecond),
        tzinfo=UTC,
    )
    try:
        return plain - (moment.utcoffset() or timedelta())
    except OverflowError:  # the first and the last day there are
        return plain


def zone_name(given: str) -> str:
    """The name as the IANA database writes it."""
    name = _names().get(given.lower()) if isinstance(given, str) else None
    if name is None:
        raise SpecError(f"Invalid timezone format: {given}")
    return name


@lru_cache(maxsize=128)
def zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(zone_name(name))


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    # "localtime" is a file of the host, and no name.
    return {name.lower(): name for name in available_timezones() - {"localtime"}}


def first_instant(first: Walls, hours: Hours, zone: tzinfo, moment: datetime) -> datetime | None:
    """The first moment (UTC) at `moment` or later whose local time matches."""
    while True:
        walls = [wall for start in _starts(zone, moment) if (wall := first(start))]
        found = min((at for wall in walls for at in _instants(zone, wall, hours) if at >= moment), default=None)
        if found is not None and found <= moment + 2 * DAY:
            return found
        # `walls` knows the changes of the next days only, and nothing fires before `later`: look again from near it.
        later = [at for wall in walls if (at := _earlier(zone, wall)) > moment + 2 * DAY]
        if not later:
            return found
        moment = min(later) - DAY


def _starts(zone: tzinfo, moment: datetime) -> Iterator[datetime]:
    """The local times to look from: what the clock shows, and beside a change what it shows on the other side."""
    yield _wall(moment, _offset(zone, moment))
    # At least four days lie between two changes, in all zones since 1970.
    before, after = _offset(zone, moment - DAY), _offset(zone, moment + 3 * DAY)
    if before != after:
        change = _change(zone, moment - DAY, moment + 3 * DAY)
        yield _wall(moment, before)
        yield _wall(change, after)


def _change(zone: tzinfo, before: datetime, after: datetime) -> datetime:
    """The moment from which the clock shows another offset."""
    offset = _offset(zone, before)
    while after - before > SECOND:
        middle = before + (after - before) // 2 // SECOND * SECOND
        before, after = (middle, after) if _offset(zone, middle) == offset else (before, middle)
    return after


def _instants(zone: tzinfo, wall: datetime, hours: Hours) -> list[datetime]:
    early, late = _earlier(zone, wall), _later(zone, wall)
    if early == late:
        return [early]
    if late < early:  # the clock skips it: fold 0 has the offset before, fold 1 the larger one after
        return [] if hours.every else [early]
    return [early, late] if wall.hour in hours.running else [late]


def _earlier(zone: tzinfo, wall: datetime) -> datetime:
    return wall.replace(tzinfo=zone).astimezone(UTC)


def _later(zone: tzinfo, wall: datetime) -> datetime:
    return wall.replace(tzinfo=zone, fold=1).astimezone(UTC)


def _wall(moment: datetime, offset: timedelta) -> datetime:
    return moment.replace(tzinfo=None) + offset


def _offset(zone: tzinfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()
