"""EnqueueFilesOperator on the local cloud: its tries, its clears, its ends, and real boto3 on bad days."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from airflow_transient.aws import enqueue_manifest
from airflow_transient.errors import AccessError, LaunchError, SpecError
from airflow_transient.operators.batch import EnqueueFilesOperator
from airflow_transient.worker import Job, read_message
from tests.airflow.stubs import Store, context

NAMES = [f"file {n:02}.txt" for n in range(25)]
WORKER = Path(__file__).resolve().parents[2] / "airflow_transient" / "worker.py"


@dataclass
class Place:
    """A bucket and two queues of the local cloud, and a directory."""

    cloud: Any
    folder: Path
    bucket: str
    queue: str

    @property
    def s3(self) -> Any:
        return self.cloud.client("s3")

    @property
    def sqs(self) -> Any:
        return self.cloud.client("sqs")

    @property
    def fifo(self) -> str:
        return f"{self.queue}.fifo"

    def fill(self, *names: str) -> None:
        for name in names:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"words of {name[:40]}")

    def task(self, **words: Any) -> EnqueueFilesOperator:
        usual = {"task_id": "task", "source": self.folder, "sqs_queue": self.queue}
        usual |= {"input_prefix": f"s3://{self.bucket}/in", "outputs": f"s3://{self.bucket}/out/{{name}}.out"}
        return EnqueueFilesOperator(**{**usual, **words})

    def run(self, ctx: Any = None, **words: Any) -> Any:
        return self.task(**words).execute(ctx or context())

    def received(self, queue: str | None = None) -> list[str]:
        """The bodies of all messages."""
        url = self.sqs.get_queue_url(QueueName=queue or self.queue)["QueueUrl"]
        bodies: list[str] = []
        while messages := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for each in messages:
                bodies.append(each["Body"])
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
        return bodies

    def jobs(self, queue: str | None = None) -> list[Job]:
        return [read_message(body) for body in self.received(queue)]

    def names(self, queue: str | None = None) -> list[str]:
        return sorted(job.input.partition("/in/")[2] for job in self.jobs(queue))

    def body(self, key: str) -> bytes:
        read: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return read

    def keys(self, prefix: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]


@pytest.fixture
def place(on_the_cloud: Any, tmp_path: Path) -> Place:
    made = Place(on_the_cloud, tmp_path / "data", f"files-{uuid.uuid4().hex[:8]}", f"jobs-{uuid.uuid4().hex[:8]}")
    made.folder.mkdir()
    made.s3.create_bucket(Bucket=made.bucket, CreateBucketConfiguration={"LocationConstraint": on_the_cloud.region})
    made.sqs.create_queue(QueueName=made.queue)
    made.sqs.create_queue(QueueName=made.fifo, Attributes={"FifoQueue": "true"})
    return made


def test_a_directory_becomes_objects_and_messages(place: Place) -> None:
    place.fill(*NAMES)
    said = place.run(parameters=["-v"])
    jobs = place.jobs()
    assert sorted(job.input for job in jobs) == [f"s3://{place.bucket}/in/{name}" for name in NAMES]
    assert {job.parameters for job in jobs} == {("-v",)}
    assert place.body("in/file 03.txt") == b"words of file 03.txt"
    assert json.loads(json.dumps(said)) == said
    assert {**said, "manifest": "", "seconds": 0} == {
        "enqueued": 25,
        "earlier": 0,
        "skipped_already": 0,
        "left_out": 0,
        "bytes": sum(len(f"words of {name}") for name in NAMES),
        "queue": place.queue,
        "manifest": "",
        "seconds": 0,
    }
    bucket, _, prefix = said["manifest"].removeprefix("s3://").partition("/")
    assert bucket == place.bucket
    run = json.loads(place.body(prefix + "run.json"))
    assert (run["dag"], run["source"]) == ("dag", str(place.folder))


def test_odd_names_and_keys_of_1024_bytes_arrive_as_they_are(place: Place) -> None:
    long = "/".join(["ü" * 100] * 5) + "/" + "e" * 8
    names = ["a b", "ünïcødé 文", "100%41+&?#=", "-rf", "'\"", long]
    place.fill(*names)
    place.run(pattern="**", outputs=f"s3://{place.bucket}/o/")
    assert place.names() == sorted(names)
    assert len(f"in/{long}".encode()) > 1000
    assert {key for key in place.keys("in/") if "_manifests" not in key} == {f"in/{name}" for name in names}
    assert all(place.body(f"in/{name}") == f"words of {name[:40]}".encode() for name in names)


def test_large_files_travel_in_parts(place: Place) -> None:
    content = os.urandom(9 * 1024 * 1024)
    (place.folder / "large").write_bytes(content)
    (place.folder / "empty").touch()
    assert place.run()["bytes"] == len(content)
    assert place.body("in/large") == content
    assert place.body("in/empty") == b""
    assert "-" in place.s3.head_object(Bucket=place.bucket, Key="in/large")["ETag"]
    assert place.names() == ["empty", "large"]


def test_a_folder_in_s3_in_place_and_copied(place: Place) -> None:
    for name in ("a", "b c", "ü/d", "folder/"):
        place.s3.put_object(Bucket=place.bucket, Key=f"in/{name}", Body=name.encode())
    source = f"s3://{place.bucket}/in/"
    assert place.run(source=source, input_prefix=None, pattern="**")["enqueued"] == 3
    assert place.names() == ["a", "b c", "ü/d"]
    said = place.run(source=source, input_prefix=f"s3://{place.bucket}/copies/in", pattern="**")
    assert said["enqueued"] == 3
    assert place.body("copies/in/ü/d") == "ü/d".encode()


def test_a_fifo_queue_takes_each_once(place: Place) -> None:
    place.fill(*NAMES)
    place.run(sqs_queue=place.fifo, message_group="one")
    assert [job.input.partition("/in/")[2] for job in place.jobs(place.fifo)] == NAMES


def test_old_messages(place: Place) -> None:
    place.fill("a.txt")
    place.run(message_format="seed-plain", outputs=f"s3://{place.bucket}/out/")
    assert place.received() == [json.dumps(["process", place.bucket, "in/", "out/", "a.txt"])]


@pytest.mark.parametrize(("length", "fits"), [(1024 * 1024, True), (1024 * 1024 + 1, False)])
def test_messages_up_to_1_mib(place: Place, length: int, fits: bool) -> None:
    place.fill("a")
    place.run(parameters=["x"])
    (short,) = place.received()
    parameters = ["x" * (length - len(short) + 1)]
    if fits:
        place.run(parameters=parameters)
        assert [len(body) for body in place.received()] == [length]
    else:
        with pytest.raises(SpecError, match="1,048,577 bytes"):
            place.run(parameters=parameters)


def test_a_queue_that_takes_less_names_what_it_refuses(place: Place) -> None:
    place.fill("a", "b" * 200)
    url = place.sqs.get_queue_url(QueueName=place.queue)["QueueUrl"]
    place.sqs.set_queue_attributes(QueueUrl=url, Attributes={"MaximumMessageSize": "1024"})
    with pytest.raises(SpecError, match=r"1 could not be enqueued, and 1 were .*bbb: the queue refuses"):
        place.run(parameters=["x" * 500], outputs=f"s3://{place.bucket}/{'o' * 100}/")
    assert place.names() == ["a"]


# --- tries, clears --------------------------------------------------------------------------------------------------


def test_the_next_try_sends_what_is_missing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.fill(*NAMES)
    store = Store()
    broken = place.cloud.faults.error("SendMessageBatch", "KmsThrottled", status=503, probability=0.9)
    monkeypatch.setattr(enqueue_manifest, "LINES", 10)
    for number in range(1, 6):
        with suppress(LaunchError):
            place.run(context(store, try_number=number))
            break
    place.cloud.faults.remove(broken)
    assert place.run(context(store, try_number=6))["enqueued"] == 25
    assert place.names() == NAMES


def test_a_try_after_the_end_tells_it_again_and_a_clear_begins_anew(place: Place) -> None:
    place.fill("a", "b")
    store = Store()
    first = place.run(context(store))
    assert place.run(context(store, try_number=2)) == first
    assert place.names() == ["a", "b"]
    cleared = place.run(context(store, try_number=2, max_tries=3))
    assert place.names() == ["a", "b"]
    assert cleared["manifest"] != first["manifest"]


def test_a_cleared_task_is_no_duplicate_on_a_fifo_queue(place: Place) -> None:
    place.fill("a")
    store = Store()
    place.run(context(store), sqs_queue=place.fifo)
    place.run(context(store, max_tries=3), sqs_queue=place.fifo)
    assert place.names(place.fifo) == ["a", "a"]


def test_once_remembers_over_runs_and_clears(place: Place) -> None:
    place.fill("a")
    store = Store()
    place.run(context(store), once=True)
    place.fill("b")
    said = place.run(context(store, max_tries=3), once=True)
    assert (said["enqueued"], said["skipped_already"]) == (1, 1)
    with pytest.raises(AirflowSkipException, match="2 were enqueued before"):
        place.run(context(run_id="another"), once=True)
    assert place.names() == ["a", "b"]


def test_tasks_test_begins_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_TEST_MODE", "True")
    place.fill("a")
    store = Store()
    place.run(context(store))
    place.run(context(store))
    assert place.names() == ["a", "a"]
    assert store.kept == {}


def test_mapped_tasks_have_a_manifest_each(place: Place) -> None:
    place.fill("a")
    said = [place.run(context(map_index=index))["manifest"] for index in (0, 1)]
    assert ".task.0." in said[0]
    assert ".task.1." in said[1]


# --- ends -----------------------------------------------------------------------------------------------------------


def test_an_empty_directory_skips_what_follows(place: Place) -> None:
    with pytest.raises(AirflowSkipException, match=r"nothing to enqueue in .*data that matches"):
        place.run()


def test_or_fails_or_succeeds(place: Place) -> None:
    with pytest.raises(SpecError, match="nothing to enqueue"):
        place.run(if_empty="fail", newer_than="2026-01-01")
    assert place.run(if_empty="succeed")["enqueued"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"sqs_queue": "nowhere"}, "there is no queue 'nowhere'"),
        ({"sqs_queue": "arn:aws:sqs:eu-west-1:123456789012:nowhere"}, "there is no queue"),
        ({"input_prefix": "s3://nowhere-at-all/in"}, "there is no bucket 'nowhere-at-all'"),
        ({"source": "s3://nowhere-at-all/in"}, "there is no bucket 'nowhere-at-all'"),
        ({"source": "/nowhere"}, "there is no directory '/nowhere'"),
    ],
)
def test_what_is_missing_is_said(place: Place, words: dict[str, str], said: str) -> None:
    place.fill("a")
    with pytest.raises(SpecError, match=said):
        place.run(**words)


def test_a_queue_url_that_leads_nowhere_is_said_when_it_is_sent_to(place: Place) -> None:
    place.fill("a")
    url = place.sqs.get_queue_url(QueueName=place.queue)["QueueUrl"].replace("/jobs", "/nowhere")
    with pytest.raises(SpecError, match="there is no queue"):
        place.run(sqs_queue=url)


@pytest.mark.parametrize(
    ("action", "code", "named"),
    [("PutObject", "AccessDenied", "s3:PutObject"), ("SendMessageBatch", "AccessDeniedException", "sqs:SendMessage")],
)
def test_a_missing_permission_is_named(place: Place, action: str, code: str, named: str) -> None:
    place.fill("a")
    place.cloud.faults.error(action, code, status=403)
    with pytest.raises(AccessError, match=f"{named} on .* is needed|not allowed: {named}"):
        place.run()


def test_s3_and_sqs_that_are_too_busy_are_asked_again(place: Place) -> None:
    place.fill(*NAMES[:10])
    place.cloud.faults.throttle("PutObject", times=3)
    place.cloud.faults.throttle("SendMessageBatch", times=2)
    assert place.run()["enqueued"] == 10
    assert place.names() == NAMES[:10]


def test_a_lost_answer_is_at_least_once(place: Place) -> None:
    place.fill("a")
    place.cloud.faults.lose_answer("SendMessageBatch", times=1)
    place.run()
    assert set(place.names()) == {"a"}


def test_and_on_a_fifo_queue_once(place: Place) -> None:
    place.fill("a")
    place.cloud.faults.lose_answer("SendMessageBatch", times=1)
    place.run(sqs_queue=place.fifo)
    assert place.names(place.fifo) == ["a"]


def test_a_secret_does_not_go_into_messages(place: Place, mask_secret: Callable[[str], None]) -> None:
    mask_secret("very-secret-word")
    place.fill("a")
    with pytest.raises(SpecError, match="masks as a secret; it would be readable in the messages"):
        place.run(parameters=["--key=very-secret-word"])


# --- words ----------------------------------------------------------------------------------------------------------


def test_a_wrong_word_is_said_where_the_file_is_parsed() -> None:
    with pytest.raises(SpecError, match="same for all files"):
        EnqueueFilesOperator(
            task_id="t", source="/in", sqs_queue="q", input_prefix="s3://bucket/in", outputs="s3://bucket/o"
        )


def test_a_template_is_waited_for() -> None:
    task = EnqueueFilesOperator(
        task_id="t",
        source="/in/{{ ds }}",
        sqs_queue="{{ var.value.queue }}",
        input_prefix="s3://bucket/in/{{ ds }}",
        outputs="s3://bucket/out/{{ ds }}/{name}",
        newer_than="{{ data_interval_start }}",
    )
    task.render_template_fields({"ds": "2026-11-21", "var": {"value": {"queue": "jobs"}}, "data_interval_start": ""})
    spec = task.make_spec()
    assert (spec.source, spec.sqs_queue, spec.newer_than) == ("/in/2026-11-21", "jobs", None)
    assert spec.output_of("a") == "s3://bucket/out/2026-11-21/a"


def test_every_word_is_templated_and_none_of_them_is_airflow_s_own() -> None:
    """`queue` would be: an executor's, for the workers that the task itself runs on."""
    ours = set(inspect.signature(EnqueueFilesOperator.__init__).parameters) - {
        "self",
        "kwargs",
        "retries",
        "retry_policy",
    }
    assert ours == set(EnqueueFilesOperator.template_fields)
    assert not ours & set(inspect.signature(BaseOperator.__init__).parameters)
    assert not ours & set(dir(BaseOperator))


def test_the_door_leads_to_workers_too() -> None:
    from airflow_transient.operators import batch, queue_workers

    assert batch.QueueWorkersOperator is queue_workers.QueueWorkersOperator
    assert all(hasattr(batch, name) for name in batch.__all__)
    assert not hasattr(batch, "SomethingElse")


# --- the other side -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_understands_what_was_enqueued(place: Place) -> None:
    names = ["a b", "ü/文.txt", "-rf", *NAMES[:5]]
    place.fill(*names)
    place.run(pattern="**")
    options = ["--queue", place.queue, "--failures", f"s3://{place.bucket}/failures", "--idle-timeout", "1"]
    options += ["--dead-letter", place.fifo]
    done = subprocess.run(
        [sys.executable, str(WORKER), *options, "--", "cp", "--"],
        env={**os.environ, **place.cloud.env},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] == len(names)
    assert set(place.keys("out/")) == {f"out/{name}.out" for name in names}
    assert all(place.body(f"out/{name}.out") == f"words of {name}".encode() for name in names)
