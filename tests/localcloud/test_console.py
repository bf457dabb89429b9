"""What a console shows of its past."""

from __future__ import annotations

import pytest

from airflow_transient.localcloud import console
from airflow_transient.localcloud.console import SHOWN, Console


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_only_what_is_old_enough_is_shown(clock: list[float]) -> None:
    text = Console()
    for word in (b"one ", b"two ", b"three "):
        text.write(word)
        clock[0] += 1
    assert [text.last(age) for age in (0, 1, 2, 3, 4)] == [
        b"one two three ",
        b"one two three ",
        b"one two ",
        b"one ",
        b"",
    ]


def test_a_console_that_never_rests_is_late_all_the_same(clock: list[float]) -> None:
    text = Console()
    for number in range(1000):
        text.write(b"%03d " % number)
        clock[0] += 0.001
    assert 500 - 1000 * console.TICK - 1 <= int(text.last(0.5).split()[-1]) <= 500


def test_of_very_much_the_times_are_forgotten_too(clock: list[float]) -> None:
    text = Console()
    for _ in range(1000):
        text.write(b"x" * 4096)
        clock[0] += 1
    assert len(text.last()) == len(text.last(5)) == SHOWN
    assert text.last(500) == b""
    assert len(text._times) <= 4 * SHOWN // 4096 + 1
