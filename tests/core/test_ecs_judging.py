"""From what was seen of ECS tasks to how they ended: the verdict table, row by row, and what is stopped."""

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from airflow_transient import errors
from airflow_transient.core.ecs.judging import ABSENT_FOR, UNKNOWN_AFTER, Container, EcsSighting, billed_seconds
from airflow_transient.core.ecs.terms import LogPlace, Terms
from airflow_transient.core.fallback import Scope
from airflow_transient.core.intent import STORE_LIMIT, Intent, Refusal, State
from airflow_transient.core.judging import HAND_ON_AFTER, judge, to_stop, unseen, wait_in_words
from airflow_transient.core.launch import AT_DEADLINE, BY_PERSON, BY_REQUEST, CALLED_OFF, NEVER_BOOTED, Launch
from airflow_transient.core.spec import Pool
from airflow_transient.core.verdict import STOP_GRACE, UNANSWERED, Member, Outcome, Phase, Verdict

T0 = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
TERMS = Terms("default", ("main",), start_seconds=2100, runtime_seconds=3600, need=1, wanted=1)
DEADLINE = T0 + timedelta(seconds=2100 + 3600 + 180)
LAUNCH = Launch(
    "ecs", "t0-1", "n0", ("a",), "eu-west-1", T0, boot_by=T0 + timedelta(seconds=2100), deadline=DEADLINE, ecs=TERMS
)
LATER = T0 + timedelta(minutes=15)
PAST_HOPE = DEADLINE + STOP_GRACE
EXITED = {"reason": "EssentialContainerExited", "detail": "Essential container in task exited"}
CAPACITY = "Capacity is unavailable at this time. Please try again later or in a different availability zone"


def gone(*codes, **what):
    """A task that has stopped; its containers are main, then proxy."""
    containers = tuple(Container(name, code) for name, code in zip(("main", "proxy"), codes, strict=False))
    told = {"launched": T0, "started": T0, "ended": LATER, "capacity": "FARGATE", "containers": containers}
    return EcsSighting("a", Phase.ENDED, "STOPPED", **told | EXITED | what)


def ended_by(reason, *codes, detail="", **what):
    return gone(*codes, reason=reason, detail=detail, **what)


def oom(code):
    return gone(containers=(Container("main", code, "OutOfMemoryError: Container killed due to memory usage"),))


def never(detail, *containers):
    return ended_by("TaskFailedToStart", detail=detail, started=None, containers=containers)


UP = EcsSighting("a", Phase.RUNNING, "RUNNING", launched=T0, started=T0)
PLACED = EcsSighting("a", Phase.STARTING, "PROVISIONING", launched=T0)
UNSEEN = EcsSighting("a", Phase.UNKNOWN, note="ThrottlingException: Rate exceeded")
ABSENT = EcsSighting("a", Phase.UNKNOWN, note="ECS says MISSING", absent=True)


@pytest.mark.parametrize(
    ("seen", "now", "outcome"),
    [
        pytest.param(gone(0), LATER, Outcome.SUCCEEDED, id="exit 0"),
        pytest.param(gone(3), LATER, Outcome.FAILED, id="exit 3"),
        pytest.param(gone(137), LATER, Outcome.FAILED, id="killed"),
        pytest.param(gone(0, 137), LATER, Outcome.SUCCEEDED, id="exit 0, and its sidecar was killed"),
        pytest.param(gone(0, 1), LATER, Outcome.SUCCEEDED, id="exit 0, and its sidecar failed"),
        pytest.param(gone(1, 0), LATER, Outcome.FAILED, id="exit 1, and its sidecar is fine"),
        pytest.param(gone(None), LATER, Outcome.LOST, id="no exit code: never success"),
        pytest.param(gone(None, 0), LATER, Outcome.LOST, id="no exit code, and its sidecar is fine"),
        pytest.param(gone(), LATER, Outcome.LOST, id="no container at all"),
        pytest.param(oom(137), LATER, Outcome.FAILED, id="out of memory"),
        pytest.param(oom(None), LATER, Outcome.LOST, id="out of memory, without a code"),
        pytest.param(ended_by(None, 0), LATER, Outcome.SUCCEEDED, id="no stopCode, exit 0"),
        pytest.param(ended_by(None, 2), LATER, Outcome.FAILED, id="no stopCode, exit 2"),
        pytest.param(ended_by("SpotInterruption", 0), LATER, Outcome.INTERRUPTED, id="spot, exit 0 on the signal"),
        pytest.param(ended_by("SpotInterruption", 143), LATER, Outcome.INTERRUPTED, id="spot, exit 143"),
        pytest.param(ended_by("SpotInterruption", None), LATER, Outcome.INTERRUPTED, id="spot, no code"),
        pytest.param(ended_by("TerminationNotice", 0), LATER, Outcome.INTERRUPTED, id="its host is retired"),
        pytest.param(ended_by("InfrastructureHealth"), LATER, Outcome.INTERRUPTED, id="its host failed"),
        pytest.param(
            ended_by(None, None, detail="Host EC2 (instance i-0a) terminated."),
            LATER,
            Outcome.INTERRUPTED,
            id="no host",
        ),
        pytest.param(
            gone(None, detail="Host EC2 (instance i-0a) stopped."), LATER, Outcome.INTERRUPTED, id="its host stopped"
        ),
        pytest.param(ended_by("UserInitiated", 0), LATER, Outcome.STOPPED, id="a person, exit 0 on the signal"),
        pytest.param(ended_by("UserInitiated", 143), LATER, Outcome.STOPPED, id="a person"),
        pytest.param(ended_by("ServiceSchedulerInitiated", 0), LATER, Outcome.STOPPED, id="a service"),
        pytest.param(never(CAPACITY), LATER, Outcome.BOOT_FAILED, id="capacity, after half an hour"),
        pytest.param(
            never("CannotPullContainerError: a:1: not found", Container("main")),
            LATER,
            Outcome.BOOT_FAILED,
            id="no image",
        ),
        pytest.param(UP, LATER, None, id="running"),
        pytest.param(replace(UP, stopping=True), LATER, None, id="on its way out"),
        pytest.param(PLACED, LATER, None, id="being placed"),
        pytest.param(UP, DEADLINE, None, id="running at the deadline: it is being stopped"),
        pytest.param(UP, PAST_HOPE, Outcome.OVERDUE, id="cannot be stopped"),
        pytest.param(PLACED, PAST_HOPE, Outcome.OVERDUE, id="cannot be stopped while it is placed"),
        pytest.param(UNSEEN, LATER, None, id="a failed look"),
        pytest.param(UNSEEN, PAST_HOPE, None, id="a failed look long past the deadline"),
        pytest.param(UNSEEN, DEADLINE + UNANSWERED, Outcome.LOST, id="nobody answered for a day"),
        pytest.param(ABSENT, T0 + UNKNOWN_AFTER - timedelta(seconds=1), None, id="MISSING early: not known yet"),
        pytest.param(ABSENT, T0 + UNKNOWN_AFTER, None, id="MISSING once: one answer may be behind"),
        pytest.param(
            replace(ABSENT, absent_since=T0),
            T0 + UNKNOWN_AFTER - timedelta(seconds=1),
            None,
            id="MISSING from the first",
        ),
        pytest.param(
            replace(ABSENT, absent_since=T0 + UNKNOWN_AFTER - ABSENT_FOR),
            T0 + UNKNOWN_AFTER,
            Outcome.LOST,
            id="MISSING late, at every look: forgotten",
        ),
    ],
)
def test_the_verdict_table(seen, now, outcome):
    verdict = judge(LAUNCH, [seen], now)
    assert (verdict.outcome if verdict else None) == outcome


@pytest.mark.parametrize(
    ("mark", "outcome"),
    [
        (BY_REQUEST, Outcome.STOPPED),
        (BY_PERSON, Outcome.STOPPED),
        (AT_DEADLINE, Outcome.OVERDUE),
        (NEVER_BOOTED, Outcome.BOOT_FAILED),
        (CALLED_OFF, Outcome.CALLED_OFF),
    ],
)
@pytest.mark.parametrize("code", [0, 143, None])
def test_what_one_of_us_stopped_is_what_its_mark_says(mark, outcome, code):
    seen = ended_by("UserInitiated", code, detail=f"airflow_transient: {mark}", stopped_by=mark)
    member = judge(LAUNCH, [seen], LATER).members[0]
    assert (member.outcome, member.missed) == (outcome, Scope.POOL if mark == NEVER_BOOTED else None)


def only(seen, now=LATER, **terms):
    launch = replace(LAUNCH, ecs=replace(TERMS, **terms))
    return judge(launch, [seen], now).members[0]


@pytest.mark.parametrize(
    ("deciding", "codes", "outcome"),
    [
        pytest.param(("main",), (0, 137), Outcome.SUCCEEDED, id="a sidecar that is not essential"),
        pytest.param(("main", "proxy"), (0, 137), Outcome.FAILED, id="a sidecar that is essential"),
        pytest.param(("main", "proxy"), (0, 0), Outcome.SUCCEEDED, id="both fine"),
        pytest.param(("main", "proxy"), (0, None), Outcome.LOST, id="one without a code"),
        pytest.param(("main", "proxy"), (0,), Outcome.LOST, id="one that is not shown"),
        pytest.param(("proxy",), (1, 0), Outcome.SUCCEEDED, id="deciding_containers names the other one"),
        pytest.param(("main", "proxy"), (3, None), Outcome.FAILED, id="one failed, the other has no code"),
    ],
)
def test_the_deciding_containers_decide(deciding, codes, outcome):
    assert only(gone(*codes), deciding=deciding).outcome is outcome


def test_an_essential_sidecar_that_was_killed_is_told_how_to_be_left_out():
    told = only(gone(0, 137), deciding=("main", "proxy")).evidence
    assert "proxy exit 137 (SIGKILL)" in told
    assert "deciding_containers" in told
    assert "deciding_containers" not in only(gone(137, 137), deciding=("main", "proxy")).evidence
    assert "deciding_containers" not in only(gone(137)).evidence


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        pytest.param(gone(0), "main exit 0", id="success"),
        pytest.param(gone(143), "main exit 143 (SIGTERM)", id="a signal by name"),
        pytest.param(oom(137), "raise the memory", id="out of memory"),
        pytest.param(oom(None), "raise the memory", id="out of memory, without a code"),
        pytest.param(gone(None), "main left no exit code", id="no code"),
        pytest.param(gone(), "main left no exit code", id="no container"),
        pytest.param(never(CAPACITY), f"never started: {CAPACITY}", id="capacity"),
        pytest.param(never(""), "AWS gave no reason", id="no reason"),
        pytest.param(
            never("Task failed to start", Container("main", None, "CannotPullContainerError: pull access denied")),
            "Task failed to start: CannotPullContainerError: pull access denied - the execution role",
            id="the container knows more",
        ),
        pytest.param(
            ended_by("SpotInterruption", 0, detail="Your Spot Task was interrupted."),
            "ECS says SpotInterruption: Your Spot Task was interrupted.",
            id="ECS's own words",
        ),
    ],
)
def test_the_evidence_says(seen, words):
    assert words in only(seen).evidence


@pytest.mark.parametrize(
    ("seen", "missed"),
    [
        pytest.param(never(CAPACITY), Scope.POOL, id="capacity given up"),
        pytest.param(
            never("Timeout waiting for network interface provisioning", Container("main")),
            Scope.AGAIN,
            id="no interface",
        ),
        pytest.param(never("CannotPullContainerError: not found", Container("main")), None, id="no image"),
        pytest.param(ended_by("SpotInterruption", 0), Scope.POOL, id="spot"),
        pytest.param(ended_by("InfrastructureHealth"), Scope.POOL, id="the host failed"),
        pytest.param(gone(1), None, id="the job failed"),
        pytest.param(gone(None), None, id="no exit code"),
        pytest.param(ended_by("UserInitiated", 0), None, id="stopped by a person"),
    ],
)
def test_what_aws_and_not_the_job_has_ended_may_be_replaced(seen, missed):
    assert only(seen).missed is missed


def test_a_member_tells_every_containers_code_and_its_times():
    member = only(gone(3, 0, pulled=T0 + timedelta(minutes=5)))
    assert (member.exit_code, member.exit_codes) == (3, {"main": 3, "proxy": 0})
    assert (member.started, member.ended, member.billed_seconds) == (T0, LATER, 600)
    assert only(gone(3)).exit_codes is None


@pytest.mark.parametrize(
    ("what", "billed"),
    [
        ({"capacity": "FARGATE"}, 900),
        ({"capacity": "FARGATE_SPOT"}, 900),
        ({"capacity": "FARGATE", "pulled": LATER - timedelta(seconds=5)}, 60),
        ({"capacity": "my-instances"}, 0),
        ({"capacity": "EC2"}, 0),
        ({"capacity": None}, 0),
        ({"started": None}, 0),
    ],
    ids=["Fargate", "spot", "a minute at least", "instances", "a launch type", "nobody says", "never started"],
)
def test_fargate_is_billed_from_the_pull_to_the_end(what, billed):
    assert billed_seconds(gone(0, **what), LATER) == billed


def test_the_launch_of_another_kind_is_no_launch_of_tasks():
    with pytest.raises(ValueError, match="not one of ECS tasks"):
        judge(replace(LAUNCH, ecs=None), [gone(0)], LATER)


# --- many


def many(count=3, **terms):
    return replace(
        LAUNCH, ids=tuple("abcdefghij"[:count]), ecs=replace(TERMS, **{"need": count, "wanted": count} | terms)
    )


def named(name, seen):
    return replace(seen, member=name)


def test_all_must_have_ended_and_the_worst_decides():
    launch, fine, bad = many(2), gone(0), named("b", gone(2))
    assert judge(launch, [fine, named("b", UP)], LATER) is None
    verdict = judge(launch, [fine, bad], LATER)
    assert (verdict.outcome, verdict.worst.id) == (Outcome.FAILED, "b")
    with pytest.raises(errors.JobFailed, match=r"failed .1 of 2 members.*1 succeeded and 2 must.*main exit 2 .b."):
        verdict.raise_for_outcome()


@pytest.mark.parametrize(
    ("need", "codes", "outcome"),
    [
        (3, (0, 0, 0), Outcome.SUCCEEDED),
        (3, (0, 0, 1), Outcome.FAILED),
        (2, (0, 0, 1), Outcome.SUCCEEDED),
        (2, (0, 1, 1), Outcome.FAILED),
        (0, (1, 1, 1), Outcome.SUCCEEDED),
    ],
)
def test_as_many_as_min_success_are_enough(need, codes, outcome):
    seen = [named(name, gone(code)) for name, code in zip("abc", codes, strict=True)]
    assert judge(many(need=need), seen, LATER).outcome is outcome


def test_a_verdict_is_read_by_a_dag_author():
    seen = [gone(0), named("b", gone(3)), named("c", ended_by("SpotInterruption", None))]
    said = judge(many(), seen, LATER).to_dict()
    assert (said["kind"], said["need"], said["outcome"]) == ("ecs", 3, "failed")
    assert said["counts"] == {"succeeded": 1, "failed": 1, "interrupted": 1}
    assert said["exit_codes"] == {"0": 1, "3": 1, "none": 1}
    assert [each["id"] for each in said["failed"]] == ["b", "c"]
    assert json.loads(json.dumps(said)) == said


def test_enough_successes_are_told_with_a_success_exit_code():
    said = judge(many(need=2), [gone(0), named("b", gone(0)), named("c", gone(3))], LATER).to_dict()
    assert (said["outcome"], said["exit_code"]) == ("succeeded", 0)
    assert [each["id"] for each in said["failed"]] == ["c"]


def test_what_has_ended_is_handed_on_before_aws_forgets_it():
    ended = replace(gone(0), ended=T0)
    seen = [ended, named("b", UP), named("c", UNSEEN)]
    assert judge(many(), seen, T0 + HAND_ON_AFTER - timedelta(seconds=1)) is None
    verdict = judge(many(), seen, T0 + HAND_ON_AFTER)
    assert ([m.id for m in verdict.members], verdict.open) == (["a"], ("b", "c"))
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict


def test_a_single_one_is_never_handed_on():
    assert judge(LAUNCH, [gone(0, ended=T0)], T0 + HAND_ON_AFTER).open == ()


def test_what_is_handed_on_is_not_asked_for_again():
    intent = Intent("t0", 2, state=State.PLACED, launch=many(need=3), wanted=3)
    verdict = judge(intent.launch, [replace(gone(0), ended=T0), named("b", UP), named("c", UP)], T0 + HAND_ON_AFTER)
    left = intent.handed_on(verdict.members)
    assert (left.launch.ids, left.launch.ecs.need, left.need) == (("b", "c"), 2, 3)
    last = judge(left.launch, [named("b", gone(0)), named("c", gone(0))], LATER + HAND_ON_AFTER)
    whole = last.joined(left.ended, left.handed_on(last.members).need)
    assert (whole.outcome, whole.need, [m.id for m in whole.members]) == (Outcome.SUCCEEDED, 3, ["a", "b", "c"])


def test_what_may_be_replaced_is_still_to_be_placed():
    members = [only(gone(0)), only(gone(1)), only(ended_by("SpotInterruption"))]
    intent = Intent("t0", 2, launch=many(), wanted=3).handed_on(
        replace(member, id=name) for member, name in zip(members, "abc", strict=True)
    )
    assert (intent.to_place, intent.launch.ids) == (1, ())
    # The one that failed will not be replaced, and so is no part of those that may still succeed.
    assert (intent.launch.ecs.wanted, intent.launch.ecs.need) == (1, 2)


def test_a_look_that_failed_is_unknown_for_every_member():
    seen = unseen(many(), "the network is down")
    assert [(s.member, s.phase, s.absent) for s in seen] == [(name, Phase.UNKNOWN, False) for name in "abc"]
    assert judge(many(), seen, LATER) is None


# --- what is stopped


RUN_OUT = T0 + timedelta(seconds=3600)
NOT_STARTED = T0 + timedelta(seconds=2100)


@pytest.mark.parametrize(
    ("seen", "now", "why"),
    [
        pytest.param(UP, LATER, None, id="running"),
        pytest.param(UP, RUN_OUT - timedelta(seconds=1), None, id="a second left"),
        pytest.param(UP, RUN_OUT, AT_DEADLINE, id="it ran its time out"),
        pytest.param(replace(UP, started=LATER), RUN_OUT, None, id="it began later"),
        pytest.param(replace(UP, started=None), RUN_OUT, None, id="nobody says when it began"),
        pytest.param(replace(UP, started=DEADLINE), DEADLINE, AT_DEADLINE, id="the launch's deadline"),
        pytest.param(replace(UP, stopping=True), RUN_OUT, None, id="it is being stopped already"),
        pytest.param(PLACED, NOT_STARTED - timedelta(seconds=1), None, id="it may still start"),
        pytest.param(PLACED, NOT_STARTED, NEVER_BOOTED, id="it did not start in time"),
        pytest.param(replace(PLACED, state="PENDING"), NOT_STARTED, NEVER_BOOTED, id="nor did it leave PENDING"),
        pytest.param(replace(PLACED, launched=LATER), NOT_STARTED, None, id="it was accepted later"),
        pytest.param(replace(PLACED, launched=None), NOT_STARTED, NEVER_BOOTED, id="nobody says when"),
        pytest.param(gone(0), DEADLINE, None, id="it has ended"),
        pytest.param(UNSEEN, DEADLINE, None, id="a failed look stops nothing"),
        pytest.param(ABSENT, RUN_OUT, None, id="what is forgotten is not stopped"),
    ],
)
def test_each_task_has_its_own_time(seen, now, why):
    assert to_stop(LAUNCH, [seen], now) == ({why: ("a",)} if why else {})


def test_each_is_stopped_for_its_own_reason():
    seen = [UP, named("b", replace(UP, started=RUN_OUT)), named("c", PLACED)]
    assert to_stop(many(), seen, RUN_OUT) == {AT_DEADLINE: ("a",), NEVER_BOOTED: ("c",)}


@pytest.mark.parametrize(
    ("ended", "terms", "stopped"),
    [
        pytest.param(gone(1), {"stop_on_failure": True}, ("b", "c"), id="one failed, and all must succeed"),
        pytest.param(gone(1), {"stop_on_failure": False}, (), id="nobody asked for that"),
        pytest.param(gone(1), {"stop_on_failure": True, "need": 2}, (), id="two are left, and two are needed"),
        pytest.param(gone(1), {"stop_on_failure": True, "need": 0}, (), id="none is needed"),
        pytest.param(gone(0), {"stop_on_failure": True}, (), id="it succeeded"),
        pytest.param(gone(None), {"stop_on_failure": True}, ("b", "c"), id="one is lost"),
        pytest.param(
            ended_by("SpotInterruption", 0), {"stop_on_failure": True}, (), id="one was taken back and is replaced"
        ),
        pytest.param(never(CAPACITY), {"stop_on_failure": True}, (), id="one never started and is replaced"),
    ],
)
def test_a_burst_that_cannot_succeed_any_more_is_called_off(ended, terms, stopped):
    why = to_stop(many(**terms), [ended, named("b", UP), named("c", PLACED)], LATER)
    assert why == ({CALLED_OFF: stopped} if stopped else {})


def test_nothing_is_called_off_twice():
    seen = [gone(1), named("b", replace(UP, stopping=True)), named("c", PLACED)]
    assert to_stop(many(stop_on_failure=True), seen, LATER) == {CALLED_OFF: ("c",)}


def test_what_was_handed_on_still_counts_for_calling_off():
    """One of four failed and was handed on; three are needed: of the three left none may fail."""
    left = many(4, need=3, stop_on_failure=True).without({"a"}, successes=0, others=1)
    assert to_stop(left, [named(name, UP) for name in "bcd"], LATER) == {}
    seen = [named("b", gone(1)), named("c", UP), named("d", UP)]
    assert to_stop(left, seen, LATER) == {CALLED_OFF: ("c", "d")}


def test_a_part_that_came_is_not_called_off_for_what_is_still_to_come():
    """Ten were wanted, nine must succeed, and there was room for six: nothing has failed."""
    launch = many(6, need=9, wanted=10, stop_on_failure=True)
    up = [named(name, UP) for name in launch.ids]
    assert to_stop(launch, up, LATER) == {}
    assert to_stop(launch, [gone(1), *up[1:]], LATER) == {}
    assert to_stop(launch, [gone(1), named("b", gone(1)), *up[2:]], LATER) == {CALLED_OFF: tuple("cdef")}


# --- the wait in words


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (PLACED, "a: waiting for capacity"),
        (replace(PLACED, state="PENDING"), "a: starting"),
        (replace(PLACED, state="ACTIVATING"), "a: starting"),
        (UP, "a: running since 12:00:00 UTC"),
        (replace(UP, started=T0.astimezone(timezone(timedelta(hours=2)))), "a: running since 12:00:00 UTC"),
        (replace(UP, started=None), "a: running"),
        (replace(UP, stopping=True), "a: ending"),
        (replace(UP, state="DEPROVISIONING"), "a: ending"),
        (gone(0), "a: ended"),
        (UNSEEN, "a: cannot be seen (ThrottlingException: Rate exceeded); looking again"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_wait_is_told_in_words(seen, words):
    assert wait_in_words(LAUNCH, [seen], LATER) == words


def test_many_waits_are_one_line():
    seen = [PLACED, named("b", PLACED), named("c", UP), named("d", replace(UP, started=LATER))]
    assert wait_in_words(many(4), seen, LATER) == "2 waiting for capacity, 2 running"


# --- journeys through JSON


PLACES = (LogPlace("main", "/jobs", "work", "eu-west-1"), LogPlace("proxy", "/jobs", "work", "us-east-1"))


def through_json(value):
    return type(value).from_dict(json.loads(json.dumps(value.to_dict())))


def test_launch_and_terms_survive_json():
    launch = many(3, deciding=("main", "proxy"), logs=PLACES, stop_on_failure=True)
    assert through_json(launch) == launch
    assert through_json(replace(launch, ecs=None)).ecs is None


def test_a_launch_is_plain_json_as_it_stands():
    said = many(3, deciding=("main", "proxy"), logs=PLACES).to_dict()
    assert json.loads(json.dumps(said)) == said


def test_a_launch_of_the_former_version_is_read():
    """Without what has been added since: it is in flight while the package is upgraded."""
    former = replace(LAUNCH, kind="ec2", ecs=None).to_dict()
    del former["ecs"]
    assert Launch.from_dict(former) == replace(LAUNCH, kind="ec2", ecs=None)


def test_a_launch_of_a_later_version_is_read():
    later = LAUNCH.to_dict() | {"novelty": 1}
    later["ecs"] = later["ecs"] | {"novelty": 2}
    assert Launch.from_dict(later) == LAUNCH


def test_a_member_survives_json():
    for seen in (gone(0, 1), gone(3), oom(137), never(CAPACITY), ended_by("SpotInterruption", None)):
        member = only(seen)
        assert through_json(member) == member


def test_a_member_of_the_former_version_is_read():
    former = Member("i-1", Outcome.FAILED, "exit 3", 3, ended=LATER).to_dict()
    assert not {"exit_codes", "missed", "capacity", "instance_type"} & set(former)
    assert Member.from_dict(former) == Member("i-1", Outcome.FAILED, "exit 3", 3, ended=LATER)


def test_an_intent_survives_json():
    pool = Pool(market="FARGATE_SPOT")
    intent = Intent(
        "t0",
        2,
        attempt=3,
        state=State.PLACED,
        launch=many(logs=PLACES),
        wanted=4,
        pool=pool,
        rounds=1,
        ended=(only(gone(3)), only(ended_by("SpotInterruption", 0))),
        refusals=(Refusal(pool, Scope.POOL, "RESOURCE:CPU"),),
    )
    assert through_json(intent) == intent


def test_members_written_short_keep_what_decides():
    lost = tuple(replace(only(ended_by("SpotInterruption", None)), id=f"b{n}") for n in range(30))
    intent = Intent("t0", 2, launch=many(), wanted=40, ended=(only(gone(0)), *lost))
    again = through_json(intent)
    assert (again.to_place, again.need) == (intent.to_place, intent.need)
    kept = [(m.outcome, m.missed) for m in intent.ended]
    assert [(m.outcome, m.missed) for m in again.ended] == kept
    assert {m.capacity for m in again.ended if m.missed} == {lost[0].capacity}


def test_three_rounds_of_five_hundred_fit_into_airflows_state_store():
    lost = only(ended_by("SpotInterruption", None))
    gone_for_good = only(gone(3))
    ended = [replace(lost, id=f"{n:032x}") for n in range(1500)]
    ended += [replace(gone_for_good, id=f"{n:032x}") for n in range(500)]
    assert len(json.dumps(Intent("t0", 2, launch=many(), wanted=500, ended=tuple(ended)).to_dict())) < STORE_LIMIT


def test_an_intent_of_the_former_version_is_read():
    intent = Intent("t0", 2, state=State.PLACED, launch=replace(LAUNCH, kind="ec2", ecs=None))
    former = intent.to_dict()
    for name in ("wanted", "pool", "ended", "rounds"):
        del former[name]
    del former["launch"]["ecs"]
    assert Intent.from_dict(former) == intent
    assert Intent.from_dict(former).need is None
