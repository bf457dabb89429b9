"""As much of S3 and SQS as enqueuing asks for, in memory, and a process that may die at any call."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from airflow_transient.aws.enqueue import Summary, Tools, enqueue
from airflow_transient.core.batch.spec import EnqueueSpec
from airflow_transient.worker import Job, read_message

T0 = datetime(2026, 11, 21, 6, tzinfo=timezone.utc)


class Crash(BaseException):
    """The process is killed."""


def refusal(code: str, action: str, status: int = 400) -> ClientError:
    answer = {"Error": {"Code": code, "Message": "…"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, action)


@dataclass
class Aws:
    """One bucket, one queue. `client` is what a hook gives. `meddle` is asked before each call and after it."""

    queue: str = "jobs"
    objects: dict[str, bytes] = field(default_factory=dict)
    messages: list[dict[str, str]] = field(default_factory=list)
    forgotten: set[str] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)
    meddle: Callable[[str, str, dict[str, Any]], Any] = lambda when, action, words: None
    keeps_bodies: bool = True
    keeps_all: bool = True

    class meta:
        region_name = "eu-west-1"

    def client(self, service: str, **config: Any) -> Any:
        return self

    def _called(self, action: str, words: dict[str, Any], act: Callable[..., Any]) -> Any:
        self.calls[action] += 1
        if (answer := self.meddle("before", action, words)) is not None:
            return answer
        answer = act(**words)
        self.meddle("after", action, words)
        return answer

    def put_object(self, **words: Any) -> Any:
        return self._called("PutObject", words, self._put)

    def _put(self, Bucket: str, Key: str, Body: Any) -> dict[str, Any]:
        if Bucket != "bucket":
            raise refusal("NoSuchBucket", "PutObject", 404)
        body = Body if isinstance(Body, bytes) else Body.read()
        if self.keeps_all or "/_manifests/" in Key:
            self.objects[Key] = body if self.keeps_bodies or "/_manifests/" in Key else b""
        return {}

    def copy_object(self, **words: Any) -> Any:
        return self._called("CopyObject", words, self._copy)

    def _copy(self, Bucket: str, Key: str, CopySource: dict[str, str], CopySourceIfMatch: str) -> dict[str, Any]:
        if CopySource["Key"] not in self.objects:
            raise refusal("NoSuchKey", "CopyObject", 404)
        if self._etag(CopySource["Key"]) != CopySourceIfMatch:
            raise refusal("PreconditionFailed", "CopyObject", 412)
        self.objects[Key] = self.objects[CopySource["Key"]]
        return {}

    def get_object(self, **words: Any) -> Any:
        return self._called("GetObject", words, lambda Bucket, Key: {"Body": BytesIO(self.objects[Key])})

    def get_paginator(self, name: str) -> Any:
        assert name == "list_objects_v2"
        return self

    def paginate(self, **words: Any) -> Iterator[dict[str, Any]]:
        """Pages of seven, in the order of keys."""
        keys = sorted(key for key in self.objects if key.startswith(words["Prefix"]))
        if "Delimiter" in words:
            keys = [key for key in keys if "/" not in key[len(words["Prefix"]) :]]
        listed = [self._listed(key) for key in keys]
        for start in range(0, len(listed), 7):
            page = listed[start : start + 7]
            yield self._called("ListObjectsV2", words, lambda _page=page, **words: {"Contents": _page})

    def _listed(self, key: str) -> dict[str, Any]:
        return {"Key": key, "Size": len(self.objects[key]), "ETag": self._etag(key), "LastModified": T0}

    def _etag(self, key: str) -> str:
        return hashlib.md5(self.objects[key], usedforsecurity=False).hexdigest()

    def get_queue_url(self, QueueName: str) -> Any:
        if QueueName != self.queue:
            raise refusal("AWS.SimpleQueueService.NonExistentQueue", "GetQueueUrl")
        return {"QueueUrl": f"https://sqs/1/{QueueName}"}

    def get_caller_identity(self) -> Any:
        return {"Account": "123456789012"}

    def send_message_batch(self, **words: Any) -> Any:
        return self._called("SendMessageBatch", words, self._send)

    def _send(self, QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, Any]:
        assert 1 <= len(Entries) <= 10
        assert sum(len(each["MessageBody"].encode()) for each in Entries) <= 1024 * 1024
        for each in Entries:
            if self.keeps_all:
                self._check_object(each["MessageBody"])
            dedup = each.get("MessageDeduplicationId")
            if dedup not in self.forgotten:
                self.messages.append(each if self.keeps_all else {})
            if dedup:
                self.forgotten.add(dedup)
        return {"Successful": [{"Id": each["Id"], "MessageId": f"m-{each['Id']}"} for each in Entries], "Failed": []}

    def _check_object(self, body: str) -> None:
        job = read_message(body)
        assert job.input.removeprefix("s3://bucket/") in self.objects, "a message before its object"

    # --- what came of it

    @property
    def jobs(self) -> list[Job]:
        return [read_message(each["MessageBody"]) for each in self.messages]

    def names(self) -> list[str]:
        return sorted(job.input.rpartition("/in/")[2] for job in self.jobs)


class Dying:
    """Kills the process around its nth call, before AWS has it or after, and all its calls from then on."""

    def __init__(self, at: int, when: str, action: str = "") -> None:
        self.at, self.when, self.action = at, when, action
        self.seen = 0
        self.dead = False

    def __call__(self, when: str, action: str, words: dict[str, Any]) -> None:
        if self.dead:
            raise Crash
        if when == self.when and action.startswith(self.action):
            self.seen += 1
            if self.seen == self.at:
                self.dead = True
                raise Crash


def spec_of(folder: Path | str, **words: Any) -> EnqueueSpec:
    usual = {
        "source": folder,
        "sqs_queue": "jobs",
        "input_prefix": "s3://bucket/in",
        "outputs": "s3://bucket/out/{name}",
    }
    return EnqueueSpec.of(**{**usual, **words})


@dataclass
class Desk:
    """Tries of one run."""

    aws: Aws
    spec: EnqueueSpec
    run: str = "run-1"
    lines: int = 20
    said: list[str] = field(default_factory=list)
    paused: list[float] = field(default_factory=list)

    def go(self, resumed: bool = False, **changed: Any) -> Summary:
        tools = Tools(self.said.append, pause=self.paused.append, lines=self.lines, **changed)
        return enqueue(self.spec, self.run, self.aws.client, {"dag": "dag"}, resumed, tools)


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"words of {path.name[:20]}")
    return folder
