"""An existing group is borrowed and given back: as it was, whatever happens and wherever its process dies."""

from __future__ import annotations

import copy
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError

from airflow_transient.aws.asg import AsgLauncher
from airflow_transient.aws.asg_desk import Desk
from airflow_transient.aws.asg_hands import Hands
from airflow_transient.aws.asg_return import give_back
from airflow_transient.aws.launcher import Refused
from airflow_transient.aws.placing import Placing
from airflow_transient.aws.reaper import Reaper, Report, groups
from airflow_transient.aws.reaper.one_pass import Pass
from airflow_transient.core.asg.group import FLAG, Flag, Group, Source, Was
from airflow_transient.core.intent import Intent
from airflow_transient.core.launch import BY_REQUEST, Launch, LaunchKey, Owner
from airflow_transient.core.requests import Request
from airflow_transient.core.verdict import Outcome
from airflow_transient.errors import AccessError, CapacityError, LaunchError, SpecError
from tests.aws.group_world import ITSELF, T0, Died, World, refusal, spec

OWNER = Owner("tests", "dag", "run", "task")


class Journal:
    """What Airflow would keep, as JSON."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = Intent("t1", 2).to_dict()

    def write(self, intent: Intent) -> None:
        self.kept = copy.deepcopy(intent.to_dict())

    def read(self) -> Intent:
        return Intent.from_dict(self.kept)


def launcher(world: World) -> AsgLauncher:
    return AsgLauncher(world.client, sleep=world.sleep, clock=world.clock)


def place(world: World, journal: Journal, **words: Any) -> Launch:
    placing = Placing(OWNER, 1, journal.write, lambda words: None, world.clock, world.sleep)
    return placing.place(launcher(world), spec(**words), journal.read())


@pytest.fixture
def world() -> World:
    world = World()
    world.make_group()
    return world


def test_it_is_launched_and_the_group_is_as_it_was(world: World) -> None:
    before = world.shape()
    launch = place(world, Journal())
    assert world.shape() == before
    assert len(launch.ids) == 2 == len(world.alive())
    assert launch.group is not None
    assert launch.group.name == "batch"


def test_its_machines_carry_our_tags_from_birth_and_run_our_template(world: World) -> None:
    launch = place(world, Journal(), tags={"cost": "7"}, environment={"A": "b"})
    (machine, _) = world.machines.values()
    tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
    assert tags["team"] == "x"
    assert tags["transient:managed-by"] == "airflow_transient"
    assert tags["transient:owner"] == str(OWNER)
    assert tags["transient:deadline"] == str(int(launch.deadline.timestamp()))
    assert machine["from"].startswith("transient-t1-1")
    assert [one["name"] for one in world.templates.values()] == ["theirs"]


@pytest.mark.parametrize("words", [{}, {"command": None}], ids=["a command", "the group's own user data"])
def test_machines_that_are_in_the_group_before_ec2_tells_of_them_are_waited_for(
    world: World, words: dict[str, Any]
) -> None:
    world.told_after, before = 5, world.shape()
    launch = place(world, Journal(), **words)
    world.sleep(60)
    assert world.shape() == before
    assert len(launch.ids) == 2
    assert set(launch.ids) == set(world.machines) == set(world.alive())


def test_what_would_start_others_is_suspended_first_and_launch_once_all_have_come(world: World) -> None:
    seen = []

    def look() -> None:
        suspended = {one["ProcessName"] for one in world.groups["batch"]["SuspendedProcesses"]}
        seen.append((world.groups["batch"]["DesiredCapacity"], len(world.machines), suspended))

    world.between = look
    place(world, Journal())
    others = {"ReplaceUnhealthy", "ScheduledActions", "AlarmNotification", "InstanceRefresh", "AZRebalance"}
    assert all(others <= suspended for desired, _, suspended in seen if desired)
    assert {len(world.machines)} == {machines for _, machines, suspended in seen if "Launch" in suspended}


def test_a_job_that_ends_within_the_launch_runs_once_and_is_told_as_its_own_end(world: World) -> None:
    """The seeds' warning: what ends itself looks unhealthy, and a group would start it over and over."""
    world.life, world.stays_stopped = 3.5, True
    before = world.shape()
    launch = place(world, Journal(), command=None, trust_shutdown=True)
    for _ in range(20):
        world.sleep(5)
    after = world.shape()
    assert after == before
    assert len(world.machines) == 2
    from airflow_transient.aws.watching import look

    verdict = look(launcher(world), launch, world.now)[0]
    assert verdict is not None
    assert verdict.outcome is Outcome.SUCCEEDED


def test_without_the_operator_the_group_does_run_it_over_and_over(world: World) -> None:
    world.life = 3.5
    world.groups["batch"]["DesiredCapacity"] = 1
    for _ in range(60):
        world.sleep(1)
    assert len(world.machines) > 5


# --- its process dies, everywhere


def steps(**words: Any) -> int:
    """How many calls a launch makes where nothing goes wrong."""
    world = World()
    world.make_group(MaxSize=1)
    place(world, Journal(), **words)
    return len(world.calls)


OWN = {"command": None, "count": 2}
CRASHES = [
    pytest.param(words, number, after, id=f"{name}, call {number + 1} {'done' if after else 'not done'}")
    for name, words in (("a command", {}), ("the group's own user data", OWN))
    for number in range(steps(**words))
    for after in (False, True)
]


def crashed(words: dict[str, Any], number: int, after: bool) -> tuple[World, dict[str, Any], Journal]:
    world, journal = World(break_at=number, after=after), Journal()
    world.make_group(MaxSize=1)
    before = world.shape()
    with pytest.raises(Died):
        place(world, journal, **words)
    world.sleep(30)
    return world, before, journal


@pytest.mark.parametrize(("words", "number", "after"), CRASHES)
def test_after_a_crash_the_next_try_goes_on_with_what_there_is(words: dict[str, Any], number: int, after: bool) -> None:
    world, before, journal = crashed(words, number, after)
    launch = place(world, journal, **words)
    assert world.shape() == before
    assert [one["name"] for one in world.templates.values()] == ["theirs"]
    assert sorted(launch.ids) == sorted(world.machines) == sorted(world.alive())
    assert len(launch.ids) == 2


@pytest.mark.parametrize(("words", "number", "after"), CRASHES)
def test_after_a_crash_a_cleared_task_leaves_nothing(words: dict[str, Any], number: int, after: bool) -> None:
    """As the operator does: find by the request what it has started, then stop that."""
    world, before, journal = crashed(words, number, after)
    request = journal.read().request
    if request and (launch := launcher(world).adopt(request)):
        launcher(world).stop(launch, BY_REQUEST)
    known = journal.read().launch
    if known:
        launcher(world).stop(known, BY_REQUEST)
    world.sleep(30)
    assert world.shape() == before
    assert world.alive() == []
    assert [one["name"] for one in world.templates.values()] == ["theirs"]


@pytest.mark.parametrize(("words", "number", "after"), CRASHES)
def test_after_a_crash_that_nobody_comes_back_to_another_launch_gives_the_group_back(
    words: dict[str, Any], number: int, after: bool
) -> None:
    world, before, _ = crashed(words, number, after)
    world.life = 1e9
    world.sleep(3600)
    theirs = set(world.alive())
    other = LaunchKey(Owner("tests", "another", "run", "task"), "t2")
    found = launcher(world)
    launch = found.launch(found.prepare(spec(**words), other, spec().pools()[0], world.now))
    assert world.shape() == before
    assert set(launch.ids).isdisjoint(theirs)
    assert set(world.alive()) == theirs | set(launch.ids)


def test_a_group_that_nobody_gives_back_is_given_back_by_the_reaper() -> None:
    world, before, _ = crashed({}, steps() - 12, True)
    assert world.shape() != before
    early = swept(world, world.now)
    assert early == Report()
    assert world.shape() != before
    late = T0.replace(hour=14)
    assert [line.outcome for line in swept(world, late, dry_run=True).lines] == ["would be given back"]
    (line,) = swept(world, late).lines
    assert (line.id, line.outcome, line.failed) == ("batch", "given back", False)
    assert world.shape() == before
    assert len(world.alive()) == 2


def test_a_reaper_that_may_not_look_at_groups_says_so_and_has_not_failed(world: World) -> None:
    world.denied = frozenset({"describe_auto_scaling_groups"})
    report = swept(world, T0)
    assert report.complete
    assert "note: eu-west-1: a borrowed Auto Scaling group would not be given back: not allowed" in str(report)


NOWHERE = "https://autoscaling.eu-west-1.amazonaws.com"


@pytest.mark.parametrize("error", [EndpointConnectionError, ConnectTimeoutError])
def test_a_reaper_without_a_route_to_auto_scaling_asks_once_says_so_and_has_not_failed(
    error: Any, world: World
) -> None:
    world.break_at, world.broken = 0, lambda: error(endpoint_url=NOWHERE)
    asked: list[dict[str, Any]] = []

    def client(service: str, **words: Any) -> Any:
        asked.append(words)
        return world.client(service)

    report = groups.sweep(client, Pass(T0, None, None, False, world.sleep))
    assert report.complete
    assert NOWHERE in report.notes[0]
    assert (world.calls, world.now) == (["describe_auto_scaling_groups"], T0)
    assert {(one["connect_timeout"], one["retries"]["total_max_attempts"]) for one in asked} == {(5, 1)}


def test_a_reaper_whose_look_fails_otherwise_has_not_looked(world: World) -> None:
    world.break_at, world.broken = 0, lambda: refusal("ValidationError")
    assert not swept(world, T0).complete


def test_groups_are_one_of_the_kinds_that_a_reaper_may_look_at_only(world: World) -> None:
    asked = []

    def client(service: str, **_: Any) -> Any:
        asked.append(service)
        return world.client(service)

    assert Reaper(client, only=["asg"], sleep=world.sleep).reap([None], T0).complete
    assert set(asked) == {"autoscaling"}
    asked.clear()
    world.denied = frozenset({"describe_instances", "describe_auto_scaling_groups"})
    assert Reaper(client, only=["ec2"], sleep=world.sleep).reap([None], T0).notes == ()
    assert set(asked) == {"ec2"}


def test_a_reaper_leaves_a_group_to_its_own_launch_until_ten_minutes_after_its_time() -> None:
    world, before, _ = crashed({}, steps() - 12, True)
    until = T0 + timedelta(minutes=10)
    assert swept(world, until + timedelta(minutes=10, seconds=-1)) == Report()
    assert world.shape() != before
    (line,) = swept(world, until + timedelta(minutes=10)).lines
    assert line.outcome == "given back"


def swept(world: World, now: datetime, dry_run: bool = False) -> Report:
    return groups.sweep(world.client, Pass(now, None, None, dry_run, world.sleep))


@pytest.mark.parametrize("number", range(steps()))
def test_an_answer_that_is_lost_is_asked_for_again(number: int) -> None:
    world = World(break_at=number, after=True, broken=lambda: refusal("InternalFailure", status=500))
    world.make_group(MaxSize=1)
    before, journal = world.shape(), Journal()
    try:
        launch = place(world, journal)
    except LaunchError:
        launch = place(world, journal)
    assert (world.shape(), len(launch.ids), len(world.machines)) == (before, 2, 2)


@pytest.mark.parametrize("number", range(steps()))
def test_a_call_that_is_throttled_changes_nothing_and_the_next_try_does_it(number: int) -> None:
    world = World(break_at=number, broken=lambda: refusal("ThrottlingException", "Rate exceeded"))
    world.make_group(MaxSize=1)
    before, journal, why = world.shape(), Journal(), "Rate exceeded"
    try:
        launch = place(world, journal)
    except LaunchError as error:
        why, launch = str(error), place(world, journal)
    assert "Rate exceeded" in why
    assert (world.shape(), len(launch.ids), len(world.machines)) == (before, 2, 2)


# --- a flag is no loan: what the owner starts is the owner's


def until_call(operation: str) -> int:
    """The number of the first such call of a launch."""
    world = World()
    world.make_group(MaxSize=4)
    place(world, Journal())
    return world.calls.index(operation)


def used_by_its_owner(world: World) -> list[str]:
    """Two machines of the owner, by a schedule or by hand. In this order, and whoever asks: who they are."""
    world.break_at, world.life = None, 1e9
    world.groups["batch"]["DesiredCapacity"] = 2
    world.sleep(5)
    world.sleep(5)
    return list(world.machines)


def the_next_try(world: World, journal: Journal) -> None:
    place(world, journal)


def a_cleared_task(world: World, journal: Journal) -> None:
    request = journal.read().request
    assert request
    found = launcher(world)
    if launch := found.adopt(request):
        found.stop(launch, BY_REQUEST)


def the_reaper(world: World, _: Journal) -> None:
    world.sleep(3600)
    swept(world, world.now)


def another_launch(world: World, _: Journal) -> None:
    world.sleep(3600)
    found, key = launcher(world), LaunchKey(Owner("tests", "another", "run", "task"), "t2")
    found.launch(found.prepare(spec(), key, spec().pools()[0], world.now))


WHO = [the_next_try, a_cleared_task, the_reaper, another_launch]
#: How far a launch comes before it dies: the flag is up, and no machine is given our tags.
EARLY = ["create_or_update_tags", "resume_processes", "suspend_processes", "create_launch_template"]


@pytest.mark.parametrize("step", EARLY)
@pytest.mark.parametrize("who", WHO)
def test_machines_that_the_owner_starts_under_a_flag_stay_in_their_group(who: Any, step: str) -> None:
    world, journal = World(break_at=until_call(step), after=True), Journal()
    before = world.make_group() and world.shape()
    with pytest.raises(Died):
        place(world, journal)
    theirs = used_by_its_owner(world)
    with suppress(LaunchError):
        who(world, journal)
    world.sleep(60)
    assert sorted(world.alive()) == sorted(theirs) == sorted(world.machines)
    after = world.shape()
    assert sorted(one["InstanceId"] for one in after["Instances"]) == sorted(theirs)
    assert after | {"Instances": [], "DesiredCapacity": 0} == before
    assert [one["name"] for one in world.templates.values()] == ["theirs"]


def the_owner_starts_two(world: World) -> None:
    """By a schedule, at the last moment: between our look and our tags."""
    if world.about_to == "create_or_update_tags" and "create_launch_template" in world.calls and not world.machines:
        world.groups["batch"]["DesiredCapacity"] = 2
        world.tick()


def check_that_the_owners_stay_alone(world: World, ours: tuple[str, ...]) -> None:
    world.sleep(60)
    theirs = [id for id, machine in world.machines.items() if machine["from"] == "theirs"]
    assert len(theirs) == 2
    assert set(world.alive()) == {*theirs, *ours}
    assert [one["InstanceId"] for one in world.groups["batch"]["Instances"]] == theirs
    assert world.shape()["Tags"] == ["team"]
    assert world.shape()["SuspendedProcesses"] == ["AZRebalance"]
    assert (world.shape()["DesiredCapacity"], world.shape()["MaxSize"]) == (2, 4)


def test_of_machines_that_are_mixed_only_ours_leave(world: World) -> None:
    world.between = lambda: the_owner_starts_two(world)
    launch = place(world, Journal())
    assert len(launch.ids) == 2
    check_that_the_owners_stay_alone(world, launch.ids)


def test_of_machines_that_are_mixed_only_ours_end_with_a_launch_that_is_refused(world: World) -> None:
    """There is room for one of ours, and why the other one does not come may not be looked at."""
    world.room = 3

    def meddle() -> None:
        the_owner_starts_two(world)
        world.denied = frozenset({"describe_scaling_activities"} if len(world.machines) == 3 else ())

    world.between = meddle
    with pytest.raises(AccessError):
        place(world, Journal())
    assert len(world.machines) == 3
    world.room = 3
    check_that_the_owners_stay_alone(world, ())


def test_tags_of_the_owner_stay(world: World) -> None:
    mine = {"Key": "transient:keep", "Value": "1", "PropagateAtLaunch": True}
    world.groups["batch"]["Tags"].append(mine)
    before = world.shape()
    place(world, Journal())
    assert world.shape() == before


# --- two processes at once


@pytest.mark.parametrize("words", [{}, {"command": None}], ids=["a command", "the group's own user data"])
@pytest.mark.parametrize("call", range(30))
def test_what_another_process_has_given_back_meanwhile_is_left_alone(call: int, words: dict[str, Any]) -> None:
    """A worker that was thought dead, and the next try: before one call the other one does all of it."""
    world = World()
    world.make_group(MaxSize=1)
    before, slow = world.shape(), launcher(world)
    request = asked(world, **words)
    start, others = len(world.calls), []

    def meddle() -> None:
        if len(world.calls) == start + call and not others:
            others.append(None)
            others.append(launcher(world).launch(request, again=True))

    world.between = meddle
    launch = slow.launch(request)
    world.sleep(60)
    assert world.shape() == before
    assert set(launch.ids) == set(world.machines)
    assert len(launch.ids) == 2
    if others:
        assert set(others[1].ids) == set(launch.ids)


def asked(world: World, **words: Any) -> Request:
    return launcher(world).prepare(spec(**words), LaunchKey(OWNER, "t1"), spec(**words).pools()[0], world.now)


def at_the_update(world: World, act: Any) -> None:
    """Once, as the first call for capacity is about to arrive."""
    done: list[None] = []

    def meddle() -> None:
        if world.about_to == "update_auto_scaling_group" and not done:
            done.append(None)
            act()

    world.between = meddle


def started_by_late_capacity(world: World, between: int) -> tuple[Launch, list[str]]:
    """The group acts on the late capacity so many calls after it came. What was launched, and what was one too many."""
    request, came = asked(world, command=None), len(world.calls)

    def next_try() -> None:
        nonlocal came
        launcher(world).launch(request, again=True)
        came = len(world.calls)
        world.between = lambda: world.tick() if len(world.calls) == came + between else None

    at_the_update(world, next_try)
    launch = launcher(world).launch(request)
    return launch, [id for id in world.machines if id not in launch.ids]


@pytest.mark.parametrize("between", range(1, 10))
def test_what_late_capacity_has_started_ends_with_it_tagged_or_not(world: World, between: int) -> None:
    world.life, before = 1e9, world.shape()
    launch, too_many = started_by_late_capacity(world, between)
    world.sleep(60)
    assert world.shape() == before
    assert len(launch.ids) == 2
    assert set(world.alive()) == set(launch.ids)
    assert (len(too_many) == 2) is (between <= 5)  # the process Launch is suspended then


@pytest.mark.parametrize("calls", range(3, 12))
def test_after_a_crash_while_late_capacity_is_taken_back_the_reaper_does_it(world: World, calls: int) -> None:
    """Call by call after it came, from the one that raises the flag again."""
    request, before = asked(world, command=None), world.shape()

    def next_try() -> None:
        launcher(world).launch(request, again=True)
        world.break_at, world.after = len(world.calls) + calls, True

    at_the_update(world, next_try)
    with suppress(Died):
        launcher(world).launch(request)
    assert "transient:launch" in world.shape()["Tags"] or calls > 9
    world.break_at, world.life = None, 1e9
    world.sleep(3600)
    swept(world, world.now)
    world.sleep(60)
    assert world.shape() == before


@pytest.mark.parametrize("code", ["ResourceContention", "InternalFailure", "ThrottlingException"])
@pytest.mark.parametrize("arrives", [False, True])
def test_capacity_is_not_asked_for_again_once_another_process_has_given_the_group_back(
    world: World, code: str, arrives: bool
) -> None:
    request, before, start = asked(world, command=None), world.shape(), 0

    def next_try() -> None:
        nonlocal start
        launcher(world).launch(request, again=True)
        world.break_at, world.after = len(world.calls), arrives
        world.broken = lambda: refusal(code, status=500)
        start = len(world.calls)

    at_the_update(world, next_try)
    launch = launcher(world).launch(request)
    assert world.calls[start:].count("update_auto_scaling_group") == 1 + arrives  # and one back
    world.sleep(60)
    assert world.shape() == before
    assert set(launch.ids) == set(world.alive())


@pytest.mark.parametrize("desired", [1, 3])
def test_capacity_that_the_owner_has_set_since_is_his(world: World, desired: int) -> None:
    world.life, request = 1e9, asked(world, command=None)

    def next_try() -> None:
        launcher(world).launch(request, again=True)
        came = len(world.calls)

        def owner() -> None:
            if len(world.calls) == came + 1:
                world.groups["batch"]["DesiredCapacity"] = desired
                world.between = None

        world.between = owner

    at_the_update(world, next_try)
    launch = launcher(world).launch(request)
    world.sleep(60)
    assert world.shape()["DesiredCapacity"] == desired == len(world.shape()["Instances"])
    assert len(world.alive()) == len(launch.ids) + desired
    assert (world.shape()["Tags"], world.shape()["SuspendedProcesses"]) == (["team"], ["AZRebalance"])


def test_the_same_capacity_set_by_the_owner_after_ours_came_in_time_is_his(world: World) -> None:
    """Another process gives the group back while this one waits, and the owner's schedule asks for as many."""
    world.life, world.boots_in, request = 1e9, 20, asked(world, command=None)
    looks = 0

    def meddle() -> None:
        nonlocal looks
        looks += world.about_to == "describe_scaling_activities" or bool(world.machines)
        if looks == 12:
            world.between = None
            launcher(world).adopt(request)
            world.groups["batch"]["DesiredCapacity"] = 2

    world.between = meddle
    launcher(world).launch(request)
    world.sleep(60)
    assert world.shape()["DesiredCapacity"] == 2 == len(world.shape()["Instances"])
    assert len(world.alive()) == 4


@pytest.mark.parametrize("call", range(10))
def test_capacity_that_comes_while_another_process_is_giving_back_is_taken_back(call: int) -> None:
    """Its answer is lost, and it took effect before one of the other's last calls, who had looked already."""

    def race(at: int | None) -> tuple[World, dict[str, Any], Launch, int]:
        world = World(life=1e9)
        world.make_group()
        before, request, made = world.shape(), asked(world, command=None), 0

        def arrive() -> None:
            if len(world.calls) == at:
                world.groups["batch"]["DesiredCapacity"] = 2

        def next_try() -> None:
            nonlocal made
            world.between = arrive
            launcher(world).launch(request, again=True)
            made = world.break_at = len(world.calls)
            world.broken = lambda: refusal("InternalFailure", status=500)

        at_the_update(world, next_try)
        return world, before, launcher(world).launch(request), made

    made = race(None)[3]
    world, before, launch, _ = race(made - call)
    world.sleep(60)
    assert world.shape() == before
    assert set(world.alive()) == set(launch.ids)


@pytest.mark.parametrize("call", range(16))
def test_who_gives_back_late_does_not_touch_what_the_next_one_has_borrowed(call: int) -> None:
    """Before a call of the reaper, another launch gives the group back and borrows it."""
    world, _, _ = crashed({}, until_call("update_auto_scaling_group"), True)
    world.life = 1e9
    world.sleep(3600)
    (flag,) = Group.of(world.groups["batch"]).flags.values()
    start, borrowed = len(world.calls), []

    def meddle() -> None:
        if len(world.calls) == start + call and not borrowed:
            borrowed.append(None)
            found, key = launcher(world), LaunchKey(Owner("tests", "another", "run", "t"), "t9")
            loan = found._loan(found.prepare(spec(), key, spec().pools()[0], world.now))
            loan.claim()
            assert loan._ask() is None
            world.tick()
            borrowed.append(world.shape())
            borrowed.append(len(world.calls))

    looks = {"describe_auto_scaling_groups", "describe_instances"}
    world.between = meddle
    give_back(Hands(world.client, Desk(world.client, world.sleep), world.sleep, world.clock), "batch", flag)
    if not borrowed or world.calls[borrowed[2]] not in looks:
        return  # the one call that was on its way cannot be called back
    now = world.shape()
    for name in ("DesiredCapacity", "SuspendedProcesses", "Tags", "LaunchTemplate"):
        assert now[name] == borrowed[1][name]
    assert len(now["Instances"]) == 2


# --- it is not allowed


MUTATIONS = sorted(
    {"create_or_update_tags", "delete_tags", "suspend_processes", "resume_processes", "update_auto_scaling_group"}
    | {"detach_instances", "create_launch_template", "describe_scaling_activities", "describe_instance_refreshes"}
)


@pytest.mark.parametrize("action", MUTATIONS)
def test_a_missing_permission_is_named_and_nothing_is_left(world: World, action: str) -> None:
    before, world.denied = world.shape(), frozenset({action})
    named = "".join(word.title() for word in action.split("_"))
    with pytest.raises(AccessError, match=named):
        place(world, Journal())
    world.sleep(30)
    after = world.shape()
    if action == "delete_tags":  # the one thing that cannot be undone without it
        after["Tags"] = [name for name in after["Tags"] if not name.startswith("transient:")]
    assert after == before
    assert world.alive() == []


def test_what_cannot_be_undone_is_told_to_whom_can_do_it_by_hand(world: World) -> None:
    world.denied = frozenset({"delete_tags"})
    with pytest.raises(AccessError) as refused:
        place(world, Journal())
    (flag,) = Group.of(world.groups["batch"]).flags.values()
    for words in (
        "it could not be undone",
        "group 'batch' may still have",
        "ReplaceUnhealthy, ",
        "Launch suspended",
        "min=0 max=4 desired=0",
        f"its tag {flag.name!r} says what it was",
    ):
        assert words in str(refused.value), words
    assert "AZRebalance" not in str(refused.value)  # its owner's


def test_what_may_be_suspended_and_not_resumed_is_not_suspended(world: World) -> None:
    world.denied = frozenset({"resume_processes"})
    with pytest.raises(AccessError):
        place(world, Journal())
    assert "suspend_processes" not in world.calls


# --- the group is not free, or not fit


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        pytest.param({"DesiredCapacity": 1}, LaunchError, "desired capacity is 1", id="desired"),
        pytest.param({"Status": "Delete in progress"}, SpecError, "being deleted", id="deleted"),
        pytest.param({"WarmPoolConfiguration": {}}, SpecError, "warm pool", id="warm pool"),
        pytest.param({"DesiredCapacityType": "vcpu"}, SpecError, "in vcpu", id="units"),
        pytest.param(
            {"Operator": {"Managed": True, "Principal": "batch.amazonaws.com"}}, SpecError, "managed", id="op"
        ),
        pytest.param(
            {"SuspendedProcesses": [{"ProcessName": "Launch"}]}, SpecError, "resume it", id="Launch suspended"
        ),
        pytest.param(
            {"Tags": [{"Key": str(n), "Value": ""} for n in range(45)]}, SpecError, "45 tags", id="too many tags"
        ),
        pytest.param(
            {"Tags": [{"Key": FLAG + "tx-1-1", "Value": "hm"}]}, LaunchError, "nobody can read", id="a strange flag"
        ),
        pytest.param({"LaunchConfigurationName": "gone"}, SpecError, "no launch configuration 'gone'", id="config"),
    ],
)
def test_a_group_that_is_not_free_is_refused_before_anything_changes(
    words: dict[str, Any], error: type[Exception], said: str
) -> None:
    world = World()
    world.make_group(**words)
    before = world.shape()
    with pytest.raises(error, match=said):
        place(world, Journal())
    assert world.shape() == before
    assert not {name for name in world.calls if not name.startswith("describe")}


def test_a_group_that_is_not_there_is_named_with_its_region(world: World) -> None:
    with pytest.raises(SpecError, match=r"no Auto Scaling group 'other' in eu-west-1"):
        place(world, Journal(), group_name="other")
    arn = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:1:autoScalingGroupName/batch"
    with pytest.raises(SpecError, match=r"in us-east-1, and this launch is in eu-west-1"):
        place(world, Journal(), group_name=arn)


def test_a_group_with_machines_of_somebody_is_refused(world: World) -> None:
    world.groups["batch"]["DesiredCapacity"] = 1
    world.tick()
    world.groups["batch"]["DesiredCapacity"] = 0
    with pytest.raises(LaunchError, match="it holds i-"):
        place(world, Journal())


def test_a_group_that_is_starting_machines_or_refreshing_is_refused(world: World) -> None:
    world.activities = [{"Description": "Launching a new EC2 instance", "StatusCode": "PreInService", "StartTime": T0}]
    with pytest.raises(LaunchError, match="Launching a new EC2 instance"):
        place(world, Journal())
    world.activities, world.refreshes = [], [{"Status": "InProgress"}]
    with pytest.raises(LaunchError, match="instance refresh"):
        place(world, Journal())


def test_a_flag_of_another_launch_keeps_the_group_until_its_time_is_over(world: World) -> None:
    was = Was(0, 9, 0, ("AZRebalance",), Source("template", "lt-theirs"))
    flag = Flag("t9-1-1", T0.replace(minute=30), was)
    mine = {"Key": flag.name, "Value": flag.words, "PropagateAtLaunch": False}
    holder = {"Key": "transient:launch", "Value": "t9-1-1", "PropagateAtLaunch": True}
    world.groups["batch"]["Tags"] += [mine, holder]
    with pytest.raises(LaunchError, match=r"borrowed by launch t9-1-1 until 12:40:00 UTC"):
        place(world, Journal())
    world.now = T0.replace(minute=41)
    place(world, Journal())
    assert world.shape()["MaxSize"] == 9
    assert world.shape()["Tags"] == ["team"]


def test_of_two_at_the_same_moment_one_wins_and_the_other_is_refused(world: World) -> None:
    """The other raises its flag between our look and our flag: at every call of ours, one after the other."""
    outcomes = []
    for moment in range(14):
        world = World()
        world.make_group()
        before, found = world.shape(), launcher(world)
        other = found.prepare(spec(), LaunchKey(OWNER, "t2"), spec().pools()[0], world.now)
        came: list[Any] = []

        def meddle(world: World = world, other: Any = other, moment: int = moment, came: list[Any] = came) -> None:
            if len(world.calls) >= moment and not came:
                came.append("begun")
                try:
                    came.append(launcher(world).launch(other))
                except Refused as refused:
                    came.append(refused)

        world.between = meddle
        try:
            mine: Any = place(world, Journal())
        except LaunchError as error:
            mine = error
        both = [one for one in (mine, came[1]) if isinstance(one, Launch)]
        ids = [id for launch in both for id in launch.ids]
        assert len(ids) == len(set(ids)) == len(world.machines)
        assert world.shape() == before
        outcomes.append(len(both))
    assert min(outcomes) >= 1


def test_what_has_ended_and_is_still_in_the_group_is_waited_for_and_no_use_of_it(world: World) -> None:
    world.groups["batch"]["DesiredCapacity"] = 1
    world.tick()
    world.end(next(iter(world.machines.values())), ITSELF)
    world.groups["batch"]["DesiredCapacity"] = 0
    launch = place(world, Journal())
    assert len(launch.ids) == 2 == len(world.alive())
    assert world.shape()["Instances"] == []


# --- there is no room


def test_a_group_that_finds_no_room_is_given_back_and_tried_later(world: World) -> None:
    before, world.room = world.shape(), 0
    with pytest.raises(CapacityError, match="do not have sufficient"):
        place(world, Journal())
    assert world.shape() == before


def test_a_group_that_finds_room_in_the_next_zone_is_waited_for(world: World) -> None:
    world.room = 0

    def free() -> None:
        world.room = 5 if len(world.activities) > 2 else 0

    world.between = free
    assert len(place(world, Journal()).ids) == 2


def test_a_failure_is_seen_by_a_worker_whose_clock_runs_ahead(world: World) -> None:
    world.room = 0
    ahead = AsgLauncher(world.client, sleep=world.sleep, clock=lambda: world.now + timedelta(minutes=5))
    placing = Placing(
        OWNER, 1, Journal().write, lambda words: None, lambda: world.now + timedelta(minutes=5), world.sleep
    )
    with pytest.raises(CapacityError, match="do not have sufficient"):
        placing.place(ahead, spec(), Intent("t1", 2))
    assert world.now < T0 + timedelta(minutes=1)


def test_a_part_that_came_is_kept_and_the_next_try_launches_the_rest(world: World) -> None:
    before, journal, world.room = world.shape(), Journal(), 1
    with pytest.raises(CapacityError):
        place(world, journal)
    (first,) = world.machines
    world.room = 5
    journal.write(Intent.from_dict({**journal.kept, "refusals": []}))
    launch = place(world, journal)
    assert (launch.ids[0], len(launch.ids), len(world.machines)) == (first, 2, 2)
    assert world.shape() == before


def test_a_group_that_cannot_launch_at_all_is_the_authors_move(world: World) -> None:
    world.room, world.no_room = 0, "The image id '[ami-0]' does not exist. Launching EC2 instance failed."
    with pytest.raises(SpecError, match="does not exist"):
        place(world, Journal())


def test_a_machine_that_never_comes_into_service_ends_and_is_told_so(world: World) -> None:
    before, world.boots_in = world.shape(), 1e6
    launch = place(world, Journal(), boot_timeout=60)
    world.sleep(60)
    assert world.shape() == before
    assert world.alive() == []
    seen = launcher(world).observe(launch, world.now)
    assert {one.stopped_by for one in seen} == {"never-booted"}


# --- what a group launches from


POLICY = {
    "LaunchTemplate": {
        "LaunchTemplateSpecification": {
            "LaunchTemplateId": "lt-theirs",
            "LaunchTemplateName": "theirs",
            "Version": "$Latest",
        },
        "Overrides": [{"InstanceType": "t3.small"}, {"InstanceType": "t3a.small"}],
    },
    "InstancesDistribution": {"OnDemandPercentageAboveBaseCapacity": 0},
}


@pytest.mark.parametrize(
    "words",
    [
        pytest.param({}, id="a template"),
        pytest.param({"LaunchConfigurationName": "old"}, id="a launch configuration"),
        pytest.param({"MixedInstancesPolicy": POLICY}, id="a mixed instances policy"),
    ],
)
def test_whatever_it_launches_from_is_as_it_was(words: dict[str, Any]) -> None:
    world = World()
    world.make_group(**words)
    before = world.shape()
    launch = place(world, Journal())
    assert world.shape() == before
    assert {machine["from"] for machine in world.machines.values()} == {"transient-t1-1-1"}
    assert len(launch.ids) == 2


def test_an_override_with_a_template_of_its_own_would_run_instead_of_the_job(world: World) -> None:
    policy = copy.deepcopy(POLICY)
    policy["LaunchTemplate"]["Overrides"][1]["LaunchTemplateSpecification"] = {"LaunchTemplateId": "lt-arm"}  # type: ignore[index]
    world.make_group(MixedInstancesPolicy=policy)
    with pytest.raises(SpecError, match="lt-arm"):
        place(world, Journal())
    assert len(place(world, Journal(), command=None).ids) == 2


def test_a_template_that_somebody_sets_meanwhile_is_left_alone(world: World) -> None:
    world.templates["lt-new"] = {"name": "new", "data": {}}

    def meddle() -> None:
        if world.machines and world.groups["batch"]["LaunchTemplate"]["LaunchTemplateName"] != "new":
            theirs = {"LaunchTemplateId": "lt-new", "LaunchTemplateName": "new"}
            world.groups["batch"]["LaunchTemplate"] = theirs

    world.between = meddle
    place(world, Journal())
    assert world.shape()["LaunchTemplate"]["LaunchTemplateName"] == "new"


def test_forty_five_machines_are_detached_by_twenty(world: World) -> None:
    world.groups["batch"]["MaxSize"] = 50
    assert len(place(world, Journal(), count=45).ids) == 45
    assert world.calls.count("detach_instances") == 3


def test_what_was_asked_too_long_ago_to_be_known_is_not_launched_again(world: World) -> None:
    from airflow_transient.errors import Lost

    _, _, journal = crashed({}, 12, False)
    world.now = T0.replace(hour=20)
    with pytest.raises(Lost):
        place(world, journal)
    assert world.machines == {}
