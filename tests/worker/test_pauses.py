"""A worker that was away for a while, or whose siblings, folder or AWS are: it takes nothing for granted."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from airflow_transient import worker
from airflow_transient.worker import (
    CANNOT_WORK,
    DRAINED,
    LONGEST_LEASE,
    CannotWork,
    Denials,
    Gone,
    Heart,
    Interruption,
    Message,
    NoCredentials,
    Options,
    Place,
    Supervisor,
    Tally,
    clock,
)
from tests.worker.world import World, altered, wait_for

HASTY = "worker.clients = functools.partial(worker.clients, patient=False)"  # botocore's own tries take 12 s


def held(tmp_path: Path, then: str = 'cp "$1" "$2"') -> tuple[str, ...]:
    """A command that begins, and goes on when `go` is there."""
    return ("sh", "-c", f"touch {tmp_path}/begun.$$; until [ -e {tmp_path}/go ]; do sleep 0.05; done; {then}", "sh")


def begun(tmp_path: Path) -> int:
    return len(list(tmp_path.glob("begun.*")))


# --- whose message is it? -------------------------------------------------------------------------------


def test_a_worker_that_was_paused_past_its_visibility_keeps_nothing(world: World, tmp_path: Path) -> None:
    """As a suspended machine is; meanwhile another has done the job."""
    world.job("a.txt")
    old = world.start("--visibility", "2", command=held(tmp_path, 'echo old >"$2"'))
    wait_for(lambda: begun(tmp_path))
    paused = [old.process.pid, *old.pids()]
    for pid in paused:
        os.kill(pid, signal.SIGSTOP)
    (tmp_path / "go").touch()
    new = world.start("--idle-timeout", "5", command=("sh", "-c", 'echo new >"$2"', "sh"))
    wait_for(lambda: new.event("done"))
    for pid in paused:
        os.kill(pid, signal.SIGCONT)
    assert [old.end(), new.end()] == [DRAINED, DRAINED]
    assert world.outputs() == {"a.txt": b"new\n"}
    assert (old.receipt["done"], old.receipt["interrupted"], new.receipt["done"]) == (0, 1, 1)


def test_a_worker_whose_beats_went_unanswered_past_its_visibility_keeps_nothing(world: World, tmp_path: Path) -> None:
    world.job("a.txt")
    old = world.start("--visibility", "2", command=held(tmp_path, 'echo old >"$2"'))
    wait_for(lambda: begun(tmp_path))
    world.cloud.faults.error("sqs:ChangeMessageVisibility", "ServiceUnavailable", status=503)
    new = world.start("--idle-timeout", "5", command=("sh", "-c", 'echo new >"$2"', "sh"))
    wait_for(lambda: new.event("done"))
    (tmp_path / "go").touch()
    assert [old.end(), new.end()] == [DRAINED, DRAINED]
    assert world.outputs() == {"a.txt": b"new\n"}
    assert "SQS does not say" in old.event("interrupted")[0]["reason"]


class Bell:
    def ring(self) -> None:
        pass


class Answers:
    """A queue that says these, one for each beat."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers, self.beats = list(answers), 0

    def hide(self, message: Message, seconds: int) -> None:
        self.beats += 1
        answer = self.answers.pop(0) if self.answers else None
        if answer:
            raise answer


def heart_of(queue: Any, visibility: int, age: float) -> Heart:
    made = Heart(queue, visibility, Bell())  # type: ignore[arg-type]
    made.begin(Message("1", "handle", "body", 1, "", {}, clock() - age))
    return made


#: The message's age, what SQS says, how often it is asked, and what comes of it; the visibility is 120 s.
SURE: dict[str, tuple[float, Exception | None, int, type[Exception] | None]] = {
    "fresh": (0, None, 0, None),
    "nearly over, and held anew": (115, None, 1, None),
    "over, and held anew": (500, None, 1, None),
    "over, and somebody else's": (500, Gone("no"), 1, Gone),
    "over, and no answer": (500, Interruption("503"), 1, Interruption),
    "over, and no right to ask": (500, CannotWork("no"), 1, CannotWork),
    "over, and an answer that nobody understands": (500, RuntimeError("?"), 1, Interruption),
    "after all that SQS gives": (LONGEST_LEASE + 1, None, 0, Gone),
}


@pytest.mark.parametrize(("age", "answer", "beats", "end"), SURE.values(), ids=SURE.keys())
def test_a_message_is_surely_ours_by_sqs_s_word_only(
    age: float, answer: Exception | None, beats: int, end: type[Exception] | None
) -> None:
    queue = Answers(answer)
    heart = heart_of(queue, 120, age)
    if end:
        with pytest.raises(end):
            heart.sure()
    else:
        heart.sure()
        heart.sure()
    assert queue.beats == beats


def test_a_beat_that_fails_in_an_unknown_way_is_said_once_and_the_heart_goes_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    queue = Answers(RuntimeError("garbled"), RuntimeError("garbled"))
    heart = heart_of(queue, 2, 0)
    wait_for(lambda: queue.beats >= 3)
    heart.sure()
    assert capfd.readouterr().err.count("missed-beat") == 1


# --- one process of several -----------------------------------------------------------------------------


def test_no_process_ends_as_idle_while_another_is_at_work(world: World, tmp_path: Path) -> None:
    """Or messages that come then find a machine of one."""
    world.job("long", parameters=["wait"])
    script = f'[ "$3" = wait ] && until [ -e {tmp_path}/go ]; do sleep 0.05; done; cp "$1" "$2"'
    run = world.start("--processes", "3", command=("sh", "-c", script, "sh"))
    wait_for(lambda: run.event("received"))
    polls = world.cloud.queue_calls(world.name)["ReceiveMessage"]
    wait_for(lambda: world.cloud.queue_calls(world.name)["ReceiveMessage"] > polls + 6)  # 1 s each: 3 s of them
    assert len(run.pids()) == 3
    for name in ("a", "b", "c"):
        world.job(name)
    wait_for(lambda: len(run.event("done")) == 3)
    (tmp_path / "go").touch()
    assert run.end() == DRAINED
    assert (run.receipt["done"], run.receipt["seconds"] < 30) == (4, True)


def test_where_a_dead_process_cannot_be_replaced_yet_its_siblings_work_on(world: World, tmp_path: Path) -> None:
    """A folder that cannot be made, as on a full disk: a while later it can."""
    world.job("a")
    world.job("b")
    options = ("--processes", "2", "--visibility", "4", "--idle-timeout", "6")
    run = world.start(*options, command=held(tmp_path))
    wait_for(lambda: begun(tmp_path) == 2)
    (folder,) = run.left_behind()
    folder.rename(f"{folder}.away")
    os.kill(run.pids()[0], signal.SIGKILL)
    wait_for(lambda: run.event("no-worker"))
    Path(f"{folder}.away").rename(folder)
    (tmp_path / "go").touch()
    assert run.end() == DRAINED
    assert "Traceback" not in run.said
    assert (run.receipt["done"], run.receipt["interrupted"], run.left_behind()) == (2, 1, [])


def test_a_machine_that_can_start_no_process_says_so(world: World) -> None:
    world.job("a")
    no_fork = "worker.DEATHS = 2; worker.os.fork = functools.partial(worker.os.open, '/no/such/file', 0)"
    run = world.start(**altered(world, no_fork))
    assert run.end() == CANNOT_WORK
    assert "2 times in a row no worker could be started" in run.receipt["problem"]
    assert (world.visible(), run.left_behind()) == (1, [])


def supervisor(tmp_path: Path) -> Supervisor:
    options = Options("jobs", "s3://b/f", ("true",))
    return Supervisor(options, Place("r", "q", "d", "s3://b/f"), str(tmp_path), [Tally()])


@pytest.mark.parametrize("which", ["os.fork", "tempfile.mkdtemp"])
def test_a_start_that_fails_leaves_signals_open_and_the_slot_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    made = supervisor(tmp_path)
    monkeypatch.setattr(f"airflow_transient.worker.{which}", fails)
    made._start(0)
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert [slot for _, slot in made._again] == [0]
    assert list(tmp_path.iterdir()) == []


def test_no_number_of_deaths_ends_a_sibling_s_job(tmp_path: Path) -> None:
    made = supervisor(tmp_path)
    made._board.busy(0)
    for _ in range(2 * worker.DEATHS):
        made._lost(0, "so many")
    assert (made.ended, made.problem) == ("drained", "")
    made._board.idle(0, 0.0)
    made._lost(0, "so many")
    assert (made.ended, made.problem) == ("cannot work", "so many")


#: Objects that were denied (!: and others not any more), + where one was allowed; is it the role?
DENIED: dict[str, tuple[Sequence[str], bool]] = {
    "three objects": ("abc", True),
    "two": ("ab", False),
    "one again and again": ("aaaa", False),
    "others were allowed before": ("+abcd", False),
    "others were allowed in between": ("ab+cde", False),
    "what was allowed is not any more": ("+abc!", True),
    "it is allowed again": ("+ab!+cdef", False),
}


@pytest.mark.parametrize(("told", "role"), DENIED.values(), ids=DENIED.keys())
def test_three_objects_denied_and_none_allowed_are_the_role_s_fault(told: str, role: bool) -> None:
    denials, found = Denials(), False
    for each, after in zip(told, told[1:] + " ", strict=True):
        if each == "+":
            denials.allowed()
        elif each != "!":
            found = denials.told(each, withdrawn=after == "!")
    assert found is role


# --- before it begins -----------------------------------------------------------------------------------


def test_an_outage_at_the_start_is_waited_out(world: World) -> None:
    world.job("a")
    world.cloud.faults.error("sqs:GetQueueAttributes", "ServiceUnavailable", status=503, times=2)
    run = world.work(**altered(world, HASTY))
    assert (run.receipt["done"], len(run.event("waiting"))) == (1, 2)


def test_an_outage_at_the_start_that_does_not_end_ends_the_worker_with_a_sentence(world: World) -> None:
    world.cloud.faults.error("sqs:GetQueueAttributes", "ServiceUnavailable", status=503)
    run = world.start(**altered(world, f"{HASTY}; worker.START_PATIENCE = 1.5"))
    assert run.end() == CANNOT_WORK
    assert "ServiceUnavailable; the queue could not be asked for" in run.receipt["problem"]


def test_told_to_stop_while_it_waits_for_aws_it_leaves_its_receipt(world: World) -> None:
    world.cloud.faults.error("sqs:GetQueueAttributes", "ServiceUnavailable", status=503)
    run = world.start(**altered(world, HASTY))
    wait_for(lambda: run.event("waiting"))
    run.term()
    assert run.end(10) == DRAINED
    assert (run.receipt["ended"], "problem" in run.receipt) == ("stopped", False)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr("airflow_transient.worker.time.sleep", taken.append)
    return taken


def preparing(monkeypatch: pytest.MonkeyPatch, *ends: Exception) -> Callable[[], Place]:
    """`prepared`, where it goes wrong so often and in these ways."""
    left, place = list(ends), Place("r", "q", "d", "s3://b/f")

    def prepare(_: Options) -> Place:
        if left:
            raise left.pop(0)
        return place

    monkeypatch.setattr(worker, "prepare", prepare)
    return lambda: worker.prepared(Options("jobs", "s3://b/f", ("true",)))


def test_credentials_that_are_not_there_yet_are_waited_for(monkeypatch: pytest.MonkeyPatch, naps: list[float]) -> None:
    assert preparing(monkeypatch, *[NoCredentials("none")] * 7)().region == "r"
    assert naps == [1, 2, 4, 8, 16, 30, 30]


@pytest.mark.parametrize("end", [CannotWork("denied"), Gone("InvalidParameterValue")])
def test_what_is_refused_for_good_ends_it_at_once(
    monkeypatch: pytest.MonkeyPatch, naps: list[float], end: Exception
) -> None:
    with pytest.raises(CannotWork):
        preparing(monkeypatch, end)()
    assert naps == []
