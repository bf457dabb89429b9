"""How a member ended that came from a group: by its receipt where it leaves one, else by EC2's word alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_transient import errors
from airflow_transient.core.asg.terms import GroupTerms
from airflow_transient.core.ec2.judging import CONSOLE_DELAY, Ec2Sighting
from airflow_transient.core.ec2.receipts import Receipt
from airflow_transient.core.judging import judge, to_stop, wait_in_words
from airflow_transient.core.launch import AT_DEADLINE, SWEPT, Launch
from airflow_transient.core.verdict import Outcome, Phase, Verdict
from airflow_transient.core.words import launched_in_words
from airflow_transient.retry import transient_retry_policy

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
LATER = T0 + timedelta(minutes=20)
OWN = GroupTerms("batch", 600, reports=False)
LAUNCH = Launch(
    "asg", "t0-1", "n0", ("i-1",), "eu-west-1", T0, T0 + timedelta(minutes=10), T0 + timedelta(hours=1), group=OWN
)
TRUSTING = replace(LAUNCH, group=replace(OWN, trust_shutdown=True))
REPORTING = replace(LAUNCH, group=replace(OWN, reports=True))
ITSELF, USER, SPOT = (
    "Client.InstanceInitiatedShutdown",
    "Client.UserInitiatedShutdown",
    "Server.SpotInstanceTermination",
)
UP = Ec2Sighting("i-1", Phase.RUNNING, state="running", launched=T0)


def gone(reason: str = ITSELF, state: str = "terminated", **what: Any) -> Ec2Sighting:
    return Ec2Sighting("i-1", Phase.ENDED, state=state, reason=reason, launched=T0, ended=LATER, **what)


def outcome(launch: Launch, seen: Ec2Sighting, now: datetime = LATER) -> Outcome | None:
    verdict = judge(launch, [seen], now)
    return verdict.outcome if verdict else None


@pytest.mark.parametrize(
    ("launch", "seen", "expected"),
    [
        pytest.param(LAUNCH, gone(), Outcome.UNVERIFIED, id="its own shutdown says nothing of its job"),
        pytest.param(LAUNCH, gone(state="stopped"), Outcome.UNVERIFIED, id="stopped by its own shutdown"),
        pytest.param(TRUSTING, gone(), Outcome.SUCCEEDED, id="its own shutdown, which is trusted"),
        pytest.param(
            TRUSTING, gone(USER, stopped_by=SWEPT), Outcome.SUCCEEDED, id="stopped by itself, then swept away"
        ),
        pytest.param(LAUNCH, gone(USER, stopped_by=SWEPT), Outcome.UNVERIFIED, id="the same without trust"),
        pytest.param(TRUSTING, gone(USER), Outcome.STOPPED, id="somebody ended it, whatever is trusted"),
        pytest.param(TRUSTING, gone(USER, stopped_by="deadline"), Outcome.OVERDUE, id="ended at its deadline"),
        pytest.param(TRUSTING, gone(USER, stopped_by="request"), Outcome.STOPPED, id="ended on request"),
        pytest.param(TRUSTING, gone(USER, stopped_by="never-booted"), Outcome.BOOT_FAILED, id="never in service"),
        pytest.param(TRUSTING, UP, None, id="it runs"),
        pytest.param(
            TRUSTING, replace(UP, boot_evidence="cloud-init ended"), None, id="its console never speaks of our script"
        ),
        pytest.param(REPORTING, gone(), None, id="a receipt that may still come"),
        pytest.param(
            REPORTING,
            gone(receipt=Receipt("n0", "i-1", "end", exit_code=3, cause="exit")),
            Outcome.FAILED,
            id="a receipt",
        ),
    ],
)
def test_how_it_ended(launch: Launch, seen: Ec2Sighting, expected: Outcome | None) -> None:
    assert outcome(launch, seen) is expected


def test_what_aws_took_back_was_interrupted_whatever_is_trusted() -> None:
    assert outcome(TRUSTING, gone(SPOT), LATER + CONSOLE_DELAY) is Outcome.INTERRUPTED


def test_a_machine_that_runs_its_own_user_data_is_not_stopped_for_lack_of_our_marker() -> None:
    late = LAUNCH.boot_by + timedelta(minutes=1)
    assert to_stop(LAUNCH, [replace(UP, boot_evidence="cloud-init ended")], late) == {}
    assert to_stop(LAUNCH, [UP], LAUNCH.deadline) == {AT_DEADLINE: ("i-1",)}


def test_what_stopped_by_itself_is_swept_away_and_not_called_overdue() -> None:
    assert to_stop(LAUNCH, [gone(state="stopped")], LATER) == {SWEPT: ("i-1",)}
    assert to_stop(LAUNCH, [gone()], LATER) == {}
    two = replace(LAUNCH, ids=("i-1", "i-2"))
    both = [gone(state="stopped"), replace(UP, member="i-2")]
    assert to_stop(two, both, two.deadline) == {AT_DEADLINE: ("i-2",), SWEPT: ("i-1",)}


def test_an_end_that_nobody_can_judge_says_whose_move_it_is() -> None:
    verdict = judge(LAUNCH, [gone()], LATER)
    assert verdict is not None
    with pytest.raises(errors.Unverified, match=r"ended-unverified: it shut itself down .* trust_shutdown=True"):
        verdict.raise_for_outcome()
    with pytest.raises(errors.Lost):
        verdict.raise_for_outcome()
    assert Verdict.from_dict(verdict.to_dict()) == verdict


def test_what_may_have_done_its_work_is_not_run_again() -> None:
    decision = transient_retry_policy.evaluate(errors.Unverified("x"), 1, 2)
    assert "a person decides" in str(decision.reason)


def test_a_launch_with_its_terms_survives_the_store() -> None:
    assert Launch.from_dict(TRUSTING.to_dict()) == TRUSTING
    assert TRUSTING.asked_at == T0
    assert TRUSTING.made_of == "ec2"


def test_the_wait_in_words() -> None:
    assert wait_in_words(LAUNCH, [replace(UP, boot_evidence="x")], LATER) == "i-1: running"
    assert wait_in_words(LAUNCH, [replace(UP, state="stopping")], LATER) == "i-1: shutting down"
    assert wait_in_words(LAUNCH, [gone(state="stopped")], LATER) == "i-1: stopped"
    assert "in group batch, eu-west-1" in launched_in_words(LAUNCH)
    assert "without receipts" in launched_in_words(LAUNCH)
