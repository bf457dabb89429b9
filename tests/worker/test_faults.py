"""What goes wrong around a worker: it is killed, throttled, cut off, denied; nothing is lost, little is done twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from airflow_transient.worker import CANNOT_WORK, DRAINED, Denied, Store
from tests.worker.world import Run, World, wait_for


def slow(log: Path, seconds: float = 60.0) -> tuple[str, ...]:
    """A command that notes its name in a file and takes its time."""
    return ("sh", "-c", f'echo "$$" >>{log}; sleep {seconds}; cp "$1" "$2"', "sh")


def begun(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pids: list[int]) -> bool:
    return not any(map(alive, pids))


# --- the table of the issue -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_with_all_faults_on_99_are_right_and_the_poisoned_one_is_a_dead_letter(
    make_world: Callable[..., World],
) -> None:
    world = make_world(receives=50)
    for number in range(100):
        world.job(f"{number:02}.txt", b"poison" if number == 40 else f"words of {number}".encode())
    faults = world.cloud.faults
    for action in ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"):
        faults.throttle(action, times=5)
        faults.lose_answer(action, times=3)
    for action in ("s3:GetObject", "s3:PutObject"):
        faults.error(action, "SlowDown", status=503, probability=0.1)
        faults.lose_answer(action, times=3)
    lost = faults.lose_answer("sqs:SendMessage", times=1)
    script = 'grep -q poison "$1" && kill -9 $$; tr a-z A-Z <"$1" >"$2"'
    options = ("--processes", "4", "--visibility", "6", "--idle-timeout", "8")
    run = world.start(*options, command=("sh", "-c", script, "sh"))
    wait_for(lambda: len(run.event("done")) > 20)
    os.kill(run.pids()[0], signal.SIGKILL)
    assert run.end(110) == DRAINED
    assert faults.hits(lost) == 1
    faults.clear()
    outputs = {f"{n:02}.txt": f"WORDS OF {n}".encode() for n in range(100) if n != 40}
    assert world.outputs() == outputs
    letters = [each["MessageAttributes"]["transient.message"]["StringValue"] for each in world.buried()]
    assert (len(letters) > 1, len(set(letters))) == (True, 1)  # at least once: the answer that was lost made it two
    assert world.left() == 0
    assert run.receipt["done"] >= 98  # a worker may be killed after it deleted and before it could say so
    assert {each["kind"] for each in world.failures()} == {"exit-code"}
    assert len(run.event("worker-died")) == 1
    assert run.left_behind() == []


# --- killed ---------------------------------------------------------------------------------------------


def test_a_worker_killed_in_mid_job_loses_nothing_and_leaves_nothing(world: World, tmp_path: Path) -> None:
    log = tmp_path / "log"
    world.job("a.txt")
    script = f'echo $$ >>{log}; [ $(wc -l <{log}) = 1 ] && sleep 60; cp "$1" "$2"'
    run = world.start("--visibility", "3", "--idle-timeout", "5", command=("sh", "-c", script, "sh"))
    (first,) = wait_for(lambda: begun(log))
    (victim,) = run.pids()
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: gone([first, victim]), 5)  # its job does not outlive it
    assert run.end() == DRAINED
    assert world.outputs() == {"a.txt": b"words"}
    assert (run.receipt["done"], run.receipt["interrupted"], run.receipt["failed"]) == (1, 1, 0)
    assert (world.failures(), run.left_behind()) == ([], [])


def test_a_killed_supervisor_takes_its_workers_along_and_the_message_is_back_at_once(
    world: World, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    world.job("a.txt")
    run = world.start(command=slow(log))
    pids = [*wait_for(lambda: begun(log)), *run.pids()]
    run.process.kill()
    wait_for(lambda: gone(pids), 10)
    wait_for(lambda: world.visible() == 1, 5)
    assert world.failures() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_in_mid_job_it_gives_the_message_back_at_once(
    world: World, tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "log"
    for name in ("a", "b", "c"):
        world.job(name)
    run = world.start("--processes", "2", command=slow(log))
    pids = wait_for(lambda: len(begun(log)) == 2 and begun(log))
    asked = time.monotonic()
    run.process.send_signal(number)
    assert run.end() == DRAINED
    assert time.monotonic() - asked < 5
    assert gone(pids)
    assert (world.visible(), world.failures(), run.left_behind()) == (3, [], [])
    assert (run.receipt["ended"], run.receipt["interrupted"], run.receipt["done"]) == ("stopped", 2, 0)


def test_told_to_stop_while_others_wait_nobody_takes_the_message_along(world: World, tmp_path: Path) -> None:
    log = tmp_path / "log"
    world.job("a.txt")
    run = world.start("--processes", "3", "--idle-timeout", "60", command=slow(log))
    wait_for(lambda: begun(log))
    wait_for(lambda: world.cloud.queue_calls(world.name)["ReceiveMessage"] >= 3)
    run.term()
    assert run.end() == DRAINED
    assert (world.visible(), run.receipt["interrupted"]) == (1, 1)


def test_told_to_stop_while_it_waits_it_does_not_wait_for_the_long_poll(world: World) -> None:
    run = world.start("--idle-timeout", "60")
    wait_for(lambda: world.cloud.queue_calls(world.name)["ReceiveMessage"])
    asked = time.monotonic()
    run.term()
    assert run.end() == DRAINED
    assert time.monotonic() - asked < 10


def test_told_to_stop_while_an_input_travels_it_breaks_that_off(world: World) -> None:
    world.job("a.txt", b"x" * 50_000_000)
    world.cloud.faults.delay("s3:GetObject", 30.0)
    run = world.start()
    wait_for(lambda: run.event("received"))
    run.term()
    assert run.end(10) == DRAINED
    assert (world.visible(), run.receipt["interrupted"], run.left_behind()) == (1, 1, [])


class Notices:
    """An instance metadata service that says when the machine is taken back."""

    def __init__(self) -> None:
        self.notice, self.asked = "", 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        notices = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self._say(200, "token")

            def do_GET(self) -> None:
                notices.asked += 1
                known = self.path == "/latest/meta-data/spot/instance-action" and notices.notice
                allowed = self.headers.get("X-aws-ec2-metadata-token") == "token"
                self._say(401 if not allowed else 200 if known else 404, notices.notice)

            def _say(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler


@pytest.fixture
def notices() -> Iterator[Notices]:
    made = Notices()
    yield made
    made.close()


def watching(notices: Notices) -> dict[str, str]:
    return {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": notices.url}


@pytest.mark.slow
def test_a_spot_notice_gives_the_message_back_at_once(world: World, tmp_path: Path, notices: Notices) -> None:
    log = tmp_path / "log"
    world.job("a.txt")
    run = world.start(command=slow(log), **watching(notices))
    pids = wait_for(lambda: begun(log))
    assert notices.asked > 0
    notices.notice = json.dumps({"action": "terminate", "time": "2030-01-01T00:00:00Z"})
    assert run.end(15) == DRAINED
    assert run.receipt["ended"] == "reclaimed"
    assert gone(pids)
    assert (world.visible(), world.failures()) == (1, [])


# --- a job and its message's visibility -----------------------------------------------------------------


@pytest.mark.slow
def test_a_job_longer_than_the_visibility_runs_once(world: World, tmp_path: Path) -> None:
    log = tmp_path / "log"
    world.job("a.txt")
    run = world.work("--processes", "2", "--visibility", "4", command=slow(log, 10))
    assert len(begun(log)) == 1
    assert (run.receipt["done"], world.outputs()) == (1, {"a.txt": b"words"})


@pytest.mark.slow
def test_a_heart_that_cannot_beat_for_a_while_changes_nothing(world: World, tmp_path: Path) -> None:
    log = tmp_path / "log"
    world.job("a.txt")
    fault = world.cloud.faults.throttle("sqs:ChangeMessageVisibility", times=2)
    run = world.work("--visibility", "6", command=slow(log, 7))
    assert world.cloud.faults.hits(fault) == 2
    assert (len(begun(log)), run.receipt["done"]) == (1, 1)


def test_a_purge_in_mid_job_ends_the_job_and_keeps_no_output(world: World, tmp_path: Path) -> None:
    """Somebody took the message away: its result is not wanted, or is another's to keep."""
    log = tmp_path / "log"
    world.job("a.txt")
    run = world.start("--visibility", "3", command=slow(log))
    pids = wait_for(lambda: begun(log))
    world.sqs.purge_queue(QueueUrl=world.queue)
    assert run.end(20) == DRAINED
    assert gone(pids)
    assert (world.outputs(), world.failures(), run.receipt["interrupted"]) == ({}, [], 1)


def test_a_queue_that_is_deleted_in_mid_job_ends_the_worker(world: World, tmp_path: Path) -> None:
    log = tmp_path / "log"
    world.job("a.txt")
    run = world.start("--visibility", "3", command=slow(log))
    pids = wait_for(lambda: begun(log))
    world.sqs.delete_queue(QueueUrl=world.queue)
    assert run.end(20) == CANNOT_WORK
    assert gone(pids)
    assert "no such queue" in run.receipt["problem"]


def test_where_a_message_may_not_be_kept_hidden_the_worker_stops_with_a_sentence(world: World, tmp_path: Path) -> None:
    world.job("a.txt")
    world.cloud.faults.error("sqs:ChangeMessageVisibility", "AccessDenied", status=403)
    run = world.start("--visibility", "3", command=slow(tmp_path / "log"))
    assert run.end(20) == CANNOT_WORK
    assert "ChangeMessageVisibility was refused" in run.receipt["problem"]


# --- commands that misbehave ----------------------------------------------------------------------------


def test_what_a_job_forks_does_not_outlive_it_even_in_a_session_of_its_own(world: World, tmp_path: Path) -> None:
    log = tmp_path / "log"
    world.job("a.txt")
    hides = f"setsid sh -c 'echo $$ >>{log}; sleep 60' & (setsid setsid sh -c 'echo $$ >>{log}; sleep 60' &)"
    script = f'{hides}; while [ "$(wc -l <{log})" != 2 ]; do sleep 0.05; done; cp "$1" "$2"'
    log.touch()
    run = world.start("--idle-timeout", "4", command=("sh", "-c", script, "sh"))
    wait_for(lambda: run.event("done"))
    assert len(begun(log)) == 2
    assert gone(begun(log))
    assert run.process.poll() is None  # they end with the job, and not with its worker
    run.end()
    assert (run.receipt["done"], run.receipt["seconds"] < 30) == (1, True)


@pytest.mark.parametrize("kept", [1, 0], ids=["1 KiB is kept", "nothing is kept"])
def test_a_command_that_prints_without_end_fills_neither_disk_nor_memory(world: World, kept: int) -> None:
    world.job("a.txt")
    options = ("--job-timeout", "3", "--max-failures", "1", "--log-tail", str(kept))
    run = world.start(*options, command=("sh", "-c", "yes tail"))
    peak = 0
    while run.process.poll() is None:
        for pid in run.pids():
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            peak = max(peak, int(status.partition("VmHWM:")[2].split()[0]) if "VmHWM:" in status else 0)
        time.sleep(0.1)
    run.end()
    (failure,) = world.failures()
    assert failure["kind"] == "timeout"
    assert failure["log_tail"] == ("tail\n" * 300)[-1024:] * kept
    assert 0 < peak < 200_000
    assert run.left_behind() == []


def test_a_folder_that_a_job_made_unwritable_is_removed_all_the_same(world: World) -> None:
    world.job("a.txt")
    run = world.work(command=("sh", "-c", 'cp "$1" "$2"; mkdir -p d/e; touch d/e/f; chmod 0 d/e d', "sh"))
    assert (run.receipt["done"], run.left_behind()) == (1, [])


# --- S3 and SQS say no ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_throttled_s3_is_an_interruption_and_the_job_is_done_when_it_ends(world: World) -> None:
    world.job("a.txt")
    fault = world.cloud.faults.error("s3:GetObject", "SlowDown", status=503, times=7)  # more than botocore's own tries
    run = world.work("--idle-timeout", "2")
    assert world.cloud.faults.hits(fault) == 7
    assert (run.receipt["done"], run.receipt["interrupted"], run.receipt["failed"]) == (1, 1, 0)
    assert world.failures() == []


def test_denied_three_inputs_and_allowed_none_the_worker_stops_with_a_sentence(world: World) -> None:
    for name in ("a", "b", "c"):
        world.job(name)
    world.cloud.faults.error("s3:GetObject", "AccessDenied", status=403)
    run = world.start("--processes", "3", "--retry-delay", "900")
    assert run.end() == CANNOT_WORK
    assert "3 inputs were denied and none allowed" in run.receipt["problem"]
    assert "s3:ListBucket" in run.receipt["problem"]
    assert "Traceback" not in run.said
    world.cloud.faults.clear()
    assert [each["kind"] for each in world.failures()] == ["input-refused"] * 3
    assert (world.left(), run.receipt["ended"]) == (3, "cannot work")


def test_denied_one_input_a_worker_that_has_read_nothing_yet_makes_it_a_dead_letter(world: World) -> None:
    """Or it would end one machine after the other, and never be counted."""
    world.job("a.txt")
    world.cloud.faults.error("s3:GetObject", "AccessDenied", status=403)
    run = world.start("--processes", "2")
    assert run.end() == DRAINED
    assert (run.receipt["failed"], run.receipt["dead_lettered"], world.left()) == (3, 1, 0)
    assert "s3:ListBucket" in world.buried()[0]["MessageAttributes"]["transient.reason"]["StringValue"]


def test_denied_outputs_are_failures_too_until_they_are_three(world: World) -> None:
    world.job("a")
    world.cloud.faults.error("s3:PutObject", "AccessDenied", status=403, times=1)
    assert world.work("--max-failures", "2").receipt["done"] == 1
    assert [each["kind"] for each in world.failures()] == ["output-refused"]


def test_denied_while_the_others_work_a_process_breaks_off_nobody_s_job(world: World, tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        world.job(name)
    script = f'touch {tmp_path}/begun.$$; until [ -e {tmp_path}/go ]; do sleep 0.05; done; cp "$1" "$2"'
    options = ("--processes", "4", "--max-failures", "1", "--idle-timeout", "5")
    run = world.start(*options, command=("sh", "-c", script, "sh"))
    wait_for(lambda: len(list(tmp_path.glob("begun.*"))) == 3)
    denied = world.cloud.faults.error("s3:GetObject", "AccessDenied", status=403)
    for name in ("4", "5", "6"):
        world.job(name)
    wait_for(lambda: len(run.event("dead-lettered")) == 3)
    assert world.cloud.faults.hits(denied) == 3
    (tmp_path / "go").touch()
    assert run.end() == DRAINED
    assert (run.receipt["done"], run.receipt["dead_lettered"], run.receipt["interrupted"]) == (3, 3, 0)


#: What was read before, what has become of it; are others still allowed?
READ_BEFORE: dict[str, tuple[bool, str, bool | None]] = {
    "nothing": (False, "", None),
    "an object that is still to be had": (True, "", True),
    "an object that is gone": (True, "deleted", True),
    "an object that is denied now, too": (True, "denied", False),
}


@pytest.mark.parametrize(("read", "then", "others"), READ_BEFORE.values(), ids=READ_BEFORE.keys())
def test_what_was_read_before_says_whether_an_object_alone_is_denied(
    world: World, tmp_path: Path, read: bool, then: str, others: bool | None
) -> None:
    store = Store(world.s3, room=1000)
    world.put("first")
    world.put("second")
    if read:
        store.fetch(f"s3://{world.bucket}/first", str(tmp_path / "file"))
    if then == "deleted":
        world.s3.delete_object(Bucket=world.bucket, Key="first")
    for action in ("s3:GetObject", *(["s3:HeadObject"] if then == "denied" else [])):
        world.cloud.faults.error(action, "AccessDenied", status=403)
    with pytest.raises(Denied) as denied:
        store.fetch(f"s3://{world.bucket}/second", str(tmp_path / "file"))
    assert denied.value.others is others


def test_an_object_that_alone_is_denied_is_that_message_s_failure(world: World, tmp_path: Path) -> None:
    """Or one object with rights of its own would stop one worker after the other."""
    world.job("1")
    world.job("2")
    script = f'touch {tmp_path}/begun; until [ -e {tmp_path}/go ]; do sleep 0.05; done; cp "$1" "$2"'
    run = world.start("--max-failures", "1", command=("sh", "-c", script, "sh"))
    wait_for((tmp_path / "begun").exists)
    world.cloud.faults.error("s3:GetObject", "AccessDenied", status=403, times=1)
    (tmp_path / "go").touch()
    assert run.end() == DRAINED
    assert [each["kind"] for each in world.failures()] == ["input-refused"]
    assert (run.receipt["done"], run.receipt["dead_lettered"]) == (1, 1)


def test_where_failures_cannot_be_recorded_the_worker_stops_and_the_message_is_back(world: World) -> None:
    world.job("a.txt")
    run = world.start("--failures", "s3://no-such-bucket-here/failures", command=("false",))
    assert run.end() == CANNOT_WORK
    assert "s3://no-such-bucket-here/failures/" in run.receipt["problem"]
    assert world.visible() == 1


def test_a_dead_letter_that_is_refused_stays_where_it_is(world: World) -> None:
    world.send("a bad message")
    world.cloud.faults.error("sqs:SendMessage", "InvalidParameterValue", status=400, times=1)
    run = world.work("--idle-timeout", "2")
    assert (run.receipt["interrupted"], run.receipt["dead_lettered"], len(world.buried())) == (1, 1, 1)


def test_a_dead_letter_is_counted_though_its_message_could_not_be_deleted(world: World) -> None:
    world.send("a bad message")
    world.cloud.faults.error("sqs:DeleteMessage", "ReceiptHandleIsInvalid", status=400, times=1)
    run = world.work()
    assert (run.receipt["dead_lettered"], len(world.buried())) == (1, 1)


def test_three_deaths_are_not_enough_to_give_up(world: World) -> None:
    """Killed before they do anything, as by a machine without memory."""
    run = world.start("--idle-timeout", "60")

    def kill_all() -> bool:
        for pid in run.pids() if run.process.poll() is None else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(run.event("worker-died")) >= 3

    wait_for(kill_all)
    assert run.process.poll() is None
    run.term()
    assert run.end() == DRAINED


def run_of_many(world: World) -> Run:
    for number in range(12):
        world.job(f"{number}")
    return world.work("--processes", "3", command=("sh", "-c", 'sleep 0.3; cp "$1" "$2"', "sh"))


def test_n_processes_share_the_work(world: World) -> None:
    run = run_of_many(world)
    assert run.receipt["done"] == 12
    assert [each["done"] > 0 for each in run.receipt["processes"]] == [True] * 3
    assert {name: sum(each[name] for each in run.receipt["processes"]) for name in ("done", "bytes_in")} == {
        "done": 12,
        "bytes_in": 60,
    }


def test_two_workers_on_one_queue_do_each_job_once(world: World, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for number in range(10):
        world.job(f"{number}")
    both = [world.start(command=("sh", "-c", f'echo $$ >>{log}; sleep 0.2; cp "$1" "$2"', "sh")) for _ in "ab"]
    assert [run.end() for run in both] == [DRAINED, DRAINED]
    assert len(begun(log)) == len(world.outputs()) == 10
