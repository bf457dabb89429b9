"""The eight-field dialect of the ECS Scheduler: text -> when it fires. No clock: the moment asked from is an argument.

Which local times match is APScheduler's arithmetic (its CronTrigger, told that the zone is UTC). What a local time
means in UTC is decided in `core/localtime.py`: across a change of the clock CronTrigger itself loses fires.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from calendar import isleap, weekday
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from hashlib import sha256

from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped]
from apscheduler.triggers.cron.fields import SEPARATOR, BaseField  # type: ignore[import-untyped]

from airflow_transient.core.localtime import Hours, first_instant, in_utc, zone, zone_name
from airflow_transient.errors import SpecError

UTC = timezone.utc
SECOND = timedelta(seconds=1)

FIELDS = ("second", "minute", "hour", "day_of_week", "week", "day", "month", "year")
#: The fields in which a ? may stand, and the largest number that takes its place.
WILD = {"second": 59, "minute": 59, "hour": 23}
#: Longer than any list of numbers that says something.
MAX_TEXT = 500
#: The grammar's years, less the last one: its end in UTC may be out of a datetime's range.
YEARS = range(1970, 9999)
#: Nothing fires before the grammar's years; of the time after them a day is kept for zones.
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 12, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Schedule:
    """One that exists is valid. `start` and `end` are inclusive and in UTC; make it with `parse`."""

    text: str
    timezone: str = "UTC"
    start: datetime | None = None
    end: datetime | None = None

    def __post_init__(self) -> None:
        _walls(self.text)
        zone(self.timezone)

    @property
    def fields(self) -> dict[str, str]:
        """The fields that were given, as APScheduler reads them."""
        return dict(_fields(self.text.split()))

    def __str__(self) -> str:
        return self.text if self.timezone == "UTC" else f"{self.text} ({self.timezone})"


def parse(text: str, timezone: str = "UTC", start: datetime | None = None, end: datetime | None = None) -> Schedule:
    """
    :param text: `second minute hour day_of_week week day month year`; fields on the right may be left out.
    :param timezone: a name of the IANA database, in any case.
    :param start: nothing fires before it; without an offset it is UTC.
    :param end: nothing fires after it.
    :raises SpecError: a sentence for whoever wrote it, APScheduler's where it has one.
    """
    return Schedule(" ".join(_tokens(text)), zone_name(timezone), _moment("start", start), _moment("end", end))


def resolve(text: str, draw: Callable[[int, int], int]) -> str:
    """The text with a number in the place of each `?` of second, minute and hour, drawn from left to right."""
    for name, token in zip(FIELDS, _tokens(text), strict=False):
        if "?" in token and not _is_wild(name, token):
            raise _invalid(f'a "?" stands alone, and for second, minute or hour: "{token}" for field "{name}"')
    names = iter(FIELDS)

    def drawn(token: re.Match[str]) -> str:
        name = next(names)
        return str(draw(0, WILD[name])) if _is_wild(name, token[0]) else token[0]

    return re.sub(r"\S+", drawn, text)


def seeded(seed: str) -> Callable[[int, int], int]:
    """A draw from low to high, both included, that gives the same numbers in each process."""
    turns = itertools.count()

    def draw(low: int, high: int) -> int:
        digest = sha256(f"{seed}\n{next(turns)}".encode()).digest()
        return low + int.from_bytes(digest[:8], "big") % (high - low + 1)

    return draw


def next_fire(schedule: Schedule, after: datetime) -> datetime | None:
    """The first fire at `after` or later, in UTC; None: there is none."""
    moment = max(filter(None, (in_utc(after), schedule.start, FIRST)))
    if moment > LAST:
        return None
    walls = _walls(schedule.text)
    fire = first_instant(walls.first, walls.hours, zone(schedule.timezone), _whole(moment))
    return None if fire is None or (schedule.end and fire > schedule.end) else fire


def fires(schedule: Schedule, after: datetime, count: int) -> tuple[datetime, ...]:
    """The first `count` fires at `after` or later; fewer where it ends."""
    found: list[datetime] = []
    while len(found) < count and (fire := next_fire(schedule, found[-1] + SECOND if found else after)):
        found.append(fire)
    return tuple(found)


def last_fire(schedule: Schedule, not_before: datetime, now: datetime) -> datetime | None:
    """The last fire from `not_before` to `now`, both included. A dozen looks for an hour of fires each second."""
    latest = next_fire(schedule, not_before)
    if latest is None or latest > in_utc(now):
        return None
    # Fires are whole seconds: `latest` is one, and after `bound` there is none up to now.
    bound = in_utc(now).replace(microsecond=0)
    while latest < bound:
        middle = latest + max(SECOND, (bound - latest) // 2 // SECOND * SECOND)
        fire = next_fire(schedule, middle)
        if fire is not None and fire <= bound:
            latest = fire
        else:
            bound = middle - SECOND
    return latest


def never(schedule: Schedule, after: datetime) -> bool:
    """It does not fire at `after` or later."""
    return next_fire(schedule, after) is None


def in_words(schedule: Schedule) -> str:
    """For who looks at it in a list: each field by its name, the zone, the limits."""
    said = [f"{name.replace('_', ' ')} {token}" for name, token in schedule.fields.items()]
    limits = [f"{word} {at.isoformat()}" for word, at in (("from", schedule.start), ("until", schedule.end)) if at]
    return "; ".join([", ".join(said), schedule.timezone, *limits])


# --- the words


def _tokens(text: str) -> list[str]:
    if not isinstance(text, str):
        raise _invalid(f"a schedule is a text, and this is {type(text).__name__}")
    tokens = text.split()
    if not tokens:
        raise _invalid('it is empty; "0 */5" fires every five minutes')
    if len(text) > MAX_TEXT:
        raise _invalid(f"it is {len(text)} characters long; {MAX_TEXT} is the most")
    if len(tokens) > len(FIELDS):
        raise _invalid(f"it has {len(tokens)} fields; {' '.join(FIELDS)} are all there are")
    return tokens


def _fields(tokens: Sequence[str]) -> Mapping[str, str]:
    # A day's expression may hold a space ("2nd wed"), for which people write _.
    return {
        name: token.replace("_", " ") if name == "day" else token for name, token in zip(FIELDS, tokens, strict=False)
    }


def _is_wild(name: str, token: str) -> bool:
    return token == "?" and name in WILD


def _invalid(why: str) -> SpecError:
    return SpecError(f"Invalid schedule syntax: {why}")


def _moment(name: str, given: datetime | None) -> datetime | None:
    if given is None or isinstance(given, datetime):
        return given and in_utc(given)
    raise SpecError(f"{name} is {given!r}: it must be a date and time")


def _whole(moment: datetime) -> datetime:
    """This second, if it has just begun, or the next."""
    return moment.replace(microsecond=0) + SECOND * bool(moment.microsecond)


# --- the local times that match, in a calendar without zones


@dataclass(frozen=True)
class _Walls:
    """The matching local times of one text. Immutable and cached, so a thousand jobs are read once."""

    text: str
    years: Sequence[int]
    hours: Hours

    def first(self, wall: datetime) -> datetime | None:
        """The first one at `wall` or later."""
        if wall.year in self.years and (found := _within(self.text, wall.year, wall)):
            return found
        # A walk up to the year 9999 takes seconds; this one asks each kind of year once.
        kinds = _kinds_of_years(self.text)
        for year in self.years[bisect_right(self.years, wall.year) :] if kinds else ():
            if _TWINS[year % 400] in kinds:
                return _within(self.text, year, datetime(year, 1, 1))
        return None


@lru_cache(maxsize=2048)
def _walls(text: str) -> _Walls:
    tokens = _tokens(text)
    for name, token in zip(FIELDS, tokens, strict=False):
        if _is_wild(name, token):
            raise _invalid(f'the "?" for {name} has no number yet; it is given one when the schedule is written')
    trigger = _trigger(text, None)
    by_name = {field.name: field for field in trigger.fields}
    for name, token in _fields(tokens).items():
        _refuse_half_read(by_name[name], token)
    return _Walls(text, _years(by_name["year"]), _hours(str(by_name["hour"])))


@lru_cache(maxsize=2048)
def _trigger(text: str, year: int | None) -> CronTrigger:
    """`year`: of this one only, so that no look walks further."""
    words = dict.fromkeys(FIELDS, "*") | dict(_fields(text.split()))
    try:
        return CronTrigger(**words | ({"year": str(year)} if year else {}), timezone=UTC)
    except ValueError as error:
        raise _invalid(str(error)) from None


def _refuse_half_read(field: BaseField, token: str) -> None:
    """CronTrigger reads "mon#2" as mon and "lastfri" as last: it looks at the beginning of some expressions only."""
    for part in SEPARATOR.split(token.strip()):
        if not any(compiler.value_re.fullmatch(part) for compiler in field.COMPILERS):
            raise _invalid(f'Unrecognized expression "{part}" for field "{field.name}"')


def _within(text: str, year: int, wall: datetime) -> datetime | None:
    found = _trigger(text, year).get_next_fire_time(None, wall.replace(tzinfo=UTC))
    return found and datetime(*found.timetuple()[:6])


@lru_cache(maxsize=8192)
def _kinds_of_years(text: str) -> frozenset[int]:
    """In which of the twins it fires; its year field does not count."""
    return frozenset(year for year in {*_TWINS} if _within(text, year, datetime(year, 1, 1)))


def _twins() -> list[int]:
    """For each year of the 400 after which the calendar repeats: one with the same days and ISO weeks."""
    first: dict[tuple[int, bool, bool], int] = {}
    for year in range(2000, 2400):
        # The year before counts too: whether the first days of January lie in its week 52 or 53.
        first.setdefault((weekday(year, 1, 1), isleap(year), isleap(year - 1)), year)
    return [first[weekday(year, 1, 1), isleap(year), isleap(year - 1)] for year in range(2000, 2400)]


_TWINS = _twins()


def _years(field: BaseField) -> Sequence[int]:
    if str(field) == "*":
        return YEARS
    found: list[int] = []
    year: int | None = YEARS.start
    while year is not None and (year := field.get_next_value(datetime(year, 1, 1))) in YEARS:
        found.append(year)
        year += 1
    return tuple(found)


def _hours(token: str) -> Hours:
    """Which hours go by the time that passes, and which are a name on the clock."""
    parts = token.split(",")
    running = ",".join(part for part in parts if "*" in part or "/" in part)
    if not running:
        return Hours()
    field = BaseField("hour", running)
    every = (datetime(2000, 1, 1, hour) for hour in range(24))
    return Hours(frozenset(at.hour for at in every if field.get_next_value(at) == at.hour), "*" in parts)
