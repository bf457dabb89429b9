"""A run's manifest in S3: parts written as messages are sent, read back by the next try, and by other runs.

A part holds what was sent since the one before. What was sent and not yet written down when a process dies is sent
again: parts are therefore small.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from airflow_transient.aws.in_order import in_order
from airflow_transient.aws.launcher import bucket_said
from airflow_transient.core.batch import manifest
from airflow_transient.core.batch.manifest import Sent
from airflow_transient.core.batch.naming import Wish
from airflow_transient.core.spec import S3Prefix

#: A part is written when so many messages were sent since the last, or so many seconds have passed.
LINES, SECONDS = 100, 5.0
READ_AT_ONCE = 16


class Manifest:
    """
    :param folder: of all runs that send to this queue; each run's is below it.
    """

    def __init__(
        self, s3: Any, folder: S3Prefix, run: str, clock: Callable[[], float] = time.monotonic, lines: int = LINES
    ) -> None:
        self.s3, self.folder, self.run = s3, folder, run
        self._clock, self._most = clock, lines
        self._writer = uuid.uuid4().hex[:8]
        self._written = 0
        self._lines: list[str] = []
        self._since = clock()

    def __str__(self) -> str:
        return f"s3://{self.folder.bucket}/{self._prefix}"

    @property
    def _prefix(self) -> str:
        return f"{self.folder.prefix}{self.run}/"

    def begin(self, words: Mapping[str, Any]) -> None:
        """Before the first message: what cannot be written down is not sent."""
        self._put("run.json", json.dumps(words))

    def note(self, wish: Wish, message_id: str) -> None:
        if not self._lines:
            self._since = self._clock()
        self._lines.append(manifest.line(wish, message_id))
        if len(self._lines) >= self._most or self._clock() - self._since >= SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            self._put(manifest.part_name(self._written, self._writer), "\n".join(self._lines) + "\n")
            self._written += 1
            self._lines = []

    def sent(self, others: bool = False) -> tuple[Sent, Sent]:
        """(what this run has sent, what others have): the others' only where they are asked for."""
        own, of_others = Sent(), Sent()
        prefix = self.folder.prefix if others else self._prefix
        for key, text in in_order(self._read, self._parts(prefix), READ_AT_ONCE):
            (own if key.startswith(self._prefix) else of_others).add(text.splitlines())
        return own, of_others

    def _parts(self, prefix: str) -> Iterator[str]:
        with bucket_said("s3:ListBucket", self.folder.bucket):
            pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.folder.bucket, Prefix=prefix)
            for page in pages:
                yield from (each["Key"] for each in page.get("Contents", ()) if manifest.is_part(each["Key"]))

    def _read(self, key: str) -> tuple[str, str]:
        with bucket_said("s3:GetObject", self.folder.bucket):
            return key, self.s3.get_object(Bucket=self.folder.bucket, Key=key)["Body"].read().decode(errors="replace")

    def _put(self, name: str, text: str) -> None:
        with bucket_said("s3:PutObject", self.folder.bucket):
            self.s3.put_object(Bucket=self.folder.bucket, Key=self._prefix + name, Body=text.encode())
