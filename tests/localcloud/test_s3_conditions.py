"""Conditional writes to S3: AWS's answers, and one winner however many ask at the same moment."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_transient.localcloud import LocalCloud

TOGETHER = 6


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud() as running:
        running.client("s3").create_bucket(
            Bucket="reports", CreateBucketConfiguration={"LocationConstraint": running.region}
        )
        yield running


def put(s3: Any, key: str, body: bytes, **condition: str) -> str:
    """The error's code; "" where it was written."""
    try:
        s3.put_object(Bucket="reports", Key=key, Body=body, **condition)
        return ""
    except ClientError as error:
        return f"{error.response['ResponseMetadata']['HTTPStatusCode']} {error.response['Error']['Code']}"


def test_a_condition_that_does_not_hold_is_refused_with_aws_s_codes(cloud: LocalCloud) -> None:
    s3 = cloud.client("s3")
    assert put(s3, "a", b"1", IfNoneMatch="*") == ""
    assert put(s3, "a", b"2", IfNoneMatch="*") == "412 PreconditionFailed"
    etag = s3.head_object(Bucket="reports", Key="a")["ETag"]
    assert put(s3, "a", b"2", IfMatch=etag) == ""
    assert put(s3, "a", b"3", IfMatch=etag) == "412 PreconditionFailed"
    assert put(s3, "b", b"1", IfMatch=etag) == "404 NoSuchKey"
    assert s3.get_object(Bucket="reports", Key="a")["Body"].read() == b"2"


@pytest.fixture
def hurry() -> Iterator[None]:
    """Threads take turns so often that what is not held together comes apart."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_of_those_who_ask_at_once_one_writes(cloud: LocalCloud, hurry: None) -> None:
    clients = [cloud.client("s3") for _ in range(TOGETHER)]
    with ThreadPoolExecutor(TOGETHER) as pool:
        for round in range(20):
            etag = clients[0].put_object(Bucket="reports", Key="c", Body=b"%d" % round)["ETag"]
            start = threading.Barrier(TOGETHER)

            def ask(number: int, start: threading.Barrier = start, etag: str = etag, round: int = round) -> str:
                start.wait(10)
                return put(clients[number], "c", b"%d by %d" % (round, number), IfMatch=etag)

            assert sorted(pool.map(ask, range(TOGETHER))) == ["", *["412 PreconditionFailed"] * (TOGETHER - 1)]
