"""Queues: counters that lag, calls that are counted, time-outs that show, and what goes wrong with them."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from airflow_transient.localcloud import LocalCloud
from airflow_transient.localcloud.faults import Faults
from airflow_transient.localcloud.sqs_history import KEPT, Counts, History, Sight
from tests.waiting import eventually

pytestmark = pytest.mark.sandbox
NAMES = ("Messages", "MessagesNotVisible", "MessagesDelayed")


@dataclass(frozen=True)
class Queue:
    sqs: Any
    name: str
    url: str

    def send(self, *bodies: str, **more: Any) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body, **more)

    def receive(self, wait: int = 0, **more: Any) -> list[Any]:
        asked = {"MaxNumberOfMessages": 10, **more}
        return list(self.sqs.receive_message(QueueUrl=self.url, WaitTimeSeconds=wait, **asked).get("Messages", []))

    def delete(self, message: Any) -> None:
        self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])

    def attributes(self, *names: str) -> dict[str, str]:
        answer: dict[str, str] = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return answer

    def counters(self) -> tuple[int, ...]:
        """Visible, in flight, delayed."""
        names = [f"ApproximateNumberOf{name}" for name in NAMES]
        told = self.attributes(*names)
        return tuple(int(told[name]) for name in names)


def make(cloud: LocalCloud, **attributes: str) -> Queue:
    # One that asks once: botocore would ask again by itself.
    keys = {
        "aws_access_key_id": cloud.env["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": cloud.env["AWS_SECRET_ACCESS_KEY"],
    }
    config = Config(retries={"total_max_attempts": 1})
    sqs = boto3.client("sqs", cloud.region, endpoint_url=cloud.url, config=config, **keys)
    name = f"q-{uuid4().hex[:8]}" + (".fifo" if "FifoQueue" in attributes else "")
    return Queue(sqs, name, sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])


@pytest.fixture
def queue(cloud: LocalCloud) -> Queue:
    return make(cloud)


# --- counters -----------------------------------------------------------------------------------------------------


def test_without_lag_the_counters_are_exact(queue: Queue) -> None:
    queue.send("a", "b")
    queue.send("c", DelaySeconds=60)
    (first,) = queue.receive(MaxNumberOfMessages=1)
    assert queue.counters() == (1, 1, 1)
    queue.delete(first)
    assert queue.counters() == (1, 0, 1)


def test_an_expired_visibility_shows_without_a_receive(queue: Queue) -> None:
    queue.send("a")
    queue.receive(VisibilityTimeout=1)
    assert queue.counters() == (0, 1, 0)
    eventually(lambda: queue.counters() == (1, 0, 0))


def test_a_delay_that_is_over_shows_without_a_receive(queue: Queue) -> None:
    queue.send("a", DelaySeconds=1)
    assert queue.counters() == (0, 0, 1)
    eventually(lambda: queue.counters() == (1, 0, 0))


def test_lagging_counters_say_what_was(queue: Queue, faults: Faults) -> None:
    fault = faults.sqs_lag(60, queue=queue.name)
    queue.send("a", "b")
    assert queue.counters() == (0, 0, 0)
    assert len(queue.receive()) == 2
    assert faults.hits(fault) == 1
    faults.remove(fault)
    assert queue.counters() == (0, 2, 0)


def test_lagging_counters_catch_up(queue: Queue, faults: Faults) -> None:
    queue.send("a", "b")
    faults.sqs_lag(0.3)
    eventually(lambda: queue.counters() == (2, 0, 0))
    for message in queue.receive():
        queue.delete(message)
    eventually(lambda: queue.counters() == (0, 0, 0))


def test_lag_leaves_other_queues_and_other_attributes_alone(cloud: LocalCloud, queue: Queue, faults: Faults) -> None:
    faults.sqs_lag(60, queue=queue.name)
    other = make(cloud)
    other.send("a")
    assert other.counters() == (1, 0, 0)
    assert queue.attributes("VisibilityTimeout", "QueueArn")["VisibilityTimeout"] == "30"


def test_lag_as_a_setting(cloud: LocalCloud) -> None:
    cloud.stop()
    try:
        with LocalCloud(sqs_lag=60) as lagging:
            queue = make(lagging)
            queue.send("a")
            assert queue.counters() == (0, 0, 0)
            assert int(queue.attributes("All")["ApproximateNumberOfMessages"]) == 0
            assert queue.receive()
    finally:
        cloud.start()


@pytest.mark.parametrize(
    ("moment", "counts"),
    [
        pytest.param(0, Counts(), id="before it all"),
        pytest.param(1, Counts(1, 0, 1), id="one sent, one delayed"),
        pytest.param(3, Counts(0, 1, 1), id="one received"),
        pytest.param(5, Counts(1, 1), id="the delay over, by itself"),
        pytest.param(33, Counts(2), id="the time-out over, by itself"),
        pytest.param(40, Counts(1), id="one deleted"),
    ],
)
def test_what_a_history_tells(moment: float, counts: Counts) -> None:
    history = History()
    delayed = Sight(delayed_until=5)
    history.note(1, {"a": Sight(), "b": delayed})
    history.note(3, {"a": Sight(hidden_until=33), "b": delayed})
    history.note_one(4, "b", delayed)
    history.note(40, {"b": delayed})
    assert history.at(moment) == counts
    assert history.entered == {"b": 1}


def test_a_history_forgets_how_but_not_what() -> None:
    history = History()
    history.note(1, {"a": Sight(), "b": Sight()})
    history.note(2, {"a": Sight()})
    history.note_one(3 + KEPT, "c", Sight())
    assert history.at(5) == Counts(1)
    assert len(history._changes) == 1


# --- calls --------------------------------------------------------------------------------------------------------


def test_calls_are_counted_by_queue(cloud: LocalCloud, queue: Queue, faults: Faults) -> None:
    queue.send("a", "b")
    queue.delete(queue.receive()[0])
    queue.receive()
    faults.throttle("sqs:ReceiveMessage", times=1)
    with pytest.raises(ClientError):
        queue.receive()
    calls = cloud.queue_calls(queue.name)
    assert (calls["SendMessage"], calls["ReceiveMessage"], calls["DeleteMessage"]) == (2, 2, 1)
    assert set(cloud.queue_calls("another").values()) == {0}


@pytest.mark.parametrize("protocol", ["json", "query"])
def test_a_missing_queue(cloud: LocalCloud, queue: Queue, protocol: str) -> None:
    if protocol == "json":
        with pytest.raises(queue.sqs.exceptions.QueueDoesNotExist) as caught:
            queue.sqs.get_queue_attributes(QueueUrl=f"{queue.url}x", AttributeNames=["All"])
        assert caught.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"
    else:
        status, said = by_query(cloud, f"{queue.url}x")
        assert (status, "AWS.SimpleQueueService.NonExistentQueue" in said) == (400, True)


def by_query(cloud: LocalCloud, url: str) -> tuple[int, str]:
    """As boto3 spoke to SQS until 2023."""
    words = {"Action": "GetQueueAttributes", "Version": "2012-11-05", "QueueUrl": url, "AttributeName.1": "All"}
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = urllib.parse.urlencode(words)
    asked = AWSRequest("POST", f"{cloud.url}/", data=body, headers=form)
    keys = Credentials(cloud.env["AWS_ACCESS_KEY_ID"], cloud.env["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(keys, "sqs", cloud.region).add_auth(asked)
    try:
        with urllib.request.urlopen(
            urllib.request.Request(asked.url, body.encode(), dict(asked.headers.items()))
        ) as said:
            return int(said.status), said.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("code", ["AccessDenied", "RequestThrottled", "ThrottlingException", "InternalError"])
def test_a_look_at_a_queue_can_be_refused(queue: Queue, faults: Faults, code: str) -> None:
    fault = faults.error("sqs:GetQueueAttributes", code, times=1)
    with pytest.raises(ClientError, match=code):
        queue.counters()
    assert (queue.counters(), faults.hits(fault)) == ((0, 0, 0), 1)


def test_a_message_received_too_often_goes_to_the_dead_letters(cloud: LocalCloud) -> None:
    dead = make(cloud)
    policy = {"deadLetterTargetArn": dead.attributes("QueueArn")["QueueArn"], "maxReceiveCount": "2"}
    queue = make(cloud, RedrivePolicy=json.dumps(policy))
    queue.send("a")
    for _ in range(2):
        assert queue.receive(VisibilityTimeout=0)
    assert queue.counters() == (1, 0, 0)
    assert queue.receive() == []
    assert (queue.counters(), dead.counters()) == ((0, 0, 0), (1, 0, 0))
    assert age(cloud, queue) == []


# --- between threads ----------------------------------------------------------------------------------------------


def test_a_long_poll_wakes_for_what_was_hidden(queue: Queue) -> None:
    queue.send("a", "b")
    for message in queue.receive():
        queue.sqs.change_message_visibility(
            QueueUrl=queue.url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=1
        )
    assert queue.receive(wait=5)


def test_a_group_is_served_when_its_turn_comes(cloud: LocalCloud) -> None:
    queue = make(cloud, FifoQueue="true", ContentBasedDeduplication="true")
    queue.send("a", "b", MessageGroupId="g")
    (first,) = queue.receive(MaxNumberOfMessages=1)
    later = threading.Timer(0.3, queue.delete, (first,))
    later.start()
    (second,) = queue.receive(wait=5, MaxNumberOfMessages=1)
    later.join()
    assert second["Body"] == "b"


def test_nothing_is_lost_or_received_twice_between_threads(queue: Queue) -> None:
    sent = {f"{sender}-{number}" for sender in range(4) for number in range(25)}
    got: list[str] = []

    def send(sender: int) -> None:
        queue.send(*(f"{sender}-{number}" for number in range(25)))

    def drain() -> None:
        while messages := queue.receive(wait=1, MaxNumberOfMessages=2):
            got.extend(message["Body"] for message in messages)
            for message in messages:
                queue.delete(message)

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    threads += [threading.Thread(target=drain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(sent)


# --- age ----------------------------------------------------------------------------------------------------------

METRIC = {"Namespace": "AWS/SQS", "MetricName": "ApproximateAgeOfOldestMessage"}


def window() -> dict[str, datetime]:
    now = datetime.now(timezone.utc)
    return {"StartTime": now - timedelta(minutes=5), "EndTime": now}


def age(cloud: LocalCloud, queue: Queue) -> list[float]:
    """By GetMetricStatistics."""
    asked = {**METRIC, "Dimensions": [{"Name": "QueueName", "Value": queue.name}], "Period": 60, **window()}
    points = cloud.client("cloudwatch").get_metric_statistics(Statistics=["Maximum"], **asked)["Datapoints"]
    return [point["Maximum"] for point in points]


def age_by_data(cloud: LocalCloud, queue: Queue) -> list[float]:
    metric = {**METRIC, "Dimensions": [{"Name": "QueueName", "Value": queue.name}]}
    query = {"Id": "age", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Maximum"}}
    (told,) = cloud.client("cloudwatch").get_metric_data(MetricDataQueries=[query], **window())["MetricDataResults"]
    return list(told["Values"])


def test_an_empty_queue_has_no_age(cloud: LocalCloud, queue: Queue) -> None:
    assert age(cloud, queue) == age_by_data(cloud, queue) == []


def test_the_age_is_the_oldest_messages(cloud: LocalCloud, queue: Queue) -> None:
    queue.send("a")
    assert age(cloud, queue) == [0]
    eventually(lambda: age(cloud, queue)[0] >= 1)
    assert age_by_data(cloud, queue)[0] >= 1
    queue.send("b")
    (message,) = queue.receive(MaxNumberOfMessages=1)
    assert age(cloud, queue)[0] >= 1
    queue.delete(message)
    assert age(cloud, queue) == [0]


def test_a_message_received_over_and_over_does_not_age_its_queue(cloud: LocalCloud, queue: Queue) -> None:
    queue.send("poison")
    for _ in range(4):
        queue.receive(VisibilityTimeout=0)
    eventually(lambda: age(cloud, queue)[0] >= 1)
    queue.send("b")
    assert age(cloud, queue) == [0]
