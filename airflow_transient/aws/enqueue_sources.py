"""Where a batch's files come from, a directory or a folder in S3, and how each gets to where workers look for it.

Files are listed as they are asked for, never all at once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from airflow_transient.aws.launcher import bucket_said, code_of, status_of
from airflow_transient.core.batch import pattern as patterns
from airflow_transient.core.batch.naming import Found, Problem, Wish
from airflow_transient.core.batch.spec import EnqueueSpec
from airflow_transient.core.spec import S3Prefix
from airflow_transient.errors import LaunchError, SpecError

MiB = 1024 * 1024
#: One call for a smaller one; boto3's own transfer, in parts, for a larger one.
UPLOADED_IN_ONE = 8 * MiB
#: S3 copies up to 5 GiB in one call, and that takes its time.
COPIED_IN_ONE = 256 * MiB
PARTS_AT_ONCE = 4
IN_PARTS = TransferConfig(max_concurrency=PARTS_AT_ONCE)
#: Links that are not followed, and what is no file; so many are named in the log.
NAMED = 5


class Gone(Exception):
    """A file that was listed is no longer there."""


class Unusable(Exception):
    """This file cannot be enqueued; others can."""

    def __init__(self, words: str, passing: bool = False) -> None:
        super().__init__(words)
        self.words, self.passing = words, passing


@dataclass
class LeftOut:
    """What lies in the source and is no file of it, counted and partly named; and what could not be looked at."""

    say: Callable[[str], None]
    count: int = 0
    problems: list[Problem] = field(default_factory=list)

    def note(self, name: str, why: str) -> None:
        self.count += 1
        if self.count <= NAMED:
            self.say(f"{ascii(name)[1:-1]} is left out: {why}")


class Source(Protocol):
    def files(self) -> Iterator[Found]:
        """Those that the spec means. Raises SpecError, AccessError, LaunchError."""

    def place(self, wish: Wish) -> None:
        """Put it where workers look for it. Raises Gone, Unusable, and what boto3 raises. Called by many threads."""


def source_of(spec: EnqueueSpec, s3: Any, left_out: LeftOut) -> Source:
    return Directory(spec, s3, left_out) if isinstance(spec.source, str) else Bucket(spec, s3)


# --- a directory of this machine --------------------------------------------------------------------------------------


class Directory:
    """
    Regular files below it, and links to those. A link that leads out of the directory is not followed, nor is one to a
    folder: whoever may put a link there must not choose which of this machine's files are sent away.
    """

    def __init__(self, spec: EnqueueSpec, s3: Any, left_out: LeftOut) -> None:
        self.root = str(spec.source)
        self.spec, self.s3, self.left_out = spec, s3, left_out
        self._parts = patterns.parts_of(spec.pattern)
        self._wanted = spec.wanted()
        self._since = spec.newer_than.timestamp() if spec.newer_than else None
        self._real = os.path.realpath(self.root)

    def files(self) -> Iterator[Found]:
        if not os.path.isdir(self.root):
            raise SpecError(f"source: there is no directory {self.root!r} on this worker ({os.uname().nodename})")
        yield from self._below("")
        self._check_there()

    def place(self, wish: Wish) -> None:
        try:
            with _opened(wish.file.place) as (handle, body):
                self._check_same(wish, handle)
                self._put(wish, body)
                self._check_same(wish, handle)
        except FileNotFoundError:
            self._check_there()
            raise Gone from None
        except PermissionError as error:
            raise Unusable(f"it cannot be read: {error.strerror}") from error
        except OSError as error:
            raise Unusable(f"it cannot be read: {error.strerror or error}", passing=True) from error

    def _put(self, wish: Wish, body: Any) -> None:
        bucket = self.spec.inputs.bucket
        if wish.file.size <= UPLOADED_IN_ONE:
            self.s3.put_object(Bucket=bucket, Key=wish.key, Body=body)
        else:
            self.s3.upload_fileobj(body, bucket, wish.key, Config=IN_PARTS)

    def _check_same(self, wish: Wish, handle: int) -> None:
        if _version(os.fstat(handle)) != wish.file.version:
            raise Unusable("it was written to meanwhile", passing=True)

    def _check_there(self) -> None:
        if not os.path.isdir(self.root):
            raise LaunchError(f"the directory {self.root!r} has gone meanwhile; another try goes on where this stopped")

    def _below(self, folder: str) -> Iterator[Found]:
        """:param folder: relative, with a slash at its end; "" for the root."""
        try:
            with os.scandir(os.path.join(self.root, folder)) as entries:
                # A group of messages keeps the order in which it is sent: that of names.
                for entry in sorted(entries, key=lambda each: each.name) if self.spec.message_group else entries:
                    yield from self._of(entry, folder + entry.name)
        except FileNotFoundError:
            self._check_there()
        except OSError as error:
            if not folder:
                raise SpecError(f"source {self.root!r} cannot be read: {error.strerror}") from error
            self.left_out.problems.append(Problem(folder, f"this folder cannot be read: {error.strerror}"))

    def _of(self, entry: os.DirEntry[str], name: str) -> Iterator[Found]:
        if entry.is_dir(follow_symlinks=False):
            if patterns.leads(self._parts, name.split("/")):
                yield from self._below(name + "/")
        elif self._wanted(name) and (found := self._file(entry, name)):
            yield found

    def _file(self, entry: os.DirEntry[str], name: str) -> Found | None:
        place = entry.path
        try:
            if entry.is_symlink():
                place = os.path.realpath(place)
                if not (place + "/").startswith(self._real.rstrip("/") + "/"):
                    self.left_out.note(name, "a link that leads out of the directory")
                    return None
            seen = os.lstat(place)
        except FileNotFoundError:
            if entry.is_symlink():
                self.left_out.note(name, "a link to nothing")
            return None
        if not stat.S_ISREG(seen.st_mode):
            self.left_out.note(name, "no regular file, or a link to none")
            return None
        if self._since is not None and seen.st_mtime <= self._since:
            return None
        return Found(name, place, seen.st_size, _version(seen))


def _version(seen: os.stat_result) -> str:
    return f"{seen.st_size}-{seen.st_mtime_ns}"


@contextmanager
def _opened(path: str) -> Iterator[tuple[int, Any]]:
    """As it was listed: no link, and nothing that waits for somebody to write into it."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with open(handle, "rb", closefd=False) as body:  # boto3 closes what it has uploaded
            yield handle, body
    finally:
        os.close(handle)


# --- a folder in S3 ---------------------------------------------------------------------------------------------------


class Bucket:
    """Objects below a prefix, in the order of their keys; copied, unless they are where they are wanted."""

    def __init__(self, spec: EnqueueSpec, s3: Any) -> None:
        assert isinstance(spec.source, S3Prefix)  # noqa: S101 - source_of asks the same, and mypy cannot see it
        self.source = spec.source
        self.spec, self.s3 = spec, s3
        self._wanted = spec.wanted()

    def files(self) -> Iterator[Found]:
        with bucket_said("s3:ListBucket", self.source.bucket):
            for page in self._pages():
                for each in page.get("Contents", ()):
                    if found := self._file(each):
                        yield found

    def place(self, wish: Wish) -> None:
        if self.spec.in_place:
            return
        try:
            self._copy(wish)
        except ClientError as error:
            if code_of(error) in ("NoSuchKey", "404"):
                raise Gone from error
            if status_of(error) == 412:
                raise Unusable("it was written to meanwhile", passing=True) from error
            raise

    def _pages(self) -> Any:
        # Without a slash in the pattern all that lies in deeper folders would be listed for nothing.
        flat = {} if "/" in self.spec.pattern or self.spec.pattern == patterns.ANY_FOLDERS else {"Delimiter": "/"}
        prefix = self.source.prefix + patterns.head(self.spec.pattern)
        return self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.source.bucket, Prefix=prefix, **flat)

    def _file(self, said: dict[str, Any]) -> Found | None:
        key, changed = said["Key"], said["LastModified"]
        name = key[len(self.source.prefix) :]
        # What consoles call a folder is an object of no bytes whose name ends with a slash.
        if not name or name.endswith("/") or not self._wanted(name) or not self._new(changed):
            return None
        return Found(name, key, said["Size"], said["ETag"])

    def _new(self, changed: datetime) -> bool:
        return self.spec.newer_than is None or changed > self.spec.newer_than

    def _copy(self, wish: Wish) -> None:
        place = {"Bucket": self.source.bucket, "Key": wish.file.place}
        target = self.spec.inputs.bucket
        if wish.file.size <= COPIED_IN_ONE:
            same = wish.file.version
            self.s3.copy_object(Bucket=target, Key=wish.key, CopySource=place, CopySourceIfMatch=same)
        else:
            self.s3.copy(place, target, wish.key, Config=IN_PARTS)
