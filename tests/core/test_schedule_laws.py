"""What holds for any schedule of the eight-field dialect."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from operator import attrgetter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from airflow_transient.core.schedule import WILD, fires, last_fire, next_fire, parse, resolve, seeded

UTC = timezone.utc
SECOND = timedelta(seconds=1)

set_hypothesis_home_dir(os.environ["AIRFLOW_HOME"])  # no .hypothesis in the checkout
always = settings(
    derandomize=True, database=None, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow]
)
#: Numbers of each field, as a text may hold them.
BOUNDS = {
    "second": (0, 59),
    "minute": (0, 59),
    "hour": (0, 23),
    "day_of_week": (0, 6),
    "week": (1, 53),
    "day": (1, 31),
    "month": (1, 12),
    "year": (2024, 2033),
}
VALUES: dict[str, Callable[[datetime], int]] = {
    **{name: attrgetter(name) for name in ("second", "minute", "hour", "day", "month", "year")},
    "day_of_week": datetime.weekday,
    "week": lambda wall: wall.isocalendar()[1],
}
moments = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
Read = tuple[str, dict[str, set[int]]]


@st.composite
def expressions(draw: st.DrawFn, low: int, high: int) -> tuple[str, set[int]]:
    """A field's text, and the numbers it stands for."""
    first = draw(st.integers(low, high))
    last = draw(st.integers(first, high))
    step = draw(st.integers(1, max(1, min(high - low, last - first))))
    forms = [("*", range(low, high + 1)), (f"{first}", [first]), (f"{first}-{last}", range(first, last + 1))]
    if last > first:
        forms.append((f"{first}-{last}/{step}", range(first, last + 1, step)))
    if low < 1970 and high > low:
        forms.append((f"*/{step}", range(low, high + 1, step)))
    text, numbers = draw(st.sampled_from(forms))
    return text, set(numbers)


@st.composite
def texts(draw: st.DrawFn, most: int = 8) -> Read:
    names = list(BOUNDS)[: draw(st.integers(1, most))]
    words, numbers = {}, {}
    for name in names:
        # Each of eight fields drawn at will, almost none would ever fire.
        wide = draw(st.integers(0, 3)) and name in {"day_of_week", "week", "day", "month", "year"}
        parts = [("*", set(range(BOUNDS[name][0], BOUNDS[name][1] + 1)))] if wide else []
        parts = parts or draw(st.lists(expressions(*BOUNDS[name]), min_size=1, max_size=2))
        words[name] = ",".join(text for text, _ in parts)
        numbers[name] = set().union(*(values for _, values in parts)) if "*" not in words[name].split(",") else set()
    return " ".join(words.values()), {name: values for name, values in numbers.items() if values}


@always
@given(texts(), moments)
def test_a_fire_matches_all_fields_and_is_not_in_the_past(read: Read, after: datetime) -> None:
    text, numbers = read
    fire = next_fire(parse(text), after)
    if fire is not None:
        assert fire >= after
        assert fire.microsecond == 0
        assert fire.tzinfo is UTC
        assert [name for name, values in numbers.items() if VALUES[name](fire) not in values] == []


@always
@given(texts(most=3), moments)
def test_no_fire_is_left_out(read: Read, after: datetime) -> None:
    text, numbers = read
    begin = after.replace(minute=0, second=0, microsecond=0)
    every = (begin + SECOND * number for number in range(5400))
    wanted = [one for one in every if all(VALUES[name](one) in values for name, values in numbers.items())][:50]
    assert [one for one in fires(parse(text), begin, 50) if one < begin + SECOND * 5400] == wanted


@always
@given(texts(), moments, st.timedeltas(timedelta(), timedelta(days=400)))
def test_later_never_means_sooner(read: Read, after: datetime, more: timedelta) -> None:
    schedule = parse(read[0])
    first, then = next_fire(schedule, after), next_fire(schedule, after + more)
    assert then is None or (first is not None and first <= then)
    assert first is None or next_fire(schedule, first) == first
    assert first is None or first < after + more or first == then


@always
@given(texts(), moments, st.timedeltas(timedelta(), timedelta(days=40)), moments)
def test_no_fire_is_outside_its_limits(read: Read, start: datetime, length: timedelta, after: datetime) -> None:
    schedule = parse(read[0], start=start, end=start + length)
    assert all(max(start, after) <= fire <= start + length for fire in fires(schedule, after, 3))


@always
@given(texts(), moments, st.timedeltas(timedelta(), timedelta(hours=1)))
def test_the_last_fire_is_the_last_of_all(read: Read, not_before: datetime, length: timedelta) -> None:
    schedule, now = parse(read[0]), not_before + length
    latest = last_fire(schedule, not_before, now)
    if latest is None:
        following = next_fire(schedule, not_before)
        assert following is None or following > now
    else:
        assert not_before <= latest <= now
        assert next_fire(schedule, latest) == latest
        after = next_fire(schedule, latest + SECOND)
        assert after is None or after > now


wild_tokens = st.sampled_from(["?", "*", "0", "5-7", "*/10", "1,2"])


@always
@given(st.lists(wild_tokens, min_size=1, max_size=3), st.sampled_from([" ", "  ", "\t"]), st.text(max_size=9))
def test_resolving_changes_wildcards_only(tokens: list[str], space: str, seed: str) -> None:
    text = space.join(tokens) + f"{space}mon" * (len(tokens) == 3)
    resolved = resolve(text, seeded(seed))
    assert resolved == resolve(text, seeded(seed)) == resolve(resolved, seeded("another"))
    parse(resolved)
    assert re.sub(r"\S+", "", resolved) == re.sub(r"\S+", "", text)
    for name, before, after in zip(WILD, tokens, resolved.split(), strict=False):
        assert 0 <= int(after) <= WILD[name] if before == "?" else after == before
