"""From what was seen to how it ended: the verdict table, row by row."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from airflow_transient import errors
from airflow_transient.core.ec2.judging import CONSOLE_DELAY, Ec2Sighting, billed_seconds
from airflow_transient.core.ec2.receipts import Receipt, boot_evidence, parse_receipt, parse_result, receipts_on_console
from airflow_transient.core.judging import judge, to_stop
from airflow_transient.core.launch import AT_DEADLINE, Launch
from airflow_transient.core.verdict import ERRORS, FAILED_TOLD, STOP_GRACE, UNANSWERED, Member, Outcome, Phase, Verdict

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
LAUNCH = Launch(
    kind="ec2",
    token="t0-1-1",
    nonce="n0",
    ids=("i-1",),
    region="eu-west-1",
    requested_at=T0,
    boot_by=T0 + timedelta(minutes=10),
    deadline=T0 + timedelta(hours=1),
    receipts="s3://b/p/t0-1-1/",
)
LATER = T0 + timedelta(minutes=20)
AFTER_CONSOLE = LATER + CONSOLE_DELAY
PAST_HOPE = LAUNCH.deadline + STOP_GRACE
OWN, USER, SPOT = "Client.InstanceInitiatedShutdown", "Client.UserInitiatedShutdown", "Server.SpotInstanceTermination"


def receipt(exit_code=0, **what):
    return replace(Receipt("n0", "i-1", "end", exit_code=exit_code, cause="exit", channel="bucket"), **what)


def gone(reason=OWN, **what):
    return Ec2Sighting("i-1", Phase.ENDED, state="terminated", reason=reason, launched=T0, ended=LATER, **what)


UP = Ec2Sighting("i-1", Phase.RUNNING, state="running", launched=T0)
UNSEEN = Ec2Sighting("i-1", Phase.UNKNOWN, note="throttled")
ABSENT = Ec2Sighting("i-1", Phase.UNKNOWN, note="EC2 does not know it", absent=True)


@pytest.mark.parametrize(
    ("seen", "now", "outcome"),
    [
        pytest.param(gone(receipt=receipt(0)), LATER, Outcome.SUCCEEDED, id="exit 0, own shutdown"),
        pytest.param(gone(SPOT, receipt=receipt(0)), LATER, Outcome.SUCCEEDED, id="reclaimed after its receipt said 0"),
        pytest.param(
            gone(USER, receipt=receipt(0)), LATER, Outcome.SUCCEEDED, id="terminated after its receipt said 0"
        ),
        pytest.param(gone(receipt=receipt(3)), LATER, Outcome.FAILED, id="exit 3"),
        pytest.param(gone(receipt=receipt(None, cause="signal", signal="SIGKILL")), LATER, Outcome.FAILED, id="signal"),
        pytest.param(gone(receipt=receipt(None, cause="oom-kill")), LATER, Outcome.FAILED, id="out of memory"),
        pytest.param(gone(receipt=receipt(143, cause="overdue")), LATER, Outcome.OVERDUE, id="its own timer"),
        pytest.param(gone(receipt=receipt(125, cause="setup", note="x")), LATER, Outcome.BOOT_FAILED, id="no secrets"),
        pytest.param(gone(SPOT, receipt=receipt(143, phase="cut")), LATER, Outcome.INTERRUPTED, id="cut by a reclaim"),
        pytest.param(gone(USER, receipt=receipt(143, phase="cut")), LATER, Outcome.STOPPED, id="cut by a person"),
        pytest.param(
            gone(OWN, receipt=receipt(0, phase="cut")), LATER, Outcome.SUCCEEDED, id="the script shut down itself"
        ),
        pytest.param(gone(OWN, receipt=receipt(1, phase="cut")), LATER, Outcome.FAILED, id="the same, having failed"),
        pytest.param(
            gone(USER, receipt=receipt(0, phase="cut")), LATER, Outcome.STOPPED, id="exit 0 because it was cut"
        ),
        pytest.param(gone(OWN), LATER, None, id="no receipt yet: the console is late"),
        pytest.param(gone(OWN), AFTER_CONSOLE, Outcome.LOST, id="no receipt: never success"),
        pytest.param(gone(None), AFTER_CONSOLE, Outcome.LOST, id="no receipt and no reason"),
        pytest.param(gone("Server.Novelty"), AFTER_CONSOLE, Outcome.LOST, id="a reason we do not know"),
        pytest.param(gone(SPOT), LATER, None, id="reclaimed: a receipt may still come"),
        pytest.param(gone(SPOT), AFTER_CONSOLE, Outcome.INTERRUPTED, id="reclaimed"),
        pytest.param(gone("Server.InternalError"), AFTER_CONSOLE, Outcome.INTERRUPTED, id="the host failed"),
        pytest.param(gone(USER), LATER, Outcome.STOPPED, id="terminated by the API"),
        pytest.param(gone("Client.VolumeLimitExceeded"), LATER, Outcome.BOOT_FAILED, id="no volume"),
        pytest.param(
            gone(OWN, boot_evidence="no shebang"), AFTER_CONSOLE, Outcome.BOOT_FAILED, id="cloud-init refused"
        ),
        pytest.param(
            gone(USER, boot_evidence="no shebang"), LATER, Outcome.BOOT_FAILED, id="stopped since it never boots"
        ),
        pytest.param(
            replace(gone(USER, boot_evidence="cut"), ended=T0), LATER, Outcome.STOPPED, id="stopped while it booted"
        ),
        pytest.param(
            replace(gone(USER), ended=LAUNCH.deadline), LAUNCH.deadline, Outcome.OVERDUE, id="stopped at the deadline"
        ),
        pytest.param(gone(OWN, receipt_known=False), AFTER_CONSOLE, None, id="the bucket is down: that is no answer"),
        pytest.param(gone(OWN, receipt_known=False), LAUNCH.deadline, None, id="nor is it one at the deadline"),
        pytest.param(gone(OWN, receipt_known=False), PAST_HOPE, Outcome.LOST, id="the bucket stays down"),
        pytest.param(
            gone(receipt=receipt(0), result_error="its result is not JSON"), LATER, Outcome.FAILED, id="bad result"
        ),
        pytest.param(
            gone(receipt=receipt(0), result_error="result unavailable: x"), LATER, Outcome.SUCCEEDED, id="unread result"
        ),
        pytest.param(UP, LATER, None, id="running"),
        pytest.param(UP, LAUNCH.deadline, None, id="running at the deadline: it is being stopped"),
        pytest.param(UP, PAST_HOPE, Outcome.OVERDUE, id="cannot be stopped"),
        pytest.param(UNSEEN, LATER, None, id="a failed look"),
        pytest.param(UNSEEN, LAUNCH.deadline, None, id="a failed look at the deadline"),
        pytest.param(UNSEEN, PAST_HOPE, None, id="a failed look long past the deadline"),
        pytest.param(UNSEEN, LAUNCH.deadline + UNANSWERED, Outcome.LOST, id="nobody answered for a day"),
        pytest.param(ABSENT, LATER, None, id="EC2 does not know it yet"),
        pytest.param(ABSENT, PAST_HOPE, Outcome.LOST, id="EC2 does not know it, and no receipt"),
        pytest.param(replace(ABSENT, receipt=receipt(0)), LATER, Outcome.SUCCEEDED, id="forgotten, with a receipt"),
        pytest.param(replace(ABSENT, receipt=receipt(2)), LATER, Outcome.FAILED, id="forgotten, having failed"),
        pytest.param(
            replace(ABSENT, receipt=receipt(143, phase="cut")), LATER, Outcome.INTERRUPTED, id="forgotten, cut down"
        ),
    ],
)
def test_the_verdict_table(seen, now, outcome):
    verdict = judge(LAUNCH, [seen], now)
    assert (verdict.outcome if verdict else None) == outcome


def test_all_members_must_have_ended_and_the_worst_decides():
    two = replace(LAUNCH, ids=("i-1", "i-2"))
    fine, bad = gone(receipt=receipt(0)), replace(gone(receipt=receipt(2)), member="i-2")
    assert judge(two, [fine, replace(UP, member="i-2")], LATER) is None
    verdict = judge(two, [fine, bad], LATER)
    assert verdict.outcome is Outcome.FAILED
    assert verdict.to_dict()["exit_code"] == 2
    with pytest.raises(errors.JobFailed, match=r"failed .1 of 2 members.*exit 2.*.i-2."):
        verdict.raise_for_outcome()


@pytest.mark.parametrize(
    ("state", "held", "why"),
    [
        pytest.param("stopped", 0, {AT_DEADLINE: ("i-1",)}, id="its disk is still paid for"),
        pytest.param("terminated", 0, {}, id="nothing is left of it"),
        pytest.param("stopped", 60, {}, id="it may be held"),
    ],
)
def test_what_has_ended_and_is_still_there_is_stopped(state, held, why):
    ended = replace(gone(receipt=receipt(0)), state=state)
    assert to_stop(replace(LAUNCH, hold_seconds=held), [ended], LATER) == why


def test_no_sighting_is_no_verdict():
    assert judge(LAUNCH, [], PAST_HOPE) is None


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.SUCCEEDED])
def test_every_bad_outcome_has_its_error(outcome):
    assert issubclass(ERRORS[outcome], errors.RunError)


def test_of_many_the_worst_are_told_in_short():
    members = tuple(Member(f"i-{n}", Outcome.FAILED if n else Outcome.LOST, f"exit {n}") for n in range(25))
    verdict = Verdict("t0-1", members[::-1])
    worst = ["i-0: lost: exit 0", *(f"i-{n}: failed: exit {n}" for n in range(24, 15, -1))]
    assert verdict.lines() == [*worst, "… and 15 more"]
    assert len(verdict.to_dict()["failed"]) == FAILED_TOLD


def test_a_launch_began_with_its_first_member_and_ended_with_its_last():
    times = {"launched": T0, "started": LATER, "ended": T0 + timedelta(hours=1)}
    first = Member("a", Outcome.SUCCEEDED, billed_seconds=60, **times)
    second = replace(first, id="b", **{name: moment + timedelta(hours=1) for name, moment in times.items()})
    said = Verdict("t0-1", (second, first)).to_dict()
    assert [said[name] for name in ("launched", "started", "ended")] == [
        moment.isoformat() for moment in (first.launched, first.started, second.ended)
    ]
    assert said["billed_seconds"] == 120


def test_a_verdict_survives_json():
    verdict = judge(LAUNCH, [gone(receipt=receipt(0, started=T0), result={"a": 1})], LATER)
    assert Verdict.from_dict(verdict.to_dict()) == verdict
    assert verdict.to_dict()["result"] == {"a": 1}
    assert verdict.to_dict()["log"] == "s3://b/p/t0-1-1/i-1/job.log"


def test_an_unavailable_result_is_no_null():
    said = judge(LAUNCH, [gone(receipt=receipt(0), result_error="result unavailable: x")], LATER).to_dict()
    assert "result" not in said
    assert said["result_error"] == "result unavailable: x"


@pytest.mark.parametrize(("seconds", "billed"), [(5, 60), (60, 60), (61, 61), (3600, 3600)])
def test_a_machine_costs_a_minute_at_least(seconds, billed):
    assert billed_seconds(T0, T0 + timedelta(seconds=seconds)) == billed


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '"x"', '{"nonce":"other","instance":"i","phase":"end"}', '{"nonce":"n0"}'],
    ids=["empty", "torn", "a list", "a word", "of another attempt", "of nobody"],
)
def test_what_is_not_our_receipt_is_none(text):
    assert parse_receipt(text, "n0", "bucket") is None


def test_a_receipt_is_read_from_a_noisy_console():
    console = (
        "[  3.1] cloud-init[9]: \r\nTRANSIENT "
        '{"nonce":"n0","instance":"i-1","phase":"started","started":"2026-11-21T12:00:00Z"}\r\n'
        'TRANSIENT {"nonce":"old","instance":"i-1","phase":"end","exit_code":0}\n'
        'TRANSIENT {"nonce":"n0","instance":"i-1","phase":"end","exi\n'
        '[ 99.0] cloud-init[9]: TRANSIENT {"nonce":"n0","instance":"i-1","phase":"end","exit_code":3}\n'
        "[ 99.9] reboot: Power down\n"
    )
    started, ended = receipts_on_console(console, "n0")
    assert started.started == T0
    assert (ended.exit_code, ended.channel) == (3, "console")


@pytest.mark.parametrize(
    ("console", "told"),
    [
        ("", False),
        ("[ 5.0] Linux version 6.1\n", False),
        ("Cloud-init v. 22.4.2 finished at Sat, 21 Nov 2026\n", True),
        ('TRANSIENT {"nonce":"n0","phase":"started"}\nCloud-init v. 22.4.2 finished at Sat\n', False),
        ("__init__.py[WARNING]: Unhandled non-multipart (text/x-not-multipart) userdata\n", True),
    ],
    ids=["nothing read", "still booting", "ended without us", "reached the job", "refused the script"],
)
def test_a_failed_boot_needs_evidence(console, told):
    assert bool(boot_evidence(console, "n0")) is told


@pytest.mark.parametrize(
    ("data", "declared", "result", "fault"),
    [
        (b'{"a": 1}', 8, {"a": 1}, None),
        (None, None, None, None),
        (None, 8, None, "result unavailable"),
        (b"x" * 9, 9, None, "not JSON"),
        (b"x", 20_000, None, "over the limit of 16,384; it is at s3://b/r"),
        (None, 20_000, None, "was not uploaded"),
    ],
    ids=["read", "none written", "not readable", "not JSON", "too large", "too large and gone"],
)
def test_a_result_is_read_or_its_fault_is_told(data, declared, result, fault):
    got, why = parse_result(data, declared, "s3://b/r")
    assert got == result
    assert (fault or "") in (why or "")
    assert bool(why) == bool(fault)
