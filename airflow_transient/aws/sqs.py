"""How deep queues are: GetQueueAttributes, and the age of the oldest message where it is asked for.

Nothing is received. Not allowed to read, or no answer, is an error and never 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from botocore.exceptions import ClientError

from airflow_transient.aws.launcher import FAILURES, ClientFactory, code_of, said_plainly
from airflow_transient.core.depth import Depth, Unread
from airflow_transient.errors import AccessError, LaunchError, SpecError, TransientError

COUNTERS = {
    "visible": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}
#: The code of the query protocol, which botocore still shows, and that of the JSON protocol; a URL that is nowhere.
MISSING = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "InvalidAddress"}
#: CloudWatch has a value a minute, some minutes late.
AGE_WINDOW = timedelta(minutes=10)
AGE_PERIOD = 60

#: client -> what GetQueueUrl answered, so that steady polling is one call per queue.
_urls: WeakKeyDictionary[Any, dict[tuple[str, str | None], str]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Address:
    """A queue as its author names it, taken apart: a name, a URL or an ARN."""

    words: str
    name: str
    region: str | None = None
    account: str | None = None
    url: str | None = None

    @classmethod
    def of(cls, words: str) -> Address:
        if words.startswith("arn:"):
            return cls._of_arn(words)
        if "://" not in words:
            return cls(words, words)
        parts = urlsplit(words)
        *_, account, name = ["", *parts.path.rstrip("/").split("/")]
        if not (account.isdigit() and name):
            raise SpecError(f"queue {words!r} is no queue URL: https://sqs.<region>.amazonaws.com/<account>/<name>")
        return cls(words, name, _region_of(parts.hostname or ""), account, words)

    @classmethod
    def _of_arn(cls, words: str) -> Address:
        parts = words.split(":")
        if len(parts) != 6 or parts[2] != "sqs" or not all(parts[3:]):
            raise SpecError(f"queue {words!r} is no queue ARN: arn:aws:sqs:<region>:<account>:<name>")
        return cls(words, parts[5], parts[3], parts[4])


def _region_of(host: str) -> str | None:
    """`sqs.eu-west-1.amazonaws.com`, `eu-west-1.queue.amazonaws.com`, a VPC endpoint's; None of any other host."""
    if host == "queue.amazonaws.com":
        return "us-east-1"
    found = [label for label in host.split(".") if re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", label)]
    return found[0] if found else None


def read_depth(client: ClientFactory, queue: str, now: datetime, oldest: bool = False) -> Depth:
    """
    One look at one queue.

    Needs sqs:GetQueueAttributes, sqs:GetQueueUrl for a name or an ARN, cloudwatch:GetMetricStatistics for `oldest`.
    Raises SpecError for a queue that is not there, AccessError, or LaunchError where AWS gave no clear answer.

    :param queue: its name, URL or ARN. Region and account of a URL or an ARN win over the connection's.
    :param oldest: ask CloudWatch for the age of its oldest message, too; None where it has no recent value.
    """
    address = Address.of(queue)
    with said_plainly(f"sqs:GetQueueAttributes on {queue}"):
        sqs = _client(client, "sqs", address)
    attributes = _attributes(client, sqs, address)
    try:
        counts = {name: int(attributes[counter]) for name, counter in COUNTERS.items()}
    except (KeyError, ValueError) as error:
        raise LaunchError(f"sqs:GetQueueAttributes on {queue}: the answer lacks its counters ({error})") from error
    depth = Depth(queue, **counts, at=now)
    if not oldest or depth.drained:
        return depth
    return Depth(queue, **counts, at=now, oldest_seconds=_oldest(client, address, now))


def opened(client: ClientFactory, queue: str) -> tuple[Any, str]:
    """
    A client where this queue is, and its URL.

    Needs sqs:GetQueueUrl for a name or an ARN. Raises as `read_depth` does.
    """
    address = Address.of(queue)
    with said_plainly(f"sqs:GetQueueUrl on {queue}"):
        sqs = _client(client, "sqs", address)
    return sqs, url_of(client, sqs, address)


def read_depths(client: ClientFactory, queues: Iterable[str], now: datetime, oldest: bool = False) -> list[Depth]:
    """One look at each; raises at the first that cannot be read."""
    return [read_depth(client, queue, now, oldest) for queue in queues]


def read_or_unread(client: ClientFactory, queue: str, now: datetime, oldest: bool = False) -> Depth | Unread:
    """For whoever must not guess: what cannot be read is said so."""
    try:
        return read_depth(client, queue, now, oldest)
    except TransientError as error:
        return Unread(queue, str(error))


class Reader:
    """
    Looks at the same queues again and again.

    :param connect: makes a client factory. Its clients are kept, and made anew when AWS no longer takes their
        credentials: a key that was rotated during a long wait is no reason to end it.
    """

    def __init__(self, connect: Callable[[], ClientFactory], queues: Iterable[str], oldest: bool = False) -> None:
        self.queues = tuple(queues)
        self.oldest = oldest
        self._connect = connect
        self._client: ClientFactory | None = None

    def look(self, now: datetime) -> tuple[Depth, ...] | Unread:
        """Unread where AWS gave no clear answer. Raises SpecError and AccessError: waiting would not help."""
        try:
            return self._read(now)
        except (SpecError, AccessError):
            raise
        except TransientError as error:
            return Unread(", ".join(self.queues), str(error))

    def _read(self, now: datetime) -> tuple[Depth, ...]:
        if self._client is not None:
            try:
                return tuple(read_depths(self._client, self.queues, now, self.oldest))
            except AccessError:
                self._client = None
        client = self._connect()
        depths = tuple(read_depths(client, self.queues, now, self.oldest))
        self._client = client
        return depths


def url_of(client: ClientFactory, sqs: Any, address: Address) -> str:
    """Where to send to; the URL itself where the author named that, which nobody has looked at then."""
    if address.url:
        return address.url
    with _missing_said(client, sqs, address):
        return _find(sqs, address)


@contextmanager
def queue_said(action: str, client: ClientFactory, sqs: Any, address: Address) -> Iterator[None]:
    """Turn what AWS answers to whoever uses a queue into our tree; that there is none, too."""
    with _missing_said(client, sqs, address), _plainly(action, address):
        yield


def _client(client: ClientFactory, service: str, address: Address) -> Any:
    return client(service, region_name=address.region) if address.region else client(service)


def _attributes(client: ClientFactory, sqs: Any, address: Address) -> dict[str, str]:
    """A URL that was kept is asked for anew when its queue is gone: it may have been deleted and made again."""
    if address.url:
        with _missing_said(client, sqs, address):
            return _get(sqs, address, address.url)
    kept, key = _urls.setdefault(sqs, {}), (address.name, address.account)
    if key in kept:
        try:
            return _get(sqs, address, kept[key])
        except ClientError as error:
            if code_of(error) not in MISSING:
                raise
            del kept[key]
    with _missing_said(client, sqs, address):
        url = _find(sqs, address)
        attributes = _get(sqs, address, url)
    kept[key] = url
    return attributes


def _find(sqs: Any, address: Address) -> str:
    owner = {"QueueOwnerAWSAccountId": address.account} if address.account else {}
    with _plainly("sqs:GetQueueUrl", address):
        return str(sqs.get_queue_url(QueueName=address.name, **owner)["QueueUrl"])


def _get(sqs: Any, address: Address, url: str) -> dict[str, str]:
    with _plainly("sqs:GetQueueAttributes", address):
        answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(COUNTERS.values()))
        attributes: dict[str, str] = answer.get("Attributes", {})
        return attributes


@contextmanager
def _plainly(action: str, address: Address) -> Iterator[None]:
    """As said_plainly; a queue that is not there goes on as it came, for whoever knows what to do about it."""
    missing: ClientError | None = None
    with said_plainly(f"{action} on {address.words}"):
        try:
            yield
        except ClientError as error:
            if code_of(error) not in MISSING:
                raise
            missing = error
    if missing is not None:
        raise missing


@contextmanager
def _missing_said(client: ClientFactory, sqs: Any, address: Address) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        region = address.region or sqs.meta.region_name
        account = address.account or _account(client)
        raise SpecError(
            f"there is no queue {address.words!r} in {region} of account {account}, or it is not shown to these "
            "credentials: check its name, region_name and aws_conn_id; a queue of another account or region is named "
            "by its URL or ARN"
        ) from error


def _account(client: ClientFactory) -> str:
    """Whose credentials these are, which anyone may ask. Only a sentence depends on it, and STS may be out of reach."""
    try:
        sts = client("sts", connect_timeout=3, read_timeout=3, retries={"total_max_attempts": 1})
        return str(sts.get_caller_identity()["Account"])
    except FAILURES:
        return "(unknown)"


def _oldest(client: ClientFactory, address: Address, now: datetime) -> float | None:
    """The newest value there is: a larger one from before may be of a message that is gone."""
    with said_plainly(f"cloudwatch:GetMetricStatistics for {address.words}"):
        cloudwatch = _client(client, "cloudwatch", address)
        points = cloudwatch.get_metric_statistics(
            Namespace="AWS/SQS",
            MetricName="ApproximateAgeOfOldestMessage",
            Dimensions=[{"Name": "QueueName", "Value": address.name}],
            StartTime=now - AGE_WINDOW,
            EndTime=now,
            Period=AGE_PERIOD,
            Statistics=["Maximum"],
        )["Datapoints"]
    newest = max(points, key=lambda point: point["Timestamp"], default=None)
    return float(newest["Maximum"]) if newest else None
