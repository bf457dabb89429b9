"""Several at once, told in order, a few ahead and no more."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from airflow_transient.aws.in_order import AHEAD, in_order


def test_what_is_done_at_once_is_told_in_order() -> None:
    last_is_done = threading.Event()

    def act(number: int) -> int:
        if number == 0:
            assert last_is_done.wait(10)
        if number == 3:
            last_is_done.set()
        return number

    assert list(in_order(act, range(4), 2)) == [0, 1, 2, 3]


def test_no_more_is_asked_for_than_a_few_ahead() -> None:
    asked: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            asked.append(len(asked))
            yield asked[-1]

    told = in_order(lambda number: number, endless(), 3)
    assert [next(told) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(asked) == 3 * AHEAD + 4


def test_what_has_not_begun_is_not_done_after_an_error() -> None:
    done: list[int] = []
    go = threading.Event()

    def act(number: int) -> None:
        if number == 0:
            raise ValueError("no")
        go.wait(10)
        done.append(number)

    with pytest.raises(ValueError, match="no"):
        list(in_order(act, range(100), 1))
    go.set()
    assert len(done) <= 1


def test_nor_when_it_is_left() -> None:
    seen: list[int] = []
    told = in_order(seen.append, range(1000), 1)
    next(told)
    told.close()
    assert len(seen) < 10
