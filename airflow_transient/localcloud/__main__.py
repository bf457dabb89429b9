"""`python -m airflow_transient.localcloud`: a local cloud until Ctrl-C, and the lines that point a shell at it."""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from airflow_transient.localcloud import LocalCloud, LocalCloudError

CHOICES = ("auto", "bubblewrap", "unshare", "podman", "plain")
# What a shell may hold that would go before the lines we print, or against them.
UNSET = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN")

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
BUCKET_RULE = "a name has 3 to 63 of a-z, 0-9, - and ., with a letter or digit at both ends."


class CannotMake(Exception):
    """What was asked for at start that AWS would refuse too; the message says what and why."""


def main(arguments: list[str] | None = None) -> int:
    wanted = _parser().parse_args(arguments)
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    try:
        for name in wanted.bucket:
            _check_bucket(name)
        with LocalCloud(sandbox=wanted.sandbox, port=wanted.port, sqs_lag=wanted.sqs_lag) as cloud:
            for name in wanted.bucket:
                _make("bucket", name, _bucket_maker(cloud))
            for name in wanted.queue:
                _make("queue", name, _queue_maker(cloud))
            print(banner(cloud, wanted.bucket, wanted.queue), flush=True)
            over.wait()
    except CannotMake as error:
        print(error, file=sys.stderr)
        return 2
    except (LocalCloudError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m airflow_transient.localcloud", description=__doc__)
    parser.add_argument("--port", type=_port, default=5055)
    parser.add_argument("--sandbox", choices=CHOICES, default="auto")
    parser.add_argument("--bucket", action="append", default=[], metavar="NAME", help="make this bucket at start")
    parser.add_argument("--queue", action="append", default=[], metavar="NAME", help="make this queue at start")
    parser.add_argument(
        "--sqs-lag", type=_seconds, default=0.0, metavar="SECONDS", help="queues' counters are so old, as on AWS"
    )
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 (any that is free) to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 900:
        raise argparse.ArgumentTypeError(f"{text!r} is not 0 to 900 seconds")
    return seconds


def _check_bucket(name: str) -> None:
    """moto is content with more."""
    if not BUCKET.fullmatch(name):
        raise CannotMake(f"Cannot make the bucket {name!r}: {BUCKET_RULE}")


def _make(kind: str, name: str, make: Callable[[str], object]) -> None:
    from botocore.exceptions import ClientError, ParamValidationError

    try:
        make(name)
    except ClientError as error:
        raise CannotMake(f"Cannot make the {kind} {name!r}: {error.response['Error']['Message']}") from None
    except ParamValidationError as error:
        raise CannotMake(f"Cannot make the {kind} {name!r}: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _bucket_maker(cloud: LocalCloud) -> Callable[[str], object]:
    place = {"LocationConstraint": cloud.region}
    return lambda name: cloud.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=place)


def _queue_maker(cloud: LocalCloud) -> Callable[[str], object]:
    more = {"FifoQueue": "true"}
    return lambda name: cloud.client("sqs").create_queue(
        QueueName=name, Attributes=more if name.endswith(".fifo") else {}
    )


def banner(cloud: LocalCloud, buckets: Sequence[str] = (), queues: Sequence[str] = ()) -> str:
    lines = [
        f"Local cloud at {cloud.url}, region {cloud.region}; nothing here is AWS and nothing costs money.",
        f"Jobs run in: {cloud.sandbox} ({cloud.why}).",
    ]
    if buckets:
        lines.append(f"Buckets: {', '.join(buckets)}.")
    if queues:
        sqs = cloud.client("sqs")
        lines.append(f"Queues: {', '.join(sqs.get_queue_url(QueueName=name)['QueueUrl'] for name in queues)}.")
    lines += ["To use it from another shell:", f"  unset {' '.join(UNSET)}"]
    lines += [f"  export {name}={shlex.quote(value)}" for name, value in cloud.env.items()]
    return "\n".join([*lines, "Ctrl-C ends it, and every job on it."])


if __name__ == "__main__":
    sys.exit(main())
