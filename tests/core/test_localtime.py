"""Schedules across changes of the clock: a table of what a person expects, and every zone there is."""

from __future__ import annotations

import itertools
import os
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo, available_timezones

import pytest
from apscheduler.triggers.cron import CronTrigger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from airflow_transient.core.localtime import DAY, in_utc
from airflow_transient.core.schedule import fires, last_fire, next_fire, parse

UTC = timezone.utc
SECOND = timedelta(seconds=1)
NEW_YORK, LORD_HOWE, SAMOA = "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


#: From this moment (UTC) on: the fires of that day, in UTC.
CHANGES: dict[str, tuple[str, str, str, list[str]]] = {
    # New York skips 02:00 to 03:00 on 8 March 2026, which is 07:00 UTC,
    "skipped: a named hour": ("0 30 2", NEW_YORK, "2026-03-08T05:00", ["07:30"]),
    "skipped: each minute of a named hour": ("0 */20 2", NEW_YORK, "2026-03-08T05:00", ["07:00", "07:20", "07:40"]),
    "skipped: a named hour and the one after it": ("0 30 2,3", NEW_YORK, "2026-03-08T05:00", ["07:30"]),
    "skipped: a range": ("0 0 1-4", NEW_YORK, "2026-03-08T05:00", ["06:00", "07:00", "08:00"]),
    "skipped: every hour": ("0 30 * * * 8", NEW_YORK, "2026-03-08T05:00", ["05:30", "06:30", "07:30", "08:30"]),
    "skipped: every second hour": ("0 0 */2", NEW_YORK, "2026-03-08T05:00", ["05:00", "07:00", "08:00", "10:00"]),
    # and shows 01:00 to 02:00 twice on 1 November: from 05:00 and from 06:00 UTC.
    "twice: a named hour": ("0 30 1", NEW_YORK, "2026-11-01T04:00", ["06:30"]),
    "twice: each minute of a named hour": ("0 */20 1", NEW_YORK, "2026-11-01T04:00", ["06:00", "06:20", "06:40"]),
    "twice: a list": ("0 30 0,1,2", NEW_YORK, "2026-11-01T04:00", ["04:30", "06:30", "07:30"]),
    "twice: a range": ("0 30 0-2", NEW_YORK, "2026-11-01T04:00", ["04:30", "06:30", "07:30"]),
    "twice: every hour": ("0 30", NEW_YORK, "2026-11-01T04:00", ["04:30", "05:30", "06:30", "07:30"]),
    "twice: a step that meets it": ("0 30 1-23/2", NEW_YORK, "2026-11-01T04:00", ["05:30", "06:30", "08:30"]),
    "twice: a step that does not": ("0 30 */2", NEW_YORK, "2026-11-01T04:00", ["04:30", "07:30", "09:30"]),
    "twice: a named hour beside steps": ("0 30 1,*/2", NEW_YORK, "2026-11-01T04:00", ["04:30", "06:30", "07:30"]),
    "twice: asked within the first": ("0 30", NEW_YORK, "2026-11-01T05:30:01", ["06:30", "07:30"]),
    "twice: asked within the second": ("0 30", NEW_YORK, "2026-11-01T06:30:01", ["07:30"]),
    # Lord Howe changes by half an hour: from 02:00 to 02:30, at 15:30 UTC,
    "half an hour skipped: a named hour": ("0 15,30 2", LORD_HOWE, "2026-10-03T15:00", ["15:30", "15:45"]),
    "half an hour skipped: every hour": ("0 0", LORD_HOWE, "2026-10-03T14:00", ["14:30", "16:00", "17:00"]),
    # and from 02:00 back to 01:30, at 15:00 UTC.
    "half an hour twice: a named hour": (
        "0 */15 1",
        LORD_HOWE,
        "2026-04-04T13:59",
        ["14:00", "14:15", "15:00", "15:15"],
    ),
    "half an hour twice: every hour": ("0 45", LORD_HOWE, "2026-04-04T14:00", ["14:45", "15:15", "16:15"]),
    # Samoa had no 30 December 2011: its noon is that of the 31st.
    "a whole day skipped": ("0 0 12", SAMOA, "2011-12-30T00:00", ["22:00"]),
}


@pytest.mark.parametrize(("text", "zone", "after", "wanted"), CHANGES.values(), ids=CHANGES)
def test_across_a_change_of_the_clock(text: str, zone: str, after: str, wanted: list[str]) -> None:
    found = fires(parse(text, zone), at(after), len(wanted))
    assert [f"{fire:%H:%M}" for fire in found] == wanted
    assert found[-1] - at(after) < DAY


def test_a_fire_after_a_spring_night_is_not_lost() -> None:
    """Why CronTrigger is told that the zone is UTC: told New York, it finds Monday the 16th."""
    trigger = CronTrigger(second=0, minute=30, hour=0, day_of_week="mon", timezone=NEW_YORK)
    assert trigger.get_next_fire_time(None, at("2026-03-07T05:00")).day == 16
    assert next_fire(parse("0 30 0 mon", NEW_YORK), at("2026-03-07T05:00")) == at("2026-03-09T04:30")


def test_a_change_is_seen_from_afar_too() -> None:
    """02:15 does not exist on that day and is shown as 02:45: after 02:30."""
    schedule = parse("0 15,30 2 * * 4 10", LORD_HOWE)
    assert next_fire(schedule, at("2026-01-01T00:00")) == at("2026-10-03T15:30")
    assert next_fire(schedule, at("2026-10-03T15:30:01")) == at("2026-10-03T15:45")


def test_the_last_fire_of_the_hour_that_is_twice() -> None:
    schedule = parse("0 30 1", NEW_YORK)
    assert last_fire(schedule, at("2026-11-01T05:00"), at("2026-11-01T06:00")) is None
    assert last_fire(schedule, at("2026-11-01T05:00"), at("2026-11-01T07:00")) == at("2026-11-01T06:30")


def test_a_pendulum_time_is_taken_as_the_moment_it_is() -> None:
    pendulum = pytest.importorskip("pendulum")
    moment = pendulum.datetime(2026, 3, 8, 12, 0, 0, 5, tz=NEW_YORK)
    assert type(in_utc(moment)) is datetime
    assert in_utc(moment) == at("2026-03-08T16:00:00.000005")
    assert type(next_fire(parse("0 0 9 mon * 1"), pendulum.datetime(2026, 1, 1))) is datetime
    assert next_fire(parse("0 0 9 mon * 1"), pendulum.datetime(2026, 1, 1)) == at("2026-06-01T09:00")


@pytest.mark.parametrize("edge", [datetime.min, datetime.max])
@pytest.mark.parametrize("hours", [-12, 14])
def test_the_ends_of_time_are_times_too(edge: datetime, hours: int) -> None:
    moment = edge.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert abs(in_utc(moment).replace(tzinfo=None) - edge) < DAY
    next_fire(parse("0 0 0"), moment)


# --- what holds for any zone

set_hypothesis_home_dir(os.environ["AIRFLOW_HOME"])  # no .hypothesis in the checkout
always = settings(
    derandomize=True, database=None, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow]
)
ZONES = sorted(available_timezones() - {"localtime"})
TEXTS = ["0", "0 0", "0 30 1", "0 30 2", "0 15,45 0-3", "0 */7 */2", "0 0 12", "0 0 0 mon", "17 3 1,*/3 * * 1-7"]
CHANGING = [NEW_YORK, LORD_HOWE, SAMOA, "Europe/Berlin", "Africa/Casablanca", "America/Santiago", "Asia/Gaza"]
moments = st.datetimes(datetime(2010, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC))


def changes(zone: str, year: int) -> list[datetime]:
    """When a zone's offset changes in a year, to six hours."""
    hours = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(0, 24 * 366, 6)]
    offsets = [hour.astimezone(ZoneInfo(zone)).utcoffset() for hour in hours]
    return [hour for hour, before, after in zip(hours, offsets, offsets[1:], strict=False) if before != after]


EDGES = [(zone, edge) for zone in CHANGING for year in (2011, 2025, 2026) for edge in changes(zone, year)]


@always
@given(st.sampled_from(EDGES), st.sampled_from(TEXTS), st.timedeltas(timedelta(hours=-30), timedelta(hours=30)))
def test_fires_go_forward_and_none_is_lost_around_a_change(
    edge: tuple[str, datetime], text: str, off: timedelta
) -> None:
    zone, change = edge
    schedule, after = parse(text, zone), change + off
    found = fires(schedule, after, 40)
    assert after <= found[0]
    assert all(one < then for one, then in itertools.pairwise(found))
    # Asked from anywhere before a fire, one gets this or an earlier one: no moment hides what comes.
    for begin, fire in zip((after, *(one + SECOND for one in found)), found, strict=False):
        for part in (0.1, 0.5, 0.9, 1):
            assert next_fire(schedule, begin + (fire - begin) * part) == fire


@always
@given(st.sampled_from(EDGES), st.sampled_from(TEXTS[1:]))
def test_away_from_a_change_local_time_is_as_written(edge: tuple[str, datetime], text: str) -> None:
    """What fires are, said the other way round: each local time that matches, read by its zone."""
    zone, change = edge
    schedule, begin = parse(text, zone), change - timedelta(days=3)
    naive = parse(text)
    local = [begin.astimezone(ZoneInfo(zone)), (change + timedelta(days=3)).astimezone(ZoneInfo(zone))]
    walls = list(all_fires(naive, *(one.replace(tzinfo=UTC) for one in local)))
    wanted = {
        wall.replace(tzinfo=ZoneInfo(zone), fold=1).astimezone(UTC) for wall in walls if not is_skipped(zone, wall)
    }
    found = set(all_fires(schedule, begin, change + timedelta(days=3)))
    assert wanted <= found
    # What is more is the first showing of a running hour, or made up for a skipped one.
    assert all(abs(one - change) <= DAY + timedelta(hours=2) for one in found - wanted)


def all_fires(schedule, begin: datetime, end: datetime) -> list[datetime]:  # type: ignore[no-untyped-def]
    found: list[datetime] = []
    while (fire := next_fire(schedule, begin)) and fire <= end:
        found.append(fire)
        begin = fire + SECOND
    return found


def is_skipped(zone: str, wall: datetime) -> bool:
    local = wall.replace(tzinfo=ZoneInfo(zone))
    return local.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) != wall.replace(tzinfo=None)


@always
@given(st.sampled_from(ZONES), st.sampled_from(TEXTS), moments)
def test_any_zone_gives_a_fire_at_or_after_the_moment(zone: str, text: str, after: datetime) -> None:
    schedule = parse(text, zone)
    fire = next_fire(schedule, after)
    assert fire is not None
    assert fire >= after
    assert next_fire(schedule, fire) == fire
    then = next_fire(schedule, fire + SECOND)
    assert then is not None
    assert then > fire


@pytest.mark.parametrize("zone", ZONES[::40])
def test_zones_change_no_oftener_than_the_search_supposes(zone: str) -> None:
    """It looks at one change in four days."""
    edges = [edge for year in range(2024, 2038, 3) for edge in changes(zone, year)]
    assert all(then - one > 4 * DAY for one, then in itertools.pairwise(edges))
