"""Files become objects and messages: all of them, the object first, whatever goes wrong on the way."""

from __future__ import annotations

import json
import os
import tempfile
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_transient.aws.enqueue_queue import TRIES
from airflow_transient.aws.enqueue_sources import Gone, LeftOut, Unusable, source_of
from airflow_transient.core.batch.naming import Namer, Wish
from airflow_transient.errors import AccessError, LaunchError, SpecError
from tests.aws.enqueue_world import T0, Aws, Crash, Desk, Dying, fill, refusal, spec_of

NAMES = [f"file {n:02}.txt" for n in range(25)]


@pytest.fixture
def aws() -> Aws:
    return Aws()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "data", *NAMES)


def test_each_file_becomes_an_object_and_a_message(aws: Aws, folder: Path) -> None:
    said = Desk(aws, spec_of(folder, parameters=["-v"], outputs="s3://bucket/out/{stem}.png")).go()
    assert aws.names() == NAMES
    assert aws.objects["in/file 03.txt"] == b"words of file 03.txt"
    job = next(each for each in aws.jobs if each.input == "s3://bucket/in/file 03.txt")
    assert (job.output, job.parameters) == ("s3://bucket/out/file 03.png", ("-v",))
    assert aws.calls["SendMessageBatch"] == 3
    assert (said.enqueued, said.earlier, said.skipped_already, said.left_out) == (25, 0, 0, 0)
    assert said.bytes == sum(len(f"words of {name}") for name in NAMES)
    assert said.queue == "jobs"


def test_the_manifest_lists_what_was_sent(aws: Aws, folder: Path) -> None:
    said = Desk(aws, spec_of(folder)).go()
    assert said.manifest == "s3://bucket/in/_manifests/jobs/run-1/"
    kept = {key: body for key, body in aws.objects.items() if "_manifests" in key}
    parts = [body.decode() for key, body in kept.items() if key.endswith(".jsonl")]
    lines = [json.loads(line) for part in parts for line in part.splitlines()]
    assert {line["id"] for line in lines} == {job.id for job in aws.jobs}
    assert json.loads(kept["in/_manifests/jobs/run-1/run.json"]) == {"dag": "dag"}


@pytest.mark.parametrize("encode", [True, False], ids=["base64", "plain"])
def test_old_workers_get_their_own_messages(aws: Aws, folder: Path, encode: bool) -> None:
    Desk(aws, spec_of(folder, message_format="seed" if encode else "seed-plain")).go()
    body = aws.messages[0]["MessageBody"]
    assert (body[0] != "[") is encode
    assert {job.output for job in aws.jobs} == {f"s3://bucket/out/{name}" for name in NAMES}


# --- crash, and the next try ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", range(1, 33))
@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
def test_whatever_call_a_crash_comes_at_nothing_is_lost(folder: Path, at: int, when: str, fifo: bool) -> None:
    aws = Aws(queue="jobs.fifo" if fifo else "jobs")
    desk = Desk(aws, spec_of(folder, sqs_queue=aws.queue), lines=10)
    aws.meddle = Dying(at, when)
    with pytest.raises(Crash):
        desk.go()
    aws.meddle = lambda *_: None
    said = desk.go(resumed=True)
    assert sorted(set(aws.names())) == NAMES
    again = len(aws.names()) - len(NAMES)
    assert again == 0 if fifo else again <= 20  # a part that was not written, and the batch after it
    assert said.enqueued == 25
    assert said.enqueued - said.earlier - again >= 0  # the second try alone sends anything twice


def test_a_try_after_all_was_sent_sends_nothing(aws: Aws, folder: Path) -> None:
    desk = Desk(aws, spec_of(folder))
    desk.go()
    before = aws.calls["PutObject"]
    said = desk.go(resumed=True)
    assert (said.enqueued, said.earlier) == (25, 25)
    assert len(aws.messages) == 25
    assert aws.calls["PutObject"] == before


def test_crash_after_crash_comes_to_an_end(aws: Aws, folder: Path) -> None:
    desk = Desk(aws, spec_of(folder, uploads=1), lines=5)

    def survived() -> bool:
        aws.meddle = Dying(24, "after")
        try:
            desk.go(resumed=True)
        except Crash:
            return False
        return True

    assert any(survived() for _ in range(30))
    assert sorted(set(aws.names())) == NAMES


def test_what_was_sent_is_written_down_when_an_error_ends_it(aws: Aws, folder: Path) -> None:
    """A process that raises is no process that is killed: nothing is sent twice."""

    def refuse(when: str, action: str, words: dict[str, Any]) -> None:
        if action == "SendMessageBatch" and aws.calls[action] == 3:
            raise refusal("RequestThrottled", action)

    desk = Desk(aws, spec_of(folder), lines=1000)
    aws.meddle = refuse
    with pytest.raises(LaunchError, match="RequestThrottled"):
        desk.go()
    aws.meddle = lambda *_: None
    desk.go(resumed=True)
    assert aws.names() == NAMES


def test_a_file_that_changed_since_is_another_job(aws: Aws, folder: Path) -> None:
    desk = Desk(aws, spec_of(folder))
    desk.go()
    (folder / NAMES[0]).write_text("other words")
    assert desk.go(resumed=True).enqueued == 26
    assert aws.objects[f"in/{NAMES[0]}"] == b"other words"


def test_a_damaged_part_is_sent_again(aws: Aws, folder: Path) -> None:
    desk = Desk(aws, spec_of(folder))
    desk.go()
    part = next(key for key in aws.objects if key.endswith(".jsonl"))
    aws.objects[part] = b"\xff{\n" + aws.objects[part][5:]
    assert desk.go(resumed=True).enqueued == 25
    assert len(aws.messages) == 26


def test_a_try_that_still_lives_and_the_next_one_write_over_no_part(aws: Aws, folder: Path) -> None:
    desk = Desk(aws, spec_of(folder), lines=10)
    desk.go()
    desk.go()
    assert sum(key.endswith(".jsonl") for key in aws.objects) == 6


# --- another run ----------------------------------------------------------------------------------------------------


def test_another_run_sends_all_again(aws: Aws, folder: Path) -> None:
    Desk(aws, spec_of(folder)).go()
    assert Desk(aws, spec_of(folder), run="run-2").go().enqueued == 25
    assert len(aws.messages) == 50


def test_once_leaves_out_what_other_runs_have_sent(aws: Aws, folder: Path) -> None:
    Desk(aws, spec_of(folder)).go()
    fill(folder, "new.txt")
    said = Desk(aws, spec_of(folder, once=True), run="run-2").go()
    assert (said.enqueued, said.skipped_already) == (1, 25)
    assert len(aws.messages) == 26


def test_once_remembers_per_queue(aws: Aws, folder: Path) -> None:
    Desk(aws, spec_of(folder, once=True)).go()
    aws.queue = "others"
    assert Desk(aws, spec_of(folder, once=True, sqs_queue="others"), run="run-2").go().enqueued == 25


def test_copies_below_their_source_are_not_sent_as_new_files(aws: Aws) -> None:
    aws.objects |= {f"raw/{n:02}.txt": b"x" for n in range(20)}
    spec = spec_of("s3://bucket/raw", input_prefix="s3://bucket/raw/in", pattern="**/*.txt", once=True)
    assert [Desk(aws, spec, run=run).go().enqueued for run in ("run-1", "run-2", "run-3")] == [20, 0, 0]
    assert len([key for key in aws.objects if key.endswith(".txt")]) == 40


# --- FIFO -----------------------------------------------------------------------------------------------------------


def test_a_group_keeps_the_order_of_names(folder: Path) -> None:
    aws = Aws(queue="jobs.fifo")
    Desk(aws, spec_of(folder, sqs_queue="jobs.fifo", message_group="one")).go()
    assert [job.input.rpartition("/")[2] for job in aws.jobs] == NAMES
    assert {each["MessageGroupId"] for each in aws.messages} == {"one"}


def test_another_run_is_no_duplicate_on_a_fifo_queue(folder: Path) -> None:
    aws = Aws(queue="jobs.fifo")
    for run in ("run-1", "run-2"):
        Desk(aws, spec_of(folder, sqs_queue="jobs.fifo"), run=run).go()
    assert len(aws.messages) == 50


# --- what SQS does not take -----------------------------------------------------------------------------------------


class Partial:
    """SQS takes only those of a batch that it is asked for so many times."""

    def __init__(self, aws: Aws, times: int, fault: bool = False, code: str = "InternalError") -> None:
        self.aws, self.times, self.fault, self.code = aws, times, fault, code
        self.asked: dict[str, int] = {}

    def __call__(self, when: str, action: str, words: dict[str, Any]) -> Any:
        if when == "after" or action != "SendMessageBatch":
            return None
        good, bad = [], []
        for each in words["Entries"]:
            odd = "file 0" in each["MessageBody"]
            self.asked[each["MessageBody"]] = self.asked.get(each["MessageBody"], 0) + 1
            (bad if odd and self.asked[each["MessageBody"]] <= self.times else good).append(each)
        answer = self.aws._send(words["QueueUrl"], good) if good else {"Successful": []}
        return {**answer, "Failed": [{"Id": e["Id"], "SenderFault": self.fault, "Code": self.code} for e in bad]}


@pytest.mark.parametrize(("fault", "code"), [(False, "InternalError"), (True, "KmsThrottled")])
def test_messages_that_sqs_failed_to_take_are_asked_for_again(aws: Aws, folder: Path, fault: bool, code: str) -> None:
    desk = Desk(aws, spec_of(folder))
    aws.meddle = Partial(aws, times=2, fault=fault, code=code)
    assert desk.go().enqueued == 25
    assert aws.names() == NAMES
    assert desk.paused
    assert max(desk.paused) < 1


def test_not_for_ever_and_those_that_were_taken_are_written_down(aws: Aws, folder: Path) -> None:
    desk = Desk(aws, spec_of(folder, message_group="g"))
    aws.meddle = Partial(aws, times=100)
    with pytest.raises(LaunchError, match=f"not taken in {TRIES} tries .InternalError"):
        desk.go()
    aws.meddle = lambda *_: None
    desk.go(resumed=True)
    assert aws.names() == NAMES


def test_a_message_that_is_refused_holds_up_no_other(aws: Aws, folder: Path) -> None:
    desk = Desk(aws, spec_of(folder))
    aws.meddle = Partial(aws, times=100, fault=True, code="InvalidMessageContents")
    with pytest.raises(SpecError, match=r"10 could not be enqueued, and 15 were .*InvalidMessageContents.*; …"):
        desk.go()
    assert len(aws.messages) == 15
    assert desk.paused == []


def test_a_batch_with_a_wrong_message_goes_message_by_message(aws: Aws, folder: Path) -> None:
    """A queue with a lower MaximumMessageSize refuses the whole call."""

    def refuse(when: str, action: str, words: dict[str, Any]) -> None:
        if action == "SendMessageBatch" and any("file 07" in each["MessageBody"] for each in words["Entries"]):
            raise refusal("InvalidParameterValue", action)

    aws.meddle = refuse
    with pytest.raises(SpecError, match=r"1 could not be enqueued, and 24 were .*file 07\.txt: the queue refuses"):
        Desk(aws, spec_of(folder)).go()


@pytest.mark.parametrize(("length", "fits"), [(1024 * 1024, True), (1024 * 1024 + 1, False)])
def test_a_message_of_1_mib_goes_and_a_longer_one_is_named(aws: Aws, tmp_path: Path, length: int, fits: bool) -> None:
    fill(tmp_path, "a", "b")
    Desk(aws, spec_of(tmp_path, parameters=["x"])).go()
    room = length - len(aws.messages[0]["MessageBody"]) + 1
    desk = Desk(aws, spec_of(tmp_path, parameters=["x" * room]), run="run-2")
    if fits:
        assert desk.go().enqueued == 2
        assert len(aws.messages[-1]["MessageBody"]) == length
        assert aws.calls["SendMessageBatch"] == 3
    else:
        before = dict(aws.objects)
        with pytest.raises(SpecError, match=r"2 could not be enqueued.*a: the message has 1,048,577 bytes"):
            desk.go()
        assert set(aws.objects) - set(before) == {"in/_manifests/jobs/run-2/run.json"}


def test_a_queue_that_is_deleted_midway_is_said_and_how_all_is_sent_again(aws: Aws, folder: Path) -> None:
    """What had been sent went with the queue: another try would send only the rest."""

    def gone(when: str, action: str, words: dict[str, Any]) -> None:
        if action == "SendMessageBatch" and aws.calls[action] == 2:
            raise refusal("AWS.SimpleQueueService.NonExistentQueue", action)

    aws.meddle = gone
    desk = Desk(aws, spec_of(folder))
    with pytest.raises(SpecError, match=r"there is no queue .*The 10 messages .* remove s3://bucket/in/_manifests/"):
        desk.go()
    aws.meddle = lambda *_: None
    aws.messages.clear()
    for key in [key for key in aws.objects if key.startswith("in/_manifests/")]:
        del aws.objects[key]
    assert desk.go(resumed=True).enqueued == 25
    assert aws.names() == NAMES


def test_a_queue_purged_midway_is_no_concern_of_who_sends(aws: Aws, folder: Path) -> None:
    def purge(when: str, action: str, words: dict[str, Any]) -> None:
        if action == "SendMessageBatch" and (when, aws.calls[action]) == ("before", 2):
            aws.messages.clear()

    desk = Desk(aws, spec_of(folder))
    aws.meddle = purge
    assert desk.go().enqueued == 25
    assert len(aws.messages) == 15
    assert desk.go(resumed=True).enqueued == 25
    assert len(aws.messages) == 15


@pytest.mark.parametrize("action", ["PutObject", "CopyObject", "ListObjectsV2"])
def test_an_s3_that_throttles_without_end_is_tried_again_later_and_nothing_is_lost(
    aws: Aws, folder: Path, action: str
) -> None:
    """Once botocore has given up."""

    def slow_down(when: str, called: str, words: dict[str, Any]) -> None:
        if called == action and words.get("Key", "").endswith("in/file 13.txt") | (called == "ListObjectsV2"):
            raise refusal("SlowDown", called, 503)

    source: Any = folder
    if action != "PutObject":
        aws.objects, source = objects("from/"), "s3://bucket/from"
    desk = Desk(aws, spec_of(source))
    aws.meddle = slow_down
    with pytest.raises(LaunchError, match="SlowDown"):
        desk.go()
    aws.meddle = lambda *_: None
    desk.go(resumed=True)
    assert aws.names() == NAMES


def test_two_at_once_on_one_queue_and_directory_each_send_all(aws: Aws, folder: Path) -> None:
    runs = [f"run-{name}" for name in "ab"]
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda run: Desk(aws, spec_of(folder), run=run).go(), runs))
    assert [said.enqueued for said in both] == [25, 25]
    assert sorted(job.input for job in aws.jobs) == sorted(f"s3://bucket/in/{name}" for name in NAMES * 2)


# --- directories ----------------------------------------------------------------------------------------------------


def test_folders_below_are_looked_into_only_where_the_pattern_says(aws: Aws, tmp_path: Path) -> None:
    fill(tmp_path, "a.txt", "deep/b.txt", "deep/er/c.txt", "deep/d.doc", ".hidden/e.txt", ".f.txt")
    assert Desk(aws, spec_of(tmp_path)).go().enqueued == 1
    assert Desk(aws, spec_of(tmp_path, pattern="**/*.txt"), run="run-2").go().enqueued == 3
    assert {job.output for job in aws.jobs} == {
        f"s3://bucket/out/{n}" for n in ("a.txt", "deep/b.txt", "deep/er/c.txt")
    }


def test_only_newer_files_where_that_is_asked_for(aws: Aws, folder: Path) -> None:
    for name in NAMES[:20]:
        os.utime(folder / name, (T0.timestamp(), T0.timestamp()))
    assert Desk(aws, spec_of(folder, newer_than=T0)).go().enqueued == 5
    assert Desk(aws, spec_of(folder, newer_than=T0 - timedelta(seconds=1)), run="run-2").go().enqueued == 25


def test_odd_names_are_names(aws: Aws, tmp_path: Path) -> None:
    names = ["a b", "ünïcødé 文", "a\nb", "100%41+&?#", "-rf", "'\"$(x)", "{name}"]
    fill(tmp_path, *names)
    Desk(aws, spec_of(tmp_path)).go()
    assert aws.names() == sorted(names)
    assert all(f"in/{name}" in aws.objects for name in names)


def test_a_link_out_of_the_directory_is_not_followed(aws: Aws, tmp_path: Path) -> None:
    secret = fill(tmp_path / "etc", "secret") / "secret"
    folder = fill(tmp_path / "data", "a", "deep/b")
    (folder / "out").symlink_to(secret)
    (folder / "folder").symlink_to(tmp_path / "etc")
    (folder / "up").symlink_to("../etc/secret")
    (folder / "loop").symlink_to(".")
    (folder / "broken").symlink_to("nowhere")
    (folder / "within").symlink_to("deep/b")
    os.mkfifo(folder / "pipe")
    desk = Desk(aws, spec_of(folder, pattern="**"))
    said = desk.go()
    assert aws.names() == ["a", "deep/b", "within"]
    assert b"words of secret" not in aws.objects.values()
    assert said.left_out == 6
    assert sum("is left out: " in line for line in desk.said) == 5


def test_a_directory_that_only_begins_the_same_is_outside(aws: Aws, tmp_path: Path) -> None:
    fill(tmp_path / "data-secret", "x")
    folder = fill(tmp_path / "data", "a")
    (folder / "link").symlink_to(tmp_path / "data-secret" / "x")
    Desk(aws, spec_of(folder)).go()
    assert aws.names() == ["a"]


def test_a_name_that_is_too_long_is_said_and_the_others_go(aws: Aws, tmp_path: Path) -> None:
    fill(tmp_path, "a", "/".join(["d" * 200] * 5) + "/" + "e" * 30)
    with pytest.raises(SpecError, match=r"1 could not be enqueued, and 1 were .*eee: its input .* 1,038 bytes"):
        Desk(aws, spec_of(tmp_path, pattern="**")).go()


def test_a_name_of_1024_bytes_goes(aws: Aws, tmp_path: Path) -> None:
    name = "/".join(["d" * 203] * 5)
    fill(tmp_path, name)
    Desk(aws, spec_of(tmp_path, pattern="**", input_prefix="s3://bucket/inn1", outputs="s3://bucket/out/")).go()
    assert {len(key) for key in aws.objects if "_manifests" not in key} == {1024}


def test_a_missing_directory_is_said(aws: Aws, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"there is no directory .*nowhere.* on this worker"):
        Desk(aws, spec_of(tmp_path / "nowhere")).go()
    assert aws.calls.total() == 0


class Vanishing:
    """The directory goes when the nth file is uploaded."""

    def __init__(self, folder: Path, at: int) -> None:
        self.folder, self.at = folder, at
        self.seen = 0

    def __call__(self, when: str, action: str, words: dict[str, Any]) -> None:
        if when == "after" and words.get("Key", "").startswith("in/file"):
            self.seen += 1
            if self.seen == self.at:
                self.folder.rename(self.folder.with_name("gone"))


def test_a_directory_that_vanishes_midway_is_gone_on_with_when_it_is_back(aws: Aws, folder: Path) -> None:
    desk = Desk(aws, spec_of(folder, uploads=1))
    aws.meddle = Vanishing(folder, 15)
    with pytest.raises(LaunchError, match="has gone meanwhile; another try goes on"):
        desk.go()
    folder.with_name("gone").rename(folder)
    aws.meddle = lambda *_: None
    desk.go(resumed=True)
    assert aws.names() == NAMES


def test_a_file_that_vanishes_is_gone_and_no_failure(aws: Aws, folder: Path) -> None:
    spec = spec_of(folder, pattern=NAMES[3])
    source = source_of(spec, aws, LeftOut(print))
    (found,) = source.files()
    (folder / NAMES[3]).unlink()
    wish = Namer(spec).wish(found)
    assert isinstance(wish, Wish)
    with pytest.raises(Gone):
        source.place(wish)


def test_a_file_that_became_a_link_is_not_followed(aws: Aws, tmp_path: Path) -> None:
    secret = fill(tmp_path / "etc", "secret") / "secret"
    folder = fill(tmp_path / "data", "a")
    spec = spec_of(folder)
    source = source_of(spec, aws, LeftOut(print))
    (found,) = source.files()
    (folder / "a").unlink()
    (folder / "a").symlink_to(secret)
    wish = Namer(spec).wish(found)
    assert isinstance(wish, Wish)
    with pytest.raises(Unusable):
        source.place(wish)
    assert aws.objects == {}


def test_a_file_that_is_written_to_meanwhile_waits_for_another_try(aws: Aws, folder: Path) -> None:
    def grow(when: str, action: str, words: dict[str, Any]) -> None:
        if words.get("Key") == f"in/{NAMES[3]}" and when == "after":
            (folder / NAMES[3]).write_text("more words than there were")

    desk = Desk(aws, spec_of(folder))
    aws.meddle = grow
    with pytest.raises(LaunchError, match=r"file 03\.txt: it was written to meanwhile"):
        desk.go()
    aws.meddle = lambda *_: None
    desk.go(resumed=True)
    assert aws.names() == NAMES
    assert aws.objects[f"in/{NAMES[3]}"] == b"more words than there were"


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder; and as long as it is there this process is not root, who may read everything."""
    before = os.geteuid()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o755)
        yield Path(made)
        os.seteuid(before)


def without_rights() -> None:
    if os.geteuid() == 0:
        os.seteuid(65534)


def test_what_may_not_be_read_is_named(aws: Aws, as_nobody: Path) -> None:
    fill(as_nobody, *NAMES, "deep/a", "deeper/b")
    (as_nobody / NAMES[3]).chmod(0)
    (as_nobody / "deeper").chmod(0)
    without_rights()
    with pytest.raises(SpecError, match=r"2 could not be enqueued, and 25 were") as raised:
        Desk(aws, spec_of(as_nobody, pattern="**")).go()
    assert "file 03.txt: it cannot be read: Permission denied" in str(raised.value)
    assert "deeper/: this folder cannot be read: Permission denied" in str(raised.value)


def test_a_directory_that_may_not_be_read_is_said(aws: Aws, as_nobody: Path) -> None:
    as_nobody.chmod(0o711)
    without_rights()
    with pytest.raises(SpecError, match="cannot be read: Permission denied"):
        Desk(aws, spec_of(as_nobody)).go()


def test_an_empty_directory_comes_to_nothing_and_leaves_nothing(aws: Aws, tmp_path: Path) -> None:
    assert Desk(aws, spec_of(tmp_path)).go().enqueued == 0
    assert aws.objects == {}


# --- S3 ---------------------------------------------------------------------------------------------------------------


def objects(prefix: str = "in/") -> dict[str, bytes]:
    return {prefix + name: name.encode() for name in [*NAMES, "deep/x", "", "folder/"]}


def test_objects_where_workers_look_for_them_stay_there(aws: Aws) -> None:
    aws.objects = objects()
    said = Desk(aws, spec_of("s3://bucket/in", input_prefix=None)).go()
    assert aws.names() == NAMES
    assert aws.calls["CopyObject"] == 0
    assert said.bytes == sum(map(len, NAMES))


def test_our_own_manifests_are_no_files(aws: Aws) -> None:
    aws.objects = objects()
    spec = spec_of("s3://bucket/in", input_prefix=None, pattern="**")
    Desk(aws, spec).go()
    assert Desk(aws, spec, run="run-2").go().enqueued == 26


def test_objects_from_elsewhere_are_copied(aws: Aws) -> None:
    aws.objects = objects("from/")
    Desk(aws, spec_of("s3://bucket/from", pattern="**/*.txt")).go()
    assert aws.names() == NAMES
    assert aws.objects["in/file 03.txt"] == b"file 03.txt"


def test_the_same_objects_have_the_same_ids(aws: Aws) -> None:
    aws.objects = objects()
    spec = spec_of("s3://bucket/in", input_prefix=None, once=True)
    Desk(aws, spec).go()
    aws.objects["in/file 03.txt"] = b"other"
    said = Desk(aws, spec, run="run-2").go()
    assert (said.enqueued, said.skipped_already) == (1, 24)


@pytest.mark.parametrize(
    ("code", "status", "raised", "said"),
    [("PreconditionFailed", 412, LaunchError, "written to meanwhile"), ("AccessDenied", 403, AccessError, "s3:GetObj")],
)
def test_a_copy_that_is_refused(aws: Aws, code: str, status: int, raised: type[Exception], said: str) -> None:
    def refuse(when: str, action: str, words: dict[str, Any]) -> None:
        if action == "CopyObject" and words["Key"] == "in/file 03.txt":
            raise refusal(code, action, status)

    aws.objects = objects("from/")
    aws.meddle = refuse
    with pytest.raises(raised, match=said):
        Desk(aws, spec_of("s3://bucket/from")).go()


def test_an_object_that_vanishes_is_no_job(aws: Aws) -> None:
    def take(when: str, action: str, words: dict[str, Any]) -> None:
        if action == "CopyObject":
            aws.objects.pop("from/file 24.txt", None)

    aws.objects = objects("from/")
    aws.meddle = take
    said = Desk(aws, spec_of("s3://bucket/from")).go()
    assert (said.enqueued, said.left_out) == (24, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"sqs_queue": "nowhere"}, "there is no queue 'nowhere' in eu-west-1 of account 123456789012"),
        ({"input_prefix": "s3://nowhere/in"}, "there is no bucket 'nowhere'"),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_sent(
    aws: Aws, folder: Path, words: dict[str, str], said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        Desk(aws, spec_of(folder, **words)).go()
    assert aws.objects == {}
    assert aws.messages == []


# --- many -------------------------------------------------------------------------------------------------------------


def test_a_long_run_says_how_far_it_is(aws: Aws, folder: Path) -> None:
    def ticking() -> Iterator[float]:
        now = 0.0
        while True:
            now += 2.0
            yield now

    desk = Desk(aws, spec_of(folder))
    desk.go(clock=ticking().__next__)
    assert any("enqueued (" in line and "a second" in line for line in desk.said)


@pytest.mark.slow
def test_10_000_files_take_no_more_memory_than_1_000(tmp_path: Path) -> None:
    """But for what tells which were sent before."""

    def peak(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        for n in range(count):
            (folder / f"{n:05}").touch()
        aws = Aws(keeps_all=False)
        desk = Desk(aws, spec_of(folder), lines=100)
        tracemalloc.start()
        said = desk.go()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert said.enqueued == count == len(aws.messages)
        assert aws.calls["SendMessageBatch"] == count / 10
        return most - sum(map(len, aws.objects.values()))

    few, many = peak(1000), peak(10_000)
    assert many < few + 1024 * 1024
    assert many < 3 * 1024 * 1024


def test_10_000_ids_of_before_are_a_few_mib() -> None:
    from airflow_transient.core.batch.manifest import Sent
    from airflow_transient.core.batch.naming import job_id

    tracemalloc.start()
    sent = Sent()
    sent.add(json.dumps({"id": job_id(str(n), ""), "bytes": 1}) for n in range(10_000))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sent.messages == 10_000
    assert most < 2 * 1024 * 1024
