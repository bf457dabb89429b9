"""When to look next, by tables."""

from __future__ import annotations

import math

import pytest

from airflow_transient.core.cadence import MOST, Pace, Pause, shared


@pytest.mark.parametrize(
    ("seconds", "cadence"),
    [(15, 15), (20, 15), (29.9, 15), (300, 300), (899, 600), (3600, 3600), (7, 5), (1, 1), (0.25, 0.25), (0, 0.01)],
)
def test_an_interval_is_rounded_down_to_a_shared_one(seconds: float, cadence: float) -> None:
    assert shared(seconds) == cadence


@pytest.mark.parametrize(
    ("now", "pause", "moment"),
    [
        pytest.param(100.0, Pause(15), 105.0, id="the next multiple"),
        pytest.param(105.0, Pause(15), 120.0, id="after now, and not now"),
        pytest.param(101.0, Pause(16), 105.0, id="an interval in between"),
        pytest.param(101.0, Pause(15, end=2.5), 103.5, id="its own end comes first"),
        pytest.param(101.0, Pause(15, end=60), 105.0, id="its own end is far"),
        pytest.param(101.0, Pause(15, least=13.5), 120.0, id="no sooner than so"),
        pytest.param(105.2, Pause(15, least=13.5), 120.0, id="from one to the next"),
        pytest.param(101.0, Pause(45, least=40.5), 150.0, id="an interval in between, and no sooner"),
    ],
)
def test_waits_of_one_interval_meet(now: float, pause: Pause, moment: float) -> None:
    assert Pace().next(now, pause) == pytest.approx(moment)


@pytest.mark.parametrize("seconds", [0.01, 1, 7, 15, 300, 1000])
@pytest.mark.parametrize("offset", [0.0, 3.7, 299.0])
def test_the_next_moment_is_ahead_and_no_later_than_asked(seconds: float, offset: float) -> None:
    pace = Pace(offset=offset)
    for now in (0.0, 12.34, 4711.0, 1e6 + 0.1):
        assert now < pace.next(now, Pause(seconds)) <= now + seconds + 1e-6


def test_two_offsets_look_at_different_moments() -> None:
    assert Pace(offset=3.0).next(100, Pause(15)) != Pace(offset=4.0).next(100, Pause(15))


def test_resistance_doubles_the_distance_up_to_a_bound() -> None:
    pace = Pace()
    for _ in range(10):
        pace = pace.after(struggled=True, offset=1.0)
    assert pace == Pace(MOST, 1.0)
    assert pace.next(1.0, Pause(15)) == 121


def test_without_resistance_the_distance_shrinks_again_to_what_was_asked() -> None:
    pace = Pace().after(struggled=True, offset=2.0)
    assert pace.stretch == 2
    assert pace.after(struggled=False, offset=9.0) == Pace(1.0, 2.0)
    assert Pace().after(struggled=False, offset=9.0) == Pace()


def test_an_end_of_its_own_is_exact_while_looks_are_stretched() -> None:
    assert Pace(MOST).next(100, Pause(15, end=3)) == 103
    assert Pause(15).end == math.inf


def test_what_is_looked_at_seldom_is_stretched_too() -> None:
    assert Pace(stretch=2).next(1.0, Pause(300)) == 600
