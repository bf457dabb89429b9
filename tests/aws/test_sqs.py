"""Reading depths: what is asked, how often, and what is said where there is no answer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, NoRegionError

from airflow_transient.aws.sqs import Address, Reader, read_depth, read_depths, read_or_unread
from airflow_transient.core.depth import Depth, Unread
from airflow_transient.errors import AccessError, LaunchError, SpecError

NOW = datetime.now(timezone.utc)


def refusal(code: str, status: int = 400) -> ClientError:
    answer = {"Error": {"Code": code, "Message": "…"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "GetQueueAttributes")


EMPTY = {f"ApproximateNumberOfMessages{name}": "0" for name in ("", "NotVisible", "Delayed")}


class Stub:
    """SQS, CloudWatch and STS in one client, whose next answers are written down; without any, it knows all queues."""

    class meta:
        region_name = "eu-west-1"

    def __init__(self, *answers: Exception | dict[str, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.made: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, service: str, **config: Any) -> Any:
        self.made.append((service, config))
        return self

    def get_queue_url(self, **words: Any) -> Any:
        self.asked.append(("GetQueueUrl", words))
        return {"QueueUrl": f"https://sqs/1/{words['QueueName']}"}

    def get_queue_attributes(self, **words: Any) -> Any:
        self.asked.append(("GetQueueAttributes", words))
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, Exception):
            raise answer
        counts = {"": 3, "NotVisible": 2, "Delayed": 1}
        return {"Attributes": {f"ApproximateNumberOfMessages{name}": str(n) for name, n in counts.items()} | answer}

    def get_caller_identity(self) -> Any:
        return {"Account": "123456789012"}

    @property
    def actions(self) -> list[str]:
        return [action for action, _ in self.asked]


URL = "https://sqs.eu-central-1.amazonaws.com/111122223333/jobs"


@pytest.mark.parametrize(
    ("words", "name", "region", "account"),
    [
        ("jobs", "jobs", None, None),
        ("jobs.fifo", "jobs.fifo", None, None),
        (URL, "jobs", "eu-central-1", "111122223333"),
        ("arn:aws:sqs:us-west-2:111122223333:jobs", "jobs", "us-west-2", "111122223333"),
        ("arn:aws-us-gov:sqs:us-gov-west-1:111122223333:jobs.fifo", "jobs.fifo", "us-gov-west-1", "111122223333"),
        ("https://eu-west-2.queue.amazonaws.com/111122223333/jobs", "jobs", "eu-west-2", "111122223333"),
        ("https://queue.amazonaws.com/111122223333/jobs", "jobs", "us-east-1", "111122223333"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/111122223333/jobs", "jobs", "cn-north-1", "111122223333"),
        ("https://vpce-0a-b.sqs.ap-southeast-1.vpce.amazonaws.com/1/jobs", "jobs", "ap-southeast-1", "1"),
        ("http://127.0.0.1:4566/123456789012/jobs", "jobs", None, "123456789012"),
    ],
)
def test_a_queue_is_named_in_three_ways(words: str, name: str, region: str | None, account: str | None) -> None:
    address = Address.of(words)
    assert (address.name, address.region, address.account) == (name, region, account)


@pytest.mark.parametrize(
    "words", ["arn:aws:sqs:eu-west-1:jobs", "arn:aws:s3:a:1:b", "https://sqs.x.com/jobs", "http://h"]
)
def test_what_is_no_queue_is_refused(words: str) -> None:
    with pytest.raises(SpecError, match="is no queue"):
        Address.of(words)


def test_steady_polling_is_one_call_per_queue() -> None:
    client = Stub()
    for _ in range(3):
        read_depths(client, ["a", "b"], NOW)
    assert client.actions == ["GetQueueUrl", "GetQueueAttributes"] * 2 + ["GetQueueAttributes"] * 4


def test_a_url_is_not_asked_for_and_goes_to_its_region() -> None:
    client = Stub()
    assert read_depth(client, URL, NOW) == Depth(URL, 3, 2, 1, NOW)
    assert client.actions == ["GetQueueAttributes"]
    assert client.made == [("sqs", {"region_name": "eu-central-1"})]


def test_an_arn_s_account_and_region_are_asked() -> None:
    client = Stub()
    read_depth(client, "arn:aws:sqs:us-west-2:111122223333:jobs", NOW)
    assert client.asked[0] == ("GetQueueUrl", {"QueueName": "jobs", "QueueOwnerAWSAccountId": "111122223333"})
    assert client.made == [("sqs", {"region_name": "us-west-2"})]


MISSING = ["AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"]


@pytest.mark.parametrize("code", MISSING)
def test_a_kept_url_is_forgotten_when_its_queue_is_gone(code: str) -> None:
    client = Stub({}, refusal(code))
    assert read_depths(client, ["jobs", "jobs"], NOW)[1].visible == 3
    found = ["GetQueueUrl", "GetQueueAttributes"]
    assert client.actions == [*found, "GetQueueAttributes", *found]


def test_a_queue_that_is_gone_for_good_is_looked_for_by_its_name() -> None:
    gone = refusal(MISSING[0])
    client = Stub({}, gone, gone, gone)
    read_depth(client, "jobs", NOW)
    for _ in range(2):
        with pytest.raises(SpecError):
            read_depth(client, "jobs", NOW)
    found = ["GetQueueUrl", "GetQueueAttributes"]
    assert client.actions == [*found, "GetQueueAttributes", *found, *found]


@pytest.mark.parametrize(
    ("counts", "ages", "oldest"),
    [
        pytest.param({}, [(1, 900), (3, 60), (2, 300)], 60.0, id="the newest value"),
        pytest.param({}, [], None, id="none of late"),
        pytest.param({"ApproximateNumberOfMessages": "0"}, [(1, 900)], 900.0, id="only in flight and delayed"),
        pytest.param(EMPTY, [(1, 900)], None, id="a drained queue has no oldest message"),
    ],
)
def test_the_age_of_the_oldest_is_cloudwatch_s_newest(
    counts: dict[str, str], ages: list[tuple[int, int]], oldest: float | None
) -> None:
    client = Stub(counts)
    points = [{"Timestamp": NOW + timedelta(minutes=minute), "Maximum": age} for minute, age in ages]
    client.get_metric_statistics = lambda **_: {"Datapoints": points}  # type: ignore[attr-defined]
    assert read_depth(client, URL, NOW, oldest=True).oldest_seconds == oldest


@pytest.mark.parametrize("code", MISSING)
@pytest.mark.parametrize("queue", ["jobs", URL])
def test_a_missing_queue_is_named_with_its_place(code: str, queue: str) -> None:
    with pytest.raises(SpecError, match="no queue") as missing:
        read_depth(Stub(refusal(code)), queue, NOW)
    said = str(missing.value)
    assert queue in said
    assert ("eu-central-1 of account 111122223333" if queue == URL else "eu-west-1 of account 123456789012") in said


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        pytest.param(
            refusal("AccessDenied", 403), AccessError, "sqs:GetQueueAttributes on jobs is needed", id="denied"
        ),
        pytest.param(NoCredentialsError(), AccessError, "no AWS credentials", id="no credentials"),
        pytest.param(NoRegionError(), AccessError, "no AWS region", id="no region"),
        pytest.param(refusal("RequestThrottled"), LaunchError, "RequestThrottled", id="throttled"),
        pytest.param(refusal("InternalError", 500), LaunchError, "sqs:GetQueueAttributes on jobs", id="a 500"),
        pytest.param(EndpointConnectionError(endpoint_url="x"), LaunchError, "Could not connect", id="no network"),
        pytest.param({"ApproximateNumberOfMessages": ""}, LaunchError, "lacks its counters", id="no number"),
    ],
)
def test_no_depth_is_no_0(answer: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as refused:
        read_depth(Stub(answer), "jobs", NOW)
    assert type(refused.value) is error
    unread = read_or_unread(Stub(answer), "jobs", NOW)
    assert isinstance(unread, Unread)
    assert words in unread.why


def test_a_reader_waits_through_what_is_no_answer_and_not_through_the_rest() -> None:
    client = Stub(refusal("RequestThrottled"), {}, refusal("AWS.SimpleQueueService.NonExistentQueue"))
    reader = Reader(lambda: client, ["jobs"])
    assert isinstance(reader.look(NOW), Unread)
    assert reader.look(NOW) == (Depth("jobs", 3, 2, 1, NOW),)


def test_credentials_that_ended_during_a_wait_are_taken_anew_once() -> None:
    old, new = (
        Stub({}, refusal("ExpiredToken", 403)),
        Stub({}, refusal("ExpiredToken", 403), refusal("ExpiredToken", 403)),
    )
    clients = iter([old, new, new])
    reader = Reader(lambda: next(clients), ["jobs"])
    assert reader.look(NOW) == reader.look(NOW)
    assert len(new.asked) == 2
    with pytest.raises(AccessError):
        reader.look(NOW)


# --- on the local cloud -------------------------------------------------------------------------------------------


@pytest.fixture
def client(cloud: Any) -> Iterator[Any]:
    """A factory as a connection's: it keeps its clients, which ask once."""
    import boto3

    kept: dict[Any, Any] = {}
    keys = {name.lower(): cloud.env[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}

    def factory(service: str, region_name: str | None = None, **_: Any) -> Any:
        region = region_name or cloud.region
        if (service, region) not in kept:
            config = Config(retries={"total_max_attempts": 1})
            kept[service, region] = boto3.client(service, region, endpoint_url=cloud.url, config=config, **keys)
        return kept[service, region]

    yield factory
    cloud.faults.clear()


def make_queue(client: Any, messages: int = 0, region: str | None = None) -> tuple[str, str]:
    """A queue's name and URL; the last of its messages is delayed, the one before in flight."""
    name, sqs = f"q-{uuid4().hex[:8]}", client("sqs", region)
    url: str = sqs.create_queue(QueueName=name)["QueueUrl"]
    for number in range(messages):
        sqs.send_message(QueueUrl=url, MessageBody=str(number))
    return name, url


@pytest.mark.sandbox
def test_all_counters_and_no_message_received(cloud: Any, client: Any) -> None:
    name, url = make_queue(client, 4)
    sqs = client("sqs")
    sqs.receive_message(QueueUrl=url)
    sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=60)
    for words in (name, url, f"arn:aws:sqs:{cloud.region}:123456789012:{name}"):
        assert read_depth(client, words, NOW) == Depth(words, 3, 1, 1, NOW)
    assert cloud.queue_calls(name)["ReceiveMessage"] == 1
    assert cloud.queue_calls(name)["GetQueueAttributes"] == 3


@pytest.mark.sandbox
def test_a_queue_of_another_region(client: Any) -> None:
    name, _ = make_queue(client, 2, region="us-east-2")
    assert read_depth(client, f"arn:aws:sqs:us-east-2:123456789012:{name}", NOW).visible == 2
    with pytest.raises(SpecError, match=f"no queue '{name}' in eu-west-1 of account 123456789012"):
        read_depth(client, name, NOW)


@pytest.mark.sandbox
def test_deleted_and_made_again(client: Any) -> None:
    name, url = make_queue(client, 1)
    assert read_depth(client, name, NOW).visible == 1
    client("sqs").delete_queue(QueueUrl=url)
    with pytest.raises(SpecError):
        read_depth(client, name, NOW)
    client("sqs").create_queue(QueueName=name)
    assert read_depth(client, name, NOW).visible == 0


@pytest.mark.sandbox
def test_refusals_in_sqs_s_own_words(cloud: Any, client: Any) -> None:
    name, _ = make_queue(client, 1)
    throttled = cloud.faults.throttle("sqs:GetQueueAttributes", times=1)
    assert "sqs:GetQueueAttributes" in str(read_or_unread(client, name, NOW))
    assert cloud.faults.hits(throttled) == 1
    cloud.faults.error("GetQueueAttributes", "AccessDenied", status=403, times=1)
    with pytest.raises(AccessError, match=f"sqs:GetQueueAttributes on {name} is needed"):
        read_depth(client, name, NOW)
    assert read_depth(client, name, NOW).visible == 1


@pytest.mark.sandbox
def test_the_age_of_the_oldest_message(client: Any) -> None:
    name, url = make_queue(client, 1)
    now = datetime.now(timezone.utc) + timedelta(seconds=1)
    aged = read_depth(client, name, now, oldest=True)
    assert aged.oldest_seconds is not None
    assert 0 <= aged.oldest_seconds < 60
    client("sqs").purge_queue(QueueUrl=url)
    assert read_depth(client, name, now, oldest=True).oldest_seconds is None


@pytest.mark.sandbox
def test_an_age_that_may_not_be_read(cloud: Any, client: Any) -> None:
    name, _ = make_queue(client, 1)
    cloud.faults.error("GetMetricStatistics", "AccessDenied", status=403)
    with pytest.raises(AccessError, match="cloudwatch:GetMetricStatistics"):
        read_depth(client, name, NOW, oldest=True)
