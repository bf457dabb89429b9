"""The eight-field dialect: what the original said for each case, what it said wrongly, and when it fires."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from airflow_transient.core.schedule import (
    MAX_TEXT,
    Schedule,
    fires,
    in_words,
    last_fire,
    never,
    next_fire,
    parse,
    resolve,
    seeded,
)
from airflow_transient.errors import SpecError

UTC = timezone.utc
CASES = json.loads((Path(__file__).parents[1] / "data" / "ecs_scheduler_schedules.json").read_text(encoding="utf-8"))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NOW = at("2026-01-01T00:00:00")

# --- as the original


def is_ours(case: dict[str, Any]) -> bool:
    return len(case["schedule"].split()) <= 8


@pytest.mark.parametrize("case", [*filter(is_ours, CASES["schedule_next"])], ids=lambda case: case["schedule"])
def test_it_fires_as_the_original_does(case: dict[str, Any]) -> None:
    limits = [text and datetime.fromisoformat(text) for text in (case.get("scheduleStart"), case.get("scheduleEnd"))]
    schedule = parse(case["schedule"], case["timezone"], *limits)
    assert schedule.fields == case["fields"]
    now = datetime.fromisoformat(case["now"])
    wanted = [text for text in case["next"] if text]
    assert [fire.isoformat() for fire in fires(schedule, now, 4)] == wanted
    assert never(schedule, now) is not bool(wanted)


@pytest.mark.parametrize("case", CASES["schedule_invalid"], ids=lambda case: case["schedule"])
def test_it_refuses_in_the_original_s_words(case: dict[str, str]) -> None:
    with pytest.raises(SpecError) as raised:
        parse(case["schedule"])
    assert str(raised.value) == case["error"]


@pytest.mark.parametrize("case", CASES["wildcards"], ids=lambda case: case["schedule"])
def test_a_wildcard_is_stored_as_a_number(case: dict[str, Any]) -> None:
    stored = {resolve(case["schedule"], seeded(str(seed))) for seed in range(2000)}
    matches = [re.fullmatch(case["stored_regex"], text) for text in stored]
    numbers = zip(*(found.groups() for found in matches if found), strict=True)
    drawn = [{int(number) for number in column} for column in numbers]
    assert all(matches)
    ranges = [(min(column), max(column), len(column)) for column in drawn]
    assert ranges == [tuple(wanted) for wanted in case["observed_ranges"] if wanted]


# --- what the original got wrong, or said nothing about

(TOO_LONG,) = (case["schedule"] for case in CASES["schedule_next"] if not is_ours(case))
WORDS = "second minute hour day_of_week week day month year"
REFUSED: dict[str, tuple[Any, str]] = {
    "fields too many, which it dropped": (TOO_LONG, f"it has 10 fields; {WORDS} are all there are"),
    "empty": ("", 'it is empty; "0 */5" fires every five minutes'),
    "spaces, which fired each second": (" \t ", 'it is empty; "0 */5" fires every five minutes'),
    "a number": (5, "a schedule is a text, and this is int"),
    "nothing": (None, "a schedule is a text, and this is NoneType"),
    "a book": ("0," * MAX_TEXT + "0", f"it is 1001 characters long; {MAX_TEXT} is the most"),
    "a ? without a number": ("0 ?", 'the "?" for minute has no number yet; it is given one when the schedule is'),
    "a ? in a day": ("0 0 0 * * ?", 'Unrecognized expression "?" for field "day"'),
    "a ? with a step": ("?/5", 'Unrecognized expression "?/5" for field "second"'),
    "Sunday as 7": ("0 0 0 7", "Error validating expression '7': the last value (7) is higher than the maximum"),
    "a step of nothing": ("*/0", "Increment must be higher than 0"),
    "a gap in a list": ("1,,2", 'Unrecognized expression "" for field "second"'),
    "no such month": ("0 0 0 * * 1 yan", 'Invalid month name "yan"'),
    "a word with more behind it, which it dropped": (
        "0 0 0 mon#2",
        'Unrecognized expression "mon#2" for field "day_of',
    ),
    "a step of names, which it dropped": ("0 0 0 mon-fri/2", 'Unrecognized expression "mon-fri/2" for field "day_of_w'),
    "last without its _, which was the last day": ("0 0 0 * * lastfri", 'Unrecognized expression "lastfri" for field'),
}


@pytest.mark.parametrize(("text", "why"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_schedule_says_why(text: Any, why: str) -> None:
    with pytest.raises(SpecError) as raised:
        parse(text)
    assert str(raised.value).startswith(f"Invalid schedule syntax: {why}")


@pytest.mark.parametrize("text", ["0 0 0 * * ?", "?/5", "5?", "0 0 ?,4", "0 0 0 ?", "", None])
def test_a_wildcard_elsewhere_is_refused(text: Any) -> None:
    with pytest.raises(SpecError, match="Invalid schedule syntax: "):
        resolve(text, seeded("x"))


@pytest.mark.parametrize("name", ["FOO", "+05:00", "", "Europe", "right/UTC", "../UTC", "localtime", None, 1])
def test_a_zone_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(SpecError) as raised:
        parse("0", name)
    assert str(raised.value) == f"Invalid timezone format: {name}"


@pytest.mark.parametrize("name", ["europe/berlin", "EUROPE/BERLIN", "Europe/Berlin"])
def test_a_zone_s_name_is_read_in_any_case(name: str) -> None:
    schedule = parse("0 0 12", name)
    assert schedule.timezone == "Europe/Berlin"
    assert next_fire(schedule, NOW) == at("2026-01-01T11:00:00")


@pytest.mark.parametrize("word", ["start", "end"])
def test_a_limit_is_a_time(word: str) -> None:
    limits: dict[str, Any] = {word: "2026-01-01"}
    with pytest.raises(SpecError, match=f"{word} is '2026-01-01': it must be a date and time"):
        parse("0", **limits)


def test_equal_schedules_are_equal() -> None:
    assert parse(" 0   */15 ", "utc") == parse("0 */15")
    assert str(parse("0\t*/15", "europe/berlin")) == "0 */15 (Europe/Berlin)"


def test_one_that_exists_is_valid() -> None:
    with pytest.raises(SpecError):
        Schedule("60")
    with pytest.raises(SpecError):
        Schedule("0", "FOO")


def test_it_is_told_in_words() -> None:
    schedule = parse("0 30 9 mon-fri * 2nd_wed", "Europe/Berlin", start=datetime(2026, 1, 1), end=datetime(2027, 1, 1))
    fields = "second 0, minute 30, hour 9, day of week mon-fri, week *, day 2nd wed"
    limits = "from 2026-01-01T00:00:00+00:00; until 2027-01-01T00:00:00+00:00"
    assert in_words(schedule) == f"{fields}; Europe/Berlin; {limits}"


# --- when it fires

NEXT: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "the moment itself": ({"text": "0"}, "2026-01-01T00:00:00", "2026-01-01T00:00:00"),
    "a microsecond later": ({"text": "0"}, "2026-01-01T00:00:00.000001", "2026-01-01T00:01:00"),
    "just before": ({"text": "0"}, "2025-12-31T23:59:59.999999", "2026-01-01T00:00:00"),
    "the start itself": ({"text": "0", "start": datetime(2026, 2, 1)}, "2026-01-01T00:00:00", "2026-02-01T00:00:00"),
    "the end itself": ({"text": "0", "end": datetime(2026, 1, 1)}, "2026-01-01T00:00:00", "2026-01-01T00:00:00"),
    "after the end": ({"text": "0", "end": datetime(2026, 1, 1)}, "2026-01-01T00:00:01", None),
    "an end before its start": (
        {"text": "0", "start": datetime(2026, 2, 1), "end": datetime(2026, 1, 1)},
        "2026-01-01T00:00:00",
        None,
    ),
    "a start with an offset": (
        {"text": "0 0", "start": datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))},
        "2025-12-01T00:00:00",
        "2025-12-31T23:00:00",
    ),
    "fields are ANDed": ({"text": "0 0 9 mon * 1"}, "2026-01-01T00:00:00", "2026-06-01T09:00:00"),
    "0 is Monday": ({"text": "0 0 0 0"}, "2026-01-01T00:00:00", "2026-01-05T00:00:00"),
    "a Monday that is the 29th of February": (
        {"text": "0 0 0 mon * 29 2"},
        "2026-01-01T00:00:00",
        "2044-02-29T00:00:00",
    ),
    "a year far off": ({"text": "0 0 0 * * * * 9000"}, "2026-01-01T00:00:00", "9000-01-01T00:00:00"),
    "in the beginning": ({"text": "0 0 0"}, "0001-01-01T00:00:00", "1970-01-01T00:00:00"),
    "in the end": ({"text": "0 0 0"}, "9999-12-31T00:00:00", None),
}


@pytest.mark.parametrize(("words", "after", "fire"), NEXT.values(), ids=NEXT)
def test_the_next_fire(words: dict[str, Any], after: str, fire: str | None) -> None:
    assert next_fire(parse(**words), at(after)) == (fire and at(fire))


def test_a_time_without_an_offset_is_utc() -> None:
    assert next_fire(parse("0 0 12"), datetime(2026, 1, 1)) == at("2026-01-01T12:00:00")


@pytest.mark.parametrize(
    "text",
    [
        "0 0 0 * * 30 2",
        "* * * * * * * 2020",
        "10 12 22-23 sun 34 last 2 2012-2015",
        "* * * * 34 * 2",
        "* * * * 53 * 2-11",
        "0 0 0 tue 53 1-15",
        "0 0 0 * * 5th_mon 2 2045-9999/400",
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_one_that_never_fires_is_soon_known(text: str, zone: str) -> None:
    """A walk to the year 9999 takes 1.4 s; this takes up to 40 ms, and 3 ms when asked again."""
    schedule = parse(text, zone)
    began = perf_counter()
    assert never(schedule, NOW)
    assert perf_counter() - began < 0.5


LAST: dict[str, tuple[str, str, str, str | None]] = {
    "each second, in an hour": ("*", "2026-01-01T00:00:00", "2026-01-01T01:00:00.5", "2026-01-01T01:00:00"),
    "each minute": ("0", "2026-01-01T00:00:00", "2026-01-01T00:59:59", "2026-01-01T00:59:00"),
    "the first moment": ("0 0 0", "2026-01-01T00:00:00", "2026-01-01T00:59:59", "2026-01-01T00:00:00"),
    "just before the first moment": ("0 0 0", "2026-01-01T00:00:00.000001", "2026-01-01T00:59:59", None),
    "the last moment": ("0 0 1", "2026-01-01T00:00:00", "2026-01-01T01:00:00", "2026-01-01T01:00:00"),
    "just after the last moment": ("0 0 1", "2026-01-01T00:00:00", "2026-01-01T00:59:59.999999", None),
    "no time at all": ("*", "2026-01-01T00:00:01", "2026-01-01T00:00:00", None),
    "years": ("0 0 0 * * 29 2", "1970-01-01T00:00:00", "2026-01-01T00:00:00", "2024-02-29T00:00:00"),
}


@pytest.mark.parametrize(("text", "not_before", "now", "fire"), LAST.values(), ids=LAST)
def test_the_last_fire(text: str, not_before: str, now: str, fire: str | None) -> None:
    assert last_fire(parse(text), at(not_before), at(now)) == (fire and at(fire))


def test_a_seed_gives_the_same_numbers_in_each_process() -> None:
    script = "from airflow_transient.core.schedule import *; print(resolve('? ? ? mon', seeded('job.nightly')))"
    told = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert told == {resolve("? ? ? mon", seeded("job.nightly"))} == {"23 49 0 mon"}
