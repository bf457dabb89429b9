"""Many who ask at once are one question; nobody waits for ever, and nobody is told what was before a change."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_transient.errors import LaunchError
from airflow_transient.plugin import cache as room
from airflow_transient.plugin.cache import Cache, StillAsking, TooMuchAtOnce

WAIT = 20.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Answers with how often it was asked; while `open` is not set, it lets wait."""

    def __init__(self) -> None:
        self.asked, self.begun, self.open = 0, threading.Event(), threading.Event()
        self.open.set()
        self.error: Exception | None = None

    def __call__(self) -> int:
        self.asked += 1
        number = self.asked
        self.begun.set()
        assert self.open.wait(WAIT)
        if self.error:
            raise self.error
        return number


@pytest.fixture(autouse=True)
def nobody_hurries(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine an answer may take longer than a person waits for a new one."""
    monkeypatch.setattr(room, "HURRY", WAIT)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> Cache:
    return Cache(threads=2, clock=clock)


@pytest.fixture
def source() -> Iterator[Source]:
    made = Source()
    yield made
    made.open.set()


def test_a_hundred_readers_at_once_are_one_question(cache: Cache, source: Source) -> None:
    source.open.clear()
    with ThreadPoolExecutor(100) as readers:
        asked = [readers.submit(cache.get, "key", source, WAIT) for _ in range(100)]
        assert source.begun.wait(WAIT)
        source.open.set()
        assert {entry.result(WAIT).get() for entry in asked} == {1}
    assert source.asked == 1


def test_a_hundred_coroutines_at_once_are_one_question(cache: Cache, source: Source) -> None:
    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(cache.wait("key", source, WAIT) for _ in range(100)))

    assert {entry.get() for entry in asyncio.run(all_of_them())} == {1}
    assert source.asked == 1


@pytest.mark.parametrize(("later", "times"), [(4.9, 1), (5.1, 2)])
def test_an_answer_is_good_for_five_seconds(
    cache: Cache, source: Source, clock: Clock, later: float, times: int
) -> None:
    cache.get("key", source, WAIT)
    clock.now += later
    assert cache.get("key", source, WAIT).get() == times


def test_each_key_has_its_own_answer(cache: Cache, source: Source) -> None:
    assert [cache.get(key, source, WAIT).get() for key in ("one", "other", "one")] == [1, 2, 1]


def test_an_error_is_an_answer_and_kept_as_long(cache: Cache, source: Source, clock: Clock) -> None:
    source.error = LaunchError("no")
    for _ in range(3):
        with pytest.raises(LaunchError, match="no"):
            cache.get("key", source, WAIT).get()
    assert source.asked == 1
    source.error = None
    clock.now += 5.1
    assert cache.get("key", source, WAIT).get() == 2


def get(cache: Cache, source: Source, patience: float) -> Any:
    return cache.get("key", source, patience)


def wait(cache: Cache, source: Source, patience: float) -> Any:
    return asyncio.run(cache.wait("key", source, patience))


both_ways = pytest.mark.parametrize("ask", [get, wait], ids=["a thread", "a coroutine"])
Ask = Callable[[Cache, Source, float], Any]


@both_ways
def test_who_waits_in_vain_is_told_so(cache: Cache, source: Source, ask: Ask) -> None:
    source.open.clear()
    with pytest.raises(StillAsking, match="still being asked for"):
        ask(cache, source, 0.01).get()


@both_ways
def test_what_comes_late_is_there_for_the_next_one(cache: Cache, source: Source, ask: Ask) -> None:
    source.open.clear()
    ask(cache, source, 0.01)
    source.open.set()
    assert ask(cache, source, WAIT).get() == 1
    assert source.asked == 1


@both_ways
def test_while_a_new_answer_does_not_come_the_old_one_is_given_with_its_age(
    cache: Cache, source: Source, clock: Clock, ask: Ask
) -> None:
    ask(cache, source, WAIT)
    clock.now += 30
    source.open.clear()
    entry = ask(cache, source, 0.01)
    assert (entry.get(), cache.age(entry)) == (1, 30)


@both_ways
def test_an_answer_that_is_too_old_is_none(cache: Cache, source: Source, clock: Clock, ask: Ask) -> None:
    ask(cache, source, WAIT)
    clock.now += 121
    source.open.clear()
    with pytest.raises(StillAsking):
        ask(cache, source, 0.01).get()


def test_an_answer_is_as_old_as_its_question(cache: Cache, source: Source, clock: Clock) -> None:
    source.open.clear()
    asked = cache.ask("key", source)
    assert source.begun.wait(WAIT)
    clock.now += 3
    source.open.set()
    assert cache.age(asked.result(WAIT)) == 3


def test_what_was_before_a_change_is_not_told_after_it(cache: Cache, source: Source, clock: Clock) -> None:
    cache.get("key", source, WAIT)
    cache.forget("key")
    assert cache.get("key", source, WAIT).get() == 2


def test_what_is_being_read_during_a_change_is_not_told_after_it(cache: Cache, source: Source, clock: Clock) -> None:
    source.open.clear()
    before = cache.ask("key", source)
    assert source.begun.wait(WAIT)
    clock.now += 1
    cache.forget("key")
    source.open.set()
    assert before.result(WAIT).get() == 1
    assert cache.get("key", source, WAIT).get() == 2


def test_a_reader_may_want_it_fresh(cache: Cache, source: Source) -> None:
    cache.get("key", source, WAIT)
    assert cache.get("key", source, WAIT, max_age=0).get() == 2


def test_no_more_is_kept_than_there_is_room_for(clock: Clock, source: Source) -> None:
    cache = Cache(threads=1, most=2, clock=clock)
    for key in ("first", "second", "third"):
        cache.get(key, source, WAIT)
    assert [cache.get(key, source, WAIT).get() for key in ("third", "second", "first")] == [3, 2, 4]


def test_no_more_wait_than_there_is_room_for(clock: Clock, source: Source) -> None:
    cache = Cache(threads=1, most=2, clock=clock)
    source.open.clear()
    asked = [cache.ask(key, source) for key in ("first", "second")]
    with pytest.raises(TooMuchAtOnce):
        cache.get("third", source, WAIT).get()
    source.open.set()
    assert [future.result(WAIT).get() for future in asked] == [1, 2]
    assert cache.get("third", source, WAIT).get() == 3


def test_who_gives_up_ends_no_reading(cache: Cache, source: Source) -> None:
    async def leave() -> None:
        leaving = asyncio.create_task(cache.wait("key", source, WAIT))
        await asyncio.to_thread(source.begun.wait, WAIT)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)

    source.open.clear()
    asyncio.run(leave())
    source.open.set()
    assert cache.get("key", source, WAIT).get() == 1


def test_what_nobody_expected_is_an_answer_too_and_in_the_log(
    cache: Cache, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    source.error = ZeroDivisionError("oops")
    with pytest.raises(ZeroDivisionError):
        cache.get("key", source, WAIT).get()
    assert "could not read key" in caplog.text


@both_ways
def test_where_nothing_is_to_be_kept_no_old_answer_is_given(source: Source, ask: Ask) -> None:
    """A second stop is not answered with how the first one went."""
    cache = Cache(threads=1, ttl=0, stale=0)
    assert ask(cache, source, WAIT).get() == 1
    source.open.clear()
    with pytest.raises(StillAsking):
        ask(cache, source, 0.01).get()
