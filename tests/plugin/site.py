"""The local cloud with launches of ours on it, made by our own launchers, and Airflow's half in its database."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from airflow_transient.aws.ecs import EcsLauncher
from airflow_transient.core.ecs.spec import EcsSpec
from airflow_transient.core.launch import Launch, LaunchKey, Owner
from airflow_transient.core.spec import Pool
from airflow_transient.plugin import looking
from tests.plugin import history

DEPLOYMENT = "prod"
OWNER = Owner(DEPLOYMENT, "dag", "run", "task")
CLUSTERS = ("default", "etl", "closed")


def token() -> str:
    return f"t{secrets.token_hex(10)}"


@dataclass
class Site:
    """`cloud` is the local cloud."""

    cloud: Any

    def __post_init__(self) -> None:
        self.ecs, self.ec2 = self.cloud.client("ecs"), self.cloud.client("ec2")
        for name in CLUSTERS[1:]:
            self.ecs.create_cluster(clusterName=name)
        main = {"name": "main", "image": "any", "command": ["sleep", "600"], "memory": 128}
        # Fargate's own words: what it bills by.
        self.ecs.register_task_definition(family="sleeper", containerDefinitions=[main], cpu="256", memory="512")
        self.launcher = EcsLauncher(self.client, sleep=lambda seconds: None)
        self.image = self.ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]

    def client(self, service: str, region_name: str | None = None, **_: Any) -> Any:
        return self.cloud.client(service, region_name)

    def burst(self, count: int = 1, owner: Owner = OWNER, cluster: str = "default", **words: Any) -> Launch:
        given = {"task_definition": "sleeper", "launch_type": "FARGATE", "max_runtime": 3600, **words}
        spec = replace(EcsSpec.of(cluster=cluster, task_count=count, **given), count=count)
        key = LaunchKey(owner, token())
        now = datetime.now(timezone.utc)
        return self.launcher.launch(self.launcher.prepare(spec, key, Pool(market="FARGATE"), now))

    def instance(self, owner: Owner = OWNER, **tags: str) -> str:
        """One that carries our tags and does nothing."""
        deadline = datetime.now(timezone.utc).replace(microsecond=0)
        launch = Launch("ec2", "t-1", "n", (), self.cloud.region, deadline, deadline, deadline)
        ours = LaunchKey(owner, token()).tags(launch) | {f"transient:{name}": value for name, value in tags.items()}
        told = [{"Key": name, "Value": value} for name, value in ours.items()]
        answer = self.ec2.run_instances(
            ImageId=self.image,
            InstanceType="t3.micro",
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": told}],
        )
        return str(answer["Instances"][0]["InstanceId"])

    def end_all(self) -> None:
        for cluster in CLUSTERS:
            for arn in self.ecs.list_tasks(cluster=cluster)["taskArns"]:
                self.ecs.stop_task(cluster=cluster, task=arn)
        if ids := list(self.instances()):
            self.ec2.terminate_instances(InstanceIds=ids)

    def instances(self) -> Iterator[str]:
        for reservation in self.ec2.describe_instances()["Reservations"]:
            yield from (i["InstanceId"] for i in reservation["Instances"] if i["State"]["Name"] != "terminated")

    def task(self, id: str, cluster: str = "default") -> dict[str, Any]:
        found: dict[str, Any] = self.ecs.describe_tasks(cluster=cluster, tasks=[id], include=["TAGS"])["tasks"][0]
        return found


def waits(launch: Launch, owner: Owner = OWNER, state: str = "deferred", **more: Any) -> None:
    """Airflow has a task that waits for it."""
    history.dag(owner.dag_id)
    place = {"dag_id": owner.dag_id, "run_id": owner.run_id, "task_id": owner.task_id, "map_index": owner.map_index}
    history.task(**place, state=state, xcoms={"launch": launch.to_dict(), **more})


def forget() -> None:
    """What is asked next is read anew."""
    looking.CALLS.forget()
    looking.PAGES.forget()
