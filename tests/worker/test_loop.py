"""A worker on the local cloud's real SQS and S3: what becomes of each message."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_transient import worker
from airflow_transient.worker import (
    CANNOT_WORK,
    DRAINED,
    IN_ONE_CALL,
    LONGEST_MESSAGE,
    Job,
    write_message,
    write_seed_message,
)
from tests.worker.world import World, wait_for

MiB = 1024 * 1024
FAILS = ("sh", "-c", "echo what went wrong; exit 3")


def test_a_job_is_done_kept_and_forgotten(world: World) -> None:
    world.job("a.txt", b"some words")
    run = world.start()
    assert run.end() == DRAINED
    assert world.outputs() == {"a.txt": b"SOME WORDS"}
    assert (world.left(), world.left(world.dead), run.left_behind()) == (0, 0, [])
    assert run.receipt["ended"] == "drained"
    counted = {"done": 1, "failed": 0, "dead_lettered": 0, "interrupted": 0, "bytes_in": 10, "bytes_out": 10}
    assert {name: run.receipt[name] for name in counted} == counted
    assert run.receipt["processes"] == [counted]


def test_the_receipt_is_left_where_a_launch_looks_for_it(world: World, tmp_path: Path) -> None:
    run = world.work(TRANSIENT_RESULT=str(tmp_path / "result.json"))
    assert json.loads((tmp_path / "result.json").read_text()) == run.receipt


def test_an_empty_queue_ends_it(world: World) -> None:
    assert world.work().receipt["ended"] == "drained"


#: The last makes a key of 1,024 bytes.
NAMES = ["two words.txt", "línea – 日本 🦆", "per%20cent +?#&", "-rf", "a'b\"c$(d).txt", "é" * 510]


def test_every_key_reaches_the_command_and_comes_back(world: World) -> None:
    for name in NAMES:
        world.job(name, name.encode())
    run = world.work(command=("cp",))
    assert run.receipt["done"] == len(NAMES)
    assert world.outputs() == {name: name.encode() for name in NAMES}


def test_a_file_that_travels_in_parts_comes_back_whole(world: World) -> None:
    body = os.urandom(IN_ONE_CALL + MiB)
    world.job("large", body)
    run = world.work(command=("cp",))
    assert world.outputs() == {"large": body}
    assert (run.receipt["bytes_in"], run.receipt["bytes_out"]) == (len(body), len(body))


def test_the_file_s_name_is_kept_and_the_parameters_follow(world: World) -> None:
    world.job("a b.txt", parameters=["--x", "", "$HOME `id`; é"])
    world.work(command=("sh", "-c", 'out=$2; for each; do printf "%s\\n" "$each"; done >"$out"', "sh"))
    source, target, *parameters = world.outputs()["a b.txt"].decode().splitlines()
    assert (Path(source).name, Path(target).name) == ("a b.txt", "a b.txt")
    assert parameters == ["--x", "", "$HOME `id`; é"]


def test_a_message_of_1_mib_is_worked_on(world: World) -> None:
    world.put("in/a")
    words = ["x" * 1000] * 1043
    job = Job("a", f"s3://{world.bucket}/in/a", f"s3://{world.bucket}/out/a", tuple(words))
    room = LONGEST_MESSAGE - len(write_message(job))
    world.send(write_message(Job(job.id, job.input, job.output, (*words[1:], "x" * (1000 + room)))))
    world.work(command=("sh", "-c", 'echo $# >"$2"', "sh"))
    assert world.outputs() == {"a": b"1045\n"}


def test_a_message_of_1_mib_that_fails_is_a_dead_letter_as_it_was(world: World) -> None:
    world.put("in/a")
    job = Job("a", f"s3://{world.bucket}/in/a", f"s3://{world.bucket}/out/a", ("",))
    body = write_message(Job(job.id, job.input, job.output, ("x" * (LONGEST_MESSAGE - len(write_message(job))),)))
    assert len(body) == LONGEST_MESSAGE
    world.send(body)
    world.work("--max-failures", "1")
    assert [each["Body"] for each in world.buried()] == [body]
    assert world.failures()[0]["kind"] == "parameters"  # no command line holds one of a megabyte


def test_old_producers_are_served(world: World) -> None:
    world.put("input/a.txt")
    world.send(write_seed_message(world.bucket, "input/", "out/", "a.txt"))
    world.work("--output-extension", ".up")
    assert world.outputs() == {"a.txt.up": b"WORDS"}


# --- failures -------------------------------------------------------------------------------------------


def test_a_job_that_fails_is_tried_three_times_and_then_a_dead_letter(world: World) -> None:
    job = world.job("a.txt", parameters=["-v"])
    run = world.start(command=FAILS)
    assert run.end() == DRAINED
    assert [run.receipt[name] for name in ("done", "failed", "dead_lettered")] == [0, 3, 1]
    (letter,) = world.buried()
    assert letter["Body"] == write_message(job)
    said = {name: each["StringValue"] for name, each in letter["MessageAttributes"].items()}
    assert said.pop("transient.message")
    assert said == {
        "transient.kind": "exit-code",
        "transient.failures": "3",
        "transient.id": job.id,
        "transient.reason": "the command ended with exit code 3",
    }
    assert (world.left(), world.outputs(), run.left_behind()) == (0, {}, [])


def test_each_failure_is_an_object_with_all_that_a_person_needs(world: World) -> None:
    job = world.job("a.txt", id="my/job 1".replace(" ", "-"))
    world.work("--max-failures", "2", command=FAILS)
    keys = world.keys("failures/")
    assert [key.split("/")[1] for key in keys] == ["my%2Fjob-1"] * 2
    assert [key.rpartition("-")[2] for key in keys] == ["1.json", "2.json"]
    first = world.failures()[0]
    assert first["exit_code"] == 3
    assert first["log_tail"] == "what went wrong\n"
    assert first["kind"] == "exit-code"
    assert first["message"]["input"] == job.input
    assert {"worker", "moment", "reason"} <= set(first)


def test_a_job_that_fails_once_is_done_at_the_second_try(world: World, tmp_path: Path) -> None:
    world.job("a.txt")
    once = f'[ -e {tmp_path}/tried ] && cp "$1" "$2" || {{ touch {tmp_path}/tried; exit 1; }}'
    run = world.work(command=("sh", "-c", once, "sh"))
    assert [run.receipt[name] for name in ("done", "failed", "dead_lettered")] == [1, 1, 0]
    assert world.outputs() == {"a.txt": b"words"}


def test_a_failed_job_waits_its_delay_and_the_worker_for_it(world: World) -> None:
    world.job("a.txt")
    run = world.work("--retry-delay", "2", "--max-failures", "2", command=FAILS)
    assert run.receipt["dead_lettered"] == 1
    assert run.receipt["seconds"] > 3  # the delay, and after the last try the idle time-out


def test_of_two_that_were_put_back_the_one_that_takes_longer_is_waited_for(world: World, tmp_path: Path) -> None:
    world.job("long", parameters=["long"])
    (message,) = world.sqs.receive_message(QueueUrl=world.queue, VisibilityTimeout=0)["Messages"]
    for number in (1, 2):  # so its next delay is four times the first
        world.put(f"failures/{json.loads(message['Body'])['id']}/{message['MessageId']}-{number}.json", b"{}")
    world.job("short", parameters=["short"])
    once = f'[ -e {tmp_path}/$3 ] && cp "$1" "$2" || {{ echo $3 >>{tmp_path}/failed; touch {tmp_path}/$3; exit 1; }}'
    run = world.work("--retry-delay", "1", "--max-failures", "4", command=("sh", "-c", once, "sh"))
    assert (tmp_path / "failed").read_text().split() == ["long", "short"]
    assert (run.receipt["done"], world.left()) == (2, 0)


def test_interruptions_do_not_count_as_failures(world: World) -> None:
    """Received more often than it may fail, and only then done."""
    world.job("a.txt")
    for _ in range(5):
        world.sqs.receive_message(QueueUrl=world.queue, VisibilityTimeout=0)
    assert world.work("--max-failures", "1").receipt["done"] == 1


def test_a_message_whose_last_failure_was_recorded_but_not_answered_is_not_run_again(world: World) -> None:
    world.job("a.txt")
    (message,) = world.sqs.receive_message(QueueUrl=world.queue, VisibilityTimeout=0)["Messages"]
    name = json.loads(message["Body"])["id"]
    world.put(f"failures/{name}/{message['MessageId']}-1.json", b"{}")
    run = world.work("--max-failures", "1")
    assert (run.receipt["done"], run.receipt["dead_lettered"], world.outputs()) == (0, 1, {})


def test_a_redriven_dead_letter_begins_anew(world: World) -> None:
    job = world.job("a.txt")
    world.work("--max-failures", "2", command=FAILS)
    for letter in world.buried():
        world.send(letter["Body"])
    run = world.work("--max-failures", "2", command=FAILS)
    assert run.receipt["failed"] == 2
    assert len(world.keys(f"failures/{job.id}/")) == 4


#: script -> how it failed: kind, exit code
ENDINGS = {
    "true": ("no-output", 0),
    'mkdir "$2"': ("no-output", 0),
    "kill -9 $$": ("exit-code", 137),
    "exit 255": ("exit-code", 255),
    "sleep 60": ("timeout", None),
    "sleep 60 & sleep 60 & wait": ("timeout", None),
    "trap '' TERM; while :; do sleep 1; done": ("timeout", None),
}
EVAL = ("sh", "-c", 'eval "$3"', "sh")


def below(folder: Path) -> list[str]:
    """Folders in there that are some process's own, also where they are "(deleted)"."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):  # gone meanwhile, or somebody else's
            found.append(os.readlink(link))
    return [each for each in found if each.startswith(f"{folder}/")]


def test_each_failure_has_its_kind_and_none_of_their_processes_lives_on(world: World) -> None:
    for number, script in enumerate(ENDINGS):
        world.job(f"{number}", parameters=[script], id=f"{number}")
    world.job("missing", None, parameters=["true"], id="missing")
    options = ("--max-failures", "1", "--job-timeout", "3", "--processes", "2", "--idle-timeout", "4")
    run = world.start(*options, command=EVAL)
    wait_for(lambda: len(run.event("dead-lettered")) == len(ENDINGS) + 1)
    assert (below(run.folder / "tmp"), run.process.poll()) == ([], None)  # they end with the job, not with its worker
    run.end()
    found = {each["message"]["id"]: (each["kind"], each["exit_code"]) for each in world.failures()}
    wanted = {f"{number}": ending for number, ending in enumerate(ENDINGS.values())}
    assert found == {**wanted, "missing": ("missing-input", None)}
    assert (run.receipt["dead_lettered"], run.left_behind()) == (len(found), [])


def test_a_command_that_leaves_no_output_is_done_where_that_is_allowed(world: World) -> None:
    world.job("a.txt", parameters=["true"])
    world.job("b.txt", parameters=['cp "$1" "$2"'])
    assert world.work("--no-output", command=EVAL).receipt["done"] == 2
    assert world.outputs() == {"b.txt": b"words"}


def test_a_bucket_that_is_missing_is_that_message_s_failure(world: World) -> None:
    world.put("in/a")
    good = f"s3://{world.bucket}/in/a"
    world.send(write_message(Job("no-input", "s3://there-is-no-such-bucket/a", "s3://b-b/a")))
    world.send(write_message(Job("no-output", good, "s3://there-is-no-such-bucket/a")))
    world.job("fine.txt")
    run = world.work("--max-failures", "1")
    assert sorted(each["kind"] for each in world.failures()) == ["missing-input", "missing-output"]
    assert (run.receipt["done"], run.receipt["dead_lettered"]) == (1, 2)


def test_a_bad_message_goes_to_the_dead_letters_at_once_and_harms_nobody(world: World) -> None:
    world.send("rm -rf everything")
    world.send(json.dumps(["delete", "b", "i/", "o/", "f"]))
    world.job("a.txt")
    run = world.work()
    assert (run.receipt["done"], run.receipt["failed"], run.receipt["dead_lettered"]) == (1, 2, 2)
    assert {each["MessageAttributes"]["transient.kind"]["StringValue"] for each in world.buried()} == {"bad-message"}
    assert {key.split("/")[1] for key in world.keys("failures/")} == {"_bad"}
    assert "rm -rf" not in run.said


def test_dead_letters_go_where_it_was_said_with_what_the_message_carried(world: World) -> None:
    other = world.sqs.create_queue(QueueName=f"{world.name}-other")["QueueUrl"]
    world.send("bad", MessageAttributes={"colour": {"DataType": "String", "StringValue": "red"}})
    world.work("--dead-letter", f"{world.name}-other")
    assert (world.left(world.dead), world.left(other)) == (0, 1)
    (letter,) = world.sqs.receive_message(QueueUrl=other, MessageAttributeNames=["All"])["Messages"]
    assert letter["MessageAttributes"]["colour"]["StringValue"] == "red"


# --- FIFO -----------------------------------------------------------------------------------------------


def test_a_group_of_a_fifo_queue_stays_in_order_past_a_poisoned_message(make_world: Callable[..., World]) -> None:
    world = make_world(fifo=True)
    for name in ("1", "2", "3", "4"):
        more = {"MessageGroupId": "g", "MessageDeduplicationId": name}
        world.job(name, b"poison" if name == "2" else name.encode(), **more)
    log = world.folder / "order"
    script = f'cat "$1" >>{log}; echo >>{log}; grep -q poison "$1" && exit 1; cp "$1" "$2"'
    run = world.work("--processes", "2", "--max-failures", "2", command=("sh", "-c", script, "sh"))
    assert log.read_text().split() == ["1", "poison", "poison", "3", "4"]
    (letter,) = world.buried()
    assert letter["Attributes"]["MessageGroupId"] == "g"
    assert (
        letter["Attributes"]["MessageDeduplicationId"]
        == letter["MessageAttributes"]["transient.message"]["StringValue"]
    )
    assert (run.receipt["done"], world.left()) == (3, 0)


# --- what it cannot work with ---------------------------------------------------------------------------


#: Its queue, its options, its command, and what is said.
SETUPS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "no such queue": (("--queue", "no-such-queue"), "cp", "no such queue"),
    "no queue at all": (("--queue", "two words"), "cp", "is no queue"),
    "no such command": ((), "no-such-command", "no command no-such-command"),
    "a command that is no program": ((), "/etc/passwd", "no command /etc/passwd"),
    "no dead letter queue": (("--queue", "no-dead-letters"), "cp", "--dead-letter"),
    "itself as dead letter queue": (("--queue", "no-dead-letters", "--dead-letter", "no-dead-letters"), "cp", "itself"),
    "no bucket for failures": (("--failures", "failures/"), "cp", "s3://bucket/key"),
    "no folder for files": (("--temp", "/no/such/folder"), "cp", "temporary files"),
}


@pytest.mark.parametrize(("options", "command", "why"), SETUPS.values(), ids=SETUPS.keys())
def test_what_cannot_work_says_so_before_it_touches_a_message(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    command: str,
    why: str,
) -> None:
    for name, value in world.cloud.env.items():
        monkeypatch.setenv(name, value)
    world.sqs.create_queue(QueueName="no-dead-letters")
    world.job("a.txt")
    usual = ("--queue", world.queue, "--failures", f"s3://{world.bucket}/failures")
    assert worker.main([*usual, *options, "--", command]) == CANNOT_WORK
    told = capfd.readouterr()
    assert why in told.err.splitlines()[-1]
    assert why in json.loads(told.out)["problem"]
    assert world.visible() == 1


def test_without_boto3_it_says_how_boto3_arrives(world: World, tmp_path: Path) -> None:
    (tmp_path / "boto3.py").write_text("raise ImportError('no boto3')")
    run = world.start(PYTHONPATH=str(tmp_path))
    assert run.end() == CANNOT_WORK
    for way in ("dnf install -y python3-boto3", "apt-get install -y python3-boto3", "pip install boto3"):
        assert way in run.said
    assert "Traceback" not in run.said


def test_a_queue_whose_redrive_is_too_eager_is_warned_about(make_world: Callable[..., World]) -> None:
    run = make_world(receives=3).work()
    assert "make it 8 or more" in run.event("warning")[0]["reason"]


def test_an_interpreter_that_cannot_start_the_command_stops_the_worker_and_the_message_is_back(world: World) -> None:
    script = world.folder / "convert"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text("#!/no/such/interpreter\n")
    os.chmod(script, 0o700)
    world.job("a.txt")
    run = world.start(command=(str(script),))
    assert run.end() == CANNOT_WORK
    assert "cannot be started" in run.receipt["problem"]
    assert (world.visible(), world.failures()) == (1, [])
