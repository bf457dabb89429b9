"""Bad input and faults at a worker: a full disk, throttling, a purge. Nothing is lost, and what happened is said."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from airflow_transient import worker
from airflow_transient.worker import CANNOT_WORK, DRAINED, DiskFull, Failure, Interruption, Job, write_message
from tests.worker.world import PYTHON, Run, World, altered, program, wait_for

MiB = 1024 * 1024


# --- the disk -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "size", "kind"),
    [
        pytest.param(errno.ENOSPC, 100, Failure, id="it never had room here"),
        pytest.param(errno.ENOSPC, 10, DiskFull, id="others have filled the disk"),
        pytest.param(errno.EDQUOT, 10, DiskFull, id="others have used up the quota"),
        pytest.param(errno.EFBIG, 10, Failure, id="no file may be so large"),
        pytest.param(errno.EIO, 10, Interruption, id="the disk is broken"),
    ],
)
def test_a_full_disk_is_the_message_s_failure_only_where_it_never_had_room(
    number: int, size: int, kind: type[Exception]
) -> None:
    assert type(worker._disk(OSError(number, os.strerror(number)), size, room=50)) is kind


@pytest.fixture
def small(tmp_path: Path) -> tuple[str, Path]:
    """A python whose /mnt is a disk of 4 MiB; and where its jobs may leave word."""
    if not shutil.which("bwrap"):
        pytest.skip("no bwrap here, so no small disk")
    disk = f"bwrap --dev-bind / / --size {4 * MiB} --tmpfs /mnt --die-with-parent"
    if subprocess.run([*shlex.split(disk), "true"], check=False, capture_output=True).returncode:
        pytest.skip("bwrap makes no file system here")
    return program(tmp_path / "python", f'exec {disk} {shlex.quote(PYTHON)} "$@"'), tmp_path


def on_small_disk(world: World, python: str, command: Sequence[str], *options: str) -> Run:
    return world.start("--temp", "/mnt", *options, command=command, python=python)


def test_a_command_that_fills_the_disk_fails_alone(world: World, small: tuple[str, Path]) -> None:
    """Its files go with it, and there is room for the next."""
    for number in range(3):
        world.job(f"{number}.txt", b"x" * MiB, parameters=["fill"] if number == 1 else ["copy"])
    script = 'if [ "$3" = fill ]; then cat /dev/zero >waste; else cp "$1" "$2"; fi'
    run = on_small_disk(world, small[0], ("sh", "-c", script, "sh"), "--max-failures", "1")
    assert run.end() == DRAINED
    assert sorted(world.outputs()) == ["0.txt", "2.txt"]
    (failure,) = world.failures()
    assert (failure["kind"], failure["message"]["input"][-5:]) == ("exit-code", "1.txt")
    assert "No space left on device" in failure["log_tail"]
    assert (run.receipt["done"], run.receipt["dead_lettered"], world.left()) == (2, 1, 0)


def test_an_input_that_fits_no_empty_disk_is_a_dead_letter_that_says_so(world: World, small: tuple[str, Path]) -> None:
    world.job("large", b"x" * 5 * MiB)
    world.job("fine", b"words")
    run = on_small_disk(world, small[0], ("cp",), "--max-failures", "2")
    assert run.end() == DRAINED
    assert world.outputs() == {"fine": b"words"}
    (letter,) = world.buried()
    assert letter["MessageAttributes"]["transient.kind"]["StringValue"] == "disk-full"
    assert "5,242,880 bytes" in letter["MessageAttributes"]["transient.reason"]["StringValue"]


def test_a_disk_that_a_job_left_full_is_no_other_message_s_failure(world: World, small: tuple[str, Path]) -> None:
    """Filled outside the job's own folder, so nobody cleans it: another machine has to go on."""
    world.job("0", b"small")
    script = 'cat /dev/zero >/mnt/waste 2>/dev/null; echo done >&2; touch "$2"; true'
    run = on_small_disk(world, small[0], ("sh", "-c", script, "sh"), "--idle-timeout", "20")
    wait_for(lambda: run.event("done"))
    for name in ("1", "2"):
        world.job(name, b"x" * MiB)
    assert run.end() == CANNOT_WORK
    assert "the disk is full" in run.receipt["problem"]
    assert "start another machine" in run.receipt["problem"]
    assert (world.failures(), run.receipt["failed"], run.receipt["dead_lettered"]) == ([], 0, 0)
    assert (run.receipt["interrupted"], world.left()) == (3, 2)
    assert world.work(command=("cp",)).receipt["done"] == 2


def test_while_others_work_on_a_full_disk_it_waits_for_their_end(world: World, small: tuple[str, Path]) -> None:
    """Theirs is all the room, and it comes back."""
    world.job("first", b"x", parameters=["fill"])
    go = small[1] / "go"
    held = f'cat /dev/zero >waste 2>/dev/null; touch {go}.full; until [ -e {go} ]; do sleep 0.05; done; touch "$2"'
    script = f'if [ "$3" = fill ]; then {held}; else cp "$1" "$2"; fi'
    run = on_small_disk(world, small[0], ("sh", "-c", script, "sh"), "--processes", "2", "--idle-timeout", "5")
    wait_for(Path(f"{go}.full").exists)
    world.job("second", b"x" * MiB, parameters=["copy"])
    wait_for(lambda: run.event("trouble"))
    go.touch()
    assert run.end() == DRAINED
    assert sorted(world.outputs()) == ["first", "second"]
    assert (world.failures(), world.left()) == ([], 0)


@pytest.mark.parametrize("full", ["1", "2"], ids=["stdout", "stderr"])
@pytest.mark.parametrize(("command", "code"), [("cp", DRAINED), ("no-such-command", CANNOT_WORK)])
def test_a_log_that_cannot_be_written_changes_nothing(world: World, full: str, command: str, code: int) -> None:
    world.job("a", b"words")
    receipt = world.folder / "result.json"
    python = program(world.folder / "python", f'exec {shlex.quote(PYTHON)} "$@" {full}>/dev/full')
    run = world.start(command=(command,), python=python, TRANSIENT_RESULT=str(receipt))
    assert run.end() == code
    assert ('"done": 1' in receipt.read_text()) is (code == DRAINED)


# --- throttled ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["out/", "failures/"])
def test_an_output_or_a_failure_that_s3_throttles_is_kept_when_it_answers(world: World, key: str) -> None:
    """More often than it is asked there and then: the message goes back, and its job is done or fails once more."""
    hasty = "worker.clients = functools.partial(worker.clients, patient=False)"  # botocore's own tries take 20 s
    fails = key == "failures/"
    world.job("a.txt")
    fault = world.cloud.faults.error("s3:PutObject", "SlowDown", status=503, times=1)
    command = ("false",) if fails else ("cp",)
    run = world.work("--idle-timeout", "2", "--max-failures", "1", command=command, **altered(world, hasty))
    assert world.cloud.faults.hits(fault) == 1
    assert run.receipt["interrupted"] == 1
    assert (run.receipt["done"], run.receipt["dead_lettered"]) == ((0, 1) if fails else (1, 0))
    assert len(world.keys(key)) == 1
    assert world.left() == 0


# --- the queue ------------------------------------------------------------------------------------------


def test_a_queue_purged_while_messages_wait_ends_the_worker_as_an_empty_one(world: World, tmp_path: Path) -> None:
    """What was taken away is counted nowhere; what is being done then is told as interrupted."""
    for number in range(5):
        world.job(f"{number}")
    script = f'touch {tmp_path}/begun; sleep 60; cp "$1" "$2"'
    run = world.start("--visibility", "2", command=("sh", "-c", script, "sh"))
    wait_for((tmp_path / "begun").exists)
    world.sqs.purge_queue(QueueUrl=world.queue)
    assert run.end(30) == DRAINED
    assert run.event("interrupted")[0]["reason"].startswith("ChangeMessageVisibility")
    wanted = {"done": 0, "failed": 0, "dead_lettered": 0, "interrupted": 1, "ended": "drained"}
    assert {name: run.receipt[name] for name in wanted} == wanted


def test_a_queue_s_visibility_of_0_is_not_the_worker_s(world: World, tmp_path: Path) -> None:
    """With 0 each poll would hand out the same message again."""
    attributes = world.sqs.get_queue_attributes(QueueUrl=world.queue, AttributeNames=["VisibilityTimeout"])
    assert attributes["Attributes"]["VisibilityTimeout"] == "0"
    log = tmp_path / "log"
    world.job("a")
    both = [world.start(command=("sh", "-c", f'echo x >>{log}; sleep 2; cp "$1" "$2"', "sh")) for _ in "ab"]
    assert [run.end() for run in both] == [DRAINED, DRAINED]
    assert (log.read_text(), world.left()) == ("x\n", 0)


def test_workers_that_die_without_doing_anything_are_given_up(world: World) -> None:
    """As on a machine without memory; after two deaths here, so that it does not take minutes."""
    run = world.start("--idle-timeout", "60", **altered(world, "worker.DEATHS = 2"))

    def kill_them() -> bool:
        for pid in run.pids() if run.process.poll() is None else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return run.process.poll() is not None

    wait_for(kill_them)
    assert run.end() == CANNOT_WORK
    assert "2 workers in a row died without doing anything; the last with exit code -9" in run.receipt["problem"]
    assert run.left_behind() == []


# --- names and sizes ------------------------------------------------------------------------------------


def test_a_name_of_dots_or_nothing_leads_nowhere(make_world: Callable[..., World]) -> None:
    world = make_world()
    for number, key in enumerate(("in/..", "in/.", "in/x/")):
        world.put(key, b"words")
        job = Job(f"{number}", f"s3://{world.bucket}/{key}", f"s3://{world.bucket}/out/{number}")
        world.send(write_message(job))
    run = world.work(command=("cp",))
    assert (run.receipt["done"], run.left_behind()) == (3, [])
    assert set(world.outputs().values()) == {b"words"}
