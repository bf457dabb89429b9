"""A local cloud with a bucket and a launcher on it: what tests of the boot script stand on."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

from airflow_transient.aws.ec2 import Ec2Launcher
from airflow_transient.aws.watching import look
from airflow_transient.core.ec2.spec import Ec2Spec
from airflow_transient.core.launch import Launch, LaunchKey, Owner
from airflow_transient.core.spec import Pool
from airflow_transient.core.verdict import Member
from airflow_transient.localcloud import LocalCloud
from tests.waiting import eventually

_drawn = iter(range(1000))


def now() -> datetime:
    return datetime.now(timezone.utc)


class Site:
    """A local cloud with a bucket, and a launcher on it."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.s3 = cloud.client("s3")
        self.s3.create_bucket(Bucket="results", CreateBucketConfiguration={"LocationConstraint": cloud.region})
        self.launcher = Ec2Launcher(
            lambda service, region_name=None, **_: cloud.client(service, region_name=region_name),
            sleep=lambda seconds: time.sleep(min(seconds, 0.2)),
        )
        self.image = cloud.client("ec2").describe_images(Owners=["amazon"])["Images"][0]["ImageId"]

    def launch(self, **words: Any) -> Launch:
        given = {"image_id": self.image, "instance_type": "t3.small", "results": "s3://results/x", "max_runtime": 60}
        spec = Ec2Spec.of(**{**given, **words})
        key = LaunchKey(Owner("test", "dag", "run", "task"), f"t{next(_drawn)}")
        return self.launcher.launch(self.launcher.prepare(spec, key, Pool("t3.small"), now()))

    def verdict(self, launch: Launch, within: float = 40) -> Member:
        verdict = eventually(lambda: look(self.launcher, launch, now())[0], within)
        return verdict.members[0]

    def run(self, **words: Any) -> Member:
        return self.verdict(self.launch(**words))

    def object(self, launch: Launch, name: str) -> str:
        key = launch.receipt_key(launch.ids[0], name).removeprefix("s3://results/")
        return str(self.s3.get_object(Bucket="results", Key=key)["Body"].read().decode())
