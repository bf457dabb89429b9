"""What a queue's workers came to, and when no more of them would help."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_transient.core.verdict import Member, Outcome
from airflow_transient.core.workers.tally import GROWTHS_TOLD, MAX_FRUITLESS, Tally

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
AT = NOW.isoformat()


def machine(
    name: str = "i-1", outcome: Outcome = Outcome.SUCCEEDED, result: Mapping[str, Any] | None = None, seconds: int = 60
) -> Member:
    return Member(name, outcome, "seen", launched=NOW - timedelta(seconds=seconds), ended=NOW, result=result)


def test_receipts_are_summed() -> None:
    tally = Tally().ended([machine(result={"done": 3, "failed": 1}), machine(result={"done": 4, "dead_lettered": 1})])
    assert (tally.processed, tally.failed, tally.dead_lettered) == (7, 1, 1)
    assert (tally.machines, tally.machine_seconds, tally.unreported) == (2, 120, 0)


@pytest.mark.parametrize("result", [None, "text", {"other": 1}, {"done": "3"}, []])
def test_whatever_is_no_receipt_counts_as_none(result: Any) -> None:
    tally = Tally().ended([machine(result=result)])
    assert (tally.machines, tally.unreported, tally.processed) == (1, 1, 0)


def test_a_receipt_that_comes_late_is_counted_once() -> None:
    tally = Tally().ended([machine("i-1"), machine("i-2")]).found("i-2", {"done": 5})
    assert (tally.unread, tally.unreported, tally.processed) == (("i-1",), 1, 5)


@pytest.mark.parametrize(
    ("rounds", "may_grow"),
    [
        pytest.param([machine(result={"done": 1})] * 9, True, id="each did something"),
        pytest.param([machine(result={"done": 0, "dead_lettered": 1})] * 9, True, id="a dead letter is something"),
        pytest.param([machine(outcome=Outcome.INTERRUPTED)] * MAX_FRUITLESS, False, id="nothing, again and again"),
        pytest.param([machine(outcome=Outcome.INTERRUPTED)] * (MAX_FRUITLESS - 1), True, id="not yet"),
        pytest.param([machine()] * 9, True, id="they ended well, and nobody says that they did nothing"),
        pytest.param([machine(result={"done": 0})] * MAX_FRUITLESS, False, id="they found nothing"),
        pytest.param(
            [machine(outcome=Outcome.LOST), machine(outcome=Outcome.LOST), machine(result={"done": 1})] * 3,
            True,
            id="nothing, but not in a row",
        ),
        pytest.param(
            [machine(outcome=Outcome.FAILED, result={"done": 0, "problem": "no queue"})], False, id="cannot work"
        ),
        pytest.param(
            [machine(outcome=Outcome.FAILED, result={"done": 0, "failed": 3, "problem": "may not read"})],
            False,
            id="no rights",
        ),
    ],
)
def test_whether_more_would_help(rounds: list[Member], may_grow: bool) -> None:
    tally = Tally().grown(1, "the first", "then")
    for member in rounds:
        tally = tally.ended([member]).grown(1, "another", "then")
    assert tally.may_grow == may_grow


def test_a_growth_beside_those_that_live_is_no_round() -> None:
    tally = Tally()
    for _ in range(9):
        tally = tally.grown(1, "it grew", "then")
    assert tally.may_grow


def helpers(*results: Mapping[str, Any] | None, outcome: Outcome = Outcome.SUCCEEDED) -> list[Member]:
    return [machine(f"i-{n}", outcome, result) for n, result in enumerate(results)]


@pytest.mark.parametrize(
    ("ended", "slower"),
    [
        pytest.param(helpers({"done": 0}, {"done": 0}), True, id="they found nothing"),
        pytest.param(helpers({"done": 0}, {"done": 1}), False, id="one found something"),
        pytest.param(helpers({"done": 0, "dead_lettered": 1}), False, id="a dead letter is something"),
        pytest.param(helpers(None), False, id="it ended well, and nobody says that it did nothing"),
        pytest.param(helpers(None, outcome=Outcome.INTERRUPTED), False, id="taken back by AWS"),
        pytest.param(helpers(None, outcome=Outcome.BOOT_FAILED), True, id="it never booted"),
        pytest.param([], False, id="nobody has ended"),
    ],
)
def test_helpers_that_find_nothing_beside_one_that_works_slow_growth_down(ended: list[Member], slower: bool) -> None:
    tally = Tally().grown(9, "the first", AT).ended(ended).weighed(AT)
    assert (tally.not_before(60) is not None) == slower
    assert tally.may_grow


def test_each_time_they_find_nothing_they_are_fewer_and_later_and_never_none() -> None:
    tally, told = Tally(), []
    for _ in range(12):
        tally = tally.grown(9, "another", AT).ended(helpers({"done": 0})).weighed(AT)
        later = tally.not_before(60)
        assert later
        told.append((tally.at_most(9), (later - NOW).total_seconds() / 60))
    assert told[:6] == [(4, 2), (2, 4), (1, 8), (1, 16), (1, 32), (1, 60)]
    assert told[-1] == (1, 60)
    assert tally.may_grow
    found = tally.grown(1, "another", AT).ended(helpers({"done": 1})).weighed(AT)
    assert (found.at_most(9), found.not_before(60)) == (9, None)


def test_a_growth_that_was_refused_is_told_and_asked_for_later_each_time() -> None:
    once = Tally().turned_down("not allowed", AT)
    twice = once.turned_down("not allowed", AT)
    assert once.growth == ({"at": AT, "count": 0, "reason": "no more came: not allowed"},)
    assert [tally.not_before(60) for tally in (once, twice)] == [NOW + timedelta(minutes=n) for n in (2, 4)]
    assert twice.answered().not_before(60) is None
    assert twice.may_grow


def test_after_a_persons_stop_no_others_come_however_long_it_is_ago() -> None:
    assert Tally(stopped="a person").turned_down("not allowed", AT).not_before(60) is None


def test_what_the_last_machine_did_counts_before_more_are_given_up() -> None:
    tally = Tally(fruitless=MAX_FRUITLESS)
    assert not tally.may_grow
    assert tally.ended(helpers({"done": 5})).may_grow


def test_it_travels_as_json_and_stays_small() -> None:
    tally = Tally()
    for number in range(1000):
        tally = tally.ended([machine(f"i-{number:017x}", Outcome.LOST)]).grown(1, "jobs: 60 visible " * 5, "then")
    assert Tally.from_dict(json.loads(json.dumps(tally.to_dict()))) == tally
    assert len(tally.growth) == GROWTHS_TOLD
    assert len(json.dumps(tally.to_dict())) < 16_000


def test_nothing_written_down_is_nothing_done() -> None:
    assert Tally.from_dict(None) == Tally.from_dict({}) == Tally()
