"""`python -m airflow_transient.localcloud`: a local cloud until Ctrl-C, and the lines that point a shell at it."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading

from airflow_transient.localcloud import LocalCloud, LocalCloudError

CHOICES = ("auto", "bubblewrap", "unshare", "podman", "plain")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m airflow_transient.localcloud", description=__doc__)
    parser.add_argument("--port", type=int, default=5055)
    parser.add_argument("--sandbox", choices=CHOICES, default="auto")
    parser.add_argument("--bucket", action="append", default=[], metavar="NAME", help="make this bucket at start")
    wanted = parser.parse_args(arguments)
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    try:
        with LocalCloud(sandbox=wanted.sandbox, port=wanted.port) as cloud:
            _make_buckets(cloud, wanted.bucket)
            print(banner(cloud, wanted.bucket), flush=True)
            over.wait()
    except (LocalCloudError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _make_buckets(cloud: LocalCloud, names: list[str]) -> None:
    s3 = cloud.client("s3")
    for name in names:
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": cloud.region})


def banner(cloud: LocalCloud, buckets: list[str]) -> str:
    lines = [
        f"Local cloud at {cloud.url}, region {cloud.region}; nothing here is AWS and nothing costs money.",
        f"Jobs run in: {cloud.sandbox} ({cloud.why}).",
    ]
    if buckets:
        lines.append(f"Buckets: {', '.join(buckets)}.")
    lines.append("To use it from another shell:")
    lines += [f"  export {name}={shlex.quote(value)}" for name, value in cloud.env.items()]
    return "\n".join([*lines, "Ctrl-C ends it, and every job on it."])


if __name__ == "__main__":
    sys.exit(main())
