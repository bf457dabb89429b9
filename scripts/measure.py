"""`make measure`: run what the README quotes, three times each, and write the medians into it.

The figures stand between two marker lines; nothing there is written by hand.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version

from up import BUCKET, ROOT

from airflow_transient.localcloud import LocalCloud

README = ROOT / "README.md"
RUNS = 3
MEMBERS = 10
JOB = b"""#!/bin/bash
curl -fsS -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token
shutdown -h now
"""


def main() -> None:
    demos = [demo() for _ in range(RUNS)]
    rows = {
        "`make demo`, installed": [seconds for seconds, _ in demos],
        "local cloud, process start to first answer": [seconds_of_start() for _ in range(RUNS)],
        f"{MEMBERS} instances launched together, until all have run and are terminated": [
            seconds_of_members() for _ in range(RUNS)
        ],
    }
    lines = ["| what | median | of |", "|---|---|---|"]
    lines += [f"| {what} | {statistics.median(got):.1f} s | {told(got)} |" for what, got in rows.items()]
    lines += ["", f"Measured by `make measure` on {date.today()}, {machine()}."]
    write("demo", f"```\n{demos[-1][1].strip()}\n```")
    write("measured", "\n".join(lines))


def write(mark: str, block: str) -> None:
    """Put the block between its two marker lines."""
    marked = f"<!-- {mark} -->\n{block}\n<!-- /{mark} -->"
    text = README.read_text(encoding="utf-8")
    README.write_text(re.sub(f"<!-- {mark} -->.*<!-- /{mark} -->", lambda _: marked, text, flags=re.DOTALL), "utf-8")
    print(marked)


def told(got: list[float]) -> str:
    return ", ".join(f"{one:.1f}" for one in sorted(got))


def machine() -> str:
    return (
        f"{os.cpu_count()} shared cores, Linux {platform.release().split('-')[0]}, Python {platform.python_version()}, "
        f"Airflow {version('apache-airflow')}, moto {version('moto')}"
    )


def demo() -> tuple[float, str]:
    """(seconds, what it printed)."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, ROOT / "scripts" / "demo.py"], check=True, stdout=subprocess.PIPE, text=True)
    return time.monotonic() - began, done.stdout


def seconds_of_start() -> float:
    program = (
        "from airflow_transient.localcloud import LocalCloud\nwith LocalCloud() as c: c.client('s3').list_buckets()"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.monotonic() - began


def seconds_of_members() -> float:
    with LocalCloud() as cloud:
        ec2 = cloud.client("ec2")
        cloud.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": cloud.region})
        image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        began = time.monotonic()
        ec2.run_instances(
            ImageId=image,
            InstanceType="t3.small",
            MinCount=MEMBERS,
            MaxCount=MEMBERS,
            UserData=JOB,
            InstanceInitiatedShutdownBehavior="terminate",
        )
        while set(cloud.states().values()) != {"terminated"}:
            time.sleep(0.02)
        return time.monotonic() - began


if __name__ == "__main__":
    main()
